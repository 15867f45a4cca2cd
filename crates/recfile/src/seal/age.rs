//! Keys and headers of age-encryption.org/v1, with X25519 recipients.
//!
//! Owns: texts of recipients and identities, the header that wraps a file's key for recipients, and small
//! files in one piece. `age -d` opens the files written here. Sources: the specification at
//! <https://c2sp.org/age>. Never: other kinds of recipients; their stanzas in a header are passed over.

use super::{Entropy, MAX_RECIPIENTS, SealError, base64};
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce, Tag};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use std::io;
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

/// First line of the header.
pub const VERSION_LINE: &str = "age-encryption.org/v1\n";

/// A longer header is not looked at.
pub const MAX_HEADER_OCTETS: usize = 4096;

/// Octets of the random number that follows the header.
pub const NONCE_OCTETS: usize = 16;

/// Octets of a file's key.
const KEY_OCTETS: usize = 16;

/// Octets of an authentication tag.
pub const TAG_OCTETS: usize = 16;

/// Octets of a chunk of an age file, before encryption; the last one may have fewer.
pub const CHUNK_OCTETS: usize = 64 * 1024;

const RECIPIENT_PREFIX: &str = "age";
const IDENTITY_PREFIX: &str = "age-secret-key-";
const STANZA: &str = "-> X25519 ";
const WRAP_INFO: &[u8] = b"age-encryption.org/v1/X25519";

/// Letters in a full line of a stanza's body.
const BODY_COLUMNS: usize = 64;

/// A public key: the holder of the identity can read files encrypted to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Recipient([u8; 32]);

impl Recipient {
    /// Reads `age1…`.
    ///
    /// # Errors
    /// [`SealError::NoRecipient`].
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let key = parse_key(RECIPIENT_PREFIX, text).ok_or(SealError::NoRecipient)?;
        // A key of low order gives everybody the same secret.
        if x25519([1; 32], key) == [0; 32] {
            return Err(SealError::NoRecipient);
        }
        Ok(Self(key))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(RECIPIENT_PREFIX, &self.0))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The secret that opens files encrypted to its recipient.
#[derive(Clone)]
pub struct Identity {
    secret: [u8; 32],
    public: [u8; 32],
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.recipient())
    }
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// Those of the entropy.
    pub fn generate(entropy: Entropy<'_>) -> io::Result<Self> {
        let mut secret = [0; 32];
        entropy(&mut secret)?;
        Ok(Self::of(secret))
    }

    fn of(secret: [u8; 32]) -> Self {
        Self { secret, public: x25519(secret, X25519_BASEPOINT_BYTES) }
    }

    /// Reads `AGE-SECRET-KEY-1…`.
    ///
    /// # Errors
    /// [`SealError::NoIdentity`].
    pub fn parse(text: &str) -> Result<Self, SealError> {
        parse_key(IDENTITY_PREFIX, text).map(Self::of).ok_or(SealError::NoIdentity)
    }

    /// The identities in the text of a file: one a line, beside empty lines and comments (`#`).
    ///
    /// # Errors
    /// The line that is none of these, counted from 1; 0 if there is no identity at all.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, usize> {
        let mut identities = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                identities.push(Self::parse(line).map_err(|_| index + 1)?);
            }
        }
        if identities.is_empty() { Err(0) } else { Ok(identities) }
    }

    /// The recipient of this identity.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(self.public)
    }

    /// `AGE-SECRET-KEY-1…`.
    #[must_use]
    pub fn secret_text(&self) -> String {
        key_text(IDENTITY_PREFIX, &self.secret).to_ascii_uppercase()
    }
}

fn parse_key(prefix: &str, text: &str) -> Option<[u8; 32]> {
    let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
    if !checked.hrp().as_str().eq_ignore_ascii_case(prefix) {
        return None;
    }
    let octets: Vec<u8> = checked.byte_iter().collect();
    let key: [u8; 32] = octets.try_into().ok()?;
    // Bits behind the last octet would make a second spelling of a key.
    key_text(prefix, &key).eq_ignore_ascii_case(text).then_some(key)
}

