//! One recording: its state, its books, its status.
//!
//! Owns: all that is the same for every mode. Never: files or sockets; the way of a packet, which is
//! `media::recorder`'s.

pub(in crate::agent) mod by_pbx;
pub(in crate::agent) mod destination;
pub(in crate::agent) mod leftover;
pub(in crate::agent) mod phase;
mod status;
pub(in crate::agent) mod to_file;
pub(in crate::agent) mod to_server;

use crate::agent::Datagram;
use crate::agent::clients::answer::PendingReply;
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::leftover::Leftover;
use crate::agent::recordings::recording::phase::{Notices, Phase};
use crate::agent::recordings::recording::to_file::{SenderFacts, ToFile};
use crate::api::ending::{EndReason, Order};
use crate::api::reason::{Cause, Reason};
use crate::api::request::RecordStart;
use crate::api::status::{Mode, RecordStarted, RecordingState, RecordingStatus};
use media::blocks::BlockPool;
use media::codec::Codec;
use media::counts::{Counts, Verdict};
use media::packet::Packet;
use media::recorder::{Rules, StreamRecorder};
use media::source_lock::{self, LastHeard, Waiting};
use media::time::{Mono, Now, Wall};
use media::units::PayloadType;
use recfile::call::{Altered, Call};
use std::net::SocketAddr;
use std::time::Duration;
use store::jobs::{Folder, Job};

/// The silence of the sender that has the call after which another one may take over.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(5);

/// More packets of strangers than a second sender of a call can have sent while the first one is not
/// established.
const FLOOD_PACKETS: u64 = 128;

/// The silence of the sender after which others are let into the socket again: more than the longest packet
/// lasts.
const RELEASE_AFTER: Duration = Duration::from_millis(500);

/// `record.start` is answered after this at the latest, with the state `starting`.
pub(in crate::agent) const START_ANSWER_AFTER: Duration = Duration::from_secs(2);

/// A disk that works on one job for longer is told to be stalled.
pub(in crate::agent) const STALLED_AFTER: Duration = Duration::from_secs(2);

/// Why a recording ended.
#[derive(Clone, Debug)]
struct Why {
    reason: EndReason,
    cause: Option<Cause>,
    /// The server's or the system's own words.
    detail: Option<String>,
}

impl Why {
    /// One text: the server's words, if it was the server, or the reason.
    fn in_short(&self) -> String {
        match (self.reason, &self.detail) {
            (EndReason::Order(Order::StoppedByServer), Some(said)) => said.clone(),
            (reason, _) => reason.as_str().to_owned(),
        }
    }
}

/// A recording that has not ended.
#[derive(Debug)]
pub(in crate::agent) struct Recording {
    pub(in crate::agent) id: String,
    pub(in crate::agent) mode: Mode,
    pub(in crate::agent) call: Call,
    pub(in crate::agent) destination: Destination,
    /// The incoming audio, and the part of it that waits for the disk.
    pub(in crate::agent) stream: StreamRecorder,
    pub(in crate::agent) phase: Phase,
    pub(in crate::agent) rtp: Option<SocketAddr>,
    /// The reply owed to `record.start`.
    pub(in crate::agent) waiting: Option<PendingReply>,
    /// Creates the first file, as soon as the RTP port is bound.
    pub(in crate::agent) open: Option<Job>,
    pub(in crate::agent) started: Mono,
    started_at: Wall,
    pub(in crate::agent) stopped: Option<Mono>,
    pub(in crate::agent) ptime_ms: u32,
    pub(in crate::agent) paused: Option<Mono>,
    pub(in crate::agent) progress_at: Mono,
    pub(in crate::agent) notices: Notices,
    /// Datagrams that the system dropped before we could read them.
    pub(in crate::agent) overflowed: u64,
    why: Option<Why>,
    /// For over a second only packets came that can't be recorded.
    pub(in crate::agent) unrecordable: bool,
    /// The server got some of it before it was gone.
    pub(in crate::agent) kept_at_server: bool,
    /// Packets that the last call may still send to this port.
    leftover: Option<Leftover>,
    /// The only sender that the socket lets in; `None`: everybody.
    filtered: Option<SocketAddr>,
}

