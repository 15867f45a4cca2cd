//! What an answer of storage means.
//!
//! Owns: what follows when the disks were looked at, when a file was opened, appended to or closed, when a job found no
//! room, and when a disk was ejected. What a disk that fails in mid-recording means is [`super::resume`]'s.

use super::io::{Action, RecordingKey};
use super::medium::{cause_of_fault, error_of_fault};
use super::route::Route;
use super::{Agent, tape};
use crate::api::event::Event;
use crate::api::reason::Reason;
use crate::api::reply;
use crate::api::status::RecordingState;
use log::Level as LogLevel;
use media::time::Now;
use serde_json::{Value, json};
use store::jobs::{
    Done, Eject, Ejected, Fault, FaultKind, FileKey, Found, Job, Opened, Piece, Recovered, Space,
};

impl Agent {
    pub(super) fn storage(&mut self, done: Done, now: Now, actions: &mut Vec<Action>) {
        let Done::Appended { file, pieces, took, result, durable_octets } = done else {
            return self.storage_rarely(done, now, actions);
        };
        self.library_grew(file, durable_octets);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.stats.longest_write_ms = self.stats.longest_write_ms.max(took_ms);
        self.appended(file, pieces, result, now, actions);
    }

    #[inline(never)]
    fn storage_rarely(&mut self, done: Done, now: Now, actions: &mut Vec<Action>) {
        match done {
            Done::Scanned(found) => self.scanned(found, now, actions),
            Done::Opened { file, result } => self.opened(file, result, now, actions),
            // `storage` has taken it.
            Done::Appended { .. } => {}
            Done::Closed { file, result } => self.closed(file, result, now, actions),
            Done::Abandoned(_) => {}
            Done::Deleted { file, space } => self.deleted(file, space, now, actions),
            Done::Searching => self.search_on(now, actions),
            Done::Mended { file, result } => {
                self.mended(file, result, now, actions);
                self.library_anew();
            }
            Done::SpeedMeasured(result) => self.speed_measured(result, actions),
            Done::Ejected(result) => self.ejected(result, now, actions),
            Done::Library(done) => self.library_done(done, now, actions),
        }
    }

    #[inline(never)]
    pub(super) fn recovered(&self, files: Vec<Recovered>, actions: &mut Vec<Action>) {
        if files.is_empty() {
            return;
        }
        for file in &files {
            let text = format!("recovered {} ({} ms)", file.file, file.duration_ms);
            actions.push(Action::Log(LogLevel::Warn, text));
        }
        let files = files.into_iter().map(|file| file.file).collect();
        self.tell(&Event::StorageRecovered { files }, actions);
    }

    pub(super) fn scan(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.scans += 1;
        self.looked_at = now.mono;
        actions.push(Action::Job(Job::Scan(self.medium.look())));
    }

    #[inline(never)]
    fn scanned(&mut self, found: Found, now: Now, actions: &mut Vec<Action>) {
        self.scans = self.scans.saturating_sub(1);
        // What is there when we start was not inserted; agent.info tells of it.
        let inserted = self.medium.scanned;
        let change = self.medium.found(found, self.count_on_disk());
        if change.went {
            self.library_gone(Reason::StorageIo.as_str(), actions);
            self.tell(&Event::StorageRemoved(self.storage_status()), actions);
        }
        for key in self.on_disk() {
            let local = self.recordings.get(&key).and_then(|it| it.route.local());
            if local.is_some_and(|local| change.gone.contains(local.folder())) {
                self.disk_pulled(key, now, actions);
            }
        }
        for folder in &change.fresh {
            actions.extend(self.strays.jobs(folder).map(Action::Job));
        }
        self.resume_lost(change.came, now, actions);
        if change.turned {
            self.library.clear();
        }
        if change.came {
            self.welcome_disk(inserted, actions);
            self.library_anew();
        } else if !inserted {
            let (level, text) = self.medium.describe();
            actions.push(Action::Log(level, text));
        }
        for (client, id, start, _) in std::mem::take(&mut self.waiting_starts) {
            self.start(client, id, start, now, actions);
        }
    }

