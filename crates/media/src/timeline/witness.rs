//! The time between a packet and the one before it, by three witnesses.
//!
//! Owns: the decision, and nothing else. The witnesses are the sequence number (with the length of a packet),
//! the timestamp, and the arrival; each says how many octets of time lie between the end of the packet before
//! and this one. Senders get each of them wrong. Two that agree are right; a timestamp that stands alone is
//! wrong.
//!
//! | sequence | timestamp | arrival | meaning | time between | lost |
//! | --- | --- | --- | --- | --- | --- |
//! | next | next | any | the stream goes on | none | |
//! | next | ahead | as far ahead | silence suppression | as the timestamp says | |
//! | next, comfort noise before | ahead | not a second less | silence suppression | as the timestamp says | |
//! | next | ahead | less | a wrong timestamp | none | |
//! | next | back, or stands | any | a wrong timestamp | none | |
//! | ahead | as far ahead | not a second less | loss | as the timestamp says | yes |
//! | ahead | further ahead | as far ahead | loss and silence suppression | as the timestamp says | yes |
//! | far ahead | less far ahead | as the timestamp | numbers begin anew after silence | as the timestamp says | |
//! | ahead | next | any | numbers that were never sent | none | |
//! | ahead | less far, back, or stands | not a second less than the sequence | loss | as the sequence says | yes |
//! | back | next | any | numbers begin anew | none | |
//! | back | ahead | as far ahead | numbers begin anew after silence | as the timestamp says | |
//! | all others | | | a stray packet, or a stream that begins anew | the next packet decides | |
//!
//! An arrival that says more than the other two leaves it open whether the network stood still or the sender:
//! see [`super::suspense`].

/// Time for which the clock does not vouch (packets in a burst) is believed up to a second, of loss and
/// comfort noise.
pub(super) const UNVOUCHED_OCTETS: i64 = 8000;

/// Most octets that packets may all be late by for a while: 100 ms.
const LATE_OCTETS: i64 = 800;

/// The witnesses of one packet. All lengths are octets, one a tick of the RTP clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Testimony {
    /// Numbers that nothing came with; `None` if the number does not follow.
    pub(super) absent: Option<i64>,
    /// Time between by the timestamp.
    pub(super) by_timestamp: i64,
    /// Time between by the clock, if the packet is on time. It may be late, and is never early.
    pub(super) by_arrival: i64,
    /// A packet of the stream.
    pub(super) packet: i64,
    /// The longer one of this packet and the one before: some senders' packets are not of one length.
    pub(super) longest: i64,
    /// The timestamp's step is the same wrong one as before, or it is too early to tell.
    pub(super) usual_step: bool,
    /// Comfort noise came in between: the sender was silent.
    pub(super) noise: bool,
    /// How the sender counts is known: then its timestamps are exact. Others only tell which packet it is.
    pub(super) known: bool,
}

/// The result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The time that lies between, as `octets`. `lost`: the absent numbers were sent and lost.
    Between { octets: i64, lost: bool, by_timestamp: bool },
    /// No two agree.
    Doubt,
}

impl Finding {
    /// The packet is the next one.
    pub(super) const NEXT: Self = Self::Between { octets: 0, lost: false, by_timestamp: true };
}

