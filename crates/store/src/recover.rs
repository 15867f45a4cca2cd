//! Repair of recordings that a power cut, a crash or a pulled stick left unfinished in the recording folder.
//!
//! Owns: carrying out the plans of [`recfile::recovery`] on a [`Fs`], and bringing a file whose disk was
//! pulled to the octets that its recording counts on. Never: touches a file that is not ours, is being
//! written, or is locked by another process. A file that can't be put right now is left for the next time.

use super::fault::{fault, is_full};
use super::fs::Fs;
use super::names::Gathering;
use super::running_hash::hash_of;
use super::seal::Seals;
use super::sidecar_file::{read_sidecar, remove_leftovers, replace};
use crate::jobs::{Fault, Finalise, FinaliseOutcome, Recovered};
use recfile::format::PROBE_OCTETS;
use recfile::header::{DATA_SIZE_OFFSET, HEADER_OCTETS};
use recfile::recovery::{FileState, Mode, Patch, Plan, Step, Verdict, apply, plan, plan_any};
use recfile::sealed::{FRONT_OCTETS, Front};
use recfile::sidecar::Sidecar;
use std::io;
use std::path::Path;

/// Chunks of a pulled file that are followed, from the start if need be: a day and a half of a call.
const MAX_CHUNKS: u32 = 1 << 17;

/// A longer file that was cut off is not hashed by the agent: reading it would keep recordings waiting.
const MAX_HASHED_OCTETS: u64 = 32 << 20;

/// The result of a look through a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Recordings that were put right.
    pub recovered: Vec<Recovered>,
    /// Recordings that could not be, or not be looked at, this time.
    pub failed: usize,
}

/// Puts every unfinished recording of ours in `folder` right, while this process writes none there.
pub fn recover<F: Fs>(fs: &F, folder: &Path) -> Pass {
    let mut pass = Pass::default();
    let mut behind: Option<String> = None;
    loop {
        let mut gathering = Gathering::new(behind.as_deref());
        gathering.go_on(fs, folder, None);
        let (names, leftovers) = gathering.finish();
        if behind.is_none() {
            remove_leftovers(fs, folder, &leftovers);
        }
        for name in &names {
            match recover_named(fs, folder, name) {
                Ok(recovered) => pass.recovered.extend(recovered),
                Err(error) => {
                    pass.failed += 1;
                    log::debug!("cannot recover {}: {error}", folder.join(name).display());
                }
            }
        }
        behind = names.into_iter().next_back();
        if behind.is_none() {
            return pass;
        }
    }
}

fn recover_named<F: Fs>(fs: &F, folder: &Path, name: &str) -> io::Result<Option<Recovered>> {
    match read_sidecar(fs, folder, name)? {
        Some(sidecar) => try_recover_file(fs, folder, name, &sidecar),
        None => Ok(None),
    }
}

/// Repairs one file if its sidecar says that it needs it, and we may. A failed repair is tried again at the
/// next look.
pub(super) fn recover_file<F: Fs>(fs: &F, folder: &Path, name: &str, sidecar: &[u8]) -> Option<Recovered> {
    let recovered = try_recover_file(fs, folder, name, sidecar);
    if let Some(error) = recovered.as_ref().err().filter(|it| it.kind() == io::ErrorKind::InvalidInput) {
        log::warn!("{name:?} is not made whole: it {error}");
    }
    recovered.ok().flatten()
}

fn try_recover_file<F: Fs>(
    fs: &F,
    folder: &Path,
    name: &str,
    sidecar: &[u8],
) -> io::Result<Option<Recovered>> {
    // Most files are finished, and their sidecar alone says so.
    let unread = FileState { name, len: 0, head: &[], sidecar: Some(sidecar), busy: false, may_grow: true };
    if plan(&unread, Mode::Automatic).verdict == Verdict::NotOurs {
        return Ok(None);
    }
    finish_file(fs, folder, name, sidecar)
}

