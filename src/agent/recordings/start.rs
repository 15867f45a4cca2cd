//! How a recording begins: whether it may, where it goes, and its RTP port.

use crate::agent::clients::answer::Answer;
use crate::agent::clients::answer::{Caller, PendingReply};
use crate::agent::recordings::recording::by_pbx::Purpose;
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::leftover::{LastSender, Leftover};
use crate::agent::recordings::recording::to_file::{Spec, ToFile};
use crate::agent::recordings::recording::{Recording, altered_text};
use crate::agent::recordings::stop::outcome::Outcome;
use crate::agent::{Action, MAX_WAITING_STARTS, Parts, RecordingKey, Turn};
use crate::api::error::AgentError;
use crate::api::reason::Reason;
use crate::api::request::RecordStart;
use crate::api::status::Mode;
use media::codec::Codec;
use recfile::header::MAX_FILE_OCTETS;
use store::jobs::Job;

impl Parts {
    pub(in crate::agent) fn record_start(
        &mut self,
        caller: &mut Caller,
        start: RecordStart,
        turn: &mut Turn<'_>,
    ) -> Answer {
        if start.mode == Mode::Local {
            self.turn_if_better(turn);
        }
        if start.mode != Mode::Local || self.disk.state.folder_to_record(self.count_on_disk()).is_ok() {
            self.start(caller.defer(), start, turn);
            return Ok(None);
        }
        // Perhaps the disk has come since we looked last: look again before refusing.
        if self.waiting_starts.len() >= MAX_WAITING_STARTS {
            return Err(Reason::TooManyRecordings.into());
        }
        self.waiting_starts.push_back((caller.defer(), start, turn.now.mono));
        if !self.deletes_for_start(turn) && !self.disk.is_looking() {
            self.disk.scan(turn);
        }
        Ok(None)
    }

    /// Starts a recording, or answers why not.
    pub(in crate::agent) fn start(
        &mut self,
        reply: Option<PendingReply>,
        start: RecordStart,
        turn: &mut Turn<'_>,
    ) {
        match (self.try_start(start, turn), reply) {
            (Ok(key), reply) => {
                if let Some(it) = self.recordings.get_mut(&key) {
                    it.waiting = reply;
                }
            }
            (Err(error), Some(reply)) => reply.err(&error, turn.actions),
            (Err(_), None) => {}
        }
    }

    fn try_start(&mut self, start: RecordStart, turn: &mut Turn<'_>) -> Result<RecordingKey, AgentError> {
        let codec = Codec::from_name(&start.codec).ok_or_else(|| {
            let known = Codec::ALL.map(Codec::name).join(", ");
            AgentError::new(Reason::UnsupportedCodec)
                .with_detail(format!("{} is not one of {known}", start.codec))
        })?;
        self.refuse_in_between(start.mode == Mode::Local)?;
        let limit = turn.config.rtp.max_recordings;
        if self.recordings.len() >= limit {
            return Err(AgentError::new(Reason::TooManyRecordings)
                .with_detail(format!("{limit} are running (rtp.max_recordings)")));
        }
        let recording = turn.ids.id();
        let (destination, open) = match start.mode {
            Mode::Local => self.file_destination(&recording, codec, &start, turn)?,
            Mode::Server => (self.server_destination(codec, start.ptime_ms, &start.call, turn)?, None),
            Mode::SipInfo => (self.pbx_destination(&start.call, turn)?, None),
        };
        let key = RecordingKey(turn.ids.key());
        let mode = start.mode;
        let mut it = Recording::new(recording, codec, start, destination, turn.now);
        it.open = open;
        let log =
            format!("recording {} starts: {}, {} {} ms", it.id, mode.as_str(), codec.name(), it.ptime_ms);
        let altered = altered_text(&it.id, it.call.altered);
        self.recordings.insert(key, it);
        self.stats.recordings_started += 1;
        turn.actions.push(Action::Log(log::Level::Info, log));
        turn.actions.extend(altered.map(|text| Action::Log(log::Level::Info, text)));
        if mode == Mode::SipInfo {
            self.ask_pbx(key, Purpose::Start, turn);
        } else {
            let (addr, ports) = (turn.config.rtp.bind, self.ports(turn));
            turn.actions.push(Action::BindRtp { recording: key, addr, ports, codec });
        }
        Ok(key)
    }

    fn file_destination(
        &mut self,
        recording: &str,
        codec: Codec,
        start: &RecordStart,
        turn: &mut Turn<'_>,
    ) -> Result<(Destination, Option<Job>), AgentError> {
        let spec = Spec {
            recording: recording.to_owned(),
            codec,
            ptime_ms: start.ptime_ms,
            folder: self.disk.state.folder_to_record(self.count_on_disk())?,
            max_file_octets: turn.config.storage.max_file_octets.unwrap_or(MAX_FILE_OCTETS),
            recipients: turn.config.storage.encrypt_to.len(),
        };
        let (to_file, open) = ToFile::begin(spec, turn.ids.file(), &start.call, turn.now);
        Ok((Destination::File(Box::new(to_file)), Some(open)))
    }

    /// Ports to try: an ephemeral one, or the configured one and those after it.
    fn ports(&self, turn: &Turn<'_>) -> Vec<u16> {
        let taken: Vec<u16> =
            self.recordings.values().filter_map(|it| it.rtp.map(|rtp| rtp.port())).collect();
        turn.config.rtp_ports().into_iter().filter(|port| !taken.contains(port)).collect()
    }

    /// Remembers who sent to a fixed port that is let go: it may still send when the next recording has the port.
    pub(in crate::agent) fn remember_sender(&mut self, key: RecordingKey, turn: &Turn<'_>) {
        let Some(it) = self.recordings.get(&key).filter(|_| turn.config.rtp.port != 0) else { return };
        let Some((rtp, heard)) = it.rtp.zip(it.last_heard()) else { return };
        let last = LastSender { port: rtp.port(), heard, call_id: it.call.id.clone() };
        // There is one for each port, and there are as many ports as recordings.
        self.last_senders.retain(|other| other.port != last.port);
        self.last_senders.push(last);
    }

    pub(in crate::agent) fn rtp_bound(
        &mut self,
        key: RecordingKey,
        result: Result<std::net::SocketAddr, String>,
        turn: &mut Turn<'_>,
    ) {
        let Some(it) = self.recordings.get_mut(&key) else { return };
        match result {
            Ok(addr) => {
                it.rtp = Some(addr);
                let last = self.last_senders.iter().find(|last| last.port == addr.port());
                it.beware_of(last.and_then(|last| Leftover::of(last, &it.call.id, turn.now.mono)));
                turn.actions.extend(it.open.take().map(Action::Job));
                self.begin_session(key, turn);
            }
            // The file has not been asked for yet.
            Err(detail) => self.remove(key, Outcome::NoPort(detail), turn),
        }
    }
}
