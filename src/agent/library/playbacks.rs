//! Requests about playbacks, and the playbacks under way.
//!
//! Owns: the playbacks and their ends. Never: when a packet is due ([`super::playback`]).

use crate::agent::clients::answer::{Answer, Failure, PendingReply, answer};
use crate::agent::disk::faults::cause_of_fault;
use crate::agent::library::error_of;
use crate::agent::library::playback::{PlayRequest, Playback};
use crate::agent::{Action, MAX_ENDED, Turn};
use crate::api::ending::TextKey;
use crate::api::error::AgentError;
use crate::api::event::Event;
use crate::api::reason::{Cause, Reason};
use crate::api::request::Method;
use crate::api::status::{PlayStarted, PlaybackStatus, Playbacks};
use media::blocks::Block;
use media::time::Mono;
use recfile::header::FileHeader;
use std::collections::{BTreeMap, VecDeque};
use store::jobs::Job;
use store::jobs::library::{FramesRead, LibraryError, LibraryJob, Playable, PlaybackKey};

/// Playbacks at the same time.
const MAX_PLAYBACKS: usize = 4;

/// Files of one recording that are played as one.
const MAX_PARTS: usize = 512;

/// Whether a recording of this id has not ended.
pub(in crate::agent) type IsRunning<'a> = &'a dyn Fn(&str) -> bool;

/// The playbacks of the agent.
#[derive(Debug, Default)]
pub(super) struct Players {
    live: BTreeMap<PlaybackKey, Playback>,
    ended: VecDeque<PlaybackStatus>,
    /// Files that storage was told to keep.
    kept: Vec<String>,
}

impl Players {
    /// Answers a request about playbacks that have begun.
    pub(super) fn handle(
        &mut self,
        method: Method,
        is_running: IsRunning<'_>,
        turn: &mut Turn<'_>,
    ) -> Answer {
        let now = turn.now;
        match method {
            Method::PlayStatus { playback: None } => answer(&Playbacks { playbacks: self.statuses() }),
            Method::PlayStatus { playback: Some(id) } => {
                let live = self.live.values().find(|it| it.id == id).map(|it| it.status(None));
                let ended = || self.ended.iter().find(|status| status.playback == id).cloned();
                answer(&live.or_else(ended).ok_or(Reason::NotFound)?)
            }
            Method::PlayStop { playback } => {
                let key = self.playing(playback.as_deref())?;
                let status = self.end(key, "stopped", None, turn);
                answer(&status.ok_or(Reason::NotFound)?)
            }
            Method::PlayPause { playback } => self.change(playback.as_deref(), is_running, turn, |it, _| {
                if it.is_paused() {
                    return Err("it is paused already");
                }
                it.pause();
                Ok(())
            }),
            Method::PlayResume { playback } => self.change(playback.as_deref(), is_running, turn, |it, _| {
                if !it.is_paused() {
                    return Err("it is not paused");
                }
                it.resume(now);
                Ok(())
            }),
            Method::PlaySeek { playback, position_ms } => {
                self.change(playback.as_deref(), is_running, turn, |it, pool| {
                    it.seek(position_ms, pool);
                    Ok(())
                })
            }
            _ => Err(Reason::InvalidState.into()),
        }
    }

    /// Refuses one playback more than there may be; `waiting` is the number of those that wait for the disk.
    pub(super) fn check_limit(&self, waiting: usize) -> Result<(), AgentError> {
        if self.live.len() + waiting < MAX_PLAYBACKS {
            return Ok(());
        }
        let message = format!("{MAX_PLAYBACKS} playbacks are running");
        let error = AgentError::new(Reason::InvalidState).with_message(message);
        Err(error.with_advice("stop one first, or wait for its end"))
    }

    /// Starts a playback.
    pub(super) fn start(
        &mut self,
        reply: Option<PendingReply>,
        request: PlayRequest,
        parts: Vec<Playable>,
        is_running: IsRunning<'_>,
        turn: &mut Turn<'_>,
    ) {
        let key = PlaybackKey(turn.ids.key());
        let playback_id = turn.ids.id();
        let random = turn.ids.random();
        let target = request.target;
        let it = Playback::new(playback_id.clone(), request, parts, random, turn.now);
        let duration_ms = it.duration_ms();
        turn.actions
            .push(Action::Log(log::Level::Info, format!("playback {playback_id} starts: {duration_ms} ms")));
        turn.actions.push(Action::OpenPlayer { playback: key, target });
        self.live.insert(key, it);
        if let Some(reply) = reply {
            let started = PlayStarted { playback: playback_id, duration_ms };
            reply.ok(&started, turn.actions);
        }
        self.play(key, is_running, turn);
    }

