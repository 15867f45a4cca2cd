//! Audio on its way from the timeline to the disk: blocks being filled, silence, gaps.
//!
//! Invariants: time stays true when there is no memory, what finds none is silence; a gap is listed once,
//! however many steps the timeline takes to fill it; no file gets more than its limit, to the octet.

use media::blocks::{Block, BlockPool};
use media::counts::Counts;
use media::timeline::{AudioSink, GapCause};
use store::jobs::Piece;

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
    pub(super) gaps: Vec<(u64, u64, GapCause)>,
    pub(super) unflushed: bool,
    /// Octets that a file takes.
    limit: u64,
    /// Files before this one that are full and not handed to the disk yet.
    pub(super) full: Vec<Store>,
    /// Of a full one: the counts when it became full.
    pub(super) counts: Option<Counts>,
}

/// Lists this many gaps before they move to the sidecar, which has its own limit.
const MAX_FRESH_GAPS: usize = 256;

pub(super) struct Sink<'a> {
    pub(super) store: &'a mut Store,
    pub(super) pool: &'a mut BlockPool,
}

impl AudioSink for Sink<'_> {
    fn audio(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            let room = usize::try_from(self.store.room()).unwrap_or(usize::MAX);
            let (fits, rest) = octets.split_at(room.min(octets.len()));
            self.put_audio(fits);
            octets = rest;
        }
    }

    fn silence(&mut self, mut octets: u64, cause: GapCause) {
        while octets > 0 {
            let fits = self.store.room().min(octets);
            self.put_silence(fits, cause);
            octets -= fits;
        }
    }
}

impl Sink<'_> {
    fn put_audio(&mut self, mut octets: &[u8]) {
        self.store.octets += octets.len() as u64;
        self.store.unflushed = true;
        while !octets.is_empty() {
            let Some(block) = self.store.block(self.pool) else {
                self.store.push_silence(octets.len() as u64);
                return;
            };
            let taken = block.fill(octets);
            octets = &octets[taken..];
        }
    }

    fn put_silence(&mut self, octets: u64, cause: GapCause) {
        self.store.note_gap(octets, cause);
        self.store.octets += octets;
        self.store.unflushed = true;
        let silence = self.store.silence;
        match self.store.block(self.pool) {
            Some(block) if octets <= SHORT_SILENCE_OCTETS && octets <= block.room() as u64 => {
                block.fill_with(silence, octets);
            }
            _ => self.store.push_silence(octets),
        }
    }
}

impl Store {
    pub(super) fn new(silence: u8) -> Self {
        Self {
            pieces: Vec::new(),
            filling: None,
            silence,
            octets: 0,
            gaps: Vec::new(),
            unflushed: false,
            limit: u64::MAX,
            full: Vec::new(),
            counts: None,
        }
    }

    /// Files take `octets` from now on, not zero.
    pub(super) fn limit_files(&mut self, octets: u64) {
        self.limit = octets.max(1);
    }

    /// What the present file takes; goes on with the next one if it is full.
    fn room(&mut self) -> u64 {
        if self.octets >= self.limit {
            let next = Self { limit: self.limit, ..Self::new(self.silence) };
            let mut full = std::mem::replace(self, next);
            full.put_block_down();
            self.full = std::mem::take(&mut full.full);
            self.full.push(full);
        }
        self.limit - self.octets
    }

    /// Files that became full have these counts.
    pub(super) fn date_full(&mut self, counts: Counts) {
        for full in self.full.iter_mut().rev().take_while(|full| full.counts.is_none()) {
            full.counts = Some(counts);
        }
    }

    /// Octets in this file and in those before it that are not handed over.
    pub(super) fn all_octets(&self) -> u64 {
        self.octets + self.full.iter().map(|full| full.octets).sum::<u64>()
    }

    pub(super) fn release(&mut self, pool: &mut BlockPool) {
        self.put_block_down();
        for mut full in std::mem::take(&mut self.full) {
            full.release(pool);
        }
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
            Some(Piece::Silence(before)) => *before += octets,
            _ => self.pieces.push(Piece::Silence(octets)),
        }
    }

    pub(super) fn has_room(&self, pool: &BlockPool) -> bool {
        pool.has_room() || self.filling.as_ref().is_some_and(|block| block.room() >= PACKET_ROOM)
    }
}
