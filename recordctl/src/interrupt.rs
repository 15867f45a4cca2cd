//! Ctrl-C as something to look at, for commands that leave work in the agent which must be ended with them.

use super::failure::Failure;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// From its making on, SIGINT, SIGTERM and SIGHUP no longer end this thread's process but are told here.
///
/// Threads and child processes that are started afterwards inherit that.
#[derive(Debug)]
pub(super) struct Interrupt(SignalFd);

impl Interrupt {
    pub(super) fn new() -> Result<Self, Failure> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&signals, flags).map_err(failed)?))
    }

    /// Whether we were told to end since this was asked last.
    pub(super) fn came(&self) -> Result<bool, Failure> {
        Ok(self.0.read_signal().map_err(failed)?.is_some())
    }
}

fn failed(error: nix::Error) -> Failure {
    Failure::Local(format!("cannot watch for Ctrl-C: {error}"))
}
