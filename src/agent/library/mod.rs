//! What clients ask about the recordings on the disk.
//!
//! Owns: questions that wait for storage, and how the index follows what is recorded. Lists are answered
//! from memory, the rest when storage has answered.

pub(in crate::agent) mod index;
pub(in crate::agent) mod playback;
pub(in crate::agent) mod playbacks;

use crate::agent::clients::answer::{Answer, Failure};
use crate::agent::clients::answer::{Caller, PendingReply};
use crate::agent::disk::faults::reason_at_start;
use crate::agent::library::index::Entry;
use crate::agent::library::playback::PlayRequest;
use crate::agent::{Action, Parts, RecordingKey, Turn};
use crate::api::ending::TextKey;
use crate::api::error::AgentError;
use crate::api::event::Event;
use crate::api::reason::{Cause, Reason};
use crate::api::reply::Done as Empty;
use crate::api::request::Method;
use crate::api::status::{RecordingEntry, RecordingsListed};
use log::Level as LogLevel;
use media::codec::OCTETS_PER_MS;
use media::time::Mono;
use recfile::format::{Facts, Layout};
use recfile::sealed::CHUNK_OVERHEAD_OCTETS;
use recfile::sidecar::Sidecar;
use serde::Serialize;
use std::collections::BTreeMap;
use store::jobs::Recovered;
use store::jobs::library::{
    AskId, Details, FileSummary, LibraryDone, LibraryError, LibraryJob, ReadFrames, SidecarSummary,
};
use store::jobs::{FileKey, Folder, Job};

/// Questions that wait for the disk at the same time.
const MAX_ASKS: usize = 64;

/// Questions that wait for storage.
pub(in crate::agent) type Asks = BTreeMap<AskId, Ask>;

/// A question that waits for storage.
#[derive(Debug)]
pub(in crate::agent) struct Ask {
    reply: Option<PendingReply>,
    pub(in crate::agent) what: What,
}

#[derive(Debug)]
pub(in crate::agent) enum What {
    /// Nothing is to be remembered.
    Look,
    /// This file is being deleted.
    Delete(String),
    /// This is to be played.
    Play(PlayRequest),
}

/// Result of `recordings.info`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "RecordingInfo"))]
pub(crate) struct Info {
    #[serde(flatten)]
    entry: RecordingEntry,
    /// What the file itself tells; `None` if it does not begin like a recording.
    format: Option<FormatInfo>,
    /// Why it does not, or what a repair would mend.
    problems: Vec<String>,
    /// The sidecar as it is on the disk.
    sidecar: Option<Sidecar>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FormatInfo {
    frames: u64,
    frame_bytes: u32,
    increment: u32,
    whole_packets: bool,
}

impl Parts {
    pub(in crate::agent) fn list_recordings(
        &self,
        limit: Option<u32>,
        after: Option<&str>,
        query: Option<&str>,
    ) -> Result<RecordingsListed, AgentError> {
        if !self.disk.was_looked_at() {
            return Ok(RecordingsListed { indexing: true, ..RecordingsListed::default() });
        }
        self.library_folder()?;
        let nowhere =
            || AgentError::new(Reason::NotFound).with_message("there is no recording `after` which to list");
        self.index.list(limit, after, query).ok_or_else(nowhere)
    }

    /// Answers what needs the disk.
    pub(in crate::agent) fn ask_about_recording(
        &mut self,
        caller: &mut Caller,
        method: Method,
        turn: &mut Turn<'_>,
    ) -> Answer {
        let (Method::RecordingsInfo { file }
        | Method::RecordingsDelete { file }
        | Method::RecordingsProtect { file, .. }) = &method
        else {
            return Err(Reason::InvalidState.into());
        };
        let file = file.clone();
        let folder = self.library_folder()?;
        let deletes = matches!(method, Method::RecordingsDelete { .. });
        if !matches!(method, Method::RecordingsInfo { .. }) && self.is_recorded(&file) {
            return Err(busy("it is being recorded").into());
        }
        if deletes && self.is_played(&file) {
            return Err(busy("it is being played").into());
        }
        let ask = self.ask(caller, if deletes { What::Delete(file.clone()) } else { What::Look }, turn)?;
        let job = match method {
            Method::RecordingsProtect { protected, .. } => {
                LibraryJob::Protect { ask, folder, file, protected }
            }
            _ if deletes => LibraryJob::Delete { ask, folder, file },
            _ => LibraryJob::Info { ask, folder, file },
        };
        turn.actions.push(Action::Job(Job::Library(job)));
        Ok(None)
    }

