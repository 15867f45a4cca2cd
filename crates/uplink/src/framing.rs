//! The ends of messages in a TCP stream whose protocol has no framing.
//!
//! Owns: the bytes that have come and are not a message yet. A message ends
//! - at CR, LF or NUL, or
//! - right before the `cmd=` of a command of the source document that is followed by one of its keys, or
//! - when it is complete in its keys and nothing more has come for a while: [`QUIET`] if it has all
//!   keys one may expect, [`PATIENT_QUIET`] if it only has those we can't do without (a lenient peer,
//!   or the middle of a message on a slow link), or if the peer has shown that it terminates messages.
//!
//! Silence may be wrong: a segment was lost, and the rest of the last value comes later. Octets that can't be
//! the beginning of a message are such a rest, and the message is read once more, whole.
//!
//! Invariants: how the stream was cut into pieces makes no difference as long as the pauses are shorter; nor
//! does it cost more than a bounded look per piece, however much is held: octets that were looked at are
//! remembered.

use super::message::{Command, Completeness, Index, MAX_MESSAGE_OCTETS, Message, Pairs, ParseError, trimmed};
use media::time::Mono;
use std::fmt;
use std::time::Duration;

/// Silence on the wire that ends a message with all its keys.
pub const QUIET: Duration = Duration::from_millis(30);

/// Silence on the wire that ends a message that could still go on.
pub const PATIENT_QUIET: Duration = Duration::from_millis(250);

/// Longest time after a message that silence ended in which a rest of it may come: a lost segment is sent
/// again, and lost again.
const LATEST_REST: Duration = Duration::from_secs(10);

/// The end of line that a peer sends after a message.
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

/// The reason for which the next message can't be read.
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

/// The results of looks at the held octets, so that none is looked at again when the next one comes.
#[derive(Debug, Default)]
struct Seen {
    /// Up to here there is no terminator.
    line: usize,
    /// Up to here all mentions of `cmd=` are known.
    commands: usize,
    /// Mentions, those included that end no message.
    mentions: usize,
    /// The possible starts of a second message.
    starts: Vec<usize>,
    index: Index,
}

/// Cuts one direction of a connection into messages.
///
/// After each [`push`](Self::push) and at each [`poll_deadline`](Self::poll_deadline), call
/// [`next`](Self::next) until it has nothing more: the held octets are then less than one message.
#[derive(Debug, Default)]
pub struct Framer {
    held: Vec<u8>,
    seen: Seen,
    last_push: Mono,
    /// Ends the message now, once `last_push` is that long ago.
    quiet: Option<Duration>,
    terminator: Terminator,
    after_cr: bool,
    /// The last message, if nothing but silence has said that it ended.
    guessed: Vec<u8>,
    guessed_at: Mono,
    /// The held octets begin with a message that was given before.
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

