//! Deletion of calls whose time in the trash is over, and of those that are due by a policy.
//!
//! Owns: the order of its steps, and when there is none: nothing is deleted by a calendar that is in doubt. The intent is noted first, then files go, the row goes last and leaves a tombstone; each
//! step can be repeated, so an end between any two of them leaves work and no half-deleted call. Invariant: what a
//! hold keeps, in the catalogue or in a sidecar, is not deleted.

use super::retention::{self, Walked};
use crate::catalogue::model::{Doomed, Place};
use crate::catalogue::{Catalogue, Done};
use crate::clock;
use crate::media::derived::Store;
use crate::media::look::sidecar;
use crate::media::path;
use crate::time::{DAY_US, SECOND_US};
use recfile::name::sidecar_name;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::fs::{Fs, RealFs};

/// How often it is looked what is due. The first look is one such time after the start: a clock that is wrong at first
/// is set by then, and its jump seen.
const EVERY: Duration = Duration::from_secs(600);
/// Calls of a look.
const BATCH: u32 = 256;
/// What can't be deleted is tried again this much later.
const AGAIN_US: i64 = 3600 * SECOND_US;
/// A calendar that moves this much against the time that went by has jumped.
const MAX_JUMP_US: i64 = DAY_US;

/// An archive that was away for longer, by the calendar, deletes nothing for as long after its start: time for the clock to
/// be put right, which is seen as a jump.
const MAX_AWAY_US: i64 = DAY_US;

/// Why nothing is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The calendar jumped by so much.
    Jumped(i64),
    /// The calendar says that the archive was away for so long.
    Away(i64),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |us: &i64| us / (3600 * SECOND_US);
        match self {
            Self::Jumped(us) => {
                write!(f, "the clock jumped by {} h: nothing is deleted; set it, then restart", hours(us))
            }
            Self::Away(us) => write!(
                f,
                "by the clock the archive was away for {} h: nothing is deleted for a day; look whether it is right",
                hours(us)
            ),
        }
    }
}

/// Sees whether the calendar goes as time goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steady {
    began_us: i64,
    began_monotonic_us: i64,
    away_us: i64,
}

impl Steady {
    /// From now on. `right_us` is when the calendar was taken for right for the last time, if it ever was.
    pub(crate) fn new(now_us: i64, monotonic_us: i64, right_us: Option<i64>) -> Self {
        let away_us = right_us.map_or(0, |right_us| now_us.saturating_sub(right_us));
        Self { began_us: now_us, began_monotonic_us: monotonic_us, away_us }
    }

    /// Why nothing is to be deleted now, if so.
    pub(crate) fn doubt(&self, now_us: i64, monotonic_us: i64) -> Option<Doubt> {
        let by_calendar = now_us.saturating_sub(self.began_us);
        let went_by = monotonic_us.saturating_sub(self.began_monotonic_us);
        let jump = by_calendar.saturating_sub(went_by);
        if jump.saturating_abs() > MAX_JUMP_US {
            return Some(Doubt::Jumped(jump));
        }
        (self.away_us > MAX_AWAY_US && went_by < MAX_AWAY_US).then_some(Doubt::Away(self.away_us))
    }
}

