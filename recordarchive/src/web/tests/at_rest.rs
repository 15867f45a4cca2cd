//! Media that the archive encrypts: heard, checked, exported, held and deleted as plain ones, and nothing of
//! them left.

use super::exports::{run_in, unpacked};
use super::{Anchors, Archive, Intake, site, verify};
use crate::access::Condition;
use crate::catalogue::Catalogue;
use crate::catalogue::at_rest::AtRest;
use crate::catalogue::model::RecordingMedia;
use crate::clock;
use crate::id::Id;
use crate::jobs::encrypt::{Encrypted, Encryptor, rewrap};
use crate::jobs::intake::Counts;
use crate::jobs::{deletion, holds};
use crate::media::path;
use crate::media::vault::Vault;
use crate::media::vault::tests::settings;
use crate::testing::run;
use crate::time::DAY_US;
use axum::http::StatusCode;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Octets of the test's audio that are nowhere by chance.
fn audio() -> Vec<u8> {
    (0..160_u32 * 50).map(|n| n.to_be_bytes()[3].wrapping_mul(37)).collect()
}

/// All files below a folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

pub(super) struct Sealed {
    pub(super) archive: Archive,
    pub(super) keys: tempfile::TempDir,
    pub(super) vault: Vault,
}

impl Sealed {
    /// An archive with keys, and a recording of each codec in its intake.
    pub(super) async fn new() -> Self {
        let keys = tempfile::tempdir().unwrap();
        let vault = Vault::read(Some(&settings(keys.path(), "identity"))).unwrap();
        let archive = Archive::with_vault(vault.clone()).await;
        archive.fill().await;
        Self { archive, keys, vault }
    }

    pub(super) fn media(&self) -> PathBuf {
        self.archive.folder.path().join("media")
    }

    pub(super) fn encryptor(&self, vault: &Vault) -> Option<Encryptor> {
        let catalogue = Arc::clone(&self.archive.catalogue) as Arc<dyn Catalogue>;
        Encryptor::new(catalogue, vault.clone(), self.media(), self.archive.derived()).unwrap()
    }

    pub(super) async fn encrypt(&self) -> Encrypted {
        self.encryptor(&self.vault).unwrap().all().await.unwrap()
    }

    /// A look at the archive's own folder.
    async fn look(&self, all: bool) -> Counts {
        let catalogue = Arc::clone(&self.archive.catalogue) as Arc<dyn Catalogue>;
        let own = Intake::of_encrypted(catalogue, site(), self.media());
        own.with_vault(self.vault.clone()).reconcile(all).await.unwrap()
    }

    async fn row(&self, recording: &str) -> RecordingMedia {
        let id = Id::parse(recording).unwrap();
        self.archive.catalogue.media(id, &Condition::All).await.unwrap().unwrap()
    }

    /// No file of the archive has octets of the audio, in any form.
    fn nothing_is_plain(&self) {
        let wanted = &audio()[200..264];
        for file in files(self.archive.folder.path()) {
            let octets = std::fs::read(&file).unwrap();
            assert!(!octets.windows(wanted.len()).any(|part| part == wanted), "{}", file.display());
            assert!(!octets.windows(8).any(|part| part == b"radrv01\n"), "{}", file.display());
        }
    }
}

