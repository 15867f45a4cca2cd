//! `export` and `verify-export`: packages of evidence at the command line.

use super::{COMMAND_LINE, Ended, Outcome, at_rest, open, print};
use crate::access::Condition;
use crate::access::site_key::PublicKey;
use crate::catalogue::export::{Export, State};
use crate::catalogue::model::Search;
use crate::clock;
use crate::config::Config;
use crate::id::Id;
use crate::jobs::export::{self as package, MAX_CALLS};
use crate::jobs::{checkpoint, verify_export};
use crate::query::Query;
use std::path::Path;

/// The calls and options of an export.
pub(super) struct Wanted {
    /// Ids of calls.
    pub(super) calls: Vec<String>,
    /// Or a search.
    pub(super) query: Option<String>,
    /// The reason.
    pub(super) reason: String,
    /// With numbers that can't be read.
    pub(super) mask_numbers: bool,
    /// With encrypted files as they are stored.
    pub(super) as_stored: bool,
}

/// Writes a package to a file that is not there yet.
pub(super) async fn export(config: &Config, wanted: Wanted, output: &Path) -> Outcome {
    let Wanted { calls, query, reason, mask_numbers, as_stored } = wanted;
    if output.exists() {
        return Err(Ended::Usage(format!("{}: it is there already", output.display())));
    }
    let reason = reason.trim().to_owned();
    if reason.is_empty() {
        return Err(Ended::Usage("--reason: say why".into()));
    }
    let vault = at_rest::vault(config)?;
    let catalogue = open(config).await?;
    let mut found = Vec::new();
    for call in &calls {
        let none = || Ended::Failed(format!("{call}: there is no such call"));
        let id = Id::parse(call).ok_or_else(none)?;
        catalogue.call(id, &Condition::All).await?.ok_or_else(none)?;
        found.push(id);
    }
    if let Some(line) = &query {
        let searched = Query::parse(line, &config.site).map_err(Ended::Usage)?;
        let (from_us, to_us) = (searched.from_us.unwrap_or(0), searched.to_us.unwrap_or(i64::MAX));
        let limit = u32::try_from(MAX_CALLS + 1).unwrap_or(u32::MAX);
        let search = Search { query: searched, from_us, to_us, behind: None, limit };
        let page = catalogue.search(&search, &Condition::All).await?;
        found.extend(page.calls.iter().filter_map(|call| Id::parse(&call.id)));
    }
    if found.is_empty() {
        return Err(Ended::Failed("the search finds no call".into()));
    }
    if found.len() > MAX_CALLS {
        let most = MAX_CALLS;
        return Err(Ended::Failed(format!(
            "at most {most} calls at once: narrow the search by from: and to:"
        )));
    }
    let now_us = clock::now_us();
    let export = Export {
        id: Id::random(now_us),
        account: Id([0; 16]),
        by: COMMAND_LINE.into(),
        reason,
        calls: found,
        originals: !mask_numbers,
        as_stored,
        mask_numbers,
        asked_us: now_us,
        expires_us: now_us,
        state: State::Running,
        decided: None,
        octets: 0,
        sha256: String::new(),
        problem: String::new(),
    };
    catalogue.log(&package::entries(&export, query.as_deref())).await?;
    let key = checkpoint::key(&config.keys()).map_err(Ended::Failed)?;
    let made = package::make(&*catalogue, &export, &config.site.name, (key, &vault), output).await;
    let (octets, sha256) = made.map_err(Ended::Failed)?;
    print(&format!(
        "{}: {} call(s), {octets} octets, SHA-256 {sha256}",
        output.display(),
        export.calls.len()
    ));
    Ok(())
}

/// Checks a package by itself.
pub(super) fn verify(file: &Path, key: Option<String>) -> Outcome {
    let known = match &key {
        Some(key) => {
            let text = std::fs::read_to_string(key).unwrap_or_else(|_| key.clone());
            let wrong =
                || Ended::Usage(format!("--key {key}: it is neither a public key nor a file with one"));
            Some(PublicKey::parse(&text).ok_or_else(wrong)?)
        }
        None => None,
    };
    let checked = verify_export::check(file, known).map_err(Ended::Failed)?;
    checked.problems.iter().for_each(|problem| print(problem));
    print(&format!("{} call(s); {} file(s) are unchanged since the export", checked.calls, checked.good));
    match key {
        Some(_) => print("the signature was checked with the key that you gave"),
        None => print(&format!(
            "signed by {}: ask the archive whether this is its key, or give --key",
            checked.key
        )),
    }
    if checked.problems.is_empty() { Ok(()) } else { Err(Ended::Wrong) }
}
