//! The reorder window: the last stretch of the timeline whose holes may still be filled.
//!
//! Owns: audio that waits behind a hole, addressed by its offset in the stream (octets, one per RTP
//! tick). Hands everything over in order, holes as silence. Invariants: nothing before `start` is ever
//! touched again; memory and number of fragments are fixed.

use std::ops::Range;

/// Octets that the window can hold: twice the reorder span (once before, once after the first packet of
/// a stream) and the largest packet.
pub(super) const WINDOW_OCTETS: usize = 4096;

/// Fragments between holes; a stream of 20 ms packets needs five in 100 ms.
const MAX_FRAGMENTS: usize = 64;

/// A piece that the window hands over.
pub(super) enum Piece<'a> {
    /// Audio.
    Audio(&'a [u8]),
    /// The octets of a hole.
    Hole(u64),
}

#[derive(Debug)]
pub(super) struct Window {
    octets: Box<[u8; WINDOW_OCTETS]>,
    /// Offset of `octets[0]`.
    base: i64,
    /// Everything before is handed over.
    start: i64,
    /// End of the last place claimed, filled or not.
    end: i64,
    /// Filled places at or after `start`: in order, apart, never touching.
    fragments: Vec<Range<i64>>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            octets: Box::new([0; WINDOW_OCTETS]),
            base: 0,
            start: 0,
            end: 0,
            fragments: Vec::with_capacity(MAX_FRAGMENTS + 1),
        }
    }

    /// Empties the window and starts at offset 0, with `room_before` octets of room for earlier audio.
    pub(super) fn restart(&mut self, room_before: i64) {
        self.fragments.clear();
        self.base = -room_before;
        self.start = 0;
        self.end = 0;
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Whether nothing waits, so that audio at `start` may go straight through.
    pub(super) fn is_clear(&self) -> bool {
        self.end == self.start
    }

    /// Moves the start back to `offset`; only while nothing has been handed over since `restart`.
    pub(super) fn reopen_at(&mut self, offset: i64) {
        debug_assert!(offset >= self.base && offset <= self.start);
        self.start = offset;
    }

    /// Audio of `octets` octets went past the window.
    pub(super) fn skip(&mut self, octets: i64) {
        debug_assert!(self.is_clear());
        self.start += octets;
        self.end = self.start;
    }

    /// Claims the time up to `end` without audio: it becomes silence unless audio still comes.
    pub(super) fn claim(&mut self, end: i64) {
        self.end = self.end.max(end);
    }

    /// Puts audio at `offset`, into holes only. Returns whether any of it found a place.
    pub(super) fn insert(
        &mut self,
        offset: i64,
        audio: &[u8],
        hand_over: &mut impl FnMut(Piece<'_>),
    ) -> bool {
        let offset_end = offset + to_i64(audio.len());
        self.make_room(offset_end, hand_over);
        let mut at = offset.max(self.start);
        let mut placed = false;
        let mut index = self.fragments.partition_point(|fragment| fragment.end <= at);
        while at < offset_end {
            let next = self.fragments.get(index).map_or(i64::MAX, |fragment| fragment.start);
            if next > at {
                let end = offset_end.min(next);
                self.copy_in(at, &audio[to_usize(at - offset)..to_usize(end - offset)]);
                self.fragments.insert(index, at..end);
                placed = true;
            }
            at = self.fragments[index].end;
            index += 1;
        }
        self.merge();
        self.claim(offset_end);
        if self.fragments.len() > MAX_FRAGMENTS {
            let limit = self.fragments[0].end;
            self.hand_over_to(limit, hand_over);
        }
        placed
    }

    /// Hands over everything before `limit`, holes included, and all audio that follows without a hole.
    #[inline]
    pub(super) fn hand_over_to(&mut self, limit: i64, hand_over: &mut impl FnMut(Piece<'_>)) {
        if self.is_clear() && limit <= self.start {
            return;
        }
        self.hand_over_some_to(limit, hand_over);
    }

    fn hand_over_some_to(&mut self, limit: i64, hand_over: &mut impl FnMut(Piece<'_>)) {
        let mut done = 0;
        loop {
            let fragment = self.fragments.get(done).cloned();
            match fragment {
                Some(fragment) if fragment.start == self.start => {
                    let range = self.index(fragment.start)..self.index(fragment.end);
                    hand_over(Piece::Audio(&self.octets[range]));
                    self.start = fragment.end;
                    done += 1;
                }
                fragment => {
                    let hole_end = fragment.map_or(limit, |fragment| fragment.start.min(limit));
                    if hole_end <= self.start {
                        break;
                    }
                    hand_over(Piece::Hole((hole_end - self.start).unsigned_abs()));
                    self.start = hole_end;
                }
            }
        }
        self.fragments.drain(..done);
        self.end = self.end.max(self.start);
    }

    fn copy_in(&mut self, offset: i64, audio: &[u8]) {
        let from = self.index(offset);
        self.octets[from..from + audio.len()].copy_from_slice(audio);
    }

    /// Makes the octets up to `end` addressable: moves the waiting audio to the front of the buffer.
    fn make_room(&mut self, end: i64, hand_over: &mut impl FnMut(Piece<'_>)) {
        let capacity = to_i64(WINDOW_OCTETS);
        if end - self.base <= capacity {
            return;
        }
        self.hand_over_to(end - capacity, hand_over);
        if let Some(last) = self.fragments.last() {
            let waiting = self.index(self.fragments[0].start)..self.index(last.end);
            let to = to_usize(self.fragments[0].start - self.start);
            self.octets.copy_within(waiting, to);
        }
        self.base = self.start;
    }

    fn merge(&mut self) {
        self.fragments.dedup_by(|later, earlier| {
            let touching = later.start == earlier.end;
            if touching {
                earlier.end = later.end;
            }
            touching
        });
    }

    fn index(&self, offset: i64) -> usize {
        to_usize(offset - self.base)
    }
}

/// For lengths within the window.
fn to_usize(octets: i64) -> usize {
    usize::try_from(octets).unwrap_or_default()
}

fn to_i64(octets: usize) -> i64 {
    i64::try_from(octets).unwrap_or(i64::MAX)
}
