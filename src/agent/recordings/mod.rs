//! The recordings that have not ended, and the last that have.
//!
//! Owns: finding one by its key, id or file, and the counters over all. The behaviour of one is
//! [`recording`]'s; the consequences of an answer of the disk, the server or the PBX are [`on_disk`]'s,
//! [`at_server`]'s and [`at_pbx`]'s. Never: a disk or the library. Facts about these are parameters,
//! consequences for them are returned.

pub(in crate::agent) mod at_pbx;
pub(in crate::agent) mod at_server;
pub(in crate::agent) mod notices;
pub(in crate::agent) mod on_disk;
pub(in crate::agent) mod outcome;
pub(in crate::agent) mod recording;
pub(in crate::agent) mod start;

use crate::agent::clients::answer::{Caller, Failure, PendingReply};
use crate::agent::disk::state::RoomLeft;
use crate::agent::recordings::notices::Watch;
use crate::agent::recordings::on_disk::pending_finalisations::PendingFinalisations;
use crate::agent::recordings::outcome::{Books, Outcome, Removed, Then};
use crate::agent::recordings::recording::by_pbx::Purpose;
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::leftover::{LastSender, LastSenders, Leftover};
use crate::agent::recordings::recording::to_server::goes_on;
use crate::agent::recordings::recording::{Recording, altered_text};
use crate::agent::recordings::start::{Place, WaitingStarts, codec_of, file_destination};
use crate::agent::{Action, Datagram, Forward, MAX_ENDED, RecordingKey, Turn, UplinkInput};
use crate::api::ending::EndReason;
use crate::api::error::AgentError;
use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::api::request::RecordStart;
use crate::api::status::{Mode, RecordingState, RecordingStatus, Stats};
use media::blocks::BlockPool;
use media::time::{Mono, Now};
use recfile::call::CallUpdate;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;
use store::jobs::{Fault, FileKey, Folder, Piece};

/// The recordings, and the starts that wait.
#[derive(Debug, Default)]
pub(in crate::agent) struct Recordings {
    live: BTreeMap<RecordingKey, Recording>,
    ended: VecDeque<RecordingStatus>,
    pub(in crate::agent) waiting_starts: WaitingStarts,
    /// Files that wait for a name's room; each recording has one at most.
    reopening: Vec<(RecordingKey, Fault)>,
    pub(in crate::agent) pending_finalisations: PendingFinalisations,
    last_senders: LastSenders,
    books: Books,
}

impl Recordings {
    /// Takes a datagram of a recording, and returns the datagrams to relay.
    pub(in crate::agent) fn datagram(
        &mut self,
        key: RecordingKey,
        datagram: Datagram<'_>,
        pool: &mut BlockPool,
    ) -> Forward {
        let Datagram { octets, truncated, arrival, .. } = datagram;
        let Some(it) = self.live.get_mut(&key) else { return Forward::Nothing };
        self.books.octets += octets.len() as u64;
        if !it.takes_audio() {
            self.books.paused_packets += 1;
            // Packets before the server's answer are only wanted if they have to be recorded here.
            if it.state() == RecordingState::Starting && !truncated {
                if let Some(to_server) = it.destination.as_server_mut() {
                    to_server.keep(octets, arrival);
                }
            }
            return Forward::Nothing;
        }
        let Some(verdict) = it.datagram(datagram, pool) else { return Forward::Nothing };
        let released = it.take_released();
        let Some(to_server) = it.destination.as_server_mut() else { return Forward::Nothing };
        if to_server.link.is_some() {
            at_server::by_stream::keep(
                it,
                released.as_ref(),
                goes_on(verdict).then_some((octets, arrival)),
                pool,
            );
            return Forward::Nothing;
        }
        if let Some(waiting) = &released {
            waiting.iter().for_each(|(octets, at)| to_server.keep(octets, at));
        }
        let this = goes_on(verdict);
        if this {
            to_server.keep(octets, arrival);
        }
        match (released, this) {
            (None, false) => Forward::Nothing,
            (None, true) => Forward::This,
            (Some(waiting), false) => Forward::Held(waiting),
            (Some(waiting), true) => Forward::HeldThenThis(waiting),
        }
    }

