//! Names of recording files and their sidecars.
//!
//! Source document: "creates a file named `Record_`\[SystemTime\]". SystemTime is local time,
//! `YYYYMMDD-HHMMSS`: it sorts by date and holds nothing that FAT forbids.

use media::time::Wall;

/// The prefix of every recording's name, with all firmware.
const PREFIX: &str = "Record_";
const EXTENSION: &str = ".wav";
const SIDECAR_EXTENSION: &str = ".json";

/// The name of a file created at `wall`; attempt 1 is plain, 2 gets `-2` and so on when names are taken.
#[must_use]
pub fn record_file_name(wall: Wall, attempt: u32) -> String {
    let stamp = wall.file_stamp();
    if attempt <= 1 {
        format!("{PREFIX}{stamp}{EXTENSION}")
    } else {
        format!("{PREFIX}{stamp}-{attempt}{EXTENSION}")
    }
}

/// Whether `name` (no folders) is a recording's: ours or other firmware's `Record_<anything>.wav`.
///
/// Letter case does not matter, because FAT short names lose it.
#[must_use]
pub fn is_record_file_name(name: &str) -> bool {
    let octets = name.as_bytes();
    let Some(stem_end) = octets.len().checked_sub(EXTENSION.len()) else { return false };
    stem_end > PREFIX.len()
        && octets[..PREFIX.len()].eq_ignore_ascii_case(PREFIX.as_bytes())
        && octets[stem_end..].eq_ignore_ascii_case(EXTENSION.as_bytes())
        && !octets.iter().any(|&octet| octet == b'/' || octet == 0)
}

/// The sidecar's name: `.json` in place of `.wav`, or after a name that has no such end.
#[must_use]
pub fn sidecar_name(wav_name: &str) -> String {
    let stem = match wav_name.len().checked_sub(EXTENSION.len()) {
        Some(end) if wav_name.as_bytes()[end..].eq_ignore_ascii_case(EXTENSION.as_bytes()) => {
            &wav_name[..end]
        }
        _ => wav_name,
    };
    format!("{stem}{SIDECAR_EXTENSION}")
}

/// Sorts names by when the files were made: by stamp, then by the number that a taken name got
/// (`-2` before `-10`, and none before both).
#[must_use]
pub fn order_key(name: &str) -> (&str, u32) {
    const STAMPED: usize = "Record_YYYYMMDD-HHMMSS".len();
    let numbered = name.split_at_checked(STAMPED).and_then(|(stamped, rest)| {
        let (suffix, _extension) = rest.rsplit_once('.')?;
        Some((stamped, suffix.strip_prefix('-')?.parse().ok()?))
    });
    numbered.unwrap_or_else(|| (name.rsplit_once('.').map_or(name, |(stem, _)| stem), 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WALL: Wall = Wall { unix_ms: 1_772_352_900_250, utc_offset_s: 3600 };

    #[test]
    fn files_are_named_by_local_time_and_numbered_when_taken() {
        assert_eq!(record_file_name(WALL, 1), "Record_20260301-091500.wav");
        assert_eq!(record_file_name(WALL, 2), "Record_20260301-091500-2.wav");
        assert_eq!(sidecar_name("Record_20260301-091500-2.wav"), "Record_20260301-091500-2.json");
    }

    #[test]
    fn names_of_other_firmware_are_recordings_too_and_other_files_are_not() {
        for name in ["Record_2024-05-01 10.20.30.wav", "RECORD_1.WAV", "Record_1970.wav"] {
            assert!(is_record_file_name(name), "{name}");
        }
        for name in ["Record_.wav", "Record_1.json", "Record_1.wav.tmp", "music.wav", "", "Record_a/b.wav"] {
            assert!(!is_record_file_name(name), "{name}");
        }
    }

    #[test]
    fn numbered_names_sort_in_the_order_of_their_making() {
        let mut names: Vec<_> = [10, 1, 2].map(|attempt| record_file_name(WALL, attempt)).into();
        names.push("Record_20260301-091501.wav".into());
        names.sort_by(|a, b| order_key(a).cmp(&order_key(b)));
        let attempts: Vec<_> = names.iter().map(|name| order_key(name)).collect();
        let first = "Record_20260301-091500";
        assert_eq!(attempts, [(first, 1), (first, 2), (first, 10), ("Record_20260301-091501", 1)]);
    }

    proptest! {
        #[test]
        fn any_text_can_be_asked_about_and_gets_a_sidecar_name(name in "\\PC{0,40}") {
            let _ = is_record_file_name(&name);
            let _ = order_key(&name);
            let sidecar = sidecar_name(&name);
            prop_assert!(sidecar.ends_with(".json") && sidecar != name);
        }

        #[test]
        fn every_name_we_make_is_recognised(unix_ms in 0..4_000_000_000_000i64, attempt in 0..2000u32) {
            let wall = Wall { unix_ms, utc_offset_s: 3600 };
            prop_assert!(is_record_file_name(&record_file_name(wall, attempt)));
        }
    }
}
