//! Every decision of the recorder, without a socket, file, clock or thread.
//!
//! Owns: recordings, the disks, clients and their subscriptions. Input and `now` go into
//! [`Agent::step`], actions come out; there is no other way in. Invariants: each request with an id gets
//! exactly one reply; the books of every recording balance; everything that grows has a limit.

mod action;
mod clients;
mod disk;
mod input;
mod library;
mod recordings;
mod routing;

pub use action::{Action, Forward, Taken, UplinkAction};
pub use input::{ClientId, Fence, Input, RecordingKey, SILENT_PEER_AFTER, UplinkInput};
#[cfg(test)]
pub(crate) use library::Info as RecordingInfo;
pub use media::recorder::Datagram;

use crate::agent::clients::answer::PendingReply;
use crate::agent::clients::{Clients, Rest};
use crate::agent::disk::Disks;
use crate::agent::disk::deferred_jobs::DeferredJobs;
use crate::agent::disk::faults::disk_silent;
use crate::agent::library::Library;
use crate::agent::recordings::notices::media_deadline;
use crate::agent::recordings::on_disk::pending_finalisations::PendingFinalisations;
use crate::agent::recordings::recording::leftover::LastSender;
use crate::agent::recordings::recording::phase::Notice;
use crate::agent::recordings::recording::to_file::ToFile;
use crate::agent::recordings::recording::to_server::goes_on;
use crate::agent::recordings::recording::{Recording, STALLED_AFTER, START_ANSWER_AFTER};
use crate::api::ending::TextKey;
use crate::api::error::AgentError;
use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::api::request::{self, Method, RecordStart, Request};
use crate::api::status::RecordingState;
use crate::api::status::{RecordingStatus, SandboxStatus, Stats};
use crate::config::Config;
use media::blocks::BlockPool;
use media::counts::Counts;
use media::time::{Mono, Now};
use std::collections::{BTreeMap, VecDeque};
use store::jobs::Done;
use store::jobs::{Fault, FileKey, Job};

/// Ended recordings that can still be asked for.
const MAX_ENDED: usize = 32;

/// Requests to start that may wait for the first look at the disks.
const MAX_WAITING_STARTS: usize = 64;

/// Whether the agent goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    /// Nothing begins any more, and the process ends when all is finished, or then.
    Ending {
        by: Mono,
    },
    /// The process was told to end.
    Ended,
}

impl Life {
    fn is_ending(self) -> bool {
        self != Self::Running
    }

    fn deadline(self) -> Option<Mono> {
        match self {
            Self::Ending { by } => Some(by),
            Self::Running | Self::Ended => None,
        }
    }
}

/// What every decision of one step has: the time, where actions go, and what all parts share.
struct Turn<'a> {
    now: Now,
    actions: &'a mut Vec<Action>,
    config: &'a Config,
    clients: &'a Clients,
    pool: &'a mut BlockPool,
    ids: &'a mut Ids,
}

impl Turn<'_> {
    /// Tells an event to every client that wants it.
    fn emit(&mut self, event: &Event) {
        self.clients.emit(event, self.actions);
    }

    /// Whether any client wants this event.
    fn wants(&self, name: &str) -> bool {
        self.clients.wants(name)
    }
}

/// Keys and random numbers, none of which comes twice.
#[derive(Debug)]
struct Ids {
    next_key: u64,
    random: u64,
}

impl Ids {
    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    fn file(&mut self) -> FileKey {
        FileKey(self.key())
    }

    /// 16 hexadecimal digits.
    fn id(&mut self) -> String {
        format!("{:016x}", self.random())
    }

