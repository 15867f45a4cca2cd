//! Sticks that fail: single operations, whole disks, power, and the same for a thousand calls.
//!
//! `every_operation` drives agent and writer in this process, in virtual time, and fails the n-th operation
//! for every n. The others use the real `recordd` and real file systems; where that takes root they say so
//! and pass. `RECORDER_SOAK=1` (`scripts/soak`) makes the runs long; lines that begin with `soak|` are for
//! the table that it prints.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests are the outside world: they read clocks and pace packets"
)]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "a panic is how a test fails, and its numbers are small"
)]

#[path = "../support/mod.rs"]
mod support;

mod brim;
mod cycles;
mod every_operation;
mod fault_fs;
mod freeze;
mod house;
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

/// How much of something: in the long form, in the short one.
fn amount<T>(long: T, short: T) -> T {
    if is_long() { long } else { short }
}

/// A row of the table.
fn row(what: &str, figures: &str) {
    println!("soak|{what}|{figures}");
}
