//! The last recording that each program was told of, so that a restart leaves none out.

use super::Done;
use crate::id::Id;
use async_trait::async_trait;

/// The part of the catalogue that is about webhooks.
#[async_trait]
pub(crate) trait Hooks: Send + Sync {
    /// The place of the last recording that the hook at `url` was told of; a new one begins behind all that
    /// there are.
    async fn hook_place(&self, url: &str) -> Done<i64>;
    /// Notes that it was told up to there.
    async fn set_hook_place(&self, url: &str, place: i64) -> Done<()>;
    /// Recordings behind a place, in the order in which they came, with their places; at most `limit`.
    async fn recordings_behind(&self, place: i64, limit: u32) -> Done<Vec<(i64, Id)>>;
}
