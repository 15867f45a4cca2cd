//! Files of recordings: looking at one, and playing its audio, without decoding where possible.

pub(crate) mod age_file;
pub(crate) mod derived;
pub(crate) mod look;
pub(crate) mod marks;
pub(crate) mod peaks;
pub(crate) mod vault;
pub(crate) mod view;
pub(crate) mod wav;

use crate::catalogue::model::Place;
use std::path::PathBuf;

/// The path of a file on this machine.
pub(crate) fn path(place: &Place) -> PathBuf {
    let mut path = PathBuf::from(&place.root);
    path.push(&place.folder);
    path.push(&place.name);
    path
}
