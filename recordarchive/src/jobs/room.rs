//! Room on the disks of the archive: `storage.low` is told when it gets short, once until there is more
//! again.

use crate::events::{About, Event, Events};
use nix::sys::statvfs::statvfs;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Short is less than this, or a twentieth of the disk if that is less.
const SHORT_OCTETS: u64 = 10 << 30;

/// The folder watched, and whether it was short of room at the last look.
#[derive(Debug)]
pub(crate) struct Room {
    folders: Vec<(PathBuf, bool)>,
    events: Events,
}

impl Room {
    /// That of these folders.
    pub(crate) fn new(folders: impl IntoIterator<Item = PathBuf>, events: Events) -> Self {
        Self { folders: folders.into_iter().map(|folder| (folder, false)).collect(), events }
    }

    /// Looks at all of them. A folder that can't be looked at says nothing.
    pub(crate) fn look(&mut self) {
        self.look_with(measure);
    }

    /// As [`Self::look`], with the octets that are free, and all there are, as `measure` says.
    fn look_with(&mut self, measure: impl Fn(&Path) -> Option<(u64, u64)>) {
        for (folder, was_short) in &mut self.folders {
            let Some((free, all)) = measure(folder) else { continue };
            let is_short = is_short(free, all);
            if is_short && !*was_short {
                let path = folder.to_string_lossy();
                log::warn!("{path}: {} MiB are left", free >> 20);
                let data = json!({"folder": path, "free_octets": free});
                self.events.tell(Event { kind: "storage.low", about: About::System, data });
            }
            *was_short = is_short;
        }
    }
}

/// Octets that are free in a folder, and all there are.
fn measure(folder: &Path) -> Option<(u64, u64)> {
    let room = statvfs(folder).ok()?;
    let size = room.fragment_size();
    Some((room.blocks_available() * size, room.blocks() * size))
}

fn is_short(free: u64, all: u64) -> bool {
    free < SHORT_OCTETS.min(all / 20)
}

/// Those of these folders whose disk is short of room.
pub(crate) fn short(folders: &[PathBuf]) -> Vec<PathBuf> {
    let is_short = |folder: &&PathBuf| measure(folder).is_some_and(|(free, all)| is_short(free, all));
    folders.iter().filter(is_short).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_room_is_told_once_until_there_is_more() {
        let events = Events::default();
        let mut listener = events.listen();
        let mut room = Room::new([PathBuf::from("/a")], events);
        let disk = 1_000 << 30;
        for free in [100 << 30, 9 << 30, 8 << 30, 11 << 30, 9 << 30] {
            room.look_with(|_| Some((free, disk)));
        }
        room.look_with(|_| None);
        let mut told = || listener.try_recv().map(|event| event.data["free_octets"].as_u64().unwrap() >> 30);
        assert_eq!((told(), told()), (Ok(9), Ok(9)));
        assert!(told().is_err());
        // A small disk is short at a twentieth.
        room.look_with(|_| Some((2 << 30, 32 << 30)));
        assert!(listener.try_recv().is_err());
    }
}
