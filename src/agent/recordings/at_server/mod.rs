//! A recording that goes to the server: the session, its end, and the consequences.

pub(in crate::agent) mod by_stream;

use crate::agent::recordings::notices::check_overrun;
use crate::agent::recordings::outcome::{Outcome, Then};
use crate::agent::recordings::recording::Recording;
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::phase::Notice;
use crate::agent::recordings::recording::to_file::{Spec, ToFile};
use crate::agent::recordings::recording::to_server::ToServer;
use crate::agent::recordings::recording::to_server::replay::{IN_FLIGHT, UNSAVED};
use crate::agent::{Action, RecordingKey, Turn, UplinkAction, UplinkInput};
use crate::api::ending::{EndReason, Order, TextKey};
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
use store::jobs::Folder;
use uplink::phone::{Action as ClientAction, End, Failure, Lasting, Params, Settings};
use uplink::session_id;

/// Makes the session of a new recording; it begins when the RTP port is bound.
pub(super) fn destination(
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
        extension: None,
    };
    let mut first = Vec::new();
    let client = Lasting::start(settings, params, uplink.extensions, turn.now.mono, &mut first);
    let remember = uplink.on_failure == OnFailure::Local;
    Ok(Destination::Server(Box::new(ToServer::new(client, first, ptime_ms, remember))))
}

/// The RTP port is bound: the session begins.
pub(super) fn begin(it: &mut Recording, key: RecordingKey, turn: &mut Turn<'_>) -> Then {
    let Some(to_server) = it.destination.as_server_mut() else { return Then::Nothing };
    let first = std::mem::take(&mut to_server.first);
    act(it, key, first, turn)
}

/// Takes an event on the way to the server.
pub(super) fn take(
    it: &mut Recording,
    key: RecordingKey,
    input: UplinkInput<'_>,
    remaining_s: Option<u64>,
    turn: &mut Turn<'_>,
) -> Then {
    match input {
        UplinkInput::RelayFailed(packets) => {
            it.stream.note_unsent(u64::from(packets));
            if let Some(to_server) = it.destination.as_server_mut() {
                to_server.note_unsent(packets);
            }
            check_overrun(it, remaining_s, turn)
        }
        UplinkInput::Resolved(generation, addresses) => {
            give(it, key, turn, |client, now, out| client.resolved(generation, &addresses, now, out))
        }
        UplinkInput::Connected(generation, mac) => {
            give(it, key, turn, |client, now, out| client.connected(generation, mac.as_deref(), now, out))
        }
        UplinkInput::ConnectFailed(generation, error) => {
            give(it, key, turn, |client, now, out| client.connect_failed(generation, &error, now, out))
        }
        UplinkInput::Received(octets) => {
            give(it, key, turn, |client, now, out| client.received(octets, now, out))
        }
        UplinkInput::Closed { error, silent } => {
            if let Some(to_server) = it.destination.as_server_mut() {
                to_server.silent = silent;
            }
            give(it, key, turn, |client, now, out| client.peer_closed(error.as_deref(), now, out))
        }
        UplinkInput::RelayRefused => give(it, key, turn, Lasting::udp_refused),
        UplinkInput::MediaConnected(generation) => {
            by_stream::connected(it, key, generation, turn);
            Then::Nothing
        }
        UplinkInput::MediaReceived(octets) => by_stream::received(it, key, octets, turn),
        UplinkInput::MediaClosed(generation, error) => {
            let detail = error.unwrap_or_else(|| "the server closed the media connection".into());
            by_stream::lost(it, key, generation, &detail, turn)
        }
    }
}

/// Time has passed.
pub(in crate::agent) fn tick(it: &mut Recording, key: RecordingKey, turn: &mut Turn<'_>) -> Then {
    give(it, key, turn, |client, now, out| client.timer(now, out))
}

/// Asks the server to end it.
pub(super) fn stop(it: &mut Recording, key: RecordingKey, reason: EndReason, turn: &mut Turn<'_>) -> Then {
    by_stream::flush(it, key, turn);
    let link = it.destination.as_server_mut().and_then(|to_server| to_server.link.as_ref());
    let items = link.map_or(0, |link| link.outlet().items());
    let then = give(it, key, turn, |client, now, out| client.stop(reason.as_str(), items, now, out));
    let goes_local = turn.config.uplink.on_failure == OnFailure::Local;
    match it.destination.as_server_mut() {
        Some(to_server) if goes_local && to_server.client.is_interrupted() => {
            Then::TryPhone("the server is gone at the end of the call".into())
        }
        _ => then,
    }
}

/// Hands an input to the session and carries out the consequences.
fn give(
    it: &mut Recording,
    key: RecordingKey,
    turn: &mut Turn<'_>,
    give: impl FnOnce(&mut Lasting, Mono, &mut Vec<ClientAction>),
) -> Then {
    let Some(to_server) = it.destination.as_server_mut() else { return Then::Nothing };
    let mut out = Vec::new();
    give(&mut to_server.client, turn.now.mono, &mut out);
    act(it, key, out, turn)
}

