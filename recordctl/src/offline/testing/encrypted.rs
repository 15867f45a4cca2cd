//! Encrypted and signed recordings on the command line.

use super::*;
use media::time::{Mono, Wall};
use os::secret_file;
use recfile::call::Call;
use recfile::seal::age::{Identity, Recipient};
use recfile::seal::origin::SignKey;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use store::fs::{Fs, RealFs};
use store::jobs::{Done, FileKey, Folder, Job, Open, Piece};
use store::seal::Seals;
use store::writer::Writer;
use store::writer::per_file::PerFile;

/// A folder with a key, and a recording as the agent writes it.
struct Stick {
    folder: tempfile::TempDir,
    key: PathBuf,
    file: PathBuf,
    /// The same file without encryption.
    plain: Vec<u8>,
}

impl Stick {
    fn record(finished: bool) -> Self {
        Self::record_with(finished, None)
    }

    fn record_with(finished: bool, sign_key: Option<SignKey>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.txt");
        let made = run(|console| keygen(&key, false).run_on(console));
        let recipient = Recipient::parse(made.out.trim()).expect("a recipient");
        let disk = folder.path().join("stick");
        fs::create_dir(&disk).unwrap();
        let seals = Seals { recipients: vec![recipient], sign_key };
        let (file, audio) = record(&disk, seals, finished);
        let data_size = u32::try_from(audio.len()).unwrap();
        let header = FileHeader { data_size, ..FileHeader::new(Codec::Pcmu, 20) };
        Self { folder, key, file, plain: [&header.encode()[..], &audio].concat() }
    }

    fn identity(&self) -> IdentityArgs {
        IdentityArgs { identities: vec![self.key.clone()] }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out.wav")
    }

    /// Decrypts to where nothing is.
    fn decrypt(&self) -> Outcome {
        for path in [self.out(), self.out().with_extension("json")] {
            let _ = fs::remove_file(path);
        }
        run(|console| self.decrypt_args().run_on(console))
    }

    fn decrypt_args(&self) -> DecryptArgs {
        DecryptArgs {
            files: vec![self.file.clone()],
            output: self.out(),
            identity: self.identity(),
            force: false,
            json: false,
        }
    }

    fn verify(&self, identity: IdentityArgs) -> Outcome {
        let files = vec![self.file.clone()];
        run(|console| VerifyArgs { files, identity, signed_by: None, json: true }.run_on(console))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut octets = fs::read(&self.file).unwrap();
        change(&mut octets);
        fs::write(&self.file, octets).unwrap();
    }
}

fn keygen(output: &Path, sign: bool) -> KeygenArgs {
    KeygenArgs { output: Some(output.into()), sign, public: None, json: false }
}

/// Three flushes, recorded by the storage of the agent; gives the file and its audio.
fn record(disk: &Path, seals: Seals, finished: bool) -> (PathBuf, Vec<u8>) {
    let mut writer = Writer::new(RealFs, Mono::default, PerFile::with_seals(seals));
    let folder = Folder { root: disk.into(), device: RealFs.device(disk).unwrap(), name: String::new() };
    let file = FileKey(1);
    let call = Call { remote_name: "Erika Mustermann".into(), ..Call::default() };
    let sidecar = Sidecar {
        recording: "r".into(),
        codec: "PCMU".into(),
        call,
        state: SidecarState::Recording,
        ..Sidecar::default()
    };
    let header = FileHeader::new(Codec::Pcmu, 20);
    let open = Open { file, folder, stamp: Wall::default(), header, sidecar: Box::new(sidecar.clone()) };
    let Done::Opened { result: Ok(opened), .. } = writer.handle(Job::Open(open)).unwrap() else {
        panic!("no file")
    };
    let mut pool = media::blocks::BlockPool::new(1 << 20);
    let mut audio = Vec::new();
    for number in 1..=3 {
        let mut block = pool.take().unwrap();
        block.fill(&[number; 8000]);
        audio.extend_from_slice(block.octets());
        let pieces = vec![Piece::Audio(block)];
        let done = writer.handle(Job::Append { file, pieces, flush: true }).unwrap();
        assert!(matches!(done, Done::Appended { result: Ok(_), .. }), "{done:?}");
    }
    if finished {
        let sidecar = Box::new(Sidecar { state: SidecarState::Ended, ..sidecar });
        let done = writer.handle(Job::Close { file, sidecar }).unwrap();
        assert!(matches!(done, Done::Closed { result: Ok(_), .. }), "{done:?}");
    }
    (opened.path, audio)
}

#[test]
fn decrypt_gives_the_recording_bit_for_bit_its_sidecar_and_neither_to_others() {
    let stick = Stick::record(true);
    let outcome = stick.decrypt();
    assert!(!outcome.failed, "{}", outcome.err);
    assert_eq!(fs::read(stick.out()).unwrap(), stick.plain);
    let sidecar = read_sidecar(&stick.out());
    assert_eq!(sidecar.call.remote_name, "Erika Mustermann");
    assert!(!sidecar.encrypted && sidecar.sealed.is_none());
    for path in [stick.out(), stick.out().with_extension("json")] {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o077, 0);
    }
    let whole = verify(&stick.out());
    assert!(!whole.failed, "{}", whole.out);
    assert_eq!(whole.json()[0]["origin"]["hash"], "same");
    assert_eq!(fs::read_dir(stick.folder.path()).unwrap().count(), 4, "no temporary file is left");
}

