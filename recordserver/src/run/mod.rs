//! The server's loop: sockets, clock, signals. Decisions are in the modules that it drives.
//!
//! Control connections wake the loop; RTP does not: all RTP sockets are swept on a timer, which costs a
//! fraction of a wake-up for each packet. The loop never waits but in `poll`: files are the storage
//! thread's, reached by a bounded channel and never waited for; jobs that do not fit stay in the recordings'
//! blocks until those run out.

mod call;
mod confinement;
mod conn;
mod ended;
mod media_conn;
mod sessions;

use crate::admission::Limits;
use crate::advice::{Wanted, refused};
use crate::check;
use crate::config::{Config, Http, MediaListen, StatusSocket};
use crate::drain;
use crate::folders::Names;
use crate::http::{self, Rows, SocketFile};
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::rates::Devices;
use crate::recover::{Marker, Recovered};
use crate::tokens::{SECRET, Signer};
use crate::used_ids::USED_IDS;
use crossbeam_channel::{Receiver as Queue, Sender, bounded};
use media::time::{Mono, Now};
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use os::clock::{self, Clock};
use os::notify::Notifier;
use os::{file_limit, share_heap};
use sessions::{Found, Sessions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::access::Access;
use store::fs::SystemFs;
use store::jobs::{Job, Target};
use store::writer::Writer;
use store::writer::checkpoints::Checkpoints;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const SIGNALS: Token = Token(2);
const MEDIA: Token = Token(3);
const FIRST_CONNECTION: usize = 16;

/// Longest time that RTP waits in its socket: five packets of a call at 20 ms each.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// The interval at which the room on the disk is asked for.
const SCAN_INTERVAL: Duration = Duration::from_secs(5);

/// Time after which the server goes down although something is not finished.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(30);

/// Jobs in the channel to the storage thread.
const JOB_QUEUE: usize = 1024;

/// Connections accepted before other things have their turn.
const ACCEPT_BUDGET: usize = 128;

/// The time that the status interface waits for the loop.
const LOOP_ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// Between two answers to the status interface: a client that asks without end costs the calls next to
/// nothing.
const ANSWER_INTERVAL: Duration = Duration::from_millis(5);

/// A question of the status interface.
struct Asked {
    from: usize,
    count: usize,
    answer: Sender<Rows>,
}

/// Runs until SIGTERM or SIGINT, or until it is drained, with every recording finalised then.
///
/// # Errors
/// The obstacle to a start: an address in use, a storage folder that is not there.
pub fn run(config: Config) -> io::Result<()> {
    // Before any thread, so that all have them blocked.
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    // A terminal that closes must not end recordings.
    mask.add(Signal::SIGHUP);
    mask.add(drain::SIGNAL);
    let mut blocked = mask;
    // A write beyond RLIMIT_FSIZE is an error, not an end.
    blocked.add(Signal::SIGXFSZ);
    blocked.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let descriptors = file_limit();
    share_heap();

    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let mut listener = TcpListener::bind(config.listen)
        .map_err(|error| refused(&format!("listen on {}", config.listen), Wanted::Listen, &error))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    poll.registry().register(&mut SourceFd(&signals.as_raw_fd()), SIGNALS, Interest::READABLE)?;

    let media = media_listener(config.media, poll.registry())?;

    let metrics = Arc::new(Metrics::new());
    let http = http_listener(config.http)?;
    let storage_waker = Arc::clone(&waker);
    let access = check::group(&config)?;
    let mut notifier = Notifier::from_environment();
    confinement::enter(&config)?;
    let registry = poll.registry().try_clone()?;
    let disk = check::storage(&config.storage)?;
    let storage_folder = config.storage.display().to_string();
    let of_storage =
        |what: &str, error: &io::Error| refused(&format!("{what} {storage_folder}"), Wanted::Storage, error);
    let fs = SystemFs { access };
    let mut clock = Clock::default();
    let journal = Arc::new(Mutex::new(Journal::new(&config.storage)));
    let Recovered { marker, summary: found, used_ids, ids_file } =
        Marker::recover(&fs, &config.storage, clock.now().wall, Arc::clone(&journal))
            .map_err(|error| of_storage("recover recordings in", &error))?;
    let ids_file = ids_file.inspect_err(|error| {
        log::warn!("{USED_IDS} can't be written: {error}; every id gets something random behind it");
    });
    let checkpoint = config.flush_interval / 2;
    let checkpoints = Checkpoints::new(checkpoint, Ledger::new(journal, ids_file.ok()), clock::mono());
    let storage = store::thread::spawn(Writer::new(fs, clock::mono, checkpoints), JOB_QUEUE, move || {
        // Failing to wake costs one sweep interval.
        let _ = storage_waker.wake();
    })?;
    if found.folders > 0 || found.failed > 0 {
        let crate::recover::Summary { folders, recordings, failed } = found;
        log::warn!("recovered recordings={recordings} folders={folders} failed={failed}");
    }
    // In the storage folder, which is ours alone by now.
    let (asked, _socket) = serve_status(&config, http, &metrics, &waker)?;
    let tokens = match &media {
        Some(media) => {
            let addr = media.local_addr()?;
            log::info!("audio by TCP at {addr}, of phones that ask for it");
            let signer = Signer::of_storage(&config.storage)
                .map_err(|error| of_storage(&format!("use the secret {SECRET} in"), &error))?;
            Some((addr.port(), signer))
        }
        None => None,
    };
    log::info!("listening on {}, recordings to {}", listener.local_addr()?, config.storage.display());
    let names = Names::probe(&config.storage);
    if names == Names::WithoutColons {
        log::info!(
            "the filesystem of {} takes no \":\" in names: it is \"_\" there",
            config.storage.display()
        );
    }
    let mut config = config;
    let mut descriptors = descriptors;
    if let Some(octets) = memory_limit() {
        descriptors = descriptors.min(Limits::descriptors_for(octets));
        if config.buffer_octets > octets / 2 {
            config.buffer_octets = octets / 2;
            log::warn!("little memory may be used (LimitAS of the service): buffer={}", config.buffer_octets);
        }
    }
    tell_fitted(config.limits, descriptors);
    let devices = known_devices(&config).map_err(|error| of_storage("list", &error))?;
    let found = Found { disk, names, devices, used_ids, descriptors, media: tokens };
    notifier.ready(clock::mono());
    let sessions = Sessions::new(config, registry, storage, found, metrics);
    Loop {
        poll,
        listener,
        media,
        signals,
        sessions,
        asked,
        marker,
        access,
        notifier,
        clock,
        accepts: false,
        accepts_media: false,
        answered: clock::mono(),
        swept: clock::mono(),
        scanned: clock::mono(),
    }
    .run()
}

struct Loop {
    poll: Poll,
    listener: TcpListener,
    media: Option<TcpListener>,
    signals: SignalFd,
    sessions: Sessions,
    asked: Queue<Asked>,
    marker: Marker,
    access: Access,
    notifier: Notifier,
    clock: Clock,
    /// There may be connections to accept that no event will tell of.
    accepts: bool,
    /// The same for media.
    accepts_media: bool,
    /// The status interface had an answer.
    answered: Mono,
    swept: Mono,
    scanned: Mono,
}

impl Loop {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut down: Option<Mono> = None;
        loop {
            match self.poll.poll(&mut events, Some(self.timeout(down))) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = self.clock.now();
            for event in &events {
                match event.token() {
                    LISTENER => self.accepts = true,
                    MEDIA => self.accepts_media = true,
                    WAKER => {}
                    SIGNALS => {
                        while let Ok(Some(signal)) = self.signals.read_signal() {
                            if signal.ssi_signo == Signal::SIGHUP as u32 {
                                continue;
                            }
                            if signal.ssi_signo == drain::SIGNAL as u32 {
                                log::info!("draining, {} recordings go on", self.sessions.calls());
                                self.sessions.drain();
                                continue;
                            }
                            if down.is_some() {
                                return Err(io::Error::other(
                                    "told to go down twice: not everything is finished",
                                ));
                            }
                            down = Some(self.go_down(now));
                        }
                    }
                    token => self.sessions.ready(token, now),
                }
            }
            self.accept(now);
            self.accept_media(now);
            self.sessions.done(now);
            self.sessions.resume(now);
            self.sessions.timers(now);
            if now.mono.since(self.swept) >= SWEEP_INTERVAL {
                self.swept = now.mono;
                self.sessions.sweep(now);
            }
            if now.mono.since(self.scanned) >= SCAN_INTERVAL {
                self.scanned = now.mono;
                self.sessions.scan();
                self.sessions.relieve(now);
                let open = self.sessions.unfinished_since(now);
                let fs = SystemFs { access: self.access };
                if let Some(again) = self.marker.try_again(fs, &open, now.mono) {
                    log::warn!("recovered recordings={} failed={}", again.recordings, again.failed);
                }
                self.marker.unfinished_since(open);
            }
            self.notifier.alive(now.mono);
            self.answer(now.mono);
            self.sessions.hand_over_jobs();
            if down.is_none() && self.sessions.is_drained() {
                down = Some(self.go_down(now));
            }
            if let Some(deadline) = down {
                if self.sessions.is_finished() {
                    self.marker.end(!self.sessions.has_left_some());
                    return Ok(());
                }
                if deadline <= now.mono {
                    return Err(io::Error::other("the disk does not take the last recordings"));
                }
            }
        }
    }

    /// Finishes all recordings; until when that may take.
    fn go_down(&mut self, now: Now) -> Mono {
        log::info!("going down, finishing {} recordings", self.sessions.calls());
        self.notifier.stopping();
        self.sessions.shut_down(now);
        now.mono + SHUTDOWN_WITHIN
    }

    fn timeout(&self, down: Option<Mono>) -> Duration {
        let now = clock::mono();
        let sweep = (self.sessions.needs_sweep() || self.accepts || self.accepts_media)
            .then_some(self.swept + SWEEP_INTERVAL);
        let scan = Some(self.scanned + SCAN_INTERVAL);
        let answer = (!self.asked.is_empty()).then_some(self.answered + ANSWER_INTERVAL);
        let next = [
            sweep,
            scan,
            down,
            answer,
            self.notifier.deadline(),
            self.sessions.next_timer(),
            self.sessions.next_unread(),
        ]
        .into_iter()
        .flatten()
        .min();
        next.map_or(SCAN_INTERVAL, |next| next.since(now))
    }

    fn answer(&mut self, now: Mono) {
        if now.since(self.answered) < ANSWER_INTERVAL {
            return;
        }
        if let Ok(asked) = self.asked.try_recv() {
            self.answered = now;
            // The client may have gone.
            let _ = asked.answer.try_send(self.sessions.status(asked.from, asked.count, now));
        }
    }

    fn accept(&mut self, now: Now) {
        for _ in 0..ACCEPT_BUDGET {
            if !self.accepts {
                return;
            }
            match accepted(&self.listener) {
                Ok(Some((stream, peer))) => self.sessions.connected(stream, peer, now),
                Ok(None) => self.accepts = false,
                // They wait in the backlog until the next sweep.
                Err(error) => return self.sessions.accept_failed(&error, now.mono),
            }
        }
    }

    fn accept_media(&mut self, now: Now) {
        for _ in 0..ACCEPT_BUDGET {
            let Some(listener) = self.media.as_ref().filter(|_| self.accepts_media) else { return };
            match accepted(listener) {
                Ok(Some((stream, peer))) => self.sessions.media_connected(stream, peer, now),
                Ok(None) => self.accepts_media = false,
                Err(error) => return self.sessions.accept_failed(&error, now.mono),
            }
        }
    }
}

