//! Backups of an archive that encrypts, restored into another folder with the files that an administrator
//! still has.

use super::at_rest::{Sealed, files};
use super::{Anchors, App, Intake, routes, site, verify};
use crate::catalogue::Catalogue;
use crate::catalogue::sqlite::SqliteCatalogue;
use crate::config::Config;
use crate::jobs::backup::{backup, restore};
use crate::jobs::checkpoint::{key, public_key};
use crate::jobs::encrypt::{Encrypted, rewrap};
use crate::jobs::intake::Counts;
use crate::media::vault::tests::settings;
use crate::media::vault::{Encryption, Vault};
use crate::testing::run;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use recfile::seal::age::Recipient;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tower::ServiceExt;

/// An archive in another folder.
struct Elsewhere {
    folder: tempfile::TempDir,
    catalogue: Arc<SqliteCatalogue>,
}

impl Elsewhere {
    /// Restores a backup; the media that are said to be missing.
    async fn restored(from: &Path) -> (Self, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let (database, keys) = (folder.path().join("catalogue.sqlite"), folder.path().join("keys"));
        let (_, missing) = restore(from, &database, (&keys, &folder.path().join("media"))).await.unwrap();
        let catalogue = Arc::new(SqliteCatalogue::open(&database).await.unwrap());
        (Self { folder, catalogue }, missing)
    }

    fn media(&self) -> PathBuf {
        self.folder.path().join("media")
    }

