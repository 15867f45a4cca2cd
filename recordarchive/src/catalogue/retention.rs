//! Policies in the catalogue: those in force, those that wait for a second person, and the calls that are due
//! by them.

use super::Done;
use super::holds::Step;
use super::model::{Doomed, Place};
use crate::access::audit::Entry;
use crate::id::Id;
use crate::retention::{Policy, Subject};
use async_trait::async_trait;
use std::path::PathBuf;

/// The actor in the audit log, and in a deletion, for a policy.
pub(crate) const BY_POLICY: &str = "(policy)";

/// The policies in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InForce {
    /// Rises with each change; 0: there were never any.
    pub(crate) version: i64,
    /// In the order in which they are looked at.
    pub(crate) policies: Vec<Policy>,
    /// Their author, with time and reason.
    pub(crate) set: Step,
    /// The second person, where it took one.
    pub(crate) approved_by: Option<String>,
}

/// Policies that wait for a second person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    /// Its id.
    pub(crate) id: Id,
    /// The version that they would replace.
    pub(crate) base: i64,
    /// The policies.
    pub(crate) policies: Vec<Policy>,
    /// The preview of their effect, as the JSON that the first person saw.
    pub(crate) preview: String,
    /// The author of the request, with time and reason.
    pub(crate) asked: Step,
}

/// A call that is not in the trash, as policies see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its key.
    pub(crate) key: i64,
    /// The properties that policies look at.
    pub(crate) subject: Subject,
    /// The length.
    pub(crate) duration_ms: i64,
    /// A hold keeps it.
    pub(crate) is_held: bool,
}

/// The part of the catalogue that is about policies.
#[async_trait]
pub(crate) trait Retention: Send + Sync {
    /// The policies in force, and those that wait.
    async fn policies(&self) -> Done<(InForce, Option<Proposal>)>;
    /// Puts policies in the place of those of version `base`: at once, or, where that shortens, once another
    /// person approves. An earlier proposal that still waits becomes void.
    async fn set_policies(&self, proposal: &Proposal, entry: &Entry) -> Done<()>;
    /// Approves or rejects the waiting proposal; false if there is none.
    async fn decide_policies(&self, id: Id, approves: bool, entry: &Entry) -> Done<bool>;
    /// The last time at which the deletion job trusted the calendar.
    async fn right_time(&self) -> Done<Option<i64>>;
    /// Notes that it is taken for right now.
    async fn note_right_time(&self, now_us: i64) -> Done<()>;
    /// Calls that are not in the trash, in the order of their keys, behind one and before another; at most
    /// `limit`.
    async fn candidates(&self, behind: i64, before: i64, limit: u32) -> Done<Vec<Candidate>>;
    /// Puts those of these calls in the trash that are due by a policy; how many.
    async fn condemn(&self, calls: &[i64], now_us: i64) -> Done<usize>;
    /// The files of each of these calls.
    async fn files_of(&self, calls: &[i64]) -> Done<Vec<Vec<Place>>>;
    /// Takes a call out of the trash that a policy put there, unless its files are going already.
    async fn put_back(&self, doomed: &Doomed, why: &str, now_us: i64) -> Done<bool>;
    /// Has calls in the trash with files in one of these folders be due now that are due after `later_us`,
    /// those first that would be next, and none that a hold keeps; at most `limit`. How many.
    async fn hasten(&self, now_us: i64, later_us: i64, folders: &[PathBuf], limit: u32) -> Done<usize>;
    /// Takes those calls out of the trash that a policy put there and that a hold keeps now, or that are not
    /// due any more: among `limit` of the trash behind one. How many, and the key of the last one that was
    /// looked at.
    async fn spare(&self, behind: i64, now_us: i64, limit: u32) -> Done<(usize, Option<i64>)>;
}
