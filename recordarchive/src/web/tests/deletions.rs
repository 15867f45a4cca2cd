//! Deletions: two people, a week, and never a call with a hold.

use super::Archive;
use crate::access::Condition;
use crate::access::audit::Entry;
use crate::catalogue::Catalogue;
use crate::catalogue::model::{Decision, Released, Scope, Verdict};
use crate::catalogue::sqlite::SqliteCatalogue;
use crate::clock;
use crate::id::Id;
use crate::jobs::deletion::{execute, remove};
use crate::media::derived::Store;
use crate::testing::{found, run};
use crate::time::DAY_US;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::path::Path;

impl Archive {
    /// Has one person ask for the deletion of a call and another one approve; its id.
    pub(super) async fn delete(&self, call: &str) -> String {
        let (status, asked) =
            self.post("legal", "/deletions", json!({"calls": [call], "reason": "wish"})).await;
        assert_eq!((status, &asked["state"]), (StatusCode::CREATED, &json!("pending")), "{asked}");
        let id = asked["id"].as_str().unwrap().to_owned();
        let (status, approved) = self.post("second", &format!("/deletions/{id}/approve"), json!({})).await;
        assert_eq!((status, &approved["state"]), (StatusCode::OK, &json!("approved")), "{approved}");
        id
    }

    pub(super) fn derived(&self) -> Store {
        Store::new(self.folder.path()).with_vault(self.app.vault.clone())
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.intake().join("0c:11/2026-11-27")).unwrap().count()
    }
}

pub(super) fn later() -> i64 {
    clock::now_us() + 8 * DAY_US
}

