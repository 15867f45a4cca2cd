//! The agent's side of one server recording, from name look-up to the answer to the stop request.
//!
//! Owns: the order of messages, all time-outs, and the reasons of ends. Every call hands in one event and
//! `now`, and gets [`Action`]s back. Look-ups and connections carry a [`Generation`]; an answer to an older
//! one is ignored. Never: sockets, clocks, whether RTP is forwarded during a pause.
//!
//! Invariants: exactly one [`Action::Ended`] per session, as its last action; between
//! [`Action::Started`] and that there is an RTP target, and it is taken back before anything else.

mod action;
mod lasting;

pub use action::{Action, End, Failure, Generation, Params, Settings};
pub use lasting::Lasting;

use crate::framing::{FrameError, Framer};
use crate::media_hosts::{MediaHosts, Target, ip_literal, with_port};
use crate::message::extension::Granted;
use crate::message::{
    Message, Outcome, ParseError, Parties, StartRequest, StartResponse, StopRequest, StopResponse,
    host_and_port,
};
use media::time::Mono;
use recfile::call::Call;
use recfile::text::kept;
use std::net::SocketAddr;
use std::time::Duration;

/// Addresses of one host that are tried before the server counts as unreachable.
pub const MAX_ADDRESSES: usize = 4;

/// Time after an answer that silence ended in which RTP that is refused proves nothing: a lost segment with
/// the last digits of the port is sent again within it.
const PORT_MAY_GROW: Duration = Duration::from_secs(1);

/// Longest time that the rest of a recording has, with the extension, to get to the server's disk.
pub const FINISH_WITHIN: Duration = Duration::from_secs(30);

/// Lines without a command that are passed over in a session: a greeting has a few at most.
pub const MAX_FOREIGN_LINES: u32 = 16;

/// The most characters of a server's text that are passed on.
const MAX_WORDS_CHARS: usize = 1024;

#[derive(Debug)]
enum State {
    /// The server's name is being looked up.
    Resolving {
        deadline: Mono,
    },
    /// `addresses` are those not tried yet; `attempt` is this one's share of the time.
    Connecting {
        addr: SocketAddr,
        addresses: Vec<SocketAddr>,
        attempt: Mono,
        deadline: Mono,
    },
    AwaitingStart {
        peer: SocketAddr,
        deadline: Mono,
    },
    /// The server named a host for the RTP, which is being looked up.
    ResolvingMedia {
        peer: SocketAddr,
        port: u16,
        granted: Option<Granted>,
        deadline: Mono,
    },
    Streaming {
        peer: SocketAddr,
        target: SocketAddr,
        granted: Option<Granted>,
        since: Mono,
        /// The port refused RTP when it was not sure yet.
        refused: bool,
    },
    Stopping {
        deadline: Mono,
    },
    Closed,
}

/// The state machine of one server recording.
#[derive(Debug)]
pub struct Client {
    settings: Settings,
    params: Params,
    state: State,
    generation: Generation,
    framer: Framer,
    /// The answer to the stop request is that of the server's disk.
    waits_for_disk: bool,
    /// Lines that were no messages.
    foreign_lines: u32,
}

impl Client {
    /// Begins a session: looks the server up, or connects if it is given by address.
    #[must_use]
    pub fn start(settings: Settings, params: Params, now: Mono, out: &mut Vec<Action>) -> Self {
        Self::resume(settings, params, Generation(0), now, out)
    }

    /// The same, after a session whose last look-up or connection was of this generation.
    fn resume(
        settings: Settings,
        params: Params,
        generation: Generation,
        now: Mono,
        out: &mut Vec<Action>,
    ) -> Self {
        let deadline = now + settings.connect_timeout;
        let mut client = Self {
            settings,
            params,
            state: State::Resolving { deadline },
            generation,
            framer: Framer::new(),
            waits_for_disk: false,
            foreign_lines: 0,
        };
        match ip_literal(&client.params.host) {
            Some(ip) => {
                let addr = SocketAddr::new(ip, client.params.port);
                client.connect_next(vec![addr], deadline, "no address", now, out);
            }
            None => client.resolve(client.params.host.clone(), out),
        }
        client
    }

