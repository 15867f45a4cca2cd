//! `recordctl repair`: repairs recordings that a power cut or a pulled stick left unfinished.
//!
//! Owns: carrying the steps of [`recfile::recovery`] out on a real file, under its lock, synced before
//! the sidecar says that it is done; and the message if that ends midway. Never: writes over, or removes, a
//! file that is neither the recording nor its sidecar, and neither through a link nor into a file that has
//! another name too: on a stick from elsewhere either may lead to a file of the user who repairs it.

use super::super::advice;
use super::console::{Console, clean, clock};
use super::recording::{
    BadSidecar, file_name, find, hash_of, open_file, path_text, read_sidecar, sidecar_path,
};
use os::try_lock;
use recfile::format::PROBE_OCTETS;
use recfile::header::HEADER_OCTETS;
use recfile::recovery::{FileState, Mode, Patch, Plan, Step, Verdict, apply, plan_any};
use recfile::sealed::FRONT_OCTETS;
use recfile::sidecar::Sidecar;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use store::access::{Access, may_change, open_to_change};

/// Arguments of `recordctl repair`.
#[derive(clap::Args, Clone, Debug)]
pub struct RepairArgs {
    /// Recordings, or folders of them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Only print the repairs, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Names that are tried for a file of our own.
const MAX_NAME_ATTEMPTS: u32 = 100;

impl RepairArgs {
    /// Repairs each file; fails if one can't be repaired or is being recorded.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        Console::with_stdio(|console| self.run_on(console))
    }

    pub(super) fn run_on(&self, console: &mut Console<'_>) {
        let mut array = Vec::new();
        for path in find(&self.files, &mut |reason| console.fail(&reason)) {
            let outcome = repair(&path, self.dry_run);
            let name = clean(&path_text(&path));
            if let Some(reason) = &outcome.reason {
                console.fail(&format!("{name}: {reason}"));
            }
            let silent = self.json || (outcome.reason.is_some() && outcome.plan.steps.is_empty());
            if !silent {
                as_text(&name, &outcome).iter().for_each(|line| console.line(line));
            }
            array.push(as_json(&path, &outcome));
        }
        if self.json {
            console.json(&Value::Array(array));
        }
    }
}

/// The outcome of one file.
struct Outcome {
    status: &'static str,
    /// The steps of the repair.
    plan: Plan,
    /// Steps of the plan that were carried out; in a dry run all that would be.
    done: usize,
    /// The reason for which not all is in order now.
    reason: Option<String>,
}

fn repair(path: &Path, dry_run: bool) -> Outcome {
    try_repair(path, dry_run).unwrap_or_else(|error| {
        let plan = Plan { verdict: Verdict::Sound, steps: Vec::new(), duration_ms: 0, data_octets: 0 };
        Outcome { status: FAILED, plan, done: 0, reason: Some(advice::said(&error)) }
    })
}

/// `status` of a file that is not as it should be, for the reason given.
const FAILED: &str = "failed";

/// Fails only if there is nothing to tell about the file itself.
fn try_repair(path: &Path, dry_run: bool) -> io::Result<Outcome> {
    let (file, refused) = open_to_repair(path, dry_run)?;
    // Held until the file is closed. Where there are no locks, the agent has none either.
    let busy = !try_lock(&file).unwrap_or(true);
    let (sidecar, bad) = match own_sidecar(path) {
        Ok(octets) => (octets, None),
        Err(error) => (None, Some(BadSidecar::Unreadable(error))),
    };
    let mut work = Work { path, file: &file, sidecar, busy, done: 0 };
    let mut plan = work.plan(true)?;
    let mut reason = failure(&plan.verdict);
    if reason.is_some() {
        let status = status(&plan.verdict, dry_run);
        // The sidecar might have had the values of a lost header.
        let unread = bad.filter(|_| !busy).map(|bad| format!("; {bad}")).unwrap_or_default();
        reason = reason.map(|reason| reason + &unread);
        return Ok(Outcome { status, plan, done: 0, reason });
    }
    if dry_run {
        work.done = plan.steps.len();
    } else if let Some(error) = refused.filter(|_| plan.steps.iter().any(Step::concerns_recording)) {
        reason = Some(format!("it needs a repair and can't be written: {}", advice::said(&error)));
    } else if !plan.steps.is_empty() {
        reason = work.carry_out(&mut plan).err();
    }
    let reason = reason.or_else(|| bad.map(|bad| format!("{bad} ({})", bad.advice())));
    let status = if reason.is_some() { FAILED } else { status(&plan.verdict, dry_run) };
    Ok(Outcome { status, done: work.done, plan, reason })
}

