//! Advice: what to do about a failure.
//!
//! The agent knows the failure best and says in `data.advice` what to do. Where it has no advice, or is
//! older, the reason decides, and only where it tells enough. For failures here, before there is an agent,
//! the error of the system decides.

use super::agent_error::AgentError;
use serde_json::Value;
use std::io::{self, ErrorKind};

/// JSON-RPC: the parameters do not fit the method.
pub(super) const INVALID_PARAMS: i64 = -32602;

/// JSON-RPC: there is no such method.
const NO_SUCH_METHOD: i64 = -32601;

/// What to do about an error of the agent; empty where its sentence says it all.
pub(super) fn about(error: &AgentError) -> &str {
    if let Some(advice) = error.data.get("advice").and_then(Value::as_str) {
        return advice;
    }
    let says = |word| error.message.contains(word);
    match (error.code, error.reason()) {
        (INVALID_PARAMS, _) if says("there are several") => "name one of them (recordctl status shows them)",
        (INVALID_PARAMS, _) => "see --help of the command for its parameters",
        (NO_SUCH_METHOD, _) => "the agent is older than recordctl: update it",
        // In mode sip-info the same reasons are about the PBX, of which `[uplink]` says nothing.
        (_, "not_configured" | "server_timeout") if says("PBX") || says("sip.info") => {
            "a SIP stack has to be subscribed to sip.info, send the INFO and tell its answer (sip.info_result)"
        }
        (_, "not_configured") if says("RTP port") => {
            "end what has the port, or change [rtp] port (0: any free one) or bind in the agent's config"
        }
        (_, _) if error.data["cause"].is_string() => by_cause(&error.data["cause"], error.reason()),
        (_, "no_storage") if says("require_usb") => {
            "set [storage] path to where a USB stick is mounted, or require_usb = false to record there"
        }
        (_, reason) => by_reason(reason),
    }
}

/// What to do about a cause that the agent tells; it says some of it itself.
fn by_cause(cause: &Value, reason: &str) -> &'static str {
    match cause.as_str().unwrap_or_default() {
        "absent" => "or set [storage] path to a folder (recordctl storage shows the disks)",
        "path_missing" => "or change [storage] path",
        "not_a_folder" if reason == "no_storage" => "change [storage] path",
        "off_disk" => "remove the link, or change [storage] directory",
        "not_removable" => {
            "set [storage] path to where a USB stick is mounted, or require_usb = false to record there"
        }
        "denied" => "check the rights on it, and which user recordd is",
        "read_only" => "take the write protection off, mount it writable, or use another disk",
        // Said in the sentence.
        "not_a_folder" | "file_too_large" | "encrypted" | "ejected" | "pulled" => "",
        _ => by_reason(reason),
    }
}

/// What to do about the end of a recording or playback that has no message.
pub(super) fn about_end(cause: &str, reason: &str) -> &'static str {
    match cause {
        "pulled" => "put the stick in again",
        "file_too_large" => "set [storage] max_file_size below the limit on the size of files",
        "not_a_folder" => "rename or delete the object in place of the recording folder",
        _ => by_reason(reason),
    }
}

/// What to do about one of the agent's reasons alone.
pub(super) fn by_reason(reason: &str) -> &'static str {
    match reason {
        "no_storage" => "put in a USB stick, or set [storage] path (recordctl storage)",
        "storage_full" => "delete recordings (recordctl list, recordctl delete) or take another stick",
        "storage_read_only" => "take the write protection off the stick, or another stick",
        "storage_io" => "take another stick; recordctl verify tells which files are damaged",
        "server_unreachable" | "server_timeout" => "check [uplink] server_addr, server_port and the network",
        "server_refused" => "ask the administrator of the server: the text in brackets is the server's",
        "uplink_lost" => {
            "check the server and the network; [uplink] on_failure = \"local\" lets recordings go on at the phone"
        }
        "not_configured" => "set [uplink] server_addr and server_port in the agent's config",
        "unsupported_codec" => "recordctl status --json lists the agent's codecs",
        "unsupported_by_server" => "record at the phone (--mode local)",
        "too_many_recordings" => "or raise [rtp] max_recordings",
        "not_recording" | "invalid_state" => "recordctl status shows running recordings and playbacks",
        "not_found" => "recordctl list and recordctl status show the present ones",
        "file_damaged" => "recordctl repair may help",
        "permission_denied" => "check the rights on the disk's folder and files, and who the agent runs as",
        _ => "",
    }
}

