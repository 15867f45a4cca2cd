//! Room that is made by the deletion of old recordings.
//!
//! Never: how much room there is ([`super::state`]), or the effect of a full disk on recordings.

use store::jobs::Folder;

/// Whether old files can make room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MakeRoom {
    Possible,
    /// The oldest file of this folder is being deleted.
    Asked(Folder),
    /// There was no file to delete.
    Nothing,
}

impl MakeRoom {
    /// Notes that the oldest file of a folder is asked for. False if one is being deleted.
    pub(super) fn ask(&mut self, folder: &Folder) -> bool {
        let is_free = self.asked().is_none();
        if is_free {
            *self = Self::Asked(folder.clone());
        }
        is_free
    }

    /// The folder of which the oldest file is being deleted.
    pub(super) fn asked(&self) -> Option<&Folder> {
        match self {
            Self::Asked(folder) => Some(folder),
            Self::Possible | Self::Nothing => None,
        }
    }

    /// There may be a file to delete now.
    pub(super) fn look_anew(&mut self) {
        if *self == Self::Nothing {
            *self = Self::Possible;
        }
    }
}

#[cfg(test)]
mod tests;
