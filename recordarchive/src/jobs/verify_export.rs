//! Checks a package of evidence by itself: no archive and no network is needed.

use super::export::{MANIFEST, SIGNATURE, SUMS};
use crate::access::minisig;
use crate::access::site_key::PublicKey;
use crate::id::hex;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use zip::ZipArchive;

/// Largest manifest that is read.
const MAX_MANIFEST_OCTETS: u64 = 64 << 20;

/// The result of a check: the contents of a package, and its problems.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Files that match the manifest.
    pub(crate) good: usize,
    /// Calls in the manifest.
    pub(crate) calls: usize,
    /// The key that signed it, as one line.
    pub(crate) key: String,
    /// Each for a person.
    pub(crate) problems: Vec<String>,
}

#[derive(Deserialize)]
struct Manifest {
    public_key: String,
    calls: Vec<serde_json::Value>,
    files: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    octets: u64,
    sha256: String,
}

type Zip = ZipArchive<BufReader<File>>;

fn text(zip: &mut Zip, name: &str) -> Result<String, String> {
    let missing = |error| format!("{name}: {error}");
    let file = zip.by_name(name).map_err(missing)?;
    let mut text = String::new();
    file.take(MAX_MANIFEST_OCTETS).read_to_string(&mut text).map_err(|error| format!("{name}: {error}"))?;
    Ok(text)
}

fn hashed(zip: &mut Zip, name: &str) -> Result<(u64, String), String> {
    let mut file = zip.by_name(name).map_err(|error| format!("{name}: {error}"))?;
    let (mut hash, mut octets, mut piece) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        match file.read(&mut piece).map_err(|error| format!("{name}: {error}"))? {
            0 => return Ok((octets, hex(&hash.finalize()))),
            count => {
                hash.update(&piece[..count]);
                octets += count as u64;
            }
        }
    }
}

/// Checks a package; with `key` also that this one signed it.
///
/// # Errors
/// It is no package, for a person.
pub(crate) fn check(path: &Path, key: Option<PublicKey>) -> Result<Checked, String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut zip =
        ZipArchive::new(BufReader::new(file)).map_err(|error| format!("{}: {error}", path.display()))?;
    let manifest = text(&mut zip, MANIFEST)?;
    let said: Manifest = serde_json::from_str(&manifest).map_err(|error| format!("{MANIFEST}: {error}"))?;
    let mut problems = Vec::new();
    let signature = text(&mut zip, SIGNATURE).unwrap_or_default();
    let own = PublicKey::parse(&said.public_key);
    match key.or(own) {
        Some(key) if minisig::is_signed(&key, manifest.as_bytes(), &signature) => {}
        _ => problems.push(format!("{MANIFEST}: the signature is not that of the key, or it was changed")),
    }
    let mut good = 0;
    for listed in &said.files {
        match hashed(&mut zip, &listed.name) {
            Ok((octets, sha256)) if (octets, &sha256) == (listed.octets, &listed.sha256) => good += 1,
            Ok(_) => problems.push(format!("{}: it was changed since the export", listed.name)),
            Err(problem) => problems.push(problem),
        }
    }
    let mut known: BTreeSet<String> = said.files.iter().map(|listed| listed.name.clone()).collect();
    known.extend([MANIFEST, SIGNATURE, SUMS].map(str::to_owned));
    for name in zip.file_names() {
        match name {
            Ok(name) if known.contains(&*name) => {}
            Ok(name) => problems.push(format!("{name}: it is not in the manifest")),
            Err(error) => problems.push(format!("a name in it can't be read: {error}")),
        }
    }
    let wanted: BTreeMap<&str, &str> =
        said.files.iter().map(|listed| (listed.name.as_str(), listed.sha256.as_str())).collect();
    let sums = text(&mut zip, SUMS)?;
    let told: BTreeMap<&str, &str> =
        sums.lines().filter_map(|line| line.split_once("  ")).map(|(hash, name)| (name, hash)).collect();
    let manifest_hash = hex(&Sha256::digest(manifest.as_bytes()));
    let fits = wanted.iter().all(|(name, hash)| told.get(name) == Some(hash))
        && told.get(MANIFEST) == Some(&manifest_hash.as_str())
        && told.len() == wanted.len() + 1;
    if !fits {
        problems.push(format!("{SUMS}: it differs from the manifest"));
    }
    Ok(Checked { good, calls: said.calls.len(), key: said.public_key, problems })
}
