//! Ids of calls and recordings: UUIDs of version 7.
//!
//! Owns: how they are made and written. The id of a call or recording is derived from the recorder's own id,
//! so a catalogue that is made anew from the media has the ids that links and exports name.

use sha2::{Digest, Sha256};
use std::fmt;

/// A UUID of version 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(pub(crate) [u8; 16]);

impl Id {
    /// That of something which has these names and began at `time_us`.
    pub(crate) fn derived(time_us: i64, names: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for name in names {
            hash.update((name.len() as u64).to_be_bytes());
            hash.update(name);
        }
        let mut rest = [0; 10];
        rest.copy_from_slice(&hash.finalize()[..10]);
        Self::of(time_us, rest)
    }

    /// A new one.
    pub(crate) fn random(time_us: i64) -> Self {
        Self::of(time_us, random_octets())
    }

    fn of(time_us: i64, rest: [u8; 10]) -> Self {
        let time_ms = u64::try_from(time_us / 1000).unwrap_or(0);
        let mut octets = [0; 16];
        octets[..6].copy_from_slice(&time_ms.to_be_bytes()[2..]);
        octets[6..].copy_from_slice(&rest);
        octets[6] = octets[6] & 0x0F | 0x70;
        octets[8] = octets[8] & 0x3F | 0x80;
        Self(octets)
    }

    /// Reads one as it is written; nothing else is one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let groups = [8, 13, 18, 23];
        if text.len() != 36 || groups.iter().any(|at| text.as_bytes()[*at] != b'-') {
            return None;
        }
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        unhex(&digits)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = hex(&self.0);
        let groups = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        f.write_str(&groups.join("-"))
    }
}

/// Octets that nobody can guess.
pub(crate) fn random_octets<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    // Without the system's randomness neither tokens nor passwords can be made.
    if let Err(error) = getrandom::fill(&mut octets) {
        log::error!("no random numbers from the system: {error}");
        std::process::abort();
    }
    octets
}

/// Lower-case hexadecimal.
pub(crate) fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let pair = |octet: &u8| [octet >> 4, octet & 15].map(|digit| char::from(DIGITS[usize::from(digit)]));
    octets.iter().flat_map(pair).collect()
}

/// The octets of a hexadecimal text.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    if text.len() % 2 == 1 { None } else { text.as_bytes().chunks(2).map(pair).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_derived_id_is_a_uuid_of_version_7_and_the_same_each_time() {
        let id = Id::derived(1_772_352_900_250_999, &[b"phone", b"r1"]);
        assert_eq!(id, Id::derived(1_772_352_900_250_000, &[b"phone", b"r1"]));
        assert_ne!(id, Id::derived(1_772_352_900_250_000, &[b"phoner", b"1"]));
        let text = id.to_string();
        assert!(text.starts_with("019ca86a-87da-7") || text.as_bytes()[14] == b'7', "{text}");
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{text}");
        assert_eq!(Id::parse(&text), Some(id));
    }

    proptest! {
        #[test]
        fn any_text_is_an_id_or_none(text in "\\PC{0,40}", octets: [u8; 16]) {
            let _ = Id::parse(&text);
            prop_assert_eq!(Id::parse(&Id(octets).to_string()), Some(Id(octets)));
        }
    }
}