#[test]
fn an_encrypted_recording_is_heard_checked_and_fetched_as_before_and_nothing_plain_is_left() {
    run(async {
        let it = Sealed::new().await;
        let archive = &it.archive;
        let mut paths = Vec::new();
        for codec in ["pcma", "pcmu", "g722"] {
            let (_, recording) = archive.recording(codec).await;
            for part in ["audio", "audio?format=pcm", "peaks", "original"] {
                paths.push(format!("/recordings/{recording}/{part}"));
            }
        }
        let all = async || {
            let mut answers = Vec::new();
            for path in &paths {
                let whole = archive.get("program", path).await;
                assert_eq!(whole.status, StatusCode::OK, "{path}");
                let range = [("range", "bytes=5000-7000")];
                let part = archive.get_with("program", path, &range).await;
                answers.push((whole.octets, whole.headers.get("etag").cloned(), part.octets));
            }
            answers
        };
        let before = all().await;
        assert_eq!(it.encrypt().await, Encrypted { files: 3, freed: 3, failed: 0 });
        assert_eq!(files(&archive.intake()), [] as [PathBuf; 0], "audio and sidecars are moved");
        it.nothing_is_plain();
        for file in files(&it.media()) {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{}", file.display());
        }
        assert!(all().await == before, "the same octets, tags, ranges and waves");
        it.nothing_is_plain();
        assert_eq!(it.encrypt().await, Encrypted::default());
        assert_eq!(archive.reconcile().await, Counts::default());
        assert_eq!(it.look(false).await, Counts::default());

        let anchors = || Anchors { vault: it.vault.clone(), ..Anchors::default() };
        let verified = verify(&*archive.catalogue, anchors(), i64::MIN).await.unwrap();
        assert_eq!((verified.files, verified.problems.as_slice()), (3, &[] as &[String]));
        // Looked at as if it was new, all stays as it is, the source too.
        assert_eq!(it.look(true).await, Counts { updated: 3, ..Counts::default() });
        let (call, recording) = archive.recording("pcma").await;
        let told = archive.get("super", &format!("/calls/{call}")).await.json();
        assert_eq!(told["recordings"][0]["source"], "uplink");
        assert_eq!(told["device"], "0c:11");

        // A changed bit is found, and not played.
        let file = path(&it.row(&recording).await.segments[0].file);
        let mut octets = std::fs::read(&file).unwrap();
        octets[3000] ^= 1;
        std::fs::write(&file, octets).unwrap();
        let verified = verify(&*archive.catalogue, anchors(), i64::MIN).await.unwrap();
        assert!(verified.problems[0].contains("altered or damaged"), "{:?}", verified.problems);
        let refused = archive.get("super", &format!("/recordings/{recording}/audio")).await;
        assert_eq!(refused.status, StatusCode::GONE);
        // And one that is gone is missing until it is back.
        let aside = file.with_extension("aside");
        std::fs::rename(&file, &aside).unwrap();
        assert_eq!(it.look(false).await.missing, 1);
        std::fs::rename(&aside, &file).unwrap();
        assert_eq!(it.look(false).await.missing, 0);
    });
}

#[test]
fn an_end_at_any_step_of_encryption_loses_nothing_and_leaves_no_plain_file() {
    run(async {
        let it = Sealed::new().await;
        let archive = &it.archive;
        let (_, recording) = archive.recording("pcma").await;
        let original = format!("/recordings/{recording}/original");
        let before = archive.get("program", &original).await.octets;
        let day = it.media().join("0c:11/2026-11-27");
        std::fs::create_dir_all(&day).unwrap();
        // In the middle of a copy; and when it was in place, before the catalogue knew of it.
        std::fs::write(day.join("Record_a.wav.age.part"), "half").unwrap();
        std::fs::write(day.join("Record_u.wav.age"), "of another end").unwrap();
        std::fs::write(day.join("Record_u.wav.age.json"), "{}").unwrap();
        // The catalogue knows of it, and the plain one is not removed yet.
        let plain: Vec<(PathBuf, Vec<u8>)> = files(&archive.intake())
            .into_iter()
            .map(|file| (file.clone(), std::fs::read(&file).unwrap()))
            .collect();
        assert_eq!(it.encrypt().await.files, 3);
        for (file, octets) in &plain {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, octets).unwrap();
        }
        let database = format!("sqlite:{}", archive.folder.path().join("catalogue.sqlite").display());
        let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
        let query = "INSERT INTO plain_copy (folder, name, recording)
                     SELECT f.key, replace(s.name, '.age', ''), s.recording FROM segment s, folder f
                     WHERE f.root LIKE '%intake' AND f.path LIKE '%11-27'";
        sqlx::query(query).execute(&pool).await.unwrap();
        // A look at the intake finds duplicates, and changes nothing.
        assert_eq!(archive.reconcile().await.duplicate, 3);
        assert_eq!(archive.get("program", &original).await.octets, before);
        assert_eq!(it.encrypt().await, Encrypted { files: 0, freed: 3, failed: 0 });
        assert_eq!(files(&archive.intake()), [] as [PathBuf; 0]);
        assert_eq!(archive.reconcile().await, Counts::default());
        assert_eq!(archive.get("program", &original).await.octets, before);
        it.nothing_is_plain();
        assert!(!day.join("Record_a.wav.age.part").exists());
        // Two do not encrypt at once.
        let first = it.encryptor(&it.vault);
        assert!(first.is_some() && it.encryptor(&it.vault).is_none());
    });
}