fn finish_file<F: Fs>(fs: &F, folder: &Path, name: &str, beside: &[u8]) -> io::Result<Option<Recovered>> {
    let file = fs.open(&folder.join(name))?;
    // Where there are no locks, nobody else has one.
    if !fs.lock(&file).unwrap_or(true) {
        return Ok(None);
    }
    let planned = put_right(fs, &file, name, beside, Mode::Automatic)?;
    let Some(sidecar) = planned.steps.iter().find_map(as_sidecar) else { return Ok(None) };
    let mut sidecar = sidecar.clone();
    hash_present(fs, &file, planned.data_octets, &mut sidecar);
    replace(fs, folder, name, &sidecar)?;
    fs.sync_fs(&file)?;
    Ok(Some(Recovered {
        file: name.into(),
        recording: sidecar.recording.clone(),
        duration_ms: planned.duration_ms,
    }))
}

/// Puts the hash of a file that was put right into its sidecar: of the audio, or, encrypted, of the file.
fn hash_present<F: Fs>(fs: &F, file: &F::File, data_octets: u64, sidecar: &mut Sidecar) {
    let (front, header) = (FRONT_OCTETS as u64, HEADER_OCTETS as u64);
    let octets = fs.len(file).map_or(u64::MAX, |len| len.saturating_sub(front));
    if octets > MAX_HASHED_OCTETS {
        return;
    }
    // A file that can't be read is not hashed, and its sidecar gets no hash.
    if sidecar.encrypted {
        sidecar.sealed_sha256 = hash_of(fs, file, front, octets).ok().flatten();
    } else {
        sidecar.sha256 = hash_of(fs, file, header, data_octets).ok().flatten();
    }
    sidecar.repaired = true;
}

fn as_sidecar(step: &Step) -> Option<&Sidecar> {
    match step {
        Step::WriteSidecar(sidecar) => Some(sidecar),
        _ => None,
    }
}

/// Makes audio and header whole and durable; the sidecar is left to the caller.
fn put_right<F: Fs>(fs: &F, file: &F::File, name: &str, sidecar: &[u8], mode: Mode) -> io::Result<Plan> {
    let planned = |may_grow| -> io::Result<Plan> {
        let len = fs.len(file)?;
        let mut head = vec![0; PROBE_OCTETS];
        let count = fs.read_at(file, &mut head, 0)?;
        head.truncate(count);
        let state = FileState { name, len, head: &head, sidecar: Some(sidecar), busy: false, may_grow };
        plan_any(&state, mode, &mut |at| read_four(fs, file, at))
    };
    let mut whole = planned(true)?;
    match apply(&whole, &mut Patched { fs, file }) {
        Err(error) if is_full(&error) => {
            whole = planned(false)?;
            apply(&whole, &mut Patched { fs, file })?;
        }
        result => drop(result?),
    }
    if !whole.steps.is_empty() {
        fs.give_back(file, fs.len(file)?)?;
        fs.sync_data(file)?;
    }
    Ok(whole)
}

/// The four octets at an offset; zeros where the file ends.
fn read_four<F: Fs>(fs: &F, file: &F::File, at: u64) -> io::Result<[u8; 4]> {
    let mut octets = [0; 4];
    fs.read_at(file, &mut octets, at)?;
    Ok(octets)
}

struct Patched<'a, F: Fs> {
    fs: &'a F,
    file: &'a F::File,
}

