//! Policies: who sets them, the second person, their effect on calls, and that no call goes that must stay.

use super::Archive;
use crate::clock;
use crate::jobs::deletion::{self, execute};
use crate::jobs::retention::{Walked, apply};
use crate::testing::run;
use crate::time::{DAY_US, rfc3339};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use std::path::PathBuf;

impl Archive {
    async fn put(&self, who: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::put(format!("/api/v1{path}")).header("authorization", format!("Bearer {who}"));
        let answer = self.ask(request.body(Body::from(body.to_string())).unwrap()).await;
        (answer.status, answer.json())
    }

    /// Has two people put policies in force.
    pub(super) async fn set_policies(&self, policies: Value) {
        let (_, seen) = self.post("legal", "/policies/preview", json!({"policies": policies})).await;
        let body = json!({"policies": policies, "reason": "rule 7", "preview": seen["preview"]});
        let (status, set) = self.put("legal", "/policies", body).await;
        if status == StatusCode::ACCEPTED {
            let path = format!("/policies/{}/approve", set["proposal"]["id"].as_str().unwrap());
            assert_eq!(self.post("second", &path, Value::Null).await.0, StatusCode::OK);
        } else {
            assert_eq!(status, StatusCode::OK, "{set}");
        }
    }
}

fn days(days: i64) -> i64 {
    clock::now_us() + days * DAY_US
}

#[test]
fn policies_are_set_by_one_person_and_shortened_by_two_with_a_preview() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let policies = json!([{"name": "all", "keep_days": 10, "delete_after_days": 90}]);
        let body = || json!({"policies": policies, "reason": "rule 7"});
        for who in ["agent", "super", "invest", "auditor", "admin", "program", "branch"] {
            assert_eq!(archive.put(who, "/policies", body()).await.0, StatusCode::FORBIDDEN, "{who}");
            assert_eq!(
                archive.post(who, "/policies/preview", body()).await.0,
                StatusCode::FORBIDDEN,
                "{who}"
            );
        }
        assert_eq!(archive.get("auditor", "/policies").await.json()["version"], 0);
        assert_eq!(archive.get("super", "/policies").await.status, StatusCode::FORBIDDEN);
        for (wrong, told) in [
            (json!({"policies": policies}), "reason"),
            (json!({"policies": [{"name": "a", "keep": 1}], "reason": "r"}), "keep_days"),
            (
                json!({"policies": [{"name": "a", "keep_days": 9, "delete_after_days": 3}], "reason": "r"}),
                "not less",
            ),
        ] {
            let (status, problem) = archive.put("legal", "/policies", wrong).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert!(problem["detail"].as_str().unwrap().contains(told), "{problem}");
        }
        // Calls would go that nothing deleted before: without a look at which it is refused.
        let (status, problem) = archive.put("legal", "/policies", body()).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(problem["detail"].as_str().unwrap().contains("preview"), "{problem}");
        let (_, seen) = archive.post("legal", "/policies/preview", body()).await;
        assert_eq!((&seen["shortens"], &seen["calls"]), (&json!(true), &json!(0)), "{seen}");
        assert_eq!(seen["earlier"]["calls"], 3);
        let mut body = body();
        body["preview"] = seen["preview"].clone();
        let (status, waits) = archive.put("legal", "/policies", body.clone()).await;
        assert_eq!(
            (status, &waits["version"], &waits["policies"]),
            (StatusCode::ACCEPTED, &json!(0), &json!([]))
        );
        assert_eq!(waits["proposal"]["preview"]["earlier"]["calls"], 3);
        let path = format!("/policies/{}", waits["proposal"]["id"].as_str().unwrap());
        assert_eq!(
            archive.post("legal", &format!("{path}/approve"), Value::Null).await.0,
            StatusCode::CONFLICT
        );
        assert_eq!(
            archive.post("branch", &format!("{path}/approve"), Value::Null).await.0,
            StatusCode::FORBIDDEN
        );
        assert_eq!(archive.put("second", "/policies", body).await.0, StatusCode::CONFLICT, "one waits");
        let (status, set) = archive.post("second", &format!("{path}/approve"), Value::Null).await;
        assert_eq!(
            (status, &set["version"], &set["approved_by"]),
            (StatusCode::OK, &json!(1), &json!("second"))
        );
        assert_eq!((&set["proposal"], &set["set"]["by"]), (&Value::Null, &json!("legal")));
        assert_eq!(
            archive.post("second", &format!("{path}/approve"), Value::Null).await.0,
            StatusCode::NOT_FOUND
        );

        // Longer takes one person; of an older version it is refused.
        let longer = json!({"policies": [{"name": "all", "keep_days": 10, "delete_after_days": 91}],
            "reason": "r", "version": 0});
        assert_eq!(archive.put("second", "/policies", longer.clone()).await.0, StatusCode::CONFLICT);
        let longer = json!({"policies": longer["policies"], "reason": "r", "version": 1});
        assert_eq!(archive.put("second", "/policies", longer).await.0, StatusCode::OK);
        // A waiting proposal can be taken back.
        let shorter = json!({"policies": [{"name": "all", "delete_after_days": 3}], "reason": "r"});
        let (_, seen) = archive.post("legal", "/policies/preview", shorter.clone()).await;
        let body = json!({"policies": shorter["policies"], "reason": "r", "preview": seen["preview"]});
        let (_, waits) = archive.put("legal", "/policies", body).await;
        let path = format!("/policies/{}/reject", waits["proposal"]["id"].as_str().unwrap());
        assert_eq!(archive.post("legal", &path, Value::Null).await.1["proposal"], Value::Null);
        let entries = archive.catalogue_actions().await;
        let policy: Vec<&str> = entries
            .iter()
            .map(String::as_str)
            .filter(|action| action.starts_with("policy.") && *action != "policy.preview")
            .collect();
        assert_eq!(policy, ["policy.ask", "policy.approve", "policy.set", "policy.ask", "policy.reject"]);
    });
}

