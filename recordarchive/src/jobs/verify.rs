//! Verification: every file against its hash, the audit log against itself, the database against its own rules.

use crate::access::audit::Check;
use crate::catalogue::{Catalogue, Done};
use crate::media::look::hash_again;
use crate::media::path;

/// Files and entries read at a time.
const BATCH: u32 = 500;

/// What was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Files that are what they were.
    pub(crate) files: u64,
    /// Entries of the audit log.
    pub(crate) entries: i64,
    /// Hash of the last one, to be compared with one that was written down before.
    pub(crate) head: String,
    /// What is wrong, each for a person.
    pub(crate) problems: Vec<String>,
}

/// Verifies everything; files of recordings that were changed before `since_ms` are left out.
pub(crate) async fn verify(catalogue: &dyn Catalogue, since_ms: i64) -> Done<Verified> {
    let mut verified = Verified::default();
    verified.problems.extend(catalogue.check().await?.into_iter().map(|line| format!("database: {line}")));
    let mut check = Check::default();
    loop {
        let links = catalogue.audit(check.head().0, BATCH).await?;
        if links.is_empty() {
            break;
        }
        if let Some(problem) = links.iter().find_map(|link| check.next(link).err()) {
            verified.problems.push(problem);
            break;
        }
    }
    let (entries, head) = check.head();
    (verified.entries, verified.head) = (entries, crate::id::hex(head));
    let mut behind = None;
    loop {
        let segments = catalogue.segments(behind, BATCH).await?;
        let Some(last) = segments.last() else { return Ok(verified) };
        behind = Some(last.place);
        let looked = tokio::task::spawn_blocking(move || {
            let wanted = segments.into_iter().filter(|segment| segment.file.modified_ms >= since_ms);
            wanted
                .map(|segment| {
                    let path = path(&segment.file);
                    match hash_again(&path) {
                        Ok(hash) if hash.as_slice() == segment.sha256 => Ok(()),
                        Ok(_) => Err(format!("{}: its audio is not what was taken in", path.display())),
                        Err(error) => Err(format!("{}: {error}", path.display())),
                    }
                })
                .collect::<Vec<_>>()
        });
        for looked in looked.await.unwrap_or_default() {
            match looked {
                Ok(()) => verified.files += 1,
                Err(problem) => verified.problems.push(problem),
            }
        }
    }
}
