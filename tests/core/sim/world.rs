//! The world around one agent: its loop as the runtime runs it, in virtual time.

use super::books::{Books, Fate, Made, Shadow};
use super::clients::{Asked, Clients, OBSERVER};
use super::disk::{Disks, ROOT, SimFs, Stick};
use super::rng::Rng;
use super::sender::{Datagram, Flight, Sender, silent_packet};
use super::server::{News, Server};
use media::time::{Mono, Now, Wall};
use recordd::agent::{Action, Agent, ClientId, Input, RecordingKey};
use recordd::config::{Config, OnFailure, OnFull};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use store::jobs::library::PlaybackKey;
use store::jobs::{Done, FileKey, FinaliseOutcome, Job};
use store::writer::Writer;
use store::writer::per_file::PerFile;

/// More actions from one input would be a flood.
const MAX_ACTIONS: usize = 600;

thread_local! {
    /// The writer takes its clock as a plain function.
    static NOW_MS: Cell<u64> = const { Cell::new(0) };
}

fn clock() -> Mono {
    Mono::new(Duration::from_millis(NOW_MS.get()))
}

/// An RTP port: its sender, and the datagrams that wait in its socket.
struct Port {
    recording: Option<String>,
    sender: Option<Sender>,
    /// A call of a server recording: the payload type of its packets, and their number by now.
    upload: Option<(u8, u16)>,
    socket: VecDeque<Flight>,
    due_ms: u64,
}

/// The storage thread.
struct Storage {
    writer: Writer<SimFs>,
    jobs: VecDeque<Job>,
    capacity: usize,
    answers: VecDeque<(u64, Done)>,
    busy_until_ms: u64,
}

enum Answer {
    Bound(RecordingKey, Result<SocketAddr, String>),
    Refused(Job),
    NoPlayer(PlaybackKey),
}

