//! An intake: a folder that a recorder writes to, and that is played from where it is.
//!
//! Owns: when a file is looked at. The journal tells of new ones at once; a reconciliation compares folders
//! and catalogue, and finds files that no journal told of. Invariants: a file that can't be taken is looked
//! at again only when it changes; one that is gone is noted as missing, never forgotten; a folder that can't
//! be read says nothing about its files.

use super::journal::Journal;
use super::waves::Waves;
use crate::catalogue::model::{Broken, ENCRYPTED_ENDING, Found, KnownFile, Place, Taken, plain_name};
use crate::catalogue::{Catalogue, Done};
use crate::clock;
use crate::events::{About, Event, Events};
use crate::media::look::{Look, device, look, place, sidecar};
use crate::media::path;
use crate::media::vault::Vault;
use crate::site::Site;
use recfile::name::is_record_file_name;
use recfile::seal::age::Identity;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Files of one transaction.
const BATCH: usize = 64;
/// Folders within folders that are looked into.
const MAX_DEPTH: usize = 4;
/// Folders of an intake at most.
const MAX_FOLDERS: usize = 1_000_000;

/// The origin of recordings that a person imported.
pub(super) const IMPORTED: &str = "import";

/// The number of files of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// New in the catalogue.
    pub(crate) added: u64,
    /// Known, and looked at again.
    pub(crate) updated: u64,
    /// There from another file.
    pub(crate) duplicate: u64,
    /// Can't be taken.
    pub(crate) broken: u64,
    /// Gone since the last look.
    pub(crate) missing: u64,
    /// Being written.
    pub(crate) busy: u64,
}

impl Counts {
    /// Counts results of files.
    pub(crate) fn note(&mut self, taken: &[Taken]) {
        for taken in taken {
            match taken {
                Taken::Added { .. } => self.added += 1,
                Taken::Updated { .. } => self.updated += 1,
                Taken::Duplicate => self.duplicate += 1,
                Taken::Conflict => self.broken += 1,
            }
        }
    }
}

/// A folder that recordings come to.
pub(crate) struct Intake {
    catalogue: Arc<dyn Catalogue>,
    site: Site,
    root: PathBuf,
    /// The origin of its files, if that is known.
    source: Option<&'static str>,
    events: Events,
    /// The queue for the waves of new recordings.
    waves: Option<Waves>,
    /// Opens files that the archive encrypted.
    vault: Vault,
    /// Only files that the archive encrypted.
    is_encrypted: bool,
}

impl Intake {
    /// That of `root`, which a recorder writes to.
    pub(crate) fn new(catalogue: Arc<dyn Catalogue>, site: Site, root: PathBuf) -> Self {
        Self {
            catalogue,
            site,
            root,
            source: None,
            events: Events::default(),
            waves: None,
            vault: Vault::default(),
            is_encrypted: false,
        }
    }

    /// The same, telling of each recording that is new.
    pub(crate) fn telling(self, events: Events) -> Self {
        Self { events, ..self }
    }

    /// The same, with a maker of waves.
    pub(crate) fn with_waves(self, waves: Waves) -> Self {
        Self { waves: Some(waves), ..self }
    }

    /// The same, with the vault for files that the archive encrypted.
    pub(crate) fn with_vault(self, vault: Vault) -> Self {
        Self { vault, ..self }
    }

    /// The archive's own folder, of which only encrypted files are looked at: others may be in the making.
    pub(crate) fn of_encrypted(catalogue: Arc<dyn Catalogue>, site: Site, root: PathBuf) -> Self {
        Self { is_encrypted: true, ..Self::of_imports(catalogue, site, root) }
    }

    /// The folder of imported files.
    pub(crate) fn of_imports(catalogue: Arc<dyn Catalogue>, site: Site, root: PathBuf) -> Self {
        Self { source: Some(IMPORTED), ..Self::new(catalogue, site, root) }
    }

    /// The journal, from now on.
    pub(crate) fn journal(&self) -> Journal {
        Journal::at_end(&self.root)
    }