/// The next connection; `None` if there is none for now. It fails for want of descriptors or memory.
fn accepted(listener: &TcpListener) -> io::Result<Option<(TcpStream, SocketAddr)>> {
    loop {
        match listener.accept() {
            Ok(accepted) => return Ok(Some(accepted)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Takes the port for audio by TCP, if it is wanted.
fn media_listener(wanted: Option<MediaListen>, registry: &Registry) -> io::Result<Option<TcpListener>> {
    let Some(MediaListen { addr, may_fail }) = wanted else { return Ok(None) };
    let failed = |error: &io::Error| refused(&format!("listen on {addr} for audio"), Wanted::Media, error);
    match TcpListener::bind(addr) {
        Ok(mut listener) => {
            registry.register(&mut listener, MEDIA, Interest::READABLE)?;
            Ok(Some(listener))
        }
        Err(error) if may_fail => {
            log::warn!("no audio by TCP: {}", failed(&error));
            Ok(None)
        }
        Err(error) => Err(failed(&error)),
    }
}

/// Metrics and status as the settings have them; dropping the result removes the socket's file.
fn serve_status(
    config: &Config,
    tcp: Option<std::net::TcpListener>,
    metrics: &Arc<Metrics>,
    waker: &Arc<Waker>,
) -> io::Result<(Queue<Asked>, Option<SocketFile>)> {
    let (ask, asked) = bounded::<Asked>(1);
    let mut socket = status_socket(&config.status_socket)?;
    if tcp.is_some() || socket.is_some() {
        let waker = Arc::clone(waker);
        let question = move |from, count| {
            let (answer, answered) = bounded(1);
            ask.send_timeout(Asked { from, count, answer }, LOOP_ANSWERS_WITHIN).ok()?;
            waker.wake().ok()?;
            answered.recv_timeout(LOOP_ANSWERS_WITHIN).ok()
        };
        http::serve(tcp, socket.as_mut(), Arc::clone(metrics), Box::new(question))
            .map_err(|error| io::Error::new(error.kind(), format!("cannot serve metrics: {error}")))?;
    }
    Ok((asked, socket))
}

fn http_listener(http: Http) -> io::Result<Option<std::net::TcpListener>> {
    let Some(addr) = http.addr() else { return Ok(None) };
    let unserved = |error: &io::Error| refused(&format!("serve metrics on {addr}"), Wanted::Http, error);
    match http::listen(addr) {
        Ok(listener) => {
            log::info!("metrics and status at http://{}/metrics and /sessions", listener.local_addr()?);
            Ok(Some(listener))
        }
        Err(error) if http == Http::Default => {
            log::warn!("no metrics and status: {}", unserved(&error));
            Ok(None)
        }
        Err(error) => Err(unserved(&error)),
    }
}

fn status_socket(wanted: &StatusSocket) -> io::Result<Option<SocketFile>> {
    let Some(path) = &wanted.path else { return Ok(None) };
    let unserved =
        |error: &io::Error| refused(&format!("listen on {}", path.display()), Wanted::StatusSocket, error);
    match SocketFile::bind(path, wanted.mode) {
        Ok(file) => Ok(Some(file)),
        Err(error) if wanted.may_fail => {
            log::warn!("no status socket: {}", unserved(&error));
            Ok(None)
        }
        Err(error) => Err(unserved(&error)),
    }
}

/// Memory that the process may still have, if there is a limit (RLIMIT_AS, `LimitAS` of a service).
#[allow(clippy::useless_conversion, reason = "limits have 32 bits on 32-bit systems")]
fn memory_limit() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_AS).ok().filter(|(soft, _)| *soft != RLIM_INFINITY)?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB"));
    let used = kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024;
    Some(u64::from(soft).saturating_sub(used))
}

/// Tells if the limits are lower than the settings.
fn tell_fitted(limits: Limits, descriptors: u64) {
    if let Some(fitted) = limits.fitted(descriptors) {
        log::warn!(
            "few files may be open or little memory used (LimitNOFILE, LimitAS of the service): sessions={} \
             connections={} rather than {} and {}",
            fitted.sessions,
            fitted.connections,
            limits.sessions,
            limits.connections
        );
    }
}

/// The devices that have a folder.
fn known_devices(config: &Config) -> io::Result<Devices> {
    let folders = std::fs::read_dir(&config.storage)?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok());
    Ok(Devices::new(config.paces.new_devices, folders))
}

/// A job of the storage thread that asks for the room on the disk.
fn scan_job(config: &Config) -> Job {
    Job::Scan(Target::Directory(config.storage.clone()).into())
}
