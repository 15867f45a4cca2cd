//! One server recording over as many sessions as it takes.
//!
//! Owns: when a session that broke is followed by the next one, and the state of the recording that the
//! server gets then. A recording without the extension has one session, as the source document has it. Never:
//! the items themselves, how much of them may wait. Invariant: exactly one [`Action::Ended`], as the last
//! action.

use super::{Action, Client, End, FINISH_WITHIN, Generation, Params, Settings};
use crate::message::extension::Asked;
use media::time::Mono;
use recfile::call::Call;
use std::net::SocketAddr;
use std::time::Duration;

/// The wait before the first further session; it doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Shortest duration of a good session: the next wait after it is a short one again.
const GOOD_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Phase {
    /// The present session goes on.
    Session,
    /// The next one begins then.
    Waiting { until: Mono },
}

/// How the recording is to end.
#[derive(Debug)]
struct Stop {
    reason: String,
    items: u64,
    until: Mono,
}

/// The state of one server recording.
#[derive(Debug)]
pub struct Lasting {
    settings: Settings,
    params: Params,
    begun: Mono,
    client: Client,
    /// The generation is the recording's, not the session's: late answers to a former session are told.
    generation: Generation,
    phase: Phase,
    /// The server's last token, once it has granted the extension.
    token: Option<String>,
    /// The first item that can be sent.
    from: u64,
    /// A media connection stood once: media can get there.
    media_was_up: bool,
    /// When the present session got through to the server.
    up: Option<Mono>,
    wait: Duration,
    stop: Option<Stop>,
    is_over: bool,
}

impl Lasting {
    /// Begins the first session; `extends`: with the extension, if the server grants it.
    #[must_use]
    pub fn start(
        settings: Settings,
        mut params: Params,
        extends: bool,
        now: Mono,
        out: &mut Vec<Action>,
    ) -> Self {
        params.extension = extends.then(Asked::default);
        let client = Client::start(settings, params.clone(), now, out);
        Self {
            settings,
            params,
            begun: now,
            generation: client.generation,
            client,
            phase: Phase::Session,
            token: None,
            from: 0,
            media_was_up: false,
            up: None,
            wait: FIRST_WAIT,
            stop: None,
            is_over: false,
        }
    }

