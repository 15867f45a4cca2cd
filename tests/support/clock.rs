//! An agent whose calendar clock shows another time.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Setup;
use super::environment::{has_program, run, skip};

/// The setup of an agent whose clock shows `unix_s` now; `None`, with the reason said, where that can't be.
pub(crate) fn at_time(setup: Setup, unix_s: i64) -> Option<Setup> {
    if !has_program("cc") {
        skip("there is no C compiler, to put another clock before the agent");
        return None;
    }
    let library = setup.dir().join("clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/clock.c");
    run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl"));
    let setup = setup.environment("LD_PRELOAD", library.display());
    Some(setup.environment("CLOCK_SHIFT", shift_to(unix_s)))
}

/// The seconds that the clock has to be ahead to show `unix_s` now.
pub(crate) fn shift_to(unix_s: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
    unix_s - i64::try_from(now.as_secs()).expect("a time")
}
