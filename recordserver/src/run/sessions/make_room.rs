//! Who gets in, and who has to make room for whom when it is tight.
//!
//! Owns: the order in which limits are asked, and the choice of connections and recordings that are given up: only such as
//! have said or sent nothing, of the address that has most of them, the oldest first. Never: the limits themselves, which
//! [`crate::admission`] and [`crate::rates`] count.

use super::Sessions;
use super::disk::MAX_WAITING_JOBS;
use crate::admission::prefix;
use crate::refusal::Refusal;
use crate::run::call::{Call, CallKey};
use media::time::{Mono, Now};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use uplink::server::EndReason;

/// Silent connections that are looked at to find one that makes room: so many of the oldest, and of the newest, where
/// those are who open them all the time.
const LOOKED_AT: usize = 64;

/// A connection without a recording is left alone for so long, unless its address has far more of them than who
/// needs the room.
const CONNECTION_GRACE: Duration = Duration::from_secs(1);

/// The same for a recording that no packet came for.
const CALL_GRACE: Duration = Duration::from_secs(5);

/// When it is tight, a recording that no packet came for ends after this long.
const IDLE_WHEN_TIGHT: Duration = Duration::from_secs(30);

/// Looks for recordings that make room are so far apart, and end so many at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const ENDED_AT_ONCE: usize = 16;

/// Descriptors of a recording beside its connection: a socket for its sender, one for others, and its file.
const OF_CALL: usize = 3;

/// Recordings of one address that may wait for a disk that is far behind.
const LEAST_SHARE: usize = 4;

/// Of a text that a phone chose, in the log.
const MAX_LOGGED_CHARS: usize = 64;

impl Sessions {
    /// Counts a connection, if need be in place of one that says nothing.
    pub(super) fn admit(&mut self, from: IpAddr, now: Now) -> Result<(), Refusal> {
        if self.going_down {
            return Err(Refusal::ShuttingDown);
        }
        let known = self.known.has(from);
        let Err(refusal) = self.admission.connect(from, known) else { return Ok(()) };
        let of_address = refusal == Refusal::ConnectionsOfAddress;
        let Some(token) = self.silent_one(from, of_address, now.mono) else { return Err(refusal) };
        self.metrics.refused(refusal);
        self.drive(token, now, |session, out| session.peer_closed(now.mono, out));
        self.remove(token);
        self.admission.connect(from, known)
    }

    /// The connection that makes room for `from`: of the address with most silent ones, or of its own.
    fn silent_one(&self, from: IpAddr, own: bool, now: Mono) -> Option<usize> {
        let mine = self.admission.silent_of(from);
        let oldest = self.silent.iter().take(LOOKED_AT);
        let newest = self.silent.iter().rev().take(LOOKED_AT);
        let candidates = oldest.chain(newest).filter_map(|(since, token)| {
            let conn = self.conns.get(token)?;
            let silent = self.admission.silent_of(conn.peer.ip());
            let same = prefix(conn.peer.ip()) == prefix(from);
            let waited = now.since(*since) >= CONNECTION_GRACE;
            let greedy = !same && silent >= 2 * (mine + 1);
            ((waited || greedy) && (!own || same)).then_some((silent, Reverse((*since, *token))))
        });
        candidates.max().map(|(_, Reverse((_, token)))| token)
    }

    /// Counts a recording, if need be in place of one that no packet came for.
    pub(super) fn admit_call(&mut self, from: IpAddr, now: Now) -> Result<(), Refusal> {
        if !self.starts.take(from, now.mono) {
            return Err(Refusal::StartsOfAddress);
        }
        self.queue_has_room(from)?;
        self.count_call(from).or_else(|refusal| {
            self.make_room(from, refusal, now);
            self.count_call(from)
        })
    }

    fn count_call(&mut self, from: IpAddr) -> Result<(), Refusal> {
        if self.ports.free() == 0 {
            return Err(Refusal::Ports);
        }
        if self.descriptors() + OF_CALL > self.room {
            return Err(Refusal::Descriptors);
        }
        self.admission.open(from, self.known.has(from))
    }

