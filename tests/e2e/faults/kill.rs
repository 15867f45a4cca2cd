//! kill -9 at random moments.

use super::{amount, row};
use crate::support::recording_file::wait_finished;
use crate::support::{Agent, Call, Codec, Random, assert_audio, read_recording, sidecar_of};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The flush interval, and time to write, to be scheduled and to send on a busy machine.
const MAY_BE_MISSING: Duration = Duration::from_millis(1000 + 500);

/// Agents at a time.
const SIDE_BY_SIDE: usize = 5;

#[test]
fn an_agent_killed_at_any_moment_leaves_files_that_open_and_misses_at_most_a_flush() {
    let kills = amount(200, 10);
    let base = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 * 1000;
    let next = AtomicU64::new(0);
    let lost_ms = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= kills {
                        return;
                    }
                    let lost = kill_and_recover(base + round);
                    lost_ms.lock().unwrap().push(lost);
                }
            });
        }
    });
    let mut lost_ms = lost_ms.into_inner().unwrap();
    lost_ms.sort_unstable();
    let (median, worst) = (lost_ms[lost_ms.len() / 2], lost_ms[lost_ms.len() - 1]);
    let all = format!(
        "{} of {kills} opened and finished; lost: median {median} ms, worst {worst} ms",
        lost_ms.len()
    );
    row(&format!("kill -9, seeds {base} and on"), &all);
}

/// One life and its end; milliseconds of audio that were lost.
fn kill_and_recover(seed: u64) -> u64 {
    let mut random = Random(seed);
    let codec = Codec::ALL[random.between(0, 3) as usize];
    let life = Duration::from_millis(random.between(5, 3500));
    println!("seed {seed}: {codec:?}, killed after {life:?}");
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
    // If the stick is pulled now, its file opens and promises no more than it holds.
    let left = read_recording(&call.file);
    assert_eq!((left.codec.as_str(), left.rtp_len, left.increment), (codec.name(), 160, 160), "seed {seed}");
    assert!(left.data_size as usize <= left.data.len(), "seed {seed}: dataSize beyond the file");
    assert_audio(&left.data, &heard[..left.data.len().min(heard.len())]);

    agent.restart();
    let saved = wait_finished(&call.file);
    saved.assert_header(codec, 160);
    assert_audio(&saved.data, &heard[..left.data.len() / 160 * 160]);
    let sidecar = sidecar_of(&call.file);
    assert_eq!(sidecar["recovered"], true, "seed {seed}: {sidecar}");
    assert_eq!(sidecar["recording"], call.id.as_str(), "seed {seed}: {sidecar}");
    let safe = sent.iter().filter(|(at, _)| killed - *at > MAY_BE_MISSING).count();
    let there = saved.data.len() / 160;
    assert!(there >= safe, "seed {seed}: {there} packets of {}, {safe} were due", sent.len());
    // The agent works on as if nothing had been.
    let mut next = Call::start(&agent, codec);
    let heard = next.speak(5);
    next.finish_and_expect(&heard);
    (sent.len() - there) as u64 * 20
}
