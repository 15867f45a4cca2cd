//! What clients ask for.

use crate::agent::answer::Caller;
use crate::agent::answer::{Answer, Failure, answer};
use crate::agent::recordings::recording::Recording;
use crate::agent::{Action, Agent, ClientId, Fence, Turn};
use crate::api::PROTOCOL_VERSION;
use crate::api::ending::Order;
use crate::api::reason::Reason;
use crate::api::reply::Done as Empty;
use crate::api::request::{self, Method, Refused, Request};
use crate::api::status::{AgentInfo, Mode, Recordings, Stats};
use media::codec::Codec;
use media::counts::DropCause;
use media::time::Now;

impl Agent {
    pub(in crate::agent) fn client_line(&mut self, client: ClientId, line: &[u8], turn: &mut Turn<'_>) {
        self.stats.requests += 1;
        let Request { id, method } = match request::parse(line) {
            Ok(request) => request,
            Err(refused) => return refuse(client, &refused, turn),
        };
        // Before anything is done: some requests are answered while they are carried out.
        turn.actions.extend(id.as_ref().map(|_| Action::OweReply(client)));
        let mut caller = Caller::new(client, id);
        let answer = self.request(&mut caller, method, turn);
        match (answer, caller.defer()) {
            // Whoever answers later, or has answered, took the reply.
            (Ok(None), left) => debug_assert!(left.is_none(), "each request with an id gets a reply"),
            (_, None) => {}
            (Ok(Some(result)), Some(reply)) => reply.ok(&result, turn),
            (Err(Failure::Agent(error)), Some(reply)) => reply.err(&error, turn),
            (Err(Failure::Params(message)), Some(reply)) => reply.invalid_params(&message, turn),
        }
    }

    /// Whose packets come before what a client's line asks for. Everything else a client asks can be answered while
    /// packets wait in the sockets for room, so that a question never costs audio.
    #[must_use]
    pub fn fence(&self, line: &[u8]) -> Fence {
        let Ok(Request { method, .. }) = request::parse(line) else { return Fence::None };
        match method {
            Method::RecordPause { recording }
            | Method::RecordResume { recording }
            | Method::RecordStop { recording } => {
                self.live(recording.as_deref()).map_or(Fence::None, Fence::One)
            }
            Method::StorageEject => Fence::All,
            _ => Fence::None,
        }
    }

    pub(in crate::agent) fn client_line_too_long(&mut self, client: ClientId, turn: &mut Turn<'_>) {
        refuse(client, &Refused::line_too_long(), turn);
    }

    pub(in crate::agent) fn client_closed(&mut self, client: ClientId) {
        self.clients.remove(&client);
        self.stats.clients = self.stats.clients.saturating_sub(1);
    }

    fn request(&mut self, caller: &mut Caller, method: Method, turn: &mut Turn<'_>) -> Answer {
        match method {
            Method::AgentInfo => answer(&self.info(turn.now)),
            Method::RecordStart(start) => self.record_start(caller, start, turn),
            Method::RecordPause { recording } => {
                let key = self.live(recording.as_deref())?;
                self.pause(key, caller, turn)
            }
            Method::RecordResume { recording } => {
                let key = self.live(recording.as_deref())?;
                self.resume(key, caller, turn)
            }
            Method::RecordStop { recording } => {
                let key = self.live(recording.as_deref())?;
                self.stop(key, Order::Stopped, turn);
                answer(&self.status_of(key)?)
            }
            Method::RecordUpdate { recording, call } => {
                let key = self.live(recording.as_deref())?;
                self.update(key, &call, turn)?;
                answer(&self.status_of(key)?)
            }
            Method::RecordStatus { recording: None } => {
                let remaining_s = self.remaining_s();
                let recordings =
                    self.recordings.values().map(|it| it.status(remaining_s, self.clock)).collect();
                answer(&Recordings { recordings })
            }
            Method::RecordStatus { recording: Some(id) } => {
                let live = self.recordings.values().find(|it| it.id == id);
                let live = live.map(|it| it.status(self.remaining_s(), self.clock));
                let ended = || self.ended.iter().find(|status| status.recording == id).cloned();
                answer(&live.or_else(ended).ok_or(Reason::NotFound)?)
            }
            Method::StorageStatus => answer(&self.storage_status()),
            Method::StorageEject => self.eject(caller, turn),
            Method::EventsSubscribe { types } => self.subscribe(caller.client, types.as_deref(), true),
            Method::EventsUnsubscribe { types } => self.subscribe(caller.client, types.as_deref(), false),
            Method::StatsGet => answer(&self.stats()),
            Method::RecordingsList { limit, after, query } => {
                // Up to a thousand entries: written at once, not built as a tree first.
                let listed = self.list_recordings(limit, after.as_deref(), query.as_deref())?;
                if let Some(reply) = caller.defer() {
                    reply.ok(&listed, turn);
                }
                Ok(None)
            }
            Method::RecordingsInfo { .. }
            | Method::RecordingsDelete { .. }
            | Method::RecordingsProtect { .. } => self.ask_about_recording(caller, method, turn),
            Method::PlayStart { .. }
            | Method::PlayPause { .. }
            | Method::PlayResume { .. }
            | Method::PlaySeek { .. }
            | Method::PlayStop { .. }
            | Method::PlayStatus { .. } => self.play_request(caller, method, turn),
            Method::SipInfoResult { recording, code } => {
                self.sip_info_result(&recording, code, turn)?;
                answer(&Empty {})
            }
        }
    }