    pub(in crate::agent) fn get(&self, key: RecordingKey) -> Option<&Recording> {
        self.live.get(&key)
    }

    pub(in crate::agent) fn get_mut(&mut self, key: RecordingKey) -> Option<&mut Recording> {
        self.live.get_mut(&key)
    }

    pub(in crate::agent) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub(in crate::agent) fn keys(&self) -> Vec<RecordingKey> {
        self.live.keys().copied().collect()
    }

    /// The recordings that go to the disk.
    pub(in crate::agent) fn on_disk(&self) -> Vec<RecordingKey> {
        self.live.iter().filter(|(_, it)| it.goes_to_file()).map(|(key, _)| *key).collect()
    }

    pub(in crate::agent) fn count_on_disk(&self) -> usize {
        self.live.values().filter(|it| it.goes_to_file()).count()
    }

    /// Seconds left for each that goes to the disk.
    pub(in crate::agent) fn remaining_s(&self, room: RoomLeft) -> Option<u64> {
        room.seconds(self.count_on_disk())
    }

    /// The ids of all.
    pub(in crate::agent) fn ids(&self) -> Vec<String> {
        self.live.values().map(|it| it.id.clone()).collect()
    }

    /// Whether a recording of this id has not ended.
    pub(in crate::agent) fn is_running(&self, id: &str) -> bool {
        self.live.values().any(|it| it.id == id)
    }

    /// Whether a file is being recorded.
    pub(in crate::agent) fn has_file(&self, file: &str) -> bool {
        self.live.values().any(|it| it.file_name() == Some(file))
    }

    pub(in crate::agent) fn key_of(&self, file: FileKey) -> Option<RecordingKey> {
        let has_it = |it: &Recording| it.destination.as_file().is_some_and(|to_file| to_file.file() == file);
        self.live.iter().find(|(_, it)| has_it(it)).map(|(key, _)| *key)
    }

    /// The folder that a recording goes to.
    pub(in crate::agent) fn folder_of(&self, key: RecordingKey) -> Option<&Folder> {
        self.live.get(&key).and_then(|it| it.destination.as_file()).map(|to_file| to_file.folder())
    }

    /// Octets recorded that have not been given to storage yet.
    pub(in crate::agent) fn waiting_octets(&self) -> u64 {
        self.live.values().map(Recording::waiting_octets).sum()
    }

    /// Whether one waits for the next answer of storage.
    pub(in crate::agent) fn wait_for_storage(&self) -> bool {
        let waits = |it: &Recording| it.is_impatient() || (it.goes_to_file() && it.paused.is_some());
        self.live.values().any(waits)
    }

    /// The earliest deadline of all recordings.
    pub(in crate::agent) fn deadline(&self, watch: &Watch<'_>) -> Option<Mono> {
        let due = self.live.values().filter_map(|it| notices::deadline(it, watch));
        due.chain(self.waiting_starts.deadline()).min()
    }

    /// The recording that a request means: the one named, or the only one.
    pub(in crate::agent) fn live(&self, recording: Option<&str>) -> Result<RecordingKey, Failure> {
        if let Some(id) = recording {
            let live = self.live.iter().find(|(_, it)| it.id == id && it.is_live());
            let error = if self.is_running(id) || self.has_ended(id) {
                AgentError::new(Reason::NotRecording).with_message("the recording has ended")
            } else {
                AgentError::new(Reason::NotFound).with_message("no recording of this name runs")
            };
            let error = error.with_advice("recordctl status shows those that run, recordctl list the files");
            return live.map(|(key, _)| *key).ok_or_else(|| error.into());
        }
        let mut live = self.live.iter().filter(|(_, it)| it.is_live());
        match (live.next(), live.next()) {
            (Some((key, _)), None) => Ok(*key),
            (None, _) => Err(Reason::NotRecording.into()),
            _ => {
                let live = self.live.values().filter(|it| it.is_live());
                let ids: Vec<&str> = live.map(|it| it.id.as_str()).collect();
                Err(Failure::Params(format!(
                    "`recording` is missing, and there are several: {}",
                    ids.join(", ")
                )))
            }
        }
    }

