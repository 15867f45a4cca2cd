//! Clients' requests, and the part of the agent that answers each.

use crate::agent::Turn;
use crate::agent::clients::answer::{Answer, Caller, answer};
use crate::agent::library::Around;
use crate::agent::recordings::is_possible;
use crate::agent::routing::{Parts, library};
use crate::api::PROTOCOL_VERSION;
use crate::api::ending::Order;
use crate::api::reason::Reason;
use crate::api::reply::Done as Empty;
use crate::api::request::{Method, RecordStart};
use crate::api::status::{AgentInfo, Mode, Recordings, RecordingsListed, Stats};
use media::codec::Codec;

/// Carries out a request, and answers.
pub(super) fn handle(parts: &mut Parts, mut caller: Caller, method: Method, turn: &mut Turn<'_>) {
    let answer = request(parts, &mut caller, method, turn);
    caller.give(answer, turn.actions);
}

fn request(parts: &mut Parts, caller: &mut Caller, method: Method, turn: &mut Turn<'_>) -> Answer {
    let room = parts.disk.room_left();
    let now = turn.now.mono;
    match method {
        Method::AgentInfo => answer(&info(parts, turn)),
        Method::RecordStart(start) => record_start(parts, caller, start, turn),
        Method::RecordPause { recording } => {
            let key = parts.recordings.live(recording.as_deref())?;
            let Some(status) = parts.recordings.pause(key, caller, room, turn)? else { return Ok(None) };
            parts.write(key, turn);
            answer(&status)
        }
        Method::RecordResume { recording } => {
            let key = parts.recordings.live(recording.as_deref())?;
            let Some(status) = parts.recordings.resume(key, caller, room, turn)? else { return Ok(None) };
            answer(&status)
        }
        Method::RecordStop { recording } => {
            let key = parts.recordings.live(recording.as_deref())?;
            parts.stop(key, Order::Stopped, turn);
            answer(&parts.recordings.status_of(key, parts.disk.room_left(), now)?)
        }
        Method::RecordUpdate { recording, call } => {
            let key = parts.recordings.live(recording.as_deref())?;
            parts.recordings.update(key, &call, turn)?;
            library::call_changed(parts, key);
            answer(&parts.recordings.status_of(key, room, now)?)
        }
        Method::RecordStatus { recording: None } => {
            answer(&Recordings { recordings: parts.recordings.statuses(room, now) })
        }
        Method::RecordStatus { recording: Some(id) } => {
            answer(&parts.recordings.status_by_id(&id, room, now).ok_or(Reason::NotFound)?)
        }
        Method::StorageStatus => answer(&parts.disk.state.status(parts.running())),
        Method::StorageEject => parts.eject(caller, turn),
        // They are the clients' own.
        Method::EventsSubscribe { .. } | Method::EventsUnsubscribe { .. } => Err(Reason::InvalidState.into()),
        Method::StatsGet => answer(&stats(parts, turn)),
        Method::RecordingsList { limit, after, query } => {
            // Up to a thousand entries: written at once, not built as a tree first.
            let listed = if parts.disk.state.was_looked_at() {
                parts.disk.folder_to_read()?;
                parts.library.list(limit, after.as_deref(), query.as_deref())?
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
            let folder = parts.disk.folder_to_read()?;
            let is_recorded = parts.recordings.has_file(file);
            parts.library.ask_about(caller, method, folder, is_recorded, turn)
        }
        Method::PlayStart { .. }
        | Method::PlayPause { .. }
        | Method::PlayResume { .. }
        | Method::PlaySeek { .. }
        | Method::PlayStop { .. }
        | Method::PlayStatus { .. } => {
            let (folder, may_begin) = (parts.disk.folder_to_read(), parts.refuse_in_between(true));
            let Parts { library, recordings, .. } = parts;
            let around = Around { may_begin, is_running: &|id| recordings.is_running(id) };
            library.play(caller, method, folder, around, turn)
        }
        Method::SipInfoResult { recording, code } => {
            if let Some((key, then)) = parts.recordings.take_pbx_answer(&recording, code, turn)? {
                parts.follow(key, then, turn);
            }
            answer(&Empty {})
        }
    }
}

fn record_start(parts: &mut Parts, caller: &mut Caller, start: RecordStart, turn: &mut Turn<'_>) -> Answer {
    if start.mode == Mode::Local {
        parts.turn_if_better(turn);
        if parts.disk.state.folder_to_record(parts.running()).is_err() {
            // Perhaps the disk has come since we looked last: look again before refusing.
            parts.recordings.waiting_starts.push(caller, start, turn.now.mono)?;
            if !parts.delete_for_start(turn) && !parts.disk.is_looking() {
                parts.disk.scan(turn);
            }
            return Ok(None);
        }
    }
    parts.start(caller.defer(), start, turn);
    Ok(None)
}

fn info(parts: &Parts, turn: &Turn<'_>) -> AgentInfo {
    AgentInfo {
        version: env!("CARGO_PKG_VERSION").into(),
        protocol: PROTOCOL_VERSION,
        modes: modes(parts, turn),
        codecs: Codec::ALL.map(|codec| codec.name().into()).into(),
        uptime: turn.now.mono.since(parts.started).as_secs(),
        sandbox: parts.sandbox.clone(),
        storage: parts.disk.state.status(parts.running()),
        recordings: parts.recordings.statuses(parts.disk.room_left(), turn.now.mono),
        playbacks: parts.library.playbacks(),
    }
}

/// The modes in which a recording can be started now.
fn modes(parts: &Parts, turn: &Turn<'_>) -> Vec<Mode> {
    // Without a disk one may be plugged in at any moment.
    let may_use_disk = !parts.disk.state.is_forbidden();
    Mode::ALL.into_iter().filter(|mode| is_possible(*mode, may_use_disk, turn)).collect()
}

fn stats(parts: &Parts, turn: &Turn<'_>) -> Stats {
    let mut stats = Stats::default();
    turn.clients.count_in(&mut stats);
    parts.recordings.count_in(&mut stats);
    stats.buffer_bytes = turn.pool.used_octets();
    stats.buffer_high_water_bytes = turn.pool.high_water_octets();
    stats
}
