//! One line in, one typed request out.
//!
//! Owns: the methods, their parameters with types, ranges and defaults, and the errors of bad lines. Never:
//! knows recordings or files; whether an id exists or a codec is known is for the agent to say. Invariants:
//! no line panics; a notification (no `id`) is never answered.

use super::params::{ParamError, Params, choice, flag, number, shortened, text};
use super::reply::{self, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, RequestId};
use super::status::{Mode, RtpAddress};
use super::subscription::{MAX_PREFIX_OCTETS, MAX_PREFIXES};
use recfile::call::{Call, CallUpdate, Direction, Field};
use recfile::text::{REPLACEMENT, mended_json, paired_json};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// Longest `id` of a request, as written.
pub const MAX_REQUEST_ID_OCTETS: usize = 256;
/// Longest id of a recording or playback, and longest codec name, in characters.
pub const MAX_NAME_CHARS: usize = 256;
/// Longest `file`, `after` and `query`, in characters.
pub const MAX_FILE_CHARS: usize = 1024;
/// Packet time when `record.start` has none, in milliseconds.
pub const DEFAULT_PTIME_MS: u32 = 20;

/// A request or, without `id`, a notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `None`: nobody waits for an answer and none may be sent.
    pub id: Option<RequestId>,
    /// The method and its parameters.
    pub method: Method,
}

/// The methods, each with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// `agent.info`
    AgentInfo,
    /// `record.start`
    RecordStart(RecordStart),
    /// `record.pause`
    RecordPause {
        /// Which; `None`: the only one.
        recording: Option<String>,
    },
    /// `record.resume`
    RecordResume {
        /// Which; `None`: the only one.
        recording: Option<String>,
    },
    /// `record.stop`
    RecordStop {
        /// Which; `None`: the only one.
        recording: Option<String>,
    },
    /// `record.update`
    RecordUpdate {
        /// Which; `None`: the only one.
        recording: Option<String>,
        /// The changed texts.
        call: CallUpdate,
    },
    /// `record.status`
    RecordStatus {
        /// Which; `None`: all.
        recording: Option<String>,
    },
    /// `storage.eject`
    StorageEject,
    /// `storage.status`
    StorageStatus,
    /// `recordings.list`
    RecordingsList {
        /// Most entries wanted, at least 1; `None`: the agent's choice.
        limit: Option<u32>,
        /// Begin behind this file.
        after: Option<String>,
        /// Part of a number or name.
        query: Option<String>,
    },
    /// `recordings.info`
    RecordingsInfo {
        /// As listed.
        file: String,
    },
    /// `recordings.delete`
    RecordingsDelete {
        /// As listed.
        file: String,
    },
    /// `recordings.protect`
    RecordingsProtect {
        /// As listed.
        file: String,
        /// Whether to keep it when room is made.
        protected: bool,
    },
    /// `play.start`
    PlayStart {
        /// As listed.
        file: String,
        /// The target of the RTP; the port is not 0.
        rtp: RtpAddress,
        /// The position to begin at.
        position_ms: u64,
    },
    /// `play.pause`
    PlayPause {
        /// Which; `None`: the only one.
        playback: Option<String>,
    },
    /// `play.resume`
    PlayResume {
        /// Which; `None`: the only one.
        playback: Option<String>,
    },
    /// `play.seek`
    PlaySeek {
        /// Which; `None`: the only one.
        playback: Option<String>,
        /// The position to go on at.
        position_ms: u64,
    },
    /// `play.stop`
    PlayStop {
        /// Which; `None`: the only one.
        playback: Option<String>,
    },
    /// `play.status`
    PlayStatus {
        /// Which; `None`: all.
        playback: Option<String>,
    },
    /// `events.subscribe`
    EventsSubscribe {
        /// Prefixes; `None`: all events.
        types: Option<Vec<String>>,
    },
    /// `events.unsubscribe`
    EventsUnsubscribe {
        /// Prefixes; `None`: all events.
        types: Option<Vec<String>>,
    },
    /// `stats.get`
    StatsGet,
    /// `sip.info_result`
    SipInfoResult {
        /// As in the event `sip.info`.
        recording: String,
        /// Final SIP status code, 200 to 699.
        code: u16,
    },
}

