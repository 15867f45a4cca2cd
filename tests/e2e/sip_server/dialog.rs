//! The phone's end of a SIP call over UDP, as far as a recording needs it: INVITE, INFO, BYE (RFC 3261).

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::support::patience;

/// The first repetition comes after this, later ones after twice the time before (RFC 3261, timer E).
const T1: Duration = Duration::from_millis(500);

/// The agent waits 5 s for a result: a stack that still tries then has nobody to tell.
const GIVE_UP: Duration = Duration::from_millis(4900);

/// An established call.
pub(super) struct Dialog {
    socket: UdpSocket,
    local: SocketAddr,
    /// `Contact` of the server: where requests go to.
    target: String,
    /// `To`, with the server's tag once it is known.
    to: String,
    cseq: u32,
}

impl Dialog {
    /// Calls the server, which has to answer 200.
    pub(super) fn call(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket.connect(server).expect("connected");
        let local = socket.local_addr().expect("bound");
        let target = format!("sip:server@{server}");
        let to = format!("<{target}>");
        let mut dialog = Self { socket, local, target, to, cseq: 0 };
        let answer = dialog.transact("INVITE", "", patience()).expect("an answer to INVITE");
        assert_eq!(answer.code, 200, "{}", answer.text);
        answer.field("To").clone_into(&mut dialog.to);
        let contact = answer.field("Contact");
        let uri = contact.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        uri.expect("a URI").0.clone_into(&mut dialog.target);
        // Has the INVITE's number, and no answer.
        let ack = dialog.request("ACK", "");
        dialog.socket.send(ack.as_bytes()).expect("ACK sent");
        dialog
    }

    /// Sends an INFO with these header fields and no body; `None` if no final answer comes in time.
    pub(super) fn info(&mut self, headers: &Map<String, Value>) -> Option<u16> {
        let line =
            |(name, value): (&String, &Value)| format!("{name}: {}\r\n", value.as_str().expect("a text"));
        let lines: String = headers.iter().map(line).collect();
        self.transact("INFO", &lines, GIVE_UP).map(|answer| answer.code)
    }

    /// Hangs up.
    pub(super) fn bye(&mut self) {
        let answer = self.transact("BYE", "", patience()).expect("an answer to BYE");
        assert_eq!(answer.code, 200, "{}", answer.text);
    }

    /// Sends a request, again and again, until there is a final answer.
    fn transact(&mut self, method: &str, headers: &str, wait: Duration) -> Option<Answer> {
        self.cseq += 1;
        let request = self.request(method, headers);
        let own = format!("{} {method}", self.cseq);
        let end = Instant::now() + wait;
        let mut interval = T1;
        loop {
            self.socket.send(request.as_bytes()).expect("a request sent");
            let again = end.min(Instant::now() + interval);
            interval *= 2;
            while let Some(answer) = self.receive(again) {
                // Others are provisional, or to an earlier request.
                if answer.code >= 200 && answer.field("CSeq") == own {
                    return Some(answer);
                }
            }
            if Instant::now() >= end {
                return None;
            }
        }
    }

    fn request(&self, method: &str, headers: &str) -> String {
        let Self { local, target, to, cseq, .. } = self;
        let port = local.port();
        format!(
            "{method} {target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};rport;branch=z9hG4bK{port}-{cseq}-{method}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:phone@{local}>;tag=p{port}\r\n\
             To: {to}\r\n\
             Call-ID: {port}-recording@127.0.0.1\r\n\
             CSeq: {cseq} {method}\r\n\
             Contact: <sip:phone@{local}>\r\n\
             {headers}Content-Length: 0\r\n\r\n"
        )
    }

    fn receive(&self, end: Instant) -> Option<Answer> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket.set_read_timeout(Some(left)).expect("a time-out");
            let mut buffer = [0; 4096];
            match self.socket.recv(&mut buffer) {
                Ok(count) => {
                    return Some(Answer::new(String::from_utf8_lossy(&buffer[..count]).into_owned()));
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the server has gone: {error}"),
            }
        }
    }
}

/// An answer of the server.
struct Answer {
    code: u16,
    text: String,
}

impl Answer {
    fn new(text: String) -> Self {
        let code = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let code = code.unwrap_or_else(|| panic!("no answer: {text}"));
        Self { code, text }
    }

    fn field(&self, name: &str) -> &str {
        let fields = self.text.lines().filter_map(|line| line.split_once(": "));
        let found = fields.into_iter().find(|(field, _)| *field == name);
        found.unwrap_or_else(|| panic!("no {name}: {}", self.text)).1
    }
}
