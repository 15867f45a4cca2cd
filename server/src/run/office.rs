//! All phones that are connected: what the loop does for them, and what they share.
//!
//! Owns: connections, RTP ports, blocks, the queue to the disk. Invariants: a call has a port and a place
//! among the counted sessions exactly as long as it is in its connection; blocks given to a job come back
//! with its answer.

use super::conn::{Call, Conn};
use super::{FIRST_CONNECTION, scan_job};
use crate::config::Config;
use crate::limits::{Admission, Refusal};
use crate::metrics::Metrics;
use crate::naming::{day_folder, device_folder};
use crate::ports::Ports;
use crate::receive::{MAX_DRAINED, Receiver};
use crate::recording::{Recording, Rules};
use crate::session::{Action, EndReason, Opening, Session};
use crate::status::SessionStatus;
use crate::storage::Handle;
use crossbeam_channel::TrySendError;
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{setsockopt, sockopt};
use phone_recorder::blocks::BlockPool;
use phone_recorder::file::header::MAX_FILE_OCTETS;
use phone_recorder::jobs::{Disk, Done, Fault, FaultKind, FileKey, Folder, Job, Piece, Space};
use phone_recorder::rtp::counts::{Counts, DropCause};
use phone_recorder::sys::socket_drops;
use phone_recorder::time::{Mono, Now};
use phone_recorder::uplink::message::Parties;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// Octets read from a connection at once, and how often before others have their turn.
const READ_OCTETS: usize = 4096;
const READ_BUDGET: usize = 8;

/// Receive buffer of each call: Linux doubles it, which holds some ten seconds of a call, whatever the
/// system's default is. Used only while the loop is late.
const RECEIVE_BUFFER_OCTETS: usize = 212_992;

/// Looks into the socket of a call that ends: more than its receive buffer can hold.
const MAX_LAST_DRAINS: usize = 16;

/// Ports that are tried for one call, if other programs have them.
const PORT_ATTEMPTS: usize = 16;

/// How long a finished connection may stay open on the phone's side.
const LINGER: Duration = Duration::from_secs(1);

/// Jobs that wait for room in the queue to the disk: beyond that, audio stays in its blocks and no new
/// recording begins.
const MAX_WAITING_JOBS: usize = 4096;

/// A recording that is over and waits for the disk.
#[derive(Debug)]
struct Closing {
    who: String,
    folder: String,
    /// Below the storage folder; empty until the disk has told, which may be after the end.
    file: String,
    how: String,
    counts: Counts,
    octets: u64,
}

pub(super) struct Office {
    config: Config,
    rules: Rules,
    registry: Registry,
    metrics: Arc<Metrics>,
    conns: BTreeMap<usize, Conn>,
    next_conn: usize,
    timers: BTreeSet<(Mono, usize)>,
    /// Connections that had more to read than their budget.
    unread: VecDeque<usize>,
    admission: Admission,
    calls: usize,
    ports: Ports,
    pool: BlockPool,
    receiver: Receiver,
    storage: Handle,
    waiting_jobs: VecDeque<Job>,
    unanswered: usize,
    disk: Disk,
    disk_fault: bool,
    next_file: u64,
    owners: HashMap<FileKey, usize>,
    closing: HashMap<FileKey, Closing>,
    going_down: bool,
    complained: Option<Mono>,
}