fn key_text(prefix: &str, key: &[u8; 32]) -> String {
    // Neither prefix nor length can be refused.
    Hrp::parse(prefix).ok().and_then(|hrp| bech32::encode::<Bech32>(hrp, key).ok()).unwrap_or_default()
}

/// The key of one file, from which all others of it are derived.
#[derive(Clone)]
pub struct FileKey([u8; KEY_OCTETS]);

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey")
    }
}

impl FileKey {
    /// A new one.
    ///
    /// # Errors
    /// Those of the entropy.
    pub fn generate(entropy: Entropy<'_>) -> io::Result<Self> {
        let mut key = [0; KEY_OCTETS];
        entropy(&mut key)?;
        Ok(Self(key))
    }

    /// A key of 32 octets for one purpose.
    #[must_use]
    pub fn derive(&self, salt: &[u8], info: &[&[u8]]) -> [u8; 32] {
        derive(&self.0, salt, info)
    }

    /// The header, with this key in it for each of `recipients`.
    ///
    /// # Errors
    /// Those of the entropy, and `InvalidInput` for none or too many recipients.
    pub fn wrap(&self, recipients: &[Recipient], entropy: Entropy<'_>) -> io::Result<Vec<u8>> {
        if recipients.is_empty() || recipients.len() > MAX_RECIPIENTS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut header = String::from(VERSION_LINE);
        for recipient in recipients {
            let mut ephemeral = [0; 32];
            entropy(&mut ephemeral)?;
            let share = x25519(ephemeral, X25519_BASEPOINT_BYTES);
            let shared = x25519(ephemeral, recipient.0);
            let mut body = self.0;
            let tag = wrapping(&shared, &share, &recipient.0)
                .encrypt_inout_detached(&Nonce::default(), b"", body.as_mut_slice().into())
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            header += STANZA;
            header += &base64::encode(&share);
            header.push('\n');
            header += &base64::encode(&[&body[..], &tag[..]].concat());
            header.push('\n');
        }
        header += "---";
        let mac = self.mac(header.as_bytes()).finalize().into_bytes();
        header.push(' ');
        header += &base64::encode(&mac);
        header.push('\n');
        Ok(header.into_bytes())
    }

    fn mac(&self, header: &[u8]) -> Hmac<Sha256> {
        // An HMAC fills its key up with zeros to a whole block (RFC 2104, section 2).
        let mut key = [0; 64];
        key[..32].copy_from_slice(&self.derive(&[], &[b"header"]));
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new((&key).into());
        mac.update(header);
        mac
    }
}

fn derive(secret: &[u8], salt: &[u8], info: &[&[u8]]) -> [u8; 32] {
    let mut key = [0; 32];
    // 32 octets are never too many to ask for.
    let _ = Hkdf::<Sha256>::new(Some(salt), secret).expand_multi_info(info, &mut key);
    key
}

fn wrapping(shared: &[u8; 32], share: &[u8; 32], recipient: &[u8; 32]) -> ChaCha20Poly1305 {
    let salt = [&share[..], &recipient[..]].concat();
    ChaCha20Poly1305::new(&Key::from(derive(shared, &salt, &[WRAP_INFO])))
}

/// A header as it was found.
#[derive(Debug)]
pub struct Header<'a> {
    /// For each recipient of our kind: share and wrapped key.
    stanzas: Vec<([u8; 32], [u8; KEY_OCTETS + TAG_OCTETS])>,
    /// The octets that the authentication covers.
    covered: &'a [u8],
    mac: [u8; 32],
    /// Octets of it all.
    pub octets: usize,
}

