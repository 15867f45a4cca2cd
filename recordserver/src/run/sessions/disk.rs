//! The queue to the disk, and the effect of its answers on recordings and on the free room.

use super::Sessions;
use crate::folders::day_folder;
use crate::refusal::Refusal;
use crate::run::call::{Call, CallKey, Calls};
use crossbeam_channel::TrySendError;
use media::counts::Counts;
use media::time::{Mono, Now};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;
use store::fault::closed_before;
use store::jobs::server::{ServerDone, ServerJob};
use store::jobs::{Disk, Done, Fault, FaultKind, FileKey, Job, Piece, Space};
use store::thread::Handle;
use uplink::server::EndReason;

/// Jobs that wait for room in the queue to the disk: beyond that, audio stays in its blocks, and recordings
/// begin only of addresses that wait for few; beyond twice as many, none.
pub(super) const MAX_WAITING_JOBS: usize = 4096;

/// The interval at which recordings are ended when room is short: an end shows at the next look at the disk.
const MAKE_ROOM_INTERVAL: Duration = Duration::from_secs(1);

/// Number of equal parts of the recordings, the fastest of which ends each time.
const MAKE_ROOM_PARTS: usize = 4;

/// Who waits to hear of the end of a recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// The recording.
    pub(super) call: CallKey,
    /// The control connection.
    pub(super) conn: usize,
    /// The media connection, which ends after it.
    pub(super) media: Option<usize>,
    /// Whether all items were there.
    pub(super) is_complete: bool,
}

impl Answer {
    /// The same, after what the disk says.
    fn and(self, is_kept: bool) -> Self {
        Self { is_complete: self.is_complete && is_kept, ..self }
    }
}

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
    /// Who waits to hear of it.
    pub(super) answer: Option<Answer>,
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

/// The queue to the disk, the requests that wait for its answers, and its last state.
pub(super) struct Storage {
    handle: Handle,
    waiting: VecDeque<Job>,
    unanswered: usize,
    disk: Disk,
    has_fault: bool,
    /// The last time at which recordings were ended for want of room.
    made_room: Option<Mono>,
    closing: HashMap<FileKey, Closing>,
    /// The number of the last question whether everything is durable, and whether it waits for its answer.
    confirms: u64,
    is_asked: bool,
    /// The first day with a recording that the disk did not let us finish: the next start has to.
    left: Option<String>,
}

impl Storage {
    pub(super) fn new(handle: Handle, disk: Disk) -> Self {
        Self {
            handle,
            waiting: VecDeque::new(),
            unanswered: 0,
            disk,
            has_fault: false,
            made_room: None,
            closing: HashMap::new(),
            confirms: 0,
            is_asked: false,
            left: None,
        }
    }

    /// The device that is recorded to.
    pub(super) fn device(&self) -> u64 {
        self.disk.device
    }

    /// Refuses a recording while the disk takes none.
    pub(super) fn check(&self, reserve_octets: u64) -> Result<(), Refusal> {
        if self.has_fault {
            return Err(Refusal::Storage);
        }
        if self.disk.space.free_octets < reserve_octets.max(1) {
            return Err(Refusal::DiskLow);
        }
        Ok(())
    }

    /// Adds jobs to those that wait for room in the queue.
    pub(super) fn push(&mut self, jobs: impl IntoIterator<Item = Job>) {
        self.waiting.extend(jobs);
    }

    /// Asks whether everything so far is durable, unless the answer to a former question is due.
    pub(super) fn confirm(&mut self) -> bool {
        if self.is_asked {
            return false;
        }
        self.is_asked = true;
        self.confirms += 1;
        self.push([Job::Server(ServerJob::Confirm(self.confirms))]);
        true
    }

