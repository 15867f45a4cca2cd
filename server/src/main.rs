//! `recordserver`, the companion server of server recording.
fn main() {}
