//! Policies at work: calls that are due go to the trash, and those that are not due any more come back from
//! it.
//!
//! Owns: the walk through the catalogue, page by page, and the look whether a recorder protects a call: no
//! policy puts one of these in the trash. [`crate::retention`] is asked twice whether a call is
//! due: here, so that the catalogue's writer is not held up by calls that stay, and again in the transaction
//! that puts a call in the trash.

use crate::catalogue::model::Place;
use crate::catalogue::retention::Candidate;
use crate::catalogue::{Catalogue, Done};
use crate::media::look::sidecar;
use crate::media::path;
use crate::retention::preview::Preview;
use crate::retention::{Policy, earliest_us, fate};
use crate::time::DAY_US;
use serde_json::Value;

/// Calls of a page.
const PAGE: u32 = 500;
/// Most time that a call may begin earlier than its key says: a file of it came later.
const KEY_SLACK_US: i64 = 2 * DAY_US;

/// The result of a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Calls that went to the trash.
    pub(crate) condemned: usize,
    /// Calls that came back from it.
    pub(crate) spared: usize,
}

/// Looks at all calls that may be due, and at all in the trash that policies put there.
pub(crate) async fn apply(catalogue: &dyn Catalogue, now_us: i64) -> Done<Walked> {
    let mut walked = Walked::default();
    let mut behind = i64::MIN;
    loop {
        let (spared, last) = catalogue.spare(behind, now_us, PAGE).await?;
        walked.spared += spared;
        let Some(last) = last else { break };
        behind = last;
    }
    let (present, _) = catalogue.policies().await?;
    let Some(earliest_us) = earliest_us(&present.policies) else { return Ok(walked) };
    let before = now_us.saturating_sub(earliest_us).saturating_add(KEY_SLACK_US);
    let mut behind = i64::MIN;
    loop {
        let page = catalogue.candidates(behind, before, PAGE).await?;
        let Some(last) = page.last() else { break };
        behind = last.key;
        let is_due = |candidate: &&Candidate| {
            !candidate.is_held && fate(&present.policies, &candidate.subject).is_due(now_us).is_some()
        };
        let due: Vec<i64> = page.iter().filter(is_due).map(|candidate| candidate.key).collect();
        if !due.is_empty() {
            let due = unprotected(catalogue, due).await?;
            walked.condemned += catalogue.condemn(&due, now_us).await?;
        }
    }
    Ok(walked)
}

/// Those of these calls that their recorder does not protect.
async fn unprotected(catalogue: &dyn Catalogue, calls: Vec<i64>) -> Done<Vec<i64>> {
    let files = catalogue.files_of(&calls).await?;
    let looked = tokio::task::spawn_blocking(move || {
        let free = calls.into_iter().zip(files).filter(|(_, files)| !is_protected(files));
        free.map(|(call, _)| call).collect()
    });
    Ok(looked.await.unwrap_or_default())
}

/// Whether the sidecar of one of these files says that its recorder protects it.
pub(super) fn is_protected(files: &[Place]) -> bool {
    let said = |file: &Place| sidecar(&path(file), &file.name).ok().flatten();
    files.iter().any(|file| said(file).is_some_and(|said| said.protected))
}

/// The effect on all calls of policies in place of others.
pub(crate) async fn preview(
    catalogue: &dyn Catalogue,
    old: Vec<Policy>,
    new: Vec<Policy>,
    now_us: i64,
) -> Done<Value> {
    let mut preview = Preview::new(old, new, now_us);
    let mut behind = i64::MIN;
    loop {
        let page = catalogue.candidates(behind, i64::MAX, PAGE).await?;
        let Some(last) = page.last() else { return Ok(preview.shown()) };
        behind = last.key;
        for candidate in &page {
            preview.count(&candidate.subject, candidate.duration_ms, candidate.is_held);
        }
    }
}
