//! Backups: the decisions of people, the audit log and the keys, with a list of their media.
//!
//! Owns: the folder of a backup. Other tools copy the media themselves; the list names each, with the hash of
//! its audio. Invariants: a backup is whole or has no [`SUMMARY`]; one that does not open, or whose audit log
//! does not fit, is none; a restore never replaces a catalogue.

use super::verify::{Anchors, verify};
use crate::access::site_key::PublicKey;
use crate::catalogue::Catalogue;
use crate::catalogue::sqlite::SqliteCatalogue;
use crate::catalogue::sqlite::folders::move_root;
use crate::clock;
use crate::id::{hex, unhex};
use crate::time::rfc3339;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file that is written last: a folder with it holds a complete backup.
const SUMMARY: &str = "backup.json";
const CATALOGUE: &str = "catalogue.sqlite";
const INVENTORY: &str = "media.jsonl";
const KEYS: &str = "keys";
/// Files of the list read at a time.
const BATCH: u32 = 1000;
/// Files of keys at most, and octets of each.
const MAX_KEYS: usize = 1000;
const MAX_KEY_OCTETS: u64 = 1 << 20;
/// Version of the folder's layout.
const VERSION: u32 = 1;

/// The summary of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    version: u32,
    /// The program that made it.
    program: String,
    /// The time at which it was made.
    at: String,
    /// Entries of the audit log, and the hash of the last one.
    pub(crate) entries: i64,
    head: String,
    /// Recordings in the catalogue.
    pub(crate) recordings: i64,
    /// Files in the list of media.
    pub(crate) media: u64,
    /// The archive's own folder of media, which another archive has elsewhere.
    #[serde(default)]
    media_folder: String,
    /// SHA-256 of each file, by its name.
    files: BTreeMap<String, String>,
}

/// A line of the list of media.
#[derive(Serialize, Deserialize)]
struct MediaFile {
    root: String,
    folder: String,
    name: String,
    octets: i64,
    /// SHA-256 of its audio.
    sha256: String,
}

fn told(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// Makes a backup in a folder that is empty or not there, and proves it by opening a copy of it.
///
/// # Errors
/// A text for the administrator. There is no summary then.
pub(crate) async fn backup(
    catalogue: &dyn Catalogue,
    (keys, media_folder): (&Path, &Path),
    key: Option<PublicKey>,
    to: &Path,
) -> Result<Summary, String> {
    if std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(told(to, &"it is not empty; give a folder of its own for each backup"));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(|error| told(to, &error))?;
    let copy = to.join(CATALOGUE);
    catalogue.copy_to(&copy).await.map_err(|error| error.to_string())?;
    std::fs::set_permissions(&copy, Permissions::from_mode(0o600)).map_err(|error| told(&copy, &error))?;
    let mut files = BTreeMap::new();
    for name in key_files(keys).map_err(|error| told(keys, &error))? {
        let relative = format!("{KEYS}/{name}");
        take(&keys.join(&name), &to.join(&relative)).map_err(|error| told(&keys.join(&name), &error))?;
        files.insert(relative, String::new());
    }
    // The list and the proof are of the copy: the running catalogue goes on meanwhile.
    let proof = proof(&copy, key).await?;
    let media = list(&proof.catalogue, &to.join(INVENTORY)).await?;
    let recordings = proof.catalogue.totals().await.map_err(|error| error.to_string())?.recordings;
    files.insert(CATALOGUE.into(), String::new());
    files.insert(INVENTORY.into(), String::new());
    for (name, sha256) in &mut files {
        let path = to.join(name);
        *sha256 = hashed(&path).map_err(|error| told(&path, &error))?;
    }
    let summary = Summary {
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").into(),
        at: rfc3339(clock::now_us()),
        entries: proof.entries,
        head: proof.head,
        recordings,
        media,
        media_folder: media_folder.to_string_lossy().into_owned(),
        files,
    };
    let text = serde_json::to_string_pretty(&summary).map_err(|error| error.to_string())?;
    let path = to.join(SUMMARY);
    write(&path, format!("{text}\n").as_bytes()).map_err(|error| told(&path, &error))?;
    File::open(to).and_then(|folder| folder.sync_all()).map_err(|error| told(to, &error))?;
    Ok(summary)
}

/// Puts a backup into an archive that has no catalogue yet. Media of the old archive's own folder are those
/// of `media_folder` from now on. Returns the summary, and the media of its list that are not there.
///
/// # Errors
/// A text for the administrator. There is no catalogue then.
pub(crate) async fn restore(
    from: &Path,
    database: &Path,
    (keys, media_folder): (&Path, &Path),
) -> Result<(Summary, Vec<PathBuf>), String> {
    let path = from.join(SUMMARY);
    let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => told(from, &"it is no whole backup: backup.json is missing"),
        _ => told(&path, &error),
    })?;
    let summary: Summary = serde_json::from_str(&text).map_err(|error| told(&path, &error))?;
    if summary.version != VERSION {
        return Err(told(&path, &format!("version {}; this program knows {VERSION}", summary.version)));
    }
    for there in [database, &keys.join(super::checkpoint::SECRET_FILE)] {
        if there.exists() {
            return Err(told(there, &"it is there already; a restore replaces nothing: move it away first"));
        }
    }
    for (name, sha256) in &summary.files {
        let path = from.join(name);
        let is_ours = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
        let good = is_ours && hashed(&path).map_err(|error| told(&path, &error))? == *sha256;
        if !good {
            return Err(told(&path, &"it is not what was backed up"));
        }
    }
    let key = from.join(KEYS).join(super::checkpoint::PUBLIC_FILE);
    let key = std::fs::read_to_string(key).ok().and_then(|text| PublicKey::parse(&text));
    let proof = proof(&from.join(CATALOGUE), key).await?;
    if (proof.entries, &proof.head) != (summary.entries, &summary.head) {
        return Err(told(from, &"its audit log is not the one that was backed up"));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(keys).map_err(|error| told(keys, &error))?;
    for name in summary.files.keys().filter_map(|name| name.strip_prefix("keys/")) {
        let to = keys.join(name);
        take(&from.join(KEYS).join(name), &to).map_err(|error| told(&to, &error))?;
    }
    // The catalogue comes last, in one step: without it there is no archive.
    let temporary = database.with_extension("restored");
    let _ = std::fs::remove_file(&temporary);
    take(&from.join(CATALOGUE), &temporary).map_err(|error| told(&temporary, &error))?;
    let here = media_folder.to_string_lossy();
    // Backups of before have no folder.
    let moved = (!summary.media_folder.is_empty() && summary.media_folder != here).then_some(&*here);
    if let Some(here) = moved {
        let done = move_root(&temporary, &summary.media_folder, here).await;
        done.map_err(|error| told(&temporary, &error))?;
    }
    std::fs::rename(&temporary, database).map_err(|error| told(database, &error))?;
    let missing = missing(&from.join(INVENTORY), moved.map(|here| (summary.media_folder.as_str(), here)));
    let missing = missing.map_err(|error| told(from, &error))?;
    Ok((summary, missing))
}

