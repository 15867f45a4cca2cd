//! Sticks that fail: whole disks, power, and the same for a thousand calls.
//!
//! With the real `recordd` and real file systems; where that takes root they say so and pass.
//! `RECORDER_SOAK=1` (`scripts/soak`) makes the runs long; lines that begin with `soak|` are for the table
//! that it prints.

mod brim;
mod cycles;
#[path = "../../core/faults/fault_fs.rs"]
#[allow(dead_code, reason = "shared; each program uses a part")]
mod fault_fs;
mod freeze;
mod kill;
mod loop_disk;
mod pull;
mod repair;
mod server_disk;
mod sticks;
mod usb;

/// Whether the long form was asked for.
fn is_long() -> bool {
    std::env::var_os("RECORDER_SOAK").is_some_and(|value| value == "1")
}

/// An amount: in the long form, in the short one.
fn amount<T>(long: T, short: T) -> T {
    if is_long() { long } else { short }
}

/// A row of the table.
fn row(what: &str, figures: &str) {
    println!("soak|{what}|{figures}");
}