    /// Takes octets from the peer. Read in pieces of a few KiB: all of it is held until [`next`](Self::next)
    /// is called.
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
                // It was no rest, then; the message given before stands.
                Err(FrameError::Malformed(_)) if self.again => self.guessed.clear(),
                taken => return taken.map(Some),
            }
        }
    }

    /// The messages that were complete when the peer closed the connection.
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

    /// The time at which [`next`](Self::next) is to be called although nothing came.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        self.quiet.map(|quiet| self.last_push + quiet)
    }

    /// The end of line after the last message that the peer terminated.
    #[must_use]
    pub fn terminator(&self) -> Terminator {
        self.terminator
    }

    /// Puts a message that silence has cut in two together again.
    fn join_rest(&mut self, now: Mono) {
        if now.since(self.guessed_at) > LATEST_REST {
            self.guessed.clear();
        }
        if self.guessed.is_empty() {
            return;
        }
        match rest_of(&self.held, &self.guessed) {
            Late::Undecided => {}
            // The last message has ended, then.
            Late::Other => self.guessed.clear(),
            Late::Rest => {
                let rest = std::mem::replace(&mut self.held, std::mem::take(&mut self.guessed));
                self.held.extend_from_slice(&rest);
                self.seen = Seen::default();
                self.joined = true;
            }
        }
    }

    fn take(&mut self, end: usize) -> Result<Message, FrameError> {
        if end < self.held.len() {
            // The next octets say where it ends.
            self.guessed.clear();
        }
        self.again = std::mem::take(&mut self.joined);
        self.quiet = None;
        self.after_cr = false;
        let parsed = match end {
            0..=MAX_MESSAGE_OCTETS => Message::parse(&self.held[..end]).map_err(FrameError::Malformed),
            _ => return Err(FrameError::TooLong),
        };
        self.forget(end);
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
        if dropped > 0 {
            self.forget(dropped);
        }
    }

    fn forget(&mut self, octets: usize) {
        self.held.drain(..octets);
        self.seen = Seen::default();
    }

    fn find_end(&mut self) -> Option<usize> {
        let seen = &mut self.seen;
        let new = self.held.get(seen.line..).unwrap_or_default();
        let line = new.iter().position(|&octet| terminator_of(octet).is_some()).map(|at| seen.line + at);
        let text = self.held.get(..line.unwrap_or(self.held.len())).unwrap_or_default();
        seen.line = text.len();
        for at in seen.commands.max(1)..text.len() {
            if seen.mentions == MAX_MENTIONS {
                break;
            }
            if after_cmd(&text[at..]).is_some() {
                seen.mentions += 1;
                seen.commands = at + 1;
                if may_end_at(text, at) {
                    seen.starts.push(at);
                }
            }
        }
        // The last ones may be the beginning of a mention.
        seen.commands = seen.commands.max(text.len().saturating_sub(MAX_CMD_OCTETS));
        let next = seen.starts.iter().copied().find(|&at| begins_with_command(&text[at..]));
        // Of the others all has been seen.
        seen.starts.retain(|at| at + MAX_COMMAND_OCTETS > text.len());
        next.or(line)
    }

    /// Whether the text ends in the possible beginning of a second message.
    fn has_half_a_command(&self) -> bool {
        self.seen.starts.iter().any(|at| at + MAX_COMMAND_OCTETS > self.held.len())
    }

    /// To be called when no end was found: all that is held is one message, or the beginning of one.
    fn quiet_needed(&mut self) -> Option<Duration> {
        self.seen.index.extend(&self.held);
        let pairs = Pairs::indexed(&self.held, self.seen.index);
        match pairs.completeness() {
            Completeness::Partial => None,
            Completeness::Full if self.terminator == Terminator::None && !self.has_half_a_command() => {
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

/// `cmd`, blanks, `=`: as much is needed to see a mention of a command.
const MAX_CMD_OCTETS: usize = 8;

/// More than `cmd=`, the longest command, and the longest key take: the part of a second message
/// that has to be seen before it is told from the first.
const MAX_COMMAND_OCTETS: usize = 64;

/// As many mentions of commands within one message are looked at; each costs a pass over it.
const MAX_MENTIONS: usize = 16;

/// The text behind the `cmd=` that `text` begins with.
fn after_cmd(text: &[u8]) -> Option<&[u8]> {
    let head = text.get(..3)?;
    if !head.eq_ignore_ascii_case(b"cmd") {
        return None;
    }
    let look = text.get(3..MAX_CMD_OCTETS.min(text.len()))?;
    let equals = look.iter().position(|octet| *octet != b' ').filter(|at| look[*at] == b'=')?;
    text.get(3 + equals + 1..)
}

/// `cmd=`, a name of the source document, and one of the keys that this command has: a mere
/// mention of a command in some peer's unescaped reason does not cut that message in two.
fn begins_with_command(text: &[u8]) -> bool {
    let Some(value) = after_cmd(text.get(..MAX_COMMAND_OCTETS).unwrap_or(text)) else { return false };
    let mut pairs = value.split(|&octet| octet == b'&');
    let (Some(name), Some(pair)) = (pairs.next(), pairs.next()) else { return false };
    let Some(at) = pair.iter().position(|&octet| octet == b'=') else { return false };
    let is = |known: &str, said: &[u8]| known.as_bytes().eq_ignore_ascii_case(trimmed(said));
    Command::ALL
        .into_iter()
        .any(|command| is(command.name(), name) && command.keys().iter().any(|key| is(key, &pair[..at])))
}

/// The meaning of octets that come after silence has ended a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// The rest of that message.
    Rest,
    /// The beginning of another one, or nothing of use.
    Other,
    /// More has to come first.
    Undecided,
}

/// The meaning of `text` behind the message `before`: its rest, if it can't be the beginning of a message.
/// Then neither a pair nor the beginning of a key stands at its front, or, behind an `&`, a key that the
/// message before has not yet.
fn rest_of(text: &[u8], before: &[u8]) -> Late {
    let look = text.get(..2 * MAX_COMMAND_OCTETS).unwrap_or(text);
    let ends = |at: &usize| terminator_of(look[*at]).is_some() || begins_with_command(&look[*at..]);
    let end = (0..look.len()).find(ends).or((look.len() < text.len()).then_some(look.len()));
    let first = &look[..end.unwrap_or(look.len())];
    if first.is_empty() {
        return if end.is_some() { Late::Other } else { Late::Undecided };
    }
    if let Some(next) = first.strip_prefix(b"&") {
        let key = next.iter().position(|&octet| octet == b'=').map(|at| &next[..at]);
        return match key {
            Some(key) if Pairs::new(before).has_any(key) => Late::Other,
            Some(_) => Late::Rest,
            None if end.is_some() => Late::Other,
            None => Late::Undecided,
        };
    }
    let pair = first.split(|&octet| octet == b'&').next().unwrap_or_default();
    let is_whole = end.is_some() || pair.len() < first.len();
    match () {
        () if pair.contains(&b'=') => Late::Other,
        () if is_whole || !begins_a_key(pair) => Late::Rest,
        () => Late::Undecided,
    }
}

fn begins_a_key(text: &[u8]) -> bool {
    let keys = Command::ALL.into_iter().flat_map(|command| command.keys());
    let begins =
        |key: &&str| key.as_bytes().get(..text.len()).is_some_and(|head| head.eq_ignore_ascii_case(text));
    std::iter::once(&"cmd").chain(keys).any(begins)
}

/// Whether the text before `at` can be a whole message, or words that are none.
fn may_end_at(text: &[u8], at: usize) -> bool {
    let before = &text[..at];
    if trimmed(before).is_empty() {
        return false;
    }
    let pair = before.rsplit(|&octet| octet == b'&').next().unwrap_or_default();
    let between_pairs = trimmed(pair).is_empty();
    let in_value = pair.contains(&b'=');
    let pairs = Pairs::new(before);
    if between_pairs {
        // A second `cmd` key: with free key order the first may well come after other keys.
        return pairs.has_command();
    }
    // A greeting has no pairs at all.
    let is_words = pair.len() == before.len() && !in_value;
    is_words || (in_value && pairs.completeness() != Completeness::Partial)
}
