//! Encryption at rest: each plain file becomes an encrypted one in `DATA/media`, and then goes.
//!
//! Owns: the order of its steps. A copy is written under a name that nothing looks at, read back from its
//! start to its end and compared, and put in place; then the catalogue names it and notes the plain one for
//! removal, in one transaction; then that is removed. So an end between any two of them leaves a recording
//! that plays, and work that goes on. Never: a plain file that goes before its copy was compared. Only one
//! process does this at a time.

use crate::access::Condition;
use crate::access::audit::Entry;
use crate::catalogue::at_rest::{PlainCopy, PlainSegment, Rewrapped};
use crate::catalogue::model::{ENCRYPTED_ENDING, Place, plain_name};
use crate::catalogue::{Catalogue, Done, Failure};
use crate::clock;
use crate::id::{Id, hex};
use crate::media::age_file::AgeWriter;
use crate::media::derived::Store;
use crate::media::look::{hash_again, place, sidecar};
use crate::media::path;
use crate::media::vault::{Media, Vault};
use crate::time::rfc3339;
use recfile::name::sidecar_name;
use recfile::seal::age::Identity;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::fs::{Fs, RealFs};

/// The actor in the audit log.
const ARCHIVE: &str = "(archive)";
/// The interval between looks for recordings to encrypt.
const EVERY: Duration = Duration::from_millis(500);
/// A failed file is tried again after this number of looks: about each minute.
const AGAIN_ROUNDS: u32 = 120;
/// Segments of a look, and plain files that are removed in one.
const BATCH: u32 = 64;
/// Identities of a transaction.
const REWRAP_BATCH: u32 = 256;
/// Octets read at a time.
const PIECE_OCTETS: usize = 256 << 10;
/// Names that are tried for a file.
const MAX_ATTEMPTS: u32 = 10_000;
/// The lock file of the process that encrypts.
pub(super) const LOCK: &str = ".encrypting";

/// The result of a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encrypted {
    /// Files that are encrypted now.
    pub(crate) files: u64,
    /// Plain ones that are removed now.
    pub(crate) freed: u64,
    /// Files that failed, each with a line in the log.
    pub(crate) failed: u64,
}

impl Encrypted {
    fn note(&mut self, is_freed: bool) {
        *(if is_freed { &mut self.freed } else { &mut self.failed }) += 1;
    }
}

/// When an encrypted file was compared with its plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    JustNow,
    No,
}

/// Encrypts the media of an archive.
pub(crate) struct Encryptor {
    catalogue: Arc<dyn Catalogue>,
    vault: Vault,
    media: PathBuf,
    derived: Store,
    /// The last segment that was looked at.
    behind: (i64, u32),
    _lock: File,
}

const FIRST: (i64, u32) = (i64::MIN, 0);

impl Encryptor {
    /// The one of an archive; `None` if another process is it already.
    ///
    /// # Errors
    /// The folder can't be made, for a person.
    pub(crate) fn new(
        catalogue: Arc<dyn Catalogue>,
        vault: Vault,
        media: PathBuf,
        derived: Store,
    ) -> Result<Option<Self>, String> {
        let told = |error: io::Error| format!("{}: {error}", media.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&media).map_err(told)?;
        if let Some(above) = media.parent() {
            RealFs.sync_folder(above).map_err(told)?;
        }
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(media.join(LOCK));
        let lock = lock.map_err(told)?;
        if !RealFs.lock(&lock).map_err(told)? {
            return Ok(None);
        }
        Ok(Some(Self { catalogue, vault, media, derived, behind: FIRST, _lock: lock }))
    }

    /// Encrypts until the server ends.
    pub(crate) async fn watch(mut self) {
        let mut looks = tokio::time::interval(EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut rounds, mut has_failed) = (0, false);
        loop {
            looks.tick().await;
            rounds += 1;
            if has_failed && rounds < AGAIN_ROUNDS {
                // New recordings only.
                if let Err(error) = self.encrypt_some().await {
                    log::error!("encryption: {error}");
                }
                continue;
            }
            (rounds, has_failed) = (0, false);
            match self.all().await {
                Ok(done) => has_failed = done.failed > 0,
                Err(error) => log::error!("encryption: {error}"),
            }
        }
    }

