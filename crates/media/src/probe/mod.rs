//! Detects missing audio: no packets, encrypted packets, or packets of a codec that is not recorded.
//!
//! Owns: the state of the media of one recording, and the witnesses for it. Never: the handling of a packet;
//! the caller says which ones were audio, and asks about the others. Invariants: packets count as encrypted
//! only if two witnesses agree, their length and how their octets are distributed, and as long as the second
//! one has not spoken they wait here, so that odd packets which prove to be audio are not lost; memory is
//! bounded.
//!
//! SRTP (RFC 3711) leaves the RTP header in the clear, so sequence number, timestamp and payload type look
//! right. Its payload is longer than the packet time by the authentication tag, and its octets are as good as
//! random, which no speech, music or noise in G.711 or G.722 is: their octets are the logarithm of a level,
//! or steps around zero.

use crate::codec::COMFORT_NOISE;
use crate::packet::Packet;
use crate::probation::Probation;
use crate::time::Mono;
use crate::units::{PayloadType, RtpTimestamp, SeqNo, Ssrc};
use std::time::Duration;

/// Time after which it is told that nothing was received.
pub const NO_MEDIA_AFTER: Duration = Duration::from_secs(5);

/// Octets that an authentication tag adds: HMAC-SHA1-32 and -80 (RFC 3711), AES-CCM-8, AES-GCM (RFC 7714).
const TAG_OCTETS: [usize; 4] = [10, 4, 16, 8];

/// Packets in a row that are longer by a tag, and octets in them, before their distribution is looked at.
const SUSPECT_PACKETS: u32 = 6;
const SUSPECT_OCTETS: u32 = 1000;

/// Packets that are not looked at after some that are longer by a tag and not random.
const REST_PACKETS: u32 = 250;

/// Packets in a row that are not longer, before a stream that was encrypted is taken to be in the clear.
const CLEAR_PACKETS: u32 = 3;

/// Random octets have a chi-squared of 255 with a standard deviation of 23 (255 degrees of freedom); speech,
/// tones and noise in the codecs have more than 600 in a thousand octets, and more the more there are.
const RANDOM_CHI_SQUARED: u64 = 400;

/// Packets of other payload types, without one of the codec for the time, that mean that the sender uses
/// another codec.
const WRONG_PACKETS: u32 = 25;
const WRONG_AFTER: Duration = Duration::from_secs(1);

/// Payload of a telephone event (RFC 4733): it stands beside audio and says nothing of its codec.
const EVENT_OCTETS: usize = 4;

/// The kind of packets that come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Media {
    /// Audio.
    Flowing,
    /// Nothing that could be recorded: not yet, or not for five seconds.
    #[default]
    None,
    /// Encrypted packets (SRTP).
    Encrypted,
    /// Packets of a codec that is not recorded.
    WrongPayloadType,
}

impl Media {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flowing => "flowing",
            Self::None => "none",
            Self::Encrypted => "encrypted",
            Self::WrongPayloadType => "wrong_payload_type",
        }
    }
}

/// The decision on a packet of the codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is audio. The packets that [`Probe::take_held`] gives, if any, come before it.
    Clear,
    /// It waits until more is known.
    Held,
    /// It is encrypted; the octets of silence that stand for it, and for those of [`Probe::take_held`].
    Encrypted(usize),
}

/// The media of one recording.
#[derive(Debug)]
pub struct Probe {
    media: Media,
    told: Media,
    /// That nothing comes was told, since there was audio.
    silence_told: bool,
    /// The last audio, or when it began to be waited for.
    since: Mono,
    /// Audio came since the beginning.
    heard: bool,
    /// The expected length of a packet, in octets.
    frame_octets: usize,
    last: Option<Last>,
    /// Whether encrypted packets are looked for.
    is_suspecting: bool,
    suspicion: Option<Box<Suspicion>>,
    /// The next packet is looked at, of any length.
    is_engaged: bool,
    encrypted: bool,
    encrypted_at: Mono,
    wrong: u32,
    wrong_since: Mono,
    wrong_at: Mono,
    /// STUN, DTLS or ZRTP since there was audio.
    handshakes: u64,
}

/// Sequence number and timestamp of the packet before.
#[derive(Clone, Copy, Debug)]
struct Last {
    ssrc: Ssrc,
    seq: SeqNo,
    timestamp: RtpTimestamp,
}

/// Packets that are longer by a tag.
#[derive(Debug)]
struct Suspicion {
    tag: usize,
    packets: u32,
    /// Packets in a row that are not longer, of a stream that was encrypted.
    clear: u32,
    /// Packets that are not looked at.
    rest: u32,
    octets: u32,
    seen: [u16; 256],
    held: Probation,
}

