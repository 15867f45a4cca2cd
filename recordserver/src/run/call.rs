//! The calls that are recorded, each by its key; a call does not know its connection.
//!
//! Owns: which call a file belongs to. A call knows its owner only by [`Control`], and outlives a phone's
//! connection if its audio comes by TCP. Invariants: no key is used twice; files of a call that is over
//! belong to none.

use crate::media_sockets::Media;
use crate::quota;
use crate::recording::{Mark, Recording};
use media::time::{Mono, Now};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use store::jobs::FileKey;
use uplink::message::Parties;
use uplink::server::EndReason;

/// Names one call of this run. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CallKey(pub(super) u64);

/// The owner of a call: it asked for the call, and is told of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// The control connection of a phone, by its token.
    Uplink(usize),
    /// A phone that is gone since then, and may come back.
    Gone(Mono),
}

/// The way that its audio takes.
pub(super) enum Transport {
    /// RTP by UDP, to a port of its own.
    Udp { media: Media, port: u16 },
    /// Items by TCP.
    Tcp(Box<ByTcp>),
}

/// What belongs to a call whose audio comes by TCP.
#[derive(Default)]
pub(super) struct ByTcp {
    /// Its media connection, by its token.
    pub(super) conn: Option<usize>,
    /// The phone has ended it, and may have items on their way.
    pub(super) finishing: Option<Finishing>,
    /// It is ahead of the clock, as others of its address: nothing is read.
    pub(super) is_held: bool,
    /// The newest place that the disk was given all of.
    pub(super) written: Option<Mark>,
    /// The same, when the disk was asked last whether it is durable.
    pub(super) asked: Option<Mark>,
    /// The newest place that is durable, which the phone knows or is about to.
    pub(super) durable: Mark,
    /// A file of it could not be finished: nothing more is told to be durable.
    pub(super) is_in_doubt: bool,
}

/// How a call is to end.
pub(super) struct Finishing {
    /// How many items there are.
    pub(super) items: u64,
    pub(super) reason: EndReason,
    pub(super) parties: Parties,
    /// It ends then, whatever is missing.
    pub(super) until: Mono,
    /// The connection that is to hear of it.
    pub(super) conn: usize,
}

/// A recording that is going on, with its socket.
pub(super) struct Call {
    pub(super) control: Control,
    /// The phone that asked for it; its audio comes from this address.
    pub(super) peer: SocketAddr,
    pub(super) id: String,
    pub(super) device: String,
    pub(super) transport: Transport,
    pub(super) recording: Recording,
    pub(super) begun: Now,
    /// Below the storage folder, once it is known.
    pub(super) file: String,
    /// The packets of strangers that metrics and log have already.
    pub(super) strangers_told: u64,
    pub(super) contested_told: bool,
}

impl Call {
    /// The octets that it is ahead of the clock.
    pub(super) fn ahead(&self, now: Mono) -> u64 {
        quota::ahead(self.recording.octets(), now.since(self.audio_began()))
    }

    /// Octets per second since it began.
    pub(super) fn pace(&self, now: Mono) -> u64 {
        let ms = u64::try_from(now.since(self.audio_began()).as_millis()).unwrap_or(u64::MAX).max(1000);
        self.recording.octets().saturating_mul(1000) / ms
    }

    /// Over TCP, a phone may have been recording before it asked.
    fn audio_began(&self) -> Mono {
        self.recording.items().map_or(self.begun.mono, |items| items.begun().min(self.begun.mono))
    }

    /// Its part over TCP.
    pub(super) fn tcp(&self) -> Option<&ByTcp> {
        match &self.transport {
            Transport::Udp { .. } => None,
            Transport::Tcp(tcp) => Some(tcp),
        }
    }

    /// The same, to change it.
    pub(super) fn tcp_mut(&mut self) -> Option<&mut ByTcp> {
        match &mut self.transport {
            Transport::Udp { .. } => None,
            Transport::Tcp(tcp) => Some(tcp),
        }
    }

    /// Its UDP port.
    pub(super) fn udp_port(&self) -> Option<u16> {
        match self.transport {
            Transport::Udp { port, .. } => Some(port),
            Transport::Tcp(_) => None,
        }
    }
}

/// All calls.
#[derive(Default)]
pub(super) struct Calls {
    calls: BTreeMap<CallKey, Call>,
    last_call: u64,
    /// The call of each file that is not closed yet.
    owners: HashMap<FileKey, CallKey>,
    last_file: u64,
}

impl Calls {
    /// Their number.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Adds a call.
    pub(super) fn insert(&mut self, call: Call) -> CallKey {
        self.last_call += 1;
        let key = CallKey(self.last_call);
        self.calls.insert(key, call);
        key
    }

    /// Takes a call out. Its files do not speak for any other one.
    pub(super) fn remove(&mut self, key: CallKey) -> Option<Call> {
        let call = self.calls.remove(&key)?;
        self.owners.retain(|_, owner| *owner != key);
        Some(call)
    }

    pub(super) fn get(&self, key: CallKey) -> Option<&Call> {
        self.calls.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: CallKey) -> Option<&mut Call> {
        self.calls.get_mut(&key)
    }

    /// Those from a key on, the oldest first.
    pub(super) fn from(&self, key: CallKey) -> impl Iterator<Item = (CallKey, &Call)> {
        self.calls.range(key..).map(|(key, call)| (*key, call))
    }

    /// All of them, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (CallKey, &Call)> {
        self.calls.iter().map(|(key, call)| (*key, call))
    }

    /// Shows all of them, each with the names of its new files.
    pub(super) fn each(&mut self, mut show: impl FnMut(&mut Call, &mut Files<'_>)) {
        let Self { calls, owners, last_file, .. } = self;
        for (key, call) in calls {
            show(call, &mut Files { key: *key, owners, last_file });
        }
    }

    /// The key of a file that no call owns.
    pub(super) fn name_file(&mut self) -> FileKey {
        next_key(&mut self.last_file)
    }

    /// The call that a file belongs to.
    pub(super) fn of_file(&mut self, file: FileKey) -> Option<&mut Call> {
        self.calls.get_mut(self.owners.get(&file)?)
    }

    /// Nothing more comes of a file; gives the call that it belonged to.
    pub(super) fn disown(&mut self, file: FileKey) -> Option<CallKey> {
        self.owners.remove(&file)
    }
}

/// Names files of one call.
pub(super) struct Files<'a> {
    key: CallKey,
    owners: &'a mut HashMap<FileKey, CallKey>,
    last_file: &'a mut u64,
}

impl Files<'_> {
    /// A new key.
    pub(super) fn name(&mut self) -> FileKey {
        next_key(self.last_file)
    }

    /// A file is opened: it belongs to the call.
    pub(super) fn opened(&mut self, file: FileKey) {
        self.owners.insert(file, self.key);
    }
}

fn next_key(last: &mut u64) -> FileKey {
    *last += 1;
    FileKey(*last)
}