impl<F: Fs> Patch for Patched<'_, F> {
    fn write_at(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.fs.write_at(self.file, octets, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.fs.set_len(self.file, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.fs.sync_data(self.file)
    }
}

/// Cuts a file to the length that its recording counts on and finishes it. Another stick may have come back,
/// with a file of the same name, which is not touched.
pub(super) fn finalise<F: Fs>(fs: &F, job: &Finalise, seals: &Seals) -> Result<FinaliseOutcome, Fault> {
    let folder = job.folder.path();
    let failed = |error: io::Error| fault("finish", &folder.join(&job.name), &error);
    let Some(octets) = read_sidecar(fs, &folder, &job.name).map_err(failed)? else {
        return Ok(FinaliseOutcome::NotHere);
    };
    let same = Sidecar::parse(&octets)
        .is_ok_and(|found| found.recording == job.sidecar.recording && found.segment == job.sidecar.segment);
    if !same {
        return Ok(FinaliseOutcome::NotHere);
    }
    finalise_file(fs, &folder, job, &octets, seals).map_err(failed)
}

fn finalise_file<F: Fs>(
    fs: &F,
    folder: &Path,
    job: &Finalise,
    beside: &[u8],
    seals: &Seals,
) -> io::Result<FinaliseOutcome> {
    let file = match fs.open(&folder.join(&job.name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FinaliseOutcome::NotHere),
        opened => opened?,
    };
    if !fs.lock(&file).unwrap_or(true) {
        return Ok(FinaliseOutcome::Locked);
    }
    // The disk may hold a little more than it acknowledged; that stands in the next file.
    let sealed = cut_sealed(fs, &file, job.octets)?;
    let wanted = HEADER_OCTETS as u64 + job.octets;
    if !sealed && fs.len(&file)? > wanted {
        promise_no_more(fs, &file, job.octets)?;
        fs.set_len(&file, wanted)?;
    }
    let whole = put_right(fs, &file, &job.name, beside, Mode::Explicit)?;
    fs.sync_data(&file)?;
    let mut sidecar = (*job.sidecar).clone();
    sidecar.file.clone_from(&job.name);
    sidecar.order = Sidecar::parse(beside).ok().and_then(|found| found.order);
    sidecar.data_bytes = whole.data_octets;
    sidecar.duration_ms = whole.duration_ms;
    sidecar.encrypted = sealed;
    hash_present(fs, &file, whole.data_octets, &mut sidecar);
    let sidecar = seals.seal(sidecar)?;
    replace(fs, folder, &job.name, &sidecar)?;
    fs.sync_fs(&file)?;
    fs.sync_data(&file)?;
    Ok(FinaliseOutcome::Finished)
}

/// Cuts an encrypted file to the chunks that hold its first `octets` of audio. False if it is not encrypted.
fn cut_sealed<F: Fs>(fs: &F, file: &F::File, octets: u64) -> io::Result<bool> {
    let mut head = vec![0; PROBE_OCTETS];
    let count = fs.read_at(file, &mut head, 0)?;
    head.truncate(count);
    let Ok(front) = Front::parse(&head) else { return Ok(false) };
    let len = fs.len(file)?;
    let Some(part) = front.part(len, octets, MAX_CHUNKS, &mut |at| read_four(fs, file, at))? else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more chunks than any recording has"));
    };
    fs.write_at(file, &part.progress().encode(), DATA_SIZE_OFFSET)?;
    fs.sync_data(file)?;
    fs.set_len(file, part.end)?;
    Ok(true)
}

