//! Times and names of files as a stick or a sidecar has them: read back they are the same, and they have an order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media::time::Wall;
use recfile::name::{order_key, sidecar_name};

fuzz_target!(|input: (&str, &str, i32)| {
    let (text, name, offset) = input;
    if let Some(wall) = Wall::from_rfc3339(text) {
        // Years beyond 9999 and odd offsets have no such text.
        let again = wall.rfc3339();
        if !again.is_empty() {
            assert_eq!(Wall::from_rfc3339(&again).map(|it| it.unix_ms), Some(wall.unix_ms), "{text} {again}");
        }
        let _ = wall.file_stamp();
    }
    let _ = Wall::from_file_stamp(text, offset).map(|wall| (wall.rfc3339(), wall.is_set()));
    let (key, other) = (order_key(name), order_key(text));
    assert!(name.starts_with(key.0));
    assert_eq!(key.cmp(&other), other.cmp(&key).reverse());
    assert!(sidecar_name(name).ends_with(".json"));
});
