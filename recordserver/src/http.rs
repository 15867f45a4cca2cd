//! The status interface: HTTP on a loopback port and on a Unix socket, with `/metrics`, `/sessions`,
//! `/health`.
//!
//! Owns: the rules of access, and the client in `recordserver sessions`. The parties of calls are personal
//! data and not told here. Never: the session table; the loop answers an [`Ask`], a piece at a time.
//!
//! Everybody who reaches the port may send anything, and a panic ends the process with every recording
//! (`panic = "abort"`). So the code that strangers reach, `request` and [`serve`], has no operation that can
//! panic (the lints below refuse to compile one) and nothing that grows: eight connections on each side, four
//! KiB of request, two seconds. ARCHITECTURE.md has the whole argument.

#[deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::integer_division,
    clippy::panic,
    clippy::string_slice,
    clippy::todo,
    clippy::unreachable,
    clippy::unwrap_used
)]
#[cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::string_slice
    )
)]
mod request;
#[deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::integer_division,
    clippy::panic,
    clippy::string_slice,
    clippy::todo,
    clippy::unreachable,
    clippy::unwrap_used
)]
mod serve;
#[cfg(test)]
mod tests;

pub use serve::MAX_CLIENTS;

use crate::metrics::Metrics;
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Longest answer that `recordserver sessions` reads.
const MAX_ANSWER_OCTETS: u64 = 64 << 20;

/// The time that `recordserver sessions` and `recordserver --drain` wait for an answer of the server.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Descriptors that the status interface may have open: its clients, one more on each side while it takes the
/// place of another, two listeners, and two for `poll`.
pub const MAX_DESCRIPTORS: usize = 2 * (MAX_CLIENTS + 1) + 4;

/// One recording that is going on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The `id` on the wire.
    pub id: String,
    /// The recording's id at the server, as in its sidecars.
    #[serde(default)]
    pub recording: String,
    /// The device name that the phone gave.
    pub device: String,
    /// The phone's address.
    pub peer: SocketAddr,
    /// Encoding name.
    pub codec: String,
    /// Port that its audio comes to.
    pub rtp_port: u16,
    /// The way of its audio: `udp` or `tcp`.
    #[serde(default)]
    pub transport: String,
    /// Whether its phone is gone, and may come back.
    #[serde(default)]
    pub waits: bool,
    /// The start, RFC 3339.
    pub start: String,
    /// The time since then.
    pub elapsed_ms: u64,
    /// RTP datagrams that arrived.
    pub packets: u64,
    /// RTP packets that never arrived.
    pub lost: u64,
    /// Packets of others than its sender.
    #[serde(default)]
    pub strangers: u64,
    /// Whether there were any.
    #[serde(default)]
    pub contested: bool,
    /// The file it goes to, below the storage folder.
    pub file: String,
}

/// A piece of the list of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// At most as many as were asked for.
    pub sessions: Vec<SessionStatus>,
    /// The start of the next piece, if there may be more; then this one is not empty.
    pub next: Option<usize>,
}

/// Gets present sessions from the loop: the number of the first one, counted from 0, and how many at most.
/// `None` if it does not answer.
pub type Ask = Box<dyn Fn(usize, usize) -> Option<Rows> + Send>;

/// The Unix socket in the file system, which goes with this.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    listener: Option<std::os::unix::net::UnixListener>,
}

impl SocketFile {
    /// Listens at `path`, in place of a socket that a crash left there. The folder has to be ours alone by
    /// then.
    ///
    /// # Errors
    /// The path is too long or taken by something else, or the file system has no sockets.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt;
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else"));
            }
            Ok(_) => std::fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // From its first moment on, nobody but us.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = std::os::unix::net::UnixListener::bind(path);
        umask(before);
        let listener = bound?;
        let file = Self { path: path.to_owned(), listener: Some(listener) };
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        Ok(file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A left-over is replaced by the next server.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Takes the port.
///
/// # Errors
/// The address can't be listened on.
pub fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    serve::listen(addr)
}

/// Serves on one or both listeners until the process ends.
///
/// # Errors
/// The system refuses a thread, or the descriptors of `poll`.
pub fn serve(
    tcp: Option<std::net::TcpListener>,
    unix: Option<&mut SocketFile>,
    metrics: Arc<Metrics>,
    ask: Ask,
) -> io::Result<()> {
    let server = serve::Server::new(tcp, unix.and_then(|file| file.listener.take()), metrics, ask)?;
    thread::Builder::new().name("status".into()).spawn(move || server.run()).map(drop)
}

/// An address at which a running server can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its `status_socket`.
    Socket(PathBuf),
    /// Its `--http`.
    Http(SocketAddr),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Http(addr) => write!(f, "http://{addr}/sessions"),
        }
    }
}

/// Asks the server there for its sessions.
///
/// # Errors
/// There is no such server, or it answers something else.
pub fn query(place: &Place) -> io::Result<Vec<SessionStatus>> {
    serde_json::from_str(&page(place, "/sessions")?).map_err(|error| unexpected(&error.to_string()))
}

/// Whether the server there says that it drains; one of a version that never does says no.
#[must_use]
pub fn is_draining(place: &Place) -> bool {
    page(place, "/health").is_ok_and(|health| health.trim() == "draining")
}

/// Asks the server there for a page.
///
/// # Errors
/// There is no such server, or it answers something else.
pub(crate) fn page(place: &Place, page: &str) -> io::Result<String> {
    match place {
        Place::Http(addr) => {
            let stream = TcpStream::connect_timeout(addr, ANSWER_WITHIN)?;
            stream.set_read_timeout(Some(ANSWER_WITHIN))?;
            stream.set_write_timeout(Some(ANSWER_WITHIN))?;
            asked(stream, &addr.to_string(), page)
        }
        Place::Socket(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(ANSWER_WITHIN))?;
            stream.set_write_timeout(Some(ANSWER_WITHIN))?;
            asked(stream, "localhost", page)
        }
    }
}

fn asked(mut stream: impl Read + Write, host: &str, page: &str) -> io::Result<String> {
    // In one piece: a server that answers after the first one and closes would cut off the rest, and the
    // answer with it.
    let request = format!("GET {page} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(MAX_ANSWER_OCTETS).read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| unexpected("no HTTP answer"))?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(unexpected(status));
    }
    Ok(body.to_owned())
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer: {what:?}"))
}

/// The sessions as a table for people.
#[must_use]
pub fn table(sessions: &[SessionStatus], draining: bool) -> String {
    let state = if draining { ", draining: no new ones are taken" } else { "" };
    let mut text = format!("{} recording(s){state}\n", sessions.len());
    for session in sessions {
        // Writing to a String has no way to fail.
        let _ = writeln!(
            text,
            "{}  {}  {}  port {}  {} s  {} packets, {} lost  {}  {}",
            session.device.escape_default(),
            session.peer,
            session.codec.escape_default(),
            session.rtp_port,
            session.elapsed_ms / 1000,
            session.packets,
            session.lost,
            session.file.escape_default(),
            session.id.escape_default(),
        );
    }
    text
}
