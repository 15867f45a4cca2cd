//! Tokens by which a phone comes back to its recording: where it is, signed by the server.
//!
//! Owns: their form, and the secret that they are signed with, a file in the storage folder. A phone keeps a
//! token and shows it; it can't read or make one. Invariants: a token of another secret, or that was changed,
//! is none; a token is printable, and no longer than the protocol allows.

use hmac::{Hmac, Mac};
use recfile::seal::base64;
use sha2::Sha256;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use store::jobs::server::RecordingMark;
use uplink::message::extension::MAX_RESUME_OCTETS;

/// Name of the secret's file in the storage folder.
pub const SECRET: &str = ".uplink-secret";

const SECRET_OCTETS: usize = 32;

/// The form of the octets that are signed.
const VERSION: u8 = 1;

/// Octets of the signature.
const MAC_OCTETS: usize = 32;

/// Others than the owner.
const OTHERS: u32 = 0o077;

/// Names one call of one run of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallName {
    /// Random, another one after each start.
    pub run: u64,
    /// The call within it.
    pub call: u64,
}

/// The content of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The call that was going on when it was given.
    pub call: CallName,
    /// The recording that it belongs to.
    pub recording: RecordingMark,
    /// The folder of its files, below the storage folder.
    pub folder: String,
    /// The first item that may not be on the disk.
    pub item: u64,
    /// The file that the items before it end in.
    pub segment: u32,
    /// Octets of audio in it, up to there.
    pub octets: u64,
}

/// Makes tokens, and reads its own.
pub struct Signer {
    mac: Hmac<Sha256>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

impl Signer {
    /// Signs with `secret`.
    #[must_use]
    pub fn new(secret: [u8; SECRET_OCTETS]) -> Self {
        let mut block = [0; 64];
        block.iter_mut().zip(secret).for_each(|(octet, secret)| *octet = secret);
        Self { mac: <Hmac<Sha256> as hmac::KeyInit>::new((&block).into()) }
    }

    /// Signs with the secret of the storage folder, which is made if there is none.
    ///
    /// # Errors
    /// The file can't be read or made, or others may read it.
    pub fn of_storage(storage: &Path) -> io::Result<Self> {
        let path = storage.join(SECRET);
        let secret = match read_secret(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_secret(storage, &path)?,
            read => read?,
        };
        Ok(Self::new(secret))
    }

    /// The token of a place; `None` if it is too long, which the folder of a device never makes it.
    #[must_use]
    pub fn token(&self, place: &Place) -> Option<String> {
        let Place { call, recording, folder, item, segment, octets } = place;
        let mut text = vec![VERSION];
        text.extend_from_slice(&call.run.to_be_bytes());
        text.extend_from_slice(&recording.0);
        for number in [call.call, *item, u64::from(*segment), *octets] {
            push_number(&mut text, number);
        }
        text.extend_from_slice(folder.as_bytes());
        let mut mac = self.mac.clone();
        mac.update(&text);
        text.extend_from_slice(&mac.finalize().into_bytes());
        let token = base64::encode(&text);
        (token.len() <= MAX_RESUME_OCTETS).then_some(token)
    }

