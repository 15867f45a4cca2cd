//! `recordctl verify`: whether a recording is whole.

use super::super::advice;
use super::console::{Console, clean};
use super::info::UNOPENED;
use super::keys::{IdentityArgs, public_key};
use super::origin::origin_of;
use super::recording::{AudioFile, Recording, find, open_file, path_text};
use recfile::format::Format;
use recfile::header::{HEADER_OCTETS, HeaderError, MAX_FILE_OCTETS};
use recfile::reader::ReadError;
use recfile::recovery::{sidecar_disagrees, sidecar_names_another_codec};
use recfile::seal::age::Identity;
use recfile::seal::audio::End;
use recfile::seal::origin::{PublicKey, hex};
use recfile::sealed;
use recfile::sidecar::{Sidecar, SidecarState};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `recordctl verify`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct VerifyArgs {
    /// Recordings, or folders of them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Keys.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Fail unless it is signed by the key in this file (the public or the private one, PEM)
    #[arg(long, value_name = "KEYFILE")]
    pub signed_by: Option<PathBuf>,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Octets read at once while looking for unreadable places.
const CHUNK_OCTETS: usize = 256 * 1024;

/// The longest file of which a hash is taken: the longest that a recording can be, and the last frame.
const LONGEST_HASHED: u64 = MAX_FILE_OCTETS + 65_536;

impl VerifyArgs {
    /// Prints the faults of each file; fails if there is one.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        Console::with_stdio(|console| self.run_on(console))
    }

    pub(super) fn run_on(&self, console: &mut Console<'_>) {
        let mut array = Vec::new();
        let keys = self.identity.load().and_then(|identities| {
            let signed_by = self.signed_by.as_deref().map(public_key).transpose()?;
            Ok((identities, signed_by))
        });
        match keys {
            Ok((identities, signed_by)) => {
                let paths = find(&self.files, &mut |reason| console.fail(&reason));
                for path in paths {
                    array.push(self.verify(&path, &identities, signed_by, console));
                }
            }
            // Without the keys the check can't be made.
            Err(reason) => console.fail(&clean(&reason)),
        }
        console.clear_progress();
        if self.json {
            console.json(&Value::Array(array));
        }
    }

    fn verify(
        &self,
        path: &Path,
        identities: &[Identity],
        signed_by: Option<PublicKey>,
        console: &mut Console<'_>,
    ) -> Value {
        let name = clean(&path_text(path));
        let mut origin = None;
        let (status, faults) = match Recording::open(path, identities) {
            Ok(mut recording) => {
                let len = recording.len;
                let mut found = faults_of(&mut recording, &mut |done| {
                    console.progress(&format!("reading {name}"), done, len);
                });
                if !recording.busy {
                    let told = origin_of(&recording, found.hash.as_deref(), signed_by);
                    found.faults.extend(told.fault.clone());
                    origin = Some(told);
                }
                let status = match (&recording.audio, found.faults.is_empty(), recording.busy) {
                    // Whole or not, it is not for us to say.
                    (Err(ReadError::Header(HeaderError::StandardWav)), _, _) => "standard_wav",
                    (Err(ReadError::Header(HeaderError::NotARecording)), _, _) => "no_recording",
                    (_, false, _) => "damaged",
                    (_, true, true) => "recording",
                    (_, true, false) => "ok",
                };
                (status, found.faults)
            }
            Err(error) => ("unreadable", vec![advice::said(&error)]),
        };
        if !faults.is_empty() {
            console.set_failed();
        }
        let mut value = json!({ "file": path_text(path), "status": status, "faults": faults });
        if let Some(origin) = &origin {
            value["origin"] = origin.as_json();
        }
        if !self.json {
            console.line(&format!("{name}: {}", status.replace('_', " ").replace("wav", "WAV")));
            faults.iter().for_each(|fault| console.line(&format!("  {}", clean(fault))));
            let told = origin.iter().flat_map(|origin| &origin.told);
            told.for_each(|line| console.line(&format!("  {}", clean(line))));
        }
        value
    }
}

/// The result of reading a file.
struct Found {
    faults: Vec<String>,
    /// SHA-256 of its audio, if all of it could be read.
    hash: Option<String>,
}

