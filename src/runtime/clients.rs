//! The local socket and its clients: octets in, lines to the agent, octets out.

use crate::agent::{ClientId, Input};
use crate::api::event::Class;
use crate::api::line::{Line, LineBuffer};
use crate::api::outbox::{HIGH_WATER_OCTETS, Outbox, Verdict};
use crate::config::Control;
use media::time::Mono;
use mio::event::Event;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;
use std::time::Duration;

/// Clients at the same time; another one is turned away.
pub(super) const MAX_CLIENTS: usize = 32;

/// Clients that are let in however few descriptors the process may open.
const LEAST_CLIENTS: usize = 4;

/// Descriptors that are not for clients: the agent's own, those of playbacks, and files and folders in
/// passing.
const KEPT_DESCRIPTORS: u64 = 32;

/// Descriptors of a recording: its RTP port, its file and sidecar, and the sockets and look-ups for a server.
const OF_RECORDING: u64 = 6;

/// Lines taken from one client in a turn.
const LINES_PER_TURN: usize = 32;

/// Connections accepted in a turn.
const ACCEPTS_PER_TURN: usize = 16;

/// A connection that could not be taken is tried again after this.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Octets read from a client at a time.
const READ_OCTETS: usize = 4096;

/// Interval of looks at a client that does not read.
const STUCK_CHECK: Duration = Duration::from_secs(1);

/// Longest time that a client is kept that sends no more and still has something to read: the answer that
/// takes longest, of a server that neither takes the connection nor answers, has come by then.
const FINISHED_LIMIT: Duration = Duration::from_secs(180);

/// The state of a connection: the directions that still work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conn {
    Open,
    /// The client has sent all it will; it goes when everything is answered, or then at the latest.
    HalfClosed {
        until: Option<Mono>,
    },
    /// The client takes nothing any more; its requests are read to the end and carried out all the same.
    HungUp {
        read_to_end: bool,
    },
    /// The connection is dropped in this turn; `evicted`: since the client does not read.
    Over {
        evicted: bool,
    },
}

impl Conn {
    fn is_read(self) -> bool {
        matches!(self, Self::Open | Self::HungUp { read_to_end: false })
    }

    fn is_over(self) -> bool {
        matches!(self, Self::Over { .. })
    }

    fn read_to_end(&mut self) {
        match self {
            Self::Open => *self = Self::HalfClosed { until: None },
            Self::HungUp { read_to_end } => *read_to_end = true,
            Self::HalfClosed { .. } | Self::Over { .. } => {}
        }
    }

    fn hang_up(&mut self) {
        match self {
            Self::Open => *self = Self::HungUp { read_to_end: false },
            Self::HalfClosed { .. } => *self = Self::HungUp { read_to_end: true },
            Self::HungUp { .. } | Self::Over { .. } => {}
        }
    }

    fn end(&mut self) {
        if !self.is_over() {
            *self = Self::Over { evicted: false };
        }
    }

    fn evict(&mut self) {
        *self = Self::Over { evicted: true };
    }
}

struct Client {
    id: ClientId,
    stream: UnixStream,
    lines: LineBuffer,
    outbox: Outbox,
    /// There may be a complete line in `lines`.
    has_line: bool,
    /// Cached readiness: set by poll, cleared by `WouldBlock` alone.
    readable: bool,
    writable: bool,
    conn: Conn,
    /// Requests that were taken and are not answered yet.
    owed: u32,
}

/// The listening socket and all connections.
pub(super) struct Clients {
    listener: UnixListener,
    control: Control,
    /// Limit of clients at the same time.
    most: usize,
    /// Device and inode of the socket file.
    file: Option<(u64, u64)>,
    clients: BTreeMap<Token, Client>,
    acceptable: bool,
    /// A connection that waits could not be taken; and when that is tried again.
    unaccepted: bool,
    accept_again: Option<Mono>,
    stuck_check: Option<Mono>,
    /// Events dropped that the agent has not been told of.
    events_lost: u64,
}