#[test]
fn a_recording_that_was_cut_off_is_decrypted_as_far_as_it_was_written_and_a_file_that_was_cut_fails() {
    let cut_off = Stick::record(false);
    let outcome = cut_off.decrypt();
    assert!(!outcome.failed && outcome.err.contains("cut off"), "{}", outcome.err);
    assert_eq!(fs::read(cut_off.out()).unwrap(), cut_off.plain);

    let cut = Stick::record(true);
    cut.change(|octets| octets.truncate(octets.len() - 20));
    let outcome = cut.decrypt();
    assert!(outcome.failed && outcome.err.contains("it has no end"), "{}", outcome.err);
    assert_eq!(fs::read(cut.out()).unwrap(), cut.plain, "authenticated audio is written");
    // A repair without the key does not make it look whole.
    assert!(!repair(&cut.file, false).failed);
    assert!(cut.decrypt().failed);
}

#[test]
fn a_recording_that_was_cut_off_within_a_chunk_loses_that_one_alone_and_can_be_repaired_without_the_key() {
    let stick = Stick::record(false);
    stick.change(|octets| octets.truncate(octets.len() - 1));
    let found = stick.verify(IdentityArgs::default());
    assert!(found.failed && found.out.contains("no whole chunk"), "{}", found.out);
    for repaired in [false, true] {
        if repaired {
            let outcome = repair(&stick.file, false);
            assert!(!outcome.failed, "{}", outcome.err);
            assert_eq!(repair(&stick.file, false).json()[0]["status"], "ok");
        }
        let outcome = stick.decrypt();
        assert!(!outcome.failed, "{}", outcome.err);
        let expected = &stick.plain[76..76 + 16_000];
        assert_eq!(&fs::read(stick.out()).unwrap()[76..], expected, "repaired: {repaired}");
    }
    let verified = stick.verify(IdentityArgs::default());
    assert!(!verified.failed, "{}", verified.out);
}

#[test]
fn an_altered_file_fails_with_the_place_and_without_the_key_too() {
    let stick = Stick::record(true);
    stick.change(|octets| {
        let at = octets.len() - 9000;
        octets[at] ^= 1;
    });
    for (identity, expected) in
        [(stick.identity(), "chunk 1"), (IdentityArgs::default(), "altered or damaged")]
    {
        let outcome = stick.verify(identity);
        assert!(outcome.failed && outcome.out.contains(expected), "{}", outcome.out);
    }
    let outcome = stick.decrypt();
    assert!(outcome.failed && outcome.err.contains("chunk 1"), "{}", outcome.err);
    assert_eq!(fs::read(stick.out()).unwrap()[76..], stick.plain[76..76 + 8000]);
}

#[test]
fn without_a_key_lengths_are_told_and_nothing_else() {
    let stick = Stick::record(true);
    let info =
        run(|console| InfoArgs { files: vec![stick.file.clone()], ..InfoArgs::default() }.run_on(console));
    assert!(!info.failed, "{}", info.err);
    for part in ["PCMU, frames of 20 ms", "0:03.0", "not opened", "call      encrypted", "complete  yes"] {
        assert!(info.out.contains(part), "{part} in {}", info.out);
    }
    let verified = stick.verify(IdentityArgs::default());
    assert!(!verified.failed, "{}", verified.out);
    assert_eq!(verified.json()[0]["origin"]["hash"], "same");
    let refused = run(|console| export_args(&[&stick.file], &stick.out()).run_on(console));
    assert!(refused.failed && refused.err.contains("recordctl decrypt"), "{}", refused.err);
}

#[test]
fn with_the_key_it_is_shown_checked_and_exported_as_any_other() {
    let stick = Stick::record(true);
    let files = vec![stick.file.clone()];
    let identity = stick.identity();
    let info = run(|console| InfoArgs { files, identity, json: false }.run_on(console));
    assert!(!info.failed && info.out.contains("Erika Mustermann"), "{}{}", info.out, info.err);
    let verified = stick.verify(stick.identity());
    assert!(!verified.failed, "{}", verified.out);
    assert_eq!(verified.json()[0]["origin"]["hash"], "same");
    let args = ExportArgs { identity: stick.identity(), ..export_args(&[&stick.file], &stick.out()) };
    let outcome = run(|console| args.run_on(console));
    assert!(!outcome.failed, "{}", outcome.err);
    let exported = samples(&stick.out());
    let plain: Vec<i16> =
        stick.plain[76..].iter().map(|&octet| audio_codec_algorithms::decode_ulaw(octet)).collect();
    assert_eq!(exported, plain);
}

