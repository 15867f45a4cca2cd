//! `recordctl verify`: whether a recording is whole.

use super::console::{Console, clean};
use super::recording::{Recording, find, open_file, path_text};
use crate::file::header::HEADER_OCTETS;
use crate::file::recovery::{sidecar_disagrees, sidecar_names_another_codec};
use crate::file::sidecar::{Sidecar, SidecarState};
use serde_json::{Value, json};
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `recordctl verify`.
#[derive(clap::Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Recordings, or folders of them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Octets read at once while looking for unreadable places.
const CHUNK_OCTETS: usize = 256 * 1024;

impl VerifyArgs {
    /// Says what is wrong with each file; fails if anything is.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        Console::with_stdio(|console| self.run_on(console))
    }

    pub(super) fn run_on(&self, console: &mut Console<'_>) {
        let mut array = Vec::new();
        let paths = find(&self.files, &mut |reason| console.fail(&reason));
        for path in paths {
            let name = clean(&path_text(&path));
            let (status, faults) = match Recording::open(&path) {
                Ok(recording) => {
                    let faults = faults_of(&recording, &mut |done| {
                        console.progress(&format!("reading {name}"), done, recording.len);
                    });
                    let damaged = !faults.is_empty();
                    (
                        if damaged {
                            "damaged"
                        } else if recording.busy {
                            "recording"
                        } else {
                            "ok"
                        },
                        faults,
                    )
                }
                Err(error) => ("unreadable", vec![error.to_string()]),
            };
            if !faults.is_empty() {
                console.set_failed();
            }
            if self.json {
                array.push(json!({ "file": path_text(&path), "status": status, "faults": faults }));
            } else {
                console.line(&format!("{name}: {status}"));
                faults.iter().for_each(|fault| console.line(&format!("  {}", clean(fault))));
            }
        }
        console.clear_progress();
        if self.json {
            console.json(&Value::Array(array));
        }
    }
}

/// Everything that is wrong with a file. One that is being recorded may be stale and open. No sidecar is
/// no fault.
fn faults_of(recording: &Recording, progress: &mut dyn FnMut(u64)) -> Vec<String> {
    let mut faults = Vec::new();
    match &recording.audio {
        Err(error) => faults.push(error.to_string()),
        Ok(reader) => {
            let facts = reader.facts();
            if !recording.busy {
                faults.extend(facts.problems.iter().map(ToString::to_string));
                faults.extend(recording.sidecar().and_then(|sidecar| match sidecar.state {
                    SidecarState::Recording => {
                        Some("the sidecar was never closed: it was cut off".to_owned())
                    }
                    SidecarState::Ended => {
                        sidecar_disagrees(sidecar, reader.format(), facts.frames).then(|| {
                            format!(
                                "the sidecar says {} octets, {} ms; the file holds {} octets, {} ms",
                                sidecar.data_bytes, sidecar.duration_ms, facts.data_octets, facts.duration_ms
                            )
                        })
                    }
                }));
            }
            let another = |sidecar: &&Sidecar| sidecar_names_another_codec(sidecar, reader.format());
            if let Some(sidecar) = recording.sidecar().filter(another) {
                let codec = facts.codec.name();
                faults.push(format!("the sidecar says {}, the header, which counts, {codec}", sidecar.codec));
            }
            faults.extend(unreadable_place(recording, HEADER_OCTETS as u64 + facts.data_octets, progress));
        }
    }
    if let Some(Err(bad)) = &recording.sidecar {
        faults.push(format!("{bad} ({})", bad.advice()));
    }
    faults
}

/// Reads every octet of the audio: a worn stick, or a directory entry ahead of its data, shows only so.
fn unreadable_place(recording: &Recording, end: u64, progress: &mut dyn FnMut(u64)) -> Option<String> {
    let mut file = match open_file(&recording.path) {
        Ok(file) => file,
        Err(error) => return Some(error.to_string()),
    };
    let mut chunk = vec![0; CHUNK_OCTETS];
    let mut done = 0;
    while done < end {
        match file.read(&mut chunk) {
            Ok(0) => return Some(format!("only {done} of {end} octets can be read")),
            Ok(read) => done += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Some(format!("reading fails after {done} octets: {error}")),
        }
        progress(done);
    }
    None
}
