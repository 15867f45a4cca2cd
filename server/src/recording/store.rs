//! Audio on its way from the timeline to the disk: blocks being filled, silence, gaps.
//!
//! A file that is full ends at a piece: no piece reaches beyond the limit of its file.
//! Invariants: time stays true when there is no memory, what finds none is silence; a gap is listed once,
//! however many steps the timeline takes to fill it.

use phone_recorder::blocks::{Block, BlockPool};
use phone_recorder::jobs::Piece;
use phone_recorder::rtp::timeline::{AudioSink, GapCause};

/// Room that has to be left for one packet: all that the timeline may hand over at once.
const PACKET_ROOM: usize = 4096;

/// Silence that is written out in a block rather than noted as a piece of its own.
const SHORT_SILENCE_OCTETS: u64 = 1024;

/// Audio that is not handed to the disk yet.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) pieces: Vec<Piece>,
    filling: Option<Block>,
    silence: u8,
    /// Octets in this file, those not written yet included.
    pub(super) octets: u64,
    /// Octets of a file that is full, in whole frames.
    limit: u64,
    pub(super) gaps: Vec<(u64, u64, GapCause)>,
    pub(super) unflushed: bool,
}

/// Lists this many gaps before they move to the sidecar, which has its own limit.
const MAX_FRESH_GAPS: usize = 256;

pub(super) struct Sink<'a> {
    pub(super) store: &'a mut Store,
    pub(super) pool: &'a mut BlockPool,
}

impl AudioSink for Sink<'_> {
    fn audio(&mut self, mut octets: &[u8]) {
        self.store.unflushed = true;
        while !octets.is_empty() {
            let most = octets.len().min(usize::try_from(self.store.to_limit()).unwrap_or(usize::MAX));
            let taken = match self.store.block(self.pool) {
                Some(block) => block.fill(&octets[..most]),
                None => {
                    self.store.push_silence(most as u64);
                    most
                }
            };
            octets = &octets[taken..];
            self.store.grow(taken as u64);
        }
    }

    fn silence(&mut self, mut octets: u64, cause: GapCause) {
        self.store.note_gap(octets, cause);
        self.store.unflushed = true;
        let silence = self.store.silence;
        while octets > 0 {
            let most = octets.min(self.store.to_limit());
            match self.store.block(self.pool) {
                Some(block) if most <= SHORT_SILENCE_OCTETS && most <= block.room() as u64 => {
                    block.fill_with(silence, most);
                }
                _ => self.store.push_silence(most),
            }
            octets -= most;
            self.store.grow(most);
        }
    }
}

/// What belongs into the next file.
#[derive(Debug)]
pub(super) struct Rest {
    pieces: Vec<Piece>,
    octets: u64,
    gaps: Vec<(u64, u64, GapCause)>,
}

impl Store {
    pub(super) fn new(silence: u8) -> Self {
        let (pieces, gaps) = (Vec::new(), Vec::new());
        Self { pieces, filling: None, silence, octets: 0, limit: u64::MAX, gaps, unflushed: false }
    }

    /// Files have at most `octets` of audio; told before there is any.
    pub(super) fn limit_to(&mut self, octets: u64) {
        if self.octets == 0 {
            self.limit = octets.max(1);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.octets >= self.limit
    }

    /// Takes what is beyond a full file out of it.
    pub(super) fn take_rest(&mut self) -> Option<Rest> {
        if self.octets <= self.limit {
            return None;
        }
        self.put_block_down();
        let octets = self.octets - self.limit;
        let mut beyond = octets;
        let mut first = self.pieces.len();
        while beyond > 0 && first > 0 {
            first -= 1;
            beyond = beyond.saturating_sub(length(&self.pieces[first]));
        }
        let pieces = self.pieces.split_off(first);
        let mut gaps = Vec::new();
        for (at, length, cause) in std::mem::take(&mut self.gaps) {
            let before = self.limit.saturating_sub(at).min(length);
            if before > 0 {
                self.gaps.push((at, before, cause));
            }
            if before < length {
                gaps.push(((at + before).saturating_sub(self.limit), length - before, cause));
            }
        }
        self.octets = self.limit;
        Some(Rest { pieces, octets, gaps })
    }

    /// Begins the next file with it.
    pub(super) fn go_on_with(&mut self, rest: Rest) {
        self.pieces = rest.pieces;
        self.octets = rest.octets;
        self.gaps = rest.gaps;
        self.unflushed = true;
    }

    /// Octets until a file is full, the next one if this one is.
    fn to_limit(&self) -> u64 {
        self.limit - self.octets % self.limit
    }

    fn grow(&mut self, octets: u64) {
        self.octets += octets;
        if self.octets % self.limit == 0 {
            self.put_block_down();
        }
    }

    pub(super) fn release(&mut self, pool: &mut BlockPool) {
        self.put_block_down();
        for piece in self.pieces.drain(..) {
            if let Piece::Audio(block) = piece {
                pool.give_back(block);
            }
        }
    }

    /// The block being filled, or the next one.
    fn block(&mut self, pool: &mut BlockPool) -> Option<&mut Block> {
        if self.filling.as_ref().is_some_and(|block| block.room() == 0) {
            self.put_block_down();
        }
        if self.filling.is_none() {
            self.filling = pool.take();
        }
        self.filling.as_mut()
    }

    /// The timeline fills one hole in several steps: they are one gap.
    fn note_gap(&mut self, octets: u64, cause: GapCause) {
        let here = self.octets;
        if let Some((at, length, same)) = self.gaps.last_mut() {
            if *same == cause && *at + *length == here {
                *length += octets;
                return;
            }
        }
        if self.gaps.len() < MAX_FRESH_GAPS {
            self.gaps.push((here, octets, cause));
        }
    }

    /// Gaps that are over.
    pub(super) fn finished_gaps(&mut self) -> impl Iterator<Item = (u64, u64, GapCause)> + '_ {
        let open = self.gaps.last().is_some_and(|(at, length, _)| at + length == self.octets);
        let finished = self.gaps.len() - usize::from(open);
        self.gaps.drain(..finished)
    }

    pub(super) fn put_block_down(&mut self) {
        if let Some(block) = self.filling.take() {
            self.pieces.push(Piece::Audio(block));
        }
    }

    fn push_silence(&mut self, octets: u64) {
        if self.filling.as_ref().is_some_and(|block| !block.octets().is_empty()) {
            self.put_block_down();
        }
        match self.pieces.last_mut() {
            Some(Piece::Silence(before)) if self.octets % self.limit != 0 => *before += octets,
            _ => self.pieces.push(Piece::Silence(octets)),
        }
    }

    pub(super) fn has_room(&self, pool: &BlockPool) -> bool {
        pool.has_room() || self.filling.as_ref().is_some_and(|block| block.room() >= PACKET_ROOM)
    }
}

fn length(piece: &Piece) -> u64 {
    match piece {
        Piece::Audio(block) => block.octets().len() as u64,
        Piece::Silence(octets) => *octets,
    }
}
