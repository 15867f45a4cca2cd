//! An attempt to log in, from the way to the provider to the way back.
//!
//! Owns: the browser's cookie for this time, and the texts derived from it. The provider sees state, nonce
//! and challenge, and none of them tells the key; so nothing is stored here, and any node of the archive can
//! go on.

use crate::id::{hex, random_octets, unhex};
use crate::time::SECOND_US;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Longest stay at the provider.
pub(crate) const MAX_AGE_S: i64 = 600;
/// Longest path of the page at the end.
const MAX_NEXT_OCTETS: usize = 1024;

/// An attempt to log in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    key: [u8; 32],
    begun_s: i64,
    next: String,
}

impl Attempt {
    /// A new one, with the page `next` at its end.
    pub(crate) fn new(now_us: i64, next: &str) -> Self {
        let next = if next.len() <= MAX_NEXT_OCTETS { next } else { "/" };
        Self { key: random_octets(), begun_s: now_us.div_euclid(SECOND_US), next: next.into() }
    }

    /// The value of the cookie.
    pub(crate) fn cookie(&self) -> String {
        format!("{}.{}.{}", hex(&self.key), self.begun_s, hex(self.next.as_bytes()))
    }

    /// That of a cookie, unless it is too old.
    pub(crate) fn of_cookie(cookie: &str, now_us: i64) -> Option<Self> {
        let mut parts = cookie.splitn(3, '.');
        let key = unhex(parts.next()?)?.try_into().ok()?;
        let begun_s: i64 = parts.next()?.parse().ok()?;
        let next = String::from_utf8(unhex(parts.next()?)?).ok()?;
        let is_young = (0..=MAX_AGE_S).contains(&now_us.div_euclid(SECOND_US).checked_sub(begun_s)?);
        (is_young && next.len() <= MAX_NEXT_OCTETS).then_some(Self { key, begun_s, next })
    }

    /// The page at its end.
    pub(crate) fn next(&self) -> &str {
        &self.next
    }

    /// When it is too old, in microseconds.
    pub(crate) fn ends_us(&self) -> i64 {
        (self.begun_s + MAX_AGE_S + 1) * SECOND_US
    }

    /// The text that comes back with the browser.
    pub(crate) fn state(&self) -> String {
        self.derived("state")
    }

    /// The text that comes back in the token.
    pub(crate) fn nonce(&self) -> String {
        self.derived("nonce")
    }

    /// The secret that shows the provider that the same party began and asks for the token.
    pub(crate) fn verifier(&self) -> String {
        self.derived("verifier")
    }

    /// A text of 64 digits. Another time is another text: the age can't be changed.
    fn derived(&self, what: &str) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else { return String::new() };
        mac.update(format!("{what} {}", self.begun_s).as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NOW_US;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cookie_of_any_text_is_none_or_one_of_a_young_attempt(
            key in "[0-9a-g]{0,3}|[0-9a-f]{63,65}",
            age_s in prop_oneof![-700..700_i64, any::<i64>()],
            path in "[0-9a-f]{0,8}|\\PC{0,80}",
            now_s in 0..i64::MAX / SECOND_US,
        ) {
            let text = format!("{key}.{}.{path}", now_s.wrapping_sub(age_s));
            if let Some(attempt) = Attempt::of_cookie(&text, now_s * SECOND_US) {
                prop_assert!((0..=MAX_AGE_S).contains(&age_s) && key.len() == 64, "{}", text);
                // Digits of either case are read.
                prop_assert_eq!(attempt.cookie(), text.to_lowercase());
            }
            prop_assert!(Attempt::of_cookie(&path, now_s).is_none());
        }

        #[test]
        fn a_cookie_comes_back_with_any_path(next in "\\PC{0,300}", now_us in 0..i64::MAX / 2) {
            let attempt = Attempt::new(now_us, &next);
            prop_assert!(Attempt::of_cookie(&attempt.cookie(), now_us) == Some(attempt.clone()));
            prop_assert!(attempt.next() == next || next.len() > MAX_NEXT_OCTETS);
        }
    }

    #[test]
    fn an_attempt_comes_back_by_its_cookie_until_it_is_too_old() {
        let attempt = Attempt::new(NOW_US, "/calls/1?q=ä;");
        let back = |at_s: i64| Attempt::of_cookie(&attempt.cookie(), NOW_US + at_s * SECOND_US);
        for (at_s, is_there) in [(-1, false), (0, true), (MAX_AGE_S, true), (MAX_AGE_S + 1, false)] {
            assert_eq!(back(at_s) == Some(attempt.clone()), is_there, "{at_s}");
            assert_eq!(NOW_US + at_s * SECOND_US < attempt.ends_us() && at_s >= 0, is_there, "{at_s}");
        }
        for wrong in ["", "..", "00.1.2f", &attempt.cookie()[1..], &attempt.cookie().replace('.', "x")] {
            assert!(Attempt::of_cookie(wrong, NOW_US).is_none(), "{wrong}");
        }
        assert!(attempt.cookie().bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'.'));
        assert_eq!(Attempt::new(0, &"/".repeat(2000)).next(), "/");
    }

    #[test]
    fn state_nonce_and_verifier_are_each_another_text_and_change_with_key_and_time() {
        let attempt = Attempt::new(NOW_US, "/");
        let texts = |of: &Attempt| [of.state(), of.nonce(), of.verifier()];
        let later = Attempt { begun_s: attempt.begun_s + 1, ..attempt.clone() };
        let mut all: Vec<String> =
            [&attempt, &later, &Attempt::new(NOW_US, "/")].into_iter().flat_map(texts).collect();
        // A verifier of PKCE has 43 to 128 letters and digits.
        assert!(all.iter().all(|text| text.len() == 64 && unhex(text).is_some()), "{all:?}");
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 9);
        assert!(!attempt.cookie().contains(&attempt.state()));
    }
}
