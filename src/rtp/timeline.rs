//! From packets to audio in time: order, duplicates, loss, silence.
//!
//! Owns: where each packet's audio belongs. Every codec sends one octet per RTP tick, so a timestamp
//! distance is a byte distance, and a packet's place follows from its timestamp alone. What is in order
//! goes straight to the sink; what comes after a hole waits in the window until the hole is filled or
//! [`REORDER_OCTETS`] old. Invariants: audio and silence reach the sink in order and once; memory is
//! fixed; nothing is allocated per packet.

use super::codec::{COMFORT_NOISE, Codec, OCTETS_PER_MS};
use super::counts::{DropCause, Verdict};
use super::held::Held;
use super::packet::Packet;
use super::window::{Piece, Window};
use crate::time::Mono;
use crate::units::{RtpTimestamp, SeqNo, Ssrc};
use std::time::Duration;

/// How far back a packet is still put in order: 100 ms.
pub const REORDER_OCTETS: i64 = 800;

/// The largest payload taken: 256 ms, more than any MTU carries.
pub const MAX_PAYLOAD_OCTETS: usize = 2048;

/// A timestamp jump up to this is believed: 10 s.
const BELIEVED_JUMP_TICKS: i64 = 80_000;

/// Clock time without packets before a restarted stream that becomes silence.
const RESTART_SILENCE_OVER: Duration = Duration::from_millis(500);

/// How far a long jump may differ from the clock and be believed all the same: 1 s, or an eighth.
const CLOCK_TOLERANCE_TICKS: i64 = 8000;

/// Sequence numbers remembered to tell a duplicate from a latecomer.
const SEEN_PACKETS: i32 = 1024;

/// A jump ahead by more is a restarted counter and not loss (RFC 3550, appendix A.1).
const MAX_DROPOUT_PACKETS: i32 = 3000;

/// While two sources compete, the one that is recorded is kept until it has been silent for this long.
const RIVAL_SILENCE: Duration = Duration::from_millis(200);

/// Two changes of source within this time are a competition.
const RIVAL_SPAN: Duration = Duration::from_secs(1);

/// Where audio goes.
pub trait AudioSink {
    /// The next octets of the recording.
    fn audio(&mut self, octets: &[u8]);
    /// The next `octets` of the recording are silence.
    fn silence(&mut self, octets: u64, cause: GapCause);
}

/// Why there is silence where audio could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// Packets were lost on the way.
    Loss,
    /// The sender was silent: silence suppression or comfort noise.
    Suppression,
    /// The stream restarted after a pause of its own.
    Restart,
    /// Our buffer was full.
    BufferFull,
}

impl GapCause {
    /// Name in the sidecar.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Suppression => "suppression",
            Self::Restart => "restart",
            Self::BufferFull => "buffer_full",
        }
    }
}

/// The timeline of one recording.
#[derive(Debug)]
pub struct Timeline {
    codec: Codec,
    stream: Option<Stream>,
    /// The stream before the last change of SSRC, to recognise its stragglers.
    previous: Option<Stream>,
    /// When the SSRC changed last, or a rival last tried.
    changed: Option<Mono>,
    /// The first packets of another SSRC, until it is believed.
    held: Held,
    /// Packets that were held, counted as dropped, and have found their place.
    regained: u64,
    window: Window,
    /// Nothing of this stream has been handed over: its first packets may still be reordered.
    opening: bool,
    hole: GapCause,
    /// The next packet continues right after the last one, however much time has passed.
    seamless: bool,
    /// Sequence numbers that never came, less those that came late.
    lost: u64,
}

#[derive(Clone, Debug)]
struct Stream {
    ssrc: Ssrc,
    seen: Seen,
    /// Timestamp furthest ahead, and its offset in the stream.
    newest: RtpTimestamp,
    newest_offset: i64,
    last_arrival: Mono,
    last_octets: i64,
}

enum Place {
    At(i64),
    Restart(Duration),
    Nowhere(Verdict),
}