fn act(it: &mut Recording, key: RecordingKey, out: Vec<ClientAction>, turn: &mut Turn<'_>) -> Then {
    let mut impossible = None;
    for action in out {
        let action = match action {
            ClientAction::Resolve { generation, host } => UplinkAction::Resolve(generation, host),
            ClientAction::Connect { generation, addr } => {
                if let Some(to_server) = it.destination.as_server_mut() {
                    to_server.server = Some(addr);
                }
                UplinkAction::Connect(generation, addr)
            }
            ClientAction::Send(octets) => UplinkAction::Send(octets),
            ClientAction::SetRtpTarget(target) => {
                note_target(it, target, turn);
                UplinkAction::RelayTo(target)
            }
            ClientAction::StreamTo { target, granted } => {
                impossible = by_stream::begin(it, key, target, &granted, turn);
                continue;
            }
            ClientAction::Interrupted { detail } => {
                by_stream::interrupted(it, key, detail, turn);
                continue;
            }
            ClientAction::Restored => {
                by_stream::restored(it, turn);
                continue;
            }
            ClientAction::Close => UplinkAction::Close,
            ClientAction::Started => {
                started(it, turn);
                continue;
            }
            // It is the last action of a session.
            ClientAction::Ended(end) => return ended(it, end, turn),
        };
        turn.actions.push(Action::Uplink(key, action));
    }
    match impossible {
        Some(detail) => give(it, key, turn, |client, now, out| client.media_lost(&detail, now, out)),
        None => Then::Nothing,
    }
}

fn note_target(it: &mut Recording, target: Option<SocketAddr>, turn: &mut Turn<'_>) {
    let Some(to_server) = it.destination.as_server_mut() else { return };
    to_server.target = target;
    if let Some(target) = target {
        let text = format!("recording {}: the audio goes to {target}", it.id);
        turn.actions.push(Action::Log(LogLevel::Info, text));
    }
}

/// The server records.
fn started(it: &mut Recording, turn: &mut Turn<'_>) {
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
fn ended(it: &mut Recording, end: End, turn: &mut Turn<'_>) -> Then {
    match end {
        End::Stopped { confirmed } => {
            if !confirmed {
                let text = "the server did not confirm the end of a recording".into();
                turn.actions.push(Action::Log(LogLevel::Warn, text));
            }
            by_stream::confirmed(it, confirmed, turn);
            Then::Remove(Outcome::Ended)
        }
        End::StoppedByServer { reason } => {
            if it.is_live() {
                it.end_for(Order::StoppedByServer.into());
                it.note_words(reason);
            }
            Then::Remove(Outcome::Ended)
        }
        End::Refused { text } => Then::ServerFailed(Reason::ServerRefused, text),
        End::Failed { reason, detail } => {
            let reason = match reason {
                Failure::ServerUnreachable => Reason::ServerUnreachable,
                Failure::ServerTimeout => Reason::ServerTimeout,
                Failure::UplinkLost => Reason::UplinkLost,
            };
            let Uplink { server_addr, server_port, .. } = &turn.config.uplink;
            Then::ServerFailed(reason, format!("{server_addr}:{server_port}: {detail}"))
        }
    }
}

/// The server refuses or is gone. `tried` is whether it goes on at the phone, if that was wanted: if not, it
/// ends.
pub(in crate::agent) fn failed(
    it: &Recording,
    reason: Reason,
    mut detail: String,
    tried: Option<Result<(), AgentError>>,
    turn: &mut Turn<'_>,
) -> Then {
    if !it.is_starting() || tried.is_some() {
        // A recording that goes on has a text of its own; one that does not has that of its failure.
        let text_key = matches!(tried, Some(Ok(()))).then_some(TextKey::GoesOnLocally);
        let lost =
            Event::UplinkLost { recording: it.id.clone(), reason, detail: Some(detail.clone()), text_key };
        turn.emit(&lost);
    }
    match tried {
        None => {}
        Some(Ok(())) => {
            let logged = it.call.redacted(&detail);
            let text = format!("recording {} goes on at the phone: {reason}: {logged}", it.id);
            turn.actions.push(Action::Log(LogLevel::Warn, text));
            return Then::Nothing;
        }
        Some(Err(error)) => detail = format!("{detail}; nor can it go on at the phone: {error}"),
    }
    Then::Remove(Outcome::PeerFailed(reason, detail))
}

/// A recording has left its server for the phone; if it ends already, its file does, too.
pub(in crate::agent) fn left_for_phone(
    it: &mut Recording,
    key: RecordingKey,
    detail: String,
    turn: &mut Turn<'_>,
) -> Then {
    for action in [UplinkAction::Close, UplinkAction::CloseMedia] {
        turn.actions.push(Action::Uplink(key, action));
    }
    let then = failed(it, Reason::UplinkLost, detail, Some(Ok(())), turn);
    let reason = it.end_reason().filter(|_| !it.is_live());
    let (Some(reason), Some(to_file)) = (reason, it.destination.as_file_mut()) else { return then };
    to_file.finish(reason.as_str(), &mut it.stream, turn.now, turn.pool);
    turn.actions.push(Action::CloseRtp(key));
    Then::Write
}

/// Makes a recording to a file of an upload, beginning with the packets that are remembered.
pub(in crate::agent) fn go_on_at_phone(
    it: &mut Recording,
    folder: Folder,
    turn: &mut Turn<'_>,
) -> Result<(), AgentError> {
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
    let (mut to_file, open) = ToFile::begin(spec, turn.ids.file(), &it.call, turn.now);
    let pool = &mut *turn.pool;
    it.stream.record_in_segments(Some(to_server.ptime_ms), to_file.max_segment_octets(), turn.now.mono);
    // The packets in flight, or all since the server was asked, or since it had surely saved them.
    let span = match it.phase.has_begun() {
        false => Duration::MAX,
        _ if to_server.silent => UNSAVED,
        _ => IN_FLIGHT,
    };
    let mut again = Counts::default();
    let mut saved = 0;
    if let Some(mut link) = to_server.link.take() {
        by_stream::replay(&mut it.stream, it.started, &mut link, &mut again, pool);
    }
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
    it.kept_at_server = it.phase.has_begun() && it.stream.counts().stored > 0;
    // Packets that the server did not get are in the file: the counts of files that are full already include
    // them.
    it.stream.keep_unsent(saved);
    // Packets in both places count once.
    again.lost = it.stream.end_replay();
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

#[cfg(test)]
mod tests;
