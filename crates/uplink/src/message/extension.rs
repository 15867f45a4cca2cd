//! The keys that our own programs add behind those of the source document (docs/uplink-protocol.md,
//! "Extension").
//!
//! Owns: their names, and their validity. Never: their effects. A message of which one is of no use is read
//! as one without the extension: the recording comes first.

use super::{Pairs, push_pair};

/// The version that we speak.
pub const VERSION: u32 = 1;

/// Longest [`Asked::resume`] in octets, after escaping.
pub const MAX_RESUME_OCTETS: usize = 240;

/// The part of a start request that asks for the extension.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Asked {
    /// The first item that the phone can still send.
    pub from: u64,
    /// Milliseconds since the phone began the recording.
    pub elapsed_ms: u64,
    /// The last token of the server, if the recording goes on.
    pub resume: Option<String>,
}

/// The part of the answer that grants it. The answer's `port` takes TCP then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The first item that the server wants.
    pub next: u64,
    /// The phone's token for the media connection, and for a return.
    pub resume: String,
}

pub(super) fn asked(pairs: &Pairs<'_>) -> Option<Asked> {
    is_spoken(pairs).then_some(())?;
    Some(Asked { from: number(pairs, "from")?, elapsed_ms: number(pairs, "elapsed")?, resume: token(pairs) })
}

pub(super) fn granted(pairs: &Pairs<'_>) -> Option<Granted> {
    is_spoken(pairs).then_some(())?;
    Some(Granted { next: number(pairs, "next")?, resume: token(pairs)? })
}

/// How many items there are in all, as the phone's stop request says.
pub(super) fn items(pairs: &Pairs<'_>) -> Option<u64> {
    number(pairs, "items")
}

pub(super) fn push_asked(text: &mut String, asked: &Asked) {
    push_version(text);
    push_pair(text, "from", &asked.from.to_string());
    push_pair(text, "elapsed", &asked.elapsed_ms.to_string());
    if let Some(resume) = &asked.resume {
        push_pair(text, "resume", resume);
    }
}

pub(super) fn push_granted(text: &mut String, granted: &Granted) {
    push_version(text);
    push_pair(text, "next", &granted.next.to_string());
    push_pair(text, "resume", &granted.resume);
}

pub(super) fn push_items(text: &mut String, items: u64) {
    push_pair(text, "items", &items.to_string());
}

fn push_version(text: &mut String) {
    push_pair(text, "ext", &VERSION.to_string());
}

fn is_spoken(pairs: &Pairs<'_>) -> bool {
    number(pairs, "ext").is_some_and(|version| version >= u64::from(VERSION))
}

fn number(pairs: &Pairs<'_>, key: &str) -> Option<u64> {
    pairs.plain(key)?.parse().ok()
}

fn token(pairs: &Pairs<'_>) -> Option<String> {
    let of_use = |token: &String| {
        let range = 1..=MAX_RESUME_OCTETS;
        range.contains(&token.len()) && token.bytes().all(|octet| octet.is_ascii_graphic())
    };
    pairs.plain("resume").filter(of_use)
}
