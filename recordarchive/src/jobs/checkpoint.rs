//! Checkpoints of the audit log: one each minute in which something was logged or sealed, and a copy in a
//! second place.
//!
//! Owns: the site's key in `DATA/keys`, and the files of the second place: one a day, to which signed texts
//! are appended.
//! Invariant: a checkpoint that the second place missed is written to it later; its contents are never
//! changed.

use crate::access::checkpoint::{MAX_COVERED, Signed};
use crate::access::site_key::{PublicKey, SiteKey};
use crate::catalogue::Catalogue;
use crate::clock;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Checkpoints that are copied at a time.
const BATCH: u32 = 500;
/// End of the names of files in the second place.
const ENDING: &str = ".checkpoints";
/// Largest file of the second place that is read: a checkpoint each minute of a day is under a megabyte.
const MAX_FILE_OCTETS: u64 = 64 << 20;
/// Name of the secret key's file.
pub(crate) const SECRET_FILE: &str = "site.key";
/// Name of the public key's file.
pub(crate) const PUBLIC_FILE: &str = "site.pub";

fn told(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// The site's key in this folder; made if there is none.
///
/// # Errors
/// It can't be read or made, for a person.
pub(crate) fn key(folder: &Path) -> Result<SiteKey, String> {
    let path = folder.join(SECRET_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => SiteKey::parse(&text).ok_or_else(|| {
            told(
                &path,
                &"it is no key of recordarchive: restore it from a backup, or move it away for a new one",
            )
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SiteKey::generate();
            make(folder, &path, &key).map_err(|error| told(&path, &error))?;
            Ok(key)
        }
        Err(error) => Err(told(&path, &error)),
    }
}

fn make(folder: &Path, path: &Path, key: &SiteKey) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.text().as_bytes())?;
    file.sync_all()?;
    std::fs::write(folder.join(PUBLIC_FILE), key.public().text())?;
    File::open(folder)?.sync_all()
}

/// The public half of the site's key, if there is a key.
///
/// # Errors
/// It can't be read, for a person.
pub(crate) fn public_key(folder: &Path) -> Result<Option<PublicKey>, String> {
    if folder.join(SECRET_FILE).exists() { key(folder).map(|key| Some(key.public())) } else { Ok(None) }
}

/// A folder elsewhere that has copies of all checkpoints.
#[derive(Clone, Debug)]
pub(crate) struct SecondPlace(PathBuf);

impl SecondPlace {
    /// This folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.to_str().is_some_and(|path| path.ends_with(ENDING)))
            .collect();
        files.sort();
        Ok(files)
    }

    fn read(path: &Path) -> io::Result<(Vec<Signed>, usize)> {
        let mut text = String::new();
        File::open(path)?.take(MAX_FILE_OCTETS).read_to_string(&mut text)?;
        Ok(Signed::parse_all(&text))
    }

    /// All checkpoints that it has, file by file; and the problems of files.
    pub(crate) fn all(&self) -> io::Result<(Vec<Signed>, Vec<String>)> {
        let (mut all, mut wrong) = (Vec::new(), Vec::new());
        for path in self.files()? {
            let (found, stray) = Self::read(&path)?;
            if stray > 0 {
                wrong.push(told(&path, &format!("{stray} line(s) belong to no checkpoint")));
            }
            all.extend(found);
        }
        Ok((all, wrong))
    }

    /// The number of the newest one that it has.
    fn newest(&self) -> io::Result<i64> {
        for path in self.files()?.iter().rev() {
            let (found, _) = Self::read(path)?;
            if let Some(number) = found.iter().filter_map(Signed::read).map(|found| found.number).max() {
                return Ok(number);
            }
        }
        Ok(0)
    }

    fn append(&self, checkpoints: &[Signed]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        for signed in checkpoints {
            let day = signed
                .read()
                .map_or_else(String::new, |said| crate::time::rfc3339(said.at_us)[..10].to_owned());
            let path = self.0.join(day + ENDING);
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
            // A write that was cut off does not join the next line.
            file.write_all(format!("\n{}", signed.file()).as_bytes())?;
            file.sync_all()?;
        }
        File::open(&self.0)?.sync_all()
    }
}

/// Makes checkpoints.
pub(crate) struct Checkpoints {
    catalogue: Arc<dyn Catalogue>,
    key: SiteKey,
    second: Option<SecondPlace>,
    /// The newest one that the second place has; `None`: it was not looked at yet.
    copied: Option<i64>,
}

impl Checkpoints {
    /// With this key, and a copy in this place.
    pub(crate) fn new(catalogue: Arc<dyn Catalogue>, key: SiteKey, second: Option<SecondPlace>) -> Self {
        Self { catalogue, key, second, copied: None }
    }

    /// Makes one if there is a reason, and copies those that the second place does not have.
    ///
    /// # Errors
    /// A text for the administrator. The next call tries again.
    pub(crate) async fn make(&mut self) -> Result<(), String> {
        let failed = |error: crate::catalogue::Failure| error.to_string();
        let covered = |signed: &Signed| signed.read().map(|said| said.sealed);
        let mut before = self.catalogue.newest_checkpoint().await.map_err(failed)?.as_ref().and_then(covered);
        loop {
            let made = self.catalogue.make_checkpoint(&self.key, clock::now_us()).await.map_err(failed)?;
            let Some(sealed) = made.as_ref().and_then(covered) else { break };
            if sealed - before.unwrap_or(0) < MAX_COVERED {
                break;
            }
            // More files wait than one covers.
            before = Some(sealed);
        }
        let Some(second) = self.second.clone() else { return Ok(()) };
        let mut behind = match self.copied {
            Some(number) => number,
            None => blocking({
                let second = second.clone();
                move || second.newest()
            })
            .await
            .map_err(|error| told(&second.0, &error))?,
        };
        loop {
            let found = self.catalogue.checkpoints(behind, BATCH).await.map_err(|error| error.to_string())?;
            let Some(last) = found.last().and_then(Signed::read) else {
                self.copied = Some(behind);
                return Ok(());
            };
            let place = second.clone();
            let copied = blocking(move || place.append(&found)).await;
            if let Err(error) = copied {
                // The next call looks how much of it arrived.
                self.copied = None;
                return Err(told(&second.0, &error));
            }
            behind = last.number;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
