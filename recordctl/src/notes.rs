//! Lines on stderr, without characters that do harm at a terminal.

use recfile::text::{shown_json, shown_lines};
use serde_json::Value;
use std::io::{IsTerminal, Write};

/// Writes one line to stderr. Its reader may have gone: the command has to end well all the same.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", shown_lines(text));
}

/// Writes `value` to stderr, on one line.
pub(super) fn json_note(value: &Value) {
    let mut stderr = std::io::stderr().lock();
    let for_terminal = stderr.is_terminal();
    let _ = writeln!(stderr, "{}", shown_json(&value.to_string(), for_terminal));
}
