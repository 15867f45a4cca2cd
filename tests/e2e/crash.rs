//! Sudden and orderly deaths of the agent.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::recording_file::wait_finished;
use crate::support::{
    Agent, Call, Codec, Random, Setup, assert_audio, patience, read_recording, sidecar, sidecar_of,
    wait_until,
};

/// The flush interval, and time to write, to be scheduled and to send on a busy machine.
const MAY_BE_MISSING: Duration = Duration::from_millis(1000 + 400);

#[test]
fn a_killed_agent_loses_at_most_the_flush_interval_and_repairs_its_files() {
    let base = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    std::thread::scope(|scope| {
        for round in 0..5 {
            scope.spawn(move || kill_and_recover(base * 8 + round));
        }
    });
}

fn kill_and_recover(seed: u64) {
    let mut random = Random(seed);
    let codec = Codec::ALL[random.between(0, 3) as usize];
    let life = Duration::from_millis(random.between(200, 4000));
    eprintln!("seed {seed}: {codec:?}, killed after {life:?}");
    let mut agent = Agent::start();
    let mut call = Call::start(&agent, codec);
    let begin = Instant::now();
    let mut sent = Vec::new();
    while begin.elapsed() < life {
        sent.push((Instant::now(), call.source.send_next()));
        let due = begin + Duration::from_millis(20) * sent.len() as u32;
        std::thread::sleep(due.min(begin + life).saturating_duration_since(Instant::now()));
    }
    let killed = Instant::now();
    agent.kill_at_once();

    let heard: Vec<u8> = sent.iter().flat_map(|(_, payload)| payload.clone()).collect();
    let left = read_recording(&call.file);
    assert_eq!(left.codec, codec.name(), "seed {seed}");
    assert_eq!((left.rtp_len, left.increment), (160, 160), "seed {seed}");
    assert!(left.data_size as usize <= left.data.len(), "seed {seed}: dataSize beyond the file");
    assert_audio(&left.data, &heard[..left.data.len().min(heard.len())]);
    let safe = sent.iter().filter(|(at, _)| killed - *at > MAY_BE_MISSING).count();
    let there = left.data.len() / 160;
    assert!(there >= safe, "seed {seed}: {there} packets of {}, {safe} were due", sent.len());

    agent.restart();
    wait_until("the file to be repaired", patience(), || {
        let now = read_recording(&call.file);
        now.data_size as usize == now.data.len() && now.data.len() % 160 == 0
    });
    let repaired = wait_finished(&call.file);
    repaired.assert_header(codec, 160);
    assert_audio(&repaired.data, &heard[..left.data.len() / 160 * 160]);
    let sidecar = sidecar_of(&call.file);
    assert_eq!(sidecar["recording"], call.id.as_str(), "seed {seed}: {sidecar}");
    // The agent works on as if nothing had been.
    let mut next = Call::start(&agent, codec);
    let heard = next.speak(5);
    next.finish_and_expect(&heard);
}

#[test]
fn a_killed_agent_leaves_files_without_sidecar_alone_but_for_their_size() {
    let mut agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(100);
    wait_until("a flush", patience(), || !read_recording(&call.file).data.is_empty());
    agent.kill_at_once();
    let left = read_recording(&call.file);
    std::fs::remove_file(call.file.with_extension("json")).unwrap();
    agent.restart();
    wait_until("the file to be repaired", patience(), || {
        let now = read_recording(&call.file);
        now.data_size as usize == now.data.len()
    });
    assert_audio(&read_recording(&call.file).data, &left.data[..left.data.len() / 160 * 160]);
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