    /// Notes who waits for an answer of storage.
    pub(in crate::agent) fn ask(
        &mut self,
        caller: &mut Caller,
        what: What,
        turn: &mut Turn<'_>,
    ) -> Result<AskId, Failure> {
        if self.asks.len() >= MAX_ASKS {
            let message = "too many requests wait for the disk";
            let error = AgentError::new(Reason::StorageIo).with_message(message);
            let error = error.with_advice("try again in a moment").with_text(Some(TextKey::StorageSilent));
            return Err(error.into());
        }
        let ask = AskId(turn.ids.key());
        self.asks.insert(ask, Ask { reply: caller.defer(), what });
        Ok(ask)
    }

    /// The folder to look into, or why there is none.
    pub(in crate::agent) fn library_folder(&self) -> Result<Folder, AgentError> {
        // A disk that can't be recorded to can still be read.
        match self.disk.folder_to_record(0) {
            Err(error) if error.reason == Reason::NoStorage => Err(error),
            _ => self.disk.folder().ok_or_else(|| Reason::NoStorage.into()),
        }
    }

    /// A disk came, or files on it changed: the folder is read anew.
    pub(in crate::agent) fn library_anew(&mut self) {
        self.index.begin();
        for key in self.on_disk() {
            if self.recordings.get(&key).is_some_and(|it| !it.has_lost_disk()) {
                self.library_opened(key);
            }
        }
    }

    /// The disk went, or may go.
    pub(in crate::agent) fn library_gone(&mut self, reason: &'static str, turn: &mut Turn<'_>) {
        self.index.clear();
        self.end_playbacks(reason, turn);
    }

    /// When the next step of the index is due. A disk that was asked to be ejected is left alone: a step may write.
    pub(in crate::agent) fn library_deadline(&self) -> Option<Mono> {
        let readable = self.disk.device().is_some() && self.ejecting.is_none();
        self.index.deadline().filter(|_| readable)
    }

    /// Takes the next step of the index, if one is due.
    pub(in crate::agent) fn library_pump(&mut self, turn: &mut Turn<'_>) {
        if self.ejecting.is_some() {
            return;
        }
        let disk = &self.disk;
        let job = self.index.next_job(|| disk.folder(), turn.now.mono);
        turn.actions.extend(job.map(|job| Action::Job(Job::Library(job))));
    }

    pub(in crate::agent) fn library_done(&mut self, done: LibraryDone, turn: &mut Turn<'_>) {
        match done {
            LibraryDone::Indexed(mut done) => {
                self.recovered(std::mem::take(&mut done.recovered), turn);
                self.index.indexed(done, turn.now);
            }
            LibraryDone::Info(ask, result) => {
                let result = result.map(|details| info(&details, turn.now.wall.utc_offset_s));
                self.answer_ask(ask, result, turn);
            }
            LibraryDone::Deleted(ask, result) => {
                if let (Some(Ask { what: What::Delete(file), .. }), Ok(()) | Err(LibraryError::NotFound)) =
                    (self.asks.get(&ask), &result)
                {
                    self.index.remove(file);
                }
                self.answer_ask(ask, result.map(|()| serde_json::json!(Empty {})), turn);
            }
            LibraryDone::Protected(ask, result) => {
                let entry = result.map(|found| {
                    let entry = Entry::new(&found, turn.now.wall.utc_offset_s);
                    let listed = entry.listed();
                    self.index.change(&found.file, |it| it.set_protected(listed.protected));
                    listed
                });
                self.answer_ask(ask, entry.map(|entry| serde_json::json!(entry)), turn);
            }
            LibraryDone::Opened(ask, files) => self.play_opened(ask, files, turn),
            LibraryDone::Read(read) => self.play_read(read, turn),
            LibraryDone::Kept => {}
        }
    }

