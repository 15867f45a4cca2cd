//! Every decision of the recorder, without a socket, file, clock or thread.
//!
//! Owns: recordings, the medium, clients and their subscriptions. Input and `now` go into
//! [`Agent::step`], actions come out; there is no other way in. Invariants: each request with an id gets
//! exactly one reply; the books of every recording balance; everything that grows has a limit.

mod answers;
mod backlog;
#[cfg(test)]
mod eject_tests;
mod ending;
mod held;
mod ids;
pub mod io;
mod leftover;
mod library;
mod local;
mod medium;
mod playback;
mod playbacks;
mod recording;
mod recordings;
mod requests;
mod resume;
mod room;
#[cfg(test)]
mod room_tests;
mod route;
mod server;
#[cfg(test)]
mod server_tests;
mod sip;
mod sip_info;
mod start;
mod strays;
mod tape;
mod timers;
mod upload;

use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::api::reply::RequestId;
use crate::api::request::RecordStart;
use crate::api::status::{RecordingStatus, SandboxStatus, Stats};
use crate::api::subscription::Subscription;
use crate::config::Config;
use held::Held;
use io::{Action, ClientId, Input, RecordingKey};
use local::Local;
use media::blocks::BlockPool;
use media::counts::Counts;
use media::time::{Mono, Now};
use medium::Medium;
use recording::{Recording, STALLED_AFTER, START_ANSWER_AFTER};
#[cfg(test)]
pub(crate) use recordings::Info as RecordingInfo;
use route::Route;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use store::jobs::{Fault, FaultKind, FileKey, Folder, Job};

/// Ended recordings that can still be asked for.
const MAX_ENDED: usize = 32;

/// Requests to start that may wait for the first look at the disks.
const MAX_WAITING_STARTS: usize = 64;

/// Audio beyond this is written before its flush is due.
const WRITE_EARLY_OCTETS: u64 = 128 * 1024;

/// More than a flush of a call has: with so much waiting, the room is looked at without a write, too.
const BEHIND_OCTETS: u64 = 16 * 1024;

/// The decisions of the recorder.
pub struct Agent {
    config: Config,
    started: Mono,
    /// The time of the present step.
    clock: Mono,
    random: u64,
    clients: BTreeMap<ClientId, Subscription>,
    recordings: BTreeMap<RecordingKey, Recording>,
    ended: VecDeque<RecordingStatus>,
    next_key: u64,
    pool: BlockPool,
    medium: Medium,
    /// Scans under way, and requests that wait for one.
    scans: usize,
    looked_at: Mono,
    waiting_starts: VecDeque<(ClientId, Option<RequestId>, RecordStart, Mono)>,
    ejecting: Option<Ejecting>,
    held: Held,
    /// Where the oldest file is being deleted.
    deleting: Option<Folder>,
    nothing_to_delete: bool,
    /// Files that wait for a name's room; each recording has one at most.
    reopening: Vec<(RecordingKey, Fault)>,
    library: library::Library,
    asks: recordings::Asks,
    players: playbacks::Players,
    strays: strays::Strays,
    /// Who sent last on each fixed port.
    last_senders: Vec<leftover::LastSender>,
    shutdown: Option<Mono>,
    /// The process was told to end: nothing begins any more.
    exited: bool,
    past: Counts,
    paused_packets: u64,
    stats: Stats,
    sandbox: SandboxStatus,
}

/// An eject under way.
#[derive(Debug, Default)]
struct Ejecting {
    clients: Vec<(ClientId, RequestId)>,
    /// What storage was asked to eject.
    asked: Option<store::jobs::Eject>,
}

impl Agent {
    /// An agent that has just started. `entropy` makes its recording ids unique.
    #[must_use]
    pub fn new(config: Config, entropy: u64, now: Now) -> Self {
        Self {
            started: now.mono,
            clock: now.mono,
            random: entropy,
            clients: BTreeMap::new(),
            recordings: BTreeMap::new(),
            ended: VecDeque::new(),
            next_key: 1,
            pool: BlockPool::new(config.storage.buffer_octets as u64),
            medium: Medium::new(&config.storage),
            scans: 0,
            looked_at: now.mono,
            waiting_starts: VecDeque::new(),
            ejecting: None,
            held: Held::default(),
            deleting: None,
            nothing_to_delete: false,
            reopening: Vec::new(),
            library: library::Library::default(),
            asks: recordings::Asks::new(),
            players: playbacks::Players::default(),
            strays: strays::Strays::default(),
            last_senders: Vec::new(),
            shutdown: None,
            exited: false,
            past: Counts::default(),
            paused_packets: 0,
            stats: Stats::default(),
            sandbox: SandboxStatus::default(),
            config,
        }
    }

    /// Tells what the process has given up, for those who ask.
    pub fn set_sandbox(&mut self, sandbox: SandboxStatus) {
        self.sandbox = sandbox;
    }

