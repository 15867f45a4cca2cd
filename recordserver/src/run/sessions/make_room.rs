//! Admission of connections and sessions, and making room when it is tight.
//!
//! Owns: the counts of each address, the order in which limits are asked, and the choice of connections and
//! recordings that are given up: only such as have said or sent nothing, of the address that has most of
//! them, the oldest first.
//! Never: the limits themselves, which [`crate::admission`] and [`crate::rates`] count; the end of the chosen
//! ones.

use super::disk::MAX_WAITING_JOBS;
use crate::admission::{Admission, Limits, prefix};
use crate::config::Config;
use crate::rates::{Devices, Known, Rates, Throttle};
use crate::refusal::Refusal;
use crate::run::call::{Call, CallKey, Calls};
use media::time::Mono;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

/// Number of the oldest silent connections that are looked at to find one that makes room, and of the newest,
/// where those belong to clients that open them all the time.
const LOOKED_AT: usize = 64;

/// Time that a connection without a recording is left alone, unless its address has far more of them than who
/// needs the room.
const CONNECTION_GRACE: Duration = Duration::from_secs(1);

/// The same for a recording that no packet came for.
const CALL_GRACE: Duration = Duration::from_secs(5);

/// Time after which a recording that no packet came for ends when it is tight.
const IDLE_WHEN_TIGHT: Duration = Duration::from_secs(30);

/// The interval between looks for recordings that make room, and the most recordings that one look ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const ENDED_AT_ONCE: usize = 16;

/// Descriptors of a recording beside its connection: a socket for its sender, one for others, and its file.
pub(super) const OF_CALL: usize = 3;

/// Recordings of one address that may wait for a disk that is far behind.
const LEAST_SHARE: usize = 4;

/// Of a text that a phone chose, in the log.
const MAX_LOGGED_CHARS: usize = 64;

/// Admission.
pub(super) struct Gate {
    admission: Admission,
    /// Connections without a recording, by the time since when they are silent: the longest silent comes
    /// first.
    silent: BTreeMap<(Mono, usize), IpAddr>,
    starts: Rates,
    empty_files: Rates,
    devices: Devices,
    known: Known,
    throttle: Throttle,
    call_lines: Throttle,
    /// Descriptors that phones may use.
    room: usize,
    /// Recordings that wait for the disk after their end, by address.
    behind: HashMap<IpAddr, usize>,
    /// Recordings were looked for that could make room.
    looked: Mono,
}

impl Gate {
    /// `descriptors` is how many the process may open.
    pub(super) fn new(config: &Config, devices: Devices, descriptors: u64) -> Self {
        let (limits, paces) = (config.limits, config.paces);
        Self {
            admission: limits.fitted(descriptors).map_or(Admission::new(limits), Admission::fitted),
            silent: BTreeMap::new(),
            starts: Rates::new(paces.starts),
            empty_files: Rates::new(paces.empty_files),
            devices,
            known: Known::default(),
            throttle: Throttle::of_refusals(),
            call_lines: Throttle::of_calls(),
            room: usize::try_from(Limits::for_phones(descriptors)).unwrap_or(usize::MAX),
            behind: HashMap::new(),
            looked: Mono::default(),
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.admission.connections()
    }

    /// Counts a connection.
    pub(super) fn connect(&mut self, from: IpAddr) -> Result<(), Refusal> {
        self.admission.connect(from, self.known.has(from))
    }

    /// A connection is gone.
    pub(super) fn disconnect(&mut self, from: IpAddr) {
        self.admission.disconnect(from);
    }

    /// A connection has no recording, since then.
    pub(super) fn is_silent(&mut self, token: usize, from: IpAddr, since: Mono) {
        self.silent.insert((since, token), from);
    }

    /// A connection that had no recording since then has one, or is gone.
    pub(super) fn is_not_silent(&mut self, token: usize, since: Mono) {
        self.silent.remove(&(since, token));
    }

    /// The connection that makes room for `from`, which was refused: of the address with most silent ones, or
    /// of its own.
    pub(super) fn silent_one(&self, from: IpAddr, refusal: Refusal, now: Mono) -> Option<usize> {
        let own = refusal == Refusal::ConnectionsOfAddress;
        let mine = self.admission.silent_of(from);
        let oldest = self.silent.iter().take(LOOKED_AT);
        let newest = self.silent.iter().rev().take(LOOKED_AT);
        let candidates = oldest.chain(newest).filter_map(|((since, token), peer)| {
            let silent = self.admission.silent_of(*peer);
            let same = prefix(*peer) == prefix(from);
            let waited = now.since(*since) >= CONNECTION_GRACE;
            let greedy = !same && silent >= 2 * (mine + 1);
            ((waited || greedy) && (!own || same)).then_some((silent, Reverse((*since, *token))))
        });
        candidates.max().map(|(_, Reverse((_, token)))| token)
    }

    /// Whether an address may start a recording; `waiting` is the number of jobs that wait for the disk.
    pub(super) fn may_start(&mut self, from: IpAddr, waiting: usize, now: Mono) -> Result<(), Refusal> {
        if !self.starts.take(from, now) {
            return Err(Refusal::StartsOfAddress);
        }
        self.queue_has_room(from, waiting)
    }

    /// Counts a recording: `ports_free` is how many ports are free, `descriptors` how many are in use.
    pub(super) fn open(
        &mut self,
        from: IpAddr,
        ports_free: usize,
        descriptors: usize,
    ) -> Result<(), Refusal> {
        if ports_free == 0 {
            return Err(Refusal::Ports);
        }
        if descriptors + OF_CALL > self.room {
            return Err(Refusal::Descriptors);
        }
        self.admission.open(from, self.known.has(from))
    }

    /// A recording is over, or did not begin.
    pub(super) fn close(&mut self, from: IpAddr) {
        self.admission.close(from);
    }

    /// An address has sent audio.
    pub(super) fn knows(&mut self, from: IpAddr, now: Mono) {
        self.known.add(from, now);
    }

    /// Whether a recording without audio may leave a file.
    pub(super) fn may_be_empty(&mut self, from: IpAddr, now: Mono) -> bool {
        self.empty_files.take(from, now)
    }

    /// Whether an address may have a folder for this device.
    pub(super) fn admits_device(&mut self, folder: &str, from: IpAddr, now: Mono) -> bool {
        self.devices.admits(folder, from, now)
    }

    /// One address can't fill the queue to the disk for the others: the more waits, the less of it may be its
    /// own.
    fn queue_has_room(&self, from: IpAddr, waiting: usize) -> Result<(), Refusal> {
        if waiting > 2 * MAX_WAITING_JOBS {
            return Err(Refusal::Storage);
        }
        if waiting <= MAX_WAITING_JOBS / 4 {
            return Ok(());
        }
        let own = self.behind.get(&prefix(from)).copied().unwrap_or_default();
        let share = if waiting > MAX_WAITING_JOBS {
            LEAST_SHARE
        } else {
            (MAX_WAITING_JOBS / 8 / (self.behind.len() + 1)).max(LEAST_SHARE)
        };
        if own < share { Ok(()) } else { Err(Refusal::QueueOfAddress) }
    }

    /// A recording of `from` is over and waits for the disk.
    pub(super) fn falls_behind(&mut self, from: IpAddr) {
        *self.behind.entry(prefix(from)).or_default() += 1;
    }

    /// The disk has finished one.
    pub(super) fn catches_up(&mut self, from: IpAddr) {
        let key = prefix(from);
        if let Some(count) = self.behind.get_mut(&key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.behind.remove(&key);
            }
        }
    }

