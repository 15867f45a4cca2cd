//! The audio of one session on its way to the disk: RTP in, storage jobs out.
//!
//! Owns: which packets count, the timeline, blocks that are being filled, the sidecar. Pure. The file is
//! opened by the first packet, which tells its frame size, or at the end if none came; a recording that
//! outgrows a file goes on in the next. Invariants: jobs of a file come in the order open, append …,
//! close; what can't be buffered is silence in the file and a counted drop, so time stays true.

use crate::media::SourceLock;
use crate::session::{EndReason, Opening};
use phone_recorder::blocks::{Block, BlockPool};
use phone_recorder::call::Call;
use phone_recorder::file::header::{FileHeader, max_data_octets};
use phone_recorder::file::sidecar::{Gap, Packets, Sidecar, SidecarState};
use phone_recorder::jobs::{FileKey, Folder, Job, Open, Piece};
use phone_recorder::rtp::codec::Codec;
use phone_recorder::rtp::counts::{Counts, DropCause, Verdict};
use phone_recorder::rtp::packet::Packet;
use phone_recorder::rtp::timeline::{AudioSink, GapCause, Timeline, octets_to_ms};
use phone_recorder::time::{Mono, Now};
use phone_recorder::uplink::message::Parties;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Room that has to be left for one packet: all that the timeline may hand over at once.
const PACKET_ROOM: usize = 4096;

/// Frame length assumed if no packet tells.
const DEFAULT_PTIME_MS: u32 = 20;

/// Longest frame that a header is written for.
const MAX_PTIME_MS: u32 = 100;

/// Silence that is written out in a block rather than noted as a piece of its own.
const SHORT_SILENCE_OCTETS: u64 = 1024;

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
    codec: Codec,
    folder: Folder,
    file: Option<FileKey>,
    lock: SourceLock,
    timeline: Timeline,
    counts: Counts,
    /// `counts` when the present file began.
    counts_before: Counts,
    lost_before: u64,
    /// Datagrams that the kernel dropped because they were not fetched in time: in all, and before this file.
    overruns: u64,
    overruns_before: u64,
    octets_before: u64,
    ptime_ms: Option<u32>,
    sidecar: Sidecar,
    store: Store,
    begun: Now,
    flushed: Mono,
    failed: bool,
}

/// Audio that is not handed to the disk yet.
#[derive(Debug)]
struct Store {
    pieces: Vec<Piece>,
    filling: Option<Block>,
    silence: u8,
    /// Octets in this file, those not written yet included.
    octets: u64,
    gaps: Vec<(u64, u64, GapCause)>,
    unflushed: bool,
}

/// Lists this many gaps before they move to the sidecar, which has its own limit.
const MAX_FRESH_GAPS: usize = 256;

struct Sink<'a> {
    store: &'a mut Store,
    pool: &'a mut BlockPool,
}

impl AudioSink for Sink<'_> {
    fn audio(&mut self, mut octets: &[u8]) {
        self.store.octets += octets.len() as u64;
        self.store.unflushed = true;
        while !octets.is_empty() {
            let Some(block) = self.store.block(self.pool) else {
                self.store.push_silence(octets.len() as u64);
                return;
            };
            let taken = block.fill(octets);
            octets = &octets[taken..];
        }
    }

    fn silence(&mut self, octets: u64, cause: GapCause) {
        self.store.note_gap(octets, cause);
        self.store.octets += octets;
        self.store.unflushed = true;
        let silence = self.store.silence;
        match self.store.block(self.pool) {
            Some(block) if octets <= SHORT_SILENCE_OCTETS && octets <= block.room() as u64 => {
                block.fill_with(silence, octets);
            }
            _ => self.store.push_silence(octets),
        }
    }
}

impl Store {
    /// The block being filled, or the next one.
    fn block(&mut self, pool: &mut BlockPool) -> Option<&mut Block> {
        if self.filling.as_ref().is_some_and(|block| block.room() == 0) {
            self.put_block_down();
        }
        if self.filling.is_none() {
            self.filling = pool.take();
        }
        self.filling.as_mut()
    }

    /// The timeline fills one hole in several steps: they are one gap.
    fn note_gap(&mut self, octets: u64, cause: GapCause) {
        let here = self.octets;
        if let Some((at, length, same)) = self.gaps.last_mut() {
            if *same == cause && *at + *length == here {
                *length += octets;
                return;
            }
        }
        if self.gaps.len() < MAX_FRESH_GAPS {
            self.gaps.push((here, octets, cause));
        }
    }

