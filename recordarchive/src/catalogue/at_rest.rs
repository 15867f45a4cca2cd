//! Encryption at rest in the catalogue: the wrapped identity of each recording, and which plain files are
//! left.

use super::Done;
use super::model::Place;
use crate::access::audit::Entry;
use crate::id::Id;
use async_trait::async_trait;

/// A segment whose file is not encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlainSegment {
    /// Key of its recording.
    pub(crate) recording: i64,
    /// Its number.
    pub(crate) number: u32,
    /// Id of its recording.
    pub(crate) id: Id,
    /// The phone.
    pub(crate) device: String,
    /// The start.
    pub(crate) started_us: i64,
    /// Its place.
    pub(crate) file: Place,
    /// SHA-256 of its audio.
    pub(crate) sha256: Vec<u8>,
    /// The wrapped identity of its recording, if it has one.
    pub(crate) key: Option<Vec<u8>>,
}

/// A plain file whose encrypted copy was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlainCopy {
    /// Its place.
    pub(crate) file: Place,
    /// Its recording, unless that is gone.
    pub(crate) recording: Option<Id>,
}

/// A wrapped identity that is wrapped anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rewrapped {
    /// Key of its recording.
    pub(crate) recording: i64,
    /// As it was.
    pub(crate) old: Vec<u8>,
    /// As it is to be.
    pub(crate) new: Vec<u8>,
}

/// The progress of encryption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Recordings by the recipients that their identities are wrapped for.
    pub(crate) keys: Vec<(String, i64)>,
    /// Plain files that are still to be removed.
    pub(crate) plain_copies: i64,
}

/// The part of the catalogue that is about encryption at rest.
#[async_trait]
pub(crate) trait AtRest: Send + Sync {
    /// The wrapped identity of the file listed at a place, or else of this recording of this phone.
    async fn wrapped_key(&self, place: &Place, device: &str, recording: &str) -> Done<Option<Vec<u8>>>;
    /// Segments whose files are there and plain, behind one, in order; at most `limit`.
    async fn plain_segments(&self, behind: (i64, u32), limit: u32) -> Done<Vec<PlainSegment>>;
    /// Keeps a wrapped identity for a recording that has none; the one that it has now.
    async fn put_key(&self, recording: i64, wrapped: &[u8], label: &str) -> Done<Vec<u8>>;
    /// Whether a segment is at this place.
    async fn is_listed(&self, root: &str, folder: &str, name: &str) -> Done<bool>;
    /// Notes that a segment is an encrypted file now, and that its plain one is to be removed; false if it is
    /// another file meanwhile, or its call is being deleted.
    async fn encrypted(&self, segment: &PlainSegment, to: &Place, entry: &Entry) -> Done<bool>;
    /// Plain files that are to be removed, at most `limit`.
    async fn plain_copies(&self, limit: u32) -> Done<Vec<PlainCopy>>;
    /// Notes that a plain file is removed.
    async fn freed(&self, copy: &PlainCopy) -> Done<()>;
    /// Identities behind a recording's key that are wrapped for others than `label`, in order; at most
    /// `limit`.
    async fn keys_to_rewrap(&self, behind: i64, label: &str, limit: u32) -> Done<Vec<(i64, Vec<u8>)>>;
    /// Puts identities that were wrapped anew in the place of those that they were; how many.
    async fn rewrap(&self, keys: &[Rewrapped], label: &str, entry: &Entry) -> Done<usize>;
    /// Any identity that is wrapped for `label`.
    async fn key_wrapped_for(&self, label: &str) -> Done<Option<Vec<u8>>>;
    /// The progress of encryption.
    async fn sealed_totals(&self) -> Done<Sealed>;
}
