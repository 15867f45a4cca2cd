//! A stream of a peer: how it is cut into pieces makes no difference, and memory stays bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use phone_recorder::time::Mono;
use phone_recorder::uplink::framing::{FrameError, Framer};
use std::time::Duration;

/// Everything that the framer makes of `pieces`, which all come at once.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut framer, mut found) = (Framer::new(), Vec::new());
    let (start, much_later) = (Mono::default(), Mono::new(Duration::from_secs(9)));
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
    let in_pieces = read(pieces.into_iter().chain(std::iter::once(rest)));
    assert_eq!(in_pieces, read(octets.chunks(1)));
});
