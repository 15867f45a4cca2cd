//! The place of a file in the folders of the archive.

/// The place of a file, and its state at the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The folder that is watched or kept.
    pub(crate) root: String,
    /// The folder below it; empty for itself.
    pub(crate) folder: String,
    /// Name of the file.
    pub(crate) name: String,
    /// Its octets.
    pub(crate) octets: i64,
    /// The time of its last change.
    pub(crate) modified_ms: i64,
    /// The time of its sidecar's last change; 0 if it has none.
    pub(crate) sidecar_ms: i64,
}
