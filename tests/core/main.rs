//! All that needs no program, network or waiting: the simulated world, the uplink's protocol, files, the
//! allocations of a call, and the rules of the house.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../support/mod.rs"]
#[allow(
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "most of it is for tests that are the outside world; its numbers are small"
)]
mod support;

mod allocations;
#[allow(clippy::cast_possible_truncation, reason = "its numbers are small")]
mod faults;
mod files;
mod guards;
mod sim;
mod uplink;
