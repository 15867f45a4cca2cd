//! Why a command failed, as a sentence for people and as JSON for scripts.
//!
//! Owns: the exit status of every failure and the advice that goes with each of the agent's reasons.

use super::output;
use serde_json::{Value, json};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Exit status of a command that failed.
const EXIT_FAILED: u8 = 1;
/// Exit status of a command line that makes no sense.
const EXIT_USAGE: u8 = 2;

/// Why a command could not be carried out.
#[derive(Debug)]
pub enum Failure {
    /// Nobody listens at the socket, or we may not connect.
    Unreachable {
        /// The socket's path.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The agent is connected but does not answer.
    NoAnswer {
        /// The JSON-RPC method that waits.
        method: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The agent closed the connection, or it broke.
    ConnectionLost(String),
    /// What came over the socket is not the protocol.
    Protocol(String),
    /// The agent answered with an error.
    Refused(AgentError),
    /// A recording or playback that was watched came to a bad end.
    Ended(String),
    /// Ctrl-C, or a signal to the same end.
    Interrupted,
    /// The arguments do not fit together or to the agent's state.
    Usage(String),
    /// Something outside the agent failed: a file, a socket for RTP, a process.
    Local(String),
    /// Our own output cannot be written.
    Output(io::Error),
}

/// A JSON-RPC error of the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentError {
    /// JSON-RPC code; -32000 for the agent's own reasons.
    pub code: i64,
    /// The agent's sentence.
    pub message: String,
    /// `reason` and, from a server, `detail`; null if there is none.
    pub data: Value,
}

impl AgentError {
    /// The agent's reason, e.g. `no_storage`; empty for errors of JSON-RPC itself.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.data.get("reason").and_then(Value::as_str).unwrap_or("")
    }

    /// What to do about it. In mode sip-info the same reasons are about the PBX, of which `[uplink]` says nothing.
    fn advice(&self) -> &'static str {
        let of_sip = ["PBX", "sip.info"].iter().any(|word| self.message.contains(word));
        match self.reason() {
            "not_configured" | "server_timeout" if of_sip => {
                "a SIP stack has to be subscribed to sip.info, send the INFO and tell its answer (sip.info_result)"
            }
            "permission_denied" if self.data["cause"] == "encrypted" => "",
            reason => advice(reason),
        }
    }

    fn detail(&self) -> Option<&str> {
        self.data.get("detail").and_then(Value::as_str).filter(|detail| !detail.is_empty())
    }
}

impl Failure {
    /// Tells the user on stderr, as JSON if `json`, and gives the process's exit status.
    #[must_use]
    pub fn report(&self, json: bool) -> ExitCode {
        match self {
            // `recordctl list | head` is no failure worth a word.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            _ if json => output::json_note(&self.to_json()),
            _ => output::note(&format!("recordctl: {}", output::clean(&self.to_string()))),
        }
        match self {
            Self::Usage(_) => ExitCode::from(EXIT_USAGE),
            _ => ExitCode::from(EXIT_FAILED),
        }
    }

