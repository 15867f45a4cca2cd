//! The whole agent in a simulated world, with a shadow model that keeps the books.
//!
//! Clients ask at random, senders, networks, a server and a PBX misbehave, files are played, deleted and
//! protected, sticks stall, fail, fill up and are pulled, the power goes. After every run: sent = stored +
//! duplicate + late + dropped, and the files say the same; each request got one answer; nothing that came
//! during a pause is in a file; every audio octet is there at most once and in order; every file opens; no
//! block or file handle is left over.
//!
//! SidecarSummary it, calls into a timeline alone, whose senders get every counter wrong (`call.rs`).
//!
//! A failure prints seed and step. Environment: `SIM_SEED` (run only this one), `SIM_SEEDS` (how many, 120),
//! `SIM_STEPS` (of each, 500), `SIM_CALLS` (calls of senders, 300), `SIM_CALL` (only this one).

mod books;
mod call;
mod clients;
mod disk;
mod rng;
mod sender;
mod server;
mod world;

use std::collections::BTreeMap;
use world::World;

/// A simulation that never gets here says nothing.
const REACHED: &[&str] = &[
    "fenced packet",
    "mended",
    "not mended",
    "play.pause",
    "play.seek",
    "playback.ended",
    "played packet",
    "power cut",
    "recording.ended",
    "recording.failed",
    "recording.no_media",
    "recording.paused",
    "recording.resumed",
    "recording.segment",
    "recording.stalled",
    "recordings.delete",
    "recordings.info",
    "recordings.list",
    "recordings.protect",
    "refused job",
    "rest",
    "shutdown",
    "stopped",
    "ejected",
    "storage.eject",
    "storage.inserted",
    "storage.removed",
    "uplink.connected",
    "uplink.lost",
    "went on at the phone",
    "storage_full",
    "storage.full",
    "storage.low",
];

/// Says where a run was when it panicked.
struct Position {
    seed: u64,
    step: u64,
}

impl Drop for Position {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation failed: SIM_SEED={} at step {}", self.seed, self.step);
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Runs one seed.
fn run(seed: u64, steps: u64) -> World {
    let mut position = Position { seed, step: 0 };
    let mut world = World::new(seed);
    while position.step < steps {
        world.step();
        position.step += 1;
    }
    world.finish();
    world
}

fn run_all(parity: u64) {
    let steps = setting("SIM_STEPS", 500);
    if std::env::var_os("SIM_SEED").is_some() {
        if parity == 0 {
            run(setting("SIM_SEED", 0), steps);
        }
        return;
    }
    let seeds = setting("SIM_SEEDS", 120);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for seed in (0..seeds).filter(|seed| seed % 2 == parity) {
        for (what, count) in run(seed, steps).seen() {
            *seen.entry(what.clone()).or_default() += count;
        }
    }
    println!("{seen:#?}");
    let missing: Vec<_> = REACHED.iter().filter(|what| !seen.contains_key(**what)).collect();
    assert!(seeds * steps < 60_000 || missing.is_empty(), "the simulation never reached {missing:?}");
}

#[test]
fn the_books_balance_whatever_happens_with_even_seeds() {
    run_all(0);
}

#[test]
fn the_books_balance_whatever_happens_with_odd_seeds() {
    run_all(1);
}

#[test]
fn senders_that_get_their_counters_wrong_cost_neither_audio_nor_time() {
    if std::env::var_os("SIM_CALL").is_some() {
        println!("{:?}", call::run(setting("SIM_CALL", 0)));
        return;
    }
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let calls = setting("SIM_CALLS", 300);
    let first = setting("SIM_FIRST_CALL", 0);
    for seed in first..first + calls {
        let outcome = std::panic::catch_unwind(|| call::run(seed));
        let troubles = outcome.unwrap_or_else(|_| panic!("the call failed: SIM_CALL={seed}"));
        for trouble in troubles {
            *seen.entry(trouble).or_default() += 1;
        }
    }
    println!("calls {first} to {}: {seen:#?}", first + calls - 1);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..3 {
        assert_eq!(run(seed, 300).trace(), run(seed, 300).trace());
    }
}
