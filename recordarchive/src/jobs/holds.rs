//! Holds in sidecars: the holds of a call stand beside its files, so that it stays protected when the
//! catalogue is lost.
//!
//! Owns: when sidecars are written. A failed write is tried again. Harmless to repeat.

use crate::catalogue::model::{Decision, Place};
use crate::catalogue::{Catalogue, Done};
use crate::clock;
use crate::media::{look, path};
use crate::time::{SECOND_US, rfc3339};
use recfile::sidecar::{Hold, Sidecar};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use store::fs::{Fs, RealFs};
use store::sidecar_file;

/// The interval between looks for sidecars to write.
const EVERY: Duration = Duration::from_millis(500);
/// Calls of a round.
const BATCH: u32 = 64;
/// The delay until a failed write is tried again.
const AGAIN_US: i64 = 60 * SECOND_US;

/// Writes holds until the server ends.
pub(crate) async fn watch(catalogue: Arc<dyn Catalogue>) {
    let mut rounds = tokio::time::interval(EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        if let Err(error) = write(&*catalogue).await {
            log::error!("holds: {error}");
        }
    }
}

/// Writes the sidecars that are due; returns the number of calls written.
pub(crate) async fn write(catalogue: &dyn Catalogue) -> Done<usize> {
    let mut written = 0;
    for kept in catalogue.unwritten_holds(clock::now_us(), BATCH).await? {
        let (files, holds) = (kept.files.clone(), kept.holds.clone());
        let done = tokio::task::spawn_blocking(move || write_all(&files, &holds)).await;
        match done.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(()) => {
                catalogue.holds_written(&kept).await?;
                written += 1;
            }
            Err(problem) => {
                log::warn!("holds: {problem}; it is tried again in a minute");
                catalogue.holds_unwritten(&kept, clock::now_us() + AGAIN_US).await?;
            }
        }
    }
    Ok(written)
}

fn write_all(files: &[Place], holds: &[Decision]) -> Result<(), String> {
    // All of them are tried: one that is missing keeps none of the others from its hold.
    let mut problem = None;
    for file in files {
        if let Err(error) = write_one(file, holds) {
            problem = Some(format!("the sidecar of {} can't be written: {error}", path(file).display()));
        }
    }
    problem.map_or(Ok(()), Err)
}

fn write_one(file: &Place, holds: &[Decision]) -> io::Result<()> {
    let path = path(file);
    let opened = RealFs.open_read(&path)?;
    // The recorder writes the sidecar at the end: the hold would be lost.
    if RealFs.lock(&opened).is_ok_and(|free| !free) {
        return Err(io::Error::new(io::ErrorKind::WouldBlock, "it is being recorded"));
    }
    let wanted: Vec<Hold> = holds.iter().map(hold).collect();
    let said = look::sidecar(&path, &file.name).map_err(io::Error::other)?;
    let mut sidecar = said.unwrap_or_else(|| Sidecar { file: file.name.clone(), ..Sidecar::default() });
    let written = if sidecar.holds == wanted {
        Ok(())
    } else {
        sidecar.holds = wanted;
        let folder = path.parent().unwrap_or(std::path::Path::new("."));
        sidecar_file::replace(&RealFs, folder, &file.name, &sidecar)
    };
    let _ = RealFs.unlock(&opened);
    written
}

fn hold(decision: &Decision) -> Hold {
    Hold {
        id: decision.id.clone(),
        name: decision.name.clone(),
        reference: decision.reference.clone(),
        reason: decision.reason.clone(),
        placed_by: decision.by.clone(),
        placed: rfc3339(decision.placed_us),
    }
}

/// Whether the sidecars of a call have its holds.
#[cfg(test)]
pub(crate) fn are_written(kept: &crate::catalogue::model::Kept) -> bool {
    kept.files.iter().all(|file| {
        let said = look::sidecar(&path(file), &file.name).ok().flatten().unwrap_or_default();
        said.holds.iter().map(|hold| &hold.id).eq(kept.holds.iter().map(|decision| &decision.id))
    })
}
