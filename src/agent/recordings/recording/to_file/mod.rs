//! A recording to a file: from packets to jobs for the storage thread.
//!
//! Owns: timeline, tape and the life of the files of one recording. Invariants: at most one job per
//! recording is under way, so a stalled disk holds back exactly one batch and the rest waits in the pool;
//! a segment is closed before the next one is opened; counters of segments add up to the recording's.

pub(in crate::agent) mod lost_disk;
pub(in crate::agent) mod segment_buffer;

use crate::agent::recordings::recording::to_file::lost_disk::Outage;
use crate::agent::recordings::recording::to_file::segment_buffer::{
    Feed, SegmentBuffer, SegmentLog, give_back,
};
use crate::api::reason::Reason;
use media::blocks::BlockPool;
use media::codec::{Codec, OCTETS_PER_MS};
use media::counts::{Counts, Verdict};
use media::level::{Level, level};
use media::packet::Packet;
use media::time::{Mono, Now, Wall};
use media::timeline::{Timeline, octets_to_ms};
use recfile::call::Call;
use recfile::header::{FileHeader, HEADER_OCTETS, max_data_octets};
use recfile::sealed::{
    CHUNK_OVERHEAD_OCTETS, FRONT_OCTETS, MAX_CHUNK_OCTETS, NONCE_OCTETS, key_header_octets_for,
    max_sealed_octets,
};
use recfile::sidecar::{Packets, SIDECAR_VERSION, Sidecar, SidecarState};
use std::time::Duration;
use store::jobs::{FileKey, Finalise, Folder, Job, Open, Opened, Piece};

/// Only every so many octets count for the level of a second. A prime, so that no common tone falls into step.
const LEVEL_STRIDE: usize = 23;

/// Octets of audio that the level is taken from: the last second.
const LEVEL_OCTETS: usize = 8000;

/// A file that finds no room is tried again so often, each time with an old file less: on FAT a long name takes
/// several places side by side.
const MAX_OPEN_TRIES: u32 = 8;

/// Where the file of the present segment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileState {
    /// Being created, or created, or being finished: a job is under way.
    Busy(Busy),
    /// Ready for the next job.
    Open,
    /// The disk is gone: everything waits for the next one.
    Lost,
    /// Nothing is on the disk, and nothing will be.
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    Opening,
    Appending,
    Rolling,
    Finishing,
    Finalising,
}

/// What does not change during a recording.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Spec {
    pub(in crate::agent) recording: String,
    pub(in crate::agent) codec: Codec,
    pub(in crate::agent) ptime_ms: u32,
    pub(in crate::agent) folder: Folder,
    /// Limit of one file in octets, header included.
    pub(in crate::agent) max_file_octets: u64,
    /// Keys that it is encrypted to; 0: it is not.
    pub(in crate::agent) recipients: usize,
}

/// A recording on its way to the disk.
#[derive(Debug)]
pub(in crate::agent) struct ToFile {
    spec: Spec,
    timeline: Timeline,
    buffer: SegmentBuffer,
    file: FileKey,
    /// Codec of the present file; the timeline may be further already.
    file_codec: Codec,
    state: FileState,
    busy_since: Mono,
    flushed_at: Mono,
    /// Arrival of the first packet that waits for a write.
    waiting_since: Mono,
    segment: u32,
    stamp: Wall,
    file_name: Option<String>,
    in_flight_octets: u64,
    /// Chunks of the present file, if it is encrypted.
    chunks: u64,
    /// Counters when the present segment began.
    segment_counts: Counts,
    level: Option<Level>,
    finishing: Option<(&'static str, Wall)>,
    /// Octets of the present file that the disk has acknowledged as durable.
    durable_octets: u64,
    /// The same of all files.
    kept_octets: u64,
    /// What was to be the final sidecar of the file being closed.
    closing: Option<Box<Sidecar>>,
    /// Files that lost their disk, to be finished when it is back; the oldest go first.
    finalisations: Vec<Finalise>,
    /// Whether the next file is another segment than the present one.
    next_is_new: bool,
    sender: SenderFacts,
    /// How often the present file could not be created for want of room.
    open_tries: u32,
    /// The next file is made there: the present disk is full.
    next_folder: Option<Folder>,
    outage: Option<Outage>,
    /// The disk was pulled while an answer of storage was due.
    pulled: bool,
}

/// What is known of who sends, for the sidecar.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::agent) struct SenderFacts {
    /// Payload type, if it is not the codec's static one.
    pub(in crate::agent) payload_type: Option<u8>,
}

