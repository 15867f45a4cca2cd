//! The audit log: its entries, and the hash chain that shows whether one was changed.
//!
//! Owns: the octets that are hashed. They are the very ones that are stored, so nothing has to be written
//! anew to be checked. Never: storage; the catalogue appends, and makes a fork of the chain impossible.

use sha2::{Digest, Sha256};

/// The predecessor of the first entry.
pub(crate) const GENESIS: [u8; 32] = [0; 32];
/// Sets these hashes apart from all others.
const DOMAIN: &[u8] = b"recordarchive audit 1";

/// Something that was done or tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The time, in microseconds.
    pub(crate) at_us: i64,
    /// The name of an account, or a name in brackets for the archive itself.
    pub(crate) actor: String,
    /// The action, one word: `play`, `search`, `login`.
    pub(crate) action: String,
    /// The id of a call or recording, or the name of an account; may be empty.
    pub(crate) object: String,
    /// `ok`, `refused`, `failed`.
    pub(crate) result: String,
    /// More about it, as JSON; or nothing.
    pub(crate) detail: String,
}

impl Entry {
    /// That of something that was done.
    pub(crate) fn new(at_us: i64, actor: &str, action: &str, object: impl ToString) -> Self {
        let (actor, action, object) = (actor.to_owned(), action.to_owned(), object.to_string());
        Self { at_us, actor, action, object, result: "ok".into(), detail: String::new() }
    }

    /// With more about it.
    pub(crate) fn with(mut self, detail: &serde_json::Value) -> Self {
        self.detail = detail.to_string();
        self
    }

    /// Adds the result.
    pub(crate) fn result(mut self, result: &str) -> Self {
        self.result = result.to_owned();
        self
    }

    /// The hash of the entry at this place of the chain.
    pub(crate) fn hash(&self, seq: i64, previous: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(seq.to_be_bytes());
        hash.update(self.at_us.to_be_bytes());
        let texts = [&self.actor, &self.action, &self.object, &self.result, &self.detail];
        for part in std::iter::once(previous).chain(texts.map(|text| text.as_bytes())) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its number, from 1.
    pub(crate) seq: i64,
    /// The entry.
    pub(crate) entry: Entry,
    /// Hash of the entry before it.
    pub(crate) previous: Vec<u8>,
    /// Its own.
    pub(crate) hash: Vec<u8>,
}

/// Checks a chain entry by entry.
#[derive(Debug)]
pub(crate) struct Check {
    next: i64,
    head: Vec<u8>,
}

impl Default for Check {
    fn default() -> Self {
        Self { next: 1, head: GENESIS.to_vec() }
    }
}

impl Check {
    /// Takes the next entry.
    ///
    /// # Errors
    /// A text for the administrator, if the link does not follow.
    pub(crate) fn next(&mut self, link: &Link) -> Result<(), String> {
        if link.seq != self.next {
            return Err(format!(
                "audit: entry {} follows entry {}: entries are missing",
                link.seq,
                self.next - 1
            ));
        }
        if link.previous != self.head {
            return Err(format!("audit: entry {} does not follow the one before it", link.seq));
        }
        if link.entry.hash(link.seq, &link.previous).as_slice() != link.hash {
            return Err(format!("audit: entry {} was changed", link.seq));
        }
        self.next += 1;
        self.head.clone_from(&link.hash);
        Ok(())
    }

    /// Entries so far, and the hash of the last one.
    pub(crate) fn head(&self) -> (i64, &[u8]) {
        (self.next - 1, &self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: i64) -> Vec<Link> {
        let mut head = GENESIS.to_vec();
        let link = |seq| {
            let entry = Entry::new(seq * 1000, "anna", "play", format!("call {seq}"));
            let hash = entry.hash(seq, &head).to_vec();
            Link { seq, entry, previous: std::mem::replace(&mut head, hash.clone()), hash }
        };
        (1..=count).map(link).collect()
    }

    fn check(chain: &[Link]) -> Result<(), String> {
        let mut check = Check::default();
        chain.iter().try_for_each(|link| check.next(link))
    }

    #[test]
    fn a_chain_shows_changed_removed_inserted_and_moved_entries() {
        let whole = chain(5);
        assert_eq!(check(&whole), Ok(()));
        let tampered = |change: &dyn Fn(&mut Vec<Link>)| {
            let mut chain = whole.clone();
            change(&mut chain);
            check(&chain).unwrap_err()
        };
        assert!(tampered(&|chain| chain[2].entry.actor = "otto".into()).contains("entry 3 was changed"));
        assert!(tampered(&|chain| chain[2].entry.at_us += 1).contains("entry 3 was changed"));
        assert!(tampered(&|chain| drop(chain.remove(1))).contains("missing"));
        assert!(tampered(&|chain| chain.swap(1, 2)).contains("missing"));
        let inserted = tampered(&|chain| {
            let mut link = chain[1].clone();
            link.seq = 3;
            chain.insert(2, link);
        });
        assert!(inserted.contains("entry 3"), "{inserted}");
        // One that is rehashed no longer leads to the next.
        let rehashed = tampered(&|chain| {
            chain[1].entry.actor = "otto".into();
            chain[1].hash = chain[1].entry.hash(2, &chain[1].previous).to_vec();
        });
        assert!(rehashed.contains("entry 3 does not follow"), "{rehashed}");
    }

    #[test]
    fn a_hash_tells_apart_where_one_text_ends_and_the_next_begins() {
        let entry = |actor: &str, action: &str| Entry::new(0, actor, action, "").hash(1, &GENESIS);
        assert_ne!(entry("ab", "c"), entry("a", "bc"));
    }
}
