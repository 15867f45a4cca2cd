//! Calls that nobody made: a year of an organisation, the same for the same seed.
//!
//! Owns: the distribution of numbers, names, lengths and times. Pure. It makes the same values as a look at a
//! recorder's files, so its catalogue equals one made by intake.

use crate::catalogue::model::{Found, Party, Place};
use crate::number::digits;
use crate::time::{DAY_US, SECOND_US};
use media::time::Wall;
use recfile::call::Direction;
use recfile::name::record_file_name;

/// The start of the year: 2026-01-01, UTC.
pub(super) const BEGIN_US: i64 = 1_767_225_600 * SECOND_US;
/// Its length.
pub(super) const SPAN_US: i64 = 365 * DAY_US;
/// Calls of a phone in the year.
const CALLS_OF_PHONE: u64 = 10_000;
/// The first extension.
const FIRST_EXTENSION: u64 = 2001;
/// Number of calls in all for each caller who calls again.
const CALLS_OF_REGULAR: u64 = 20;

const SYLLABLES: [&str; 24] = [
    "ba", "bel", "cor", "da", "dor", "el", "fa", "gan", "ha", "il", "jo", "ka", "lin", "mar", "na", "or",
    "pe", "ril", "san", "ta", "ul", "ven", "wi", "zo",
];

/// A sequence of numbers that look like chance (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// That of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`, which is not zero.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        let at = usize::try_from(self.below(all.len() as u64)).unwrap_or(0);
        all.get(at).copied().unwrap_or_default()
    }
}

/// A year of calls, the earliest first.
#[derive(Clone, Debug)]
pub(crate) struct Year {
    calls: u64,
    made: u64,
    chance: Chance,
    seed: u64,
}

impl Year {
    /// `calls` of them.
    pub(crate) fn new(calls: u64, seed: u64) -> Self {
        Self { calls, made: 0, chance: Chance::new(seed), seed }
    }

    /// Phones that they are of.
    pub(super) fn phones(&self) -> u64 {
        (self.calls / CALLS_OF_PHONE).max(1)
    }

    /// The extension of a phone.
    pub(super) fn extension(phone: u64) -> String {
        (FIRST_EXTENSION + phone).to_string()
    }

    /// A caller of these calls, and whether they call again.
    pub(super) fn caller(&self, chance: &mut Chance) -> Party {
        if chance.below(2) == 0 {
            return self.regular(chance.below((self.calls / CALLS_OF_REGULAR).max(1)));
        }
        party(chance.below(1 << 40), false)
    }

    fn regular(&self, number: u64) -> Party {
        let mut chance = Chance::new(self.seed ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        let named = chance.below(4) > 0;
        party(chance.next(), named)
    }
}

fn party(entropy: u64, named: bool) -> Party {
    let mut chance = Chance::new(entropy);
    let area =
        chance.one_of(&["30", "40", "69", "89", "211", "221", "341", "511", "711", "911", "171", "160"]);
    let number = format!("+49{area}{}", 1_000_000 + chance.below(9_000_000));
    let name = if named { format!("{} {}", word(&mut chance), word(&mut chance)) } else { String::new() };
    Party { digits: digits(&number, None), number, name }
}

/// A name of two or three syllables.
pub(super) fn word(chance: &mut Chance) -> String {
    let mut name: String = (0..2 + chance.below(2)).map(|_| chance.one_of(&SYLLABLES)).collect();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    name
}

impl Iterator for Year {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        if self.made == self.calls {
            return None;
        }
        let pace_us = SPAN_US / i64::try_from(self.calls).unwrap_or(i64::MAX);
        let begin_us = BEGIN_US + i64::try_from(self.made).unwrap_or(0) * pace_us;
        self.made += 1;
        let mut chance = self.chance.clone();
        let phone = chance.below(self.phones());
        let started_us = begin_us / 1000 * 1000;
        // Most calls are short, some are long, a few have nobody.
        let duration_ms = match chance.below(100) {
            0 => 0,
            1..=60 => 5_000 + chance.below(120_000),
            61..=95 => 60_000 + chance.below(600_000),
            _ => 600_000 + chance.below(2_400_000),
        };
        let duration_ms = i64::try_from(duration_ms / 20 * 20).unwrap_or(0);
        let audio_octets = duration_ms * 8;
        let device = format!("0c:11:05:{:02x}:{:02x}:{:02x}", phone >> 16, phone >> 8 & 255, phone & 255);
        let day = crate::time::rfc3339(started_us).split('T').next().unwrap_or_default().to_owned();
        let mut sha256 = [0; 32];
        sha256.chunks_mut(8).for_each(|eight| eight.copy_from_slice(&chance.next().to_be_bytes()));
        let extension = Self::extension(phone);
        let found = Found {
            place: Place {
                root: "/var/lib/recordserver".into(),
                folder: format!("{device}/{day}"),
                name: record_file_name(Wall { unix_ms: started_us / 1000, utc_offset_s: 0 }, 1),
                octets: audio_octets + 76,
                modified_ms: started_us / 1000 + duration_ms,
                sidecar_ms: started_us / 1000 + duration_ms + 1,
            },
            device,
            site: "main".into(),
            source: "uplink",
            recording: format!("{:016x}", chance.next()),
            segment: 1,
            external_id: String::new(),
            direction: Some(if chance.below(2) == 0 { Direction::In } else { Direction::Out }),
            remote: self.caller(&mut chance),
            local: Party { digits: extension.clone(), number: extension, name: String::new() },
            codec: chance.one_of(&["PCMA", "PCMA", "PCMA", "PCMU", "G722"]).into(),
            started_us,
            duration_ms,
            audio_octets,
            is_plain: true,
            sha256,
            gap_ms: if chance.below(50) == 0 {
                20 + i64::try_from(chance.below(2000)).unwrap_or(0)
            } else {
                0
            },
            lost: 0,
            end_reason: "stopped".into(),
            encrypted: false,
            holds: Vec::new(),
        };
        self.chance = chance;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_is_in_order_and_the_same_for_the_same_seed() {
        let year: Vec<Found> = Year::new(3000, 7).collect();
        assert_eq!(year.len(), 3000);
        assert!(year.is_sorted_by_key(|call| call.started_us));
        assert!(year.iter().all(|call| (BEGIN_US..BEGIN_US + SPAN_US).contains(&call.started_us)));
        assert!(Year::new(3000, 7).eq(year.iter().cloned()));
        assert!(!Year::new(3000, 8).eq(year));
    }
}
