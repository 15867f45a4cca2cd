//! The four messages of server recording and their text: `key=value` pairs joined by `&`.
//!
//! Owns: key names and their order (the source document's), the escapes, the keys that a message needs.
//! Sending, `%`, `&`, `=` and control characters in a value are percent-encoded and nothing else, so `+49…`
//! and UTF-8 stay readable. Receiving, keys come in any order, unknown ones are ignored, the first of two
//! equal ones counts, `%XX` is decoded and `+` is a plus. In values that machines read, case of letters,
//! blanks, quotes and trailing characters do not count; in values that people read, all does. Never: where a
//! message ends in a stream, which is [`super::framing`].

mod escape;
pub mod extension;
mod parties;
mod value;

pub use parties::Parties;
pub(super) use value::host_and_port;

use escape::{push_escaped, unescape};
use extension::{Asked, Granted};
use media::codec::Codec;
use recfile::call::Direction;
use std::fmt;
use value::port_from;

/// Longest message in octets, terminator excluded; a longer one ends the session.
pub const MAX_MESSAGE_OCTETS: usize = 8 * 1024;

/// Longest `id` in octets, after escaping, that is sent whole: each answer repeats the id of the peer. With
/// it and [`MAX_SENT_VALUE_OCTETS`] for all else a message stays within [`MAX_MESSAGE_OCTETS`].
pub const MAX_ID_OCTETS: usize = 1536;

/// Longest value in octets that is sent, after escaping; the rest is cut off at a character.
/// It keeps a message with eight such values within [`MAX_MESSAGE_OCTETS`].
pub const MAX_SENT_VALUE_OCTETS: usize = 900;

/// The phone asks the server to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartRequest {
    /// Names the recording in all messages that follow.
    pub id: String,
    /// The phone's MAC address, in the phone's own spelling.
    pub device: String,
    /// Both ends of the call.
    pub parties: Parties,
    /// The direction of the call; `None` if missing or neither `in` nor `out`.
    pub direction: Option<Direction>,
    /// Encoding name, such as `PCMA`.
    pub codec: String,
    /// Whether the phone speaks the extension, and where it stands.
    pub extension: Option<Asked>,
}

/// The result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `success`
    Success,
    /// `failed`, and anything else that is not `success`.
    Failed,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }
}

/// The server's answer to a [`StartRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartResponse {
    /// The request's `id`.
    pub id: String,
    /// Whether the server records.
    pub outcome: Outcome,
    /// The reason of a refusal, for the phone's prompt; may be empty.
    pub reason: String,
    /// Host that takes the RTP; empty means the TCP peer.
    pub server: String,
    /// UDP port that takes the RTP, a TCP port with the extension; always there in a success.
    pub port: Option<u16>,
    /// Whether the server grants the extension.
    pub extension: Option<Granted>,
}

/// Either side ends the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopRequest {
    /// Names the recording.
    pub id: String,
    /// Both ends of the call, as they are known by now.
    pub parties: Parties,
    /// The reason of the end; may be empty.
    pub reason: String,
    /// With the extension, how many items the recording has.
    pub items: Option<u64>,
}

/// The answer to a [`StopRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopResponse {
    /// The request's `id`.
    pub id: String,
    /// Always success in the source document.
    pub outcome: Outcome,
}

/// One message of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Phone to server.
    StartRequest(StartRequest),
    /// Server to phone.
    StartResponse(StartResponse),
    /// Either way.
    StopRequest(StopRequest),
    /// Either way.
    StopResponse(StopResponse),
    /// A `cmd` that the source document does not have; to be ignored.
    Unknown {
        /// Its name.
        cmd: String,
    },
}

/// The reason for which a text is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// A key that the message can't do without is missing.
    Missing(&'static str),
    /// A key is there but its value is of no use.
    Invalid(&'static str),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(key) => write!(f, "the message has no {key}"),
            Self::Invalid(key) => write!(f, "the message has an unusable {key}"),
        }
    }
}

impl std::error::Error for ParseError {}

/// The commands of the source document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    StartRequest,
    StartResponse,
    StopRequest,
    StopResponse,
}

