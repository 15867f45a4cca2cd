//! Recordings that are encrypted, hashed and signed on a real filesystem.

use super::fs::{Fs, RealFs};
use super::recover::recover;
use super::seal::Seals;
use super::writer::Writer;
use super::writer::per_file::PerFile;
use crate::jobs::library::{AskId, LibraryDone, LibraryError, LibraryJob};
use crate::jobs::{Done, FileKey, Finalise, FinaliseOutcome, Folder, Job, Open, Piece};
use media::blocks::BlockPool;
use media::codec::Codec;
use media::time::{Mono, Wall};
use recfile::call::Call;
use recfile::header::{FileHeader, HEADER_OCTETS};
use recfile::name::sidecar_name;
use recfile::seal::age::Identity;
use recfile::seal::audio::{End, Opener};
use recfile::seal::origin::{SignKey, Verdict, check, hex};
use recfile::seal::sidecar;
use recfile::sealed::{FRONT_OCTETS, Front};
use recfile::sidecar::{Sidecar, SidecarState};
use sha2::{Digest, Sha256};
use std::path::Path;

const FILE: FileKey = FileKey(1);

fn counting(from: u8) -> impl FnMut(&mut [u8]) -> std::io::Result<()> {
    let mut next = from;
    move |octets: &mut [u8]| {
        for octet in octets {
            *octet = next;
            next = next.wrapping_add(37);
        }
        Ok(())
    }
}

fn identity() -> Identity {
    Identity::generate(&mut counting(1)).unwrap()
}

fn encrypting() -> Seals {
    Seals { recipients: vec![identity().recipient()], sign_key: None }
}

fn sha256(octets: &[u8]) -> Option<String> {
    Some(hex(&Sha256::digest(octets)))
}

/// A writer with one open file, and the audio recorded to it.
struct Recording {
    folder: tempfile::TempDir,
    writer: Writer<RealFs>,
    name: String,
    audio: Vec<u8>,
    pool: BlockPool,
}

impl Recording {
    fn begin(seals: Seals) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(RealFs, Mono::default, PerFile::with_seals(seals));
        let open = Open {
            file: FILE,
            folder: folder_of(folder.path()),
            stamp: Wall::default(),
            header: FileHeader::new(Codec::Pcma, 20),
            sidecar: Box::new(Self::sidecar(SidecarState::Recording)),
        };
        let Done::Opened { result: Ok(opened), .. } = writer.handle(Job::Open(open)).unwrap() else {
            panic!("no file")
        };
        Self { folder, writer, name: opened.name, audio: Vec::new(), pool: BlockPool::new(1 << 22) }
    }

    fn sidecar(state: SidecarState) -> Sidecar {
        let call = Call { remote_name: "Erika Mustermann".into(), ..Call::default() };
        let end = (state == SidecarState::Ended).then(|| "2026-03-01T09:15:00.000+01:00".to_owned());
        Sidecar {
            recording: "r1".into(),
            codec: "PCMA".into(),
            call,
            state,
            end_reason: end.as_ref().map(|_| "stopped".into()),
            end,
            ..Sidecar::default()
        }
    }

    /// Records audio that is nowhere the same.
    fn record(&mut self, octets: usize) {
        let from = self.audio.len();
        self.audio.extend((from..from + octets).map(|at| u8::try_from(at * 7 % 251).unwrap()));
        let mut pieces = Vec::new();
        for part in self.audio[from..].chunks(9000) {
            let mut block = self.pool.take().unwrap();
            block.fill(part);
            pieces.push(Piece::Audio(block));
        }
        self.append(pieces);
    }

    fn record_silence(&mut self, octets: usize) {
        self.audio.resize(self.audio.len() + octets, 0xD5);
        self.append(vec![Piece::Silence(octets as u64)]);
    }

    fn append(&mut self, pieces: Vec<Piece>) {
        match self.writer.handle(Job::Append { file: FILE, pieces, flush: true }).unwrap() {
            Done::Appended { result: Ok(_), durable_octets, .. } => {
                assert_eq!(durable_octets, self.audio.len() as u64);
            }
            other => panic!("{other:?}"),
        }
    }

    fn close(&mut self) {
        let sidecar = Box::new(Self::sidecar(SidecarState::Ended));
        let done = self.writer.handle(Job::Close { file: FILE, sidecar }).unwrap();
        assert!(matches!(done, Done::Closed { result: Ok(_), .. }), "{done:?}");
        self.audio.resize(self.audio.len().next_multiple_of(160), 0xD5);
    }

    fn octets(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join(&self.name)).unwrap()
    }

    fn beside(&self) -> Sidecar {
        let json = std::fs::read(self.folder.path().join(sidecar_name(&self.name))).unwrap();
        Sidecar::parse(&json).unwrap()
    }

    fn decrypted(&self) -> (Vec<u8>, End) {
        decrypted(&self.octets())
    }
}