/// Parameters of `record.start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordStart {
    /// The destination.
    pub mode: Mode,
    /// Encoding name as the client wrote it, possibly one that nobody knows.
    pub codec: String,
    /// Packet time, 5 to 200 ms.
    pub ptime_ms: u32,
    /// RTP payload type that carries the codec, beside its static one; `None`: a type that fits is
    /// recognised.
    pub payload_type: Option<u8>,
    /// The call.
    pub call: Call,
}

/// A line that is no good request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The id to answer; `None` for a notification.
    pub answer_to: Option<RequestId>,
    /// JSON-RPC error code.
    pub code: i32,
    /// The mistake.
    pub message: String,
}

impl Refused {
    /// The answer, if one is due.
    #[must_use]
    pub fn line(&self) -> Option<Vec<u8>> {
        self.answer_to.as_ref().map(|id| reply::rpc_error(id, self.code, &self.message))
    }

    /// The refusal of a line over [`super::line::MAX_LINE_OCTETS`].
    #[must_use]
    pub fn line_too_long() -> Self {
        Self::without_id(INVALID_REQUEST, "the line is longer than 65536 octets")
    }

    fn without_id(code: i32, message: impl Into<String>) -> Self {
        Self { answer_to: Some(RequestId::null()), code, message: message.into() }
    }
}

/// Reads one line, without its line end.
///
/// # Errors
/// [`Refused`], with the answer to give.
pub fn parse(line: &[u8]) -> Result<Request, Refused> {
    let text = mended_json(line);
    let json: &RawValue = serde_json::from_str(&text)
        .map_err(|error| Refused::without_id(PARSE_ERROR, format!("the line is not JSON: {error}")))?;
    match json.get().as_bytes().first() {
        Some(b'{') => {}
        Some(b'[') => {
            let message = "batches are not supported: send one request per line";
            return Err(Refused::without_id(INVALID_REQUEST, message));
        }
        _ => return Err(Refused::without_id(INVALID_REQUEST, "a request must be a JSON object")),
    }
    let envelope: Envelope<'_> = serde_json::from_str(json.get()).map_err(|error| {
        let code = if error.is_data() { INVALID_REQUEST } else { PARSE_ERROR };
        Refused::without_id(code, format!("this is no request: {error}"))
    })?;
    // Texts may be mended, but an answer to an id that nobody wrote would find nobody.
    let holds = |json: Option<&RawValue>| json.is_some_and(|json| json.get().contains(REPLACEMENT));
    if (holds(envelope.id) || holds(envelope.method)) && std::str::from_utf8(line).is_err() {
        return Err(Refused::without_id(PARSE_ERROR, "`id` and `method` must be UTF-8"));
    }
    envelope.request()
}

/// The names of all methods.
pub fn method_names() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(name, _)| *name)
}

/// The members of a request as JSON texts, `None` only where there is none: null is something else.
#[derive(Deserialize)]
struct Envelope<'l> {
    #[serde(default, borrow, deserialize_with = "present")]
    jsonrpc: Option<&'l RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    id: Option<&'l RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    method: Option<&'l RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    params: Option<&'l RawValue>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Envelope<'_> {
    fn request(&self) -> Result<Request, Refused> {
        let id = self.id.map(request_id).transpose()?;
        // A malformed line can't be meant as a notification, so it is answered in any case.
        let answer_to = id.clone().or(Some(RequestId::null()));
        let invalid = |message: &str| Refused {
            answer_to: answer_to.clone(),
            code: INVALID_REQUEST,
            message: message.to_owned(),
        };
        if self.jsonrpc.and_then(string).as_deref() != Some("2.0") {
            return Err(invalid("`jsonrpc` must be \"2.0\""));
        }
        let name = self.method.and_then(string).ok_or_else(|| invalid("`method` must be a string"))?;
        let refused = |code, message| Refused { answer_to: id.clone(), code, message };
        let Some((_, read)) = METHODS.iter().find(|(known, _)| *known == name) else {
            return Err(refused(METHOD_NOT_FOUND, format!("there is no method {:?}", shortened(&name))));
        };
        let params = self.params.map(members).unwrap_or_else(|| Ok(Map::new()));
        let method = params
            .and_then(|members| {
                let mut params = Params::new(members);
                let method = read(&mut params)?;
                params.finish().map(|()| method)
            })
            .map_err(|problem| refused(INVALID_PARAMS, problem))?;
        Ok(Request { id, method })
    }
}

