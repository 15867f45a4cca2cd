//! A recording whose disk was pulled, and that goes on in a new file when one is back.
//!
//! Owns: what is kept, where the old file is cut and where the new one begins. Invariant: the old file ends
//! at the last octet that its disk acknowledged as durable, and the new one begins with the next.

use super::{Busy, FileState, ToFile};
use media::recorder::StreamRecorder;
use media::time::Mono;
use media::time::{Now, Wall};
use media::timeline::octets_to_ms;
use recfile::call::Call;
use recfile::sidecar::{MAX_LISTED, Packets, Pause};
use store::jobs::{FileKey, Finalise, Folder, Job, Piece};

/// Files that wait to be finished on a disk that is gone; what is beyond is left to the ordinary recovery.
const MAX_FINALISATIONS: usize = 16;

/// The time without a disk, until another one has proved to take the audio.
#[derive(Clone, Copy, Debug)]
pub(in crate::agent) struct Outage {
    pub(in crate::agent) since: Mono,
    pub(in crate::agent) retry_at: Mono,
    /// The next look at the disks is to try the one that is there.
    pub(in crate::agent) tries: bool,
}

impl ToFile {
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

    /// The disk was pulled; what follows has to wait for the answer that storage owes.
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

    /// The disk is gone, or takes no more for this reason. Keeps everything that is not durable, `pieces` of the failed
    /// job included.
    pub(in crate::agent) fn lose_disk(
        &mut self,
        pieces: Vec<Piece>,
        reason: &'static str,
        call: &Call,
        stream: &mut StreamRecorder,
        now: Now,
    ) {
        stream.buffer_mut().put_back(pieces);
        self.in_flight_octets = 0;
        let was = match self.state {
            FileState::Busy(busy) => Some(busy),
            _ => None,
        };
        match was {
            None | Some(Busy::Appending) => {
                let (log, counts) = stream.cut_segment(self.durable_octets, self.finishing.is_some());
                let sidecar = self.end_segment(call, stream, log, &counts, (reason, now.wall));
                self.finalise_later(Box::new(sidecar));
                self.next_is_new = true;
            }
            Some(Busy::Rolling | Busy::Finishing) => {
                if let Some(sidecar) = self.closing.take() {
                    self.finalise_later(sidecar);
                }
                self.next_is_new = true;
            }
            // Storage left nothing behind, or what it left is known already.
            Some(Busy::Opening | Busy::Finalising) => {}
        }
        self.state = FileState::Lost;
        self.pulled = false;
        self.next_folder = None;
    }

    /// A disk is there: the jobs that finish the old files and create a new one there. Old files are finished where they
    /// are if their disk `is_there`, and looked for on the new one if not.
    pub(in crate::agent) fn resume(
        &mut self,
        folder: &Folder,
        next: FileKey,
        is_there: impl Fn(&Folder) -> bool,
        call: &Call,
        stream: &mut StreamRecorder,
        now: Now,
    ) -> Vec<Job> {
        if self.state != FileState::Lost {
            return Vec::new();
        }
        self.spec.folder = folder.clone();
        let nothing_follows =
            self.finishing.filter(|_| stream.buffer().is_empty() && !self.finalisations.is_empty());
        if let Some(end) = nothing_follows {
            self.end_in_last_finalisation(stream, end);
        }
        let mut jobs: Vec<Job> = self
            .finalisations
            .iter()
            .map(|finalisation| {
                let at = if is_there(&finalisation.folder) { &finalisation.folder } else { folder };
                Job::Finalise(Box::new(Finalise { folder: at.clone(), ..finalisation.clone() }))
            })
            .collect();
        if nothing_follows.is_some() {
            self.set_busy(Busy::Finalising, now);
            return jobs;
        }
        if std::mem::take(&mut self.next_is_new) {
            self.segment += 1;
        }
        self.file = next;
        self.stamp = now.wall;
        jobs.push(self.open(call, now));
        jobs
    }

