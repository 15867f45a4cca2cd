//! The queue to the disk, and what its answers mean for recordings and the room that is left.

use super::Sessions;
use crate::folders::day_folder;
use crate::run::call::{Call, CallKey};
use crate::run::scan_job;
use crossbeam_channel::TrySendError;
use media::counts::Counts;
use media::time::Now;
use std::net::IpAddr;
use std::time::Duration;
use store::jobs::{Disk, Done, Fault, FaultKind, FileKey, Piece, Space};
use uplink::server::EndReason;

/// Jobs that wait for room in the queue to the disk: beyond that, audio stays in its blocks, and recordings begin only
/// of addresses that wait for few; beyond twice as many, none.
pub(super) const MAX_WAITING_JOBS: usize = 4096;

/// When room is short, recordings are ended this often; an end shows at the next look at the disk.
const MAKE_ROOM_INTERVAL: Duration = Duration::from_secs(1);

/// The fastest of so many equal parts of the recordings end each time.
const MAKE_ROOM_PARTS: usize = 4;

/// A recording that is over and waits for the disk.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) from: IpAddr,
    pub(super) who: String,
    pub(super) folder: String,
    /// Below the storage folder; empty until the disk has told, which may be after the end.
    pub(super) file: String,
    pub(super) how: String,
    pub(super) counts: Counts,
    pub(super) lost: u64,
    pub(super) strangers: u64,
    pub(super) octets: u64,
}

impl Closing {
    pub(super) fn summary(&self) -> String {
        let counts = &self.counts;
        format!(
            "session_ended {} file={:?} {} octets={} packets={} lost={} late={} duplicate={} dropped={} strangers={}",
            self.who,
            self.file,
            self.how,
            self.octets,
            counts.received,
            self.lost,
            counts.late,
            counts.duplicate,
            counts.dropped(),
            self.strangers
        )
    }
}

