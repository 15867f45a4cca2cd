//! The library: requests about the recordings on the disk.
//!
//! Owns: the index, questions that wait for storage, playbacks. Lists are answered from memory, the rest when
//! storage has answered. Never: recordings and disks; it is told of their changes.

mod index;
mod playback;
mod playbacks;

use crate::agent::clients::answer::{Answer, Caller, Failure, PendingReply};
use crate::agent::disk::faults::{disk_silent, reason_at_start};
use crate::agent::library::index::{Entry, LibraryIndex};
use crate::agent::library::playback::PlayRequest;
use crate::agent::library::playbacks::{IsRunning, Players, parts_around, parts_of};
use crate::agent::{Action, Turn};
use crate::api::ending::TextKey;
use crate::api::error::AgentError;
use crate::api::event::Event;
use crate::api::reason::{Cause, Reason};
use crate::api::reply::Done as Empty;
use crate::api::request::Method;
use crate::api::status::{PlaybackStatus, RecordingEntry, RecordingsListed};
use log::Level as LogLevel;
use media::codec::OCTETS_PER_MS;
use media::time::{Mono, Wall};
use recfile::call::Call;
use recfile::format::{Facts, Layout};
use recfile::header::FileHeader;
use recfile::sidecar::Sidecar;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use store::jobs::Recovered;
use store::jobs::library::{
    AskId, Details, FileSummary, LibraryDone, LibraryError, LibraryJob, Playable, PlaybackKey, ReadFrames,
    SidecarSummary,
};
use store::jobs::{Folder, Job};

/// Questions that wait for the disk at the same time.
const MAX_ASKS: usize = 64;

/// Questions that wait for storage.
type Asks = BTreeMap<AskId, Ask>;

/// A question that waits for storage.
#[derive(Debug)]
struct Ask {
    reply: Option<PendingReply>,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Nothing to remember.
    Look,
    /// This file is being deleted.
    Delete(String),
    /// To play this.
    Play(PlayRequest),
}

/// Result of `recordings.info`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "RecordingInfo"))]
pub(crate) struct Info {
    #[serde(flatten)]
    entry: RecordingEntry,
    /// The format by the file itself; `None` if it does not begin like a recording.
    format: Option<FormatInfo>,
    /// Why it does not, or the damage that a repair would mend.
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

/// The state of recordings and disks that the library has to know.
pub(in crate::agent) struct Around<'a> {
    /// Why nothing may begin on the disk just now.
    pub(in crate::agent) may_begin: Result<(), AgentError>,
    /// Whether a recording of this id has not ended.
    pub(in crate::agent) is_running: IsRunning<'a>,
}

/// The library: the recordings on the disk, and their playbacks.
#[derive(Debug, Default)]
pub(in crate::agent) struct Library {
    index: LibraryIndex,
    asks: Asks,
    players: Players,
}

impl Library {
    pub(in crate::agent) fn list(
        &self,
        limit: Option<u32>,
        after: Option<&str>,
        query: Option<&str>,
    ) -> Result<RecordingsListed, AgentError> {
        let nowhere =
            || AgentError::new(Reason::NotFound).with_message("there is no recording `after` which to list");
        self.index.list(limit, after, query).ok_or_else(nowhere)
    }

