//! One control connection of a phone: requests in, answers and decisions out.
//!
//! Owns: which messages are right when, answers in the terminator style of the request, and the time
//! limits of a connection (to start, to send RTP, to confirm a stop). One recording at a time; a
//! connection may start another when the first has ended. Never: sockets, files, ports, limits; whether
//! there is room for a recording is asked by [`Action::Open`] and answered by the caller.
//!
//! Invariants: every [`Action::Open`] that was granted is followed by exactly one [`Action::Finish`], or with
//! the extension by one of [`Action::FinishAfter`] and [`Action::Detach`]; [`Action::Close`] comes once and
//! last.

use crate::framing::{FrameError, Framer};
use crate::message::extension::{Asked, Granted};
use crate::message::{Message, Outcome, Parties, StartRequest, StartResponse, StopRequest, StopResponse};
use media::codec::Codec;
use media::time::Mono;
use recfile::call::{Altered, Direction, Field};
use recfile::text::kept;
use std::borrow::Cow;
use std::time::Duration;

/// Longest `id` and `device`, and longest reason of a phone, in characters, that sidecar, log and status
/// have.
pub const MAX_TEXT_CHARS: usize = 256;

/// Refused start requests on one connection after which it is closed.
pub const MAX_REFUSALS: u32 = 8;

/// Time limits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the connection, or from the end of a recording, to a start request.
    pub start_within: Duration,
    /// Longest time without RTP; `None`: for ever.
    pub idle: Option<Duration>,
    /// The time to wait for the answer to our stop request.
    pub stop_answer: Duration,
}

/// A start request that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The recording's `id` on the wire, made fit to be kept.
    pub id: String,
    /// The phone's name for itself, made fit to be kept.
    pub device: String,
    /// Whether one of the two is another one than was said.
    pub altered: Altered,
    /// Both ends of the call.
    pub parties: Parties,
    /// The direction of the call.
    pub direction: Option<Direction>,
    /// Of the RTP to come.
    pub codec: Codec,
    /// Whether the phone asks for the extension, and where it stands.
    pub extension: Option<Asked>,
}

/// The reason of a recording's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The phone stopped it, for this reason (in its words; may be empty).
    Stopped(String),
    /// The control connection broke or was closed.
    ConnectionLost,
    /// No RTP for too long.
    Idle,
    /// The phone does not keep to the protocol.
    Protocol(FrameError),
    /// The disk is full.
    DiskFull,
    /// The disk failed.
    StorageError,
    /// The server goes down.
    Shutdown,
}

impl EndReason {
    /// Name in sidecar, log and stop request.
    #[must_use]
    pub fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Stopped(reason) if reason.is_empty() => "stopped".into(),
            Self::Stopped(reason) => format!("stopped: {reason}").into(),
            Self::ConnectionLost => "connection_lost".into(),
            Self::Idle => "idle".into(),
            Self::Protocol(error) => format!("protocol_error: {error}").into(),
            Self::DiskFull => "storage_full".into(),
            Self::StorageError => "storage_io".into(),
            Self::Shutdown => "shutdown".into(),
        }
    }
}

/// The actions, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Send(Vec<u8>),
    /// The phone asks for a recording: answer with [`Session::granted`] or [`Session::refused`].
    Open(Box<Opening>),
    /// The recording is over: take the RTP that has arrived, free the port, finalise the file.
    Finish {
        /// The reason.
        reason: EndReason,
        /// Numbers and names as the phone's stop request has them.
        parties: Option<Parties>,
    },
    /// The phone ends a recording with the extension: finish it once all its items are there, then say so by
    /// [`Session::finished`].
    FinishAfter {
        /// Their number.
        items: u64,
        /// The reason.
        reason: EndReason,
        /// Numbers and names as the phone's stop request has them.
        parties: Parties,
    },
    /// The connection of a recording with the extension is gone: it waits for the phone to come back.
    Detach,
    /// Close the connection once earlier messages are on their way.
    Close,
}

#[derive(Debug)]
enum State {
    /// Nothing is recorded.
    Waiting {
        until: Mono,
    },
    /// The caller is being asked.
    Opening {
        id: String,
        parties: Parties,
    },
    Recording {
        id: String,
        parties: Parties,
        answer: Box<Message>,
        last_media: Mono,
        /// It has the extension: it outlives this connection.
        lasts: bool,
    },
    /// The phone waits to hear that the recording is on the disk.
    Finishing {
        id: String,
    },
    /// Finished by us; the phone has yet to say that it knows.
    Stopping {
        id: String,
        until: Mono,
    },
    Closed,
}

/// The state of one control connection.
#[derive(Debug)]
pub struct Session {
    timing: Timing,
    framer: Framer,
    state: State,
    refusals: u32,
    /// The recording that ended last, so that a late stop request for it is no error.
    ended: Option<String>,
}