impl Command {
    pub(super) const ALL: [Self; 4] =
        [Self::StartRequest, Self::StartResponse, Self::StopRequest, Self::StopResponse];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::StartRequest => "RecordStartRequest",
            Self::StartResponse => "RecordStartResponse",
            Self::StopRequest => "RecordStopRequest",
            Self::StopResponse => "RecordStopResponse",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.name().eq_ignore_ascii_case(name))
    }

    /// All keys of the source document after `cmd`, in its order.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::StartRequest => &[
                "id",
                "device",
                "remote_number",
                "remote_name",
                "local_number",
                "local_name",
                "dir",
                "codec",
            ],
            Self::StartResponse => &["id", "result", "reason", "server", "port"],
            Self::StopRequest => {
                &["id", "remote_number", "remote_name", "local_number", "local_name", "reason"]
            }
            Self::StopResponse => &["id", "result"],
        }
    }
}

/// Whether `value` is `whole` without its end, in any case of letters.
fn is_beginning(value: &[u8], whole: &str) -> bool {
    whole.as_bytes().get(..value.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(value))
        && value.len() < whole.len()
}

/// The completeness of a message in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Completeness {
    /// Can't be a message yet.
    Partial,
    /// Has the keys that we need, but not all that the source document lists.
    Usable,
    /// Nothing more is to be expected.
    Full,
}

/// Longest key, and longest value that only machines read, in octets; a longer one is none that we know.
const MAX_PLAIN_OCTETS: usize = 300;

/// The keys of the source document, and those of the extension.
const KEYS: [&str; 19] = [
    "cmd",
    "id",
    "device",
    "remote_number",
    "remote_name",
    "local_number",
    "local_name",
    "dir",
    "codec",
    "result",
    "reason",
    "server",
    "port",
    "ext",
    "from",
    "elapsed",
    "next",
    "resume",
    "items",
];

/// The places of the values of known keys. It grows with the text: no octet is looked at twice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Index {
    looked: usize,
    /// The start of the pair under way.
    pair: usize,
    /// Its `=` has been seen.
    in_value: bool,
    /// Which of the values goes on.
    open: Option<usize>,
    /// The first value of each key.
    values: [Option<(usize, usize)>; KEYS.len()],
}

impl Index {
    /// Looks at the new end of `text`; its beginning must be the same.
    pub(super) fn extend(&mut self, text: &[u8]) {
        for (at, octet) in text.iter().enumerate().skip(self.looked) {
            match octet {
                b'&' => (self.pair, self.in_value, self.open) = (at + 1, false, None),
                b'=' if !self.in_value => {
                    self.in_value = true;
                    let key = text.get(self.pair..at).unwrap_or_default();
                    let known = position_of(key).filter(|known| self.values[*known].is_none());
                    self.open = known;
                    if let Some(known) = known {
                        self.values[known] = Some((at + 1, at + 1));
                    }
                }
                _ => {
                    if let Some((_, end)) = self.open.and_then(|open| self.values[open].as_mut()) {
                        *end = at + 1;
                    }
                }
            }
        }
        self.looked = self.looked.max(text.len());
    }
}

fn position_of(key: &[u8]) -> Option<usize> {
    if key.len() > MAX_PLAIN_OCTETS {
        return None;
    }
    let key = trimmed(key);
    KEYS.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(key))
}

/// Without the blanks, quotes and byte order marks around it.
pub(super) fn trimmed(mut octets: &[u8]) -> &[u8] {
    let surrounds =
        |octet: u8| octet.is_ascii_whitespace() || matches!(octet, b'"' | b'\'' | 0xEF | 0xBB | 0xBF);
    while let Some((_, rest)) = octets.split_first().filter(|(first, _)| surrounds(**first)) {
        octets = rest;
    }
    while let Some((_, rest)) = octets.split_last().filter(|(last, _)| surrounds(**last)) {
        octets = rest;
    }
    octets
}

