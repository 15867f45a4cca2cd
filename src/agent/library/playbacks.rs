//! What clients ask of playbacks, and the playbacks under way.
//!
//! Owns: which playbacks there are and how they end. Never: when a packet is due ([`super::playback`]).

use crate::agent::clients::answer::Caller;
use crate::agent::clients::answer::{Answer, Failure, answer};
use crate::agent::disk::faults::cause_of_fault;
use crate::agent::library::playback::{PlayRequest, Playback};
use crate::agent::library::{What, error_of};
use crate::agent::{Action, MAX_ENDED, Parts, Turn};
use crate::api::ending::TextKey;
use crate::api::error::AgentError;
use crate::api::event::Event;
use crate::api::reason::{Cause, Reason};
use crate::api::request::Method;
use crate::api::status::{PlayStarted, PlaybackStatus, Playbacks, RtpAddress};
use media::blocks::Block;
use media::time::Mono;
use recfile::header::FileHeader;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use store::jobs::Job;
use store::jobs::library::{AskId, FramesRead, LibraryError, LibraryJob, Playable, PlaybackKey};

/// Playbacks at the same time.
const MAX_PLAYBACKS: usize = 4;

/// Files of one recording that are played as one.
const MAX_PARTS: usize = 512;

/// The playbacks of the agent.
#[derive(Debug, Default)]
pub(in crate::agent) struct Players {
    live: BTreeMap<PlaybackKey, Playback>,
    ended: VecDeque<PlaybackStatus>,
    /// Files that storage was told to keep.
    kept: Vec<String>,
}

impl Players {
    /// A file that may be being played has so many octets of audio by now.
    pub(in crate::agent) fn grew(&mut self, file: &str, octets: u64) {
        self.live.values_mut().for_each(|it| it.grew(file, octets));
    }
}

impl Parts {
    pub(in crate::agent) fn play_request(
        &mut self,
        caller: &mut Caller,
        method: Method,
        turn: &mut Turn<'_>,
    ) -> Answer {
        let now = turn.now;
        match method {
            Method::PlayStart { file, rtp, position_ms } => {
                self.play_start(caller, file, &rtp, position_ms, turn)
            }
            Method::PlayStatus { playback: None } => answer(&Playbacks { playbacks: self.playbacks() }),
            Method::PlayStatus { playback: Some(id) } => {
                let live = self.players.live.values().find(|it| it.id == id).map(|it| it.status(None));
                let ended = || self.players.ended.iter().find(|status| status.playback == id).cloned();
                answer(&live.or_else(ended).ok_or(Reason::NotFound)?)
            }
            Method::PlayStop { playback } => {
                let key = self.playing(playback.as_deref())?;
                let status = self.end_playback(key, "stopped", None, turn);
                answer(&status.ok_or(Reason::NotFound)?)
            }
            Method::PlayPause { playback } => self.play_change(playback.as_deref(), turn, |it, _| {
                if it.is_paused() {
                    return Err("it is paused already");
                }
                it.pause();
                Ok(())
            }),
            Method::PlayResume { playback } => self.play_change(playback.as_deref(), turn, |it, _| {
                if !it.is_paused() {
                    return Err("it is not paused");
                }
                it.resume(now);
                Ok(())
            }),
            Method::PlaySeek { playback, position_ms } => {
                self.play_change(playback.as_deref(), turn, |it, pool| {
                    it.seek(position_ms, pool);
                    Ok(())
                })
            }
            _ => Err(Reason::InvalidState.into()),
        }
    }

    fn play_start(
        &mut self,
        caller: &mut Caller,
        file: String,
        rtp: &RtpAddress,
        position_ms: u64,
        turn: &mut Turn<'_>,
    ) -> Answer {
        if !rtp.addr.is_loopback() && !turn.config.rtp.allow_remote {
            let message = format!("RTP to {} is not allowed: it goes to this machine only", rtp.addr);
            let advice = "give an address such as 127.0.0.1, or set [rtp] allow_remote = true";
            let error = AgentError::new(Reason::PermissionDenied).with_message(message);
            return Err(error.with_advice(advice).into());
        }
        self.refuse_in_between(true)?;
        let folder = self.library_folder()?;
        let waiting = self.asks.values().filter(|ask| matches!(ask.what, What::Play(_))).count();
        if self.players.live.len() + waiting >= MAX_PLAYBACKS {
            let message = format!("{MAX_PLAYBACKS} playbacks are running");
            let error = AgentError::new(Reason::InvalidState).with_message(message);
            return Err(error.with_advice("stop one first, or wait for its end").into());
        }
        let recording = self.index.get(&file).and_then(|entry| entry.recording()).map(str::to_owned);
        let mut files =
            recording.as_deref().map(|recording| self.index.segments(recording)).unwrap_or_default();
        let named = files.iter().position(|other| *other == file);
        match named {
            None => files = vec![file.clone()],
            Some(named) if files.len() > MAX_PARTS => {
                files.drain(..named.min(files.len() - MAX_PARTS));
                files.truncate(MAX_PARTS);
            }
            Some(_) => {}
        }
        let target = SocketAddr::new(rtp.addr, rtp.port);
        let request = PlayRequest {
            file,
            files: files.clone(),
            recording,
            folder: folder.clone(),
            target,
            position_ms,
        };
        let ask = self.ask(caller, What::Play(request), turn)?;
        turn.actions.push(Action::Job(Job::Library(LibraryJob::OpenPlay { ask, folder, files })));
        Ok(None)
    }