#[test]
fn deletion_takes_two_people_and_a_week_and_leaves_a_tombstone() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, recording) = archive.recording("pcma").await;
        archive.get("super", &format!("/recordings/{recording}/peaks")).await;
        let ask = || json!({"calls": [call], "reason": "wish"});
        for who in ["agent", "super", "invest", "auditor", "admin", "program"] {
            assert_eq!(archive.post(who, "/deletions", ask()).await.0, StatusCode::FORBIDDEN, "{who}");
            assert_eq!(archive.get(who, "/deletions").await.status, StatusCode::FORBIDDEN, "{who}");
        }
        assert_eq!(archive.post("branch", "/deletions", ask()).await.0, StatusCode::NOT_FOUND);
        assert_eq!(
            archive.post("legal", "/deletions", json!({"calls": [], "reason": "x"})).await.0,
            StatusCode::BAD_REQUEST
        );
        assert_eq!(archive.get("legal", "/deletions").await.json()["deletions"], json!([]));
        let (_, asked) = archive.post("legal", "/deletions", ask()).await;
        let path = format!("/deletions/{}", asked["id"].as_str().unwrap());
        for step in ["approve", "reject"] {
            let refused = archive.post("legal", &format!("{path}/{step}"), Value::Null).await;
            assert_eq!(refused.0, StatusCode::CONFLICT, "{step}");
            assert_eq!(
                archive.post("branch", &format!("{path}/{step}"), json!({})).await.0,
                StatusCode::NOT_FOUND
            );
        }
        assert_eq!(
            archive.post("second", &format!("{path}/reject"), json!({"reason": "no"})).await.0,
            StatusCode::OK
        );
        assert_eq!(
            archive.post("second", &format!("{path}/approve"), json!({})).await.0,
            StatusCode::CONFLICT
        );

        let id = archive.delete(&call).await;
        assert_eq!(archive.get("super", "/calls?q=codec:pcma").await.json()["calls"], json!([]));
        assert_eq!(archive.get("super", &format!("/calls/{call}")).await.status, StatusCode::NOT_FOUND);
        let audio = archive.get("super", &format!("/recordings/{recording}/audio")).await;
        assert_eq!(audio.status, StatusCode::NOT_FOUND);
        let note = archive.post("super", &format!("/calls/{call}/notes"), json!({"text": "n"})).await;
        assert_eq!(note.0, StatusCode::NOT_FOUND);
        let shown = archive.get("legal", &format!("/calls/{call}")).await.json();
        assert_eq!((&shown["state"], &shown["delete_why"]), (&json!("trash"), &json!("wish")));
        assert!(shown["delete_due"].is_string());
        let restored = archive.post("legal", &format!("/deletions/{id}/restore"), Value::Null).await;
        assert_eq!(
            (restored.0, &restored.1["state"]),
            (StatusCode::OK, &json!("restored")),
            "{}",
            restored.1
        );
        assert_eq!(archive.get("super", &format!("/calls/{call}")).await.json()["state"], "sealed");

        let id = archive.delete(&call).await;
        assert_eq!(execute(&*archive.catalogue, &archive.derived(), clock::now_us()).await.unwrap(), 0);
        assert_eq!(archive.files(), 6);
        assert_eq!(execute(&*archive.catalogue, &archive.derived(), later()).await.unwrap(), 1);
        assert_eq!(archive.files(), 4);
        assert_eq!(archive.get("legal", &format!("/calls/{call}")).await.status, StatusCode::NOT_FOUND);
        let listed = archive.get("legal", "/deletions").await.json();
        assert_eq!(
            (&listed["deletions"][0]["id"], &listed["deletions"][0]["state"]),
            (&json!(id), &json!("done"))
        );
        let about = archive.actions(&call).await;
        assert_eq!(about[about.len() - 4..], ["delete.ask", "trash", "delete.begin", "delete"], "{about:?}");
        assert!(archive.reconcile().await.missing == 0, "nothing is missed");
        assert_eq!(archive.catalogue.check().await.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn deletion_of_a_held_call_is_refused_at_each_step() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let ask = || json!({"calls": [call], "reason": "wish"});
        let release = async |hold: &str| {
            for who in ["legal", "second"] {
                archive.post(who, &format!("/holds/{hold}/release"), json!({"reason": "r"})).await;
            }
        };
        let hold = archive.hold(&call).await;
        let (status, problem) = archive.post("legal", "/deletions", ask()).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(problem["detail"].as_str().unwrap().contains("Smith"), "{problem}");
        release(&hold).await;
        let (_, asked) = archive.post("legal", "/deletions", ask()).await;
        let approve = format!("/deletions/{}/approve", asked["id"].as_str().unwrap());
        let hold = archive.hold(&call).await;
        assert_eq!(archive.post("second", &approve, json!({})).await.0, StatusCode::CONFLICT);
        release(&hold).await;
        assert_eq!(archive.post("second", &approve, json!({})).await.0, StatusCode::OK);
        let hold = archive.hold(&call).await;
        assert_eq!(execute(&*archive.catalogue, &archive.derived(), later()).await.unwrap(), 0);
        // A hold in the sidecar alone keeps it, too.
        assert_eq!(crate::jobs::holds::write(&*archive.catalogue).await.unwrap(), 1);
        release(&hold).await;
        assert_eq!(execute(&*archive.catalogue, &archive.derived(), later() + DAY_US).await.unwrap(), 0);
        assert_eq!(archive.files(), 6);
        assert_eq!(crate::jobs::holds::write(&*archive.catalogue).await.unwrap(), 1);
        assert_eq!(execute(&*archive.catalogue, &archive.derived(), later() + 2 * DAY_US).await.unwrap(), 1);
        assert_eq!(archive.files(), 4);
    });
}

