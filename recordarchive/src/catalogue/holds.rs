//! Holds: decisions that keep calls until two people release them.

use super::place::Place;
use crate::id::Id;
use crate::query::Search;

/// Calls that a hold keeps at most.
pub(crate) const MAX_CALLS: u32 = 10_000;

/// A decision to hold calls: its name, its author and its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Its id.
    pub(crate) id: String,
    /// The name of the hold.
    pub(crate) name: String,
    /// The file number of the matter that it is for.
    pub(crate) reference: String,
    /// The reason.
    pub(crate) reason: String,
    /// The person who placed it.
    pub(crate) by: String,
    /// The time.
    pub(crate) placed_us: i64,
}

/// A step towards the end of a hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// The person who took it.
    pub(crate) by: String,
    /// The time.
    pub(crate) at_us: i64,
    /// The reason.
    pub(crate) reason: String,
}

/// A hold as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hold {
    /// Its place in the order of all.
    pub(crate) key: i64,
    /// The decision.
    pub(crate) decision: Decision,
    /// Calls that it keeps, or kept.
    pub(crate) calls: i64,
    /// Somebody asked for its release.
    pub(crate) asked: Option<Step>,
    /// Another person released it.
    pub(crate) released: Option<Step>,
}

/// A page of holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HoldPage {
    /// The holds.
    pub(crate) holds: Vec<Hold>,
    /// Key of the last one, if more follow.
    pub(crate) next: Option<i64>,
}

/// The calls that a decision is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// These, and each of them.
    Calls(Vec<Id>),
    /// Those that a search finds now.
    Found(Box<Search>),
}

/// The result of a request to release a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// Another person has to ask, too.
    Asked(Hold),
    /// It keeps nothing any more.
    Done(Hold),
    /// The same person had asked before.
    SamePerson,
    /// It was released before.
    Before,
}

/// The holds that the sidecars of a call should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Key of the call.
    pub(crate) call: i64,
    /// Rises with each change of its holds.
    pub(crate) version: i64,
    /// Its files.
    pub(crate) files: Vec<Place>,
    /// Its holds.
    pub(crate) holds: Vec<Decision>,
}
