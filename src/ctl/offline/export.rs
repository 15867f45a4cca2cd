//! `recordctl export`: standard WAV files out of recordings.
//!
//! Owns: which files make one WAV, and that a WAV appears whole or not at all, over nothing that is there
//! unless forced, and never over a recording. What goes into it is decided in [`crate::file::export`].

use super::console::{Console, clean, clock};
use super::recording::{Recording, discover_segments, file_name, find};
use crate::file::export::{ExportCodec, Exported, export};
use crate::file::reader::Reader;
use crate::rtp::codec::Codec;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `recordctl export`.
#[derive(clap::Args, Clone, Debug)]
pub struct ExportArgs {
    /// Recordings to join into one WAV; or folders, each recording in them becoming a WAV of its own
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The WAV to write; with folders, the folder to write into
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// 16-bit PCM, or the A-law or µ-law octets as they are
    #[arg(long, value_enum, default_value_t = WavCodec::Pcm)]
    pub codec: WavCodec,
    /// Take in the other segments of the recording, found beside the file
    #[arg(long)]
    pub all_segments: bool,
    /// Overwrite what is there
    #[arg(long)]
    pub force: bool,
    /// Print what was written as a JSON array
    #[arg(long)]
    pub json: bool,
}

/// `--codec`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WavCodec {
    /// 16-bit PCM
    Pcm,
    /// As recorded (A-law or µ-law; not G722)
    Copy,
}

impl From<WavCodec> for ExportCodec {
    fn from(codec: WavCodec) -> Self {
        match codec {
            WavCodec::Pcm => Self::Pcm,
            WavCodec::Copy => Self::Copy,
        }
    }
}

/// Files that make one WAV.
struct Job {
    segments: Vec<Recording>,
    out: PathBuf,
}

impl ExportArgs {
    /// Writes the WAVs; fails if one can't be written.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        Console::with_stdio(|console| self.run_on(console))
    }

    pub(super) fn run_on(&self, console: &mut Console<'_>) {
        let recordings = self.open_all(console);
        let one_each = self.output.is_dir() || self.files.iter().any(|file| file.is_dir());
        let jobs = if one_each {
            if let Err(error) = fs::create_dir_all(&self.output) {
                return console.fail(&format!("{}: {error}", self.output.display()));
            }
            one_wav_each(recordings, &self.output)
        } else {
            match one_wav(recordings, &self.output) {
                Ok(job) => vec![job],
                Err(reason) => return console.fail(&reason),
            }
        };
        let mut array = Vec::new();
        for job in jobs {
            let name = clean(&job.out.display().to_string());
            let files: Vec<PathBuf> = job.segments.iter().map(|segment| segment.path.clone()).collect();
            match self.export_one(job, console) {
                Ok((out, done)) => {
                    if !self.json {
                        console.line(&format!(
                            "{name}: {} from {} file(s)",
                            clock(done.duration_ms),
                            files.len()
                        ));
                    }
                    array.push(as_json(&out, &files, done));
                }
                Err(reason) => console.fail(&format!("{name}: {reason}")),
            }
        }
        if self.json {
            console.json(&Value::Array(array));
        }
    }

    /// Every recording that the arguments mean. With named files a missing one would be a hole in the WAV; the
    /// run fails, and [`one_wav`] gets none.
    fn open_all(&self, console: &mut Console<'_>) -> Vec<Recording> {
        let mut paths = find(&self.files, &mut |reason| console.fail(&reason));
        if self.all_segments {
            let mut all: Vec<PathBuf> = Vec::new();
            for path in paths {
                let segments = discover_segments(&path).unwrap_or_else(|_| vec![path]);
                all.extend(segments.into_iter().filter(|segment| !all.contains(segment)).collect::<Vec<_>>());
            }
            paths = all;
        }
        let count = paths.len();
        let mut recordings = Vec::new();
        for path in paths {
            match Recording::open(&path).map_err(|error| error.to_string()) {
                Ok(Recording { audio: Err(error), .. }) => {
                    console.fail(&format!("{}: {error}", path.display()))
                }
                Ok(recording) => {
                    if recording.busy {
                        console
                            .remark(&format!("{}: still being recorded, exported up to now", path.display()));
                    }
                    recordings.push(recording);
                }
                Err(error) => console.fail(&format!("{}: {error}", path.display())),
            }
        }
        let folders = self.files.iter().any(|file| file.is_dir());
        if recordings.len() < count && !folders {
            recordings.clear();
        }
        recordings
    }

    fn export_one(&self, job: Job, console: &mut Console<'_>) -> Result<(PathBuf, Exported), String> {
        let Job { segments, out } = job;
        if segments.iter().any(|segment| is_same_file(&segment.path, &out)) {
            return Err("this is the recording itself; choose another name".into());
        }
        if out.exists() && !self.force {
            return Err("exists already; --force overwrites it".into());
        }
        let mut readers = Vec::new();
        for segment in segments {
            readers.push(segment.audio.map_err(|error| format!("{}: {error}", segment.path.display()))?);
        }
        let temporary = out.with_file_name(format!(".{}.{}.part", file_name(&out), std::process::id()));
        let written = self.write_wav(&mut readers, &temporary, console);
        console.clear_progress();
        let moved = written.and_then(|done| {
            fs::rename(&temporary, &out).map_err(|error| error.to_string())?;
            Ok(done)
        });
        match moved {
            Ok(done) => Ok((out, done)),
            Err(reason) => {
                let _ = fs::remove_file(&temporary);
                Err(reason)
            }
        }
    }

    fn write_wav(
        &self,
        readers: &mut [Reader<BufReader<File>>],
        temporary: &Path,
        console: &mut Console<'_>,
    ) -> Result<Exported, String> {
        let file = File::create(temporary).map_err(|error| error.to_string())?;
        let done = export(readers, BufWriter::new(&file), self.codec.into(), &mut |progress| {
            console.progress("exporting", progress.done_octets, progress.total_octets);
        })
        .map_err(|error| error.to_string())?;
        file.sync_all().map_err(|error| error.to_string())?;
        Ok(done)
    }
}