/// Everything that is wrong with a file. One that is being recorded may be stale and open. No sidecar is
/// no fault.
fn faults_of(recording: &mut Recording, progress: &mut dyn FnMut(u64)) -> Found {
    let mut faults = Vec::new();
    let mut hash = None;
    if let Err(error) = &recording.audio {
        // Without a key there is the outside to look at.
        if recording.outside.is_none() || !matches!(error, ReadError::Header(HeaderError::Encrypted(_))) {
            faults.push(error.to_string());
        }
    }
    if let (Some(facts), Some(format)) = (recording.facts(), format_of_audio(recording)) {
        if !recording.busy {
            faults.extend(facts.problems.iter().map(ToString::to_string));
            faults.extend(end_that_is_missing(recording));
            faults.extend(recording.sidecar().and_then(|sidecar| match sidecar.state {
                SidecarState::Recording => Some("the sidecar was never closed: it was cut off".to_owned()),
                SidecarState::Ended => sidecar_disagrees(sidecar, &format, facts.frames).then(|| {
                    format!(
                        "the sidecar says {} octets, {} ms; the file holds {} octets, {} ms",
                        sidecar.data_bytes, sidecar.duration_ms, facts.data_octets, facts.duration_ms
                    )
                }),
            }));
        }
        let another = |sidecar: &&Sidecar| sidecar_names_another_codec(sidecar, &format);
        if let Some(sidecar) = recording.sidecar().filter(another) {
            let codec = facts.codec.name();
            faults.push(format!("the sidecar says {}, the header, which counts, {codec}", sidecar.codec));
        }
        match read_all(recording, HEADER_OCTETS as u64 + facts.data_octets, progress) {
            Ok(read) => hash = read,
            Err(fault) => faults.push(fault),
        }
    }
    if let Some(Err(bad)) = &recording.sidecar {
        faults.push(format!("{bad} ({})", bad.advice()));
    }
    if let Some(error) = &recording.unopened {
        faults.push(format!("{UNOPENED}: {error}"));
    }
    Found { faults, hash }
}

fn format_of_audio(recording: &Recording) -> Option<Format> {
    let outside = recording.outside.map(|outside| sealed::format_of(&outside.front.header));
    outside.or_else(|| Some(*recording.audio.as_ref().ok()?.format()))
}

/// An encrypted file that ended well, by its sidecar, has its last chunk.
fn end_that_is_missing(recording: &Recording) -> Option<String> {
    let outside = recording.outside.filter(|outside| !outside.extent.finished)?;
    let said = recording.sidecar().is_some_and(|it| it.repaired || it.state == SidecarState::Recording);
    let cut_off = End::CutOff { octets: 0 };
    (!said && outside.extent.beyond == 0).then(|| cut_off.to_string())
}

/// Reads every octet of the audio: a worn stick, or a directory entry ahead of its data, shows only so. Gives
/// the hash of the audio; of an encrypted file without its key there is none.
fn read_all(
    recording: &mut Recording,
    end: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Option<String>, String> {
    if recording.outside.is_some() && recording.audio.is_err() {
        let len = recording.len;
        let mut file = open_file(&recording.path).map_err(|error| error.to_string())?;
        return read_to(&mut file, 0, len, progress).map(|_| None);
    }
    let file = open_file(&recording.path).map_err(|error| error.to_string())?;
    // More than a recording can have: no sidecar has a hash of it, and most of it may never have been
    // written.
    if end > LONGEST_HASHED {
        return read_written(file, end, progress).map(|()| None);
    }
    let mut file = AudioFile::Plain(BufReader::new(file));
    if let (Some(_), Ok(reader)) = (&recording.outside, &mut recording.audio) {
        reader.source().check_end().map_err(|error| error.to_string())?;
        return read_to(reader.source(), HEADER_OCTETS as u64, end, progress).map(Some);
    }
    read_to(&mut file, HEADER_OCTETS as u64, end, progress).map(Some)
}

/// Reads the written parts of a file up to `end`: a hole has nothing that could be worn, and a stick from
/// elsewhere may have files of terabytes that take no room.
fn read_written(mut file: File, end: u64, progress: &mut dyn FnMut(u64)) -> Result<(), String> {
    let mut chunk = vec![0; CHUNK_OCTETS];
    let mut done = 0;
    while done < end {
        let at = i64::try_from(done).unwrap_or(i64::MAX);
        match nix::unistd::lseek64(&file, at, nix::unistd::Whence::SeekData) {
            Ok(data) => done = u64::try_from(data).unwrap_or(done),
            // Nothing but a hole up to the end.
            Err(nix::errno::Errno::ENXIO) => break,
            // A filesystem that can't tell: all of it is read.
            Err(_) => {
                file.seek(SeekFrom::Start(done)).map_err(|error| error.to_string())?;
            }
        }
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => done += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("reading fails after {done} octets: {error}")),
        }
        progress(done.min(end));
    }
    Ok(())
}

/// Reads a file from its start to `end`; returns the hash of the octets behind the first `skipped` ones.
fn read_to(
    file: &mut (impl Read + Seek),
    skipped: u64,
    end: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<String, String> {
    let mut chunk = vec![0; CHUNK_OCTETS];
    let mut hash = Sha256::new();
    let mut done = 0;
    let failed = |done: u64, error: &io::Error| format!("reading fails after {done} octets: {error}");
    file.seek(SeekFrom::Start(0)).map_err(|error| failed(0, &error))?;
    while done < end {
        let wanted = if done < skipped { skipped - done } else { end - done };
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(chunk.len());
        match file.read(&mut chunk[..wanted]) {
            Ok(0) => return Err(format!("only {done} of {end} octets can be read")),
            Ok(read) => {
                if done >= skipped {
                    hash.update(&chunk[..read]);
                }
                done += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(done, &error)),
        }
        progress(done);
    }
    Ok(hex(&hash.finalize()))
}
