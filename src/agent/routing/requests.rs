//! What clients ask for, and which part of the agent answers it.

use crate::agent::clients::answer::Caller;
use crate::agent::clients::answer::{Answer, answer};
use crate::agent::library::Around;
use crate::agent::recordings::recording::Recording;
use crate::agent::{Parts, Turn};
use crate::api::PROTOCOL_VERSION;
use crate::api::ending::Order;
use crate::api::reason::Reason;
use crate::api::reply::Done as Empty;
use crate::api::request::Method;
use crate::api::status::{AgentInfo, Mode, Recordings, RecordingsListed, Stats};
use media::codec::Codec;
use media::counts::DropCause;

impl Parts {
    pub(in crate::agent) fn handle(&mut self, mut caller: Caller, method: Method, turn: &mut Turn<'_>) {
        let answer = self.request(&mut caller, method, turn);
        caller.give(answer, turn.actions);
    }

    fn request(&mut self, caller: &mut Caller, method: Method, turn: &mut Turn<'_>) -> Answer {
        match method {
            Method::AgentInfo => answer(&self.info(turn)),
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
                answer(&self.status_of(key, turn.now.mono)?)
            }
            Method::RecordUpdate { recording, call } => {
                let key = self.live(recording.as_deref())?;
                self.update(key, &call, turn)?;
                answer(&self.status_of(key, turn.now.mono)?)
            }
            Method::RecordStatus { recording: None } => {
                let remaining_s = self.remaining_s();
                let recordings =
                    self.recordings.values().map(|it| it.status(remaining_s, turn.now.mono)).collect();
                answer(&Recordings { recordings })
            }
            Method::RecordStatus { recording: Some(id) } => {
                let live = self.recordings.values().find(|it| it.id == id);
                let live = live.map(|it| it.status(self.remaining_s(), turn.now.mono));
                let ended = || self.ended.iter().find(|status| status.recording == id).cloned();
                answer(&live.or_else(ended).ok_or(Reason::NotFound)?)
            }
            Method::StorageStatus => answer(&self.disk.state.status(self.count_on_disk())),
            Method::StorageEject => self.eject(caller, turn),
            // They are the clients' own.
            Method::EventsSubscribe { .. } | Method::EventsUnsubscribe { .. } => {
                Err(Reason::InvalidState.into())
            }
            Method::StatsGet => answer(&self.stats(turn)),
            Method::RecordingsList { limit, after, query } => {
                // Up to a thousand entries: written at once, not built as a tree first.
                let listed = if self.disk.state.was_looked_at() {
                    self.disk.folder_to_read()?;
                    self.library.list(limit, after.as_deref(), query.as_deref())?
                } else {
                    RecordingsListed { indexing: true, ..RecordingsListed::default() }
                };
                if let Some(reply) = caller.defer() {
                    reply.ok(&listed, turn.actions);
                }
                Ok(None)
            }
            Method::RecordingsInfo { ref file }
            | Method::RecordingsDelete { ref file }
            | Method::RecordingsProtect { ref file, .. } => {
                let folder = self.disk.folder_to_read()?;
                let is_recorded = self.is_recorded(file);
                self.library.ask_about(caller, method, folder, is_recorded, turn)
            }
            Method::PlayStart { .. }
            | Method::PlayPause { .. }
            | Method::PlayResume { .. }
            | Method::PlaySeek { .. }
            | Method::PlayStop { .. }
            | Method::PlayStatus { .. } => {
                let (folder, may_begin) = (self.disk.folder_to_read(), self.refuse_in_between(true));
                let recordings = &self.recordings;
                let is_running = &|id: &str| recordings.values().any(|it| it.id == id);
                self.library.play(caller, method, folder, Around { may_begin, is_running }, turn)
            }
            Method::SipInfoResult { recording, code } => {
                self.sip_info_result(&recording, code, turn)?;
                answer(&Empty {})
            }
        }
    }

    fn info(&self, turn: &Turn<'_>) -> AgentInfo {
        let remaining_s = self.remaining_s();
        AgentInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL_VERSION,
            modes: self.modes(turn),
            codecs: Codec::ALL.map(|codec| codec.name().into()).into(),
            uptime: turn.now.mono.since(self.started).as_secs(),
            sandbox: self.sandbox.clone(),
            storage: self.disk.state.status(self.count_on_disk()),
            recordings: self.recordings.values().map(|it| it.status(remaining_s, turn.now.mono)).collect(),
            playbacks: self.library.playbacks(),
        }
    }

    /// What can be started as things are.
    fn modes(&self, turn: &Turn<'_>) -> Vec<Mode> {
        let possible = |mode: &Mode| match mode {
            // Without a disk one may be plugged in at any moment.
            Mode::Local => !self.disk.state.is_forbidden(),
            Mode::Server => turn.config.uplink.is_configured(),
            Mode::SipInfo => turn.wants("sip.info"),
        };
        Mode::ALL.into_iter().filter(possible).collect()
    }

    fn stats(&self, turn: &Turn<'_>) -> Stats {
        let mut counts = self.past;
        self.recordings.values().for_each(|it| counts.add(it.stream.counts()));
        let mut stats = self.stats;
        turn.clients.count_in(&mut stats);
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
        stats.buffer_bytes = turn.pool.used_octets();
        stats.buffer_high_water_bytes = turn.pool.high_water_octets();
        stats
    }
}
