//! Packets that the last call still sends to a fixed port when the next recording has begun there.
//!
//! Owns: the last sender on each port, and the packets that continue its stream. They are not the next
//! call's, unless it is the same call (its `call.id` says so, or nobody else comes): then the packets that
//! waited come first. Invariants: one sender a port is remembered; waiting packets have a limit.

use media::packet::Packet;
use media::source_lock::{LastHeard, Waiting};
use media::time::Mono;
use std::net::SocketAddr;
use std::time::Duration;

/// Time that a stream of the last recording waits for another one, if the calls may be the same.
const MAYBE_THE_SAME: Duration = Duration::from_millis(700);

/// Time that it waits if their ids say that they are not.
const ANOTHER_CALL: Duration = Duration::from_secs(5);

/// Duration of the shortest packets; with it the next sequence number after some time is known.
const SHORTEST_PACKET: Duration = Duration::from_millis(5);

/// Packets that may have been overtaken, or be ahead of the reckoning.
const SLACK_PACKETS: i32 = 200;

/// Time after which a stream that goes on is not recognised by its numbers any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The last sender on a port.
#[derive(Clone, Debug)]
pub(in crate::agent) struct LastSender {
    pub(in crate::agent) port: u16,
    pub(in crate::agent) heard: LastHeard,
    pub(in crate::agent) call_id: String,
}

/// The last sender on each fixed port. There is one for each port, and there are as many ports as recordings.
#[derive(Debug, Default)]
pub(in crate::agent) struct LastSenders(Vec<LastSender>);

impl LastSenders {
    pub(in crate::agent) fn at(&self, port: u16) -> Option<&LastSender> {
        self.0.iter().find(|last| last.port == port)
    }

    /// A port is released: its sender may still send when the next recording has it.
    pub(in crate::agent) fn note(&mut self, last: LastSender) {
        self.0.retain(|other| other.port != last.port);
        self.0.push(last);
    }
}

/// The stream of the last recording, as long as it may come.
#[derive(Debug)]
pub(in crate::agent) struct Leftover {
    last: LastHeard,
    until: Mono,
    /// Another call is recorded now, so its packets are nobody's.
    is_foreign: bool,
    waiting: Waiting,
}

impl Leftover {
    /// A recording of `call_id` begins at `now` where `last` was; `None` if its stream may go on.
    pub(in crate::agent) fn of(last: &LastSender, call_id: &str, now: Mono) -> Option<Self> {
        let known = !call_id.is_empty() && !last.call_id.is_empty();
        if (known && call_id == last.call_id) || now.since(last.heard.at) > FORGOTTEN_AFTER {
            return None;
        }
        let wait = if known { ANOTHER_CALL } else { MAYBE_THE_SAME };
        Some(Self { last: last.heard, until: now + wait, is_foreign: known, waiting: Waiting::default() })
    }

    /// Until when its packets wait.
    pub(in crate::agent) fn until(&self) -> Mono {
        self.until
    }

    /// Whether a packet continues the stream.
    pub(in crate::agent) fn has(&self, packet: &Packet<'_>, source: SocketAddr, arrival: Mono) -> bool {
        let since = arrival.since(self.last.at).as_millis() / SHORTEST_PACKET.as_millis();
        let most = i32::try_from(since).unwrap_or(i32::MAX).saturating_add(SLACK_PACKETS);
        source == self.last.source
            && packet.ssrc == self.last.ssrc
            && (-SLACK_PACKETS..=most).contains(&packet.seq.packets_since(self.last.seq))
    }

    /// Takes a packet of it. Returns how many packets are given up for it.
    pub(in crate::agent) fn take(&mut self, datagram: &[u8], packet: &Packet<'_>, arrival: Mono) -> u64 {
        self.last.seq = packet.seq;
        self.last.at = arrival;
        if self.is_foreign { 1 } else { self.waiting.push(datagram, packet.seq, arrival) }
    }

    /// Number of waiting packets.
    pub(in crate::agent) fn waiting_packets(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// The packets that waited, and their sender.
    pub(in crate::agent) fn into_waiting(self) -> (Waiting, SocketAddr) {
        (self.waiting, self.last.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::units::{PayloadType, RtpTimestamp, SeqNo, Ssrc};

    fn source(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn last(call_id: &str) -> LastSender {
        let heard = LastHeard { source: source(5004), ssrc: Ssrc(7), seq: SeqNo(65_500), at: ms(1000) };
        LastSender { port: 4000, heard, call_id: call_id.into() }
    }

    fn ms(ms: u64) -> Mono {
        Mono::new(Duration::from_millis(ms))
    }

    fn packet(ssrc: u32, seq: u16) -> Packet<'static> {
        let (payload_type, timestamp) = (PayloadType(8), RtpTimestamp(0));
        Packet { payload_type, seq: SeqNo(seq), timestamp, ssrc: Ssrc(ssrc), payload: &[1; 160] }
    }

    #[test]
    fn packets_that_go_on_where_the_last_stream_was_are_recognised_and_no_others() {
        let leftover = Leftover::of(&last(""), "", ms(2000)).unwrap();
        assert!(leftover.has(&packet(7, 20), source(5004), ms(2100)), "across the wrap");
        assert!(!leftover.has(&packet(8, 20), source(5004), ms(2100)));
        assert!(!leftover.has(&packet(7, 20), source(5006), ms(2100)));
        assert!(!leftover.has(&packet(7, 30_000), source(5004), ms(2100)), "it has begun anew");
    }

    #[test]
    fn the_same_call_is_no_leftover_and_another_one_waits_longer() {
        assert!(Leftover::of(&last("a"), "a", ms(2000)).is_none());
        assert_eq!(Leftover::of(&last("a"), "b", ms(2000)).unwrap().until(), ms(7000));
        for (before, now) in [("", ""), ("a", ""), ("", "b")] {
            assert_eq!(Leftover::of(&last(before), now, ms(2000)).unwrap().until(), ms(2700));
        }
        assert!(Leftover::of(&last(""), "", ms(62_000)).is_none());
    }

    #[test]
    fn its_packets_wait_unless_they_are_another_calls() {
        let mut maybe = Leftover::of(&last(""), "", ms(2000)).unwrap();
        assert_eq!(maybe.take(&[1; 172], &packet(7, 20), ms(2100)), 0);
        assert_eq!(maybe.into_waiting().0.len(), 1);
        let mut foreign = Leftover::of(&last("a"), "b", ms(2000)).unwrap();
        assert_eq!(foreign.take(&[1; 172], &packet(7, 20), ms(2100)), 1);
        assert!(foreign.into_waiting().0.is_empty());
    }
}