    #[inline(never)]
    fn opened(&mut self, file: FileKey, result: Result<Opened, Fault>, now: Now, actions: &mut Vec<Action>) {
        let Some(key) = self.key_of(file) else {
            // The recording ended meanwhile, so nobody will close the file.
            return actions.push(Action::Job(Job::Abandon(file)));
        };
        match result {
            Ok(opened) => {
                if let Some(local) = self.recordings.get(&key).and_then(|it| it.route.local()) {
                    self.medium.works(local.folder(), opened.space);
                }
                let remaining_s = self.remaining_s();
                let Some(it) = self.recordings.get_mut(&key) else { return };
                let first = !std::mem::replace(&mut it.started_told, true);
                let short_of_names = it.route.local_mut().is_some_and(|local| local.opened(opened));
                if it.buffered_octets() == 0 {
                    it.lost = None;
                }
                if it.state == RecordingState::Starting {
                    it.state = RecordingState::Recording;
                }
                if let Some((client, id)) = it.waiting.take() {
                    actions.push(Action::Reply(client, reply::result(&id, &it.start_answer())));
                }
                let status = it.status(remaining_s, self.clock);
                let event =
                    if first { Event::RecordingStarted(status) } else { Event::RecordingSegment(status) };
                self.tell(&event, actions);
                self.library_opened(key);
                if short_of_names {
                    self.delete_one_more(actions);
                }
                self.pump(key, now, actions);
            }
            Err(fault) => {
                if fault.kind != FaultKind::Full || !self.deletes_to_open(key, &fault, actions) {
                    self.open_failed(key, fault, now, actions);
                }
            }
        }
    }

    /// A file could not be created.
    pub(super) fn open_failed(
        &mut self,
        key: RecordingKey,
        fault: Fault,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Err(_) = self.go_on_elsewhere(key, &fault, Vec::new(), now, actions) else { return };
        let starting = self.recordings.get(&key).is_some_and(|it| it.waiting.is_some());
        if starting {
            self.refuse_start(key, fault, now, actions);
        } else {
            self.storage_failed(key, fault, Vec::new(), now, actions);
        }
    }

    /// The first file could not be created: the recording never began.
    fn refuse_start(&mut self, key: RecordingKey, fault: Fault, now: Now, actions: &mut Vec<Action>) {
        let Some(mut it) = self.recordings.remove(&key) else { return };
        if let Some(local) = it.route.local_mut() {
            local.abandon(Vec::new(), &mut self.pool);
        }
        self.past.add(&it.final_counts());
        actions.push(Action::CloseRtp(key));
        actions.push(Action::Log(LogLevel::Warn, format!("no recording: {}", fault.detail)));
        if let Some((client, id)) = it.waiting.take() {
            let error = error_of_fault(fault.kind).with_detail(fault.detail);
            actions.push(Action::Reply(client, reply::agent_error(&id, &error)));
        }
        self.scan(now, actions);
        self.finish_eject(now, actions);
    }

    fn appended(
        &mut self,
        file: FileKey,
        pieces: Vec<Piece>,
        result: Result<Option<Space>, Fault>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(key) = self.key_of(file) else {
            return tape::give_back(pieces, &mut self.pool);
        };
        match result {
            Ok(space) => {
                if let Some(space) = space {
                    if let Some(local) = self.recordings.get(&key).and_then(|it| it.route.local()) {
                        self.medium.works(local.folder(), space);
                    }
                    self.check_room(now, actions);
                }
                if let Some(it) = self.recordings.get_mut(&key) {
                    it.stalled_told = false;
                    it.lost = None;
                    if let Some(local) = it.route.local_mut() {
                        self.stats.written_bytes += local.appended(pieces, &mut self.pool);
                    }
                }
            }
            Err(fault) if fault.kind.lets_finish() => {
                match self.go_on_elsewhere(key, &fault, pieces, now, actions) {
                    Ok(()) => return,
                    Err(pieces) => self.filled(key, &fault, pieces, now, actions),
                }
            }
            Err(fault) => {
                return self.storage_failed(key, fault, pieces, now, actions);
            }
        }
        self.pump(key, now, actions);
    }

    /// The disk, or the file, had no room for all of `pieces`.
    #[inline(never)]
    fn filled(
        &mut self,
        key: RecordingKey,
        fault: &Fault,
        pieces: Vec<Piece>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let reason = Reason::StorageFull;
        let mut full = None;
        if let Some(it) = self.recordings.get_mut(&key) {
            if !it.is_live() {
                it.end_for(reason.into());
            }
            if fault.kind == FaultKind::TooLarge {
                let text = format!("recording {} ends: {}", it.id, fault.detail);
                actions.push(Action::Log(LogLevel::Warn, text));
            }
            if let Some(local) = it.route.local_mut() {
                local.filled(pieces, reason.as_str(), now, &mut self.pool);
                if fault.kind == FaultKind::Full {
                    self.medium.filled(local.folder());
                    full = Some(local.folder().clone());
                }
            }
        }
        if full.is_some() && self.medium.folder() == full {
            self.disk_full(now, actions);
        } else {
            // The rest of a file on a disk that is in use no more.
            self.stop(key, reason, now, actions);
        }
        if let Some(it) = self.recordings.get_mut(&key) {
            it.note_cause(cause_of_fault(fault.kind));
        }
    }