impl Recording {
    pub(in crate::agent) fn new(
        id: String,
        codec: Codec,
        start: RecordStart,
        destination: Destination,
        now: Now,
    ) -> Self {
        let RecordStart { mode, ptime_ms, call, payload_type, .. } = start;
        let rules = Rules {
            source: source_lock::Rules { only: None, takeover_after: TAKE_OVER_AFTER },
            codec,
            ptime_ms: Some(ptime_ms),
            payload_type: payload_type.map(PayloadType),
            looks_for_encryption: true,
            max_codec_changes: usize::MAX,
        };
        let stream = destination.recorder(rules, now.mono);
        Self {
            id,
            mode,
            call,
            destination,
            stream,
            phase: Phase::Starting,
            rtp: None,
            waiting: None,
            open: None,
            started: now.mono,
            started_at: now.wall,
            stopped: None,
            ptime_ms,
            paused: None,
            progress_at: now.mono + Duration::from_secs(1),
            notices: Notices::default(),
            overflowed: 0,
            why: None,
            unrecordable: false,
            kept_at_server: false,
            leftover: None,
            filtered: None,
        }
    }

    /// Whether packets are wanted: not while paused or ending, nor before the server has agreed.
    pub(in crate::agent) fn takes_audio(&self) -> bool {
        let wanted = match (&self.destination, self.phase) {
            (Destination::Pbx(_), _) => false,
            (Destination::File(_), Phase::Starting) | (_, Phase::Running) => true,
            _ => false,
        };
        wanted && self.paused.is_none()
    }

    /// Whether it is a recording to the disk.
    pub(in crate::agent) fn goes_to_file(&self) -> bool {
        self.destination.as_file().is_some()
    }

    /// Whether its disk is gone and another one is waited for.
    pub(in crate::agent) fn has_lost_disk(&self) -> bool {
        self.destination.as_file().is_some_and(ToFile::is_lost)
    }

    /// The folders that it goes to, or is to go to.
    pub(in crate::agent) fn folders(&self) -> impl Iterator<Item = &Folder> {
        self.destination.as_file().into_iter().flat_map(ToFile::folders)
    }

    /// Octets recorded that are not on the disk yet.
    pub(in crate::agent) fn buffered_octets(&self) -> u64 {
        self.destination.as_file().map_or(0, |to_file| self.waiting_octets() + to_file.in_flight_octets())
    }

    /// Octets recorded that have not been given to storage yet.
    pub(in crate::agent) fn waiting_octets(&self) -> u64 {
        self.destination.as_file().map_or(0, |_| to_file::waiting_octets(&self.stream))
    }

    /// When audio that waits must go to the disk, if any waits and the disk is free.
    pub(in crate::agent) fn flush_due(&self, interval: Duration) -> Option<Mono> {
        self.destination.as_file()?.flush_due(&self.stream, interval)
    }

    /// Whether its next job can't wait until the loop wakes for another reason.
    pub(in crate::agent) fn is_impatient(&self) -> bool {
        self.destination.as_file().is_some_and(|to_file| to_file.is_impatient(&self.stream))
    }

    /// Octets of recorded time.
    fn octets(&self) -> u64 {
        self.destination.octets(&self.stream)
    }

    /// The present file, if there is one.
    pub(in crate::agent) fn file_name(&self) -> Option<&str> {
        self.destination.as_file().and_then(ToFile::file_name)
    }

    /// Whether pause, resume and stop are possible.
    pub(in crate::agent) fn is_live(&self) -> bool {
        self.phase.is_live()
    }

