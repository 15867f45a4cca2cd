//! The kernel's mount table: which filesystem is where, and which one a path leads to.
//!
//! Owns: reading the table. Paths are octets and need not be text: a stick's label may be in any code.
//! Invariant: a line that can't be read costs that line, never another one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The kernel's mount table; `poll` on it signals changes.
pub const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// Most octets of the table that are read: tens of thousands of mounts.
const MAX_TABLE_OCTETS: u64 = 8 * 1024 * 1024;

/// One line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Number of the mount.
    pub id: u64,
    /// Number of the mount that it is on; not in the table if that is outside of a chroot.
    pub parent: u64,
    /// Major and minor device number.
    pub device: (u32, u32),
    /// The mounted part of the filesystem: `/`, or the folder of a bind mount.
    pub part: PathBuf,
    /// Mount point.
    pub point: PathBuf,
    /// Filesystem type, as the kernel calls it.
    pub filesystem: String,
    /// Device node or other source.
    pub source: PathBuf,
    /// Mounted read-only.
    pub read_only: bool,
    /// Mounted with `sync`.
    pub sync: bool,
}

/// The table as it is now.
///
/// # Errors
/// As the system says.
pub fn mounts() -> io::Result<Vec<Mount>> {
    let mut table = Vec::new();
    File::open(MOUNT_TABLE)?.take(MAX_TABLE_OCTETS).read_to_end(&mut table)?;
    Ok(parse_mounts(&table))
}

/// Reads a mount table (`proc_pid_mountinfo(5)`); lines of another form are skipped.
#[must_use]
pub fn parse_mounts(table: &[u8]) -> Vec<Mount> {
    table.split(|octet| *octet == b'\n').filter_map(parse_mount).collect()
}

fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|octet| *octet == b' ');
    let (id, parent) = (number(fields.next()?)?, number(fields.next()?)?);
    let mut device = fields.next()?.splitn(2, |octet| *octet == b':');
    let device = (number(device.next()?)?, number(device.next()?)?);
    let (part, point) = (unescape(fields.next()?), unescape(fields.next()?));
    let mount_options = fields.next()?;
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let (filesystem, source, super_options) = (rest.next()?, rest.next()?, rest.next()?);
    let comma = |octet: &u8| *octet == b',';
    let has = |name: &[u8]| mount_options.split(comma).chain(super_options.split(comma)).any(|it| it == name);
    Some(Mount {
        id,
        parent,
        device,
        part,
        point,
        filesystem: match filesystem {
            b"fuseblk" | b"ntfs3" => "ntfs".into(),
            other => String::from_utf8_lossy(other).into_owned(),
        },
        source: unescape(source),
        // The second is ext4's since Linux 6.15, after an error.
        read_only: has(b"ro") || has(b"emergency_ro"),
        sync: has(b"sync"),
    })
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Undoes the kernel's octal escapes of blanks and backslashes.
fn unescape(field: &[u8]) -> PathBuf {
    let mut octets = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                octets.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                octets.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(octets))
}

/// The mount that an absolute path without links leads to; `None` if the table does not say, as in a chroot.
///
/// Mounts hide one another: a mount over a point, or over a folder on the way to it, is the one that is
/// reached.
#[must_use]
pub fn resolve<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let nearest = |of: &dyn Fn(&Mount) -> bool| {
        let on_the_way = mounts.iter().filter(|it| of(it) && is_below(path, &it.point));
        on_the_way.min_by_key(|it| it.point.as_os_str().len())
    };
    let mut ids: Vec<u64> = mounts.iter().map(|mount| mount.id).collect();
    ids.sort_unstable();
    let is_top = |it: &Mount| it.parent == it.id || ids.binary_search(&it.parent).is_err();
    let mut found = nearest(&is_top)?;
    // Every step goes down one mount; a table that leads in circles is none of the kernel's.
    for _ in 0..mounts.len() {
        match nearest(&|it: &Mount| it.parent == found.id && it.id != found.id) {
            Some(next) => found = next,
            None => break,
        }
    }
    Some(found)
}