    /// Frames were read.
    pub(super) fn take_read(&mut self, read: FramesRead, is_running: IsRunning<'_>, turn: &mut Turn<'_>) {
        let key = read.playback;
        let cause = match &read.result {
            Err(LibraryError::Fault(fault)) => Some(cause_of_fault(fault.kind)),
            _ => None,
        };
        let Some(it) = self.live.get_mut(&key) else { return turn.pool.give_back(read.block) };
        if it.take_read(read, turn.now, turn.pool) {
            self.play(key, is_running, turn);
        } else {
            self.end(key, Reason::StorageIo.as_str(), cause, turn);
        }
    }

    /// Storage had no room for a read.
    pub(super) fn refused(&mut self, key: PlaybackKey, block: Block, turn: &mut Turn<'_>) {
        turn.pool.give_back(block);
        if let Some(it) = self.live.get_mut(&key) {
            it.refused(turn.now);
        }
    }

    /// Does the due work of all playbacks.
    pub(super) fn play_all(&mut self, is_running: IsRunning<'_>, turn: &mut Turn<'_>) {
        let keys: Vec<PlaybackKey> = self.live.keys().copied().collect();
        for key in keys {
            self.play(key, is_running, turn);
        }
    }

    /// When the next packet of a playback is due.
    pub(super) fn deadline(&self, progress: bool) -> Option<Mono> {
        self.live.values().filter_map(|it| it.deadline(progress)).min()
    }

    /// All playbacks that have not ended.
    pub(super) fn statuses(&self) -> Vec<PlaybackStatus> {
        self.live.values().map(|it| it.status(None)).collect()
    }

    pub(super) fn plays(&self, file: &str) -> bool {
        self.live.values().any(|it| it.plays(file))
    }

    /// A recording that may be being played goes on in another file.
    pub(super) fn grow(&mut self, recording: &str, file: &str, header: FileHeader) {
        for it in self.live.values_mut().filter(|it| it.recording() == Some(recording)) {
            it.grow(file, header);
        }
    }

    /// A file that may be being played has `octets` of audio by now.
    pub(super) fn grew(&mut self, file: &str, octets: u64) {
        self.live.values_mut().for_each(|it| it.grew(file, octets));
    }

    /// Tells storage which files are being played, if there are others than before.
    fn keep_played(&mut self, turn: &mut Turn<'_>) {
        let Self { live, kept, .. } = self;
        let played = || live.values().flat_map(Playback::files);
        if played().eq(kept.iter().map(String::as_str)) {
            return;
        }
        *kept = played().map(str::to_owned).collect();
        turn.actions.push(Action::Job(Job::Library(LibraryJob::Keep(kept.clone()))));
    }

    /// Ends every playback.
    pub(super) fn end_all(&mut self, reason: &'static str, turn: &mut Turn<'_>) {
        let keys: Vec<PlaybackKey> = self.live.keys().copied().collect();
        let cause = (reason == Reason::StorageIo.as_str()).then_some(Cause::Pulled);
        for key in keys {
            self.end(key, reason, cause, turn);
        }
    }

    /// Ends a playback; gives its last status.
    pub(super) fn end(
        &mut self,
        key: PlaybackKey,
        reason: &'static str,
        cause: Option<Cause>,
        turn: &mut Turn<'_>,
    ) -> Option<PlaybackStatus> {
        let mut it = self.live.remove(&key)?;
        it.discard(turn.pool);
        let failure = Reason::ALL.into_iter().find(|failure| failure.as_str() == reason);
        let text_key = failure.and_then(|failure| TextKey::of(failure, cause));
        let status = PlaybackStatus { text_key, ..it.status(Some(reason)) };
        turn.actions.push(Action::ClosePlayer(key));
        self.keep_played(turn);
        turn.actions.push(Action::Log(log::Level::Info, format!("playback {} ended: {reason}", it.id)));
        self.ended.truncate(MAX_ENDED - 1);
        self.ended.push_front(status.clone());
        turn.emit(&Event::PlaybackEnded(status.clone()));
        Some(status)
    }

