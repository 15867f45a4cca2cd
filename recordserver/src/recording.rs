//! The audio of one session on its way to the disk: RTP in, storage jobs out.
//!
//! Owns: the rhythm of the jobs, the sidecar, the share of each file in the counts. Never: the way of a
//! packet, which is [`media::recorder`]'s. Pure. The file is opened by the first packet, which tells its
//! frame size, or at the end if none came; a recording that outgrows a file, or whose sender changes the
//! codec, goes on in the next. Invariants: jobs of a file come in the order open, append …, close; no file
//! passes its limit.

mod over_tcp;

pub use over_tcp::{Front, Mark};

use crate::items::Items;
use media::blocks::{BLOCK_OCTETS, BlockPool};
use media::codec::Codec;
use media::counts::{Counts, DropCause, Verdict};
use media::recorder::segment_log::{Boundary, Format, SegmentLog};
use media::recorder::{self, Datagram, StreamRecorder};
use media::source_lock;
use media::time::{Mono, Now};
use over_tcp::OverTcp;
use recfile::call::{Altered, Call, CallUpdate};
use recfile::header::{FileHeader, max_data_octets};
use recfile::sidecar::{Packets, Sidecar, SidecarState};
use std::net::SocketAddr;
use std::time::Duration;
use store::jobs::{FileKey, Folder, Job, Open, Piece};
use uplink::media_stream::FrameError;
use uplink::media_stream::inlet::Arrival;
use uplink::message::Parties;
use uplink::message::extension::Asked;
use uplink::server::{EndReason, Opening};

/// Frame length assumed if no packet tells.
const DEFAULT_PTIME_MS: u32 = 20;

/// Silence after which another sender at the phone's address may take over.
const TAKEOVER_AFTER: Duration = Duration::from_secs(10);

/// Changes of codec that may wait for the disk; further ones are not followed until it has caught up.
const MAX_CODEC_CHANGES: usize = 8;

/// Rules that all recordings share.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Longest time between two syncs.
    pub flush_interval: Duration,
    /// Size of a file, header included.
    pub max_file_octets: u64,
}

/// One recording.
pub struct Recording {
    rules: Rules,
    folder: Folder,
    stream: StreamRecorder,
    /// The counts when the present file began.
    counts_before: Counts,
    /// Packets of the call that the kernel dropped because they were not fetched in time: in all, and before
    /// this file.
    overruns: u64,
    overruns_before: u64,
    sidecar: Sidecar,
    /// The present file, if it is open.
    file: Option<FileKey>,
    begun: Now,
    flushed: Mono,
    /// Octets that the disk was given, and those of them that it was to make durable.
    handed_octets: u64,
    flushed_octets: u64,
    /// Those before the present file.
    file_began_octets: u64,
    over_tcp: Option<OverTcp>,
    failed: bool,
}

/// The parts of a recording that end with a file.
struct Ending<'a> {
    format: Format,
    log: SegmentLog,
    /// The counts of the whole recording at its end.
    counts: Counts,
    reason: &'a str,
}

impl Recording {
    /// A recording that was asked for by a phone at `peer`, has this `id` at the server, and goes to
    /// `folder`. Its audio comes as items over TCP if `opening` has the extension.
    #[must_use]
    pub fn new(
        rules: Rules,
        opening: &Opening,
        id: String,
        peer: SocketAddr,
        folder: Folder,
        now: Now,
    ) -> Self {
        let mut call = Call { direction: opening.direction, altered: opening.altered, ..Call::default() };
        call.update(&CallUpdate::from(&opening.parties));
        let sidecar = Sidecar {
            recording: id,
            uplink_id: Some(opening.id.clone()),
            call,
            start: now.wall.rfc3339(),
            clock_set: now.wall.is_set(),
            state: SidecarState::Recording,
            peer: Some(peer.to_string()),
            ..Sidecar::default()
        };
        let stream_rules = recorder::Rules {
            source: source_lock::Rules { only: Some(peer.ip()), takeover_after: TAKEOVER_AFTER },
            codec: opening.codec,
            ptime_ms: None,
            payload_type: None,
            looks_for_encryption: false,
            max_codec_changes: MAX_CODEC_CHANGES,
        };
        let max_octets = max_data_octets(rules.max_file_octets);
        let mut stream = StreamRecorder::in_segments(stream_rules, max_octets, now.mono);
        let over_tcp = opening.extension.as_ref().map(|asked| OverTcp::new(asked, peer, now.mono));
        let mut rules = rules;
        if over_tcp.is_some() {
            stream.trust_sender();
            rules.flush_interval = rules.flush_interval.min(over_tcp::FLUSH_INTERVAL);
        }
        Self {
            rules,
            folder,
            stream,
            counts_before: Counts::default(),
            overruns: 0,
            overruns_before: 0,
            sidecar,
            file: None,
            begun: now,
            flushed: now.mono,
            handed_octets: 0,
            flushed_octets: 0,
            file_began_octets: 0,
            over_tcp,
            failed: false,
        }
    }

