//! Work on files: watching an intake, importing a stick, verifying everything.

pub(crate) mod backup;
pub(crate) mod checkpoint;
pub(crate) mod deletion;
pub(crate) mod encrypt;
pub(crate) mod export;
pub(crate) mod holds;
pub(crate) mod import;
pub(crate) mod intake;
pub(crate) mod journal;
pub(crate) mod live;
pub(crate) mod retention;
pub(crate) mod room;
pub(crate) mod status;
pub(crate) mod verify;
pub(crate) mod verify_export;
pub(crate) mod waves;
pub(crate) mod webhook;
