//! Any octets as mount table: at most a mount a line, and a path leads to one of them or to none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::mounts::{is_reached, parse_mounts, resolve};

fuzz_target!(|table: &[u8]| {
    let mounts = parse_mounts(table);
    assert!(mounts.len() <= table.split(|octet| *octet == b'\n').count());
    for mount in &mounts {
        let _ = (is_reached(&mounts, mount), resolve(&mounts, &mount.part));
    }
});