    /// Whether the server has not agreed yet, paused or not.
    pub(in crate::agent) fn is_starting(&self) -> bool {
        self.phase == Phase::Starting
    }

    pub(in crate::agent) fn state(&self) -> RecordingState {
        match self.phase {
            Phase::Starting | Phase::Running if self.paused.is_some() => RecordingState::Paused,
            Phase::Starting => RecordingState::Starting,
            Phase::Running => RecordingState::Recording,
            Phase::Stopping { .. } => RecordingState::Stopping,
            Phase::Ended { .. } => RecordingState::Ended,
        }
    }

    /// Takes one datagram and books it; `None` if it waits, or is a stranger's.
    pub(in crate::agent) fn datagram(
        &mut self,
        datagram: Datagram<'_>,
        pool: &mut BlockPool,
    ) -> Option<Verdict> {
        if self.leftover.is_some() {
            return self.datagram_after_another(datagram, pool);
        }
        self.stream.datagram(datagram, pool)
    }

    /// Takes a datagram while that of the last call may still come.
    fn datagram_after_another(&mut self, datagram: Datagram<'_>, pool: &mut BlockPool) -> Option<Verdict> {
        let Datagram { octets, truncated, source, arrival } = datagram;
        let packet = if truncated { None } else { Packet::parse(octets).ok() };
        if let (Some(leftover), Some(packet)) = (&mut self.leftover, &packet) {
            if arrival >= leftover.until() {
                self.take_leftover(pool);
            } else if leftover.has(packet, source, arrival) {
                let strangers = leftover.take(octets, packet, arrival);
                self.stream.add_strangers(strangers);
                return None;
            }
        }
        let takeovers = self.stream.takeovers();
        let verdict = self.stream.datagram(datagram, pool);
        if self.stream.takeovers() != takeovers {
            self.give_up_leftover();
        }
        verdict
    }

    /// The last call may still send to this port.
    pub(in crate::agent) fn beware_of(&mut self, leftover: Option<Leftover>) {
        self.leftover = leftover;
    }

    /// The sender of the call, and its newest packet.
    pub(in crate::agent) fn last_heard(&self) -> Option<LastHeard> {
        self.stream.lock().last_heard()
    }

    /// Another stream has the call: the waiting packets are the last one's.
    fn give_up_leftover(&mut self) {
        if let Some(leftover) = self.leftover.take() {
            self.stream.add_strangers(leftover.into_waiting().0.len() as u64);
        }
    }

    /// Nobody else has come: the stream of the last recording is that of this one, too.
    fn take_leftover(&mut self, pool: &mut BlockPool) {
        let Some(leftover) = self.leftover.take() else { return };
        let (waiting, source) = leftover.into_waiting();
        for (octets, arrival) in waiting.iter() {
            self.stream.datagram(Datagram { octets, truncated: false, source, arrival }, pool);
        }
        self.stream.release(waiting);
    }

    /// Datagrams that wait until more is known of their senders, and are in no count yet.
    pub(in crate::agent) fn waiting_packets(&self) -> u64 {
        self.stream.lock().waiting() + self.leftover.as_ref().map_or(0, Leftover::waiting_packets)
    }

    /// The counts at the end: packets that still wait count as a stranger's.
    pub(in crate::agent) fn final_counts(&self) -> Counts {
        let mut counts = *self.stream.counts();
        counts.strangers += self.waiting_packets();
        counts
    }

    /// Datagrams that go on to the server before the one that was given last.
    pub(in crate::agent) fn take_released(&mut self) -> Option<Waiting> {
        self.stream.take_released()
    }

    /// The time of the next look at the waiting packets, if nothing comes.
    pub(in crate::agent) fn lock_deadline(&self) -> Option<Mono> {
        let believed = self.stream.deadline();
        let alone = self.leftover.as_ref().map(Leftover::until);
        [believed, alone].into_iter().flatten().min().filter(|_| self.takes_audio())
    }

