//! Recordings for measurements: real files with a tone, as a recorder would have left them.

use crate::id::hex;
use crate::time::rfc3339;
use media::codec::Codec;
use media::time::Wall;
use recfile::call::Call;
use recfile::header::FileHeader;
use recfile::name::{record_file_name, sidecar_name};
use recfile::sidecar::Sidecar;
use sha2::{Digest, Sha256};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name of the journal of an intake.
const JOURNAL: &str = ".journal";

/// One recording.
#[derive(Clone, Debug)]
pub(super) struct Recording {
    /// The phone.
    pub(super) device: String,
    /// Number of the other side.
    pub(super) remote: String,
    /// Name of the other side; empty if it has none.
    pub(super) name: String,
    /// Codec.
    pub(super) codec: Codec,
    /// The start, in microseconds.
    pub(super) started_us: i64,
    /// Its length.
    pub(super) duration_ms: u64,
}

impl Recording {
    /// Writes file and sidecar into an intake, and gives the file's path below it.
    ///
    /// # Errors
    /// As the system says.
    pub(super) fn write(&self, intake: &Path) -> io::Result<PathBuf> {
        let stamp = rfc3339(self.started_us);
        let folder = Path::new(&self.device).join(stamp.split('T').next().unwrap_or_default());
        std::fs::create_dir_all(intake.join(&folder))?;
        let name = record_file_name(Wall { unix_ms: self.started_us / 1000, utc_offset_s: 0 }, 1);
        let octets = usize::try_from(self.duration_ms * 8).unwrap_or(0);
        // A buzz: the sound does not matter.
        let audio: Vec<u8> = (0..octets).map(|at| [0x55, 0xD5, 0x80, 0x2A][at / 8 % 4]).collect();
        let recording = hex(&Sha256::digest(format!("{} {}", self.device, self.started_us))[..8]);
        let sidecar = Sidecar {
            file: name.clone(),
            codec: self.codec.name().into(),
            start: stamp,
            duration_ms: self.duration_ms,
            data_bytes: audio.len() as u64,
            sha256: Some(hex(&Sha256::digest(&audio))),
            end_reason: Some("stopped".into()),
            call: Call {
                id: format!("{recording}@phone"),
                remote_number: self.remote.clone(),
                remote_name: self.name.clone(),
                local_number: "2001".into(),
                ..Call::default()
            },
            recording,
            ..Sidecar::default()
        };
        let place = folder.join(&name);
        std::fs::write(intake.join(folder.join(sidecar_name(&name))), sidecar.to_json())?;
        std::fs::write(
            intake.join(&place),
            [&FileHeader::new(self.codec, 20).encode()[..], &audio].concat(),
        )?;
        Ok(place)
    }
}

/// Appends the lines of finished files to the journal of an intake, at once.
///
/// # Errors
/// As the system says.
pub(super) fn announce(intake: &Path, places: &[PathBuf]) -> io::Result<()> {
    let lines: String = places
        .iter()
        .map(|place| serde_json::json!({"file": place.to_string_lossy()}).to_string() + "\n")
        .collect();
    let path = intake.join(JOURNAL);
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(lines.as_bytes())
}
