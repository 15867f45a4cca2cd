//! What clients ask for.

use super::io::{Action, ClientId, Fence, RecordingKey};
use super::recording::Recording;
use super::route::Route;
use super::sip_info::Purpose;
use super::start::altered_text;
use super::{Agent, Ejecting, MAX_WAITING_STARTS};
use crate::api::PROTOCOL_VERSION;
use crate::api::ending::{Order, TextKey};
use crate::api::event::Event;
use crate::api::reason::{AgentError, Reason};
use crate::api::reply::{self, Done as Empty, INVALID_PARAMS, RequestId};
use crate::api::request::{self, Method, Refused, Request};
use crate::api::status::{AgentInfo, Mode, RecordingState, RecordingStatus, Recordings, Stats};
use media::codec::Codec;
use media::counts::DropCause;
use media::time::Now;
use recfile::call::CallUpdate;
use serde::Serialize;
use serde_json::Value;

/// Why a request is not fulfilled.
pub(super) enum Failure {
    /// For a reason of the agent's.
    Agent(AgentError),
    /// A parameter does not fit the situation.
    Params(String),
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::Agent(reason.into())
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        Self::Agent(error)
    }
}

/// The result of a request, or nothing yet.
pub(super) type Answer = Result<Option<Value>, Failure>;