impl Timeline {
    /// An empty timeline of `codec`.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            stream: None,
            previous: None,
            changed: None,
            held: Held::default(),
            regained: 0,
            window: Window::new(),
            opening: true,
            hole: GapCause::Loss,
            seamless: false,
            lost: 0,
        }
    }

    /// The codec whose packets it takes.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Packets that never came, by their sequence numbers.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Packets among [`Self::lost`] that may still come in time to be put in order.
    #[must_use]
    #[inline(never)]
    pub fn may_still_come(&self) -> u64 {
        self.stream
            .as_ref()
            .map_or(0, |stream| stream.seen.missing(REORDER_OCTETS / stream.last_octets.max(1)))
    }

    /// Packets that [`Self::push`] reported as dropped for their SSRC and that have found their place since the last
    /// time this was asked.
    pub fn take_regained(&mut self) -> u64 {
        std::mem::take(&mut self.regained)
    }

    /// Octets that wait for a hole to be filled or to grow old.
    #[must_use]
    pub fn waiting_octets(&self) -> u64 {
        (self.window.end() - self.window.start()).unsigned_abs()
    }

    /// Takes one packet that arrived at `arrival`.
    ///
    /// `room` is false when its audio can't be kept: then silence takes its place and it counts as
    /// dropped. What the caller gets back goes into its [`super::counts::Counts`].
    pub fn push(
        &mut self,
        packet: &Packet<'_>,
        arrival: Mono,
        room: bool,
        sink: &mut impl AudioSink,
    ) -> Verdict {
        if packet.payload_type != self.codec.payload_type() {
            return self.pass_over(packet);
        }
        if packet.payload.is_empty() {
            return Verdict::Dropped(DropCause::Empty);
        }
        if packet.payload.len() > MAX_PAYLOAD_OCTETS {
            return Verdict::Dropped(DropCause::Oversize);
        }
        match self.place(packet, arrival) {
            Place::At(offset) => self.put(packet.payload, offset, room, sink),
            Place::Nowhere(verdict) => verdict,
            Place::Restart(pause) => self.begin(packet, arrival, pause, room, sink),
        }
    }

    /// Begins a stream with `packet`, and with what was held of it.
    #[inline(never)]
    fn begin(
        &mut self,
        packet: &Packet<'_>,
        arrival: Mono,
        pause: Duration,
        room: bool,
        sink: &mut impl AudioSink,
    ) -> Verdict {
        let mut held = std::mem::take(&mut self.held);
        let mut begun = false;
        for (early, at) in held.iter().filter(|(early, _)| early.ssrc == packet.ssrc) {
            let verdict = if begun {
                self.push(&early, at, room, sink)
            } else {
                begun = true;
                let pause = self.stream.as_ref().map_or(Duration::ZERO, |last| at.since(last.last_arrival));
                self.restart(&early, at, pause, sink);
                self.put(early.payload, 0, room, sink)
            };
            self.regained += u64::from(verdict == Verdict::Stored);
        }
        held.clear();
        self.held = held;
        if begun {
            return self.push(packet, arrival, room, sink);
        }
        self.restart(packet, arrival, pause, sink);
        self.put(packet.payload, 0, room, sink)
    }

    /// Closes every hole: what waits goes to the sink. The next packet continues right after it,
    /// however much time passes until then (a pause, or the end of a file).
    pub fn settle(&mut self, sink: &mut impl AudioSink) {
        self.hand_over_all(sink);
        self.held.clear();
        self.seamless = true;
    }

    /// A packet of another payload type: its sequence number is accounted for, its content is not kept.
    #[inline(never)]
    fn pass_over(&mut self, packet: &Packet<'_>) -> Verdict {
        if let Some(stream) = self.stream.as_mut().filter(|stream| stream.ssrc == packet.ssrc) {
            match stream.seen.note(packet.seq) {
                Arrival::New { skipped } => self.lost += skipped,
                Arrival::Late { missed } => self.lost -= missed,
                Arrival::Seen | Arrival::TooOld => {}
            }
        }
        let comfort_noise = COMFORT_NOISE.contains(&packet.payload_type);
        Verdict::Dropped(if comfort_noise { DropCause::ComfortNoise } else { DropCause::PayloadType })
    }

    fn place(&mut self, packet: &Packet<'_>, arrival: Mono) -> Place {
        let Some(stream) = &mut self.stream else { return Place::Restart(Duration::ZERO) };
        if self.seamless {
            return self.place_after_settling(packet);
        }
        if stream.ssrc != packet.ssrc {
            return self.place_other_source(packet, arrival);
        }
        let pause = arrival.since(stream.last_arrival);
        let ticks = packet.timestamp.ticks_since(stream.newest);
        if ticks > 0 {
            let clock_ticks = i64::try_from(self.codec.clock_rate().ticks_in(pause)).unwrap_or(i64::MAX);
            let tolerance = CLOCK_TOLERANCE_TICKS.max(ticks / 8);
            if ticks > BELIEVED_JUMP_TICKS && (ticks - clock_ticks).abs() > tolerance {
                return Place::Restart(pause);
            }
            let skipped = match stream.seen.note(packet.seq) {
                Arrival::New { skipped } => skipped,
                Arrival::Late { missed } => {
                    self.lost -= missed;
                    0
                }
                Arrival::Seen | Arrival::TooOld => {
                    stream.seen = Seen::starting_at(packet.seq);
                    0
                }
            };
            self.lost += skipped;
            if !self.held.is_empty() {
                // The stream goes on: what came in between was not the next one.
                self.held.clear();
            }
            stream.newest = packet.timestamp;
            stream.newest_offset += ticks;
            if stream.newest_offset > self.window.end() {
                self.hole = if skipped > 0 { GapCause::Loss } else { GapCause::Suppression };
            }
            stream.last_arrival = arrival;
            stream.last_octets = octets_of(packet);
            return Place::At(stream.newest_offset);
        }
        let offset = stream.newest_offset + ticks;
        match stream.seen.peek(packet.seq) {
            Arrival::New { .. } if ticks < -REORDER_OCTETS => Place::Restart(pause),
            Arrival::New { skipped } => {
                stream.seen.note(packet.seq);
                self.lost += skipped;
                Place::At(offset)
            }
            Arrival::Seen => Place::Nowhere(Verdict::Duplicate),
            Arrival::Late { missed } => {
                stream.seen.note(packet.seq);
                self.lost -= missed;
                if ticks < -REORDER_OCTETS { Place::Nowhere(Verdict::Late) } else { Place::At(offset) }
            }
            Arrival::TooOld if stream.is_older_by_both_counters(packet) => Place::Nowhere(Verdict::Late),
            Arrival::TooOld => Place::Restart(pause),
        }
    }

    /// After a pause: a packet from before it belongs nowhere, any other one begins anew.
    #[inline(never)]
    fn place_after_settling(&mut self, packet: &Packet<'_>) -> Place {
        if let Some(stream) = self.stream.as_mut().filter(|stream| stream.ssrc == packet.ssrc) {
            let old = packet.timestamp.ticks_since(stream.newest) <= 0;
            match stream.seen.peek(packet.seq) {
                Arrival::Seen if old => return Place::Nowhere(Verdict::Duplicate),
                Arrival::Late { missed } if stream.is_older_by_both_counters(packet) => {
                    stream.seen.note(packet.seq);
                    self.lost -= missed;
                    return Place::Nowhere(Verdict::Late);
                }
                _ => {}
            }
        }
        Place::Restart(Duration::ZERO)
    }

    /// A packet of another SSRC: a straggler of the stream before, a stray, a rival, or the next stream.
    ///
    /// While the present stream may be going on, the next one is believed when none of the present one came between
    /// packets that last twice as long as one of it (RFC 3550, appendix A.1, asks for two in sequence).
    #[inline(never)]
    fn place_other_source(&mut self, packet: &Packet<'_>, arrival: Mono) -> Place {
        let Some(stream) = &self.stream else { return Place::Restart(Duration::ZERO) };
        let pause = arrival.since(stream.last_arrival);
        if let Some(previous) = self.previous.as_mut().filter(|previous| previous.ssrc == packet.ssrc) {
            if packet.timestamp.ticks_since(previous.newest) <= 0 {
                match previous.seen.peek(packet.seq) {
                    Arrival::Seen => return Place::Nowhere(Verdict::Duplicate),
                    Arrival::Late { missed } => {
                        previous.seen.note(packet.seq);
                        self.lost -= missed;
                        return Place::Nowhere(Verdict::Late);
                    }
                    Arrival::New { .. } | Arrival::TooOld => {}
                }
            }
        }
        if pause < RIVAL_SILENCE {
            let dropped = Place::Nowhere(Verdict::Dropped(DropCause::Ssrc));
            if self.changed.is_some_and(|changed| arrival.since(changed) < RIVAL_SPAN) {
                self.changed = Some(arrival);
                return dropped;
            }
            if self.held.has(packet) {
                return Place::Nowhere(Verdict::Duplicate);
            }
            let octets = i64::try_from(self.held.octets() + packet.payload.len()).unwrap_or(i64::MAX);
            if !self.held.is_followed_by(packet) || octets < 2 * stream.last_octets {
                self.held.hold(packet, arrival);
                return dropped;
            }
        }
        self.changed = Some(arrival);
        Place::Restart(pause)
    }

    /// Starts a stream right after what is there, with silence for a long `pause`.
    #[inline(never)]
    fn restart(&mut self, packet: &Packet<'_>, arrival: Mono, pause: Duration, sink: &mut impl AudioSink) {
        self.hand_over_all(sink);
        if pause > RESTART_SILENCE_OVER {
            let ticks = i64::try_from(self.codec.clock_rate().ticks_in(pause)).unwrap_or(i64::MAX);
            let last = self.stream.as_ref().map_or(0, |stream| stream.last_octets);
            // Whole packets, so that what follows stays aligned to the frames of the file.
            let packet = octets_of(packet).max(1);
            let silence = ((ticks - last).max(0) + packet / 2) / packet * packet;
            sink.silence(silence.unsigned_abs(), GapCause::Restart);
        }
        let next = Stream {
            ssrc: packet.ssrc,
            seen: Seen::starting_at(packet.seq),
            newest: packet.timestamp,
            newest_offset: 0,
            last_arrival: arrival,
            last_octets: octets_of(packet),
        };
        if let Some(last) = self.stream.replace(next) {
            if last.ssrc != packet.ssrc {
                self.previous = Some(last);
            }
        }
        self.window.restart(REORDER_OCTETS);
        self.opening = true;
        self.seamless = false;
    }

    fn put(&mut self, audio: &[u8], offset: i64, room: bool, sink: &mut impl AudioSink) -> Verdict {
        let octets = i64::try_from(audio.len()).unwrap_or(i64::MAX);
        let hole = self.hole;
        let newest = self.stream.as_ref().map_or(0, |stream| stream.newest_offset);
        let mut hand_over = |piece: Piece<'_>| match piece {
            Piece::Audio(octets) => sink.audio(octets),
            Piece::Hole(octets) => sink.silence(octets, hole),
        };
        if self.opening {
            if offset < self.window.start() {
                self.window.reopen_at(offset);
            } else if offset >= REORDER_OCTETS {
                self.opening = false;
                let start = self.window.start();
                self.window.hand_over_to(start, &mut hand_over);
            }
        }
        if !self.opening {
            self.window.hand_over_to(newest - REORDER_OCTETS, &mut hand_over);
            if self.window.is_clear() && offset == self.window.start() {
                self.window.skip(octets);
                if room {
                    sink.audio(audio);
                    return Verdict::Stored;
                }
                sink.silence(octets.unsigned_abs(), GapCause::BufferFull);
                return Verdict::Dropped(DropCause::BufferFull);
            }
        }
        if offset + octets <= self.window.start() {
            return Verdict::Late;
        }
        if !room {
            self.hole = GapCause::BufferFull;
            self.window.claim(offset + octets);
            return Verdict::Dropped(DropCause::BufferFull);
        }
        let start = self.window.start();
        let placed = self.window.insert(offset, audio, &mut hand_over);
        self.opening &= self.window.start() == start;
        if !self.opening {
            let start = self.window.start();
            self.window.hand_over_to(start, &mut hand_over);
        }
        if placed { Verdict::Stored } else { Verdict::Dropped(DropCause::Overlap) }
    }

    fn hand_over_all(&mut self, sink: &mut impl AudioSink) {
        let hole = self.hole;
        let end = self.window.end();
        self.window.hand_over_to(end, &mut |piece| match piece {
            Piece::Audio(octets) => sink.audio(octets),
            Piece::Hole(octets) => sink.silence(octets, hole),
        });
    }
}