    /// Encrypts all plain media, and removes the plain files of which there is an encrypted one.
    pub(crate) async fn all(&mut self) -> Done<Encrypted> {
        // Leftovers of an earlier run.
        let mut done = Encrypted::default();
        loop {
            let copies = self.catalogue.plain_copies(BATCH).await?;
            let before = done.freed;
            for copy in &copies {
                done.note(self.free(copy, Compared::No).await?);
            }
            // Files that can't be removed stay first in the list.
            if copies.len() < BATCH as usize || done.freed == before {
                break;
            }
        }
        self.behind = FIRST;
        loop {
            let some = self.encrypt_some().await?;
            done.files += some.files;
            done.freed += some.freed;
            done.failed += some.failed;
            if some == Encrypted::default() {
                return Ok(done);
            }
        }
    }

    /// Encrypts the next batch; all zero at the end.
    async fn encrypt_some(&mut self) -> Done<Encrypted> {
        let mut done = Encrypted::default();
        for segment in self.catalogue.plain_segments(self.behind, BATCH).await? {
            self.behind = (segment.recording, segment.number);
            match self.one(&segment).await? {
                Ok(true) => {
                    done.files += 1;
                    let copy = PlainCopy { file: segment.file.clone(), recording: Some(segment.id) };
                    done.note(self.free(&copy, Compared::JustNow).await?);
                }
                Ok(false) => done.failed += 1,
                Err(problem) => {
                    done.failed += 1;
                    let file = path(&segment.file);
                    log::warn!("encryption: {} stays as it is: {problem}", file.display());
                }
            }
        }
        Ok(done)
    }

