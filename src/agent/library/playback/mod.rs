//! A playback: from frames on the disk to RTP packets on time.
//!
//! Owns: which frame is sent when, with which numbers, and which frames are read ahead. Never: files or
//! sockets. Invariants: packet n is due at the anchor plus n packet times, so lateness never adds up; at most
//! one read is under way; time without sound (pause, a disk that did not keep up) is in the timestamps, as
//! RFC 3550, section 5.1, wants it: they follow the clock. A marker tells where the sound begins anew.

use crate::api::status::{PlaybackState, PlaybackStatus};
use media::blocks::{Block, BlockPool};
use media::time::{Mono, Now};
use media::units::{ClockRate, RtpTimestamp, SeqNo, Ssrc};
use recfile::format::Format;
use recfile::header::FileHeader;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use store::jobs::Folder;
use store::jobs::library::{FramesRead, Playable, PlaybackKey, ReadFrames};

/// RTP clock of every codec in the table.
const CLOCK: ClockRate = ClockRate::HZ_8000;

/// Less than this read ahead, and the next block is read.
const READ_AHEAD_TICKS: u64 = 2 * 8000;

/// Blocks that are read ahead at most, for frames of any size: the buffer is the recordings'.
const MAX_AHEAD: usize = 8;

/// At the end of a file that is still being recorded, and without a free block: look again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A little lateness is caught up with; more than this is left out, as if it had been a pause.
const MAX_LATE: Duration = Duration::from_millis(500);

/// The request of `play.start`, until storage has looked at the files.
#[derive(Clone, Debug)]
pub(in crate::agent) struct PlayRequest {
    pub(in crate::agent) file: String,
    pub(in crate::agent) files: Vec<String>,
    pub(in crate::agent) recording: Option<String>,
    pub(in crate::agent) folder: Folder,
    pub(in crate::agent) target: SocketAddr,
    pub(in crate::agent) position_ms: u64,
}

/// A frame of the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    part: usize,
    frame: u64,
}

/// Frames that were read and not yet sent.
#[derive(Debug)]
struct Stretch {
    at: Cursor,
    block: Block,
    sent_octets: usize,
}

/// The moment from which packets are counted, and the packets sent since.
#[derive(Clone, Copy, Debug)]
struct Pace {
    anchor: Mono,
    ticks: u64,
}