    /// The next of the SplitMix64 sequence, which repeats none of its values.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// The decisions of the recorder.
pub struct Agent {
    config: Config,
    clients: Clients,
    pool: BlockPool,
    ids: Ids,
    parts: Parts,
}

/// What is decided about: all but the clients.
struct Parts {
    started: Mono,
    sandbox: SandboxStatus,
    recordings: BTreeMap<RecordingKey, Recording>,
    ended: VecDeque<RecordingStatus>,
    disk: Disks,
    /// Requests that wait for a look at the disks.
    waiting_starts: VecDeque<(Option<PendingReply>, RecordStart, Mono)>,
    deferred: DeferredJobs,
    /// Files that wait for a name's room; each recording has one at most.
    reopening: Vec<(RecordingKey, Fault)>,
    library: Library,
    pending_finalisations: PendingFinalisations,
    /// Who sent last on each fixed port.
    last_senders: Vec<LastSender>,
    life: Life,
    past: Counts,
    paused_packets: u64,
    stats: Stats,
}

impl Agent {
    /// An agent that has just started. `entropy` makes its recording ids unique.
    #[must_use]
    pub fn new(config: Config, entropy: u64, now: Now) -> Self {
        let parts = Parts {
            started: now.mono,
            sandbox: SandboxStatus::default(),
            recordings: BTreeMap::new(),
            ended: VecDeque::new(),
            disk: Disks::new(&config.storage, now.mono),
            waiting_starts: VecDeque::new(),
            deferred: DeferredJobs::default(),
            reopening: Vec::new(),
            library: Library::default(),
            pending_finalisations: PendingFinalisations::default(),
            last_senders: Vec::new(),
            life: Life::Running,
            past: Counts::default(),
            paused_packets: 0,
            stats: Stats::default(),
        };
        let pool = BlockPool::new(config.storage.buffer_octets as u64);
        let ids = Ids { next_key: 1, random: entropy };
        Self { config, clients: Clients::default(), pool, ids, parts }
    }

    /// Tells what the process has given up, for those who ask.
    pub fn set_sandbox(&mut self, sandbox: SandboxStatus) {
        self.parts.sandbox = sandbox;
    }

    /// Takes a datagram of a recording, and tells at once what is sent on.
    pub fn datagram(&mut self, recording: RecordingKey, datagram: Datagram<'_>) -> Taken {
        let forward = self.parts.datagram(recording, datagram, &mut self.pool);
        Taken { forward, room: self.pool.has_room() }
    }

    /// Takes one input; what is to be done is added to `actions`.
    pub fn step(&mut self, input: Input<'_>, now: Now, actions: &mut Vec<Action>) {
        let before = actions.len();
        let rest = self.clients.handle(input, actions);
        let Self { config, clients, pool, ids, parts } = self;
        let turn = &mut Turn { now, actions, config, clients, pool, ids };
        parts.step(rest, before, turn);
    }

    /// Whether something waits for the next answer of storage: a file to be finished, the next one, or the end
    /// of what was said before a pause, in which no packet may come to wake us.
    #[must_use]
    pub fn waits_for_storage(&self) -> bool {
        let waits = |it: &Recording| it.is_impatient() || (it.goes_to_file() && it.paused.is_some());
        self.parts.recordings.values().any(waits)
    }

    /// Whether a batch of packets would find room. If not, they are better left where they are.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.pool.has_room()
    }

    /// When [`Input::Tick`] is due next.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let progress = self.clients.wants("recording.progress");
        let has_room = self.pool.has_room();
        let window = self.config.storage.resume_window;
        let recordings = self.parts.recordings.values().filter_map(|it| {
            let to_file = it.destination.as_file();
            let flush = it.flush_due(self.config.storage.flush_interval);
            let answer = it.waiting.as_ref().and(to_file).map(|_| it.started + START_ANSWER_AFTER);
            let no_media = media_deadline(it, has_room);
            let busy_since =
                to_file.and_then(ToFile::busy_since).filter(|_| !it.notices.has(Notice::Stalled));
            let stalled = busy_since.map(|at| at + STALLED_AFTER);
            let progress = (progress && it.is_live()).then_some(it.progress_at);
            let lost = self.parts.lost_due(it, window);
            let destination = it.destination.deadline();
            [flush, answer, no_media, stalled, progress, lost, destination].into_iter().flatten().min()
        });
        let starts = self.parts.waiting_starts.front().map(|(.., since)| *since + START_ANSWER_AFTER);
        recordings
            .chain(starts)
            .chain(self.parts.deferred.retry_at())
            .chain(self.parts.library_deadline())
            .chain(self.parts.life.deadline())
            .chain(self.parts.library.play_deadline(self.clients.wants("playback.progress")))
            .chain(self.parts.look_due(self.clients.wants("storage.state")))
            .chain(self.parts.finalise_due())
            .min()
    }

    /// Whose packets come before what a client's line asks for. Everything else a client asks can be answered while
    /// packets wait in the sockets for room, so that a question never costs audio.
    #[must_use]
    pub fn fence(&self, line: &[u8]) -> Fence {
        let Ok(Request { method, .. }) = request::parse(line) else { return Fence::None };
        match method {
            Method::RecordPause { recording }
            | Method::RecordResume { recording }
            | Method::RecordStop { recording } => {
                self.parts.live(recording.as_deref()).map_or(Fence::None, Fence::One)
            }
            Method::StorageEject => Fence::All,
            _ => Fence::None,
        }
    }
}