fn request_id(json: &RawValue) -> Result<RequestId, Refused> {
    let text = json.get();
    let scalar = text == "null" || text.starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
    if !scalar || text.len() > MAX_REQUEST_ID_OCTETS {
        let message = "`id` must be a number, a string or null, of at most 256 octets";
        return Err(Refused::without_id(INVALID_REQUEST, message));
    }
    // A string is only looked at as far as needed to find its end; the rest shows when it is decoded.
    if text.starts_with('"') && string(json).is_none() {
        return Err(Refused::without_id(PARSE_ERROR, "`id` is not a valid JSON string"));
    }
    Ok(RequestId::from_json(text))
}

fn string(json: &RawValue) -> Option<String> {
    serde_json::from_str(json.get()).ok()
}

fn members(json: &RawValue) -> Result<Map<String, Value>, ParamError> {
    match serde_json::from_str(&paired_json(json.get())) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(Value::Array(_)) => Err("parameters must be named: `params` must be an object".to_owned()),
        Ok(_) => Err("`params` must be an object".to_owned()),
        Err(error) => Err(format!("`params` can't be read: {error}")),
    }
}

type ReadParams = fn(&mut Params) -> Result<Method, ParamError>;

const METHODS: &[(&str, ReadParams)] = &[
    ("agent.info", |_| Ok(Method::AgentInfo)),
    ("record.start", |params| record_start(params).map(Method::RecordStart)),
    ("record.pause", |params| Ok(Method::RecordPause { recording: recording(params)? })),
    ("record.resume", |params| Ok(Method::RecordResume { recording: recording(params)? })),
    ("record.stop", |params| Ok(Method::RecordStop { recording: recording(params)? })),
    ("record.update", |params| {
        let recording = recording(params)?;
        let call = call_update(params)?.ok_or("`call` is missing")?;
        Ok(Method::RecordUpdate { recording, call })
    }),
    ("record.status", |params| Ok(Method::RecordStatus { recording: recording(params)? })),
    ("storage.eject", |_| Ok(Method::StorageEject)),
    ("storage.status", |_| Ok(Method::StorageStatus)),
    ("recordings.list", |params| {
        Ok(Method::RecordingsList {
            limit: params.optional("limit", number(1, u64::from(u32::MAX)))?,
            after: params.optional("after", text(MAX_FILE_CHARS))?,
            query: params.optional("query", text(MAX_FILE_CHARS))?,
        })
    }),
    ("recordings.info", |params| Ok(Method::RecordingsInfo { file: file(params)? })),
    ("recordings.delete", |params| Ok(Method::RecordingsDelete { file: file(params)? })),
    ("recordings.protect", |params| {
        let protected = params.optional("protected", flag)?.unwrap_or(true);
        Ok(Method::RecordingsProtect { file: file(params)?, protected })
    }),
    ("play.start", |params| {
        Ok(Method::PlayStart {
            file: file(params)?,
            rtp: rtp_address(params)?,
            position_ms: params.optional("position_ms", number(0, u64::MAX))?.unwrap_or(0),
        })
    }),
    ("play.pause", |params| Ok(Method::PlayPause { playback: playback(params)? })),
    ("play.resume", |params| Ok(Method::PlayResume { playback: playback(params)? })),
    ("play.seek", |params| {
        let position_ms = params.required("position_ms", number(0, u64::MAX))?;
        Ok(Method::PlaySeek { playback: playback(params)?, position_ms })
    }),
    ("play.stop", |params| Ok(Method::PlayStop { playback: playback(params)? })),
    ("play.status", |params| Ok(Method::PlayStatus { playback: playback(params)? })),
    ("events.subscribe", |params| Ok(Method::EventsSubscribe { types: types(params)? })),
    ("events.unsubscribe", |params| Ok(Method::EventsUnsubscribe { types: types(params)? })),
    ("stats.get", |_| Ok(Method::StatsGet)),
    ("sip.info_result", |params| {
        Ok(Method::SipInfoResult {
            recording: params.required("recording", text(MAX_NAME_CHARS))?,
            code: params.required("code", number(200, 699))?,
        })
    }),
];