    fn has_ended(&self, id: &str) -> bool {
        self.ended.iter().any(|status| status.recording == id)
    }

    /// The statuses of all.
    pub(in crate::agent) fn statuses(&self, room: RoomLeft, now: Mono) -> Vec<RecordingStatus> {
        let remaining_s = self.remaining_s(room);
        self.live.values().map(|it| it.status(remaining_s, now)).collect()
    }

    /// The status of a recording that runs, or of the one that ended last.
    pub(in crate::agent) fn status_of(
        &self,
        key: RecordingKey,
        room: RoomLeft,
        now: Mono,
    ) -> Result<RecordingStatus, Failure> {
        let live = self.live.get(&key).map(|it| it.status(self.remaining_s(room), now));
        live.or_else(|| self.ended.front().cloned()).ok_or_else(|| Reason::NotFound.into())
    }

    /// The status of the recording of this id.
    pub(in crate::agent) fn status_by_id(
        &self,
        id: &str,
        room: RoomLeft,
        now: Mono,
    ) -> Option<RecordingStatus> {
        let live = self.live.values().find(|it| it.id == id).map(|it| it.status(self.remaining_s(room), now));
        live.or_else(|| self.ended.iter().find(|status| status.recording == id).cloned())
    }

    /// Starts a recording, or answers why not.
    pub(in crate::agent) fn start(
        &mut self,
        reply: Option<PendingReply>,
        start: RecordStart,
        place: Place,
        turn: &mut Turn<'_>,
    ) {
        match (self.try_start(start, place, turn), reply) {
            (Ok(key), reply) => {
                if let Some(it) = self.live.get_mut(&key) {
                    it.waiting = reply;
                }
            }
            (Err(error), Some(reply)) => reply.err(&error, turn.actions),
            (Err(_), None) => {}
        }
    }

    fn try_start(
        &mut self,
        start: RecordStart,
        place: Place,
        turn: &mut Turn<'_>,
    ) -> Result<RecordingKey, AgentError> {
        let codec = codec_of(&start)?;
        place.may_begin?;
        let limit = turn.config.rtp.max_recordings;
        if self.live.len() >= limit {
            return Err(AgentError::new(Reason::TooManyRecordings)
                .with_detail(format!("{limit} are running (rtp.max_recordings)")));
        }
        let recording = turn.ids.id();
        let (destination, open) = match start.mode {
            Mode::Local => file_destination(&recording, codec, &start, place.folder?, turn),
            Mode::Server => (at_server::destination(codec, start.ptime_ms, &start.call, turn)?, None),
            Mode::SipInfo => {
                at_pbx::check_stack(turn)?;
                self.check_one_per_call(&start.call.id, None)?;
                (Destination::Pbx(Box::default()), None)
            }
        };
        let key = RecordingKey(turn.ids.key());
        let mode = start.mode;
        let mut it = Recording::new(recording, codec, start, destination, turn.now);
        it.open = open;
        let log =
            format!("recording {} starts: {}, {} {} ms", it.id, mode.as_str(), codec.name(), it.ptime_ms);
        let altered = altered_text(&it.id, it.call.altered);
        let it = self.live.entry(key).or_insert(it);
        self.books.started += 1;
        turn.actions.push(Action::Log(log::Level::Info, log));
        turn.actions.extend(altered.map(|text| Action::Log(log::Level::Info, text)));
        if mode == Mode::SipInfo {
            at_pbx::ask(it, Purpose::Start, turn);
        } else {
            let (addr, ports) = (turn.config.rtp.bind, self.ports(turn));
            turn.actions.push(Action::BindRtp { recording: key, addr, ports, codec });
        }
        Ok(key)
    }

