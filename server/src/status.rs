//! What the server is doing, over HTTP on a loopback port: `/metrics` and `/sessions`.
//!
//! Owns: the HTTP thread and the client that `recordserver sessions` is. Who calls whom is personal
//! data and not told here. Never: the session table; the loop answers a [`Ask`].

use crate::metrics::{CONTENT_TYPE, Metrics};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Longest answer that `recordserver sessions` reads.
const MAX_ANSWER_OCTETS: u64 = 64 << 20;

/// How long `recordserver sessions` waits for the server.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// One recording that is going on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The `id` on the wire.
    pub id: String,
    /// What the phone calls itself.
    pub device: String,
    /// The phone's address.
    pub peer: SocketAddr,
    /// Encoding name.
    pub codec: String,
    /// UDP port of the session.
    pub rtp_port: u16,
    /// When it began, RFC 3339.
    pub start: String,
    /// How long ago that was.
    pub elapsed_ms: u64,
    /// RTP datagrams that arrived.
    pub packets: u64,
    /// RTP packets that never arrived.
    pub lost: u64,
    /// The file it goes to, below the storage folder.
    pub file: String,
}

/// Gets the present sessions from the loop; `None` if it does not answer.
pub type Ask = Box<dyn Fn() -> Option<Vec<SessionStatus>> + Send>;

/// Serves until the process ends.
///
/// # Errors
/// The address can't be listened on.
pub fn serve(addr: SocketAddr, metrics: Arc<Metrics>, ask: Ask) -> io::Result<SocketAddr> {
    let server = tiny_http::Server::http(addr).map_err(|error| match error.downcast::<io::Error>() {
        Ok(error) => *error,
        Err(error) => io::Error::other(error.to_string()),
    })?;
    let bound = server.server_addr().to_ip().unwrap_or(addr);
    thread::Builder::new().name("http".into()).spawn(move || {
        for request in server.incoming_requests() {
            let response = answer(request.method(), request.url(), &metrics, &ask);
            if let Err(error) = request.respond(response) {
                log::debug!("http: {error}");
            }
        }
    })?;
    Ok(bound)
}

type Response = tiny_http::Response<io::Cursor<Vec<u8>>>;

fn answer(method: &tiny_http::Method, url: &str, metrics: &Metrics, ask: &Ask) -> Response {
    if *method != tiny_http::Method::Get {
        return plain(405, "only GET\n");
    }
    match url.split('?').next() {
        Some("/metrics") => typed(200, metrics.text().into_bytes(), CONTENT_TYPE),
        Some("/sessions") => match ask().map(|sessions| serde_json::to_vec(&sessions)) {
            Some(Ok(json)) => typed(200, json, "application/json"),
            _ => plain(503, "the server is busy\n"),
        },
        _ => plain(404, "there are /metrics and /sessions\n"),
    }
}

fn plain(code: u16, text: &str) -> Response {
    Response::from_string(text).with_status_code(code)
}

fn typed(code: u16, body: Vec<u8>, content_type: &str) -> Response {
    let response = Response::from_data(body).with_status_code(code);
    match tiny_http::Header::from_bytes("Content-Type", content_type) {
        Ok(header) => response.with_header(header),
        Err(()) => response,
    }
}

/// Asks the server whose `--http` is `addr` for its sessions.
///
/// # Errors
/// There is no such server, or it answers something else.
pub fn query(addr: SocketAddr) -> io::Result<Vec<SessionStatus>> {
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    write!(stream, "GET /sessions HTTP/1.0\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.take(MAX_ANSWER_OCTETS).read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| unexpected("no HTTP answer"))?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(unexpected(status));
    }
    serde_json::from_str(body).map_err(|error| unexpected(&error.to_string()))
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer: {what}"))
}

/// The sessions as a table for people.
#[must_use]
pub fn table(sessions: &[SessionStatus]) -> String {
    let mut text = format!("{} recording(s)\n", sessions.len());
    for session in sessions {
        // Writing to a String has no way to fail.
        let _ = writeln!(
            text,
            "{}  {}  {}  port {}  {} s  {} packets, {} lost  {}  {}",
            session.device.escape_default(),
            session.peer,
            session.codec,
            session.rtp_port,
            session.elapsed_ms / 1000,
            session.packets,
            session.lost,
            session.file.escape_default(),
            session.id.escape_default(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> SessionStatus {
        SessionStatus {
            id: "7f3a".into(),
            device: "0c:11:05:00:00:01".into(),
            peer: "192.0.2.1:4000".parse().expect("address"),
            codec: "PCMA".into(),
            rtp_port: 20_000,
            start: "2026-03-01T09:15:00+01:00".into(),
            elapsed_ms: 61_000,
            packets: 3050,
            lost: 1,
            file: "0c:11:05:00:00:01/2026-03-01/Record_20260301-091500.wav".into(),
        }
    }

    fn serving(ask: Ask) -> SocketAddr {
        let any = "127.0.0.1:0".parse().expect("address");
        serve(any, Arc::new(Metrics::new()), ask).expect("a loopback port")
    }

    fn get(addr: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(addr).expect("connection");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answer");
        text
    }

    #[test]
    fn the_sessions_command_hears_what_the_loop_says() {
        let addr = serving(Box::new(|| Some(vec![session()])));
        assert_eq!(query(addr).expect("sessions"), [session()]);
        assert!(table(&[session()]).contains("61 s  3050 packets, 1 lost"));
    }

    #[test]
    fn a_loop_that_does_not_answer_is_an_error_and_metrics_are_there_all_the_same() {
        let addr = serving(Box::new(|| None));
        assert!(query(addr).is_err());
        let text = get(addr, "/metrics");
        assert!(text.contains("openmetrics-text") && text.contains("recordserver_sessions 0"), "{text}");
        assert!(get(addr, "/").starts_with("HTTP/1.0 404"));
    }
}
