//! `recordserver --drain`: tells a running server to take no new calls and to end with the last one.
//!
//! The server is the process that listens at its Unix socket, and it gets a signal: the status interface
//! takes no commands, and the system decides who may signal whom. Never: signals a process that does not know
//! how to drain.

use crate::advice::unanswered;
use crate::http::{self, Place};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Pid;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// The signal that starts a drain.
pub const SIGNAL: Signal = Signal::SIGUSR1;

/// The metric that only a server has which can drain.
const METRIC: &str = "recordserver_draining";

/// The metric of recordings that go on.
const SESSIONS: &str = "recordserver_sessions";

/// Looks at the server until it says that it drains.
const LOOKS: u32 = 100;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Number of recordings that go on; the server ends with the last one.
    GoesOn(u64),
    /// The server has ended: there was no recording.
    Ended,
}

/// Tells the server that listens at `socket`, and waits until it has heard.
///
/// # Errors
/// There is no such server, it can't drain, or we may not signal it. A text for the administrator.
pub fn drain(socket: &Path) -> Result<Drained, String> {
    let place = Place::Socket(socket.to_owned());
    let told = |error| unanswered(&[(&place, error)]);
    let server = listener(socket).map_err(told)?;
    let metrics = http::page(&place, "/metrics").map_err(told)?;
    if value(&metrics, METRIC).is_none() {
        let at = socket.display();
        return Err(format!("the server at {at} is of a version that can't drain; SIGTERM ends it at once"));
    }
    let tell = |what: &str| format!("cannot tell the server at {}: {what}", socket.display());
    if server <= 0 {
        return Err(tell("it is in a container that can't be seen from here; send SIGUSR1 to it there"));
    }
    kill(Pid::from_raw(server), SIGNAL).map_err(|errno| match errno {
        Errno::EPERM => tell("not permitted; do it as root or as the server's user"),
        errno => tell(errno.desc()),
    })?;
    for _ in 0..LOOKS {
        if has_ended(socket, server) {
            return Ok(Drained::Ended);
        }
        let metrics = http::page(&place, "/metrics").unwrap_or_default();
        if value(&metrics, METRIC) == Some(1) {
            return Ok(Drained::GoesOn(value(&metrics, SESSIONS).unwrap_or_default()));
        }
        // A command of its own waits here, not the server.
        #[allow(clippy::disallowed_methods)]
        thread::sleep(LOOK_INTERVAL);
    }
    Err(tell("it was told, and does not say that it drains; look into its log"))
}

/// The process that listens there.
fn listener(socket: &Path) -> io::Result<i32> {
    let stream = UnixStream::connect(socket)?;
    Ok(getsockopt(&stream, sockopt::PeerCredentials)?.pid())
}

/// Whether the process `server` listens there no more: nobody does, or the next one that a service manager
/// has started.
fn has_ended(socket: &Path, server: i32) -> bool {
    match listener(socket) {
        Ok(now) => now != server,
        Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused),
    }
}

fn value(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# TYPE recordserver_sessions gauge\nrecordserver_sessions_started_total 7\nrecordserver_sessions 3\n";
        assert_eq!(value(text, SESSIONS), Some(3));
        assert_eq!(value(text, METRIC), None);
    }

    #[test]
    fn nobody_is_signalled_where_no_server_is_or_one_that_does_not_answer_as_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(drain(&path).unwrap_err().contains("is recordserver running?"));
        // This very process listens: a signal would end it.
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let other = thread::spawn(move || {
            use std::io::{Read, Write};
            let _first = listener.accept().unwrap();
            let (mut asks, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = asks.read(&mut request).unwrap();
            asks.write_all(b"HTTP/1.1 200 OK\r\n\r\nrecordserver_sessions 1\n").unwrap();
        });
        assert!(drain(&path).unwrap_err().contains("can't drain"));
        other.join().unwrap();
    }
}
