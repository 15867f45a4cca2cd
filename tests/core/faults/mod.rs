//! Storage whose n-th operation fails, for every n: agent and writer in this process, in virtual time.
//!
//! Not among the tests that start programs: a program that another thread starts has this process's locks for
//! a moment, and recovery leaves a locked file alone.

mod every_operation;
#[allow(dead_code, reason = "shared; each program uses a part")]
mod fault_fs;
mod house;

/// A row of the table of `scripts/soak`.
fn row(what: &str, figures: &str) {
    println!("soak|{what}|{figures}");
}
