//! A file in memory that can be put right. Included with `#[path]` wherever [`Patch`] is at hand.

use super::Patch;
use std::io;

#[derive(Clone, Default)]
pub(super) struct Memory(pub(super) Vec<u8>);

impl Patch for Memory {
    fn write_at(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.0.resize(self.0.len().max(start + octets.len()), 0);
        self.0[start..start + octets.len()].copy_from_slice(octets);
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}
