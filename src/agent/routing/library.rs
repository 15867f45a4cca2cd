//! What the library is told of disks and recordings.

use crate::agent::library::{Around, NewFile};
use crate::agent::{Parts, RecordingKey, Turn};
use media::time::Mono;
use recfile::sealed::CHUNK_OVERHEAD_OCTETS;
use store::jobs::FileKey;
use store::jobs::Job;
use store::jobs::library::{LibraryDone, LibraryJob};

impl Parts {
    /// A disk came, or files on it changed: the folder is read anew.
    pub(in crate::agent) fn library_anew(&mut self) {
        self.library.begin();
        for key in self.on_disk() {
            if self.recordings.get(&key).is_some_and(|it| !it.has_lost_disk()) {
                self.library_opened(key);
            }
        }
    }

    /// The disk went, or may go.
    pub(in crate::agent) fn library_gone(&mut self, reason: &'static str, turn: &mut Turn<'_>) {
        self.library.clear();
        self.library.end_playbacks(reason, turn);
    }

    /// When the next step of the index is due.
    pub(in crate::agent) fn library_deadline(&self) -> Option<Mono> {
        self.library.index_deadline().filter(|_| self.disk.is_readable())
    }

    /// Takes the next step of the index, if one is due.
    pub(in crate::agent) fn library_pump(&mut self, turn: &mut Turn<'_>) {
        if !self.disk.is_ejecting() {
            let disk = &self.disk;
            self.library.pump(|| disk.state.folder(), turn);
        }
    }

    pub(in crate::agent) fn library_done(&mut self, done: LibraryDone, turn: &mut Turn<'_>) {
        let may_begin = self.refuse_in_between(true);
        let recordings = &self.recordings;
        let is_running = &|id: &str| recordings.values().any(|it| it.id == id);
        self.library.handle(done, Around { may_begin, is_running }, turn);
    }

    pub(in crate::agent) fn play_all(&mut self, turn: &mut Turn<'_>) {
        let recordings = &self.recordings;
        self.library.play_all(&|id| recordings.values().any(|it| it.id == id), turn);
    }

    /// Storage has no room for a job: the disk is stalled.
    pub(in crate::agent) fn library_refused(&mut self, job: LibraryJob, turn: &mut Turn<'_>) {
        if let Some(job) = self.library.refused(job, turn) {
            self.job_refused(Job::Library(job), turn);
        }
    }

    /// A file was created for a recording.
    pub(in crate::agent) fn library_opened(&mut self, key: RecordingKey) {
        let Some(it) = self.recordings.get(&key) else { return };
        let Some(to_file) = it.destination.as_file() else { return };
        let Some(file) = to_file.file_name() else { return };
        self.library.file_opened(&NewFile {
            recording: &it.id,
            call: &it.call,
            file,
            header: to_file.header(),
            start: to_file.stamp(),
            segment: to_file.segment(),
            encrypted: to_file.is_sealed(),
            octets: to_file.octets_in_file(0),
        });
    }

    /// The file of a recording has so many octets of audio by now.
    pub(in crate::agent) fn library_grew(&mut self, file: FileKey, durable_octets: u64) {
        let Some(key) = self.key_of(file) else { return };
        let Some(to_file) = self.recordings.get(&key).and_then(|it| it.destination.as_file()) else { return };
        let Some(name) = to_file.file_name() else { return };
        self.library.file_grew(name, to_file.octets_in_file(durable_octets), durable_octets);
    }

    /// The file of a recording was closed: its last frame was filled up.
    pub(in crate::agent) fn library_closed(&mut self, key: RecordingKey) {
        let Some(it) = self.recordings.get(&key) else { return };
        let Some(to_file) = it.destination.as_file() else { return };
        let frame = u64::from(to_file.header().rtp_len).max(1);
        let last_chunk = if to_file.is_sealed() { CHUNK_OVERHEAD_OCTETS as u64 } else { 0 };
        if let Some(name) = to_file.file_name() {
            self.library.file_closed(name, frame, last_chunk, |audio| to_file.octets_in_file(audio));
        }
        self.library_renamed(key);
    }

    /// Numbers and names of a call changed.
    pub(in crate::agent) fn library_renamed(&mut self, key: RecordingKey) {
        let Some(it) = self.recordings.get(&key) else { return };
        if let Some(name) = it.file_name() {
            self.library.call_changed(name, &it.call);
        }
    }

    pub(in crate::agent) fn is_recorded(&self, file: &str) -> bool {
        self.recordings.values().any(|it| it.file_name() == Some(file))
    }
}