impl Stream {
    /// Whether sequence number and timestamp agree that `packet` is old, so it is no restart.
    fn is_older_by_both_counters(&self, packet: &Packet<'_>) -> bool {
        let packets = i64::from(packet.seq.packets_since(self.seen.newest));
        let ticks = packet.timestamp.ticks_since(self.newest);
        let expected = packets * octets_of(packet);
        packets < 0 && (ticks - expected).abs() <= expected.abs() / 4
    }
}

fn octets_of(packet: &Packet<'_>) -> i64 {
    i64::try_from(packet.payload.len()).unwrap_or(i64::MAX)
}

/// Which of the last [`SEEN_PACKETS`] sequence numbers have come.
#[derive(Clone, Debug)]
struct Seen {
    newest: SeqNo,
    /// Packets from the first to the newest; what came before the first was never counted as lost.
    span: u64,
    bits: [u64; (SEEN_PACKETS / 64) as usize],
}

enum Arrival {
    /// Ahead of all others, with so many left out.
    New { skipped: u64 },
    /// Behind, and not seen before; `missed` is 1 if it had been counted as lost, else 0.
    Late { missed: u64 },
    /// Behind, and seen before.
    Seen,
    /// Too far behind, or ahead, to say.
    TooOld,
}

impl Seen {
    fn starting_at(seq: SeqNo) -> Self {
        let mut seen = Self { newest: seq, span: 0, bits: [0; (SEEN_PACKETS / 64) as usize] };
        seen.set(seq);
        seen
    }