impl ToFile {
    /// A recording that begins now, and the job that creates its first file.
    pub(in crate::agent) fn begin(spec: Spec, file: FileKey, call: &Call, now: Now) -> (Self, Job) {
        let frame = u64::from(spec.ptime_ms) * OCTETS_PER_MS;
        let limit = match spec.recipients {
            0 => max_data_octets(spec.max_file_octets),
            // What waits when room is taken away may stand a frame beyond it.
            recipients => max_sealed_octets(spec.max_file_octets, recipients).saturating_sub(frame),
        };
        let segment_limit = (limit / frame).max(1) * frame;
        let mut to_file = Self {
            timeline: Timeline::new(spec.codec),
            buffer: SegmentBuffer::new(spec.codec, segment_limit),
            file,
            file_codec: spec.codec,
            state: FileState::None,
            busy_since: now.mono,
            flushed_at: now.mono,
            waiting_since: now.mono,
            segment: 1,
            stamp: now.wall,
            file_name: None,
            in_flight_octets: 0,
            chunks: 0,
            segment_counts: Counts::default(),
            level: None,
            finishing: None,
            durable_octets: 0,
            kept_octets: 0,
            closing: None,
            finalisations: Vec::new(),
            next_is_new: false,
            sender: SenderFacts::default(),
            open_tries: 0,
            next_folder: None,
            outage: None,
            pulled: false,
            spec,
        };
        let job = to_file.open(call, now);
        (to_file, job)
    }

    /// Packets counted in `counts` were recorded elsewhere.
    pub(in crate::agent) fn count_from(&mut self, counts: Counts) {
        self.segment_counts = counts;
    }

    pub(in crate::agent) fn file(&self) -> FileKey {
        self.file
    }

    pub(in crate::agent) fn folder(&self) -> &Folder {
        &self.spec.folder
    }

    /// Where its present file is, and where the next one will be if that is elsewhere.
    pub(in crate::agent) fn folders(&self) -> impl Iterator<Item = &Folder> {
        std::iter::once(&self.spec.folder).chain(&self.next_folder)
    }

    /// The disk is full: the present file ends here, the next one is made in `folder`.
    pub(in crate::agent) fn move_to(&mut self, folder: Folder) {
        if self.finishing.is_some() || self.is_lost() {
            return;
        }
        if self.next_folder.replace(folder).is_none() {
            self.buffer.end_segment();
        }
    }

    pub(in crate::agent) fn file_name(&self) -> Option<&str> {
        self.file_name.as_deref()
    }

    /// When the present file began.
    pub(in crate::agent) fn stamp(&self) -> Wall {
        self.stamp
    }

    /// Whether it is encrypted.
    pub(in crate::agent) fn is_sealed(&self) -> bool {
        self.spec.recipients > 0
    }

    /// Octets of the present file with so many of audio.
    pub(in crate::agent) fn octets_in_file(&self, audio_octets: u64) -> u64 {
        if !self.is_sealed() {
            return HEADER_OCTETS as u64 + audio_octets;
        }
        let front = FRONT_OCTETS + key_header_octets_for(self.spec.recipients) + NONCE_OCTETS;
        front as u64 + audio_octets + self.chunks * CHUNK_OVERHEAD_OCTETS as u64
    }

    /// Header of the present file, without its length.
    pub(in crate::agent) fn header(&self) -> FileHeader {
        FileHeader::new(self.file_codec, self.spec.ptime_ms)
    }

    pub(in crate::agent) fn segment(&self) -> u32 {
        self.segment
    }

    pub(in crate::agent) fn level_dbfs(&self) -> Option<f32> {
        self.level.map(Level::dbfs)
    }

