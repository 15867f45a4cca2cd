//! The recordings that a `recordserver` lists at its status interface: `GET /sessions`.
//!
//! Owns: the request and its time limit. The answer is not trusted: only counts and file names are used, and
//! each name is checked.

use crate::live::Told;
use recfile::name::is_record_file_name;
use serde::Deserialize;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Longest answer that is read.
const MAX_ANSWER_OCTETS: u64 = 16 << 20;
/// Name of the socket in a storage folder.
const SOCKET: &str = ".recordserver.sock";

/// The status address of a recorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// `http://ADDRESS:PORT`
    Http(SocketAddr),
    /// `unix:PATH`
    Socket(PathBuf),
}

impl Status {
    /// The one of a setting.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match (text.strip_prefix("http://"), text.strip_prefix("unix:")) {
            (Some(addr), _) => addr.trim_end_matches('/').parse().ok().map(Self::Http),
            (_, Some(path)) if path.starts_with('/') => Some(Self::Socket(path.into())),
            _ => None,
        }
    }

    /// That of a recorder which writes to `root`, if it has its socket there.
    pub(crate) fn beside(root: &Path) -> Self {
        Self::Socket(root.join(SOCKET))
    }

    /// The running recordings, by folder and name of the file below the intake. Waits for the answer.
    pub(crate) fn ask(&self) -> io::Result<HashMap<(String, String), Told>> {
        let text = match self {
            Self::Http(addr) => {
                let stream = TcpStream::connect_timeout(addr, ANSWER)?;
                stream.set_read_timeout(Some(ANSWER))?;
                stream.set_write_timeout(Some(ANSWER))?;
                asked(stream, &addr.to_string())?
            }
            Self::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(ANSWER))?;
                stream.set_write_timeout(Some(ANSWER))?;
                asked(stream, "localhost")?
            }
        };
        let sessions: Vec<Session> = serde_json::from_str(&text)?;
        Ok(sessions.into_iter().filter_map(Session::told).collect())
    }
}

#[derive(Deserialize)]
struct Session {
    file: String,
    packets: u64,
    lost: u64,
}

impl Session {
    fn told(self) -> Option<((String, String), Told)> {
        let (folder, name) = self.file.rsplit_once('/').unwrap_or(("", &self.file));
        let leads_out = |part: &str| part.is_empty() || part == "." || part == "..";
        if !is_record_file_name(name) || !folder.is_empty() && folder.split('/').any(leads_out) {
            return None;
        }
        Some(((folder.to_owned(), name.to_owned()), Told { packets: self.packets, lost: self.lost }))
    }
}

fn asked(mut stream: impl Read + Write, host: &str) -> io::Result<String> {
    // In one piece, as it is answered: once, then closed.
    let request = format!("GET /sessions HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(MAX_ANSWER_OCTETS).read_to_string(&mut text)?;
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("it answers {what:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| wrong("no HTTP"))?;
    let line = head.lines().next().unwrap_or_default();
    if line.split(' ').nth(1) != Some("200") {
        return Err(wrong(line));
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_asked_at_a_port_or_a_socket() {
        let http = Status::parse("http://127.0.0.1:9755/");
        assert_eq!(http, Some(Status::Http("127.0.0.1:9755".parse().unwrap())));
        assert_eq!(Status::parse("unix:/run/s.sock"), Some(Status::Socket("/run/s.sock".into())));
        for wrong in ["", "http://recorder/", "unix:run/s.sock", "127.0.0.1:9755", "https://127.0.0.1:9755"] {
            assert_eq!(Status::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn status_that_names_files_outside_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let count = stream.read(&mut request).unwrap();
            assert!(request[..count].starts_with(b"GET /sessions HTTP/1.0\r\n"));
            let session = |file: &str| format!(r#"{{"file": "{file}", "packets": 7, "lost": 1, "id": "x"}}"#);
            let all = ["0c:11/2026-11-27/Record_1.wav", "../Record_2.wav", "/etc/Record_3.wav", "a/passwd"];
            let all: Vec<String> = all.into_iter().map(session).collect();
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[{}]", all.join(",")).unwrap();
        });
        let told = Status::beside(folder.path()).ask().unwrap();
        server.join().unwrap();
        assert_eq!(told.len(), 1);
        let key = ("0c:11/2026-11-27".to_owned(), "Record_1.wav".to_owned());
        assert_eq!(told[&key], Told { packets: 7, lost: 1 });
        assert!(Status::beside(Path::new("/nowhere")).ask().is_err());
    }
}
