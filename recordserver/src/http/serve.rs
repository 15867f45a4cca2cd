//! The thread that answers: a few connections at a time, each with little time and little memory.
//!
//! Owns: the listening sockets of the status interface and their clients. Each side, TCP and Unix, has
//! [`MAX_CLIENTS`] places; a client that comes when they are taken gets the place of the one that has waited
//! longest without having asked. One request for each connection, one answer, then its end. It meets
//! strangers in the process that records: nothing here may panic, and the lints say so.

use super::request::{self, MAX_REQUEST_OCTETS, Page, Refused};
use super::{Ask, Rows};
use crate::metrics::{CONTENT_TYPE, Metrics};
use media::time::Mono;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token};
use os::clock;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Connections at the same time, by TCP and by the Unix socket each.
pub const MAX_CLIENTS: usize = 8;

/// For the request to come, and again for the answer to be taken.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// After the answer, until the client has closed, too: a reset would take the answer along. It makes room for
/// anybody else.
const LINGER: Duration = Duration::from_secs(10);

/// Octets behind a request that are read and thrown away; further ones are not read.
const MAX_IGNORED_OCTETS: usize = 64 * 1024;

/// Recordings put into an answer at a time; the next ones are asked for when these are sent.
const ROWS: usize = 64;

/// Connections taken before those that are there have their turn.
const ACCEPT_BUDGET: usize = 64;

/// After the system refused a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Reads and writes of one connection before the others have their turn.
const STEPS: usize = 8;

const TCP: Token = Token(0);
const UNIX: Token = Token(1);
const FIRST_CLIENT: usize = 16;

/// The sockets, and the answers served there.
pub(super) struct Server {
    poll: Poll,
    tcp: Option<(TcpListener, IpAddr)>,
    unix: Option<UnixListener>,
    metrics: Arc<Metrics>,
    ask: Ask,
    clients: BTreeMap<usize, Client>,
    next_client: usize,
    /// Clients that could go on and let others have their turn.
    again: Vec<usize>,
    /// There may be connections to accept that no event will tell of.
    waiting: [bool; 2],
    /// The system refused one: not before this.
    accept_at: Option<Mono>,
}

