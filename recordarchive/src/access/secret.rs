//! Passwords, session keys and tokens: how they are made, kept and compared.
//!
//! Invariant: nothing that opens a door is kept as it is. Passwords are hashed slowly (Argon2id), random keys
//! quickly (SHA-256): 256 bits can't be guessed.

use crate::id::{hex, random_octets};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use sha2::{Digest, Sha256};

/// Characters of a password at least.
pub(crate) const MIN_PASSWORD_CHARS: usize = 12;
/// Octets of a password at most: hashing takes time.
pub(crate) const MAX_PASSWORD_OCTETS: usize = 1024;
/// The prefix of tokens: a leaked one is recognised by it.
const TOKEN_PREFIX: &str = "ra_";

/// A stored password.
///
/// # Errors
/// It is too short or too long, for a person.
pub(crate) fn hash_password(password: &str) -> Result<String, String> {
    if password.chars().count() < MIN_PASSWORD_CHARS {
        return Err(format!("the password has fewer than {MIN_PASSWORD_CHARS} characters"));
    }
    if password.len() > MAX_PASSWORD_OCTETS {
        return Err(format!("the password has more than {MAX_PASSWORD_OCTETS} octets"));
    }
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| format!("the password can't be hashed: {error}"))
}

/// Whether a password is the one of which `kept` is kept. Without one it takes the same time, so that nobody
/// learns which accounts there are.
pub(crate) fn is_password(password: &str, kept: Option<&str>) -> bool {
    const OF_NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyB0aGlz$\
                             MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI";
    if password.len() > MAX_PASSWORD_OCTETS {
        return false;
    }
    let Ok(hash) = PasswordHash::new(kept.unwrap_or(OF_NOBODY)) else { return false };
    let fits = Argon2::default().verify_password(password.as_bytes(), &hash).is_ok();
    fits && kept.is_some()
}

/// A new key of a session.
pub(crate) fn new_key() -> String {
    hex(&random_octets::<32>())
}

/// A new token for a program.
pub(crate) fn new_token() -> String {
    TOKEN_PREFIX.to_owned() + &new_key()
}

/// The stored hash of a key or token.
pub(crate) fn key_hash(key: &str) -> Vec<u8> {
    Sha256::digest(key.as_bytes()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_kept_as_its_hash_alone() {
        let kept = hash_password("correct horse battery").unwrap();
        assert!(kept.starts_with("$argon2id$") && !kept.contains("horse"), "{kept}");
        assert!(is_password("correct horse battery", Some(&kept)));
        for (wrong, against) in [
            ("correct horse batterx", Some(kept.as_str())),
            ("correct horse battery", None),
            ("x", Some("no hash")),
        ] {
            assert!(!is_password(wrong, against));
        }
        assert!(PasswordHash::new(
            "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyB0aGlz$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI"
        )
        .is_ok());
    }

    #[test]
    fn a_password_has_a_length() {
        assert!(hash_password("short").unwrap_err().contains("12 characters"));
        assert!(hash_password(&"x".repeat(2000)).unwrap_err().contains("1024 octets"));
        assert!(!is_password(&"x".repeat(2000), None));
    }

    #[test]
    fn a_token_is_of_256_random_bits_and_recognised_by_its_beginning() {
        let (one, other) = (new_token(), new_token());
        assert!(one.starts_with("ra_") && one.len() == 67 && one != other);
        assert_eq!(key_hash(&one).len(), 32);
    }
}