    async fn get(&self, vault: &Vault, path: &str) -> (StatusCode, Vec<u8>) {
        let config = Config { data: self.folder.path().into(), site: site(), ..Config::default() };
        let app = App::with_vault(Arc::clone(&self.catalogue) as Arc<dyn Catalogue>, config, vault.clone());
        let request = Request::get(format!("/api/v1{path}")).header("authorization", "Bearer program");
        let answer = routes(app).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = answer.status();
        (status, to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    async fn look(&self, vault: &Vault, all: bool) -> Counts {
        let catalogue = Arc::clone(&self.catalogue) as Arc<dyn Catalogue>;
        let own = Intake::of_encrypted(catalogue, site(), self.media());
        own.with_vault(vault.clone()).reconcile(all).await.unwrap()
    }

    async fn problems(&self, vault: &Vault) -> Vec<String> {
        let key = public_key(&self.folder.path().join("keys")).unwrap();
        let anchors = Anchors { key, vault: vault.clone(), ..Anchors::default() };
        verify(&*self.catalogue, anchors, i64::MIN).await.unwrap().problems
    }
}

impl Sealed {
    /// A backup; its folder is gone with the archive's.
    async fn backup(&self, name: &str) -> PathBuf {
        let data = self.archive.folder.path();
        let (keys, to) = (data.join("keys"), self.keys.path().join(name));
        key(&keys).unwrap();
        let public = public_key(&keys).unwrap();
        backup(&*self.archive.catalogue, (&keys, &self.media()), public, &to).await.unwrap();
        to
    }
}

/// Copies a folder, as an administrator does.
fn copied(from: &Path, to: &Path) {
    for file in files(from) {
        let to = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(file, to).unwrap();
    }
}

#[test]
fn a_backup_of_an_archive_that_encrypts_plays_in_another_folder_with_the_identity_and_not_without() {
    run(async {
        let it = Sealed::new().await;
        it.encrypt().await;
        let (call, recording) = it.archive.recording("pcma").await;
        it.archive.hold(&call).await;
        let (audio, original) =
            (format!("/recordings/{recording}/audio"), format!("/recordings/{recording}/original"));
        let heard = it.archive.get("program", &audio).await.octets;
        let stored = it.archive.get("program", &original).await.octets;
        let from = it.backup("backup").await;
        let secret = std::fs::read(it.keys.path().join("identity")).unwrap();
        for file in files(&from) {
            let octets = std::fs::read(&file).unwrap();
            assert!(
                !octets.windows(secret.len() - 20).any(|part| part == &secret[20..]),
                "{}",
                file.display()
            );
        }
        // All of the machine is gone but the backup, a copy of the media, and one of the identity.
        let aside = tempfile::tempdir().unwrap();
        copied(&it.media(), aside.path());
        let moved = aside.path().join("identity elsewhere");
        std::fs::copy(it.keys.path().join("identity"), &moved).unwrap();
        std::fs::remove_dir_all(it.archive.folder.path()).unwrap();

        let (new, missing) = Elsewhere::restored(&from).await;
        assert_eq!(missing.len(), 3, "they are looked for in the new folder");
        assert!(missing.iter().all(|file| file.starts_with(new.media())), "{missing:?}");
        copied(&aside.path().join("0c:11"), &new.media().join("0c:11"));
        let recipients = vec![Recipient::parse(it.vault.label()).unwrap()];
        let vault = Vault::read(Some(&Encryption { recipients, identity_file: moved })).unwrap();
        assert_eq!(new.get(&vault, &audio).await, (StatusCode::OK, heard.clone()));
        assert_eq!(new.get(&vault, &original).await, (StatusCode::OK, stored.clone()));
        assert_eq!(new.problems(&vault).await, [""; 0]);
        // The copies have times of their own: they are looked at once, and all are where they are listed.
        assert_eq!(new.look(&vault, false).await, Counts { updated: 3, ..Counts::default() });
        assert_eq!(new.look(&vault, false).await, Counts::default());
        // A rebuild leaves ids and decisions.
        assert_eq!(new.look(&vault, true).await, Counts { updated: 3, ..Counts::default() });
        assert_eq!(new.get(&vault, &audio).await, (StatusCode::OK, heard.clone()));
        let (_, told) = new.get(&vault, &format!("/calls/{call}")).await;
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
        assert_eq!((&told["on_hold"], &told["device"]), (&json!(true), &json!("0c:11")));

        // Without the identity, or with another one, it is said, and nothing is touched.
        let other = Vault::read(Some(&settings(it.keys.path(), "other"))).unwrap();
        for (lost, said) in [(Vault::default(), "encryption.identity_file"), (other, "can't be opened")] {
            assert_eq!(new.get(&lost, &audio).await.0, StatusCode::SERVICE_UNAVAILABLE);
            let problems = new.problems(&lost).await;
            assert_eq!(problems.len(), 3, "{problems:?}");
            assert!(problems.iter().all(|problem| problem.contains(said)), "{problems:?}");
            assert_eq!(new.look(&lost, true).await, Counts { busy: 3, ..Counts::default() });
        }
        assert_eq!(new.get(&vault, &audio).await, (StatusCode::OK, heard));
    });
}

#[test]
fn a_backup_of_before_a_rotation_takes_the_old_identity_and_has_no_key_of_what_came_later() {
    run(async {
        let it = Sealed::new().await;
        it.encrypt().await;
        let (_, recording) = it.archive.recording("pcma").await;
        let audio = format!("/recordings/{recording}/audio");
        let heard = it.archive.get("program", &audio).await.octets;
        let from = it.backup("before").await;
        // Another identity; and a recording more.
        let new = settings(it.keys.path(), "new");
        let both = ["new", "identity"].map(|name| std::fs::read(it.keys.path().join(name)).unwrap());
        std::fs::write(&new.identity_file, both.concat()).unwrap();
        let with_both = Vault::read(Some(&new)).unwrap();
        rewrap(&*it.archive.catalogue, &with_both, "test").await.unwrap();
        let folder = it.archive.intake().join("0c:11/2026-11-27");
        crate::testing::record(&folder, "Record_later.wav", ::media::codec::Codec::Pcma, &[1; 1600], |_| {});
        assert_eq!(it.archive.reconcile().await.added, 1);
        let mut encryptor = it.encryptor(&with_both).unwrap();
        assert_eq!(encryptor.all().await.unwrap(), Encrypted { files: 1, freed: 1, failed: 0 });

        let (restored, _) = Elsewhere::restored(&from).await;
        copied(&it.media().join("0c:11"), &restored.media().join("0c:11"));
        std::fs::write(&new.identity_file, &both[0]).unwrap();
        let without_old = Vault::read(Some(&new)).unwrap();
        assert_eq!(restored.get(&without_old, &audio).await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(restored.get(&with_both, &audio).await, (StatusCode::OK, heard));
        assert_eq!(restored.problems(&with_both).await, [""; 0]);
        // Nobody can open files encrypted after the backup: the archive reports them.
        let counts = restored.look(&with_both, false).await;
        assert_eq!(counts, Counts { updated: 3, broken: 1, ..Counts::default() });
        let reason = &restored.catalogue.quarantine(10).await.unwrap()[0].reason;
        assert!(reason.contains("its key is not in the catalogue"), "{reason}");
        // A rebuild of nothing but media has no key at all, and says so of each file.
        let empty = tempfile::tempdir().unwrap();
        let catalogue =
            Arc::new(SqliteCatalogue::open(&empty.path().join("catalogue.sqlite")).await.unwrap());
        let none = Elsewhere { folder: empty, catalogue };
        copied(&it.media().join("0c:11"), &none.media().join("0c:11"));
        assert_eq!(none.look(&with_both, true).await, Counts { broken: 4, ..Counts::default() });
    });
}
