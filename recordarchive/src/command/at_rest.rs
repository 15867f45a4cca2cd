//! Encryption at rest at the command line: the keys of the settings, their rotation, the checks of `doctor`
//! for them.

use super::{COMMAND_LINE, Ended, LISTED, Outcome, note, open, print};
use crate::access::audit::Entry;
use crate::catalogue::{Catalogue, Done};
use crate::clock;
use crate::config::Config;
use crate::jobs::encrypt::{Encryptor, rewrap};
use crate::media::derived::Store;
use crate::media::vault::Vault;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A process that does not encrypt because another one does looks again after this time.
const AGAIN: Duration = Duration::from_secs(10);

/// The vault with the keys of the settings.
pub(super) fn vault(config: &Config) -> Result<Vault, Ended> {
    let file = config.encryption.as_ref().map(|encryption| &encryption.identity_file);
    if let Some(file) = file.filter(|file| file.starts_with(&config.data)) {
        let what = "a copy of the media would have their key: keep it elsewhere";
        return Err(Ended::Usage(format!("{}: it is in {}, {what}", file.display(), config.data.display())));
    }
    Vault::read(config.encryption.as_ref()).map_err(Ended::Usage)
}

/// A wrapped identity for each set of recipients that there is, and whether it opens.
async fn keys(catalogue: &dyn Catalogue, vault: &Vault) -> Done<Vec<(bool, String)>> {
    let mut said = Vec::new();
    for (label, count) in catalogue.sealed_totals().await?.keys {
        let wrapped = catalogue.key_wrapped_for(&label).await?;
        let opens = wrapped.map_or(Ok(()), |wrapped| vault.unwrap(&wrapped).map(drop));
        said.push(match opens {
            Ok(()) => (true, format!("keys of {count} recording(s) open; they are wrapped for {label}")),
            Err(error) => (false, format!("keys of {count} recording(s), wrapped for {label}: {error}")),
        });
    }
    Ok(said)
}

/// Tells which keys can't be opened. The server goes on: a recording that it can't open can't be played, and
/// is not touched.
pub(super) async fn check_keys(catalogue: &dyn Catalogue, vault: &Vault) -> Outcome {
    for (_, text) in keys(catalogue, vault).await?.iter().filter(|(good, _)| !good) {
        note(&format!("encryption: {text}"));
    }
    Ok(())
}

/// The lines of `doctor`.
pub(super) async fn doctor(config: &Config, catalogue: &dyn Catalogue) -> Result<Vec<(bool, String)>, Ended> {
    let vault = match vault(config) {
        Ok(vault) => vault,
        Err(Ended::Usage(text) | Ended::Failed(text)) => {
            return Ok(vec![(false, format!("encryption: {text}"))]);
        }
        Err(Ended::Wrong) => return Ok(Vec::new()),
    };
    let mut said = keys(catalogue, &vault).await?;
    let totals = catalogue.sealed_totals().await?;
    if vault.encrypts() || totals.plain_copies > 0 {
        let left = totals.plain_copies;
        said.push((
            left == 0,
            format!("{left} plain file(s) of encrypted recordings are still to be removed"),
        ));
    }
    Ok(said)
}

/// Encrypts until the server ends.
pub(super) async fn encrypt(catalogue: Arc<dyn Catalogue>, vault: Vault, media: PathBuf, derived: Store) {
    loop {
        match Encryptor::new(Arc::clone(&catalogue), vault.clone(), media.clone(), derived.clone()) {
            Ok(Some(encryptor)) => return encryptor.watch().await,
            // A command does it at the moment.
            Ok(None) => {}
            Err(problem) => log::error!("encryption: {problem}"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Encrypts the imported recordings, unless the server does.
pub(super) async fn after_import(config: &Config, catalogue: &Arc<dyn Catalogue>) -> Outcome {
    let vault = vault(config)?;
    if !vault.encrypts() {
        return Ok(());
    }
    let derived = Store::new(&config.data).with_vault(vault.clone());
    let encryptor = Encryptor::new(Arc::clone(catalogue), vault, config.media(), derived);
    let Some(mut encryptor) = encryptor.map_err(Ended::Failed)? else {
        print("the server encrypts the new recordings");
        return Ok(());
    };
    let done = encryptor.all().await?;
    print(&format!("{} file(s) are encrypted, {} plain one(s) removed", done.files, done.freed));
    if done.failed == 0 { Ok(()) } else { Err(Ended::Wrong) }
}

/// Wraps all keys for the recipients of the settings.
pub(super) async fn rotate(config: &Config) -> Outcome {
    let vault = vault(config)?;
    if !vault.encrypts() {
        return Err(Ended::Usage(
            "rotate-keys: set encryption.recipients and encryption.identity_file".into(),
        ));
    }
    let catalogue = open(config).await?;
    let (count, problems) = rewrap(&*catalogue, &vault, COMMAND_LINE).await?;
    let said = json!({"recordings": count, "failed": problems.len(), "recipients": vault.label()});
    let entry = Entry::new(clock::now_us(), COMMAND_LINE, "key.rotated", "").with(&said);
    catalogue.log(&[entry]).await?;
    print(&format!("keys of {count} recording(s) are wrapped anew, for {}", vault.label()));
    for problem in problems.iter().take(LISTED as usize) {
        note(problem);
    }
    if problems.is_empty() {
        return Ok(());
    }
    note(&format!("{} key(s) stay as they were", problems.len()));
    Err(Ended::Wrong)
}
