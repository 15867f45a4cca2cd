//! The filesystem as the writer needs it: a trait, so that tests can make any operation fail.

use super::access::{Access, open_to_change};
use crate::jobs::Space;
use nix::errno::Errno;
use nix::sys::statfs::{MSDOS_SUPER_MAGIC, fstatfs};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A file in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// File name.
    pub name: String,
    /// Octets.
    pub octets: u64,
}

/// Every operation that the writer does on a filesystem.
pub trait Fs {
    /// An open file.
    type File;

    /// Creates a file that must not exist, for reading and writing.
    ///
    /// # Errors
    /// As the system says; `AlreadyExists` if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file for reading and writing: a plain one that has no other name.
    ///
    /// # Errors
    /// As the system says, and `InvalidInput` with the kind of object found.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a plain file for reading: no link, no device.
    ///
    /// # Errors
    /// As the system says.
    fn open_read(&self, path: &Path) -> io::Result<Self::File>;
    /// The time of the file's last change, in milliseconds since the Unix epoch; 0 if that is not kept.
    ///
    /// # Errors
    /// As the system says.
    fn modified_ms(&self, file: &Self::File) -> io::Result<i64>;
    /// Shows the names in a folder, of objects of any kind.
    ///
    /// # Errors
    /// As the system says.
    fn names(&self, path: &Path, show: &mut dyn FnMut(&str)) -> io::Result<()>;
    /// Shows some of the names in a folder, from a place in it on; 0 is its beginning. Returns the place of
    /// the next name, or `None` at the end, so the caller can go on later. Nothing stays open meanwhile.
    ///
    /// # Errors
    /// As the system says.
    fn names_from(&self, path: &Path, place: u64, show: &mut dyn FnMut(&str)) -> io::Result<Option<u64>>;
    /// Takes the lock that tells other programs that the file is being written. False if it is taken.
    ///
    /// # Errors
    /// As the system says.
    fn lock(&self, file: &Self::File) -> io::Result<bool>;
    /// Releases the lock of a file that stays open. A filesystem without locks has nothing to do.
    ///
    /// # Errors
    /// As the system says.
    fn unlock(&self, file: &Self::File) -> io::Result<()>;
    /// Writes at the end of the file; may write less than asked for.
    ///
    /// # Errors
    /// As the system says.
    fn append(&self, file: &mut Self::File, octets: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Writes at an offset.
    ///
    /// # Errors
    /// As the system says.
    fn write_at(&self, file: &Self::File, octets: &[u8], offset: u64) -> io::Result<()>;
    /// Reads at an offset until the buffer is full or the file ends.
    ///
    /// # Errors
    /// As the system says.
    fn read_at(&self, file: &Self::File, octets: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Cuts or extends the file.
    ///
    /// # Errors
    /// As the system says.
    fn set_len(&self, file: &Self::File, octets: u64) -> io::Result<()>;
    /// Length of the file.
    ///
    /// # Errors
    /// As the system says.
    fn len(&self, file: &Self::File) -> io::Result<u64>;
    /// Makes content and length durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;
    /// Makes durable the part that [`Self::sync_data`] may leave out: on vfat the size in the directory.
    ///
    /// # Errors
    /// As the system says.
    fn sync_fs(&self, file: &Self::File) -> io::Result<()>;
    /// Sets room aside for a file to grow to `octets` without changing its length, where a filesystem could
    /// otherwise be left with a length beyond the room that it has (vfat). As good as it can: room that is
    /// not set aside now is found when it is written.
    fn set_aside(&self, file: &Self::File, octets: u64);
    /// Gives back the room set aside beyond the `octets` that the file has.
    ///
    /// # Errors
    /// As the system says.
    fn give_back(&self, file: &Self::File, octets: u64) -> io::Result<()>;
    /// Makes everything durable that any process wrote to the filesystem of the file.
    ///
    /// # Errors
    /// As the system says, also about writes to other files since `file` was opened.
    fn sync_everything(&self, file: &Self::File) -> io::Result<()>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Replaces `to` by `from`.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Creates a folder; fine if it is there, or a link to one.
    ///
    /// # Errors
    /// As the system says.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Whether a name is that of a link. A filesystem without links has none.
    fn is_link(&self, path: &Path) -> bool;
    /// The files in a folder.
    ///
    /// # Errors
    /// As the system says.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Content of a small plain file, at most `limit` octets.
    ///
    /// # Errors
    /// As the system says.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;
    /// Device number of the filesystem that a path is on.
    ///
    /// # Errors
    /// As the system says.
    fn device(&self, path: &Path) -> io::Result<u64>;
    /// Room on the filesystem of a path.
    ///
    /// # Errors
    /// As the system says.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Device number of the filesystem that an open file is on; `None` where there is only one.
    ///
    /// # Errors
    /// As the system says.
    fn device_of(&self, file: &Self::File) -> io::Result<Option<u64>>;
}

fn is_vfat(file: &File) -> io::Result<bool> {
    Ok(fstatfs(file)?.filesystem_type() == MSDOS_SUPER_MAGIC)
}

/// The system's filesystem.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFs {
    /// The access of others to new files.
    pub access: Access,
}

/// The system's filesystem, where nothing but the type is meant.
pub type RealFs = SystemFs;

/// The system's filesystem, with files that are their owner's alone.
#[expect(non_upper_case_globals, reason = "it is the value of the type that has its name")]
pub const RealFs: SystemFs = SystemFs { access: Access::PRIVATE };

impl Fs for SystemFs {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        self.access.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        open_to_change(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<File> {
        // Without the second flag a named pipe would wait for a writer.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    fn modified_ms(&self, file: &File) -> io::Result<i64> {
        let metadata = file.metadata()?;
        Ok(metadata.mtime().saturating_mul(1000).saturating_add(metadata.mtime_nsec() / 1_000_000))
    }

    fn names(&self, path: &Path, show: &mut dyn FnMut(&str)) -> io::Result<()> {
        for entry in std::fs::read_dir(path)? {
            if let Some(name) = entry?.file_name().to_str() {
                show(name);
            }
        }
        Ok(())
    }

    fn names_from(&self, path: &Path, place: u64, show: &mut dyn FnMut(&str)) -> io::Result<Option<u64>> {
        let mut folder = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
        if place > 0 {
            folder.seek(SeekFrom::Start(place))?;
        }
        os::read_names(&folder, &mut |name| {
            if let Ok(name) = std::str::from_utf8(name) {
                show(name);
            }
        })
    }

    fn lock(&self, file: &File) -> io::Result<bool> {
        os::try_lock(file)
    }

    fn unlock(&self, file: &File) -> io::Result<()> {
        os::unlock(file)
    }

    fn append(&self, file: &mut File, octets: &[IoSlice<'_>]) -> io::Result<usize> {
        file.write_vectored(octets)
    }

    fn write_at(&self, file: &File, octets: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(octets, offset)
    }

    fn read_at(&self, file: &File, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < octets.len() {
            match file.read_at(&mut octets[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn set_len(&self, file: &File, octets: u64) -> io::Result<()> {
        file.set_len(octets)
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_fs(&self, file: &File) -> io::Result<()> {
        if is_vfat(file)? { os::sync_fs(file) } else { Ok(()) }
    }

    fn set_aside(&self, file: &File, octets: u64) {
        if let Ok(true) = is_vfat(file) {
            let _ = os::set_aside(file, octets);
        }
    }

    fn give_back(&self, file: &File, octets: u64) -> io::Result<()> {
        if is_vfat(file)? { file.set_len(octets) } else { Ok(()) }
    }

    fn sync_everything(&self, file: &File) -> io::Result<()> {
        os::sync_fs(file)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        match File::open(path)?.sync_all() {
            // Some filesystems can't sync a folder; its names go out with the next syncfs.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match self.access.create_folder(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }

    fn is_link(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok_and(|found| found.is_symlink())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let Ok(metadata) = entry.metadata() else { continue };
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                entries.push(Entry { name, octets: metadata.len() });
            }
        }
        Ok(entries)
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let mut octets = Vec::new();
        // A named pipe in its place would keep the thread, and every recording with it, for ever.
        self.open_read(path)?.take(limit as u64).read_to_end(&mut octets)?;
        Ok(octets)
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        device(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        space(path)
    }

    fn device_of(&self, file: &File) -> io::Result<Option<u64>> {
        Ok(Some(file.metadata()?.dev()))
    }
}

/// Device number of the filesystem that a path is on.
pub(super) fn device(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.dev())
}

/// Room on the filesystem of a path.
#[allow(clippy::useless_conversion, reason = "these counters have 32 bits on 32-bit systems")]
pub(super) fn space(path: &Path) -> io::Result<Space> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    let fragment = u64::from(stat.fragment_size());
    Ok(Space {
        total_octets: u64::from(stat.blocks()) * fragment,
        free_octets: u64::from(stat.blocks_available()) * fragment,
    })
}

/// Appends everything and adds the octets that the disk took to `written`, also in the case of an error.
///
/// # Errors
/// As the system says; a disk that takes nothing is full.
pub fn append_all<F: Fs>(
    fs: &F,
    handle: &mut F::File,
    mut slices: &mut [IoSlice<'_>],
    written: &mut u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match fs.append(handle, slices) {
            Ok(0) => return Err(Errno::ENOSPC.into()),
            Ok(count) => {
                *written += count as u64;
                IoSlice::advance_slices(&mut slices, count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
