//! The search language: words and `key:value` in one line.
//!
//! Owns: the meaning of terms, their limits, and the errors of a line. Never: SQL, or permissions.

use crate::number::digits;
use crate::site::Site;
use crate::time::{day_begins, day_ends, parse as parse_time};
use recfile::call::Direction;

/// Longest line.
pub(crate) const MAX_QUERY_OCTETS: usize = 512;
/// Words and keys of a line.
pub(crate) const MAX_TERMS: usize = 16;
/// Digits that make a word a number.
const MIN_NUMBER_DIGITS: usize = 3;
/// Characters that a word needs to be looked for.
const MIN_WORD_CHARS: usize = 2;

/// Something that a call has, or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Has {
    /// A note.
    Note,
    /// Silence in place of lost audio.
    Gap,
    /// No audio at all.
    Empty,
    /// An event of another system.
    Event,
    /// A hold that was not released.
    Hold,
}

/// The terms of a search; all have to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    /// Digits that a number of the call ends or begins with.
    pub(crate) numbers: Vec<String>,
    /// Beginnings of words in names, notes and tags; in lower case.
    pub(crate) words: Vec<String>,
    /// The call began at this time or later, in microseconds.
    pub(crate) from_us: Option<i64>,
    /// It began before.
    pub(crate) to_us: Option<i64>,
    /// The direction: who called.
    pub(crate) direction: Option<Direction>,
    /// It takes longer.
    pub(crate) longer_ms: Option<i64>,
    /// It takes less time.
    pub(crate) shorter_ms: Option<i64>,
    /// The local number.
    pub(crate) extension: Option<String>,
    /// The phone.
    pub(crate) device: Option<String>,
    /// The site.
    pub(crate) site: Option<String>,
    /// Tags.
    pub(crate) tags: Vec<String>,
    /// The things that it has.
    pub(crate) has: Vec<Has>,
    /// The reason of its end.
    pub(crate) reason: Option<String>,
    /// Codec of one of its recordings.
    pub(crate) codec: Option<String>,
}

/// The keys there are.
const KEYS: [&str; 11] =
    ["from", "to", "dir", "dur", "ext", "device", "site", "tag", "has", "reason", "codec"];

impl Query {
    /// Reads a line. Days and numbers are those of `site`.
    ///
    /// # Errors
    /// A text for the user.
    pub(crate) fn parse(line: &str, site: &Site) -> Result<Self, String> {
        if line.len() > MAX_QUERY_OCTETS {
            return Err(format!("the search is longer than {MAX_QUERY_OCTETS} octets"));
        }
        let mut query = Self::default();
        let terms = terms(line);
        if terms.len() > MAX_TERMS {
            return Err(format!("the search has more than {MAX_TERMS} words"));
        }
        for term in terms {
            match term.split_once(':') {
                Some((key, value)) if KEYS.contains(&key) => query.key(key, value, site)?,
                // A SIP address is a word.
                Some((key, _)) if !["sip", "sips", "tel"].contains(&key) => {
                    let advice = settings::nearest(key, KEYS.into_iter()).map_or_else(
                        || format!("there are {}", KEYS.join(": ") + ":"),
                        |nearest| format!("did you mean {nearest}:?"),
                    );
                    return Err(format!("{key}: is no key of a search; {advice}"));
                }
                _ => query.word(&term, site)?,
            }
        }
        Ok(query)
    }

    fn word(&mut self, term: &str, site: &Site) -> Result<(), String> {
        let is_number = term.chars().all(|c| c.is_ascii_digit() || "+-/(). ".contains(c));
        let number = digits(term, site.country_code.as_deref());
        if is_number && number.len() >= MIN_NUMBER_DIGITS {
            self.numbers.push(number);
            return Ok(());
        }
        let mut found = false;
        for word in words(term) {
            if word.chars().count() < MIN_WORD_CHARS {
                continue;
            }
            found = true;
            self.words.push(word);
        }
        if found {
            Ok(())
        } else {
            Err(format!(
                "{term:?} is too short: a word has {MIN_WORD_CHARS} letters, a number {MIN_NUMBER_DIGITS} digits"
            ))
        }
    }

    fn key(&mut self, key: &str, value: &str, site: &Site) -> Result<(), String> {
        let wrong = |wanted: &str| Err(format!("{key}:{value} does not fit; write {key}:{wanted}"));
        match key {
            "from" => match day_begins(value, &site.zone).or_else(|| parse_time(value)) {
                Some(at) => self.from_us = Some(at),
                None => return wrong("2026-11-01"),
            },
            "to" => match day_ends(value, &site.zone).or_else(|| parse_time(value)) {
                Some(at) => self.to_us = Some(at),
                None => return wrong("2026-11-30, a day that is included"),
            },
            "dir" => match Direction::from_name(value) {
                Some(direction) => self.direction = Some(direction),
                None => return wrong("in or dir:out"),
            },
            "dur" => match duration(value) {
                Some((true, ms)) => self.longer_ms = Some(ms),
                Some((false, ms)) => self.shorter_ms = Some(ms),
                None => return wrong(">60 or dur:<5, in seconds"),
            },
            "has" => match value {
                "note" => self.has.push(Has::Note),
                "gap" => self.has.push(Has::Gap),
                "empty" => self.has.push(Has::Empty),
                "event" => self.has.push(Has::Event),
                "hold" => self.has.push(Has::Hold),
                _ => return wrong("note, has:gap, has:empty, has:event or has:hold"),
            },
            _ if value.is_empty() => return wrong("WORD"),
            "ext" => self.extension = Some(value.to_owned()),
            "device" => self.device = Some(value.to_owned()),
            "site" => self.site = Some(value.to_owned()),
            "tag" => self.tags.push(value.to_lowercase()),
            "reason" => self.reason = Some(value.to_owned()),
            _ => self.codec = Some(value.to_uppercase()),
        }
        Ok(())
    }
}

