//! The recordings that are going on now.
//!
//! Owns: the list that intakes write and requests read. Never: permissions; the code that shows it asks
//! `authorize`.

use crate::catalogue::model::{Party, Place};
use crate::id::Id;
use recfile::call::Direction;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A recording that is going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    /// The id that it has once it is sealed.
    pub(crate) id: Id,
    /// The phone's id of the call.
    pub(crate) external_id: String,
    /// The id that its recorder gave it.
    pub(crate) recording: String,
    /// The phone.
    pub(crate) device: String,
    /// The site.
    pub(crate) site: String,
    /// The extension that decides whose call it is.
    pub(crate) extension: String,
    /// The direction: who called.
    pub(crate) direction: Option<Direction>,
    /// The other side.
    pub(crate) remote: Party,
    /// The phone's side.
    pub(crate) local: Party,
    /// Codec.
    pub(crate) codec: String,
    /// The start of the recording.
    pub(crate) started_us: i64,
    /// The file that is written now.
    pub(crate) file: Place,
    /// Its number within the recording, from 1.
    pub(crate) segment: u32,
    /// It can't be read without a key.
    pub(crate) encrypted: bool,
    /// The recorder's counts for it, if the recorder has a status address.
    pub(crate) told: Option<Told>,
}

/// A recorder's counts for a running recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Packets that came.
    pub(crate) packets: u64,
    /// Packets that never came.
    pub(crate) lost: u64,
}

/// The running recordings, by intake.
#[derive(Debug, Default)]
pub(crate) struct Live(Mutex<HashMap<PathBuf, Vec<Running>>>);

impl Live {
    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Vec<Running>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes all that is going on in an intake.
    pub(crate) fn set(&self, root: PathBuf, running: Vec<Running>) {
        self.lock().insert(root, running);
    }

    /// All of it, the newest first.
    pub(crate) fn all(&self) -> Vec<Running> {
        let mut all: Vec<Running> = self.lock().values().flatten().cloned().collect();
        all.sort_by(|a, b| b.started_us.cmp(&a.started_us).then_with(|| a.id.cmp(&b.id)));
        all
    }

    /// The one of this id.
    pub(crate) fn one(&self, id: Id) -> Option<Running> {
        self.lock().values().flatten().find(|running| running.id == id).cloned()
    }
}
