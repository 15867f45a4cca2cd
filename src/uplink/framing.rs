//! Where messages end in a TCP stream whose protocol has no framing.
//!
//! Owns: the bytes that have come and are not a message yet. A message ends
//! - at CR, LF or NUL, or
//! - right before the `cmd=` of a command of the source document that is followed by one of its keys, or
//! - when it is complete in its keys and nothing more has come for a while: [`QUIET`] if it has all
//!   keys one may expect, [`PATIENT_QUIET`] if it only has those we can't do without (a lenient peer,
//!   or the middle of a message on a slow link), or if the peer has shown that it terminates messages.
//!
//! Silence may be wrong: a segment was lost, and the rest of the last value comes later. What can't be the beginning of
//! a message is such a rest, and the message is read once more, whole.
//!
//! Invariant: how the stream was cut into pieces makes no difference as long as the pauses are shorter.

use super::message::{Command, Completeness, MAX_MESSAGE_OCTETS, Message, Pairs, ParseError};
use crate::time::Mono;
use std::fmt;
use std::time::Duration;

/// Silence on the wire that ends a message with all its keys.
pub const QUIET: Duration = Duration::from_millis(30);

/// Silence on the wire that ends a message that could still go on.
pub const PATIENT_QUIET: Duration = Duration::from_millis(250);

/// So long after a message that silence ended, a rest of it may come: a lost segment is sent again, and lost again.
const LATEST_REST: Duration = Duration::from_secs(10);

/// What a peer sends after a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Terminator {
    /// Nothing: the source document's literal form.
    #[default]
    None,
    /// Line feed.
    Lf,
    /// Carriage return and line feed.
    CrLf,
    /// Carriage return alone.
    Cr,
    /// A zero octet.
    Nul,
}

impl Terminator {
    /// The octets on the wire.
    #[must_use]
    pub fn octets(self) -> &'static [u8] {
        match self {
            Self::None => b"",
            Self::Lf => b"\n",
            Self::CrLf => b"\r\n",
            Self::Cr => b"\r",
            Self::Nul => b"\0",
        }
    }
}

/// Why the next message can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Over [`MAX_MESSAGE_OCTETS`] without an end: the session is over.
    TooLong,
    /// A message came to its end and is not usable; the next one may be.
    Malformed(ParseError),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "a message is longer than {MAX_MESSAGE_OCTETS} octets"),
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FrameError {}

/// Cuts one direction of a connection into messages.
///
/// After each [`push`](Self::push) and at each [`poll_deadline`](Self::poll_deadline), call
/// [`next`](Self::next) until it has nothing more: what is held is then less than one message.
#[derive(Debug, Default)]
pub struct Framer {
    held: Vec<u8>,
    last_push: Mono,
    /// Ends the message now, once `last_push` is that long ago.
    quiet: Option<Duration>,
    terminator: Terminator,
    after_cr: bool,
    /// The last message, if nothing but silence has said that it ended.
    guessed: Vec<u8>,
    guessed_at: Mono,
    /// What is held begins with a message that was given before.
    joined: bool,
    /// The message given last was such a one.
    again: bool,
}

impl Framer {
    /// A framer that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what came from the peer. Read in pieces of a few KiB: all of it is held until
    /// [`next`](Self::next) is called.
    pub fn push(&mut self, bytes: &[u8], now: Mono) {
        if bytes.is_empty() {
            return;
        }
        self.held.extend_from_slice(bytes);
        self.last_push = now;
        self.quiet = None;
    }

    /// The next message, if one has ended by `now`.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] ends the session, [`FrameError::Malformed`] only concerns one message.
    pub fn next(&mut self, now: Mono) -> Result<Option<Message>, FrameError> {
        loop {
            self.drop_terminators();
            self.join_rest(now);
            let end = self.find_end();
            if end.is_none() {
                if self.held.len() > MAX_MESSAGE_OCTETS + MAX_COMMAND_OCTETS {
                    return Err(FrameError::TooLong);
                }
                self.quiet = self.quiet_needed();
                if self.poll_deadline().is_none_or(|deadline| deadline > now) {
                    return Ok(None);
                }
                self.guessed.clone_from(&self.held);
                self.guessed_at = now;
            }
            match self.take(end.unwrap_or(self.held.len())) {
                // It was no rest, then; what was given before stands.
                Err(FrameError::Malformed(_)) if self.again => self.guessed.clear(),
                taken => return taken.map(Some),
            }
        }
    }

