//! Exports: requests and their states.

use crate::id::Id;

/// The state of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Another person has to approve it.
    Waiting,
    /// Another person did not.
    Rejected,
    /// It is being made.
    Running,
    /// It can be fetched.
    Ready,
    /// It could not be made.
    Failed,
    /// It could be fetched, and is gone.
    Expired,
}

impl State {
    const ALL: [Self; 6] =
        [Self::Waiting, Self::Rejected, Self::Running, Self::Ready, Self::Failed, Self::Expired];

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Rejected => "rejected",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// The one of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// The calls and options of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Export {
    /// Its id.
    pub(crate) id: Id,
    /// The account that asked.
    pub(crate) account: Id,
    /// Their name.
    pub(crate) by: String,
    /// The reason.
    pub(crate) reason: String,
    /// The calls, all of which they may export.
    pub(crate) calls: Vec<Id>,
    /// With the files as they are stored, and their sidecars.
    pub(crate) originals: bool,
    /// Those files encrypted as they lie in the archive, with the identities that open them.
    pub(crate) as_stored: bool,
    /// With numbers that can't be read.
    pub(crate) mask_numbers: bool,
    /// The time of the request.
    pub(crate) asked_us: i64,
    /// The time at which the package is removed.
    pub(crate) expires_us: i64,
    /// The state.
    pub(crate) state: State,
    /// The second person's decision, and its time, where that is needed.
    pub(crate) decided: Option<(String, i64)>,
    /// Octets of the package.
    pub(crate) octets: i64,
    /// Its SHA-256.
    pub(crate) sha256: String,
    /// The reason for which it could not be made.
    pub(crate) problem: String,
}
