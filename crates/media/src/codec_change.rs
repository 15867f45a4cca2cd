//! Whether a packet of another codec means that the sender changed to it.
//!
//! One stray packet does not: a file would end for it, and the next begin. The second in a row does, and the
//! first, which was held, comes before it. Two senders that compete do not change the codec back and forth
//! either, and nobody changes it more often than once in 10 s: packets of another codec are dropped
//! meanwhile, and counted as such.

use super::packet::Packet;
use super::probation::Probation;
use crate::time::Mono;
use std::time::Duration;

/// Two changes within this time are two senders that compete.
const CONTEST_SPAN: Duration = Duration::from_secs(1);

/// The silence of a sender after which the other one takes over.
const CONTEST_SILENCE: Duration = Duration::from_millis(200);

/// Each change begins another file, so the codec changes at most once in this time.
const CHANGE_INTERVAL: Duration = Duration::from_secs(10);

/// The codec of a stream, and a change of it that is not confirmed yet.
#[derive(Debug, Default)]
pub struct CodecChange {
    held: Probation,
    /// When the codec changed last, or a competitor last tried.
    changed: Option<Mono>,
    /// When the codec changed last.
    followed: Option<Mono>,
}

impl CodecChange {
    /// A packet of the present codec came.
    pub fn stay(&mut self) {
        if !self.held.is_empty() {
            self.held.clear();
        }
    }

    /// Takes a packet of another codec, the present one having been heard last at `heard`. True if the codec
    /// has changed to that of the packet, which may be preceded by those of [`Self::take_held`].
    pub fn follow(&mut self, packet: &Packet<'_>, arrival: Mono, heard: Mono) -> bool {
        if self.followed.is_some_and(|at| arrival.since(at) < CHANGE_INTERVAL) {
            return false;
        }
        let silent = arrival.since(heard) >= CONTEST_SILENCE;
        let contest = self.changed.is_some_and(|at| arrival.since(at) < CONTEST_SPAN);
        if !silent && contest {
            self.changed = Some(arrival);
            return false;
        }
        if !silent && !self.held.is_followed_by(packet) {
            if !self.held.has(packet) {
                self.held.hold(packet, arrival);
            }
            return false;
        }
        if !self.held.is_followed_by(packet) {
            self.held.clear();
        }
        self.changed = Some(arrival);
        self.followed = Some(arrival);
        true
    }

    /// Passes on the held packets of the codec that [`Self::follow`] has just confirmed.
    pub fn take_held(&mut self, mut pass: impl FnMut(&Packet<'_>, Mono)) {
        for (packet, arrival) in self.held.iter() {
            pass(&packet, arrival);
        }
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{PayloadType, RtpTimestamp, SeqNo, Ssrc};

    /// Packets of 20 ms in turn: of which payload type they are. Gives those that were taken, by number.
    fn taken(present: u8, types: &[u8]) -> Vec<(u8, u16)> {
        let mut change = CodecChange::default();
        let (mut present, mut heard, mut taken) = (present, Mono::default(), Vec::new());
        for (number, payload_type) in (0..).zip(types) {
            let arrival = Mono::new(Duration::from_millis(20 * u64::from(number)));
            let packet = Packet {
                payload_type: PayloadType(*payload_type),
                seq: SeqNo(number),
                timestamp: RtpTimestamp(u32::from(number) * 160),
                ssrc: Ssrc(1),
                payload: &[7; 160],
            };
            if *payload_type != present {
                if !change.follow(&packet, arrival, heard) {
                    continue;
                }
                present = *payload_type;
                change.take_held(|early, _| taken.push((early.payload_type.0, early.seq.0)));
            }
            change.stay();
            heard = arrival;
            taken.push((*payload_type, number));
        }
        taken
    }

    #[test]
    fn one_stray_packet_changes_nothing() {
        assert_eq!(taken(8, &[8, 8, 0, 8, 8]), [(8, 0), (8, 1), (8, 3), (8, 4)]);
    }

    #[test]
    fn the_second_packet_in_a_row_brings_the_first_along() {
        assert_eq!(taken(8, &[8, 8, 0, 0, 0]), [(8, 0), (8, 1), (0, 2), (0, 3), (0, 4)]);
        assert_eq!(taken(8, &[9, 9]), [(9, 0), (9, 1)]);
    }

    #[test]
    fn a_sender_that_changes_all_the_time_is_followed_once_in_ten_seconds() {
        let types: Vec<u8> = (0..3000).map(|number| if number / 20 % 2 == 0 { 8 } else { 0 }).collect();
        let taken = taken(8, &types);
        let changes = taken.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
        assert!((4..=6).contains(&changes), "{changes} in a minute");
        assert!(taken.len() > 1400, "the present codec is recorded all the time");
    }

    #[test]
    fn two_senders_do_not_change_it_back_and_forth() {
        let types: Vec<u8> = (0..100).map(|number| if number / 2 % 2 == 0 { 8 } else { 0 }).collect();
        let taken = taken(8, &types);
        let changes = taken.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
        assert_eq!((taken.len(), changes), (52, 1));
    }
}
