//! Folder names made of the device names of phones.
//!
//! Invariant: the name is one path component, visible, and not longer than any filesystem takes.

use media::time::Wall;
use std::io;
use std::path::Path;

/// Longest device name in octets that becomes a folder.
const MAX_DEVICE_OCTETS: usize = 64;

/// A folder that is made to see whether it can be.
const PROBE: &str = ".recordserver-probe:";

/// The characters that a filesystem takes in names besides letters, digits and `-_.@+`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Colons, too, as MAC addresses have them.
    WithColons,
    /// No colons: a filesystem of Windows (FAT, exFAT).
    WithoutColons,
}

impl Names {
    /// Tries it out in `storage`. If that fails for another reason, the first recording will show it.
    #[must_use]
    pub fn probe(storage: &Path) -> Self {
        let probe = storage.join(PROBE);
        let made = std::fs::create_dir(&probe);
        if made.is_ok() {
            let _ = std::fs::remove_dir(&probe);
        }
        Self::after(&made)
    }

    fn after(made: &io::Result<()>) -> Self {
        match made {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Self::WithoutColons,
            _ => Self::WithColons,
        }
    }
}

/// The folder of a device: its name, with `_` for characters that have a meaning in paths or on a terminal;
/// `unknown` if it is empty.
#[must_use]
pub fn device_folder(device: &str, names: Names) -> String {
    let mut name = String::new();
    for character in device.trim().chars() {
        let plain = character.is_alphanumeric()
            || matches!(character, '-' | '_' | '.' | '@' | '+')
            || (character == ':' && names == Names::WithColons);
        let kept = if plain && !(name.is_empty() && character == '.') { character } else { '_' };
        if name.len() + kept.len_utf8() > MAX_DEVICE_OCTETS {
            break;
        }
        name.push(kept);
    }
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// The folder of a day, in local time: `YYYY-MM-DD`.
#[must_use]
pub fn day_folder(wall: Wall) -> String {
    let stamp = wall.file_stamp();
    match (stamp.get(..4), stamp.get(4..6), stamp.get(6..8)) {
        (Some(year), Some(month), Some(day)) => format!("{year}-{month}-{day}"),
        _ => "unknown-day".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device_folder(device: &str) -> String {
        super::device_folder(device, Names::WithColons)
    }

    #[test]
    fn a_filesystem_without_colons_gets_names_without_them() {
        let einval = Err(io::Error::from_raw_os_error(22));
        assert_eq!(Names::after(&einval), Names::WithoutColons);
        assert_eq!(super::device_folder("0C:11:05:0A:0B:0C", Names::WithoutColons), "0C_11_05_0A_0B_0C");
        let folder = tempfile::tempdir().unwrap();
        let taken = std::fs::create_dir(folder.path().join("0C:11")).is_ok();
        assert_eq!(Names::probe(folder.path()) == Names::WithColons, taken);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), usize::from(taken));
        assert_eq!(Names::probe(&folder.path().join("missing")), Names::WithColons);
    }

    #[test]
    fn a_mac_address_is_kept_and_a_path_is_not() {
        assert_eq!(device_folder("0C:11:05:0A:0B:0C"), "0C:11:05:0A:0B:0C");
        assert_eq!(device_folder("../../etc/passwd"), "_._.._etc_passwd");
        assert_eq!(device_folder("."), "_");
        assert_eq!(device_folder(" \n "), "unknown");
        assert_eq!(device_folder("a\0b\u{1b}[2J"), "a_b__2J");
        assert_eq!(device_folder(&"ü".repeat(500)).len(), MAX_DEVICE_OCTETS);
    }

    #[test]
    fn the_day_is_the_local_one() {
        let wall = Wall { unix_ms: 1_772_402_400_000, utc_offset_s: 7200 };
        assert_eq!(day_folder(wall), "2026-03-02");
    }
}