impl Pace {
    fn due(&self) -> Mono {
        let nanos = u128::from(self.ticks) * 1_000_000_000 / u128::from(CLOCK.hz());
        self.anchor + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A playback that has not ended.
#[derive(Debug)]
pub(in crate::agent) struct Playback {
    pub(in crate::agent) id: String,
    file: String,
    recording: Option<String>,
    folder: Folder,
    /// The files in the order of playing.
    parts: Vec<Playable>,
    state: PlaybackState,
    at: Cursor,
    read_at: Cursor,
    ahead: VecDeque<Stretch>,
    ahead_ticks: u64,
    generation: u32,
    /// A read is under way; whether the recording was still growing when it was asked for.
    reading: Option<bool>,
    not_before: Option<Mono>,
    /// Everything has been read.
    exhausted: bool,
    pace: Option<Pace>,
    silent_since: Option<Mono>,
    sequence: SeqNo,
    timestamp: RtpTimestamp,
    ssrc: Ssrc,
    marker: bool,
    progress_at: Mono,
}

impl Playback {
    /// A playback of `parts` from `position_ms` of the file that was asked for. `random` makes its RTP
    /// numbers.
    pub(in crate::agent) fn new(
        id: String,
        request: PlayRequest,
        parts: Vec<Playable>,
        random: u64,
        now: Now,
    ) -> Self {
        let [a, b, c, d, e, f, g, h] = random.to_le_bytes();
        let mut it = Self {
            id,
            file: request.file,
            recording: request.recording,
            folder: request.folder,
            parts,
            state: PlaybackState::Playing,
            at: Cursor::default(),
            read_at: Cursor::default(),
            ahead: VecDeque::new(),
            ahead_ticks: 0,
            generation: 0,
            reading: None,
            not_before: None,
            exhausted: false,
            pace: None,
            silent_since: None,
            sequence: SeqNo(u16::from_le_bytes([a, b])),
            timestamp: RtpTimestamp(u32::from_le_bytes([c, d, a, e])),
            ssrc: Ssrc(u32::from_le_bytes([e, f, g, h])),
            marker: true,
            progress_at: now.mono + Duration::from_secs(1),
        };
        let named = it.parts.iter().position(|part| part.file == it.file).unwrap_or(0);
        it.at = it.cursor_at(it.base_ms(named).saturating_add(request.position_ms));
        it.read_at = it.at;
        it
    }

    pub(in crate::agent) fn recording(&self) -> Option<&str> {
        self.recording.as_deref()
    }

    pub(in crate::agent) fn plays(&self, file: &str) -> bool {
        self.parts.iter().any(|part| part.file == file)
    }

    pub(in crate::agent) fn files(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.file.as_str())
    }

    pub(in crate::agent) fn is_paused(&self) -> bool {
        self.state == PlaybackState::Paused
    }

    /// Playing time of all files.
    pub(in crate::agent) fn duration_ms(&self) -> u64 {
        self.base_ms(self.parts.len())
    }

    pub(in crate::agent) fn status(&self, end_reason: Option<&str>) -> PlaybackStatus {
        let within = self.parts.get(self.at.part).map_or(0, |part| part.format.frames_to_ms(self.at.frame));
        let position_ms = self.base_ms(self.at.part).saturating_add(within);
        PlaybackStatus {
            playback: self.id.clone(),
            file: self.file.clone(),
            state: if end_reason.is_some() { PlaybackState::Ended } else { self.state },
            position_ms,
            duration_ms: self.duration_ms().max(position_ms),
            end_reason: end_reason.map(Into::into),
            text_key: None,
        }
    }

    /// Another file of the recording was begun.
    pub(in crate::agent) fn grow(&mut self, file: &str, header: FileHeader) {
        if self.plays(file) {
            return;
        }
        if let Ok(format) = Format::detect(&header.encode()) {
            self.parts.push(Playable { file: file.to_owned(), format, frames: 0 });
        }
    }

    /// A file has `octets` of audio by now.
    pub(in crate::agent) fn grew(&mut self, file: &str, octets: u64) {
        if let Some(part) = self.parts.iter_mut().find(|part| part.file == file) {
            part.frames = part.frames.max(octets / u64::from(part.format.stride.max(1)));
        }
    }

    pub(in crate::agent) fn pause(&mut self) {
        self.state = PlaybackState::Paused;
        if let Some(pace) = self.pace.take() {
            self.silent_since = Some(pace.due());
        }
    }

    pub(in crate::agent) fn resume(&mut self, now: Now) {
        self.state = PlaybackState::Playing;
        self.marker = true;
        self.progress_at = now.mono + Duration::from_secs(1);
    }

    /// Goes on at `position_ms` of the whole recording, at most at its end.
    pub(in crate::agent) fn seek(&mut self, position_ms: u64, pool: &mut BlockPool) {
        self.discard(pool);
        self.at = self.cursor_at(position_ms);
        self.read_at = self.at;
        self.generation = self.generation.wrapping_add(1);
        self.exhausted = false;
        self.not_before = None;
        self.marker = true;
    }

    /// Drops the frames read ahead.
    pub(in crate::agent) fn discard(&mut self, pool: &mut BlockPool) {
        self.ahead.drain(..).for_each(|stretch| pool.give_back(stretch.block));
        self.ahead_ticks = 0;
    }

    /// The next frames to read, if any. `growing`: the recording has not ended.
    pub(in crate::agent) fn next_read(
        &mut self,
        key: PlaybackKey,
        growing: bool,
        now: Now,
        pool: &mut BlockPool,
    ) -> Option<ReadFrames> {
        let waits = self.not_before.is_some_and(|at| now.mono < at);
        if self.reading.is_some() || self.exhausted || waits || self.has_enough() {
            return None;
        }
        let part = self.parts.get(self.read_at.part)?;
        let Some(block) = pool.take() else {
            // Recordings come first.
            self.not_before = Some(now.mono + LOOK_AGAIN);
            return None;
        };
        self.reading = Some(growing);
        self.not_before = None;
        Some(ReadFrames {
            playback: key,
            generation: self.generation,
            folder: self.folder.clone(),
            file: part.file.clone(),
            format: part.format,
            first: self.read_at.frame,
            block,
        })
    }

    /// Whether some of the frames read have to be sent before more are read.
    fn has_enough(&self) -> bool {
        self.ahead_ticks >= READ_AHEAD_TICKS || self.ahead.len() >= MAX_AHEAD
    }

    /// Storage had no room for the read: later.
    pub(in crate::agent) fn refused(&mut self, now: Now) {
        self.reading = None;
        self.not_before = Some(now.mono + LOOK_AGAIN);
    }

    /// Takes the frames read. False if the file can't be read any more.
    pub(in crate::agent) fn take_read(&mut self, read: FramesRead, now: Now, pool: &mut BlockPool) -> bool {
        let growing = self.reading.take().unwrap_or(false);
        let FramesRead { generation, block, result, .. } = read;
        if generation != self.generation {
            pool.give_back(block);
            return true;
        }
        let is_last = self.read_at.part + 1 >= self.parts.len();
        let (Ok(frames), Some(part)) = (result, self.parts.get_mut(self.read_at.part)) else {
            pool.give_back(block);
            return false;
        };
        part.frames = frames;
        let got = (block.octets().len() / part.format.frame_octets().max(1) as usize) as u64;
        if got > 0 {
            self.ahead_ticks += got * u64::from(part.format.header.increment);
            self.ahead.push_back(Stretch { at: self.read_at, block, sent_octets: 0 });
            self.read_at.frame += got;
        } else {
            pool.give_back(block);
        }
        if self.read_at.frame >= frames || got == 0 {
            if !is_last {
                self.read_at = Cursor { part: self.read_at.part + 1, frame: 0 };
            } else if growing {
                self.not_before = Some(now.mono + LOOK_AGAIN);
            } else {
                self.exhausted = true;
            }
        }
        true
    }

    /// Sends the packets that are due. True when everything has been played.
    pub(in crate::agent) fn play(
        &mut self,
        now: Now,
        pool: &mut BlockPool,
        send: &mut impl FnMut(Vec<u8>),
    ) -> bool {
        while self.state == PlaybackState::Playing {
            if self.ahead.is_empty() {
                let Some(pace) = self.pace.filter(|pace| now.mono < pace.due()) else {
                    if !self.exhausted {
                        // The disk does not keep up, or the end of a running recording is reached.
                        self.silent_since = self.pace.take().map(|pace| pace.due()).or(self.silent_since);
                    }
                    return self.exhausted;
                };
                let _ = pace;
                return false;
            }
            let pace = self.pace.unwrap_or(Pace { anchor: now.mono, ticks: 0 });
            let late = now.mono.since(pace.due());
            if late > MAX_LATE {
                self.silent_since = Some(pace.due());
                self.pace = None;
                continue;
            }
            if let Some(since) = self.silent_since.take() {
                let ticks = CLOCK.ticks_in(now.mono.since(since));
                self.timestamp = self.timestamp.plus(wrapped(ticks));
                self.marker |= ticks > 0;
            }
            self.pace = Some(pace);
            if now.mono < pace.due() {
                return false;
            }
            self.send_frame(pool, send);
        }
        false
    }

    fn send_frame(&mut self, pool: &mut BlockPool, send: &mut impl FnMut(Vec<u8>)) {
        let Some(stretch) = self.ahead.front_mut() else { return };
        let Some(part) = self.parts.get(stretch.at.part) else { return };
        let octets = part.format.frame_octets() as usize;
        let rest = stretch.block.octets().get(stretch.sent_octets..).unwrap_or_default();
        let payload = &rest[..octets.min(rest.len())];
        let mut packet = Vec::with_capacity(12 + payload.len());
        let marker = if std::mem::take(&mut self.marker) { 0x80 } else { 0 };
        packet.extend_from_slice(&[0x80, marker | part.format.header.codec.payload_type().0]);
        packet.extend_from_slice(&self.sequence.0.to_be_bytes());
        packet.extend_from_slice(&self.timestamp.0.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.0.to_be_bytes());
        packet.extend_from_slice(payload);
        let increment = part.format.header.increment;
        stretch.sent_octets += octets;
        stretch.at.frame += 1;
        self.at = stretch.at;
        let used_up = stretch.block.octets().len() < stretch.sent_octets + octets;
        self.sequence = self.sequence.plus(1);
        self.timestamp = self.timestamp.plus(increment);
        self.ahead_ticks = self.ahead_ticks.saturating_sub(increment.into());
        if let Some(pace) = &mut self.pace {
            pace.ticks += u64::from(increment);
        }
        if used_up {
            let used = self.ahead.pop_front();
            used.into_iter().for_each(|stretch| pool.give_back(stretch.block));
        }
        send(packet);
    }

    /// Whether progress is due now; then it is due again a second later.
    pub(in crate::agent) fn progress_is_due(&mut self, now: Now) -> bool {
        let due = self.state == PlaybackState::Playing && now.mono >= self.progress_at;
        if due {
            let next = self.progress_at + Duration::from_secs(1);
            self.progress_at = next.max(now.mono + Duration::from_millis(500));
        }
        due
    }

    /// The time of the next work; with `progress`, that of the next progress event counts.
    pub(in crate::agent) fn deadline(&self, progress: bool) -> Option<Mono> {
        let playing = self.state == PlaybackState::Playing;
        let packet = self.pace.map(|pace| pace.due()).filter(|_| playing);
        let progress = (playing && progress).then_some(self.progress_at);
        // With enough read ahead there is nothing to look for: the next packet, or the end of a pause, comes
        // first.
        let looks = self.reading.is_none() && !self.exhausted && !self.has_enough();
        let look = self.not_before.filter(|_| looks);
        [packet, progress, look].into_iter().flatten().min()
    }

    /// Playing time of the files before `part`.
    fn base_ms(&self, part: usize) -> u64 {
        self.parts.iter().take(part).map(|part| part.format.frames_to_ms(part.frames)).sum()
    }

    fn cursor_at(&self, position_ms: u64) -> Cursor {
        let mut left_ms = position_ms;
        let last = self.parts.len().saturating_sub(1);
        for (index, part) in self.parts.iter().enumerate() {
            let length_ms = part.format.frames_to_ms(part.frames);
            if left_ms < length_ms || index == last {
                let frame = part.format.frame_at_ms(left_ms).min(part.frames);
                return Cursor { part: index, frame };
            }
            left_ms -= length_ms;
        }
        Cursor::default()
    }
}

/// Timestamps wrap, so only the low half counts.
fn wrapped(ticks: u64) -> u32 {
    u32::try_from(ticks & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
