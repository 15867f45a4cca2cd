//! The audio of one session on its way to the disk: RTP in, storage jobs out.
//!
//! Owns: who sends the call, the timeline, blocks that are being filled, the sidecar. Pure. The file is
//! opened by the first packet, which tells its frame size, or at the end if none came; a recording that
//! outgrows a file, or whose sender changes the codec, goes on in the next. Invariants: jobs of a file come in the order open, append …,
//! close; what can't be buffered is silence in the file and a counted drop, so time stays true.

mod segment_buffer;

use media::blocks::BlockPool;
use media::codec::{Codec, OCTETS_PER_MS};
use media::codec_change::CodecChange;
use media::counts::{Counts, DropCause, Verdict};
use media::packet::{Packet, PacketError};
use media::payload_types::{Learnt, PayloadTypes};
use media::source_lock::{self, Admission, SourceLock};
use media::time::{Mono, Now};
use media::timeline::{GapCause, Timeline, octets_to_ms};
use recfile::call::{Altered, Call, CallUpdate};
use recfile::header::{FileHeader, max_data_octets};
use recfile::sidecar::{Gap, Packets, Sidecar, SidecarState};
use segment_buffer::{Sink, Store};
use std::net::SocketAddr;
use std::time::Duration;
use store::jobs::{FileKey, Folder, Job, Open};
use uplink::message::Parties;
use uplink::server::{EndReason, Opening};

/// Frame length assumed if no packet tells.
const DEFAULT_PTIME_MS: u32 = 20;

/// Longest frame that a header is written for.
const MAX_PTIME_MS: u32 = 100;

/// Silence after which another sender at the phone's address may take over.
const TAKEOVER_AFTER: Duration = Duration::from_secs(10);

/// Changes of codec that may wait for the disk; further ones are not followed until it has caught up.
const MAX_ENDED: usize = 8;

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
    lock: SourceLock,
    timeline: Timeline,
    codec_change: CodecChange,
    types: PayloadTypes,
    /// When the present codec was heard last.
    heard: Mono,
    counts: Counts,
    /// `counts` when the present file began.
    counts_before: Counts,
    /// Packets of the call that the kernel dropped because they were not fetched in time: in all, and before this file.
    overruns: u64,
    overruns_before: u64,
    strangers_before: u64,
    octets_before: u64,
    sidecar: Sidecar,
    /// Ended by a change of codec, and not handed to the disk yet.
    ended: Vec<Ended>,
    part: Part,
    begun: Now,
    flushed: Mono,
    failed: bool,
    /// It has grown faster than the clock, and those of its address have all that they may be ahead.
    waits_for_clock: bool,
}

/// Audio of one codec.
#[derive(Debug)]
struct Part {
    codec: Codec,
    file: Option<FileKey>,
    ptime_ms: Option<u32>,
    store: Store,
}

impl Part {
    fn new(codec: Codec) -> Self {
        Self { codec, file: None, ptime_ms: None, store: Store::new(codec.silence()) }
    }
}

/// A part that gets no more audio.
#[derive(Debug)]
struct Ended {
    part: Part,
    /// The counts at its end.
    counts: Counts,
}