fn folder_of(path: &Path) -> Folder {
    Folder { root: path.into(), device: RealFs.device(path).unwrap(), name: String::new() }
}

fn decrypted(file: &[u8]) -> (Vec<u8>, End) {
    let mut opener = Opener::open(file, &[identity()]).unwrap();
    let mut audio = Vec::new();
    while let Some(chunk) = opener.next_chunk().unwrap() {
        audio.extend_from_slice(chunk);
    }
    (audio, opener.end().cloned().unwrap())
}

#[test]
fn an_encrypted_recording_opens_bit_for_bit_and_without_the_key_tells_lengths_alone() {
    let mut recording = Recording::begin(encrypting());
    for octets in [8000, 100, 40_000, 16_384, 1] {
        recording.record(octets);
    }
    recording.record_silence(50_000);
    recording.close();
    assert_eq!(recording.decrypted(), (recording.audio.clone(), End::Whole));
    let octets = recording.octets();
    let front = Front::parse(&octets).unwrap();
    assert_eq!(u64::from(front.progress.data_size), recording.audio.len() as u64);
    assert_eq!((front.progress.end, front.progress.finished), (octets.len() as u64, true));
    let beside = recording.beside();
    assert_eq!((beside.call, beside.sha256, beside.encrypted), (Call::default(), None, true));
    assert_eq!(beside.data_bytes, recording.audio.len() as u64);
    assert_eq!(beside.sealed_sha256, sha256(&octets[FRONT_OCTETS..]));
    let inside = sidecar::open(&recording.beside(), &[identity()]).unwrap();
    assert_eq!(inside.call.remote_name, "Erika Mustermann");
    assert_eq!(inside.sha256, sha256(&recording.audio));
    for entry in std::fs::read_dir(recording.folder.path()).unwrap() {
        let text = String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned();
        assert!(!text.contains("Mustermann"), "{text}");
    }
    let window = &recording.audio[..32];
    assert!(!octets.windows(32).any(|part| part == window), "audio in the clear");
}

#[test]
fn the_file_in_the_documents_opens_as_they_say() {
    let text = include_str!("../../../docs/encryption.md");
    let mut file = Vec::new();
    for line in text.lines().filter(|line| line.get(8..10) == Some(": ")) {
        let digits: String = line[10..49].chars().filter(|letter| !letter.is_whitespace()).collect();
        file.extend(
            (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()),
        );
    }
    assert_eq!(file.len(), 412);
    let key = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).expect("an identity");
    let mut opener = Opener::open(&file[..], &[Identity::parse(key).unwrap()]).unwrap();
    let mut audio = Vec::new();
    while let Some(chunk) = opener.next_chunk().unwrap() {
        audio.extend_from_slice(chunk);
    }
    assert_eq!(opener.end(), Some(&End::Whole));
    assert_eq!(audio, (0..80_u8).map(|at| at ^ 0x55).collect::<Vec<_>>());
}