impl Archive {
    async fn catalogue_actions(&self) -> Vec<String> {
        use crate::catalogue::Catalogue;
        self.catalogue.audit(0, 10_000).await.unwrap().into_iter().map(|link| link.entry.action).collect()
    }
}

#[test]
fn policies_tell_of_each_call_when_it_goes_and_why_and_it_goes_then() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (kept, _) = archive.recording("pcma").await;
        let (call, recording) = archive.recording("pcmu").await;
        archive.put("super", &format!("/calls/{kept}/tags"), json!({"tags": ["complaint"]})).await;
        archive
            .set_policies(json!([
                {"name": "complaints", "tag": "complaint", "keep_days": 3650},
                {"name": "desk", "extensions": ["201"], "keep_days": 5, "delete_after_days": 90},
            ]))
            .await;
        let shown = archive.get("agent", &format!("/calls/{call}")).await.json();
        let started = crate::time::parse(shown["started"].as_str().unwrap()).unwrap();
        assert_eq!(shown["delete_due"], json!(rfc3339(started + 90 * DAY_US)));
        assert_eq!(shown["delete_why"], "policy \"desk\"");
        let words = shown["retention"].as_str().unwrap();
        assert!(words.contains("at least, by policy \"desk\"") && words.contains("trash"), "{words}");
        let shown = archive.get("agent", &format!("/calls/{kept}")).await.json();
        assert_eq!((&shown["delete_due"], &shown["delete_why"]), (&Value::Null, &Value::Null));
        let ask = json!({"calls": [kept], "reason": "wish"});
        let (status, problem) = archive.post("legal", "/deletions", ask).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(problem["detail"].as_str().unwrap().contains("complaints"), "{problem}");

        // The tag by which it is kept can't be taken off, and others can.
        let tags = |tags: Value| json!({"tags": tags});
        let path = format!("/calls/{kept}/tags");
        let (status, problem) = archive.put("super", &path, tags(json!([]))).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(problem["detail"].as_str().unwrap().contains("complaints"), "{problem}");
        assert_eq!(archive.put("super", &path, tags(json!(["complaint", "vip"]))).await.0, StatusCode::OK);
        assert_eq!(archive.put("super", &path, tags(json!(["complaint"]))).await.0, StatusCode::OK);
        let (held, _) = archive.recording("g722").await;
        archive.hold(&held).await;
        let shown = archive.get("agent", &format!("/calls/{held}")).await.json();
        assert_eq!(shown["delete_due"], Value::Null);
        assert!(shown["retention"].as_str().unwrap().contains("\"Smith\""), "{shown}");
        let derived = crate::media::derived::Store::new(archive.folder.path());
        assert_eq!(apply(&*archive.catalogue, days(89)).await.unwrap(), Walked::default());
        assert_eq!(apply(&*archive.catalogue, days(91)).await.unwrap(), Walked { condemned: 1, spared: 0 });
        assert_eq!(apply(&*archive.catalogue, days(91)).await.unwrap(), Walked::default());
        let shown = archive.get("legal", &format!("/calls/{call}")).await.json();
        assert_eq!((&shown["state"], &shown["delete_why"]), (&json!("trash"), &json!("policy \"desk\"")));
        assert_eq!(
            archive.get("super", &format!("/recordings/{recording}/audio")).await.status,
            StatusCode::NOT_FOUND
        );
        let listed = archive.get("legal", "/deletions").await.json();
        let id = listed["deletions"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(
            (&listed["deletions"][0]["by"], &listed["deletions"][0]["calls"]),
            (&json!("(policy)"), &json!([call]))
        );

        // After a call is taken out of the trash there is a week for a hold; then the policy takes it again.
        assert_eq!(
            archive.post("legal", &format!("/deletions/{id}/restore"), json!({})).await.0,
            StatusCode::OK
        );
        assert_eq!(apply(&*archive.catalogue, days(6)).await.unwrap(), Walked::default());
        assert_eq!(apply(&*archive.catalogue, days(91)).await.unwrap().condemned, 1);
        assert_eq!(execute(&*archive.catalogue, &derived, days(97)).await.unwrap(), 0);
        assert_eq!(execute(&*archive.catalogue, &derived, days(99)).await.unwrap(), 1);
        assert_eq!(archive.get("legal", &format!("/calls/{call}")).await.status, StatusCode::NOT_FOUND);
        for call in [kept, held] {
            assert_eq!(archive.get("super", &format!("/calls/{call}")).await.json()["state"], "sealed");
        }
        let about = archive.actions(&call).await;
        assert_eq!(about[about.len() - 3..], ["trash", "delete.begin", "delete"], "{about:?}");
    });
}