    /// Takes the files that a journal told of.
    pub(crate) async fn take(&self, files: Vec<(String, String)>) -> Done<Counts> {
        let mut counts = Counts::default();
        let root = self.root.clone();
        let places = tokio::task::spawn_blocking(move || {
            let places = files.into_iter().filter_map(|(folder, name)| place(&root, &folder, &name).ok());
            places.collect::<Vec<_>>()
        });
        self.take_places(&places.await.unwrap_or_default(), &mut counts).await?;
        Ok(counts)
    }

    /// Compares folders and catalogue. With `all`, known files are looked at again, too.
    pub(crate) async fn reconcile(&self, all: bool) -> Done<Counts> {
        let root = self.root.to_string_lossy().into_owned();
        let mut counts = Counts::default();
        let walked = {
            let root = self.root.clone();
            tokio::task::spawn_blocking(move || folders(&root)).await.unwrap_or_default()
        };
        let mut all_folders: HashSet<String> = self.catalogue.folders(&root).await?.into_iter().collect();
        all_folders.extend(walked);
        let mut ordered: Vec<String> = all_folders.into_iter().collect();
        // The newest days first.
        ordered
            .sort_unstable_by(|a, b| b.rsplit('/').next().cmp(&a.rsplit('/').next()).then_with(|| b.cmp(a)));
        for folder in ordered {
            self.reconcile_folder(&root, &folder, all, &mut counts).await?;
        }
        Ok(counts)
    }

