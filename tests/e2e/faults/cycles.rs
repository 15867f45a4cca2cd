//! Start and stop, a thousand times: nothing grows.

use super::{amount, row};
use crate::support::agent::is_emulated;
use crate::support::environment::{SmallDisk, skip_here};
use crate::support::{Agent, Call, Codec, Setup};
use std::time::Instant;

/// Kibibytes that the allocator may keep for itself.
const MEMORY_SLACK_KIB: u64 = 512;

/// Open descriptors, threads, resident KiB.
fn resources(agent: &Agent) -> (usize, u64, u64) {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).expect("a process").count();
    (descriptors, agent.process_status("Threads"), agent.process_status("VmRSS"))
}

fn cycle(agent: &Agent) {
    let mut call = Call::start(agent, Codec::Pcma);
    let heard = call.speak(5);
    call.finish_and_expect(&heard);
    for file in agent.recordings() {
        std::fs::remove_file(file.with_extension("json")).expect("a sidecar");
        std::fs::remove_file(file).expect("a recording");
    }
}

#[test]
fn nothing_grows_over_many_recordings() {
    if is_emulated() {
        return skip_here("memory and threads would be the emulator's");
    }
    let cycles = amount(1000, 100);
    // In memory, where that is possible: this is not about the speed of the machine's disk.
    let disk = SmallDisk::mount(4096);
    let setup = Setup::new();
    let folder = disk.as_ref().map_or(setup.storage_path(), SmallDisk::path).to_owned();
    let agent = setup.storage(&folder).start();
    // Memory that is allocated once, and the list of ended recordings, are there after these.
    (0..40).for_each(|_| cycle(&agent));
    let before = resources(&agent);
    let begin = Instant::now();
    (0..cycles).for_each(|_| cycle(&agent));
    let took = begin.elapsed();
    crate::support::wait_until("descriptors to be closed", crate::support::patience(), || {
        resources(&agent).0 <= before.0
    });
    let after = resources(&agent);
    row(
        &format!("{cycles} recordings in {} s", took.as_secs()),
        &format!("descriptors, threads, KiB: {before:?} before, {after:?} after"),
    );
    assert_eq!(after.1, before.1, "threads");
    assert!(after.2 <= before.2 + MEMORY_SLACK_KIB, "memory: {before:?}, {after:?}");
}