#[test]
fn policies_delete_nothing_that_is_protected_where_it_was_recorded() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let sidecar = archive.intake().join("0c:11/2026-11-27/Record_a.json");
        let text = std::fs::read_to_string(&sidecar).unwrap();
        let text = text.replace("\"protected\": false", "\"protected\": true");
        assert!(text.contains("\"protected\": true"));
        std::fs::write(&sidecar, text).unwrap();
        archive.set_policies(json!([{"name": "all", "delete_after_days": 30}])).await;
        let derived = crate::media::derived::Store::new(archive.folder.path());
        let listed = async || archive.get("super", "/calls").await.json()["calls"].as_array().unwrap().len();
        // It never goes to the trash, where nobody would find it.
        assert_eq!(apply(&*archive.catalogue, days(31)).await.unwrap().condemned, 2);
        assert_eq!(listed().await, 1);
        // One that is protected when it is in the trash comes back.
        let late = sidecar.with_file_name("Record_u.json");
        std::fs::copy(&sidecar, &late).unwrap();
        assert_eq!(execute(&*archive.catalogue, &derived, days(39)).await.unwrap(), 1);
        assert_eq!(listed().await, 2);
        assert_eq!(apply(&*archive.catalogue, days(40)).await.unwrap(), Walked::default());
        for name in ["Record_a.wav", "Record_u.wav"] {
            assert!(sidecar.with_file_name(name).exists(), "{name}");
        }
    });
}

#[test]
fn policies_that_keep_longer_take_calls_out_of_the_trash_and_so_does_a_hold() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        archive.set_policies(json!([{"name": "all", "delete_after_days": 30}])).await;
        assert_eq!(apply(&*archive.catalogue, days(31)).await.unwrap().condemned, 3);
        let listed = archive.get("legal", "/deletions").await.json();
        let call = listed["deletions"][0]["calls"][0].as_str().unwrap().to_owned();
        archive.hold(&call).await;
        assert_eq!(apply(&*archive.catalogue, days(31)).await.unwrap(), Walked { condemned: 0, spared: 1 });
        archive.set_policies(json!([{"name": "all", "delete_after_days": 300}])).await;
        assert_eq!(apply(&*archive.catalogue, days(32)).await.unwrap(), Walked { condemned: 0, spared: 2 });
        let listed = archive.get("super", "/calls").await.json();
        assert_eq!(listed["calls"].as_array().unwrap().len(), 3);
    });
}