    /// Descriptors that phones cost at the moment.
    fn descriptors(&self) -> usize {
        self.conns.len() + OF_CALL * self.calls.len() + self.closing.len()
    }

    /// One address can't fill the queue to the disk for the others: the more waits, the less of it may be its own.
    fn queue_has_room(&self, from: IpAddr) -> Result<(), Refusal> {
        let waiting = self.waiting_jobs.len();
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

    /// Ends recordings that no packet came for, because a start of `from` was refused.
    fn make_room(&mut self, from: IpAddr, refusal: Refusal, now: Now) {
        if now.mono.since(self.looked) < LOOK_INTERVAL {
            return;
        }
        self.looked = now.mono;
        if refusal == Refusal::SessionsOfAddress {
            let own = |call: &Call| prefix(call.peer.ip()) == prefix(from);
            let silent = self.silent_calls(IDLE_WHEN_TIGHT, now.mono);
            let keys = silent.into_iter().filter(|key| self.calls.get(*key).is_some_and(own));
            self.end_silent(keys.take(ENDED_AT_ONCE).collect(), now);
            return;
        }
        let mut by_address: HashMap<IpAddr, Vec<CallKey>> = HashMap::new();
        for key in self.silent_calls(Duration::ZERO, now.mono) {
            if let Some(call) = self.calls.get(key) {
                by_address.entry(prefix(call.peer.ip())).or_default().push(key);
            }
        }
        let most = by_address.into_values().max_by_key(|keys| (keys.len(), keys.first().copied()));
        let Some(mut keys) = most else { return };
        let greedy = keys.len() >= 2 * (self.admission.sessions_of(from) + 1);
        if !greedy {
            keys.retain(|key| self.silent_for(*key, now.mono).is_some_and(|time| time >= CALL_GRACE));
        }
        keys.truncate(ENDED_AT_ONCE.min(keys.len().div_ceil(2)));
        self.end_silent(keys, now);
    }

    /// When it is tight, recordings that no packet has come for have less time than usual.
    pub(in crate::run) fn relieve(&mut self, now: Now) {
        let ports = self.config.rtp_ports.count();
        let tight = self.admission.is_tight()
            || self.ports.free() < ports / 4
            || self.descriptors() >= self.room - self.room / 4;
        if tight {
            self.end_silent(self.silent_calls(IDLE_WHEN_TIGHT, now.mono), now);
        }
    }

    fn end_silent(&mut self, keys: Vec<CallKey>, now: Now) {
        for key in keys {
            self.end_call(key, &EndReason::Idle, now);
        }
    }

    /// Calls whose recording has had no packet for that long, the oldest first.
    fn silent_calls(&self, time: Duration, now: Mono) -> Vec<CallKey> {
        let silent = |key: &CallKey| self.silent_for(*key, now).is_some_and(|silent| silent >= time);
        self.calls.iter().map(|(key, _)| key).filter(silent).collect()
    }

    /// How long a recording has gone on without ever having had a packet.
    fn silent_for(&self, key: CallKey, now: Mono) -> Option<Duration> {
        let call = self.calls.get(key)?;
        let recording = &call.recording;
        (recording.octets() == 0 && recording.file().is_none()).then(|| now.since(call.begun.mono))
    }

    /// A line of the log about a call that has no audio, unless there were too many.
    pub(super) fn tell_of_call(&mut self, from: IpAddr, now: Mono, text: impl FnOnce() -> String) {
        match self.call_lines.line(from, now) {
            Some(0) => log::info!("{}", text()),
            Some(left_out) => log::info!("{} left_out={left_out}", text()),
            None => {}
        }
    }

    /// A line of the log about somebody who was refused, unless there were too many.
    pub(super) fn tell(&mut self, from: IpAddr, now: Mono, text: impl FnOnce() -> String) {
        match self.throttle.line(from, now) {
            Some(0) => log::warn!("{}", text()),
            Some(left_out) => log::warn!("{} left_out={left_out}", text()),
            None => {}
        }
    }
}

/// A text that a phone chose, short enough for the log.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_LOGGED_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
