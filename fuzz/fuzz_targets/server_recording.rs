//! Anything that may come to a call's RTP port.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../recordserver/tests/server/port.rs"]
mod port;

fuzz_target!(|steps: Vec<port::Step>| port::hold(steps));