    /// Time has passed: a sender of too little for a probation is believed if there is nobody else.
    pub(in crate::agent) fn tick_lock(&mut self, now: Mono, pool: &mut BlockPool) {
        if self.lock_deadline().is_none_or(|due| now < due) {
            return;
        }
        if self.leftover.as_ref().is_some_and(|leftover| now >= leftover.until()) {
            self.take_leftover(pool);
        }
        self.stream.tick(now, pool);
    }

    /// Nothing more is waited for, since a pause or the end comes: held packets that may be audio are audio.
    pub(in crate::agent) fn settle(&mut self, now: Mono, pool: &mut BlockPool) {
        if self.takes_audio() {
            self.take_leftover(pool);
            self.stream.settle(now, pool);
        } else {
            self.stream.release_held(pool);
        }
    }

    /// The sender that the socket is to let in from now on, if that is another one than before. A sender that
    /// may be a stranger keeps others out only if none of them may be the sender, or if they are a flood.
    pub(in crate::agent) fn new_filter(&mut self, now: Mono) -> Option<Option<SocketAddr>> {
        let lock = self.stream.lock();
        let alone = lock.is_contested() && !lock.has_rivals();
        let sure = lock.is_established() || alone || lock.strangers() >= FLOOD_PACKETS;
        let heard = lock.silent_for(now).is_some_and(|silent| silent < RELEASE_AFTER);
        let wanted = lock.source().filter(|_| sure && heard);
        (std::mem::replace(&mut self.filtered, wanted) != wanted).then_some(wanted)
    }

    /// The payload type of the audio, if it is not the codec's static one.
    fn dynamic_type(&self) -> Option<u8> {
        self.stream.dynamic_type(self.stream.codec())
    }

    /// The known facts about the sender.
    pub(in crate::agent) fn sender_facts(&self) -> SenderFacts {
        SenderFacts { payload_type: self.dynamic_type() }
    }

    /// Its status for clients.
    pub(in crate::agent) fn status(&self, remaining_s: Option<u64>, now: Mono) -> RecordingStatus {
        status::status(self, remaining_s, now)
    }

    /// The answer to `record.start`.
    pub(in crate::agent) fn start_answer(&self) -> RecordStarted {
        status::start_answer(self)
    }

    /// Whether audio was lost on our side.
    pub(in crate::agent) fn is_degraded(&self) -> bool {
        status::is_degraded(self)
    }

    /// It ends, or has ended, for this reason.
    pub(in crate::agent) fn end_for(&mut self, reason: EndReason) {
        let full = reason == EndReason::Failure(Reason::StorageFull);
        self.why = Some(Why { reason, cause: full.then_some(Cause::Full), detail: None });
    }

    /// Why it ends, if it does.
    pub(in crate::agent) fn end_reason(&self) -> Option<EndReason> {
        self.why.as_ref().map(|why| why.reason)
    }

    /// The server said why.
    pub(in crate::agent) fn note_words(&mut self, words: String) {
        if let Some(why) = &mut self.why {
            why.detail = Some(words).filter(|words| !words.is_empty());
        }
    }

    /// Notes the cause of a refusal by the disk.
    pub(in crate::agent) fn note_cause(&mut self, cause: Cause) {
        if let Some(why) = &mut self.why {
            why.cause = Some(cause);
        }
    }

    /// It has failed.
    pub(in crate::agent) fn fail_for(&mut self, reason: Reason, cause: Option<Cause>, detail: String) {
        self.why = Some(Why { reason: reason.into(), cause, detail: Some(detail) });
    }
}

/// For the log: the texts of a call that were cut or cleaned, without a word of them.
pub(in crate::agent) fn altered_text(recording: &str, altered: Altered) -> Option<String> {
    let text = || format!("recording {recording}: cut or cleaned the text of {altered}");
    (!altered.is_empty()).then(text)
}