    /// Reads one; `None` if it is none of ours.
    #[must_use]
    pub fn place(&self, token: &str) -> Option<Place> {
        if token.len() > MAX_RESUME_OCTETS {
            return None;
        }
        let octets = base64::decode(token)?;
        let (text, signature) = octets.split_at_checked(octets.len().checked_sub(MAC_OCTETS)?)?;
        let mut mac = self.mac.clone();
        mac.update(text);
        mac.verify_slice(signature).ok()?;
        let mut rest = text.strip_prefix(&[VERSION])?;
        let run = u64::from_be_bytes(*take(&mut rest)?);
        let recording = RecordingMark(*take(&mut rest)?);
        let mut number = || take_number(&mut rest);
        let (call, item, segment, octets) = (number()?, number()?, number()?, number()?);
        Some(Place {
            call: CallName { run, call },
            recording,
            folder: std::str::from_utf8(rest).ok()?.to_owned(),
            item,
            segment: u32::try_from(segment).ok()?,
            octets,
        })
    }
}

/// A random number, as good as the system has.
///
/// # Errors
/// The system has none.
pub fn random() -> io::Result<u64> {
    let mut octets = [0; 8];
    fill(&mut octets)?;
    Ok(u64::from_be_bytes(octets))
}

fn fill(octets: &mut [u8]) -> io::Result<()> {
    getrandom::fill(octets).map_err(|error| io::Error::other(format!("no randomness: {error}")))
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(taken)
}

/// Seven bits an octet, the lowest first; all but the last have the top bit.
fn push_number(text: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        text.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    text.push(number.to_le_bytes()[0]);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (&octet, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(octet & 0x7f) << shift;
        if octet < 0x80 {
            return Some(number);
        }
    }
    None
}

fn read_secret(path: &Path) -> io::Result<[u8; SECRET_OCTETS]> {
    // A pipe in its place is not waited for.
    let mut file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.mode() & OTHERS != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may read it: remove it"));
    }
    let mut secret = [0; SECRET_OCTETS];
    file.read_exact(&mut secret).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it is too short: remove it"),
        _ => error,
    })?;
    Ok(secret)
}

/// Makes it under another name first: whole or not at all.
fn make_secret(storage: &Path, path: &Path) -> io::Result<[u8; SECRET_OCTETS]> {
    let mut secret = [0; SECRET_OCTETS];
    fill(&mut secret)?;
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    std::fs::File::open(storage)?.sync_all()?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn place() -> Place {
        Place {
            call: CallName { run: 0x0123_4567_89ab_cdef, call: 300 },
            recording: RecordingMark::of("7f3a"),
            folder: "0C:11:05:0A:0B:0C/2026-03-02".into(),
            item: 128,
            segment: 2,
            octets: 40_000_000,
        }
    }

    #[test]
    fn a_token_is_read_by_its_signer_alone() {
        let signer = Signer::new([7; 32]);
        let token = signer.token(&place()).unwrap();
        assert_eq!(signer.place(&token), Some(place()));
        assert_eq!(Signer::new([8; 32]).place(&token), None);
        assert!(token.bytes().all(|octet| octet.is_ascii_graphic() && !b"%&=".contains(&octet)), "{token}");
    }

    #[test]
    fn a_token_of_the_longest_folder_and_the_greatest_numbers_fits() {
        let longest = Place {
            call: CallName { run: u64::MAX, call: u64::MAX },
            folder: format!("{}/2026-03-02", "x".repeat(64)),
            item: u64::MAX,
            segment: u32::MAX,
            octets: u64::MAX,
            ..place()
        };
        let signer = Signer::new([7; 32]);
        assert_eq!(signer.place(&signer.token(&longest).unwrap()), Some(longest));
        assert_eq!(signer.token(&Place { folder: "x".repeat(200), ..place() }), None);
    }

    #[test]
    fn a_token_with_any_octet_changed_cut_or_added_is_none() {
        let signer = Signer::new([7; 32]);
        let token = signer.token(&place()).unwrap();
        for at in 0..token.len() {
            for other in ["A", "b", "9", "/", "=", "ü"] {
                let changed = format!("{}{other}{}", &token[..at], &token[at + 1..]);
                assert_eq!(signer.place(&changed).is_some(), changed == token, "{changed}");
            }
            assert_eq!(signer.place(&token[..at]), None);
        }
        assert_eq!(signer.place(&format!("{token}A")), None);
    }

    #[test]
    fn the_secret_is_made_once_and_is_nobody_elses() {
        let storage = tempfile::tempdir().unwrap();
        let token = Signer::of_storage(storage.path()).unwrap().token(&place()).unwrap();
        assert!(Signer::of_storage(storage.path()).unwrap().place(&token).is_some());
        let path = storage.path().join(SECRET);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Signer::of_storage(storage.path()).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(Signer::of_storage(storage.path()).unwrap().place(&token).is_none(), "a new secret");
    }
}
