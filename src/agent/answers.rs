//! What an answer of storage means.
//!
//! Owns: what follows when the disks were looked at, when a file was opened, appended to or closed, when a job found no
//! room, and when a disk was ejected. What a disk that fails in mid-recording means is [`super::resume`]'s.

use super::ending::reason_at_start;
use super::io::{Action, RecordingKey};
use super::recording::Recording;
use super::route::Route;
use super::{Agent, tape};
use crate::api::event::Event;
use crate::api::reason::{AgentError, Reason};
use crate::api::reply;
use crate::api::status::RecordingState;
use crate::config::StoragePath;
use crate::jobs::{Disk, Done, Fault, FaultKind, FileKey, Job, Opened, Piece, Recovered, Space, Target};
use crate::time::Now;
use log::Level as LogLevel;

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
            Done::Scanned(disk) => self.scanned(disk, now, actions),
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
            Done::Ejected(result) => self.ejected(result, actions),
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

    pub(super) fn scan(&mut self, actions: &mut Vec<Action>) {
        let target = match &self.config.storage.path {
            StoragePath::Auto => Target::Auto,
            StoragePath::Directory(path) => Target::Directory(path.clone()),
        };
        self.scans += 1;
        actions.push(Action::Job(Job::Scan(target)));
    }

    #[inline(never)]
    fn scanned(&mut self, disk: Option<Disk>, now: Now, actions: &mut Vec<Action>) {
        self.scans = self.scans.saturating_sub(1);
        let old_device = self.medium.device();
        // What is there when we start was not inserted; agent.info tells of it.
        let inserted = self.medium.scanned;
        let (came, went) = self.medium.found(disk);
        if went {
            self.library_gone(Reason::StorageIo.as_str(), actions);
            self.tell(&Event::StorageRemoved(self.storage_status()), actions);
            for key in self.on_disk() {
                let local = self.recordings.get(&key).and_then(|it| it.route.local());
                if local.is_some_and(|local| Some(local.folder().device) == old_device) {
                    self.disk_pulled(key, now, actions);
                }
            }
        }
        self.resume_lost(came, now, actions);
        if came {
            self.welcome_disk(inserted, actions);
            self.library_anew();
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
                self.medium.measured(opened.space);
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
        let it = self.recordings.get(&key);
        let starting = it.is_some_and(|it| it.waiting.is_some());
        if let Some(local) = it.and_then(|it| it.route.local()) {
            self.medium.gave(local.folder().device, fault.kind);
        }
        if starting {
            self.refuse_start(key, reason_at_start(fault.kind), fault.detail, actions);
        } else {
            self.storage_failed(key, fault, Vec::new(), now, actions);
        }
    }

    /// The first file could not be created: the recording never began.
    fn refuse_start(&mut self, key: RecordingKey, reason: Reason, detail: String, actions: &mut Vec<Action>) {
        let Some(mut it) = self.recordings.remove(&key) else { return };
        if let Some(local) = it.route.local_mut() {
            local.abandon(Vec::new(), &mut self.pool);
        }
        self.past.add(&it.final_counts());
        actions.push(Action::CloseRtp(key));
        actions.push(Action::Log(LogLevel::Warn, format!("no recording: {detail}")));
        if let Some((client, id)) = it.waiting.take() {
            let error = AgentError::new(reason).with_detail(detail);
            actions.push(Action::Reply(client, reply::agent_error(&id, &error)));
        }
        self.scan(actions);
        self.finish_eject(actions);
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
                    self.medium.measured(space);
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
            Err(fault) if fault.kind == FaultKind::Full => {
                self.filled(key, pieces, now, actions);
            }
            Err(fault) => {
                return self.storage_failed(key, fault, pieces, now, actions);
            }
        }
        self.pump(key, now, actions);
    }

    /// The disk had no room for all of `pieces`.
    #[inline(never)]
    fn filled(&mut self, key: RecordingKey, pieces: Vec<Piece>, now: Now, actions: &mut Vec<Action>) {
        let reason = Reason::StorageFull.as_str();
        if let Some(it) = self.recordings.get_mut(&key) {
            it.end_reason = it.end_reason.take().map(|_| reason.into());
            if let Some(local) = it.route.local_mut() {
                local.filled(pieces, reason, now, &mut self.pool);
            }
        }
        self.medium.filled();
        self.disk_full(now, actions);
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
            Ok(Some(space)) => self.medium.measured(space),
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
        self.end(key, actions);
    }

    /// Everything of a recording is closed and synced.
    pub(super) fn end(&mut self, key: RecordingKey, actions: &mut Vec<Action>) {
        if let Some(local) = self.recordings.get_mut(&key).and_then(|it| it.route.local_mut()) {
            self.strays.keep(local.take_mends());
        }
        self.finish(key, actions);
        self.finish_eject(actions);
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

    /// When the last recording on the disk has ended, it can be ejected. One that has lost its disk waits in memory for
    /// another.
    pub(super) fn finish_eject(&mut self, actions: &mut Vec<Action>) {
        if let Some(eject) = self.ejecting.as_mut().filter(|eject| !eject.asked) {
            let on_it = |it: &Recording| it.is_local() && !it.has_lost_disk();
            if !self.recordings.values().any(on_it) {
                if let Some(folder) = self.medium.folder() {
                    eject.asked = true;
                    actions.push(Action::Job(Job::Eject(folder)));
                } else {
                    let gone = Fault { kind: FaultKind::NoStorage, detail: "there is no disk".into() };
                    self.ejected(Err(gone), actions);
                }
            }
        }
    }

    fn ejected(&mut self, result: Result<bool, Fault>, actions: &mut Vec<Action>) {
        let Some(eject) = self.ejecting.take() else { return };
        if result.as_ref().is_ok_and(|unmounted| self.medium.eject(*unmounted)) {
            self.library.clear();
        }
        for (client, id) in eject.clients {
            let line = match &result {
                Ok(unmounted) => {
                    reply::result(&id, &serde_json::json!({ "safe_to_pull": true, "unmounted": unmounted }))
                }
                Err(fault) => {
                    let error =
                        AgentError::new(reason_at_start(fault.kind)).with_detail(fault.detail.clone());
                    reply::agent_error(&id, &error)
                }
            };
            actions.push(Action::Reply(client, line));
        }
    }
}