    /// Gaps that are over.
    fn finished_gaps(&mut self) -> impl Iterator<Item = (u64, u64, GapCause)> + '_ {
        let open = self.gaps.last().is_some_and(|(at, length, _)| at + length == self.octets);
        let finished = self.gaps.len() - usize::from(open);
        self.gaps.drain(..finished)
    }

    fn put_block_down(&mut self) {
        if let Some(block) = self.filling.take() {
            self.pieces.push(Piece::Audio(block));
        }
    }

    fn push_silence(&mut self, octets: u64) {
        if self.filling.as_ref().is_some_and(|block| !block.octets().is_empty()) {
            self.put_block_down();
        }
        match self.pieces.last_mut() {
            Some(Piece::Silence(before)) => *before += octets,
            _ => self.pieces.push(Piece::Silence(octets)),
        }
    }

    fn has_room(&self, pool: &BlockPool) -> bool {
        pool.has_room() || self.filling.as_ref().is_some_and(|block| block.room() >= PACKET_ROOM)
    }
}

impl Recording {
    /// A recording that was asked for by a phone at `phone` and goes to `folder`.
    #[must_use]
    pub fn new(rules: Rules, opening: &Opening, phone: IpAddr, folder: Folder, now: Now) -> Self {
        let parties = &opening.parties;
        let call = Call {
            id: String::new(),
            direction: opening.direction,
            remote_number: parties.remote_number.clone(),
            remote_name: parties.remote_name.clone(),
            local_number: parties.local_number.clone(),
            local_name: parties.local_name.clone(),
        };
        let sidecar = Sidecar {
            recording: opening.id.clone(),
            call,
            codec: opening.codec.name().to_owned(),
            start: now.wall.rfc3339(),
            clock_set: now.wall.is_set(),
            state: SidecarState::Recording,
            ..Sidecar::default()
        };
        let store = Store {
            pieces: Vec::new(),
            filling: None,
            silence: opening.codec.silence(),
            octets: 0,
            gaps: Vec::new(),
            unflushed: false,
        };
        Self {
            rules,
            codec: opening.codec,
            folder,
            file: None,
            lock: SourceLock::new(phone),
            timeline: Timeline::new(opening.codec),
            counts: Counts::default(),
            counts_before: Counts::default(),
            lost_before: 0,
            overruns: 0,
            overruns_before: 0,
            octets_before: 0,
            ptime_ms: None,
            sidecar,
            store,
            begun: now,
            flushed: now.mono,
            failed: false,
        }
    }

    /// Takes a datagram; whether it was RTP of this call.
    pub fn datagram(&mut self, datagram: &[u8], source: SocketAddr, now: Mono, pool: &mut BlockPool) -> bool {
        let (verdict, ours) = match Packet::parse(datagram) {
            Err(_) => (Verdict::Dropped(DropCause::NotRtp), false),
            Ok(_) if !self.lock.admits(source, now) => (Verdict::Dropped(DropCause::Source), false),
            Ok(packet) => {
                let ours = packet.payload_type == self.codec.payload_type() && !packet.payload.is_empty();
                if ours && self.ptime_ms.is_none() {
                    self.ptime_ms = Some(ptime_of(packet.payload.len()));
                }
                let room = !self.failed && self.store.has_room(pool);
                let sink = &mut Sink { store: &mut self.store, pool };
                (self.timeline.push(&packet, now, room, sink), true)
            }
        };
        self.counts.book(verdict);
        self.counts.restore(self.timeline.take_regained(), DropCause::Ssrc);
        self.counts.lost = self.timeline.lost();
        ours
    }

