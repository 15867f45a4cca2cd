//! `recordctl export`: standard WAV files out of recordings.
//!
//! Owns: the course of an export and its result, one entry for every WAV and every file that can't be read.
//! [`jobs`] decides which files make one WAV, [`recfile::export`] makes its contents, and [`output`] decides
//! which files it may replace.

pub(super) mod files;
mod jobs;
pub(super) mod output;

use super::super::advice;
use super::console::{Console, clean, clock};
use super::keys::IdentityArgs;
use super::recording::{Recording, discover_segments, find, sidecar_path};
use crate::interrupt::Interrupt;
use clap::builder::{PathBufValueParser, TypedValueParser};
use files::{FileSet, OpenFile, Source};
use jobs::{Job, Segment};
use output::{OutFolder, Temporary};
use recfile::export::{ExportCodec, ExportError, Exported, export};
use recfile::reader::Reader;
use recfile::seal::age::Identity;
use serde_json::{Value, json};
use std::cell::Cell;
use std::io::BufWriter;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `recordctl export`.
#[derive(clap::Args, Clone, Debug)]
pub struct ExportArgs {
    /// Recordings to join into one WAV; or folders, each recording in them becoming a WAV of its own
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The WAV to write; with folders, the folder to write into
    #[arg(short, long, value_name = "OUT", value_parser = PathBufValueParser::new().try_map(no_stdout))]
    pub output: PathBuf,
    /// 16-bit PCM, or the A-law or µ-law octets as they are
    #[arg(long, value_enum, default_value_t = WavCodec::Pcm)]
    pub codec: WavCodec,
    /// Take in the other segments of the recording, found beside the file
    #[arg(long)]
    pub all_segments: bool,
    /// Overwrite a plain file that is there (a recording never)
    #[arg(long)]
    pub force: bool,
    /// Keys.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Print the result of each WAV and file as a JSON array
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

/// `-o -`: a WAV has its length at its start, which a pipe can't be given afterwards.
fn no_stdout(path: PathBuf) -> Result<PathBuf, &'static str> {
    if path.as_os_str() == "-" {
        return Err("a WAV does not go to stdout; name a file, or use recordctl play --stdout for raw PCM");
    }
    Ok(path)
}