impl Session {
    /// A phone has connected.
    #[must_use]
    pub fn new(timing: Timing, now: Mono) -> Self {
        Self {
            timing,
            framer: Framer::new(),
            state: State::Waiting { until: now + timing.start_within },
            refusals: 0,
            ended: None,
        }
    }

    /// Whether there is nothing more to do with the connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Bytes came from the phone.
    pub fn received(&mut self, bytes: &[u8], now: Mono, out: &mut Vec<Action>) {
        if !self.is_closed() {
            self.framer.push(bytes, now);
            self.read_messages(now, out);
        }
    }

    /// The recording asked for by [`Action::Open`] has begun. RTP is expected at `port` of `host`
    /// (empty: the address that the phone is connected to), by TCP if the extension is granted.
    pub fn granted(
        &mut self,
        host: &str,
        port: u16,
        extension: Option<Granted>,
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        let State::Opening { id, parties } = &mut self.state else { return };
        let (id, parties) = (std::mem::take(id), std::mem::take(parties));
        let lasts = extension.is_some();
        let answer = Box::new(Message::StartResponse(StartResponse {
            id: id.clone(),
            outcome: Outcome::Success,
            reason: String::new(),
            server: host.to_owned(),
            port: Some(port),
            extension,
        }));
        self.send(&answer, out);
        self.state = State::Recording { id, parties, answer, last_media: now, lasts };
        self.read_messages(now, out);
    }

    /// The recording asked for by [`Action::Open`] can't be; the phone shows `reason`.
    pub fn refused(&mut self, reason: &str, now: Mono, out: &mut Vec<Action>) {
        let State::Opening { id, .. } = &mut self.state else { return };
        let id = std::mem::take(id);
        self.state = State::Waiting { until: now + self.timing.start_within };
        self.refuse(&id, reason, out);
        self.read_messages(now, out);
    }

    /// The recording that [`Action::FinishAfter`] ended is on the disk, or could not be brought there.
    pub fn finished(&mut self, outcome: Outcome, now: Mono, out: &mut Vec<Action>) {
        let State::Finishing { id } = &mut self.state else { return };
        let id = std::mem::take(id);
        self.ended = Some(id.clone());
        self.state = State::Waiting { until: now + self.timing.start_within };
        self.send(&Message::StopResponse(StopResponse { id, outcome }), out);
        self.read_messages(now, out);
    }

    /// RTP of the phone came.
    pub fn media(&mut self, now: Mono) {
        if let State::Recording { last_media, .. } = &mut self.state {
            *last_media = now;
        }
    }

    /// The phone closed the connection, or it broke. Complete messages still count.
    pub fn peer_closed(&mut self, now: Mono, out: &mut Vec<Action>) {
        while self.reads() {
            match self.framer.next_at_close() {
                // Nobody is there to record any more.
                Ok(Some(Message::StartRequest(_)) | None) | Err(_) => break,
                Ok(Some(message)) => self.message(message, now, out),
            }
        }
        self.close(EndReason::ConnectionLost, out);
    }

    /// The server ends the recording; the phone is told and gets a moment to answer. Without a
    /// recording the connection is closed, and so is that of a recording with the extension if the server
    /// goes down.
    pub fn stop(&mut self, reason: EndReason, now: Mono, out: &mut Vec<Action>) {
        match &mut self.state {
            // The phone looks for the server, and goes on when there is one again.
            State::Recording { lasts: true, .. } if reason == EndReason::Shutdown => self.close(reason, out),
            State::Recording { id, parties, .. } => {
                let (id, parties) = (std::mem::take(id), std::mem::take(parties));
                let reason_name = reason.name().into_owned();
                let request = StopRequest { id: id.clone(), parties, reason: reason_name, items: None };
                out.push(Action::Finish { reason, parties: None });
                self.send(&Message::StopRequest(request), out);
                self.state = State::Stopping { id, until: now + self.timing.stop_answer };
            }
            State::Waiting { .. } | State::Opening { .. } | State::Finishing { .. } => {
                self.close(reason, out)
            }
            State::Stopping { .. } | State::Closed => {}
        }
    }

