//! What the agent does about recordings that go to the server: the session, its end, and what follows.

use super::Agent;
use super::backlog::{IN_FLIGHT, UNSAVED};
use super::io::{Action, RecordingKey, UplinkAction, UplinkInput};
use super::local::{Local, Spec};
use super::recording::Recording;
use super::route::Route;
use super::upload::{Upload, goes_on};
use crate::api::ending::{Order, TextKey};
use crate::api::event::Event;
use crate::api::reason::{AgentError, Reason};
use crate::api::reply;
use crate::api::status::{Mode, RecordingState, RtpAddress};
use crate::config::{Device, OnFailure, Uplink};
use log::Level as LogLevel;
use media::codec::Codec;
use media::counts::{Counts, DropCause, Verdict};
use media::packet::Packet;
use media::time::{Mono, Now};
use recfile::call::Call;
use recfile::header::MAX_FILE_OCTETS;
use std::net::SocketAddr;
use std::time::Duration;
use uplink::phone::{Action as ClientAction, Client, End, Failure, Params, Settings};
use uplink::session_id;

impl Agent {
    /// Takes a datagram; one that goes on to the server adds [`Action::Relay`] as the last action.
    pub(super) fn datagram(
        &mut self,
        key: RecordingKey,
        octets: &[u8],
        truncated: bool,
        source: SocketAddr,
        arrival: Mono,
        actions: &mut Vec<Action>,
    ) {
        let Some(it) = self.recordings.get_mut(&key) else { return };
        self.stats.bytes += octets.len() as u64;
        if !it.takes_audio() {
            self.paused_packets += 1;
            // What comes before the server's answer is only wanted if it has to be recorded here.
            if it.state == RecordingState::Starting && it.paused.is_none() && !truncated {
                if let Some(upload) = it.route.upload_mut() {
                    upload.keep(octets, arrival);
                }
            }
            return;
        }
        let verdict = it.datagram(octets, truncated, source, arrival, &mut self.pool);
        let Some(verdict) = verdict else { return };
        let released = it.take_released();
        let Some(upload) = it.route.upload_mut() else { return };
        if let Some(waiting) = released {
            waiting.iter().for_each(|(octets, at)| upload.keep(octets, at));
            actions.push(Action::RelayHeld(key, waiting));
        }
        if goes_on(verdict) {
            upload.keep(octets, arrival);
            actions.push(Action::Relay(key));
        }
    }

    /// Makes the session of a new recording; it begins when the RTP port is bound.
    pub(super) fn upload_route(
        &mut self,
        codec: Codec,
        ptime_ms: u32,
        call: &Call,
        now: Now,
    ) -> Result<Route, AgentError> {
        if !self.config.uplink.is_configured() {
            return Err(AgentError::new(Reason::NotConfigured)
                .with_message("no recording server is configured")
                .with_advice("set [uplink] server_addr and server_port in the agent's config"));
        }
        let random = [self.next_random(), self.next_random()];
        let uplink = &self.config.uplink;
        let settings = Settings {
            connect_timeout: uplink.connect_timeout,
            response_timeout: uplink.response_timeout,
            terminator: uplink.terminator.octets(),
        };
        let params = Params {
            host: uplink.server_addr.clone(),
            port: uplink.server_port,
            id: session_id(random),
            device: match &uplink.device {
                Device::Auto => None,
                Device::Fixed(name) => Some(name.clone()),
            },
            codec: codec.name().to_owned(),
            call: call.clone(),
            media_hosts: uplink.media_hosts.clone(),
        };
        let mut first = Vec::new();
        let client = Client::start(settings, params, now.mono, &mut first);
        let remember = uplink.on_failure == OnFailure::Local;
        Ok(Route::Server(Box::new(Upload::new(client, first, codec, ptime_ms, remember))))
    }

    /// The RTP port is bound: the session begins.
    pub(super) fn begin_upload(&mut self, key: RecordingKey, now: Now, actions: &mut Vec<Action>) {
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let Some(upload) = it.route.upload_mut() else { return };
        let first = std::mem::take(&mut upload.first);
        self.uplink_actions(key, first, now, actions);
    }