    /// Jobs that wait for room in the queue.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Puts jobs into the queue to the disk, as many as it takes.
    pub(super) fn hand_over(&mut self) {
        while let Some(job) = self.waiting.pop_front() {
            match self.handle.submit(job) {
                Ok(()) => self.unanswered += 1,
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                    self.waiting.push_front(job);
                    return;
                }
            }
        }
    }

    /// Asks for the room on the disk, unless the queue is full anyway.
    pub(super) fn scan(&mut self, job: Job) {
        if self.handle.submit(job).is_ok() {
            self.unanswered += 1;
        }
    }

    /// The next thing that the disk has done.
    fn next(&mut self) -> Option<Done> {
        let done = self.handle.done.try_recv().ok()?;
        self.unanswered = self.unanswered.saturating_sub(1);
        Some(done)
    }

    /// Whether the disk has answered everything.
    pub(super) fn is_idle(&self) -> bool {
        self.unanswered == 0
    }

    /// A recording is over and waits for this file to be closed.
    pub(super) fn closes(&mut self, file: FileKey, last: Closing) {
        self.closing.insert(file, last);
    }

    /// The recording that ends with this file.
    pub(super) fn last(&mut self, file: FileKey) -> Option<&mut Closing> {
        self.closing.get_mut(&file)
    }

    /// Recordings that are over and wait for the disk.
    pub(super) fn closing(&self) -> usize {
        self.closing.len()
    }

    /// The first day with recordings that are not finished on the disk; today if there are none.
    pub(super) fn unfinished_since(&self, calls: &Calls, now: Now) -> String {
        let open = calls.iter().map(|(_, call)| &call.recording.folder().name);
        let closing = self.closing.values().map(|last| &last.folder);
        let days = open.chain(closing).map(|folder| day_of(folder)).chain(self.left.as_deref());
        days.min().map_or_else(|| day_folder(now.wall), str::to_owned)
    }

    /// Whether there are recordings that the disk did not let us finish.
    pub(super) fn has_left_some(&self) -> bool {
        self.left.is_some()
    }

    /// A recording of `day` is left to the next start.
    pub(super) fn leave(&mut self, day: String) {
        if self.left.as_ref().is_none_or(|left| day < *left) {
            self.left = Some(day);
        }
    }

    /// Those that end first, which grow fastest. Those that are ahead of the clock end below half of the
    /// reserve; below a quarter a part of the others does, again and again until there is room, and below an
    /// eighth all.
    fn fastest(&mut self, calls: &Calls, reserve_octets: u64, now: Mono) -> Vec<CallKey> {
        let free = self.disk.space.free_octets;
        let all = free < reserve_octets / 8;
        if !all && self.made_room.is_some_and(|last| now.since(last) < MAKE_ROOM_INTERVAL) {
            return Vec::new();
        }
        self.made_room = Some(now);
        let pace = |(key, call): (CallKey, &Call)| (call.pace(now), call.ahead(now) > 0, key);
        let mut paces: Vec<(u64, bool, CallKey)> = calls.iter().map(pace).collect();
        paces.sort_unstable_by_key(|(pace, ahead, _)| (std::cmp::Reverse(*ahead), std::cmp::Reverse(*pace)));
        let ahead = paces.iter().filter(|(_, ahead, _)| *ahead).count();
        let ending = match ahead {
            _ if all => paces.len(),
            0 if free < reserve_octets / 4 => paces.len().div_ceil(MAKE_ROOM_PARTS),
            ahead => ahead,
        };
        if ending == 0 {
            return Vec::new();
        }
        log::error!("disk_full free={free} recordings={}: ending {ending}, the fastest first", paces.len());
        paces.into_iter().take(ending).map(|(_, _, key)| key).collect()
    }
}

