//! Pooled memory for audio on its way to the disk.
//!
//! Owns: the RAM that bridges a stalled disk, in blocks of fixed size, all recordings together. Invariant:
//! never more blocks than the limit exist; few stay allocated when nothing is buffered.

/// Octets of one block: two seconds of a call.
pub const BLOCK_OCTETS: usize = 16 * 1024;

/// Free blocks kept for the next call when the pool is trimmed.
const KEPT_BLOCKS: usize = 4;

/// A buffer of [`BLOCK_OCTETS`] that is filled from front to back.
#[derive(Debug)]
pub struct Block(Vec<u8>);

impl Block {
    /// `None` if the system has no memory for it.
    fn new() -> Option<Self> {
        let mut octets = Vec::new();
        octets.try_reserve_exact(BLOCK_OCTETS).ok()?;
        Some(Self(octets))
    }

    /// Appends as much of `octets` as there is room for, and says how much that was.
    pub fn fill(&mut self, octets: &[u8]) -> usize {
        let count = octets.len().min(self.room());
        self.0.extend_from_slice(&octets[..count]);
        count
    }

    /// Appends `octet` as often as there is room, at most `count` times, and says how often that was.
    pub fn fill_with(&mut self, octet: u8, count: u64) -> usize {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.room());
        self.0.resize(self.0.len() + count, octet);
        count
    }

    /// Takes the first octets away, at most all.
    pub fn drop_front(&mut self, octets: usize) {
        self.0.drain(..octets.min(self.0.len()));
    }

    /// Octets that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        BLOCK_OCTETS - self.0.len()
    }

    /// The octets in use.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// Consecutive audio of a recording.
#[derive(Debug)]
pub enum Piece {
    /// Audio in a block of the pool, which it goes back to.
    Audio(Block),
    /// Octets of silence.
    Silence(u64),
}

impl Piece {
    /// Its length in octets.
    #[must_use]
    pub fn octets(&self) -> u64 {
        match self {
            Self::Audio(block) => block.octets().len() as u64,
            Self::Silence(octets) => *octets,
        }
    }
}

/// The blocks of all recordings.
#[derive(Debug)]
pub struct BlockPool {
    free: Vec<Block>,
    in_use: usize,
    limit: usize,
    high_water: usize,
}

impl BlockPool {
    /// A pool of at most `limit_octets`, rounded down to whole blocks, at least one.
    #[must_use]
    pub fn new(limit_octets: u64) -> Self {
        let limit = usize::try_from(limit_octets).unwrap_or(usize::MAX) / BLOCK_OCTETS;
        Self { free: Vec::with_capacity(2 * KEPT_BLOCKS), in_use: 0, limit: limit.max(1), high_water: 0 }
    }

    /// An empty block, or `None` if the limit is reached or the system has no memory.
    pub fn take(&mut self) -> Option<Block> {
        if self.in_use == self.limit {
            return None;
        }
        let block = self.free.pop().or_else(Block::new)?;
        self.in_use += 1;
        self.high_water = self.high_water.max(self.in_use);
        Some(block)
    }

    /// Takes a block back.
    pub fn give_back(&mut self, mut block: Block) {
        block.0.clear();
        self.in_use = self.in_use.saturating_sub(1);
        self.free.push(block);
    }

    /// Takes the blocks of `pieces` back.
    pub fn give_back_all(&mut self, pieces: impl IntoIterator<Item = Piece>) {
        for piece in pieces {
            if let Piece::Audio(block) = piece {
                self.give_back(block);
            }
        }
    }

    /// Whether another block can be had.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.in_use < self.limit
    }

    /// Whether more than half of the blocks are in use.
    #[must_use]
    pub fn is_half_used(&self) -> bool {
        self.in_use > self.limit / 2
    }

    /// Returns half of the spare free blocks to the system; called about once a second, so memory
    /// follows the load down without being allocated anew for every burst.
    pub fn trim(&mut self) {
        let spare = self.free.len().saturating_sub(KEPT_BLOCKS);
        self.free.truncate(self.free.len() - spare.div_ceil(2));
    }

    /// Octets in blocks that are in use.
    #[must_use]
    pub fn used_octets(&self) -> u64 {
        (self.in_use * BLOCK_OCTETS) as u64
    }

    /// The most octets that were ever in use at once.
    #[must_use]
    pub fn high_water_octets(&self) -> u64 {
        (self.high_water * BLOCK_OCTETS) as u64
    }

    /// Octets that the pool may use.
    #[must_use]
    pub fn limit_octets(&self) -> u64 {
        (self.limit * BLOCK_OCTETS) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_never_exceeds_its_limit_and_reuses_what_comes_back() {
        let mut pool = BlockPool::new(40_000);
        let mut first = pool.take().unwrap();
        assert!(!pool.is_half_used());
        let second = pool.take().unwrap();
        assert!(pool.is_half_used() && pool.take().is_none());
        assert_eq!(first.fill(&[1; BLOCK_OCTETS + 5]), BLOCK_OCTETS);
        pool.give_back(first);
        assert!(pool.take().unwrap().octets().is_empty());
        pool.give_back(second);
        assert_eq!(pool.high_water_octets(), 2 * BLOCK_OCTETS as u64);
    }

    #[test]
    fn trimming_leaves_a_few_blocks() {
        let mut pool = BlockPool::new(1 << 20);
        let blocks: Vec<Block> = std::iter::from_fn(|| pool.take()).collect();
        blocks.into_iter().for_each(|block| pool.give_back(block));
        (0..10).for_each(|_| pool.trim());
        assert_eq!(pool.free.len(), KEPT_BLOCKS);
        assert_eq!(pool.used_octets(), 0);
    }
}
