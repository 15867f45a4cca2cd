//! System calls on open files and folders: locks, syncs of a whole filesystem, room set aside, names read bit
//! by bit.

use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Takes an exclusive advisory lock without waiting; false if another open file has it. Released when
/// the file is closed.
///
/// # Errors
/// As the system says; filesystems without locks report one.
#[expect(unsafe_code, reason = "flock has no wrapper that works on a borrowed file")]
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: plain system call on a descriptor that outlives it.
    let result = Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) });
    match result {
        Ok(_) => Ok(true),
        Err(Errno::EWOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Releases the lock that [`try_lock`] took, and leaves the file open.
///
/// # Errors
/// As the system says.
#[expect(unsafe_code, reason = "flock has no wrapper that works on a borrowed file")]
pub fn unlock(file: &File) -> io::Result<()> {
    // SAFETY: plain system call on a descriptor that outlives it.
    Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) })?;
    Ok(())
}

/// Writes everything that waits for the filesystem of `file` to its disk.
///
/// # Errors
/// As the system says. Only the first error counts: on a dead disk a second call returns success.
#[expect(unsafe_code, reason = "syncfs has no wrapper")]
pub fn sync_fs(file: &File) -> io::Result<()> {
    // SAFETY: plain system call on a descriptor that outlives it.
    Errno::result(unsafe { libc::syncfs(file.as_raw_fd()) })?;
    Ok(())
}

/// Sets room aside for a file to grow to `octets`, beyond 2 GiB too, without changing its length.
///
/// # Errors
/// As the system says; some filesystems can't.
#[expect(unsafe_code, reason = "the wrappers take a length of 32 bits on 32-bit systems")]
pub fn set_aside(file: &File, octets: u64) -> io::Result<()> {
    let octets = libc::off64_t::try_from(octets).map_err(|_| io::Error::from(Errno::EFBIG))?;
    // SAFETY: plain system call on a descriptor that outlives it.
    Errno::result(unsafe { libc::fallocate64(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, octets) })?;
    Ok(())
}

/// Octets of a folder that are read at a time: several hundred names.
const NAMES_OCTETS: usize = 16 * 1024;

/// Octets before the name of an entry: number of the file, place of the next entry, length, kind
/// (getdents64(2)).
const ENTRY_NAME: usize = 19;

/// Reads some names of a folder that was opened, from where it stands. Gives the place of the next name, for
/// [`std::io::Seek`], or `None` at the end of the folder.
///
/// # Errors
/// As the system says.
#[expect(unsafe_code, reason = "a folder can only be read on from a place with the system's own call")]
pub fn read_names(folder: &File, show: &mut dyn FnMut(&[u8])) -> io::Result<Option<u64>> {
    // Words, so that the entries in it are aligned as the kernel wants them.
    let mut buffer = [0_u64; NAMES_OCTETS / 8];
    // SAFETY: the kernel writes at most `NAMES_OCTETS` octets, the length of the buffer, into it.
    let count = Errno::result(unsafe {
        libc::syscall(libc::SYS_getdents64, folder.as_raw_fd(), buffer.as_mut_ptr(), NAMES_OCTETS)
    })?;
    let count = usize::try_from(count).unwrap_or(0).min(NAMES_OCTETS);
    let octets: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).take(count).collect();
    let mut next = None;
    let mut rest = &octets[..];
    while let (Some(place), Some(length)) = (rest.get(8..16), rest.get(16..18)) {
        let length = length.try_into().map_or(0, u16::from_ne_bytes);
        let Some(entry) = rest.get(..usize::from(length)).filter(|entry| entry.len() > ENTRY_NAME) else {
            break;
        };
        next = place.try_into().ok().map(u64::from_ne_bytes);
        let name = entry[ENTRY_NAME..].split(|octet| *octet == 0).next().unwrap_or_default();
        show(name);
        rest = &rest[usize::from(length)..];
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_on_from_the_place_where_it_was_left() {
        use std::io::{Seek, SeekFrom};
        let dir = tempfile::tempdir().expect("a folder");
        let mut made: Vec<String> =
            (0..2000).map(|number| format!("a name of some length {number}")).collect();
        for name in &made {
            File::create(dir.path().join(name)).expect("a file");
        }
        let (mut found, mut place, mut steps) = (Vec::new(), Some(0), 0);
        while let Some(from) = place {
            let mut folder = File::open(dir.path()).expect("the folder");
            folder.seek(SeekFrom::Start(from)).expect("a place in it");
            let mut show = |name: &[u8]| found.push(String::from_utf8_lossy(name).into_owned());
            place = read_names(&folder, &mut show).expect("names");
            steps += 1;
        }
        made.extend([".".into(), "..".into()]);
        made.sort_unstable();
        found.sort_unstable();
        assert!(steps > 3, "{steps} steps");
        assert_eq!(found, made);
    }

    #[test]
    fn room_beyond_2_gib_is_set_aside_and_written_to() {
        use std::os::unix::fs::{FileExt, MetadataExt};
        const FAR: u64 = 5 << 29;
        let file = tempfile::tempfile().expect("a file");
        match set_aside(&file, FAR) {
            Ok(()) => assert!(file.metadata().expect("facts").blocks() * 512 >= FAR),
            Err(error) => {
                let errno = error.raw_os_error().map(Errno::from_raw);
                let excused = [Errno::EOPNOTSUPP, Errno::ENOSPC, Errno::ENOSYS];
                assert!(errno.is_some_and(|errno| excused.contains(&errno)), "{error}");
            }
        }
        file.set_len(0).expect("room given back");
        file.write_all_at(b"far", FAR).expect("written");
        let mut octets = [0; 3];
        file.read_exact_at(&mut octets, FAR).expect("read");
        assert_eq!((&octets, file.metadata().expect("facts").len()), (b"far", FAR + 3));
    }
}
