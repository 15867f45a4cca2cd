//! Encrypted files and sidecars, made of any octets or changed at any place: what opens is a prefix of what was recorded.
#![no_main]

use libfuzzer_sys::{arbitrary, fuzz_target};
use media::codec::Codec;
use recfile::header::FileHeader;
use recfile::seal::age::{self, Header, Identity};
use recfile::seal::audio::{End, Opener, Sealer};
use recfile::seal::plain::PlainFile;
use recfile::sealed::Front;
use std::io::{Cursor, Read};
use std::sync::LazyLock;

/// Chunks that are looked at.
const MAX_CHUNKS: u32 = 1 << 16;

#[derive(arbitrary::Arbitrary, Debug)]
struct Found<'a> {
    sizes: [u8; 4],
    finished: bool,
    /// Where octets are exchanged for others.
    changes: Vec<(u16, u8)>,
    cut: u16,
    behind: &'a [u8],
    /// A file of its own.
    alone: &'a [u8],
}

static IDENTITY: LazyLock<[Identity; 1]> = LazyLock::new(|| [Identity::generate(&mut plain_octets).unwrap()]);

fn plain_octets(octets: &mut [u8]) -> std::io::Result<()> {
    octets.fill(7);
    Ok(())
}

fn look_at(file: &[u8]) -> Option<(Vec<u8>, End)> {
    let _ = Header::parse(file);
    let _ = age::open(file, &*IDENTITY);
    if let Ok(front) = Front::parse(file) {
        let mut read = |at: u64| {
            let at = usize::try_from(at).unwrap();
            Ok(file.get(at..at + 4).map_or([0; 4], |part| part.try_into().unwrap()))
        };
        if let Some(extent) = front.measure(file.len() as u64, MAX_CHUNKS, &mut read).unwrap() {
            assert_eq!(extent.end + extent.beyond, file.len() as u64);
            let _ = extent.facts(&front);
        }
    }
    if let Ok(mut plain) = PlainFile::open(Cursor::new(file), &*IDENTITY) {
        let _ = plain.read_to_end(&mut Vec::new());
        let _ = plain.check_end();
    }
    let mut opener = Opener::open(file, &*IDENTITY).ok()?;
    let mut audio = Vec::new();
    while let Some(chunk) = opener.next_chunk().unwrap() {
        audio.extend_from_slice(chunk);
    }
    opener.end().cloned().map(|end| (audio, end))
}

fuzz_target!(|found: Found<'_>| {
    let _ = look_at(found.alone);
    let header = FileHeader::new(Codec::Pcma, 20);
    let recipients = [IDENTITY[0].recipient()];
    let (mut sealer, mut file) = Sealer::begin(&header, &recipients, &mut plain_octets).unwrap();
    let mut audio = Vec::new();
    for size in found.sizes {
        audio.resize(audio.len() + usize::from(size), size);
        if size > 0 {
            sealer.fill(&vec![size; size.into()]);
            file.extend_from_slice(sealer.take(false).unwrap());
            sealer.clear();
        }
    }
    if found.finished {
        file.extend_from_slice(sealer.take(true).unwrap());
    }
    let whole = file.clone();
    for (at, octet) in &found.changes {
        let at = usize::from(*at) % file.len();
        file[at] = *octet;
    }
    file.truncate(file.len() - usize::from(found.cut) % file.len());
    file.extend_from_slice(found.behind);
    let Some((opened, end)) = look_at(&file) else { return };
    assert!(audio.starts_with(&opened), "only what was recorded opens");
    // The hints may say anything.
    let same = file.len() == whole.len() && file[..72] == whole[..72] && file[88..] == whole[88..];
    assert!(end != End::Whole || (same && found.finished), "what is not whole is known");
});
