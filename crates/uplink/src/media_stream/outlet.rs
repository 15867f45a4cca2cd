//! The phone's end of a media stream: the items that the server has not got on its disk.
//!
//! Owns: their frames, in blocks of the pool that all recordings share, and how far they were sent.
//! Invariants: an item is kept until the one behind it is acknowledged, so that a server that begins anew can
//! hear how the two belong together; an item for which the pool has no room is not numbered and was not there
//! for the server.

use super::frame::{FrameError, LENGTH_OCTETS, MAX_FRAME_OCTETS, TIMED_OCTETS, Timed, begins_item, timed};
use media::blocks::{BLOCK_OCTETS, Block, BlockPool};
use std::collections::VecDeque;

/// The items of one recording.
#[derive(Debug, Default)]
pub struct Outlet {
    blocks: VecDeque<Block>,
    /// Octets of the first block that are of no item any more.
    gone: usize,
    /// Octets of the items that are kept.
    octets: usize,
    /// Octets of them that were sent on the present connection.
    sent: usize,
    /// The number of the first item that is kept, and of the next one to come.
    first: u64,
    next: u64,
    /// The first item that is not on the server's disk.
    due: u64,
}

impl Outlet {
    /// Keeps a packet that arrived at `at_ms`. False if there is no room for it.
    pub fn packet(&mut self, rtp: &[u8], at_ms: u32, pool: &mut BlockPool) -> bool {
        let Some(length) = u16::try_from(rtp.len()).ok().filter(|_| rtp.len() <= MAX_FRAME_OCTETS) else {
            return false;
        };
        self.item(&[&timed(Timed::Clock, at_ms), &length.to_be_bytes(), rtp], pool)
    }

    /// A pause begins. False if there is no room for it.
    pub fn pause(&mut self, at_ms: u32, pool: &mut BlockPool) -> bool {
        self.item(&[&timed(Timed::Pause, at_ms)], pool)
    }

    /// A pause ends. False if there is no room for it.
    pub fn resume(&mut self, at_ms: u32, pool: &mut BlockPool) -> bool {
        self.item(&[&timed(Timed::Resume, at_ms)], pool)
    }

    fn item(&mut self, parts: &[&[u8]], pool: &mut BlockPool) -> bool {
        let octets: usize = parts.iter().map(|part| part.len()).sum();
        let mut room = self.blocks.back().map_or(0, Block::room);
        while room < octets {
            let Some(block) = pool.take() else { return false };
            room += block.room();
            self.blocks.push_back(block);
        }
        // Blocks are filled in order: all but the last two are full.
        for part in parts {
            let mut rest = *part;
            for block in self.blocks.iter_mut().rev().take(2).rev() {
                let taken = block.fill(rest);
                rest = rest.get(taken..).unwrap_or_default();
            }
        }
        self.octets += octets;
        self.next += 1;
        true
    }

    /// The octets that were not sent yet, at most `most`, from a frame's begin or from within one.
    #[must_use]
    pub fn unsent(&self, most: usize) -> Vec<u8> {
        let most = most.min(self.octets - self.sent);
        let mut out = Vec::with_capacity(most);
        let mut skip = self.gone + self.sent;
        for block in &self.blocks {
            let octets = block.octets();
            let from = octets.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(octets.len());
            let wanted = most - out.len();
            out.extend_from_slice(from.get(..wanted).unwrap_or(from));
            if out.len() == most {
                break;
            }
        }
        out
    }

    /// `octets` of those that [`Self::unsent`] gave are on their way.
    pub fn note_sent(&mut self, octets: usize) {
        self.sent = self.octets.min(self.sent + octets);
    }

    /// All items before `next` are on the server's disk.
    ///
    /// # Errors
    /// The number is of an item that was not sent, or that was acknowledged before.
    pub fn acknowledge(&mut self, next: u64, pool: &mut BlockPool) -> Result<(), FrameError> {
        if next < self.due || next > self.next {
            return Err(FrameError::Number { due: self.due, came: next });
        }
        self.due = next;
        while self.first + 1 < next {
            let octets = self.item_octets(0);
            self.drop_front(octets, pool);
            self.first += 1;
        }
        Ok(())
    }

    /// A connection begins, on which the first item is `next`.
    ///
    /// # Errors
    /// The item is not kept any more, or not there yet.
    pub fn rewind(&mut self, next: u64) -> Result<(), FrameError> {
        if next < self.first || next > self.next {
            return Err(FrameError::Number { due: self.first, came: next });
        }
        self.sent = 0;
        for _ in self.first..next {
            self.sent += self.item_octets(self.sent);
        }
        Ok(())
    }

    /// No connection carries the items now: nothing of them is on its way.
    pub fn is_cut(&mut self) {
        self.sent = 0;
    }

    /// Gives all blocks back.
    pub fn clear(&mut self, pool: &mut BlockPool) {
        self.blocks.drain(..).for_each(|block| pool.give_back(block));
        (self.gone, self.octets, self.sent) = (0, 0, 0);
        (self.first, self.due) = (self.next, self.next);
    }

    /// Hands out the items from `due` on, and keeps none: the time of the arrival of each and its packet;
    /// `None` for the begin or the end of a pause. Their memory is free again by then, so `take` may use the
    /// pool.
    pub fn replay(&mut self, pool: &mut BlockPool, mut take: impl FnMut(u32, Option<&[u8]>, &mut BlockPool)) {
        let mut packet = Vec::with_capacity(MAX_FRAME_OCTETS);
        for number in self.first..self.next {
            let octets = self.item_octets(0);
            let at_ms = u32::from_be_bytes([3, 4, 5, 6].map(|at| self.octet(at)));
            packet.clear();
            packet.extend((TIMED_OCTETS + LENGTH_OCTETS..octets).map(|at| self.octet(at)));
            let is_packet = octets > TIMED_OCTETS;
            self.drop_front(octets, pool);
            if number >= self.due {
                take(at_ms, is_packet.then_some(packet.as_slice()), pool);
            }
        }
        self.clear(pool);
    }

    /// Octets of the item whose frames begin `at` octets behind the first one.
    fn item_octets(&self, at: usize) -> usize {
        let first = LENGTH_OCTETS + self.length(at);
        match begins_item(self.octet(at + LENGTH_OCTETS)) {
            Some(true) => first + LENGTH_OCTETS + self.length(at + first),
            _ => first,
        }
    }

    fn length(&self, at: usize) -> usize {
        usize::from(u16::from_be_bytes([self.octet(at), self.octet(at + 1)]))
    }

    /// All blocks but the last are full.
    fn octet(&self, at: usize) -> u8 {
        let at = self.gone + at;
        let block = self.blocks.get(at / BLOCK_OCTETS);
        block.and_then(|block| block.octets().get(at % BLOCK_OCTETS)).copied().unwrap_or_default()
    }

    fn drop_front(&mut self, octets: usize, pool: &mut BlockPool) {
        self.gone += octets;
        self.octets -= octets;
        self.sent = self.sent.saturating_sub(octets);
        while self.gone >= BLOCK_OCTETS {
            self.gone -= BLOCK_OCTETS;
            self.blocks.pop_front().into_iter().for_each(|block| pool.give_back(block));
        }
    }

    /// The first item that can be sent.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The first item that is not on the server's disk.
    #[must_use]
    pub fn due(&self) -> u64 {
        self.due
    }

    /// How many items there were in all.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.next
    }

    /// Octets that wait: not on the server's disk, as far as is known.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// Octets under way on the present connection.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.sent
    }

    /// Whether the server has all on its disk.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.due == self.next
    }
}