    /// Answers a request that needs the disk, about one file in `folder`.
    pub(in crate::agent) fn ask_about(
        &mut self,
        caller: &mut Caller,
        method: Method,
        folder: Folder,
        is_recorded: bool,
        turn: &mut Turn<'_>,
    ) -> Answer {
        let (Method::RecordingsInfo { file }
        | Method::RecordingsDelete { file }
        | Method::RecordingsProtect { file, .. }) = &method
        else {
            return Err(Reason::InvalidState.into());
        };
        let file = file.clone();
        let deletes = matches!(method, Method::RecordingsDelete { .. });
        if !matches!(method, Method::RecordingsInfo { .. }) && is_recorded {
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
    fn ask(&mut self, caller: &mut Caller, what: What, turn: &mut Turn<'_>) -> Result<AskId, Failure> {
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

    fn is_played(&self, file: &str) -> bool {
        let asked =
            |what: &What| matches!(what, What::Play(request) if request.files.iter().any(|it| it == file));
        self.players.plays(file) || self.asks.values().any(|ask| asked(&ask.what))
    }

    /// Answers a request about playbacks; `folder` is the one to read, or the reason why there is none.
    pub(in crate::agent) fn play(
        &mut self,
        caller: &mut Caller,
        method: Method,
        folder: Result<Folder, AgentError>,
        around: Around<'_>,
        turn: &mut Turn<'_>,
    ) -> Answer {
        let Method::PlayStart { file, rtp, position_ms } = method else {
            return self.players.handle(method, around.is_running, turn);
        };
        if !rtp.addr.is_loopback() && !turn.config.rtp.allow_remote {
            let message = format!("RTP to {} is not allowed: it goes to this machine only", rtp.addr);
            let advice = "give an address such as 127.0.0.1, or set [rtp] allow_remote = true";
            let error = AgentError::new(Reason::PermissionDenied).with_message(message);
            return Err(error.with_advice(advice).into());
        }
        around.may_begin?;
        let folder = folder?;
        let waiting = self.asks.values().filter(|ask| matches!(ask.what, What::Play(_))).count();
        self.players.check_limit(waiting)?;
        let recording = self.index.get(&file).and_then(|entry| entry.recording()).map(str::to_owned);
        let segments = recording.as_deref().map(|recording| self.index.segments(recording));
        let files = parts_around(&file, segments.unwrap_or_default());
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
    fn play_opened(
        &mut self,
        ask: AskId,
        files: Vec<Result<Playable, LibraryError>>,
        around: Around<'_>,
        turn: &mut Turn<'_>,
    ) {
        let asked = self.asks.remove(&ask);
        let Some(Ask { reply, what: What::Play(request) }) = asked else { return };
        match around.may_begin.and_then(|()| parts_of(&request, files)) {
            Ok(parts) => self.players.start(reply, request, parts, around.is_running, turn),
            Err(error) => reply.into_iter().for_each(|reply| reply.err(&error, turn.actions)),
        }
    }

    /// A disk came, or files on it changed: the folder is read anew.
    pub(in crate::agent) fn begin(&mut self) {
        self.index.begin();
    }

    /// Another disk is in use, or none: the listed files are there no more.
    pub(in crate::agent) fn clear(&mut self) {
        self.index.clear();
    }

    /// When the next step of the index is due, if the disk can be read.
    pub(in crate::agent) fn index_deadline(&self) -> Option<Mono> {
        self.index.deadline()
    }

    /// When the next packet of a playback is due.
    pub(in crate::agent) fn play_deadline(&self, progress: bool) -> Option<Mono> {
        self.players.deadline(progress)
    }

    /// Takes the next step of the index, if one is due.
    pub(in crate::agent) fn pump(&mut self, folder: impl FnOnce() -> Option<Folder>, turn: &mut Turn<'_>) {
        let job = self.index.next_job(folder, turn.now.mono);
        turn.actions.extend(job.map(|job| Action::Job(Job::Library(job))));
    }

    /// Does the due work of all playbacks.
    pub(in crate::agent) fn play_all(&mut self, is_running: IsRunning<'_>, turn: &mut Turn<'_>) {
        self.players.play_all(is_running, turn);
    }

    /// All playbacks that have not ended.
    pub(in crate::agent) fn playbacks(&self) -> Vec<PlaybackStatus> {
        self.players.statuses()
    }

    /// Ends every playback.
    pub(in crate::agent) fn end_playbacks(&mut self, reason: &'static str, turn: &mut Turn<'_>) {
        self.players.end_all(reason, turn);
    }

    /// The socket of a playback could not be opened.
    pub(in crate::agent) fn player_failed(&mut self, playback: PlaybackKey, turn: &mut Turn<'_>) {
        self.players.end(playback, Reason::PermissionDenied.as_str(), None, turn);
    }

    /// Takes an answer of storage.
    pub(in crate::agent) fn handle(&mut self, done: LibraryDone, around: Around<'_>, turn: &mut Turn<'_>) {
        match done {
            LibraryDone::Indexed(mut done) => {
                recovered(std::mem::take(&mut done.recovered), turn);
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
            LibraryDone::Opened(ask, files) => self.play_opened(ask, files, around, turn),
            LibraryDone::Read(read) => self.players.take_read(read, around.is_running, turn),
            LibraryDone::Kept => {}
        }
    }

    /// Storage has no room for a job: the disk is stalled. A job that has to be kept for later comes back.
    pub(in crate::agent) fn refused(&mut self, job: LibraryJob, turn: &mut Turn<'_>) -> Option<LibraryJob> {
        match job {
            LibraryJob::Index(_) => self.index.refused(turn.now.mono),
            LibraryJob::Info { ask, .. }
            | LibraryJob::Delete { ask, .. }
            | LibraryJob::Protect { ask, .. }
            | LibraryJob::OpenPlay { ask, .. } => self.refuse_ask(ask, &disk_silent(), turn),
            LibraryJob::ReadFrames(ReadFrames { playback, block, .. }) => {
                self.players.refused(playback, block, turn);
            }
            // Nobody asks again: a file that is played must not be deleted when the disk goes on.
            LibraryJob::Keep(_) => return Some(job),
        }
        None
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

    fn refuse_ask(&mut self, ask: AskId, error: &AgentError, turn: &mut Turn<'_>) {
        if let Some(reply) = self.asks.remove(&ask).and_then(|ask| ask.reply) {
            reply.err(error, turn.actions);
        }
    }

    /// A file was created for a recording.
    pub(in crate::agent) fn file_opened(&mut self, new: &NewFile<'_>) {
        let header = new.header;
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
        let found = FileSummary {
            file: new.file.to_owned(),
            octets: new.octets,
            modified_ms: new.start.unix_ms,
            facts: Some(facts),
            encrypted: new.encrypted,
            sidecar: Some(SidecarSummary {
                recording: new.recording.to_owned(),
                segment: new.segment,
                call: new.call.clone(),
                start: Some(new.start),
                protected: false,
            }),
        };
        self.index.put(Entry::new(&found, new.start.utc_offset_s));
        self.players.grow(new.recording, new.file, header);
    }

    /// A file of `octets` has `audio_octets` of audio by now.
    pub(in crate::agent) fn file_grew(&mut self, file: &str, octets: u64, audio_octets: u64) {
        self.index.change(file, |entry| entry.set_length(octets, audio_octets / OCTETS_PER_MS));
        self.players.grew(file, audio_octets);
    }

    /// A file was closed: its last frame, of `frame_octets`, was filled up, and `more_octets` written behind
    /// it. `octets_with` gives its length for a number of octets of audio.
    pub(in crate::agent) fn file_closed(
        &mut self,
        file: &str,
        frame_octets: u64,
        more_octets: u64,
        octets_with: impl Fn(u64) -> u64,
    ) {
        self.index.change(file, |entry| {
            let audio = entry.audio_octets(octets_with(0)).next_multiple_of(frame_octets);
            entry.set_length(octets_with(audio) + more_octets, audio / OCTETS_PER_MS);
        });
    }

    /// A file was deleted to make room.
    pub(in crate::agent) fn file_deleted(&mut self, file: &str) {
        self.index.remove(file);
    }

    /// Numbers and names of the call of a file changed.
    pub(in crate::agent) fn call_changed(&mut self, file: &str, call: &Call) {
        self.index.change(file, |entry| entry.set_call(call));
    }
}

/// A file that was created for a recording.
pub(in crate::agent) struct NewFile<'a> {
    pub(in crate::agent) recording: &'a str,
    pub(in crate::agent) call: &'a Call,
    pub(in crate::agent) file: &'a str,
    pub(in crate::agent) header: FileHeader,
    pub(in crate::agent) start: Wall,
    pub(in crate::agent) segment: u32,
    pub(in crate::agent) encrypted: bool,
    /// Its length without audio.
    pub(in crate::agent) octets: u64,
}

fn recovered(files: Vec<Recovered>, turn: &mut Turn<'_>) {
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
        // The encrypted part of it is of no use here, and may be long.
        sidecar: details.sidecar.as_ref().map(|it| Sidecar { sealed: None, ..it.clone() }),
    };
    serde_json::json!(info)
}

fn busy(message: &str) -> AgentError {
    let error = AgentError::new(Reason::InvalidState).with_message(message);
    error.with_advice("stop that first (recordctl status), or wait for its end")
}

fn error_of(miss: LibraryError) -> AgentError {
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
