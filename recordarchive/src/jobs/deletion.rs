//! Deletion of calls whose time in the trash is over, and of those that are due by a policy.
//!
//! Owns: the order of its steps. Nothing is deleted by a calendar that is in doubt. The intent is noted
//! first, then files go, the row goes last and leaves a tombstone; each step can be repeated, so an end
//! between any two of them leaves work and no half-deleted call. Invariant: a call with a hold, in the
//! catalogue or in a sidecar, is not deleted.

use super::encrypt::LOCK;
use super::retention::{self, Walked};
use super::room;
use crate::catalogue::model::{Doomed, Place};
use crate::catalogue::{Catalogue, Done};
use crate::clock;
use crate::media::derived::Store;
use crate::media::look::sidecar;
use crate::media::path;
use crate::retention::calendar::Steady;
use crate::time::SECOND_US;
use recfile::name::sidecar_name;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::fs::{Fs, RealFs};

/// The interval between looks for due calls. The first look is one interval after the start: a clock that is
/// wrong at first is set by then, and its jump seen.
const EVERY: Duration = Duration::from_secs(600);
/// Calls of a look.
const BATCH: u32 = 128;
/// Calls in the trash that go at once to make room, before it is looked whether there is enough.
const HASTENED: u32 = 32;
/// The delay until a failed deletion is tried again.
const AGAIN_US: i64 = 3600 * SECOND_US;
/// Deletes due calls until the server ends. `folders` are those that media lie in.
pub(crate) async fn watch(catalogue: Arc<dyn Catalogue>, derived: Store, folders: Vec<PathBuf>) {
    let (began_us, began_monotonic_us) = (clock::now_us(), clock::monotonic_us());
    let mut steady = None;
    let mut looks = tokio::time::interval(EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    looks.tick().await;
    loop {
        looks.tick().await;
        let (now_us, monotonic_us) = (clock::now_us(), clock::monotonic_us());
        let begun = match &mut steady {
            Some(begun) => begun,
            None => match catalogue.right_time().await {
                Ok(right_us) => steady.insert(Steady::new(began_us, began_monotonic_us, right_us)),
                Err(error) => {
                    log::error!("deletion: {error}");
                    continue;
                }
            },
        };
        if let Some(doubt) = begun.doubt(now_us, monotonic_us) {
            log::error!("deletion: {doubt}");
            continue;
        }
        if let Err(error) = catalogue.note_right_time(now_us).await {
            log::error!("deletion: {error}");
            continue;
        }
        let short = || room::short(&folders);
        match look(&*catalogue, &derived, now_us, &short).await {
            Ok((walked, gone)) if gone > 0 || walked != Walked::default() => {
                let Walked { condemned, spared } = walked;
                log::info!(
                    "deletion: {gone} calls are gone, {condemned} in the trash by a policy, {spared} back"
                );
            }
            Ok(_) => {}
            Err(error) => log::error!("deletion: {error}"),
        }
    }
}

/// Applies policies, then deletes due calls, and of the folders that are `short` of room the trash, too.
/// Returns the number of calls deleted.
pub(crate) async fn look(
    catalogue: &dyn Catalogue,
    derived: &Store,
    now_us: i64,
    short: &(dyn Fn() -> Vec<PathBuf> + Sync),
) -> Done<(Walked, usize)> {
    let walked = retention::apply(catalogue, now_us).await?;
    let mut gone = 0;
    loop {
        let count = execute(catalogue, derived, now_us).await?;
        gone += count;
        // Failed deletions wait for another look.
        if count == BATCH as usize {
            continue;
        }
        // A failed deletion is due again in an hour: it is passed over, and each call is tried once.
        let folders = short();
        if folders.is_empty() || catalogue.hasten(now_us, now_us + AGAIN_US, &folders, HASTENED).await? == 0 {
            return Ok((walked, gone));
        }
    }
}

/// Deletes one batch of due calls; returns the number deleted. Each step is one for all of them: one write of
/// the catalogue notes the intents, each folder is made durable once, one write puts the tombstones.
pub(crate) async fn execute(catalogue: &dyn Catalogue, derived: &Store, now_us: i64) -> Done<usize> {
    let doomed = put_back(catalogue, catalogue.doomed(now_us, BATCH).await?, now_us).await?;
    let looked = on_disk(doomed, |doomed| {
        let free = |call: &Doomed| call.files.iter().try_for_each(|file| is_free(file, call.is_by_policy));
        doomed.iter().map(free).collect()
    });
    let (free, mut stuck) = looked.await;
    let begun = catalogue.begin_deletions(&free, now_us).await?;
    let (begun, refused): (Vec<_>, Vec<_>) = free.into_iter().zip(begun).partition(|(_, begun)| *begun);
    stuck.extend(refused.into_iter().map(|(call, _)| call));
    let derived = derived.clone();
    let begun = begun.into_iter().map(|(call, _)| call).collect();
    let (removed, problems) = on_disk(begun, move |doomed| remove_all(doomed, &derived)).await;
    stuck.extend(problems);
    let done = catalogue.finish_deletions(&removed, now_us).await?;
    let gone = done.iter().filter(|is_done| **is_done).count();
    stuck.extend(removed.into_iter().zip(done).filter(|(_, is_done)| !is_done).map(|(call, _)| call));
    for call in &stuck {
        catalogue.put_off_deletion(call, now_us + AGAIN_US).await?;
    }
    Ok(gone)
}

/// Puts back calls that a policy put in the trash and that their recorder protects, and returns the others.
async fn put_back(catalogue: &dyn Catalogue, doomed: Vec<Doomed>, now_us: i64) -> Done<Vec<Doomed>> {
    let split = |doomed: Vec<Doomed>| {
        doomed.into_iter().partition(|call| call.is_by_policy && retention::is_protected(&call.files))
    };
    let split = tokio::task::spawn_blocking(move || split(doomed)).await;
    let (protected, others): (Vec<Doomed>, Vec<Doomed>) = split.unwrap_or_default();
    for call in protected {
        // One whose deletion has begun can't come back: it is put off, so that the others have their turn.
        if !catalogue.put_back(&call, "it is protected where it was recorded", now_us).await? {
            log::error!("deletion: a call whose deletion has begun is protected where it was recorded");
            catalogue.put_off_deletion(&call, now_us + AGAIN_US).await?;
        }
    }
    Ok(others)
}

/// Does something with the files of calls: those for which it is done, and those for which it is not, which
/// is told.
async fn on_disk(
    doomed: Vec<Doomed>,
    work: impl FnOnce(&[Doomed]) -> Vec<Result<(), String>> + Send + 'static,
) -> (Vec<Doomed>, Vec<Doomed>) {
    let calls = doomed.clone();
    let done = tokio::task::spawn_blocking(move || work(&calls)).await;
    let mut done = done.unwrap_or_default().into_iter();
    let ended = || Err("the look at its files ended".to_owned());
    doomed.into_iter().partition(|_| match done.next().unwrap_or_else(ended) {
        Ok(()) => true,
        Err(problem) => {
            log::error!("deletion: {problem}; it is tried again in an hour");
            false
        }
    })
}

/// Whether nobody records the file, and its sidecar has no hold. One that the catalogue does not know would
/// come from another archive; one that was released is out of the sidecar soon. No policy deletes a file that
/// its recorder protects.
fn is_free(file: &Place, is_by_policy: bool) -> Result<(), String> {
    let path = path(file);
    let told = |what: &str| format!("{} is not deleted: {what}", path.display());
    match RealFs.open_read(&path) {
        Ok(opened) => {
            if RealFs.lock(&opened).is_ok_and(|free| !free) {
                return Err(told("it is being recorded"));
            }
            let _ = RealFs.unlock(&opened);
        }
        // A disk that is not mounted leaves an empty folder, and nothing is known of the file.
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_bare(Path::new(&file.root)) => {
            return Err(told("its folder is empty or away: is the disk mounted?"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(told(&error.to_string())),
    }
    match sidecar(&path, &file.name) {
        Ok(Some(said)) if !said.holds.is_empty() => Err(told("its sidecar has a hold")),
        Ok(Some(said)) if said.protected && is_by_policy => Err(told("it is protected")),
        Ok(_) => Ok(()),
        Err(problem) => Err(told(&problem)),
    }
}

/// Whether a folder is away, or has nothing in it but the lock of the encryption.
fn is_bare(root: &Path) -> bool {
    let lock = std::ffi::OsStr::new(LOCK);
    std::fs::read_dir(root).map_or(true, |all| all.flatten().all(|entry| entry.file_name() == lock))
}

/// Removes the files of a call.
#[cfg(test)]
pub(crate) fn remove(doomed: &Doomed, derived: &Store) -> Result<(), String> {
    remove_all(std::slice::from_ref(doomed), derived).remove(0)
}

/// Removes the files of calls. A file counts as removed only when the removal is durable.
fn remove_all(doomed: &[Doomed], derived: &Store) -> Vec<Result<(), String>> {
    let mut folders: BTreeMap<PathBuf, Result<(), String>> = BTreeMap::new();
    let removed: Vec<_> = doomed.iter().map(|call| unlink(call, derived)).collect();
    for file in doomed.iter().flat_map(|call| &call.files) {
        if let Some(folder) = path(file).parent().filter(|folder| folder.is_dir()) {
            folders.entry(folder.to_path_buf()).or_insert_with(|| {
                RealFs.sync_folder(folder).map_err(|error| format!("{}: {error}", folder.display()))
            });
        }
    }
    let durable = |call: &Doomed| {
        let all = call.files.iter().filter_map(|file| folders.get(path(file).parent()?));
        all.cloned().collect::<Result<(), String>>()
    };
    removed.into_iter().zip(doomed).map(|(removed, call)| removed.and_then(|()| durable(call))).collect()
}

/// Unlinks the files of a call, the audio before its sidecar: a sidecar alone is no recording.
fn unlink(doomed: &Doomed, derived: &Store) -> Result<(), String> {
    for file in &doomed.files {
        let path = path(file);
        for path in [path.clone(), path.with_file_name(sidecar_name(&file.name))] {
            match RealFs.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("{} can't be removed: {error}", path.display()));
                }
                _ => {}
            }
        }
    }
    for recording in &doomed.recordings {
        derived.remove(*recording).map_err(|error| format!("the wave of {recording}: {error}"))?;
    }
    Ok(())
}
