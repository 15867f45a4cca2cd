//! Each kind of tampering, by somebody who can write the database and keeps its rules, is found.

use super::Archive;
use crate::access::audit::{Entry, GENESIS, Link};
use crate::access::checkpoint::Signed;
use crate::access::site_key::PublicKey;
use crate::catalogue::Catalogue;
use crate::jobs::checkpoint::{Checkpoints, SecondPlace, key, public_key};
use crate::jobs::verify::{Anchors, verify};
use crate::media::vault::Media;
use crate::testing::run;
use axum::http::StatusCode;
use sqlx::SqlitePool;
use std::sync::Arc;

/// An archive with two checkpoints, a copy of both, and entries behind them.
struct Watched {
    archive: Archive,
    pool: SqlitePool,
    anchors: Anchors,
}

impl Watched {
    async fn new() -> Self {
        let archive = Archive::new().await;
        archive.fill().await;
        let keys = archive.folder.path().join("keys");
        let second = SecondPlace::new(archive.folder.path().join("elsewhere"));
        let catalogue = Arc::clone(&archive.catalogue) as Arc<dyn Catalogue>;
        let mut checkpoints = Checkpoints::new(catalogue, key(&keys).unwrap(), Some(second.clone()));
        checkpoints.make().await.unwrap();
        for n in 0..5 {
            archive.catalogue.log(&[Entry::new(n, "anna", "play", n)]).await.unwrap();
        }
        checkpoints.make().await.unwrap();
        // Nothing happened: none is made.
        checkpoints.make().await.unwrap();
        archive.catalogue.log(&[Entry::new(9, "otto", "view", 9)]).await.unwrap();
        let path = archive.folder.path().join("catalogue.sqlite");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let pool = SqlitePool::connect_with(options).await.unwrap();
        let anchors = Anchors { key: public_key(&keys).unwrap(), second: Some(second), ..Anchors::default() };
        let watched = Self { archive, pool, anchors };
        assert_eq!(watched.problems().await, [""; 0]);
        watched
    }

    async fn problems(&self) -> Vec<String> {
        verify(&*self.archive.catalogue, self.anchors.clone(), i64::MIN).await.unwrap().problems
    }

    async fn sql(&self, text: &'static str) {
        sqlx::raw_sql(text).execute(&self.pool).await.unwrap();
    }

    /// Writes the whole log anew, as one chain without a fault.
    async fn rewrite(&self, change: impl FnOnce(&mut Vec<Link>)) {
        let mut links = self.archive.catalogue.audit(0, 1000).await.unwrap();
        change(&mut links);
        self.sql("DROP TRIGGER audit_remains; DELETE FROM audit").await;
        let mut head = GENESIS.to_vec();
        for (seq, link) in (1_i64..).zip(&links) {
            let (entry, hash) = (&link.entry, link.entry.hash(seq, &head).to_vec());
            let query = sqlx::query("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)");
            let query = query.bind(seq).bind(entry.at_us).bind(&entry.actor).bind(&entry.action);
            let query = query.bind(&entry.object).bind(&entry.result).bind(&entry.detail);
            query.bind(&head).bind(&hash).execute(&self.pool).await.unwrap();
            head = hash;
        }
    }
}

fn told(problems: &[String], wanted: &str) {
    assert!(problems.iter().any(|problem| problem.contains(wanted)), "{wanted}: {problems:?}");
}

#[test]
fn a_log_that_was_written_anew_is_not_the_one_that_was_signed() {
    run(async {
        for (what, change) in [
            ("changed", (|links| links[9].entry.actor = "otto".into()) as fn(&mut Vec<Link>)),
            ("removed", |links| drop(links.remove(9))),
            ("inserted", |links| links.insert(9, links[2].clone())),
            ("reordered", |links| links.swap(7, 9)),
        ] {
            let watched = Watched::new().await;
            watched.rewrite(change).await;
            let problems = watched.problems().await;
            assert_eq!(
                problems,
                [
                    "checkpoint 1: the audit log was another one up to there",
                    "checkpoint 2: the audit \
                                   log was another one up to there"
                ],
                "{what}"
            );
        }
    });
}

#[test]
fn an_end_that_was_cut_off_is_missed_here_and_by_the_second_place() {
    run(async {
        let watched = Watched::new().await;
        watched.rewrite(|links| links.truncate(links.len() - 3)).await;
        let problems = watched.problems().await;
        told(&problems, "checkpoint 2 knows of");
        told(&problems, "the second place knows of");
        // Without its checkpoints the log looks whole.
        watched.sql("DELETE FROM checkpoint WHERE number = 2").await;
        let alone = Anchors { second: None, ..watched.anchors.clone() };
        let verified = verify(&*watched.archive.catalogue, alone, i64::MIN).await.unwrap();
        assert_eq!(verified.problems, [""; 0]);
        let problems = watched.problems().await;
        told(&problems, "checkpoint 2: only the second place has it");
        told(&problems, "the second place knows of");
    });
}