    /// Takes one input; what is to be done is added to `actions`.
    pub fn step(&mut self, input: Input<'_>, now: Now, actions: &mut Vec<Action>) {
        let before = actions.len();
        match input {
            Input::Datagram { recording, octets, truncated, source, arrival } => {
                return self.datagram(recording, octets, truncated, source, arrival, actions);
            }
            Input::Drained(recording) => {
                self.show_clock(now);
                self.check_media(recording, now, actions);
                self.pump(recording, now, actions);
            }
            Input::Storage(done) => {
                self.show_clock(now);
                // There is room for as many jobs as are answered.
                actions.extend(self.held.take().map(Action::Job));
                self.storage(done, now, actions);
                self.tell_state(actions);
                if self.library_deadline().is_some() {
                    self.library_pump(now, actions);
                }
            }
            input => {
                self.step_rarely(input, now, actions);
                self.tell_state(actions);
            }
        }
        if !self.held.is_empty() {
            self.keep_order(before, now, actions);
        }
        self.exit_if_done(now, actions);
    }

    /// Jobs that this step made wait behind those that are held: a file is not given up before it was to be opened.
    #[inline(never)]
    fn keep_order(&mut self, before: usize, now: Now, actions: &mut Vec<Action>) {
        for action in actions.split_off(before) {
            match action {
                Action::Job(job) if self.held.keeps_back(&job) => self.job_refused(job, now),
                action => actions.push(action),
            }
        }
    }

    /// Inputs that do not come each second of a call.
    #[inline(never)]
    fn step_rarely(&mut self, input: Input<'_>, now: Now, actions: &mut Vec<Action>) {
        self.show_clock(now);
        match input {
            Input::SocketOverflow(recording, packets) => {
                self.stats.drops.socket += u64::from(packets);
                if let Some(it) = self.recordings.get_mut(&recording) {
                    it.overflowed += u64::from(packets);
                }
            }
            Input::Strangers(recording, packets) => {
                if let Some(it) = self.recordings.get_mut(&recording) {
                    it.add_strangers(u64::from(packets));
                }
            }
            Input::Started | Input::MountsChanged => self.scan(now, actions),
            Input::ClientOpened(client) => {
                self.stats.clients += 1;
                self.clients.insert(client, Subscription::new());
            }
            Input::ClientLine(client, line) => self.client_line(client, line, now, actions),
            Input::ClientLineTooLong(client) => self.client_line_too_long(client, actions),
            Input::ClientClosed(client) => self.client_closed(client),
            Input::ClientsDoNotRead { events, closed } => {
                self.stats.events_lost += events;
                self.stats.clients_closed += closed;
            }
            Input::RtpBound(recording, result) => self.rtp_bound(recording, result, now, actions),
            Input::Uplink(recording, input) => self.uplink_input(recording, input, now, actions),
            Input::JobRefused(Job::Library(job)) => self.library_refused(job, now, actions),
            Input::JobRefused(job) => self.job_refused(job, now),
            Input::PlayerFailed(playback) => {
                self.end_playback(playback, Reason::PermissionDenied.as_str(), None, actions);
            }
            Input::Tick => self.tick(now, actions),
            Input::Shutdown => self.shut_down(now, actions),
            // `step` has taken them.
            Input::Datagram { .. } | Input::Drained(_) | Input::Storage(_) => {}
        }
    }

    /// Whether something waits for the next answer of storage: a file to be finished, the next one, or the end
    /// of what was said before a pause, in which no packet may come to wake us.
    #[must_use]
    pub fn waits_for_storage(&self) -> bool {
        let waits = |it: &Recording, local: &Local| local.is_impatient() || it.paused.is_some();
        self.recordings.values().any(|it| it.route.local().is_some_and(|local| waits(it, local)))
    }