    /// Storage has looked at the files of a playback that is to begin.
    pub(in crate::agent) fn play_opened(
        &mut self,
        ask: AskId,
        files: Vec<Result<Playable, LibraryError>>,
        turn: &mut Turn<'_>,
    ) {
        let Some((reply, What::Play(request))) = self.take_ask(ask) else { return };
        let parts = match self.refuse_in_between(true).and_then(|()| parts_of(&request, files)) {
            Ok(parts) => parts,
            Err(error) => return reply.into_iter().for_each(|reply| reply.err(&error, turn.actions)),
        };
        let key = PlaybackKey(turn.ids.key());
        let playback_id = turn.ids.id();
        let random = u64::from_str_radix(&turn.ids.id(), 16).unwrap_or_default();
        let target = request.target;
        let it = Playback::new(playback_id.clone(), request, parts, random, turn.now);
        let duration_ms = it.duration_ms();
        turn.actions
            .push(Action::Log(log::Level::Info, format!("playback {playback_id} starts: {duration_ms} ms")));
        turn.actions.push(Action::OpenPlayer { playback: key, target });
        self.players.live.insert(key, it);
        if let Some(reply) = reply {
            let started = PlayStarted { playback: playback_id, duration_ms };
            reply.ok(&started, turn.actions);
        }
        self.play(key, turn);
    }

    /// Frames were read.
    pub(in crate::agent) fn play_read(&mut self, read: FramesRead, turn: &mut Turn<'_>) {
        let key = read.playback;
        let cause = match &read.result {
            Err(LibraryError::Fault(fault)) => Some(cause_of_fault(fault.kind)),
            _ => None,
        };
        let Some(it) = self.players.live.get_mut(&key) else { return turn.pool.give_back(read.block) };
        if it.take_read(read, turn.now, turn.pool) {
            self.play(key, turn);
        } else {
            self.end_playback(key, Reason::StorageIo.as_str(), cause, turn);
        }
    }

    /// Storage had no room for a read.
    pub(in crate::agent) fn play_refused(&mut self, key: PlaybackKey, block: Block, turn: &mut Turn<'_>) {
        turn.pool.give_back(block);
        if let Some(it) = self.players.live.get_mut(&key) {
            it.refused(turn.now);
        }
    }

    /// Does what is due of all playbacks.
    pub(in crate::agent) fn play_all(&mut self, turn: &mut Turn<'_>) {
        let keys: Vec<PlaybackKey> = self.players.live.keys().copied().collect();
        for key in keys {
            self.play(key, turn);
        }
    }

    /// When the next packet of a playback is due.
    pub(in crate::agent) fn play_deadline(&self, progress: bool) -> Option<Mono> {
        if self.players.live.is_empty() {
            return None;
        }
        self.players.live.values().filter_map(|it| it.deadline(progress)).min()
    }

    /// All playbacks that have not ended.
    pub(in crate::agent) fn playbacks(&self) -> Vec<PlaybackStatus> {
        self.players.live.values().map(|it| it.status(None)).collect()
    }

    pub(in crate::agent) fn is_played(&self, file: &str) -> bool {
        let asked =
            |what: &What| matches!(what, What::Play(request) if request.files.iter().any(|it| it == file));
        self.players.live.values().any(|it| it.plays(file)) || self.asks.values().any(|ask| asked(&ask.what))
    }

    /// A recording that may be being played goes on in another file.
    pub(in crate::agent) fn play_grows(&mut self, recording: &str, file: &str, header: FileHeader) {
        for it in self.players.live.values_mut().filter(|it| it.recording() == Some(recording)) {
            it.grow(file, header);
        }
    }

    /// Tells storage which files are being played, if there are others than before.
    fn keep_played(&mut self, turn: &mut Turn<'_>) {
        let Players { live, kept, .. } = &mut self.players;
        let played = || live.values().flat_map(Playback::files);
        if played().eq(kept.iter().map(String::as_str)) {
            return;
        }
        *kept = played().map(str::to_owned).collect();
        turn.actions.push(Action::Job(Job::Library(LibraryJob::Keep(kept.clone()))));
    }

