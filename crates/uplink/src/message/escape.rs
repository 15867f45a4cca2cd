//! Percent-encoding of values.

use std::borrow::Cow;

/// Appends `value`, of which at most `max_octets` once escaped: `%`, `&`, `=` and control characters are.
pub(super) fn push_escaped(text: &mut String, value: &str, max_octets: usize) {
    let limit = text.len() + max_octets;
    let mut utf8 = [0; 4];
    for character in value.chars() {
        let octets = character.encode_utf8(&mut utf8);
        let escape = matches!(character, '%' | '&' | '=') || character.is_control();
        if text.len() + octets.len() * if escape { 3 } else { 1 } > limit {
            return;
        }
        if escape {
            for octet in octets.bytes() {
                text.push('%');
                text.push(hex_digit(octet >> 4));
                text.push(hex_digit(octet & 0xF));
            }
        } else {
            text.push(character);
        }
    }
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

/// Text of a value: `%XX` is decoded, `+` is a plus, and octets that are not UTF-8 become U+FFFD.
pub(super) fn unescape(raw: &[u8]) -> String {
    let octets = if raw.contains(&b'%') { Cow::Owned(percent_decoded(raw)) } else { Cow::Borrowed(raw) };
    String::from_utf8_lossy(&octets).into_owned()
}

fn percent_decoded(raw: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&first, tail)) = rest.split_first() {
        match escaped_octet(rest) {
            Some(octet) => {
                octets.push(octet);
                rest = &rest[3..];
            }
            None => {
                octets.push(first);
                rest = tail;
            }
        }
    }
    octets
}

fn escaped_octet(text: &[u8]) -> Option<u8> {
    let &[b'%', high, low, ..] = text else { return None };
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}
