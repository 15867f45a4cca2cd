//! `recordctl repair`: puts right what a power cut or a pulled stick left behind.
//!
//! Owns: carrying the steps of [`crate::file::recovery`] out on a real file, under its lock, synced before
//! the sidecar says that it is done.

use super::console::{Console, clean, clock};
use super::recording::{file_name, find, open_file_with, path_text, read_sidecar, sidecar_path};
use crate::file::reader::PROBE_OCTETS;
use crate::file::recovery::{FileState, Mode, Patch, Plan, Step, Verdict, apply, plan};
use crate::file::sidecar::Sidecar;
use crate::sys::try_lock;
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `recordctl repair`.
#[derive(clap::Args, Clone, Debug)]
pub struct RepairArgs {
    /// Recordings, or folders of them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

impl RepairArgs {
    /// Repairs each file; fails if one can't be repaired or is being recorded.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        Console::with_stdio(|console| self.run_on(console))
    }

    pub(super) fn run_on(&self, console: &mut Console<'_>) {
        let mut array = Vec::new();
        for path in find(&self.files, &mut |reason| console.fail(&reason)) {
            let name = clean(&path_text(&path));
            let value = match repair(&path, self.dry_run) {
                Ok(plan) => {
                    if let Some(reason) = failure(&plan.verdict) {
                        console.fail(&format!("{name}: {reason}"));
                    } else if !self.json {
                        as_text(&name, &plan, self.dry_run).iter().for_each(|line| console.line(line));
                    }
                    as_json(&path, &plan, self.dry_run)
                }
                Err(error) => {
                    console.fail(&format!("{name}: {error}"));
                    json!({ "file": path_text(&path), "status": "failed", "reason": error.to_string() })
                }
            };
            array.push(value);
        }
        if self.json {
            console.json(&Value::Array(array));
        }
    }
}

/// The file and the steps on it.
struct Target<'a>(&'a File);

impl Patch for Target<'_> {
    fn write_at(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.0.write_all_at(octets, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

fn repair(path: &Path, dry_run: bool) -> io::Result<Plan> {
    let mut file = open_file_with(path, OpenOptions::new().read(true).write(!dry_run))?;
    // Held until the file is closed. Where there are no locks, the agent has none either.
    let busy = !try_lock(&file).unwrap_or(true);
    let mut planned = plan_for(path, &mut file, busy, true)?;
    if dry_run || planned.steps.is_empty() {
        return Ok(planned);
    }
    let sidecar = match apply(&planned, &mut Target(&file)) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            planned = plan_for(path, &mut file, busy, false)?;
            apply(&planned, &mut Target(&file))?
        }
        result => result?,
    };
    file.sync_all()?;
    if let Some(sidecar) = sidecar {
        replace_sidecar(&sidecar_path(path), sidecar)?;
    }
    Ok(planned)
}

fn plan_for(path: &Path, file: &mut File, busy: bool, may_grow: bool) -> io::Result<Plan> {
    let len = file.metadata()?.len();
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(PROBE_OCTETS as u64).read_to_end(&mut head)?;
    let sidecar = read_sidecar(path)?;
    let name = file_name(path);
    let state = FileState { name: &name, len, head: &head, sidecar: sidecar.as_deref(), busy, may_grow };
    Ok(plan(&state, Mode::Explicit))
}

/// Whole or not at all: written under another name, synced, renamed.
fn replace_sidecar(path: &Path, sidecar: &Sidecar) -> io::Result<()> {
    let temporary = path.with_extension("json.tmp");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(&sidecar.to_json())?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
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
        Step::WriteSidecar(_) => "sidecar brought up to date and closed".into(),
    }
}

fn as_text(name: &str, plan: &Plan, dry_run: bool) -> Vec<String> {
    let status = status(&plan.verdict, dry_run);
    let saved =
        if plan.steps.is_empty() { String::new() } else { format!(", {} of audio", clock(plan.duration_ms)) };
    let mut lines = vec![format!("{name}: {status}{saved}")];
    lines.extend(plan.steps.iter().map(|step| format!("  {}", step_text(step))));
    lines
}

fn as_json(path: &Path, plan: &Plan, dry_run: bool) -> Value {
    json!({
        "file": path_text(path),
        "status": status(&plan.verdict, dry_run),
        "reason": failure(&plan.verdict),
        "steps": plan.steps.iter().map(step_text).collect::<Vec<_>>(),
        "duration_ms": plan.duration_ms,
        "data_octets": plan.data_octets,
    })
}
