//! What the agent does about recordings that go to the server: the session, its end, and what follows.

use crate::agent::Action;
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::phase::Notice;
use crate::agent::recordings::recording::to_file::{Spec, ToFile};
use crate::agent::recordings::recording::to_server::ToServer;
use crate::agent::recordings::recording::to_server::replay::{IN_FLIGHT, UNSAVED};
use crate::agent::recordings::stop::outcome::Outcome;
use crate::agent::{Parts, RecordingKey, Turn, UplinkAction, UplinkInput};
use crate::api::ending::{Order, TextKey};
use crate::api::error::AgentError;
use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::api::status::{Mode, RtpAddress};
use crate::config::{Device, OnFailure, Uplink};
use log::Level as LogLevel;
use media::codec::Codec;
use media::counts::{Counts, Verdict};
use media::time::Mono;
use recfile::call::Call;
use recfile::header::MAX_FILE_OCTETS;
use std::net::SocketAddr;
use std::time::Duration;
use uplink::phone::{Action as ClientAction, Client, End, Failure, Params, Settings};
use uplink::session_id;

impl Parts {
    /// Makes the session of a new recording; it begins when the RTP port is bound.
    pub(in crate::agent) fn server_destination(
        &mut self,
        codec: Codec,
        ptime_ms: u32,
        call: &Call,
        turn: &mut Turn<'_>,
    ) -> Result<Destination, AgentError> {
        if !turn.config.uplink.is_configured() {
            return Err(AgentError::new(Reason::NotConfigured)
                .with_message("no recording server is configured")
                .with_advice("set [uplink] server_addr and server_port in the agent's config"));
        }
        let random = [turn.ids.random(), turn.ids.random()];
        let uplink = &turn.config.uplink;
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
        let client = Client::start(settings, params, turn.now.mono, &mut first);
        let remember = uplink.on_failure == OnFailure::Local;
        Ok(Destination::Server(Box::new(ToServer::new(client, first, ptime_ms, remember))))
    }

    /// The RTP port is bound: the session begins.
    pub(in crate::agent) fn begin_session(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let Some(to_server) = it.destination.as_server_mut() else { return };
        let first = std::mem::take(&mut to_server.first);
        self.uplink_actions(key, first, turn);
    }

    pub(in crate::agent) fn uplink_input(
        &mut self,
        key: RecordingKey,
        input: UplinkInput<'_>,
        turn: &mut Turn<'_>,
    ) {
        match input {
            UplinkInput::RelayFailed(packets) => {
                if let Some(it) = self.recordings.get_mut(&key) {
                    it.stream.note_unsent(u64::from(packets));
                    if let Some(to_server) = it.destination.as_server_mut() {
                        to_server.note_unsent(packets);
                    }
                }
                self.check_overrun(key, turn);
            }
            UplinkInput::Resolved(generation, addresses) => {
                self.uplink(key, turn, |client, now, out| {
                    client.resolved(generation, &addresses, now, out);
                });
            }
            UplinkInput::Connected(generation, mac) => self.uplink(key, turn, |client, now, out| {
                client.connected(generation, mac.as_deref(), now, out);
            }),
            UplinkInput::ConnectFailed(generation, error) => {
                self.uplink(key, turn, |client, now, out| {
                    client.connect_failed(generation, &error, now, out);
                });
            }
            UplinkInput::Received(octets) => {
                self.uplink(key, turn, |client, now, out| client.received(octets, now, out));
            }
            UplinkInput::Closed { error, silent } => {
                let to_server = self.recordings.get_mut(&key).and_then(|it| it.destination.as_server_mut());
                if let Some(to_server) = to_server {
                    to_server.silent = silent;
                }
                self.uplink(key, turn, |client, now, out| {
                    client.peer_closed(error.as_deref(), now, out);
                });
            }
            UplinkInput::RelayRefused => self.uplink(key, turn, Client::udp_refused),
        }
    }