/// The pairs of a message as they came, still escaped.
pub(super) struct Pairs<'a> {
    text: &'a [u8],
    index: Index,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let mut index = Index::default();
        index.extend(text);
        Self { text, index }
    }

    /// With an index that is known already.
    pub(super) fn indexed(text: &'a [u8], index: Index) -> Self {
        Self { text, index }
    }

    /// The raw value of the first pair named `key`, one of [`KEYS`].
    fn raw(&self, key: &str) -> Option<&'a [u8]> {
        let known = KEYS.iter().position(|known| *known == key)?;
        let (from, to) = self.index.values[known]?;
        self.text.get(from..to)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.raw(key).map(unescape)
    }

    fn text_or_empty(&self, key: &str) -> String {
        self.text(key).unwrap_or_default()
    }

    /// A value that machines read: decoded, and without blanks, quotes and separators around it.
    fn plain(&self, key: &str) -> Option<String> {
        let raw = self.raw(key)?;
        let value = unescape(raw.get(..MAX_PLAIN_OCTETS).unwrap_or(raw));
        let surrounds =
            |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '\u{FEFF}' | ';' | ',');
        Some(value.trim_matches(surrounds).to_owned())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    /// Whether there is a pair of this key, known or not.
    pub(super) fn has_any(&self, key: &[u8]) -> bool {
        let keys = self.text.split(|&octet| octet == b'&').filter_map(|pair| {
            let at = pair.iter().position(|&octet| octet == b'=')?;
            pair.get(..at)
        });
        keys.map(trimmed).any(|known| known.eq_ignore_ascii_case(trimmed(key)))
    }

    pub(super) fn has_command(&self) -> bool {
        self.has("cmd")
    }

    fn parties(&self) -> Parties {
        Parties {
            remote_number: self.text_or_empty("remote_number"),
            remote_name: self.text_or_empty("remote_name"),
            local_number: self.text_or_empty("local_number"),
            local_name: self.text_or_empty("local_name"),
        }
    }

    fn id(&self) -> Result<String, ParseError> {
        let id = self.text("id").ok_or(ParseError::Missing("id"))?;
        if id.is_empty() {
            return Err(ParseError::Invalid("id"));
        }
        Ok(id)
    }

    fn outcome(&self) -> Result<Outcome, ParseError> {
        let result = self.plain("result").ok_or(ParseError::Missing("result"))?;
        let success = result.eq_ignore_ascii_case(Outcome::Success.name());
        Ok(if success { Outcome::Success } else { Outcome::Failed })
    }

    /// The port within `server`, where some peers write it.
    fn port_of_server(&self) -> Option<u16> {
        self.plain("server").and_then(|server| host_and_port(&server).1)
    }

    /// Whether a value is empty that can't be, or only the beginning of one that we know: the rest of the
    /// message may be in the next segment.
    fn lacks_a_value(&self, command: Command) -> bool {
        let is_cut = |key, known: &[&str]| {
            self.plain(key).is_some_and(|value| {
                value.is_empty() || known.iter().any(|known| is_beginning(value.as_bytes(), known))
            })
        };
        let result = || is_cut("result", &[Outcome::Success.name(), Outcome::Failed.name()]);
        match command {
            Command::StartRequest => is_cut("codec", &Codec::ALL.map(Codec::name)),
            Command::StartResponse => {
                let needs_port = || self.outcome() == Ok(Outcome::Success) && self.port_of_server().is_none();
                result() || (is_cut("port", &[]) && needs_port())
            }
            Command::StopRequest => false,
            Command::StopResponse => result(),
        }
    }

    /// Judges by the keys, and by values that can't be empty, whether the message is all here.
    pub(super) fn completeness(&self) -> Completeness {
        let Some(cmd) = self.plain("cmd") else { return Completeness::Partial };
        let Some(command) = Command::from_name(&cmd) else { return Completeness::Usable };
        if command.keys().iter().all(|key| self.has(key)) {
            return if self.lacks_a_value(command) { Completeness::Usable } else { Completeness::Full };
        }
        let (usable, full) = match command {
            Command::StartRequest => (self.has("codec"), false),
            Command::StartResponse => match self.outcome() {
                Ok(Outcome::Success) => {
                    let has_port = self.has("port");
                    (has_port || self.port_of_server().is_some(), has_port && !self.lacks_a_value(command))
                }
                Ok(Outcome::Failed) => (true, self.has("reason")),
                Err(_) => (false, false),
            },
            Command::StopRequest => (true, false),
            Command::StopResponse => (self.has("result"), !self.lacks_a_value(command)),
        };
        match (self.has("id") && usable, full) {
            (true, true) => Completeness::Full,
            (true, false) => Completeness::Usable,
            (false, _) => Completeness::Partial,
        }
    }
}

