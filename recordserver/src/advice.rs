//! Advice for errors that keep the server, or its commands, from working.
//!
//! Owns: the messages for refusals of the system: the operation, the place, and what to do. Pure.

use crate::http::Place;
use std::io::{self, ErrorKind};

/// The operation that the system refused; each has its option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The TCP port of phones.
    Listen,
    /// The TCP port of audio.
    Media,
    /// Metrics and status by HTTP.
    Http,
    /// The Unix socket for status.
    StatusSocket,
    /// The storage folder.
    Storage,
}

impl Wanted {
    fn option(self) -> &'static str {
        match self {
            Self::Listen => "--listen",
            Self::Media => "media_listen",
            Self::Http => "--http",
            Self::StatusSocket => "--status-socket",
            Self::Storage => "--storage",
        }
    }

    fn advice(self, kind: ErrorKind) -> &'static str {
        let is_address = matches!(self, Self::Listen | Self::Media | Self::Http);
        match kind {
            ErrorKind::AddrInUse if is_address => "end what has it, or choose another address",
            ErrorKind::AddrInUse | ErrorKind::AlreadyExists => "remove it, or choose another path",
            ErrorKind::AddrNotAvailable => "choose an address of this machine, or 0.0.0.0 for all",
            ErrorKind::PermissionDenied if is_address => "ports below 1024 are root's: choose another one",
            ErrorKind::PermissionDenied => "check the rights there, and which user recordserver is",
            ErrorKind::NotFound if self == Self::Storage => "make the folder, or choose another one",
            ErrorKind::NotFound => "make its folder, or choose another path",
            ErrorKind::NotADirectory if self == Self::Storage => "choose a folder",
            ErrorKind::NotADirectory => "choose another path",
            ErrorKind::ReadOnlyFilesystem => "mount it writable, or choose another folder",
            ErrorKind::StorageFull => "make room there, or choose another folder",
            ErrorKind::ResourceBusy => "end that one, or choose another folder",
            _ => "choose another one",
        }
    }
}

/// `cannot WHAT: ERROR: what to do (option)`.
#[must_use]
pub fn refused(what: &str, wanted: Wanted, error: &io::Error) -> io::Error {
    let (advice, option) = (wanted.advice(error.kind()), wanted.option());
    io::Error::new(error.kind(), format!("cannot {what}: {error}: {advice} ({option})"))
}

/// The error when no server at these places lists its recordings.
#[must_use]
pub fn unanswered(missed: &[(&Place, io::Error)]) -> String {
    let said: Vec<String> = missed
        .iter()
        .map(|(place, error)| format!("no answer from a server at {place}: {}", in_words(error)))
        .collect();
    let is = |kind| missed.iter().any(|(_, error)| error.kind() == kind);
    let advice = if is(ErrorKind::PermissionDenied) {
        "ask as root, as the server's user, or in its group (status_socket_mode)"
    } else if is(ErrorKind::WouldBlock) || is(ErrorKind::TimedOut) {
        "look into its log: it is overloaded, or stands still"
    } else if is(ErrorKind::InvalidData) {
        "is that a recordserver? (--status-socket, --http, --config)"
    } else {
        "is recordserver running? (--status-socket, --http, --config)"
    };
    format!("{}; {advice}", said.join("; "))
}

/// A time limit of a socket shows as a resource that is not available.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "it did not answer in time".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operation, place, error of the system, words that the message has, and words of wrong advice that it
    /// lacks.
    type Row = (Wanted, &'static str, ErrorKind, &'static [&'static str], &'static [&'static str]);

    #[test]
    fn a_refusal_of_the_system_is_told_with_operation_place_and_what_to_do() {
        use ErrorKind as Kind;
        let table: [Row; 13] = [
            (Wanted::Listen, "1.2.3.4:5", Kind::AddrInUse, &["end what has it", "(--listen)"], &["remove"]),
            (Wanted::Listen, "1.2.3.4:5", Kind::AddrNotAvailable, &["of this machine"], &["folder"]),
            (Wanted::Listen, "1.2.3.4:5", Kind::PermissionDenied, &["1024"], &["user", "rights"]),
            (Wanted::Http, "127.0.0.1:5", Kind::AddrInUse, &["another address", "(--http)"], &["--listen"]),
            (Wanted::StatusSocket, "/run/x", Kind::NotFound, &["make its folder"], &["1024", "address"]),
            (Wanted::StatusSocket, "/run/x", Kind::AlreadyExists, &["remove it", "path"], &["end what"]),
            (Wanted::StatusSocket, "/run/x", Kind::PermissionDenied, &["rights", "user"], &["1024"]),
            (Wanted::Storage, "/srv", Kind::NotFound, &["make the folder", "(--storage)"], &["its folder"]),
            (Wanted::Storage, "/srv", Kind::NotADirectory, &["choose a folder"], &["make"]),
            (Wanted::Storage, "/srv", Kind::PermissionDenied, &["rights", "user"], &["1024"]),
            (Wanted::Storage, "/srv", Kind::ReadOnlyFilesystem, &["mount it writable"], &["rights"]),
            (Wanted::Storage, "/srv", Kind::StorageFull, &["make room"], &["rights"]),
            (Wanted::Storage, "/srv", Kind::ResourceBusy, &["end that one"], &["rights"]),
        ];
        for (wanted, place, kind, said, never) in table {
            let text = refused(&format!("use {place}"), wanted, &kind.into()).to_string();
            assert!(text.contains(place), "{text}");
            assert!(said.iter().all(|word| text.contains(word)), "{said:?} are not in: {text}");
            assert!(!never.iter().any(|word| text.contains(word)), "one of {never:?} is in: {text}");
        }
    }

    #[test]
    fn an_error_without_an_answer_of_the_server_tells_the_cause() {
        let (socket, http) =
            (Place::Socket("/srv/s".into()), Place::Http("127.0.0.1:9755".parse().expect("an address")));
        for (kind, said, never) in [
            (ErrorKind::ConnectionRefused, "is recordserver running?", "root"),
            (ErrorKind::NotFound, "is recordserver running?", "root"),
            (ErrorKind::PermissionDenied, "as the server's user", "running"),
            (ErrorKind::WouldBlock, "look into its log", "running"),
            (ErrorKind::InvalidData, "is that a recordserver?", "running"),
        ] {
            let missed = [(&socket, kind.into()), (&http, ErrorKind::ConnectionRefused.into())];
            let text = unanswered(&missed);
            assert!(text.contains("/srv/s: ") && text.contains("http://127.0.0.1:9755"), "{text}");
            assert!(text.contains(said) && !text.contains(never), "{text}");
        }
    }
}
