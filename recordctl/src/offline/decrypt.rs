//! `recordctl decrypt`: the plain recording out of an encrypted one, bit for bit, and its sidecar.
//!
//! Owns: the result for a file that is not whole. Authenticated audio is written in any case; the exit status
//! tells whether that is all. Never: writes over a recording, or makes encrypted audio readable for others.

use super::super::advice;
use super::console::{Console, clean, clock};
use super::export::files::FileSet;
use super::export::output::{self, OutFolder, Temporary};
use super::keys::IdentityArgs;
use super::recording::{find, open_file, path_text, read_sidecar, sidecar_path};
use recfile::format::Facts;
use recfile::header::{DATA_SIZE_OFFSET, FileHeader, HeaderError};
use recfile::seal::age::Identity;
use recfile::seal::audio::{End, OpenError, Opener};
use recfile::seal::sidecar;
use recfile::sealed::format_of;
use recfile::sidecar::{Sidecar, SidecarState};
use serde_json::{Value, json};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `recordctl decrypt`.
#[derive(clap::Args, Clone, Debug)]
#[command(mut_arg("identities", |it| it.required(true)))]
pub struct DecryptArgs {
    /// Encrypted recordings, or folders of them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The recording to write, and beside it its sidecar; with several files or folders, the folder to write
    /// into
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Keys.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Overwrite a plain file that is there (a recording never)
    #[arg(long)]
    pub force: bool,
    /// Print the result of each file as a JSON array
    #[arg(long)]
    pub json: bool,
}

/// The decrypted part of one file.
struct Decrypted {
    facts: Facts,
    /// The reason for which that is not all, or not as it should be.
    fault: Option<String>,
    /// A remark that is no fault.
    remark: Option<String>,
}

impl DecryptArgs {
    /// Decrypts each file; fails if one is not whole.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        Console::with_stdio(|console| self.run_on(console))
    }

    pub(super) fn run_on(&self, console: &mut Console<'_>) {
        let mut array = Vec::new();
        if let Err(reason) = self.decrypt_all(console, &mut array) {
            console.fail(&clean(&reason));
            array.push(json!({ "status": "failed", "reason": reason }));
        }
        if self.json {
            console.json(&Value::Array(array));
        }
    }

    fn decrypt_all(&self, console: &mut Console<'_>, array: &mut Vec<Value>) -> Result<(), String> {
        let identities = self.identity.load()?;
        let paths = find(&self.files, &mut |reason| console.fail(&clean(&reason)));
        let mut inputs = FileSet::default();
        for path in &paths {
            inputs.insert(path);
            inputs.insert(&sidecar_path(path));
        }
        let folders = self.output.is_dir() || paths.len() > 1 || self.files.iter().any(|file| file.is_dir());
        let _folder = if folders { Some(OutFolder::make(&self.output)?) } else { None };
        for path in paths {
            let out = match path.file_name() {
                Some(name) if folders => self.output.join(name),
                _ => self.output.clone(),
            };
            let (from, to) = (path_text(&path), path_text(&out));
            match self.decrypt(&path, &out, &identities, &inputs, console) {
                Ok(done) => {
                    let remarks = done.remark.iter().chain(&done.fault);
                    remarks.for_each(|remark| console.remark(&format!("{from}: {remark}")));
                    if done.fault.is_some() {
                        console.set_failed();
                    }
                    if !self.json {
                        console.line(&clean(&format!("{to}: {} from {from}", clock(done.facts.duration_ms))));
                    }
                    let status = if done.fault.is_some() { "incomplete" } else { "ok" };
                    array.push(json!({
                        "file": from, "output": to, "status": status, "reason": done.fault.or(done.remark),
                        "duration_ms": done.facts.duration_ms, "data_octets": done.facts.data_octets,
                    }));
                }
                Err(reason) => {
                    console.fail(&clean(&format!("{from}: {reason}")));
                    array.push(json!({ "file": from, "output": to, "status": "failed", "reason": reason }));
                }
            }
        }
        Ok(())
    }

    fn decrypt(
        &self,
        path: &Path,
        out: &Path,
        identities: &[Identity],
        inputs: &FileSet,
        console: &mut Console<'_>,
    ) -> Result<Decrypted, String> {
        output::check(out, self.force, inputs)?;
        let file = open_file(path).map_err(|error| advice::said(&error))?;
        let len = file.metadata().map_err(|error| error.to_string())?.len();
        let mut opener = Opener::open(BufReader::new(file), identities).map_err(|error| match error {
            OpenError::Header(HeaderError::NotARecording) => {
                "this is no encrypted recording; recordctl info tells its kind".into()
            }
            error => error.to_string(),
        })?;
        let temporary = Temporary::beside(out)?;
        let unwritten = |error: io::Error| format!("writing {} failed: {error}", out.display());
        let mut writer = BufWriter::new(temporary.file());
        writer.write_all(&opener.front().header.encode()).map_err(unwritten)?;
        let mut done = 0;
        while let Some(audio) = opener.next_chunk().map_err(|error| format!("reading failed: {error}"))? {
            writer.write_all(audio).map_err(unwritten)?;
            done += audio.len() as u64;
            console.progress("decrypting", done, len);
        }
        console.clear_progress();
        let header =
            complete(&opener.front().header, opener.data_octets(), &mut writer).map_err(unwritten)?;
        writer.flush().map_err(unwritten)?;
        drop(writer);
        temporary
            .file()
            .write_all_at(&header.data_size.to_le_bytes(), DATA_SIZE_OFFSET)
            .and_then(|()| temporary.file().sync_all())
            .map_err(unwritten)?;
        let facts = format_of(&header).facts(temporary.file().metadata().map_err(unwritten)?.len());
        let (beside, refused) = match inside_of(path, identities) {
            Ok(beside) => (beside, None),
            Err(reason) => (None, Some(reason)),
        };
        let end = opener.end().cloned().unwrap_or(End::CutOff { octets: 0 });
        let (fault, remark) = judge(&end, beside.as_ref());
        if let Some((_, inside)) = &beside {
            self.write_sidecar(out, &plain_sidecar(inside, out, &facts), inputs)?;
        }
        output::check(out, self.force, inputs)?;
        temporary.rename(out).map_err(unwritten)?;
        Ok(Decrypted { facts, fault: fault.or(refused), remark })
    }

    fn write_sidecar(&self, out: &Path, sidecar: &Sidecar, inputs: &FileSet) -> Result<(), String> {
        let path = sidecar_path(out);
        output::check(&path, self.force, inputs).map_err(|reason| format!("{}: {reason}", path.display()))?;
        let temporary = Temporary::beside(&path)?;
        let written =
            temporary.file().write_all(&sidecar.to_json()).and_then(|()| temporary.file().sync_all());
        written
            .and_then(|()| temporary.rename(&path))
            .map_err(|error| format!("writing {} failed: {error}", path.display()))
    }
}

