//! The local time zone, as the C library knows it.

/// Seconds east of UTC of the local time zone at a time given in seconds since the Unix epoch; 0 if unknown.
/// The zone is looked at anew: it may have been set since.
#[must_use]
#[expect(unsafe_code, reason = "the time zone is known to the C library only")]
pub fn utc_offset_s(unix_s: i64) -> i32 {
    let time = for_the_c_library(unix_s);
    let mut local = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: nothing in this process changes the environment, which the first call reads. Both pointers are
    // valid for the second one; the result is read only if it says success, and the zeroed structure is a
    // valid one in any case.
    let local = unsafe {
        // `localtime_r` alone reads the file of the zone once in the life of a process.
        tzset();
        if libc::localtime_r(&time, local.as_mut_ptr()).is_null() {
            return 0;
        }
        local.assume_init()
    };
    i32::try_from(local.tm_gmtoff).unwrap_or(0)
}

#[expect(unsafe_code, reason = "the libc crate does not have it for Linux")]
unsafe extern "C" {
    fn tzset();
}

/// Time after which leap days and days of the week are the same again, and so are the rules of time zones: 28
/// years.
const CYCLE_S: i64 = 28 * 1461 * 24 * 3600 / 4;

/// A time that the C library can take and that has the same place in its year. Where `time_t` has 32 bits,
/// its time ends in 2038.
#[allow(clippy::useless_conversion, irrefutable_let_patterns, reason = "time_t differs by platform")]
fn for_the_c_library(unix_s: i64) -> libc::time_t {
    if let Ok(time) = libc::time_t::try_from(unix_s) {
        return time;
    }
    libc::time_t::try_from(within_32_bits(unix_s)).unwrap_or_default()
}

/// The last time before the end of 32 bits that lies whole cycles before `unix_s`.
fn within_32_bits(unix_s: i64) -> i64 {
    let end = i64::from(i32::MAX);
    let beyond = unix_s.saturating_sub(end).max(0);
    unix_s.saturating_sub((beyond.saturating_add(CYCLE_S - 1) / CYCLE_S).saturating_mul(CYCLE_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_beyond_32_bits_has_a_stand_in_at_the_same_place_of_its_year() {
        let place = |unix_s: i64| {
            let date = time::OffsetDateTime::from_unix_timestamp(unix_s).expect("a date");
            (date.ordinal(), date.weekday(), date.time(), time::util::days_in_year(date.year()))
        };
        assert_eq!(within_32_bits(i64::from(i32::MAX)), i64::from(i32::MAX));
        // Until 2099: 2100 has no leap day.
        for unix_s in (i64::from(i32::MAX) + 1..4_070_908_800).step_by(40_000_003) {
            let stand_in = within_32_bits(unix_s);
            assert!(i32::try_from(stand_in).is_ok_and(|it| it > i32::MAX - 900_000_000), "{unix_s}");
            assert_eq!(place(stand_in), place(unix_s), "{unix_s}");
        }
        assert!(i32::try_from(within_32_bits(i64::MAX)).is_ok());
        assert!(
            utc_offset_s(i64::MAX / 2).abs() < 24 * 3600 && utc_offset_s(2_240_000_000).abs() < 24 * 3600
        );
    }

    /// The rules of a time zone that is `hours` east of UTC, as tzfile(5) has them.
    fn zone(hours: i32) -> Vec<u8> {
        let mut part = b"TZif2".to_vec();
        part.resize(20, 0);
        // Counts: no leap seconds and changes, one kind of local time, four letters for its name.
        for count in [0_u32, 0, 0, 0, 1, 4] {
            part.extend(count.to_be_bytes());
        }
        part.extend((hours * 3600).to_be_bytes());
        part.extend(b"\0\0ABC\0");
        [&part[..], &part, format!("\n<ABC>{}\n", -hours).as_bytes()].concat()
    }

    #[test]
    fn a_time_zone_that_is_set_while_the_process_runs_is_seen() {
        const INSIDE: &str = "RECORDER_TEST_ZONE";
        if let Some(folder) = std::env::var_os(INSIDE) {
            for hours in [2, 9, -5] {
                let file = std::path::Path::new(&folder).join(hours.to_string());
                std::fs::write(&file, zone(hours)).expect("a zone");
                let (none, flags) = (None::<&str>, nix::mount::MsFlags::MS_BIND);
                nix::mount::mount(Some(&file), "/etc/localtime", none, flags, none).expect("put in place");
                assert_eq!(utc_offset_s(1_772_352_900), hours * 3600);
            }
            return;
        }
        let program = std::env::current_exe().expect("a program");
        let try_out = |arguments: &[&str]| {
            let mut command = std::process::Command::new("unshare");
            command.args(["--mount", "--map-root-user"]).args(arguments).env_remove("TZ");
            command
        };
        let can = std::path::Path::new("/etc/localtime").exists()
            && std::env::var_os("RECORDD_TEST_RUNNER").is_none()
            && try_out(&["true"]).output().is_ok_and(|output| output.status.success());
        if !can {
            return eprintln!("skipped: no other time zone can be put in place here");
        }
        let dir = tempfile::tempdir().expect("a folder");
        let name = "time_zone::tests::a_time_zone_that_is_set_while_the_process_runs_is_seen";
        let program = program.to_str().expect("a path");
        let output = try_out(&[program, "--exact", name]).env(INSIDE, dir.path()).output().expect("a run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
