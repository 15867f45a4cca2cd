//! A recording to a file: from segments to jobs for the storage thread.
//!
//! Owns: the life of the files of one recording. Its audio comes from the stream. Invariants: at most one job
//! per recording is under way, so a stalled disk holds back exactly one batch and the rest waits in the pool;
//! a segment is closed before the next one is opened; counters of segments add up to the recording's.

pub(in crate::agent) mod lost_disk;

use crate::agent::recordings::recording::to_file::lost_disk::Outage;
use crate::api::reason::Reason;
use media::blocks::BlockPool;
use media::codec::{Codec, OCTETS_PER_MS};
use media::counts::Counts;
use media::level::{Level, level};
use media::recorder::StreamRecorder;
use media::recorder::segment_log::{Boundary, SegmentLog};
use media::time::{Mono, Now, Wall};
use recfile::call::Call;
use recfile::header::{FileHeader, HEADER_OCTETS, max_data_octets};
use recfile::sealed::{
    CHUNK_OVERHEAD_OCTETS, FRONT_OCTETS, MAX_CHUNK_OCTETS, NONCE_OCTETS, key_header_octets_for,
    max_sealed_octets,
};
use recfile::sidecar::{Packets, SIDECAR_VERSION, Sidecar, SidecarState};
use std::time::Duration;
use store::jobs::{FileKey, Finalise, Folder, Job, Open, Opened, Piece};

/// Distance between the octets that count for the level of a second. A prime, so that no common tone falls
/// into step.
const LEVEL_STRIDE: usize = 23;

/// Octets of audio that the level is taken from: the last second.
const LEVEL_OCTETS: usize = 8000;

/// Number of times that a file that finds no room is tried again, each time with an old file less: on FAT a
/// long name takes several places side by side.
const MAX_OPEN_TRIES: u32 = 8;

/// The state of the file of the present segment.
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

/// The parameters that do not change during a recording.
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
    file: FileKey,
    /// Codec of the present file; the stream may be further already.
    file_codec: Codec,
    state: FileState,
    busy_since: Mono,
    flushed_at: Mono,
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
    /// The intended final sidecar of the file being closed.
    closing: Option<Box<Sidecar>>,
    /// Files that lost their disk, to be finished when it is back; the oldest go first.
    finalisations: Vec<Finalise>,
    /// Whether the next file is another segment than the present one.
    next_is_new: bool,
    sender: SenderFacts,
    /// Number of times that the present file could not be created for want of room.
    open_tries: u32,
    /// The next file is made there: the present disk is full.
    next_folder: Option<Folder>,
    outage: Option<Outage>,
    /// The disk was pulled while an answer of storage was due.
    pulled: bool,
}

/// Facts about the sender, for the sidecar.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::agent) struct SenderFacts {
    /// Payload type, if it is not the codec's static one.
    pub(in crate::agent) payload_type: Option<u8>,
}

