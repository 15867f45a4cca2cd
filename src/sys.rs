//! Thin safe wrappers for the system calls that no crate of ours offers in the form we need.
//!
//! All `unsafe` of the project is here, each use with its reason.

use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Takes an exclusive advisory lock without waiting; false if another open file has it. Released when
/// the file is closed.
///
/// # Errors
/// As the system says; filesystems without locks report one.
#[expect(unsafe_code, reason = "flock has no wrapper that works on a borrowed file")]
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: plain system call on a descriptor that outlives it.
    let result = Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) });
    match result {
        Ok(_) => Ok(true),
        Err(Errno::EWOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes everything that waits for the filesystem of `file` to its disk.
///
/// # Errors
/// As the system says. Only the first error counts: on a dead disk a second call returns success.
#[expect(unsafe_code, reason = "syncfs has no wrapper")]
pub fn sync_fs(file: &File) -> io::Result<()> {
    // SAFETY: plain system call on a descriptor that outlives it.
    Errno::result(unsafe { libc::syncfs(file.as_raw_fd()) })?;
    Ok(())
}