impl<'a> Header<'a> {
    /// Reads the header that `octets` begin with.
    ///
    /// # Errors
    /// [`SealError::Header`].
    pub fn parse(octets: &'a [u8]) -> Result<Self, SealError> {
        Self::read(&octets[..octets.len().min(MAX_HEADER_OCTETS)]).ok_or(SealError::Header)
    }

    fn read(octets: &'a [u8]) -> Option<Self> {
        let mut lines = Lines { octets, at: VERSION_LINE.len() };
        if !octets.starts_with(VERSION_LINE.as_bytes()) {
            return None;
        }
        let mut stanzas = Vec::new();
        loop {
            let begins = lines.at;
            let line = lines.next()?;
            if let Some(mac) = line.strip_prefix("--- ") {
                let mac = base64::decode(mac)?.try_into().ok()?;
                let covered = octets.get(..begins + 3)?;
                return Some(Self { stanzas, covered, mac, octets: lines.at });
            }
            line.strip_prefix("-> ")?;
            let share = line.strip_prefix(STANZA).map(base64::decode);
            let mut body = Vec::new();
            loop {
                let part = lines.next()?;
                body.extend(base64::decode(part)?);
                match part.len() {
                    BODY_COLUMNS => {}
                    0..BODY_COLUMNS => break,
                    _ => return None,
                }
            }
            if let Some(share) = share {
                stanzas.push((share?.try_into().ok()?, body.try_into().ok()?));
            }
        }
    }

    /// The file's key, by the first identity that has it.
    ///
    /// # Errors
    /// [`SealError::OtherKey`], or [`SealError::Altered`] if the header is not as it was written.
    pub fn unwrap(&self, identities: &[Identity]) -> Result<FileKey, SealError> {
        for identity in identities {
            for (share, body) in &self.stanzas {
                let shared = x25519(identity.secret, *share);
                if shared == [0; 32] {
                    return Err(SealError::Altered);
                }
                let (mut key, tag) = ([0; KEY_OCTETS], [0; TAG_OCTETS]);
                let (wrapped, tagged) = body.split_at(KEY_OCTETS);
                key.copy_from_slice(wrapped);
                let mut tag: Tag = tag.into();
                tag.copy_from_slice(tagged);
                let opened = wrapping(&shared, share, &identity.public).decrypt_inout_detached(
                    &Nonce::default(),
                    b"",
                    key.as_mut_slice().into(),
                    &tag,
                );
                if opened.is_ok() {
                    let key = FileKey(key);
                    let sound = key.mac(self.covered).verify_slice(&self.mac).is_ok();
                    return if sound { Ok(key) } else { Err(SealError::Altered) };
                }
            }
        }
        Err(SealError::OtherKey)
    }
}

struct Lines<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.octets.get(self.at..)?;
        let end = rest.iter().position(|&octet| octet == b'\n')?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

/// Encrypts and decrypts the chunks of one file: a counter and whether it is the last one make the nonce.
pub struct Stream {
    cipher: ChaCha20Poly1305,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    /// With this key, which no other stream may have.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { cipher: ChaCha20Poly1305::new(&Key::from(key)) }
    }

    /// Encrypts chunk number `chunk` in place; gives its tag. Never twice for one number with different
    /// octets.
    ///
    /// # Errors
    /// [`SealError::Altered`] for more octets than the cipher takes, which no caller has.
    pub fn seal(&self, chunk: u64, last: bool, octets: &mut [u8]) -> Result<[u8; TAG_OCTETS], SealError> {
        let sealed = self.cipher.encrypt_inout_detached(&nonce(chunk, last), b"", octets.into());
        sealed.map(Into::into).map_err(|_| SealError::Altered)
    }

    /// Decrypts chunk number `chunk` in place. After an error the octets are of no use.
    ///
    /// # Errors
    /// [`SealError::Altered`] if it is not the chunk of this number and place in this file.
    pub fn open(
        &self,
        chunk: u64,
        last: bool,
        octets: &mut [u8],
        tag: [u8; TAG_OCTETS],
    ) -> Result<(), SealError> {
        let opened = self.cipher.decrypt_inout_detached(&nonce(chunk, last), b"", octets.into(), &tag.into());
        opened.map_err(|_| SealError::Altered)
    }
}