/// The meaning of a recording's or playback's `text_key`, and what to do; empty if it says it all.
pub(super) fn by_text_key(key: &str) -> &str {
    match key {
        "storage_full" => {
            "the disk is full; delete recordings (recordctl list, recordctl delete) or take another one"
        }
        "audio_lost" => {
            "audio was lost because the disk or the phone was too slow; try a faster stick (recordctl stats)"
        }
        "no_media" => {
            "no audio came; does the phone send its RTP to the recording's address (recordctl status)?"
        }
        "media_encrypted" => "the audio was encrypted; the phone has to send it in the clear",
        "media_wrong_payload_type" => {
            "the audio was of a codec that can't be recorded (recordctl status --json)"
        }
        "stopped_by_server" => "the server ended it; ask its administrator",
        "shutdown" => "recordd ended",
        other => other,
    }
}

/// What to do when the agent can't be connected to.
pub(super) fn unreachable(source: &io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::PermissionDenied => {
            "run it as root or in the socket's group (ls -l), or change [control] mode or group in its config"
        }
        ErrorKind::ConnectionRefused => {
            "is recordd running? The socket is a left one (--socket, RECORDD_SOCKET name another)"
        }
        ErrorKind::TimedOut => "the agent takes no connections: look into its log, or start it anew",
        ErrorKind::InvalidInput => "a socket's path has at most 107 octets (--socket, RECORDD_SOCKET)",
        _ => "is recordd running? (--socket, RECORDD_SOCKET)",
    }
}

/// What to do about a path on this machine that the system does not give us.
pub(super) fn local(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "check the path",
        ErrorKind::PermissionDenied => "check the rights on it, or run it as its owner",
        ErrorKind::AddrInUse => "something has that name already: end it or choose another one",
        ErrorKind::AlreadyExists => "choose another name, or remove the existing file",
        ErrorKind::StorageFull => "make room on that disk",
        ErrorKind::ReadOnlyFilesystem => "choose a place that can be written to",
        _ => "",
    }
}

/// The error of the system, and what to do.
pub(super) fn said(error: &io::Error) -> String {
    with(error.to_string(), local(error))
}

/// `what; advice`, or `what` alone.
pub(super) fn with(what: String, advice: &str) -> String {
    if advice.is_empty() { what } else { format!("{what}; {advice}") }
}

#[cfg(test)]
mod tests {
    use super::super::failure::Failure;
    use super::*;
    use recordd::api::reason::Reason;
    use serde_json::json;
    use std::time::Duration;

    fn refused(code: i64, message: &str, data: Value) -> Failure {
        Failure::Refused(AgentError { code, message: message.into(), data })
    }

    fn because(message: &str, reason: &str, detail: &str) -> Failure {
        refused(-32000, message, json!({"reason": reason, "detail": detail}))
    }

