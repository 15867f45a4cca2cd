//! Events of other systems, and the rule that links them to calls.
//!
//! Owns: the fields of an event, and the rule by which a call belongs to it. Never: storage.

use crate::id::Id;
use crate::time::{DAY_US, SECOND_US};

/// Clocks of different systems differ by this at most.
pub(crate) const TOLERANCE_US: i64 = 10 * SECOND_US;
/// The longest event. A longer one would find too many calls.
pub(crate) const MAX_EVENT_US: i64 = 7 * DAY_US;
/// A call that began longer before an event is not looked for.
pub(crate) const MAX_CALL_US: i64 = DAY_US / 2;
/// Time before and after in which a call id is looked for.
pub(crate) const SAME_ID_US: i64 = DAY_US;
/// Digits at its end that tell a number from others, however its beginning is written.
const KEY_DIGITS: usize = 7;

/// Something that another system knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NewEvent {
    /// The system.
    pub(crate) source: String,
    /// Its own id; unique within the system.
    pub(crate) external_id: String,
    /// The kind of event: `alarm`, `dispatch`, `cdr`.
    pub(crate) kind: String,
    /// The title.
    pub(crate) title: String,
    /// The start.
    pub(crate) from_us: i64,
    /// The end.
    pub(crate) to_us: i64,
    /// Whether a call has to have all of `numbers`, instead of one of numbers and extensions.
    pub(crate) pair: bool,
    /// Local numbers that it is about.
    pub(crate) extensions: Vec<String>,
    /// Digits of numbers that it is about.
    pub(crate) numbers: Vec<String>,
    /// The phone's or exchange's id of the call; or nothing.
    pub(crate) call_id: String,
    /// More about it, as JSON; or nothing.
    pub(crate) payload: String,
}

/// The properties by which a call is linked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallKeys {
    /// Its local number.
    pub(crate) extension: String,
    /// The digits of both sides.
    pub(crate) numbers: [String; 2],
    /// The phone's id of it.
    pub(crate) call_id: String,
    /// The start.
    pub(crate) from_us: i64,
    /// The end.
    pub(crate) to_us: i64,
}

/// The end of a number, by which it is known again.
pub(crate) fn number_key(digits: &str) -> &str {
    &digits[digits.len().saturating_sub(KEY_DIGITS)..]
}

impl NewEvent {
    /// Whether a call belongs to it.
    pub(crate) fn is_about(&self, call: &CallKeys) -> bool {
        if !self.call_id.is_empty() && self.call_id == call.call_id {
            return (self.from_us - SAME_ID_US..=self.to_us + SAME_ID_US).contains(&call.from_us);
        }
        let is_then = call.from_us <= self.to_us + TOLERANCE_US && call.to_us >= self.from_us - TOLERANCE_US;
        let has = |digits: &String| {
            let key = number_key(digits);
            !key.is_empty() && call.numbers.iter().any(|number| number_key(number) == key)
        };
        let fits = if self.pair {
            self.numbers.len() > 1 && self.numbers.iter().all(has)
        } else {
            self.numbers.iter().any(has)
                || self.extensions.iter().any(|it| !it.is_empty() && *it == call.extension)
        };
        is_then && fits
    }
}

/// An event with the calls that somebody may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventView {
    /// The event.
    pub(crate) event: NewEvent,
    /// Its id.
    pub(crate) id: Id,
    /// Its calls, the oldest first.
    pub(crate) calls: Vec<super::model::CallView>,
}

/// The result of a batch of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bulk {
    /// New ones.
    pub(crate) added: u64,
    /// Known ones that say something else now.
    pub(crate) changed: u64,
    /// Known ones.
    pub(crate) unchanged: u64,
    /// Links to calls that are there.
    pub(crate) linked: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_belongs_to_an_event_by_number_or_extension_at_its_time() {
        let call = CallKeys {
            extension: "201".into(),
            numbers: ["49301234711".into(), "201".into()],
            call_id: "abc".into(),
            from_us: 100 * SECOND_US,
            to_us: 160 * SECOND_US,
        };
        let event = |from: i64, to: i64| NewEvent {
            from_us: from * SECOND_US,
            to_us: to * SECOND_US,
            extensions: vec!["201".into()],
            ..NewEvent::default()
        };
        for (from, to, belongs) in
            [(0, 90, true), (0, 89, false), (170, 200, true), (171, 200, false), (110, 120, true)]
        {
            assert_eq!(event(from, to).is_about(&call), belongs, "{from} {to}");
        }
        let by = |extensions: &[&str], numbers: &[&str], pair| NewEvent {
            extensions: extensions.iter().map(ToString::to_string).collect(),
            numbers: numbers.iter().map(ToString::to_string).collect(),
            pair,
            ..event(100, 160)
        };
        assert!(by(&["202"], &["0301234711"], false).is_about(&call), "by the end of a number");
        assert!(!by(&["202"], &["4711"], false).is_about(&call), "another number");
        assert!(by(&[], &["201", "301234711"], true).is_about(&call), "both sides");
        assert!(!by(&["201"], &["202", "301234711"], true).is_about(&call), "one side alone");
        assert!(!by(&[], &["201"], true).is_about(&call), "half a pair");
        let same = NewEvent { call_id: "abc".into(), ..event(0, 1) };
        assert!(same.is_about(&call), "by its id, for any clocks");
        let later = NewEvent { call_id: "abc".into(), ..event(200_000, 200_001) };
        assert!(!later.is_about(&call), "an id may come again on another day");
    }
}
