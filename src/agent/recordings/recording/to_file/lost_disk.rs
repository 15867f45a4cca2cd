//! A recording whose disk was pulled, and that goes on in a new file when one is back.
//!
//! Owns: the audio that is kept, where the old file is cut and where the new one begins. Invariant: the old
//! file ends at the last octet that its disk acknowledged as durable, and the new one begins with the next.

use super::{Busy, FileState, ToFile};
use media::recorder::StreamRecorder;
use media::time::Mono;
use media::time::{Now, Wall};
use media::timeline::octets_to_ms;
use recfile::call::Call;
use recfile::sidecar::{MAX_LISTED, Packets, Pause};
use store::jobs::{FileKey, Finalise, Folder, Job, Piece};

/// Files that wait to be finished on a disk that is gone; further ones are left to the ordinary recovery.
const MAX_FINALISATIONS: usize = 16;

/// The time without a disk, until another one has proved to take the audio.
#[derive(Clone, Copy, Debug)]
pub(in crate::agent) struct Outage {
    pub(in crate::agent) since: Mono,
    pub(in crate::agent) retry_at: Mono,
    /// The next look at the disks is to try the one that is there.
    pub(in crate::agent) tries: bool,
}

/// The disk is gone, or takes no more for this reason. Keeps everything that is not durable, `pieces` of the
/// failed job included.
pub(in crate::agent) fn lose_disk(
    to_file: &mut ToFile,
    pieces: Vec<Piece>,
    reason: &'static str,
    call: &Call,
    stream: &mut StreamRecorder,
    now: Now,
) {
    stream.buffer_mut().put_back(pieces);
    to_file.in_flight_octets = 0;
    let was = match to_file.state {
        FileState::Busy(busy) => Some(busy),
        _ => None,
    };
    match was {
        None | Some(Busy::Appending) => {
            let (log, counts) = stream.cut_segment(to_file.durable_octets, to_file.finishing.is_some());
            let sidecar = to_file.end_segment(call, stream, log, &counts, (reason, now.wall));
            finalise_later(to_file, Box::new(sidecar));
            to_file.next_is_new = true;
        }
        Some(Busy::Rolling | Busy::Finishing) => {
            if let Some(sidecar) = to_file.closing.take() {
                finalise_later(to_file, sidecar);
            }
            to_file.next_is_new = true;
        }
        // Storage left no file behind, or it is known already.
        Some(Busy::Opening | Busy::Finalising) => {}
    }
    to_file.state = FileState::Lost;
    to_file.pulled = false;
    to_file.next_folder = None;
}

/// A disk is there: the jobs that finish the old files and create a new one there. Old files are finished
/// where they are if their disk `is_there`, and looked for on the new one if not.
pub(in crate::agent) fn resume(
    to_file: &mut ToFile,
    folder: &Folder,
    next: FileKey,
    is_there: impl Fn(&Folder) -> bool,
    call: &Call,
    stream: &mut StreamRecorder,
    now: Now,
) -> Vec<Job> {
    if to_file.state != FileState::Lost {
        return Vec::new();
    }
    to_file.spec.folder = folder.clone();
    let nothing_follows =
        to_file.finishing.filter(|_| stream.buffer().is_empty() && !to_file.finalisations.is_empty());
    if let Some(end) = nothing_follows {
        end_in_last_finalisation(to_file, stream, end);
    }
    let mut jobs: Vec<Job> = to_file
        .finalisations
        .iter()
        .map(|finalisation| {
            let at = if is_there(&finalisation.folder) { &finalisation.folder } else { folder };
            Job::Finalise(Box::new(Finalise { folder: at.clone(), ..finalisation.clone() }))
        })
        .collect();
    if nothing_follows.is_some() {
        to_file.set_busy(Busy::Finalising, now);
        return jobs;
    }
    if std::mem::take(&mut to_file.next_is_new) {
        to_file.segment += 1;
    }
    to_file.file = next;
    to_file.stamp = now.wall;
    jobs.push(to_file.open(call, now));
    jobs
}

/// No file follows: the last one also tells of the packets that came since, and why the recording ended.
fn end_in_last_finalisation(
    to_file: &mut ToFile,
    stream: &mut StreamRecorder,
    (reason, wall): (&'static str, Wall),
) {
    let Some(Finalise { octets, sidecar, .. }) = to_file.finalisations.last_mut() else { return };
    let (log, counts) = stream.take_last();
    let since = Packets::from(&counts.since(&to_file.segment_counts));
    to_file.segment_counts = counts.next_since(&to_file.segment_counts);
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

/// A file was finished, or is not on this disk. Returns the finalisation that waited, and whether it was the
/// last.
pub(in crate::agent) fn finalised(to_file: &mut ToFile, file: FileKey) -> (Option<Finalise>, bool) {
    let finalisation = to_file
        .finalisations
        .iter()
        .position(|finalisation| finalisation.file == file)
        .map(|at| to_file.finalisations.remove(at));
    let done = to_file.finalisations.is_empty() && to_file.is_finalising();
    if done {
        to_file.state = FileState::None;
    }
    (finalisation, done)
}

fn finalise_later(to_file: &mut ToFile, sidecar: Box<recfile::sidecar::Sidecar>) {
    let Some(name) = to_file.file_name.clone() else { return };
    if to_file.finalisations.len() == MAX_FINALISATIONS {
        to_file.finalisations.remove(0);
    }
    let folder = to_file.spec.folder.clone();
    to_file.finalisations.push(Finalise {
        file: to_file.file,
        folder,
        name,
        octets: to_file.durable_octets,
        sidecar,
    });
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

    /// Sends a number of datagrams that are no RTP.
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
    fn audio_between_the_pull_and_the_stop_is_in_the_last_sidecar_when_no_file_follows() {
        let (call, now, mut pool) = (Call::default(), Now::default(), BlockPool::new(1 << 20));
        let (mut to_file, mut stream) = recording();
        send_noise(&mut stream, 1);
        lose_disk(&mut to_file, Vec::new(), "storage_io", &call, &mut stream, now);
        send_noise(&mut stream, 2);
        to_file.finish("stopped", &mut stream, now, &mut pool);
        // A disk that goes again before it has finished the file changes nothing.
        for next in [2, 3] {
            let jobs = resume(&mut to_file, &folder(next), FileKey(next), |_| false, &call, &mut stream, now);
            let [Job::Finalise(finalisation)] = &jobs[..] else { panic!("{jobs:?}") };
            let packets = &finalisation.sidecar.packets;
            assert_eq!((packets.received, packets.dropped), (3, 3));
            assert_eq!(finalisation.sidecar.end_reason.as_deref(), Some("stopped"));
            lose_disk(&mut to_file, Vec::new(), "storage_io", &call, &mut stream, now);
        }
    }

    #[test]
    fn a_disk_that_goes_while_the_last_file_is_finished_counts_no_packet_twice() {
        let (call, now, mut pool) = (Call::default(), Now::default(), BlockPool::new(1 << 20));
        let (mut to_file, mut stream) = recording();
        send_noise(&mut stream, 1);
        to_file.finish("stopped", &mut stream, now, &mut pool);
        assert!(matches!(to_file.next_job(true, &call, &mut stream, now), Some(Job::Close { .. })));
        lose_disk(&mut to_file, Vec::new(), "storage_io", &call, &mut stream, now);
        let jobs = resume(&mut to_file, &folder(2), FileKey(2), |_| false, &call, &mut stream, now);
        let [Job::Finalise(finalisation)] = &jobs[..] else { panic!("{jobs:?}") };
        assert_eq!(finalisation.sidecar.packets.received, 1);
    }
}