    /// No file follows: the last one also tells of the packets that came since, and why the recording ended.
    fn end_in_last_finalisation(
        &mut self,
        stream: &mut StreamRecorder,
        (reason, wall): (&'static str, Wall),
    ) {
        let Some(Finalise { octets, sidecar, .. }) = self.finalisations.last_mut() else { return };
        let (log, counts) = stream.take_last();
        let since = Packets::from(&counts.since(&self.segment_counts));
        self.segment_counts = counts.next_since(&self.segment_counts);
        let packets = &mut sidecar.packets;
        packets.received += since.received;
        packets.lost += since.lost;
        packets.late += since.late;
        packets.duplicate += since.duplicate;
        packets.dropped += since.dropped;
        let at_ms = octets_to_ms(*octets);
        let pauses = log.pauses.into_iter().map(Pause::from);
        sidecar.pauses.extend(pauses.map(|pause| Pause { at_ms: at_ms + pause.at_ms, ..pause }));
        sidecar.pauses.truncate(MAX_LISTED);
        sidecar.end = Some(wall.rfc3339());
        sidecar.end_reason = Some(reason.into());
        sidecar.no_media &= packets.received == 0;
    }

    /// Files that wait to be finished; they wait without this recording from now on.
    pub(in crate::agent) fn take_finalisations(&mut self) -> Vec<Finalise> {
        std::mem::take(&mut self.finalisations)
    }

    /// Whether a file of this recording waits to be finished under this key.
    pub(in crate::agent) fn has_finalisation(&self, file: FileKey) -> bool {
        self.finalisations.iter().any(|finalisation| finalisation.file == file)
    }

    /// A file was finished, or is not on this disk. Returns what it waits for, and whether that was all that
    /// was left to do.
    pub(in crate::agent) fn finalised(&mut self, file: FileKey) -> (Option<Finalise>, bool) {
        let finalisation = self
            .finalisations
            .iter()
            .position(|finalisation| finalisation.file == file)
            .map(|at| self.finalisations.remove(at));
        let done = self.finalisations.is_empty() && self.is_finalising();
        if done {
            self.state = FileState::None;
        }
        (finalisation, done)
    }

    fn finalise_later(&mut self, sidecar: Box<recfile::sidecar::Sidecar>) {
        let Some(name) = self.file_name.clone() else { return };
        if self.finalisations.len() == MAX_FINALISATIONS {
            self.finalisations.remove(0);
        }
        let folder = self.spec.folder.clone();
        self.finalisations.push(Finalise {
            file: self.file,
            folder,
            name,
            octets: self.durable_octets,
            sidecar,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Spec;
    use super::super::tests::stream;
    use super::*;
    use media::blocks::BlockPool;
    use media::codec::Codec;
    use media::recorder::Datagram;
    use store::jobs::{Opened, Space};

    fn folder(device: u64) -> Folder {
        Folder { root: "/stick".into(), device, name: "Record".into() }
    }

    /// Sends so many datagrams that are no RTP.
    fn send_noise(stream: &mut StreamRecorder, datagrams: usize) {
        let datagram = Datagram {
            octets: b"noise",
            truncated: false,
            source: ([127, 0, 0, 1], 5004).into(),
            arrival: Mono::default(),
        };
        for _ in 0..datagrams {
            stream.datagram(datagram, &mut BlockPool::new(1));
        }
    }

    fn recording() -> (ToFile, StreamRecorder) {
        let spec = Spec {
            recording: "r".into(),
            codec: Codec::Pcma,
            ptime_ms: 20,
            folder: folder(1),
            max_file_octets: 1 << 20,
            recipients: 0,
        };
        let (mut to_file, _) = ToFile::begin(spec, FileKey(1), &Call::default(), Now::default());
        let space = Space::default();
        let stream = stream(&to_file);
        to_file.opened(Opened { path: "/stick/Record/a.wav".into(), name: "a.wav".into(), space }, &stream);
        (to_file, stream)
    }

    #[test]
    fn what_comes_between_the_pull_and_the_stop_is_in_the_last_sidecar_when_no_file_follows() {
        let (call, now, mut pool) = (Call::default(), Now::default(), BlockPool::new(1 << 20));
        let (mut to_file, mut stream) = recording();
        send_noise(&mut stream, 1);
        to_file.lose_disk(Vec::new(), "storage_io", &call, &mut stream, now);
        send_noise(&mut stream, 2);
        to_file.finish("stopped", &mut stream, now, &mut pool);
        // A disk that goes again before it has finished the file changes nothing.
        for next in [2, 3] {
            let jobs = to_file.resume(&folder(next), FileKey(next), |_| false, &call, &mut stream, now);
            let [Job::Finalise(finalisation)] = &jobs[..] else { panic!("{jobs:?}") };
            let packets = &finalisation.sidecar.packets;
            assert_eq!((packets.received, packets.dropped), (3, 3));
            assert_eq!(finalisation.sidecar.end_reason.as_deref(), Some("stopped"));
            to_file.lose_disk(Vec::new(), "storage_io", &call, &mut stream, now);
        }
    }

    #[test]
    fn a_disk_that_goes_while_the_last_file_is_finished_counts_no_packet_twice() {
        let (call, now, mut pool) = (Call::default(), Now::default(), BlockPool::new(1 << 20));
        let (mut to_file, mut stream) = recording();
        send_noise(&mut stream, 1);
        to_file.finish("stopped", &mut stream, now, &mut pool);
        assert!(matches!(to_file.next_job(true, &call, &mut stream, now), Some(Job::Close { .. })));
        to_file.lose_disk(Vec::new(), "storage_io", &call, &mut stream, now);
        let jobs = to_file.resume(&folder(2), FileKey(2), |_| false, &call, &mut stream, now);
        let [Job::Finalise(finalisation)] = &jobs[..] else { panic!("{jobs:?}") };
        assert_eq!(finalisation.sidecar.packets.received, 1);
    }
}
