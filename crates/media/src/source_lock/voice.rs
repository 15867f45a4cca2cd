//! One sender as it is heard: how continuous it is.

use crate::time::Mono;
use crate::units::{SeqNo, Ssrc};
use std::net::SocketAddr;
use std::time::Duration;

/// A stretch of time in which a sender was heard, or not.
pub(super) const SLOT: Duration = Duration::from_millis(160);

/// Length of a slot in hundredths of a second, as a power of two.
const SLOT_HUNDREDTHS_LOG2: u32 = 4;

/// Slots that are remembered: 10 s.
pub(super) const MAX_SLOTS: u32 = 64;

/// Sequence numbers that may be left out by one that is in sequence: packets are lost.
pub(super) const MAX_SKIP: i32 = 16;

/// Largest distance behind the newest packet of one that was only overtaken.
pub(super) const MAX_BEHIND: i32 = 100;

/// Time after which a packet that comes was not overtaken: its sender begins anew.
pub(super) const ANEW_AFTER: Duration = Duration::from_secs(1);

/// A sender, or a rival for its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice {
    /// The address, in the form in which it is compared, and in that of the socket.
    pub(super) key: SocketAddr,
    pub(super) source: SocketAddr,
    pub(super) ssrc: Ssrc,
    /// The sequence number furthest ahead.
    pub(super) seq: SeqNo,
    /// The one with which its run began.
    pub(super) first_seq: SeqNo,
    /// Packets in sequence up to now.
    pub(super) run: u32,
    pub(super) first: Mono,
    pub(super) last: Mono,
    /// It had the call before.
    pub(super) former: bool,
    /// A bit for each slot in which a packet came in sequence; the lowest is `slot`.
    heard: u64,
    /// The same of those whose place it has taken.
    before: u64,
    slot: u64,
}

impl Voice {
    pub(super) fn new(key: SocketAddr, source: SocketAddr, ssrc: Ssrc, seq: SeqNo, arrival: Mono) -> Self {
        let slot = slot_of(arrival);
        Self {
            key,
            source,
            ssrc,
            seq,
            first_seq: seq,
            run: 1,
            first: arrival,
            last: arrival,
            former: false,
            heard: 0,
            before: 0,
            slot,
        }
    }

    /// The state after it has lost the call: as continuous as before, but its packets are no run any more.
    pub(super) fn retired(self) -> Self {
        Self { run: 0, former: true, ..self }
    }

    /// Without the slots of others before it.
    pub(super) fn own(&self) -> Self {
        Self { before: 0, ..*self }
    }

    /// The continuity of `last` counts as its own from here on.
    pub(super) fn inherit(&mut self, last: &Self) {
        self.before = shifted(last.heard | last.before, self.slot.saturating_sub(last.slot));
    }

    #[inline]
    pub(super) fn is(&self, key: SocketAddr, ssrc: Ssrc) -> bool {
        self.ssrc == ssrc && self.key == key
    }

    #[inline]
    pub(super) fn hear(&mut self, seq: SeqNo, arrival: Mono) {
        let before = self.last;
        self.last = before.max(arrival);
        match seq.packets_since(self.seq) {
            1..=MAX_SKIP => {
                self.seq = seq;
                self.run = self.run.saturating_add(1);
                self.mark(arrival);
            }
            behind if (-MAX_BEHIND..=0).contains(&behind) && arrival.since(before) <= ANEW_AFTER => {}
            _ => {
                self.seq = seq;
                self.first_seq = seq;
                self.run = 1;
            }
        }
    }

    fn mark(&mut self, arrival: Mono) {
        let slot = slot_of(arrival);
        if slot == self.slot {
            self.heard |= 1;
            return;
        }
        self.mark_other(slot);
    }

    fn mark_other(&mut self, slot: u64) {
        if slot > self.slot {
            self.heard = shifted(self.heard, slot - self.slot);
            self.before = shifted(self.before, slot - self.slot);
            self.slot = slot;
        }
        let behind = self.slot - slot;
        self.heard |= u32::try_from(behind).ok().and_then(|behind| 1_u64.checked_shl(behind)).unwrap_or(0);
    }

    /// In how many of the slots that are remembered at `now` it was heard in sequence.
    pub(super) fn slots(&self, now: Mono) -> u32 {
        self.slots_in(MAX_SLOTS, now)
    }

    /// In how many of the last `window` slots it was heard in sequence.
    pub(super) fn slots_in(&self, window: u32, now: Mono) -> u32 {
        let heard = shifted(self.heard | self.before, slot_of(now).saturating_sub(self.slot));
        let mask = 1_u64.checked_shl(window).map_or(u64::MAX, |bit| bit - 1);
        (heard & mask).count_ones()
    }
}

/// Number of the slot of `at`, without a division of 64 bits.
fn slot_of(at: Mono) -> u64 {
    let at = at.since_start();
    let hundredths = at.as_secs().saturating_mul(100) + u64::from(at.subsec_nanos() / 10_000_000);
    hundredths >> SLOT_HUNDREDTHS_LOG2
}

fn shifted(bits: u64, by: u64) -> u64 {
    u32::try_from(by).ok().and_then(|by| bits.checked_shl(by)).unwrap_or(0)
}
