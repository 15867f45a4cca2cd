//! The agent from end to end: the real `recordd`, its socket, real RTP and the files it leaves.
//!
//! One binary, one module per kind of behaviour. Each test has an agent and a folder of its own, so
//! they run side by side. A status request sees every packet that arrived before it, as stop and
//! pause do, so tests wait for answers and events, and for time only where the behaviour is about time.

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

mod advice;
mod archive;
mod bad_requests;
mod bad_rtp;
mod budget;
mod clock;
mod confined;
mod counters;
mod crash;
mod crowd;
mod encryption;
mod endings;
mod events;
mod faults;
mod files;
mod init_script;
mod library;
mod media;
mod modes;
mod pause;
mod playback;
mod program;
mod real_senders;
mod record_key;
mod recordings;
mod rollover;
mod sandbox;
mod scarcity;
mod senders;
mod server_failure;
mod server_mode;
mod server_network;
mod simulated_agent;
mod sip_info;
mod sip_server;
mod speech;
mod state;
mod storage;
mod texts;
mod timeline;
mod uplink_extension;