#[test]
fn a_plain_copy_of_an_encrypted_recording_goes_from_the_intake() {
    run(async {
        let it = Sealed::new().await;
        let day = it.archive.intake().join("0c:11/2026-11-27");
        let names = ["Record_a.wav", "Record_a.json"];
        let copies = names.map(|name| std::fs::read(day.join(name)).unwrap());
        it.encrypt().await;
        // Somebody copies it back, to another day's folder.
        let other = it.archive.intake().join("0c:11/2026-11-28");
        std::fs::create_dir_all(&other).unwrap();
        for (name, octets) in names.iter().zip(&copies) {
            std::fs::write(other.join(name), octets).unwrap();
        }
        assert_eq!(it.archive.reconcile().await, Counts { duplicate: 1, ..Counts::default() });
        assert_eq!(it.encrypt().await, Encrypted { files: 0, freed: 1, failed: 0 });
        assert_eq!(files(&it.archive.intake()), [] as [PathBuf; 0]);
        it.nothing_is_plain();
    });
}

#[test]
fn a_plain_file_that_is_still_to_go_stays_and_plays_if_its_encrypted_one_is_lost() {
    run(async {
        let it = Sealed::new().await;
        let archive = &it.archive;
        let (_, recording) = archive.recording("pcma").await;
        let original = format!("/recordings/{recording}/original");
        let before = archive.get("program", &original).await.octets;
        let plain: Vec<(PathBuf, Vec<u8>)> = files(&archive.intake())
            .into_iter()
            .map(|file| (file.clone(), std::fs::read(&file).unwrap()))
            .collect();
        assert_eq!(it.encrypt().await.files, 3);
        // As if the plain ones could not be removed.
        for (file, octets) in &plain {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, octets).unwrap();
        }
        let database = format!("sqlite:{}", archive.folder.path().join("catalogue.sqlite").display());
        let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
        let query = "INSERT INTO plain_copy (folder, name, recording)
                     SELECT f.key, replace(s.name, '.age', ''), s.recording FROM segment s, folder f
                     WHERE f.root LIKE '%intake' AND f.path LIKE '%11-27'";
        sqlx::query(query).execute(&pool).await.unwrap();
        let day = it.media().join("0c:11/2026-11-27");
        std::fs::remove_file(day.join("Record_a.wav.age")).unwrap();
        let kept = &plain.iter().find(|(file, _)| file.ends_with("Record_a.wav")).unwrap().0;
        assert_eq!(it.encrypt().await, Encrypted { files: 0, freed: 2, failed: 1 });
        assert!(kept.exists());
        // The looks at both folders find that out, and the plain file takes its place.
        assert_eq!(it.look(false).await.missing, 1);
        assert_eq!(archive.reconcile().await.updated, 1);
        assert_eq!(archive.get("program", &original).await.octets, before);
        // It is encrypted anew, and only then goes.
        assert_eq!(it.encrypt().await, Encrypted { files: 1, freed: 1, failed: 0 });
        assert!(!kept.exists());
        assert_eq!(archive.get("program", &original).await.octets, before);
        it.nothing_is_plain();
    });
}

#[test]
fn a_file_that_changed_since_it_was_taken_in_is_not_replaced_by_its_copy() {
    run(async {
        let it = Sealed::new().await;
        let file = it.archive.intake().join("0c:11/2026-11-27/Record_a.wav");
        let mut octets = std::fs::read(&file).unwrap();
        octets[100] ^= 1;
        std::fs::write(&file, &octets).unwrap();
        assert_eq!(it.encrypt().await, Encrypted { files: 2, freed: 2, failed: 1 });
        assert_eq!(std::fs::read(&file).unwrap(), octets);
    });
}

