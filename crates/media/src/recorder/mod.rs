//! One RTP stream that is recorded: datagrams in, audio in segments out, or packets that are relayed.
//!
//! Owns: the way of a packet, alike at phone and server. Its stations are the choice of the sender
//! ([`crate::source_lock`]), the payload types of its audio ([`crate::payload_types`]), its codec
//! ([`crate::codec_change`]), encryption ([`crate::probe`]), its place in time ([`crate::timeline`]), the
//! borders between files ([`segment_buffer`]), and the books of it all. Never: names of files, jobs, when to
//! write. Invariants: every datagram is in exactly one account; relayed packets pass the same checks as
//! recorded ones; nothing is allocated per packet.

pub mod segment_buffer;
pub mod segment_log;
mod tally;
mod track;

use crate::blocks::BlockPool;
use crate::codec::Codec;
use crate::codec_change::CodecChange;
use crate::counts::{Counts, DropCause, Verdict};
use crate::level::Level;
use crate::packet::{MAX_PAYLOAD_OCTETS, Packet, PacketError, has_odd_padding};
use crate::payload_types::{Learnt, PayloadTypes};
use crate::probe::{self, Look, Probe};
use crate::source_lock::{self, Admission, PROBATION_TIME, SourceLock, Waiting};
use crate::time::Mono;
use crate::units::PayloadType;
use segment_buffer::SegmentBuffer;
use segment_log::{Boundary, Format, SegmentEnd, SegmentLog};
use std::net::SocketAddr;
use std::time::Duration;
use tally::Tally;
use track::Track;

/// A datagram that came in by the RTP port of a recording.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its content, as far as it fits the receive buffer.
    pub octets: &'a [u8],
    /// Whether it was longer than the receive buffer.
    pub truncated: bool,
    /// Its sender.
    pub source: SocketAddr,
    /// When the system received it.
    pub arrival: Mono,
}

/// The parameters of a stream, known before it comes.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Its allowed senders.
    pub source: source_lock::Rules,
    /// Its codec.
    pub codec: Codec,
    /// The length of each packet; `None`: the first one of each codec tells.
    pub ptime_ms: Option<u32>,
    /// The payload type of the codec, if it is not the static one.
    pub payload_type: Option<PayloadType>,
    /// Whether silence replaces encrypted packets, and key exchanges are told apart from noise.
    pub looks_for_encryption: bool,
    /// Changes of codec that may wait for the disk; further ones are not followed until it has caught up.
    pub max_codec_changes: usize,
}

/// One stream.
#[derive(Debug)]
pub struct StreamRecorder {
    codec: Codec,
    counts: Counts,
    lock: SourceLock,
    /// Since when packets wait for their sender to be believed.
    lock_waits: Option<Mono>,
    /// Number of changes to another sender.
    takeovers: u64,
    types: PayloadTypes,
    codec_change: CodecChange,
    max_codec_changes: usize,
    probe: Probe,
    /// More audio came than time has passed: further packets are not taken.
    waits_for_clock: bool,
    track: Track,
    /// Octets and lost packets of the track before this one.
    octets_before: u64,
    lost_before: u64,
    /// Octets of the last audio packet.
    last_octets: usize,
    /// Datagrams to relay that waited for their sender to be believed.
    released: Waiting,
    /// Silence in place of an encrypted packet; empty as long as there is none.
    silence: Vec<u8>,
}

impl StreamRecorder {
    /// A stream that begins now and whose audio goes into segments of at most `max_octets`.
    #[must_use]
    pub fn in_segments(rules: Rules, max_octets: u64, now: Mono) -> Self {
        let format = Format { codec: rules.codec, ptime_ms: rules.ptime_ms };
        Self::new(rules, Track::in_segments(format, max_octets, now), now)
    }

    /// A stream that begins now and whose packets are relayed.
    #[must_use]
    pub fn relayed(rules: Rules, now: Mono) -> Self {
        let format = Format { codec: rules.codec, ptime_ms: rules.ptime_ms };
        Self::new(rules, Track::relayed(format, now), now)
    }

    fn new(rules: Rules, track: Track, now: Mono) -> Self {
        Self {
            codec: rules.codec,
            counts: Counts::default(),
            lock: SourceLock::new(rules.source),
            lock_waits: None,
            takeovers: 0,
            types: PayloadTypes::new(rules.payload_type, rules.codec),
            codec_change: CodecChange::default(),
            max_codec_changes: rules.max_codec_changes,
            probe: match rules.ptime_ms.filter(|_| rules.looks_for_encryption) {
                Some(ptime_ms) => Probe::new(ptime_ms, now),
                None => Probe::unsuspecting(now),
            },
            waits_for_clock: false,
            track,
            octets_before: 0,
            lost_before: 0,
            last_octets: 0,
            released: Waiting::default(),
            silence: Vec::new(),
        }
    }

