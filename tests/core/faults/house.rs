//! Agent and writer in one thread and virtual time: no loop, no socket, no waiting.

use super::fault_fs::{FaultFs, Plan, clock, fault_fs, set_clock};
use crate::support::packet;
use media::time::{Mono, Now, Wall};
use recordd::agent::{Action, Agent, ClientId, Datagram, Input, RecordingKey};
use recordd::config::Config;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use store::jobs::{Done, Job};
use store::writer::Writer;
use store::writer::per_file::PerFile;

const CLIENT: ClientId = ClientId(1);
const FRAME: Duration = Duration::from_millis(20);
/// 2026-03-01, so that the clock counts as set.
const BEGIN_UNIX_MS: i64 = 1_772_352_900_000;

/// Everything but the outside world.
pub(crate) struct House {
    agent: Agent,
    writer: Writer<FaultFs>,
    now: Mono,
    /// When storage has done the jobs given so far.
    storage_free: Mono,
    answers: VecDeque<(Mono, Done)>,
    pub(crate) jobs: u64,
    pub(crate) answered: u64,
    pub(crate) replies: Vec<Value>,
    pub(crate) events: Vec<Value>,
    rtp: Option<RecordingKey>,
    requests: u64,
    sent: u32,
    /// Payloads of all packets that were sent while recording.
    pub(crate) heard: Vec<u8>,
}

impl House {
    pub(crate) fn new(config: Config, plan: Rc<Plan>) -> Self {
        let start = Mono::new(Duration::from_secs(1000));
        set_clock(start);
        let mut house = Self {
            agent: Agent::new(config, 7, at(start)),
            writer: Writer::new(fault_fs(plan), clock, PerFile::default()),
            now: start,
            storage_free: start,
            answers: VecDeque::new(),
            jobs: 0,
            answered: 0,
            replies: Vec::new(),
            events: Vec::new(),
            rtp: None,
            requests: 0,
            sent: 0,
            heard: Vec::new(),
        };
        house.step(Input::Started);
        house.step(Input::ClientOpened(CLIENT));
        house.request("events.subscribe", &json!({}));
        // A subscription to `storage.state` has the disks looked at between calls, too.
        house.request("events.unsubscribe", &json!({"types": ["storage.state"]}));
        house
    }

    /// Sends a request; its answer comes in its own time.
    pub(crate) fn request(&mut self, method: &str, params: &Value) -> u64 {
        self.requests += 1;
        let line = json!({"jsonrpc": "2.0", "id": self.requests, "method": method, "params": params});
        self.step(Input::ClientLine(CLIENT, line.to_string().as_bytes()));
        self.requests
    }

    /// The answer to a request, if it has come.
    pub(crate) fn reply(&self, id: u64) -> Option<&Value> {
        self.replies.iter().find(|reply| reply["id"] == id)
    }

    /// Sends a request that is answered at once.
    pub(crate) fn ask(&mut self, method: &str) -> Value {
        let id = self.request(method, &json!({}));
        self.reply(id).expect("an answer at once").clone()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    pub(crate) fn now(&self) -> Mono {
        self.now
    }

    /// Number of events of this name.
    pub(crate) fn count(&self, event: &str) -> usize {
        self.events.iter().filter(|it| it["method"] == event).count()
    }

    /// Whether the recording takes packets.
    pub(crate) fn has_port(&self) -> bool {
        self.rtp.is_some()
    }

    /// Sends packets in their time; all of them count as heard.
    pub(crate) fn speak(&mut self, packets: u32) {
        for _ in 0..packets {
            if let Some(recording) = self.rtp {
                self.sent += 1;
                let payload = crate::support::rtp_source::payload(self.sent, 160);
                let octets = packet(8, self.sent as u16, self.sent * 160, 0x5EED, &payload);
                let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 5004));
                let arrival = self.now;
                self.heard.extend(payload);
                let _ = self
                    .agent
                    .datagram(recording, Datagram { octets: &octets, truncated: false, source, arrival });
                self.step(Input::Drained(recording));
            }
            self.run(FRAME);
        }
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        loop {
            let answer = self.answers.front().map(|(at, _)| *at);
            let due = [answer, self.agent.deadline()].into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            turns += 1;
            assert!(turns < 10_000, "the agent turns and turns at {:?}", self.now);
            self.now = self.now.max(due);
            if answer.is_some_and(|at| at <= self.now) {
                let (_, done) = self.answers.pop_front().unwrap();
                self.answered += 1;
                self.step(Input::Storage(done));
            } else {
                self.step(Input::Tick);
            }
        }
        self.now = end;
    }

    fn step(&mut self, input: Input<'_>) {
        let mut actions = Vec::new();
        self.agent.step(input, at(self.now), &mut actions);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Reply(_, line) => self.replies.push(serde_json::from_slice(&line).unwrap()),
            Action::Notify { name, params, .. } => {
                let params: Value = serde_json::from_slice(&params).unwrap();
                self.events.push(json!({"method": name, "params": params}));
            }
            Action::BindRtp { recording, .. } => {
                self.rtp = Some(recording);
                self.step(Input::RtpBound(recording, Ok("127.0.0.1:4000".parse().unwrap())));
            }
            Action::CloseRtp(_) => self.rtp = None,
            Action::Job(job) => self.job(job),
            Action::Log(..) | Action::Exit { .. } => {}
            #[allow(unreachable_patterns, reason = "actions that storage has no part in")]
            _ => {}
        }
    }

    fn job(&mut self, job: Job) {
        self.jobs += 1;
        set_clock(self.storage_free.max(self.now));
        let done = self.writer.handle(job).unwrap();
        self.storage_free = clock();
        self.answers.push_back((self.storage_free, done));
    }
}

fn at(mono: Mono) -> Now {
    let ms = mono.since(Mono::default()).as_millis() as i64;
    Now { mono, wall: Wall { unix_ms: BEGIN_UNIX_MS + ms, utc_offset_s: 0 } }
}