    /// Hands something to the session and does what follows.
    pub(in crate::agent) fn uplink(
        &mut self,
        key: RecordingKey,
        turn: &mut Turn<'_>,
        give: impl FnOnce(&mut Client, Mono, &mut Vec<ClientAction>),
    ) {
        let to_server = self.recordings.get_mut(&key).and_then(|it| it.destination.as_server_mut());
        let Some(to_server) = to_server else { return };
        let mut out = Vec::new();
        give(&mut to_server.client, turn.now.mono, &mut out);
        self.uplink_actions(key, out, turn);
    }

    fn uplink_actions(&mut self, key: RecordingKey, out: Vec<ClientAction>, turn: &mut Turn<'_>) {
        for action in out {
            let action = match action {
                ClientAction::Resolve { generation, host } => UplinkAction::Resolve(generation, host),
                ClientAction::Connect { generation, addr } => {
                    let to_server =
                        self.recordings.get_mut(&key).and_then(|it| it.destination.as_server_mut());
                    if let Some(to_server) = to_server {
                        to_server.server = Some(addr);
                    }
                    UplinkAction::Connect(generation, addr)
                }
                ClientAction::Send(octets) => UplinkAction::Send(octets),
                ClientAction::SetRtpTarget(target) => {
                    self.note_target(key, target, turn);
                    UplinkAction::RelayTo(target)
                }
                ClientAction::Close => UplinkAction::Close,
                ClientAction::Started => {
                    self.server_started(key, turn);
                    continue;
                }
                ClientAction::Ended(end) => {
                    self.session_ended(key, end, turn);
                    continue;
                }
            };
            turn.actions.push(Action::Uplink(key, action));
        }
    }

    fn note_target(&mut self, key: RecordingKey, target: Option<SocketAddr>, turn: &mut Turn<'_>) {
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let Some(to_server) = it.destination.as_server_mut() else { return };
        to_server.target = target;
        if let Some(target) = target {
            let text = format!("recording {}: the audio goes to {target}", it.id);
            turn.actions.push(Action::Log(LogLevel::Info, text));
        }
    }

    /// The server records.
    fn server_started(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let to_server = it.destination.as_server_mut();
        let id = to_server.as_ref().map(|to_server| to_server.client.id().to_string()).unwrap_or_default();
        let (server, target) =
            to_server.map(|to_server| (to_server.server, to_server.target)).unwrap_or_default();
        it.phase.begin();
        it.stream.begin(turn.now.mono);
        if let Some(reply) = it.waiting.take() {
            reply.ok(&it.start_answer(), turn.actions);
        }
        let server = server.map(|server| server.to_string()).unwrap_or_default();
        let text = format!("recording {} goes to the server {server} as {id}", it.id);
        turn.actions.push(Action::Log(LogLevel::Info, text));
        let rtp = target.map(|target| RtpAddress { addr: target.ip(), port: target.port() });
        let connected = Event::UplinkConnected { recording: it.id.clone(), server, rtp };
        let started = Event::RecordingStarted(it.status(None, turn.now.mono));
        turn.emit(&connected);
        turn.emit(&started);
    }

    /// The session is over.
    fn session_ended(&mut self, key: RecordingKey, end: End, turn: &mut Turn<'_>) {
        match end {
            End::Stopped { confirmed } => {
                if !confirmed {
                    let text = "the server did not confirm the end of a recording".into();
                    turn.actions.push(Action::Log(LogLevel::Warn, text));
                }
                self.remove(key, Outcome::Ended, turn);
            }
            End::StoppedByServer { reason } => {
                if let Some(it) = self.recordings.get_mut(&key).filter(|it| it.is_live()) {
                    it.end_for(Order::StoppedByServer.into());
                    it.note_words(reason);
                }
                self.remove(key, Outcome::Ended, turn);
            }
            End::Refused { text } => self.server_failed(key, Reason::ServerRefused, text, turn),
            End::Failed { reason, detail } => {
                let reason = match reason {
                    Failure::ServerUnreachable => Reason::ServerUnreachable,
                    Failure::ServerTimeout => Reason::ServerTimeout,
                    Failure::UplinkLost => Reason::UplinkLost,
                };
                let Uplink { server_addr, server_port, .. } = &turn.config.uplink;
                let detail = format!("{server_addr}:{server_port}: {detail}");
                self.server_failed(key, reason, detail, turn);
            }
        }
    }

