//! The process as a whole: its heap, its descriptors, its terminal.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Lets all threads share one heap: they hardly ever allocate at the same time, and a heap for each takes
/// memory.
#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "mallopt has no wrapper"))]
pub fn share_heap() {
    // SAFETY: it only changes where later allocations come from.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Descriptors of a process, if the system does not tell.
const USUAL_FILE_LIMIT: u64 = 1024;

/// Descriptors that the process may open, as many as it can get.
#[must_use]
#[allow(clippy::useless_conversion, reason = "limits have 32 bits on 32-bit systems")]
pub fn file_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return USUAL_FILE_LIMIT };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return hard.into();
    }
    soft.into()
}

/// The columns of the terminal at `terminal`; none if it is no terminal or does not tell.
#[must_use]
#[expect(unsafe_code, reason = "TIOCGWINSZ has no wrapper among the features that we use")]
pub fn terminal_columns(terminal: BorrowedFd<'_>) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes a `winsize` there, which outlives the call, or nothing.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then(|| usize::from(size.ws_col))
}
