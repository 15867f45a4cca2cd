//! Failures of commands, as sentences for people and as JSON for scripts.
//!
//! Owns: the exit status of every failure. The advice for each is `advice`'s.

use super::{advice, notes};
pub use crate::agent_error::AgentError;
use recfile::text::shown;
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

/// The reason for which a command failed.
#[derive(Debug)]
pub enum Failure {
    /// Nobody listens at the socket, or we may not connect.
    Unreachable {
        /// The socket's path.
        socket: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The agent is connected but does not answer.
    NoAnswer {
        /// The JSON-RPC method that waits.
        method: String,
        /// The time waited.
        waited: Duration,
    },
    /// The agent closed the connection, or it broke.
    ConnectionLost(String),
    /// The octets from the socket are not of the protocol.
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

impl Failure {
    /// Tells the user on stderr, as JSON if `json`, and gives the process's exit status.
    #[must_use]
    pub fn report(&self, json: bool) -> ExitCode {
        match self {
            // `recordctl list | head` is no failure worth a word.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            _ if json => notes::json_note(&self.to_json()),
            _ => notes::note(&format!("recordctl: {}", shown(&self.to_string()))),
        }
        match self {
            Self::Usage(_) => ExitCode::from(EXIT_USAGE),
            Self::Refused(error) if error.code == advice::INVALID_PARAMS => ExitCode::from(EXIT_USAGE),
            _ => ExitCode::from(EXIT_FAILED),
        }
    }

    /// `{"error": {"code", "message", "data": {"reason"}}}`, in the shape of a JSON-RPC error for every
    /// failure.
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
                let hint = advice::unreachable(source);
                write!(f, "cannot reach the agent at {}: {source}; {hint}", socket.display())
            }
            Self::NoAnswer { method, waited } => {
                let waited = waited.as_secs();
                write!(
                    f,
                    "the agent did not answer {method} within {waited} s (--timeout); look into its log"
                )
            }
            Self::ConnectionLost(what) => {
                write!(
                    f,
                    "the connection to the agent is gone: {what}; look into its log ([control] allow_uids?)"
                )
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
                match advice::about(error) {
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

/// `reason, cause: detail; advice` of an event that tells an end, as far as there is any.
pub(super) fn explained(params: &Value) -> String {
    let member = |name: &str| params[name].as_str().unwrap_or_default();
    let reason = ["reason", "end_reason"].map(member).into_iter().find(|reason| !reason.is_empty());
    let mut text = reason.unwrap_or("reason unknown").to_owned();
    let cause = member("cause");
    if !cause.is_empty() && !text.ends_with(cause) {
        text += &format!(", {cause}");
    }
    if !member("detail").is_empty() {
        text += &format!(": {}", member("detail"));
    }
    advice::with(text, advice::about_end(cause, reason.unwrap_or_default()))
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
        let text = failure.to_string();
        assert!(text.starts_with("the server refused to record (server_refused: disk quota); ask"), "{text}");
        assert_eq!(failure.to_json()["error"]["data"]["detail"], "disk quota");
    }

    #[test]
    fn an_end_is_advised_about_its_cause_where_that_tells_more_than_the_reason() {
        let told = |cause: &str, reason: &str| explained(&json!({"reason": reason, "cause": cause}));
        for (cause, reason, said, never) in [
            ("full", "storage_full", "delete recordings", "max_file_size"),
            ("file_too_large", "storage_full", "set [storage] max_file_size", "delete"),
            ("pulled", "storage_io", "put the stick in again", "another stick"),
            ("broken", "storage_io", "another stick", "again"),
            ("not_a_folder", "storage_io", "rename or delete", "another stick"),
        ] {
            let text = told(cause, reason);
            assert!(text.contains(said) && !text.contains(never), "{text}");
        }
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
