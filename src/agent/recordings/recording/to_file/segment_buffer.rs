//! Audio on its way from the timeline to the storage thread, cut into segments.
//!
//! Owns: the blocks of one recording that are not on the disk yet, where one file ends and the next
//! begins, and the gaps of the file being filled. Invariants: an octet belongs to exactly one segment; no
//! segment exceeds its limit; what does not fit into the pool becomes silence of the same length.

use media::blocks::{Block, BlockPool};
use media::codec::{Codec, OCTETS_PER_MS};
use media::packet::MAX_PAYLOAD_OCTETS;
use media::timeline::{AudioSink, GapCause, octets_to_ms};
use recfile::sidecar::{Gap, MAX_LISTED, Pause};
use std::collections::VecDeque;
use store::jobs::Piece;

/// Longer silence is not stored in blocks but as a number.
const SILENCE_IN_BLOCKS_OCTETS: u64 = 2048;

/// Pieces and segment ends that may wait; a disk stalled through so many segments has failed.
pub(in crate::agent) const MAX_WAITING_ENTRIES: usize = 4096;

/// A longer list of pieces, from a disk that was stalled, is not kept.
const MAX_SPARE_PIECES: usize = 64;

/// Octets that one packet and the reorder window together may need at once.
const PACKET_ROOM_OCTETS: usize = 2 * MAX_PAYLOAD_OCTETS;

/// What happened in a segment, positions counted from the start of its file.
#[derive(Clone, Debug, Default)]
pub(in crate::agent) struct SegmentLog {
    /// The first [`MAX_LISTED`] gaps.
    pub(in crate::agent) listed: Vec<Gap>,
    /// All gaps.
    pub(in crate::agent) total: u64,
    /// All silence, in octets.
    pub(in crate::agent) octets: u64,
    /// The first [`MAX_LISTED`] pauses.
    pub(in crate::agent) pauses: Vec<Pause>,
    /// End of the last gap and its cause, to join what touches.
    last: Option<(u64, GapCause)>,
}

impl SegmentLog {
    /// Takes what happened before `at_octets`; positions of the rest count from there.
    fn split_off_front(&mut self, at_octets: u64) -> Self {
        let at_ms = octets_to_ms(at_octets);
        let mut front = Self::default();
        for gap in std::mem::take(&mut self.listed) {
            let end_ms = gap.at_ms + gap.duration_ms;
            let before_ms = end_ms.min(at_ms).saturating_sub(gap.at_ms);
            if gap.at_ms < at_ms {
                front.listed.push(Gap { duration_ms: before_ms, ..gap.clone() });
            }
            if end_ms > at_ms {
                let duration_ms = gap.duration_ms - before_ms;
                self.listed.push(Gap { at_ms: gap.at_ms.saturating_sub(at_ms), duration_ms, ..gap });
            }
        }
        // Gaps beyond the list are past its end, so they are counted with the later part.
        front.total = front.listed.len() as u64;
        front.octets = front.listed.iter().map(|gap| gap.duration_ms * OCTETS_PER_MS).sum();
        front.octets = front.octets.min(self.octets);
        self.total = (self.total.saturating_sub(front.total)).max(self.listed.len() as u64);
        self.octets -= front.octets;
        let (before, after) = std::mem::take(&mut self.pauses).into_iter().partition(|it| it.at_ms < at_ms);
        (front.pauses, self.pauses) = (before, after);
        self.pauses.iter_mut().for_each(|pause| pause.at_ms -= at_ms);
        self.last = self.last.map(|(end, cause)| (end.saturating_sub(at_octets), cause));
        front
    }
}

#[derive(Debug)]
enum Entry {
    Piece(Piece),
    /// Here a segment ends; the next one holds audio of this codec.
    Roll(Box<SegmentLog>, Codec),
}

/// The buffer of one recording.
#[derive(Debug)]
pub(in crate::agent) struct SegmentBuffer {
    codec: Codec,
    entries: VecDeque<Entry>,
    /// Memory for the next list of pieces.
    spare: Vec<Piece>,
    current: Option<Block>,
    segment_limit: u64,
    /// Octets less that the segment being filled may hold, and what that leaves, in whole frames.
    lowered: u64,
    present_limit: u64,
    /// Octets assigned to the segment being filled.
    segment_octets: u64,
    total_octets: u64,
    waiting_octets: u64,
    overrun_octets: u64,
    log: SegmentLog,
}

impl SegmentBuffer {
    /// An empty tape whose segments hold at most `segment_limit` octets (whole frames, not zero).
    pub(in crate::agent) fn new(codec: Codec, segment_limit: u64) -> Self {
        Self {
            codec,
            entries: VecDeque::new(),
            spare: Vec::new(),
            current: None,
            segment_limit: segment_limit.max(1),
            lowered: 0,
            present_limit: segment_limit.max(1),
            segment_octets: 0,
            total_octets: 0,
            waiting_octets: 0,
            overrun_octets: 0,
            log: SegmentLog::default(),
        }
    }

