//! Import of a stick, a folder or single files: copied, checked, and then in the catalogue.
//!
//! Invariants: a recording that is there already is not copied again; a copy is compared with its original
//! before it counts; nothing is changed where the files come from.

use super::intake::{Counts, IMPORTED, folders};
use crate::catalogue::Catalogue;
use crate::catalogue::model::{Found, Place};
use crate::media::look::{Look, hash_again, look, place};
use crate::media::path;
use crate::media::vault::Media;
use crate::site::Site;
use crate::time::rfc3339;
use recfile::name::{is_record_file_name, sidecar_name};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use store::fs::{Fs, RealFs};

/// Names that are tried for a copy.
const MAX_ATTEMPTS: u32 = 10_000;

/// The recordings that a person named: files, and all in folders.
///
/// # Errors
/// One of them is not there, or no recording, for a person.
pub(crate) fn files(named: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for named in named {
        let kind = std::fs::metadata(named).map_err(|error| format!("{}: {error}", named.display()))?;
        if kind.is_file() {
            found.push(named.clone());
            continue;
        }
        for folder in folders(named) {
            let folder = named.join(folder);
            let entries =
                std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            found.extend(names.filter(|name| is_record_file_name(name)).map(|name| folder.join(name)));
        }
    }
    found.sort();
    Ok(found)
}

/// Imports one file into the folder `media`; returns a problem of the file, if there is one.
pub(crate) async fn import(
    catalogue: &dyn Catalogue,
    site: &Site,
    media: &Path,
    file: &Path,
    counts: &mut Counts,
) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let folder = file.parent().unwrap_or(Path::new("."));
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(|| told(&"its name is no text"))?;
    let original = place(folder, "", name).map_err(|error| told(&error))?;
    let found = match look(original, site, Some(IMPORTED), None) {
        Look::Found(found) => *found,
        Look::Busy => {
            counts.busy += 1;
            return Err(told(&"it is being written"));
        }
        Look::Gone => return Err(told(&"it is not there any more")),
        Look::Broken(reason) => {
            counts.broken += 1;
            return Err(told(&reason));
        }
    };
    let known = catalogue.has(&found.device, &found.recording, found.segment, &found.sha256).await;
    if known.map_err(|error| told(&error))? {
        counts.duplicate += 1;
        return Ok(());
    }
    let copied = copy(media, &found).map_err(|error| told(&format!("it can't be copied: {error}")))?;
    let taken = catalogue.take(&[Found { place: copied, ..found }]).await.map_err(|error| told(&error))?;
    counts.note(&taken);
    Ok(())
}

/// Copies a recording and its sidecar, under a name that is free.
fn copy(media: &Path, found: &Found) -> io::Result<Place> {
    let day = rfc3339(found.started_us)[..10].to_owned();
    let folder = media.join(&day);
    std::fs::create_dir_all(&folder)?;
    let original = path(&found.place);
    let stem = found.place.name.rsplit_once('.').map_or(found.place.name.as_str(), |(stem, _)| stem);
    for attempt in 1..MAX_ATTEMPTS {
        let name = if attempt == 1 { found.place.name.clone() } else { format!("{stem}-{attempt}.wav") };
        let to = folder.join(&name);
        // Exclusively: nothing that is there is written over.
        let file = match RealFs.create(&to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Of an import that ended between copy and catalogue.
                if hashed(&to).is_ok_and(|hash| hash == found.sha256) {
                    return place(media, &day, &name);
                }
                continue;
            }
            created => created?,
        };
        let copied = fill(&original, file).and_then(|()| {
            if hashed(&to)? == found.sha256 {
                Ok(())
            } else {
                Err(io::Error::other("the copy differs from the file: look at the disk, then import again"))
            }
        });
        let copied = copied.and_then(|()| {
            match RealFs.open_read(&original.with_file_name(sidecar_name(&found.place.name))) {
                Ok(mut sidecar) => {
                    let mut beside = RealFs.create(&folder.join(sidecar_name(&name)))?;
                    io::copy(&mut sidecar, &mut beside)?;
                    beside.sync_all()
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            }
        });
        if let Err(error) = copied {
            let _ = std::fs::remove_file(&to);
            return Err(error);
        }
        RealFs.sync_folder(&folder)?;
        return place(media, &day, &name);
    }
    Err(io::Error::other("all names are taken"))
}

fn hashed(path: &Path) -> io::Result<[u8; 32]> {
    hash_again(Media::Plain(RealFs.open_read(path)?))
}

fn fill(from: &Path, mut to: File) -> io::Result<()> {
    io::copy(&mut RealFs.open_read(from)?, &mut to)?;
    to.sync_all()
}
