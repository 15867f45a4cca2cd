//! The queue of octets to one client.
//!
//! Owns: the octets, the client's `seq`, and the handling of one that does not read: progress is dropped,
//! then `events.lost` tells how much, then the connection is closed. Invariants: at most
//! [`MAX_QUEUED_OCTETS`] wait; on the wire `seq` rises by exactly one from event to event, beginning with 1;
//! every dropped event is counted in one `events.lost`.

use super::event::{Class, EVENTS_LOST};
use media::time::Mono;
use std::io::Write as _;
use std::time::Duration;

/// From here on progress is dropped and no more requests are taken from this client.
pub const HIGH_WATER_OCTETS: usize = 64 * 1024;
/// With this much waiting, long answers not counted, an event closes the connection.
pub const HARD_LIMIT_OCTETS: usize = 256 * 1024;
/// More never waits, answers included; an answer that has no room closes the connection.
pub const MAX_QUEUED_OCTETS: usize = 1024 * 1024;
/// A client over the high-water mark that takes nothing for this long is disconnected.
pub const STUCK_LIMIT: Duration = Duration::from_secs(10);

/// The result of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It waits to be sent.
    Queued,
    /// It was dropped and counted.
    Dropped,
    /// The client does not read: disconnect it. Nothing more is taken.
    Close,
}

/// The queue of one client.
#[derive(Debug, Default)]
pub struct Outbox {
    octets: Vec<u8>,
    /// Octets at the front that are sent already.
    sent: usize,
    /// Octets of answers pushed since the queue was last below the high-water mark.
    answers: usize,
    seq: u64,
    /// Dropped and not yet told.
    lost: u64,
    lost_total: u64,
    closed: bool,
    moved: bool,
    stuck_since: Option<Mono>,
}

impl Outbox {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues an answer, a whole line with its LF. It is never dropped.
    pub fn push_reply(&mut self, line: &[u8]) -> Verdict {
        if self.closed || self.queued() + line.len() > MAX_QUEUED_OCTETS {
            return self.close();
        }
        self.make_room(line.len());
        self.octets.extend_from_slice(line);
        self.answers += line.len();
        Verdict::Queued
    }

    /// Queues the event `name` with `params`, the text of a JSON object, or drops it.
    pub fn push_event(&mut self, name: &str, params: &[u8], class: Class) -> Verdict {
        if self.closed {
            return Verdict::Close;
        }
        self.tell_lost();
        let octets = self.queued() + event_octets(name, params);
        if class == Class::Progress && (self.lost > 0 || octets > HIGH_WATER_OCTETS) {
            self.lost += 1;
            self.lost_total += 1;
            return Verdict::Dropped;
        }
        if octets > MAX_QUEUED_OCTETS.min(HARD_LIMIT_OCTETS + self.answers) {
            return self.close();
        }
        self.write_event(name, params);
        Verdict::Queued
    }

    /// The octets to send next, in one piece; empty if there are none.
    #[must_use]
    pub fn peek(&self) -> &[u8] {
        &self.octets[self.sent..]
    }

    /// The first `count` octets of [`Self::peek`] are sent.
    pub fn consume(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.octets.len());
        self.moved |= count > 0;
        if self.sent == self.octets.len() {
            self.octets.clear();
            self.sent = 0;
            self.octets.shrink_to(HIGH_WATER_OCTETS);
        }
        if self.queued() <= HIGH_WATER_OCTETS {
            self.answers = 0;
        }
        self.tell_lost();
    }

    /// Whether to take more requests of this client; if not, the kernel holds them back.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !self.closed && self.queued() <= HIGH_WATER_OCTETS
    }

    /// To be called about once per second: [`Verdict::Close`] for a client that has been stuck for
    /// [`STUCK_LIMIT`].
    pub fn tick(&mut self, now: Mono) -> Verdict {
        let moved = std::mem::take(&mut self.moved);
        if self.closed {
            return Verdict::Close;
        }
        if self.queued() <= HIGH_WATER_OCTETS {
            self.stuck_since = None;
            return Verdict::Queued;
        }
        match self.stuck_since {
            Some(since) if !moved && now.since(since) >= STUCK_LIMIT => self.close(),
            Some(_) if !moved => Verdict::Queued,
            _ => {
                self.stuck_since = Some(now);
                Verdict::Queued
            }
        }
    }

    /// Octets that wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.octets.len() - self.sent
    }

    /// Events dropped so far.
    #[must_use]
    pub fn lost_total(&self) -> u64 {
        self.lost_total
    }

    fn close(&mut self) -> Verdict {
        self.closed = true;
        Verdict::Close
    }

    /// Reports the dropped events as soon as the queue is half empty again.
    fn tell_lost(&mut self) {
        if self.lost == 0 || self.closed || self.queued() > HIGH_WATER_OCTETS / 2 {
            return;
        }
        let params = format!("{{\"count\":{}}}", self.lost);
        self.lost = 0;
        self.write_event(EVENTS_LOST, params.as_bytes());
    }

    fn write_event(&mut self, name: &str, params: &[u8]) {
        self.make_room(event_octets(name, params));
        self.seq += 1;
        let seq = self.seq;
        // Writing to memory does not fail.
        let _ = write!(self.octets, "{HEAD}{name}\",\"params\":{{\"seq\":{seq}");
        let members = params.strip_prefix(b"{").unwrap_or(b"}");
        if members.first() != Some(&b'}') {
            self.octets.push(b',');
        }
        self.octets.extend_from_slice(members);
        self.octets.extend_from_slice(b"}\n");
    }

    /// Moves the waiting octets to the front rather than let the memory grow.
    fn make_room(&mut self, count: usize) {
        if self.sent > 0 && self.octets.len() + count > self.octets.capacity() {
            self.octets.drain(..self.sent);
            self.sent = 0;
        }
    }
}

const HEAD: &str = "{\"jsonrpc\":\"2.0\",\"method\":\"";
/// Octets of `","params":{"seq":`, 20 digits, a comma, `}` and LF.
const REST_OCTETS: usize = 19 + 20 + 3;

/// Octets of an event on the wire, or a few more.
fn event_octets(name: &str, params: &[u8]) -> usize {
    HEAD.len() + name.len() + REST_OCTETS + params.len()
}

#[cfg(test)]
mod tests;
