//! Any files: they export as one WAV of exactly the length that is told, or say why not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recfile::export::{ExportCodec, export};
use recfile::g722::G722Decoder;
use recfile::reader::Reader;
use std::io::Cursor;
use std::ops::ControlFlow;

fuzz_target!(|input: (bool, Vec<&[u8]>)| {
    let (copy, files) = input;
    let codec = if copy { ExportCodec::Copy } else { ExportCodec::Pcm };
    let mut segments: Vec<_> =
        files.iter().filter_map(|file| Reader::open(Cursor::new(*file)).ok()).collect();
    let mut wav = Cursor::new(Vec::new());
    if let Ok(told) = export(&mut segments, &mut wav, codec, &mut |_| ControlFlow::Continue(())) {
        let octets = wav.get_ref();
        assert!(octets.starts_with(b"RIFF") && octets.get(8..12) == Some(b"WAVE"));
        let width = if copy { 1 } else { 2 };
        let audio = told.samples * width;
        assert!(
            octets.len() as u64 >= audio && octets.len() as u64 <= audio + 65,
            "{told:?} in {}",
            octets.len()
        );
    }
    // The decoder by itself: two samples an octet, whatever they are.
    let mut samples = Vec::new();
    let mut decoder = G722Decoder::default();
    for file in files {
        samples.clear();
        decoder.decode(file, &mut samples);
        assert_eq!(samples.len(), file.len() * 2);
    }
});