    /// The `id` of the recording on the wire.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.params.id
    }

    /// Whether [`Action::Ended`] has been given.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// A name was looked up; no addresses mean that it failed. Their ports do not count.
    pub fn resolved(
        &mut self,
        generation: Generation,
        addresses: &[SocketAddr],
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        if generation != self.generation {
            return;
        }
        match self.state {
            State::Resolving { deadline } => {
                let port = self.params.port;
                let all = addresses.iter().take(MAX_ADDRESSES).map(|&addr| with_port(addr, port)).collect();
                self.connect_next(all, deadline, "the server's name has no address", now, out);
            }
            State::ResolvingMedia { peer, port, ref granted, .. } => {
                match MediaHosts::choose(peer, port, addresses) {
                    Some(target) => {
                        let granted = granted.clone();
                        self.stream_to(peer, target, granted, now, out);
                    }
                    None => {
                        let detail = "the host that the server named for RTP has no address that may get it";
                        self.fail(Failure::ServerUnreachable, detail, out);
                    }
                }
            }
            _ => {}
        }
    }

    /// The connection stands. `mac` is the MAC address of the interface that it goes out by.
    pub fn connected(&mut self, generation: Generation, mac: Option<&str>, now: Mono, out: &mut Vec<Action>) {
        let State::Connecting { addr, .. } = self.state else { return };
        if generation != self.generation {
            return;
        }
        let params = &self.params;
        let request = Message::StartRequest(StartRequest {
            id: params.id.clone(),
            device: params.device.clone().or_else(|| mac.map(str::to_owned)).unwrap_or_default(),
            parties: Parties::from(&params.call),
            direction: params.call.direction,
            codec: params.codec.clone(),
            extension: params.extension.clone(),
        });
        self.send(&request, out);
        self.state = State::AwaitingStart { peer: addr, deadline: now + self.settings.response_timeout };
    }

    /// The connection could not be made.
    pub fn connect_failed(&mut self, generation: Generation, error: &str, now: Mono, out: &mut Vec<Action>) {
        if generation == self.generation {
            self.next_address(error, now, out);
        }
    }

    /// Bytes came from the server.
    pub fn received(&mut self, bytes: &[u8], now: Mono, out: &mut Vec<Action>) {
        if self.has_connection() {
            self.framer.push(bytes, now);
            self.read_messages(now, out);
        }
    }

    /// The connection broke, or the server closed it (`error` is `None`).
    pub fn peer_closed(&mut self, error: Option<&str>, now: Mono, out: &mut Vec<Action>) {
        if !self.has_connection() {
            return;
        }
        while !self.is_closed() {
            match self.framer.next_at_close() {
                Ok(Some(message)) => self.message(message, now, out),
                Err(FrameError::Malformed(ParseError::Missing("cmd")))
                    if self.foreign_lines < MAX_FOREIGN_LINES =>
                {
                    self.foreign_lines += 1;
                }
                Ok(None) | Err(_) => break,
            }
        }
        match self.state {
            State::Closed => {}
            State::Stopping { .. } => self.end(End::Stopped { confirmed: false }, out),
            _ => self.fail(Failure::UplinkLost, error.unwrap_or("the server closed the connection"), out),
        }
    }

    /// The server's RTP port is closed (ICMP port unreachable).
    pub fn udp_refused(&mut self, now: Mono, out: &mut Vec<Action>) {
        let State::Streaming { since, refused, .. } = &mut self.state else { return };
        // It may not be the server's: the last digits of the port may be on their way yet.
        let fresh = now < *since + PORT_MAY_GROW;
        if self.framer.is_growing() || (fresh && self.framer.may_grow()) {
            *refused = true;
            return;
        }
        self.rtp_port_closed(now, out);
    }

    /// A stop request that has come already, but has no end yet, is the better explanation.
    fn rtp_port_closed(&mut self, now: Mono, out: &mut Vec<Action>) {
        self.peer_closed(Some("the server's RTP port is closed"), now, out);
    }

    /// Numbers and names changed; the stop request will carry them.
    pub fn update(&mut self, call: Call) {
        self.params.call = call;
    }

    /// Ends the recording. No RTP is to be sent any more, for any answer of the server.
    pub fn stop(&mut self, reason: &str, now: Mono, out: &mut Vec<Action>) {
        self.stop_after(reason, None, now, out);
    }

    /// The same; with the extension `items` is the number of items of the recording.
    fn stop_after(&mut self, reason: &str, items: Option<u64>, now: Mono, out: &mut Vec<Action>) {
        match self.state {
            State::Resolving { .. } | State::Connecting { .. } => {
                self.end(End::Stopped { confirmed: false }, out);
            }
            State::AwaitingStart { .. } | State::ResolvingMedia { .. } | State::Streaming { .. } => {
                let granted = matches!(self.state, State::Streaming { granted: Some(_), .. });
                let items = items.filter(|_| granted);
                self.waits_for_disk = items.is_some();
                if matches!(self.state, State::Streaming { granted: None, .. }) {
                    out.push(Action::SetRtpTarget(None));
                }
                let request = Message::StopRequest(StopRequest {
                    id: self.params.id.clone(),
                    parties: Parties::from(&self.params.call),
                    reason: reason.to_owned(),
                    items,
                });
                self.send(&request, out);
                // With the extension the answer comes when all is on the server's disk.
                let patience = if items.is_some() { FINISH_WITHIN } else { self.settings.response_timeout };
                self.state = State::Stopping { deadline: now + patience };
            }
            State::Stopping { .. } | State::Closed => {}
        }
    }

    /// The time at which [`timer`](Self::timer) is due.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        let own = match self.state {
            State::Resolving { deadline }
            | State::AwaitingStart { deadline, .. }
            | State::ResolvingMedia { deadline, .. }
            | State::Stopping { deadline } => Some(deadline),
            State::Connecting { attempt, .. } => Some(attempt),
            State::Streaming { since, refused, .. } => refused.then_some(since + PORT_MAY_GROW),
            State::Closed => return None,
        };
        [own, self.framer.poll_deadline()].into_iter().flatten().min()
    }

    /// Time has passed; does nothing if nothing is due.
    pub fn timer(&mut self, now: Mono, out: &mut Vec<Action>) {
        if self.framer.poll_deadline().is_some_and(|deadline| deadline <= now) {
            self.read_messages(now, out);
        }
        if self.poll_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.state {
            State::Resolving { .. } => {
                self.fail(Failure::ServerUnreachable, "no answer to the name look-up in time", out);
            }
            State::Connecting { .. } => self.next_address("no connection in time", now, out),
            State::AwaitingStart { .. } => {
                self.fail(Failure::ServerTimeout, "no answer to the start request in time", out);
            }
            State::ResolvingMedia { .. } => {
                let detail = "no answer to the look-up of the host that the server named for RTP in time";
                self.fail(Failure::ServerUnreachable, detail, out);
            }
            State::Stopping { .. } => self.end(End::Stopped { confirmed: false }, out),
            State::Streaming { ref mut since, .. } if self.framer.is_growing() => *since = now,
            // No other port came.
            State::Streaming { .. } => self.rtp_port_closed(now, out),
            State::Closed => {}
        }
    }

    fn has_connection(&self) -> bool {
        !matches!(self.state, State::Resolving { .. } | State::Connecting { .. } | State::Closed)
    }

    fn next_generation(&mut self) -> Generation {
        self.generation = Generation(self.generation.0.wrapping_add(1));
        self.generation
    }

    fn resolve(&mut self, host: String, out: &mut Vec<Action>) {
        let generation = self.next_generation();
        out.push(Action::Resolve { generation, host });
    }

    fn next_address(&mut self, error: &str, now: Mono, out: &mut Vec<Action>) {
        let State::Connecting { addresses, deadline, .. } = &mut self.state else { return };
        let (addresses, deadline) = (std::mem::take(addresses), *deadline);
        if !addresses.is_empty() {
            out.push(Action::Close);
        }
        self.connect_next(addresses, deadline, error, now, out);
    }

    /// Tries the first of `addresses`, which gets an equal share of the time that is left.
    fn connect_next(
        &mut self,
        mut addresses: Vec<SocketAddr>,
        deadline: Mono,
        last_error: &str,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let shares = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        if addresses.is_empty() || deadline <= now {
            self.fail(Failure::ServerUnreachable, last_error, out);
            return;
        }
        let addr = addresses.remove(0);
        let generation = self.next_generation();
        out.push(Action::Connect { generation, addr });
        let attempt = now + deadline.since(now) / shares;
        self.state = State::Connecting { addr, addresses, attempt, deadline };
    }

    fn read_messages(&mut self, now: Mono, out: &mut Vec<Action>) {
        while !self.is_closed() {
            match self.framer.next(now) {
                Ok(Some(message)) => self.message(message, now, out),
                Ok(None) => return,
                // A greeting, or text behind an answer.
                Err(FrameError::Malformed(ParseError::Missing("cmd")))
                    if self.foreign_lines < MAX_FOREIGN_LINES =>
                {
                    self.foreign_lines += 1;
                }
                Err(error) => self.protocol_error(error, out),
            }
        }
    }

    fn protocol_error(&mut self, error: FrameError, out: &mut Vec<Action>) {
        match self.state {
            State::Stopping { .. } => self.end(End::Stopped { confirmed: false }, out),
            _ => self.fail(Failure::UplinkLost, &error.to_string(), out),
        }
    }

    fn message(&mut self, message: Message, now: Mono, out: &mut Vec<Action>) {
        if message.id().is_some_and(|id| !is_our_id(id, &self.params.id)) {
            match self.state {
                State::Stopping { .. } => self.end(End::Stopped { confirmed: false }, out),
                _ => self.fail(Failure::UplinkLost, "the server spoke of another recording", out),
            }
            return;
        }
        match message {
            Message::StartResponse(answer) => self.start_answered(answer, now, out),
            Message::StopRequest(request) => {
                self.stopped_by_server(kept(&request.reason, MAX_WORDS_CHARS).text, out);
            }
            Message::StopResponse(answer) if matches!(self.state, State::Stopping { .. }) => {
                // With the extension it says whether all is on the server's disk.
                let confirmed = answer.outcome == Outcome::Success || !self.waits_for_disk;
                self.end(End::Stopped { confirmed }, out);
            }
            // Nobody asked, but it means that the server does not record, or not any more.
            Message::StopResponse(_) => {
                let end = self.unwanted(String::new());
                self.end(end, out);
            }
            Message::StartRequest(_) | Message::Unknown { .. } => {}
        }
    }

    fn start_answered(&mut self, answer: StartResponse, now: Mono, out: &mut Vec<Action>) {
        let peer = match self.state {
            State::AwaitingStart { peer, .. } => peer,
            _ => return self.answered_again(&answer, now, out),
        };
        if answer.outcome == Outcome::Failed {
            self.end(End::Refused { text: kept(&answer.reason, MAX_WORDS_CHARS).text }, out);
            return;
        }
        // The reader of messages lets no success without a port pass.
        let Some(port) = answer.port else { return };
        // A server that was not asked has nothing to grant.
        let granted = answer.extension.filter(|_| self.params.extension.is_some());
        match self.judge(peer, &answer.server, port) {
            Target::At(target) => self.stream_to(peer, target, granted, now, out),
            Target::LookUp(name) => {
                self.resolve(name, out);
                let deadline = now + self.settings.response_timeout;
                self.state = State::ResolvingMedia { peer, port, granted, deadline };
            }
            Target::Refused(why) => self.refuse_target(&answer.server, port, why, out),
        }
    }

    fn judge(&self, peer: SocketAddr, server: &str, port: u16) -> Target {
        match host_and_port(server) {
            (_, Some(other)) if other != port => Target::Refused("it names two ports"),
            (host, _) => self.params.media_hosts.judge(peer, &self.params.host, host, port),
        }
    }

    /// The server thinks that it records: it is told that it does not.
    fn refuse_target(&mut self, host: &str, port: u16, why: &str, out: &mut Vec<Action>) {
        if matches!(self.state, State::Streaming { .. }) {
            out.push(Action::SetRtpTarget(None));
        }
        let host = kept(host.trim(), MAX_WORDS_CHARS).text;
        let request = StopRequest {
            id: self.params.id.clone(),
            parties: Parties::from(&self.params.call),
            reason: "the audio may not go there".into(),
            items: None,
        };
        self.send(&Message::StopRequest(request), out);
        self.state = State::Stopping { deadline: Mono::default() };
        let text = format!("the server's answer sends the audio to {host} port {port}: {why}");
        self.end(End::Refused { text }, out);
    }

    /// The last octets of the answer came late: those of the port, most often.
    fn answered_again(&mut self, answer: &StartResponse, now: Mono, out: &mut Vec<Action>) {
        let whole = answer.port.filter(|_| answer.outcome == Outcome::Success && self.framer.is_again());
        let Some(whole) = whole else { return };
        match &mut self.state {
            State::ResolvingMedia { port, .. } => *port = whole,
            &mut State::Streaming { peer, target, .. } => match self.judge(peer, &answer.server, whole) {
                Target::At(right) => self.move_to(right, now, out),
                Target::LookUp(_) => self.move_to(with_port(target, whole), now, out),
                Target::Refused(why) => self.refuse_target(&answer.server, whole, why, out),
            },
            _ => {}
        }
    }

    fn move_to(&mut self, right: SocketAddr, now: Mono, out: &mut Vec<Action>) {
        let State::Streaming { target, since, refused, granted, .. } = &mut self.state else { return };
        if *target != right {
            (*target, *since, *refused) = (right, now, false);
            out.push(media_to(right, granted.as_ref()));
        }
    }

    fn stream_to(
        &mut self,
        peer: SocketAddr,
        target: SocketAddr,
        granted: Option<Granted>,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        out.extend([media_to(target, granted.as_ref()), Action::Started]);
        self.state = State::Streaming { peer, target, granted, since: now, refused: false };
    }

    fn stopped_by_server(&mut self, reason: String, out: &mut Vec<Action>) {
        let answer = StopResponse { id: self.params.id.clone(), outcome: Outcome::Success };
        let end = match self.state {
            // Both sides stopped at once.
            State::Stopping { .. } => End::Stopped { confirmed: true },
            _ => self.unwanted(reason),
        };
        if matches!(self.state, State::Streaming { .. }) {
            out.push(Action::SetRtpTarget(None));
            self.state = State::Stopping { deadline: Mono::default() };
        }
        self.send(&Message::StopResponse(answer), out);
        self.end(end, out);
    }

    /// The meaning of the server's stop: before the recording has begun it is a refusal.
    fn unwanted(&self, reason: String) -> End {
        match self.state {
            State::AwaitingStart { .. } | State::ResolvingMedia { .. } => End::Refused { text: reason },
            _ => End::StoppedByServer { reason },
        }
    }

    fn send(&self, message: &Message, out: &mut Vec<Action>) {
        let mut octets = message.encode().into_bytes();
        octets.extend_from_slice(self.settings.terminator);
        out.push(Action::Send(octets));
    }

    fn fail(&mut self, reason: Failure, detail: &str, out: &mut Vec<Action>) {
        self.end(End::Failed { reason, detail: detail.to_owned() }, out);
    }

    fn end(&mut self, end: End, out: &mut Vec<Action>) {
        if matches!(self.state, State::Streaming { .. }) {
            out.push(Action::SetRtpTarget(None));
        }
        if !matches!(self.state, State::Resolving { .. }) {
            out.push(Action::Close);
        }
        self.state = State::Closed;
        out.push(Action::Ended(end));
    }
}

fn media_to(target: SocketAddr, granted: Option<&Granted>) -> Action {
    match granted {
        Some(granted) => Action::StreamTo { target, granted: granted.clone() },
        None => Action::SetRtpTarget(Some(target)),
    }
}

/// Whether the server means our recording: blanks, quotes and case of letters do not count.
fn is_our_id(said: &str, ours: &str) -> bool {
    let said = said.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\''));
    said.eq_ignore_ascii_case(ours)
}