impl Parts {
    fn datagram(&mut self, recording: RecordingKey, datagram: Datagram<'_>, pool: &mut BlockPool) -> Forward {
        let Datagram { octets, truncated, arrival, .. } = datagram;
        let Some(it) = self.recordings.get_mut(&recording) else { return Forward::Nothing };
        self.stats.bytes += octets.len() as u64;
        if !it.takes_audio() {
            self.paused_packets += 1;
            // What comes before the server's answer is only wanted if it has to be recorded here.
            if it.state() == RecordingState::Starting && !truncated {
                if let Some(to_server) = it.destination.as_server_mut() {
                    to_server.keep(octets, arrival);
                }
            }
            return Forward::Nothing;
        }
        let Some(verdict) = it.datagram(datagram, pool) else { return Forward::Nothing };
        let released = it.take_released();
        let Some(to_server) = it.destination.as_server_mut() else { return Forward::Nothing };
        if let Some(waiting) = &released {
            waiting.iter().for_each(|(octets, at)| to_server.keep(octets, at));
        }
        let this = goes_on(verdict);
        if this {
            to_server.keep(octets, arrival);
        }
        match (released, this) {
            (None, false) => Forward::Nothing,
            (None, true) => Forward::This,
            (Some(waiting), false) => Forward::Held(waiting),
            (Some(waiting), true) => Forward::HeldThenThis(waiting),
        }
    }

    fn step(&mut self, rest: Rest<'_>, before: usize, turn: &mut Turn<'_>) {
        self.show_clock(turn.now);
        let (mut drained, mut answered) = (false, false);
        match rest {
            Rest::Nothing => {}
            Rest::Request(caller, method) => self.handle(caller, method, turn),
            Rest::Input(input) => {
                drained = matches!(input, Input::Drained(_));
                answered = matches!(input, Input::Storage(_));
                self.take(input, turn);
            }
        }
        if !drained {
            self.disk.emit_state(self.count_on_disk(), turn);
        }
        if answered && self.library_deadline().is_some() {
            self.library_pump(turn);
        }
        if !self.deferred.is_empty() {
            self.keep_order(before, turn);
        }
        self.exit_if_done(turn);
    }

    /// Jobs that this step made wait behind those that are held: a file is not given up before it was to be opened.
    fn keep_order(&mut self, before: usize, turn: &mut Turn<'_>) {
        for action in turn.actions.split_off(before) {
            match action {
                Action::Job(job) if self.deferred.keeps_back(&job) => self.job_refused(job, turn),
                action => turn.actions.push(action),
            }
        }
    }

    /// The disk is stalled: what it was to do is done when it goes on.
    fn job_refused(&mut self, job: Job, turn: &mut Turn<'_>) {
        match self.deferred.defer(job, turn.now.mono) {
            Some(Job::Scan(_)) => self.disk.scan_refused(),
            Some(Job::Append { pieces, .. }) => turn.pool.give_back_all(pieces),
            _ => {}
        }
    }

    fn take(&mut self, input: Input<'_>, turn: &mut Turn<'_>) {
        match input {
            Input::Drained(recording) => {
                self.check_media(recording, turn);
                self.pump(recording, turn);
            }
            Input::Storage(done) => {
                // There is room for as many jobs as are answered.
                turn.actions.extend(self.deferred.take().map(Action::Job));
                self.storage(done, turn);
            }
            Input::SocketOverflow(recording, packets) => {
                self.stats.drops.socket += u64::from(packets);
                if let Some(it) = self.recordings.get_mut(&recording) {
                    it.overflowed += u64::from(packets);
                }
            }
            Input::Strangers(recording, packets) => {
                if let Some(it) = self.recordings.get_mut(&recording) {
                    it.stream.add_strangers(u64::from(packets));
                }
            }
            Input::Started | Input::MountsChanged => self.disk.scan(turn),
            // They are the clients', and were taken.
            Input::ClientOpened(_)
            | Input::ClientLine(..)
            | Input::ClientLineTooLong(_)
            | Input::ClientClosed(_)
            | Input::ClientsDoNotRead { .. } => {}
            Input::RtpBound(recording, result) => self.rtp_bound(recording, result, turn),
            Input::Uplink(recording, input) => self.uplink_input(recording, input, turn),
            Input::JobRefused(Job::Library(job)) => self.library_refused(job, turn),
            Input::JobRefused(job) => self.job_refused(job, turn),
            Input::PlayerFailed(playback) => {
                self.library.player_failed(playback, turn);
            }
            Input::Tick => self.tick(turn),
            Input::Shutdown => self.shut_down(turn),
        }
    }

