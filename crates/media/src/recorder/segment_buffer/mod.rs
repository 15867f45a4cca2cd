//! Audio on its way from the timeline to the storage thread, cut into segments.
//!
//! Owns: the blocks of one recording that are not on the disk yet, where one file ends and the next begins,
//! and the gaps of the file being filled. Invariants: an octet belongs to exactly one segment; no segment
//! exceeds its limit; audio that does not fit into the pool becomes silence of the same length.

use super::segment_log::{Boundary, Format, Gap, Pause, SegmentEnd, SegmentLog};
use crate::blocks::{Block, BlockPool, Piece};
use crate::codec::OCTETS_PER_MS;
use crate::counts::Counts;
use crate::packet::MAX_PAYLOAD_OCTETS;
use crate::time::Mono;
use crate::timeline::GapCause;
use std::collections::VecDeque;

/// Longer silence is not stored in blocks but as a number.
const SILENCE_IN_BLOCKS_OCTETS: u64 = 2048;

/// Most pieces and segment ends that may wait; a disk that stalls while more of them come has failed.
const MAX_WAITING_ENTRIES: usize = 4096;

/// A longer list of pieces, from a disk that was stalled, is not kept.
const MAX_SPARE_PIECES: usize = 64;

/// Octets that one packet and the reorder window together may need at once.
const PACKET_ROOM_OCTETS: usize = 2 * MAX_PAYLOAD_OCTETS;

#[derive(Debug)]
enum Entry {
    Piece(Piece),
    /// Here a segment ends.
    End(Box<SegmentEnd>),
}

/// The buffer of one recording.
#[derive(Debug)]
pub struct SegmentBuffer {
    /// Of the segment being filled.
    format: Format,
    entries: VecDeque<Entry>,
    /// Number of segment ends, the last ones, that have no counts yet.
    undated: usize,
    /// Memory for the next list of pieces.
    spare: Vec<Piece>,
    current: Option<Block>,
    /// Octets that a segment may have, and whole frames of them.
    max_octets: u64,
    segment_limit: u64,
    /// Octets less that the segment being filled may hold, and its limit then, in whole frames.
    lowered: u64,
    present_limit: u64,
    /// Octets assigned to the segment being filled.
    segment_octets: u64,
    total_octets: u64,
    waiting_octets: u64,
    overrun_octets: u64,
    /// Arrival of the first packet that waits for a write.
    waiting_since: Mono,
    /// Nothing more is kept.
    is_closed: bool,
    log: SegmentLog,
}

impl SegmentBuffer {
    /// An empty buffer whose segments hold at most `max_octets`, in whole frames, at least one.
    pub(super) fn new(format: Format, max_octets: u64, now: Mono) -> Self {
        let mut buffer = Self {
            format,
            entries: VecDeque::new(),
            undated: 0,
            spare: Vec::new(),
            current: None,
            max_octets,
            segment_limit: u64::MAX,
            lowered: 0,
            present_limit: u64::MAX,
            segment_octets: 0,
            total_octets: 0,
            waiting_octets: 0,
            overrun_octets: 0,
            waiting_since: now,
            is_closed: false,
            log: SegmentLog::default(),
        };
        buffer.limit_segments();
        buffer
    }

    /// Packets of the segment being filled last `ptime_ms`.
    pub(super) fn set_ptime(&mut self, ptime_ms: u32) {
        self.format.ptime_ms = Some(ptime_ms);
        self.limit_segments();
    }

    fn limit_segments(&mut self) {
        if self.format.ptime_ms.is_some() {
            let frame = self.frame_octets();
            self.segment_limit = (self.max_octets / frame).max(1) * frame;
            self.restore_segment_limit();
        }
    }

    /// The format of the segment that is written now.
    #[must_use]
    pub fn front_format(&self) -> Format {
        let end = self.entries.iter().find_map(|entry| match entry {
            Entry::End(end) => Some(end.format),
            Entry::Piece(_) => None,
        });
        end.unwrap_or(self.format)
    }

    /// Arrival of the first packet that waits for a write.
    #[must_use]
    pub fn waiting_since(&self) -> Mono {
        self.waiting_since
    }

    /// A packet that arrived then is next.
    pub(super) fn expect(&mut self, arrival: Mono) {
        if self.waiting_octets == 0 {
            self.waiting_since = arrival;
        }
    }

    /// Octets of the recording so far, on the disk or not.
    #[must_use]
    pub fn total_octets(&self) -> u64 {
        self.total_octets
    }

    /// Octets not yet handed to storage.
    #[must_use]
    pub fn waiting_octets(&self) -> u64 {
        self.waiting_octets
    }

    /// Octets that became silence for want of room, or were given up with the disk.
    #[must_use]
    pub fn overrun_octets(&self) -> u64 {
        self.overrun_octets
    }