/// Whether `path` is `folder` or in it, by octets.
fn is_below(path: &Path, folder: &Path) -> bool {
    let (path, folder) = (path.as_os_str().as_bytes(), folder.as_os_str().as_bytes());
    match path.strip_prefix(folder) {
        Some(rest) => rest.is_empty() || folder.ends_with(b"/") || rest.starts_with(b"/"),
        None => false,
    }
}

/// Whether a mount can be reached at its point, not hidden by another one.
#[must_use]
pub fn is_reached(mounts: &[Mount], mount: &Mount) -> bool {
    resolve(mounts, &mount.point).is_some_and(|found| found.id == mount.id)
}

/// Whether `source` names a device node.
#[must_use]
pub fn is_node(source: &Path) -> bool {
    source.starts_with(OsStr::new("/dev/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_mount_table_is_read_with_escapes_and_options() {
        let table =
            b"36 35 8:1 / /media/My\\040Stick rw,noatime master:1 - vfat /dev/sda1 rw,sync,fmask=0022\n\
                     nonsense\n\
                     40 35 8:17 / /media/b ro,relatime - fuseblk /dev/sdb1 rw,user_id=0\n\
                     41 35 8:33 /a\\134b /media/c rw - ext4 /dev/sdc1 rw,errors=remount-ro,emergency_ro\n";
        let mounts = parse_mounts(table);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].point, Path::new("/media/My Stick"));
        assert_eq!((mounts[0].id, mounts[0].parent, mounts[0].device), (36, 35, (8, 1)));
        assert!(mounts[0].sync && !mounts[0].read_only);
        assert_eq!(mounts[1].filesystem, "ntfs");
        assert!(mounts[1].read_only && mounts[2].read_only);
        assert_eq!(mounts[2].part, Path::new("/a\\b"));
    }

    #[test]
    fn a_name_in_any_code_is_kept_octet_by_octet_and_costs_no_other_line() {
        let mut table = b"36 35 8:1 / /media/good rw - vfat /dev/sda1 rw\n".to_vec();
        // "Büro" as a FAT label in CP850 and in Latin-1, and octets of no code.
        for name in [&b"B\x81ro"[..], b"B\xfcro", b"\xff\xfe\x80"] {
            table.extend(b"40 35 8:17 / /media/");
            table.extend(name);
            table.extend(b" rw - vfat /dev/\xe9t\xe9 rw\n");
        }
        let mounts = parse_mounts(&table);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[1].point.as_os_str().as_bytes(), b"/media/B\x81ro");
        assert_eq!(mounts[3].point.as_os_str().as_bytes(), b"/media/\xff\xfe\x80");
        assert_eq!(mounts[3].source.as_os_str().as_bytes(), b"/dev/\xe9t\xe9");
    }

    #[test]
    fn a_line_of_any_length_is_read() {
        let mut table = b"40 35 0:30 / /merged rw - overlay overlay rw,lowerdir=".to_vec();
        table.extend(b"/var/lib/layers/abcdefghijklmnopqrstuvwxyz:".repeat(2000));
        table.extend(b"\n36 35 8:1 / /media/stick rw - vfat /dev/sda1 rw\n");
        let points: Vec<_> = parse_mounts(&table).into_iter().map(|mount| mount.point).collect();
        assert_eq!(points, [Path::new("/merged"), Path::new("/media/stick")]);
    }

    #[test]
    fn only_three_octal_digits_behind_a_backslash_are_an_escape() {
        for (written, meant) in [
            (&br"a\011b\012c"[..], &b"a\tb\nc"[..]),
            (br"a\134040", br"a\040"),
            (br"\+12", br"\+12"),
            (br"\400\38", br"\400\38"),
            (br"end\04", br"end\04"),
            (br"\043\\040", br"#\ "),
        ] {
            assert_eq!(unescape(written).as_os_str().as_bytes(), meant, "{written:?}");
        }
    }

    fn table() -> Vec<Mount> {
        parse_mounts(
            b"1 0 8:2 / / rw - ext4 /dev/sda2 rw\n\
              2 1 8:17 / /media/stick rw - vfat /dev/sdb1 rw\n\
              3 1 8:33 / /media/covered rw - vfat /dev/sdc1 rw\n\
              4 3 0:30 / /media/covered rw - tmpfs tmpfs rw\n\
              5 1 8:49 / /srv/a/b rw - ext4 /dev/sdd1 rw\n\
              6 1 0:31 / /srv/a rw - tmpfs tmpfs rw\n\
              7 1 8:17 /share /media/sticky rw - vfat /dev/sdb1 rw\n",
        )
    }

    #[test]
    fn a_path_leads_to_the_mount_that_is_on_top() {
        let mounts = table();
        let at = |path: &str| resolve(&mounts, Path::new(path)).map(|mount| mount.id);
        assert_eq!(at("/media/stick/Record"), Some(2));
        assert_eq!(at("/media/sticks"), Some(1), "a name that only begins alike");
        assert_eq!(at("/media/sticky/x"), Some(7));
        assert_eq!(at("/media/covered"), Some(4), "another filesystem was mounted over it");
        assert_eq!(at("/srv/a/b"), Some(6), "hidden by the mount over the folder above");
        assert_eq!(at("/"), Some(1));
        let reached: Vec<u64> = mounts.iter().filter(|it| is_reached(&mounts, it)).map(|it| it.id).collect();
        assert_eq!(reached, [1, 2, 4, 6, 7]);
    }

    #[test]
    fn in_a_chroot_the_table_has_no_root_and_says_nothing_of_it() {
        let mounts: Vec<Mount> = table().into_iter().filter(|mount| mount.id != 1).collect();
        assert_eq!(resolve(&mounts, Path::new("/etc")), None);
        assert_eq!(resolve(&mounts, Path::new("/media/stick")).map(|mount| mount.id), Some(2));
    }

    #[test]
    fn a_table_that_leads_in_circles_has_an_end() {
        let mounts =
            parse_mounts(b"1 2 8:1 / / rw - a a rw\n2 1 8:1 / / rw - a a rw\n3 3 8:1 / / rw - a a rw\n");
        assert!(resolve(&mounts, Path::new("/x")).is_some());
    }

    fn field() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..12)
    }

    proptest! {
        #[test]
        fn any_octets_are_read_and_a_good_line_among_them_too(
            before in prop::collection::vec(any::<u8>(), 0..200),
            after in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let good = b"\n36 35 8:1 / /media/good rw - vfat /dev/sda1 rw\n";
            let table = [&before[..], good, &after[..]].concat();
            let mounts = parse_mounts(&table);
            prop_assert!(mounts.len() <= table.split(|octet| *octet == b'\n').count());
            prop_assert!(mounts.iter().any(|mount| mount.point == Path::new("/media/good")));
            for mount in &mounts {
                let _ = (resolve(&mounts, &mount.point), is_reached(&mounts, mount));
            }
        }

        #[test]
        fn any_name_is_read_as_the_kernel_writes_it(name in field()) {
            // Characters that the kernel escapes: `mangle_path` of `show_mountinfo`.
            let name: Vec<u8> = name.into_iter().filter(|octet| *octet != 0).collect();
            let mut written = b"/".to_vec();
            for octet in &name {
                if b" \t\n\\#".contains(octet) {
                    written.extend(format!("\\{octet:03o}").bytes());
                } else {
                    written.push(*octet);
                }
            }
            let line = [b"1 0 8:1 / ", &written[..], b" rw - vfat /dev/sda1 rw"].concat();
            let mounts = parse_mounts(&line);
            prop_assert_eq!(mounts.len(), 1);
            prop_assert_eq!(mounts[0].point.as_os_str().as_bytes(), [b"/", &name[..]].concat());
        }
    }
}