    /// What is due for the disk. `next_file` names files; `now` also stamps them.
    pub fn jobs(&mut self, now: Now, next_file: &mut dyn FnMut() -> FileKey, jobs: &mut Vec<Job>) {
        if self.failed || (self.file.is_none() && self.ptime_ms.is_none()) {
            return;
        }
        let file = self.open(next_file, jobs);
        let flush_due = now.mono.since(self.flushed) >= self.rules.flush_interval && self.store.unflushed;
        if self.store.pieces.is_empty() && !flush_due {
            return;
        }
        self.append(file, flush_due, now.mono, jobs);
        if self.store.octets >= max_data_octets(self.rules.max_file_octets) {
            self.close(file, "file_full", now, jobs);
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
            let call = &mut self.sidecar.call;
            for (known, later) in [
                (&mut call.remote_number, parties.remote_number),
                (&mut call.remote_name, parties.remote_name),
                (&mut call.local_number, parties.local_number),
                (&mut call.local_name, parties.local_name),
            ] {
                // A stop request need not have them: what is left out is as it was.
                if !later.is_empty() {
                    *known = later;
                }
            }
        }
        self.timeline.settle(&mut Sink { store: &mut self.store, pool });
        self.counts.lost = self.timeline.lost();
        if self.failed {
            jobs.extend(self.file.take().map(Job::Abandon));
            self.release(pool);
            return;
        }
        let file = self.open(next_file, jobs);
        self.append(file, true, now.mono, jobs);
        self.close(file, &reason.name(), now, jobs);
    }

    /// The disk does not take the present file any more. What comes from now on is not kept.
    pub fn fail(&mut self, pool: &mut BlockPool) {
        self.failed = true;
        self.release(pool);
    }

    /// The kernel has dropped `total` datagrams of this call so far; how many of them are news.
    pub fn overran(&mut self, total: u64) -> u64 {
        let news = total.saturating_sub(self.overruns);
        self.overruns += news;
        news
    }

    /// What became of the datagrams so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The file being written, if it is open.
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
        self.octets_before + self.store.octets
    }

    fn open(&mut self, next_file: &mut dyn FnMut() -> FileKey, jobs: &mut Vec<Job>) -> FileKey {
        if let Some(file) = self.file {
            return file;
        }
        let file = next_file();
        self.file = Some(file);
        self.sidecar.ptime_ms = self.ptime_ms.unwrap_or(DEFAULT_PTIME_MS);
        jobs.push(Job::Open(Open {
            file,
            folder: self.folder.clone(),
            stamp: self.begun.wall,
            header: FileHeader::new(self.codec, self.sidecar.ptime_ms),
            sidecar: Box::new(self.sidecar.clone()),
        }));
        file
    }

    fn append(&mut self, file: FileKey, flush: bool, now: Mono, jobs: &mut Vec<Job>) {
        if flush {
            self.store.put_block_down();
            self.store.unflushed = false;
            self.flushed = now;
        }
        for gap in self.store.finished_gaps() {
            self.sidecar.push_gap(described(gap));
        }
        let pieces = std::mem::take(&mut self.store.pieces);
        if flush || !pieces.is_empty() {
            jobs.push(Job::Append { file, pieces, flush });
        }
    }

    fn close(&mut self, file: FileKey, reason: &str, now: Now, jobs: &mut Vec<Job>) {
        for gap in self.store.gaps.drain(..) {
            self.sidecar.push_gap(described(gap));
        }
        let counts = self.counts.since(&self.counts_before);
        // What the kernel dropped did come, so it is our loss and not the network's.
        let overruns = self.overruns - self.overruns_before;
        let packets = Packets {
            received: counts.received + overruns,
            lost: self.counts.lost.saturating_sub(self.lost_before).saturating_sub(overruns),
            late: counts.late,
            duplicate: counts.duplicate,
            dropped: counts.dropped() + overruns,
        };
        let mut sidecar = self.sidecar.clone();
        sidecar.state = SidecarState::Ended;
        sidecar.packets = packets;
        sidecar.end = Some(now.wall.rfc3339());
        sidecar.end_reason = Some(reason.to_owned());
        sidecar.no_media = self.ptime_ms.is_none();
        jobs.push(Job::Close { file, sidecar: Box::new(sidecar) });
        self.file = None;
        self.octets_before += std::mem::take(&mut self.store.octets);
        self.counts_before = self.counts;
        self.lost_before = self.counts.lost;
        self.overruns_before = self.overruns;
        self.sidecar.gaps.clear();
        (self.sidecar.gaps_total, self.sidecar.gap_ms_total) = (0, 0);
    }

    fn release(&mut self, pool: &mut BlockPool) {
        self.store.put_block_down();
        for piece in self.store.pieces.drain(..) {
            if let Piece::Audio(block) = piece {
                pool.give_back(block);
            }
        }
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
