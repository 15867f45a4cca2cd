//! Any sidecar: read into what writes and reads the same again, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recfile::sidecar::Sidecar;

fuzz_target!(|octets: &[u8]| {
    if let Ok(sidecar) = Sidecar::parse(octets) {
        assert_eq!(Sidecar::parse(&sidecar.to_json()).ok(), Some(sidecar));
    }
});