    /// Ports to try: an ephemeral one, or the configured one and those after it.
    fn ports(&self, turn: &Turn<'_>) -> Vec<u16> {
        let taken: Vec<u16> = self.live.values().filter_map(|it| it.rtp.map(|rtp| rtp.port())).collect();
        turn.config.rtp_ports().into_iter().filter(|port| !taken.contains(port)).collect()
    }

    /// Refuses a second recording of one call by the PBX; `but` is the one that is asked about. PBXs toggle
    /// at a second `on`.
    fn check_one_per_call(&self, id: &str, but: Option<RecordingKey>) -> Result<(), AgentError> {
        let same = |it: &Recording| matches!(it.destination, Destination::Pbx(_)) && it.call.id == id;
        match self.live.iter().find(|(key, it)| Some(**key) != but && same(it)) {
            None => Ok(()),
            Some((_, it)) => Err(AgentError::new(Reason::InvalidState)
                .with_message("the PBX has been asked to record this call already")
                .with_detail(format!("recording {}", it.id))),
        }
    }

    /// The RTP port of a recording was bound, or could not be.
    pub(in crate::agent) fn rtp_bound(
        &mut self,
        key: RecordingKey,
        result: Result<SocketAddr, String>,
        turn: &mut Turn<'_>,
    ) -> Then {
        let Some(it) = self.live.get_mut(&key) else { return Then::Nothing };
        match result {
            Ok(addr) => {
                it.rtp = Some(addr);
                let last = self.last_senders.at(addr.port());
                it.beware_of(last.and_then(|last| Leftover::of(last, &it.call.id, turn.now.mono)));
                turn.actions.extend(it.open.take().map(Action::Job));
                at_server::begin(it, key, turn)
            }
            // The file has not been asked for yet.
            Err(detail) => Then::Remove(Outcome::NoPort(detail)),
        }
    }

    /// Takes an event on the way to the server.
    pub(in crate::agent) fn take_uplink(
        &mut self,
        key: RecordingKey,
        input: UplinkInput<'_>,
        room: RoomLeft,
        turn: &mut Turn<'_>,
    ) -> Then {
        let remaining_s = self.remaining_s(room);
        let Some(it) = self.live.get_mut(&key) else { return Then::Nothing };
        at_server::take(it, key, input, remaining_s, turn)
    }

    /// The phone's SIP stack reports the answer of the PBX.
    pub(in crate::agent) fn take_pbx_answer(
        &mut self,
        recording: &str,
        code: u16,
        turn: &mut Turn<'_>,
    ) -> Result<Option<(RecordingKey, Then)>, AgentError> {
        // RFC 3261, section 14.1: the owner of the Call-ID waits 2.1 to 4 s, in steps of 10 ms.
        let retry_after = Duration::from_millis(2100 + turn.ids.random() % 191 * 10);
        let found = self.live.iter_mut().find(|(_, it)| it.id == recording);
        let Some((&key, it)) = found else {
            return if self.has_ended(recording) { Ok(None) } else { Err(Reason::NotFound.into()) };
        };
        Ok(Some((key, at_pbx::answered(it, code, retry_after, turn)?)))
    }

    /// Gives recordings by the PBX the time: they have no audio to tell it.
    pub(in crate::agent) fn show_clock(&mut self, now: Now) {
        for sip in self.live.values_mut().filter_map(|it| it.destination.as_pbx_mut()) {
            sip.see(now.mono);
        }
    }

    /// The system dropped a number of `packets` of a recording.
    pub(in crate::agent) fn socket_overflowed(&mut self, key: RecordingKey, packets: u32) {
        self.books.dropped_by_sockets += u64::from(packets);
        if let Some(it) = self.live.get_mut(&key) {
            it.overflowed += u64::from(packets);
        }
    }

    pub(in crate::agent) fn update(
        &mut self,
        key: RecordingKey,
        call: &CallUpdate,
        turn: &mut Turn<'_>,
    ) -> Result<(), Failure> {
        let Some(it) = self.live.get(&key) else { return Err(Reason::NotFound.into()) };
        if let (Destination::Pbx(_), Some(id)) = (&it.destination, &call.id) {
            self.check_one_per_call(id, Some(key))?;
        }
        if let Some(it) = self.live.get_mut(&key) {
            it.call.update(call);
            turn.actions
                .extend(altered_text(&it.id, call.altered).map(|text| Action::Log(log::Level::Info, text)));
            if let Some(to_server) = it.destination.as_server_mut() {
                to_server.client.update(it.call.clone());
            }
        }
        Ok(())
    }

