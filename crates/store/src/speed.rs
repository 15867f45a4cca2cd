//! The real speed of a disk, measured before a call depends on it.
//!
//! Owns: the trial on a hidden file, which is gone afterwards. Never: runs beside a recording; the writer
//! sees to that. A trial ends early at the first sync that is too slow by itself.

use super::fs::{Fs, append_all};
use super::sidecar_file::create_anew;
use crate::jobs::Speed;
use media::time::Mono;
use std::io::{self, IoSlice};
use std::path::Path;
use std::time::Duration;

/// Name of the hidden file.
const NAME: &str = ".recordd-speed.tmp";

/// Writes, each followed by a sync.
const ROUNDS: usize = 4;

/// Octets of one write.
const ROUND_OCTETS: usize = 64 * 1024;

/// After a sync of this length the verdict is clear.
const ENOUGH: Duration = Duration::from_secs(1);

/// Writes and syncs [`ROUNDS`] times [`ROUND_OCTETS`] in the folder.
pub(super) fn measure<F: Fs>(fs: &F, folder: &Path, clock: fn() -> Mono) -> io::Result<Speed> {
    let path = folder.join(NAME);
    let mut file = create_anew(fs, &path)?;
    let result = rounds(fs, &mut file, clock);
    drop(file);
    let removed = fs.remove(&path);
    result.and_then(|speed| removed.map(|()| speed))
}

fn rounds<F: Fs>(fs: &F, file: &mut F::File, clock: fn() -> Mono) -> io::Result<Speed> {
    let octets = vec![0xA5; ROUND_OCTETS];
    let mut speed = Speed::default();
    let begin = clock();
    for _ in 0..ROUNDS {
        append_all(fs, file, &mut [IoSlice::new(&octets)], &mut speed.octets)?;
        let before = clock();
        fs.sync_data(file)?;
        let after = clock();
        speed.longest_sync = speed.longest_sync.max(after.since(before));
        speed.took = after.since(begin);
        if speed.took > ENOUGH {
            break;
        }
    }
    Ok(speed)
}
