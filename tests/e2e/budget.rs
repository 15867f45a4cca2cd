//! What a call may cost: wake-ups, threads and memory.

use std::time::{Duration, Instant};

use crate::support::agent::is_emulated;
use crate::support::environment::skip_here;
use crate::support::{Agent, Call, Codec};

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