/// Opens the file for writing, or for reading alone and with the reason: most files need no repair. A dry run
/// refuses the same files as a repair.
fn open_to_repair(path: &Path, dry_run: bool) -> io::Result<(File, Option<io::Error>)> {
    if dry_run {
        may_change(&fs::symlink_metadata(path)?)?;
        return Ok((open_file(path)?, None));
    }
    match open_to_change(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok((open_file(path)?, Some(error)))
        }
        opened => Ok((opened?, None)),
    }
}

/// The bytes of the sidecar, if it is a file: the target of a link is no part of the recording.
fn own_sidecar(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::symlink_metadata(sidecar_path(path)) {
        Ok(found) if found.is_symlink() => may_change(&found).map(|()| None),
        _ => read_sidecar(path),
    }
}

/// The repair of one file.
struct Work<'a> {
    path: &'a Path,
    file: &'a File,
    /// The bytes of the sidecar.
    sidecar: Option<Vec<u8>>,
    busy: bool,
    /// Steps that were carried out.
    done: usize,
}

impl Work<'_> {
    fn plan(&self, may_grow: bool) -> io::Result<Plan> {
        let mut file = self.file;
        let len = file.metadata()?.len();
        let mut head = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.take(PROBE_OCTETS as u64).read_to_end(&mut head)?;
        let (name, sidecar) = (file_name(self.path), self.sidecar.as_deref());
        let state = FileState { name: &name, len, head: &head, sidecar, busy: self.busy, may_grow };
        plan_any(&state, Mode::Explicit, &mut |at| {
            let mut octets = [0; 4];
            match self.file.read_exact_at(&mut octets, at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok([0; 4]),
                read => read.map(|()| octets),
            }
        })
    }

    /// Carries the plan out, or another one where there is no room; returns the step that failed.
    fn carry_out(&mut self, plan: &mut Plan) -> Result<(), String> {
        let unwritten =
            |error: io::Error| format!("the recording can't be written: {error}; repair it again");
        match apply(plan, self) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                *plan = self.plan(false).map_err(unwritten)?;
                self.done = 0;
                apply(plan, self).map_err(unwritten)?;
            }
            result => drop(result.map_err(unwritten)?),
        }
        self.file
            .sync_all()
            .map_err(|error| format!("the disk did not take the repair: {error}; repair it again"))?;
        let beside = sidecar_path(self.path);
        for step in &plan.steps {
            let (result, what) = match step {
                Step::WriteSidecar(sidecar) => {
                    let hashed = hashed_anew(self.file, plan.data_octets, sidecar);
                    (hashed.and_then(|sidecar| replace_sidecar(&beside, &sidecar)), "written")
                }
                Step::SetSidecarAside { .. } => (set_aside(&beside), "set aside"),
                _ => continue,
            };
            result.map_err(|error| {
                format!(
                    "the recording is in order, but its sidecar can't be {what}: {error}; repair it again"
                )
            })?;
            self.done += 1;
        }
        Ok(())
    }
}

/// Each step on the recording is one of these.
impl Patch for Work<'_> {
    fn write_at(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.file.write_all_at(octets, offset)?;
        self.done += 1;
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.done += 1;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Whole or not at all: written under a name of its own, synced, renamed. The agent would take a file of that
/// name for the leftover of a power cut, and remove it.
fn replace_sidecar(path: &Path, sidecar: &Sidecar) -> io::Result<()> {
    let stem = path.file_stem().unwrap_or_default();
    let (temporary, mut file) = create_own(|attempt| {
        let mut name = OsString::from(".");
        name.push(stem);
        name.push(format!(".{}-{attempt}.json.tmp", std::process::id()));
        path.with_file_name(name)
    })?;
    // The new one has the mode of the former one; a disk without modes has none to keep.
    if let Some(former) = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file) {
        let _ = file.set_permissions(fs::Permissions::from_mode(former.mode() & 0o666));
    }
    let written = file.write_all(&sidecar.to_json()).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // vfat gives the new name size 0 until the file is synced once more.
    file.sync_all()?;
    sync_folder(path)
}