    /// When the disks are to be looked at though nothing has told of a change.
    fn look_due(&self, state_wanted: bool) -> Option<Mono> {
        self.disk.look_due(state_wanted, self.count_on_disk()).filter(|_| !self.life.is_ending())
    }

    fn exit_if_done(&mut self, turn: &mut Turn<'_>) {
        if let Some(deadline) = self.life.deadline() {
            if self.recordings.is_empty() || turn.now.mono >= deadline {
                self.life = Life::Ended;
                // A server or PBX that has not confirmed the end leaves nothing unfinished here.
                turn.actions.push(Action::Exit { finalised: self.count_on_disk() == 0 });
            }
        }
    }

    /// Refuses what would begin while the agent ends, or, `on_disk`, while the disk is being ejected.
    fn refuse_in_between(&self, on_disk: bool) -> Result<(), AgentError> {
        let (message, advice, text) = if self.life.is_ending() {
            ("the agent is ending", "try again when it has started anew", TextKey::Shutdown)
        } else if on_disk && self.disk.is_ejecting() {
            ("the disk is being ejected", "insert it again, or another one", TextKey::StorageEjected)
        } else {
            return Ok(());
        };
        let error = AgentError::new(Reason::InvalidState).with_message(message);
        Err(error.with_advice(advice).with_text(Some(text)))
    }

    fn storage(&mut self, done: Done, turn: &mut Turn<'_>) {
        match done {
            Done::Appended { file, pieces, took, result, durable_octets } => {
                self.library_grew(file, durable_octets);
                let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                self.stats.longest_write_ms = self.stats.longest_write_ms.max(took_ms);
                self.appended(file, pieces, result, turn);
            }
            Done::Scanned(found) => self.scanned(found, turn),
            Done::Opened { file, result } => self.opened(file, result, turn),
            Done::Closed { file, result } => self.closed(file, result, turn),
            Done::Abandoned(_) => {}
            Done::Deleted { file, space } => self.deleted(file, space, turn),
            Done::Searching => self.search_on(turn),
            Done::Finalised { file, result } => {
                self.finalised(file, result, turn);
                self.library_anew();
            }
            Done::SpeedMeasured(result) => self.disk.speed_measured(result, self.count_on_disk(), turn),
            Done::Ejected(result) => self.ejected(result, turn),
            Done::Library(done) => self.library_done(done, turn),
        }
    }

    fn tick(&mut self, turn: &mut Turn<'_>) {
        self.play_all(turn);
        self.library_pump(turn);
        if self.deferred.retry_at().is_some_and(|at| turn.now.mono >= at) {
            turn.actions.extend(self.deferred.take().map(Action::Job));
        }
        if self.look_due(turn.wants("storage.state")).is_some_and(|at| turn.now.mono >= at) {
            self.disk.scan(turn);
        }
        if self.finalise_due().is_some_and(|at| turn.now.mono >= at) {
            self.finalise_again(turn);
        }
        let progress = turn.wants("recording.progress");
        for key in self.keys() {
            self.let_go(key, turn);
            self.pump(key, turn);
            self.check_lost(key, turn);
            self.uplink(key, turn, |client, now, out| client.timer(now, out));
            self.pbx_timer(key, turn);
            let remaining_s = self.remaining_s();
            let Some(it) = self.recordings.get_mut(&key) else { continue };
            if it.goes_to_file() && turn.now.mono >= it.started + START_ANSWER_AFTER {
                if let Some(reply) = it.waiting.take() {
                    reply.ok(&it.start_answer(), turn.actions);
                }
            }
            let busy_since = it.destination.as_file().and_then(ToFile::busy_since);
            let stalled = busy_since.is_some_and(|since| turn.now.mono >= since + STALLED_AFTER);
            if stalled && it.notices.first(Notice::Stalled) {
                let event = Event::RecordingStalled(it.status(remaining_s, turn.now.mono));
                turn.emit(&event);
            }
            self.check_media(key, turn);
            let Some(it) = self.recordings.get(&key) else { continue };
            if progress && it.is_live() && turn.now.mono >= it.progress_at {
                self.emit_progress(key, turn);
            }
        }
        let now = turn.now.mono;
        let overdue = |since: &Mono| now >= *since + START_ANSWER_AFTER;
        while self.waiting_starts.front().is_some_and(|(.., since)| overdue(since)) {
            if let Some((Some(reply), ..)) = self.waiting_starts.pop_front() {
                reply.err(&disk_silent(), turn.actions);
            }
        }
    }
}
