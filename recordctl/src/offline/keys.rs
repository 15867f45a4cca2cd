//! Keys on the command line: identities that decrypt, and `recordctl keygen`, which makes keys.

use super::super::advice;
use super::console::{Console, clean};
use os::secret_file;
use recfile::seal::age::Identity;
use recfile::seal::origin::{PublicKey, SignKey};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Identities of one command at most.
const MAX_IDENTITIES: usize = 64;

/// `--identity`, of every command that reads recordings.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct IdentityArgs {
    /// The key file that opens encrypted recordings (AGE-SECRET-KEY-1…, mode 0600); may be given several
    /// times
    #[arg(long = "identity", value_name = "KEYFILE")]
    pub identities: Vec<PathBuf>,
}

impl IdentityArgs {
    /// Reads them all.
    ///
    /// # Errors
    /// Names the file that is no key file, or that others can read, and says what to do.
    pub fn load(&self) -> Result<Vec<Identity>, String> {
        let mut identities = Vec::new();
        for path in &self.identities {
            let text = secret_file::read(path)?;
            let found = Identity::parse_file(&text).map_err(|line| match line {
                0 => format!(
                    "{}: there is no identity (AGE-SECRET-KEY-1…) in it; name the file that keygen wrote",
                    path.display()
                ),
                line => format!("{}:{line}: this line is no identity (AGE-SECRET-KEY-1…)", path.display()),
            })?;
            identities.extend(found);
            if identities.len() > MAX_IDENTITIES {
                return Err(format!("more than {MAX_IDENTITIES} identities"));
            }
        }
        Ok(identities)
    }
}

/// Arguments of `recordctl keygen`.
#[derive(clap::Args, Clone, Debug)]
pub struct KeygenArgs {
    /// The file for the secret key: a new one that only you can read
    #[arg(short, long, value_name = "KEYFILE", required_unless_present = "public")]
    pub output: Option<PathBuf>,
    /// Make a device's key to sign recordings with, for storage.sign_key
    #[arg(long)]
    pub sign: bool,
    /// Print the public part of a key that is there
    #[arg(long, value_name = "KEYFILE", conflicts_with_all = ["output", "sign"])]
    pub public: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl KeygenArgs {
    /// Makes a key, or prints the public part of one.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        Console::with_stdio(|console| self.run_on(console))
    }

    pub(super) fn run_on(&self, console: &mut Console<'_>) {
        match self.result() {
            Ok((kind, public)) if self.json => console.json(&json!({ "kind": kind, "public": public })),
            Ok((_, public)) => public.lines().for_each(|line| console.line(line)),
            Err(reason) => console.fail(&clean(&reason)),
        }
    }

    fn result(&self) -> Result<(&'static str, String), String> {
        if let Some(path) = &self.public {
            return public_of(path);
        }
        let output = self.output.as_deref().ok_or("-o names where the key goes")?;
        let mut entropy = |octets: &mut [u8]| getrandom::fill(octets).map_err(std::io::Error::other);
        if self.sign {
            let key = SignKey::generate(&mut entropy).map_err(|error| error.to_string())?;
            secret_file::write(output, &key.pem())?;
            return Ok((SIGN, key.public().pem()));
        }
        let identity = Identity::generate(&mut entropy).map_err(|error| error.to_string())?;
        let recipient = identity.recipient().to_string();
        secret_file::write(output, &format!("# public key: {recipient}\n{}\n", identity.secret_text()))?;
        Ok((ENCRYPT, recipient))
    }
}

const SIGN: &str = "ed25519";
const ENCRYPT: &str = "x25519";

fn public_of(path: &Path) -> Result<(&'static str, String), String> {
    let text = secret_file::read(path)?;
    if let Ok(key) = SignKey::parse(&text) {
        return Ok((SIGN, key.public().pem()));
    }
    let identities = Identity::parse_file(&text)
        .map_err(|_| format!("{}: neither an identity nor a key to sign with", path.display()))?;
    let recipients: Vec<String> = identities.iter().map(|it| it.recipient().to_string()).collect();
    Ok((ENCRYPT, recipients.join("\n")))
}

/// The public key in a file, which need not be secret.
///
/// # Errors
/// Why there is none.
pub(super) fn public_key(path: &Path) -> Result<PublicKey, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut text = String::new();
    let file = super::recording::open_file(path).map_err(|error| failed(&advice::said(&error)))?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, secret_file::MAX_OCTETS), &mut text)
        .map_err(|error| failed(&error))?;
    PublicKey::parse(&text).map_err(|error| failed(&error))
}