/// Deletes what is due until the server ends.
pub(crate) async fn watch(catalogue: Arc<dyn Catalogue>, derived: Store) {
    let (began_us, began_monotonic_us) = (clock::now_us(), clock::monotonic_us());
    let mut steady = None;
    let mut looks = tokio::time::interval(EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    looks.tick().await;
    loop {
        looks.tick().await;
        let (now_us, monotonic_us) = (clock::now_us(), clock::monotonic_us());
        let begun = match steady {
            Some(begun) => begun,
            None => match catalogue.right_time().await {
                Ok(right_us) => *steady.insert(Steady::new(began_us, began_monotonic_us, right_us)),
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
        match look(&*catalogue, &derived, now_us).await {
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

/// Applies policies, then deletes what is due; how many calls are gone.
async fn look(catalogue: &dyn Catalogue, derived: &Store, now_us: i64) -> Done<(Walked, usize)> {
    let walked = retention::apply(catalogue, now_us).await?;
    let mut gone = 0;
    loop {
        let count = execute(catalogue, derived, now_us).await?;
        gone += count;
        // What could not go waits for another look.
        if count < BATCH as usize {
            return Ok((walked, gone));
        }
    }
}

/// Deletes what is due; how many calls are gone.
pub(crate) async fn execute(catalogue: &dyn Catalogue, derived: &Store, now_us: i64) -> Done<usize> {
    let mut gone = 0;
    for doomed in catalogue.doomed(now_us, BATCH).await? {
        match one(catalogue, derived, &doomed, now_us).await? {
            Ok(true) => gone += 1,
            Ok(false) => catalogue.put_off_deletion(&doomed, now_us + AGAIN_US).await?,
            Err(problem) => {
                log::error!("deletion: {problem}; it is tried again in an hour");
                catalogue.put_off_deletion(&doomed, now_us + AGAIN_US).await?;
            }
        }
    }
    Ok(gone)
}

async fn one(
    catalogue: &dyn Catalogue,
    derived: &Store,
    doomed: &Doomed,
    now_us: i64,
) -> Done<Result<bool, String>> {
    let ended = |error: tokio::task::JoinError| Err(error.to_string());
    let files = doomed.files.clone();
    let free = tokio::task::spawn_blocking(move || files.iter().try_for_each(is_free)).await;
    if let Err(problem) = free.unwrap_or_else(ended) {
        return Ok(Err(problem));
    }
    if !catalogue.begin_deletion(doomed, now_us).await? {
        return Ok(Ok(false));
    }
    let (removed, derived) = (doomed.clone(), derived.clone());
    let removed = tokio::task::spawn_blocking(move || remove(&removed, &derived)).await;
    if let Err(problem) = removed.unwrap_or_else(ended) {
        return Ok(Err(problem));
    }
    Ok(Ok(catalogue.finish_deletion(doomed, now_us).await?))
}

/// Whether nobody records the file, and its sidecar has no hold. One that the catalogue does not know would come from
/// another archive; one that was released is out of the sidecar soon.
fn is_free(file: &Place) -> Result<(), String> {
    let path = path(file);
    let told = |what: &str| format!("{} is not deleted: {what}", path.display());
    match RealFs.open_read(&path) {
        Ok(opened) => {
            if RealFs.lock(&opened).is_ok_and(|free| !free) {
                return Err(told("it is being recorded"));
            }
            let _ = RealFs.unlock(&opened);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(told(&error.to_string())),
    }
    match sidecar(&path, &file.name) {
        Ok(said) if said.as_ref().is_none_or(|said| said.holds.is_empty()) => Ok(()),
        Ok(_) => Err(told("its sidecar has a hold")),
        Err(problem) => Err(told(&problem)),
    }
}

/// Removes the files of a call, the audio before its sidecar: a sidecar alone is no recording.
pub(crate) fn remove(doomed: &Doomed, derived: &Store) -> Result<(), String> {
    let mut folders = BTreeSet::new();
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
        folders.extend(path.parent().map(Path::to_path_buf));
    }
    for recording in &doomed.recordings {
        derived.remove(*recording).map_err(|error| format!("the wave of {recording}: {error}"))?;
    }
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        RealFs.sync_folder(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletion_waits_for_a_calendar_that_does_not_jump() {
        let steady = Steady::new(1_000 * DAY_US, 5, None);
        assert_eq!(steady.doubt(1_030 * DAY_US, 30 * DAY_US + 5), None, "a month went by");
        assert_eq!(steady.doubt(1_001 * DAY_US, 5), None);
        assert_eq!(steady.doubt(1_002 * DAY_US, 5), Some(Doubt::Jumped(2 * DAY_US)));
        assert_eq!(steady.doubt(0, 5), Some(Doubt::Jumped(-1_000 * DAY_US)));
    }

    #[test]
    fn deletion_waits_a_day_where_the_calendar_says_that_the_archive_was_long_away() {
        let steady = Steady::new(1_000 * DAY_US, 5, Some(998 * DAY_US));
        assert_eq!(steady.doubt(1_000 * DAY_US, 5), Some(Doubt::Away(2 * DAY_US)));
        assert_eq!(steady.doubt(1_001 * DAY_US, DAY_US + 5), None, "nobody put the clock right");
        // It was wrong, and is right again.
        assert_eq!(steady.doubt(998 * DAY_US, DAY_US), Some(Doubt::Jumped(5 - 3 * DAY_US)));
        assert_eq!(Steady::new(1_000 * DAY_US, 5, Some(1_000 * DAY_US - 1)).doubt(1_000 * DAY_US, 6), None);
    }
}