/// The sidecar with the hash of the present file, if that was changed.
fn hashed_anew(file: &File, data_octets: u64, sidecar: &Sidecar) -> io::Result<Sidecar> {
    let mut sidecar = sidecar.clone();
    if !sidecar.repaired {
        return Ok(sidecar);
    }
    if sidecar.encrypted {
        let front = FRONT_OCTETS as u64;
        let octets = file.metadata()?.len().saturating_sub(front);
        sidecar.sealed_sha256 = Some(hash_of(file, front, octets, &mut |_| {})?);
    } else {
        sidecar.sha256 = Some(hash_of(file, HEADER_OCTETS as u64, data_octets, &mut |_| {})?);
    }
    Ok(sidecar)
}

/// Renames a file that is no sidecar to an unused name.
fn set_aside(path: &Path) -> io::Result<()> {
    let (aside, _) = create_own(|attempt| {
        let mut name = path.as_os_str().to_owned();
        name.push(".broken");
        if attempt > 1 {
            name.push(format!("-{attempt}"));
        }
        name.into()
    })?;
    if let Err(error) = fs::rename(path, &aside) {
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    sync_folder(path)
}

/// Creates a file under the first of the names that is free.
fn create_own(name: impl Fn(u32) -> PathBuf) -> io::Result<(PathBuf, File)> {
    let mut attempt = 1;
    loop {
        let path = name(attempt);
        match Access::PRIVATE.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < MAX_NAME_ATTEMPTS => {
                attempt += 1;
            }
            created => return Ok((path, created?)),
        }
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn failure(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Sound | Verdict::Repairable | Verdict::NotOurs => None,
        Verdict::Busy => Some("it is being recorded; stop the recording first".into()),
        Verdict::Unrepairable(reason) => Some(reason.to_string()),
    }
}

fn status(verdict: &Verdict, dry_run: bool) -> &'static str {
    match verdict {
        Verdict::Sound | Verdict::NotOurs => "ok",
        Verdict::Repairable if dry_run => "repairable",
        Verdict::Repairable => "repaired",
        Verdict::Busy => "recording",
        Verdict::Unrepairable(_) => "unrepairable",
    }
}

fn step_text(step: &Step) -> String {
    match step {
        Step::Pad { octets, .. } => format!("last frame filled up with {octets} octets of silence"),
        Step::Truncate(len) => format!("cut to {len} octets, the whole frames"),
        Step::WriteHeader(header) => {
            format!("header written anew: {}, {} octets of audio", header.codec.name(), header.data_size)
        }
        Step::SetDataSize(size) => format!("dataSize set to {size}"),
        Step::SetProgress(progress) => {
            format!("length set to {} octets of audio in {} chunks", progress.data_size, progress.chunks)
        }
        Step::WriteSidecar(_) => "sidecar brought up to date and closed".into(),
        Step::SetSidecarAside { reason } => format!("sidecar set aside, .broken added to its name: {reason}"),
    }
}

fn as_text(name: &str, outcome: &Outcome) -> Vec<String> {
    let Outcome { status, plan, done, .. } = outcome;
    let saved =
        if plan.steps.is_empty() { String::new() } else { format!(", {} of audio", clock(plan.duration_ms)) };
    let mut lines = vec![format!("{name}: {status}{saved}")];
    lines.extend(plan.steps.iter().enumerate().map(|(n, step)| {
        let undone = if n < *done { "" } else { "not done: " };
        format!("  {undone}{}", clean(&step_text(step)))
    }));
    lines
}

fn as_json(path: &Path, outcome: &Outcome) -> Value {
    let steps: Vec<String> = outcome.plan.steps.iter().map(step_text).collect();
    let (done, not_done) = steps.split_at(outcome.done.min(steps.len()));
    json!({
        "file": path_text(path),
        "status": outcome.status,
        "reason": outcome.reason,
        "steps": done,
        "not_done": not_done,
        "duration_ms": outcome.plan.duration_ms,
        "data_octets": outcome.plan.data_octets,
    })
}
