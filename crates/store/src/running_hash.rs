//! The SHA-256 of a file, computed while the file is written.
//!
//! Owns: the state of the hash, how many octets it covers, and an earlier state to go on from when a full
//! disk did not keep hashed octets. Invariant: no hash is given of anything but the octets asked for.

use super::fs::Fs;
use recfile::seal::origin::hex;
use sha2::{Digest, Sha256};
use std::io;

/// Octets read at a time.
const READ_OCTETS: usize = 16 * 1024;

/// The hash of a file's beginning.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningHash {
    state: Sha256,
    octets: u64,
    /// Whether it covers octets that are not in the file.
    off: bool,
    marked: Sha256,
    marked_octets: u64,
}

impl RunningHash {
    /// Adds the octets to be written next.
    pub(super) fn take(&mut self, octets: &[u8]) {
        self.state.update(octets);
    }

    /// Adds `count` times `octet`.
    pub(super) fn take_repeated(&mut self, octet: u8, count: usize) {
        let some = [octet; 256];
        let mut left = count;
        while left > 0 {
            let now = left.min(some.len());
            self.state.update(&some[..now]);
            left -= now;
        }
    }

    /// The added octets are in the file, which has `octets` of audio.
    pub(super) fn covers(&mut self, octets: u64) {
        self.octets = octets;
    }

    /// Some of the added octets are not in the file, or not any more.
    pub(super) fn is_off(&mut self) {
        self.off = true;
    }

    /// Notes the present state: `octets` of the file stay.
    pub(super) fn mark(&mut self, octets: u64) {
        if self.is_of(octets) {
            self.marked.clone_from(&self.state);
            self.marked_octets = octets;
        }
    }

    /// Whether it is the hash of `octets`, neither more nor less.
    pub(super) fn is_of(&self, octets: u64) -> bool {
        !self.off && self.octets == octets
    }

    /// Goes on from the mark, or from the start, by reading the file.
    ///
    /// # Errors
    /// As the system says, and `UnexpectedEof`.
    pub(super) fn read_again<F: Fs>(
        &mut self,
        fs: &F,
        file: &F::File,
        begins: u64,
        octets: u64,
    ) -> io::Result<()> {
        self.off = true;
        let (mut state, mut at) = if self.marked_octets <= octets {
            (self.marked.clone(), self.marked_octets)
        } else {
            (Sha256::new(), 0)
        };
        let mut buffer = vec![0; READ_OCTETS];
        while at < octets {
            let count = usize::try_from(octets - at).unwrap_or(usize::MAX).min(READ_OCTETS);
            let got = fs.read_at(file, &mut buffer[..count], begins + at)?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            state.update(&buffer[..got]);
            at += got as u64;
        }
        (self.state, self.octets, self.off) = (state, octets, false);
        Ok(())
    }

    /// The hash, if it covers exactly `octets`.
    pub(super) fn hex_of(&self, octets: u64) -> Option<String> {
        self.is_of(octets).then(|| hex(&self.state.clone().finalize()))
    }
}

/// The SHA-256 of `octets` of a file from `begins` on.
///
/// # Errors
/// As the system says, and `UnexpectedEof`.
pub(super) fn hash_of<F: Fs>(fs: &F, file: &F::File, begins: u64, octets: u64) -> io::Result<Option<String>> {
    let mut hash = RunningHash::default();
    hash.read_again(fs, file, begins, octets)?;
    Ok(hash.hex_of(octets))
}