    /// Whether a batch of packets would find room. If not, they are better left where they are.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.pool.has_room()
    }

    /// When [`Input::Tick`] is due next.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let progress = self.wants("recording.progress");
        let recordings = self.recordings.values().filter_map(|it| {
            let local = it.route.local();
            let flush = local.and_then(|local| local.flush_due(self.config.storage.flush_interval));
            let answer = it.waiting.as_ref().and(local).map(|_| it.started + START_ANSWER_AFTER);
            let no_media = self.media_deadline(it);
            let busy_since = local.and_then(Local::busy_since).filter(|_| !it.stalled_told);
            let stalled = busy_since.map(|at| at + STALLED_AFTER);
            let progress = (progress && it.is_live()).then_some(it.progress_at);
            let lost = self.lost_due(it);
            let route = it.route.deadline();
            [flush, answer, no_media, stalled, progress, lost, route].into_iter().flatten().min()
        });
        let starts = self.waiting_starts.front().map(|(.., since)| *since + START_ANSWER_AFTER);
        recordings
            .chain(starts)
            .chain(self.held.retry_at())
            .chain(self.library_deadline())
            .chain(self.shutdown.filter(|_| !self.exited))
            .chain(self.play_deadline())
            .chain(self.look_due())
            .min()
    }

    /// Gives storage what is due of one recording.
    fn pump(&mut self, key: RecordingKey, now: Now, actions: &mut Vec<Action>) {
        if self.lose_pulled(key, now, actions) {
            return;
        }
        let Some(it) = self.recordings.get_mut(&key) else { return };
        // Early, with what else is awake, is better than a wake-up of its own; later all go together.
        let interval = self.config.storage.flush_interval / 2;
        let waiting = it.buffered_octets();
        let sender = it.sender_facts();
        let Route::Local(local) = &mut it.route else { return self.check_overrun(key, now, actions) };
        let due = local.flush_due(interval).is_some_and(|due| now.mono >= due);
        // Many calls may fill a small pool long before one of them has that much.
        let early = waiting > WRITE_EARLY_OCTETS || self.pool.is_half_used();
        let flush = due || early || it.paused.is_some();
        local.note_sender(sender);
        if let Some(job) = local.next_job(flush, &it.call, &it.counts, now) {
            if matches!(job, Job::Append { .. }) {
                self.medium.spend(local.folder(), waiting);
            }
            actions.push(Action::Job(job));
            self.check_room(now, actions);
            if now.mono + Duration::from_millis(100) >= self.progress_due(key) {
                self.tell_progress(key, now, actions);
            }
            self.pool.trim();
        } else if waiting > BEHIND_OCTETS {
            // The disk is behind, or the stream fast, and what waits needs room too.
            self.check_room(now, actions);
        }
        self.check_overrun(key, now, actions);
    }

    fn progress_due(&self, key: RecordingKey) -> Mono {
        self.recordings.get(&key).map_or(Mono::default(), |it| it.progress_at)
    }

    /// Tells when audio was lost for want of buffer, and gives up on a disk that is dead.
    fn check_overrun(&mut self, key: RecordingKey, now: Now, actions: &mut Vec<Action>) {
        let remaining_s = self.remaining_s();
        let Some(it) = self.recordings.get_mut(&key) else { return };
        if it.route.local().is_some_and(Local::is_overfull) {
            let fault =
                Fault { kind: FaultKind::Io, detail: "the disk has been stalled for too long".into() };
            return self.fail(key, fault, Vec::new(), now, actions);
        }
        if it.is_degraded() && !it.loss_told {
            it.loss_told = true;
            let event = Event::RecordingStalled(it.status(remaining_s, self.clock));
            self.tell(&event, actions);
        }
    }

    fn exit_if_done(&mut self, now: Now, actions: &mut Vec<Action>) {
        if let Some(deadline) = self.shutdown.filter(|_| !self.exited) {
            if self.recordings.is_empty() || now.mono >= deadline {
                self.exited = true;
                // A server or PBX that has not confirmed the end leaves nothing unfinished here.
                actions.push(Action::Exit { finalised: self.count_on_disk() == 0 });
            }
        }
    }

    #[inline(never)]
    fn tell_progress(&mut self, key: RecordingKey, now: Now, actions: &mut Vec<Action>) {
        let remaining_s = self.remaining_s();
        let wanted = self.wants("recording.progress");
        let Some(it) = self.recordings.get_mut(&key) else { return };
        it.progress_at = now.mono + Duration::from_secs(1);
        if wanted {
            let event = Event::RecordingProgress(it.status(remaining_s, self.clock));
            self.tell(&event, actions);
        }
    }

    /// Sends an event to every client that wants it; serialised once.
    #[inline(never)]
    fn tell(&self, event: &Event, actions: &mut Vec<Action>) {
        let name = event.name();
        let mut params: Option<Rc<[u8]>> = None;
        for (client, _) in self.clients.iter().filter(|(_, subscription)| subscription.wants(name)) {
            let params = params.get_or_insert_with(|| event.params_json().into()).clone();
            actions.push(Action::Notify { client: *client, name, params, class: event.class() });
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.clients.values().any(|subscription| subscription.wants(name))
    }

    fn remember(&mut self, status: RecordingStatus) {
        self.ended.truncate(MAX_ENDED - 1);
        self.ended.push_front(status);
    }

    fn remaining_s(&self) -> Option<u64> {
        self.medium.remaining_s(self.count_on_disk())
    }

    fn storage_status(&self) -> crate::api::status::StorageStatus {
        self.medium.status(self.count_on_disk())
    }

    fn keys(&self) -> Vec<RecordingKey> {
        self.recordings.keys().copied().collect()
    }

    /// The recordings that go to the disk.
    fn on_disk(&self) -> Vec<RecordingKey> {
        self.recordings.iter().filter(|(_, it)| it.is_local()).map(|(key, _)| *key).collect()
    }

    fn count_on_disk(&self) -> usize {
        self.recordings.values().filter(|it| it.is_local()).count()
    }

    fn key_of(&self, file: FileKey) -> Option<RecordingKey> {
        let has_it = |it: &Recording| it.route.local().is_some_and(|local| local.file() == file);
        self.recordings.iter().find(|(_, it)| has_it(it)).map(|(key, _)| *key)
    }
}
