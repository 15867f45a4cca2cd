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

use crate::agent::clients::Clients;
use crate::agent::routing::inputs::handle;
use crate::agent::routing::{Parts, Wanted};
use crate::api::event::Event;
use crate::api::request::{self, Method, Request};
use crate::api::status::SandboxStatus;
use crate::config::Config;
use media::blocks::BlockPool;
use media::time::{Mono, Now};
use store::jobs::FileKey;

/// Ended recordings that can still be asked for.
const MAX_ENDED: usize = 32;

/// Requests to start that may wait for the first look at the disks.
const MAX_WAITING_STARTS: usize = 64;

/// The context of every decision of one step: the time, the list of actions, and all that the parts share.
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

impl Agent {
    /// An agent that has just started. `entropy` makes its recording ids unique.
    #[must_use]
    pub fn new(config: Config, entropy: u64, now: Now) -> Self {
        let parts = Parts::new(&config, now.mono);
        let pool = BlockPool::new(config.storage.buffer_octets as u64);
        let ids = Ids { next_key: 1, random: entropy };
        Self { config, clients: Clients::default(), pool, ids, parts }
    }

    /// Notes the privileges that the process has given up, for `agent.info`.
    pub fn set_sandbox(&mut self, sandbox: SandboxStatus) {
        self.parts.set_sandbox(sandbox);
    }

    /// Takes a datagram of a recording, and returns the datagrams to relay.
    pub fn datagram(&mut self, recording: RecordingKey, datagram: Datagram<'_>) -> Taken {
        let forward = self.parts.datagram(recording, datagram, &mut self.pool);
        Taken { forward, room: self.pool.has_room() }
    }

    /// Takes one input; adds the resulting actions to `actions`.
    pub fn step(&mut self, input: Input<'_>, now: Now, actions: &mut Vec<Action>) {
        let before = actions.len();
        let rest = self.clients.handle(input, actions);
        let Self { config, clients, pool, ids, parts } = self;
        let turn = &mut Turn { now, actions, config, clients, pool, ids };
        handle(parts, rest, before, turn);
    }

    /// Whether something waits for the next answer of storage: a file to be finished, the next one, or the
    /// last audio before a pause, in which no packet may come to wake us.
    #[must_use]
    pub fn waits_for_storage(&self) -> bool {
        self.parts.wait_for_storage()
    }

    /// Whether a batch of packets would find room. If not, they are better left in their sockets.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.pool.has_room()
    }

    /// When [`Input::Tick`] is due next.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let wanted = Wanted {
            recording_progress: self.clients.wants("recording.progress"),
            playback_progress: self.clients.wants("playback.progress"),
            storage_state: self.clients.wants("storage.state"),
        };
        self.parts.deadline(&self.config, self.pool.has_room(), wanted)
    }

    /// The recordings whose packets come before the request in a client's line. Every other request can be
    /// answered while packets wait in the sockets for room, so that a question never costs audio.
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
