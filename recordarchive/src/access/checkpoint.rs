//! Checkpoints: the signed state of audit log and recordings at a moment. A copy elsewhere shows later
//! changes and cuts.
//!
//! Owns: the text that is signed, and the Merkle tree over recordings. Never: storage, and when one is made.

use super::site_key::{PublicKey, SiteKey};
use crate::id::{hex, unhex};
use crate::time::{parse as parse_time, rfc3339};
use recfile::seal::base64;
use sha2::{Digest, Sha256};

/// First line of each; it also keeps a signature from being taken for one of something else.
const HEADER: &str = "recordarchive checkpoint 1";

/// Files that one checkpoint covers; further ones are for the next. So neither making nor checking one takes
/// long.
pub(crate) const MAX_COVERED: i64 = 65_536;

/// The state at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Its number, from 1.
    pub(crate) number: i64,
    /// The time at which it was made.
    pub(crate) at_us: i64,
    /// Entries of the audit log.
    pub(crate) entries: i64,
    /// Hash of the last of them.
    pub(crate) head: [u8; 32],
    /// Files that were sealed, from the first day on, as far as it covers them.
    pub(crate) sealed: i64,
    /// Merkle root of those since the checkpoint before.
    pub(crate) root: [u8; 32],
    /// Hash of the checkpoint before; zeros for the first.
    pub(crate) previous: [u8; 32],
}

/// A checkpoint as it is stored and given away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signed {
    /// The signed text.
    pub(crate) text: String,
    /// The signature, base64.
    pub(crate) signature: String,
}

impl Checkpoint {
    fn text(&self) -> String {
        format!(
            "{HEADER}\nnumber {}\nat {}\nentries {}\nhead {}\nsealed {}\nroot {}\nprevious {}\n",
            self.number,
            rfc3339(self.at_us),
            self.entries,
            hex(&self.head),
            self.sealed,
            hex(&self.root),
            hex(&self.previous)
        )
    }

    /// Signs it.
    pub(crate) fn sign(&self, key: &SiteKey) -> Signed {
        let text = self.text();
        let signature = base64::encode_padded(&key.sign(text.as_bytes()));
        Signed { text, signature }
    }
}

impl Signed {
    /// Parses the text; `None` if it is no checkpoint. Does not check the signature.
    pub(crate) fn read(&self) -> Option<Checkpoint> {
        let mut lines = self.text.lines();
        if lines.next() != Some(HEADER) {
            return None;
        }
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned);
        let hash = |text: String| unhex(&text)?.try_into().ok();
        let found = Checkpoint {
            number: value("number")?.parse().ok()?,
            at_us: parse_time(&value("at")?)?,
            entries: value("entries")?.parse().ok()?,
            head: hash(value("head")?)?,
            sealed: value("sealed")?.parse().ok()?,
            root: hash(value("root")?)?,
            previous: hash(value("previous")?)?,
        };
        (found.text() == self.text).then_some(found)
    }

    /// Whether this key signed it.
    pub(crate) fn is_by(&self, key: &PublicKey) -> bool {
        let signature = base64::decode_padded(&self.signature);
        signature.is_some_and(|signature| key.is_signed(self.text.as_bytes(), &signature))
    }

    /// The hash by which the next checkpoint names this one.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.text).into()
    }

    /// As a file has it: the text, an empty line, the signature.
    pub(crate) fn file(&self) -> String {
        format!("{}\nsignature {}\n", self.text, self.signature)
    }

    /// All checkpoints in a file, and how many lines of it belong to none.
    pub(crate) fn parse_all(file: &str) -> (Vec<Self>, usize) {
        let (mut found, mut text, mut stray) = (Vec::new(), String::new(), 0);
        for line in file.lines() {
            if line == HEADER {
                stray += text.lines().count();
                text.clear();
            }
            match line.strip_prefix("signature ") {
                Some(signature) => {
                    let text = std::mem::take(&mut text);
                    found.push(Self { text, signature: signature.to_owned() });
                }
                None if line.is_empty() => {}
                None => {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        (found, stray + text.lines().count())
    }
}

/// The Merkle root of these hashes (RFC 6962, section 2.1); of none the hash of nothing.
pub(crate) fn merkle_root(leaves: &[Vec<u8>]) -> [u8; 32] {
    let node =
        |left: [u8; 32], right: [u8; 32]| Sha256::digest([&[1], &left[..], &right[..]].concat()).into();
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => Sha256::digest([&[0], &one[..]].concat()).into(),
        several => {
            // The largest power of two that leaves something over.
            let half = several.len().next_power_of_two() / 2;
            node(merkle_root(&several[..half]), merkle_root(&several[half..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_signed_and_nothing_else_is_one() {
        let key = SiteKey::generate();
        let checkpoint = Checkpoint {
            number: 3,
            at_us: crate::testing::NOW_US,
            entries: 17,
            head: [1; 32],
            sealed: 5,
            root: [2; 32],
            previous: [3; 32],
        };
        let signed = checkpoint.sign(&key);
        assert!(signed.is_by(&key.public()) && !signed.is_by(&SiteKey::generate().public()));
        assert_eq!(signed.read(), Some(checkpoint));
        let file = format!("torn\n{}{}recordarchive checkpoint 1\nnumber 4", signed.file(), signed.file());
        let (found, stray) = Signed::parse_all(&file);
        assert_eq!((found.len(), stray), (2, 3));
        assert!(found.iter().all(|found| *found == signed));
        let mut changed = signed;
        changed.text = changed.text.replace("entries 17", "entries 16");
        assert!(!changed.is_by(&key.public()) && changed.read().is_some());
        changed.text.push_str("more\n");
        assert_eq!(changed.read(), None);
    }

    #[test]
    fn a_merkle_root_is_that_of_rfc_6962_and_of_each_leaf_in_its_place() {
        let empty = merkle_root(&[]);
        assert_eq!(hex(&empty), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(
            hex(&merkle_root(&[Vec::new()])),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        let leaves: Vec<Vec<u8>> = (0..7_u8).map(|n| vec![n; 32]).collect();
        let root = merkle_root(&leaves);
        for at in 0..7 {
            let mut other = leaves.clone();
            other[at][0] ^= 1;
            assert_ne!(merkle_root(&other), root);
        }
        let mut moved = leaves.clone();
        moved.swap(5, 6);
        assert_ne!(merkle_root(&moved), root);
        assert_ne!(merkle_root(&leaves[..6]), root);
    }
}
