//! JSON-RPC 2.0 client of the agent's socket: blocking, one JSON text per line, with time-outs.
//!
//! Owns: request ids, and telling replies from notifications that arrive in between; those wait in a
//! bounded queue for [`Client::next_event`]. Never: the meaning of a method or event.

use super::failure::{AgentError, Failure};
use super::pace;
use nix::errno::Errno;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest line taken from the agent; a list of ten thousand recordings fits.
const MAX_LINE_OCTETS: usize = 8 * 1024 * 1024;
/// Most events kept while a reply is awaited; the oldest goes first.
const MAX_WAITING_EVENTS: usize = 1024;

/// The delay until the next try when the agent does not take connections.
const CONNECT_AGAIN: Duration = Duration::from_millis(20);

/// A notification of the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// E.g. `recording.progress`.
    pub name: String,
    /// The notification's params; null if it had none.
    pub params: Value,
    /// The line as it came, without its end.
    pub line: String,
}

/// A connection to the agent.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    incoming: Vec<u8>,
    events: VecDeque<Event>,
    next_id: u64,
    timeout: Duration,
}

impl Client {
    /// Connects to the agent; `timeout` bounds the wait for each reply.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] if nobody listens there or the socket may not be opened.
    pub fn connect(socket: &Path, timeout: Duration) -> Result<Self, Failure> {
        let unreachable = |source| Failure::Unreachable { socket: socket.to_owned(), source };
        let stream = connect(socket, pace::now() + timeout).map_err(unreachable)?;
        stream.set_write_timeout(Some(timeout)).map_err(unreachable)?;
        Ok(Self::over(stream, timeout))
    }

    fn over(stream: UnixStream, timeout: Duration) -> Self {
        Self { stream, incoming: Vec::new(), events: VecDeque::new(), next_id: 1, timeout }
    }

    /// Raises the time that a reply may take to at least `timeout`.
    pub fn allow_at_least(&mut self, timeout: Duration) {
        self.timeout = self.timeout.max(timeout);
    }

    /// Sends a request and waits for its reply: the `result` member.
    ///
    /// # Errors
    /// [`Failure::Refused`] with the agent's error, or the error of the connection.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        let id = self.next_id;
        self.next_id += 1;
        let mut request = json!({"jsonrpc": "2.0", "id": id, "method": method});
        if !params.is_null() {
            request["params"] = params;
        }
        let line = format!("{request}\n");
        self.stream.write_all(line.as_bytes()).map_err(|error| Failure::ConnectionLost(error.to_string()))?;

