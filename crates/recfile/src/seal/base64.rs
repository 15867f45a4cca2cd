//! Base64 (RFC 4648, section 4), as keys and headers are written in. Never: accepts text that is not
//! canonical.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Without `=` at the end, as age writes it.
#[must_use]
pub fn encode(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..=group.len() {
            let six = bits >> (18 - 6 * place) & 63;
            text.push(char::from(ALPHABET[six as usize]));
        }
    }
    text
}

/// With `=` at the end, as PEM and JSON have it.
#[must_use]
pub fn encode_padded(octets: &[u8]) -> String {
    let mut text = encode(octets);
    while text.len() % 4 != 0 {
        text.push('=');
    }
    text
}

/// The octets of a text without `=`; `None` if it is not exactly an output of [`encode`].
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if text.len() % 4 == 1 {
        return None;
    }
    let mut octets = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for &letter in group {
            bits = bits << 6 | u32::from(value_of(letter)?);
        }
        bits <<= 6 * (4 - group.len());
        let [_, all @ ..] = bits.to_be_bytes();
        let (kept, rest) = all.split_at(group.len() - 1);
        if rest.iter().any(|&octet| octet != 0) {
            return None;
        }
        octets.extend_from_slice(kept);
    }
    Some(octets)
}

/// The octets of a text with `=`; `None` if it is not exactly an output of [`encode_padded`].
#[must_use]
pub fn decode_padded(text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    let padded = text.len() % 4 == 0 && text.len() - bare.len() == (4 - bare.len() % 4) % 4;
    if padded { decode(bare) } else { None }
}

fn value_of(letter: u8) -> Option<u8> {
    Some(match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_vectors_of_rfc_4648_come_out() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, text) in pairs {
            assert_eq!(encode_padded(plain.as_bytes()), text);
            assert_eq!(decode_padded(text).as_deref(), Some(plain.as_bytes()));
        }
    }

    #[test]
    fn a_text_that_is_not_canonical_is_none() {
        for text in ["Zh", "Zm9", "Z", "Zm9v\n", "Zg==", "Zm-_"] {
            assert_eq!(decode(text), None, "{text}");
        }
        for text in ["Zg", "Zg=", "Zg===", "=", "====", "Zm9v===="] {
            assert_eq!(decode_padded(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_come_back(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode(&encode(&octets)), Some(octets.clone()));
            prop_assert_eq!(decode_padded(&encode_padded(&octets)), Some(octets));
        }

        #[test]
        fn any_text_is_octets_in_one_spelling_or_none(text in "[A-Za-z0-9+/=]{0,40}") {
            if let Some(octets) = decode(&text) {
                prop_assert_eq!(encode(&octets), text);
            }
        }
    }
}