#[test]
fn holds_go_to_the_sidecars_of_encrypted_files_and_deletion_shreds_the_audio_in_every_copy() {
    run(async {
        let it = Sealed::new().await;
        let archive = &it.archive;
        let (call, recording) = archive.recording("pcma").await;
        archive.get("super", &format!("/recordings/{recording}/peaks")).await;
        let hold = json!({"name": "K-17", "reason": "court", "calls": [call]});
        let (status, placed) = archive.post("legal", "/holds", hold).await;
        assert_eq!(status, StatusCode::CREATED, "{placed}");
        it.encrypt().await;
        assert_eq!(holds::write(&*archive.catalogue).await.unwrap(), 1);
        let media = it.row(&recording).await;
        let file = path(&media.segments[0].file);
        let sidecar = std::fs::read_to_string(format!("{}.json", file.display())).unwrap();
        assert!(sidecar.contains("K-17") && sidecar.contains("4711"), "{sidecar}");
        let release = format!("/holds/{}/release", placed["id"].as_str().unwrap());
        for who in ["legal", "second"] {
            archive.post(who, &release, json!({"reason": "over"})).await;
        }
        assert_eq!(holds::write(&*archive.catalogue).await.unwrap(), 1);

        let (backup, wrapped) = (std::fs::read(&file).unwrap(), media.key.unwrap());
        archive.delete(&call).await;
        let later = clock::now_us() + 8 * DAY_US;
        assert_eq!(deletion::execute(&*archive.catalogue, &archive.derived(), later).await.unwrap(), 1);
        assert!(!file.exists());
        // Somebody puts the file back from a backup.
        std::fs::write(&file, backup).unwrap();
        std::fs::write(format!("{}.json", file.display()), sidecar).unwrap();
        assert_eq!(it.look(false).await.broken, 1);
        let reason = &archive.catalogue.quarantine(10).await.unwrap()[0].reason;
        assert!(reason.contains("its key is not in the catalogue"), "{reason}");
        // Nothing of the key is left in the database.
        let database = format!("sqlite:{}", archive.folder.path().join("catalogue.sqlite").display());
        let pool = sqlx::SqlitePool::connect(&database).await.unwrap();
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&pool).await.unwrap();
        for name in ["catalogue.sqlite", "catalogue.sqlite-wal"] {
            let octets = std::fs::read(archive.folder.path().join(name)).unwrap_or_default();
            assert!(!octets.windows(40).any(|part| part == &wrapped[60..100]), "{name}");
        }
    });
}

#[test]
fn keys_are_rotated_without_touching_audio_and_rotation_goes_on_where_it_ended() {
    run(async {
        let it = Sealed::new().await;
        let archive = &it.archive;
        it.encrypt().await;
        let (_, recording) = archive.recording("pcma").await;
        let before: Vec<_> = files(&it.media()).iter().map(|file| std::fs::read(file).unwrap()).collect();
        let old = it.vault.clone();
        let new = settings(it.keys.path(), "new");
        let lost = Vault::read(Some(&new)).unwrap();
        // Without the old identity nothing is changed, and it is told.
        let (count, problems) = rewrap(&*archive.catalogue, &lost, "test").await.unwrap();
        assert_eq!((count, problems.len()), (0, 3));
        assert!(problems[0].contains("can't be opened"), "{}", problems[0]);
        // Both identities in one file.
        let both =
            [&new.identity_file, &it.keys.path().join("identity")].map(|file| std::fs::read(file).unwrap());
        std::fs::write(&new.identity_file, both.concat()).unwrap();
        let vault = Vault::read(Some(&new)).unwrap();
        // It ended after one.
        let keys = archive.catalogue.keys_to_rewrap(i64::MIN, vault.label(), 1).await.unwrap();
        let (recording_key, wrapped) = keys[0].clone();
        let entry = crate::access::audit::Entry::new(1, "test", "key.rotate", "");
        let new_key = vault.wrap(&vault.unwrap(&wrapped).unwrap()).unwrap();
        let one =
            crate::catalogue::at_rest::Rewrapped { recording: recording_key, old: wrapped, new: new_key };
        assert_eq!(archive.catalogue.rewrap(&[one], vault.label(), &entry).await.unwrap(), 1);
        assert_eq!(rewrap(&*archive.catalogue, &vault, "test").await.unwrap(), (2, Vec::new()));
        assert_eq!(rewrap(&*archive.catalogue, &vault, "test").await.unwrap(), (0, Vec::new()));
        let totals = archive.catalogue.sealed_totals().await.unwrap();
        assert_eq!(totals.keys, [(vault.label().to_owned(), 3)]);
        let after: Vec<_> = files(&it.media()).iter().map(|file| std::fs::read(file).unwrap()).collect();
        assert!(before == after, "no file was touched");
        let media = it.row(&recording).await;
        let key = media.key.as_deref();
        assert!(old.open(&media.segments[0].file, key).is_err(), "the old key opens nothing any more");
        assert!(lost.open(&media.segments[0].file, key).is_ok(), "the new one does");
        let log = archive.catalogue.audit_newest(None, Some("test"), 10).await.unwrap();
        assert!(
            log.iter()
                .any(|link| link.entry.action == "key.rotate"
                    && link.entry.detail.contains("\"recordings\":2"))
        );
    });
}

