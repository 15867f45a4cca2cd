//! The mio loop: everything that touches the world, except disks, and decides nothing.
//!
//! Owns: sockets, signals, the mount watch, the clock, the order of a turn. A turn: poll; signals; answers
//! of storage; RTP that is due; timers; clients (their octets are read first, then all RTP, then their
//! lines are taken, so a request sees every packet that came before it); writing to clients. Invariant:
//! nothing but poll waits.

pub mod check;
mod clients;
mod confinement;
pub mod drain_schedule;
pub mod environment;
mod mac_address;
mod playback_sockets;
mod rtp_ports;
mod server_connections;

use crate::agent::{Action, Agent, Fence, Input, RecordingKey, UplinkAction, UplinkInput};
use crate::api::status::SandboxStatus;
use crate::config::Config;
use clients::{Clients, MAX_CLIENTS, most_clients};
use crossbeam_channel::{Sender, TrySendError};
use environment::{Environment, RtpPortChange};
use media::time::{Mono, Now};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use os::clock::{self, Clock};
use os::notify::Notifier;
use os::secret_file;
use playback_sockets::PlaybackSockets;
use recfile::seal::origin::SignKey;
use rtp_ports::{Due, Inbox, RtpPorts};
use server_connections::{Channel, ServerConnections};
use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{fmt, io};
use store::access::{Access, group_id};
use store::disks::Disks;
use store::fs::Fs;
use store::jobs::Job;
use store::seal::Seals;
use store::thread::{self, Handle};
use store::writer::Writer;
use store::writer::per_file::PerFile;

const SIGNALS: Token = Token(0);
const STORAGE: Token = Token(1);
const MOUNTS: Token = Token(2);
const LISTENER: Token = Token(3);
/// The first token of connections and RTP ports; they count up and are never used twice.
const FIRST_FREE: usize = 16;

/// Events taken from poll at a time.
const EVENTS: usize = 64;

/// Longest time between two drains of an RTP port. A status and a pause look at the port at once anyway.
const LONGEST_DRAIN: Duration = Duration::from_millis(980);

/// Longest time that the first look at the disks may keep clients waiting.
const FIRST_LOOK: Duration = Duration::from_millis(300);

/// Why the process can't go on.
#[derive(Debug)]
pub enum RuntimeError {
    /// The local socket can't be created.
    Socket(std::path::PathBuf, io::Error),
    /// The local socket can't be given to its group.
    SocketGroup(io::Error),
    /// The system refused something that every Linux grants.
    System(&'static str, io::Error),
    /// The storage thread is gone.
    StorageGone,
    /// Storage did not finish in time after a signal to end.
    NotFinalised,
    /// The key that recordings are signed with can't be had.
    SignKey(String),
    /// `sandbox.enabled = "strict"`, and a measure is not available.
    Sandbox(String),
}

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path, error) => {
                let advice = match error.kind() {
                    io::ErrorKind::NotFound => ": make its folder",
                    io::ErrorKind::PermissionDenied => {
                        ": run recordd as root, or choose a folder that its user may write to"
                    }
                    io::ErrorKind::AlreadyExists => ": remove it, or choose another path",
                    _ => "",
                };
                write!(f, "cannot create the socket {}: {error}{advice} (control.socket)", path.display())
            }
            Self::SocketGroup(error) => {
                let advice = match error.kind() {
                    io::ErrorKind::NotFound => "make the group, or name another one",
                    _ => "run recordd as root or as a member of that group, or name another one",
                };
                write!(f, "cannot give the socket to its group: {error}: {advice} (control.group)")
            }
            Self::System(what, error) => write!(f, "cannot {what}: {error}"),
            Self::SignKey(reason) => write!(f, "{reason} (storage.sign_key)"),
            Self::Sandbox(missing) => {
                write!(f, "the sandbox is not complete, and sandbox.enabled is \"strict\": {missing}")
            }
            Self::StorageGone => write!(f, "the storage thread ended unexpectedly; please report this"),
            Self::NotFinalised => {
                write!(
                    f,
                    "the disk did not answer, so recordings are not finalised; the next start repairs them"
                )
            }
        }
    }
}

impl std::error::Error for RuntimeError {}