#[test]
fn each_file_has_its_own_key() {
    let two = [(), ()].map(|()| {
        let mut recording = Recording::begin(encrypting());
        recording.record(8000);
        recording.close();
        recording.octets()
    });
    assert_ne!(two[0][FRONT_OCTETS..], two[1][FRONT_OCTETS..]);
}

#[test]
fn after_a_cut_everything_that_was_flushed_opens_before_and_after_the_recovery() {
    for garbage in [0, 3, 19, 20, 5000] {
        let mut recording = Recording::begin(encrypting());
        recording.record(8000);
        let hint = recording.octets()[72..88].to_vec();
        recording.record(9000);
        let Recording { folder, writer, name, audio, .. } = recording;
        drop(writer);
        let path = folder.path().join(&name);
        let mut octets = std::fs::read(&path).unwrap();
        let whole = octets.len();
        octets[72..88].copy_from_slice(&hint);
        octets.resize(whole + garbage, 0);
        std::fs::write(&path, &octets).unwrap();
        assert_eq!(decrypted(&octets).0, audio, "{garbage} octets of garbage");

        let recovered = recover(&RealFs, folder.path()).recovered;
        assert_eq!(recovered.len(), 1);
        assert_eq!(recovered[0].duration_ms, 2140, "107 frames, the last one of them not whole");
        let octets = std::fs::read(&path).unwrap();
        assert_eq!(octets.len(), whole);
        assert_eq!(decrypted(&octets), (audio, End::CutOff { octets: 0 }));
        let front = Front::parse(&octets).unwrap();
        assert_eq!((front.progress.data_size, front.progress.end), (17_000, whole as u64));
        let json = std::fs::read(folder.path().join(sidecar_name(&name))).unwrap();
        let beside = Sidecar::parse(&json).unwrap();
        assert_eq!((beside.state, beside.recovered, beside.repaired), (SidecarState::Ended, true, true));
        assert_eq!(beside.sealed_sha256, sha256(&octets[FRONT_OCTETS..]));
        let inside = sidecar::open(&beside, &[identity()]).unwrap();
        assert_eq!(inside.call.remote_name, "Erika Mustermann");
        assert_eq!(recover(&RealFs, folder.path()).recovered, []);
    }
}

#[test]
fn a_file_whose_disk_was_pulled_is_cut_to_the_length_that_its_recording_counts_on() {
    let mut recording = Recording::begin(encrypting());
    recording.record(8000);
    recording.record(160);
    let kept = recording.audio.clone();
    recording.record(320);
    let Recording { folder, name, writer, .. } = recording;
    drop(writer);
    let mut writer = Writer::new(RealFs, Mono::default, PerFile::with_seals(encrypting()));
    let sidecar = Box::new(Recording::sidecar(SidecarState::Ended));
    let finalise =
        Finalise { file: FILE, folder: folder_of(folder.path()), name: name.clone(), octets: 8160, sidecar };
    let done = writer.handle(Job::Finalise(Box::new(finalise))).unwrap();
    assert!(matches!(done, Done::Finalised { result: Ok(FinaliseOutcome::Finished), .. }), "{done:?}");
    let octets = std::fs::read(folder.path().join(&name)).unwrap();
    assert_eq!(decrypted(&octets), (kept, End::CutOff { octets: 0 }));
    let text = std::fs::read_to_string(folder.path().join(sidecar_name(&name))).unwrap();
    assert!(!text.contains("Mustermann"), "{text}");
    let inside = sidecar::open(&Sidecar::parse(text.as_bytes()).unwrap(), &[identity()]).unwrap();
    assert_eq!((inside.call.remote_name.as_str(), inside.data_bytes), ("Erika Mustermann", 8160));
}

