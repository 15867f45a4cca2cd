//! A client of the agent's socket: JSON-RPC 2.0, one JSON text per line.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::patience;

/// A JSON-RPC error as the agent sent it.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The code, e.g. -32601.
    pub(crate) code: i64,
    /// `data.reason` of agent errors, else empty.
    pub(crate) reason: String,
    /// All of it, for messages.
    pub(crate) whole: Value,
}

/// One connection.
pub(crate) struct Client {
    stream: UnixStream,
    unread: Vec<u8>,
    events: VecDeque<Value>,
    last_id: u64,
}

impl Client {
    /// Connects, or fails the test.
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket)
            .unwrap_or_else(|error| panic!("connect to {}: {error}", socket.display()));
        stream.set_write_timeout(Some(patience())).expect("a time-out");
        Self { stream, unread: Vec::new(), events: VecDeque::new(), last_id: 0 }
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("bytes sent");
    }

    /// Sends bytes as they are; the peer may have gone.
    pub(crate) fn try_send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a JSON text and the end of line.
    pub(crate) fn send(&mut self, value: &Value) {
        self.send_raw(format!("{value}\n").as_bytes());
    }

    /// The next line, event or answer; `None` at the deadline, an error when the agent hung up.
    pub(crate) fn read_message(&mut self, wait: Duration) -> std::io::Result<Option<Value>> {
        let end = Instant::now() + wait;
        loop {
            if let Some(length) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=length).collect();
                let value = serde_json::from_slice(&line)
                    .unwrap_or_else(|error| panic!("not JSON ({error}): {}", String::from_utf8_lossy(&line)));
                return Ok(Some(value));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.unread.extend_from_slice(&chunk[..count]),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next message that is no event.
    pub(crate) fn read_answer(&mut self) -> Value {
        loop {
            let message = self
                .read_message(patience())
                .unwrap_or_else(|error| panic!("the agent hung up: {error}"))
                .expect("an answer in time");
            if message.get("method").is_some() && message.get("id").is_none() {
                self.events.push_back(message);
            } else {
                return message;
            }
        }
    }

    /// Sends a request and gives its result or the error.
    pub(crate) fn request(&mut self, method: &str, params: Value) -> Result<Value, Refusal> {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        let answer = self.read_answer();
        assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
        assert_eq!(answer["id"], id, "answer to another request: {answer}");
        refusal_or_result(answer)
    }

    /// Sends a request that must succeed.
    pub(crate) fn ok(&mut self, method: &str, params: Value) -> Value {
        self.request(method, params).unwrap_or_else(|error| panic!("{method} was refused: {}", error.whole))
    }

    /// Sends a request that must fail, and gives the error.
    pub(crate) fn refused(&mut self, method: &str, params: Value) -> Refusal {
        match self.request(method, params) {
            Err(error) => error,
            Ok(result) => panic!("{method} should be refused, gave {result}"),
        }
    }

    /// Fails unless the request is refused with this agent error.
    pub(crate) fn refused_because(&mut self, reason: &str, method: &str, params: Value) {
        let error = self.refused(method, params);
        assert_eq!(error.reason, reason, "{method}: {}", error.whole);
        assert_eq!(error.code, -32000, "{method}: {}", error.whole);
    }

    /// The next event, in the order of arrival; `None` at the deadline.
    pub(crate) fn next_event(&mut self, wait: Duration) -> Option<Value> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        let message = self.read_message(wait).expect("a connection")?;
        assert!(message.get("id").is_none(), "an answer to no request: {message}");
        Some(message)
    }

    /// Reads events up to the one called `name` and gives its params; events before it are dropped.
    pub(crate) fn wait_event(&mut self, name: &str, wait: Duration) -> Value {
        self.wait_event_where(name, wait, |_| true)
    }

    /// Like [`Self::wait_event`], for an event that fits.
    pub(crate) fn wait_event_where(
        &mut self,
        name: &str,
        wait: Duration,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        let end = Instant::now() + wait;
        let mut seen = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Some(event) = self.next_event(left) else {
                panic!("no {name} within {wait:?}; seen: {}", json!(seen));
            };
            if event["method"] == name && fits(&event["params"]) {
                return event["params"].clone();
            }
            seen.push(event);
        }
    }

    /// Fails unless the agent closes this connection within `wait`; earlier messages are ignored.
    pub(crate) fn expect_hang_up(&mut self, wait: Duration) {
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.read_message(left) {
                Err(_) => return,
                Ok(Some(_)) => {}
                Ok(None) => panic!("the agent keeps the connection"),
            }
        }
    }

    /// The socket itself.
    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

/// Splits an answer into result or error.
pub(crate) fn refusal_or_result(answer: Value) -> Result<Value, Refusal> {
    match answer.get("error") {
        None => Ok(answer.get("result").expect("result or error").clone()),
        Some(error) => {
            assert!(answer.get("result").is_none(), "both result and error: {answer}");
            assert!(error["message"].is_string(), "an error without message: {answer}");
            Err(Refusal {
                code: error["code"].as_i64().expect("a code"),
                reason: error["data"]["reason"].as_str().unwrap_or_default().to_owned(),
                whole: error.clone(),
            })
        }
    }
}