    #[inline(never)]
    pub(super) fn uplink_input(
        &mut self,
        key: RecordingKey,
        input: UplinkInput<'_>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        match input {
            UplinkInput::RelayFailed(packets) => {
                if let Some(it) = self.recordings.get_mut(&key) {
                    it.counts.rebook(u64::from(packets), DropCause::Uplink);
                    if let Some(upload) = it.route.upload_mut() {
                        upload.note_unsent(packets);
                    }
                }
                self.check_overrun(key, now, actions);
            }
            UplinkInput::Resolved(generation, addresses) => {
                self.uplink(key, now, actions, |client, now, out| {
                    client.resolved(generation, &addresses, now, out);
                });
            }
            UplinkInput::Connected(generation, mac) => self.uplink(key, now, actions, |client, now, out| {
                client.connected(generation, mac.as_deref(), now, out);
            }),
            UplinkInput::ConnectFailed(generation, error) => {
                self.uplink(key, now, actions, |client, now, out| {
                    client.connect_failed(generation, &error, now, out);
                });
            }
            UplinkInput::Received(octets) => {
                self.uplink(key, now, actions, |client, now, out| client.received(octets, now, out));
            }
            UplinkInput::Closed { error, silent } => {
                let upload = self.recordings.get_mut(&key).and_then(|it| it.route.upload_mut());
                if let Some(upload) = upload {
                    upload.silent = silent;
                }
                self.uplink(key, now, actions, |client, now, out| {
                    client.peer_closed(error.as_deref(), now, out);
                });
            }
            UplinkInput::RelayRefused => self.uplink(key, now, actions, Client::udp_refused),
        }
    }

    /// Hands something to the session and does what follows.
    pub(super) fn uplink(
        &mut self,
        key: RecordingKey,
        now: Now,
        actions: &mut Vec<Action>,
        give: impl FnOnce(&mut Client, Mono, &mut Vec<ClientAction>),
    ) {
        let upload = self.recordings.get_mut(&key).and_then(|it| it.route.upload_mut());
        let Some(upload) = upload else { return };
        let mut out = Vec::new();
        give(&mut upload.client, now.mono, &mut out);
        self.uplink_actions(key, out, now, actions);
    }

    fn uplink_actions(
        &mut self,
        key: RecordingKey,
        out: Vec<ClientAction>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        for action in out {
            let action = match action {
                ClientAction::Resolve { generation, host } => UplinkAction::Resolve(generation, host),
                ClientAction::Connect { generation, addr } => {
                    let upload = self.recordings.get_mut(&key).and_then(|it| it.route.upload_mut());
                    if let Some(upload) = upload {
                        upload.server = Some(addr);
                    }
                    UplinkAction::Connect(generation, addr)
                }
                ClientAction::Send(octets) => UplinkAction::Send(octets),
                ClientAction::SetRtpTarget(target) => {
                    self.note_target(key, target, actions);
                    UplinkAction::RelayTo(target)
                }
                ClientAction::Close => UplinkAction::Close,
                ClientAction::Started => {
                    self.upload_started(key, now, actions);
                    continue;
                }
                ClientAction::Ended(end) => {
                    self.upload_ended(key, end, now, actions);
                    continue;
                }
            };
            actions.push(Action::Uplink(key, action));
        }
    }

    fn note_target(&mut self, key: RecordingKey, target: Option<SocketAddr>, actions: &mut Vec<Action>) {
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let Some(upload) = it.route.upload_mut() else { return };
        upload.target = target;
        if let Some(target) = target {
            let text = format!("recording {}: the audio goes to {target}", it.id);
            actions.push(Action::Log(LogLevel::Info, text));
        }
    }

    /// The server records.
    fn upload_started(&mut self, key: RecordingKey, now: Now, actions: &mut Vec<Action>) {
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let upload = it.route.upload_mut();
        let id = upload.as_ref().map(|upload| upload.client.id().to_string()).unwrap_or_default();
        let (server, target) = upload.map(|upload| (upload.server, upload.target)).unwrap_or_default();
        if it.state == RecordingState::Starting {
            it.state = RecordingState::Recording;
        }
        it.probe.begin(now.mono);
        it.started_told = true;
        if let Some((client, id)) = it.waiting.take() {
            actions.push(Action::Reply(client, reply::result(&id, &it.start_answer())));
        }
        let server = server.map(|server| server.to_string()).unwrap_or_default();
        let text = format!("recording {} goes to the server {server} as {id}", it.id);
        actions.push(Action::Log(LogLevel::Info, text));
        let rtp = target.map(|target| RtpAddress { addr: target.ip(), port: target.port() });
        let connected = Event::UplinkConnected { recording: it.id.clone(), server, rtp };
        let started = Event::RecordingStarted(it.status(None, self.clock));
        self.tell(&connected, actions);
        self.tell(&started, actions);
    }

    /// The session is over.
    fn upload_ended(&mut self, key: RecordingKey, end: End, now: Now, actions: &mut Vec<Action>) {
        match end {
            End::Stopped { confirmed } => {
                if !confirmed {
                    let text = "the server did not confirm the end of a recording".into();
                    actions.push(Action::Log(LogLevel::Warn, text));
                }
                self.finish(key, actions);
            }
            End::StoppedByServer { reason } => {
                if let Some(it) = self.recordings.get_mut(&key).filter(|it| it.is_live()) {
                    it.end_for(Order::StoppedByServer.into());
                    it.note_words(reason);
                }
                self.finish(key, actions);
            }
            End::Refused { text } => self.upload_broke(key, Reason::ServerRefused, text, now, actions),
            End::Failed { reason, detail } => {
                let reason = match reason {
                    Failure::ServerUnreachable => Reason::ServerUnreachable,
                    Failure::ServerTimeout => Reason::ServerTimeout,
                    Failure::UplinkLost => Reason::UplinkLost,
                };
                let Uplink { server_addr, server_port, .. } = &self.config.uplink;
                let detail = format!("{server_addr}:{server_port}: {detail}");
                self.upload_broke(key, reason, detail, now, actions);
            }
        }
    }

    /// The server refuses or is gone: goes on at the phone if that is wanted and possible, or ends.
    fn upload_broke(
        &mut self,
        key: RecordingKey,
        reason: Reason,
        mut detail: String,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(it) = self.recordings.get(&key) else { return };
        let (id, starting) = (it.id.clone(), is_starting(it));
        let logged = it.call.redacted(&detail);
        let goes_local = self.config.uplink.on_failure == OnFailure::Local;
        let tried = goes_local.then(|| self.go_local(key, now, actions));
        if !starting || goes_local {
            // What goes on is a prompt of its own; what does not is told by its failure.
            let text_key = matches!(tried, Some(Ok(()))).then_some(TextKey::GoesOnLocally);
            let lost =
                Event::UplinkLost { recording: id.clone(), reason, detail: Some(detail.clone()), text_key };
            self.tell(&lost, actions);
        }
        match tried {
            None => {}
            Some(Ok(())) => {
                let text = format!("recording {id} goes on at the phone: {reason}: {logged}");
                return actions.push(Action::Log(LogLevel::Warn, text));
            }
            Some(Err(error)) => detail = format!("{detail}; nor can it go on at the phone: {error}"),
        }
        self.lose(key, reason, detail, actions);
    }

    /// Makes a recording to a file of an upload, beginning with the packets that are remembered.
    fn go_local(&mut self, key: RecordingKey, now: Now, actions: &mut Vec<Action>) -> Result<(), AgentError> {
        self.refuse_in_between(true)?;
        self.turn_if_better(now, actions);
        let folder = self.medium.folder_to_record(self.count_on_disk())?;
        let file = self.new_file();
        let it = self.recordings.get_mut(&key).ok_or(Reason::NotFound)?;
        let Route::Server(upload) = &mut it.route else { return Err(Reason::InvalidState.into()) };
        let spec = Spec {
            recording: it.id.clone(),
            codec: it.codec,
            ptime_ms: upload.ptime_ms,
            folder,
            max_file_octets: self.config.storage.max_file_octets.unwrap_or(MAX_FILE_OCTETS),
            recipients: self.config.storage.encrypt_to.len(),
        };
        let (mut local, open) = Local::begin(spec, file, &it.call, now);
        // What was in flight, or all that came since the server was asked, or had surely saved it.
        let span = match it.started_told {
            false => Duration::MAX,
            _ if upload.silent => UNSAVED,
            _ => IN_FLIGHT,
        };
        let mut again = Counts::default();
        let mut saved = 0;
        if let Some(backlog) = upload.take_backlog() {
            backlog.replay(now.mono.minus(span), |kept| {
                if kept.after_pause {
                    local.pause(&mut self.pool);
                }
                if let Ok(packet) = Packet::parse(kept.octets) {
                    let verdict = local.push(&packet, kept.arrival, &mut self.pool);
                    saved += u64::from(kept.unsent && verdict == Verdict::Stored);
                    again.book(verdict);
                    local.restore_regained(&mut again);
                }
            });
        }
        if it.paused.is_some() {
            local.pause(&mut self.pool);
        }
        again.lost = local.lost();
        it.kept_at_server = it.started_told && it.counts.stored > 0;
        // What the server did not get is in the file.
        it.counts.restore(saved, DropCause::Uplink);
        // What is in both places counts once.
        it.octets_before = upload.octets().saturating_sub(local.octets());
        it.lost_before = upload.lost().saturating_sub(local.lost());
        local.count_from(it.counts.since(&again));
        it.route = Route::Local(Box::new(local));
        it.mode = Mode::Local;
        it.loss_told &= it.is_degraded();
        // The time in which a start has to be answered begins anew.
        it.started = now.mono;
        actions.push(Action::Job(open));
        Ok(())
    }

    /// A recording without a file has ended well.
    pub(super) fn finish(&mut self, key: RecordingKey, actions: &mut Vec<Action>) {
        let remaining_s = self.remaining_s();
        let Some(mut it) = self.recordings.remove(&key) else { return };
        it.state = RecordingState::Ended;
        actions.push(Action::CloseRtp(key));
        self.past.add(&it.final_counts());
        let status = it.status(remaining_s, self.clock);
        let text = format!("recording {} ended: {} ms", it.id, status.elapsed_ms);
        actions.push(Action::Log(LogLevel::Info, text));
        if let Some((client, id)) = it.waiting.take() {
            let error =
                AgentError::new(Reason::InvalidState).with_message("it was stopped before it had begun");
            actions.push(Action::Reply(client, reply::agent_error(&id, &error)));
        }
        self.remember(status.clone());
        self.tell(&Event::RecordingEnded(status), actions);
    }

    /// A recording without a file has failed; one that never began is only refused.
    pub(super) fn lose(
        &mut self,
        key: RecordingKey,
        reason: Reason,
        detail: String,
        actions: &mut Vec<Action>,
    ) {
        let Some(mut it) = self.recordings.remove(&key) else { return };
        actions.push(Action::CloseRtp(key));
        self.past.add(&it.final_counts());
        let starting = is_starting(&it);
        let logged = it.call.redacted(&detail);
        it.state = RecordingState::Ended;
        it.fail_for(reason, None, detail.clone());
        if let Some((client, id)) = it.waiting.take() {
            let error = AgentError::new(reason).with_detail(detail);
            actions.push(Action::Reply(client, reply::agent_error(&id, &error)));
        }
        if starting {
            return actions.push(Action::Log(LogLevel::Warn, format!("no recording: {reason}: {logged}")));
        }
        self.stats.recordings_failed += 1;
        let text = format!("recording {} failed: {reason}: {logged}", it.id);
        actions.push(Action::Log(LogLevel::Error, text));
        let status = it.status(self.remaining_s(), self.clock);
        self.remember(status.clone());
        self.tell(&Event::RecordingFailed(status), actions);
    }
}

/// Whether the server has not agreed yet, paused or not.
fn is_starting(it: &Recording) -> bool {
    !it.started_told && it.is_live()
}