    fn subscribe(&mut self, client: ClientId, types: Option<&[String]>, wanted: bool) -> Answer {
        if let Some(subscription) = self.clients.get_mut(&client) {
            let changed =
                if wanted { subscription.subscribe(types) } else { subscription.unsubscribe(types) };
            changed.map_err(|_| Failure::Params("`types`: too many prefixes, 32 at most".into()))?;
        }
        answer(&Empty {})
    }

    fn info(&self, now: Now) -> AgentInfo {
        let remaining_s = self.remaining_s();
        AgentInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL_VERSION,
            modes: self.modes(),
            codecs: Codec::ALL.map(|codec| codec.name().into()).into(),
            uptime: now.mono.since(self.started).as_secs(),
            sandbox: self.sandbox.clone(),
            storage: self.storage_status(),
            recordings: self.recordings.values().map(|it| it.status(remaining_s, self.clock)).collect(),
            playbacks: self.playbacks(),
        }
    }

    /// What can be started as things are.
    fn modes(&self) -> Vec<Mode> {
        let possible = |mode: &Mode| match mode {
            // Without a disk one may be plugged in at any moment.
            Mode::Local => !self.disk.is_forbidden(),
            Mode::Server => self.config.uplink.is_configured(),
            Mode::SipInfo => self.wants("sip.info"),
        };
        Mode::ALL.into_iter().filter(possible).collect()
    }

    fn stats(&self) -> Stats {
        let mut counts = self.past;
        self.recordings.values().for_each(|it| counts.add(&it.counts));
        let mut stats = self.stats;
        let waiting: u64 = self.recordings.values().map(Recording::waiting_packets).sum();
        stats.packets = counts.received + self.paused_packets + counts.strangers + waiting;
        stats.lost = counts.lost;
        stats.late = counts.late;
        stats.duplicate = counts.duplicate;
        stats.drops.paused = self.paused_packets;
        stats.odd_padding = counts.odd_padding;
        stats.drops.not_rtp = counts.dropped_for(DropCause::NotRtp);
        stats.drops.rtcp = counts.dropped_for(DropCause::Rtcp);
        stats.drops.unconfirmed = counts.dropped_for(DropCause::Unconfirmed);
        stats.drops.ahead = counts.dropped_for(DropCause::Ahead);
        stats.drops.oversize = counts.dropped_for(DropCause::Oversize);
        stats.drops.payload_type = counts.dropped_for(DropCause::PayloadType);
        stats.drops.comfort_noise = counts.dropped_for(DropCause::ComfortNoise);
        stats.drops.empty = counts.dropped_for(DropCause::Empty);
        stats.drops.source = counts.strangers;
        stats.drops.ssrc = counts.dropped_for(DropCause::Ssrc);
        stats.drops.overlap = counts.dropped_for(DropCause::Overlap);
        stats.drops.buffer_full = counts.dropped_for(DropCause::BufferFull);
        stats.drops.uplink = counts.dropped_for(DropCause::Uplink);
        stats.drops.handshake = counts.dropped_for(DropCause::Handshake);
        stats.drops.encrypted = counts.dropped_for(DropCause::Encrypted);
        stats.buffer_bytes = self.pool.used_octets();
        stats.buffer_high_water_bytes = self.pool.high_water_octets();
        stats
    }
}

/// Answers a line that is no good request, if an answer is due.
fn refuse(client: ClientId, refused: &Refused, turn: &mut Turn<'_>) {
    if let Some(line) = refused.line() {
        turn.actions.extend([Action::OweReply(client), Action::Reply(client, line)]);
    }
}
