//! The output file of an export.
//!
//! Owns: that it appears whole or not at all, over no existing file unless forced, and never over a
//! recording; that others can't read it; and that a failed export leaves nothing behind.

use super::super::recording::sidecar_path;
use super::files::FileSet;
use recfile::format::{Format, PROBE_OCTETS};
use recfile::header::HeaderError;
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use store::access::Access;

/// Names that are tried for a temporary file: a killed process of the same number may have left one.
const MAX_ATTEMPTS: u32 = 100;

/// Whether a WAV may go to `out`; `inputs` are the recordings of this run and their sidecars.
///
/// # Errors
/// The obstacle, and what to do.
pub(in crate::offline) fn check(out: &Path, force: bool, inputs: &FileSet) -> Result<(), String> {
    if inputs.contains(out) {
        return Err(
            "this is one of the recordings to export, or its sidecar; choose another place with -o".into()
        );
    }
    let kind = match fs::symlink_metadata(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{error}; choose another place with -o")),
        Ok(meta) => meta.file_type(),
    };
    if !kind.is_file() {
        return Err(format!(
            "{} is there, and only a plain file is ever replaced; choose another name with -o",
            name_of(kind)
        ));
    }
    if is_recording(out)? {
        return Err(
            "a recording is there, and none is overwritten, not even with --force; choose another place \
             with -o"
                .into(),
        );
    }
    if force { Ok(()) } else { Err("exists already; --force overwrites it".into()) }
}

fn name_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Whether the plain file at `path` is a recording, or was one before its beginning was damaged: then its
/// sidecar can rebuild it.
fn is_recording(path: &Path) -> Result<bool, String> {
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(PROBE_OCTETS as u64).read_to_end(&mut head)).map_err(
        |error| format!("cannot tell whether it is a recording: {error}; choose another place with -o"),
    )?;
    Ok(match Format::detect(&head) {
        Ok(_) => true,
        Err(HeaderError::Encrypted(_) | HeaderError::KeyHeader) => true,
        Err(HeaderError::StandardWav) => false,
        Err(_) => sidecar_path(path).is_file(),
    })
}

/// An unfinished file; removed when dropped.
pub(in crate::offline) struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// In the folder of `out`. Its own name is short: that of `out` may be as long as names can be.
    pub(in crate::offline) fn beside(out: &Path) -> Result<Self, String> {
        let mut attempt = 0;
        loop {
            let path = out.with_file_name(format!(".export-{}-{attempt}.part", std::process::id()));
            match Access::PRIVATE.create(&path) {
                Ok(file) => return Ok(Self { path, file }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < MAX_ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => {
                    return Err(format!(
                        "cannot write into its folder: {error}; choose another place with -o"
                    ));
                }
            }
        }
    }

    pub(in crate::offline) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name. The replaced file may have been readable for fewer users still.
    pub(in crate::offline) fn rename(mut self, out: &Path) -> io::Result<()> {
        if let Ok(former) = fs::symlink_metadata(out) {
            let _ = self.file.set_permissions(fs::Permissions::from_mode(former.mode() & 0o600));
        }
        fs::rename(&self.path, out)?;
        // The old name may be another's by now.
        self.path = PathBuf::new();
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A folder to write into. Where it had to be made, it goes again when dropped with nothing in it.
pub(in crate::offline) struct OutFolder {
    /// Innermost first.
    made: Vec<PathBuf>,
}

impl OutFolder {
    pub(in crate::offline) fn make(path: &Path) -> Result<Self, String> {
        let made = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let folder = Self { made: made.map(Path::to_owned).collect() };
        match fs::create_dir_all(path) {
            Ok(()) => Ok(folder),
            Err(_) if path.exists() => Err("is no folder; with folders, -o names one to write into".into()),
            Err(error) => Err(format!("cannot make the folder: {error}; choose another place with -o")),
        }
    }
}

impl Drop for OutFolder {
    fn drop(&mut self) {
        for folder in &self.made {
            // Only an empty one goes.
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}