impl Probe {
    /// Nothing has come; a packet is expected to last `ptime_ms`.
    #[must_use]
    pub fn new(ptime_ms: u32, now: Mono) -> Self {
        Self {
            media: Media::None,
            told: Media::None,
            silence_told: false,
            since: now,
            heard: false,
            frame_octets: usize::try_from(ptime_ms).unwrap_or(20) * 8,
            last: None,
            is_suspecting: true,
            suspicion: None,
            is_engaged: false,
            encrypted: false,
            encrypted_at: now,
            wrong: 0,
            wrong_since: now,
            wrong_at: now,
            handshakes: 0,
        }
    }

    /// The same, to which every packet of the codec is audio.
    #[must_use]
    pub fn unsuspecting(now: Mono) -> Self {
        Self { is_suspecting: false, ..Self::new(20, now) }
    }

    /// Whether encrypted packets are looked for.
    #[must_use]
    pub fn is_suspecting(&self) -> bool {
        self.is_suspecting
    }

    /// The kind of packets that come in now.
    #[must_use]
    pub fn media(&self) -> Media {
        self.media
    }

    /// The last audio, or when it began to be waited for.
    #[must_use]
    pub fn since(&self) -> Mono {
        self.since
    }

    /// For how long there has been no audio after there was some; `None` if there never was any.
    #[must_use]
    pub fn missing(&self, now: Mono) -> Option<Duration> {
        self.heard.then(|| now.since(self.since))
    }

    /// Why there is no audio, if that is known.
    #[must_use]
    pub fn detail(&self) -> Option<&'static str> {
        match self.media {
            Media::Encrypted => Some("encrypted"),
            Media::WrongPayloadType => Some("wrong_payload_type"),
            Media::None if self.handshakes > 0 => Some("handshake"),
            Media::None | Media::Flowing => None,
        }
    }

    /// Whether [`Self::media`] has changed since the last call.
    pub fn take_change(&mut self) -> bool {
        std::mem::replace(&mut self.told, self.media) != self.media
    }

    /// Whether it was told that nothing comes, and nothing has come since.
    #[must_use]
    pub fn is_silence_told(&self) -> bool {
        self.silence_told
    }

    /// It is told that nothing comes.
    pub fn tell_silence(&mut self) {
        self.silence_told = true;
    }

    /// Audio is waited for from now on: the recording begins, or goes on after a pause.
    pub fn begin(&mut self, now: Mono) {
        self.since = now;
        self.heard = false;
        self.wrong = 0;
        self.handshakes = 0;
    }

    /// Looks at a packet of the codec.
    pub fn look(&mut self, packet: &Packet<'_>, arrival: Mono) -> Look {
        let before =
            self.last.replace(Last { ssrc: packet.ssrc, seq: packet.seq, timestamp: packet.timestamp });
        let lasts = match before {
            Some(last) if last.ssrc == packet.ssrc && packet.seq.packets_since(last.seq) == 1 => {
                usize::try_from(packet.timestamp.ticks_since(last.timestamp)).ok()
            }
            Some(_) => None,
            None => Some(self.frame_octets),
        };
        let extra = lasts.and_then(|lasts| packet.payload.len().checked_sub(lasts));
        let tag = extra.filter(|extra| TAG_OCTETS.contains(extra));
        if (tag.is_none() && !self.is_engaged) || !self.is_suspecting {
            return Look::Clear;
        }
        let look = self.suspect(packet, tag, lasts.is_some(), arrival);
        self.is_engaged = self.encrypted || look == Look::Held;
        look
    }

    /// A packet of a stream that is, or was, longer by a tag. `judged` is false if its length says nothing.
    fn suspect(&mut self, packet: &Packet<'_>, tag: Option<usize>, judged: bool, arrival: Mono) -> Look {
        let suspicion = self.suspicion.get_or_insert_with(Box::default);
        if self.encrypted {
            if tag.is_some() || !judged || !suspicion.can_hold(packet) {
                suspicion.clear = 0;
                self.encrypted_at = arrival;
                self.media = Media::Encrypted;
                return Look::Encrypted(packet.payload.len().saturating_sub(suspicion.tag));
            }
            suspicion.clear += 1;
            if suspicion.clear < CLEAR_PACKETS {
                suspicion.held.hold(packet, arrival);
                return Look::Held;
            }
            self.encrypted = false;
            suspicion.clear = 0;
            return Look::Clear;
        }
        if suspicion.rest > 0 {
            suspicion.rest -= 1;
            return Look::Clear;
        }
        if suspicion.held.is_empty() {
            suspicion.forget();
            suspicion.tag = tag.unwrap_or_default();
        }
        // A packet behind a lost one says nothing; one that is not longer, and one of another stream, speaks
        // for the sender.
        if (judged && tag != Some(suspicion.tag)) || !suspicion.can_hold(packet) {
            return Look::Clear;
        }
        suspicion.take(packet, arrival);
        if suspicion.packets < SUSPECT_PACKETS || suspicion.octets < SUSPECT_OCTETS {
            return Look::Held;
        }
        suspicion.held.pop();
        if suspicion.is_random() {
            self.encrypted = true;
            self.encrypted_at = arrival;
            self.media = Media::Encrypted;
            return Look::Encrypted(packet.payload.len().saturating_sub(suspicion.tag));
        }
        suspicion.rest = REST_PACKETS;
        Look::Clear
    }

    /// Passes on the packets held until [`Self::look`] said [`Look::Clear`] or [`Look::Encrypted`] (then with
    /// the octets of silence that stand for each), or when no more is waited for.
    pub fn take_held(&mut self, mut pass: impl FnMut(&Packet<'_>, usize, Mono)) {
        let Some(suspicion) = &mut self.suspicion else { return };
        if suspicion.held.is_empty() {
            return;
        }
        for (packet, arrival) in suspicion.held.iter() {
            pass(&packet, packet.payload.len().saturating_sub(suspicion.tag), arrival);
        }
        suspicion.held.clear();
    }

    /// Whether anything is held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.suspicion.as_ref().is_some_and(|suspicion| !suspicion.held.is_empty())
    }

    /// Audio came.
    pub fn hear(&mut self, arrival: Mono) {
        self.since = arrival;
        self.heard = true;
        self.silence_told = false;
        if self.media != Media::Flowing || self.wrong > 0 {
            self.media = Media::Flowing;
            self.wrong = 0;
            self.handshakes = 0;
        }
    }

    /// A packet of another payload type came, which is not recorded.
    pub fn pass_over(&mut self, packet: &Packet<'_>, arrival: Mono) {
        let PayloadType(number) = packet.payload_type;
        let event = number >= 96 && packet.payload.len() == EVENT_OCTETS;
        if event || packet.payload.is_empty() || COMFORT_NOISE.contains(&packet.payload_type) {
            return;
        }
        if self.wrong == 0 {
            self.wrong_since = arrival;
        }
        self.wrong = self.wrong.saturating_add(1);
        self.wrong_at = arrival;
        let from = self.since.max(self.wrong_since);
        if self.wrong >= WRONG_PACKETS && arrival.since(from) >= WRONG_AFTER && !self.encrypted {
            self.media = Media::WrongPayloadType;
        }
    }

    /// A packet of a key exchange came ([`is_handshake`]).
    pub fn shake_hands(&mut self) {
        self.handshakes = self.handshakes.saturating_add(1);
    }

    /// When time alone changes [`Self::media`], unless a packet comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        (self.media != Media::None).then(|| self.last_sign() + NO_MEDIA_AFTER)
    }

    /// Time has passed, and all that had come by then was looked at.
    pub fn tick(&mut self, now: Mono) {
        if self.deadline().is_some_and(|due| now >= due) {
            self.media = Media::None;
            self.wrong = 0;
        }
    }

    /// The last packet that stands for the present state.
    fn last_sign(&self) -> Mono {
        match self.media {
            Media::Flowing | Media::None => self.since,
            Media::Encrypted => self.since.max(self.encrypted_at),
            Media::WrongPayloadType => self.since.max(self.wrong_at),
        }
    }
}