/// Lowers a `dataSize` of more than `octets`, before the octets beyond are cut off.
fn promise_no_more<F: Fs>(fs: &F, file: &F::File, octets: u64) -> io::Result<()> {
    let mut data_size = [0; 4];
    let count = fs.read_at(file, &mut data_size, DATA_SIZE_OFFSET)?;
    let kept = u32::try_from(octets).unwrap_or(u32::MAX);
    if count < data_size.len() || u32::from_le_bytes(data_size) <= kept {
        return Ok(());
    }
    fs.write_at(file, &kept.to_le_bytes(), DATA_SIZE_OFFSET)?;
    fs.sync_data(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::RealFs;
    use media::codec::Codec;
    use recfile::header::FileHeader;
    use recfile::name::sidecar_name;
    use recfile::sidecar::SidecarState;

    const NAME: &str = "Record_20260301-091500.wav";

    fn leave(folder: &Path, name: &str, octets: usize) {
        let mut audio = FileHeader::new(Codec::Pcma, 20).encode().to_vec();
        audio.resize(HEADER_OCTETS + octets, 1);
        std::fs::write(folder.join(name), audio).unwrap();
        let sidecar = Sidecar {
            recording: "r1".into(),
            file: name.into(),
            codec: "PCMA".into(),
            ptime_ms: 20,
            state: SidecarState::Recording,
            ..Sidecar::default()
        };
        std::fs::write(folder.join(sidecar_name(name)), sidecar.to_json()).unwrap();
    }

    #[test]
    fn our_files_are_repaired_once_and_others_or_locked_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        leave(folder, NAME, 330);
        let locked = "Record_20260301-091502.wav";
        leave(folder, locked, 330);
        let holder = RealFs.open(&folder.join(locked)).unwrap();
        assert!(RealFs.lock(&holder).unwrap());
        let others = ["Record_theirs.wav", "music.wav", ".Record_notes.txt.tmp"];
        others.iter().for_each(|name| std::fs::write(folder.join(name), [7; 100]).unwrap());
        std::fs::write(folder.join(".Record_20260301-091500.json.tmp"), "{").unwrap();

        let Pass { recovered, failed } = recover(&RealFs, folder);
        assert_eq!(failed, 0);
        assert_eq!(recovered.len(), 1);
        assert_eq!((recovered[0].file.as_str(), recovered[0].duration_ms), (NAME, 60));
        assert_eq!(std::fs::metadata(folder.join(NAME)).unwrap().len(), 76 + 480);
        assert_eq!(std::fs::metadata(folder.join(locked)).unwrap().len(), 76 + 330);
        others.iter().for_each(|name| assert_eq!(std::fs::read(folder.join(name)).unwrap(), [7; 100]));
        assert!(!folder.join(".Record_20260301-091500.json.tmp").exists());
        assert_eq!(recover(&RealFs, folder), Pass::default());
    }

    #[test]
    fn data_size_is_lowered_before_the_file_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        for (promised, left) in [(800, 480), (480, 480), (320, 320)] {
            let mut audio =
                FileHeader { data_size: promised, ..FileHeader::new(Codec::Pcma, 20) }.encode().to_vec();
            audio.resize(HEADER_OCTETS + 800, 1);
            std::fs::write(&path, &audio).unwrap();
            promise_no_more(&RealFs, &RealFs.open(&path).unwrap(), 480).unwrap();
            let found = std::fs::read(&path).unwrap();
            assert_eq!((FileHeader::parse(&found).unwrap().data_size, found.len()), (left, audio.len()));
        }
    }

    #[test]
    fn a_pipe_in_place_of_a_sidecar_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        leave(dir.path(), NAME, 330);
        let other = "Record_20260301-091501.wav";
        leave(dir.path(), other, 330);
        let pipe = dir.path().join(sidecar_name(other));
        std::fs::remove_file(&pipe).unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let folder = dir.path().to_owned();
        std::thread::spawn(move || sender.send(recover(&RealFs, &folder)));
        let Pass { recovered, .. } =
            receiver.recv_timeout(std::time::Duration::from_secs(20)).expect("an end");
        assert_eq!(recovered.iter().map(|it| it.file.as_str()).collect::<Vec<_>>(), [NAME]);
    }

    #[test]
    fn a_file_is_mended_to_the_octets_that_count_and_one_of_another_recording_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        leave(dir.path(), NAME, 800);
        let device = RealFs.device(dir.path()).unwrap();
        let folder = crate::jobs::Folder { root: dir.path().into(), device, name: String::new() };
        let sidecar = |recording: &str| {
            let state = SidecarState::Ended;
            Box::new(Sidecar { recording: recording.into(), state, ..Sidecar::default() })
        };
        let file = crate::jobs::FileKey(1);
        let mut job = Finalise { file, folder, name: NAME.into(), octets: 480, sidecar: sidecar("another") };
        assert_eq!(finalise(&RealFs, &job, &Seals::default()), Ok(FinaliseOutcome::NotHere));
        assert_eq!(std::fs::metadata(dir.path().join(NAME)).unwrap().len(), 76 + 800);
        job.sidecar = sidecar("r1");
        let other = RealFs.open_read(&dir.path().join(NAME)).unwrap();
        assert!(RealFs.lock(&other).unwrap());
        assert_eq!(finalise(&RealFs, &job, &Seals::default()), Ok(FinaliseOutcome::Locked));
        assert_eq!(std::fs::metadata(dir.path().join(NAME)).unwrap().len(), 76 + 800);
        drop(other);
        assert_eq!(finalise(&RealFs, &job, &Seals::default()), Ok(FinaliseOutcome::Finished));
        assert_eq!(std::fs::metadata(dir.path().join(NAME)).unwrap().len(), 76 + 480);
        let json = std::fs::read(dir.path().join(sidecar_name(NAME))).unwrap();
        assert_eq!(Sidecar::parse(&json).unwrap().data_bytes, 480);
    }
}
