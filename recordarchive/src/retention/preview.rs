//! The preview: the effect of policies on the present calls, counted before they apply.

use super::{Fate, Policy, Subject, fate};
use crate::time::{DAY_US, rfc3339};
use serde_json::{Value, json};

/// Days that a preview looks ahead.
const AHEAD_DAYS: i64 = 30;

/// Calls, and how long they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    calls: u64,
    ms: i64,
    oldest_us: Option<i64>,
}

impl Tally {
    fn add(&mut self, subject: &Subject, duration_ms: i64) {
        self.calls += 1;
        self.ms = self.ms.saturating_add(duration_ms);
        self.oldest_us =
            Some(self.oldest_us.map_or(subject.started_us, |oldest| oldest.min(subject.started_us)));
    }

    fn shown(&self) -> Value {
        // Tenths are enough for people.
        let hours = (self.ms / 360_000) as f64 / 10.0;
        json!({"calls": self.calls, "hours": hours, "oldest": self.oldest_us.map(rfc3339)})
    }
}

/// The counts of policies to come, beside those in force.
#[derive(Debug)]
pub(crate) struct Preview {
    old: Vec<Policy>,
    new: Vec<Policy>,
    now_us: i64,
    due: Tally,
    soon: Tally,
    earlier: Tally,
    later: Tally,
    held: Tally,
    by_policy: Vec<(Tally, Tally)>,
}

impl Preview {
    /// Nothing counted yet.
    pub(crate) fn new(old: Vec<Policy>, new: Vec<Policy>, now_us: i64) -> Self {
        let by_policy = vec![Default::default(); new.len()];
        let none = Tally::default();
        Self { old, new, now_us, due: none, soon: none, earlier: none, later: none, held: none, by_policy }
    }

    /// Counts a call that is not in the trash.
    pub(crate) fn count(&mut self, subject: &Subject, duration_ms: i64, is_held: bool) {
        let due_us = |fate: &Fate| fate.due.as_ref().map_or(i64::MAX, |due| due.at_us);
        let (was, will) = (fate(&self.old, subject), fate(&self.new, subject));
        let (was_us, will_us) = (due_us(&was), due_us(&will));
        let is_due = will_us <= self.now_us;
        let note = |tally: &mut Tally, is_so: bool| {
            if is_so {
                tally.add(subject, duration_ms);
            }
        };
        note(&mut self.held, is_due && is_held);
        note(&mut self.due, is_due && !is_held);
        note(&mut self.soon, !is_held && will_us <= self.now_us.saturating_add(AHEAD_DAYS * DAY_US));
        note(&mut self.earlier, will_us < was_us);
        note(&mut self.later, will_us > was_us);
        if let Some(at) = self.new.iter().position(|policy| policy.fits(subject)) {
            let (fitting, due) = &mut self.by_policy[at];
            note(fitting, true);
            note(due, is_due && !is_held);
        }
    }

    /// As people and programs read it: calls that go at once, within 30 days, earlier and later than now, and
    /// calls that a hold keeps.
    pub(crate) fn shown(&self) -> Value {
        let each: Vec<Value> = self
            .new
            .iter()
            .zip(&self.by_policy)
            .map(|(policy, (fitting, due))| {
                json!({"name": policy.name, "calls": fitting.calls, "due": due.shown()})
            })
            .collect();
        let mut value = self.due.shown();
        value["within_30_days"] = self.soon.shown();
        value["earlier"] = self.earlier.shown();
        value["later"] = self.later.shown();
        value["held"] = self.held.shown();
        value["policies"] = json!(each);
        value
    }
}