    /// The failure, the words of its message, the words of its advice, and words of wrong advice that it
    /// lacks.
    #[test]
    fn a_failure_says_what_where_and_what_to_do_and_gives_no_advice_about_something_else() {
        let unreachable = |kind: ErrorKind| Failure::Unreachable {
            socket: "/run/recordd.sock".into(),
            source: kind.into(),
        };
        let table: Vec<(Failure, &[&str], &[&str])> = vec![
            (
                refused(
                    -32000,
                    "/nosuch is not there (storage.path): make the folder",
                    json!({"reason": "no_storage", "cause": "path_missing"}),
                ),
                &["/nosuch", "make the folder", "[storage] path"],
                &["USB stick"],
            ),
            (
                refused(
                    -32000,
                    "/tmp is not on a removable disk",
                    json!({"reason": "no_storage", "cause": "not_removable"}),
                ),
                &["/tmp", "require_usb = false"],
                &["put in", "insert"],
            ),
            (
                refused(
                    -32000,
                    "/dev/null is no folder (storage.path)",
                    json!({"reason": "no_storage", "cause": "not_a_folder"}),
                ),
                &["/dev/null", "; change [storage] path"],
                &["USB stick", "; or"],
            ),
            (
                refused(
                    -32000,
                    "something else stands where the recording folder should be: rename or delete it",
                    json!({"reason": "storage_io", "cause": "not_a_folder"}),
                ),
                &["rename or delete it"],
                &["[storage] path", "another stick"],
            ),
            (
                refused(
                    -32000,
                    "no file may be so large: set storage.max_file_size below the limit",
                    json!({"reason": "storage_full", "cause": "file_too_large"}),
                ),
                &["max_file_size"],
                &["delete", "stick"],
            ),
            (
                because(
                    "no more recordings at the same time: stop one first",
                    "too_many_recordings",
                    "4 run",
                ),
                &["4 run", "or raise [rtp] max_recordings"],
                &["; stop one first"],
            ),
            (
                refused(
                    -32000,
                    "it is encrypted",
                    json!({"reason": "permission_denied", "cause": "encrypted"}),
                ),
                &["encrypted"],
                &["rights", "allow_uids"],
            ),
            (
                because("no RTP port can be bound", "not_configured", "cannot bind 127.0.0.1:4000: in use"),
                &["RTP port", "127.0.0.1:4000", "[rtp] port"],
                &["uplink", "server_addr"],
            ),
            (
                because("no recording server is configured", "not_configured", ""),
                &["recording server", "[uplink] server_addr"],
                &["[rtp]"],
            ),
            (
                refused(
                    -32000,
                    "RTP to 10.0.0.1 is not allowed",
                    json!({"reason": "permission_denied", "advice": "set [rtp] allow_remote = true"}),
                ),
                &["10.0.0.1", "allow_remote"],
                &["allow_uids", "rights on"],
            ),
            (
                because("the system does not allow this", "permission_denied", "x"),
                &["rights on"],
                &["allow_uids"],
            ),
            (
                because("/tmp is not on a removable disk (storage.require_usb)", "no_storage", ""),
                &["/tmp", "require_usb = false"],
                &["put in a USB stick"],
            ),
            (
                because("the disk is full", "storage_full", "at /media"),
                &["/media", "recordctl delete"],
                &["repair"],
            ),
            (
                refused(INVALID_PARAMS, "`recording` is missing, and there are several: r1, r2", Value::Null),
                &["r1, r2", "name one"],
                &["--help"],
            ),
            (refused(NO_SUCH_METHOD, "there is no method x", Value::Null), &["update"], &["USB"]),
            (
                because("refused", "server_refused", "quota"),
                &["quota", "ask the administrator of the server"],
                &["[uplink]"],
            ),
            (because("broke", "uplink_lost", "reset"), &["reset", "on_failure"], &["USB"]),
            (
                unreachable(ErrorKind::PermissionDenied),
                &["/run/recordd.sock", "group", "[control] mode"],
                &["is recordd running"],
            ),
            (
                unreachable(ErrorKind::NotFound),
                &["/run/recordd.sock", "is recordd running?", "--socket"],
                &["mode"],
            ),
            (unreachable(ErrorKind::ConnectionRefused), &["is recordd running?", "left"], &["mode"]),
            (unreachable(ErrorKind::TimedOut), &["no connections", "log"], &["is recordd running"]),
            (
                Failure::NoAnswer { method: "record.stop".into(), waited: Duration::from_secs(15) },
                &["record.stop", "15 s", "--timeout", "log"],
                &["USB"],
            ),
            (
                Failure::ConnectionLost("it was closed by the agent".into()),
                &["closed", "log", "allow_uids"],
                &["is recordd running"],
            ),
            (Failure::Protocol("a line that is not UTF-8".into()), &["UTF-8", "match"], &["USB"]),
        ];
        for (failure, said, never) in table {
            let text = failure.to_string();
            for word in said {
                assert!(text.contains(word), "{word} is not in: {text}");
            }
            for word in never {
                assert!(!text.contains(word), "{word} is in: {text}");
            }
        }
    }

    #[test]
    fn every_reason_of_the_agent_has_advice_for_the_case_that_nothing_else_is_known() {
        for reason in Reason::ALL {
            assert!(!by_reason(reason.as_str()).is_empty(), "{reason}");
        }
    }
}
