//! Verification: every file against its hash and its seal, the audit log against itself and against signed
//! checkpoints here and in the second place, the database against its own rules.

use super::checkpoint::SecondPlace;
use crate::access::audit::Check;
use crate::access::checkpoint::{Checkpoint, Signed, merkle_root};
use crate::access::site_key::PublicKey;
use crate::catalogue::{Catalogue, Done};
use crate::media::look::hash_again;
use crate::media::path;
use crate::media::vault::Vault;

/// Files and entries read at a time.
const BATCH: u32 = 500;

/// Problems of one kind that are listed.
const LISTED: u32 = 20;

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    /// Files that are unchanged.
    pub(crate) files: u64,
    /// Signed checkpoints that fit.
    pub(crate) checkpoints: u64,
    /// Entries of the audit log.
    pub(crate) entries: i64,
    /// Hash of the last one, to be compared with one that was written down before.
    pub(crate) head: String,
    /// Problems, each a text for the administrator.
    pub(crate) problems: Vec<String>,
}

/// The key and copies that checkpoints are compared with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Anchors {
    /// The site's key.
    pub(crate) key: Option<PublicKey>,
    /// The second place with copies of them.
    pub(crate) second: Option<SecondPlace>,
    /// Opens files that are encrypted.
    pub(crate) vault: Vault,
}

/// The checkpoints of the catalogue, one after another.
struct Checkpoints<'a> {
    catalogue: &'a dyn Catalogue,
    key: Option<PublicKey>,
    page: std::vec::IntoIter<Signed>,
    last: Option<(Checkpoint, [u8; 32])>,
}

impl Checkpoints<'_> {
    /// The next one that follows the one before; problems are added to the list.
    async fn next(&mut self, problems: &mut Vec<String>) -> Done<Option<Checkpoint>> {
        let number = self.last.as_ref().map_or(0, |(last, _)| last.number);
        if self.page.len() == 0 {
            self.page = self.catalogue.checkpoints(number, BATCH).await?.into_iter();
        }
        let Some(signed) = self.page.next() else { return Ok(None) };
        let Some(said) = signed.read() else {
            problems.push(format!("checkpoint behind number {number} can't be read: it was changed"));
            return Ok(None);
        };
        let mut wrong = |text: &str| problems.push(format!("checkpoint {}: {text}", said.number));
        let (entries, sealed, hash) =
            self.last.as_ref().map_or((0, 0, [0; 32]), |(last, hash)| (last.entries, last.sealed, *hash));
        if !self.key.is_some_and(|key| signed.is_by(&key)) {
            wrong("it is not signed by the key of this site");
        }
        if said.number != number + 1
            || said.previous != hash
            || said.entries < entries
            || said.sealed < sealed
        {
            wrong("it does not follow the one before it");
        }
        if merkle_root(&self.catalogue.sealed(sealed, said.sealed).await?) != said.root {
            wrong("what was sealed since the one before was changed");
        }
        self.last = Some((said.clone(), signed.hash()));
        Ok(Some(said))
    }
}

/// Walks the audit log, and compares it with each checkpoint on the way.
async fn verify_log(
    catalogue: &dyn Catalogue,
    key: Option<PublicKey>,
    verified: &mut Verified,
) -> Done<Check> {
    let mut check = Check::default();
    let mut checkpoints = Checkpoints { catalogue, key, page: Vec::new().into_iter(), last: None };
    let mut next = checkpoints.next(&mut verified.problems).await?;
    'log: loop {
        let links = catalogue.audit(check.head().0, BATCH).await?;
        if links.is_empty() {
            break;
        }
        for link in &links {
            if let Err(problem) = check.next(link) {
                verified.problems.push(problem);
                break 'log;
            }
            while let Some(said) = next.take_if(|said| said.entries <= link.seq) {
                if said.entries == link.seq && said.head.as_slice() != link.hash {
                    let text = "the audit log was another one up to there";
                    verified.problems.push(format!("checkpoint {}: {text}", said.number));
                }
                verified.checkpoints += 1;
                next = checkpoints.next(&mut verified.problems).await?;
            }
        }
    }
    if let Some(said) = next {
        verified.problems.push(format!(
            "audit: it ends at entry {}, checkpoint {} knows of {}: its end was cut off",
            check.head().0,
            said.number,
            said.entries
        ));
    }
    Ok(check)
}

/// Compares the second place with the catalogue.
async fn verify_second_place(
    catalogue: &dyn Catalogue,
    second: SecondPlace,
    key: Option<PublicKey>,
    check: &Check,
    verified: &mut Verified,
) -> Done<()> {
    let copies = tokio::task::spawn_blocking(move || second.all()).await;
    let copies = match copies.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
        Ok((copies, wrong)) => {
            verified.problems.extend(wrong);
            copies
        }
        Err(error) => {
            verified.problems.push(format!("the second place of checkpoints can't be read: {error}"));
            return Ok(());
        }
    };
    let mut newest: Option<Checkpoint> = None;
    for copy in copies {
        let Some(said) = copy.read().filter(|_| key.is_some_and(|key| copy.is_by(&key))) else {
            verified.problems.push("the second place has a checkpoint that this site did not sign".into());
            continue;
        };
        let here = catalogue.checkpoints(said.number - 1, 1).await?.pop();
        match here.as_ref().and_then(Signed::read).filter(|here| here.number == said.number) {
            Some(here) if here == said => {}
            Some(_) => verified
                .problems
                .push(format!("checkpoint {}: the second place has another one", said.number)),
            None => {
                verified.problems.push(format!("checkpoint {}: only the second place has it", said.number))
            }
        }
        if newest.as_ref().is_none_or(|newest| newest.number < said.number) {
            newest = Some(said);
        }
    }
    if let Some(said) = newest.filter(|said| said.entries > check.head().0) {
        verified.problems.push(format!(
            "audit: it ends at entry {}, the second place knows of {}: its end was cut off",
            check.head().0,
            said.entries
        ));
    }
    Ok(())
}

/// Verifies everything; files of recordings that were changed before `since_ms` are left out.
pub(crate) async fn verify(catalogue: &dyn Catalogue, anchors: Anchors, since_ms: i64) -> Done<Verified> {
    let mut verified = Verified::default();
    verified.problems.extend(catalogue.check().await?.into_iter().map(|line| format!("database: {line}")));
    let check = verify_log(catalogue, anchors.key, &mut verified).await?;
    if let Some(second) = anchors.second {
        verify_second_place(catalogue, second, anchors.key, &check, &mut verified).await?;
    }
    let changed = catalogue.unsealed(LISTED).await?;
    verified
        .problems
        .extend(changed.iter().map(|file| format!("{file}: its hash is not the one that was sealed")));
    let (entries, head) = check.head();
    (verified.entries, verified.head) = (entries, crate::id::hex(head));
    let mut behind = None;
    loop {
        let segments = catalogue.segments(behind, BATCH).await?;
        let Some(last) = segments.last() else { return Ok(verified) };
        behind = Some(last.place);
        let vault = anchors.vault.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let wanted = segments.into_iter().filter(|segment| segment.file.modified_ms >= since_ms);
            wanted
                .map(|segment| {
                    let path = path(&segment.file);
                    let opened = vault.open(&segment.file, segment.key.as_deref());
                    match opened.and_then(hash_again) {
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
