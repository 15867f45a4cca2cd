//! The proof by hash and signature of a recording, and its limits, in words.

use super::recording::{Recording, hash_of, open_file};
use recfile::header::FileHeader;
use recfile::seal::origin::{PublicKey, Verdict, check};
use recfile::sealed::FRONT_OCTETS;
use recfile::sidecar::Sidecar;
use serde_json::{Value, json};

/// The origin of a recording, as far as it is known.
pub(super) struct Origin {
    hash: &'static str,
    signature: &'static str,
    /// The key that it is signed by.
    key: Option<String>,
    /// For people.
    pub(super) told: Vec<String>,
    /// The error.
    pub(super) fault: Option<String>,
}

impl Origin {
    pub(super) fn as_json(&self) -> Value {
        json!({ "hash": self.hash, "signature": self.signature, "key": self.key, "told": self.told })
    }
}

/// Compares the hash of the audio read with that of the sidecar, and checks the signature; `signed_by` is the
/// only key that is good enough, if it is known.
pub(super) fn origin_of(recording: &Recording, found: Option<&str>, signed_by: Option<PublicKey>) -> Origin {
    let mut origin = Origin { hash: "none", signature: "none", key: None, told: Vec::new(), fault: None };
    match recording.sidecar() {
        None => {
            origin.told.push("no sidecar, so no hash and no signature: nothing is known of its origin".into())
        }
        Some(sidecar) if sidecar.sealed.is_some() => sealed_hash(&mut origin, recording, sidecar),
        Some(sidecar) => {
            plain_hash(&mut origin, sidecar, found);
            if let Some(header) = header_of(recording) {
                signature(&mut origin, &header, sidecar);
            }
        }
    }
    if let (Some(wanted), None) = (signed_by, &origin.fault) {
        if origin.key.as_deref() != Some(&wanted.id()) {
            origin.fault = Some(match &origin.key {
                Some(key) => format!("it is signed by the key {key}, not by {}", wanted.id()),
                None => format!("it has no signature that can be checked, so none by {}", wanted.id()),
            });
        }
    }
    origin
}

/// Without the key the hash of the file itself is there, which proves nothing but that it is not damaged.
fn sealed_hash(origin: &mut Origin, recording: &Recording, sidecar: &Sidecar) {
    origin.signature = "encrypted";
    origin.told.push("hash and signature of the audio are encrypted: --identity opens them".into());
    let Some(said) = &sidecar.sealed_sha256 else { return };
    let from = FRONT_OCTETS as u64;
    let file = open_file(&recording.path);
    let found = file.and_then(|file| hash_of(&file, from, recording.len.saturating_sub(from), &mut |_| {}));
    match found {
        Ok(found) if found == *said => {
            origin.hash = "same";
            origin.told.push("the encrypted file is as its sidecar says: not damaged since".into());
        }
        Ok(_) => {
            origin.hash = "differs";
            origin.fault = Some("the encrypted file is not as its sidecar says: altered or damaged".into());
        }
        Err(error) => origin.told.push(format!("the file can't be hashed: {error}")),
    }
}

fn plain_hash(origin: &mut Origin, sidecar: &Sidecar, found: Option<&str>) {
    match (&sidecar.sha256, found) {
        (None, _) => {
            origin.told.push("the sidecar has no hash: whether the audio was changed can't be told".into())
        }
        (Some(_), None) => {
            origin.told.push("not all of the audio can be read, so its hash can't be compared".into())
        }
        (Some(said), Some(found)) if said.eq_ignore_ascii_case(found) => {
            origin.hash = if sidecar.repaired { "repaired" } else { "same" };
            origin.told.push(if sidecar.repaired {
                "the audio is as it was when it was repaired; whether it was changed before can't be told"
                    .into()
            } else {
                "the audio is that which the sidecar has the hash of".into()
            });
        }
        (Some(said), Some(found)) => {
            origin.hash = "differs";
            origin.fault = Some(format!(
                "the hash differs: the audio was altered or damaged (sidecar {said}, file {found})"
            ));
        }
    }
}

fn signature(origin: &mut Origin, header: &FileHeader, sidecar: &Sidecar) {
    match check(header, sidecar) {
        Verdict::Unsigned => {
            let why = if sidecar.repaired { " (a repair takes it away)" } else { "" };
            origin.told.push(format!(
                "no signature{why}: a person who changed the audio could have changed the hash, too"
            ));
        }
        Verdict::Good(key) => {
            origin.signature = "good";
            if origin.hash == "same" {
                origin.told.push(format!(
                    "unchanged since it was written by the holder of the key {key}: head, audio, call, id, segment, \
                     start and end. Not proved: that the phone's clock was right, or who that holder is"
                ));
            }
            origin.key = Some(key);
        }
        Verdict::Bad(key) => {
            origin.signature = "bad";
            origin.fault.get_or_insert_with(|| {
                format!("the signature by the key {key} is of something else: head, call, times or hash were changed")
            });
        }
        Verdict::NotOne => {
            origin.signature = "unreadable";
            origin.fault.get_or_insert_with(|| "its signature is not valid".into());
        }
    }
}

/// The header that was signed.
fn header_of(recording: &Recording) -> Option<FileHeader> {
    let reader = recording.audio.as_ref().ok()?;
    Some(reader.format().header)
}
