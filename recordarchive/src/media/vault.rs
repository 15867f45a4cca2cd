//! The keys of media that the archive encrypts at rest.
//!
//! Owns: the key-encryption key (recipients and the identity file), and how the identity of a recording is
//! wrapped with it. Each recording has an identity of its own, which the catalogue keeps wrapped; its files
//! are age files for that identity. So keys are changed without touching audio, and without its wrapped
//! identity the audio can't be opened, wherever it lies. Invariants: no secret is ever in a log, an error or
//! a `Debug`; an identity file that others can read is refused.

use super::age_file::{AgeReader, entropy};
use crate::catalogue::model::Place;
use crate::private;
use recfile::seal::age::{self, Identity, Recipient};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::fs::{Fs, RealFs};

/// Largest identity file.
const MAX_FILE_OCTETS: usize = 64 << 10;

/// The settings of `[encryption]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Encryption {
    /// The recipients that identities of recordings are wrapped for.
    pub(crate) recipients: Vec<Recipient>,
    /// File with the identity that opens them.
    pub(crate) identity_file: PathBuf,
}

#[derive(Debug)]
struct Keys {
    recipients: Vec<Recipient>,
    identities: Vec<Identity>,
    label: String,
    file: PathBuf,
}

/// Opens recordings that are encrypted at rest; without keys, only plain ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vault(Option<Arc<Keys>>);

fn told(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

impl Vault {
    /// That of the settings. Reads the identity file.
    ///
    /// # Errors
    /// A text for the administrator that names the file.
    pub(crate) fn read(settings: Option<&Encryption>) -> Result<Self, String> {
        let Some(Encryption { recipients, identity_file: path }) = settings else { return Ok(Self(None)) };
        let hint =
            "without it nothing that is encrypted can be played: put it back from where you keep a copy";
        let file = private::open(path, hint)?;
        let mut text = String::new();
        let read = file.take(MAX_FILE_OCTETS as u64).read_to_string(&mut text);
        read.map_err(|error| told(path, &error))?;
        let identities = Identity::parse_file(&text).map_err(|line| match line {
            0 => told(path, &"there is no identity in it; recordctl keygen makes one"),
            line => told(path, &format!("line {line} is no identity and no comment")),
        })?;
        let opens = |recipient| identities.iter().any(|identity| identity.recipient() == recipient);
        if !recipients.iter().copied().any(opens) {
            let wrong = "none of its identities belongs to one of encryption.recipients";
            return Err(told(path, &wrong));
        }
        let mut names: Vec<String> = recipients.iter().map(Recipient::to_string).collect();
        names.sort();
        names.dedup();
        let label = names.join(" ");
        Ok(Self(Some(Arc::new(Keys {
            recipients: recipients.clone(),
            identities,
            label,
            file: path.clone(),
        }))))
    }

    /// Whether new recordings are encrypted.
    pub(crate) fn encrypts(&self) -> bool {
        self.0.is_some()
    }

    /// The recipients that identities are wrapped for, sorted.
    pub(crate) fn label(&self) -> &str {
        self.0.as_ref().map_or("", |keys| &keys.label)
    }

    fn keys(&self) -> io::Result<&Keys> {
        let none = "it is encrypted by the archive: set encryption.recipients and encryption.identity_file";
        self.0.as_deref().ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, none))
    }

    /// A new identity, and how it is kept.
    pub(crate) fn generate(&self) -> io::Result<Vec<u8>> {
        let identity = Identity::generate(&mut entropy)?;
        self.wrap(&identity)
    }

    /// Wraps an identity as it is kept.
    pub(crate) fn wrap(&self, identity: &Identity) -> io::Result<Vec<u8>> {
        age::seal(identity.secret_text().as_bytes(), &self.keys()?.recipients, &mut entropy)
    }

    /// The identity that was wrapped.
    ///
    /// # Errors
    /// `PermissionDenied`: no identity of the file opens it.
    pub(crate) fn unwrap(&self, wrapped: &[u8]) -> io::Result<Identity> {
        let keys = self.keys()?;
        let refused = |error: &dyn std::fmt::Display| {
            let what =
                format!("the key of the recording can't be opened with {}: {error}", keys.file.display());
            io::Error::new(io::ErrorKind::PermissionDenied, what)
        };
        let text = age::open(wrapped, &keys.identities).map_err(|error| refused(&error))?;
        let text = std::str::from_utf8(&text).map_err(|_| refused(&"it is no text"))?;
        Identity::parse(text).map_err(|error| refused(&error))
    }

    /// Opens a file of a recording whose wrapped identity is `key`.
    ///
    /// # Errors
    /// `PermissionDenied`: it can't be decrypted with the keys that are there.
    pub(crate) fn open(&self, place: &Place, key: Option<&[u8]>) -> io::Result<Media> {
        let file = RealFs.open_read(&super::path(place))?;
        if !place.is_encrypted() {
            return Ok(Media::Plain(file));
        }
        let lost = "the catalogue has no key of it: it was deleted, or encrypted by another archive";
        let key = key.ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, lost))?;
        Media::encrypted(file, &self.unwrap(key)?)
    }

    /// Encrypts something small that belongs to a recording.
    pub(crate) fn seal_small(&self, key: &[u8], plain: &[u8]) -> io::Result<Vec<u8>> {
        age::seal(plain, &[self.unwrap(key)?.recipient()], &mut entropy)
    }

    /// Decrypts the output of [`Self::seal_small`].
    pub(crate) fn open_small(&self, key: &[u8], sealed: &[u8]) -> io::Result<Vec<u8>> {
        let opened = age::open(sealed, &[self.unwrap(key)?]);
        opened.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// A file of a recording, open: as its recorder wrote it, however it lies on the disk.
pub(crate) enum Media {
    /// As it is.
    Plain(File),
    /// Decrypted on the way.
    Encrypted(Box<AgeReader>),
}

impl Media {
    /// An encrypted file with the identity of its recording.
    pub(crate) fn encrypted(file: File, identity: &Identity) -> io::Result<Self> {
        AgeReader::open(file, identity).map(|reader| Self::Encrypted(Box::new(reader)))
    }

    /// Octets of it.
    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Encrypted(reader) => Ok(reader.len()),
        }
    }

    /// Fills `to` from a place on.
    pub(crate) fn read_exact_at(&mut self, to: &mut [u8], at: u64) -> io::Result<()> {
        self.seek(SeekFrom::Start(at))?;
        self.read_exact(to)
    }
}