    /// `{"error": {"code", "message", "data": {"reason"}}}`, in the shape of a JSON-RPC error for every failure.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let reason = match self {
            Self::Refused(error) => {
                return json!({"error": {"code": error.code, "message": error.message, "data": error.data}});
            }
            Self::Unreachable { .. } => "agent_unreachable",
            Self::NoAnswer { .. } => "agent_timeout",
            Self::ConnectionLost(_) => "agent_lost",
            Self::Protocol(_) => "agent_protocol",
            Self::Ended(_) => "ended",
            Self::Interrupted => "interrupted",
            Self::Usage(_) => "usage",
            Self::Local(_) => "local",
            Self::Output(_) => "output",
        };
        json!({"error": {"message": self.to_string(), "data": {"reason": reason}}})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { socket, source } => {
                let hint = match source.kind() {
                    io::ErrorKind::PermissionDenied => "may this user open it? ([control] mode, allow_uids)",
                    _ => "is recordd running? (--socket, RECORDD_SOCKET)",
                };
                write!(f, "cannot reach the agent at {}: {source}; {hint}", socket.display())
            }
            Self::NoAnswer { method, waited } => {
                write!(f, "the agent did not answer {method} within {} s (--timeout)", waited.as_secs())
            }
            Self::ConnectionLost(what) => {
                write!(f, "the connection to the agent is gone: {what}; look into its log")
            }
            Self::Protocol(what) => {
                write!(f, "the agent's answer is not understood: {what}; do recordctl and recordd match?")
            }
            Self::Refused(error) => {
                f.write_str(&error.message)?;
                let reason = error.reason();
                match error.detail() {
                    Some(detail) => write!(f, " ({reason}: {detail})")?,
                    None if !reason.is_empty() => write!(f, " ({reason})")?,
                    None => {}
                }
                match error.advice() {
                    "" => Ok(()),
                    advice => write!(f, "; {advice}"),
                }
            }
            Self::Ended(what) | Self::Usage(what) | Self::Local(what) => f.write_str(what),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// `reason: detail; advice`, as far as there is any.
pub(super) fn explained(reason: &str, detail: Option<&str>) -> String {
    let mut text = reason.to_owned();
    if let Some(detail) = detail.filter(|detail| !detail.is_empty()) {
        text += &format!(": {detail}");
    }
    match advice(reason) {
        "" => text,
        advice => format!("{text}; {advice}"),
    }
}

/// What to do about one of the agent's reasons; empty where the agent's sentence says it all.
pub(super) fn advice(reason: &str) -> &'static str {
    match reason {
        "no_storage" => "put in a USB stick, or set [storage] path (recordctl storage)",
        "storage_full" => "delete recordings (recordctl list, recordctl delete) or take another stick",
        "storage_read_only" => "take the write protection off the stick, or another stick",
        "storage_io" => "take another stick; recordctl verify tells what the files have suffered",
        "server_unreachable" | "server_timeout" => "check [uplink] server_addr, server_port and the network",
        "uplink_lost" => "the server or the network went away in mid-call",
        "not_configured" => "set [uplink] server_addr and server_port in the agent's config",
        "unsupported_codec" => "recordctl status --json lists the agent's codecs",
        "too_many_recordings" => "stop one first, or raise [rtp] max_recordings",
        "not_recording" | "invalid_state" => "recordctl status shows what is going on",
        "not_found" => "recordctl list and recordctl status show what there is",
        "file_damaged" => "recordctl repair may help",
        "permission_denied" => "see [control] allow_uids and the rights on the disk",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_reason_comes_with_advice_and_the_servers_own_words() {
        let failure = Failure::Refused(AgentError {
            code: -32000,
            message: "the server refused to record".into(),
            data: json!({"reason": "server_refused", "detail": "disk quota"}),
        });
        assert_eq!(failure.to_string(), "the server refused to record (server_refused: disk quota)");
        assert_eq!(failure.to_json()["error"]["data"]["detail"], "disk quota");
    }

    #[test]
    fn advice_about_the_pbx_does_not_send_people_to_the_recording_servers_settings() {
        let told = |message: &str, reason: &str| {
            let data = json!({"reason": reason});
            Failure::Refused(AgentError { code: -32000, message: message.into(), data }).to_string()
        };
        let nobody = told("no SIP stack has subscribed to the event sip.info", "not_configured");
        let silent = told("the PBX did not answer in time", "server_timeout");
        for text in [nobody, silent] {
            assert!(text.contains("sip.info_result") && !text.contains("uplink"), "{text}");
        }
        assert!(told("the recording server did not answer in time", "server_timeout").contains("[uplink]"));
    }

    #[test]
    fn every_failure_has_a_reason_where_scripts_look_for_it() {
        let failure = Failure::NoAnswer { method: "record.start".into(), waited: Duration::from_secs(15) };
        assert_eq!(failure.to_json()["error"]["data"]["reason"], "agent_timeout");
    }
}