/// Fills the last frame up with silence, as the agent does at the end of a recording; gives the header that
/// tells of it.
fn complete(header: &FileHeader, octets: u64, out: &mut impl Write) -> io::Result<FileHeader> {
    let frame = u64::from(header.rtp_len).max(1);
    let whole = octets.div_ceil(frame) * frame;
    let missing = usize::try_from(whole - octets).unwrap_or_default();
    out.write_all(&vec![header.codec.silence(); missing])?;
    Ok(FileHeader { data_size: u32::try_from(whole).unwrap_or(u32::MAX), ..*header })
}

/// The sidecar as it is beside the file, and with its decrypted fields. A missing one is no fault.
fn inside_of(path: &Path, identities: &[Identity]) -> Result<Option<(Sidecar, Sidecar)>, String> {
    let octets = read_sidecar(path).map_err(|error| format!("the sidecar can't be read: {error}"))?;
    let Some(octets) = octets else { return Ok(None) };
    let beside = Sidecar::parse(&octets).map_err(|error| error.to_string())?;
    let inside = sidecar::open(&beside, identities)
        .map_err(|error| format!("the encrypted part of the sidecar can't be opened: {error}"))?;
    Ok(Some((beside, inside)))
}

/// Whether the missing end was never recorded: only then is it no fault.
fn judge(end: &End, beside: Option<&(Sidecar, Sidecar)>) -> (Option<String>, Option<String>) {
    let interrupted = beside.is_some_and(|(beside, inside)| {
        // A recording that ended well has its hash inside.
        inside.sha256.is_none()
            && (beside.state == SidecarState::Recording || beside.recovered || beside.repaired)
    });
    match end {
        End::Whole => (None, None),
        End::CutOff { .. } if interrupted => {
            (None, Some("the recording was cut off, and this is all that had been written".into()))
        }
        end => (Some(format!("{end}; the audio before that was written")), None),
    }
}

/// The sidecar of the plain recording.
fn plain_sidecar(inside: &Sidecar, out: &Path, facts: &Facts) -> Sidecar {
    Sidecar {
        file: super::recording::file_name(out),
        encrypted: false,
        sealed_sha256: None,
        sealed: None,
        state: SidecarState::Ended,
        duration_ms: facts.duration_ms,
        data_bytes: facts.data_octets,
        recovered: inside.recovered || inside.state == SidecarState::Recording,
        ..inside.clone()
    }
}