    /// Storage has no room for a job: the disk is stalled.
    pub(in crate::agent) fn library_refused(&mut self, job: LibraryJob, turn: &mut Turn<'_>) {
        match job {
            LibraryJob::Index(_) => self.index.refused(turn.now.mono),
            LibraryJob::Info { ask, .. }
            | LibraryJob::Delete { ask, .. }
            | LibraryJob::Protect { ask, .. }
            | LibraryJob::OpenPlay { ask, .. } => {
                let error = disk_silent();
                self.refuse_ask(ask, &error, turn);
            }
            LibraryJob::ReadFrames(ReadFrames { playback, block, .. }) => {
                self.play_refused(playback, block, turn);
            }
            // Nobody asks again: what is played must not be deleted when the disk goes on.
            LibraryJob::Keep(_) => self.job_refused(Job::Library(job), turn),
        }
    }

    fn answer_ask(
        &mut self,
        ask: AskId,
        result: Result<serde_json::Value, LibraryError>,
        turn: &mut Turn<'_>,
    ) {
        match result {
            Ok(value) => {
                if let Some(reply) = self.asks.remove(&ask).and_then(|ask| ask.reply) {
                    reply.ok(&value, turn.actions);
                }
            }
            Err(miss) => self.refuse_ask(ask, &error_of(miss), turn),
        }
    }

    pub(in crate::agent) fn refuse_ask(&mut self, ask: AskId, error: &AgentError, turn: &mut Turn<'_>) {
        if let Some(reply) = self.asks.remove(&ask).and_then(|ask| ask.reply) {
            reply.err(error, turn.actions);
        }
    }

    /// Answers a question with a result; what it was about comes back.
    pub(in crate::agent) fn take_ask(&mut self, ask: AskId) -> Option<(Option<PendingReply>, What)> {
        self.asks.remove(&ask).map(|ask| (ask.reply, ask.what))
    }

    /// A file was created for a recording.
    pub(in crate::agent) fn library_opened(&mut self, key: RecordingKey) {
        let Some(it) = self.recordings.get(&key) else { return };
        let Some(to_file) = it.destination.as_file() else { return };
        let Some(file) = to_file.file_name() else { return };
        let header = to_file.header();
        let facts = Facts {
            codec: header.codec,
            frame_octets: header.rtp_len,
            increment: header.increment,
            frames: 0,
            layout: Layout::PayloadOnly,
            duration_ms: 0,
            data_octets: 0,
            declared_data_octets: 0,
            trailing_octets: 0,
            problems: Vec::new(),
        };
        let stamp = to_file.stamp();
        let encrypted = to_file.is_sealed();
        let found = FileSummary {
            file: file.to_owned(),
            octets: to_file.octets_in_file(0),
            modified_ms: stamp.unix_ms,
            facts: Some(facts),
            encrypted,
            sidecar: Some(SidecarSummary {
                recording: it.id.clone(),
                segment: to_file.segment(),
                call: it.call.clone(),
                start: Some(stamp),
                protected: false,
            }),
        };
        let (recording, file) = (it.id.clone(), found.file.clone());
        self.index.put(Entry::new(&found, stamp.utc_offset_s));
        self.play_grows(&recording, &file, header);
    }

    /// The file of a recording has so many octets of audio by now.
    pub(in crate::agent) fn library_grew(&mut self, file: FileKey, durable_octets: u64) {
        let Some(key) = self.key_of(file) else { return };
        let Some(to_file) = self.recordings.get(&key).and_then(|it| it.destination.as_file()) else { return };
        let Some(name) = to_file.file_name() else { return };
        self.index.change(name, |entry| {
            entry.set_length(to_file.octets_in_file(durable_octets), durable_octets / OCTETS_PER_MS);
        });
        self.players.grew(name, durable_octets);
    }