    /// Recordings that no packet came for, and that end because a start of `from` was refused.
    pub(super) fn who_makes_room(
        &mut self,
        from: IpAddr,
        refusal: Refusal,
        calls: &Calls,
        now: Mono,
    ) -> Vec<CallKey> {
        if now.since(self.looked) < LOOK_INTERVAL {
            return Vec::new();
        }
        self.looked = now;
        if refusal == Refusal::SessionsOfAddress {
            let own = |call: &Call| prefix(call.peer.ip()) == prefix(from);
            let silent = silent_calls(calls, IDLE_WHEN_TIGHT, now);
            let keys = silent.into_iter().filter(|key| calls.get(*key).is_some_and(own));
            return keys.take(ENDED_AT_ONCE).collect();
        }
        let mut by_address: HashMap<IpAddr, Vec<CallKey>> = HashMap::new();
        for key in silent_calls(calls, Duration::ZERO, now) {
            if let Some(call) = calls.get(key) {
                by_address.entry(prefix(call.peer.ip())).or_default().push(key);
            }
        }
        let most = by_address.into_values().max_by_key(|keys| (keys.len(), keys.first().copied()));
        let Some(mut keys) = most else { return Vec::new() };
        let greedy = keys.len() >= 2 * (self.admission.sessions_of(from) + 1);
        if !greedy {
            keys.retain(|key| silent_for(calls, *key, now).is_some_and(|time| time >= CALL_GRACE));
        }
        keys.truncate(ENDED_AT_ONCE.min(keys.len().div_ceil(2)));
        keys
    }

    /// Recordings that no packet has come for, and that have less time than usual when it is tight: `free` is
    /// the number of `ports` that are free, `descriptors` that of descriptors in use.
    pub(super) fn idle_when_tight(
        &self,
        (free, ports): (usize, usize),
        descriptors: usize,
        calls: &Calls,
        now: Mono,
    ) -> Vec<CallKey> {
        let tight = self.admission.is_tight() || free < ports / 4 || descriptors >= self.room - self.room / 4;
        if tight { silent_calls(calls, IDLE_WHEN_TIGHT, now) } else { Vec::new() }
    }

    /// A line of the log about a call that has no audio, unless there were too many.
    pub(super) fn tell_of_call(&mut self, from: IpAddr, now: Mono, text: impl FnOnce() -> String) {
        match self.call_lines.line(from, now) {
            Some(0) => log::info!("{}", text()),
            Some(left_out) => log::info!("{} left_out={left_out}", text()),
            None => {}
        }
    }

    /// Logs a refusal, unless there were too many.
    pub(super) fn tell(&mut self, from: IpAddr, now: Mono, text: impl FnOnce() -> String) {
        match self.throttle.line(from, now) {
            Some(0) => log::warn!("{}", text()),
            Some(left_out) => log::warn!("{} left_out={left_out}", text()),
            None => {}
        }
    }
}

/// Calls whose recording has had no packet for that long, the oldest first.
fn silent_calls(calls: &Calls, time: Duration, now: Mono) -> Vec<CallKey> {
    let silent = |key: &CallKey| silent_for(calls, *key, now).is_some_and(|silent| silent >= time);
    calls.iter().map(|(key, _)| key).filter(silent).collect()
}

/// The age of a recording that never had a packet.
fn silent_for(calls: &Calls, key: CallKey, now: Mono) -> Option<Duration> {
    let call = calls.get(key)?;
    let recording = &call.recording;
    (recording.octets() == 0 && recording.file().is_none()).then(|| now.since(call.begun.mono))
}

/// A text that a phone chose, short enough for the log.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_LOGGED_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