    fn peek(&self, seq: SeqNo) -> Arrival {
        match seq.packets_since(self.newest) {
            ahead if ahead > MAX_DROPOUT_PACKETS => Arrival::TooOld,
            ahead if ahead > 0 => Arrival::New { skipped: u64::from(ahead.unsigned_abs()) - 1 },
            behind if behind <= -SEEN_PACKETS => Arrival::TooOld,
            _ if self.has(seq) => Arrival::Seen,
            behind => Arrival::Late { missed: u64::from(u64::from(behind.unsigned_abs()) < self.span) },
        }
    }

    /// As `peek`, and remembers the number.
    fn note(&mut self, seq: SeqNo) -> Arrival {
        let arrival = self.peek(seq);
        match arrival {
            Arrival::New { skipped } => {
                let steps = skipped.min(SEEN_PACKETS.unsigned_abs().into());
                let mut skipped_seq = seq;
                for _ in 0..steps {
                    skipped_seq = skipped_seq.plus(u16::MAX);
                    self.clear(skipped_seq);
                }
                self.newest = seq;
                self.span += skipped + 1;
                self.set(seq);
            }
            Arrival::Late { .. } => self.set(seq),
            Arrival::Seen | Arrival::TooOld => {}
        }
        arrival
    }

    /// How many of the `packets` before the newest were counted as lost.
    fn missing(&self, packets: i64) -> u64 {
        let known = self.span.min(SEEN_PACKETS.unsigned_abs().into());
        let packets = packets.unsigned_abs().min(known.saturating_sub(1));
        let mut seq = self.newest;
        let missing = (0..packets).filter(|_| {
            seq = seq.plus(u16::MAX);
            !self.has(seq)
        });
        missing.count() as u64
    }

    fn has(&self, seq: SeqNo) -> bool {
        let (word, bit) = Self::position(seq);
        self.bits[word] & bit != 0
    }

    fn set(&mut self, seq: SeqNo) {
        let (word, bit) = Self::position(seq);
        self.bits[word] |= bit;
    }

    fn clear(&mut self, seq: SeqNo) {
        let (word, bit) = Self::position(seq);
        self.bits[word] &= !bit;
    }

    fn position(seq: SeqNo) -> (usize, u64) {
        let index = usize::from(seq.0) % (SEEN_PACKETS.unsigned_abs() as usize);
        (index / 64, 1 << (index % 64))
    }
}

/// Milliseconds that `octets` of any codec in the table last, rounded down.
#[must_use]
pub fn octets_to_ms(octets: u64) -> u64 {
    octets / OCTETS_PER_MS
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