    /// `octets` that were in storage's hands are lost.
    pub fn note_overrun(&mut self, octets: u64) {
        self.overrun_octets += octets;
    }

    /// Whether so much waits that the disk must be taken for dead.
    #[must_use]
    pub fn is_overfull(&self) -> bool {
        self.entries.len() > MAX_WAITING_ENTRIES
    }

    /// Whether the next packet's audio can be kept.
    #[must_use]
    pub fn has_room(&self, pool: &BlockPool) -> bool {
        if self.is_closed {
            return false;
        }
        pool.has_room() || self.current.as_ref().is_some_and(|block| block.room() >= PACKET_ROOM_OCTETS)
    }

    /// The newest audio that is still here, for the level meter.
    #[must_use]
    pub fn newest(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], Block::octets)
    }

    /// Whether all that the segment being written has was handed out: its end is next.
    #[must_use]
    pub fn at_end(&self) -> bool {
        matches!(self.entries.front(), Some(Entry::End(_)))
    }

    /// Takes the end of a segment, if that is next.
    pub fn take_end(&mut self) -> Option<SegmentEnd> {
        match self.entries.pop_front()? {
            Entry::End(end) => Some(*end),
            piece @ Entry::Piece(_) => {
                self.entries.push_front(piece);
                None
            }
        }
    }

    /// Segments that ended by a change of codec and wait for the disk.
    pub(super) fn codec_changes(&self) -> usize {
        let is_change = |entry: &&Entry| matches!(entry, Entry::End(end) if end.boundary == Boundary::Codec);
        self.entries.iter().filter(is_change).count()
    }

    /// Whether a segment has ended since [`Self::date_ends`].
    pub(super) fn has_undated(&self) -> bool {
        self.undated > 0
    }

    /// Segments that ended since the last call have these counts.
    pub(super) fn date_ends(&mut self, counts: &Counts) {
        let ends = self.entries.iter_mut().rev().filter_map(|entry| match entry {
            Entry::End(end) => Some(end),
            Entry::Piece(_) => None,
        });
        ends.take(std::mem::take(&mut self.undated)).for_each(|end| end.counts = *counts);
    }

    /// The log of the segment being filled, when it ends.
    pub(super) fn take_log(&mut self) -> SegmentLog {
        std::mem::take(&mut self.log)
    }

    /// Ends the segment being written at `at_octets` of its file; the rest is a segment of its own. Returns
    /// the log up to there, and the counts if all packets of the segment had come.
    pub(super) fn cut_segment(&mut self, at_octets: u64) -> (SegmentLog, Option<Counts>) {
        let end = self.entries.iter_mut().find_map(|entry| match entry {
            Entry::End(end) => Some(end),
            Entry::Piece(_) => None,
        });
        match end {
            Some(end) => (end.log.split_off_front(at_octets), Some(end.counts)),
            None => {
                self.restore_segment_limit();
                self.segment_octets = self.segment_octets.saturating_sub(at_octets);
                (self.log.split_off_front(at_octets), None)
            }
        }
    }

    /// Whether nothing is left to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.waiting_octets == 0
    }

    /// Notes that recording was paused here for `duration_ms`.
    pub(super) fn note_pause(&mut self, duration_ms: u64) {
        self.log.note_pause(Pause { at_octets: self.segment_octets, duration_ms });
    }

    /// Takes all that waits for the segment being written, and how many octets that is.
    pub fn take_pieces(&mut self) -> (Vec<Piece>, u64) {
        if !self.has_end() {
            self.close_block();
        }
        self.take_full_pieces()
    }

    /// The same, but for a block that is still being filled.
    pub fn take_full_pieces(&mut self) -> (Vec<Piece>, u64) {
        let mut pieces = std::mem::take(&mut self.spare);
        let mut octets = 0;
        while let Some(Entry::Piece(_)) = self.entries.front() {
            if let Some(Entry::Piece(piece)) = self.entries.pop_front() {
                octets += piece.octets();
                pieces.push(piece);
            }
        }
        self.waiting_octets -= octets;
        (pieces, octets)
    }

    /// Whether the segment being written gets no more audio.
    #[must_use]
    pub fn has_end(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::End(_)))
    }

    /// The disk took `pieces`.
    pub fn written(&mut self, mut pieces: Vec<Piece>, pool: &mut BlockPool) {
        pool.give_back_all(pieces.drain(..));
        if pieces.capacity() <= MAX_SPARE_PIECES {
            self.spare = pieces;
        }
    }

    /// Puts pieces back that the disk did not keep, to the front.
    pub fn put_back(&mut self, pieces: Vec<Piece>) {
        for piece in pieces.into_iter().rev() {
            self.waiting_octets += piece.octets();
            self.entries.push_front(Entry::Piece(piece));
        }
    }

    /// Gives every block back; waiting audio is lost, and so is all that still comes.
    pub fn discard(&mut self, pool: &mut BlockPool) {
        self.close_block();
        let pieces = self.entries.drain(..).filter_map(|entry| match entry {
            Entry::Piece(piece) => Some(piece),
            Entry::End(_) => None,
        });
        pool.give_back_all(pieces);
        self.undated = 0;
        self.is_closed = true;
        self.overrun_octets += std::mem::take(&mut self.waiting_octets);
    }

    fn close_block(&mut self) {
        if let Some(block) = self.current.take() {
            self.entries.push_back(Entry::Piece(Piece::Audio(block)));
        }
    }

    /// Ends the segment being filled; the next one is another.
    pub(super) fn switch(&mut self, format: Format) {
        self.end_segment(Boundary::Codec);
        self.format = format;
    }

    /// Ends the segment being filled; the next one holds more of the same.
    pub(super) fn end_segment(&mut self, boundary: Boundary) {
        self.close_block();
        let (log, format) = (self.take_log(), self.format);
        let end = SegmentEnd { log, format, boundary, counts: Counts::default() };
        self.entries.push_back(Entry::End(Box::new(end)));
        self.undated += 1;
        self.segment_octets = 0;
        self.restore_segment_limit();
    }

    /// The segment being filled, if storage is at it, holds `octets` less, in whole frames; its audio so far
    /// stays.
    pub fn lower_segment_limit(&mut self, octets: u64) {
        if self.has_end() {
            return;
        }
        let frame = self.frame_octets();
        self.lowered += octets;
        let has = self.segment_octets.div_ceil(frame) * frame;
        let most = self.segment_limit.saturating_sub(self.lowered) / frame * frame;
        self.present_limit = most.max(has).clamp(1, self.segment_limit);
    }

    fn frame_octets(&self) -> u64 {
        (u64::from(self.format.ptime_ms.unwrap_or_default()) * OCTETS_PER_MS).max(1)
    }

    fn restore_segment_limit(&mut self) {
        (self.lowered, self.present_limit) = (0, self.segment_limit);
    }

    /// The part of `octets` that the present segment takes; rolls over first if it is full.
    fn claim(&mut self, octets: u64) -> u64 {
        if self.segment_octets >= self.present_limit {
            self.end_segment(Boundary::Full);
        }
        let taken = octets.min(self.present_limit - self.segment_octets);
        self.segment_octets += taken;
        self.total_octets += taken;
        self.waiting_octets += taken;
        taken
    }

    fn push_silence(&mut self, octets: u64) {
        self.close_block();
        if let Some(Entry::Piece(Piece::Silence(last))) = self.entries.back_mut() {
            *last += octets;
        } else {
            self.entries.push_back(Entry::Piece(Piece::Silence(octets)));
        }
    }

    /// A block with room, if there is one.
    fn block(&mut self, pool: &mut BlockPool) -> Option<&mut Block> {
        if self.current.as_ref().is_some_and(|block| block.room() == 0) {
            self.close_block();
        }
        if self.current.is_none() {
            self.current = pool.take();
        }
        self.current.as_mut()
    }

    fn note_gap(&mut self, at_octets: u64, octets: u64, cause: GapCause) {
        self.log.note_gap(Gap { at_octets, octets, cause });
    }

    /// Takes the next octets of the recording.
    pub(super) fn audio(&mut self, mut octets: &[u8], pool: &mut BlockPool) {
        while !octets.is_empty() {
            let taken = self.claim(octets.len() as u64);
            let (mut now, later) = octets.split_at(usize::try_from(taken).unwrap_or(octets.len()));
            while !now.is_empty() {
                let Some(block) = self.block(pool) else {
                    let missing = now.len() as u64;
                    self.overrun_octets += missing;
                    let at = self.segment_octets - missing;
                    self.push_silence(missing);
                    self.note_gap(at, missing, GapCause::BufferFull);
                    break;
                };
                let filled = block.fill(now);
                now = &now[filled..];
            }
            octets = later;
        }
    }

    /// The next `octets` of the recording are silence.
    pub fn silence(&mut self, mut octets: u64, cause: GapCause, pool: &mut BlockPool) {
        if cause == GapCause::BufferFull {
            self.overrun_octets += octets;
        }
        let silence = self.format.codec.silence();
        while octets > 0 {
            let taken = self.claim(octets);
            octets -= taken;
            let at = self.segment_octets - taken;
            self.note_gap(at, taken, cause);
            let mut left = taken;
            while left > 0 {
                if left > SILENCE_IN_BLOCKS_OCTETS || cause == GapCause::BufferFull {
                    self.push_silence(left);
                    break;
                }
                let Some(block) = self.block(pool) else {
                    self.push_silence(left);
                    break;
                };
                left -= block.fill_with(silence, left) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests;