impl Recording {
    /// A recording that was asked for by a phone at `peer`, has this `id` at the server, and goes to `folder`.
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
        Self {
            rules,
            folder,
            lock: SourceLock::new(source_lock::Rules {
                only: Some(peer.ip()),
                takeover_after: TAKEOVER_AFTER,
            }),
            timeline: Timeline::new(opening.codec),
            codec_change: CodecChange::default(),
            types: PayloadTypes::default(),
            heard: now.mono,
            counts: Counts::default(),
            counts_before: Counts::default(),
            overruns: 0,
            overruns_before: 0,
            strangers_before: 0,
            octets_before: 0,
            sidecar,
            ended: Vec::new(),
            part: Part::new(opening.codec),
            begun: now,
            flushed: now.mono,
            failed: false,
            waits_for_clock: false,
        }
    }

    /// Its id, which no other recording of the server has.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.sidecar.recording
    }

    /// What of the call could not be kept as the phone said it.
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
        let packet = match Packet::parse(datagram) {
            Ok(packet) => packet,
            Err(error) => {
                let cause = if error == PacketError::Rtcp { DropCause::Rtcp } else { DropCause::NotRtp };
                if self.lock.admits_other(source) {
                    self.counts.book(Verdict::Dropped(cause));
                }
                return false;
            }
        };
        match self.lock.admit(datagram, &packet, source, arrival) {
            Admission::Ours => {}
            Admission::Taken => self.take_held(pool),
            Admission::Held | Admission::Stranger => return false,
        }
        self.book(&packet, arrival, pool);
        true
    }

    /// Takes a datagram that was too long to be received whole.
    pub fn oversize(&mut self, source: SocketAddr) {
        if self.lock.admits_other(source) {
            self.counts.book(Verdict::Dropped(DropCause::Oversize));
        }
    }

    /// Looks at what waits for its sender to be believed; whether it was RTP of this call.
    pub fn tick(&mut self, now: Mono, pool: &mut BlockPool) -> bool {
        let taken = self.lock.tick(now);
        if taken {
            self.take_held(pool);
        }
        taken
    }

    /// No more packets come: those of whoever may be the sender are taken.
    pub fn settle(&mut self, now: Mono, pool: &mut BlockPool) {
        if self.lock.settle(now) {
            self.take_held(pool);
        }
    }

    fn take_held(&mut self, pool: &mut BlockPool) {
        let held = self.lock.take_held();
        for (datagram, arrival) in held.iter() {
            if let Ok(packet) = Packet::parse(datagram) {
                self.book(&packet, arrival, pool);
            }
        }
    }

    fn book(&mut self, packet: &Packet<'_>, arrival: Mono, pool: &mut BlockPool) {
        let verdict = self.packet(packet, arrival, pool);
        self.counts.book(verdict);
        self.timeline.restore_regained(&mut self.counts);
        self.counts.lost = self.timeline.lost();
        self.part.store.date_full(self.counts);
    }

    fn packet(&mut self, packet: &Packet<'_>, now: Mono, pool: &mut BlockPool) -> Verdict {
        if self.waits_for_clock {
            return Verdict::Dropped(DropCause::Ahead);
        }
        let codec = match self.types.codec(packet.payload_type) {
            Some(codec) => codec,
            None => {
                let heard = self.part.ptime_ms.is_some().then_some(self.heard);
                match self.types.learn(packet, self.part.codec, now, heard) {
                    Learnt::No => return self.known(packet, now, pool),
                    Learnt::Held => return Verdict::Dropped(DropCause::PayloadType),
                    Learnt::Taken => self.take_learnt(pool),
                }
                self.part.codec
            }
        };
        self.types.stay();
        self.known(&Packet { payload_type: codec.payload_type(), ..*packet }, now, pool)
    }

    /// Takes the first packets of a dynamic payload type that has shown that it is the codec's.
    fn take_learnt(&mut self, pool: &mut BlockPool) {
        let payload_type = self.part.codec.payload_type();
        let mut types = std::mem::take(&mut self.types);
        types.take_held(|early, at| {
            if self.push(&Packet { payload_type, ..*early }, at, pool) == Verdict::Stored {
                self.counts.restore(1, DropCause::PayloadType);
            }
        });
        self.types = types;
    }

    /// A packet of a codec that is recorded, by its static type, or of none.
    fn known(&mut self, packet: &Packet<'_>, now: Mono, pool: &mut BlockPool) -> Verdict {
        let other = Codec::from_payload_type(packet.payload_type)
            .filter(|codec| *codec != self.part.codec && !packet.payload.is_empty());
        if let Some(codec) = other {
            let possible = !self.failed && self.ended.len() < MAX_ENDED;
            if possible && self.codec_change.follow(packet, now, self.heard) {
                self.switch_codec(codec, pool);
            }
        }
        let verdict = self.push(packet, now, pool);
        if packet.payload_type == self.part.codec.payload_type() {
            self.codec_change.stay();
        }
        verdict
    }

    fn push(&mut self, packet: &Packet<'_>, now: Mono, pool: &mut BlockPool) -> Verdict {
        let part = &mut self.part;
        if packet.payload_type == part.codec.payload_type() && !packet.payload.is_empty() {
            self.heard = now;
            if part.ptime_ms.is_none() {
                let ptime_ms = ptime_of(packet.payload.len());
                part.ptime_ms = Some(ptime_ms);
                let frame = u64::from(ptime_ms) * OCTETS_PER_MS;
                let frames = max_data_octets(self.rules.max_file_octets) / frame;
                part.store.limit_files(frames.max(1) * frame);
            }
        }
        let room = !self.failed && part.store.has_room(pool);
        self.timeline.push(packet, now, room, &mut Sink { store: &mut part.store, pool })
    }

    /// The sender changed to `codec`: the audio so far stays in its file, the next one begins with what was held back.
    fn switch_codec(&mut self, codec: Codec, pool: &mut BlockPool) {
        self.timeline.switch_codec(codec, &mut Sink { store: &mut self.part.store, pool });
        let part = std::mem::replace(&mut self.part, Part::new(codec));
        let mut change = std::mem::take(&mut self.codec_change);
        let mut early = 0;
        change.take_held(|packet, at| early += u64::from(self.push(packet, at, pool) == Verdict::Stored));
        self.codec_change = change;
        self.counts.restore(early, DropCause::PayloadType);
        if part.file.is_some() || part.store.octets > 0 {
            // What was held back counts where its audio is.
            let mut counts = self.counts;
            counts.received = counts.received.saturating_sub(early);
            counts.stored = counts.stored.saturating_sub(early);
            self.ended.push(Ended { part, counts });
        }
    }

    /// What is due for the disk. `next_file` names files; `now` also stamps them.
    pub fn jobs(&mut self, now: Now, next_file: &mut dyn FnMut() -> FileKey, jobs: &mut Vec<Job>) {
        if self.failed {
            return;
        }
        self.close_ended(now, next_file, jobs);
        if self.part.file.is_none() && self.part.ptime_ms.is_none() {
            return;
        }
        let file = self.open(next_file, jobs);
        let flush_due =
            now.mono.since(self.flushed) >= self.rules.flush_interval && self.part.store.unflushed;
        if self.part.store.pieces.is_empty() && !flush_due {
            return;
        }
        self.append(file, flush_due, now.mono, jobs);
    }

    /// Files of the present part that are full go to the disk, in order.
    fn close_full(&mut self, now: Now, next_file: &mut dyn FnMut() -> FileKey, jobs: &mut Vec<Job>) {
        for full in std::mem::take(&mut self.part.store.full) {
            let counts = full.counts.unwrap_or(self.counts);
            let present = std::mem::replace(&mut self.part.store, full);
            let file = self.open(next_file, jobs);
            self.append(file, true, now.mono, jobs);
            self.close(file, "file_full", counts, now, jobs);
            self.part.store = present;
            self.begin_segment(now);
        }
    }

    /// What came before the codec changed goes to the disk, in order.
    fn close_ended(&mut self, now: Now, next_file: &mut dyn FnMut() -> FileKey, jobs: &mut Vec<Job>) {
        for Ended { part, counts } in std::mem::take(&mut self.ended) {
            let present = std::mem::replace(&mut self.part, part);
            self.close_full(now, next_file, jobs);
            let file = self.open(next_file, jobs);
            self.append(file, true, now.mono, jobs);
            self.close(file, "codec_change", counts, now, jobs);
            self.part = present;
            self.begin_segment(now);
        }
        self.close_full(now, next_file, jobs);
    }

    fn begin_segment(&mut self, now: Now) {
        self.sidecar.segment += 1;
        self.sidecar.start = now.wall.rfc3339();
        self.begun = now;
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
            // A stop request need not have them: what is left out is as it was.
            self.sidecar.call.update(&CallUpdate::from(&parties));
        }
        self.settle(now.mono, pool);
        self.timeline.settle(&mut Sink { store: &mut self.part.store, pool });
        self.counts.lost = self.timeline.lost();
        self.part.store.date_full(self.counts);
        if self.failed {
            jobs.extend(self.part.file.take().map(Job::Abandon));
            self.release(pool);
            return;
        }
        self.close_ended(now, next_file, jobs);
        let file = self.open(next_file, jobs);
        self.append(file, true, now.mono, jobs);
        self.close(file, &reason.name(), self.counts, now, jobs);
    }

    /// The disk does not take the present file any more. What comes from now on is not kept.
    pub fn fail(&mut self, pool: &mut BlockPool) {
        self.failed = true;
        self.release(pool);
    }

    /// While it waits, nothing is recorded.
    pub fn wait_for_clock(&mut self, waits: bool) {
        self.waits_for_clock = waits;
    }

    /// The kernel has dropped `packets` of the call.
    pub fn overran(&mut self, packets: u64) {
        self.overruns += packets;
    }

    /// The kernel has kept `packets` of others out.
    pub fn kept_out(&mut self, packets: u64) {
        self.lock.add_strangers(packets);
    }

    /// Packets of the call that never came, or that the kernel dropped.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.counts.lost.max(self.overruns)
    }

    /// Where its packets come from, once that is known.
    #[must_use]
    pub fn source(&self) -> Option<SocketAddr> {
        self.lock.source()
    }

    /// Packets of others; they are not among [`Self::counts`].
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.lock.strangers()
    }

    /// Whether others than the call's sender have sent.
    #[must_use]
    pub fn is_contested(&self) -> bool {
        self.lock.is_contested()
    }

    /// What became of the datagrams so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Of the RTP that comes now.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.part.codec
    }

    /// The file of the present codec, if it is open.
    #[must_use]
    pub fn file(&self) -> Option<FileKey> {
        self.part.file
    }

    /// Folder of all files of this recording.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Octets of audio in all files, silence included.
    #[must_use]
    pub fn octets(&self) -> u64 {
        let ended: u64 = self.ended.iter().map(|ended| ended.part.store.all_octets()).sum();
        self.octets_before + ended + self.part.store.all_octets()
    }

    fn open(&mut self, next_file: &mut dyn FnMut() -> FileKey, jobs: &mut Vec<Job>) -> FileKey {
        if let Some(file) = self.part.file {
            return file;
        }
        let file = next_file();
        self.part.file = Some(file);
        self.sidecar.codec = self.part.codec.name().to_owned();
        self.sidecar.ptime_ms = self.part.ptime_ms.unwrap_or(DEFAULT_PTIME_MS);
        jobs.push(Job::Open(Open {
            file,
            folder: self.folder.clone(),
            stamp: self.begun.wall,
            header: FileHeader::new(self.part.codec, self.sidecar.ptime_ms),
            sidecar: Box::new(self.sidecar.clone()),
        }));
        file
    }

    fn append(&mut self, file: FileKey, flush: bool, now: Mono, jobs: &mut Vec<Job>) {
        if flush {
            self.part.store.put_block_down();
            self.part.store.unflushed = false;
            self.flushed = now;
        }
        for gap in self.part.store.finished_gaps() {
            self.sidecar.push_gap(described(gap));
        }
        let pieces = std::mem::take(&mut self.part.store.pieces);
        if flush || !pieces.is_empty() {
            jobs.push(Job::Append { file, pieces, flush });
        }
    }

    /// Closes the file of the present part, whose last packet left the counts as they are in `until`.
    fn close(&mut self, file: FileKey, reason: &str, until: Counts, now: Now, jobs: &mut Vec<Job>) {
        for gap in self.part.store.gaps.drain(..) {
            self.sidecar.push_gap(described(gap));
        }
        let counts = until.since(&self.counts_before);
        // The sequence numbers do not tell of those at the end.
        let overrun = self.overruns - self.overruns_before;
        let packets = Packets {
            received: counts.received,
            lost: counts.lost.max(overrun),
            late: counts.late,
            duplicate: counts.duplicate,
            dropped: counts.dropped(),
            overrun,
            strangers: self.lock.strangers() - self.strangers_before,
        };
        let mut sidecar = self.sidecar.clone();
        sidecar.state = SidecarState::Ended;
        sidecar.packets = packets;
        sidecar.payload_type = self.types.other(self.part.codec).map(|it| it.0);
        sidecar.contested = self.lock.is_contested();
        sidecar.end = Some(now.wall.rfc3339());
        sidecar.end_reason = Some(reason.to_owned());
        sidecar.no_media = self.part.ptime_ms.is_none();
        jobs.push(Job::Close { file, sidecar: Box::new(sidecar) });
        self.part.file = None;
        self.octets_before += std::mem::take(&mut self.part.store.octets);
        self.counts_before = until;
        self.overruns_before = self.overruns;
        self.strangers_before = self.lock.strangers();
        self.sidecar.gaps.clear();
        (self.sidecar.gaps_total, self.sidecar.gap_ms_total) = (0, 0);
    }

    fn release(&mut self, pool: &mut BlockPool) {
        for mut ended in self.ended.drain(..) {
            ended.part.store.release(pool);
            self.part.file = self.part.file.or(ended.part.file);
        }
        self.part.store.release(pool);
    }
}

fn described((at, octets, cause): (u64, u64, GapCause)) -> Gap {
    Gap { at_ms: octets_to_ms(at), duration_ms: octets_to_ms(octets), cause: cause.name().to_owned() }
}

/// Milliseconds of a frame with so many octets; an odd one counts as the usual 20.
fn ptime_of(octets: usize) -> u32 {
    u32::try_from(octets)
        .ok()
        .filter(|octets| octets % 8 == 0)
        .map(|octets| octets / 8)
        .filter(|ptime| (1..=MAX_PTIME_MS).contains(ptime))
        .unwrap_or(DEFAULT_PTIME_MS)
}
