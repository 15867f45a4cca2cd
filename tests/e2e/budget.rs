//! The budget of a call: wake-ups, threads and memory.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::agent::is_emulated;
use crate::support::environment::skip_here;
use crate::support::{Agent, Call, Codec, Setup, number, patience, wait_until};

/// Wake-ups of all threads in a second of a call, flush included.
const WAKE_UPS_PER_SECOND: f64 = 8.0;

/// Resident memory while one call is recorded.
const RESIDENT_KIB: u64 = 4 * 1024;

#[test]
fn a_call_at_50_packets_a_second_keeps_within_its_wake_ups_threads_and_memory() {
    if is_emulated() {
        return skip_here("an emulator's threads, switches and memory are not the agent's");
    }
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak_in_real_time(50);
    let (switches, begin) = (agent.voluntary_switches(), Instant::now());
    heard.extend(call.speak_in_real_time(500));
    let seconds = begin.elapsed().as_secs_f64();
    let per_second = (agent.voluntary_switches() - switches) as f64 / seconds;
    let threads = agent.process_status("Threads");
    let (resident, peak) = (agent.process_status("VmRSS"), agent.process_status("VmHWM"));
    eprintln!("{per_second:.1} wake-ups/s, {threads} threads, {resident} KiB, peak {peak} KiB");
    assert!(per_second <= WAKE_UPS_PER_SECOND, "{per_second:.1} wake-ups a second");
    assert_eq!(threads, 2, "one loop and one storage thread");
    call.finish_and_expect(&heard);
    if cfg!(debug_assertions) {
        skip_here("memory is promised for release builds only");
    } else {
        assert!(resident < RESIDENT_KIB, "{resident} KiB resident");
    }
}

#[test]
fn a_small_buffer_holds_many_calls_on_a_disk_that_keeps_up() {
    let setup = Setup::new().set("rtp", "max_recordings", 8).quoted("storage", "buffer", "64 KiB");
    let agent = setup.set("storage", "flush_interval_ms", 60_000).start();
    let mut ui = agent.client();
    let mut calls: Vec<Call> = (0..8).map(|_| Call::start(&agent, Codec::Pcma)).collect();
    let mut heard = vec![Vec::new(); calls.len()];
    // Twice the octets of the buffer, and of no call so much that it would be written for its own sake.
    for _ in 0..8 {
        for (call, heard) in calls.iter_mut().zip(&mut heard) {
            heard.extend(call.speak(50));
            wait_until("half of the buffer to be free", patience(), || {
                number(&ui.ok("stats.get", json!({})), "/buffer_bytes") <= 128 * 1024
            });
        }
    }
    assert_eq!(ui.ok("stats.get", json!({}))["drops"]["buffer_full"], 0);
    for (mut call, heard) in calls.into_iter().zip(heard) {
        call.finish_and_expect(&heard);
    }
}

#[test]
fn an_idle_agent_sleeps() {
    if is_emulated() {
        return skip_here("an emulator's switches are not the agent's");
    }
    let agent = Agent::start();
    agent.client().ok("agent.info", serde_json::json!({}));
    let switches = agent.voluntary_switches();
    std::thread::sleep(Duration::from_secs(3));
    let woken = agent.voluntary_switches() - switches;
    assert!(woken <= 6, "{woken} wake-ups in 3 s with nothing to do");
}