impl Read for Media {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(to),
            Self::Encrypted(reader) => reader.read(to),
        }
    }
}

impl Seek for Media {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Plain(file) => file.seek(to),
            Self::Encrypted(reader) => reader.seek(to),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Settings with a new identity in a file.
    pub(crate) fn settings(folder: &Path, name: &str) -> Encryption {
        let identity = Identity::generate(&mut entropy).unwrap();
        let identity_file = folder.join(name);
        std::fs::write(&identity_file, format!("# of the archive\n{}\n", identity.secret_text())).unwrap();
        std::fs::set_permissions(&identity_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        Encryption { recipients: vec![identity.recipient()], identity_file }
    }

    #[test]
    fn an_identity_file_that_is_lost_wrong_or_open_to_others_is_refused_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let (good, other) = (settings(folder.path(), "a"), settings(folder.path(), "b"));
        assert!(Vault::read(Some(&good)).unwrap().encrypts());
        assert!(!Vault::read(None).unwrap().encrypts());
        let refused = |settings: &Encryption, said: &str| {
            let told = Vault::read(Some(settings)).unwrap_err();
            assert!(told.contains(said) && !told.contains("AGE-SECRET"), "{told}");
        };
        let mixed = Encryption { recipients: good.recipients.clone(), ..other };
        refused(&mixed, "belongs to one of encryption.recipients");
        for mode in [0o640, 0o604, 0o620] {
            let open = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&good.identity_file, open).unwrap();
            refused(&good, "chmod 600");
        }
        std::fs::set_permissions(&good.identity_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&good.identity_file, "AGE-SECRET-KEY-1QQQ\n").unwrap();
        refused(&good, "line 1 is no identity");
        std::fs::write(&good.identity_file, "# nothing\n").unwrap();
        refused(&good, "no identity in it");
        std::fs::remove_file(&good.identity_file).unwrap();
        refused(&good, "put it back");
    }

    #[test]
    fn a_wrapped_identity_opens_with_the_keys_that_it_was_wrapped_for_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (settings(folder.path(), "a"), settings(folder.path(), "b"));
        let vault = Vault::read(Some(&one)).unwrap();
        let wrapped = vault.generate().unwrap();
        let secret = vault.unwrap(&wrapped).unwrap().secret_text();
        assert!(!format!("{vault:?}").contains("AGE-SECRET"), "no secret in the log");
        let other = Vault::read(Some(&two)).unwrap();
        for refused in [other.unwrap(&wrapped).unwrap_err(), Vault::default().unwrap(&wrapped).unwrap_err()] {
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            assert!(!refused.to_string().contains(&secret));
        }
    }
}
