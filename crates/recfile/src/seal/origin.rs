//! Hash and signature of a recording: proof that it is unchanged, and of its writer.
//!
//! Owns: the device's key (Ed25519, in the PEM files that `openssl genpkey -algorithm ed25519` makes), the
//! signed message, and the check. A signature proves that the holder of the key signed this head, audio, call
//! and time. It does not prove that the clock was right, or that the audio is the speech of the call.

use super::{Entropy, SealError, base64};
use crate::call::Direction;
use crate::header::FileHeader;
use crate::sidecar::{Sidecar, Signature};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use std::fmt::{self, Write};
use std::io;

/// Name of the signature in the sidecar.
pub const ALGORITHM: &str = "Ed25519";

/// First line of the signed message.
const CONTEXT: &str = "recordd signature 1\n";

/// Before the 32 octets of a private key in its DER (RFC 8410, section 7).
const PRIVATE_DER: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Before the 32 octets of a public key in its DER (RFC 8410, section 4).
const PUBLIC_DER: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

const PRIVATE_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";

const NO_PRIVATE_KEY: SealError = SealError::NoKey(
    "this is no Ed25519 private key in PEM; recordctl keygen --sign makes one, as does openssl genpkey -algorithm ed25519",
);
const NO_PUBLIC_KEY: SealError =
    SealError::NoKey("this is no Ed25519 public key in PEM; recordctl keygen --public prints one");

/// A device's key.
#[derive(Clone)]
pub struct SignKey(SigningKey);

impl fmt::Debug for SignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignKey({})", self.public().id())
    }
}

impl SignKey {
    /// A new one.
    ///
    /// # Errors
    /// Those of the entropy.
    pub fn generate(entropy: Entropy<'_>) -> io::Result<Self> {
        let mut seed = [0; 32];
        entropy(&mut seed)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// Reads PEM.
    ///
    /// # Errors
    /// [`SealError::NoKey`].
    pub fn parse(pem: &str) -> Result<Self, SealError> {
        let seed = parse_pem(pem, PRIVATE_LABEL, &PRIVATE_DER).ok_or(NO_PRIVATE_KEY)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// PEM, for a file that nobody else may read.
    #[must_use]
    pub fn pem(&self) -> String {
        pem(PRIVATE_LABEL, &PRIVATE_DER, &self.0.to_bytes())
    }

    /// The public key, with which others check signatures.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a finished recording whose sidecar has everything but the signature.
    #[must_use]
    pub fn sign(&self, head: &FileHeader, sidecar: &Sidecar) -> Signature {
        Signature {
            algorithm: ALGORITHM.into(),
            key: self.public().id(),
            value: base64::encode_padded(&self.0.sign(&message(head, sidecar)).to_bytes()),
        }
    }
}

/// The public part of a device's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Reads PEM, that of the private key, too.
    ///
    /// # Errors
    /// [`SealError::NoKey`].
    pub fn parse(pem: &str) -> Result<Self, SealError> {
        let own = || SignKey::parse(pem).ok().map(|key| key.public());
        parse_pem(pem, PUBLIC_LABEL, &PUBLIC_DER).map(Self).or_else(own).ok_or(NO_PUBLIC_KEY)
    }

    /// PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem(PUBLIC_LABEL, &PUBLIC_DER, &self.0)
    }

    /// As a sidecar names it: base64 of its 32 octets.
    #[must_use]
    pub fn id(&self) -> String {
        base64::encode_padded(&self.0)
    }
}

fn parse_pem(pem: &str, label: &str, der: &[u8]) -> Option<[u8; 32]> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut lines = pem.lines().map(str::trim).skip_while(|line| *line != begin).skip(1);
    let body: String = lines.by_ref().take_while(|line| *line != end).take(16).collect();
    base64::decode_padded(&body)?.strip_prefix(der)?.try_into().ok()
}

fn pem(label: &str, der: &[u8], key: &[u8; 32]) -> String {
    let body = base64::encode_padded(&[der, key].concat());
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// The signed message: one line for each field, its length before it, so that no two recordings make one
/// message.
fn message(head: &FileHeader, sidecar: &Sidecar) -> Vec<u8> {
    let call = &sidecar.call;
    let direction = match call.direction {
        None => "",
        Some(Direction::In) => "in",
        Some(Direction::Out) => "out",
    };
    let (length, segment) = (sidecar.data_bytes.to_string(), sidecar.segment.to_string());
    let mut text = String::from(CONTEXT);
    for (name, value) in [
        ("head", hex(&head.encode()).as_str()),
        ("length", &length),
        ("sha256", sidecar.sha256.as_deref().unwrap_or_default()),
        ("call.id", &call.id),
        ("call.direction", direction),
        ("call.remote_number", &call.remote_number),
        ("call.remote_name", &call.remote_name),
        ("call.local_number", &call.local_number),
        ("call.local_name", &call.local_name),
        ("recording", &sidecar.recording),
        ("segment", &segment),
        ("start", &sidecar.start),
        ("end", sidecar.end.as_deref().unwrap_or_default()),
    ] {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{name} {}:{value}", value.len());
    }
    text.into_bytes()
}

/// The result of a check of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is none.
    Unsigned,
    /// The holder of this key signed the present file.
    Good(String),
    /// Head, length, call, times or hash differ from those that the holder of this key signed.
    Bad(String),
    /// It is no signature.
    NotOne,
}

