//! The command line of the recorder.
fn main() {}