    /// Pauses a recording. Gives its status; `None` if that is answered when the PBX has answered.
    pub(in crate::agent) fn pause(
        &mut self,
        key: RecordingKey,
        caller: &mut Caller,
        room: RoomLeft,
        turn: &mut Turn<'_>,
    ) -> Result<Option<RecordingStatus>, Failure> {
        let remaining_s = self.remaining_s(room);
        let Some(it) = self.live.get_mut(&key) else { return Err(Reason::NotFound.into()) };
        if it.paused.is_some() {
            return Err(AgentError::new(Reason::InvalidState).with_message("it is paused already").into());
        }
        it.settle(turn.now.mono, turn.pool);
        match &mut it.destination {
            Destination::File(_) => {}
            Destination::Server(to_server) => to_server.pause(turn.now.mono, turn.pool),
            Destination::Pbx(_) => {
                at_pbx::switch(it, Purpose::Pause, caller, turn)?;
                return Ok(None);
            }
        }
        it.stream.pause(turn.pool);
        it.paused = Some(turn.now.mono);
        let status = it.status(remaining_s, turn.now.mono);
        turn.emit(&Event::RecordingPaused(status.clone()));
        Ok(Some(status))
    }

    /// Goes on after a pause, and answers as [`pause`](Self::pause) does.
    pub(in crate::agent) fn resume(
        &mut self,
        key: RecordingKey,
        caller: &mut Caller,
        room: RoomLeft,
        turn: &mut Turn<'_>,
    ) -> Result<Option<RecordingStatus>, Failure> {
        let remaining_s = self.remaining_s(room);
        let Some(it) = self.live.get_mut(&key) else { return Err(Reason::NotFound.into()) };
        let Some(since) = it.paused else {
            return Err(AgentError::new(Reason::InvalidState).with_message("it is not paused").into());
        };
        match &mut it.destination {
            Destination::File(_) => it.stream.note_pause(turn.now.mono.since(since)),
            Destination::Server(to_server) => to_server.resume(turn.now.mono, turn.pool),
            Destination::Pbx(_) => {
                at_pbx::switch(it, Purpose::Resume, caller, turn)?;
                return Ok(None);
            }
        }
        it.paused = None;
        it.stream.begin(turn.now.mono);
        let status = it.status(remaining_s, turn.now.mono);
        turn.emit(&Event::RecordingResumed(status.clone()));
        Ok(Some(status))
    }

    /// Begins to end a recording; `recording.ended` follows when its file is closed.
    pub(in crate::agent) fn stop(
        &mut self,
        key: RecordingKey,
        reason: EndReason,
        turn: &mut Turn<'_>,
    ) -> Then {
        let Some(it) = self.live.get_mut(&key).filter(|it| it.is_live()) else { return Then::Nothing };
        it.settle(turn.now.mono, turn.pool);
        it.phase.stop();
        it.end_for(reason);
        it.stopped = Some(turn.now.mono);
        remember_sender(it, &mut self.last_senders, turn);
        match &mut it.destination {
            Destination::File(to_file) => {
                if let Some(since) = it.paused {
                    it.stream.note_pause(turn.now.mono.since(since));
                }
                to_file.finish(reason.as_str(), &mut it.stream, turn.now, turn.pool);
                turn.actions.push(Action::CloseRtp(key));
                Then::Write
            }
            Destination::Server(_) => at_server::stop(it, key, reason, turn),
            Destination::Pbx(_) => at_pbx::stop(it, turn),
        }
    }

