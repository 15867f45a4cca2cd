//! The last packets of an upload, in case the server dies and the recording goes on at the phone.
//!
//! Invariants: at most [`BACKLOG_SPAN`] and [`BACKLOG_OCTETS`]; memory is taken once, when it is made.

use crate::agent::SILENT_PEER_AFTER;
use media::time::Mono;
use std::collections::VecDeque;
use std::time::Duration;

/// Audio on its way to a server, or in its memory, when its program dies is younger: `recordserver` fills a
/// block of two seconds before it writes.
pub(in crate::agent) const IN_FLIGHT: Duration = Duration::from_secs(3);

/// Audio lost with a server's machine is younger, when the machine has been silent for [`SILENT_PEER_AFTER`]:
/// `recordserver` makes audio durable within 5 s.
pub(in crate::agent) const UNSAVED: Duration = SILENT_PEER_AFTER.saturating_add(Duration::from_secs(6));

/// Older packets are forgotten.
const BACKLOG_SPAN: Duration = UNSAVED;

/// Room for packets: what a call of 64 kbit/s with headers needs in that time.
const BACKLOG_OCTETS: usize = 144 * 1024;

/// Packets that are kept: those of that time with 10 ms to a packet, and some more.
const BACKLOG_PACKETS: usize = 1600;

#[derive(Clone, Copy, Debug)]
struct Entry {
    octets: usize,
    arrival: Mono,
    /// A pause lies between this packet and the one before.
    after_pause: bool,
    /// It could not be sent.
    unsent: bool,
}

/// A remembered packet.
#[derive(Clone, Copy, Debug)]
pub(in crate::agent) struct Kept<'a> {
    pub(in crate::agent) octets: &'a [u8],
    pub(in crate::agent) arrival: Mono,
    /// A pause lies between this packet and the one before.
    pub(in crate::agent) after_pause: bool,
    /// It could not be sent to the server.
    pub(in crate::agent) unsent: bool,
}

/// A ring of whole packets.
#[derive(Debug)]
pub(in crate::agent) struct Backlog {
    entries: VecDeque<Entry>,
    octets: VecDeque<u8>,
    pause: bool,
}

impl Backlog {
    pub(in crate::agent) fn new() -> Self {
        Self {
            entries: VecDeque::with_capacity(BACKLOG_PACKETS),
            octets: VecDeque::with_capacity(BACKLOG_OCTETS),
            pause: false,
        }
    }

    /// Keeps a packet, and forgets those that are too old or too many.
    pub(in crate::agent) fn push(&mut self, packet: &[u8], arrival: Mono) {
        if packet.len() > BACKLOG_OCTETS {
            return;
        }
        while let Some(oldest) = self.entries.front().copied() {
            let fits =
                self.entries.len() < BACKLOG_PACKETS && self.octets.len() + packet.len() <= BACKLOG_OCTETS;
            if fits && arrival.since(oldest.arrival) <= BACKLOG_SPAN {
                break;
            }
            self.entries.pop_front();
            self.octets.drain(..oldest.octets);
        }
        self.octets.extend(packet);
        let after_pause = std::mem::take(&mut self.pause);
        self.entries.push_back(Entry { octets: packet.len(), arrival, after_pause, unsent: false });
    }

    /// The next packet does not follow on the last one.
    pub(in crate::agent) fn note_pause(&mut self) {
        self.pause = true;
    }

    /// The newest `packets` packets could not be sent.
    pub(in crate::agent) fn note_unsent(&mut self, packets: u32) {
        let packets = usize::try_from(packets).unwrap_or(usize::MAX);
        self.entries.iter_mut().rev().take(packets).for_each(|entry| entry.unsent = true);
    }

    /// Gives every packet that came after `since`, oldest first.
    pub(in crate::agent) fn replay(mut self, since: Mono, mut take: impl FnMut(Kept<'_>)) {
        let mut rest: &[u8] = self.octets.make_contiguous();
        for &Entry { octets, arrival, after_pause, unsent } in &self.entries {
            let (packet, later) = rest.split_at(octets);
            if arrival >= since {
                take(Kept { octets: packet, arrival, after_pause, unsent });
            }
            rest = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Mono {
        Mono::new(Duration::from_millis(ms))
    }

    fn kept(backlog: Backlog) -> Vec<(Vec<u8>, Mono, bool)> {
        let mut all = Vec::new();
        backlog.replay(Mono::default(), |it| all.push((it.octets.to_vec(), it.arrival, it.after_pause)));
        all
    }

    #[test]
    fn the_last_seconds_come_back_in_order() {
        let mut backlog = Backlog::new();
        for number in 0..250_u8 {
            if number == 180 {
                backlog.note_pause();
            }
            backlog.push(&[number; 172], at(u64::from(number) * 100));
        }
        let kept = kept(backlog);
        assert_eq!(kept.len(), 151);
        let numbers: Vec<u8> = kept.iter().map(|(packet, ..)| packet[0]).collect();
        assert_eq!(numbers, (99..250).collect::<Vec<u8>>());
        let pauses: Vec<u8> =
            kept.iter().filter(|(.., pause)| *pause).map(|(packet, ..)| packet[0]).collect();
        assert_eq!(pauses, [180]);
    }

    #[test]
    fn all_that_a_server_can_lose_is_kept_of_a_call_with_short_packets() {
        let mut backlog = Backlog::new();
        for number in 0..3000_u64 {
            backlog.push(&[0; 92], at(number * 10));
        }
        assert_eq!(kept(backlog).first().map(|(_, arrival, _)| *arrival), Some(at(29_990 - 15_000)));
        let block = Duration::from_millis(media::blocks::BLOCK_OCTETS as u64 / 8);
        assert!(IN_FLIGHT > block + Duration::from_millis(500), "what a server of ours has not written");
    }

    proptest! {
        #[test]
        fn whatever_comes_the_newest_packets_stay_whole_and_memory_does_not_grow(
            sizes in prop::collection::vec((0..2049usize, 0..40u64), 1..2000),
        ) {
            let mut backlog = Backlog::new();
            let room = (backlog.entries.capacity(), backlog.octets.capacity());
            let mut sent = Vec::new();
            let mut now_ms = 0;
            for (number, (octets, gap_ms)) in sizes.into_iter().enumerate() {
                now_ms += gap_ms;
                let packet = vec![u8::try_from(number % 251).unwrap(); octets];
                backlog.push(&packet, at(now_ms));
                sent.push(packet);
            }
            prop_assert_eq!((backlog.entries.capacity(), backlog.octets.capacity()), room);
            let kept: Vec<Vec<u8>> = kept(backlog).into_iter().map(|(packet, ..)| packet).collect();
            prop_assert!(!kept.is_empty() && sent.ends_with(&kept));
        }
    }
}
