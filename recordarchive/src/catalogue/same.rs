//! Calls that are perhaps one: recorded by two phones, or in two ways, without a call id that says so.

use super::Done;
use crate::access::Condition;
use crate::access::audit::Entry;
use crate::id::Id;
use async_trait::async_trait;

/// A call that is perhaps the same as another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Same {
    /// Its id.
    pub(crate) id: String,
    /// The start.
    pub(crate) started_us: i64,
    /// The phone.
    pub(crate) device: String,
    /// The phone's side.
    pub(crate) extension: String,
}

/// The part of the catalogue that is about calls which look like one.
#[async_trait]
pub(crate) trait Sameness: Send + Sync {
    /// Notes that two calls are not the same; false if the condition does not admit both.
    async fn set_apart(&self, one: Id, other: Id, condition: &Condition, entry: &Entry) -> Done<bool>;
    /// Id and beginning of a recording of this phone of which files are known; one that goes on has the same.
    async fn begun(&self, device: &str, recording: &str) -> Done<Option<(Id, i64)>>;
}
