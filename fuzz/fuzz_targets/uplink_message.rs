//! Any text of a peer: a message that is written and read the same again, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use uplink::message::Message;

fuzz_target!(|text: &[u8]| {
    let Ok(message) = Message::parse(text) else { return };
    // Nobody sends one on: it is logged and ignored.
    if matches!(message, Message::Unknown { .. }) {
        return;
    }
    let sent = message.encode();
    assert!(!sent.bytes().any(|octet| matches!(octet, b'\r' | b'\n' | 0)));
    let again = Message::parse(sent.as_bytes()).expect("what we send can be read");
    assert_eq!(again.encode(), sent);
});