fn nonce(chunk: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&chunk.to_be_bytes());
    nonce[11] = u8::from(last);
    nonce.into()
}

/// Encrypts `plain` as a whole age file.
///
/// # Errors
/// Those of the entropy, and `InvalidInput` for none or too many recipients.
pub fn seal(plain: &[u8], recipients: &[Recipient], entropy: Entropy<'_>) -> io::Result<Vec<u8>> {
    let key = FileKey::generate(entropy)?;
    let mut file = key.wrap(recipients, entropy)?;
    let mut nonce = [0; NONCE_OCTETS];
    entropy(&mut nonce)?;
    file.extend_from_slice(&nonce);
    let stream = Stream::new(key.derive(&nonce, &[b"payload"]));
    let mut rest = plain;
    for number in 0.. {
        let (chunk, behind) = rest.split_at(rest.len().min(CHUNK_OCTETS));
        let at = file.len();
        file.extend_from_slice(chunk);
        let tag = stream
            .seal(number, behind.is_empty(), &mut file[at..])
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        file.extend_from_slice(&tag);
        if behind.is_empty() {
            break;
        }
        rest = behind;
    }
    Ok(file)
}

/// Decrypts a whole age file.
///
/// # Errors
/// [`SealError`].
pub fn open(file: &[u8], identities: &[Identity]) -> Result<Vec<u8>, SealError> {
    let header = Header::parse(file)?;
    let key = header.unwrap(identities)?;
    let nonce = file.get(header.octets..header.octets + NONCE_OCTETS).ok_or(SealError::CutOff)?;
    let stream = Stream::new(key.derive(nonce, &[b"payload"]));
    let mut rest = &file[header.octets + NONCE_OCTETS..];
    let mut plain = Vec::with_capacity(rest.len());
    for number in 0.. {
        let (chunk, behind) = rest.split_at(rest.len().min(CHUNK_OCTETS + TAG_OCTETS));
        let (octets, tag) = chunk.split_last_chunk::<TAG_OCTETS>().ok_or(SealError::CutOff)?;
        let at = plain.len();
        plain.extend_from_slice(octets);
        let last = behind.is_empty();
        stream.open(number, last, &mut plain[at..], *tag)?;
        // Only a file of nothing has an empty chunk.
        if octets.is_empty() && number > 0 {
            return Err(SealError::Altered);
        }
        if last {
            break;
        }
        rest = behind;
    }
    Ok(plain)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Octets that count on, so that a test is the same each time.
    pub(crate) fn counting(from: u8) -> impl FnMut(&mut [u8]) -> io::Result<()> {
        let mut next = from;
        move |octets: &mut [u8]| {
            for octet in octets {
                *octet = next;
                next = next.wrapping_add(37);
            }
            Ok(())
        }
    }

    fn identity(from: u8) -> Identity {
        Identity::generate(&mut counting(from)).unwrap()
    }

    /// From the specification's example.
    const SECRET: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

    #[test]
    fn a_key_reads_back_as_written_and_one_with_a_wrong_letter_is_none() {
        let identity = Identity::parse(SECRET).unwrap();
        assert_eq!(identity.secret, [0x42; 32]);
        assert_eq!(identity.secret_text(), SECRET);
        let recipient = identity.recipient().to_string();
        assert_eq!(recipient, "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj");
        assert_eq!(Recipient::parse(&recipient), Ok(identity.recipient()));
        for wrong in [
            &recipient.replace("zvky", "zvkx"),
            &recipient[..61],
            "",
            "age1",
            SECRET,
            &format!("{recipient} "),
            &recipient.replace('z', "Z"),
        ] {
            assert_eq!(Recipient::parse(wrong), Err(SealError::NoRecipient), "{wrong}");
        }
        assert!(Identity::parse(&recipient).is_err());
    }

    #[test]
    fn a_recipient_of_low_order_is_none() {
        assert_eq!(Recipient::parse(&key_text("age", &[0; 32])), Err(SealError::NoRecipient));
    }

    #[test]
    fn an_identity_file_may_have_comments_and_empty_lines_and_nothing_else() {
        let text = format!("# created: 2026-01-01\n# public key: age1…\n\n{SECRET}\r\n");
        assert_eq!(Identity::parse_file(&text).unwrap().len(), 1);
        assert_eq!(Identity::parse_file(&format!("{SECRET}\nsecret\n")).unwrap_err(), 2);
        assert_eq!(Identity::parse_file("# nothing\n").unwrap_err(), 0);
    }

    #[test]
    fn each_of_several_recipients_opens_a_file_and_nobody_else() {
        let (one, two, other) = (identity(1), identity(2), identity(3));
        let file = seal(b"words", &[one.recipient(), two.recipient()], &mut counting(9)).unwrap();
        assert_eq!(open(&file, &[one]).unwrap(), b"words");
        assert_eq!(open(&file, &[other.clone(), two]).unwrap(), b"words");
        assert_eq!(open(&file, &[other]), Err(SealError::OtherKey));
    }

    #[test]
    fn no_recipient_and_too_many_are_refused() {
        let key = FileKey::generate(&mut counting(0)).unwrap();
        assert!(key.wrap(&[], &mut counting(0)).is_err());
        assert!(key.wrap(&[identity(1).recipient(); 9], &mut counting(0)).is_err());
        assert!(key.wrap(&[identity(1).recipient(); 8], &mut counting(0)).unwrap().len() < MAX_HEADER_OCTETS);
    }

    #[test]
    fn stanzas_of_other_kinds_are_passed_over() {
        let one = identity(1);
        let file = seal(b"words", &[one.recipient()], &mut counting(9)).unwrap();
        let text = String::from_utf8_lossy(&file).into_owned();
        let header = Header::parse(&file).unwrap();
        let with = text.replacen("-> X25519", "-> scrypt abc 18\nAAAA\n-> X25519", 1);
        assert_eq!(Header::parse(with.as_bytes()).unwrap().stanzas, header.stanzas);
    }

    #[test]
    fn long_texts_are_cut_into_chunks_and_come_back() {
        let one = identity(1);
        for len in [0, 1, CHUNK_OCTETS - 1, CHUNK_OCTETS, CHUNK_OCTETS + 1, 3 * CHUNK_OCTETS] {
            let plain = vec![7; len];
            let file = seal(&plain, &[one.recipient()], &mut counting(9)).unwrap();
            assert_eq!(open(&file, std::slice::from_ref(&one)).unwrap(), plain);
            if len > CHUNK_OCTETS {
                let header = Header::parse(&file).unwrap().octets + NONCE_OCTETS;
                let first = header + CHUNK_OCTETS + TAG_OCTETS;
                assert!(open(&file[..first], std::slice::from_ref(&one)).is_err(), "a chunk is missing");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_changed_bit_and_every_cut_is_noticed(bit in 0..8_u32, seed in any::<u8>(), at in 0..400_usize) {
            let one = identity(seed);
            let file = seal(b"who called whom", &[one.recipient()], &mut counting(seed)).unwrap();
            let mut changed = file.clone();
            let at = at % file.len();
            changed[at] ^= 1 << bit;
            prop_assert!(open(&changed, std::slice::from_ref(&one)).is_err());
            prop_assert!(open(&file[..at], std::slice::from_ref(&one)).is_err());
        }

        #[test]
        fn any_octets_are_a_header_or_an_error(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Header::parse(&octets);
            let file = [VERSION_LINE.as_bytes(), &octets].concat();
            let _ = open(&file, &[identity(1)]);
        }
    }
}