enum Stream {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

impl Stream {
    /// The address that is served; `None` on a Unix socket.
    fn own(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, own) => Some(*own),
            Self::Unix(_) => None,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream, _) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream, _) => stream.write(octets),
            Self::Unix(stream) => stream.write(octets),
        }
    }

    fn end(&self) {
        // The other side may have done so before.
        let _ = match self {
            Self::Tcp(stream, _) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

enum State {
    Reading(Vec<u8>),
    Writing { octets: Vec<u8>, sent: usize, more: Option<usize> },
    Ending { ignored: usize },
}

struct Client {
    stream: Stream,
    state: State,
    until: Mono,
}

/// The result of a turn of a client.
enum Turn {
    Wait,
    Again,
    Over,
}

impl Server {
    pub(super) fn new(
        tcp: Option<std::net::TcpListener>,
        unix: Option<std::os::unix::net::UnixListener>,
        metrics: Arc<Metrics>,
        ask: Ask,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let tcp = match tcp {
            Some(listener) => {
                let own = listener.local_addr()?.ip();
                listener.set_nonblocking(true)?;
                let mut listener = TcpListener::from_std(listener);
                poll.registry().register(&mut listener, TCP, Interest::READABLE)?;
                Some((listener, own))
            }
            None => None,
        };
        let unix = match unix {
            Some(listener) => {
                listener.set_nonblocking(true)?;
                let mut listener = UnixListener::from_std(listener);
                poll.registry().register(&mut listener, UNIX, Interest::READABLE)?;
                Some(listener)
            }
            None => None,
        };
        Ok(Self {
            poll,
            tcp,
            unix,
            metrics,
            ask,
            clients: BTreeMap::new(),
            next_client: FIRST_CLIENT,
            again: Vec::new(),
            waiting: [true; 2],
            accept_at: None,
        })
    }

    /// Serves until the process ends.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(64);
        loop {
            let timeout = self.timeout(clock::mono());
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    log::error!("no metrics and status any more: {error}");
                    return;
                }
                _ => {}
            }
            for event in &events {
                match event.token() {
                    TCP => self.waiting = [true, self.waits_unix()],
                    UNIX => self.waiting = [self.waits_tcp(), true],
                    Token(client) => self.turn(client),
                }
            }
            self.accept();
            for key in std::mem::take(&mut self.again) {
                self.turn(key);
            }
            let now = clock::mono();
            let late: Vec<usize> =
                self.clients.iter().filter(|(_, client)| client.until <= now).map(|(key, _)| *key).collect();
            for key in late {
                self.expire(key, now);
            }
        }
    }

    fn waits_tcp(&self) -> bool {
        let [tcp, _] = self.waiting;
        tcp
    }

    fn waits_unix(&self) -> bool {
        let [_, unix] = self.waiting;
        unix
    }

    fn timeout(&self, now: Mono) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        let accept = match (self.waits_tcp() || self.waits_unix(), self.accept_at) {
            (false, _) => None,
            (true, at) => Some(at.unwrap_or(now)),
        };
        let next = self.clients.values().map(|client| client.until).chain(accept).min();
        next.map(|next| next.since(now))
    }

    fn accept(&mut self) {
        let now = clock::mono();
        if self.accept_at.is_some_and(|at| at > now) {
            return;
        }
        self.accept_at = None;
        for _ in 0..ACCEPT_BUDGET {
            let Self { waiting: [tcp_waits, unix_waits], tcp, unix, .. } = self;
            let tcp = tcp.as_ref().filter(|_| *tcp_waits);
            let unix = unix.as_ref().filter(|_| *unix_waits);
            let (accepted, waits) = match (tcp, unix) {
                (Some((listener, own)), _) => {
                    (listener.accept().map(|(stream, _)| Stream::Tcp(stream, *own)), tcp_waits)
                }
                (None, Some(listener)) => {
                    (listener.accept().map(|(stream, _)| Stream::Unix(stream)), unix_waits)
                }
                (None, None) => {
                    self.waiting = [false; 2];
                    return;
                }
            };
            match accepted {
                Ok(stream) => self.connected(stream, now),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => *waits = false,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    // Out of descriptors or memory.
                    _ => {
                        self.accept_at = Some(now + ACCEPT_AGAIN);
                        return;
                    }
                },
            }
        }
    }

    fn connected(&mut self, mut stream: Stream, now: Mono) {
        let by_tcp = stream.own().is_some();
        let same = |client: &&Client| client.stream.own().is_some() == by_tcp;
        if self.clients.values().filter(same).count() >= MAX_CLIENTS {
            // A client with a request is served first; one that had its answer needs no more.
            let rank = |client: &Client| match client.state {
                State::Ending { .. } => 0,
                State::Reading(_) => 1,
                State::Writing { .. } => 2,
            };
            let oldest = self.clients.iter().filter(|(_, client)| same(client));
            if let Some(key) = oldest.min_by_key(|(key, client)| (rank(client), **key)).map(|(key, _)| *key) {
                self.clients.remove(&key);
            }
        }
        let key = self.next_client;
        self.next_client = self.next_client.checked_add(1).unwrap_or(FIRST_CLIENT);
        let registry = self.poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = match &mut stream {
            Stream::Tcp(stream, _) => registry.register(stream, Token(key), both),
            Stream::Unix(stream) => registry.register(stream, Token(key), both),
        };
        if let Err(error) = registered {
            log::debug!("status: {error}");
            return;
        }
        let client = Client { stream, state: State::Reading(Vec::new()), until: now + TIME_LIMIT };
        self.clients.insert(key, client);
        // Most have asked by now.
        self.turn(key);
    }

    /// Goes on with a client as far as its socket allows.
    fn turn(&mut self, key: usize) {
        let Self { clients, metrics, ask, .. } = self;
        let Some(client) = clients.get_mut(&key) else { return };
        match client.go_on(metrics, ask) {
            Turn::Wait => {}
            Turn::Again => self.again.push(key),
            Turn::Over => drop(clients.remove(&key)),
        }
    }

    fn expire(&mut self, key: usize, now: Mono) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        if matches!(client.state, State::Reading(_)) {
            client.refuse(Refused::TooSlow, now);
            self.turn(key);
        } else {
            self.clients.remove(&key);
        }
    }
}