    /// The server refuses or is gone: goes on at the phone if that is wanted and possible, or ends.
    fn server_failed(&mut self, key: RecordingKey, reason: Reason, mut detail: String, turn: &mut Turn<'_>) {
        let Some(it) = self.recordings.get(&key) else { return };
        let (id, starting) = (it.id.clone(), it.is_starting());
        let logged = it.call.redacted(&detail);
        let goes_local = turn.config.uplink.on_failure == OnFailure::Local;
        let tried = goes_local.then(|| self.go_on_at_phone(key, turn));
        if !starting || goes_local {
            // What goes on is a prompt of its own; what does not is told by its failure.
            let text_key = matches!(tried, Some(Ok(()))).then_some(TextKey::GoesOnLocally);
            let lost =
                Event::UplinkLost { recording: id.clone(), reason, detail: Some(detail.clone()), text_key };
            turn.emit(&lost);
        }
        match tried {
            None => {}
            Some(Ok(())) => {
                let text = format!("recording {id} goes on at the phone: {reason}: {logged}");
                return turn.actions.push(Action::Log(LogLevel::Warn, text));
            }
            Some(Err(error)) => detail = format!("{detail}; nor can it go on at the phone: {error}"),
        }
        self.remove(key, Outcome::PeerFailed(reason, detail), turn);
    }

    /// Makes a recording to a file of an upload, beginning with the packets that are remembered.
    fn go_on_at_phone(&mut self, key: RecordingKey, turn: &mut Turn<'_>) -> Result<(), AgentError> {
        self.refuse_in_between(true)?;
        self.turn_if_better(turn);
        let folder = self.disk.state.folder_to_record(self.count_on_disk())?;
        let file = turn.ids.file();
        let it = self.recordings.get_mut(&key).ok_or(Reason::NotFound)?;
        let Destination::Server(to_server) = &mut it.destination else {
            return Err(Reason::InvalidState.into());
        };
        let spec = Spec {
            recording: it.id.clone(),
            codec: it.stream.codec(),
            ptime_ms: to_server.ptime_ms,
            folder,
            max_file_octets: turn.config.storage.max_file_octets.unwrap_or(MAX_FILE_OCTETS),
            recipients: turn.config.storage.encrypt_to.len(),
        };
        let (mut to_file, open) = ToFile::begin(spec, file, &it.call, turn.now);
        let pool = &mut *turn.pool;
        it.stream.record_in_segments(Some(to_server.ptime_ms), to_file.max_segment_octets(), turn.now.mono);
        // What was in flight, or all that came since the server was asked, or had surely saved it.
        let span = match it.phase.has_begun() {
            false => Duration::MAX,
            _ if to_server.silent => UNSAVED,
            _ => IN_FLIGHT,
        };
        let mut again = Counts::default();
        let mut saved = 0;
        if let Some(backlog) = to_server.take_backlog() {
            backlog.replay(turn.now.mono.minus(span), |kept| {
                if kept.after_pause {
                    it.stream.pause(pool);
                }
                let verdict = it.stream.replay(kept.octets, kept.arrival, pool, &mut again);
                saved += u64::from(kept.unsent && verdict == Some(Verdict::Stored));
            });
        }
        if it.paused.is_some() {
            it.stream.pause(pool);
        }
        // What is in both places counts once.
        again.lost = it.stream.end_replay();
        it.kept_at_server = it.phase.has_begun() && it.stream.counts().stored > 0;
        // What the server did not get is in the file.
        it.stream.keep_unsent(saved);
        to_file.count_from(it.stream.counts().since(&again));
        it.destination = Destination::File(Box::new(to_file));
        it.mode = Mode::Local;
        if !it.is_degraded() {
            it.notices.renew(Notice::Loss);
        }
        // The time in which a start has to be answered begins anew.
        it.started = turn.now.mono;
        turn.actions.push(Action::Job(open));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
