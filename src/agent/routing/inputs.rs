//! The inputs that are not about clients, and which part each goes to.

use crate::agent::clients::Rest;
use crate::agent::recordings::at_server::by_stream::drained;
use crate::agent::recordings::notices::{check_media, let_go, tick as tell_due};
use crate::agent::recordings::on_disk::going_on::check_lost;
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::{at_pbx, at_server};
use crate::agent::routing::{Life, Parts, library, requests, storage};
use crate::agent::{Action, Input, Turn};
use store::jobs::{Done, Job};

/// Takes the rest of an input; `before` is the number of actions before it.
pub(in crate::agent) fn handle(parts: &mut Parts, rest: Rest<'_>, before: usize, turn: &mut Turn<'_>) {
    parts.recordings.show_clock(turn.now);
    let (mut drained, mut answered) = (false, false);
    match rest {
        Rest::Nothing => {}
        Rest::Request(caller, method) => requests::handle(parts, caller, method, turn),
        Rest::Input(input) => {
            drained = matches!(input, Input::Drained(_));
            answered = matches!(input, Input::Storage(_));
            take(parts, input, turn);
        }
    }
    if !drained {
        parts.disk.emit_state(parts.recordings.count_on_disk(), turn);
    }
    if answered && parts.index_deadline().is_some() {
        library::pump(parts, turn);
    }
    if !parts.deferred.is_empty() {
        keep_order(parts, before, turn);
    }
    exit_if_done(parts, turn);
}

fn take(parts: &mut Parts, input: Input<'_>, turn: &mut Turn<'_>) {
    match input {
        Input::Drained(key) => {
            let remaining_s = parts.remaining_s();
            if let Some(it) = parts.recordings.get_mut(key) {
                check_media(it, key, remaining_s, turn);
                if matches!(it.destination, Destination::Server(_)) {
                    let then = drained(it, key, turn);
                    parts.follow(key, then, turn);
                }
            }
            parts.write(key, turn);
        }
        Input::Storage(done) => {
            // There is room for as many jobs as are answered.
            turn.actions.extend(parts.deferred.take().map(Action::Job));
            take_done(parts, done, turn);
        }
        Input::SocketOverflow(key, packets) => parts.recordings.socket_overflowed(key, packets),
        Input::Strangers(key, packets) => {
            if let Some(it) = parts.recordings.get_mut(key) {
                it.stream.add_strangers(u64::from(packets));
            }
        }
        Input::Started | Input::MountsChanged => parts.disk.scan(turn),
        // They are the clients', and were taken.
        Input::ClientOpened(_)
        | Input::ClientLine(..)
        | Input::ClientLineTooLong(_)
        | Input::ClientClosed(_)
        | Input::ClientsDoNotRead { .. } => {}
        Input::RtpBound(key, result) => {
            let then = parts.recordings.rtp_bound(key, result, turn);
            parts.follow(key, then, turn);
        }
        Input::Uplink(key, input) => {
            let then = parts.recordings.take_uplink(key, input, parts.disk.room_left(), turn);
            parts.follow(key, then, turn);
        }
        Input::JobRefused(Job::Library(job)) => {
            if let Some(job) = parts.library.refused(job, turn) {
                parts.job_refused(Job::Library(job), turn);
            }
        }
        Input::JobRefused(job) => parts.job_refused(job, turn),
        Input::PlayerFailed(playback) => parts.library.player_failed(playback, turn),
        Input::Tick => tick(parts, turn),
        Input::Shutdown => parts.shut_down(turn),
    }
}

fn take_done(parts: &mut Parts, done: Done, turn: &mut Turn<'_>) {
    match done {
        Done::Appended { file, pieces, took, result, durable_octets } => {
            library::file_grew(parts, file, durable_octets);
            parts.recordings.note_write(took);
            storage::appended(parts, file, pieces, result, turn);
        }
        Done::Scanned(found) => storage::scanned(parts, found, turn),
        Done::Opened { file, result } => storage::opened(parts, file, result, turn),
        Done::Closed { file, result } => storage::closed(parts, file, result, turn),
        Done::Abandoned(_) => {}
        Done::Deleted { file, space } => storage::deleted(parts, file.as_deref(), space, turn),
        Done::Searching => storage::search_on(parts, turn),
        Done::Finalised { file, result } => {
            storage::finalised(parts, file, result, turn);
            library::read_anew(parts);
        }
        Done::SpeedMeasured(result) => {
            parts.disk.speed_measured(result, parts.recordings.count_on_disk(), turn);
        }
        Done::Ejected(result) => parts.ejected(result, turn),
        Done::Library(done) => library::take_done(parts, done, turn),
        // Nobody asks for it here.
        Done::Server(_) => {}
    }
}

fn tick(parts: &mut Parts, turn: &mut Turn<'_>) {
    library::play_all(parts, turn);
    library::pump(parts, turn);
    let now = turn.now.mono;
    if parts.deferred.retry_at().is_some_and(|at| now >= at) {
        turn.actions.extend(parts.deferred.take().map(Action::Job));
    }
    if parts.look_due(turn.wants("storage.state")).is_some_and(|at| now >= at) {
        parts.disk.scan(turn);
    }
    if parts.finalise_due().is_some_and(|at| now >= at) {
        let Parts { recordings, disk, .. } = parts;
        let folder = disk.state.folder();
        let jobs = recordings.pending_finalisations.due(folder.as_ref(), |old| disk.state.has(old), now);
        turn.actions.extend(jobs.into_iter().map(Action::Job));
    }
    for key in parts.recordings.keys() {
        if let Some(it) = parts.recordings.get_mut(key) {
            let_go(it, turn);
        }
        parts.write(key, turn);
        let is_ending = parts.life.is_ending();
        if let Some(it) = parts.recordings.get_mut(key) {
            let then = check_lost(it, parts.disk.state.is_present(), is_ending, turn);
            parts.follow(key, then, turn);
        }
        if let Some(it) = parts.recordings.get_mut(key) {
            let then = at_server::tick(it, key, turn);
            parts.follow(key, then, turn);
        }
        if let Some(it) = parts.recordings.get_mut(key) {
            let then = at_pbx::tick(it, turn);
            parts.follow(key, then, turn);
        }
        let remaining_s = parts.remaining_s();
        if let Some(it) = parts.recordings.get_mut(key) {
            tell_due(it, key, remaining_s, turn);
        }
    }
    parts.recordings.waiting_starts.refuse_overdue(turn);
}

/// Jobs that this step made wait behind those that are held: the job that gives a file up stays behind the
/// one that opens it.
fn keep_order(parts: &mut Parts, before: usize, turn: &mut Turn<'_>) {
    for action in turn.actions.split_off(before) {
        match action {
            Action::Job(job) if parts.deferred.keeps_back(&job) => parts.job_refused(job, turn),
            action => turn.actions.push(action),
        }
    }
}

fn exit_if_done(parts: &mut Parts, turn: &mut Turn<'_>) {
    if let Some(deadline) = parts.life.deadline() {
        if parts.recordings.is_empty() || turn.now.mono >= deadline {
            parts.life = Life::Ended;
            // A server or PBX that has not confirmed the end leaves nothing unfinished here.
            turn.actions.push(Action::Exit { finalised: parts.recordings.count_on_disk() == 0 });
        }
    }
}