pub(crate) struct World {
    rng: Rng,
    now_ms: u64,
    wall_ms: i64,
    config: Config,
    agent: Agent,
    actions: Vec<Action>,
    answers: VecDeque<Answer>,
    ports: BTreeMap<RecordingKey, Port>,
    storage: Storage,
    disks: Rc<RefCell<Disks>>,
    clients: Clients,
    server: Server,
    /// INFOs that the SIP stack has not told the answer of.
    infos: Vec<String>,
    books: Books,
    files: BTreeMap<FileKey, usize>,
    /// Recordings that ran when that was asked last.
    running: Vec<String>,
    /// Playbacks that began.
    playbacks: Vec<String>,
    streams: u32,
    /// Datagrams passed to this agent.
    passed: u64,
    stall_permille: u64,
    exit: Option<bool>,
    at_rest: bool,
    trace: u64,
    /// The events seen, and how often.
    seen: BTreeMap<String, u64>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut config = Config::default();
        config.storage.max_file_octets = Some(*rng.pick(&[20_000, 60_000, 1 << 20]));
        config.storage.reserve_octets = 0;
        config.storage.buffer_octets = *rng.pick(&[1 << 16, 1 << 18, 1 << 22]);
        config.storage.on_full = *rng.pick(&[OnFull::Stop, OnFull::DeleteOldest]);
        config.storage.resume_window = Duration::from_secs(*rng.pick(&[0, 0, 5]));
        config.rtp.port = *rng.pick(&[0, 40_000]);
        config.rtp.max_recordings = *rng.pick(&[1, 2, 4]);
        config.uplink.server_addr = "192.0.2.1".into();
        config.uplink.server_port = 9099;
        config.uplink.on_failure = *rng.pick(&[OnFailure::Stop, OnFailure::Local]);
        let mut disks = Disks::new(Rng::new(rng.next()));
        for _ in 0..2 {
            let capacity = *rng.pick(&[190_000, 400_000, 64 << 20, 64 << 20]);
            disks.sticks.push(Stick::new(capacity));
        }
        disks.insert(0);
        disks.error_permille = *rng.pick(&[0, 0, 0, 2, 20]);
        let disks = Rc::new(RefCell::new(disks));
        let capacity = *rng.pick(&[1, 2, 4, 80, 80]);
        let (now_ms, wall_ms) = (1000, *rng.pick(&[5000, 1_772_352_900_250]));
        let agent = Agent::new(config.clone(), rng.next(), now_at(now_ms, wall_ms));
        let mut world = Self {
            now_ms,
            wall_ms,
            agent,
            actions: Vec::new(),
            answers: VecDeque::new(),
            ports: BTreeMap::new(),
            storage: Storage::new(&disks, capacity),
            disks,
            clients: Clients::new(),
            server: Server::default(),
            infos: Vec::new(),
            books: Books { may_delete: config.storage.on_full == OnFull::DeleteOldest, ..Books::default() },
            files: BTreeMap::new(),
            running: Vec::new(),
            playbacks: Vec::new(),
            streams: 0,
            passed: 0,
            stall_permille: *rng.pick(&[0, 0, 30]),
            exit: None,
            at_rest: false,
            trace: 0,
            seen: BTreeMap::new(),
            config,
            rng,
        };
        world.boot();
        world
    }

    /// A fold over all that happened.
    pub(crate) fn trace(&self) -> u64 {
        self.trace
    }

    /// The events seen, and how often.
    pub(crate) fn seen(&self) -> &BTreeMap<String, u64> {
        &self.seen
    }

    fn saw(&mut self, what: &str) {
        *self.seen.entry(what.to_owned()).or_default() += 1;
    }

    /// One turn of the loop, and something that happens before it.
    pub(crate) fn step(&mut self) {
        let span = match self.rng.below(100) {
            0..=59 => self.rng.below(40),
            60..=97 => self.rng.below(150),
            _ => self.rng.below(2500),
        };
        self.pass_time(span);
        match self.rng.below(1000) {
            0..=299 => self.client_event(),
            300 => self.pull_or_insert(),
            301..=330 if self.disks.borrow().inserted.is_none() => self.pull_or_insert(),
            331 => self.power_cut(),
            332 => self.wall_ms += 86_400_000,
            333 => self.overflow(),
            334 => self.fill_stick(),
            335..=337 if !self.config.storage.resume_window.is_zero() => self.pull_or_insert(),
            _ => {}
        }
        self.turn();
        self.clients.check(self.now_ms, false);
    }

    /// Everything comes to an end, and the books are closed.
    pub(crate) fn finish(&mut self) {
        {
            let mut disks = self.disks.borrow_mut();
            disks.error_permille = 0;
            disks.read_only = false;
        }
        self.stall_permille = 0;
        let shutdown = self.rng.chance(500);
        if shutdown {
            self.input(Input::Shutdown);
        } else {
            self.stop_playbacks();
            self.stop_all();
        }
        for _ in 0..400 {
            self.pass_time(100);
            self.turn();
            if !shutdown {
                // One that waited for room, or for a look at its file, has begun only now.
                self.stop_all();
                self.stop_playbacks();
            }
        }
        assert_eq!(self.exit, shutdown.then_some(true), "it ends, with every recording finalised");
        assert!(self.ports.is_empty(), "every port is closed");
        assert!(self.server.is_idle(), "every connection is closed");
        if !shutdown {
            self.bring_all_sticks();
            self.check_rest();
            self.saw("rest");
        }
        self.books.check_files(&self.disks.borrow().sticks);
    }

    fn stop_all(&mut self) {
        self.ask(OBSERVER, "record.status", &json!({}), true);
        for id in std::mem::take(&mut self.running) {
            self.ask(OBSERVER, "record.stop", &json!({ "recording": id }), true);
        }
    }

    fn stop_playbacks(&mut self) {
        for playback in std::mem::take(&mut self.playbacks) {
            self.ask(OBSERVER, "play.stop", &json!({ "playback": playback }), true);
        }
    }

    /// Every stick is in the phone once more: the files that this agent knows to be unfinished there are
    /// finished.
    fn bring_all_sticks(&mut self) {
        let ours = |it: &&mut Shadow| !it.outlived;
        self.books.recordings.values_mut().filter(ours).for_each(|it| it.all_back = true);
        let sticks = self.disks.borrow().sticks.len();
        for stick in 0..sticks {
            self.disks.borrow_mut().pull();
            self.input(Input::MountsChanged);
            self.pass_time(100);
            self.turn();
            self.disks.borrow_mut().insert(stick);
            self.input(Input::MountsChanged);
            for _ in 0..100 {
                self.pass_time(100);
                self.turn();
            }
        }
    }

    /// An agent with nothing to do keeps nothing and waits for nothing.
    fn check_rest(&mut self) {
        self.at_rest = true;
        self.ask(OBSERVER, "stats.get", &json!({}), true);
        self.ask(OBSERVER, "record.status", &json!({}), true);
        self.turn();
        for _ in 0..100 {
            // A look at the disks may be under way, for a client that wants to know of their state.
            if self.storage.jobs.is_empty() && self.storage.answers.is_empty() {
                break;
            }
            self.pass_time(10);
            self.turn();
        }
        self.clients.check(self.now_ms, true);
        assert!(self.storage.jobs.is_empty() && self.storage.answers.is_empty(), "storage is at rest");
        if let Some(due) = self.agent.deadline() {
            let mut actions = Vec::new();
            self.agent.step(Input::Tick, Now { mono: due, ..self.now() }, &mut actions);
            let looks = matches!(actions[..], [Action::Job(Job::Scan(_))]);
            assert!(looks, "nothing is due but a look at the disks, which a client wants: {actions:?}");
        }
        assert_eq!(Rc::strong_count(&self.disks.borrow().handles), 1, "every file is closed");
    }

    fn now(&self) -> Now {
        now_at(self.now_ms, self.wall_ms)
    }

    fn boot(&mut self) {
        NOW_MS.set(self.now_ms);
        self.input(Input::Started);
        let observer = self.clients.connect();
        self.input(Input::ClientOpened(observer));
        let all = json!({});
        let some = json!({ "types": ["recording.started", "recording.ended", "recording.failed"] });
        let types = if self.rng.chance(500) { all } else { some };
        self.ask(observer, "events.subscribe", &types, true);
    }

    fn pass_time(&mut self, span_ms: u64) {
        self.now_ms += span_ms;
        self.wall_ms += i64::try_from(span_ms).unwrap();
        NOW_MS.set(self.now_ms);
        let Self { ports, streams, books, rng, now_ms, .. } = self;
        for port in ports.values_mut() {
            if let Some(sender) = &mut port.sender {
                let arrived = sender.run(*now_ms, streams, &mut books.sent, rng);
                port.socket.extend(arrived);
            }
            if let Some((payload_type, count)) = &mut port.upload {
                for _ in 0..span_ms / 20 {
                    *count = count.wrapping_add(1);
                    port.socket.push_back((*now_ms, silent_packet(*payload_type, *count)));
                }
            }
        }
    }

    /// In the order of the real loop.
    fn turn(&mut self) {
        if self.exit.is_some() {
            return;
        }
        self.run_storage();
        while self.storage.answers.front().is_some_and(|(ready, _)| *ready <= self.now_ms) {
            let Some((_, done)) = self.storage.answers.pop_front() else { break };
            self.input(Input::Storage(done));
        }
        while let Some((key, news)) = self.server.news(self.now_ms, &mut self.rng) {
            if matches!(news, News::RelayRefused) {
                self.saw("relay refused");
            }
            self.input(Input::Uplink(key, news.input()));
        }
        self.drain(false);
        // Room that one recording gives up may serve another, whose silence is told then: that is a second
        // turn.
        for _ in 0..2 {
            if self.is_due() {
                self.input(Input::Tick);
            }
        }
        assert!(!self.is_due(), "a deadline that passed is due again");
        self.run_storage();
    }

    fn is_due(&self) -> bool {
        self.agent.deadline().is_some_and(|due| due <= self.now().mono)
    }

    fn run_storage(&mut self) {
        while self.now_ms >= self.storage.busy_until_ms {
            let Some(job) = self.storage.jobs.pop_front() else { return };
            let inserted = self.disks.borrow().inserted;
            let done = self.storage.work(job, &mut self.books, &mut self.files, inserted);
            if let Done::Finalised { result, .. } = &done {
                self.saw(if *result == Ok(FinaliseOutcome::Finished) { "mended" } else { "not mended" });
            }
            let stalled = self.rng.chance(self.stall_permille);
            let took_ms = if stalled { 500 + self.rng.below(9000) } else { self.rng.below(30) };
            self.storage.busy_until_ms = self.now_ms + took_ms;
            self.storage.answers.push_back((self.storage.busy_until_ms, done));
        }
    }

    fn drain(&mut self, all: bool) {
        for key in self.ports.keys().copied().collect::<Vec<_>>() {
            let Some(port) = self.ports.get_mut(&key) else { continue };
            if port.socket.is_empty() || (!all && port.due_ms > self.now_ms) {
                continue;
            }
            port.due_ms = self.now_ms + self.rng.below(950);
            for (at, datagram) in std::mem::take(&mut port.socket) {
                self.pass_datagram(key, at, &datagram);
            }
            self.input(Input::Drained(key));
        }
    }

    fn pass_datagram(&mut self, key: RecordingKey, at_ms: u64, datagram: &Datagram) {
        // The input before may have closed the port.
        let Some(port) = self.ports.get(&key) else { return };
        if let (Some(id), Some(recording)) = (datagram.id, &port.recording) {
            if self.books.is_fenced(recording) {
                *self.seen.entry("fenced packet".to_owned()).or_default() += 1;
                self.books.forbidden.insert(id);
            }
            self.books.addressed.insert(id, recording.clone());
        }
        self.passed += 1;
        let datagram = recordd::agent::Datagram {
            octets: &datagram.octets,
            truncated: datagram.truncated,
            source: std::net::SocketAddr::new(datagram.source, 5004),
            arrival: Mono::new(Duration::from_millis(at_ms)),
        };
        let _ = self.agent.datagram(key, datagram);
    }

    /// Hands one input to the agent and does all that follows from it.
    fn input(&mut self, input: Input<'_>) {
        let now = self.now();
        self.agent.step(input, now, &mut self.actions);
        assert!(self.actions.len() <= MAX_ACTIONS, "{} actions at once", self.actions.len());
        loop {
            for action in std::mem::take(&mut self.actions) {
                self.act(action);
            }
            let input = match self.answers.pop_front() {
                None if self.actions.is_empty() => return,
                None => continue,
                Some(Answer::Refused(job)) => Input::JobRefused(job),
                Some(Answer::NoPlayer(playback)) => Input::PlayerFailed(playback),
                Some(Answer::Bound(key, result)) => {
                    self.agent.step(Input::RtpBound(key, result), now, &mut self.actions);
                    self.note_opening(key);
                    continue;
                }
            };
            self.agent.step(input, now, &mut self.actions);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::OweReply(client) => self.clients.owed(client),
            Action::Reply(client, line) => {
                self.fold(&line);
                if let Some((asked, result)) = self.clients.answered(client, &line) {
                    self.answered(&asked, &result);
                }
            }
            Action::Notify { client, name, params, .. } => {
                self.fold(name.as_bytes());
                self.fold(&params);
                if client == OBSERVER {
                    self.told(name, &params);
                }
            }
            Action::Uplink(recording, action) => {
                self.fold(b"uplink");
                self.server.act(recording, action, self.now_ms, &mut self.rng);
            }
            Action::Log(_, text) if text.contains("goes on at the phone") => self.saw("went on at the phone"),
            Action::BindRtp { recording, ports, codec, .. } => {
                let payload_type = codec.payload_type().0;
                self.fold(b"bind");
                let fails = self.rng.chance(10) || ports.is_empty();
                let result = if fails {
                    Err("taken".into())
                } else {
                    let port = Port {
                        recording: None,
                        sender: None,
                        upload: Some((payload_type, 0)),
                        socket: VecDeque::new(),
                        due_ms: self.now_ms,
                    };
                    self.ports.insert(recording, port);
                    Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 40_000))
                };
                self.answers.push_back(Answer::Bound(recording, result));
            }
            Action::CloseRtp(recording) => {
                self.fold(b"close");
                self.ports.remove(&recording);
            }
            Action::Job(job) => {
                self.fold(b"job");
                if self.storage.jobs.len() < self.storage.capacity {
                    self.storage.jobs.push_back(job);
                } else {
                    self.saw("refused job");
                    self.answers.push_back(Answer::Refused(job));
                }
            }
            Action::OpenPlayer { playback, .. } if self.rng.chance(50) => {
                self.answers.push_back(Answer::NoPlayer(playback));
            }
            Action::SendPlayed { packet, .. } => {
                self.saw("played packet");
                self.fold(&packet);
            }
            Action::Exit { finalised } => {
                assert_eq!(self.exit.replace(finalised), None, "it ends once");
            }
            _ => {}
        }
    }

    /// A port was bound: the job that follows tells whose it is, and a sender begins.
    fn note_opening(&mut self, key: RecordingKey) {
        let opens = self.actions.iter().find_map(|action| match action {
            Action::Job(Job::Open(open)) => Some((open.sidecar.recording.clone(), open.header)),
            _ => None,
        });
        let Some(port) = self.ports.get_mut(&key) else { return };
        let Some((recording, header)) = opens else { return };
        port.upload = None;
        let shadow = Shadow {
            fate: Fate::Starting,
            paused: false,
            stopped: false,
            cut_off: false,
            outlived: false,
            all_back: false,
        };
        assert!(self.books.recordings.insert(recording.clone(), shadow).is_none(), "an id is used twice");
        self.streams += 1;
        let codec = header.codec;
        let ptime_ms = u64::from(header.rtp_len / 8);
        port.sender = Some(Sender::new(codec, ptime_ms, self.now_ms + 1, self.streams, &mut self.rng));
        port.recording = Some(recording);
    }

    fn answered(&mut self, asked: &Asked, result: &Value) {
        if asked.method == "stats.get" {
            self.check_stats(result);
        }
        if asked.method == "record.status" && self.exit.is_none() && asked.recording.is_none() {
            let limit = self.config.rtp.max_recordings;
            let all = result["recordings"].as_array().expect("a list");
            assert!(all.len() <= limit, "{result}");
            self.running = all.iter().filter_map(|it| it["recording"].as_str().map(Into::into)).collect();
        }
        self.saw(if result.is_null() { "error" } else { asked.method });
        if asked.method == "play.start" {
            self.playbacks.extend(result["playback"].as_str().map(Into::into));
        }
        let Some(recording) = result["recording"].as_str() else { return };
        let Some(shadow) = self.books.recordings.get_mut(recording) else { return };
        match asked.method {
            "record.pause" => shadow.paused = true,
            "record.resume" => shadow.paused = false,
            "record.stop" => shadow.stopped = true,
            _ => {}
        }
    }

    fn check_stats(&self, stats: &Value) {
        let number = |value: &Value| value.as_u64().expect("a counter");
        assert_eq!(number(&stats["packets"]), self.passed, "every datagram is counted: {stats}");
        let drops = stats["drops"].as_object().expect("drops by cause");
        let dropped: u64 =
            drops.iter().filter(|(cause, _)| *cause != "socket").map(|(_, count)| number(count)).sum();
        let not_stored = dropped + number(&stats["late"]) + number(&stats["duplicate"]);
        assert!(not_stored <= self.passed, "no datagram is counted twice: {stats}");
        assert!(number(&stats["buffer_bytes"]) <= self.config.storage.buffer_octets as u64);
        if self.at_rest {
            assert_eq!(number(&stats["buffer_bytes"]), 0, "no block is kept for nothing");
        }
    }

    fn told(&mut self, name: &str, params: &[u8]) {
        self.saw(name);
        if name == "sip.info" {
            let params: Value = serde_json::from_slice(params).expect("parameters are JSON");
            self.infos.extend(params["recording"].as_str().map(Into::into));
        }
        let fate = match name {
            "recording.started" => Fate::Live,
            "recording.ended" => Fate::Ended(Value::Null),
            "recording.failed" => Fate::Failed,
            _ => return,
        };
        let params: Value = serde_json::from_slice(params).expect("parameters are JSON");
        if params["mode"] != "local" {
            // No file of ours: nothing to keep books of.
            return;
        }
        if params["recording"].as_str().is_none_or(|id| !self.books.recordings.contains_key(id)) {
            // The server had it before.
            return self.saw("upload at the phone");
        }
        match fate {
            Fate::Live => {
                let id = params["recording"].as_str().expect("its recording");
                let shadow = self.books.recordings.get_mut(id).expect("it was opened");
                assert_eq!(shadow.fate, Fate::Starting, "{id} starts once");
                shadow.fate = Fate::Live;
            }
            Fate::Ended(_) => {
                self.saw(params["end_reason"].as_str().expect("a reason"));
                let was_full = self.disks.borrow().was_full;
                self.books.ended(&params, Fate::Ended(params.clone()), was_full);
            }
            fate => self.books.ended(&params, fate, false),
        }
    }

    fn ask(&mut self, client: ClientId, method: &'static str, params: &Value, with_id: bool) {
        // Network and sockets are empty before a request is taken.
        for port in self.ports.values_mut() {
            if let Some(sender) = &mut port.sender {
                sender.settle(self.now_ms);
            }
        }
        self.pass_time(0);
        self.drain(true);
        let line = self.clients.ask(client, method, params, with_id, self.now_ms);
        self.input(Input::ClientLine(client, &line));
    }

    fn client_event(&mut self) {
        let open: Vec<ClientId> = self.clients.open.keys().copied().collect();
        let client = *self.rng.pick(&open);
        match self.rng.below(100) {
            0..=5 if open.len() < 4 => {
                let client = self.clients.connect();
                self.input(Input::ClientOpened(client));
            }
            6..=9 if client != OBSERVER => {
                self.clients.open.remove(&client);
                self.input(Input::ClientClosed(client));
            }
            10..=14 => {
                let line = self.clients.garbage(client, &mut self.rng);
                self.input(Input::ClientLine(client, &line));
            }
            15 => {
                self.clients.too_long(client);
                self.input(Input::ClientLineTooLong(client));
            }
            31..=34 if !self.infos.is_empty() => {
                let recording = self.infos.pop();
                let code = *self.rng.pick(&[200, 200, 200, 403, 408, 481, 501]);
                let params = json!({ "recording": recording, "code": code });
                self.ask(OBSERVER, "sip.info_result", &params, true);
            }
            16..=30 => {
                let name = |made: &Made| made.path.file_name().and_then(|name| name.to_str()).map(Into::into);
                let files: Vec<String> = self.books.files.iter().rev().take(20).filter_map(name).collect();
                let may_delete = self.books.may_delete;
                let (method, params) =
                    Clients::about_files(&mut self.rng, &files, &self.playbacks, may_delete);
                let with_id = self.rng.chance(950);
                self.ask(client, method, &params, with_id);
            }
            _ => {
                let recordings: Vec<String> = self.books.recordings.keys().cloned().collect();
                let (method, params) = Clients::random(&mut self.rng, &recordings);
                // The observer hears everything it needs, always.
                if client != OBSERVER || !method.starts_with("events.") {
                    let with_id = self.rng.chance(950) || matches!(method, "record.pause" | "record.resume");
                    self.ask(client, method, &params, with_id);
                }
            }
        }
    }

    fn overflow(&mut self) {
        if let Some(key) = self.ports.keys().next().copied() {
            self.input(Input::SocketOverflow(key, 3));
        }
    }

    /// Somebody else has written to the stick.
    fn fill_stick(&mut self) {
        let mut disks = self.disks.borrow_mut();
        if let Some(stick) = disks.inserted.filter(|_| self.rng.chance(200)) {
            disks.sticks[stick].capacity = disks.sticks[stick].used() + self.rng.below(3000);
        }
    }

    fn pull_or_insert(&mut self) {
        {
            let mut disks = self.disks.borrow_mut();
            if let Some(stick) = disks.inserted {
                disks.pull();
                self.books.check_survivors(stick, &disks.sticks[stick]);
            } else {
                let stick = usize::try_from(self.rng.below(2)).unwrap();
                disks.insert(stick);
                disks.read_only = self.rng.chance(100);
            }
        }
        self.fold(b"mounts");
        self.input(Input::MountsChanged);
    }

    /// The phone loses power in the middle of an operation of the disk, and boots again.
    fn power_cut(&mut self) {
        self.saw("power cut");
        self.disks.borrow_mut().operations_left = Some(self.rng.below(40));
        while let Some(job) = self.storage.jobs.pop_front() {
            // Nobody hears the answers any more.
            let _ = self.storage.writer.handle(job).unwrap();
        }
        self.storage = Storage::new(&self.disks, self.storage.capacity);
        {
            let mut disks = self.disks.borrow_mut();
            disks.operations_left = None;
            if let Some(stick) = disks.inserted {
                disks.pull();
                self.books.check_survivors(stick, &disks.sticks[stick]);
                disks.insert(stick);
            }
        }
        for shadow in self.books.recordings.values_mut() {
            if matches!(shadow.fate, Fate::Starting | Fate::Live) {
                shadow.fate = Fate::Killed;
            }
            shadow.outlived = true;
        }
        self.ports.clear();
        self.files.clear();
        self.clients.open.clear();
        self.clients = Clients::new();
        self.playbacks.clear();
        self.server.clear();
        self.infos.clear();
        self.passed = 0;
        self.agent = Agent::new(self.config.clone(), self.rng.next(), self.now());
        self.boot();
    }

    fn fold(&mut self, octets: &[u8]) {
        for octet in octets {
            self.trace = (self.trace ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01B3);
        }
        self.trace = self.trace.rotate_left(7) ^ self.now_ms;
    }
}

