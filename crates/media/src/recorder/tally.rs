//! The audio of a stream whose packets are relayed: counted and metered, and not kept.
//!
//! Owns: how long it is, and its newest second.

use crate::codec::Codec;
use crate::level::{Level, level};

/// Octets of audio that the level is taken from: the last second.
const LEVEL_OCTETS: usize = 8000;

/// Only every fourth octet counts for the level.
const LEVEL_STRIDE: usize = 4;

/// The length and level of the audio that went by.
#[derive(Debug)]
pub(super) struct Tally {
    codec: Codec,
    octets: u64,
    newest: Vec<u8>,
    at: usize,
}

impl Tally {
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, octets: 0, newest: Vec::with_capacity(LEVEL_OCTETS), at: 0 }
    }

    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    pub(super) fn level(&self) -> Option<Level> {
        level(self.codec, &self.newest, LEVEL_STRIDE)
    }

    pub(super) fn switch_codec(&mut self, codec: Codec) {
        self.codec = codec;
        self.newest.clear();
        self.at = 0;
    }

    pub(super) fn audio(&mut self, octets: &[u8]) {
        self.octets += octets.len() as u64;
        let mut rest = &octets[octets.len().saturating_sub(LEVEL_OCTETS)..];
        while !rest.is_empty() {
            let room = rest.len().min(LEVEL_OCTETS - self.at);
            let (now, later) = rest.split_at(room);
            let end = self.at + room;
            if self.newest.len() < end {
                self.newest.resize(end, 0);
            }
            self.newest[self.at..end].copy_from_slice(now);
            self.at = end % LEVEL_OCTETS;
            rest = later;
        }
    }

    pub(super) fn silence(&mut self, octets: u64) {
        self.octets += octets;
    }
}
