//! Audio of a stream on its way to the sink: in order at once, behind a hole until that is filled or old
//! enough.
//!
//! Owns: the window, and whether the stream's first packets may still be reordered. Invariant: audio and
//! silence reach the sink in order and once.

use super::sink::{AudioSink, GapCause};
use super::stream::REORDER_OCTETS;
use super::window::{Piece, Window};
use crate::counts::{DropCause, Verdict};

/// The audio that waits.
#[derive(Debug)]
pub(super) struct Assembly {
    window: Window,
    /// Nothing of this stream has been handed over: its first packets may still be reordered.
    opening: bool,
    /// The cause of missing audio.
    hole: GapCause,
}

/// The place of a packet, by offsets in the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) offset: i64,
    /// The stream's newest packet.
    pub(super) newest: i64,
    /// It is open whether a break was a stall or a hold: nothing is handed over.
    pub(super) suspended: bool,
}

impl Assembly {
    pub(super) fn new() -> Self {
        Self { window: Window::new(), opening: true, hole: GapCause::Loss }
    }

    /// The place of the next packet in order.
    pub(super) fn end(&self) -> i64 {
        self.window.end()
    }

    /// Octets that wait for a hole to be filled or to grow old.
    pub(super) fn waiting_octets(&self) -> u64 {
        (self.window.end() - self.window.start()).unsigned_abs()
    }

    /// Names the cause of the holes from here on.
    pub(super) fn missing_for(&mut self, cause: GapCause) {
        self.hole = cause;
    }

    /// The first packets are not reordered any more.
    pub(super) fn is_begun(&mut self) {
        self.opening = false;
    }

    /// Begins anew: offset 0 is the place of the next packet. All that waited was handed over.
    pub(super) fn restart(&mut self) {
        self.window.restart(REORDER_OCTETS);
        self.opening = true;
    }

    /// Silence from the end to `offset`.
    pub(super) fn silence_to(&self, offset: i64, sink: &mut impl AudioSink) {
        let gap = offset - self.window.end();
        if gap > 0 {
            sink.silence(gap.unsigned_abs(), self.hole);
        }
    }

    /// Takes the audio of a packet. Without `room` for it, silence takes its place.
    pub(super) fn put(
        &mut self,
        audio: &[u8],
        place: Target,
        room: bool,
        sink: &mut impl AudioSink,
    ) -> Verdict {
        let Target { offset, newest, suspended } = place;
        let octets = i64::try_from(audio.len()).unwrap_or(i64::MAX);
        let hole = self.hole;
        let mut hand_over = |piece: Piece<'_>| match piece {
            Piece::Audio(octets) => sink.audio(octets),
            Piece::Hole(octets) => sink.silence(octets, hole),
        };
        if self.opening {
            if offset < self.window.start() {
                self.window.reopen_at(offset);
            } else if offset >= REORDER_OCTETS && !suspended {
                self.opening = false;
                let start = self.window.start();
                self.window.hand_over_to(start, &mut hand_over);
            }
        }
        if !self.opening {
            self.window.hand_over_to(newest - REORDER_OCTETS, &mut hand_over);
            if self.window.is_clear() && offset == self.window.start() {
                self.window.skip(octets);
                if room {
                    sink.audio(audio);
                    return Verdict::Stored;
                }
                sink.silence(octets.unsigned_abs(), GapCause::BufferFull);
                return Verdict::Dropped(DropCause::BufferFull);
            }
        }
        if offset + octets <= self.window.start() {
            return Verdict::Late;
        }
        if !room {
            self.hole = GapCause::BufferFull;
            self.window.claim(offset + octets);
            return Verdict::Dropped(DropCause::BufferFull);
        }
        let start = self.window.start();
        let placed = self.window.insert(offset, audio, &mut hand_over);
        self.opening &= self.window.start() == start;
        if !self.opening {
            let start = self.window.start();
            self.window.hand_over_to(start, &mut hand_over);
        }
        if placed { Verdict::Stored } else { Verdict::Dropped(DropCause::Overlap) }
    }

    /// Hands over all that waits.
    pub(super) fn hand_over_all(&mut self, sink: &mut impl AudioSink) {
        let hole = self.hole;
        let end = self.window.end();
        self.window.hand_over_to(end, &mut |piece| match piece {
            Piece::Audio(octets) => sink.audio(octets),
            Piece::Hole(octets) => sink.silence(octets, hole),
        });
    }
}
