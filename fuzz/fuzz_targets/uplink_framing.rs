//! A stream of a peer: how it is cut into pieces makes no difference, and memory stays bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media::time::Mono;
use std::time::Duration;
use uplink::framing::{FrameError, Framer};

/// A message that silence has ended.
const GUESSED: &[u8] = b"cmd=RecordStartResponse&id=7&result=success&reason=&server=&port=40";

/// Everything that the framer makes of `pieces`, which all come at once.
fn read<'a>(mut framer: Framer, start: Mono, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut found = Vec::new();
    let much_later = start + Duration::from_secs(9);
    let mut take = |framer: &mut Framer, now| {
        loop {
            match framer.next(now) {
                Ok(None) => return true,
                Err(FrameError::TooLong) => return false,
                other => found.push(format!("{other:?}")),
            }
        }
    };
    for piece in pieces {
        framer.push(piece, start);
        if !take(&mut framer, start) {
            return Vec::new();
        }
    }
    if take(&mut framer, much_later) { found } else { Vec::new() }
}

fuzz_target!(|stream: (Vec<u8>, Vec<u8>)| {
    let (octets, cuts) = stream;
    let mut rest = &octets[..];
    let pieces = cuts.iter().map(|cut| {
        let (piece, after) = rest.split_at(rest.len().min(usize::from(*cut)));
        rest = after;
        piece
    });
    let pieces: Vec<&[u8]> = pieces.collect();
    let start = Mono::default();
    let in_pieces = read(Framer::new(), start, pieces.into_iter().chain(std::iter::once(rest)));
    assert_eq!(in_pieces, read(Framer::new(), start, octets.chunks(1)));

    let (mut framer, later) = (Framer::new(), Mono::new(Duration::from_secs(1)));
    framer.push(GUESSED, start);
    assert!(framer.next(later).is_ok_and(|message| message.is_some()) && framer.may_grow());
    read(framer, later, octets.chunks(1));
});
