//! Decisions about a call: into the trash, out of it again, or gone.
//!
//! Owns: these three decisions, in the one order there is: hold, keep at least, request, delete after. The
//! catalogue asks here with the present state of a call, and acts in the same step.

use super::{Fate, Term};
use crate::time::DAY_US;

/// Shortest time until a call in the trash is due with which it comes back: clocks are put right by less.
const SLACK_US: i64 = DAY_US;

/// A call, as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The result of the policies for it.
    pub(crate) fate: Fate,
    /// A hold keeps it.
    pub(crate) is_held: bool,
    /// A person took it out of the trash not long ago.
    pub(crate) is_spared: bool,
}

/// The state of a call in the trash: who put it there, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InTrash {
    /// A policy did, and not two people.
    pub(crate) is_by_policy: bool,
    /// It is gone then.
    pub(crate) due_us: i64,
}

impl Standing {
    /// The policy that puts it in the trash now, if one does.
    pub(crate) fn condemned_by(&self, now_us: i64) -> Option<&Term> {
        self.fate.is_due(now_us).filter(|_| !self.is_held && !self.is_spared)
    }

    /// The reason to take it out of the trash that a policy put it in, if there is one.
    pub(crate) fn comes_back(&self, now_us: i64) -> Option<&'static str> {
        match self.fate.is_due(now_us.saturating_add(SLACK_US)) {
            _ if self.is_held => Some("a hold keeps it"),
            None => Some("it is not due any more"),
            Some(_) => None,
        }
    }

    /// Whether its files may be removed now.
    pub(crate) fn may_go(&self, trash: InTrash, now_us: i64) -> bool {
        !self.is_held
            && trash.due_us <= now_us
            && self.fate.keeps(now_us).is_none()
            && (!trash.is_by_policy || self.fate.is_due(now_us).is_some())
    }
}