impl Storage {
    fn new(disks: &Rc<RefCell<Disks>>, capacity: usize) -> Self {
        Self {
            writer: Writer::new(SimFs(Rc::clone(disks)), clock, PerFile::default()),
            jobs: VecDeque::new(),
            capacity,
            answers: VecDeque::new(),
            busy_until_ms: 0,
        }
    }

    /// Does a job, and books the promises in storage's answer.
    fn work(
        &mut self,
        job: Job,
        books: &mut Books,
        files: &mut BTreeMap<FileKey, usize>,
        inserted: Option<usize>,
    ) -> Done {
        let (recording, frame_octets) = match &job {
            Job::Open(open) => (open.sidecar.recording.clone(), u64::from(open.header.rtp_len)),
            _ => (String::new(), 1),
        };
        let done = self.writer.handle(job).unwrap();
        match &done {
            Done::Opened { file, result: Ok(opened) } => {
                files.insert(*file, books.files.len());
                let stick = inserted.expect("there is a stick");
                assert!(opened.path.starts_with(Path::new(ROOT)));
                let path = opened.path.clone();
                let (durable, acknowledged) = (0, 0);
                let made =
                    Made { recording, stick, path, durable, acknowledged, frame_octets, replaced: false };
                books.made(made);
            }
            // After an error the agent may write the same octets elsewhere and cut them off here.
            Done::Appended { file, durable_octets, result: Ok(_), .. } => {
                if let Some(made) = files.get(file).map(|index| &mut books.files[*index]) {
                    assert!(*durable_octets >= made.durable, "what is durable stays durable");
                    made.durable = *durable_octets;
                    made.acknowledged = *durable_octets;
                }
            }
            Done::Closed { file, .. } => {
                // Without room for the rest of its last frame, the part of a frame goes.
                if let Some(made) = files.get(file).map(|index| &mut books.files[*index]) {
                    made.durable = made.durable / made.frame_octets * made.frame_octets;
                }
            }
            _ => {}
        }
        done
    }
}

fn now_at(now_ms: u64, wall_ms: i64) -> Now {
    let mono = Mono::new(Duration::from_millis(now_ms));
    Now { mono, wall: Wall { unix_ms: wall_ms, utc_offset_s: 3600 } }
}