/// `>60`, `<5`, `>=60` or `60` (longer than): whether it is longer, and milliseconds.
fn duration(value: &str) -> Option<(bool, i64)> {
    let (longer, rest) = match value.strip_prefix('<') {
        Some(rest) => (false, rest),
        None => (true, value.strip_prefix('>').unwrap_or(value)),
    };
    let (inclusive, seconds) = rest.strip_prefix('=').map_or((false, rest), |rest| (true, rest));
    let ms = seconds.parse::<u32>().ok().map(|seconds| i64::from(seconds) * 1000)?;
    Some((longer, if inclusive { ms + if longer { -1 } else { 1 } } else { ms }))
}

/// The terms of a line. A number with spaces in it is one, and so is text in quotes.
fn terms(line: &str) -> Vec<String> {
    let mut terms: Vec<String> = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let mut term = String::new();
        let mut quoted = false;
        let mut end = rest.len();
        for (at, c) in rest.char_indices() {
            match c {
                '"' => quoted = !quoted,
                c if c.is_whitespace() && !quoted => {
                    end = at;
                    break;
                }
                c => term.push(c),
            }
        }
        rest = rest[end..].trim_start();
        // "+49 30 1234" is a number in parts: groups of digits after a plus belong to it.
        let is_group = term.chars().all(|c| c.is_ascii_digit() || "-/().".contains(c)) && !term.is_empty();
        match terms.last_mut() {
            Some(last) if is_group && last.starts_with('+') => last.push_str(&term),
            _ if term.is_empty() => {}
            _ => terms.push(term),
        }
    }
    terms
}

/// The words of a text as they are indexed and looked for.
pub(crate) fn words(text: &str) -> Vec<String> {
    let split = text.split(|c: char| !c.is_alphanumeric());
    split.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// A search with its place in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Search {
    /// The query.
    pub(crate) query: Query,
    /// Calls that began at this time or later, in microseconds.
    pub(crate) from_us: i64,
    /// And before.
    pub(crate) to_us: i64,
    /// Behind the call with this key.
    pub(crate) behind: Option<i64>,
    /// Calls of a page.
    pub(crate) limit: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Query, String> {
        Query::parse(line, &Site { zone: jiff::tz::TimeZone::UTC, ..Site::default() })
    }

    #[test]
    fn words_numbers_and_keys_stand_in_any_order() {
        let query = parse("4711 dir:in Müller dur:>60 tag:Complaint ext:201 has:gap codec:pcma").unwrap();
        assert_eq!((query.numbers, query.words), (vec!["4711".to_owned()], vec!["müller".to_owned()]));
        assert_eq!((query.direction, query.longer_ms), (Some(Direction::In), Some(60_000)));
        assert_eq!((query.tags, query.extension), (vec!["complaint".to_owned()], Some("201".to_owned())));
        assert_eq!((query.has, query.codec), (vec![Has::Gap], Some("PCMA".to_owned())));
        let query = parse("from:2026-11-01 to:2026-11-01").unwrap();
        assert_eq!(query.to_us.unwrap() - query.from_us.unwrap(), crate::time::DAY_US);
    }

    #[test]
    fn a_number_may_have_plus_spaces_and_dashes() {
        for line in ["+49 30 1234-567", "+49301234567", "0049301234567", "\"+49 (30) 1234567\""] {
            let query = parse(line).unwrap();
            assert_eq!(query.numbers, ["49301234567"], "{line}");
        }
        assert_eq!(parse("4711 201").unwrap().numbers, ["4711", "201"]);
    }

    #[test]
    fn an_error_of_a_search_is_told_with_its_remedy() {
        for (line, told) in [
            ("fron:2026-11-01", "did you mean from:?"),
            ("from:soon", "write from:2026-11-01"),
            ("dir:up", "write dir:in"),
            ("dur:x", "dur:>60"),
            ("1", "too short"),
            ("has:cheese", "has:gap"),
            ("ext:", "write ext:WORD"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(told), "{line}: {error}");
        }
        assert!(parse(&"ab ".repeat(17)).unwrap_err().contains("16 words"));
        assert!(parse(&"a".repeat(600)).unwrap_err().contains("512"));
    }

    #[test]
    fn a_number_at_home_is_the_one_that_is_kept_where_the_country_is_known() {
        let site = Site { country_code: Some("49".into()), ..Site::default() };
        assert_eq!(Query::parse("030/1234567", &site).unwrap().numbers, ["49301234567"]);
        assert_eq!(Query::parse("0301", &site).unwrap().numbers, ["0301"]);
    }

    proptest! {
        #[test]
        fn any_line_is_a_search_or_an_error(line in "\\PC{0,80}") {
            let _ = parse(&line);
        }
    }
}
