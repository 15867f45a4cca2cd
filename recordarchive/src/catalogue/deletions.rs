//! Deletions: asked for by one person, approved by another, then trash for a week, then gone.

use super::holds::Step;
use super::place::Place;
use crate::id::Id;
use crate::time::DAY_US;

/// Calls of a request at most.
pub(crate) const MAX_CALLS: usize = 1000;
/// The time for which calls are in the trash before they are gone.
pub(crate) const TRASH_US: i64 = 7 * DAY_US;

/// The state of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Another person has to decide.
    Pending,
    /// Its calls are trash.
    Approved,
    /// Its calls stay.
    Rejected,
    /// Its calls were trash, and are back.
    Restored,
    /// Its calls are gone.
    Done,
}

impl State {
    const ALL: [Self; 5] = [Self::Pending, Self::Approved, Self::Rejected, Self::Restored, Self::Done];

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Restored => "restored",
            Self::Done => "done",
        }
    }

    /// The state of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A decision about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its calls become trash.
    Approve,
    /// Its calls stay.
    Reject,
    /// Its calls are trash no more.
    Restore,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deletion {
    /// Its place in the order of all.
    pub(crate) key: i64,
    /// Its id.
    pub(crate) id: String,
    /// Its state.
    pub(crate) state: State,
    /// The author of the request, with time and reason.
    pub(crate) asked: Step,
    /// The person who decided last.
    pub(crate) decided: Option<Step>,
    /// The time at which its calls are gone; while they are trash.
    pub(crate) due_us: Option<i64>,
    /// Ids of its calls.
    pub(crate) calls: Vec<String>,
}

/// A page of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeletionPage {
    /// The requests.
    pub(crate) deletions: Vec<Deletion>,
    /// Key of the last one, if more follow.
    pub(crate) next: Option<i64>,
}

/// The state of a call in the trash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trash {
    /// The time at which it is gone.
    pub(crate) due_us: i64,
    /// The reason.
    pub(crate) reason: String,
}

/// A call whose time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doomed {
    /// Its key.
    pub(crate) call: i64,
    /// Its id.
    pub(crate) id: Id,
    /// A policy put it in the trash.
    pub(crate) is_by_policy: bool,
    /// Its recordings.
    pub(crate) recordings: Vec<Id>,
    /// Their files.
    pub(crate) files: Vec<Place>,
}