impl Sessions {
    /// Puts jobs into the queue to the disk, as many as it takes.
    pub(in crate::run) fn hand_over_jobs(&mut self) {
        while let Some(job) = self.waiting_jobs.pop_front() {
            match self.storage.submit(job) {
                Ok(()) => self.unanswered += 1,
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                    self.waiting_jobs.push_front(job);
                    return;
                }
            }
        }
    }

    /// Takes what the disk has done.
    pub(in crate::run) fn done(&mut self, now: Now) {
        while let Ok(done) = self.storage.done.try_recv() {
            self.unanswered = self.unanswered.saturating_sub(1);
            match done {
                Done::Scanned(mut found) => self.scanned(found.disks.pop(), now),
                Done::Opened { file, result: Ok(opened) } => {
                    if let Some(call) = self.calls.of_file(file) {
                        call.file = format!("{}/{}", call.recording.folder().name, opened.name);
                    } else if let Some(last) = self.closing.get_mut(&file) {
                        last.file = format!("{}/{}", last.folder, opened.name);
                    }
                    self.space(opened.space, now);
                }
                Done::Opened { file, result: Err(fault) } => self.fault(file, &fault, now),
                Done::Appended { file, pieces, result, .. } => {
                    for piece in pieces {
                        if let Piece::Audio(block) = piece {
                            self.metrics.audio_bytes.inc_by(block.octets().len() as u64);
                            self.pool.give_back(block);
                        }
                    }
                    match result {
                        Ok(space) => space.into_iter().for_each(|space| self.space(space, now)),
                        Err(fault) => self.fault(file, &fault, now),
                    }
                }
                Done::Closed { file, result } => {
                    self.calls.disown(file);
                    let last = self.closing.remove(&file);
                    if let Some(last) = &last {
                        self.catches_up(last.from);
                    }
                    match (&result, last) {
                        (Ok(_), Some(last)) if last.octets == 0 => {
                            self.tell_of_call(last.from, now.mono, || last.summary());
                        }
                        (Ok(_), Some(last)) => log::info!("{}", last.summary()),
                        (Err(fault), Some(last)) => {
                            log::error!("{} fault={:?}", last.summary(), fault.detail);
                            self.leave(day_of(&last.folder).to_owned());
                        }
                        (Err(fault), None) => {
                            log::error!("storage_fault {:?}", fault.detail);
                            self.leave(self.unfinished_since(now));
                        }
                        (Ok(_), None) => {}
                    }
                    if let Ok(Some(space)) = result {
                        self.space(space, now);
                    }
                }
                // Nothing else is asked for.
                _ => {}
            }
        }
    }

    /// The first day with recordings that are not finished on the disk; today if there are none.
    pub(in crate::run) fn unfinished_since(&self, now: Now) -> String {
        let open = self.calls.iter().map(|(_, call)| &call.recording.folder().name);
        let closing = self.closing.values().map(|last| &last.folder);
        let days = open.chain(closing).map(|folder| day_of(folder)).chain(self.left.as_deref());
        days.min().map_or_else(|| day_folder(now.wall), str::to_owned)
    }

    /// Whether there are recordings that the disk did not let us finish.
    pub(in crate::run) fn has_left_some(&self) -> bool {
        self.left.is_some()
    }

    /// A recording of `day` is left to the next start.
    pub(super) fn leave(&mut self, day: String) {
        if self.left.as_ref().is_none_or(|left| day < *left) {
            self.left = Some(day);
        }
    }

    /// Asks for the room on the disk, unless the queue is full anyway.
    pub(in crate::run) fn scan(&mut self) {
        self.pool.trim();
        if self.storage.submit(scan_job(&self.config)).is_ok() {
            self.unanswered += 1;
        }
    }

    fn scanned(&mut self, disk: Option<Disk>, now: Now) {
        let usable = disk.filter(|disk| !disk.read_only && disk.folder_fault.is_none());
        self.disk_fault = usable.is_none();
        match usable {
            Some(disk) => {
                let space = disk.space;
                self.disk = disk;
                self.space(space, now);
            }
            None => self.complain(now.mono, || "the storage folder can't be written to".to_owned()),
        }
    }

    fn space(&mut self, space: Space, now: Now) {
        self.disk.space = space;
        self.metrics.disk_free_bytes.set(i64::try_from(space.free_octets).unwrap_or(i64::MAX));
        // Half of the reserve is for what is under way.
        if space.free_octets < self.config.reserve_octets / 2 && self.calls.len() > 0 {
            self.end_fastest(space.free_octets, now);
        }
    }

    /// Ends those first that grow fastest. Those that are ahead of the clock end below half of the reserve; below a
    /// quarter a part of the others does, again and again until there is room, and below an eighth all.
    fn end_fastest(&mut self, free: u64, now: Now) {
        let all = free < self.config.reserve_octets / 8;
        if !all && self.made_room.is_some_and(|last| now.mono.since(last) < MAKE_ROOM_INTERVAL) {
            return;
        }
        self.made_room = Some(now.mono);
        let pace = |(key, call): (CallKey, &Call)| (call.pace(now.mono), call.ahead(now.mono) > 0, key);
        let mut paces: Vec<(u64, bool, CallKey)> = self.calls.iter().map(pace).collect();
        paces.sort_unstable_by_key(|(pace, ahead, _)| (std::cmp::Reverse(*ahead), std::cmp::Reverse(*pace)));
        let ahead = paces.iter().filter(|(_, ahead, _)| *ahead).count();
        let ending = match ahead {
            _ if all => paces.len(),
            0 if free < self.config.reserve_octets / 4 => paces.len().div_ceil(MAKE_ROOM_PARTS),
            ahead => ahead,
        };
        if ending == 0 {
            return;
        }
        log::error!("disk_full free={free} recordings={}: ending {ending}, the fastest first", paces.len());
        for (_, _, key) in paces.into_iter().take(ending) {
            self.end_call(key, &EndReason::DiskFull, now);
        }
    }

    fn fault(&mut self, file: FileKey, fault: &Fault, now: Now) {
        let Some(key) = self.calls.disown(file) else { return };
        log::error!("storage_fault {:?}", fault.detail);
        if fault.kind == FaultKind::Full {
            // Until the room is measured again: what was said last has been used up by others.
            self.disk.space.free_octets = 0;
        }
        let Self { calls, pool, .. } = self;
        if let Some(call) = calls.get_mut(key) {
            // A full disk still takes the exact size and the sidecar.
            if !fault.kind.lets_finish() {
                call.recording.fail(pool);
            }
        }
        let reason = if fault.kind.lets_finish() { EndReason::DiskFull } else { EndReason::StorageError };
        self.end_call(key, &reason, now);
    }
}

/// The day of the folder of a recording, which is that of its device and then that of the day.
pub(super) fn day_of(folder: &str) -> &str {
    folder.rsplit('/').next().unwrap_or_default()
}
