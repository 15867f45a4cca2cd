//! Listening: the intervals of a recording that were sent to a listener, joined into one audit entry.
//!
//! Owns: the end of a listening, and the joining of its intervals. The start is an audit entry of its own,
//! before any audio. This entry comes when nothing was sent for a while. Invariant: memory is bounded; a
//! listening that has no room is logged early.

use super::audit::Entry;
use crate::id::Id;
use crate::time::SECOND_US;
use serde_json::json;
use std::collections::HashMap;

/// A listening ends when nothing was sent for this time.
pub(crate) const IDLE_US: i64 = 300 * SECOND_US;
/// Listenings at once.
const MAX_LISTENINGS: usize = 10_000;
/// Intervals of one. Seeking about more often, the nearest ones are joined.
const MAX_INTERVALS: usize = 200;

/// Somebody, and a recording.
pub(crate) type Key = (Id, Id);

#[derive(Debug)]
struct Listening {
    actor: String,
    call: String,
    /// From and to in milliseconds, in order, apart from each other.
    intervals: Vec<(u64, u64)>,
    last_us: i64,
}

/// All listenings that go on, and entries of those that ended.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    going_on: HashMap<Key, Listening>,
    ended: Vec<Entry>,
}

impl Heard {
    /// Notes that a part of a recording was sent to `actor`.
    pub(crate) fn sent(&mut self, key: Key, actor: &str, call: &str, part_ms: (u64, u64), now_us: i64) {
        if part_ms.0 >= part_ms.1 {
            return;
        }
        if self.going_on.len() >= MAX_LISTENINGS && !self.going_on.contains_key(&key) {
            let oldest = self.going_on.iter().min_by_key(|(_, listening)| listening.last_us);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.end(oldest);
            }
        }
        let listening = self.going_on.entry(key).or_insert_with(|| Listening {
            actor: actor.into(),
            call: call.into(),
            intervals: Vec::new(),
            last_us: now_us,
        });
        listening.last_us = now_us;
        join(&mut listening.intervals, part_ms);
    }

    fn end(&mut self, key: Key) {
        if let Some(listening) = self.going_on.remove(&key) {
            let said = json!({"call": listening.call, "heard_ms": listening.intervals});
            // One that can't be written for long is lost; that somebody listened stands in the log already.
            if self.ended.len() < MAX_LISTENINGS {
                self.ended.push(Entry::new(listening.last_us, &listening.actor, "heard", key.1).with(&said));
            }
        }
    }

    /// The entries of listenings that are over; with `all`, of every one. [`Self::put_back`] takes those that
    /// can't be written.
    pub(crate) fn over(&mut self, now_us: i64, all: bool) -> Vec<Entry> {
        // A clock that was set back ends all: better twice than never.
        let is_over =
            |listening: &Listening| all || !(0..IDLE_US).contains(&now_us.saturating_sub(listening.last_us));
        let mut over: Vec<Key> =
            self.going_on.iter().filter(|(_, listening)| is_over(listening)).map(|(key, _)| *key).collect();
        over.sort_unstable();
        for key in over {
            self.end(key);
        }
        std::mem::take(&mut self.ended)
    }

    /// Keeps entries for the next time.
    pub(crate) fn put_back(&mut self, mut entries: Vec<Entry>) {
        entries.append(&mut self.ended);
        entries.truncate(MAX_LISTENINGS);
        self.ended = entries;
    }
}

/// Adds an interval to those that are there.
fn join(intervals: &mut Vec<(u64, u64)>, (mut from, mut to): (u64, u64)) {
    intervals.retain(|known| {
        let touches = known.0 <= to && from <= known.1;
        if touches {
            (from, to) = (from.min(known.0), to.max(known.1));
        }
        !touches
    });
    let at = intervals.partition_point(|known| known.0 < from);
    intervals.insert(at, (from, to));
    if intervals.len() > MAX_INTERVALS {
        let gap = |at: &usize| intervals[at + 1].0 - intervals[*at].1;
        if let Some(nearest) = (0..intervals.len() - 1).min_by_key(gap) {
            intervals[nearest].1 = intervals[nearest + 1].1;
            intervals.remove(nearest + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Key = (Id([1; 16]), Id([2; 16]));

    #[test]
    fn a_listening_is_one_entry_with_joined_intervals_when_nothing_was_sent_for_a_while() {
        let mut heard = Heard::default();
        for (from, to) in [(0, 5000), (60_000, 61_000), (5000, 8000), (7000, 7000)] {
            heard.sent(KEY, "anna", "call", (from, to), 1_000_000);
        }
        assert_eq!(heard.over(IDLE_US, false), [], "it goes on");
        let over = heard.over(1_000_000 + IDLE_US, false);
        assert_eq!((over.len(), over[0].actor.as_str(), over[0].action.as_str()), (1, "anna", "heard"));
        assert_eq!(over[0].detail, r#"{"call":"call","heard_ms":[[0,8000],[60000,61000]]}"#);
        assert_eq!(heard.over(i64::MAX, true), [], "it is told once");
        heard.put_back(over.clone());
        assert_eq!(heard.over(0, false), over, "unless it could not be written");
        heard.sent(KEY, "anna", "call", (0, 1), 5);
        assert_eq!(heard.over(4, false).len(), 1, "a clock that was set back loses none");
    }

    #[test]
    fn memory_is_bounded_and_listening_that_has_no_room_is_logged_early() {
        let mut heard = Heard::default();
        for number in 0..MAX_LISTENINGS + 10 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let at = i64::try_from(number).unwrap();
            heard.sent((Id(id), Id(id)), "anna", "call", (0, 1), at);
        }
        assert_eq!((heard.going_on.len(), heard.ended.len()), (MAX_LISTENINGS, 10));
    }

    proptest! {
        #[test]
        fn joined_intervals_cover_the_added_ones_and_are_in_order_and_apart(
            parts in proptest::collection::vec((0_u64..1000, 1_u64..20), 1..300)
        ) {
            let mut intervals = Vec::new();
            for (from, length) in &parts {
                join(&mut intervals, (*from, from + length));
            }
            prop_assert!(intervals.len() <= MAX_INTERVALS);
            prop_assert!(intervals.windows(2).all(|pair| pair[0].1 < pair[1].0));
            for (from, length) in parts {
                let is_in = |part: &(u64, u64)| part.0 <= from && from + length <= part.1;
                prop_assert!(intervals.iter().any(is_in));
            }
        }
    }
}