    /// Octets of the recording so far, on the disk or not.
    pub(in crate::agent) fn total_octets(&self) -> u64 {
        self.total_octets
    }

    /// Octets not yet handed to storage.
    pub(in crate::agent) fn waiting_octets(&self) -> u64 {
        self.waiting_octets
    }

    /// Octets that became silence for want of room, or were given up with the disk.
    pub(in crate::agent) fn overrun_octets(&self) -> u64 {
        self.overrun_octets
    }

    /// So many octets that were in storage's hands are lost.
    pub(in crate::agent) fn note_overrun(&mut self, octets: u64) {
        self.overrun_octets += octets;
    }

    /// Whether so much waits that the disk must be taken for dead.
    pub(in crate::agent) fn is_overfull(&self) -> bool {
        self.entries.len() > MAX_WAITING_ENTRIES
    }

    /// Whether the next packet's audio can be kept.
    pub(in crate::agent) fn has_room(&self, pool: &BlockPool) -> bool {
        pool.has_room() || self.current.as_ref().is_some_and(|block| block.room() >= PACKET_ROOM_OCTETS)
    }

    /// The newest audio that is still here, for the level meter.
    pub(in crate::agent) fn newest(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], Block::octets)
    }

    /// Whether the segment in storage's hands is complete here.
    pub(in crate::agent) fn at_roll(&self) -> bool {
        matches!(self.entries.front(), Some(Entry::Roll(..)))
    }

    /// Takes the end of a segment that stands next.
    pub(in crate::agent) fn take_roll(&mut self) -> Option<(SegmentLog, Codec)> {
        match self.entries.pop_front() {
            Some(Entry::Roll(log, codec)) => Some((*log, codec)),
            Some(other) => {
                self.entries.push_front(other);
                None
            }
            None => None,
        }
    }

    /// What happened in the segment being filled, when it ends.
    pub(in crate::agent) fn take_log(&mut self) -> SegmentLog {
        std::mem::take(&mut self.log)
    }

    /// Ends the segment in storage's hands at `at_octets` of its file; what comes behind is a segment of its own.
    /// Returns what happened up to there.
    pub(in crate::agent) fn cut_segment(&mut self, at_octets: u64) -> SegmentLog {
        let log = self.entries.iter_mut().find_map(|entry| match entry {
            Entry::Roll(log, _) => Some(log.as_mut()),
            Entry::Piece(_) => None,
        });
        match log {
            Some(log) => log.split_off_front(at_octets),
            None => {
                self.restore_segment_limit();
                self.segment_octets = self.segment_octets.saturating_sub(at_octets);
                self.log.split_off_front(at_octets)
            }
        }
    }

    /// Whether nothing is left to be written.
    pub(in crate::agent) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.waiting_octets == 0
    }

    /// Notes that recording was paused here for `duration_ms`.
    pub(in crate::agent) fn note_pause(&mut self, duration_ms: u64) {
        if self.log.pauses.len() < MAX_LISTED {
            self.log.pauses.push(Pause { at_ms: octets_to_ms(self.segment_octets), duration_ms });
        }
    }

    /// Takes what waits for the present segment, and how many octets that is.
    pub(in crate::agent) fn take_pieces(&mut self) -> (Vec<Piece>, u64) {
        if !self.entries.iter().any(|entry| matches!(entry, Entry::Roll(..))) {
            self.close_block();
        }
        let mut pieces = std::mem::take(&mut self.spare);
        let mut octets = 0;
        while let Some(Entry::Piece(_)) = self.entries.front() {
            if let Some(Entry::Piece(piece)) = self.entries.pop_front() {
                octets += piece_octets(&piece);
                pieces.push(piece);
            }
        }
        self.waiting_octets -= octets;
        (pieces, octets)
    }

    /// The disk took `pieces`.
    pub(in crate::agent) fn written(&mut self, mut pieces: Vec<Piece>, pool: &mut BlockPool) {
        give_back(pieces.drain(..), pool);
        if pieces.capacity() <= MAX_SPARE_PIECES {
            self.spare = pieces;
        }
    }

    /// Puts pieces back that the disk did not keep, to the front.
    pub(in crate::agent) fn put_back(&mut self, pieces: Vec<Piece>) {
        for piece in pieces.into_iter().rev() {
            self.waiting_octets += piece_octets(&piece);
            self.entries.push_front(Entry::Piece(piece));
        }
    }

    /// Gives every block back; what waits is lost.
    pub(in crate::agent) fn discard(&mut self, pool: &mut BlockPool) {
        self.close_block();
        let pieces = self.entries.drain(..).filter_map(|entry| match entry {
            Entry::Piece(piece) => Some(piece),
            Entry::Roll(..) => None,
        });
        give_back(pieces, pool);
        self.overrun_octets += std::mem::take(&mut self.waiting_octets);
    }

    fn close_block(&mut self) {
        if let Some(block) = self.current.take() {
            self.entries.push_back(Entry::Piece(Piece::Audio(block)));
        }
    }

    /// Ends the present segment; the next one holds audio of `codec`.
    pub(in crate::agent) fn roll(&mut self, codec: Codec) {
        self.close_block();
        let log = Box::new(self.take_log());
        self.entries.push_back(Entry::Roll(log, codec));
        self.segment_octets = 0;
        self.restore_segment_limit();
        self.codec = codec;
    }

    /// The segment being filled, if storage is at it, holds `octets` less, in whole frames of `frame` octets; what it
    /// has stays.
    pub(in crate::agent) fn lower_segment_limit(&mut self, octets: u64, frame: u64) {
        if self.entries.iter().any(|entry| matches!(entry, Entry::Roll(..))) {
            return;
        }
        self.lowered += octets;
        let has = self.segment_octets.div_ceil(frame) * frame;
        let most = self.segment_limit.saturating_sub(self.lowered) / frame * frame;
        self.present_limit = most.max(has).clamp(1, self.segment_limit);
    }

    fn restore_segment_limit(&mut self) {
        (self.lowered, self.present_limit) = (0, self.segment_limit);
    }

    /// Ends the present segment; the next one holds more of the same.
    pub(in crate::agent) fn end_segment(&mut self) {
        self.roll(self.codec);
    }

    /// How much of `octets` the present segment takes; rolls over first if it is full.
    fn claim(&mut self, octets: u64) -> u64 {
        if self.segment_octets >= self.present_limit {
            self.roll(self.codec);
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

    /// A block with room, if there is one to be had.
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
        let gaps = &mut self.log;
        gaps.octets += octets;
        let joined = gaps.last == Some((at_octets, cause));
        gaps.last = Some((at_octets + octets, cause));
        if joined {
            if gaps.total <= MAX_LISTED as u64 {
                if let Some(last) = gaps.listed.last_mut() {
                    last.duration_ms = octets_to_ms(at_octets + octets).saturating_sub(last.at_ms);
                }
            }
            return;
        }
        gaps.total += 1;
        if gaps.listed.len() < MAX_LISTED {
            gaps.listed.push(Gap {
                at_ms: octets_to_ms(at_octets),
                duration_ms: octets_to_ms(octets),
                cause: cause.name().into(),
            });
        }
    }
}