#[test]
fn a_lost_or_wrong_identity_refuses_to_play_and_deletes_nothing() {
    run(async {
        let it = Sealed::new().await;
        it.encrypt().await;
        let before = files(&it.media());
        let wrong = Vault::read(Some(&settings(it.keys.path(), "wrong"))).unwrap();
        for vault in [wrong, Vault::default()] {
            let archive = &it.archive;
            let app = super::App::with_vault(
                Arc::clone(&archive.catalogue) as Arc<dyn Catalogue>,
                archive.app.config.clone(),
                vault.clone(),
            );
            let (_, recording) = archive.recording("pcma").await;
            for part in ["audio", "peaks", "original"] {
                let request = axum::http::Request::get(format!("/api/v1/recordings/{recording}/{part}"))
                    .header("authorization", "Bearer program");
                let request = request.body(axum::body::Body::empty()).unwrap();
                let answer =
                    tower::ServiceExt::oneshot(super::routes(Arc::clone(&app)), request).await.unwrap();
                // A wave that was made before is as secret, and as closed.
                assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{part}");
            }
            let catalogue = Arc::clone(&archive.catalogue) as Arc<dyn Catalogue>;
            let own = Intake::of_encrypted(catalogue, site(), it.media()).with_vault(vault.clone());
            let counts = own.reconcile(true).await.unwrap();
            assert_eq!(counts, Counts { busy: 3, ..Counts::default() }, "no fault of the files");
            assert_eq!(files(&it.media()), before);
        }
        assert_eq!(it.look(true).await.updated, 3);
    });
}

#[test]
fn a_package_with_files_as_they_are_stored_opens_with_stock_age() {
    run(async {
        let it = Sealed::new().await;
        let (_, recording) = it.archive.recording("g722").await;
        let original = it.archive.get("program", &format!("/recordings/{recording}/original")).await.octets;
        it.encrypt().await;
        let plain = it.archive.package(&json!({"q": "4711", "reason": "court"})).await;
        let folder = unpacked(&plain);
        assert!(run_in(folder.path(), "sha256sum", &["-c", "--quiet", "sha256sums.txt"]).status.success());
        let has_original = |file: &PathBuf| std::fs::read(file).unwrap() == original;
        assert_eq!(files(folder.path()).iter().filter(|file| has_original(file)).count(), 1);

        let stored = it.archive.package(&json!({"q": "4711", "reason": "court", "as_stored": true})).await;
        let folder = unpacked(&stored);
        let found = files(&folder.path().join("calls"));
        assert!(!found.iter().any(has_original));
        let name = recording[recording.len() - 8..].to_owned();
        let of = |ending: &str| {
            let fits = |file: &&PathBuf| file.to_string_lossy().ends_with(&format!("{name}{ending}"));
            found.iter().find(fits).unwrap().to_string_lossy().into_owned()
        };
        let decrypted =
            run_in(folder.path(), "age", &["-d", "-i", &of(".identity.txt"), &of(".original.wav.age")]);
        assert!(decrypted.status.success() && decrypted.stdout == original, "{:?}", decrypted.stderr);
    });
}