/// A copy of a backed-up catalogue that opens, with an audit log that fits.
struct Proof {
    catalogue: SqliteCatalogue,
    entries: i64,
    head: String,
    /// The copy is gone with it.
    _folder: Temporary,
}

/// A folder that is removed again.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn proof(copy: &Path, key: Option<PublicKey>) -> Result<Proof, String> {
    // Beside the backup, where there is room for it, not in a memory disk.
    let name = format!(".proof-{}", hex(&crate::id::random_octets::<8>()));
    let folder = Temporary(copy.with_file_name(name));
    DirBuilder::new().mode(0o700).create(&folder.0).map_err(|error| told(&folder.0, &error))?;
    let tried = folder.0.join(CATALOGUE);
    take(copy, &tried).map_err(|error| told(&tried, &error))?;
    let failed = |error: crate::catalogue::Failure| told(copy, &error);
    let catalogue = SqliteCatalogue::open(&tried).await.map_err(failed)?;
    // The media are another matter: none is as new as this.
    let verified =
        verify(&catalogue, Anchors { key, ..Anchors::default() }, i64::MAX).await.map_err(failed)?;
    if let Some(problem) = verified.problems.first() {
        return Err(told(copy, problem));
    }
    Ok(Proof { catalogue, entries: verified.entries, head: verified.head, _folder: folder })
}

async fn list(catalogue: &dyn Catalogue, path: &Path) -> Result<u64, String> {
    let file = created(path).map_err(|error| told(path, &error))?;
    let mut file = BufWriter::new(file);
    let (mut behind, mut count) = (None, 0);
    loop {
        let segments = catalogue.segments(behind, BATCH).await.map_err(|error| error.to_string())?;
        let Some(last) = segments.last() else { break };
        behind = Some(last.place);
        for segment in segments {
            let media = MediaFile {
                octets: segment.file.octets,
                sha256: hex(&segment.sha256),
                root: segment.file.root,
                folder: segment.file.folder,
                name: segment.file.name,
            };
            let line = serde_json::to_string(&media).map_err(|error| error.to_string())?;
            writeln!(file, "{line}").map_err(|error| told(path, &error))?;
            count += 1;
        }
    }
    let synced = file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
    synced.map_err(|error| told(path, &error))?;
    Ok(count)
}