    #[inline(never)]
    fn closed(
        &mut self,
        file: FileKey,
        result: Result<Option<Space>, Fault>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(key) = self.key_of(file) else { return };
        match result {
            Ok(Some(space)) => {
                if let Some(local) = self.recordings.get(&key).and_then(|it| it.route.local()) {
                    self.medium.measured(local.folder(), space);
                }
            }
            Ok(None) => {}
            Err(fault) => {
                return self.storage_failed(key, fault, Vec::new(), now, actions);
            }
        }
        // One finished file more: perhaps there is something to make room with now.
        self.nothing_to_delete = false;
        self.library_closed(key);
        let next = self.new_file();
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let Route::Local(local) = &mut it.route else { return };
        if let Some(job) = local.closed(next, &it.call, now) {
            return actions.push(Action::Job(job));
        }
        self.end(key, now, actions);
    }

    /// Everything of a recording is closed and synced.
    pub(super) fn end(&mut self, key: RecordingKey, now: Now, actions: &mut Vec<Action>) {
        if let Some(local) = self.recordings.get_mut(&key).and_then(|it| it.route.local_mut()) {
            self.strays.keep(local.take_mends());
        }
        self.finish(key, actions);
        self.finish_eject(now, actions);
    }

    /// The disk is stalled: what it was to do is done when it goes on.
    #[inline(never)]
    pub(super) fn job_refused(&mut self, job: Job, now: Now) {
        match self.held.hold(job, now.mono) {
            Some(Job::Scan(_)) => self.scans = self.scans.saturating_sub(1),
            Some(Job::Append { pieces, .. }) => tape::give_back(pieces, &mut self.pool),
            _ => {}
        }
    }

    /// Whether a recording is on the disk that is to be ejected. One that has lost its disk waits in memory for another.
    pub(super) fn is_on_ejected(&self, key: RecordingKey) -> bool {
        let it = self.recordings.get(&key);
        let local = it.filter(|it| !it.has_lost_disk()).and_then(|it| it.route.local());
        local.is_some_and(|local| local.folders().any(|folder| self.medium.is_on_current_stick(folder)))
    }

    /// When the last recording on the disk has ended, it can be ejected.
    pub(super) fn finish_eject(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.ejecting.as_ref().is_none_or(|eject| eject.asked.is_some()) {
            return;
        }
        if self.on_disk().into_iter().any(|key| self.is_on_ejected(key)) {
            return;
        }
        if let Some(disk) = self.medium.to_eject() {
            if let Some(eject) = &mut self.ejecting {
                eject.asked = Some(disk.clone());
            }
            actions.push(Action::Job(Job::Eject(disk)));
        } else {
            let gone = Fault { kind: FaultKind::NoStorage, detail: "there is no disk".into() };
            self.ejected(Err(gone), now, actions);
        }
    }

    fn ejected(&mut self, result: Result<Ejected, Fault>, now: Now, actions: &mut Vec<Action>) {
        let Some(eject) = self.ejecting.take() else { return };
        let disk = eject.asked.unwrap_or_default();
        let answer = match &result {
            Ok(done) => {
                if self.medium.eject(&disk, done) {
                    self.library.clear();
                }
                for left in &done.left {
                    let text = format!("{} stays mounted: {}", left.point.display(), left.why);
                    actions.push(Action::Log(LogLevel::Warn, text));
                }
                let is_mount = self.medium.is_mount_point(&disk.root);
                Ok(ejected_answer(&disk, done, is_mount))
            }
            Err(fault) => Err(error_of_fault(fault.kind).with_detail(fault.detail.clone())),
        };
        for (client, id) in eject.clients {
            let line = match &answer {
                Ok(answer) => reply::result(&id, answer),
                Err(error) => reply::agent_error(&id, error),
            };
            actions.push(Action::Reply(client, line));
        }
        // Another disk may be there to go on at.
        self.scan(now, actions);
    }
}

/// What is told of an eject. More than the two flags only where there is something to be done or explained.
fn ejected_answer(disk: &Eject, done: &Ejected, is_mount: bool) -> Value {
    // What we may not unmount has been synced, and we write to it no more.
    let safe = done.left.iter().all(|left| left.denied);
    let mut answer = json!({ "safe_to_pull": safe, "unmounted": done.unmounted });
    if !done.left.is_empty() {
        let points: Vec<String> = done.left.iter().map(|left| left.point.display().to_string()).collect();
        let whys = done.left.iter().map(|left| format!("{}: {}", left.point.display(), left.why));
        let note = whys.collect::<Vec<_>>().join("; ");
        let then = if safe { "everything is synced" } else { "then eject again" };
        answer["still_mounted"] = points.into();
        answer["note"] = format!("still mounted at {note}; {then}").into();
    } else if !done.unmounted && is_mount {
        let at = disk.root.display();
        answer["note"] =
            format!("{at} is not on a disk that can be pulled: it stays mounted, and is recorded to again")
                .into();
    }
    answer
}