    /// Takes one datagram and books it; `None` if it waits for its sender to be believed, or is a stranger's.
    pub fn datagram(&mut self, datagram: Datagram<'_>, pool: &mut BlockPool) -> Option<Verdict> {
        let Datagram { octets, truncated, source, arrival } = datagram;
        let packet = if truncated { Err(None) } else { Packet::parse(octets).map_err(Some) };
        let verdict = match packet {
            Ok(mut packet) => {
                match self.lock.admit(octets, &packet, source, arrival) {
                    Admission::Ours => {}
                    Admission::Taken => self.is_taken_over(pool),
                    admission => {
                        self.is_not_admitted(admission, arrival);
                        return None;
                    }
                }
                self.judge(octets, &mut packet, arrival, pool)
            }
            Err(error) => Verdict::Dropped(self.no_packet(octets, error, source)?),
        };
        self.book(verdict);
        Some(verdict)
    }

    /// Datagrams come by a connection that is the sender's alone: none waits to be believed.
    pub fn trust_sender(&mut self) {
        self.lock.trust();
    }

    fn is_not_admitted(&mut self, admission: Admission, arrival: Mono) {
        if admission == Admission::Held {
            self.lock_waits.get_or_insert(arrival);
        }
        self.counts.strangers = self.lock.strangers();
    }

    fn is_taken_over(&mut self, pool: &mut BlockPool) {
        self.lock_waits = None;
        self.takeovers += 1;
        self.take_waiting(pool);
    }

    /// The account of a datagram that is no RTP; `None` if it is a stranger's.
    fn no_packet(
        &mut self,
        octets: &[u8],
        error: Option<PacketError>,
        source: SocketAddr,
    ) -> Option<DropCause> {
        if !self.lock.admits_other(source) {
            self.counts.strangers = self.lock.strangers();
            return None;
        }
        Some(match error {
            None => DropCause::Oversize,
            Some(PacketError::Rtcp) => DropCause::Rtcp,
            Some(_) if self.probe.is_suspecting() && probe::is_handshake(octets) => {
                self.probe.shake_hands();
                DropCause::Handshake
            }
            Some(_) => DropCause::NotRtp,
        })
    }

    fn book(&mut self, verdict: Verdict) {
        self.counts.book(verdict);
        self.track.timeline.restore_regained(&mut self.counts);
        self.counts.lost = self.lost_before + self.track.timeline.lost();
        if self.track.buffer.has_undated() {
            self.date_ends();
        }
    }

    /// Segments that have just ended have the counts up to here. A packet on its way past the end of one is
    /// not lost.
    fn date_ends(&mut self) {
        let counts = self.counts_of_end(false);
        self.track.buffer.date_ends(&counts);
    }

    /// The counts of a segment that ends now; if it is not the last one, without packets that may still come.
    fn counts_of_end(&self, is_last: bool) -> Counts {
        let mut counts = self.counts;
        if !is_last {
            counts.lost = counts.lost.saturating_sub(self.track.timeline.may_still_come());
        }
        counts
    }

    /// Takes the packets that waited for their sender to be believed.
    fn take_waiting(&mut self, pool: &mut BlockPool) {
        let waiting = self.lock.take_held();
        for (octets, arrival) in waiting.iter() {
            if let Ok(mut packet) = Packet::parse(octets) {
                let verdict = self.judge(octets, &mut packet, arrival, pool);
                self.book(verdict);
            }
        }
        self.counts.strangers = self.lock.strangers();
        if self.track.relayed.is_some() {
            self.released = waiting;
        }
    }

    /// Looks at the packets that wait for their sender to be believed, though nothing came. True if they are
    /// taken.
    pub fn tick(&mut self, now: Mono, pool: &mut BlockPool) -> bool {
        let taken = self.lock.tick(now);
        self.lock_waits = (!taken && self.lock.has_rivals()).then_some(now);
        if taken {
            self.take_waiting(pool);
        }
        self.counts.strangers = self.lock.strangers();
        taken
    }

