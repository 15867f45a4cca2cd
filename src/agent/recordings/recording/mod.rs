//! One recording: its state, its books, its status.
//!
//! Owns: what is the same for every mode. Never: files or sockets; the route takes its audio.

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
use crate::agent::recordings::recording::phase::{Notice, Notices, Phase};
use crate::agent::recordings::recording::to_file::{SenderFacts, ToFile};
use crate::api::ending::{EndReason, Order};
use crate::api::reason::{Cause, Reason};
use crate::api::request::RecordStart;
use crate::api::status::{Mode, RecordingState};
use media::blocks::BlockPool;
use media::codec::Codec;
use media::codec_change::CodecChange;
use media::counts::{Counts, DropCause, Verdict};
use media::packet::{MAX_PAYLOAD_OCTETS, Packet, PacketError, has_odd_padding};
use media::payload_types::{Learnt, PayloadTypes};
use media::probe::{self, Look, Probe};
use media::source_lock::{Admission, LastHeard, PROBATION_TIME, Rules, SourceLock, Waiting};
use media::time::{Mono, Now, Wall};
use media::units::PayloadType;
use recfile::call::{Altered, Call};
use std::net::SocketAddr;
use std::time::Duration;
use store::jobs::Job;

/// Another sender may take over when the one that has the call was silent for so long.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(5);

/// More packets of strangers than a second sender of a call can have sent while the first one is not established.
const FLOOD_PACKETS: u64 = 128;