fn piece_octets(piece: &Piece) -> u64 {
    match piece {
        Piece::Audio(block) => block.octets().len() as u64,
        Piece::Silence(octets) => *octets,
    }
}

/// Returns the blocks of `pieces` to the pool.
pub(in crate::agent) fn give_back(pieces: impl IntoIterator<Item = Piece>, pool: &mut BlockPool) {
    for piece in pieces {
        if let Piece::Audio(block) = piece {
            pool.give_back(block);
        }
    }
}

/// A tape and the pool it takes blocks from: where the timeline's audio goes.
pub(in crate::agent) struct Feed<'a> {
    pub(in crate::agent) buffer: &'a mut SegmentBuffer,
    pub(in crate::agent) pool: &'a mut BlockPool,
}

impl AudioSink for Feed<'_> {
    fn audio(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let taken = self.buffer.claim(octets.len() as u64);
            let (mut now, later) = octets.split_at(usize::try_from(taken).unwrap_or(octets.len()));
            while !now.is_empty() {
                let Some(block) = self.buffer.block(self.pool) else {
                    let missing = now.len() as u64;
                    self.buffer.overrun_octets += missing;
                    let at = self.buffer.segment_octets - missing;
                    self.buffer.push_silence(missing);
                    self.buffer.note_gap(at, missing, GapCause::BufferFull);
                    break;
                };
                let filled = block.fill(now);
                now = &now[filled..];
            }
            octets = later;
        }
    }

    fn silence(&mut self, mut octets: u64, cause: GapCause) {
        if cause == GapCause::BufferFull {
            self.buffer.overrun_octets += octets;
        }
        let silence = self.buffer.codec.silence();
        while octets > 0 {
            let taken = self.buffer.claim(octets);
            octets -= taken;
            let at = self.buffer.segment_octets - taken;
            self.buffer.note_gap(at, taken, cause);
            let mut left = taken;
            while left > 0 {
                if left > SILENCE_IN_BLOCKS_OCTETS || cause == GapCause::BufferFull {
                    self.buffer.push_silence(left);
                    break;
                }
                let Some(block) = self.buffer.block(self.pool) else {
                    self.buffer.push_silence(left);
                    break;
                };
                left -= block.fill_with(silence, left) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the pieces of a segment hold.
    fn play(pieces: &[Piece]) -> Vec<u8> {
        let mut octets = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Audio(block) => octets.extend_from_slice(block.octets()),
                Piece::Silence(count) => {
                    octets.resize(octets.len() + usize::try_from(*count).unwrap(), 0xFF);
                }
            }
        }
        octets
    }

    proptest! {
        #[test]
        fn segments_hold_every_octet_once_and_none_is_too_long(
            steps in prop::collection::vec((any::<bool>(), 1..6000usize), 1..60),
            limit in 200..20_000u64,
        ) {
            let mut pool = BlockPool::new(64 << 20);
            let mut buffer = SegmentBuffer::new(Codec::Pcmu, limit);
            let mut expected = Vec::new();
            for (number, (silent, octets)) in steps.iter().enumerate() {
                let mut feed = Feed { buffer: &mut buffer, pool: &mut pool };
                if *silent {
                    feed.silence(*octets as u64, GapCause::Loss);
                    expected.resize(expected.len() + octets, 0xFF);
                } else {
                    let audio = vec![u8::try_from(number).unwrap(); *octets];
                    feed.audio(&audio);
                    expected.extend(audio);
                }
            }
            let mut got = Vec::new();
            loop {
                let mut segment = Vec::new();
                loop {
                    let (pieces, octets) = buffer.take_pieces();
                    if pieces.is_empty() {
                        break;
                    }
                    segment.extend(play(&pieces));
                    prop_assert!(octets > 0);
                    give_back(pieces, &mut pool);
                }
                prop_assert!(segment.len() as u64 <= limit);
                got.extend(segment);
                if buffer.take_roll().is_none() {
                    break;
                }
            }
            prop_assert!(got == expected);
            prop_assert_eq!(buffer.waiting_octets(), 0);
            prop_assert_eq!(pool.used_octets(), 0);
        }

        #[test]
        fn without_room_the_length_stays_true(octets in 1..100_000usize) {
            let mut pool = BlockPool::new(1);
            let mut buffer = SegmentBuffer::new(Codec::Pcmu, 1 << 30);
            Feed { buffer: &mut buffer, pool: &mut pool }.audio(&vec![1; octets]);
            let (pieces, taken) = buffer.take_pieces();
            prop_assert_eq!(play(&pieces).len(), octets);
            prop_assert_eq!(taken, octets as u64);
            prop_assert_eq!(buffer.overrun_octets(), (octets as u64).saturating_sub(16 * 1024));
        }
    }

    #[test]
    fn a_segment_that_is_cut_shares_its_gaps_and_pauses_with_the_next() {
        let mut pool = BlockPool::new(1 << 20);
        let mut buffer = SegmentBuffer::new(Codec::Pcmu, 1 << 30);
        let mut feed = Feed { buffer: &mut buffer, pool: &mut pool };
        feed.silence(160, GapCause::Loss);
        feed.audio(&[1; 160]);
        feed.silence(800, GapCause::Suppression);
        feed.buffer.note_pause(5);
        feed.audio(&[1; 160]);
        let front = buffer.cut_segment(640);
        let places = |log: &SegmentLog| -> Vec<_> {
            log.listed.iter().map(|gap| (gap.at_ms, gap.duration_ms)).collect()
        };
        assert_eq!((places(&front), front.total, front.octets), (vec![(0, 20), (40, 40)], 2, 480));
        assert_eq!(front.pauses, []);
        let rest = buffer.take_log();
        assert_eq!((places(&rest), rest.octets), (vec![(0, 60)], 480));
        assert_eq!(rest.pauses[0].at_ms, 60);
    }

    #[test]
    fn gaps_that_touch_are_one_gap() {
        let mut pool = BlockPool::new(1 << 20);
        let mut buffer = SegmentBuffer::new(Codec::Pcmu, 1 << 30);
        let mut feed = Feed { buffer: &mut buffer, pool: &mut pool };
        feed.audio(&[1; 160]);
        feed.silence(160, GapCause::Loss);
        feed.silence(160, GapCause::Loss);
        feed.audio(&[1; 160]);
        feed.silence(80, GapCause::Suppression);
        let gaps = buffer.take_log();
        assert_eq!(gaps.total, 2);
        assert_eq!((gaps.listed[0].at_ms, gaps.listed[0].duration_ms), (20, 40));
        assert_eq!((gaps.listed[1].at_ms, gaps.listed[1].duration_ms), (80, 10));
    }
}
