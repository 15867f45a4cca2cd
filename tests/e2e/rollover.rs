//! Files are full at `max_file_size` and the recording goes on in the next.

use std::path::PathBuf;

use crate::support::{Agent, Call, Codec, Setup, assert_audio, number, read_recording, sidecar_of, text};

/// The files of a recording in the order of their segments.
pub(crate) fn segments(agent: &Agent, id: &str) -> Vec<PathBuf> {
    let mut files: Vec<(u64, PathBuf)> = agent
        .recordings()
        .into_iter()
        .map(|path| (sidecar_of(&path), path))
        .filter(|(sidecar, _)| sidecar["recording"] == id)
        .map(|(sidecar, path)| (number(&sidecar, "/segment"), path))
        .collect();
    files.sort();
    let first = files.first().expect("a segment").0;
    for (index, (segment, _)) in files.iter().enumerate() {
        assert_eq!(*segment, first + index as u64, "segments are numbered without a hole");
    }
    files.into_iter().map(|(_, path)| path).collect()
}

#[test]
fn no_packet_is_lost_or_doubled_at_a_rollover() {
    const LIMIT: u64 = 20_000;
    let agent = Setup::new().set("storage", "max_file_size", LIMIT).start();
    for codec in [Codec::Pcma, Codec::G722] {
        let mut call = Call::start(&agent, codec);
        let heard = call.speak(500);
        call.stop();
        let files = segments(&agent, &call.id);
        assert_eq!(files[0], call.file);
        let mut audio = Vec::new();
        for (index, file) in files.iter().enumerate() {
            let recording = read_recording(file);
            recording.assert_header(codec, 160);
            let size = file.metadata().unwrap().len();
            assert!(size <= LIMIT, "{} has {size} octets", file.display());
            let is_last = index + 1 == files.len();
            assert!(is_last || size + 160 > LIMIT, "a frame more had fitted: {size} octets");
            audio.extend(recording.data);
        }
        assert_audio(&audio, &heard);
    }
}

#[test]
fn a_rollover_is_announced_and_each_segment_has_its_sidecar() {
    let agent = Setup::new().quoted("storage", "max_file_size", "16 KiB").start();
    let mut call = Call::start(&agent, Codec::Pcmu);
    let first = number(&sidecar_of(&call.file), "/segment");
    call.speak(101 * 2 + 10);
    for ahead in 1..=2 {
        let event = call.wait_event("recording.segment");
        assert_eq!(number(&event, "/segment"), first + ahead, "{event}");
        let file = agent.path_of(text(&event, "/file"));
        assert!(file.exists(), "the new file of {event}");
    }
    assert_eq!(number(&call.status(), "/segment"), first + 2);
    call.stop();
    let files = segments(&agent, &call.id);
    assert_eq!(files.len(), 3);
    for (file, frames) in files.iter().zip([101, 101, 10]) {
        let sidecar = sidecar_of(file);
        assert_eq!(number(&sidecar, "/duration_ms"), frames * 20, "{sidecar}");
        assert!(sidecar["end_reason"].is_string(), "{sidecar}");
    }
}

#[test]
fn a_gap_that_reaches_across_a_rollover_keeps_its_length() {
    let agent = Setup::new().quoted("storage", "max_file_size", "16 KiB").start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(90);
    heard.extend(call.be_silent_in_real_time(100));
    heard.extend(call.speak(20));
    call.stop();
    let files = segments(&agent, &call.id);
    let audio: Vec<u8> = files.iter().flat_map(|file| read_recording(file).data).collect();
    assert_audio(&audio, &heard);
    for file in files {
        assert!(file.metadata().unwrap().len() <= 16 * 1024, "{}", file.display());
    }
}

#[test]
fn a_recording_that_ends_at_the_limit_is_complete() {
    let agent = Setup::new().quoted("storage", "max_file_size", "16 KiB").start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let heard = call.speak(101);
    let ended = call.stop();
    assert_eq!(ended["recording"], call.id.as_str());
    let files = segments(&agent, &call.id);
    let audio: Vec<u8> = files.iter().flat_map(|file| read_recording(file).data).collect();
    assert_audio(&audio, &heard);
    let event = call.client.next_event(std::time::Duration::from_millis(50));
    assert!(event.is_none(), "nothing comes after the end: {event:?}");
}