/// Others are let into the socket again when the sender was silent for so long: more than the
/// longest packet lasts.
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
    /// One text: what the server said, if it was the server, or the reason.
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
    pub(in crate::agent) codec: Codec,
    pub(in crate::agent) call: Call,
    pub(in crate::agent) destination: Destination,
    pub(in crate::agent) counts: Counts,
    pub(in crate::agent) phase: Phase,
    pub(in crate::agent) rtp: Option<SocketAddr>,
    /// Who waits for the answer to `record.start`, and since when.
    pub(in crate::agent) waiting: Option<PendingReply>,
    /// Creates the first file, as soon as the RTP port is bound.
    pub(in crate::agent) open: Option<Job>,
    pub(in crate::agent) started: Mono,
    started_at: Wall,
    pub(in crate::agent) stopped: Option<Mono>,
    pub(in crate::agent) ptime_ms: u32,
    pub(in crate::agent) paused: Option<Mono>,
    pub(in crate::agent) progress_at: Mono,
    pub(in crate::agent) probe: Probe,
    pub(in crate::agent) notices: Notices,
    /// Datagrams that the system dropped before we could read them.
    pub(in crate::agent) overflowed: u64,
    why: Option<Why>,
    /// For over a second only packets came that can't be recorded.
    pub(in crate::agent) unrecordable: bool,
    /// The server got some of it before it was gone.
    pub(in crate::agent) kept_at_server: bool,
    /// Octets and lost packets of the upload that came before the present file.
    pub(in crate::agent) octets_before: u64,
    pub(in crate::agent) lost_before: u64,
    lock: SourceLock,
    /// What the last call may still send to this port.
    leftover: Option<Leftover>,
    /// Since when packets wait for their sender to be believed.
    lock_waits: Option<Mono>,
    /// Whom the socket lets in; `None`: everybody.
    filtered: Option<SocketAddr>,
    /// Datagrams that were released by the lock and go on to the server.
    released: Waiting,
    codec_change: CodecChange,
    types: PayloadTypes,
    /// Octets of the last audio packet.
    last_octets: usize,
    /// What stands for encrypted packets; empty as long as there are none.
    silence: Vec<u8>,
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
        Self {
            id,
            mode,
            codec,
            call,
            destination,
            counts: Counts::default(),
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
            probe: Probe::new(ptime_ms, now.mono),
            notices: Notices::default(),
            overflowed: 0,
            why: None,
            unrecordable: false,
            kept_at_server: false,
            octets_before: 0,
            lost_before: 0,
            lock: SourceLock::new(Rules { only: None, takeover_after: TAKE_OVER_AFTER }),
            leftover: None,
            lock_waits: None,
            filtered: None,
            released: Waiting::default(),
            codec_change: CodecChange::default(),
            types: PayloadTypes::new(payload_type.map(PayloadType), codec),
            last_octets: 0,
            silence: Vec::new(),
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

    /// Octets recorded that are not on the disk yet.
    pub(in crate::agent) fn buffered_octets(&self) -> u64 {
        self.destination.as_file().map_or(0, ToFile::buffered_octets)
    }

    /// Octets recorded that have not been given to storage yet.
    pub(in crate::agent) fn waiting_octets(&self) -> u64 {
        self.destination.as_file().map_or(0, ToFile::waiting_octets)
    }

    fn octets(&self) -> u64 {
        self.octets_before + self.destination.octets()
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
        let Datagram { octets, truncated, source, arrival } = datagram;
        let packet = if truncated { Err(None) } else { Packet::parse(octets).map_err(Some) };
        if let (Some(leftover), Ok(packet)) = (&mut self.leftover, &packet) {
            if arrival >= leftover.until() {
                self.take_leftover(pool);
            } else if leftover.has(packet, source, arrival) {
                let strangers = leftover.take(octets, packet, arrival);
                self.add_strangers(strangers);
                return None;
            }
        }
        let verdict = match packet {
            Ok(mut packet) => match self.lock.admit(octets, &packet, source, arrival) {
                Admission::Ours => self.judge(octets, &mut packet, arrival, pool),
                Admission::Taken => {
                    self.lock_waits = None;
                    self.give_up_leftover();
                    self.take_waiting(pool);
                    self.judge(octets, &mut packet, arrival, pool)
                }
                admission => {
                    if admission == Admission::Held {
                        self.lock_waits.get_or_insert(arrival);
                    }
                    self.counts.strangers = self.lock.strangers();
                    return None;
                }
            },
            Err(error) => {
                if !self.lock.admits_other(source) {
                    self.counts.strangers = self.lock.strangers();
                    return None;
                }
                Verdict::Dropped(self.no_packet(octets, error))
            }
        };
        self.book(verdict);
        Some(verdict)
    }

    fn book(&mut self, verdict: Verdict) {
        self.counts.book(verdict);
        self.destination.restore_regained(&mut self.counts);
        self.counts.lost = self.lost_before + self.destination.lost();
    }

    /// The last call may still send to this port.
    pub(in crate::agent) fn beware_of(&mut self, leftover: Option<Leftover>) {
        self.leftover = leftover;
    }

    /// Who has the call, and its newest packet.
    pub(in crate::agent) fn last_heard(&self) -> Option<LastHeard> {
        self.lock.last_heard()
    }

    /// Another stream has the call: what waited is the last one's.
    fn give_up_leftover(&mut self) {
        if let Some(leftover) = self.leftover.take() {
            self.add_strangers(leftover.into_waiting().0.len() as u64);
        }
    }

    /// Nobody else has come: the stream of the last recording is that of this one, too.
    fn take_leftover(&mut self, pool: &mut BlockPool) {
        let Some(leftover) = self.leftover.take() else { return };
        let (waiting, source) = leftover.into_waiting();
        for (octets, arrival) in waiting.iter() {
            self.datagram(Datagram { octets, truncated: false, source, arrival }, pool);
        }
        if !self.goes_to_file() && !waiting.is_empty() {
            self.released = waiting;
        }
    }

    /// Datagrams that wait until more is known of their senders, and are in no count yet.
    pub(in crate::agent) fn waiting_packets(&self) -> u64 {
        self.lock.waiting() + self.leftover.as_ref().map_or(0, Leftover::waiting_packets)
    }

    /// The counts at the end: nobody has become the sender of what still waits.
    pub(in crate::agent) fn final_counts(&self) -> Counts {
        let mut counts = self.counts;
        counts.strangers += self.waiting_packets();
        counts
    }

    /// What became of a datagram of the sender that is no RTP.
    fn no_packet(&mut self, octets: &[u8], error: Option<PacketError>) -> DropCause {
        match error {
            None => DropCause::Oversize,
            Some(PacketError::Rtcp) => DropCause::Rtcp,
            Some(_) if probe::is_handshake(octets) => {
                self.probe.shake_hands();
                DropCause::Handshake
            }
            Some(_) => DropCause::NotRtp,
        }
    }

    /// Takes what has waited for its sender to be believed.
    fn take_waiting(&mut self, pool: &mut BlockPool) {
        let waiting = self.lock.take_held();
        for (octets, arrival) in waiting.iter() {
            if let Ok(mut packet) = Packet::parse(octets) {
                let verdict = self.judge(octets, &mut packet, arrival, pool);
                self.book(verdict);
            }
        }
        self.counts.strangers = self.lock.strangers();
        if !self.goes_to_file() {
            self.released = waiting;
        }
    }

    /// Datagrams that go on to the server before the one that was given last.
    pub(in crate::agent) fn take_released(&mut self) -> Option<Waiting> {
        (!self.released.is_empty()).then(|| std::mem::take(&mut self.released))
    }

    /// When what waits is to be looked at though nothing comes.
    pub(in crate::agent) fn lock_deadline(&self) -> Option<Mono> {
        let believed = self.lock_waits.map(|since| since + PROBATION_TIME);
        let alone = self.leftover.as_ref().map(Leftover::until);
        [believed, alone].into_iter().flatten().min().filter(|_| self.takes_audio())
    }

    /// Time has passed: who sends too little for a probation is believed if there is nobody else.
    pub(in crate::agent) fn tick_lock(&mut self, now: Mono, pool: &mut BlockPool) {
        if self.lock_deadline().is_none_or(|due| now < due) {
            return;
        }
        if self.leftover.as_ref().is_some_and(|leftover| now >= leftover.until()) {
            self.take_leftover(pool);
        }
        let taken = self.lock.tick(now);
        self.lock_waits = (!taken && self.lock.has_rivals()).then_some(now);
        if taken {
            self.take_waiting(pool);
        }
        self.counts.strangers = self.lock.strangers();
    }

    /// Nothing more is waited for, since a pause or the end comes: what was held is audio, if it may be.
    pub(in crate::agent) fn settle(&mut self, now: Mono, pool: &mut BlockPool) {
        if self.takes_audio() {
            self.take_leftover(pool);
            if self.lock.settle(now) {
                self.take_waiting(pool);
            }
            self.lock_waits = None;
            self.counts.strangers = self.lock.strangers();
        }
        self.release_held(pool);
    }

    /// The system kept so many datagrams of others out.
    pub(in crate::agent) fn add_strangers(&mut self, packets: u64) {
        self.lock.add_strangers(packets);
        self.counts.strangers = self.lock.strangers();
    }

    /// Whom the socket is to let in from now on, if that is another one than before. One who may be a stranger that came
    /// first keeps others out only if none of them may be the sender, or if they are a flood.
    pub(in crate::agent) fn new_filter(&mut self, now: Mono) -> Option<Option<SocketAddr>> {
        let lock = &self.lock;
        let alone = lock.is_contested() && !lock.has_rivals();
        let sure = lock.is_established() || alone || lock.strangers() >= FLOOD_PACKETS;
        let heard = self.lock.silent_for(now).is_some_and(|silent| silent < RELEASE_AFTER);
        let wanted = self.lock.source().filter(|_| sure && heard);
        (std::mem::replace(&mut self.filtered, wanted) != wanted).then_some(wanted)
    }

    fn judge(
        &mut self,
        octets: &[u8],
        packet: &mut Packet<'_>,
        arrival: Mono,
        pool: &mut BlockPool,
    ) -> Verdict {
        self.counts.odd_padding += u64::from(has_odd_padding(octets));
        let Some(codec) = self.types.codec(packet.payload_type) else {
            return self.unknown(*packet, arrival, pool);
        };
        packet.payload_type = codec.payload_type();
        if codec != self.codec {
            if !self.codec_change.follow(packet, arrival, self.probe.since()) {
                return Verdict::Dropped(DropCause::PayloadType);
            }
            self.switch_codec(codec, pool);
        }
        self.codec_change.stay();
        self.types.stay();
        self.audio(packet, arrival, pool)
    }

    /// Takes a packet of the codec.
    fn audio(&mut self, packet: &Packet<'_>, arrival: Mono, pool: &mut BlockPool) -> Verdict {
        let look = self.probe.look(packet, arrival);
        if look != Look::Clear || self.probe.holds() {
            return self.doubtful(look, packet, arrival, pool);
        }
        self.probe.hear(arrival);
        self.notices.renew(Notice::NoMedia);
        self.last_octets = packet.payload.len();
        self.destination.push(packet, arrival, pool)
    }

    /// A packet that may be encrypted, or one that shows that those before it were not.
    fn doubtful(&mut self, look: Look, packet: &Packet<'_>, arrival: Mono, pool: &mut BlockPool) -> Verdict {
        match look {
            Look::Held => Verdict::Dropped(DropCause::Encrypted),
            Look::Clear => {
                self.release_held(pool);
                self.probe.hear(arrival);
                self.notices.renew(Notice::NoMedia);
                self.last_octets = packet.payload.len();
                self.destination.push(packet, arrival, pool)
            }
            Look::Encrypted(octets) => {
                let Self { probe, destination, silence, .. } = self;
                silence.resize(MAX_PAYLOAD_OCTETS, self.codec.silence());
                silence.fill(self.codec.silence());
                let mut stand_in = |packet: &Packet<'_>, octets: usize, at| {
                    let payload = silence.get(..octets).unwrap_or(silence);
                    destination.push(&Packet { payload, ..*packet }, at, pool)
                };
                probe.take_held(|early, octets, at| {
                    stand_in(early, octets, at);
                });
                match stand_in(packet, octets, arrival) {
                    Verdict::Stored => Verdict::Dropped(DropCause::Encrypted),
                    other => other,
                }
            }
        }
    }

    /// What was held is audio after all, or nothing more is waited for.
    pub(in crate::agent) fn release_held(&mut self, pool: &mut BlockPool) {
        let Self { probe, destination, counts, .. } = self;
        probe.take_held(|early, _, at| {
            if destination.push(early, at, pool) == Verdict::Stored {
                counts.restore(1, DropCause::Encrypted);
            }
        });
    }

    /// A packet of a type that is not known to be audio.
    fn unknown(&mut self, mut packet: Packet<'_>, arrival: Mono, pool: &mut BlockPool) -> Verdict {
        let heard = self.probe.missing(arrival).map(|_| self.probe.since());
        match self.types.learn(&packet, self.codec, arrival, heard) {
            Learnt::Held => {
                self.probe.pass_over(&packet, arrival);
                return Verdict::Dropped(DropCause::PayloadType);
            }
            Learnt::No => {
                self.probe.pass_over(&packet, arrival);
                return self.destination.push(&packet, arrival, pool);
            }
            Learnt::Taken => {}
        }
        let payload_type = self.codec.payload_type();
        let mut types = std::mem::take(&mut self.types);
        types.take_held(|early, at| {
            let verdict = self.audio(&Packet { payload_type, ..*early }, at, pool);
            if verdict == Verdict::Stored {
                self.counts.restore(1, DropCause::PayloadType);
            }
        });
        self.types = types;
        packet.payload_type = payload_type;
        self.audio(&packet, arrival, pool)
    }

    fn switch_codec(&mut self, codec: Codec, pool: &mut BlockPool) {
        self.release_held(pool);
        self.codec = codec;
        self.destination.switch_codec(codec, pool);
        let Self { codec_change, destination, counts, .. } = self;
        codec_change.take_held(|early, at| {
            if destination.push(early, at, pool) == Verdict::Stored {
                counts.restore(1, DropCause::PayloadType);
            }
        });
    }

    /// The payload type of the audio, if it is not the codec's static one.
    fn dynamic_type(&self) -> Option<u8> {
        self.types.other(self.codec).map(|payload_type| payload_type.0)
    }

    /// What is known of who sends.
    pub(in crate::agent) fn sender_facts(&self) -> SenderFacts {
        SenderFacts { payload_type: self.dynamic_type() }
    }

    /// It ends, or has ended, for this reason.
    pub(in crate::agent) fn end_for(&mut self, reason: EndReason) {
        let full = reason == EndReason::Failure(Reason::StorageFull);
        self.why = Some(Why { reason, cause: full.then_some(Cause::Full), detail: None });
    }

    /// The server said why.
    pub(in crate::agent) fn note_words(&mut self, words: String) {
        if let Some(why) = &mut self.why {
            why.detail = Some(words).filter(|words| !words.is_empty());
        }
    }

    /// What the disk refused was this.
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

/// For the log: what of a call could not be kept as it was said, without a word of it.
pub(in crate::agent) fn altered_text(recording: &str, altered: Altered) -> Option<String> {
    let text = || format!("recording {recording}: cut or cleaned what was said as {altered}");
    (!altered.is_empty()).then(text)
}