    /// Encrypts a file; false if it became another one meanwhile.
    async fn one(&self, segment: &PlainSegment) -> Done<Result<bool, String>> {
        let key = match &segment.key {
            Some(key) => key.clone(),
            None => match self.vault.generate() {
                Ok(wrapped) => {
                    self.catalogue.put_key(segment.recording, &wrapped, self.vault.label()).await?
                }
                Err(error) => return Ok(Err(error.to_string())),
            },
        };
        let identity = match self.vault.unwrap(&key) {
            Ok(identity) => identity,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let root = self.media.to_string_lossy().into_owned();
        let folder = folder(segment);
        let name = match self.free_name(&root, &folder, &segment.file.name).await? {
            Some(name) => name,
            None => return Ok(Err("all names are taken".into())),
        };
        let (media, wanted) = (self.media.clone(), segment.clone());
        let copied = tokio::task::spawn_blocking(move || copy(&wanted, &identity, &media, &folder, &name));
        let to = match copied.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(to) => to,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let said = json!({"segment": segment.number, "from": path(&segment.file), "to": path(&to)});
        let entry = Entry::new(clock::now_us(), ARCHIVE, "encrypt", segment.id).with(&said);
        if !self.catalogue.encrypted(segment, &to, &entry).await?
            && !self.catalogue.is_listed(&to.root, &to.folder, &to.name).await?
        {
            remove(&to).map_err(|error| Failure::Conflict(error.to_string()))?;
            return Ok(Ok(false));
        }
        Ok(Ok(true))
    }

    /// A name that no segment has. A file that is there, and is none of the catalogue's, is one that was not
    /// finished.
    async fn free_name(&self, root: &str, folder: &str, name: &str) -> Done<Option<String>> {
        let plain = plain_name(name);
        let stem = plain.rsplit_once('.').map_or(plain, |(stem, _)| stem);
        for attempt in 1..MAX_ATTEMPTS {
            let name = match attempt {
                1 => format!("{plain}{ENCRYPTED_ENDING}"),
                _ => format!("{stem}-{attempt}.wav{ENCRYPTED_ENDING}"),
            };
            if !self.catalogue.is_listed(root, folder, &name).await? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Whether a plain copy may go: the encrypted files of its recording are where the catalogue says, and have the
    /// audio that was taken in; and its sidecar protects nothing that theirs do not.
    async fn may_go(&self, copy: &PlainCopy, recording: Id, compared: Compared) -> Done<bool> {
        // The plain files of a call in the trash go with the call.
        let Some(media) = self.catalogue.media(recording, &Condition::All).await? else { return Ok(false) };
        let (vault, plain) = (self.vault.clone(), copy.file.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let encrypted = || media.segments.iter().filter(|segment| segment.file.is_encrypted());
            let key = media.key.as_deref();
            let are_good = encrypted().all(|segment| match (vault.open(&segment.file, key), compared) {
                (Ok(_), Compared::JustNow) => true,
                (Ok(file), Compared::No) => {
                    hash_again(file).is_ok_and(|hash| hash.as_slice() == segment.sha256)
                }
                (Err(_), _) => false,
            });
            let guards = |file: &Place| match sidecar(&path(file), &file.name) {
                Ok(Some(said)) => said.protected || !said.holds.is_empty(),
                Ok(None) => false,
                Err(_) => true,
            };
            are_good && (!guards(&plain) || encrypted().any(|segment| guards(&segment.file)))
        });
        Ok(looked.await.unwrap_or(false))
    }

    /// Removes a plain file that is encrypted, and makes its derived data anew; true on success.
    async fn free(&self, copy: &PlainCopy, compared: Compared) -> Done<bool> {
        if let Some(recording) = copy.recording
            && !self.may_go(copy, recording, compared).await?
        {
            let file = path(&copy.file);
            log::error!(
                "encryption: {} stays: its encrypted file is not there, is not what was taken in, or is less \
                 protected",
                file.display()
            );
            return Ok(false);
        }
        let (removed, derived) = (copy.clone(), self.derived.clone());
        let removed = tokio::task::spawn_blocking(move || free(&removed, &derived)).await;
        if let Err(error) = removed.unwrap_or_else(|error| Err(io::Error::other(error))) {
            let file = path(&copy.file);
            log::error!("encryption: {} is encrypted, and can't be removed: {error}", file.display());
            return Ok(false);
        }
        self.catalogue.freed(copy).await?;
        if let Some(recording) = copy.recording
            && let Some(media) = self.catalogue.media(recording, &Condition::All).await?
        {
            let derived = self.derived.clone();
            let _ = tokio::task::spawn_blocking(move || derived.make(&media).map(drop)).await;
        }
        Ok(true)
    }
}

/// The place of the encrypted file of a segment: as its recorder has it, by phone and day.
fn folder(segment: &PlainSegment) -> String {
    if segment.device.is_empty() {
        rfc3339(segment.started_us)[..10].to_owned()
    } else {
        segment.file.folder.clone()
    }
}

/// Writes the encrypted file of a segment with its sidecar, compares it, and puts it in place.
fn copy(
    segment: &PlainSegment,
    identity: &Identity,
    media: &Path,
    folder: &str,
    name: &str,
) -> io::Result<Place> {
    let from = path(&segment.file);
    let mut source = RealFs.open_read(&from)?;
    // Until the copy is done nobody writes to it.
    if RealFs.lock(&source).is_ok_and(|free| !free) {
        return Err(io::Error::new(io::ErrorKind::WouldBlock, "it is being written"));
    }
    let into = media.join(folder);
    DirBuilder::new().recursive(true).mode(0o700).create(&into)?;
    let to = into.join(name);
    let part = into.join(format!("{name}.part"));
    match RealFs.remove(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    let mut writer = AgeWriter::new(file, &identity.recipient())?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE_OCTETS]);
    loop {
        let count = source.read(&mut piece)?;
        if count == 0 {
            break;
        }
        hash.update(&piece[..count]);
        writer.write(&piece[..count])?;
    }
    writer.finish()?.sync_all()?;
    let audio = compare(&part, identity, &hash.finalize())?;
    if audio.as_slice() != segment.sha256 {
        let _ = RealFs.remove(&part);
        return Err(io::Error::other("its audio is not what was taken in"));
    }
    let beside = from.with_file_name(sidecar_name(&segment.file.name));
    match RealFs.read(&beside, recfile::sidecar::MAX_SIDECAR_OCTETS + 1) {
        Ok(json) => {
            let sidecar = into.join(sidecar_name(name));
            let _ = RealFs.remove(&sidecar);
            let mut sidecar = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&sidecar)?;
            sidecar.write_all(&json)?;
            sidecar.sync_all()?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    RealFs.rename(&part, &to)?;
    // The folders above it may be new, too.
    for above in into.ancestors().take_while(|above| above.starts_with(media)) {
        RealFs.sync_folder(above)?;
    }
    place(media, folder, name)
}

/// Reads an encrypted file from its start to its end; the hash of its audio.
fn compare(file: &Path, identity: &Identity, wanted: &[u8]) -> io::Result<[u8; 32]> {
    let open = || Media::encrypted(RealFs.open_read(file)?, identity);
    let (mut media, mut hash, mut piece) = (open()?, Sha256::new(), vec![0; PIECE_OCTETS]);
    loop {
        match media.read(&mut piece)? {
            0 => break,
            count => hash.update(&piece[..count]),
        }
    }
    let found = hash.finalize();
    if found.as_slice() != wanted {
        let what = format!("the encrypted file reads back as {}: look at the disk", hex(&found));
        return Err(io::Error::other(what));
    }
    hash_again(open()?)
}

/// Removes a file and its sidecar.
fn remove(place: &Place) -> io::Result<()> {
    let path = path(place);
    for path in [path.clone(), path.with_file_name(sidecar_name(&place.name))] {
        match RealFs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match path.parent().filter(|folder| folder.is_dir()) {
        Some(folder) => RealFs.sync_folder(folder),
        None => Ok(()),
    }
}

fn free(copy: &PlainCopy, derived: &Store) -> io::Result<()> {
    if let Some(recording) = copy.recording {
        derived.remove_plain(recording)?;
    }
    remove(&copy.file)
}

/// Wraps all identities for the recipients of the settings. Interrupted, it goes on the next time: wrapped
/// identities stay so. Returns the number wrapped, and the problems of the others.
pub(crate) async fn rewrap(
    catalogue: &dyn Catalogue,
    vault: &Vault,
    actor: &str,
) -> Done<(usize, Vec<String>)> {
    let (mut behind, mut count, mut problems) = (i64::MIN, 0, Vec::new());
    loop {
        let keys = catalogue.keys_to_rewrap(behind, vault.label(), REWRAP_BATCH).await?;
        let Some((last, _)) = keys.last() else { return Ok((count, problems)) };
        behind = *last;
        let vault_here = vault.clone();
        let wrapped = tokio::task::spawn_blocking(move || {
            let (mut good, mut wrong) = (Vec::new(), Vec::new());
            for (recording, old) in keys {
                match vault_here.unwrap(&old).and_then(|identity| vault_here.wrap(&identity)) {
                    Ok(new) => good.push(Rewrapped { recording, old, new }),
                    Err(error) => wrong.push(error.to_string()),
                }
            }
            (good, wrong)
        });
        let (good, wrong) = wrapped.await.unwrap_or_default();
        problems.extend(wrong);
        if !good.is_empty() {
            let said = json!({"recordings": good.len(), "recipients": vault.label()});
            let entry = Entry::new(clock::now_us(), actor, "key.rotate", "").with(&said);
            count += catalogue.rewrap(&good, vault.label(), &entry).await?;
        }
    }
}
