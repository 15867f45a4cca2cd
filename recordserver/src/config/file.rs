//! The config file: its keys, and a mistake with the line that it stands on.
//!
//! Owns: names of sections and keys, the form of a message. Never: defaults and ranges, which are the
//! parent's.

use settings::{ConfigError, Document, Problem, Sections, Value, number};

/// Sections and their keys; every key may be left out.
static SECTIONS: &Sections = &[
    (
        "",
        &[
            "listen",
            "storage",
            "extensions",
            "media_listen",
            "rtp_ports",
            "public_addr",
            "http",
            "status_socket",
            "status_socket_mode",
            "reserve",
            "max_file_size",
            "flush_interval_ms",
            "buffer",
            "sandbox",
            "mode",
            "recordings_group",
        ],
    ),
    (
        "limits",
        &[
            "sessions",
            "sessions_per_address",
            "connections",
            "connections_per_address",
            "starts_per_minute",
            "new_devices_per_hour",
            "empty_files_per_hour",
            "start_timeout_ms",
            "idle_timeout_s",
            "resume_within_s",
        ],
    ),
    ("log", &["level"]),
];

/// Longest line that a message repeats, in characters.
const MAX_LINE_CHARS: usize = 200;

/// A config file whose names are all known. Values are read, and checked, where they are needed.
pub(super) struct File<'i> {
    document: Document<'i>,
    text: &'i str,
}

impl<'i> File<'i> {
    /// Reads `text` of the file `name`.
    pub(super) fn parse(text: &'i str, name: &'i str) -> Result<Self, String> {
        let document = Document::parse(text, name, SECTIONS).map_err(|error| told(error, text))?;
        Ok(Self { document, text })
    }

    /// The value of a key above all sections, if it is there.
    pub(super) fn above<T>(
        &self,
        key: &'static str,
        convert: impl FnOnce(&Value<'_>) -> Result<T, Problem>,
    ) -> Result<Option<T>, String> {
        self.read("", key, convert)
    }

    /// The value of a key of `[log]`.
    pub(super) fn log<T>(
        &self,
        key: &'static str,
        convert: impl FnOnce(&Value<'_>) -> Result<T, Problem>,
    ) -> Result<Option<T>, String> {
        self.read("log", key, convert)
    }

    /// A number of `[limits]` within these bounds.
    pub(super) fn limit<T: TryFrom<u64>>(
        &self,
        key: &'static str,
        lowest: u64,
        highest: u64,
    ) -> Result<Option<T>, String> {
        self.read("limits", key, |value| number(value, lowest, highest))
    }

    fn read<T>(
        &self,
        section: &'static str,
        key: &'static str,
        convert: impl FnOnce(&Value<'_>) -> Result<T, Problem>,
    ) -> Result<Option<T>, String> {
        let mut found = None;
        let read = self.document.section(section).read(key, &mut found, |value| convert(value).map(Some));
        read.map_err(|error| told(error, self.text))?;
        Ok(found)
    }
}

/// The message for a person, with the line as it stands in the file.
fn told(error: ConfigError, text: &str) -> String {
    let ConfigError { file, line, key, problem } = error;
    let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
    let as_written: String = text
        .lines()
        .nth(line.saturating_sub(1))
        .unwrap_or_default()
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_LINE_CHARS)
        .collect();
    format!("{file}:{line}: {key}{problem}\nline {line} is: {as_written}")
}
