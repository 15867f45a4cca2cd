//! Any file: every frame that it is said to hold can be read, and it exports as PCM or says why not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recfile::reader::Reader;
use std::io::Cursor;

fuzz_target!(|octets: &[u8]| {
    let Ok(mut reader) = Reader::open(Cursor::new(octets)) else { return };
    let mut payload = vec![0; reader.facts().frame_octets as usize];
    for _ in 0..reader.facts().frames {
        assert_eq!(reader.next_frame(&mut payload).unwrap(), Some(payload.len()));
    }
    assert_eq!(reader.next_frame(&mut payload).unwrap(), None);
});