    fn play(&mut self, key: PlaybackKey, is_running: IsRunning<'_>, turn: &mut Turn<'_>) {
        self.keep_played(turn);
        let wanted = turn.wants("playback.progress");
        let Some(it) = self.live.get_mut(&key) else { return };
        let mut send = |packet| turn.actions.push(Action::SendPlayed { playback: key, packet });
        if it.play(turn.now, turn.pool, &mut send) {
            self.end(key, "finished", None, turn);
            return;
        }
        let growing = it.recording().is_some_and(is_running);
        let read = it.next_read(key, growing, turn.now, turn.pool);
        turn.actions.extend(read.map(|read| Action::Job(Job::Library(LibraryJob::ReadFrames(read)))));
        let progress = it.progress_is_due(turn.now) && wanted;
        let event = progress.then(|| Event::PlaybackProgress(it.status(None)));
        if let Some(event) = event {
            turn.emit(&event);
        }
    }

    /// Changes the playback that a request means, and gives its status.
    fn change(
        &mut self,
        playback: Option<&str>,
        is_running: IsRunning<'_>,
        turn: &mut Turn<'_>,
        change: impl FnOnce(&mut Playback, &mut media::blocks::BlockPool) -> Result<(), &'static str>,
    ) -> Answer {
        let key = self.playing(playback)?;
        let Some(it) = self.live.get_mut(&key) else { return Err(Reason::NotFound.into()) };
        if let Err(message) = change(it, turn.pool) {
            return Err(AgentError::new(Reason::InvalidState).with_message(message).into());
        }
        let status = it.status(None);
        self.play(key, is_running, turn);
        answer(&status)
    }

    /// The playback that a request means: the one named, or the only one.
    fn playing(&self, playback: Option<&str>) -> Result<PlaybackKey, Failure> {
        if let Some(id) = playback {
            let live = self.live.iter().find(|(_, it)| it.id == id);
            let ended = self.ended.iter().any(|status| status.playback == id);
            let error = if ended {
                AgentError::new(Reason::InvalidState).with_message("the playback has ended")
            } else {
                AgentError::new(Reason::NotFound).with_message("there is no playback of this name")
            };
            let error = error.with_advice("recordctl status shows the playbacks that run");
            return live.map(|(key, _)| *key).ok_or_else(|| error.into());
        }
        let mut keys = self.live.keys();
        match (keys.next(), keys.next()) {
            (Some(key), None) => Ok(*key),
            (None, _) => Err(AgentError::new(Reason::NotFound)
                .with_message("there is no playback")
                .with_advice("recordctl play starts one")
                .into()),
            _ => {
                let ids: Vec<&str> = self.live.values().map(|it| it.id.as_str()).collect();
                Err(Failure::Params(format!(
                    "`playback` is missing, and there are several: {}",
                    ids.join(", ")
                )))
            }
        }
    }
}

/// The files of a recording that are played with `file`; `segments` are all of its files.
pub(super) fn parts_around(file: &str, mut segments: Vec<String>) -> Vec<String> {
    match segments.iter().position(|other| other == file) {
        None => return vec![file.to_owned()],
        Some(named) if segments.len() > MAX_PARTS => {
            segments.drain(..named.min(segments.len() - MAX_PARTS));
            segments.truncate(MAX_PARTS);
        }
        Some(_) => {}
    }
    segments
}

/// The files that are there. A segment that is damaged or gone is skipped, unless it is the one that is
/// wanted.
pub(super) fn parts_of(
    request: &PlayRequest,
    files: Vec<Result<Playable, LibraryError>>,
) -> Result<Vec<Playable>, AgentError> {
    let mut parts = Vec::new();
    for (name, result) in request.files.iter().zip(files) {
        match result {
            Ok(part) => parts.push(part),
            Err(miss) if *name == request.file => return Err(error_of(miss)),
            Err(_) => {}
        }
    }
    Ok(parts)
}