    /// The file of a recording was closed: its last frame was filled up.
    pub(in crate::agent) fn library_closed(&mut self, key: RecordingKey) {
        let Some(it) = self.recordings.get(&key) else { return };
        let Some(to_file) = it.destination.as_file() else { return };
        let frame = u64::from(to_file.header().rtp_len).max(1);
        if let Some(name) = to_file.file_name() {
            self.index.change(name, |entry| {
                let octets = entry.audio_octets(to_file.octets_in_file(0)).next_multiple_of(frame);
                let last_chunk = if to_file.is_sealed() { CHUNK_OVERHEAD_OCTETS as u64 } else { 0 };
                entry.set_length(to_file.octets_in_file(octets) + last_chunk, octets / OCTETS_PER_MS);
            });
        }
        self.library_renamed(key);
    }

    /// Numbers and names of a call changed.
    pub(in crate::agent) fn library_renamed(&mut self, key: RecordingKey) {
        let Some(it) = self.recordings.get(&key) else { return };
        if let Some(name) = it.file_name() {
            self.index.change(name, |entry| entry.set_call(&it.call));
        }
    }

    pub(in crate::agent) fn is_recorded(&self, file: &str) -> bool {
        self.recordings.values().any(|it| it.file_name() == Some(file))
    }

    pub(in crate::agent) fn recovered(&self, files: Vec<Recovered>, turn: &mut Turn<'_>) {
        if files.is_empty() {
            return;
        }
        for file in &files {
            let text = format!("recovered {} ({} ms)", file.file, file.duration_ms);
            turn.actions.push(Action::Log(LogLevel::Warn, text));
        }
        let files = files.into_iter().map(|file| file.file).collect();
        turn.emit(&Event::StorageRecovered { files });
    }
}

fn info(details: &Details, utc_offset_s: i32) -> serde_json::Value {
    let facts = details.found.facts.as_ref();
    let mended = facts.into_iter().flat_map(|facts| facts.problems.iter().map(ToString::to_string));
    let info = Info {
        entry: Entry::new(&details.found, utc_offset_s).listed(),
        format: facts.map(|facts| FormatInfo {
            frames: facts.frames,
            frame_bytes: facts.frame_octets,
            increment: facts.increment,
            whole_packets: facts.layout == Layout::WholePackets,
        }),
        problems: details.damage.iter().cloned().chain(mended).collect(),
        // What is encrypted in it is of no use here, and may be long.
        sidecar: details.sidecar.as_ref().map(|it| Sidecar { sealed: None, ..it.clone() }),
    };
    serde_json::json!(info)
}

fn busy(message: &str) -> AgentError {
    let error = AgentError::new(Reason::InvalidState).with_message(message);
    error.with_advice("stop that first (recordctl status), or wait for its end")
}

/// A request has waited for the disk for as long as may be.
pub(in crate::agent) fn disk_silent() -> AgentError {
    AgentError::new(Reason::StorageIo)
        .with_message("the disk does not answer")
        .with_advice("wait until it does, or pull the stick and insert it again")
        .with_text(Some(TextKey::StorageSilent))
}

pub(in crate::agent) fn error_of(miss: LibraryError) -> AgentError {
    match miss {
        LibraryError::NotFound => {
            AgentError::new(Reason::NotFound).with_message("there is no recording of this name")
        }
        LibraryError::Busy => busy("it is being recorded"),
        LibraryError::Encrypted => AgentError::new(Reason::PermissionDenied)
            .with_message("the recording is encrypted, and the key to it is not on the phone: recordctl decrypt opens it")
            .because(Cause::Encrypted),
        LibraryError::Damaged(detail) => AgentError::new(Reason::FileDamaged).with_detail(detail),
        LibraryError::Fault(fault) => AgentError::new(reason_at_start(fault.kind)).with_detail(fault.detail),
    }
}