    /// The `id` of the recording on the wire.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.params.id
    }

    /// Whether [`Action::Ended`] has been given.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_over
    }

    /// Whether the server has granted the extension.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.token.is_some()
    }

    /// Whether the server is gone, and looked for again.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.is_extended() && self.up.is_none()
    }

    /// Milliseconds since it began, as items count them.
    #[must_use]
    pub fn elapsed_ms(&self, now: Mono) -> u64 {
        u64::try_from(now.since(self.begun).as_millis()).unwrap_or(u64::MAX)
    }

    /// The server's last token.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The media connection stands.
    pub fn media_connected(&mut self) {
        self.media_was_up = true;
    }

    /// The server has acknowledged items: the first one that can be sent, and its new token.
    pub fn acknowledged(&mut self, from: u64, token: &str) {
        self.from = from;
        if !token.is_empty() {
            self.token = Some(token.to_owned());
        }
    }

    /// A name was looked up, as in [`Client::resolved`].
    pub fn resolved(
        &mut self,
        generation: Generation,
        addresses: &[SocketAddr],
        now: Mono,
        out: &mut Vec<Action>,
    ) {
        self.give(now, out, |client, out| client.resolved(generation, addresses, now, out));
    }

    /// The connection stands, as in [`Client::connected`].
    pub fn connected(&mut self, generation: Generation, mac: Option<&str>, now: Mono, out: &mut Vec<Action>) {
        self.give(now, out, |client, out| client.connected(generation, mac, now, out));
    }

    /// The connection could not be made.
    pub fn connect_failed(&mut self, generation: Generation, error: &str, now: Mono, out: &mut Vec<Action>) {
        self.give(now, out, |client, out| client.connect_failed(generation, error, now, out));
    }

    /// Octets came from the server.
    pub fn received(&mut self, octets: &[u8], now: Mono, out: &mut Vec<Action>) {
        self.give(now, out, |client, out| client.received(octets, now, out));
    }

    /// The connection broke, or the server closed it (`error` is `None`).
    pub fn peer_closed(&mut self, error: Option<&str>, now: Mono, out: &mut Vec<Action>) {
        self.give(now, out, |client, out| client.peer_closed(error, now, out));
    }

    /// The server's RTP port is closed.
    pub fn udp_refused(&mut self, now: Mono, out: &mut Vec<Action>) {
        self.give(now, out, |client, out| client.udp_refused(now, out));
    }

    /// The media connection broke, could not be made, or makes no sense: the session ends with it.
    pub fn media_lost(&mut self, detail: &str, now: Mono, out: &mut Vec<Action>) {
        if self.up.is_some() {
            self.peer_closed(Some(detail), now, out);
        }
    }

    /// Numbers and names changed; the next messages carry them.
    pub fn update(&mut self, call: Call) {
        self.params.call = call.clone();
        self.client.update(call);
    }

    /// Ends the recording, which has `items` items. With the extension the rest of them has [`FINISH_WITHIN`]
    /// to get to the server's disk.
    pub fn stop(&mut self, reason: &str, items: u64, now: Mono, out: &mut Vec<Action>) {
        if self.stop.is_some() || self.is_over {
            return;
        }
        self.stop = Some(Stop { reason: reason.to_owned(), items, until: now + FINISH_WITHIN });
        match self.phase {
            Phase::Session if self.is_interrupted() => {}
            Phase::Session => {
                self.give(now, out, |client, out| client.stop_after(reason, Some(items), now, out));
            }
            Phase::Waiting { .. } => {}
        }
    }

    /// When [`timer`](Self::timer) is due.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        if self.is_over {
            return None;
        }
        let phase = match self.phase {
            Phase::Session => self.client.poll_deadline(),
            Phase::Waiting { until } => Some(until),
        };
        let stop = self.stop.as_ref().filter(|_| self.is_extended()).map(|stop| stop.until);
        [phase, stop].into_iter().flatten().min()
    }

    /// Time has passed; does nothing if nothing is due.
    pub fn timer(&mut self, now: Mono, out: &mut Vec<Action>) {
        if self.is_over {
            return;
        }
        if self.is_extended() && self.stop.as_ref().is_some_and(|stop| stop.until <= now) {
            if matches!(self.phase, Phase::Session) && !self.client.is_closed() {
                out.push(Action::Close);
            }
            self.is_over = true;
            out.push(Action::Ended(End::Stopped { confirmed: false }));
            return;
        }
        match self.phase {
            Phase::Session => self.give(now, out, |client, out| client.timer(now, out)),
            Phase::Waiting { until } if until <= now => self.next_session(now, out),
            Phase::Waiting { .. } => {}
        }
    }

    fn next_session(&mut self, now: Mono, out: &mut Vec<Action>) {
        self.params.extension =
            Some(Asked { from: self.from, elapsed_ms: self.elapsed_ms(now), resume: self.token.clone() });
        self.phase = Phase::Session;
        let mut first = Vec::new();
        self.client = Client::resume(self.settings, self.params.clone(), self.generation, now, &mut first);
        self.take(first, now, out);
    }

    fn give(&mut self, now: Mono, out: &mut Vec<Action>, give: impl FnOnce(&mut Client, &mut Vec<Action>)) {
        if self.is_over || matches!(self.phase, Phase::Waiting { .. }) {
            return;
        }
        let mut actions = Vec::new();
        give(&mut self.client, &mut actions);
        self.take(actions, now, out);
    }

    fn take(&mut self, actions: Vec<Action>, now: Mono, out: &mut Vec<Action>) {
        self.generation = self.client.generation;
        // Who once granted the extension and now does not could not be told of packets that are to come
        // again.
        let lacks_it = self.is_extended()
            && actions.iter().any(|action| matches!(action, Action::SetRtpTarget(Some(_))));
        for action in actions {
            match action {
                Action::SetRtpTarget(Some(_)) | Action::Started if lacks_it => {}
                Action::StreamTo { target, granted } => {
                    self.token = Some(granted.resume.clone());
                    out.push(Action::StreamTo { target, granted });
                }
                Action::Started => self.got_through(now, out),
                Action::Ended(end) => self.session_ended(end, now, out),
                action => out.push(action),
            }
        }
        if lacks_it {
            let detail = "the server does not speak the extension any more";
            self.give(now, out, |client, out| client.peer_closed(Some(detail), now, out));
        }
    }

    /// The server records, for the first time or again.
    fn got_through(&mut self, now: Mono, out: &mut Vec<Action>) {
        let again = self.params.extension.as_ref().is_some_and(|asked| asked.resume.is_some());
        self.up = Some(now);
        out.push(if again { Action::Restored } else { Action::Started });
        if let Some(Stop { reason, items, .. }) = &self.stop {
            let mut actions = Vec::new();
            self.client.stop_after(reason, Some(*items), now, &mut actions);
            out.append(&mut actions);
        }
    }

    fn session_ended(&mut self, end: End, now: Mono, out: &mut Vec<Action>) {
        let detail = match &end {
            End::Failed { detail, .. } => detail.clone(),
            // It may be full, or going down.
            End::Refused { text } => format!("the server refuses to go on: {text}"),
            // Its answer did not come.
            End::Stopped { confirmed: false } => "the server did not confirm the end".into(),
            End::Stopped { confirmed: true } | End::StoppedByServer { .. } => String::new(),
        };
        // Media that never got to the server will not get there later: that is a failure, and told.
        if !self.is_extended() || !self.media_was_up || detail.is_empty() {
            self.is_over = true;
            out.push(Action::Ended(end));
            return;
        }
        if let Some(up) = self.up.take() {
            if now.since(up) >= GOOD_AFTER {
                self.wait = FIRST_WAIT;
            }
            out.push(Action::Interrupted { detail });
        }
        self.phase = Phase::Waiting { until: now + self.wait };
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }
}