impl ExportArgs {
    /// Writes the WAVs; fails if one can't be written.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        Console::with_stdio(|console| self.run_on(console))
    }

    pub(super) fn run_on(&self, console: &mut Console<'_>) {
        let mut report = Report { console, json: self.json, entries: Vec::new() };
        // After any error, too, stdout gets its one JSON value.
        if let Err(reason) = self.export_all(&mut report) {
            report.not_written(&self.output, &[], &reason);
        }
        if self.json {
            report.console.json(&Value::Array(report.entries));
        }
    }

    /// # Errors
    /// Why there is nothing to write at all.
    fn export_all(&self, report: &mut Report<'_, '_>) -> Result<(), String> {
        let identities = self.identity.load()?;
        let mut inputs = FileSet::default();
        let segments = self.look_at_all(&identities, &mut inputs, report)?;
        let folders = self.output.is_dir() || self.files.iter().any(|file| file.is_dir());
        let mut remark = |text: String| report.console.remark(&clean(&text));
        let hint =
            if folders || self.all_segments { "" } else { "; --all-segments takes in those beside it" };
        let jobs = if folders {
            jobs::one_wav_each(segments, &self.output, hint, &mut remark)
        } else {
            vec![jobs::one_wav(segments, &self.output, hint, &mut remark)?]
        };
        if jobs.is_empty() {
            return Ok(());
        }
        // From here on there is something to clear away.
        let stop = Stop::new()?;
        let _folder = if folders { Some(OutFolder::make(&self.output)?) } else { None };
        for job in jobs {
            if stop.came.get() {
                // Said already, of the WAV at which it came.
                report.entry_failed(&job.out, &files_of(&job), INTERRUPTED);
                continue;
            }
            match self.write(&job, &identities, &inputs, &stop, report.console) {
                Ok(done) => report.written(&job, done),
                Err(reason) => report.not_written(&job.out, &files_of(&job), &reason),
            }
        }
        Ok(())
    }

    /// The files that the arguments mean.
    fn find_all(&self, report: &mut Report<'_, '_>) -> Vec<PathBuf> {
        let found = find(&self.files, &mut |reason| report.not_found(&reason));
        if !self.all_segments {
            return found;
        }
        let (mut all, mut seen) = (Vec::new(), FileSet::default());
        for path in found {
            if seen.contains(&path) {
                continue;
            }
            let mut segments = discover_segments(&path).unwrap_or_default();
            // Its own name may be none by which others find it.
            if !segments.contains(&path) {
                segments.push(path);
            }
            all.extend(segments.into_iter().filter(|segment| seen.insert(segment)));
        }
        all
    }

    /// Every recording that the arguments mean, once.
    ///
    /// # Errors
    /// A named file can't be read: its audio would be missing in the WAV.
    fn look_at_all(
        &self,
        identities: &[Identity],
        inputs: &mut FileSet,
        report: &mut Report<'_, '_>,
    ) -> Result<Vec<Segment>, String> {
        let (mut segments, mut seen, mut unread) = (Vec::new(), FileSet::default(), false);
        for path in self.find_all(report) {
            if !seen.insert(&path) {
                continue;
            }
            inputs.insert(&path);
            inputs.insert(&sidecar_path(&path));
            match look_at(&path, identities, report.console) {
                Ok(segment) => segments.push(segment),
                Err(reason) => {
                    unread = true;
                    report.not_read(&path, &reason);
                }
            }
        }
        if unread && !self.files.iter().any(|file| file.is_dir()) {
            return Err("nothing exported, because not every file can be read; leave those out, or see \
                        recordctl repair"
                .into());
        }
        Ok(segments)
    }

    /// One WAV, whole or not at all.
    fn write(
        &self,
        job: &Job,
        identities: &[Identity],
        inputs: &FileSet,
        stop: &Stop,
        console: &mut Console<'_>,
    ) -> Result<Exported, String> {
        stop.check()?;
        output::check(&job.out, self.force, inputs)?;
        let open = OpenFile::default();
        let mut readers = Vec::new();
        for (index, segment) in job.segments.iter().enumerate() {
            let source = Source::new(&segment.path, index, &open, identities);
            readers
                .push(Reader::open(source).map_err(|error| format!("{}: {error}", segment.path.display()))?);
        }
        let temporary = Temporary::beside(&job.out)?;
        let file = BufWriter::new(temporary.file());
        let written = export(&mut readers, file, self.codec.into(), &mut |progress| {
            console.progress("exporting", progress.done_octets, progress.total_octets);
            if stop.came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        console.clear_progress();
        let done = written.map_err(|error| match error {
            ExportError::Stopped => INTERRUPTED.to_owned(),
            ExportError::Read { segment, error } => {
                let path = job.segments.get(segment).map(|segment| segment.path.display().to_string());
                format!("reading {} failed: {error}; recordctl verify tells more", path.unwrap_or_default())
            }
            error => error.to_string(),
        })?;
        temporary.file().sync_all().map_err(|error| format!("writing the WAV failed: {error}"))?;
        stop.check()?;
        // It has taken a while: somebody else may have put something there.
        output::check(&job.out, self.force, inputs)?;
        temporary.rename(&job.out).map_err(|error| format!("giving the WAV its name failed: {error}"))?;
        Ok(done)
    }
}

/// The data that a job needs about a recording, and the remarks on it.
fn look_at(path: &Path, identities: &[Identity], console: &mut Console<'_>) -> Result<Segment, String> {
    let recording = Recording::open(path, identities).map_err(|error| advice::said(&error))?;
    let facts = match &recording.audio {
        Ok(reader) => reader.facts(),
        Err(error) => return Err(error.to_string()),
    };
    let busy = recording.busy.then(|| "still being recorded, exported up to now".to_owned());
    for remark in busy.into_iter().chain(jobs::pace_remark(facts)) {
        console.remark(&clean(&format!("{}: {remark}", path.display())));
    }
    Ok(Segment::new(&recording, facts))
}

const INTERRUPTED: &str = "interrupted, not written";

/// Ctrl-C and its like: once it came, it stays so.
struct Stop {
    interrupt: Interrupt,
    came: Cell<bool>,
}

impl Stop {
    fn new() -> Result<Self, String> {
        let interrupt = Interrupt::new().map_err(|error| error.to_string())?;
        Ok(Self { interrupt, came: Cell::new(false) })
    }

    fn came(&self) -> bool {
        if !self.came.get() && self.interrupt.came().unwrap_or(false) {
            self.came.set(true);
        }
        self.came.get()
    }

    fn check(&self) -> Result<(), String> {
        if self.came() { Err(INTERRUPTED.into()) } else { Ok(()) }
    }
}

/// The results of files and WAVs, for people at once and for scripts at the end.
struct Report<'a, 'b> {
    console: &'a mut Console<'b>,
    json: bool,
    entries: Vec<Value>,
}

impl Report<'_, '_> {
    fn written(&mut self, job: &Job, done: Exported) {
        if !self.json {
            let (name, files) = (job.out.display(), job.segments.len());
            let text = format!("{name}: {} from {files} file(s)", clock(done.duration_ms));
            self.console.line(&clean(&text));
        }
        self.entries.push(json!({
            "output": text_of(&job.out),
            "files": files_of(job),
            "status": "ok",
            "duration_ms": done.duration_ms,
            "sample_rate_hz": done.sample_rate_hz,
            "samples": done.samples,
        }));
    }

    fn not_written(&mut self, out: &Path, files: &[String], reason: &str) {
        self.console.fail(&clean(&format!("{}: {reason}", out.display())));
        self.entry_failed(out, files, reason);
    }

    fn entry_failed(&mut self, out: &Path, files: &[String], reason: &str) {
        let output = text_of(out);
        self.entries.push(json!({ "output": output, "files": files, "status": "failed", "reason": reason }));
    }

    fn not_read(&mut self, path: &Path, reason: &str) {
        self.console.fail(&clean(&format!("{}: {reason}", path.display())));
        self.entries.push(json!({ "file": text_of(path), "status": "failed", "reason": reason }));
    }

    /// An argument that means no file.
    fn not_found(&mut self, reason: &str) {
        self.console.fail(&clean(reason));
        self.entries.push(json!({ "status": "failed", "reason": reason }));
    }
}

fn files_of(job: &Job) -> Vec<String> {
    job.segments.iter().map(|segment| text_of(&segment.path)).collect()
}

/// A path for JSON, which has no place for octets that are no text.
fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