    /// The time at which [`timer`](Self::timer) is due.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        let own = match self.state {
            State::Waiting { until } | State::Stopping { until, .. } => Some(until),
            State::Recording { last_media, .. } => self.timing.idle.map(|idle| last_media + idle),
            State::Opening { .. } | State::Finishing { .. } | State::Closed => return None,
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
            State::Recording { .. } => self.stop(EndReason::Idle, now, out),
            State::Waiting { .. } | State::Stopping { .. } => self.close(EndReason::ConnectionLost, out),
            State::Opening { .. } | State::Finishing { .. } | State::Closed => {}
        }
    }

    /// Whether messages are taken: not while the caller is being asked or finishes, and not after the end.
    fn reads(&self) -> bool {
        !matches!(self.state, State::Opening { .. } | State::Finishing { .. } | State::Closed)
    }

    fn read_messages(&mut self, now: Mono, out: &mut Vec<Action>) {
        while self.reads() {
            match self.framer.next(now) {
                Ok(Some(message)) => self.message(message, now, out),
                Ok(None) => return,
                Err(error) => self.protocol_error(error, out),
            }
        }
    }

    fn protocol_error(&mut self, error: FrameError, out: &mut Vec<Action>) {
        if matches!(self.state, State::Waiting { .. }) {
            // Its id is not known: better an answer to nobody than none.
            let answer = start_failed("", &error.to_string());
            self.send(&answer, out);
        }
        self.close(EndReason::Protocol(error), out);
    }

    fn message(&mut self, message: Message, now: Mono, out: &mut Vec<Action>) {
        // It is answered already.
        if self.framer.is_again() {
            return;
        }
        match message {
            Message::StartRequest(request) => self.start_requested(request, out),
            Message::StopRequest(request) => self.stop_requested(request, now, out),
            Message::StopResponse(answer) => {
                if matches!(&self.state, State::Stopping { id, .. } if *id == answer.id) {
                    self.close(EndReason::ConnectionLost, out);
                }
            }
            // Other software's extensions, or an echo: nothing that we asked for.
            Message::StartResponse(_) | Message::Unknown { .. } => {}
        }
    }

    fn start_requested(&mut self, request: StartRequest, out: &mut Vec<Action>) {
        match &self.state {
            State::Recording { id, answer, .. } if *id == request.id => {
                let again = answer.clone();
                self.send(&again, out);
                return;
            }
            State::Waiting { .. } => {}
            _ => {
                self.refuse(&request.id, "this connection has a recording already", out);
                return;
            }
        }
        let surrounds = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';');
        let Some(codec) = Codec::from_name(request.codec.trim_matches(surrounds)) else {
            let known = Codec::ALL.map(Codec::name).join(", ");
            self.refuse(&request.id, &format!("unsupported codec, the server takes {known}"), out);
            return;
        };
        self.state = State::Opening { id: request.id.clone(), parties: request.parties.clone() };
        let (id, device) = (kept(&request.id, MAX_TEXT_CHARS), kept(&request.device, MAX_TEXT_CHARS));
        let mut altered = Altered::default();
        altered.set(Field::Recording, id.altered);
        altered.set(Field::Device, device.altered);
        out.push(Action::Open(Box::new(Opening {
            id: id.text,
            device: device.text,
            altered,
            parties: request.parties,
            direction: request.direction,
            codec,
            extension: request.extension,
        })));
    }

    fn stop_requested(&mut self, request: StopRequest, now: Mono, out: &mut Vec<Action>) {
        let lasts = matches!(&self.state, State::Recording { id, lasts: true, .. } if *id == request.id);
        if let Some(items) = request.items.filter(|_| lasts) {
            self.state = State::Finishing { id: request.id };
            let reason = EndReason::Stopped(kept(&request.reason, MAX_TEXT_CHARS).text);
            out.push(Action::FinishAfter { items, reason, parties: request.parties });
            return;
        }
        let known = match &self.state {
            State::Recording { id, .. } | State::Stopping { id, .. } => *id == request.id,
            _ => self.ended.as_ref() == Some(&request.id),
        };
        if known && matches!(self.state, State::Recording { .. }) {
            out.push(Action::Finish {
                reason: EndReason::Stopped(kept(&request.reason, MAX_TEXT_CHARS).text),
                parties: Some(request.parties),
            });
            self.ended = Some(request.id.clone());
            self.state = State::Waiting { until: now + self.timing.start_within };
        }
        let outcome = if known { Outcome::Success } else { Outcome::Failed };
        self.send(&Message::StopResponse(StopResponse { id: request.id, outcome }), out);
        if known && matches!(self.state, State::Stopping { .. }) {
            // Both sides stopped at once.
            self.close(EndReason::ConnectionLost, out);
        }
    }

    fn refuse(&mut self, id: &str, reason: &str, out: &mut Vec<Action>) {
        self.send(&start_failed(id, reason), out);
        self.refusals += 1;
        if self.refusals >= MAX_REFUSALS {
            self.close(EndReason::ConnectionLost, out);
        }
    }

    fn send(&self, message: &Message, out: &mut Vec<Action>) {
        let mut octets = message.encode().into_bytes();
        octets.extend_from_slice(self.framer.terminator().octets());
        out.push(Action::Send(octets));
    }

    fn close(&mut self, reason: EndReason, out: &mut Vec<Action>) {
        if self.is_closed() {
            return;
        }
        match self.state {
            State::Recording { lasts: true, .. } if reason == EndReason::ConnectionLost => {
                out.push(Action::Detach);
            }
            State::Recording { .. } => out.push(Action::Finish { reason, parties: None }),
            _ => {}
        }
        self.state = State::Closed;
        out.push(Action::Close);
    }
}

fn start_failed(id: &str, reason: &str) -> Message {
    Message::StartResponse(StartResponse {
        id: id.to_owned(),
        outcome: Outcome::Failed,
        reason: reason.to_owned(),
        server: String::new(),
        port: None,
        extension: None,
    })
}