fn recording(params: &mut Params) -> Result<Option<String>, ParamError> {
    params.optional("recording", text(MAX_NAME_CHARS))
}

fn playback(params: &mut Params) -> Result<Option<String>, ParamError> {
    params.optional("playback", text(MAX_NAME_CHARS))
}

fn file(params: &mut Params) -> Result<String, ParamError> {
    params.required("file", text(MAX_FILE_CHARS))
}

fn record_start(params: &mut Params) -> Result<RecordStart, ParamError> {
    let modes = Mode::ALL.map(|mode| (mode.as_str(), mode));
    let mode = params.optional("mode", choice(&modes))?.unwrap_or(Mode::Local);
    let codec = params.required("codec", text(MAX_NAME_CHARS))?;
    let ptime_ms = params.optional("ptime_ms", number(5, 200))?.unwrap_or(DEFAULT_PTIME_MS);
    let payload_type = params.optional("payload_type", number(0, 127))?;
    let mut call = Call::default();
    call.update(&call_update(params)?.unwrap_or_default());
    Ok(RecordStart { mode, codec, ptime_ms, payload_type, call })
}

fn call_update(params: &mut Params) -> Result<Option<CallUpdate>, ParamError> {
    let Some(mut call) = params.object("call", "call.")? else {
        return Ok(None);
    };
    let mut update = CallUpdate::default();
    for field in Field::ALL {
        match field {
            Field::Direction => direction(&mut call, &mut update)?,
            // Only phones at a server say these.
            Field::Device | Field::Recording => {}
            text => match call.any(text.as_str()) {
                None => {}
                Some(Value::String(said)) => update.say(text, &said),
                Some(Value::Number(said)) => update.say(text, &said.to_string()),
                // No text can be made of it, and that is no reason not to record.
                Some(_) => update.altered.set(text, true),
            },
        }
    }
    call.finish()?;
    Ok(Some(update))
}

fn direction(call: &mut Params, update: &mut CallUpdate) -> Result<(), ParamError> {
    let directions = [Direction::In, Direction::Out].map(|direction| (direction.as_str(), direction));
    let read = |value| match value {
        Value::String(_) => choice(&directions)(value).map(Some),
        _ => Ok(None),
    };
    match call.optional(Field::Direction.as_str(), read)? {
        Some(None) => update.altered.set(Field::Direction, true),
        said => update.direction = said.flatten(),
    }
    Ok(())
}

fn rtp_address(params: &mut Params) -> Result<RtpAddress, ParamError> {
    let mut rtp = params.object("rtp", "rtp.")?.ok_or("`rtp` is missing")?;
    let addr = rtp.required("addr", |value| {
        let addr = value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
        addr.ok_or_else(|| "must be an IP address".to_owned())
    })?;
    let port = rtp.required("port", number(1, 65535))?;
    rtp.finish()?;
    Ok(RtpAddress { addr, port })
}

fn types(params: &mut Params) -> Result<Option<Vec<String>>, ParamError> {
    params.optional("types", |value| {
        let wrong = || {
            format!(
                "must be an array of at most {MAX_PREFIXES} strings of at most {MAX_PREFIX_OCTETS} octets"
            )
        };
        let Value::Array(values) = value else {
            return Err(wrong());
        };
        if values.len() > MAX_PREFIXES {
            return Err(wrong());
        }
        values
            .into_iter()
            .map(|value| match value {
                Value::String(text) if text.len() <= MAX_PREFIX_OCTETS => Ok(text),
                _ => Err(wrong()),
            })
            .collect()
    })
}

#[cfg(test)]
mod tests;