        let deadline = pace::now() + self.timeout;
        loop {
            let Some(line) = self.read_line(Some(deadline))? else {
                return Err(Failure::NoAnswer { method: method.to_owned(), waited: self.timeout });
            };
            match parse(line)? {
                Message::Event(event) => self.keep(event),
                // A late reply to a request that timed out belongs to nobody.
                Message::Reply { id: Some(other), .. } if other != id => {}
                Message::Reply { outcome, .. } => return outcome.map_err(Failure::Refused),
            }
        }
    }

    /// The next event, or none when `within` has passed; without `within` it waits as long as it takes.
    ///
    /// # Errors
    /// [`Failure::ConnectionLost`] when the agent goes away, [`Failure::Protocol`] for nonsense.
    pub fn next_event(&mut self, within: Option<Duration>) -> Result<Option<Event>, Failure> {
        let deadline = within.map(|within| pace::now() + within);
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        while let Some(line) = self.read_line(deadline)? {
            if let Message::Event(event) = parse(line)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn keep(&mut self, event: Event) {
        if self.events.len() == MAX_WAITING_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// One line without its end, or none at `deadline`; the beginning of an unfinished line is kept.
    fn read_line(&mut self, deadline: Option<Instant>) -> Result<Option<String>, Failure> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.incoming[searched..].iter().position(|octet| *octet == b'\n') {
                let rest = self.incoming.split_off(searched + at + 1);
                let mut line = std::mem::replace(&mut self.incoming, rest);
                line.pop();
                return match String::from_utf8(line) {
                    Ok(line) => Ok(Some(line)),
                    Err(_) => Err(Failure::Protocol("a line that is not UTF-8".into())),
                };
            }
            searched = self.incoming.len();
            if searched > MAX_LINE_OCTETS {
                return Err(Failure::Protocol(format!("a line of more than {MAX_LINE_OCTETS} bytes")));
            }
            if !self.read_some(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Reads the waiting octets into `incoming`; false if nothing came until `deadline`.
    fn read_some(&mut self, deadline: Option<Instant>) -> Result<bool, Failure> {
        let lost = |error: std::io::Error| Failure::ConnectionLost(error.to_string());
        let mut chunk = [0; 4096];
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(pace::now()));
            // A time-out of zero would mean "for ever" to the system.
            let poll_only = left.is_some_and(|left| left.is_zero());
            if poll_only {
                self.stream.set_nonblocking(true).map_err(lost)?;
            } else {
                self.stream.set_read_timeout(left).map_err(lost)?;
            }
            let outcome = self.stream.read(&mut chunk);
            if poll_only {
                self.stream.set_nonblocking(false).map_err(lost)?;
            }
            match outcome {
                Ok(0) => return Err(Failure::ConnectionLost("it was closed by the agent".into())),
                Ok(octets) => {
                    self.incoming.extend_from_slice(&chunk[..octets]);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(false);
                }
                Err(error) => return Err(lost(error)),
            }
        }
    }
}

enum Message {
    Event(Event),
    /// `id` is none for an error about a request whose id the agent could not read.
    Reply {
        id: Option<u64>,
        outcome: Result<Value, AgentError>,
    },
}

fn parse(line: String) -> Result<Message, Failure> {
    let mut message: Value = serde_json::from_str(&line)
        .map_err(|error| Failure::Protocol(format!("a line that is not JSON ({error})")))?;
    if let Some(name) = message.get("method").and_then(Value::as_str) {
        return Ok(Message::Event(Event { name: name.to_owned(), params: message["params"].take(), line }));
    }
    let id = message.get("id").and_then(Value::as_u64);
    if let Some(error) = message.get_mut("error").map(Value::take) {
        let text = error["message"].as_str().unwrap_or("the agent gave an error without a message");
        let code = error["code"].as_i64().unwrap_or_default();
        let error = AgentError { code, message: text.to_owned(), data: error["data"].clone() };
        return Ok(Message::Reply { id, outcome: Err(error) });
    }
    match message.get_mut("result").map(Value::take) {
        Some(result) => Ok(Message::Reply { id, outcome: Ok(result) }),
        None => Err(Failure::Protocol("neither event nor result nor error".into())),
    }
}

/// Connects until `deadline`: where the agent does not accept, the system would let us wait for ever.
fn connect(socket: &Path, deadline: Instant) -> io::Result<UnixStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket as new_socket};
    let address = UnixAddr::new(socket)?;
    loop {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let ours = new_socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        match connect(ours.as_raw_fd(), &address) {
            Ok(()) => {
                let stream = UnixStream::from(ours);
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(Errno::EAGAIN) if pace::now() < deadline => pace::sleep(CONNECT_AGAIN),
            Err(Errno::EAGAIN) => {
                return Err(io::Error::new(ErrorKind::TimedOut, "it does not take connections"));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{BufRead, BufReader};

    const SOON: Duration = Duration::from_millis(20);

    fn pair() -> (Client, UnixStream) {
        let (ours, agents) = UnixStream::pair().unwrap();
        (Client::over(ours, SOON), agents)
    }

    #[test]
    fn events_between_request_and_reply_wait_for_their_reader() {
        let (mut client, mut agent) = pair();
        let lines = concat!(
            r#"{"jsonrpc":"2.0","method":"recording.progress","params":{"seq":1}}"#,
            "\n",
            r#"{"jsonrpc":"2.0","id":99,"result":"of somebody else"}"#,
            "\n",
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":1}}"#,
            "\n"
        );
        agent.write_all(lines.as_bytes()).unwrap();
        assert_eq!(client.call("agent.info", Value::Null).unwrap(), json!({"a": 1}));
        let mut request = String::new();
        BufReader::new(&agent).read_line(&mut request).unwrap();
        assert_eq!(request, "{\"id\":1,\"jsonrpc\":\"2.0\",\"method\":\"agent.info\"}\n");
        let event = client.next_event(Some(SOON)).unwrap().unwrap();
        assert_eq!((event.name.as_str(), event.params["seq"].as_u64()), ("recording.progress", Some(1)));
        assert!(event.line.starts_with("{\"jsonrpc\""));
    }

    #[test]
    fn a_silent_agent_is_a_time_out_and_a_line_in_pieces_is_still_a_line() {
        let (mut client, mut agent) = pair();
        agent.write_all(b"{\"method\":\"x\",").unwrap();
        assert!(matches!(client.call("stats.get", Value::Null), Err(Failure::NoAnswer { .. })));
        assert_eq!(client.next_event(Some(Duration::ZERO)).unwrap(), None);
        agent.write_all(b"\"params\":{}}\n").unwrap();
        assert_eq!(client.next_event(Some(SOON)).unwrap().unwrap().name, "x");
    }

    #[test]
    fn an_agent_that_goes_away_is_noticed() {
        let (mut client, agent) = pair();
        drop(agent);
        assert!(matches!(client.next_event(None), Err(Failure::ConnectionLost(_))));
    }

    #[test]
    fn an_error_of_the_agent_keeps_its_reason() {
        let line = r#"{"id":1,"error":{"code":-32000,"message":"no stick","data":{"reason":"no_storage"}}}"#;
        let Ok(Message::Reply { id: Some(1), outcome: Err(error) }) = parse(line.to_owned()) else {
            panic!("not an error reply");
        };
        assert_eq!((error.code, error.reason()), (-32000, "no_storage"));
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in "\\PC{0,80}", key in "(id|error|result|method|params)") {
            let _ = parse(line.clone());
            let _ = parse(format!("{{\"{key}\":{line}}}"));
            let _ = parse(json!({ key: line }).to_string());
        }
    }

    #[test]
    fn an_agent_that_takes_no_connections_is_not_waited_for_longer_than_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut waiting = Vec::new();
        let refused = loop {
            match connect(&path, pace::now() + Duration::from_millis(50)) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
    }
}