impl ToFile {
    /// A recording that begins now, and the job that creates its first file.
    pub(in crate::agent) fn begin(spec: Spec, file: FileKey, call: &Call, now: Now) -> (Self, Job) {
        let mut to_file = Self {
            file,
            file_codec: spec.codec,
            state: FileState::None,
            busy_since: now.mono,
            flushed_at: now.mono,
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

    /// Octets of audio that one file may have.
    pub(in crate::agent) fn max_segment_octets(&self) -> u64 {
        let frame = u64::from(self.spec.ptime_ms) * OCTETS_PER_MS;
        match self.spec.recipients {
            0 => max_data_octets(self.spec.max_file_octets),
            // Audio that waits when room is taken away may stand a frame beyond it.
            recipients => max_sealed_octets(self.spec.max_file_octets, recipients).saturating_sub(frame),
        }
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

    /// The folder of its present file, and that of the next one if it is another.
    pub(in crate::agent) fn folders(&self) -> impl Iterator<Item = &Folder> {
        std::iter::once(&self.spec.folder).chain(&self.next_folder)
    }

    /// The disk is full: the present file ends here, the next one is made in `folder`.
    pub(in crate::agent) fn move_to(&mut self, folder: Folder, stream: &mut StreamRecorder) {
        if self.finishing.is_some() || self.is_lost() {
            return;
        }
        if self.next_folder.replace(folder).is_none() {
            stream.end_segment();
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

    /// Octets of the present file when it has `audio_octets` of audio.
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

    /// Octets that storage is writing.
    pub(in crate::agent) fn in_flight_octets(&self) -> u64 {
        self.in_flight_octets
    }

    /// Octets that a disk has.
    pub(in crate::agent) fn kept_octets(&self) -> u64 {
        self.kept_octets
    }

    /// Since when the disk has been at work on one job, if it is.
    pub(in crate::agent) fn busy_since(&self) -> Option<Mono> {
        matches!(self.state, FileState::Busy(_)).then_some(self.busy_since)
    }

    /// Whether the next job can't wait until the loop wakes for another reason.
    pub(in crate::agent) fn is_impatient(&self, stream: &StreamRecorder) -> bool {
        self.finishing.is_some() || stream.buffer().at_end()
    }

    /// When audio that waits must go to the disk, if any waits and the disk is free.
    pub(in crate::agent) fn flush_due(&self, stream: &StreamRecorder, interval: Duration) -> Option<Mono> {
        let waits = waiting_octets(stream) > 0 && self.state == FileState::Open;
        waits.then(|| self.flushed_at.max(stream.buffer().waiting_since()) + interval)
    }

    /// No more audio will come.
    pub(in crate::agent) fn finish(
        &mut self,
        reason: &'static str,
        stream: &mut StreamRecorder,
        now: Now,
        pool: &mut BlockPool,
    ) {
        stream.finish(pool);
        self.finishing.get_or_insert((reason, now.wall));
    }

    /// Notes the sender for the next sidecar.
    pub(in crate::agent) fn note_sender(&mut self, sender: SenderFacts) {
        self.sender = sender;
    }

    /// The next job, if there is one to do and none under way. With `flush`, audio that waits is due.
    pub(in crate::agent) fn next_job(
        &mut self,
        flush: bool,
        call: &Call,
        stream: &mut StreamRecorder,
        now: Now,
    ) -> Option<Job> {
        if self.state != FileState::Open {
            return None;
        }
        if let Some(end) = stream.take_end() {
            let reason = match &self.next_folder {
                _ if end.boundary == Boundary::Codec => "codec_change",
                Some(_) => Reason::StorageFull.as_str(),
                None => "rollover",
            };
            self.set_busy(Busy::Rolling, now);
            let sidecar = self.end_segment(call, stream, end.log, &end.counts, (reason, now.wall));
            self.file_codec = stream.buffer().front_format().codec;
            return Some(self.close(sidecar));
        }
        if stream.buffer().waiting_octets() > 0 && (flush || self.finishing.is_some()) {
            return Some(self.append(stream, now));
        }
        let finishing = self.finishing?;
        let (log, counts) = stream.take_last();
        self.set_busy(Busy::Finishing, now);
        let sidecar = self.end_segment(call, stream, log, &counts, finishing);
        Some(self.close(sidecar))
    }

    fn close(&mut self, sidecar: Sidecar) -> Job {
        self.closing = Some(Box::new(sidecar.clone()));
        Job::Close { file: self.file, sidecar: Box::new(sidecar) }
    }

    /// The file was created. Whether that took more than one try.
    pub(in crate::agent) fn opened(&mut self, opened: Opened, stream: &StreamRecorder) -> bool {
        self.file_name = Some(opened.name);
        self.chunks = 0;
        self.durable_octets = 0;
        self.state = FileState::Open;
        // Audio behind the end of the file before has waited since then, and was in no flush.
        self.flushed_at = self.flushed_at.min(stream.buffer().waiting_since());
        if waiting_octets(stream) + self.in_flight_octets == 0 {
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

    /// The disk took the audio of the job. Returns its octets.
    pub(in crate::agent) fn appended(
        &mut self,
        pieces: Vec<Piece>,
        stream: &mut StreamRecorder,
        pool: &mut BlockPool,
    ) -> u64 {
        stream.buffer_mut().written(pieces, pool);
        self.state = FileState::Open;
        self.outage = None;
        self.durable_octets += self.in_flight_octets;
        self.kept_octets += self.in_flight_octets;
        std::mem::take(&mut self.in_flight_octets)
    }

    /// The disk is full: the file is to be finished with its audio so far.
    pub(in crate::agent) fn filled(
        &mut self,
        pieces: Vec<Piece>,
        reason: &'static str,
        stream: &mut StreamRecorder,
        now: Now,
        pool: &mut BlockPool,
    ) {
        pool.give_back_all(pieces);
        stream.buffer_mut().note_overrun(std::mem::take(&mut self.in_flight_octets));
        stream.finish(pool);
        stream.buffer_mut().discard(pool);
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

    /// Gives up: nothing more reaches the disk, and waiting audio is lost.
    pub(in crate::agent) fn abandon(
        &mut self,
        pieces: Vec<Piece>,
        stream: &mut StreamRecorder,
        pool: &mut BlockPool,
    ) {
        pool.give_back_all(pieces);
        self.state = FileState::None;
        let buffer = stream.buffer_mut();
        buffer.discard(pool);
        buffer.note_overrun(std::mem::take(&mut self.in_flight_octets));
    }

    /// Whether the recording waits for a disk.
    pub(in crate::agent) fn is_lost(&self) -> bool {
        self.state == FileState::Lost
    }

    /// The outage that lasts; `None` while the recording has a disk, proved or not.
    pub(in crate::agent) fn outage_mut(&mut self) -> Option<&mut Outage> {
        self.outage.as_mut().filter(|_| self.state == FileState::Lost)
    }

    pub(in crate::agent) fn outage(&self) -> Option<Outage> {
        self.outage.filter(|_| self.is_lost())
    }

    /// Since when no disk has proved to take the audio.
    pub(in crate::agent) fn without_disk_since(&self) -> Option<Mono> {
        self.outage.map(|outage| outage.since)
    }

    /// Waits for a disk. Returns whether the outage begins now.
    pub(in crate::agent) fn wait_for_disk(&mut self, now: Mono, retry_at: Mono) -> bool {
        let since = self.without_disk_since();
        self.outage = Some(Outage { since: since.unwrap_or(now), retry_at, tries: false });
        since.is_none()
    }

    /// Another disk takes the recording at once.
    pub(in crate::agent) fn end_outage(&mut self) {
        self.outage = None;
    }

    /// The disk was pulled; the next step has to wait for the answer that storage owes.
    pub(in crate::agent) fn lose_after_answer(&mut self) {
        self.pulled = true;
    }

    /// Whether the disk was pulled, and storage owes no answer any more.
    pub(in crate::agent) fn is_pulled(&self) -> bool {
        self.pulled && !self.is_busy()
    }

    /// Whether storage is at work for this recording.
    pub(in crate::agent) fn is_busy(&self) -> bool {
        matches!(self.state, FileState::Busy(_))
    }

    /// Whether files are being finished, and nothing else is left to do.
    pub(in crate::agent) fn is_finalising(&self) -> bool {
        self.state == FileState::Busy(Busy::Finalising)
    }

    /// Files that wait to be finished; they wait without this recording from now on.
    pub(in crate::agent) fn take_finalisations(&mut self) -> Vec<Finalise> {
        std::mem::take(&mut self.finalisations)
    }

    /// Whether a file of this recording waits to be finished under this key.
    pub(in crate::agent) fn has_finalisation(&self, file: FileKey) -> bool {
        self.finalisations.iter().any(|finalisation| finalisation.file == file)
    }

    fn append(&mut self, stream: &mut StreamRecorder, now: Now) -> Job {
        self.meter(stream);
        let (pieces, octets) = stream.buffer_mut().take_pieces();
        self.in_flight_octets = octets;
        if self.is_sealed() {
            // A chunk that is not full takes room from the audio.
            self.chunks += octets.div_ceil(MAX_CHUNK_OCTETS as u64);
            stream.buffer_mut().lower_segment_limit(CHUNK_OVERHEAD_OCTETS as u64);
        }
        self.flushed_at = now.mono;
        self.set_busy(Busy::Appending, now);
        Job::Append { file: self.file, pieces, flush: true }
    }

    /// Takes the level of the newest audio.
    fn meter(&mut self, stream: &StreamRecorder) {
        let newest = stream.buffer().newest();
        let second = &newest[newest.len().saturating_sub(LEVEL_OCTETS)..];
        if !second.is_empty() {
            self.level = level(stream.codec(), second, LEVEL_STRIDE);
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
            sidecar: Box::new(self.sidecar(call)),
        })
    }

    /// The final sidecar of the present segment, which left the counts as they are in `counts`. Later counts
    /// belong to the next one.
    fn end_segment(
        &mut self,
        call: &Call,
        stream: &StreamRecorder,
        log: SegmentLog,
        counts: &Counts,
        (reason, wall): (&'static str, Wall),
    ) -> Sidecar {
        let own = counts.since(&self.segment_counts);
        self.segment_counts = counts.next_since(&self.segment_counts);
        let mut sidecar = Sidecar {
            state: SidecarState::Ended,
            packets: Packets::from(&own),
            end: Some(wall.rfc3339()),
            end_reason: Some(reason.into()),
            no_media: own.received == 0 && stream.octets_of_track() == 0,
            contested: own.strangers > 0,
            ..self.sidecar(call)
        };
        sidecar.note(log);
        sidecar
    }

    /// The sidecar of the present segment as long as it goes on; storage fills in name, size and duration.
    fn sidecar(&self, call: &Call) -> Sidecar {
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
            state: SidecarState::Recording,
            ..Sidecar::default()
        }
    }
}

/// Octets of a stream that have not been given to storage yet.
pub(in crate::agent) fn waiting_octets(stream: &StreamRecorder) -> u64 {
    stream.buffer().waiting_octets() + stream.unordered_octets()
}

#[cfg(test)]
mod tests;