#[test]
fn checkpoints_of_another_key_or_changed_ones_do_not_fit() {
    run(async {
        let watched = Watched::new().await;
        let all = watched.archive.catalogue.checkpoints(0, 10).await.unwrap();
        assert_eq!(all.len(), 2);
        let other = key(&watched.archive.folder.path().join("other")).unwrap();
        let forged = all[1].read().unwrap().sign(&other);
        let set = async |signed: &Signed| {
            let query = sqlx::query("UPDATE checkpoint SET text = ?, signature = ? WHERE number = 2");
            query.bind(&signed.text).bind(&signed.signature).execute(&watched.pool).await.unwrap();
        };
        set(&forged).await;
        assert_eq!(watched.problems().await, ["checkpoint 2: it is not signed by the key of this site"]);
        let mut said = all[1].read().unwrap();
        said.entries -= 1;
        // Even with the key itself the second place has the other one.
        let own = key(&watched.archive.folder.path().join("keys")).unwrap();
        set(&said.sign(&own)).await;
        told(&watched.problems().await, "checkpoint 2: the second place has another one");
    });
}

#[test]
fn a_recording_that_was_changed_is_found_even_where_the_catalogue_was_changed_with_it() {
    run(async {
        let watched = Watched::new().await;
        let file = watched.archive.intake().join("0c:11/2026-11-27/Record_a.wav");
        let mut octets = std::fs::read(&file).unwrap();
        octets[100] ^= 1;
        std::fs::write(&file, octets).unwrap();
        told(&watched.problems().await, "not what was taken in");
        let hash = crate::media::look::hash_again(Media::Plain(std::fs::File::open(&file).unwrap())).unwrap();
        watched.sql("DROP TRIGGER sealed_stays; DROP TRIGGER sealed_remains").await;
        // The hash that was sealed is the only one that the catalogue has.
        watched.sql("PRAGMA foreign_keys = OFF; UPDATE sealed SET seq = -seq").await;
        told(&watched.problems().await, "its hash is not the one that was sealed");
        watched.sql("UPDATE sealed SET seq = -seq").await;
        let query = "UPDATE sealed SET sha256 = ? WHERE seq = (SELECT sealed FROM segment WHERE name = 'Record_a.wav')";
        sqlx::query(query).bind(&hash[..]).execute(&watched.pool).await.unwrap();
        assert_eq!(
            watched.problems().await,
            ["checkpoint 1: what was sealed since the one before was changed"]
        );
    });
}

#[test]
fn the_newest_checkpoint_is_given_to_those_who_read_the_log() {
    run(async {
        let empty = Archive::new().await;
        assert_eq!(empty.get("auditor", "/audit/checkpoint").await.status, StatusCode::NOT_FOUND);
        let watched = Watched::new().await;
        assert_eq!(watched.archive.get("agent", "/audit/checkpoint").await.status, StatusCode::FORBIDDEN);
        let answer = watched.archive.get("auditor", "/audit/checkpoint").await.json();
        assert_eq!(answer["number"], 2);
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        let signed = Signed { text: text("text"), signature: text("signature") };
        let public = PublicKey::parse(&text("public_key")).unwrap();
        assert!(signed.is_by(&public) && Some(public) == watched.anchors.key);
    });
}

#[test]
fn a_second_place_that_was_away_gets_the_checkpoints_it_missed() {
    run(async {
        let archive = Archive::new().await;
        let keys = archive.folder.path().join("keys");
        let folder = archive.folder.path().join("elsewhere");
        // In place of the folder there is something else.
        std::fs::write(&folder, "").unwrap();
        let catalogue = Arc::clone(&archive.catalogue) as Arc<dyn Catalogue>;
        let second = SecondPlace::new(folder.clone());
        let mut checkpoints = Checkpoints::new(catalogue, key(&keys).unwrap(), Some(second.clone()));
        for n in 0..3 {
            archive.catalogue.log(&[Entry::new(n, "anna", "play", n)]).await.unwrap();
            assert!(checkpoints.make().await.unwrap_err().contains("elsewhere"));
        }
        std::fs::remove_file(&folder).unwrap();
        checkpoints.make().await.unwrap();
        let (copies, wrong) = second.all().unwrap();
        assert_eq!((copies.len(), wrong.len()), (3, 0));
        checkpoints.make().await.unwrap();
        assert_eq!(second.all().unwrap().0.len(), 3);
    });
}