    /// Removes a recording: gives its audio back, closes its port, books its packets, and tells everybody.
    pub(in crate::agent) fn remove(
        &mut self,
        key: RecordingKey,
        mut outcome: Outcome,
        room: RoomLeft,
        turn: &mut Turn<'_>,
    ) -> Option<Removed> {
        let with_itself = self.remaining_s(room);
        let mut it = self.live.remove(&key)?;
        if matches!(outcome, Outcome::DiskFailed(..)) {
            remember_sender(&it, &mut self.last_senders, turn);
        }
        let had_begun = outcome.had_begun(&it);
        at_server::by_stream::leave(&mut it, key, turn);
        on_disk::leave_file(&mut it, &mut outcome, &mut self.pending_finalisations, turn);
        if !matches!(outcome, Outcome::NoPort(_) | Outcome::Discarded) {
            turn.actions.push(Action::CloseRtp(key));
        }
        self.books.past.add(&it.final_counts());
        outcome.note_in(&mut it);
        it.phase.end();
        let has_failed = !matches!(outcome, Outcome::Ended);
        let remaining_s = if has_failed { self.remaining_s(room) } else { with_itself };
        let status = it.status(remaining_s, turn.now.mono);
        let line = outcome.log_line(&it, had_begun, status.elapsed_ms);
        turn.actions.extend(line.map(|(level, text)| Action::Log(level, text)));
        if let Some(reply) = it.waiting.take() {
            reply.err(&outcome.error(), turn.actions);
        }
        if had_begun {
            self.books.failed += u64::from(has_failed);
            self.ended.truncate(MAX_ENDED - 1);
            self.ended.push_front(status.clone());
            let event =
                if has_failed { Event::RecordingFailed(status) } else { Event::RecordingEnded(status) };
            turn.emit(&event);
        }
        let disk_failed = matches!(outcome, Outcome::DiskFailed(..) | Outcome::NoFile(_));
        Some(Removed { disk_failed, went_to_file: it.goes_to_file() })
    }

    /// Storage wrote audio of a recording.
    pub(in crate::agent) fn appended(&mut self, key: RecordingKey, pieces: Vec<Piece>, turn: &mut Turn<'_>) {
        if let Some(it) = self.live.get_mut(&key) {
            self.books.written_octets += on_disk::appended(it, pieces, turn);
        }
    }

    /// A write by storage has lasted for the time `took`.
    pub(in crate::agent) fn note_write(&mut self, took: Duration) {
        self.books.longest_write = self.books.longest_write.max(took);
    }

    /// A recording goes on in another folder when its present file is full.
    pub(in crate::agent) fn move_to(&mut self, key: RecordingKey, folder: Folder) {
        if let Some(it) = self.live.get_mut(&key) {
            if let Some(to_file) = it.destination.as_file_mut() {
                to_file.move_to(folder, &mut it.stream);
            }
        }
    }

    /// A file waits until the oldest one has made room for its name.
    pub(in crate::agent) fn reopen_later(&mut self, key: RecordingKey, fault: Fault) {
        self.reopening.push((key, fault));
    }

    /// The files that wait for a name's room, and why they could not be created.
    pub(in crate::agent) fn take_reopening(&mut self) -> Vec<(RecordingKey, Fault)> {
        std::mem::take(&mut self.reopening)
    }

    /// Writes the counters of this part.
    pub(in crate::agent) fn count_in(&self, stats: &mut Stats) {
        self.books.count_in(self.live.values(), stats);
    }
}

/// Whether a recording of this mode can be started as things are.
pub(in crate::agent) fn is_possible(mode: Mode, may_use_disk: bool, turn: &Turn<'_>) -> bool {
    match mode {
        Mode::Local => may_use_disk,
        Mode::Server => turn.config.uplink.is_configured(),
        Mode::SipInfo => turn.wants("sip.info"),
    }
}

/// Remembers who sent to a fixed port that is let go.
fn remember_sender(it: &Recording, last_senders: &mut LastSenders, turn: &Turn<'_>) {
    let Some((rtp, heard)) = it.rtp.zip(it.last_heard()).filter(|_| turn.config.rtp.port != 0) else {
        return;
    };
    last_senders.note(LastSender { port: rtp.port(), heard, call_id: it.call.id.clone() });
}