/// All files in one WAV: they have to be of one recording, or have no sidecar that says otherwise.
fn one_wav(mut recordings: Vec<Recording>, out: &Path) -> Result<Job, String> {
    recordings.sort_by_key(Recording::order);
    if recordings.is_empty() {
        return Err("nothing to export".into());
    }
    let mut ids = recordings.iter().filter_map(recording_id);
    if let Some(first) = ids.next() {
        if ids.any(|id| id != first) {
            return Err(
                "these files are of different recordings; give a folder with -o to get one WAV each".into()
            );
        }
    }
    Ok(Job { segments: recordings, out: out.to_owned() })
}

/// A WAV per recording, named as its first file. A change of codec within a recording begins another WAV.
fn one_wav_each(recordings: Vec<Recording>, folder: &Path) -> Vec<Job> {
    let mut groups: Vec<Vec<Recording>> = Vec::new();
    let mut known: HashMap<(PathBuf, String, Option<Codec>), usize> = HashMap::new();
    for recording in recordings {
        let codec = recording.audio.as_ref().ok().map(|reader| reader.facts().codec);
        let beside = recording.path.parent().unwrap_or(Path::new("")).to_owned();
        let slot = recording_id(&recording).map(|id| {
            *known.entry((beside, id.to_owned(), codec)).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            })
        });
        match slot.and_then(|slot| groups.get_mut(slot)) {
            Some(group) => group.push(recording),
            None => groups.push(vec![recording]),
        }
    }
    let mut taken = std::collections::HashSet::new();
    let mut jobs = Vec::new();
    for mut segments in groups {
        segments.sort_by_key(Recording::order);
        let Some(first) = segments.first() else { continue };
        let stem = first.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // Two phones of a server may have begun in the same second.
        let mut name = format!("{stem}.wav");
        let mut attempt = 2;
        while !taken.insert(name.to_lowercase()) {
            name = format!("{stem}_{attempt}.wav");
            attempt += 1;
        }
        jobs.push(Job { out: folder.join(name), segments });
    }
    jobs
}

fn recording_id(recording: &Recording) -> Option<&str> {
    recording.sidecar().map(|sidecar| sidecar.recording.as_str()).filter(|id| !id.is_empty())
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

fn as_json(out: &Path, files: &[PathBuf], done: Exported) -> Value {
    json!({
        "output": out,
        "files": files,
        "duration_ms": done.duration_ms,
        "sample_rate_hz": done.sample_rate_hz,
        "samples": done.samples,
    })
}