#[test]
fn policies_have_a_page_with_their_preview_and_the_second_persons_button() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let policies =
            json!([{"name": "<b>desk", "extensions": ["201"], "keep_days": 5, "delete_after_days": 90}]);
        let (_, seen) = archive.post("legal", "/policies/preview", json!({"policies": policies})).await;
        let body = json!({"policies": policies, "reason": "rule 7", "preview": seen["preview"]});
        let (_, waits) = archive.put("legal", "/policies", body).await;
        let path = format!("/api/v1/policies/{}", waits["proposal"]["id"].as_str().unwrap());
        let (legal, second) = (archive.log_in("legal").await, archive.log_in("second").await);
        let (_, text) = archive.page(&legal, "/policies").await;
        assert!(!text.contains(&format!("{path}/approve")) && text.contains(">Take back<"), "{text}");
        let (_, text) = archive.page(&second, "/policies").await;
        assert!(text.contains(&format!("{path}/approve")) && text.contains("rule 7"), "{text}");
        assert!(text.contains("extension 201: kept 5 days at least, deleted after 90 days"), "{text}");
        assert!(text.contains("3 calls, 0.0 hours, the oldest of 20") && !text.contains("<b>desk"), "{text}");
        assert_eq!(
            archive.post("second", &path["/api/v1".len()..], Value::Null).await.0,
            StatusCode::NOT_FOUND
        );
        archive.post("second", &format!("{}/approve", &path["/api/v1".len()..]), Value::Null).await;
        let (_, text) = archive.page(&legal, "/policies").await;
        assert!(text.contains("Set by legal and second") && text.contains("value=\"90\""), "{text}");
        let (status, _) = archive.page(&archive.log_in("super").await, "/policies").await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    });
}

#[test]
fn policies_and_a_full_disk_take_the_trash_first_and_nothing_that_is_kept() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        archive.set_policies(json!([{"name": "all", "delete_after_days": 30}])).await;
        let (held, _) = archive.recording("pcma").await;
        archive.hold(&held).await;
        let derived = crate::media::derived::Store::new(archive.folder.path());
        let wavs = || {
            let names = std::fs::read_dir(archive.intake().join("0c:11/2026-11-27")).unwrap();
            names.filter(|name| name.as_ref().unwrap().path().extension().unwrap() == "wav").count()
        };
        let (intake, other) = (archive.intake(), archive.folder.path().join("media"));
        let here = || vec![intake.clone()];
        let look = async |at_us, short: &(dyn Fn() -> Vec<PathBuf> + Sync)| {
            deletion::look(&*archive.catalogue, &derived, at_us, short).await.unwrap().1
        };
        assert_eq!(look(days(20), &here).await, 0, "calls stay until due, however short the room is");
        assert_eq!(look(days(31), &Vec::new).await, 0, "in the trash for a week");
        assert_eq!(look(days(32), &|| vec![other.clone()]).await, 0, "another disk is short of room");
        assert_eq!(look(days(32), &here).await, 2);
        assert_eq!(wavs(), 1, "held calls stay");
        assert_eq!(look(days(32), &here).await, 0);
        // Nor does a call in the trash that a hold keeps make it look for ever.
        for who in ["legal", "second"] {
            let hold =
                archive.get("legal", "/holds").await.json()["holds"][0]["id"].as_str().unwrap().to_owned();
            archive.post(who, &format!("/holds/{hold}/release"), json!({"reason": "r"})).await;
        }
        let ask = json!({"calls": [held], "reason": "wish"});
        let id = archive.post("legal", "/deletions", ask).await.1["id"].as_str().unwrap().to_owned();
        archive.post("second", &format!("/deletions/{id}/approve"), json!({})).await;
        archive.hold(&held).await;
        assert_eq!((look(days(1), &here).await, wavs()), (0, 1));
    });
}