    /// Ends every playback.
    pub(in crate::agent) fn end_playbacks(&mut self, reason: &'static str, turn: &mut Turn<'_>) {
        let keys: Vec<PlaybackKey> = self.players.live.keys().copied().collect();
        let cause = (reason == Reason::StorageIo.as_str()).then_some(Cause::Pulled);
        for key in keys {
            self.end_playback(key, reason, cause, turn);
        }
    }

    /// Ends a playback; gives its last status.
    pub(in crate::agent) fn end_playback(
        &mut self,
        key: PlaybackKey,
        reason: &'static str,
        cause: Option<Cause>,
        turn: &mut Turn<'_>,
    ) -> Option<PlaybackStatus> {
        let mut it = self.players.live.remove(&key)?;
        it.discard(turn.pool);
        let failure = Reason::ALL.into_iter().find(|failure| failure.as_str() == reason);
        let text_key = failure.and_then(|failure| TextKey::of(failure, cause));
        let status = PlaybackStatus { text_key, ..it.status(Some(reason)) };
        turn.actions.push(Action::ClosePlayer(key));
        self.keep_played(turn);
        turn.actions.push(Action::Log(log::Level::Info, format!("playback {} ended: {reason}", it.id)));
        self.players.ended.truncate(MAX_ENDED - 1);
        self.players.ended.push_front(status.clone());
        turn.emit(&Event::PlaybackEnded(status.clone()));
        Some(status)
    }

    fn play(&mut self, key: PlaybackKey, turn: &mut Turn<'_>) {
        self.keep_played(turn);
        let wanted = turn.wants("playback.progress");
        let Some(it) = self.players.live.get_mut(&key) else { return };
        let mut send = |packet| turn.actions.push(Action::SendPlayed { playback: key, packet });
        if it.play(turn.now, turn.pool, &mut send) {
            self.end_playback(key, "finished", None, turn);
            return;
        }
        let recorded = |id: &str| self.recordings.values().any(|recording| recording.id == id);
        let growing = it.recording().is_some_and(recorded);
        let read = it.next_read(key, growing, turn.now, turn.pool);
        turn.actions.extend(read.map(|read| Action::Job(Job::Library(LibraryJob::ReadFrames(read)))));
        let progress = it.progress_is_due(turn.now) && wanted;
        let event = progress.then(|| Event::PlaybackProgress(it.status(None)));
        if let Some(event) = event {
            turn.emit(&event);
        }
    }

    /// Changes the playback that a request means, and gives its status.
    fn play_change(
        &mut self,
        playback: Option<&str>,
        turn: &mut Turn<'_>,
        change: impl FnOnce(&mut Playback, &mut media::blocks::BlockPool) -> Result<(), &'static str>,
    ) -> Answer {
        let key = self.playing(playback)?;
        let Some(it) = self.players.live.get_mut(&key) else { return Err(Reason::NotFound.into()) };
        if let Err(message) = change(it, turn.pool) {
            return Err(AgentError::new(Reason::InvalidState).with_message(message).into());
        }
        let status = it.status(None);
        self.play(key, turn);
        answer(&status)
    }

    /// The playback that a request means: the one named, or the only one.
    fn playing(&self, playback: Option<&str>) -> Result<PlaybackKey, Failure> {
        if let Some(id) = playback {
            let live = self.players.live.iter().find(|(_, it)| it.id == id);
            let ended = self.players.ended.iter().any(|status| status.playback == id);
            let error = if ended {
                AgentError::new(Reason::InvalidState).with_message("the playback has ended")
            } else {
                AgentError::new(Reason::NotFound).with_message("there is no playback of this name")
            };
            let error = error.with_advice("recordctl status shows the playbacks that run");
            return live.map(|(key, _)| *key).ok_or_else(|| error.into());
        }
        let mut keys = self.players.live.keys();
        match (keys.next(), keys.next()) {
            (Some(key), None) => Ok(*key),
            (None, _) => Err(AgentError::new(Reason::NotFound)
                .with_message("there is no playback")
                .with_advice("recordctl play starts one")
                .into()),
            _ => {
                let ids: Vec<&str> = self.players.live.values().map(|it| it.id.as_str()).collect();
                Err(Failure::Params(format!(
                    "`playback` is missing, and there are several: {}",
                    ids.join(", ")
                )))
            }
        }
    }
}

/// The files that are there. A segment that is damaged or gone is skipped, unless it is the one that is wanted.
fn parts_of(
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
