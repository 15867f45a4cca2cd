//! The key of a site: it signs checkpoints of the audit log and manifests of exports.
//!
//! Owns: how it is kept as text, and its public half as `minisign` reads it. A checkpoint begins with words
//! of its own ([`super::checkpoint`]), a manifest with a brace, so neither can stand for the other.

use crate::id::{hex, random_octets, unhex};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use recfile::seal::base64;
use sha2::{Digest, Sha256};

/// Minisign's name for Ed25519.
const ALGORITHM: &[u8; 2] = b"Ed";
/// First line of a key's file.
const SECRET_HEADER: &str = "recordarchive secret key 1";

/// A key that signs.
pub(crate) struct SiteKey(SigningKey);

impl SiteKey {
    /// A new one.
    pub(crate) fn generate() -> Self {
        Self(SigningKey::from_bytes(&random_octets()))
    }

    /// Parses the output of [`Self::text`].
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let secret = text.strip_prefix(SECRET_HEADER)?.trim();
        Some(Self(SigningKey::from_bytes(&unhex(secret)?.try_into().ok()?)))
    }

    /// As it is kept.
    pub(crate) fn text(&self) -> String {
        format!("{SECRET_HEADER}\n{}\n", hex(self.0.as_bytes()))
    }

    /// Its public half.
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs octets.
    pub(crate) fn sign(&self, octets: &[u8]) -> [u8; 64] {
        self.0.sign(octets).to_bytes()
    }
}

/// A key that checks signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Eight octets that tell it from others.
    pub(crate) fn id(&self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(&Sha256::digest(self.0.as_bytes())[..8]);
        id
    }

    /// One line, as `minisign -P` takes it.
    pub(crate) fn line(&self) -> String {
        base64::encode_padded(&[&ALGORITHM[..], &self.id(), self.0.as_bytes()].concat())
    }

    /// A file, as `minisign -p` takes it.
    pub(crate) fn text(&self) -> String {
        format!("untrusted comment: recordarchive public key {}\n{}\n", hex(&self.id()), self.line())
    }

    /// Reads a line or a file.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        let octets = base64::decode_padded(line)?;
        let (head, key) = octets.split_at_checked(10)?;
        let key = Self(VerifyingKey::from_bytes(key.try_into().ok()?).ok()?);
        (head.starts_with(ALGORITHM) && head[2..] == key.id()).then_some(key)
    }

    /// Whether a signature is of these octets and this key.
    pub(crate) fn is_signed(&self, octets: &[u8], signature: &[u8]) -> bool {
        let signature = signature.try_into().map(|signature| Signature::from_bytes(&signature));
        signature.is_ok_and(|signature| self.0.verify_strict(octets, &signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_its_public_half_checks_its_signatures() {
        let key = SiteKey::generate();
        let again = SiteKey::parse(&key.text()).unwrap();
        let public = PublicKey::parse(&key.public().text()).unwrap();
        assert_eq!((again.public(), PublicKey::parse(&public.line())), (public, Some(public)));
        let mut signature = key.sign(b"said");
        assert!(public.is_signed(b"said", &signature));
        assert!(!public.is_signed(b"sais", &signature) && !public.is_signed(b"said", &signature[..63]));
        assert!(!SiteKey::generate().public().is_signed(b"said", &signature));
        signature[5] ^= 1;
        assert!(!public.is_signed(b"said", &signature));
        for wrong in ["", "x", "RWQ=", "untrusted comment: none\n", &key.text()] {
            assert_eq!(PublicKey::parse(wrong), None, "{wrong}");
        }
        assert!(SiteKey::parse("recordarchive secret key 1\nab").is_none());
    }
}
