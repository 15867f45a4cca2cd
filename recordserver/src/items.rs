//! The items of a recording whose audio comes by TCP: which one is next, and when each arrived at the phone.
//!
//! Pure. Owns: the numbers, and the server's time of an item. Never: the audio. Invariants: each item is
//! taken once; times never go back, and are never later than now.

use media::time::Mono;
use std::time::Duration;
use uplink::message::extension::Asked;

/// An item that is older when the phone asks counts as so old.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// Whether an item is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is the next one.
    Next,
    /// It was taken before.
    Again,
    /// One before it is missing.
    TooEarly,
}

/// The items of one recording.
#[derive(Clone, Debug)]
pub struct Items {
    next: u64,
    /// When the phone asked, and how long it had been recording then.
    asked: Mono,
    elapsed_ms: u64,
    newest: Mono,
    /// When the present pause began, as the phone counts time.
    paused_ms: Option<u32>,
}

impl Items {
    /// The first one is `next`, of a phone that asks like this now.
    #[must_use]
    pub fn new(asked: &Asked, next: u64, now: Mono) -> Self {
        Self { next, asked: now, elapsed_ms: asked.elapsed_ms, newest: Mono::default(), paused_ms: None }
    }

    /// The one that comes next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// What to do with an item of this number. It counts as taken if it is the next one.
    pub fn take(&mut self, number: u64) -> Turn {
        match number.cmp(&self.next) {
            std::cmp::Ordering::Less => Turn::Again,
            std::cmp::Ordering::Greater => Turn::TooEarly,
            std::cmp::Ordering::Equal => {
                self.next = self.next.saturating_add(1);
                Turn::Next
            }
        }
    }

    /// The server's time of an item that arrived at the phone `at_ms` after the begin of the recording.
    pub fn arrival(&mut self, at_ms: u32, now: Mono) -> Mono {
        // Items count milliseconds modulo 2^32: what is nearer counts.
        let elapsed_ms = u32::try_from(self.elapsed_ms & u64::from(u32::MAX)).unwrap_or_default();
        let (ahead, behind) = (at_ms.wrapping_sub(elapsed_ms), elapsed_ms.wrapping_sub(at_ms));
        let told = if ahead <= behind {
            self.asked + Duration::from_millis(ahead.into())
        } else {
            self.asked.minus(MAX_AGE.min(Duration::from_millis(behind.into())))
        };
        self.newest = told.min(now).max(self.newest);
        self.newest
    }

    /// When the recording began, as far as items tell.
    #[must_use]
    pub fn begun(&self) -> Mono {
        self.asked.minus(MAX_AGE.min(Duration::from_millis(self.elapsed_ms)))
    }

    /// A pause begins.
    pub fn pause(&mut self, at_ms: u32) {
        self.paused_ms.get_or_insert(at_ms);
    }

    /// A pause ends; gives its length.
    pub fn resume(&mut self, at_ms: u32) -> Option<Duration> {
        let began = self.paused_ms.take()?;
        let (length, against) = (at_ms.wrapping_sub(began), began.wrapping_sub(at_ms));
        Some(Duration::from_millis(if length <= against { length.into() } else { 0 }))
    }

    /// The recording ends `now`: the length of a pause that goes on.
    pub fn end(&mut self, now: Mono) -> Option<Duration> {
        let began = self.paused_ms.take()?;
        let began = self.arrival(began, now);
        Some(now.since(began))
    }

    /// Whether a pause goes on.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused_ms.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono::new(Duration::from_millis(ms))
    }

    fn items(elapsed_ms: u64, now_ms: u64) -> Items {
        Items::new(&Asked { from: 0, elapsed_ms, resume: None }, 0, at(now_ms))
    }

    #[test]
    fn each_item_is_taken_once_and_none_is_left_out() {
        let mut items = items(0, 0);
        assert_eq!([0, 1, 0, 1, 2].map(|number| items.take(number)), {
            use Turn::{Again, Next};
            [Next, Next, Again, Again, Next]
        });
        assert_eq!((items.take(4), items.next()), (Turn::TooEarly, 3));
    }

    #[test]
    fn an_items_time_is_the_phones_counted_from_the_begin_of_the_recording() {
        let mut items = items(2000, 10_000);
        assert_eq!(items.begun(), at(8000));
        assert_eq!([0, 20, 2000].map(|ms| items.arrival(ms, at(10_000))), [8000, 8020, 10_000].map(at));
        assert_eq!(items.arrival(2500, at(10_700)), at(10_500));
    }

    #[test]
    fn times_are_never_later_than_now_and_never_go_back() {
        let mut items = items(0, 10_000);
        assert_eq!(items.arrival(1 << 31, at(10_100)), at(10_100));
        assert_eq!(items.arrival(50, at(10_200)), at(10_100));
    }

    #[test]
    fn times_go_on_when_the_phones_count_begins_anew_after_49_days() {
        let elapsed_ms = u64::from(u32::MAX);
        let mut items = items(elapsed_ms, 10_000);
        assert_eq!(items.arrival(u32::MAX - 20, at(20_000)), at(9980));
        assert_eq!(items.arrival(19, at(20_000)), at(10_020));
        items.pause(u32::MAX);
        assert_eq!(items.resume(999), Some(Duration::from_secs(1)));
        items.pause(5000);
        assert_eq!(items.resume(4000), Some(Duration::ZERO));
    }

    #[test]
    fn an_age_over_an_hour_counts_as_an_hour_and_later_items_are_at_their_time() {
        let (hour, day) = (3_600_000, 86_400_000);
        let mut items = items(day, 2 * hour);
        assert_eq!(items.arrival(0, at(2 * hour)), at(hour));
        assert_eq!(items.arrival(u32::try_from(day - 1000).unwrap(), at(2 * hour)), at(2 * hour - 1000));
        let mut early = self::items(day, 1000);
        assert_eq!(early.arrival(0, at(1000)), at(0), "the server's clock began later");
    }

    #[test]
    fn a_pause_has_the_length_that_the_phone_says() {
        let mut items = items(0, 0);
        assert_eq!(items.resume(10), None);
        items.pause(1000);
        assert!(items.is_paused());
        assert_eq!(items.resume(3500), Some(Duration::from_millis(2500)));
        items.pause(4000);
        assert_eq!(items.end(at(5000)), Some(Duration::from_secs(1)));
        assert!(!items.is_paused());
    }
}