/// Most clients at the same time of a process that may have `descriptors` open and is to make `recordings` at
/// once: without a descriptor that is left for files nothing can be recorded, nor the disk be looked at.
pub(super) fn most_clients(descriptors: u64, recordings: usize) -> usize {
    let recordings = u64::try_from(recordings).unwrap_or(u64::MAX);
    let left =
        descriptors.saturating_sub(KEPT_DESCRIPTORS).saturating_sub(recordings.saturating_mul(OF_RECORDING));
    usize::try_from(left).unwrap_or(usize::MAX).clamp(LEAST_CLIENTS, MAX_CLIENTS)
}

impl Clients {
    /// Creates the socket. A socket file left by a crash is replaced, one in use is not.
    pub(super) fn listen(
        control: &Control,
        most: usize,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let path = &control.socket;
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let text = "another agent is running there; stop it or choose another control.socket";
            return Err(io::Error::new(ErrorKind::AddrInUse, text));
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                std::fs::remove_file(path)?;
            }
            Ok(_) => {
                return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
            }
            Err(_) => {}
        }
        // The file has its mode from the first moment, but for a group that is not yet the one that was
        // meant.
        let of_group = if control.group.is_some() { 0o070 } else { 0 };
        let mode = libc::mode_t::try_from(control.mode & !of_group).unwrap_or(0o600);
        let before = umask(Mode::from_bits_truncate(!mode & 0o777));
        let listener = UnixListener::bind(path);
        umask(before);
        let mut listener = listener?;
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Self {
            listener,
            control: control.clone(),
            most,
            file: socket_file(path),
            clients: BTreeMap::new(),
            acceptable: true,
            unaccepted: false,
            accept_again: None,
            stuck_check: None,
            events_lost: 0,
        })
    }

    /// Gives the socket file to a group. After a failure no socket is left that the group can't use.
    pub(super) fn give_to(&self, group: u32) -> io::Result<()> {
        let path = &self.control.socket;
        let mode = Permissions::from_mode(self.control.mode);
        let given = lchown(path, None, Some(group)).and_then(|()| std::fs::set_permissions(path, mode));
        given.inspect_err(|_| self.unlink())
    }

    /// Removes the socket file, unless another agent has made one in its place.
    pub(super) fn unlink(&self) {
        let path = &self.control.socket;
        if self.file.is_some() && socket_file(path) == self.file {
            let _ = std::fs::remove_file(path);
        }
    }

    pub(super) fn set_acceptable(&mut self) {
        self.acceptable = true;
    }

    pub(super) fn set_ready(&mut self, token: Token, event: &Event) {
        if let Some(client) = self.clients.get_mut(&token) {
            client.readable |= event.is_readable();
            client.writable |= event.is_writable();
            if event.is_write_closed() || event.is_error() {
                client.conn.hang_up();
            }
        }
    }

    /// Whether something can be done without waiting.
    pub(super) fn has_work(&self) -> bool {
        self.acceptable || self.clients.values().any(Client::has_work)
    }

    /// The time to look at a stuck client, to drop one that has sent all it will, or to accept one that
    /// waits.
    pub(super) fn deadline(&self) -> Option<Mono> {
        let kept = self.clients.values().filter_map(|client| match client.conn {
            Conn::HalfClosed { until } => until,
            Conn::Open | Conn::HungUp { .. } | Conn::Over { .. } => None,
        });
        kept.chain(self.stuck_check).chain(self.accept_again).min()
    }

    /// Accepts waiting connections and tells the agent of them.
    pub(super) fn accept(
        &mut self,
        registry: &Registry,
        mut new_token: impl FnMut() -> Token,
        mut pass: impl FnMut(Input<'_>),
    ) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.acceptable {
                return;
            }
            match self.listener.accept() {
                Ok((stream, _)) => {
                    self.unaccepted = false;
                    if self.clients.len() < self.most && self.may_enter(&stream) {
                        let token = new_token();
                        let mut stream = stream;
                        let interest = Interest::READABLE | Interest::WRITABLE;
                        if registry.register(&mut stream, token, interest).is_ok() {
                            let id = ClientId(token.0 as u64);
                            self.clients.insert(token, Client::new(id, stream));
                            pass(Input::ClientOpened(id));
                        }
                    } else {
                        log::warn!("a client was turned away: too many, or not in control.allow_uids");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    (self.acceptable, self.unaccepted) = (false, false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // Out of descriptors, perhaps. Nothing tells of the one that waits any more.
                    if !std::mem::replace(&mut self.unaccepted, true) {
                        log::warn!("cannot accept a client: {error}");
                    }
                    self.acceptable = false;
                }
            }
        }
    }

    fn may_enter(&self, stream: &UnixStream) -> bool {
        if self.control.allow_uids.is_empty() {
            return true;
        }
        let Ok(peer) = getsockopt(stream, sockopt::PeerCredentials) else { return false };
        let own = nix::unistd::geteuid().as_raw();
        peer.uid() == 0 || peer.uid() == own || self.control.allow_uids.contains(&peer.uid())
    }

    /// Reads the clients' octets. Returns whether any of them has a line to take.
    pub(super) fn read(&mut self) -> bool {
        let mut lines = false;
        for client in self.clients.values_mut() {
            lines |= client.read();
        }
        lines
    }

    /// Passes on lines, a bounded number for each client. `pass` tells how many octets were answered: they
    /// are not in the client's queue yet, and count all the same.
    pub(super) fn take_lines(&mut self, mut pass: impl FnMut(Input<'_>) -> usize) {
        let tokens: Vec<Token> = self.clients.keys().copied().collect();
        for token in tokens {
            let mut answered = 0;
            for _ in 0..LINES_PER_TURN {
                let Some(client) = self.clients.get_mut(&token) else { break };
                if !client.outbox.wants_input() || client.outbox.queued() + answered > HIGH_WATER_OCTETS {
                    break;
                }
                let id = client.id;
                let mut lines = std::mem::take(&mut client.lines);
                let input = match lines.next_line() {
                    Some(Line::Text(text)) => Some(Input::ClientLine(id, text)),
                    Some(Line::TooLong) => Some(Input::ClientLineTooLong(id)),
                    None => None,
                };
                let more = input.is_some();
                if let Some(input) = input {
                    answered += pass(input);
                }
                if let Some(client) = self.clients.get_mut(&token) {
                    client.lines = lines;
                    client.has_line = more;
                }
                if !more {
                    break;
                }
            }
        }
    }

    /// Notes that a client will get a reply.
    pub(super) fn owe(&mut self, id: ClientId) {
        if let Some(client) = self.client(id) {
            client.owed += 1;
        }
    }

    /// Queues a reply.
    pub(super) fn reply(&mut self, id: ClientId, line: &[u8]) {
        if let Some(client) = self.client(id) {
            client.owed = client.owed.saturating_sub(1);
            let verdict = client.outbox.push_reply(line);
            client.note(verdict);
        }
    }

    /// Queues an event.
    pub(super) fn notify(&mut self, id: ClientId, name: &str, params: &[u8], class: Class) {
        if let Some(client) = self.client(id) {
            let verdict = client.outbox.push_event(name, params, class);
            client.note(verdict);
            self.events_lost += u64::from(verdict == Verdict::Dropped);
        }
    }

    /// Sends the waiting octets, and drops the connections that are over.
    pub(super) fn write(&mut self, registry: &Registry, now: Mono, mut pass: impl FnMut(Input<'_>)) {
        let mut stuck = false;
        let check = self.stuck_check.is_some_and(|due| due <= now);
        for client in self.clients.values_mut() {
            client.write();
            if client.outbox.queued() > 0 {
                stuck = true;
                if check {
                    let verdict = client.outbox.tick(now);
                    client.note(verdict);
                }
            }
            client.end_if_done(now);
        }
        if check || !stuck || self.stuck_check.is_none() {
            self.stuck_check = stuck.then_some(now + STUCK_CHECK);
        }
        self.accept_later(now);
        let (events, mut closed) = (std::mem::take(&mut self.events_lost), 0);
        self.clients.retain(|_, client| {
            let Conn::Over { evicted } = client.conn else { return true };
            closed += u64::from(evicted);
            let _ = registry.deregister(&mut client.stream);
            pass(Input::ClientClosed(client.id));
            false
        });
        if events + closed > 0 {
            pass(Input::ClientsDoNotRead { events, closed });
        }
    }

    /// Sees to it that a connection that could not be taken is tried again.
    fn accept_later(&mut self, now: Mono) {
        if self.accept_again.is_some_and(|due| due <= now) {
            self.accept_again = None;
            self.acceptable = true;
        } else if self.unaccepted && !self.acceptable {
            self.accept_again.get_or_insert(now + ACCEPT_AGAIN);
        }
    }

    fn client(&mut self, id: ClientId) -> Option<&mut Client> {
        let token = Token(usize::try_from(id.0).ok()?);
        self.clients.get_mut(&token)
    }
}

/// Device and inode of the file at `path`, which tell it from another one of that name.
fn socket_file(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

impl Client {
    fn new(id: ClientId, stream: UnixStream) -> Self {
        Self {
            id,
            stream,
            lines: LineBuffer::new(),
            outbox: Outbox::new(),
            has_line: false,
            readable: true,
            writable: true,
            conn: Conn::Open,
            owed: 0,
        }
    }

    fn has_work(&self) -> bool {
        let reads = (self.readable && self.conn.is_read() || self.has_line) && self.outbox.wants_input();
        reads || self.conn.is_over() || (self.writable && self.outbox.queued() > 0)
    }

    /// Takes note of the result of a push.
    fn note(&mut self, verdict: Verdict) {
        if verdict == Verdict::Close {
            self.conn.evict();
        }
    }

    /// Ends the connection of a client that sends no more, when it has been told all that it waits for, or
    /// can't be told.
    fn end_if_done(&mut self, now: Mono) {
        // Its requests from before it hung up are carried out all the same.
        if self.has_line {
            return;
        }
        let answered = self.owed == 0 && self.outbox.queued() == 0;
        let done = match &mut self.conn {
            Conn::HalfClosed { until } => answered || now >= *until.get_or_insert(now + FINISHED_LIMIT),
            Conn::HungUp { read_to_end } => *read_to_end,
            Conn::Open | Conn::Over { .. } => false,
        };
        if done {
            self.conn.end();
        }
    }

    /// Reads once. Returns whether there may be a line.
    fn read(&mut self) -> bool {
        if self.has_line || !self.outbox.wants_input() {
            return self.has_line;
        }
        let mut octets = [0; READ_OCTETS];
        while self.readable && self.conn.is_read() {
            match self.stream.read(&mut octets) {
                Ok(0) => self.conn.read_to_end(),
                Ok(count) => {
                    if self.lines.push(&octets[..count]).is_err() {
                        self.conn.evict();
                    }
                    self.has_line = true;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.conn.end(),
            }
        }
        self.has_line
    }

    fn write(&mut self) {
        while self.writable
            && matches!(self.conn, Conn::Open | Conn::HalfClosed { .. })
            && self.outbox.queued() > 0
        {
            match self.stream.write(self.outbox.peek()) {
                Ok(count) => self.outbox.consume(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.conn.hang_up(),
            }
        }
        // Nobody reads the answers, but earlier requests are still to be read and carried out.
        while matches!(self.conn, Conn::HungUp { .. }) && self.outbox.queued() > 0 {
            self.outbox.consume(self.outbox.queued());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_descriptors_for_files_and_calls() {
        assert_eq!(most_clients(1024, 4), MAX_CLIENTS);
        assert_eq!(most_clients(1024, 64), MAX_CLIENTS);
        assert_eq!(most_clients(64, 4), 8);
        assert_eq!(most_clients(20, 64), LEAST_CLIENTS);
        assert_eq!(most_clients(1 << 20, usize::MAX), LEAST_CLIENTS);
    }
}