    /// What the peer had said in full when it closed the connection.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_at_close(&mut self) -> Result<Option<Message>, FrameError> {
        let message = self.next(self.last_push)?;
        if message.is_some() || self.quiet.is_none() {
            return Ok(message);
        }
        match self.take(self.held.len()) {
            Err(FrameError::Malformed(_)) if self.again => Ok(None),
            taken => taken.map(Some),
        }
    }

    /// Whether the message that was given last is one given before, and more of it.
    #[must_use]
    pub fn is_again(&self) -> bool {
        self.again
    }

    /// Whether more of the last message may come: nothing but silence has said that it ended.
    #[must_use]
    pub fn may_grow(&self) -> bool {
        !self.guessed.is_empty()
    }

    /// Whether more of the last message has come, and perhaps not all of it.
    #[must_use]
    pub fn is_growing(&self) -> bool {
        self.joined
    }

    /// When [`next`](Self::next) is to be called although nothing came.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        self.quiet.map(|quiet| self.last_push + quiet)
    }

    /// What the peer put after the last message that it terminated.
    #[must_use]
    pub fn terminator(&self) -> Terminator {
        self.terminator
    }

    /// Puts a message that silence has cut in two together again.
    fn join_rest(&mut self, now: Mono) {
        if now.since(self.guessed_at) > LATEST_REST {
            self.guessed.clear();
        }
        if !self.guessed.is_empty() && is_rest(&self.held, &self.guessed) {
            let rest = std::mem::replace(&mut self.held, std::mem::take(&mut self.guessed));
            self.held.extend_from_slice(&rest);
            self.joined = true;
        }
    }

    fn take(&mut self, end: usize) -> Result<Message, FrameError> {
        if end < self.held.len() {
            // What follows says where it ends.
            self.guessed.clear();
        }
        self.again = std::mem::take(&mut self.joined);
        self.quiet = None;
        self.after_cr = false;
        let parsed = match end {
            0..=MAX_MESSAGE_OCTETS => Message::parse(&self.held[..end]).map_err(FrameError::Malformed),
            _ => return Err(FrameError::TooLong),
        };
        self.held.drain(..end);
        self.drop_terminators();
        parsed
    }

    /// Terminators before a message belong to the one that went before.
    fn drop_terminators(&mut self) {
        let mut dropped = 0;
        for &octet in &self.held {
            let Some(mut terminator) = terminator_of(octet) else { break };
            if self.after_cr && terminator == Terminator::Lf {
                terminator = Terminator::CrLf;
            }
            self.after_cr = terminator == Terminator::Cr;
            self.terminator = terminator;
            self.guessed.clear();
            dropped += 1;
        }
        self.held.drain(..dropped);
    }

    fn find_end(&self) -> Option<usize> {
        let line = self.held.iter().position(|&octet| terminator_of(octet).is_some());
        let text = &self.held[..line.unwrap_or(self.held.len())];
        next_command(text).or(line)
    }

    fn quiet_needed(&self) -> Option<Duration> {
        let pairs = Pairs::new(&self.held);
        match pairs.completeness() {
            Completeness::Partial => None,
            Completeness::Full if self.terminator == Terminator::None && !has_half_a_command(&self.held) => {
                Some(QUIET)
            }
            Completeness::Full | Completeness::Usable => Some(PATIENT_QUIET),
        }
    }
}

fn terminator_of(octet: u8) -> Option<Terminator> {
    match octet {
        b'\n' => Some(Terminator::Lf),
        b'\r' => Some(Terminator::Cr),
        0 => Some(Terminator::Nul),
        _ => None,
    }
}

const CMD: &[u8] = b"cmd=";

/// More than `cmd=`, the longest command, and the longest key take: the part of a second message
/// that has to be seen before it is told from the first.
const MAX_COMMAND_OCTETS: usize = 64;

/// As many mentions of commands within one message are looked at; each costs a pass over it.
const MAX_MENTIONS: usize = 16;

/// Where the second message in `text` begins.
fn next_command(text: &[u8]) -> Option<usize> {
    (1..text.len())
        .filter(|&at| begins_with_command(&text[at..]))
        .take(MAX_MENTIONS)
        .find(|&at| may_end_at(text, at))
}

/// Whether the text ends in what may be a second message of which the rest is still under way.
fn has_half_a_command(text: &[u8]) -> bool {
    let from = text.len().saturating_sub(MAX_COMMAND_OCTETS).max(1);
    (from..text.len()).any(|at| text[at..].starts_with(CMD) && may_end_at(text, at))
}

/// `cmd=`, a name of the source document, and one of the keys that this command has: a mere
/// mention of a command in some peer's unescaped reason does not cut that message in two.
fn begins_with_command(text: &[u8]) -> bool {
    let Some(name_on) = text.strip_prefix(CMD) else { return false };
    Command::ALL.into_iter().any(|command| {
        let Some(rest) = name_on.strip_prefix(command.name().as_bytes()) else { return false };
        let Some(rest) = rest.strip_prefix(b"&") else { return false };
        command.keys().iter().any(|key| {
            rest.strip_prefix(key.as_bytes()).is_some_and(|after_key| after_key.first() == Some(&b'='))
        })
    })
}

/// Whether `text` can't be the beginning of a message, and so is the rest of the one `before`: neither a pair nor the
/// beginning of a key stands at its front, or, behind an `&`, a key that the message before has not yet.
fn is_rest(text: &[u8], before: &[u8]) -> bool {
    let ends = |at: &usize| terminator_of(text[*at]).is_some() || begins_with_command(&text[*at..]);
    let end = (0..text.len()).find(ends);
    let first = &text[..end.unwrap_or(text.len())];
    if let Some(next) = first.strip_prefix(b"&") {
        let key = next.iter().position(|&octet| octet == b'=').map(|at| &next[..at]);
        return key.is_some_and(|key| !Pairs::new(before).has(key));
    }
    let pair = first.split(|&octet| octet == b'&').next().unwrap_or_default();
    let is_whole = end.is_some() || pair.len() < first.len();
    !pair.is_empty() && !pair.contains(&b'=') && (is_whole || !begins_a_key(pair))
}

fn begins_a_key(text: &[u8]) -> bool {
    let keys = Command::ALL.into_iter().flat_map(|command| command.keys());
    std::iter::once(&"cmd").chain(keys).any(|key| key.as_bytes().starts_with(text))
}

/// Whether what stands before `at` can be a whole message.
fn may_end_at(text: &[u8], at: usize) -> bool {
    let before = &text[..at];
    let pair = before.rsplit(|&octet| octet == b'&').next().unwrap_or_default();
    let between_pairs = pair.is_empty();
    let in_value = pair.contains(&b'=');
    let pairs = Pairs::new(before);
    if between_pairs {
        // A second `cmd` key: with free key order the first may well come after other keys.
        return pairs.has_command();
    }
    in_value && pairs.completeness() != Completeness::Partial
}