impl Agent {
    #[inline(never)]
    pub(super) fn client_line(&mut self, client: ClientId, line: &[u8], now: Now, actions: &mut Vec<Action>) {
        self.stats.requests += 1;
        let Request { id, method } = match request::parse(line) {
            Ok(request) => request,
            Err(refused) => return refuse(client, &refused, actions),
        };
        // Before anything is done: some requests are answered while they are carried out.
        actions.extend(id.as_ref().map(|_| Action::OweReply(client)));
        let answer = self.request(client, id.as_ref(), method, now, actions);
        let Some(id) = id else { return };
        let line = match answer {
            Ok(None) => return,
            Ok(Some(result)) => reply::result(&id, &result),
            Err(Failure::Agent(error)) => reply::agent_error(&id, &error),
            Err(Failure::Params(message)) => reply::rpc_error(&id, INVALID_PARAMS, &message),
        };
        actions.push(Action::Reply(client, line));
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

    #[inline(never)]
    pub(super) fn client_line_too_long(&mut self, client: ClientId, actions: &mut Vec<Action>) {
        refuse(client, &Refused::line_too_long(), actions);
    }

    #[inline(never)]
    pub(super) fn client_closed(&mut self, client: ClientId) {
        self.clients.remove(&client);
        self.stats.clients = self.stats.clients.saturating_sub(1);
    }

    fn request(
        &mut self,
        client: ClientId,
        id: Option<&RequestId>,
        method: Method,
        now: Now,
        actions: &mut Vec<Action>,
    ) -> Answer {
        match method {
            Method::AgentInfo => answer(&self.info(now)),
            Method::RecordStart(start) => self.record_start(client, id, start, now, actions),
            Method::RecordPause { recording } => {
                let key = self.live(recording.as_deref())?;
                self.pause(key, client, id, now, actions)
            }
            Method::RecordResume { recording } => {
                let key = self.live(recording.as_deref())?;
                self.resume(key, client, id, now, actions)
            }
            Method::RecordStop { recording } => {
                let key = self.live(recording.as_deref())?;
                self.stop(key, Order::Stopped, now, actions);
                answer(&self.status_of(key)?)
            }
            Method::RecordUpdate { recording, call } => {
                let key = self.live(recording.as_deref())?;
                self.update(key, &call, actions)?;
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
            Method::StorageEject => self.eject(client, id, now, actions),
            Method::EventsSubscribe { types } => self.subscribe(client, types.as_deref(), true),
            Method::EventsUnsubscribe { types } => self.subscribe(client, types.as_deref(), false),
            Method::StatsGet => answer(&self.stats()),
            Method::RecordingsList { limit, after, query } => {
                // Up to a thousand entries: written at once, not built as a tree first.
                let listed = self.list_recordings(limit, after.as_deref(), query.as_deref())?;
                actions.extend(id.map(|id| Action::Reply(client, reply::result(id, &listed))));
                Ok(None)
            }
            Method::RecordingsInfo { .. }
            | Method::RecordingsDelete { .. }
            | Method::RecordingsProtect { .. } => self.ask_about_recording(client, id, method, actions),
            Method::PlayStart { .. }
            | Method::PlayPause { .. }
            | Method::PlayResume { .. }
            | Method::PlaySeek { .. }
            | Method::PlayStop { .. }
            | Method::PlayStatus { .. } => self.play_request(client, id, method, now, actions),
            Method::SipInfoResult { recording, code } => {
                self.sip_info_result(&recording, code, now, actions)?;
                answer(&Empty {})
            }
        }
    }

    fn update(
        &mut self,
        key: RecordingKey,
        call: &CallUpdate,
        actions: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let Some(it) = self.recordings.get(&key) else { return Err(Reason::NotFound.into()) };
        if let (Route::SipInfo(_), Some(id)) = (&it.route, &call.id) {
            self.check_one_per_call(id, Some(key))?;
        }
        if let Some(it) = self.recordings.get_mut(&key) {
            it.call.update(call);
            actions
                .extend(altered_text(&it.id, call.altered).map(|text| Action::Log(log::Level::Info, text)));
            if let Some(upload) = it.route.upload_mut() {
                upload.client.update(it.call.clone());
            }
        }
        self.library_renamed(key);
        Ok(())
    }

    fn pause(
        &mut self,
        key: RecordingKey,
        client: ClientId,
        id: Option<&RequestId>,
        now: Now,
        actions: &mut Vec<Action>,
    ) -> Answer {
        let remaining_s = self.remaining_s();
        let Some(it) = self.recordings.get_mut(&key) else { return Err(Reason::NotFound.into()) };
        if it.paused.is_some() {
            return Err(AgentError::new(Reason::InvalidState).with_message("it is paused already").into());
        }
        it.settle(now.mono, &mut self.pool);
        match &mut it.route {
            Route::Local(local) => local.pause(&mut self.pool),
            Route::Server(upload) => upload.pause(),
            Route::SipInfo(_) => {
                let waiting = id.map(|id| (client, id.clone()));
                self.switch_sip_info(key, Purpose::Pause, waiting, now, actions)?;
                return Ok(None);
            }
        }
        it.paused = Some(now.mono);
        it.state = RecordingState::Paused;
        let status = it.status(remaining_s, self.clock);
        self.tell(&Event::RecordingPaused(status.clone()), actions);
        self.pump(key, now, actions);
        answer(&status)
    }

    fn resume(
        &mut self,
        key: RecordingKey,
        client: ClientId,
        id: Option<&RequestId>,
        now: Now,
        actions: &mut Vec<Action>,
    ) -> Answer {
        let remaining_s = self.remaining_s();
        let Some(it) = self.recordings.get_mut(&key) else { return Err(Reason::NotFound.into()) };
        let Some(since) = it.paused else {
            return Err(AgentError::new(Reason::InvalidState).with_message("it is not paused").into());
        };
        match &mut it.route {
            Route::Local(local) => local.note_pause(now.mono.since(since)),
            Route::Server(_) => {}
            Route::SipInfo(_) => {
                let waiting = id.map(|id| (client, id.clone()));
                self.switch_sip_info(key, Purpose::Resume, waiting, now, actions)?;
                return Ok(None);
            }
        }
        it.paused = None;
        it.probe.begin(now.mono);
        // It may have been paused before the disk or the server had answered, and may still wait for that.
        it.state = if it.started_told { RecordingState::Recording } else { RecordingState::Starting };
        let status = it.status(remaining_s, self.clock);
        self.tell(&Event::RecordingResumed(status.clone()), actions);
        answer(&status)
    }

    fn eject(
        &mut self,
        client: ClientId,
        id: Option<&RequestId>,
        now: Now,
        actions: &mut Vec<Action>,
    ) -> Answer {
        if !self.medium.is_present() && !self.medium.is_mounted_though_ejected() {
            return Err(self.medium.absent().into());
        }
        self.end_playbacks("ejected", actions);
        let eject = self.ejecting.get_or_insert_with(Ejecting::default);
        if eject.clients.len() >= MAX_WAITING_STARTS {
            let error =
                AgentError::new(Reason::InvalidState).with_message("many requests wait for the eject");
            return Err(error.with_advice("wait for storage.ejected, or try again in a moment").into());
        }
        eject.clients.extend(id.map(|id| (client, id.clone())));
        for key in self.on_disk() {
            if self.is_on_ejected(key) {
                self.stop(key, Order::Ejected, now, actions);
            }
        }
        self.finish_eject(now, actions);
        Ok(None)
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
            Mode::Local => !self.medium.is_forbidden(),
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

    fn status_of(&self, key: RecordingKey) -> Result<RecordingStatus, Failure> {
        let live = self.recordings.get(&key).map(|it| it.status(self.remaining_s(), self.clock));
        live.or_else(|| self.ended.front().cloned()).ok_or_else(|| Reason::NotFound.into())
    }

    /// Refuses what would begin while the agent ends, or, `on_disk`, while the disk is being ejected.
    pub(super) fn refuse_in_between(&self, on_disk: bool) -> Result<(), AgentError> {
        let (message, advice, text) = if self.shutdown.is_some() {
            ("the agent is ending", "try again when it has started anew", TextKey::Shutdown)
        } else if on_disk && self.ejecting.is_some() {
            ("the disk is being ejected", "insert it again, or another one", TextKey::StorageEjected)
        } else {
            return Ok(());
        };
        let error = AgentError::new(Reason::InvalidState).with_message(message);
        Err(error.with_advice(advice).with_text(Some(text)))
    }

    /// The recording that a request means: the one named, or the only one.
    fn live(&self, recording: Option<&str>) -> Result<RecordingKey, Failure> {
        if let Some(id) = recording {
            let live = self.recordings.iter().find(|(_, it)| it.id == id && it.is_live());
            let known = self.recordings.values().any(|it| it.id == id)
                || self.ended.iter().any(|status| status.recording == id);
            let error = if known {
                AgentError::new(Reason::NotRecording).with_message("the recording has ended")
            } else {
                AgentError::new(Reason::NotFound).with_message("no recording of this name runs")
            };
            let error = error.with_advice("recordctl status shows those that run, recordctl list the files");
            return live.map(|(key, _)| *key).ok_or_else(|| error.into());
        }
        let mut live = self.recordings.iter().filter(|(_, it)| it.is_live());
        match (live.next(), live.next()) {
            (Some((key, _)), None) => Ok(*key),
            (None, _) => Err(Reason::NotRecording.into()),
            _ => {
                let live = self.recordings.values().filter(|it| it.is_live());
                let ids: Vec<&str> = live.map(|it| it.id.as_str()).collect();
                Err(Failure::Params(format!(
                    "`recording` is missing, and there are several: {}",
                    ids.join(", ")
                )))
            }
        }
    }
}

/// Answers a line that is no good request, if an answer is due.
fn refuse(client: ClientId, refused: &Refused, actions: &mut Vec<Action>) {
    if let Some(line) = refused.line() {
        actions.extend([Action::OweReply(client), Action::Reply(client, line)]);
    }
}

pub(super) fn answer(result: &impl Serialize) -> Answer {
    serde_json::to_value(result).map(Some).map_err(|error| Failure::Params(error.to_string()))
}