#[test]
fn it_is_listed_with_its_length_protected_and_deleted_and_not_played() {
    let mut recording = Recording::begin(encrypting());
    recording.record(8000);
    recording.close();
    let folder = folder_of(recording.folder.path());
    let file = recording.name.clone();
    let ask = AskId(1);
    let (play, protect, info, delete) = (
        LibraryJob::OpenPlay { ask, folder: folder.clone(), files: vec![file.clone()] },
        LibraryJob::Protect { ask, folder: folder.clone(), file: file.clone(), protected: true },
        LibraryJob::Info { ask, folder: folder.clone(), file: file.clone() },
        LibraryJob::Delete { ask, folder, file },
    );
    match recording.writer.handle(Job::Library(play)).unwrap() {
        Done::Library(LibraryDone::Opened(_, files)) => assert_eq!(files, [Err(LibraryError::Encrypted)]),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        recording.writer.handle(Job::Library(protect)).unwrap(),
        Done::Library(LibraryDone::Protected(_, Ok(_)))
    ));
    let inside = sidecar::open(&recording.beside(), &[identity()]).unwrap();
    assert!(inside.protected && inside.call.remote_name == "Erika Mustermann");
    match recording.writer.handle(Job::Library(info)).unwrap() {
        Done::Library(LibraryDone::Info(_, Ok(details))) => {
            let facts = details.found.facts.unwrap();
            assert_eq!((facts.duration_ms, facts.codec, details.found.encrypted), (1000, Codec::Pcma, true));
            assert_eq!((facts.problems, details.damage), (Vec::new(), None));
        }
        other => panic!("{other:?}"),
    }
    let deleted = recording.writer.handle(Job::Library(delete)).unwrap();
    assert!(matches!(deleted, Done::Library(LibraryDone::Deleted(_, Ok(())))), "{deleted:?}");
    let left = std::fs::read_dir(recording.folder.path()).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(left.collect::<Vec<_>>(), [".recordd-order"], "the file with the order of files stays");
}

#[test]
fn a_plain_recording_has_the_hash_of_its_payload_and_a_recovered_one_that_of_the_file() {
    let mut recording = Recording::begin(Seals::default());
    recording.record(8000);
    recording.record_silence(30_001);
    recording.close();
    let octets = recording.octets();
    assert_eq!(octets[HEADER_OCTETS..], recording.audio);
    let beside = recording.beside();
    assert_eq!(beside.sha256, sha256(&recording.audio));
    assert_eq!((beside.signature, beside.repaired, beside.encrypted), (None, false, false));

    let mut recording = Recording::begin(Seals::default());
    recording.record(8000);
    assert_eq!(recording.beside().sha256, None, "it is not known before the end");
    let Recording { folder, writer, name, .. } = recording;
    drop(writer);
    assert_eq!(recover(&RealFs, folder.path()).recovered.len(), 1);
    let octets = std::fs::read(folder.path().join(&name)).unwrap();
    let json = std::fs::read(folder.path().join(sidecar_name(&name))).unwrap();
    let beside = Sidecar::parse(&json).unwrap();
    assert_eq!((beside.sha256, beside.repaired), (sha256(&octets[HEADER_OCTETS..]), true));
}

#[test]
fn a_signed_recording_has_a_good_signature_encrypted_or_not() {
    let key = SignKey::generate(&mut counting(3)).unwrap();
    for recipients in [Vec::new(), vec![identity().recipient()]] {
        let mut recording = Recording::begin(Seals { recipients, sign_key: Some(key.clone()) });
        recording.record(8000);
        recording.record(7);
        recording.close();
        let beside = sidecar::open(&recording.beside(), &[identity()]).unwrap();
        let octets = recording.octets();
        let head = Front::parse(&octets).map_or_else(|_| FileHeader::parse(&octets).unwrap(), |it| it.header);
        assert_eq!(head.data_size, 8160);
        assert_eq!(check(&head, &beside), Verdict::Good(key.public().id()));
        assert_eq!(beside.sha256, sha256(&recording.audio));
    }
}