impl Client {
    fn go_on(&mut self, metrics: &Metrics, ask: &Ask) -> Turn {
        for _ in 0..STEPS {
            let went = match &mut self.state {
                State::Reading(_) => self.read(metrics, ask),
                State::Writing { .. } => self.write(ask),
                State::Ending { .. } => self.ignore(),
            };
            match went {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Turn::Wait,
                Err(_) => return Turn::Over,
            }
        }
        Turn::Again
    }

    fn read(&mut self, metrics: &Metrics, ask: &Ask) -> io::Result<()> {
        let State::Reading(octets) = &mut self.state else { return Ok(()) };
        let mut buffer = [0; 1024];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        octets.extend(buffer.iter().take(count));
        let octets_read = octets.len().min(MAX_REQUEST_OCTETS.saturating_add(buffer.len()));
        octets.truncate(octets_read);
        let Some(request) = request::read(octets, self.stream.own()) else { return Ok(()) };
        let now = clock::mono();
        self.until = now + TIME_LIMIT;
        match request {
            Ok(Page::Metrics) => self.answer("200 OK", CONTENT_TYPE, metrics.text().as_bytes()),
            Ok(Page::Health) => match ask(0, 0) {
                Some(_) if metrics.draining.get() != 0 => self.answer("200 OK", "text/plain", b"draining\n"),
                Some(_) => self.answer("200 OK", "text/plain", b"ok\n"),
                None => self.refuse(Refused::Busy, now),
            },
            Ok(Page::Sessions) => match ask(0, ROWS) {
                Some(rows) => {
                    let mut octets = request::answer_head("200 OK", "application/json", None).into_bytes();
                    octets.push(b'[');
                    append(&mut octets, &rows, true);
                    self.state = State::Writing { octets, sent: 0, more: rows.next };
                }
                None => self.refuse(Refused::Busy, now),
            },
            Err(refused) => self.refuse(refused, now),
        }
        Ok(())
    }

    fn answer(&mut self, status: &str, content_type: &str, body: &[u8]) {
        let mut octets = request::answer_head(status, content_type, Some(body.len())).into_bytes();
        octets.extend_from_slice(body);
        self.state = State::Writing { octets, sent: 0, more: None };
    }

    fn refuse(&mut self, refused: Refused, now: Mono) {
        let (status, text) = refused.words();
        self.answer(status, "text/plain", text.as_bytes());
        self.until = now + TIME_LIMIT;
    }

    fn write(&mut self, ask: &Ask) -> io::Result<()> {
        let State::Writing { octets, sent, more } = &mut self.state else { return Ok(()) };
        let rest = octets.get(*sent..).unwrap_or_default();
        if !rest.is_empty() {
            let count = self.stream.write(rest)?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            *sent = sent.saturating_add(count);
            return Ok(());
        }
        if let Some(after) = *more {
            // Half of a list is known by its missing end.
            let rows = ask(after, ROWS).ok_or(io::ErrorKind::TimedOut)?;
            octets.clear();
            *sent = 0;
            append(octets, &rows, false);
            *more = rows.next;
            return Ok(());
        }
        self.stream.end();
        self.state = State::Ending { ignored: 0 };
        self.until = clock::mono() + LINGER;
        Ok(())
    }

    fn ignore(&mut self) -> io::Result<()> {
        let State::Ending { ignored } = &mut self.state else { return Ok(()) };
        if *ignored > MAX_IGNORED_OCTETS {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer)?;
        *ignored = ignored.saturating_add(count);
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// Appends rows of a JSON list, and its end behind the last.
fn append(octets: &mut Vec<u8>, rows: &Rows, mut first: bool) {
    for row in &rows.sessions {
        if let Ok(json) = serde_json::to_string(row) {
            if !first {
                octets.push(b',');
            }
            first = false;
            escape(octets, &json);
        }
    }
    if rows.next.is_none() {
        octets.push(b']');
    }
}

/// Characters other than printable ASCII become JSON escapes: they stand within strings only.
fn escape(octets: &mut Vec<u8>, json: &str) {
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            octets.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
        }
    }
}

/// Listens on an address.
pub(super) fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    std::net::TcpListener::bind(addr)
}
