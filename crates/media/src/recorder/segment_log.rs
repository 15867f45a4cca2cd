//! The log of a segment: all that a segment has beside audio, and its end.
//!
//! Owns: gaps and pauses of one segment, positions counted from the start of its file. Invariant: both lists
//! have a limit.

use crate::codec::Codec;
use crate::counts::Counts;
use crate::timeline::GapCause;

/// Most gaps of a segment, and most pauses, that are kept one by one.
pub const MAX_LISTED: usize = 1000;

/// Silence where audio could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Octets of the segment before it.
    pub at_octets: u64,
    /// Its length.
    pub octets: u64,
    /// Why.
    pub cause: GapCause,
}

impl Gap {
    fn end_octets(&self) -> u64 {
        self.at_octets + self.octets
    }
}

/// A pause by request; it takes no time in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Octets of the segment before it.
    pub at_octets: u64,
    /// Its length in time.
    pub duration_ms: u64,
}

/// The events in a segment.
#[derive(Clone, Debug, Default)]
pub struct SegmentLog {
    /// The first [`MAX_LISTED`] gaps.
    pub gaps: Vec<Gap>,
    /// All gaps.
    pub gaps_total: u64,
    /// All silence, in octets.
    pub gap_octets: u64,
    /// The first [`MAX_LISTED`] pauses.
    pub pauses: Vec<Pause>,
    /// End of the last gap and its cause, to join a gap that touches it.
    last: Option<(u64, GapCause)>,
}

impl SegmentLog {
    /// Notes a gap. The timeline fills one hole in several steps: gaps that touch are one.
    pub(super) fn note_gap(&mut self, gap: Gap) {
        self.gap_octets += gap.octets;
        let joined = self.last == Some((gap.at_octets, gap.cause));
        self.last = Some((gap.end_octets(), gap.cause));
        if joined {
            if self.gaps_total <= MAX_LISTED as u64 {
                if let Some(last) = self.gaps.last_mut() {
                    last.octets += gap.octets;
                }
            }
            return;
        }
        self.gaps_total += 1;
        if self.gaps.len() < MAX_LISTED {
            self.gaps.push(gap);
        }
    }

    pub(super) fn note_pause(&mut self, pause: Pause) {
        if self.pauses.len() < MAX_LISTED {
            self.pauses.push(pause);
        }
    }

    /// Takes the events before `at_octets`; positions of the rest count from there.
    pub(super) fn split_off_front(&mut self, at_octets: u64) -> Self {
        let mut front = Self::default();
        for gap in std::mem::take(&mut self.gaps) {
            let before = gap.end_octets().min(at_octets).saturating_sub(gap.at_octets);
            if before > 0 {
                front.gaps.push(Gap { octets: before, ..gap });
            }
            if gap.octets > before {
                let at_octets = gap.at_octets.saturating_sub(at_octets);
                self.gaps.push(Gap { at_octets, octets: gap.octets - before, ..gap });
            }
        }
        // Gaps beyond the list are past its end, so they are counted with the later part.
        front.gaps_total = front.gaps.len() as u64;
        front.gap_octets = front.gaps.iter().map(|gap| gap.octets).sum();
        self.gaps_total = self.gaps_total.saturating_sub(front.gaps_total).max(self.gaps.len() as u64);
        self.gap_octets = self.gap_octets.saturating_sub(front.gap_octets);
        (front.pauses, self.pauses) =
            std::mem::take(&mut self.pauses).into_iter().partition(|pause| pause.at_octets < at_octets);
        self.pauses.iter_mut().for_each(|pause| pause.at_octets -= at_octets);
        // One that ended before is in the front: nothing joins it.
        let last = self.last.filter(|(end, _)| *end > at_octets);
        self.last = last.map(|(end, cause)| (end - at_octets, cause));
        front
    }
}

/// The format of the audio of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Its codec.
    pub codec: Codec,
    /// The length of its packets; `None` as long as no packet has told.
    pub ptime_ms: Option<u32>,
}

/// Why a segment ends where it does, and another one follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// It has all that a file may have.
    Full,
    /// The sender changed to another codec.
    Codec,
    /// It was asked for.
    Asked,
}

/// A segment that gets no more audio.
#[derive(Clone, Debug)]
pub struct SegmentEnd {
    /// Its events.
    pub log: SegmentLog,
    /// The format of its audio.
    pub format: Format,
    /// Why it ends.
    pub boundary: Boundary,
    /// The counts of the whole recording when it ended.
    pub counts: Counts,
}