#[test]
fn deletion_goes_on_after_an_end_between_any_two_steps() {
    run(async {
        for step in 0..4 {
            let archive = Archive::new().await;
            archive.fill().await;
            let (call, _) = archive.recording("pcma").await;
            let id = archive.delete(&call).await;
            let doomed = archive.catalogue.doomed(later(), 10).await.unwrap().remove(0);
            let folder = archive.intake().join("0c:11/2026-11-27");
            if step > 0 {
                assert!(
                    archive.catalogue.begin_deletions(std::slice::from_ref(&doomed), later()).await.unwrap()
                        [0]
                );
            }
            match step {
                2 => std::fs::remove_file(folder.join("Record_a.wav")).unwrap(),
                3 => remove(&doomed, &archive.derived()).unwrap(),
                _ => {}
            }
            // From the intent on nothing leads back, and a look at the folder brings nothing.
            archive.reconcile().await;
            let restored = archive.post("legal", &format!("/deletions/{id}/restore"), json!({})).await;
            let hold = json!({"name": "n", "reason": "r", "calls": [call]});
            if step > 0 {
                assert_eq!(restored.0, StatusCode::CONFLICT, "{step}");
                assert_eq!(archive.post("legal", "/holds", hold).await.0, StatusCode::CONFLICT, "{step}");
            } else {
                assert_eq!(restored.0, StatusCode::OK);
                archive.delete(&call).await;
            }
            // Another process, as after a crash.
            let anew = SqliteCatalogue::open(&archive.folder.path().join("catalogue.sqlite")).await.unwrap();
            assert_eq!(execute(&anew, &archive.derived(), later()).await.unwrap(), 1, "{step}");
            assert_eq!(execute(&anew, &archive.derived(), later()).await.unwrap(), 0, "{step}");
            assert_eq!(archive.files(), 4, "{step}");
        }
    });
}

#[test]
fn deletion_is_for_good_and_a_copy_is_not_taken_in_again() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let folder = archive.intake().join("0c:11/2026-11-27");
        let copies: Vec<(_, Vec<u8>)> = ["Record_a.wav", "Record_a.json"]
            .into_iter()
            .map(|name| (folder.join(name), std::fs::read(folder.join(name)).unwrap()))
            .collect();
        archive.delete(&call).await;
        assert_eq!(execute(&*archive.catalogue, &archive.derived(), later()).await.unwrap(), 1);
        for (path, octets) in copies {
            std::fs::write(path, octets).unwrap();
        }
        assert_eq!(archive.reconcile().await.added, 0);
        let reasons = archive.catalogue.quarantine(10).await.unwrap();
        assert!(reasons.len() == 1 && reasons[0].reason.contains("deleted"), "{reasons:?}");
        assert_eq!(archive.get("super", "/calls?q=codec:pcma").await.json()["calls"], json!([]));
    });
}

#[test]
fn deletion_has_a_page_for_who_decides() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let ask = json!({"calls": [call], "reason": "a <b>wish"});
        archive.post("legal", "/deletions", ask).await;
        let (legal, second) = (archive.log_in("legal").await, archive.log_in("second").await);
        let (_, text) = archive.page(&legal, "/deletions").await;
        assert!(text.contains(&call) && !text.contains("/approve") && !text.contains("<b>"), "{text}");
        let (_, text) = archive.page(&second, "/deletions").await;
        assert!(text.contains("/approve") && text.contains("/reject"), "{text}");
        let (_, text) = archive.page(&second, &format!("/calls/{call}")).await;
        assert!(text.contains("Ask for deletion"), "{text}");
    });
}