/// Media of a list that are not there. `moved` is a folder that is elsewhere now.
fn missing(list: &Path, moved: Option<(&str, &str)>) -> io::Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    for line in BufReader::new(File::open(list)?).lines() {
        let file: MediaFile = serde_json::from_str(&line?)?;
        let root = moved.filter(|(from, _)| *from == file.root).map_or(file.root.as_str(), |(_, to)| to);
        let path = Path::new(root).join(&file.folder).join(&file.name);
        if unhex(&file.sha256).is_some() && !path.is_file() {
            missing.push(path);
        }
    }
    Ok(missing)
}

fn key_files(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries?,
    };
    for entry in entries.take(MAX_KEYS) {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn created(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn write(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut file = created(path)?;
    file.write_all(octets)?;
    file.sync_all()
}

/// Copies a file, durably, for nobody else to read.
fn take(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let from = File::open(from)?;
    let is_key = to.parent().is_some_and(|folder| folder.ends_with(KEYS));
    let mut to = created(to)?;
    io::copy(&mut from.take(if is_key { MAX_KEY_OCTETS } else { u64::MAX }), &mut to)?;
    to.sync_all()
}

fn hashed(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?;
    let mut chunk = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&chunk[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::audit::Entry;
    use crate::jobs::checkpoint::{key, public_key};
    use crate::testing::{catalogue, found, run};

    #[test]
    fn a_backup_is_proved_and_restored_with_its_log_and_keys_and_says_which_media_are_missing() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path();
            let catalogue = catalogue(data).await;
            key(&data.join("keys")).unwrap();
            catalogue.take(&[found(1, "4711", "201"), found(2, "4712", "201")]).await.unwrap();
            catalogue.log(&[Entry::new(1, "anna", "play", "x")]).await.unwrap();
            let to = data.join("backups/monday");
            let public = public_key(&data.join("keys")).unwrap();
            let (keys, media) = (data.join("keys"), data.join("media"));
            let own = (keys.as_path(), media.as_path());
            let made = backup(&*catalogue, own, public, &to).await.unwrap();
            assert_eq!((made.entries, made.recordings, made.media), (1, 2, 2));
            let again = backup(&*catalogue, own, public, &to).await.unwrap_err();
            assert!(again.contains("not empty"), "{again}");
            assert!(std::fs::read_dir(&to).unwrap().count() == 4, "no proof is left behind");
            for name in [SUMMARY, CATALOGUE, INVENTORY] {
                let mode = std::fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{name} is for its owner alone");
            }

            let new = folder.path().join("new");
            let database = new.join("catalogue.sqlite");
            let (keys, media) = (new.join("keys"), new.join("media"));
            let new_own = (keys.as_path(), media.as_path());
            let (told, missing) = restore(&to, &database, new_own).await.unwrap();
            assert_eq!((told, missing.len()), (made.clone(), 2));
            let restored = SqliteCatalogue::open(&database).await.unwrap();
            assert_eq!(restored.totals().await.unwrap(), catalogue.totals().await.unwrap());
            assert_eq!(restored.audit(0, 10).await.unwrap(), catalogue.audit(0, 10).await.unwrap());
            assert_eq!(public_key(&new.join("keys")).unwrap(), public);
            let twice = restore(&to, &database, new_own).await.unwrap_err();
            assert!(twice.contains("replaces nothing"), "{twice}");
        });
    }

    #[test]
    fn a_backup_that_was_changed_or_cut_off_is_refused() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let catalogue = catalogue(folder.path()).await;
            let keys = folder.path().join("keys");
            catalogue.log(&[Entry::new(1, "anna", "play", "x")]).await.unwrap();
            let refused = async |change: &dyn Fn(&Path), told: &str| {
                let to = folder.path().join(format!("backup of {told}").replace('/', "_"));
                backup(&*catalogue, (&keys, folder.path()), None, &to).await.unwrap();
                change(&to);
                let new = folder.path().join("new");
                let to = restore(&to, &new.join("catalogue.sqlite"), (&new.join("keys"), &new)).await;
                let error = to.unwrap_err();
                assert!(error.contains(told), "{error}");
                assert!(!new.join("catalogue.sqlite").exists());
            };
            refused(&|to| std::fs::remove_file(to.join(SUMMARY)).unwrap(), "no whole backup").await;
            refused(&|to| std::fs::write(to.join(INVENTORY), "x").unwrap(), "not what was backed up").await;
            let shorten = |to: &Path| {
                OpenOptions::new().write(true).open(to.join(CATALOGUE)).unwrap().set_len(4096).unwrap();
            };
            refused(&shorten, "catalogue.sqlite: it is not what").await;
            let outside = |to: &Path| {
                let text = std::fs::read_to_string(to.join(SUMMARY)).unwrap();
                std::fs::write(to.join(SUMMARY), text.replace(INVENTORY, "../media.jsonl")).unwrap();
            };
            refused(&outside, "../media.jsonl").await;
        });
    }
}