    /// Its id, which no other recording of the server has.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.sidecar.recording
    }

    /// The texts of the call that could not be kept as the phone sent them.
    #[must_use]
    pub fn altered(&self) -> Altered {
        self.sidecar.call.altered
    }

    /// Takes a datagram that arrived at `arrival`; whether it was RTP of this call.
    pub fn datagram(
        &mut self,
        datagram: &[u8],
        source: SocketAddr,
        arrival: Mono,
        pool: &mut BlockPool,
    ) -> bool {
        let datagram = Datagram { octets: datagram, truncated: false, source, arrival };
        self.stream.datagram(datagram, pool).is_some_and(is_rtp)
    }

    /// Takes a datagram that was too long to be received whole.
    pub fn oversize(&mut self, source: SocketAddr, arrival: Mono, pool: &mut BlockPool) {
        self.stream.datagram(Datagram { octets: &[], truncated: true, source, arrival }, pool);
    }

    /// Takes a frame of the media connection; whether it was an item that had not come before.
    ///
    /// # Errors
    /// An item before it is missing.
    pub fn item(
        &mut self,
        arrival: Arrival<'_>,
        now: Mono,
        pool: &mut BlockPool,
    ) -> Result<bool, FrameError> {
        let Self { over_tcp, stream, .. } = self;
        let Some(over_tcp) = over_tcp else { return Ok(false) };
        let is_new = over_tcp.take(arrival, stream, now, pool)?;
        self.skip(pool);
        Ok(is_new)
    }

    /// Takes out audio that files of a former run have.
    fn skip(&mut self, pool: &mut BlockPool) {
        let Self { over_tcp, stream, .. } = self;
        let octets = over_tcp.as_mut().map_or(0, |over_tcp| over_tcp.skip(stream, pool));
        self.handed_octets += octets;
        self.flushed_octets += octets;
        self.file_began_octets += octets;
    }

    /// It goes on with a recording that has files of a former run of the server; before its first item.
    pub fn goes_on(&mut self, front: Front, asked: &Asked, now: Mono) {
        if let Some(over_tcp) = &mut self.over_tcp {
            over_tcp.goes_on(front, asked, now);
            self.sidecar.segment = front.segment;
        }
    }

    /// Whether it goes on with a recording that has files of a former run.
    #[must_use]
    pub fn is_continued(&self) -> bool {
        self.over_tcp.as_ref().is_some_and(|over_tcp| over_tcp.is_continued)
    }

    /// Whether it has audio to be kept, or a file already.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        let continued = self.over_tcp.as_ref().filter(|over_tcp| over_tcp.is_continued);
        let brings = continued.map_or(self.octets() > 0, |over_tcp| over_tcp.brings_audio(&self.stream));
        brings || self.file.is_some()
    }

    /// The items that its audio comes in; `None` if it is not recorded over TCP.
    #[must_use]
    pub fn items(&self) -> Option<&Items> {
        self.over_tcp.as_ref().map(|over_tcp| &over_tcp.items)
    }

    /// The newest place at which it could go on in another file and that the jobs so far give the disk all
    /// of, if there is another one than before.
    pub fn take_written(&mut self) -> Option<Mark> {
        self.over_tcp.as_mut()?.take_written()
    }

    fn note_written(&mut self) {
        if let Some(over_tcp) = &mut self.over_tcp {
            over_tcp.note_written(self.handed_octets, self.file_began_octets, self.sidecar.segment);
        }
    }

    /// Looks at the packets that wait until their sender is trusted; true if they were RTP of this call.
    pub fn tick(&mut self, now: Mono, pool: &mut BlockPool) -> bool {
        self.stream.tick(now, pool)
    }

    /// No more packets come: those of the likely sender are taken.
    pub fn settle(&mut self, now: Mono, pool: &mut BlockPool) {
        self.stream.settle(now, pool);
    }

    /// The jobs that are due for the disk. `next_file` names files; `now` also stamps them.
    pub fn jobs(&mut self, now: Now, next_file: &mut dyn FnMut() -> FileKey, jobs: &mut Vec<Job>) {
        if self.failed {
            return;
        }
        self.close_ended(now, next_file, jobs);
        let format = self.stream.buffer().front_format();
        let nothing_new = self.is_continued() && self.stream.buffer().waiting_octets() == 0;
        if self.file.is_none() && (format.ptime_ms.is_none() || nothing_new) {
            return;
        }
        let file = self.open(format, next_file, jobs);
        let unflushed = self.stream.placed_octets() > self.flushed_octets;
        let flush = unflushed && now.mono.since(self.flushed) >= self.rules.flush_interval;
        let buffer = self.stream.buffer_mut();
        // Whole packets over TCP, so that a crash leaves whole frames: nobody sends again what repair fills
        // up.
        let is_block = buffer.waiting_octets() >= BLOCK_OCTETS as u64;
        let (pieces, octets) = match self.over_tcp {
            Some(_) if flush || is_block => buffer.take_pieces(),
            Some(_) => (Vec::new(), 0),
            None if flush => buffer.take_pieces(),
            None => buffer.take_full_pieces(),
        };
        if flush || !pieces.is_empty() {
            self.append(file, (pieces, octets), flush, now.mono, jobs);
        }
        self.note_written();
    }

    /// Segments that get no more audio go to the disk, in order.
    fn close_ended(&mut self, now: Now, next_file: &mut dyn FnMut() -> FileKey, jobs: &mut Vec<Job>) {
        while self.stream.buffer().has_end() {
            let pieces = self.stream.buffer_mut().take_pieces();
            let Some(end) = self.stream.take_end() else { return };
            // The phone said another codec than the first packet had.
            if self.file.is_none() && pieces.1 == 0 {
                continue;
            }
            let file = self.open(end.format, next_file, jobs);
            self.append(file, pieces, true, now.mono, jobs);
            let reason = match end.boundary {
                Boundary::Codec => "codec_change",
                Boundary::Full | Boundary::Asked => "file_full",
            };
            let ending = Ending { format: end.format, log: end.log, counts: end.counts, reason };
            self.close(file, ending, now, jobs);
            self.sidecar.segment += 1;
            self.sidecar.start = now.wall.rfc3339();
            self.begun = now;
        }
    }

    /// Ends the recording: all the jobs that remain.
    pub fn finish(
        &mut self,
        reason: &EndReason,
        parties: Option<Parties>,
        now: Now,
        pool: &mut BlockPool,
        next_file: &mut dyn FnMut() -> FileKey,
        jobs: &mut Vec<Job>,
    ) {
        if let Some(parties) = parties {
            // A stop request need not have them: fields left out stay as they were.
            self.sidecar.call.update(&CallUpdate::from(&parties));
        }
        self.settle(now.mono, pool);
        if let Some(duration) = self.over_tcp.as_mut().and_then(|over_tcp| over_tcp.items.end(now.mono)) {
            self.stream.note_pause(duration);
        }
        self.stream.finish(pool);
        self.skip(pool);
        if self.failed {
            jobs.extend(self.file.take().map(Job::Abandon));
            self.stream.buffer_mut().discard(pool);
            return;
        }
        self.close_ended(now, next_file, jobs);
        let format = self.stream.buffer().front_format();
        let file = self.open(format, next_file, jobs);
        let pieces = self.stream.buffer_mut().take_pieces();
        self.append(file, pieces, true, now.mono, jobs);
        let (log, counts) = self.stream.take_last();
        self.close(file, Ending { format, log, counts, reason: &reason.name() }, now, jobs);
    }

    /// The disk does not take the present file any more. Later packets are not kept.
    pub fn fail(&mut self, pool: &mut BlockPool) {
        self.failed = true;
        self.stream.buffer_mut().discard(pool);
    }

    /// While it waits, nothing is recorded.
    pub fn wait_for_clock(&mut self, waits: bool) {
        self.stream.wait_for_clock(waits);
    }

    /// The kernel has dropped `packets` of the call.
    pub fn overran(&mut self, packets: u64) {
        self.overruns += packets;
    }

    /// The kernel has kept `packets` of others out.
    pub fn kept_out(&mut self, packets: u64) {
        self.stream.add_strangers(packets);
    }

    /// Packets of the call that never came, or that the kernel dropped.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.stream.counts().lost.max(self.overruns)
    }

    /// The sender of its packets, once it is known.
    #[must_use]
    pub fn source(&self) -> Option<SocketAddr> {
        self.stream.lock().source()
    }

    /// Packets of others; they are not among [`Self::counts`].
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.stream.lock().strangers()
    }

    /// Whether others than the call's sender have sent.
    #[must_use]
    pub fn is_contested(&self) -> bool {
        self.stream.lock().is_contested()
    }

    /// The counts of the datagrams so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        self.stream.counts()
    }

    /// Of the RTP that comes now.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.stream.codec()
    }

    /// The present file, if it is open.
    #[must_use]
    pub fn file(&self) -> Option<FileKey> {
        self.file
    }

    /// Folder of all files of this recording.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Octets of audio in all files, silence included.
    #[must_use]
    pub fn octets(&self) -> u64 {
        let skipped = self.over_tcp.as_ref().map_or(0, |over_tcp| over_tcp.skipped);
        self.stream.placed_octets().saturating_sub(skipped)
    }

    fn open(
        &mut self,
        format: Format,
        next_file: &mut dyn FnMut() -> FileKey,
        jobs: &mut Vec<Job>,
    ) -> FileKey {
        if let Some(file) = self.file {
            return file;
        }
        let file = next_file();
        self.file = Some(file);
        self.sidecar.codec = format.codec.name().to_owned();
        self.sidecar.ptime_ms = format.ptime_ms.unwrap_or(DEFAULT_PTIME_MS);
        jobs.push(Job::Open(Open {
            file,
            folder: self.folder.clone(),
            stamp: self.begun.wall,
            header: FileHeader::new(format.codec, self.sidecar.ptime_ms),
            sidecar: Box::new(self.sidecar.clone()),
        }));
        file
    }

    fn append(
        &mut self,
        file: FileKey,
        (pieces, octets): (Vec<Piece>, u64),
        flush: bool,
        now: Mono,
        jobs: &mut Vec<Job>,
    ) {
        self.handed_octets += octets;
        if flush {
            self.flushed_octets = self.handed_octets;
            self.flushed = now;
        }
        jobs.push(Job::Append { file, pieces, flush });
        self.note_written();
    }

    fn close(&mut self, file: FileKey, ending: Ending<'_>, now: Now, jobs: &mut Vec<Job>) {
        let Ending { format, log, counts, reason } = ending;
        let own = counts.since(&self.counts_before);
        self.counts_before = counts.next_since(&self.counts_before);
        // The sequence numbers do not tell of those at the end.
        let overrun = self.overruns - std::mem::replace(&mut self.overruns_before, self.overruns);
        let mut sidecar = Sidecar {
            state: SidecarState::Ended,
            packets: Packets { lost: own.lost.max(overrun), overrun, ..Packets::from(&own) },
            payload_type: self.stream.dynamic_type(format.codec),
            contested: self.stream.lock().is_contested(),
            end: Some(now.wall.rfc3339()),
            end_reason: Some(reason.to_owned()),
            no_media: format.ptime_ms.is_none(),
            ..self.sidecar.clone()
        };
        sidecar.note(log);
        jobs.push(Job::Close { file, sidecar: Box::new(sidecar) });
        self.file = None;
        self.file_began_octets = self.handed_octets;
    }
}

/// Whether a datagram that was not a stranger's was RTP.
fn is_rtp(verdict: Verdict) -> bool {
    use DropCause::{Handshake, NotRtp, Oversize, Rtcp};
    !matches!(verdict, Verdict::Dropped(Handshake | NotRtp | Oversize | Rtcp))
}
