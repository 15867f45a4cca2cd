//! The common part of tests that drive the real programs: the agent as a process, a client of its socket, a
//! sender of RTP and a reader of recording files.
//!
//! Nothing here uses the library: these are a second reading of the formats, so that a mistake in
//! the library's own encoder cannot hide behind its own decoder.

#![allow(dead_code, unused_imports, reason = "each test binary uses its share")]

pub(crate) mod agent;
pub(crate) mod call;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod environment;
pub(crate) mod network;
pub(crate) mod peer;
pub(crate) mod recording_file;
pub(crate) mod rtp_source;
pub(crate) mod server;

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use agent::{Agent, Setup};
pub(crate) use call::Call;
pub(crate) use client::Client;
pub(crate) use recording_file::{Recording, assert_audio, read_begun, read_recording};
pub(crate) use rtp_source::{Codec, RtpSource, packet};

/// Longest wait of a test for something that should happen at once; emulation is given more.
pub(crate) fn patience() -> Duration {
    Duration::from_secs(if agent::is_emulated() { 90 } else { 30 })
}

/// Has each failure told when it happens, too, not only at the end of all tests: it is then at the beginning
/// of a long log.
pub(crate) fn tell_failures_at_once() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let as_ever = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            tell_at_once(&format!("--- {} {panic}", thread.name().unwrap_or("a thread")));
            as_ever(panic);
        }));
    });
}

/// Writes past the harness, which keeps the output of tests until their end.
pub(crate) fn tell_at_once(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Looks again until `condition` gives a value, and fails with `what` when the deadline has passed.
pub(crate) fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited {deadline:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Looks again until `condition` holds, and fails with `what` when the deadline has passed.
pub(crate) fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// The JSON sidecar of a recording; `None` if there is none, a failure if it is there but not whole.
pub(crate) fn sidecar(wav: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(wav.with_extension("json")).ok()?;
    let value = serde_json::from_str(&text);
    Some(value.unwrap_or_else(|error| panic!("sidecar of {} is not whole: {error}", wav.display())))
}

/// The sidecar, once it has been written.
pub(crate) fn sidecar_of(wav: &Path) -> Value {
    wait_for(&format!("a sidecar beside {}", wav.display()), patience(), || sidecar(wav))
}

/// An unsigned number at a path like `/packets/received`, or a failure that shows the value.
pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no unsigned number at {pointer} in {value}"))
}

/// A text at a path like `/state`, or a failure that shows the value.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {pointer} in {value}"))
}

/// Seeded pseudo-random numbers (SplitMix64), so that a failure replays from the printed seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `low..high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }
}
