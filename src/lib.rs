//! Call recorder for SIP desk phones: the library behind `recordd`, `recordctl` and `recordserver`.
//!
//! Imports run one way:
//! `bin -> runtime -> agent -> {rtp, file, uplink, api} -> {units, time}` and `runtime -> storage -> file`.
//! `rtp`, `file`, `uplink`, `api` and `agent` are pure: no socket, clock, thread or sleep
//! (`file` reads and writes through `std::io` traits). See `ARCHITECTURE.md`.

pub mod agent;
pub mod api;
pub mod blocks;
pub mod call;
pub mod config;
pub mod ctl;
#[cfg(test)]
mod document_tests;
pub mod file;
pub mod jobs;
pub mod notify;
pub mod rtp;
pub mod runtime;
pub mod sandbox;
#[cfg(test)]
mod schema_tests;
pub mod seal;
pub mod secret_file;
pub mod storage;
pub mod sys;
pub mod text;
pub mod time;
pub mod units;
pub mod uplink;
