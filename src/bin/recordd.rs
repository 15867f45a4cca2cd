//! The agent on the phone.
fn main() {}
