//! Sudden and orderly deaths of the agent. Sudden ones at any moment: `faults::kill`.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::agent::{output_of, recordctl};
use crate::support::{
    Agent, Call, Codec, Setup, assert_audio, number, patience, read_recording, sidecar, wait_for, wait_until,
};

#[test]
fn a_recording_that_lost_its_sidecar_in_a_crash_stays_as_it_is_and_is_as_long_as_its_audio() {
    let mut agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(100);
    wait_until("a flush", patience(), || !read_recording(&call.file).data.is_empty());
    agent.kill_at_once();
    std::fs::remove_file(call.file.with_extension("json")).unwrap();
    // The kill may have come between audio and header, or within a frame; here it always has.
    let file = std::fs::OpenOptions::new().write(true).open(&call.file).unwrap();
    file.write_all_at(&160_u32.to_le_bytes(), 72).unwrap();
    file.set_len(76 + 50 * 160 + 33).unwrap();
    let left = read_recording(&call.file);
    agent.restart();
    let mut client = agent.client();
    let listed = wait_for("the index", patience(), || {
        let answer = client.ok("recordings.list", json!({}));
        answer["indexing"].is_null().then_some(answer)
    });
    assert_eq!(number(&listed, "/recordings/0/duration_ms"), 50 * 20, "{listed}");
    assert_eq!(read_recording(&call.file), left);
    // A repair of the named file makes it exact.
    let output = output_of(recordctl().arg("repair").arg(&call.file));
    assert!(output.status.success(), "{output:?}");
    let repaired = read_recording(&call.file);
    repaired.assert_header(Codec::Pcma, 160);
    assert_audio(&repaired.data[..left.data.len()], &left.data);
}

#[test]
fn a_few_packets_and_then_nothing_are_on_the_disk_before_a_crash() {
    let mut agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let heard = call.speak_in_real_time(4);
    wait_until("a flush", patience(), || read_recording(&call.file).data.len() == heard.len());
    agent.kill_at_once();
    assert_audio(&read_recording(&call.file).data, &heard);
}

#[test]
fn a_terminated_agent_finishes_every_recording() {
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGINT] {
        let mut agent = Setup::new().quoted("storage", "max_file_size", "16 KiB").start();
        let mut paused = Call::start(&agent, Codec::Pcma);
        let mut running = Call::start(&agent, Codec::G722);
        let heard_before_pause = paused.speak(10);
        paused.ok("record.pause");
        // Nothing but the signal makes the agent look for these.
        let heard: Vec<u8> = (0..30).flat_map(|_| running.source.send_next()).collect();
        agent.signal(signal);
        let status = agent.wait();
        assert_eq!(status.code(), Some(0), "{signal}: {status}");
        read_recording(&paused.file).assert_finished(Codec::Pcma, &heard_before_pause);
        read_recording(&running.file).assert_finished(Codec::G722, &heard);
        for file in [&paused.file, &running.file] {
            let sidecar = sidecar(file).expect("a sidecar");
            assert!(sidecar["end_reason"].is_string(), "{signal}: {sidecar}");
        }
    }
}

#[test]
fn an_idle_agent_ends_at_once_and_leaves_no_socket() {
    let mut agent = Agent::start();
    let begin = Instant::now();
    assert_eq!(agent.terminate().code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert!(!agent.socket.exists(), "the socket is still there");
}