/// A small generator of chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// Ten thousand steps by chance: no call that a hold keeps begins to go.
#[test]
fn deletion_by_chance_never_takes_a_held_call() {
    run(async {
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let catalogue = crate::testing::catalogue(folder.path()).await;
        let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
        let mut calls: Vec<Id> = Vec::new();
        let mut held: HashMap<Id, HashSet<Id>> = HashMap::new();
        let (mut holds, mut deletions): (Vec<(Id, Id)>, Vec<Id>) = (Vec::new(), Vec::new());
        let (mut number, mut gone, mut refused) = (0, 0, 0);
        let mut now_us = crate::testing::NOW_US;
        for _ in 0..10_000 {
            now_us += DAY_US / 8;
            let who = ["anna", "otto"][chance.below(2)];
            let entry = Entry::new(now_us, who, "test", "");
            if calls.len() < 6 {
                number += 1;
                let taken = catalogue.take(&[found(number, "4711", "201")]).await.unwrap();
                assert!(matches!(taken[0], crate::catalogue::model::Taken::Added { .. }));
                let query = crate::query::Query::default();
                let search = crate::catalogue::model::Search {
                    query,
                    from_us: 0,
                    to_us: i64::MAX,
                    behind: None,
                    limit: 1,
                };
                let page = catalogue.search(&search, &Condition::All).await.unwrap();
                calls.push(Id::parse(&page.calls[0].id).unwrap());
                continue;
            }
            let call = calls[chance.below(calls.len())];
            match chance.below(12) {
                0 => {
                    let id = Id::random(now_us);
                    let decision = Decision { id: id.to_string(), name: "h".into(), ..Decision::default() };
                    let scope = Scope::Calls(vec![call]);
                    match catalogue.place_hold(&decision, &scope, &Condition::All, &entry).await {
                        Ok(Some(_)) => {
                            held.entry(call).or_default().insert(id);
                            holds.push((id, call));
                        }
                        Ok(None) => panic!("the call is there"),
                        Err(_) => refused += 1,
                    }
                }
                1..=4 if !holds.is_empty() => {
                    let at = chance.below(holds.len());
                    let (id, call) = holds[at];
                    let released = catalogue.release_hold(id, "r", &Condition::All, &entry).await.unwrap();
                    if matches!(released, Some(Released::Done(_))) {
                        held.get_mut(&call).unwrap().remove(&id);
                        holds.swap_remove(at);
                    }
                }
                5 | 6 => {
                    let id = Id::random(now_us);
                    match catalogue.ask_deletion(id, &[call], "r", &Condition::All, &entry).await {
                        Ok(_) => deletions.push(id),
                        Err(_) => refused += 1,
                    }
                }
                7..=9 if !deletions.is_empty() => {
                    let id = deletions[chance.below(deletions.len())];
                    let verdict = [Verdict::Approve, Verdict::Approve, Verdict::Approve, Verdict::Restore]
                        [chance.below(4)];
                    let decided = catalogue.decide_deletion(id, verdict, "", &Condition::All, &entry).await;
                    refused += usize::from(decided.is_err());
                }
                _ => {
                    for doomed in catalogue.doomed(now_us, 2).await.unwrap() {
                        let begun =
                            catalogue.begin_deletions(std::slice::from_ref(&doomed), now_us).await.unwrap()
                                [0];
                        let is_held = held.get(&doomed.id).is_some_and(|holds| !holds.is_empty());
                        assert!(!(begun && is_held), "call {} is held", doomed.id);
                        // Half of the time it ends here, as by a crash.
                        if begun && chance.below(2) == 0 {
                            assert!(
                                catalogue
                                    .finish_deletions(std::slice::from_ref(&doomed), now_us)
                                    .await
                                    .unwrap()[0]
                            );
                            calls.retain(|call| *call != doomed.id);
                            gone += 1;
                        }
                    }
                }
            }
            if deletions.len() > 8 {
                deletions.remove(0);
            }
        }
        assert!(gone > 20 && refused > 100, "{gone} {refused}");
        for (call, holds) in held.iter().filter(|(_, holds)| !holds.is_empty()) {
            assert!(catalogue.call(*call, &Condition::All).await.unwrap().is_some(), "{holds:?}");
        }
    });
}

#[test]
fn deletion_of_one_call_that_cannot_go_keeps_no_other_from_it() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let folder = archive.intake().join("0c:11/2026-11-27");
        for codec in ["pcma", "pcmu", "g722"] {
            let (call, _) = archive.recording(codec).await;
            archive.delete(&call).await;
        }
        let path = folder.join("Record_a.wav");
        std::fs::rename(&path, archive.folder.path().join("away")).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(execute(&*archive.catalogue, &archive.derived(), later()).await.unwrap(), 2);
        assert_eq!(archive.files(), 2, "the file that can't be removed, and its sidecar");
        assert_eq!(
            execute(&*archive.catalogue, &archive.derived(), later()).await.unwrap(),
            0,
            "not at once"
        );
        std::fs::remove_dir(&path).unwrap();
        let then = later() + DAY_US / 12;
        assert_eq!(execute(&*archive.catalogue, &archive.derived(), then).await.unwrap(), 1);
        assert_eq!(archive.files(), 0);
    });
}
