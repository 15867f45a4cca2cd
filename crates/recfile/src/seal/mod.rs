//! Encryption of recordings to a public key, and the signature that proves their origin.
//!
//! Owns: keys, the header that wraps a file's key ([`age`], the format of age-encryption.org), the chunks
//! that hold audio ([`audio`]), the encrypted part of a sidecar ([`sidecar`]), hash and signature
//! ([`origin`]). Where things stand in an encrypted file is [`crate::sealed`], which needs no key. Pure:
//! randomness comes in as [`Entropy`], octets go out. Invariants: the phone never holds a secret that opens
//! its own files; no nonce is used twice with one key for different octets; only authenticated octets are
//! returned.

pub mod age;
pub mod audio;
pub mod base64;
pub mod origin;
pub mod plain;
pub mod sidecar;

use std::fmt;
use std::io;

/// Fills the octets with random ones, as good as the system has.
pub type Entropy<'a> = &'a mut dyn FnMut(&mut [u8]) -> io::Result<()>;

/// Recipients of one file at most.
pub const MAX_RECIPIENTS: usize = 8;

/// The reason for which something is not opened, or is no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The text is no recipient (`age1…`).
    NoRecipient,
    /// The text is no identity (`AGE-SECRET-KEY-1…`).
    NoIdentity,
    /// The key has no 32 octets in the wrapping that is expected.
    NoKey(&'static str),
    /// The header that wraps the file's key is no such header.
    Header,
    /// None of the identities is one that it was encrypted to.
    OtherKey,
    /// It was altered or damaged.
    Altered,
    /// It ends before its end.
    CutOff,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRecipient => "this is no recipient: one begins with \"age1\" and has 62 characters",
            Self::NoIdentity => "this is no identity: one begins with \"AGE-SECRET-KEY-1\"",
            Self::NoKey(wanted) => wanted,
            Self::Header => "the header with the file's key is damaged: nothing can be decrypted",
            Self::OtherKey => "it is encrypted to another key than this one",
            Self::Altered => "it was altered or damaged",
            Self::CutOff => "its end is missing",
        })
    }
}

impl std::error::Error for SealError {}