    /// Packets that never came.
    pub(in crate::agent) fn lost(&self) -> u64 {
        self.timeline.lost()
    }

    /// Octets recorded, on the disk or not.
    pub(in crate::agent) fn octets(&self) -> u64 {
        self.buffer.total_octets() + self.timeline.waiting_octets()
    }

    /// Octets recorded that are not on the disk yet.
    pub(in crate::agent) fn buffered_octets(&self) -> u64 {
        self.buffer.waiting_octets() + self.in_flight_octets + self.timeline.waiting_octets()
    }

    /// Octets recorded that have not been given to storage yet.
    pub(in crate::agent) fn waiting_octets(&self) -> u64 {
        self.buffer.waiting_octets() + self.timeline.waiting_octets()
    }

    /// Octets that a disk has.
    pub(in crate::agent) fn kept_octets(&self) -> u64 {
        self.kept_octets
    }

    /// Octets lost because the disk was too slow, full or gone.
    pub(in crate::agent) fn overrun_octets(&self) -> u64 {
        self.buffer.overrun_octets()
    }

    pub(in crate::agent) fn is_overfull(&self) -> bool {
        self.buffer.is_overfull()
    }

    /// Since when the disk has been at work on one job, if it is.
    pub(in crate::agent) fn busy_since(&self) -> Option<Mono> {
        matches!(self.state, FileState::Busy(_)).then_some(self.busy_since)
    }

    /// Whether the next job can't wait until the loop wakes for another reason.
    pub(in crate::agent) fn is_impatient(&self) -> bool {
        self.finishing.is_some() || self.buffer.at_roll()
    }

    /// When audio that waits must go to the disk, if any waits and the disk is free.
    pub(in crate::agent) fn flush_due(&self, interval: Duration) -> Option<Mono> {
        let waits = self.waiting_octets() > 0;
        (waits && self.state == FileState::Open).then_some(self.flushed_at.max(self.waiting_since) + interval)
    }

    pub(in crate::agent) fn push(
        &mut self,
        packet: &Packet<'_>,
        arrival: Mono,
        pool: &mut BlockPool,
    ) -> Verdict {
        let room = self.buffer.has_room(pool);
        if self.buffer.waiting_octets() == 0 {
            self.waiting_since = arrival;
        }
        self.timeline.push(packet, arrival, room, &mut Feed { buffer: &mut self.buffer, pool })
    }

    /// Audio that waits to be put in order goes on to the disk if no packet has come for a while.
    pub(in crate::agent) fn let_go(&mut self, now: Mono, pool: &mut BlockPool) {
        self.timeline.let_go(now, &mut Feed { buffer: &mut self.buffer, pool });
    }

    pub(in crate::agent) fn restore_regained(&mut self, counts: &mut Counts) {
        self.timeline.restore_regained(counts);
    }

    /// The sender changed to `codec`: the audio so far stays in its file, a new one follows.
    pub(in crate::agent) fn switch_codec(&mut self, codec: Codec, pool: &mut BlockPool) {
        self.timeline.switch_codec(codec, &mut Feed { buffer: &mut self.buffer, pool });
        self.buffer.roll(codec);
    }

    /// A pause begins: what waits for reordering is closed.
    pub(in crate::agent) fn pause(&mut self, pool: &mut BlockPool) {
        self.timeline.settle(&mut Feed { buffer: &mut self.buffer, pool });
    }