#[test]
fn an_identity_file_that_others_can_read_is_refused_as_is_the_wrong_one() {
    let stick = Stick::record(true);
    fs::set_permissions(&stick.key, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = stick.decrypt();
    assert!(refused.failed && refused.err.contains("chmod 600"), "{}", refused.err);
    assert!(!stick.out().exists());
    fs::set_permissions(&stick.key, fs::Permissions::from_mode(0o600)).unwrap();
    let other = Stick::record(true);
    let args = DecryptArgs { identity: other.identity(), ..stick.decrypt_args() };
    let refused = run(|console| args.run_on(console));
    assert!(refused.failed && refused.err.contains("another key"), "{}", refused.err);
    assert!(!stick.out().exists());
    let plain = DecryptArgs { files: vec![stick.key.clone()], ..stick.decrypt_args() };
    let refused = run(|console| plain.run_on(console));
    assert!(refused.failed && refused.err.contains("no encrypted recording"), "{}", refused.err);
}

#[test]
fn decrypt_never_writes_over_a_recording_and_takes_folders() {
    let stick = Stick::record(true);
    let itself = DecryptArgs { output: stick.file.clone(), ..stick.decrypt_args() };
    let before = fs::read(&stick.file).unwrap();
    assert!(run(|console| itself.run_on(console)).failed);
    assert_eq!(fs::read(&stick.file).unwrap(), before);
    let folder = stick.folder.path().join("opened");
    let disk = stick.file.parent().unwrap().to_owned();
    let all = DecryptArgs { files: vec![disk], output: folder.clone(), ..stick.decrypt_args() };
    let outcome = run(|console| all.run_on(console));
    assert!(!outcome.failed, "{}", outcome.err);
    assert_eq!(fs::read(folder.join(stick.file.file_name().unwrap())).unwrap(), stick.plain);
    let again = run(|console| all.run_on(console));
    assert!(again.failed && again.err.contains("a recording is there"), "{}", again.err);
}

#[test]
fn a_key_that_was_made_opens_and_its_public_part_can_be_had_again() {
    let folder = tempfile::tempdir().unwrap();
    let (encrypts, signs) = (folder.path().join("key.txt"), folder.path().join("sign.pem"));
    for (path, sign) in [(&encrypts, false), (&signs, true)] {
        let made = run(|console| keygen(path, sign).run_on(console));
        assert!(!made.failed, "{}", made.err);
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o600);
        let args = KeygenArgs { output: None, sign: false, public: Some(path.clone()), json: false };
        assert_eq!(run(|console| args.run_on(console)).out, made.out);
        assert!(run(|console| keygen(path, sign).run_on(console)).failed, "a key is never overwritten");
    }
    let text = fs::read_to_string(&encrypts).unwrap();
    let identity = &Identity::parse_file(&text).unwrap()[0];
    assert!(text.contains(&format!("# public key: {}", identity.recipient())));
}

#[test]
fn verify_says_whose_signature_it_is_and_fails_for_another_s_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut keys = Vec::new();
    for name in ["one.pem", "two.pem"] {
        let path = folder.path().join(name);
        assert!(!run(|console| keygen(&path, true).run_on(console)).failed);
        keys.push(path);
    }
    let key = SignKey::parse(&secret_file::read(&keys[0]).unwrap()).unwrap();
    let seals = Seals { recipients: Vec::new(), sign_key: Some(key.clone()) };
    let (file, _) = record(folder.path(), seals, true);
    let check = |signed_by: &Path| {
        let (files, signed_by) = (vec![file.clone()], Some(signed_by.to_owned()));
        run(|console| VerifyArgs { files, signed_by, json: true, ..VerifyArgs::default() }.run_on(console))
    };
    let good = check(&keys[0]);
    assert!(!good.failed && good.out.contains("unchanged since it was written by"), "{}", good.out);
    assert_eq!(good.json()[0]["origin"]["key"], key.public().id());
    assert!(check(&keys[1]).failed);
    let mut sidecar = read_sidecar(&file);
    sidecar.call.remote_name = "Somebody Else".into();
    put_sidecar(&file, &sidecar);
    let bad = verify(&file);
    assert!(bad.failed && bad.out.contains("call, times or hash were changed"), "{}", bad.out);
    sidecar.signature = None;
    put_sidecar(&file, &sidecar);
    let unsigned = verify(&file);
    assert!(!unsigned.failed && unsigned.out.contains("no signature"), "{}", unsigned.out);
    assert!(check(&keys[0]).failed, "one was asked for");
}

#[test]
fn audio_that_was_changed_has_another_hash_and_a_repaired_file_says_so() {
    let stick = Stick::record_with(true, None);
    let (file, _) = record(stick.folder.path(), Seals::default(), true);
    assert_eq!(verify(&file).json()[0]["origin"]["hash"], "same");
    let mut octets = fs::read(&file).unwrap();
    octets[100] ^= 1;
    fs::write(&file, &octets).unwrap();
    let changed = verify(&file);
    assert!(changed.failed && changed.out.contains("the hash differs"), "{}", changed.out);
    octets.truncate(octets.len() - 100);
    fs::write(&file, &octets).unwrap();
    assert!(!repair(&file, false).failed);
    let repaired = verify(&file);
    assert!(!repaired.failed && repaired.out.contains("when it was repaired"), "{}", repaired.out);
    assert_eq!(repaired.json()[0]["origin"]["hash"], "repaired");
}