impl Office {
    pub(super) fn new(
        config: Config,
        registry: Registry,
        storage: Handle,
        disk: Disk,
        metrics: Arc<Metrics>,
    ) -> Self {
        let rules = Rules {
            // The other half is for the time until the writer's checkpoint.
            flush_interval: config.flush_interval / 2,
            max_file_octets: config.max_file_octets.unwrap_or(MAX_FILE_OCTETS),
        };
        let office = Self {
            rules,
            registry,
            metrics,
            conns: BTreeMap::new(),
            next_conn: FIRST_CONNECTION,
            timers: BTreeSet::new(),
            unread: VecDeque::new(),
            admission: Admission::new(config.limits),
            calls: 0,
            ports: Ports::new(config.rtp_ports),
            pool: BlockPool::new(config.buffer_octets),
            receiver: Receiver::default(),
            storage,
            waiting_jobs: VecDeque::new(),
            unanswered: 0,
            disk,
            disk_fault: false,
            next_file: 0,
            owners: HashMap::new(),
            closing: HashMap::new(),
            going_down: false,
            complained: None,
            config,
        };
        office.show();
        office
    }

    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    pub(super) fn needs_sweep(&self) -> bool {
        self.calls > 0 || !self.waiting_jobs.is_empty()
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    pub(super) fn next_timer(&self) -> Option<Mono> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Whether no recording is unfinished.
    pub(super) fn is_quiet(&self) -> bool {
        self.calls == 0 && self.closing.is_empty() && self.waiting_jobs.is_empty()
    }

    /// Whether everything is on the disk and everybody knows.
    pub(super) fn is_finished(&self) -> bool {
        self.is_quiet() && self.unanswered == 0 && self.conns.values().all(|conn| conn.session.is_closed())
    }

    pub(super) fn connected(&mut self, stream: TcpStream, peer: SocketAddr, now: Now) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let admitted =
            if self.going_down { Err(Refusal::ShuttingDown) } else { self.admission.connect(peer.ip()) };
        if let Err(refusal) = admitted {
            self.metrics.refused(refusal);
            self.complain(now.mono, || format!("connection_refused peer={peer} reason={}", refusal.name()));
            return;
        }
        let token = self.next_conn;
        self.next_conn += 1;
        let conn =
            Conn::new(stream, peer, Session::new(self.config.timing, now.mono)).and_then(|mut conn| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                conn.stream.register(&self.registry, Token(token), interest)?;
                Ok(conn)
            });
        match conn {
            Ok(conn) => {
                log::debug!("connected peer={peer}");
                self.conns.insert(token, conn);
                self.set_timer(token);
                self.show();
            }
            Err(error) => {
                self.admission.disconnect(peer.ip());
                log::debug!("connection_failed peer={peer}: {error}");
            }
        }
    }

    pub(super) fn accept_failed(&mut self, error: &io::Error, now: Mono) {
        self.complain(now, || format!("cannot accept connections: {error}"));
    }

    /// The socket of a connection has something.
    pub(super) fn ready(&mut self, token: Token, now: Now) {
        let Some(conn) = self.conns.get_mut(&token.0) else { return };
        if let Err(error) = conn.flush() {
            self.broken(token.0, &error, now);
            return;
        }
        self.read(token.0, now);
    }

    /// Goes on reading where the budget ended.
    pub(super) fn resume(&mut self, now: Now) {
        for _ in 0..self.unread.len() {
            if let Some(token) = self.unread.pop_front() {
                self.read(token, now);
            }
        }
    }

    fn read(&mut self, token: usize, now: Now) {
        let mut buffer = [0; READ_OCTETS];
        for _ in 0..READ_BUDGET {
            let Some(conn) = self.conns.get_mut(&token) else { return };
            match conn.read(&mut buffer) {
                Ok(0) => {
                    self.drive(token, now, |session, out| session.peer_closed(now.mono, out));
                    self.remove(token);
                    return;
                }
                Ok(_) if conn.linger.is_some() => {}
                Ok(count) => {
                    self.drive(token, now, |session, out| session.received(&buffer[..count], now.mono, out));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.broken(token, &error, now);
                    return;
                }
            }
        }
        self.unread.push_back(token);
    }

    fn broken(&mut self, token: usize, error: &io::Error, now: Now) {
        if let Some(conn) = self.conns.get(&token) {
            log::debug!("connection_broken peer={}: {error}", conn.peer);
        }
        self.drive(token, now, |session, out| session.peer_closed(now.mono, out));
        self.remove(token);
    }

    /// Hands one event to a session and does what it wants.
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
                    if let Err(error) = conn.send(&octets) {
                        log::debug!("connection_broken peer={}: {error}", conn.peer);
                        conn.gone = true;
                    }
                }
                Action::Open(_) if conn.gone => {}
                Action::Open(opening) => {
                    let answer = self.open(token, &opening, now);
                    let Some(conn) = self.conns.get_mut(&token) else { return };
                    let mut more = Vec::new();
                    match answer {
                        Ok((host, port)) => conn.session.granted(&host, port, now.mono, &mut more),
                        Err(refusal) => {
                            self.metrics.refused(refusal);
                            log::warn!(
                                "session_refused id={:?} device={:?} peer={} reason={}",
                                opening.id,
                                opening.device,
                                conn.peer,
                                refusal.name()
                            );
                            conn.session.refused(&refusal.to_string(), now.mono, &mut more);
                        }
                    }
                    // What the phone said behind its request comes before what was decided after it.
                    for action in more.into_iter().rev() {
                        actions.push_front(action);
                    }
                }
                Action::Finish { reason, parties } => self.finish(token, &reason, parties, now),
                Action::Close => {
                    let _ = conn.stream.shutdown(std::net::Shutdown::Write);
                    conn.linger = Some(now.mono + LINGER);
                }
            }
        }
    }

    fn open(&mut self, token: usize, opening: &Opening, now: Now) -> Result<(String, u16), Refusal> {
        let conn = self.conns.get(&token).ok_or(Refusal::Storage)?;
        let (peer, local) = (conn.peer, conn.local);
        if self.going_down {
            return Err(Refusal::ShuttingDown);
        }
        if self.disk_fault || self.waiting_jobs.len() > MAX_WAITING_JOBS {
            return Err(Refusal::Storage);
        }
        if self.disk.space.free_octets < self.config.reserve_octets {
            return Err(Refusal::DiskLow);
        }
        self.admission.open(peer.ip())?;
        let Some((socket, port)) = self.bind(local, now.mono) else {
            self.admission.close(peer.ip());
            return Err(Refusal::Ports);
        };
        let same = |conn: &&Conn| conn.call.as_ref().is_some_and(|call| call.id == opening.id);
        if let Some(other) = self.conns.values().find(same).map(|conn| conn.peer) {
            log::warn!("id_in_use id={:?} peer={peer} other={other}", opening.id);
        }
        let device = device_folder(&opening.device);
        let folder = Folder {
            root: self.config.storage.clone(),
            device: self.disk.device,
            name: format!("{device}/{}", day_folder(now.wall)),
        };
        log::info!(
            "session_started id={:?} device={:?} peer={peer} codec={} port={port}",
            opening.id,
            opening.device,
            opening.codec.name()
        );
        let host = match self.config.public_addr.as_str() {
            "" => local.to_string(),
            public => public.to_owned(),
        };
        let call = Call {
            id: opening.id.clone(),
            device: opening.device.clone(),
            v6: socket.local_addr().is_ok_and(|addr| addr.is_ipv6()),
            socket,
            port,
            recording: Recording::new(self.rules, opening, peer.ip(), folder, now),
            begun: now,
            file: String::new(),
        };
        if let Some(conn) = self.conns.get_mut(&token) {
            conn.call = Some(call);
        }
        self.calls += 1;
        self.metrics.sessions_started.inc();
        self.show();
        Ok((host, port))
    }

    /// A socket on a free port of the range, on the address that the phone is connected to; on all
    /// addresses if phones are told another one.
    fn bind(&mut self, local: IpAddr, now: Mono) -> Option<(UdpSocket, u16)> {
        let ip = match (self.config.public_addr.is_empty(), local) {
            (true, local) => local,
            (false, IpAddr::V4(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            (false, IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        for _ in 0..PORT_ATTEMPTS {
            let port = self.ports.take()?;
            match UdpSocket::bind((ip, port)) {
                Ok(socket) => {
                    // A smaller buffer than asked for serves as well, for a shorter time.
                    let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_OCTETS);
                    return Some((socket, port));
                }
                Err(error) => {
                    self.ports.give_back(port);
                    self.complain(now, || format!("rtp_port_unusable port={port}: {error}"));
                    if error.kind() != io::ErrorKind::AddrInUse {
                        return None;
                    }
                }
            }
        }
        None
    }

    fn finish(&mut self, token: usize, reason: &EndReason, parties: Option<Parties>, now: Now) {
        let Self { conns, pool, receiver, metrics, next_file, owners, waiting_jobs, closing, .. } = self;
        let Some(conn) = conns.get_mut(&token) else { return };
        let Some(mut call) = conn.call.take() else { return };
        // What was sent before the end belongs to the call, also if it is more than a sweep takes.
        for _ in 0..MAX_LAST_DRAINS {
            if !drain(&mut call, receiver, pool, metrics, now.mono).more {
                break;
            }
        }
        book_overruns(&mut call, metrics);
        let mut jobs = Vec::new();
        let mut name_file = || next_key(next_file);
        let had_file = call.recording.file();
        // Nor do files of earlier segments speak for what this connection records next.
        owners.retain(|_, owner| *owner != token);
        call.recording.finish(reason, parties, now, pool, &mut name_file, &mut jobs);
        let counts = *call.recording.counts();
        let seconds = now.mono.since(call.begun.mono).as_secs();
        let last = Closing {
            who: format!("id={:?} device={:?} peer={}", call.id, call.device, conn.peer),
            folder: call.recording.folder().name.clone(),
            // One that is opened only now will be named by the disk.
            file: if had_file.is_some() { std::mem::take(&mut call.file) } else { String::new() },
            how: format!("seconds={seconds} reason={:?}", reason.name()),
            counts,
            octets: call.recording.octets(),
        };
        match jobs.iter().rev().find_map(|job| match job {
            Job::Close { file, .. } => Some(*file),
            _ => None,
        }) {
            Some(file) => drop(closing.insert(file, last)),
            None => log::error!("{} fault=\"the disk failed before the end\"", last.summary()),
        }
        waiting_jobs.extend(jobs);
        metrics.ended(reason_class(reason));
        metrics.packets_lost.inc_by(counts.lost);
        for cause in DropCause::ALL {
            metrics.dropped(cause, counts.dropped_for(cause));
        }
        self.ports.give_back(call.port);
        let ip = conn.peer.ip();
        self.admission.close(ip);
        self.calls -= 1;
        self.show();
    }

    /// Takes the RTP of all calls and hands what is due to the disk.
    pub(super) fn sweep(&mut self, now: Now) {
        let Self { conns, pool, receiver, metrics, next_file, owners, waiting_jobs, .. } = self;
        let keeps_up = waiting_jobs.len() <= MAX_WAITING_JOBS;
        let mut jobs = Vec::new();
        for (token, conn) in conns.iter_mut() {
            let Some(call) = &mut conn.call else { continue };
            if drain(call, receiver, pool, metrics, now.mono).heard {
                conn.session.media(now.mono);
            }
            if keeps_up {
                call.recording.jobs(now, &mut || next_key(next_file), &mut jobs);
                if !jobs.is_empty() {
                    book_overruns(call, metrics);
                }
                for job in jobs.drain(..) {
                    if let Job::Open(open) = &job {
                        owners.insert(open.file, *token);
                    }
                    waiting_jobs.push_back(job);
                }
            }
        }
        metrics.buffered_bytes.set(i64::try_from(pool.used_octets()).unwrap_or(i64::MAX));
    }

    /// Puts jobs into the queue to the disk, as many as it takes.
    pub(super) fn hand_over_jobs(&mut self) {
        while let Some(job) = self.waiting_jobs.pop_front() {
            match self.storage.jobs.try_send(job) {
                Ok(()) => self.unanswered += 1,
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                    self.waiting_jobs.push_front(job);
                    return;
                }
            }
        }
    }

    /// Takes what the disk has done.
    pub(super) fn done(&mut self, now: Now) {
        while let Ok(done) = self.storage.done.try_recv() {
            self.unanswered = self.unanswered.saturating_sub(1);
            match done {
                Done::Scanned(disk) => self.scanned(disk, now),
                Done::Opened { file, result: Ok(opened) } => {
                    if let Some(call) = self.call_of(file) {
                        call.file = format!("{}/{}", call.recording.folder().name, opened.name);
                    } else if let Some(last) = self.closing.get_mut(&file) {
                        last.file = format!("{}/{}", last.folder, opened.name);
                    }
                    self.space(opened.space, now);
                }
                Done::Opened { file, result: Err(fault) } => self.fault(file, &fault, now),
                Done::Appended { file, pieces, result, .. } => {
                    for piece in pieces {
                        if let Piece::Audio(block) = piece {
                            self.metrics.audio_bytes.inc_by(block.octets().len() as u64);
                            self.pool.give_back(block);
                        }
                    }
                    match result {
                        Ok(space) => space.into_iter().for_each(|space| self.space(space, now)),
                        Err(fault) => self.fault(file, &fault, now),
                    }
                }
                Done::Closed { file, result } => {
                    self.owners.remove(&file);
                    let last = self.closing.remove(&file);
                    match (&result, last) {
                        (Ok(_), Some(last)) => log::info!("{}", last.summary()),
                        (Err(fault), Some(last)) => {
                            log::error!("{} fault={:?}", last.summary(), fault.detail);
                        }
                        (Err(fault), None) => log::error!("storage_fault {:?}", fault.detail),
                        (Ok(_), None) => {}
                    }
                    if let Ok(Some(space)) = result {
                        self.space(space, now);
                    }
                }
                // Nothing else is asked for.
                _ => {}
            }
        }
    }

    /// Asks for the room on the disk, unless the queue is full anyway.
    pub(super) fn scan(&mut self) {
        self.pool.trim();
        if self.storage.jobs.try_send(scan_job(&self.config)).is_ok() {
            self.unanswered += 1;
        }
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

    /// Ends all recordings and takes no more.
    pub(super) fn shut_down(&mut self, now: Now) {
        self.going_down = true;
        self.stop_all(&EndReason::Shutdown, now);
    }

    pub(super) fn status(&self, now: Mono) -> Vec<SessionStatus> {
        let status = |conn: &Conn| {
            let call = conn.call.as_ref()?;
            Some(SessionStatus {
                id: call.id.clone(),
                device: call.device.clone(),
                peer: conn.peer,
                codec: call.recording.codec().name().to_owned(),
                rtp_port: call.port,
                start: call.begun.wall.rfc3339(),
                elapsed_ms: u64::try_from(now.since(call.begun.mono).as_millis()).unwrap_or(u64::MAX),
                packets: call.recording.counts().received,
                lost: call.recording.counts().lost,
                file: call.file.clone(),
            })
        };
        self.conns.values().filter_map(status).collect()
    }

    fn stop_all(&mut self, reason: &EndReason, now: Now) {
        let tokens: Vec<usize> = self.conns.keys().copied().collect();
        for token in tokens {
            let in_call = self.conns.get(&token).is_some_and(|conn| conn.call.is_some());
            if in_call || self.going_down {
                self.drive(token, now, |session, out| session.stop(reason.clone(), now.mono, out));
            }
        }
    }

    fn scanned(&mut self, disk: Option<Disk>, now: Now) {
        let usable = disk.filter(|disk| !disk.read_only);
        self.disk_fault = usable.is_none();
        match usable {
            Some(disk) => {
                let space = disk.space;
                self.disk = disk;
                self.space(space, now);
            }
            None => self.complain(now.mono, || "the storage folder can't be written to".to_owned()),
        }
    }

    fn space(&mut self, space: Space, now: Now) {
        self.disk.space = space;
        self.metrics.disk_free_bytes.set(i64::try_from(space.free_octets).unwrap_or(i64::MAX));
        // Half of the reserve is for what is under way.
        if space.free_octets < self.config.reserve_octets / 2 && self.calls > 0 {
            log::error!("disk_full free={} recordings={}: ending all", space.free_octets, self.calls);
            self.stop_all(&EndReason::DiskFull, now);
        }
    }

    fn fault(&mut self, file: FileKey, fault: &Fault, now: Now) {
        let Some(&token) = self.owners.get(&file) else { return };
        self.owners.remove(&file);
        log::error!("storage_fault {:?}", fault.detail);
        let Self { conns, pool, .. } = self;
        if let Some(call) = conns.get_mut(&token).and_then(|conn| conn.call.as_mut()) {
            // A full disk still takes the exact size and the sidecar.
            if fault.kind != FaultKind::Full {
                call.recording.fail(pool);
            }
        }
        let reason =
            if fault.kind == FaultKind::Full { EndReason::DiskFull } else { EndReason::StorageError };
        self.drive(token, now, |session, out| session.stop(reason, now.mono, out));
    }

    fn call_of(&mut self, file: FileKey) -> Option<&mut Call> {
        let token = self.owners.get(&file)?;
        self.conns.get_mut(token)?.call.as_mut()
    }

    fn remove(&mut self, token: usize) {
        let Some(mut conn) = self.conns.remove(&token) else { return };
        if let Some(at) = conn.timer {
            self.timers.remove(&(at, token));
        }
        // Closing the descriptor does the same.
        let _ = conn.stream.deregister(&self.registry);
        self.admission.disconnect(conn.peer.ip());
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
        self.metrics.sessions.set(gauge(self.calls));
        self.metrics.connections.set(gauge(self.admission.connections()));
        self.metrics.ports_free.set(gauge(self.ports.free()));
    }

    /// Warns at most once a second: what phones cause must not fill the log.
    fn complain(&mut self, now: Mono, text: impl FnOnce() -> String) {
        if self.complained.is_none_or(|last| now.since(last) >= Duration::from_secs(1)) {
            self.complained = Some(now);
            log::warn!("{}", text());
        }
    }
}

impl Closing {
    fn summary(&self) -> String {
        let counts = &self.counts;
        format!(
            "session_ended {} file={:?} {} octets={} packets={} lost={} late={} duplicate={} dropped={}",
            self.who,
            self.file,
            self.how,
            self.octets,
            counts.received,
            counts.lost,
            counts.late,
            counts.duplicate,
            counts.dropped()
        )
    }
}

fn next_key(last: &mut u64) -> FileKey {
    *last += 1;
    FileKey(*last)
}

/// What a look into a call's socket found.
struct Drained {
    /// RTP of the call.
    heard: bool,
    /// There may be more.
    more: bool,
}

fn drain(
    call: &mut Call,
    receiver: &mut Receiver,
    pool: &mut BlockPool,
    metrics: &Metrics,
    now: Mono,
) -> Drained {
    let recording = &mut call.recording;
    let codec = recording.codec();
    let mut heard = false;
    let received = receiver.drain(&call.socket, call.v6, |datagram, source| {
        heard |= recording.datagram(datagram, source, now, pool);
    });
    let count = received.unwrap_or_else(|error| {
        log::debug!("rtp port={}: {error}", call.port);
        0
    });
    if recording.codec() != codec {
        log::info!("codec_changed port={} from={} to={}", call.port, codec.name(), recording.codec().name());
    }
    if count > 0 {
        metrics.packets_received.inc_by(count as u64);
    }
    Drained { heard, more: count >= MAX_DRAINED }
}

/// Asks the kernel, now and then, what it could not keep for us.
fn book_overruns(call: &mut Call, metrics: &Metrics) {
    if let Ok(drops) = socket_drops(call.socket.as_fd()) {
        let news = call.recording.overran(u64::from(drops));
        if news > 0 {
            log::warn!("rtp_overrun port={} packets={news}", call.port);
            metrics.packets_overrun.inc_by(news);
        }
    }
}

fn reason_class(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Stopped(_) => "stopped",
        EndReason::ConnectionLost => "connection_lost",
        EndReason::Idle => "idle",
        EndReason::Protocol(_) => "protocol_error",
        EndReason::DiskFull => "storage_full",
        EndReason::StorageError => "storage_io",
        EndReason::Shutdown => "shutdown",
    }
}