    /// When [`Self::tick`] is due, if anything waits.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.lock_waits.map(|since| since + PROBATION_TIME)
    }

    /// No more packets come for now: those of a possible sender are taken, and held ones that may be audio
    /// are.
    pub fn settle(&mut self, now: Mono, pool: &mut BlockPool) {
        if self.lock.settle(now) {
            self.take_waiting(pool);
        }
        self.lock_waits = None;
        self.counts.strangers = self.lock.strangers();
        self.release_held(pool);
    }

    fn judge(
        &mut self,
        octets: &[u8],
        packet: &mut Packet<'_>,
        arrival: Mono,
        pool: &mut BlockPool,
    ) -> Verdict {
        self.counts.odd_padding += u64::from(has_odd_padding(octets));
        if self.waits_for_clock {
            return Verdict::Dropped(DropCause::Ahead);
        }
        let Some(codec) = self.types.codec(packet.payload_type) else {
            return self.unknown(*packet, arrival, pool);
        };
        packet.payload_type = codec.payload_type();
        if codec != self.codec {
            if !self.follows(packet, arrival) {
                return self.track.push(packet, arrival, pool);
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
        self.last_octets = packet.payload.len();
        self.track.push(packet, arrival, pool)
    }

    /// A packet that may be encrypted, or one that shows that those before it were not.
    fn doubtful(&mut self, look: Look, packet: &Packet<'_>, arrival: Mono, pool: &mut BlockPool) -> Verdict {
        match look {
            Look::Held => Verdict::Dropped(DropCause::Encrypted),
            Look::Clear => {
                self.release_held(pool);
                self.probe.hear(arrival);
                self.last_octets = packet.payload.len();
                self.track.push(packet, arrival, pool)
            }
            Look::Encrypted(octets) => {
                let Self { probe, track, silence, .. } = self;
                silence.resize(MAX_PAYLOAD_OCTETS, self.codec.silence());
                silence.fill(self.codec.silence());
                let mut stand_in = |packet: &Packet<'_>, octets: usize, at| {
                    let payload = silence.get(..octets).unwrap_or(silence);
                    track.push(&Packet { payload, ..*packet }, at, pool)
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

    /// The held packets are audio after all, or nothing more is waited for.
    pub fn release_held(&mut self, pool: &mut BlockPool) {
        let Self { probe, track, counts, .. } = self;
        probe.take_held(|early, _, at| {
            if track.push(early, at, pool) == Verdict::Stored {
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
                return self.track.push(&packet, arrival, pool);
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

    /// Whether the sender has changed to the codec of this packet.
    fn follows(&mut self, packet: &Packet<'_>, arrival: Mono) -> bool {
        !packet.payload.is_empty()
            && self.track.buffer.codec_changes() < self.max_codec_changes
            && self.codec_change.follow(packet, arrival, self.probe.since())
    }

    fn switch_codec(&mut self, codec: Codec, pool: &mut BlockPool) {
        self.release_held(pool);
        self.codec = codec;
        self.track.switch_codec(codec, pool);
        let Self { codec_change, track, .. } = self;
        let mut early = 0;
        codec_change.take_held(|packet, at| {
            early += u64::from(track.push(packet, at, pool) == Verdict::Stored);
        });
        self.counts.restore(early, DropCause::PayloadType);
        // A packet that was held back counts where its audio is.
        let mut counts = self.counts;
        counts.received = counts.received.saturating_sub(early);
        counts.stored = counts.stored.saturating_sub(early);
        self.track.buffer.date_ends(&counts);
    }

    /// Audio that waits to be put in order waits no longer if no packet has come for a while.
    pub fn let_go(&mut self, now: Mono, pool: &mut BlockPool) {
        self.track.let_go(now, pool);
        self.date_ends();
    }

    /// A pause begins: packets that wait to be put in order wait no longer.
    pub fn pause(&mut self, pool: &mut BlockPool) {
        self.track.settle(pool);
        self.date_ends();
    }

    /// A pause ended after `duration`.
    pub fn note_pause(&mut self, duration: Duration) {
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.track.buffer.note_pause(duration_ms);
    }

    /// No more audio will come.
    pub fn finish(&mut self, pool: &mut BlockPool) {
        self.track.settle(pool);
        self.counts.lost = self.lost_before + self.track.timeline.lost();
        let counts = self.counts;
        self.track.buffer.date_ends(&counts);
    }

    /// The present segment ends here, and another one begins.
    pub fn end_segment(&mut self) {
        self.track.buffer.end_segment(Boundary::Asked);
        self.date_ends();
    }

    /// Takes the end of the segment that is being written, if all of it was handed out.
    pub fn take_end(&mut self) -> Option<SegmentEnd> {
        self.track.buffer.take_end()
    }

    /// The log of the last segment, which ends now, and the counts at its end.
    pub fn take_last(&mut self) -> (SegmentLog, Counts) {
        (self.track.buffer.take_log(), self.counts)
    }

    /// Ends the segment that is being written at `at_octets` of its file; the rest is a segment of its own.
    /// Gives the log up to there, and the counts; `is_last` if no more audio will come.
    pub fn cut_segment(&mut self, at_octets: u64, is_last: bool) -> (SegmentLog, Counts) {
        let (log, counts) = self.track.buffer.cut_segment(at_octets);
        (log, counts.unwrap_or_else(|| self.counts_of_end(is_last)))
    }

    /// Audio goes into segments from here on, which begin with the packets of [`Self::replay`].
    pub fn record_in_segments(&mut self, ptime_ms: Option<u32>, max_octets: u64, now: Mono) {
        let format = Format { codec: self.codec, ptime_ms };
        let before = std::mem::replace(&mut self.track, Track::in_segments(format, max_octets, now));
        self.octets_before = before.octets() + before.timeline.waiting_octets();
        self.lost_before = before.timeline.lost();
    }

    /// Takes a packet once more, of a sender that was admitted; books it in `counts` alone.
    pub fn replay(
        &mut self,
        datagram: &[u8],
        arrival: Mono,
        pool: &mut BlockPool,
        counts: &mut Counts,
    ) -> Option<Verdict> {
        let packet = Packet::parse(datagram).ok()?;
        let verdict = self.track.push(&packet, arrival, pool);
        counts.book(verdict);
        self.track.timeline.restore_regained(counts);
        Some(verdict)
    }

    /// The replay is over: its packets count once, though they stand on the track before, too. Gives the lost
    /// ones.
    pub fn end_replay(&mut self) -> u64 {
        let lost = self.track.timeline.lost();
        self.octets_before = self.octets_before.saturating_sub(self.octets_of_track());
        self.lost_before = self.lost_before.saturating_sub(lost);
        self.date_ends();
        lost
    }

    /// While it waits, nothing is recorded.
    pub fn wait_for_clock(&mut self, waits: bool) {
        self.waits_for_clock = waits;
    }

    /// `packets` that counted as stored could not be relayed.
    pub fn note_unsent(&mut self, packets: u64) {
        self.counts.rebook(packets, DropCause::Uplink);
    }

    /// `packets` of those that could not be relayed are kept.
    pub fn keep_unsent(&mut self, packets: u64) {
        self.counts.restore(packets, DropCause::Uplink);
    }

    /// Takes the packets to be relayed before the one that was given last.
    pub fn take_released(&mut self) -> Option<Waiting> {
        (!self.released.is_empty()).then(|| std::mem::take(&mut self.released))
    }

    /// Puts `packets` before the one that was given last, if this stream is relayed.
    pub fn release(&mut self, packets: Waiting) {
        if self.track.relayed.is_some() && !packets.is_empty() {
            self.released = packets;
        }
    }

    /// `packets` of others were kept out by the kernel, or are known to be none of this stream.
    pub fn add_strangers(&mut self, packets: u64) {
        self.lock.add_strangers(packets);
        self.counts.strangers = self.lock.strangers();
    }

    /// Audio is waited for from now on: it begins, or goes on after a pause.
    pub fn begin(&mut self, now: Mono) {
        self.probe.begin(now);
    }

    /// Of the audio that comes now.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The payload type of the audio, if it is not the codec's static one.
    #[must_use]
    pub fn dynamic_type(&self, codec: Codec) -> Option<u8> {
        self.types.other(codec).map(|payload_type| payload_type.0)
    }

    /// The counts of datagrams so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The choice of the sender.
    #[must_use]
    pub fn lock(&self) -> &SourceLock {
        &self.lock
    }

    /// Number of changes to another sender.
    #[must_use]
    pub fn takeovers(&self) -> u64 {
        self.takeovers
    }

    /// The state of the media that comes in.
    #[must_use]
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// The same, to take its changes.
    pub fn probe_mut(&mut self) -> &mut Probe {
        &mut self.probe
    }

    /// Octets of the last audio packet.
    #[must_use]
    pub fn last_octets(&self) -> usize {
        self.last_octets
    }

    /// Recorded time in octets of audio, those included that wait to be put in order.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets_before + self.octets_of_track()
    }

    /// The same, without the audio before [`Self::record_in_segments`].
    #[must_use]
    pub fn octets_of_track(&self) -> u64 {
        self.track.octets() + self.track.timeline.waiting_octets()
    }

    /// Octets that have their place in the recording.
    #[must_use]
    pub fn placed_octets(&self) -> u64 {
        self.octets_before + self.track.octets()
    }

    /// Octets that wait to be put in order.
    #[must_use]
    pub fn unordered_octets(&self) -> u64 {
        self.track.timeline.waiting_octets()
    }

    /// The level of the audio relayed last.
    #[must_use]
    pub fn relayed_level(&self) -> Option<Level> {
        self.track.relayed.as_ref().and_then(Tally::level)
    }

    /// The audio that waits for the disk; none if packets are relayed.
    #[must_use]
    pub fn buffer(&self) -> &SegmentBuffer {
        &self.track.buffer
    }

    /// The same, for who writes.
    pub fn buffer_mut(&mut self) -> &mut SegmentBuffer {
        &mut self.track.buffer
    }
}

#[cfg(test)]
mod tests;