impl Default for Suspicion {
    fn default() -> Self {
        Self { tag: 0, packets: 0, clear: 0, rest: 0, octets: 0, seen: [0; 256], held: Probation::default() }
    }
}

impl Suspicion {
    fn forget(&mut self) {
        self.packets = 0;
        self.octets = 0;
        self.seen = [0; 256];
    }

    /// Whether `packet` follows the held ones, and there is room for it.
    fn can_hold(&self, packet: &Packet<'_>) -> bool {
        (self.held.is_empty() || self.held.is_followed_by(packet)) && self.held.has_room(packet)
    }

    /// Counts and holds a packet.
    fn take(&mut self, packet: &Packet<'_>, arrival: Mono) {
        self.held.hold(packet, arrival);
        self.packets += 1;
        self.octets += u32::try_from(packet.payload.len()).unwrap_or(u32::MAX);
        for octet in packet.payload {
            if let Some(seen) = self.seen.get_mut(usize::from(*octet)) {
                *seen = seen.saturating_add(1);
            }
        }
    }

    /// Whether the octets are as evenly distributed as those of a cipher (Pearson's chi-squared test).
    fn is_random(&self) -> bool {
        let octets = u64::from(self.octets).max(1);
        let squares: u64 = self.seen.iter().map(|seen| u64::from(*seen) * u64::from(*seen)).sum();
        (squares * 256 / octets).saturating_sub(octets) < RANDOM_CHI_SQUARED
    }
}

/// Whether a datagram that is no RTP belongs to a key exchange or to finding a path: STUN, DTLS, TURN (RFC
/// 7983) or ZRTP (RFC 6189). Where they come, the audio is likely to be encrypted.
#[must_use]
pub fn is_handshake(datagram: &[u8]) -> bool {
    const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
    match datagram {
        [0..=3, _, _, _, cookie @ ..] if datagram.len() >= 20 => cookie.starts_with(&STUN_COOKIE),
        [0x10, _, _, _, b'Z', b'R', b'T', b'P', ..] => true,
        // Content type, then the version of DTLS, which counts down from 254.
        [20..=63, 254, 253 | 255, ..] => datagram.len() >= 13,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