impl Message {
    /// Reads one message, without its terminator.
    ///
    /// # Errors
    /// A command of the source document without the keys it needs, or with a useless value in one.
    /// A `%` that is not followed by two hexadecimal digits stands for itself, and octets that are
    /// not UTF-8 become U+FFFD: a bad name is no reason not to record.
    pub fn parse(text: &[u8]) -> Result<Self, ParseError> {
        let pairs = Pairs::new(text);
        let cmd = pairs.plain("cmd").ok_or(ParseError::Missing("cmd"))?;
        let Some(command) = Command::from_name(&cmd) else {
            return Ok(Self::Unknown { cmd: pairs.text_or_empty("cmd") });
        };
        let id = pairs.id()?;
        Ok(match command {
            Command::StartRequest => Self::StartRequest(StartRequest {
                id,
                device: pairs.text_or_empty("device"),
                parties: pairs.parties(),
                direction: pairs.plain("dir").and_then(|dir| Direction::from_name(&dir.to_ascii_lowercase())),
                codec: pairs.text("codec").ok_or(ParseError::Missing("codec"))?,
                extension: extension::asked(&pairs),
            }),
            Command::StartResponse => Self::StartResponse(parse_start_response(id, &pairs)?),
            Command::StopRequest => Self::StopRequest(StopRequest {
                id,
                parties: pairs.parties(),
                reason: pairs.text_or_empty("reason"),
                items: extension::items(&pairs),
            }),
            Command::StopResponse => Self::StopResponse(StopResponse { id, outcome: pairs.outcome()? }),
        })
    }

    /// The text of the message, without a terminator, at most [`MAX_MESSAGE_OCTETS`] long.
    ///
    /// Values over [`MAX_SENT_VALUE_OCTETS`] are cut.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::from("cmd=");
        match self {
            Self::StartRequest(start) => {
                text.push_str(Command::StartRequest.name());
                push_id(&mut text, &start.id);
                push_pair(&mut text, "device", &start.device);
                push_parties(&mut text, &start.parties);
                push_pair(&mut text, "dir", start.direction.map_or("", Direction::as_str));
                push_pair(&mut text, "codec", &start.codec);
                start.extension.iter().for_each(|asked| extension::push_asked(&mut text, asked));
            }
            Self::StartResponse(answer) => {
                text.push_str(Command::StartResponse.name());
                push_id(&mut text, &answer.id);
                push_pair(&mut text, "result", answer.outcome.name());
                push_pair(&mut text, "reason", &answer.reason);
                push_pair(&mut text, "server", &answer.server);
                push_pair(&mut text, "port", &answer.port.map(|port| port.to_string()).unwrap_or_default());
                answer.extension.iter().for_each(|granted| extension::push_granted(&mut text, granted));
            }
            Self::StopRequest(stop) => {
                text.push_str(Command::StopRequest.name());
                push_id(&mut text, &stop.id);
                push_parties(&mut text, &stop.parties);
                push_pair(&mut text, "reason", &stop.reason);
                stop.items.iter().for_each(|&items| extension::push_items(&mut text, items));
            }
            Self::StopResponse(answer) => {
                text.push_str(Command::StopResponse.name());
                push_id(&mut text, &answer.id);
                push_pair(&mut text, "result", answer.outcome.name());
            }
            Self::Unknown { cmd } => push_escaped(&mut text, cmd, MAX_SENT_VALUE_OCTETS),
        }
        text
    }

    /// The recording that the message is about; `None` for an unknown one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::StartRequest(message) => Some(&message.id),
            Self::StartResponse(message) => Some(&message.id),
            Self::StopRequest(message) => Some(&message.id),
            Self::StopResponse(message) => Some(&message.id),
            Self::Unknown { .. } => None,
        }
    }
}

fn parse_start_response(id: String, pairs: &Pairs<'_>) -> Result<StartResponse, ParseError> {
    let outcome = pairs.outcome()?;
    let said = pairs.plain("port").filter(|said| !said.is_empty());
    let port = match (outcome, &said) {
        (_, Some(said)) => port_from(said),
        (Outcome::Success, None) => pairs.port_of_server(),
        (Outcome::Failed, None) => None,
    };
    if outcome == Outcome::Success && port.is_none() {
        let error = if pairs.has("port") { ParseError::Invalid } else { ParseError::Missing };
        return Err(error("port"));
    }
    Ok(StartResponse {
        id,
        outcome,
        reason: pairs.text_or_empty("reason"),
        server: pairs.text_or_empty("server"),
        port,
        extension: extension::granted(pairs).filter(|_| outcome == Outcome::Success),
    })
}

fn push_parties(text: &mut String, parties: &Parties) {
    push_pair(text, "remote_number", &parties.remote_number);
    push_pair(text, "remote_name", &parties.remote_name);
    push_pair(text, "local_number", &parties.local_number);
    push_pair(text, "local_name", &parties.local_name);
}

fn push_id(text: &mut String, id: &str) {
    text.push_str("&id=");
    push_escaped(text, id, MAX_ID_OCTETS);
}

fn push_pair(text: &mut String, key: &str, value: &str) {
    text.push('&');
    text.push_str(key);
    text.push('=');
    push_escaped(text, value, MAX_SENT_VALUE_OCTETS);
}
