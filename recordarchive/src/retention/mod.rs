//! Retention: which policy a call falls under, how long it is kept at least, and when it is due to go.
//!
//! Owns: policies, their limits, and the one decision about a call, [`fate`]. Never: clocks, databases, and
//! holds, which win over all of this and are looked at by the code that carries it out. Invariant: nothing is
//! due before the longest `keep_days` of all policies that fit.

pub(crate) mod calendar;
pub(crate) mod compare;
pub(crate) mod decide;
pub(crate) mod preview;
#[cfg(test)]
mod schedule_tests;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use crate::time::DAY_US;
use recfile::call::Direction;
use serde::{Deserialize, Serialize};

/// Policies at most.
pub(crate) const MAX_POLICIES: usize = 32;
/// Extensions of a policy at most.
pub(crate) const MAX_EXTENSIONS: usize = 200;
/// Characters of a name, a site, a tag or an extension.
const MAX_NAME_CHARS: usize = 64;
/// A hundred years.
const MAX_DAYS: u32 = 36_500;
/// Digits of a number within the house at most.
const MAX_INTERNAL_DIGITS: usize = 5;
/// Numbers for help, as they are dialled.
const EMERGENCY: [&str; 6] = ["112", "110", "911", "999", "000", "119"];
/// A call before 2010 has the time of a clock that was never set: by no policy it becomes due.
pub(crate) const FIRST_TIME_US: i64 = 14_610 * DAY_US;

/// The kind of a call, by its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// With somebody outside.
    #[default]
    Normal,
    /// Both numbers are of the house: of five digits at most.
    Internal,
    /// To a number for help.
    Emergency,
}

impl Class {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Normal, Self::Internal, Self::Emergency];

    /// That of a call with these digits.
    pub(crate) fn of(direction: Option<Direction>, remote: &str, local: &str) -> Self {
        let is_internal = |digits: &str| (1..=MAX_INTERNAL_DIGITS).contains(&digits.len());
        if direction == Some(Direction::Out) && EMERGENCY.contains(&remote) {
            Self::Emergency
        } else if is_internal(remote) && is_internal(local) {
            Self::Internal
        } else {
            Self::Normal
        }
    }
}

/// How long matching calls are kept. A condition that is not given fits every call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    /// The name.
    pub(crate) name: String,
    /// Calls of this site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) site: Option<String>,
    /// Calls of one of these extensions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) extensions: Vec<String>,
    /// Calls of this direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) direction: Option<Direction>,
    /// Calls with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tag: Option<String>,
    /// Calls of this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<Class>,
    /// Nothing and nobody deletes them earlier.
    #[serde(default)]
    pub(crate) keep_days: u32,
    /// Then they are due; never, if it is not said.
    #[serde(default)]
    pub(crate) delete_after_days: Option<u32>,
}

/// The properties that policies look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The start of the call.
    pub(crate) started_us: i64,
    /// Its site.
    pub(crate) site: String,
    /// Its extension.
    pub(crate) extension: String,
    /// The direction: who called.
    pub(crate) direction: Option<Direction>,
    /// Its tags.
    pub(crate) tags: Vec<String>,
    /// The kind of call.
    pub(crate) class: Class,
}

impl Policy {
    /// Whether a call falls under it.
    pub(crate) fn fits(&self, subject: &Subject) -> bool {
        self.site.as_ref().is_none_or(|site| *site == subject.site)
            && (self.extensions.is_empty() || self.extensions.contains(&subject.extension))
            && self.direction.is_none_or(|direction| subject.direction == Some(direction))
            && self.tag.as_ref().is_none_or(|tag| subject.tags.contains(tag))
            && self.class.is_none_or(|class| class == subject.class)
    }
}

/// A moment, and the policy that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// The time.
    pub(crate) at_us: i64,
    /// Name of the policy.
    pub(crate) policy: String,
}

/// The result of policies for a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Nobody deletes it before.
    pub(crate) kept: Option<Term>,
    /// It is due then.
    pub(crate) due: Option<Term>,
}

impl Fate {
    /// The policy that keeps it now, if one does.
    pub(crate) fn keeps(&self, now_us: i64) -> Option<&Term> {
        self.kept.as_ref().filter(|kept| now_us < kept.at_us)
    }

    /// The policy by which it is due now, if it is.
    pub(crate) fn is_due(&self, now_us: i64) -> Option<&Term> {
        self.due.as_ref().filter(|due| due.at_us <= now_us)
    }
}

fn days(days: u32) -> i64 {
    i64::from(days) * DAY_US
}

/// The result of `policies` for a call. The first one that fits says when it is due. The longest `keep_days`
/// of all that fit is the shortest time that it is kept.
pub(crate) fn fate(policies: &[Policy], subject: &Subject) -> Fate {
    let term = |policy: &Policy, after: i64| Term {
        at_us: subject.started_us.saturating_add(after),
        policy: policy.name.clone(),
    };
    let fitting = || policies.iter().filter(|policy| policy.fits(subject));
    // Of equal ones the first.
    let keeper = fitting().filter(|policy| policy.keep_days > 0).rev().max_by_key(|policy| policy.keep_days);
    let kept = keeper.map(|policy| term(policy, days(policy.keep_days)));
    let first = fitting().next().filter(|_| subject.started_us >= FIRST_TIME_US);
    let due = first.and_then(|policy| {
        let due = term(policy, days(policy.delete_after_days?));
        let kept_us = kept.as_ref().map_or(i64::MIN, |kept| kept.at_us);
        Some(Term { at_us: due.at_us.max(kept_us), ..due })
    });
    Fate { kept, due }
}

/// The fewest days after which a call can be due; `None`: no policy deletes.
pub(crate) fn earliest_us(policies: &[Policy]) -> Option<i64> {
    policies.iter().filter_map(|policy| policy.delete_after_days).min().map(days)
}

/// Whether these can be policies.
///
/// # Errors
/// A text for the user that names the policy.
pub(crate) fn check(policies: &[Policy]) -> Result<(), String> {
    if policies.len() > MAX_POLICIES {
        return Err(format!("there are at most {MAX_POLICIES} policies"));
    }
    let is_name = |text: &str| {
        (1..=MAX_NAME_CHARS).contains(&text.chars().count())
            && text.trim() == text
            && recfile::text::is_harmless(text)
    };
    for (at, policy) in policies.iter().enumerate() {
        let wrong = |what: String| Err(format!("policy {:?}: {what}", policy.name));
        if !is_name(&policy.name) {
            return wrong(format!("a name has 1 to {MAX_NAME_CHARS} characters, on one line"));
        }
        if policies[..at].iter().any(|other| other.name == policy.name) {
            return wrong("another one has the same name".into());
        }
        let texts = policy.site.iter().chain(&policy.tag).chain(&policy.extensions);
        if policy.extensions.len() > MAX_EXTENSIONS || !texts.into_iter().all(|text| is_name(text)) {
            return wrong(format!(
                "site, tag and at most {MAX_EXTENSIONS} extensions have 1 to {MAX_NAME_CHARS} characters each"
            ));
        }
        if policy.tag.as_ref().is_some_and(|tag| tag.to_lowercase() != *tag) {
            return wrong("tags are in lower case".into());
        }
        if policy.keep_days > MAX_DAYS || policy.delete_after_days.is_some_and(|days| days > MAX_DAYS) {
            return wrong(format!("there are at most {MAX_DAYS} days"));
        }
        if policy.delete_after_days.is_some_and(|days| days == 0 || days < policy.keep_days) {
            return wrong("delete_after_days is 1 or more, and not less than keep_days".into());
        }
    }
    Ok(())
}
