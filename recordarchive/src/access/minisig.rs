//! Signatures of files as `minisign` writes and checks them (its plain form, without a hash in between).

use super::site_key::{PublicKey, SiteKey};
use recfile::seal::base64;

/// Minisign's name for Ed25519 over the file itself.
const ALGORITHM: &[u8; 2] = b"Ed";
const COMMENT: &str = "trusted comment: ";

/// The text beside a file: `FILE.minisig`. The comment is signed, too, and has no line breaks.
pub(crate) fn sign(key: &SiteKey, octets: &[u8], comment: &str) -> String {
    let signature = key.sign(octets);
    let with_comment = key.sign(&[&signature[..], comment.as_bytes()].concat());
    let line = base64::encode_padded(&[&ALGORITHM[..], &key.public().id(), &signature].concat());
    format!(
        "untrusted comment: signature of recordarchive\n{line}\n{COMMENT}{comment}\n{}\n",
        base64::encode_padded(&with_comment)
    )
}

/// Whether a text beside a file is its signature by this key.
pub(crate) fn is_signed(key: &PublicKey, octets: &[u8], text: &str) -> bool {
    let mut lines = text.lines();
    let (_, line, comment, global) = (lines.next(), lines.next(), lines.next(), lines.next());
    let decoded = |line: Option<&str>| base64::decode_padded(line.unwrap_or_default()).unwrap_or_default();
    let (line, global) = (decoded(line), decoded(global));
    let Some((head, signature)) = line.split_at_checked(10) else { return false };
    let comment = comment.and_then(|comment| comment.strip_prefix(COMMENT)).unwrap_or_default();
    head.starts_with(ALGORITHM)
        && head[2..] == key.id()
        && key.is_signed(octets, signature)
        && key.is_signed(&[signature, comment.as_bytes()].concat(), &global)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_file_one_comment_and_one_key() {
        let key = SiteKey::generate();
        let text = sign(&key, b"{}", "timestamp:1");
        assert!(is_signed(&key.public(), b"{}", &text));
        assert!(!is_signed(&key.public(), b"{ }", &text));
        assert!(!is_signed(&SiteKey::generate().public(), b"{}", &text));
        assert!(!is_signed(&key.public(), b"{}", &text.replace("timestamp:1", "timestamp:2")));
        for wrong in ["", "a\nb\nc\nd", &text[..60]] {
            assert!(!is_signed(&key.public(), b"{}", wrong));
        }
    }
}