/// Weighs the witnesses.
pub(super) fn weigh(testimony: &Testimony) -> Finding {
    let Testimony { absent, by_timestamp, by_arrival, packet, longest, usual_step, noise, known } =
        *testimony;
    let half = packet / 2;
    let follows = |by_timestamp| Finding::Between { octets: 0, lost: false, by_timestamp };
    // The absent packet may have been a short one.
    let is_next =
        by_timestamp.abs() <= if absent.is_some_and(|absent| absent > 0) { packet / 4 } else { half };
    // By the clock, which is never early, there was no time for the absent packets.
    let no_time = absent.is_none_or(|absent| absent == 0 || by_arrival <= absent * packet - half);
    if is_next && (known || no_time) {
        return Finding::NEXT;
    }
    // A stretch of silence may be off by the drift of the clocks in it, a short one by half of itself. If the
    // number is the next one, a long one may be off by how late the packets before it were, too: they may all
    // have been.
    let late = if absent == Some(0) { (by_timestamp / 8).min(LATE_OCTETS) } else { 0 };
    let slack = (by_timestamp / 2).min(packet).max(late) + by_timestamp / 64;
    let ahead = by_timestamp - by_arrival;
    let arrival_agrees = by_timestamp > 0 && (ahead <= slack || (noise && ahead <= UNVOUCHED_OCTETS));
    match absent {
        Some(0) => {
            let short = by_timestamp <= 2 * packet && usual_step;
            if arrival_agrees && !short {
                Finding::Between { octets: by_timestamp, lost: false, by_timestamp: true }
            } else {
                follows(false)
            }
        }
        Some(absent) => {
            let by_sequence = absent * packet;
            let slack = half * (absent + 1);
            let near = by_timestamp >= by_sequence - slack && by_timestamp <= absent * longest + slack;
            if near && by_timestamp > 0 && ahead <= UNVOUCHED_OCTETS {
                let octets = if known { by_timestamp } else { by_sequence };
                Finding::Between { octets, lost: true, by_timestamp: true }
            } else if arrival_agrees {
                // More numbers than fit into the time were never sent.
                let lost = by_sequence <= 2 * by_timestamp;
                Finding::Between { octets: by_timestamp, lost, by_timestamp: true }
            } else if (!near || is_next) && by_sequence <= by_arrival + UNVOUCHED_OCTETS {
                Finding::Between { octets: by_sequence, lost: true, by_timestamp: false }
            } else {
                Finding::Doubt
            }
        }
        None if arrival_agrees && -ahead <= LATE_OCTETS + by_timestamp / 64 => {
            Finding::Between { octets: by_timestamp, lost: false, by_timestamp: true }
        }
        None => Finding::Doubt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets of silence and whether something was lost, for packets of 160 octets.
    fn found(absent: Option<i64>, by_timestamp: i64, by_arrival: i64) -> Option<(i64, bool)> {
        let testimony = Testimony {
            absent,
            by_timestamp,
            by_arrival,
            packet: 160,
            longest: 160,
            usual_step: false,
            noise: false,
            known: true,
        };
        match weigh(&testimony) {
            Finding::Between { octets, lost, .. } => Some((octets, lost)),
            Finding::Doubt => None,
        }
    }

    #[test]
    fn every_row_of_the_table_holds() {
        let go_on = Some((0, false));
        assert_eq!(found(Some(0), 0, 0), go_on, "the stream goes on");
        assert_eq!(found(Some(0), 0, 48_000), go_on, "a hold or a stall");
        assert_eq!(found(Some(0), 8000, 8100), Some((8000, false)), "silence suppression");
        assert_eq!(found(Some(0), 8000, 7200), Some((8000, false)), "silence after packets that were late");
        assert_eq!(found(Some(0), 8000, 0), go_on, "a wrong timestamp");
        assert_eq!(found(Some(0), -999_999, 0), go_on, "a wrong timestamp");
        assert_eq!(found(Some(0), -160, 160), go_on, "it stands");
        assert_eq!(found(Some(3), 480, 480), Some((480, true)), "loss");
        assert_eq!(found(Some(3), 480, 0), Some((480, true)), "loss in a burst");
        assert_eq!(found(Some(3), 8000, 8000), Some((8000, true)), "loss and silence suppression");
        assert_eq!(found(Some(1000), 8000, 8000), Some((8000, false)), "numbers begin anew after silence");
        assert_eq!(found(Some(1), 0, 0), go_on, "numbers that were never sent");
        assert_eq!(found(Some(3), -160, 480), Some((480, true)), "loss while it stands");
        assert_eq!(found(Some(3), -999_999, 480), Some((480, true)), "loss before a wrong timestamp");
        assert_eq!(found(Some(2000), 320_000, 0), None, "both counters jump while no time passes");
        assert_eq!(found(None, 0, 0), go_on, "numbers begin anew");
        assert_eq!(found(None, 8000, 8000), Some((8000, false)), "numbers begin anew after silence");
        assert_eq!(
            found(None, 29_120, 33_120),
            None,
            "both counters begin anew, the timestamp by chance ahead"
        );
        assert_eq!(
            found(None, 59_000, 57_200),
            None,
            "both counters begin anew, the timestamp near by chance"
        );
        assert_eq!(found(None, -16_000, 0), None, "both counters are back");
        assert_eq!(found(None, 99_999, 0), None, "both counters jump");
    }

    #[test]
    fn lost_audio_is_as_long_as_the_timestamp_says_where_packets_differ_in_length() {
        let between = |packet, longest, by_timestamp| {
            let testimony = Testimony {
                absent: Some(1),
                by_timestamp,
                by_arrival: -300,
                packet,
                longest,
                usual_step: false,
                noise: false,
                known: true,
            };
            weigh(&testimony)
        };
        let lost = |octets| Finding::Between { octets, lost: true, by_timestamp: true };
        assert_eq!(between(64, 160, 160), lost(160), "a long one after a short one");
        assert_eq!(between(160, 160, 160), lost(160), "a long one before a short one");
        assert_eq!(between(160, 160, 64), lost(64), "a short one between long ones");
    }

    #[test]
    fn a_step_that_is_always_too_large_is_no_silence_even_where_a_packet_is_late() {
        let late = Testimony {
            absent: Some(0),
            by_timestamp: 160,
            by_arrival: 160,
            packet: 160,
            longest: 160,
            usual_step: true,
            noise: false,
            known: true,
        };
        assert_eq!(weigh(&late), Finding::Between { octets: 0, lost: false, by_timestamp: false });
    }
}