/// Checks the signature of a sidecar; that its hash is that of the audio is another question.
#[must_use]
pub fn check(head: &FileHeader, sidecar: &Sidecar) -> Verdict {
    let Some(signature) = &sidecar.signature else { return Verdict::Unsigned };
    let key: Option<[u8; 32]> = base64::decode_padded(&signature.key).and_then(|key| key.try_into().ok());
    let value: Option<[u8; 64]> =
        base64::decode_padded(&signature.value).and_then(|value| value.try_into().ok());
    let (Some(key), Some(value), true) = (key, value, signature.algorithm == ALGORITHM) else {
        return Verdict::NotOne;
    };
    let Ok(verifying) = VerifyingKey::from_bytes(&key) else { return Verdict::NotOne };
    let value = ed25519_dalek::Signature::from_bytes(&value);
    let id = PublicKey(key).id();
    match verifying.verify_strict(&message(head, sidecar), &value) {
        Ok(()) => Verdict::Good(id),
        Err(_) => Verdict::Bad(id),
    }
}

/// Small letters, two for an octet.
#[must_use]
pub fn hex(octets: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble & 15)]);
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(*octet)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Call;
    use crate::seal::age::tests::counting;
    use media::codec::Codec;

    fn key() -> SignKey {
        SignKey::generate(&mut counting(5)).unwrap()
    }

    fn sidecar() -> Sidecar {
        Sidecar {
            recording: "r1".into(),
            call: Call { remote_number: "201".into(), direction: Some(Direction::In), ..Call::default() },
            start: "2026-03-01T09:15:00.250+01:00".into(),
            end: Some("2026-03-01T09:16:00.250+01:00".into()),
            data_bytes: 320,
            sha256: Some("00".repeat(32)),
            ..Sidecar::default()
        }
    }

    fn signed() -> (FileHeader, Sidecar) {
        let head = FileHeader { data_size: 320, ..FileHeader::new(Codec::Pcma, 20) };
        let mut sidecar = sidecar();
        sidecar.signature = Some(key().sign(&head, &sidecar));
        (head, sidecar)
    }

    #[test]
    fn a_signature_is_good_for_the_signed_recording() {
        let (head, sidecar) = signed();
        assert_eq!(check(&head, &sidecar), Verdict::Good(key().public().id()));
        let changed = Sidecar { protected: true, recovered: true, ..sidecar.clone() };
        assert_eq!(check(&head, &changed), Verdict::Good(key().public().id()), "housekeeping is not signed");
        assert_eq!(check(&head, &Sidecar { signature: None, ..sidecar }), Verdict::Unsigned);
    }

    #[test]
    fn a_signature_is_bad_after_any_other_change() {
        let (head, sidecar) = signed();
        let changes: [fn(&mut Sidecar); 11] = [
            |it| it.call.remote_number = "202".into(),
            |it| it.call.remote_name = "x".into(),
            |it| it.call.local_number = "x".into(),
            |it| it.call.local_name = "x".into(),
            |it| it.call.id = "x".into(),
            |it| it.call.direction = None,
            |it| it.recording = "r2".into(),
            |it| it.segment = 2,
            |it| it.data_bytes = 160,
            |it| it.start.pop().map_or((), drop),
            |it| it.sha256 = Some("01".repeat(32)),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = sidecar.clone();
            change(&mut changed);
            assert_eq!(check(&head, &changed), Verdict::Bad(key().public().id()), "change {number}");
        }
        let end = Sidecar { end: None, ..sidecar.clone() };
        assert_eq!(check(&head, &end), Verdict::Bad(key().public().id()));
        let other = FileHeader { rtp_len: 80, ..head };
        assert_eq!(check(&other, &sidecar), Verdict::Bad(key().public().id()));
    }

    #[test]
    fn a_signature_by_another_key_names_that_key_and_garbage_is_none() {
        let (head, mut sidecar) = signed();
        let other = SignKey::generate(&mut counting(6)).unwrap();
        sidecar.signature = Some(other.sign(&head, &sidecar));
        assert_eq!(check(&head, &sidecar), Verdict::Good(other.public().id()));
        for (key, value, algorithm) in
            [("", "", ALGORITHM), ("AA==", "AA==", ALGORITHM), (&*other.public().id(), "AA==", "RSA")]
        {
            let signature = Signature { algorithm: algorithm.into(), key: key.into(), value: value.into() };
            let odd = Sidecar { signature: Some(signature), ..sidecar.clone() };
            assert_eq!(check(&head, &odd), Verdict::NotOne);
        }
    }

    #[test]
    fn keys_are_those_of_rfc_8410() {
        // Section 10.3 of the RFC.
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let key = SignKey::parse(pem).unwrap();
        assert_eq!(key.pem(), pem);
        // Section 10.1.
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        assert_eq!(key.public().pem(), public);
        assert_eq!(PublicKey::parse(public), Ok(key.public()));
        assert_eq!(PublicKey::parse(pem), Ok(key.public()));
        for wrong in ["", public, &pem.replace("MC4C", "MC5C"), &pem[..60]] {
            assert!(SignKey::parse(wrong).is_err(), "{wrong}");
        }
    }
}
