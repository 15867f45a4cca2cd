//! The config file: its keys as they are written, and where in it a mistake stands.
//!
//! Owns: names of keys, sizes with units, lines of mistakes. Never: defaults and ranges, which are the parent's.

use serde::Deserialize;
use settings::nearest;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// The config file; every key may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Option<String>,
    pub(super) storage: Option<PathBuf>,
    pub(super) rtp_ports: Option<String>,
    pub(super) public_addr: Option<String>,
    pub(super) http: Option<String>,
    pub(super) status_socket: Option<PathBuf>,
    pub(super) status_socket_mode: Option<String>,
    pub(super) reserve: Option<Size>,
    pub(super) max_file_size: Option<Size>,
    pub(super) flush_interval_ms: Option<u64>,
    pub(super) buffer: Option<Size>,
    pub(super) sandbox: Option<SandboxSetting>,
    pub(super) mode: Option<String>,
    pub(super) recordings_group: Option<String>,
    #[serde(default)]
    pub(super) limits: FileLimits,
    #[serde(default)]
    pub(super) log: FileLog,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileLimits {
    pub(super) sessions: Option<usize>,
    pub(super) sessions_per_address: Option<usize>,
    pub(super) connections: Option<usize>,
    pub(super) connections_per_address: Option<usize>,
    pub(super) starts_per_minute: Option<u64>,
    pub(super) new_devices_per_hour: Option<u64>,
    pub(super) empty_files_per_hour: Option<u64>,
    pub(super) start_timeout_ms: Option<u64>,
    pub(super) idle_timeout_s: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileLog {
    pub(super) level: Option<String>,
}

/// `true`, `false`, or `"strict"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum SandboxSetting {
    Flag(bool),
    Text(String),
}

/// Octets: a number, or a text with `KiB`, `MiB` or `GiB`; `none` is zero.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "SizeText")]
pub(super) struct Size(pub(super) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Octets(u64),
    Text(String),
}

impl TryFrom<SizeText> for Size {
    type Error = String;

    fn try_from(size: SizeText) -> Result<Self, Self::Error> {
        let text = match size {
            SizeText::Octets(octets) => return Ok(Self(octets)),
            SizeText::Text(text) if text == "none" => return Ok(Self(0)),
            SizeText::Text(text) => text,
        };
        let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
        units
            .into_iter()
            .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?.trim().parse::<u64>().ok()?, shift)))
            .and_then(|(count, shift): (u64, u32)| count.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| format!("\"{text}\" is no size such as \"512 MiB\""))
    }
}

/// A setting that makes no sense.
pub(super) struct Wrong {
    /// Section and key, such as `limits.sessions`, or the option.
    key: &'static str,
    problem: String,
}

impl Wrong {
    pub(super) fn new(key: &'static str, problem: impl Into<String>) -> Self {
        Self { key, problem: problem.into() }
    }

    /// The message, with the place in the config file if the setting stands there.
    pub(super) fn placed(self, path: &Path, text: &str) -> String {
        let Self { key, problem } = self;
        match line_of(key, text) {
            Some(line) => format!("{}:{line}: {key}: {problem}", path.display()),
            None => format!("{key}: {problem}"),
        }
    }
}

/// The line, from 1, of a key in a TOML text.
fn line_of(key: &str, text: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut at = None;
    for part in key.split('.') {
        let (name, value) = table.iter().find(|(name, _)| name.get_ref() == part)?;
        at = Some(name.span().start);
        table = match value.get_ref().as_table() {
            Some(inner) => inner,
            None => break,
        };
    }
    Some(1 + text.bytes().take(at?).filter(|octet| *octet == b'\n').count())
}

/// The key that was probably meant, if an error of the TOML reader is about one that there is not.
pub(super) fn meant(error: &str) -> Option<&str> {
    let (_, rest) = error.split_once("unknown field `")?;
    let (stray, known) = rest.split_once('`')?;
    nearest(stray, known.split('`').skip(1).step_by(2))
}