    async fn reconcile_folder(&self, root: &str, folder: &str, all: bool, counts: &mut Counts) -> Done<()> {
        let listed = {
            let (root, folder) = (self.root.clone(), folder.to_owned());
            tokio::task::spawn_blocking(move || places(&root, &folder)).await
        };
        let listed = match listed {
            Ok(Ok(listed)) => listed,
            // A folder that is gone has no files; one that can't be read says nothing.
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound && self.root.is_dir() => Vec::new(),
            Ok(Err(error)) => {
                log::warn!("intake: {folder:?} can't be read: {error}");
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        let known: HashMap<String, KnownFile> = self
            .catalogue
            .known(root, folder)
            .await?
            .into_iter()
            .filter(|known| self.is_wanted(&known.name))
            .map(|known| (known.name.clone(), known))
            .collect();
        let there: HashSet<&str> = listed.iter().map(|place| place.name.as_str()).collect();
        let gone = known.values().filter(|known| !known.missing && !there.contains(known.name.as_str()));
        let gone: Vec<String> = gone.map(|known| known.name.clone()).collect();
        let (mut back, mut new) = (Vec::new(), Vec::new());
        for place in listed.into_iter().filter(|place| self.is_wanted(&place.name)) {
            match known.get(&place.name) {
                Some(known) if !all && is_as_known(&place, known) => {
                    if known.missing {
                        back.push(place.name);
                    }
                }
                _ => new.push(place),
            }
        }
        counts.missing += gone.len() as u64;
        if !gone.is_empty() {
            self.catalogue.set_missing(root, folder, &gone, true).await?;
        }
        if !back.is_empty() {
            self.catalogue.set_missing(root, folder, &back, false).await?;
        }
        self.take_places(&new, counts).await
    }

    fn is_wanted(&self, name: &str) -> bool {
        !self.is_encrypted || name.ends_with(ENCRYPTED_ENDING)
    }

    /// The identity of an encrypted file; none if the catalogue has none, and an error where it can't be
    /// opened.
    async fn identity(&self, place: &Place) -> Done<Result<Option<Identity>, String>> {
        let said = sidecar(&path(place), &place.name).ok().flatten().unwrap_or_default();
        let wrapped = self.catalogue.wrapped_key(place, &device(place), &said.recording).await?;
        let Some(wrapped) = wrapped else { return Ok(Ok(None)) };
        Ok(self.vault.unwrap(&wrapped).map(Some).map_err(|error| error.to_string()))
    }

    /// Looks at files and takes them in, some at a time: while some are written to the catalogue, the next
    /// are looked at.
    async fn take_places(&self, places: &[Place], counts: &mut Counts) -> Done<()> {
        let mut batches = places.chunks(BATCH);
        let mut looks = match batches.next() {
            Some(batch) => self.look(batch, counts).await?,
            None => return Ok(()),
        };
        loop {
            let looked = looks.await.unwrap_or_default();
            let Some(batch) = batches.next() else { return self.put(looked, counts).await };
            looks = self.look(batch, counts).await?;
            self.put(looked, counts).await?;
        }
    }

    /// Begins to look at files.
    async fn look(&self, places: &[Place], counts: &mut Counts) -> Done<JoinHandle<Vec<(Place, Look)>>> {
        let mut opened = Vec::with_capacity(places.len());
        for place in places {
            let identity = if place.is_encrypted() { self.identity(place).await? } else { Ok(None) };
            match identity {
                Ok(identity) => opened.push((place.clone(), identity)),
                // It is no fault of the file: it is looked at again.
                Err(problem) => {
                    counts.busy += 1;
                    log::error!("intake: {} can't be looked at: {problem}", place.name);
                }
            }
        }
        let (site, source) = (self.site.clone(), self.source);
        Ok(tokio::task::spawn_blocking(move || {
            let looked = opened
                .into_iter()
                .map(|(place, identity)| (place.clone(), look(place, &site, source, identity.as_ref())));
            looked.collect()
        }))
    }

    /// Takes in the files that were looked at.
    async fn put(&self, looks: Vec<(Place, Look)>, counts: &mut Counts) -> Done<()> {
        let mut found: Vec<Found> = Vec::new();
        let mut broken = Vec::new();
        for (place, look) in looks {
            match look {
                Look::Found(file) => found.push(*file),
                Look::Busy => counts.busy += 1,
                Look::Gone => {}
                Look::Broken(reason) => {
                    log::warn!("intake: {} is put aside: {reason}", place.name);
                    broken.push(Broken { place, reason, since_us: clock::now_us() });
                }
            }
        }
        counts.broken += broken.len() as u64;
        if !found.is_empty() {
            let taken = self.catalogue.take(&found).await?;
            for taken in &taken {
                if let Taken::Added { recording } = taken {
                    let about = About::Recording(*recording);
                    self.events.tell(Event { kind: "call.sealed", about, data: json!({}) });
                }
            }
            counts.note(&taken);
            if let Some(waves) = &self.waves {
                waves.want(&taken);
            }
        }
        if !broken.is_empty() {
            self.catalogue.set_aside(&broken).await?;
        }
        Ok(())
    }
}

fn is_as_known(place: &Place, known: &KnownFile) -> bool {
    (place.octets, place.modified_ms, place.sidecar_ms) == (known.octets, known.modified_ms, known.sidecar_ms)
}

/// The recordings in a folder.
fn places(root: &Path, folder: &str) -> io::Result<Vec<Place>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if let (true, Ok(name)) = (is_file, entry.file_name().into_string())
            && is_record_file_name(plain_name(&name))
        {
            found.extend(place(root, folder, &name).ok());
        }
    }
    Ok(found)
}

/// All folders below `root`, itself as an empty name.
pub(crate) fn folders(root: &Path) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut next = 0;
    while let Some(folder) = found.get(next).cloned() {
        next += 1;
        let depth = if folder.is_empty() { 0 } else { 1 + folder.matches('/').count() };
        let Ok(entries) = std::fs::read_dir(root.join(&folder)) else { continue };
        for entry in entries.flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let Ok(name) = entry.file_name().into_string() else { continue };
            if is_folder && depth < MAX_DEPTH && !name.starts_with('.') && found.len() < MAX_FOLDERS {
                found.push(if folder.is_empty() { name } else { format!("{folder}/{name}") });
            }
        }
    }
    found
}