    /// A pause ended after `duration`.
    pub(in crate::agent) fn note_pause(&mut self, duration: Duration) {
        self.buffer.note_pause(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
    }

    /// No more audio will come.
    pub(in crate::agent) fn finish(&mut self, reason: &'static str, now: Now, pool: &mut BlockPool) {
        self.timeline.settle(&mut Feed { buffer: &mut self.buffer, pool });
        self.finishing.get_or_insert((reason, now.wall));
    }

    /// What the next sidecar says of the sender.
    pub(in crate::agent) fn note_sender(&mut self, sender: SenderFacts) {
        self.sender = sender;
    }

    /// The next job, if there is one to do and none under way. With `flush`, audio that waits is due.
    pub(in crate::agent) fn next_job(
        &mut self,
        flush: bool,
        call: &Call,
        counts: &Counts,
        now: Now,
    ) -> Option<Job> {
        if self.state != FileState::Open {
            return None;
        }
        let at_roll = self.buffer.at_roll();
        if !at_roll && self.buffer.waiting_octets() > 0 && (flush || self.finishing.is_some()) {
            return Some(self.append(now));
        }
        if at_roll {
            let (log, next_codec) = self.buffer.take_roll()?;
            let reason = match &self.next_folder {
                _ if next_codec != self.file_codec => "codec_change",
                Some(_) => Reason::StorageFull.as_str(),
                None => "rollover",
            };
            self.set_busy(Busy::Rolling, now);
            let sidecar = self.end_segment(call, counts, log, (reason, now.wall));
            self.file_codec = next_codec;
            return Some(self.close(sidecar));
        }
        let finishing = self.finishing?;
        let log = self.buffer.take_log();
        self.set_busy(Busy::Finishing, now);
        let sidecar = self.end_segment(call, counts, log, finishing);
        Some(self.close(sidecar))
    }

    fn close(&mut self, sidecar: Sidecar) -> Job {
        self.closing = Some(Box::new(sidecar.clone()));
        Job::Close { file: self.file, sidecar: Box::new(sidecar) }
    }

    /// The file was created. Whether that took more than one try.
    pub(in crate::agent) fn opened(&mut self, opened: Opened) -> bool {
        self.file_name = Some(opened.name);
        self.chunks = 0;
        self.durable_octets = 0;
        self.state = FileState::Open;
        // What came behind the end of the file before has waited since then, and was in no flush.
        self.flushed_at = self.flushed_at.min(self.waiting_since);
        if self.buffered_octets() == 0 {
            self.outage = None;
        }
        std::mem::take(&mut self.open_tries) > 0
    }

    /// The file could not be created for want of room: whether it may be tried again when some is made.
    pub(in crate::agent) fn may_open_again(&mut self) -> bool {
        self.open_tries += 1;
        self.state == FileState::Busy(Busy::Opening) && self.open_tries <= MAX_OPEN_TRIES
    }

    /// The job that creates the present file, once more; none if that is not under way any more.
    pub(in crate::agent) fn open_again(&mut self, call: &Call, now: Now) -> Option<Job> {
        (self.state == FileState::Busy(Busy::Opening)).then(|| self.open(call, now))
    }

    /// The disk took what it was given. Returns how many octets that were.
    pub(in crate::agent) fn appended(&mut self, pieces: Vec<Piece>, pool: &mut BlockPool) -> u64 {
        self.buffer.written(pieces, pool);
        self.state = FileState::Open;
        self.outage = None;
        self.durable_octets += self.in_flight_octets;
        self.kept_octets += self.in_flight_octets;
        std::mem::take(&mut self.in_flight_octets)
    }

    /// The disk is full: the file is to be finished with what it has.
    pub(in crate::agent) fn filled(
        &mut self,
        pieces: Vec<Piece>,
        reason: &'static str,
        now: Now,
        pool: &mut BlockPool,
    ) {
        give_back(pieces, pool);
        self.buffer.note_overrun(std::mem::take(&mut self.in_flight_octets));
        self.timeline.settle(&mut Feed { buffer: &mut self.buffer, pool });
        self.buffer.discard(pool);
        // Also of a recording that was being stopped: its end did not fit.
        self.finishing = Some((reason, now.wall));
        self.state = FileState::Open;
    }

    /// The file was finished. Returns the job that opens the next segment, or `None` at the end.
    pub(in crate::agent) fn closed(&mut self, next: FileKey, call: &Call, now: Now) -> Option<Job> {
        self.closing = None;
        if self.state != FileState::Busy(Busy::Rolling) {
            self.state = FileState::None;
            return None;
        }
        if let Some(folder) = self.next_folder.take() {
            self.spec.folder = folder;
        }
        self.segment += 1;
        self.file = next;
        self.stamp = now.wall;
        Some(self.open(call, now))
    }

    /// Gives up: nothing more reaches the disk, and what waited for it is lost.
    pub(in crate::agent) fn abandon(&mut self, pieces: Vec<Piece>, pool: &mut BlockPool) {
        give_back(pieces, pool);
        self.state = FileState::None;
        self.buffer.discard(pool);
        self.buffer.note_overrun(std::mem::take(&mut self.in_flight_octets));
    }

    fn append(&mut self, now: Now) -> Job {
        self.meter();
        let (pieces, octets) = self.buffer.take_pieces();
        self.in_flight_octets = octets;
        if self.is_sealed() {
            // A chunk that is not full takes room from the audio.
            self.chunks += octets.div_ceil(MAX_CHUNK_OCTETS as u64);
            let frame = u64::from(self.spec.ptime_ms) * OCTETS_PER_MS;
            self.buffer.lower_segment_limit(CHUNK_OVERHEAD_OCTETS as u64, frame.max(1));
        }
        self.flushed_at = now.mono;
        self.set_busy(Busy::Appending, now);
        Job::Append { file: self.file, pieces, flush: true }
    }

    /// Takes the level of the newest audio.
    fn meter(&mut self) {
        let newest = self.buffer.newest();
        let second = &newest[newest.len().saturating_sub(LEVEL_OCTETS)..];
        if !second.is_empty() {
            self.level = level(self.timeline.codec(), second, LEVEL_STRIDE);
        }
    }

    fn set_busy(&mut self, busy: Busy, now: Now) {
        self.state = FileState::Busy(busy);
        self.busy_since = now.mono;
    }

    fn open(&mut self, call: &Call, now: Now) -> Job {
        self.set_busy(Busy::Opening, now);
        Job::Open(Open {
            file: self.file,
            folder: self.spec.folder.clone(),
            stamp: self.stamp,
            header: self.header(),
            sidecar: Box::new(self.sidecar(call, &Counts::default(), SegmentLog::default(), None)),
        })
    }

    /// The final sidecar of the present segment. What is counted from here on belongs to the next one.
    fn end_segment(
        &mut self,
        call: &Call,
        counts: &Counts,
        log: SegmentLog,
        end: (&'static str, Wall),
    ) -> Sidecar {
        let mut counts = *counts;
        if self.finishing.is_none() {
            // A packet on its way past the end of the file is not lost.
            counts.lost = counts.lost.saturating_sub(self.timeline.may_still_come());
        }
        let sidecar = self.sidecar(call, &counts, log, Some(end));
        self.segment_counts = counts.next_since(&self.segment_counts);
        sidecar
    }

    /// The sidecar of the present segment; storage fills in name, size and duration.
    fn sidecar(
        &self,
        call: &Call,
        counts: &Counts,
        log: SegmentLog,
        end: Option<(&'static str, Wall)>,
    ) -> Sidecar {
        let counts = if end.is_some() { counts.since(&self.segment_counts) } else { Counts::default() };
        Sidecar {
            version: SIDECAR_VERSION,
            recording: self.spec.recording.clone(),
            segment: self.segment,
            call: call.clone(),
            codec: self.file_codec.name().into(),
            ptime_ms: self.spec.ptime_ms,
            payload_type: self.sender.payload_type,
            start: self.stamp.rfc3339(),
            clock_set: self.stamp.is_set(),
            state: if end.is_some() { SidecarState::Ended } else { SidecarState::Recording },
            packets: packets(&counts),
            gaps: log.listed,
            gaps_total: log.total,
            gap_ms_total: octets_to_ms(log.octets),
            pauses: log.pauses,
            end: end.map(|(_, wall)| wall.rfc3339()),
            end_reason: end.map(|(reason, _)| reason.into()),
            no_media: end.is_some() && counts.received == 0 && self.octets() == 0,
            contested: counts.strangers > 0,
            ..Sidecar::default()
        }
    }
}

fn packets(counts: &Counts) -> Packets {
    Packets {
        received: counts.received,
        lost: counts.lost,
        late: counts.late,
        duplicate: counts.duplicate,
        dropped: counts.dropped(),
        strangers: counts.strangers,
        ..Packets::default()
    }
}

#[cfg(test)]
mod tests;
