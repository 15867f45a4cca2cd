//! The second factor: six digits of RFC 6238, as authenticator apps show them.
//!
//! Invariant: a code is good for its half minute and the ones beside it, and once: the caller notes its step.

use crate::id::random_octets;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Seconds of a code.
const STEP_S: i64 = 30;
/// Octets of a secret.
pub(crate) const SECRET_OCTETS: usize = 20;

/// A new secret.
pub(crate) fn new_secret() -> [u8; SECRET_OCTETS] {
    random_octets()
}

fn code(secret: &[u8], step: i64) -> Option<u32> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).ok()?;
    mac.update(&step.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let at = usize::from(hash.last()? & 15);
    let number = u32::from_be_bytes(hash.get(at..at + 4)?.try_into().ok()?);
    Some((number & 0x7FFF_FFFF) % 1_000_000)
}

/// The step that `said` is the code of, if it is one of now.
pub(crate) fn step(secret: &[u8], said: &str, now_us: i64) -> Option<i64> {
    let digits: String = said.chars().filter(|c| *c != ' ').collect();
    if digits.len() != 6 || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let said: u32 = digits.parse().ok()?;
    let now = now_us / 1_000_000 / STEP_S;
    (now - 1..=now + 1).find(|step| code(secret, *step) == Some(said))
}

/// The code that an app shows now.
#[cfg(test)]
pub(crate) fn shown(secret: &[u8], now_us: i64) -> Option<String> {
    code(secret, now_us / 1_000_000 / STEP_S).map(|code| format!("{code:06}"))
}

/// The `otpauth` URI for an authenticator app.
pub(crate) fn uri(secret: &[u8], account: &str) -> String {
    format!("otpauth://totp/recordarchive:{account}?secret={}&issuer=recordarchive", base32(secret))
}

fn base32(octets: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let (mut text, mut bits, mut count) = (String::new(), 0_u32, 0);
    for octet in octets {
        (bits, count) = (bits << 8 | u32::from(*octet), count + 8);
        while count >= 5 {
            count -= 5;
            text.push(char::from(LETTERS[(bits >> count & 31) as usize]));
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        text.push(char::from(LETTERS[(bits << (5 - count) & 31) as usize]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn a_code_is_that_of_the_rfc_and_good_for_a_minute_and_a_half() {
        for (at_s, said) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(step(SECRET, said, at_s * 1_000_000), Some(at_s / 30));
        }
        assert_eq!(step(SECRET, "287 082", 89_000_000), Some(1));
        for (said, at_s) in [("287082", 120), ("287083", 59), ("28708", 59), ("", 59), ("+87082", 59)] {
            assert_eq!(step(SECRET, said, at_s * 1_000_000), None, "{said}");
        }
    }

    #[test]
    fn an_app_reads_the_secret_as_base32() {
        assert!(uri(SECRET, "anna").contains("secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&"));
        assert_eq!((base32(b"f").as_str(), base32(b"foobar").as_str()), ("MY", "MZXW6YTBOI"));
    }
}
