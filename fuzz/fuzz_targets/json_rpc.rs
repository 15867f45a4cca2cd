//! What a client sends, cut into pieces: every line is a request or gets an answer that is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recordd::api::line::{Line, LineBuffer};
use recordd::api::request::{Refused, parse};

fuzz_target!(|pieces: Vec<&[u8]>| {
    let mut lines = LineBuffer::new();
    for piece in pieces {
        lines.push(piece).expect("every line was taken");
        while let Some(line) = lines.next_line() {
            let refused = match line {
                Line::Text(text) => parse(text).err(),
                Line::TooLong => Some(Refused::line_too_long()),
            };
            if let Some(answer) = refused.and_then(|refused| refused.line()) {
                assert!(answer.ends_with(b"\n") || !answer.contains(&b'\n'));
                serde_json::from_slice::<serde_json::Value>(&answer).expect("an answer is JSON");
            }
        }
    }
});
