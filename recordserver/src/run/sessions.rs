//! All connected phones: the work of the loop for them, and the state that they share.
//!
//! Owns: connections, RTP ports, blocks, the queue to the disk. Invariants: a call has a port, if it needs one,
//! and a place among the counted sessions exactly as long as it is among the calls; blocks given to a job come
//! back with its answer.

mod calls;
mod disk;
mod make_room;
mod revival;
mod streams;

use super::FIRST_CONNECTION;
use super::call::{CallKey, Calls, Control};
use super::conn::{Conn, READ_INTERVAL};
use super::scan_job;
use crate::config::Config;
use crate::folders::Names;
use crate::http::{Rows, SessionStatus};
use crate::metrics::Metrics;
use crate::ports::Ports;
use crate::quota::Quota;
use crate::rates::Devices;
use crate::recording::Rules;
use crate::refusal::Refusal;
use crate::tokens::Signer;
use crate::used_ids::UsedIds;
use calls::Opened;
use disk::{Answer, Storage};
use make_room::{Gate, OF_CALL, short};
use media::blocks::BlockPool;
use media::time::{Mono, Now};
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use os::receiver::Receiver;
use recfile::header::MAX_FILE_OCTETS;
use revival::{Revival, Searches};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use store::jobs::server::FoundRecording;
use store::jobs::{Disk, Fault, FileKey, Folder};
use store::thread::Handle;
use streams::Streams;
use uplink::message::Parties;
use uplink::server::{Action, EndReason, Opening, Session};

/// Octets read from a connection at once, and how often before others have their turn.
const READ_OCTETS: usize = 4096;
const READ_BUDGET: usize = 8;

/// The time that a finished connection may stay open on the phone's side.
const LINGER: Duration = Duration::from_secs(1);

/// Characters of a phone's text that are shown in the log and in the status of a recording.
const MAX_SHOWN_CHARS: usize = 64;

/// The state at the start.
pub(super) struct Found {
    pub(super) disk: Disk,
    pub(super) names: Names,
    pub(super) devices: Devices,
    pub(super) used_ids: UsedIds,
    /// The number that the process may open.
    pub(super) descriptors: u64,
    /// Where audio comes by TCP, if it may.
    pub(super) media: Option<(u16, Signer)>,
}

pub(super) struct Sessions {
    config: Config,
    rules: Rules,
    names: Names,
    registry: Registry,
    metrics: Arc<Metrics>,
    conns: BTreeMap<usize, Conn>,
    next_conn: usize,
    timers: BTreeSet<(Mono, usize)>,
    /// Connections that may have more to read, and from when on they are read again; each at most once.
    unread: VecDeque<(Mono, usize)>,
    /// Media connections.
    streams: Streams,
    searches: Searches,
    gate: Gate,
    used_ids: UsedIds,
    calls: Calls,
    ports: Ports,
    pool: BlockPool,
    receiver: Receiver,
    storage: Storage,
    quota: Quota,
    draining: bool,
    going_down: bool,
    complained: Option<Mono>,
}

