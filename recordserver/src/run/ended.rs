//! Calls over TCP that had all their items: a phone that did not hear so asks again.
//!
//! Pure. Invariant: memory has a limit; the oldest are forgotten first.

use super::call::CallKey;
use std::collections::BTreeMap;

/// Calls that are remembered.
const MAX_ENDED: usize = 4096;

/// The state of a call that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The disk is at it.
    Closing,
    /// It is on the disk.
    Kept,
    /// It is not remembered.
    Unknown,
}

#[derive(Debug)]
struct Call {
    items: u64,
    is_kept: bool,
    /// The connection that waits for it to be on the disk, beside the one that ended it.
    waits: Option<usize>,
}

/// The calls, by their keys, which rise.
#[derive(Debug, Default)]
pub(super) struct Ended(BTreeMap<CallKey, Call>);

impl Ended {
    /// A call has ended with `items` items, and goes to the disk.
    pub(super) fn add(&mut self, key: CallKey, items: u64) {
        self.0.insert(key, Call { items, is_kept: false, waits: None });
        if self.0.len() > MAX_ENDED {
            self.0.pop_first();
        }
    }

    /// The disk has it, or can't have it: then it is forgotten. Gives who else waits for that.
    pub(super) fn is_closed(&mut self, key: CallKey, is_kept: bool) -> Option<usize> {
        let call = self.0.get_mut(&key)?;
        call.is_kept = is_kept;
        let waits = call.waits.take();
        if !is_kept {
            self.0.remove(&key);
        }
        waits
    }

    pub(super) fn has(&self, key: CallKey) -> bool {
        self.0.contains_key(&key)
    }

    /// How many items it had.
    pub(super) fn items(&self, key: CallKey) -> Option<u64> {
        self.0.get(&key).map(|call| call.items)
    }

    /// The state of a call; the connection `from` waits while the disk is at it.
    pub(super) fn ask(&mut self, key: CallKey, from: usize) -> State {
        match self.0.get_mut(&key) {
            None => State::Unknown,
            Some(call) if call.is_kept => State::Kept,
            Some(call) => {
                call.waits = Some(from);
                State::Closing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_has_ended_is_known_until_there_are_many_later_ones() {
        let mut ended = Ended::default();
        ended.add(CallKey(1), 100);
        assert_eq!((ended.items(CallKey(1)), ended.items(CallKey(2))), (Some(100), None));
        assert_eq!(ended.ask(CallKey(1), 7), State::Closing);
        assert_eq!(ended.is_closed(CallKey(1), true), Some(7));
        assert_eq!((ended.ask(CallKey(1), 8), ended.is_closed(CallKey(1), true)), (State::Kept, None));
        (2..).take(MAX_ENDED).for_each(|key| ended.add(CallKey(key), 0));
        assert!(!ended.has(CallKey(1)) && ended.has(CallKey(2)));
    }

    #[test]
    fn a_call_that_the_disk_does_not_have_is_forgotten() {
        let mut ended = Ended::default();
        ended.add(CallKey(1), 100);
        assert_eq!(ended.is_closed(CallKey(1), false), None);
        assert_eq!(ended.ask(CallKey(1), 7), State::Unknown);
    }
}