/// The loop and everything it holds.
pub struct Runtime {
    poll: Poll,
    agent: Agent,
    clock: Clock,
    storage: Handle,
    clients: Clients,
    rtp: RtpPorts,
    playback_sockets: PlaybackSockets,
    server_connections: ServerConnections,
    signals: SignalFd,
    /// Kept open: poll watches its descriptor.
    _mounts: Option<File>,
    rtp_watch: Option<Sender<RtpPortChange>>,
    next_token: usize,
    actions: Vec<Action>,
    /// Answers to actions that are at hand at once.
    answers: VecDeque<Input<'static>>,
    notifier: Notifier,
    exit: Option<bool>,
}

impl Runtime {
    /// Sets everything up: from here on the socket exists and signals are held for the loop.
    ///
    /// # Errors
    /// [`RuntimeError`] names the call that the system refused.
    pub fn new(config: Config) -> Result<Self, RuntimeError> {
        let access = Access::of(config.storage.mode, config.storage.recordings_group.as_ref())
            .map_err(|error| RuntimeError::System("find the group of storage.recordings_group", error))?;
        Self::within(config, Environment::real(access))
    }

    /// The same in other environment.
    ///
    /// # Errors
    /// [`RuntimeError`] names the call that the system refused.
    pub fn within<F>(config: Config, environment: Environment<F>) -> Result<Self, RuntimeError>
    where
        F: Fs + Disks + Send + 'static,
        F::File: Send,
    {
        let Environment { fs, disk_changes, rtp_watch, confined } = environment;
        let system = |what| move |error: io::Error| RuntimeError::System(what, error);
        let poll = Poll::new().map_err(system("create a poll"))?;
        // Before any thread exists, so that none of them takes the signals.
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        let mut blocked = set;
        // A write beyond RLIMIT_FSIZE is an error, not an end.
        blocked.add(Signal::SIGXFSZ);
        // A terminal that closes must not end a recording.
        blocked.add(Signal::SIGHUP);
        blocked.thread_block().map_err(|errno| RuntimeError::System("block signals", errno.into()))?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map_err(|errno| RuntimeError::System("watch signals", errno.into()))?;
        let registry = poll.registry();
        registry
            .register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)
            .map_err(system("watch signals"))?;
        if let Some((file, interest)) = &disk_changes {
            registry
                .register(&mut SourceFd(&file.as_raw_fd()), MOUNTS, *interest)
                .map_err(system("watch mounts"))?;
        }
        let group =
            config.control.group.as_ref().map(group_id).transpose().map_err(RuntimeError::SocketGroup)?;
        let descriptors = os::file_limit();
        let most = most_clients(descriptors, config.rtp.max_recordings);
        if most < MAX_CLIENTS {
            log::warn!(
                "the process may open {descriptors} files: at most {most} clients get in; raise RLIMIT_NOFILE"
            );
        }
        let clients = Clients::listen(&config.control, most, registry, LISTENER)
            .map_err(|error| RuntimeError::Socket(config.control.socket.clone(), error))?;
        if let Some(group) = group {
            clients.give_to(group).map_err(RuntimeError::SocketGroup)?;
        }
        let waker = Arc::new(Waker::new(registry, STORAGE).map_err(system("create a waker"))?);
        let server_connections = ServerConnections::new(&config.uplink, Arc::clone(&waker));
        let capacity = config.rtp.max_recordings * 4 + 64;
        let seals = Seals {
            recipients: config.storage.encrypt_to.clone(),
            sign_key: sign_key(&config).map_err(RuntimeError::SignKey)?,
        };
        let notifier = Notifier::from_environment();
        // Before any thread exists, since much of it holds for a thread and those that it starts.
        let sandbox = if confined { confinement::enter(&config) } else { Ok(SandboxStatus::default()) };
        let sandbox = sandbox.map_err(RuntimeError::Sandbox)?;
        let writer = Writer::new(fs, clock::mono, PerFile::with_seals(seals));
        let storage = thread::spawn(writer, capacity, move || {
            // The only failure is a full counter, and then the loop is woken already.
            let _ = waker.wake();
        })
        .map_err(system("start the storage thread"))?;
        let mut clock = Clock::default();
        // Less than the flush interval, so that waking and writing fit in it, too: no packet waits longer for
        // the disk.
        let longest_drain = LONGEST_DRAIN.min(config.storage.flush_interval * 98 / 100);
        let rtp = RtpPorts::new(longest_drain, config.rtp.max_recordings);
        let mut agent = Agent::new(config, entropy(), clock.now());
        agent.set_sandbox(sandbox);
        Ok(Self {
            poll,
            agent,
            clock,
            storage,
            clients,
            rtp,
            playback_sockets: PlaybackSockets::default(),
            server_connections,
            signals,
            _mounts: disk_changes.map(|(file, _)| file),
            rtp_watch,
            next_token: FIRST_FREE,
            actions: Vec::new(),
            answers: VecDeque::new(),
            notifier,
            exit: None,
        })
    }

    /// Runs until a signal ends it and every recording is finished.
    ///
    /// # Errors
    /// [`RuntimeError`] if it can't go on or storage did not finish.
    pub fn run(mut self) -> Result<(), RuntimeError> {
        let mut events = Events::with_capacity(EVENTS);
        self.begin()?;
        self.notifier.ready(clock::mono());
        while self.exit.is_none() {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(RuntimeError::System("wait for events", error));
                }
                _ => {}
            }
            let now = self.clock.now();
            if !events.is_empty() {
                self.dispatch(&events, now)?;
            }
            self.turn(now)?;
            self.notifier.alive(now.mono);
        }
        // The answer of storage that was the last may have come after the turn had written to clients.
        let now = self.clock.now();
        let Self { clients, agent, actions, poll, .. } = &mut self;
        clients.write(poll.registry(), now.mono, |input| agent.step(input, now, actions));
        clients.unlink();
        match self.exit {
            Some(false) => Err(RuntimeError::NotFinalised),
            _ => Ok(()),
        }
    }

    fn begin(&mut self) -> Result<(), RuntimeError> {
        let now = self.clock.now();
        self.step(Input::Started, now)?;
        // The first client should see the disk; one that does not answer keeps nobody waiting for long.
        match self.storage.done.recv_timeout(FIRST_LOOK) {
            Ok(done) => self.step(Input::Storage(done), now),
            Err(_) => Ok(()),
        }
    }

    fn dispatch(&mut self, events: &Events, now: Now) -> Result<(), RuntimeError> {
        for event in events {
            match event.token() {
                SIGNALS => self.signalled(now)?,
                STORAGE => {}
                MOUNTS => self.step(Input::MountsChanged, now)?,
                LISTENER => self.clients.set_acceptable(),
                token => {
                    self.rtp.woken(self.poll.registry(), token, now.mono);
                    self.clients.set_ready(token, event);
                    self.server_connections.set_ready(token, event.is_readable(), event.is_writable());
                }
            }
        }
        Ok(())
    }

    fn turn(&mut self, now: Now) -> Result<(), RuntimeError> {
        while let Ok(done) = self.storage.done.try_recv() {
            self.step(Input::Storage(done), now)?;
        }
        if self.server_connections.is_used() {
            self.serve_servers(now)?;
        }
        let is_due = self.agent.deadline().is_some_and(|due| due <= now.mono);
        // A flush takes along the packets that have arrived; with older drains only, the disk would be behind
        // by both intervals.
        self.drain_rtp(now, is_due, false)?;
        if is_due {
            self.step(Input::Tick, now)?;
        }
        if self.clients.has_work() {
            self.serve_clients(now)?;
        }
        let Self { clients, agent, actions, poll, .. } = self;
        clients.write(poll.registry(), now.mono, |input| agent.step(input, now, actions));
        self.apply(now)?;
        // An answer that the next step depends on wakes us; one that came before this was said is here.
        let waits = self.agent.waits_for_storage();
        self.storage.wake_always.store(waits, Ordering::SeqCst);
        if waits {
            while let Ok(done) = self.storage.done.try_recv() {
                self.step(Input::Storage(done), now)?;
            }
        }
        Ok(())
    }

    fn serve_clients(&mut self, now: Now) -> Result<(), RuntimeError> {
        let Self { clients, agent, actions, poll, next_token, .. } = self;
        let new_token = || {
            *next_token += 1;
            Token(*next_token)
        };
        clients.accept(poll.registry(), new_token, |input| agent.step(input, now, actions));
        self.apply(now)?;
        if !self.clients.read() {
            return Ok(());
        }
        // Every packet that came before the request is counted before the request is taken.
        self.drain_rtp(now, true, false)?;
        let Self { clients, agent, actions, rtp, poll, .. } = self;
        clients.take_lines(|input| {
            if let Input::ClientLine(_, line) = &input {
                // Packets wait in the sockets for want of room. Those from before a pause or an end can't.
                let fence = if agent.has_room() { Fence::None } else { agent.fence(line) };
                let only = if let Fence::One(recording) = fence { Some(recording) } else { None };
                if fence != Fence::None {
                    rtp.drain(poll.registry(), Inbox { agent, actions, now }, Due::Fence(only), false);
                }
            }
            let before = actions.len();
            agent.step(input, now, actions);
            actions[before..].iter().map(answered_octets).sum()
        });
        self.apply(now)
    }

    /// The server's messages count before its closed RTP port does.
    fn serve_servers(&mut self, now: Now) -> Result<(), RuntimeError> {
        let Self { server_connections, agent, actions, poll, .. } = self;
        server_connections.take_answers(|input| agent.step(input, now, actions));
        server_connections.work(poll.registry(), |input| agent.step(input, now, actions));
        self.apply(now)
    }

    /// Unless `forced`, packets without room in the pool stay in the sockets' buffers, which bridge a stalled
    /// disk, too.
    fn drain_rtp(&mut self, now: Now, all: bool, forced: bool) -> Result<(), RuntimeError> {
        let Self { rtp, agent, actions, poll, .. } = self;
        let due = if all { Due::All } else { Due::Now };
        rtp.drain(poll.registry(), Inbox { agent, actions, now }, due, !forced);
        self.apply(now)
    }

    fn step(&mut self, input: Input<'_>, now: Now) -> Result<(), RuntimeError> {
        self.agent.step(input, now, &mut self.actions);
        self.apply(now)
    }

    /// Carries out the agent's actions, until none is left.
    fn apply(&mut self, now: Now) -> Result<(), RuntimeError> {
        loop {
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                self.act(action)?;
            }
            // Keeps the memory of the list, and the actions that the answers below add to it.
            actions.append(&mut self.actions);
            self.actions = actions;
            let Some(answer) = self.answers.pop_front() else {
                if self.actions.is_empty() {
                    return Ok(());
                }
                continue;
            };
            self.agent.step(answer, now, &mut self.actions);
        }
    }

    fn act(&mut self, action: Action) -> Result<(), RuntimeError> {
        match action {
            Action::Job(job) => return self.submit(job),
            Action::OweReply(client) => self.clients.owe(client),
            Action::Reply(client, line) => self.clients.reply(client, &line),
            Action::Notify { client, name, params, class } => {
                self.clients.notify(client, name, &params, class);
            }
            Action::BindRtp { recording, addr, ports, codec } => {
                self.next_token += 1;
                let token = Token(self.next_token);
                let result = self.rtp.bind(self.poll.registry(), token, recording, addr, &ports);
                if let (Some(watch), Ok(addr)) = (&self.rtp_watch, &result) {
                    let _ = watch.try_send(RtpPortChange::Bound { recording, addr: *addr, codec });
                }
                self.answers.push_back(Input::RtpBound(recording, result));
            }
            Action::OpenPlayer { playback, target } => {
                if let Err(error) = self.playback_sockets.open(playback, target) {
                    log::warn!("no socket for a playback: {error}");
                    self.answers.push_back(Input::PlayerFailed(playback));
                }
            }
            Action::SendPlayed { playback, packet } => self.playback_sockets.send(playback, &packet),
            Action::ClosePlayer(playback) => self.playback_sockets.close(playback),
            Action::CloseRtp(recording) => {
                self.rtp.close(self.poll.registry(), recording);
                if let Some(watch) = &self.rtp_watch {
                    let _ = watch.try_send(RtpPortChange::Closed(recording));
                }
            }
            Action::FilterRtp(recording, sender) => self.rtp.filter(recording, sender),
            Action::RelayHeld(recording, waiting) => {
                let failed = self.rtp.send_held(recording, &waiting);
                if failed > 0 {
                    self.answers.push_back(Input::Uplink(recording, UplinkInput::RelayFailed(failed)));
                }
            }
            Action::Uplink(recording, action) => self.act_on_uplink(recording, action),
            Action::Log(level, text) => log::log!(level, "{text}"),
            Action::Exit { finalised } => self.exit = Some(finalised),
        }
        Ok(())
    }

    /// Gives storage a job. The jobs behind a refused one are refused, too, though there may be room by now:
    /// they keep their order.
    fn submit(&mut self, job: Job) -> Result<(), RuntimeError> {
        if self.answers.iter().any(|answer| matches!(answer, Input::JobRefused(_))) {
            self.answers.push_back(Input::JobRefused(job));
            return Ok(());
        }
        match self.storage.submit(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => self.answers.push_back(Input::JobRefused(job)),
            Err(TrySendError::Disconnected(_)) => return Err(RuntimeError::StorageGone),
        }
        Ok(())
    }

    fn act_on_uplink(&mut self, recording: RecordingKey, action: UplinkAction) {
        let Self { server_connections, rtp, poll, answers, next_token, .. } = self;
        match action {
            UplinkAction::Resolve(generation, host) => {
                if !server_connections.resolve(recording, generation, host) {
                    answers
                        .push_back(Input::Uplink(recording, UplinkInput::Resolved(generation, Vec::new())));
                }
            }
            UplinkAction::Connect(generation, addr) => {
                *next_token += 1;
                let result = server_connections.connect(
                    poll.registry(),
                    Token(*next_token),
                    recording,
                    Channel::Control,
                    generation,
                    addr,
                );
                if let Err(error) = result {
                    let input = UplinkInput::ConnectFailed(generation, error.to_string());
                    answers.push_back(Input::Uplink(recording, input));
                }
            }
            UplinkAction::Send(octets) => server_connections.send(recording, Channel::Control, &octets),
            UplinkAction::RelayTo(None) => rtp.relay(poll.registry(), recording, None),
            UplinkAction::RelayTo(Some(target)) => match server_connections.media_socket(recording, target) {
                Ok(socket) => rtp.relay(poll.registry(), recording, Some(socket)),
                Err(error) => {
                    let error = format!("cannot send RTP to {target}: {error}");
                    let input = UplinkInput::Closed { error: Some(error), silent: false };
                    answers.push_back(Input::Uplink(recording, input));
                }
            },
            UplinkAction::Close => server_connections.close(poll.registry(), recording, Channel::Control),
            UplinkAction::ConnectMedia(generation, addr) => {
                *next_token += 1;
                let channel = Channel::Media;
                let token = Token(*next_token);
                let result =
                    server_connections.connect(poll.registry(), token, recording, channel, generation, addr);
                if let Err(error) = result {
                    let error = Some(format!("cannot send media to {addr}: {error}"));
                    let input = UplinkInput::MediaClosed(generation, error);
                    answers.push_back(Input::Uplink(recording, input));
                }
            }
            UplinkAction::SendMedia(octets) => server_connections.send(recording, Channel::Media, &octets),
            UplinkAction::CloseMedia => server_connections.close(poll.registry(), recording, Channel::Media),
        }
    }

    fn signalled(&mut self, now: Now) -> Result<(), RuntimeError> {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            log::info!("signal {} received, finishing", signal.ssi_signo);
            self.notifier.stopping();
            // Packets that have arrived belong to the recordings.
            self.drain_rtp(now, true, true)?;
            self.step(Input::Shutdown, now)?;
        }
        Ok(())
    }

    /// The time-out of poll: zero with work at hand, none with nothing due.
    fn timeout(&mut self) -> Option<Duration> {
        if self.clients.has_work() || self.server_connections.has_work() {
            return Some(Duration::ZERO);
        }
        let deadlines =
            [self.agent.deadline(), self.rtp.deadline(), self.clients.deadline(), self.notifier.deadline()];
        let next: Option<Mono> = deadlines.into_iter().flatten().min();
        next.map(|due| due.since(clock::mono()))
    }
}

fn answered_octets(action: &Action) -> usize {
    match action {
        Action::Reply(_, line) => line.len(),
        _ => 0,
    }
}

/// The key that recordings are signed with, if the config has one.
///
/// # Errors
/// Why it can't be had, or is not kept secret.
pub fn sign_key(config: &Config) -> Result<Option<SignKey>, String> {
    let Some(path) = &config.storage.sign_key else { return Ok(None) };
    let pem = secret_file::read(path)?;
    SignKey::parse(&pem).map(Some).map_err(|error| format!("{}: {error}", path.display()))
}

/// A number that differs from run to run.
fn entropy() -> u64 {
    use std::io::Read;
    let mut octets = [0; 8];
    let filled = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut octets));
    match filled {
        Ok(()) => u64::from_ne_bytes(octets),
        Err(_) => clock::unix_ns().unsigned_abs() ^ u64::from(std::process::id()),
    }
}