/// Takes the answers of the disk.
pub(super) fn take_answers(sessions: &mut Sessions, now: Now) {
    while let Some(done) = sessions.storage.next() {
        match done {
            Done::Scanned(mut found) => scanned(sessions, found.disks.pop(), now),
            Done::Opened { file, result: Ok(opened) } => {
                if let Some(call) = sessions.calls.of_file(file) {
                    call.file = format!("{}/{}", call.recording.folder().name, opened.name);
                } else if let Some(last) = sessions.storage.closing.get_mut(&file) {
                    last.file = format!("{}/{}", last.folder, opened.name);
                }
                space(sessions, opened.space, now);
            }
            Done::Opened { file, result: Err(it) } => fault(sessions, file, &it, now),
            Done::Appended { file, pieces, result, .. } => {
                for piece in pieces {
                    if let Piece::Audio(block) = piece {
                        sessions.metrics.audio_bytes.inc_by(block.octets().len() as u64);
                        sessions.pool.give_back(block);
                    }
                }
                match result {
                    Ok(Some(room)) => space(sessions, room, now),
                    Ok(None) => {}
                    Err(it) => fault(sessions, file, &it, now),
                }
            }
            Done::Closed { file, result } => {
                let owner = sessions.calls.disown(file);
                let tcp = owner.and_then(|key| sessions.calls.get_mut(key)).and_then(Call::tcp_mut);
                if let (Some(tcp), Err(_)) = (tcp, &result) {
                    tcp.is_in_doubt = true;
                }
                let last = sessions.storage.closing.remove(&file);
                let answer = last.as_ref().and_then(|last| last.answer);
                if let Some(last) = &last {
                    sessions.gate.catches_up(last.from);
                }
                match (&result, last) {
                    (Ok(_), Some(last)) if last.octets == 0 => {
                        sessions.gate.tell_of_call(last.from, now.mono, || last.summary());
                    }
                    (Ok(_), Some(last)) => log::info!("{}", last.summary()),
                    (Err(fault), Some(last)) => {
                        log::error!("{} fault={:?}", last.summary(), fault.detail);
                        sessions.storage.leave(day_of(&last.folder).to_owned());
                    }
                    (Err(fault), None) => {
                        log::error!("storage_fault {:?}", fault.detail);
                        sessions.storage.leave(sessions.storage.unfinished_since(&sessions.calls, now));
                    }
                    (Ok(_), None) => {}
                }
                if let Some(answer) = answer {
                    sessions.answer(answer.and(result.is_ok()), now);
                }
                if let Ok(Some(room)) = result {
                    space(sessions, room, now);
                }
            }
            Done::Server(ServerDone::Confirmed { is_durable, .. }) => {
                sessions.storage.is_asked = false;
                sessions.confirmed(is_durable, now);
            }
            Done::Server(ServerDone::Found { ask, result }) => sessions.found(ask, result, now),
            // Nothing else is asked for.
            _ => {}
        }
    }
}

fn scanned(sessions: &mut Sessions, disk: Option<Disk>, now: Now) {
    let usable = disk.filter(|disk| !disk.read_only && disk.folder_fault.is_none());
    sessions.storage.has_fault = usable.is_none();
    match usable {
        Some(disk) => {
            let room = disk.space;
            sessions.storage.disk = disk;
            space(sessions, room, now);
        }
        None => sessions.complain(now.mono, || "the storage folder can't be written to".to_owned()),
    }
}

fn space(sessions: &mut Sessions, space: Space, now: Now) {
    sessions.storage.disk.space = space;
    sessions.metrics.disk_free_bytes.set(i64::try_from(space.free_octets).unwrap_or(i64::MAX));
    let reserve_octets = sessions.config.reserve_octets;
    // Half of the reserve is for recordings under way.
    if space.free_octets < reserve_octets / 2 && sessions.calls.len() > 0 {
        for key in sessions.storage.fastest(&sessions.calls, reserve_octets, now.mono) {
            sessions.end_call(key, &EndReason::DiskFull, now);
        }
    }
}

fn fault(sessions: &mut Sessions, file: FileKey, fault: &Fault, now: Now) {
    let owner = sessions.calls.disown(file);
    // Also of a call that has ended: its closing tells no more than that the file had been given up.
    if owner.is_some() || *fault != closed_before() {
        log::error!("storage_fault {:?}", fault.detail);
    }
    let Some(key) = owner else { return };
    if fault.kind == FaultKind::Full {
        // Until the room is measured again: others have used up the last measured room.
        sessions.storage.disk.space.free_octets = 0;
    }
    let Sessions { calls, pool, .. } = sessions;
    if let Some(call) = calls.get_mut(key) {
        // A full disk still takes the exact size and the sidecar.
        if !fault.kind.lets_finish() {
            call.recording.fail(pool);
        }
    }
    let reason = if fault.kind.lets_finish() { EndReason::DiskFull } else { EndReason::StorageError };
    sessions.end_call(key, &reason, now);
}

/// The day of the folder of a recording, which is that of its device and then that of the day.
pub(super) fn day_of(folder: &str) -> &str {
    folder.rsplit('/').next().unwrap_or_default()
}
