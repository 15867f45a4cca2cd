//! Running recordings of an intake: files that a recorder writes at this moment.
//!
//! Owns: how they are found. A recorder keeps its file locked, and has its sidecar say that it records; its
//! status interface names files and counts packets. Invariants: no lock of a recorder's is ever in the way,
//! so a file that may have just been made is not touched; only folders of these days are looked at, and only
//! again when something came or went.

use super::status::Status;
use crate::events::{About, Event, Events};
use crate::id::Id;
use crate::live::{Live, Running, Told};
use crate::media::look::{self, place};
use crate::site::Site;
use crate::time::{DAY_US, day_of};
use recfile::name::is_record_file_name;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder that changed so lately is looked at again: another change in the same tick has the same time.
const TICK_MS: i64 = 2_000;
/// A file that nobody locks and that was changed so lately may be about to be locked.
const YOUNG_MS: i64 = 5_000;
/// Recordings that go on at once at most, in an intake.
const MAX_RUNNING: usize = 10_000;
/// Phones of an intake at most.
const MAX_DEVICES: usize = 100_000;

/// The state of a folder.
#[derive(Debug, Default)]
struct Folder {
    modified_ms: i64,
    looked_ms: i64,
    /// There was a file that may be about to be written.
    has_young: bool,
    /// Files that nobody writes.
    over: HashSet<String>,
}

/// Id and beginning of a recording of a phone of which files are known already.
pub(crate) type Begun = Box<dyn Fn(&str, &str) -> Option<(Id, i64)> + Send>;

/// Finds the running recordings of an intake, look by look.
pub(crate) struct Watch {
    live: Arc<Live>,
    events: Events,
    site: Site,
    root: PathBuf,
    status: Status,
    folders: HashMap<String, Folder>,
    running: Vec<Running>,
    /// Tells what began before this process did.
    begun: Begun,
    /// Recordings of later files whose id is that of their first one.
    sure: HashSet<Id>,
}

impl Watch {
    /// That of an intake. Its recorder is asked at `status`, or at the socket in the folder.
    pub(crate) fn new(
        live: Arc<Live>,
        events: Events,
        site: Site,
        root: PathBuf,
        status: Option<Status>,
    ) -> Self {
        let status = status.unwrap_or_else(|| Status::beside(&root));
        Self {
            live,
            events,
            site,
            root,
            status,
            folders: HashMap::new(),
            running: Vec::new(),
            begun: Box::new(|_, _| None),
            sure: HashSet::new(),
        }
    }

    /// The same, with what tells of recordings that began before this process did. It is asked in a look.
    pub(crate) fn knowing(self, begun: Begun) -> Self {
        Self { begun, ..self }
    }

    /// Looks once. Reads folders and files, and waits for the recorder.
    pub(crate) fn look(&mut self, now_us: i64) {
        // Without an answer there are the files.
        let told = self.status.ask().unwrap_or_default();
        let before = std::mem::take(&mut self.running);
        let known: HashMap<(String, String), Running> = before
            .iter()
            .map(|running| ((running.device.clone(), running.recording.clone()), running.clone()))
            .collect();
        let mut files: HashSet<(String, String)> = told.keys().cloned().collect();
        files.extend(before.iter().map(|running| (running.file.folder.clone(), running.file.name.clone())));
        let days = [-1, 0, 1].map(|day| day_of(now_us + day * DAY_US, &self.site.zone));
        files.extend(self.walk(&days, now_us / 1000));
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_unstable();
        for (folder, name) in files {
            let told = told.get(&(folder.clone(), name.clone())).copied();
            let found = running(&self.root, &folder, &name, &self.site, told, now_us / 1000);
            match found {
                Found::Running(mut running) if self.running.len() < MAX_RUNNING => {
                    if let Some(known) = known.get(&(running.device.clone(), running.recording.clone())) {
                        // A later segment is of the same recording, which began before.
                        (running.id, running.started_us) = (known.id, known.started_us);
                    }
                    if running.segment > 1
                        && !self.sure.contains(&running.id)
                        && let Some(begun) = (self.begun)(&running.device, &running.recording)
                    {
                        (running.id, running.started_us) = begun;
                        self.sure.insert(running.id);
                    }
                    self.running.push(*running);
                }
                Found::Running(_) => {}
                Found::Young => self.folders.entry(folder).or_default().has_young = true,
                Found::Over => {
                    self.folders.entry(folder).or_default().over.insert(name);
                }
            }
        }
        for running in &self.running {
            if !before.iter().any(|known| known.id == running.id) {
                let about = About::Live(running.extension.clone(), running.site.clone(), running.started_us);
                let data = json!({"recording": running.id.to_string()});
                self.events.tell(Event { kind: "call.live", about, data });
            }
        }
        self.sure.retain(|id| self.running.iter().any(|running| running.id == *id));
        self.live.set(self.root.clone(), self.running.clone());
    }

    /// Files that may be written at this moment: in the folder itself, and in those of these days.
    fn walk(&mut self, days: &[String], now_ms: i64) -> Vec<(String, String)> {
        let mut folders = vec![String::new()];
        for device in names(&self.root, true).unwrap_or_default().into_iter().take(MAX_DEVICES) {
            if !device.starts_with('.') {
                folders.extend(days.iter().map(|day| format!("{device}/{day}")));
            }
        }
        let wanted: HashSet<&String> = folders.iter().collect();
        self.folders.retain(|folder, _| wanted.contains(folder));
        let mut found = Vec::new();
        for folder in folders {
            let path = self.root.join(&folder);
            let Ok(modified_ms) = modified(&path) else { continue };
            let known = self.folders.entry(folder.clone()).or_default();
            let is_as_it_was = known.modified_ms == modified_ms
                && known.looked_ms > modified_ms.saturating_add(TICK_MS)
                && !known.has_young;
            if is_as_it_was {
                continue;
            }
            let Ok(names) = names(&path, false) else { continue };
            (known.modified_ms, known.looked_ms, known.has_young) = (modified_ms, now_ms, false);
            let names: HashSet<String> = names.into_iter().filter(|name| is_record_file_name(name)).collect();
            known.over.retain(|name| names.contains(name));
            let open = names.into_iter().filter(|name| !known.over.contains(name));
            found.extend(open.map(|name| (folder.clone(), name)));
        }
        found
    }
}

fn modified(path: &Path) -> io::Result<i64> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(path)?;
    Ok(found.mtime().saturating_mul(1000).saturating_add(found.mtime_nsec() / 1_000_000))
}

/// Names in a folder: of folders, or of files.
fn names(path: &Path, of_folders: bool) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(path)?.flatten();
    let fits = |entry: &std::fs::DirEntry| {
        entry.file_type().is_ok_and(|kind| if of_folders { kind.is_dir() } else { kind.is_file() })
    };
    Ok(entries.filter(fits).filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// The result of a look at a file.
enum Found {
    Running(Box<Running>),
    /// It may be about to be written.
    Young,
    /// Nobody writes it, or it is gone.
    Over,
}

fn running(root: &Path, folder: &str, name: &str, site: &Site, told: Option<Told>, now_ms: i64) -> Found {
    let Ok(file) = place(root, folder, name) else { return Found::Over };
    let is_young = now_ms.saturating_sub(file.modified_ms.max(file.sidecar_ms)) < YOUNG_MS;
    match look::running(&file, site, told.is_some(), is_young) {
        Some(mut running) => {
            running.told = told;
            Found::Running(Box::new(running))
        }
        None if is_young => Found::Young,
        None => Found::Over,
    }
}