impl Sessions {
    pub(super) fn new(
        config: Config,
        registry: Registry,
        storage: Handle,
        found: Found,
        metrics: Arc<Metrics>,
    ) -> Self {
        let Found { disk, names, devices, used_ids, descriptors, media } = found;
        let rules = Rules {
            // The other half is for the time until the writer's checkpoint.
            flush_interval: config.flush_interval / 2,
            max_file_octets: config.max_file_octets.unwrap_or(MAX_FILE_OCTETS),
        };
        let sessions = Self {
            rules,
            names,
            registry,
            metrics,
            conns: BTreeMap::new(),
            next_conn: FIRST_CONNECTION,
            timers: BTreeSet::new(),
            unread: VecDeque::new(),
            streams: Streams::new(media, descriptors),
            searches: Searches::new(),
            gate: Gate::new(&config, devices, descriptors),
            used_ids,
            calls: Calls::default(),
            ports: Ports::new(config.rtp_ports),
            pool: BlockPool::new(config.buffer_octets),
            receiver: Receiver::default(),
            storage: Storage::new(storage, disk),
            quota: Quota::default(),
            draining: false,
            going_down: false,
            complained: None,
            config,
        };
        sessions.show();
        sessions
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn needs_sweep(&self) -> bool {
        self.calls.len() > 0 || self.storage.waiting() > 0 || self.streams.strays() > 0
    }

    /// The time at which a connection that may have more to read is due.
    pub(super) fn next_unread(&self) -> Option<Mono> {
        self.unread.front().map(|(at, _)| *at)
    }

    pub(super) fn next_timer(&self) -> Option<Mono> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether no recording is unfinished.
    pub(super) fn is_quiet(&self) -> bool {
        self.calls.len() == 0 && self.storage.closing() == 0 && self.storage.waiting() == 0
    }

    /// Whether everything is on the disk and everybody knows.
    pub(super) fn is_finished(&self) -> bool {
        self.is_quiet() && self.storage.is_idle() && self.conns.values().all(|conn| conn.session.is_closed())
    }

    pub(super) fn connected(&mut self, stream: TcpStream, peer: SocketAddr, now: Now) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if let Err(refusal) = self.admit(peer.ip(), now) {
            self.metrics.refused(refusal);
            let setting = refusal.setting().unwrap_or("none");
            self.gate.tell(peer.ip(), now.mono, || {
                format!("connection_refused peer={peer} reason={} setting={setting:?}", refusal.name())
            });
            return;
        }
        let token = self.next_conn;
        self.next_conn += 1;
        let conn = Conn::new(stream, peer, Session::new(self.config.timing, now.mono), now.mono).and_then(
            |mut conn| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                conn.stream.socket_mut().register(&self.registry, Token(token), interest)?;
                Ok(conn)
            },
        );
        match conn {
            Ok(conn) => {
                log::debug!("connected peer={peer}");
                self.gate.is_silent(token, conn.peer.ip(), conn.since);
                self.conns.insert(token, conn);
                self.set_timer(token);
                self.show();
            }
            Err(error) => {
                self.gate.disconnect(peer.ip());
                log::debug!("connection_failed peer={peer}: {error}");
            }
        }
    }

    /// Counts a connection, if need be in place of one that says nothing.
    fn admit(&mut self, from: IpAddr, now: Now) -> Result<(), Refusal> {
        if self.going_down {
            return Err(Refusal::ShuttingDown);
        }
        let Err(refusal) = self.gate.connect(from) else { return Ok(()) };
        let Some(token) = self.gate.silent_one(from, refusal, now.mono) else { return Err(refusal) };
        self.metrics.refused(refusal);
        self.drive(token, now, |session, out| session.peer_closed(now.mono, out));
        self.remove(token);
        self.gate.connect(from)
    }

    /// A phone has connected for media.
    pub(super) fn media_connected(&mut self, stream: TcpStream, peer: SocketAddr, now: Now) {
        streams::connected(self, stream, peer, now);
    }

    pub(super) fn accept_failed(&mut self, error: &io::Error, now: Mono) {
        self.complain(now, || format!("cannot accept connections: {error}"));
    }

    /// The socket of a connection has something.
    pub(super) fn ready(&mut self, token: Token, now: Now) {
        let Some(conn) = self.conns.get_mut(&token.0) else { return streams::ready(self, token.0, now) };
        if let Err(error) = conn.stream.flush() {
            self.broken(token.0, &error, now);
            return;
        }
        self.read(token.0, now);
    }

    /// Goes on reading where the budget ended.
    pub(super) fn resume(&mut self, now: Now) {
        while let Some((_, token)) = self.unread.front().copied().filter(|(at, _)| *at <= now.mono) {
            self.unread.pop_front();
            if let Some(conn) = self.conns.get_mut(&token) {
                conn.queued = false;
                self.read(token, now);
            }
        }
    }

    fn read(&mut self, token: usize, now: Now) {
        let Some(conn) = self.conns.get_mut(&token) else { return };
        if conn.queued {
            return;
        }
        if !conn.may_read(now.mono) {
            self.read_later(token, now.mono);
            return;
        }
        let mut buffer = [0; READ_OCTETS];
        for _ in 0..READ_BUDGET {
            let Some(conn) = self.conns.get_mut(&token) else { return };
            match conn.stream.read(&mut buffer) {
                Ok(Some(0)) => {
                    self.drive(token, now, |session, out| session.peer_closed(now.mono, out));
                    self.remove(token);
                    return;
                }
                Ok(Some(_)) if conn.linger.is_some() => {}
                Ok(Some(count)) => {
                    self.drive(token, now, |session, out| session.received(&buffer[..count], now.mono, out));
                }
                Ok(None) => return,
                Err(error) => {
                    self.broken(token, &error, now);
                    return;
                }
            }
        }
        self.read_later(token, now.mono);
    }

    fn read_later(&mut self, token: usize, now: Mono) {
        if let Some(conn) = self.conns.get_mut(&token) {
            conn.queued = true;
            self.unread.push_back((now + READ_INTERVAL, token));
        }
    }

    fn broken(&mut self, token: usize, error: &io::Error, now: Now) {
        if let Some(conn) = self.conns.get(&token) {
            log::debug!("connection_broken peer={}: {error}", conn.peer);
        }
        self.drive(token, now, |session, out| session.peer_closed(now.mono, out));
        self.remove(token);
    }

    /// Hands one event to a session and carries out its actions.
    fn drive(&mut self, token: usize, now: Now, event: impl FnOnce(&mut Session, &mut Vec<Action>)) {
        let Some(conn) = self.conns.get_mut(&token) else { return };
        let mut actions = Vec::new();
        event(&mut conn.session, &mut actions);
        self.perform(token, actions, now);
        let Some(conn) = self.conns.get_mut(&token) else { return };
        if !conn.gone {
            self.set_timer(token);
            return;
        }
        let mut last = Vec::new();
        conn.session.peer_closed(now.mono, &mut last);
        self.perform(token, last, now);
        self.remove(token);
    }

    fn perform(&mut self, token: usize, actions: Vec<Action>, now: Now) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            let Some(conn) = self.conns.get_mut(&token) else { return };
            match action {
                Action::Send(_) if conn.gone => {}
                Action::Send(octets) => {
                    if let Err(error) = conn.stream.send(&octets) {
                        log::debug!("connection_broken peer={}: {error}", conn.peer);
                        conn.gone = true;
                    }
                }
                Action::Open(_) if conn.gone => {}
                Action::Open(mut opening) => {
                    if self.streams.port().is_none() {
                        opening.extension = None;
                    }
                    let more = match calls::open(self, token, &opening, now) {
                        Ok(None) => continue,
                        Ok(Some(opened)) => self.opened(token, Ok(opened), &opening, now),
                        Err(refusal) => self.opened(token, Err(refusal), &opening, now),
                    };
                    // Messages of the phone behind its request come before actions decided after it.
                    for action in more.into_iter().rev() {
                        actions.push_front(action);
                    }
                }
                Action::Finish { reason, parties } => {
                    if let Some(key) = conn.call.take() {
                        calls::stop(self, key, &reason, parties, now);
                    }
                    if let Some(conn) = self.conns.get_mut(&token) {
                        conn.since = now.mono;
                        self.gate.is_silent(token, conn.peer.ip(), conn.since);
                    }
                }
                Action::FinishAfter { items, reason, parties } => {
                    streams::finish_after(self, token, items, reason, parties, now);
                }
                Action::Detach => streams::detach(self, token, now),
                Action::Close => {
                    let _ = conn.stream.socket().shutdown(std::net::Shutdown::Write);
                    conn.linger = Some(now.mono + LINGER);
                }
            }
        }
    }

    /// Tells the phone whether its recording begins; gives what the session does then.
    fn opened(
        &mut self,
        token: usize,
        answer: Result<Opened, Refusal>,
        opening: &Opening,
        now: Now,
    ) -> Vec<Action> {
        let mut out = Vec::new();
        let Some(conn) = self.conns.get_mut(&token) else { return out };
        match answer {
            Ok(Opened { host, port, extension }) => {
                conn.session.granted(&host, port, extension, now.mono, &mut out);
            }
            Err(refusal) => {
                conn.session.refused(&refusal.to_string(), now.mono, &mut out);
                let peer = conn.peer;
                self.metrics.refused(refusal);
                self.gate.tell(peer.ip(), now.mono, || {
                    let (id, device) = (short(&opening.id), short(&opening.device));
                    let (name, setting) = (refusal.name(), refusal.setting().unwrap_or("none"));
                    format!(
                        "session_refused id={id:?} device={device:?} peer={peer} reason={name} \
                         setting={setting:?}"
                    )
                });
            }
        }
        out
    }

    /// A folder below the storage folder.
    fn folder(&self, name: String) -> Folder {
        Folder { root: self.config.storage.clone(), device: self.storage.device(), name }
    }

    /// The files of a recording that a phone asked to go on with.
    fn found(&mut self, ask: u64, result: Result<FoundRecording, Fault>, now: Now) {
        let Some((token, opening, found)) = revival::found(self, ask, result, now) else { return };
        let Some(local) = self.conns.get(&token).map(|conn| conn.local) else { return };
        let answer = match found {
            Revival::Going(granted) => calls::resumed(self, local, granted),
            Revival::Begins(former) => calls::begin(self, token, &opening, former, now),
            Revival::Refused(refusal) => Err(refusal),
        };
        let actions = self.opened(token, answer, &opening, now);
        self.drive(token, now, |_, out| out.extend(actions));
    }

    pub(super) fn timers(&mut self, now: Now) {
        while let Some(&(at, token)) = self.timers.first() {
            if at > now.mono {
                return;
            }
            self.timers.pop_first();
            let Some(conn) = self.conns.get_mut(&token) else { continue };
            conn.timer = None;
            if conn.linger.is_some_and(|linger| linger <= now.mono) {
                self.remove(token);
            } else {
                self.drive(token, now, |session, out| session.timer(now.mono, out));
            }
        }
    }

    /// Takes the RTP of all calls and hands jobs that are due to the disk.
    pub(super) fn sweep(&mut self, now: Now) {
        calls::sweep(self, now);
    }

    /// Puts jobs into the queue to the disk, as many as it takes.
    pub(super) fn hand_over_jobs(&mut self) {
        self.storage.hand_over();
    }

    /// Takes the answers of the disk.
    pub(super) fn done(&mut self, now: Now) {
        disk::take_answers(self, now);
    }

    /// Asks for the room on the disk.
    pub(super) fn scan(&mut self) {
        self.pool.trim();
        self.storage.scan(scan_job(&self.config));
    }

    /// The first day with recordings that are not finished on the disk; today if there are none.
    pub(super) fn unfinished_since(&self, now: Now) -> String {
        self.storage.unfinished_since(&self.calls, now)
    }

    /// Whether there are recordings that the disk did not let us finish.
    pub(super) fn has_left_some(&self) -> bool {
        self.storage.has_left_some()
    }

    /// When it is tight, recordings that no packet has come for have less time than usual.
    pub(super) fn relieve(&mut self, now: Now) {
        let ports = (self.ports.free(), self.config.rtp_ports.count());
        let keys = self.gate.idle_when_tight(ports, self.descriptors(), &self.calls, now.mono);
        self.end_idle(keys, now);
    }

    /// Descriptors that phones cost at the moment.
    fn descriptors(&self) -> usize {
        self.conns.len() + self.streams.strays() + OF_CALL * self.calls.len() + self.storage.closing()
    }

    fn end_idle(&mut self, keys: Vec<CallKey>, now: Now) {
        for key in keys {
            self.end_call(key, &EndReason::Idle, now);
        }
    }

    /// Takes no new recordings. Those that go on are not disturbed.
    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.metrics.draining.set(1);
    }

    /// Whether no new recordings are taken, and none goes on.
    pub(super) fn is_drained(&self) -> bool {
        self.draining && self.is_quiet()
    }

    /// Ends all recordings and takes no more.
    pub(super) fn shut_down(&mut self, now: Now) {
        self.going_down = true;
        self.stop_all(&EndReason::Shutdown, now);
    }

    /// At most `count` recordings, from the call `from` on.
    pub(super) fn status(&self, from: usize, count: usize, now: Mono) -> Rows {
        let mut rows = Rows::default();
        for (key, call) in self.calls.from(CallKey(from as u64)) {
            if rows.sessions.len() >= count {
                rows.next = (count > 0).then_some(usize::try_from(key.0).unwrap_or(usize::MAX));
                break;
            }
            rows.sessions.push(SessionStatus {
                id: call.id.clone(),
                recording: call.recording.id().to_owned(),
                device: call.device.chars().take(MAX_SHOWN_CHARS).collect(),
                peer: call.peer,
                codec: call.recording.codec().name().to_owned(),
                rtp_port: call.udp_port().or(self.streams.port()).unwrap_or_default(),
                waits: matches!(call.control, Control::Gone(_)),
                transport: if call.tcp().is_some() { "tcp" } else { "udp" }.to_owned(),
                start: call.begun.wall.rfc3339(),
                elapsed_ms: u64::try_from(now.since(call.begun.mono).as_millis()).unwrap_or(u64::MAX),
                packets: call.recording.counts().received,
                lost: call.recording.lost(),
                strangers: call.recording.strangers(),
                contested: call.recording.is_contested(),
                file: call.file.clone(),
            });
        }
        rows
    }

    fn stop_all(&mut self, reason: &EndReason, now: Now) {
        let tokens: Vec<usize> = self.conns.keys().copied().collect();
        for token in tokens {
            let in_call = self.conns.get(&token).is_some_and(|conn| conn.call.is_some());
            if in_call || self.going_down {
                self.drive(token, now, |session, out| session.stop(reason.clone(), now.mono, out));
            }
        }
        let left: Vec<CallKey> = self.calls.iter().map(|(key, _)| key).collect();
        left.into_iter().for_each(|key| self.end_call(key, reason, now));
    }

    /// Ends a call, whoever controls it. Gives the file that is being closed.
    fn stop_call(&mut self, key: CallKey, how: (&EndReason, Option<Parties>), now: Now) -> Option<FileKey> {
        calls::stop(self, key, how.0, how.1, now)
    }

    /// What the disk was given of calls over TCP is durable, or may not be.
    fn confirmed(&mut self, is_durable: bool, now: Now) {
        streams::confirmed(self, is_durable, now);
    }

    /// The recording that a phone has ended is on the disk, or is not.
    fn answer(&mut self, answer: Answer, now: Now) {
        streams::answer(self, answer, now);
    }

    /// Tells the owner of a call that it is to end.
    fn end_call(&mut self, key: CallKey, reason: &EndReason, now: Now) {
        let Some(call) = self.calls.get(key) else { return };
        if let Control::Uplink(token) = call.control {
            self.drive(token, now, |session, out| session.stop(reason.clone(), now.mono, out));
        }
        // Nobody is there who could be told, or the phone is about to end it itself.
        calls::stop(self, key, reason, None, now);
    }

    fn remove(&mut self, token: usize) {
        let Some(mut conn) = self.conns.remove(&token) else { return };
        self.gate.is_not_silent(token, conn.since);
        if let Some(at) = conn.timer {
            self.timers.remove(&(at, token));
        }
        // Closing the descriptor does the same.
        let _ = conn.stream.socket_mut().deregister(&self.registry);
        self.gate.disconnect(conn.peer.ip());
        self.show();
    }

    /// Puts the connection's next deadline into the table. One that moved further away stays where it is
    /// and is found not due: RTP moves it all the time.
    fn set_timer(&mut self, token: usize) {
        let Some(conn) = self.conns.get_mut(&token) else { return };
        let Some(due) = conn.linger.or_else(|| conn.session.poll_deadline()) else { return };
        if conn.timer.is_some_and(|at| at <= due) {
            return;
        }
        if let Some(at) = conn.timer.replace(due) {
            self.timers.remove(&(at, token));
        }
        self.timers.insert((due, token));
    }

    fn show(&self) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.sessions.set(gauge(self.calls.len()));
        self.metrics.connections.set(gauge(self.gate.connections()));
        self.metrics.ports_free.set(gauge(self.ports.free()));
    }

    /// Warns at most once a second: phones must not fill the log.
    fn complain(&mut self, now: Mono, text: impl FnOnce() -> String) {
        if self.complained.is_none_or(|last| now.since(last) >= Duration::from_secs(1)) {
            self.complained = Some(now);
            log::warn!("{}", text());
        }
    }
}
