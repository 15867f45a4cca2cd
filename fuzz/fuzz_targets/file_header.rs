//! Any beginning of a file: a plausible header that survives writing, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recfile::format::Format;
use recfile::header::FileHeader;

fuzz_target!(|octets: &[u8]| {
    let Ok((header, _)) = FileHeader::parse_any_order(octets) else { return };
    assert_eq!(FileHeader::parse(&header.encode()), Ok(header));
    let format = Format::detect(octets).expect("its header was read");
    assert!(format.frame_octets() > 0 && format.facts(u64::MAX).frames > 0);
});
