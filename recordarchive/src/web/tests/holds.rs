//! Holds: placing and releasing them, and that they outlive the catalogue.

use super::Archive;
use super::deletions::later;
use crate::catalogue::Catalogue;
use crate::clock;
use crate::jobs::deletion::execute;
use crate::jobs::holds::{are_written, write};
use crate::testing::{record, run};
use ::media::codec::Codec;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

impl Archive {
    pub(super) async fn post(&self, who: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let request =
            Request::post(format!("/api/v1{path}")).header("authorization", format!("Bearer {who}"));
        let answer = self.ask(request.body(Body::from(body.to_string())).unwrap()).await;
        (answer.status, answer.json())
    }

    /// Places a hold; its id.
    pub(super) async fn hold(&self, call: &str) -> String {
        let hold = json!({"name": "Smith", "reference": "7 U 12/26", "reason": "claim", "calls": [call]});
        let (status, placed) = self.post("legal", "/holds", hold).await;
        assert_eq!((status, &placed["state"]), (StatusCode::CREATED, &json!("active")), "{placed}");
        placed["id"].as_str().unwrap().to_owned()
    }

    /// Actions of the audit log about an object.
    pub(super) async fn actions(&self, object: &str) -> Vec<String> {
        let links = self.catalogue.audit(0, 10_000).await.unwrap();
        links.into_iter().filter(|link| link.entry.object == object).map(|link| link.entry.action).collect()
    }
}

#[test]
fn holds_are_placed_shown_and_released_by_two_people() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let id = archive.hold(&call).await;
        let shown = archive.get("agent", &format!("/calls/{call}")).await.json();
        assert_eq!((&shown["on_hold"], &shown["holds"][0]["name"]), (&json!(true), &json!("Smith")));
        assert_eq!(shown["holds"][0]["reason"], Value::Null, "why is for those who decide");
        let listed = archive.get("super", "/calls?q=has:hold").await.json();
        assert_eq!((listed["calls"].as_array().unwrap().len(), &listed["calls"][0]["id"]), (1, &json!(call)));
        let one = archive.get("second", &format!("/holds/{id}")).await.json();
        assert_eq!((&one["calls"], &one["reason"]), (&json!([call]), &json!("claim")));

        let release = format!("/holds/{id}/release");
        let why = || json!({"reason": "settled"});
        assert_eq!(archive.post("legal", &release, json!({})).await.0, StatusCode::BAD_REQUEST);
        assert_eq!(archive.post("legal", &release, why()).await.0, StatusCode::ACCEPTED);
        let (status, problem) = archive.post("legal", &release, why()).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert!(problem["detail"].as_str().unwrap().contains("another person"), "{problem}");
        assert_eq!(archive.get("agent", &format!("/calls/{call}")).await.json()["on_hold"], json!(true));
        let (status, released) = archive.post("second", &release, why()).await;
        assert_eq!((status, &released["released"]["by"]), (StatusCode::OK, &json!("second")));
        assert_eq!(archive.post("second", &release, why()).await.0, StatusCode::CONFLICT);
        assert_eq!(archive.get("agent", &format!("/calls/{call}")).await.json()["on_hold"], json!(false));
        assert_eq!(archive.get("super", "/calls?q=has:hold").await.json()["calls"], json!([]));
        assert_eq!(archive.actions(&id).await, ["hold.place", "view", "hold.release.ask", "hold.release"]);
        let about: Vec<String> =
            archive.actions(&call).await.into_iter().filter(|action| action != "view").collect();
        assert_eq!(about, ["hold", "hold.end"]);
    });
}

#[test]
fn holds_are_refused_to_others_and_on_calls_that_one_may_not_see() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let of = |calls: Value| json!({"name": "n", "reason": "r", "calls": calls});
        for who in ["agent", "super", "invest", "auditor", "admin", "program"] {
            assert_eq!(
                archive.post(who, "/holds", of(json!([call]))).await.0,
                StatusCode::FORBIDDEN,
                "{who}"
            );
            assert_eq!(archive.get(who, "/holds").await.status, StatusCode::FORBIDDEN, "{who}");
        }
        // Calls of 201 do not exist for a user of 202, and one such call is enough.
        let nobody = "01900000-0000-7000-8000-000000000000";
        assert_eq!(archive.post("branch", "/holds", of(json!([call]))).await.0, StatusCode::NOT_FOUND);
        assert_eq!(archive.post("legal", "/holds", of(json!([call, nobody]))).await.0, StatusCode::NOT_FOUND);
        let by_search = json!({"name": "n", "reason": "r", "q": "4711"});
        assert_eq!(archive.post("branch", "/holds", by_search.clone()).await.0, StatusCode::NOT_FOUND);
        for wrong in [
            json!({"name": "n", "reason": "r"}),
            json!({"name": "n", "reason": "r", "q": " "}),
            json!({"name": "n", "reason": "r", "q": "4711", "calls": [call]}),
            json!({"name": "n", "reason": " ", "calls": [call]}),
            json!({"name": "", "reason": "r", "calls": [call]}),
            of(json!([])),
        ] {
            assert_eq!(
                archive.post("legal", "/holds", wrong.clone()).await.0,
                StatusCode::BAD_REQUEST,
                "{wrong}"
            );
        }
        assert_eq!(archive.get("legal", "/holds").await.json()["holds"], json!([]), "nothing was placed");
        let (status, placed) = archive.post("legal", "/holds", by_search).await;
        assert_eq!((status, &placed["calls_total"]), (StatusCode::CREATED, &json!(3)));
        let id = placed["id"].as_str().unwrap();
        assert_eq!(archive.get("branch", "/holds").await.json()["holds"], json!([]));
        assert_eq!(archive.get("branch", &format!("/holds/{id}")).await.status, StatusCode::NOT_FOUND);
        let released = archive.post("branch", &format!("/holds/{id}/release"), json!({"reason": "r"})).await;
        assert_eq!(released.0, StatusCode::NOT_FOUND);
    });
}

#[test]
fn holds_stand_in_sidecars_and_a_lost_catalogue_has_them_again() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let id = archive.hold(&call).await;
        let due = archive.catalogue.unwritten_holds(clock::now_us(), 10).await.unwrap();
        assert!(due.len() == 1 && !are_written(&due[0]));
        assert_eq!(write(&*archive.catalogue).await.unwrap(), 1);
        assert!(are_written(&due[0]));
        assert_eq!(write(&*archive.catalogue).await.unwrap(), 0);
        archive.reconcile().await;
        assert_eq!(write(&*archive.catalogue).await.unwrap(), 0, "sidecar and catalogue agree");

        // Another archive, of the same media.
        let anew = Archive::new().await;
        std::fs::rename(archive.intake(), anew.intake()).unwrap();
        assert_eq!(anew.reconcile().await.added, 3);
        let shown = anew.get("legal", &format!("/calls/{call}")).await.json();
        assert_eq!((&shown["on_hold"], &shown["holds"][0]["id"]), (&json!(true), &json!(id)));
        let hold = anew.get("legal", &format!("/holds/{id}")).await.json();
        assert_eq!(
            (&hold["reference"], &hold["by"], &hold["reason"]),
            (&json!("7 U 12/26"), &json!("legal"), &json!("claim"))
        );

        // A release ends it in the sidecar; a sidecar that was read before does not bring it back.
        for who in ["legal", "second"] {
            anew.post(who, &format!("/holds/{id}/release"), json!({"reason": "settled"})).await;
        }
        let root = anew.intake();
        let catalogue = std::sync::Arc::clone(&anew.catalogue) as std::sync::Arc<dyn Catalogue>;
        let intake = crate::jobs::intake::Intake::new(catalogue, crate::testing::site(), root);
        intake.reconcile(true).await.unwrap();
        assert_eq!(anew.get("legal", &format!("/calls/{call}")).await.json()["on_hold"], json!(false));
        assert_eq!(write(&*anew.catalogue).await.unwrap(), 1);
        let text = std::fs::read_to_string(anew.intake().join("0c:11/2026-11-27/Record_a.json")).unwrap();
        assert!(!text.contains("holds") && text.contains("Anna"), "{text}");
    });
}

#[test]
fn holds_that_cannot_be_written_are_tried_again_and_a_new_segment_gets_them() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let folder = archive.intake().join("0c:11/2026-11-27");
        let (call, _) = archive.recording("pcma").await;
        archive.hold(&call).await;
        let away = archive.folder.path().join("away");
        std::fs::rename(folder.join("Record_a.wav"), &away).unwrap();
        assert_eq!(write(&*archive.catalogue).await.unwrap(), 0);
        assert!(
            archive.catalogue.unwritten_holds(clock::now_us(), 10).await.unwrap().is_empty(),
            "not at once"
        );
        std::fs::rename(&away, folder.join("Record_a.wav")).unwrap();
        let later = clock::now_us() + 61_000_000;
        assert_eq!(archive.catalogue.unwritten_holds(later, 10).await.unwrap().len(), 1);
        record(&folder, "Record_b.wav", Codec::Pcma, &[9; 1600], |sidecar| {
            sidecar.recording = "rec-Record_a.wav".into();
            sidecar.segment = 2;
            sidecar.call.id = "call-Record_a.wav".into();
        });
        archive.reconcile().await;
        assert_eq!(write(&*archive.catalogue).await.unwrap(), 1);
        for name in ["Record_a.json", "Record_b.json"] {
            let text = std::fs::read_to_string(folder.join(name)).unwrap();
            assert!(text.contains("7 U 12/26"), "{name}: {text}");
        }
    });
}

#[test]
fn holds_have_a_page_with_the_second_persons_button() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let id = archive.hold(&call).await;
        let path = format!("/api/v1/holds/{id}/release");
        let (legal, second) = (archive.log_in("legal").await, archive.log_in("second").await);
        let (_, text) = archive.page(&legal, "/holds").await;
        assert!(text.contains(&path) && text.contains("Ask for release"), "{text}");
        archive.post("legal", &format!("/holds/{id}/release"), json!({"reason": "settled"})).await;
        let (_, text) = archive.page(&legal, "/holds").await;
        assert!(!text.contains(&path) && text.contains("settled"), "{text}");
        let (_, text) = archive.page(&second, "/holds").await;
        assert!(text.contains(&path) && text.contains(">Release<"), "{text}");
        let (_, text) = archive.page(&second, &format!("/calls/{call}")).await;
        assert!(text.contains("Place hold") && text.contains("7 U 12/26"), "{text}");
        let (status, _) = archive.page(&archive.log_in("super").await, "/holds").await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    });
}

#[test]
fn a_hold_of_which_all_calls_are_gone_is_shown_to_nobody_who_could_not_see_them() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let id = archive.hold(&call).await;
        let why = || json!({"reason": "settled"});
        for who in ["legal", "second"] {
            archive.post(who, &format!("/holds/{id}/release"), why()).await;
        }
        archive.delete(&call).await;
        assert_eq!(execute(&*archive.catalogue, &archive.derived(), later()).await.unwrap(), 1);
        let listed = async |who: &str| archive.get(who, "/holds").await.json()["holds"].clone();
        assert_eq!(listed("legal").await[0]["id"], json!(id));
        assert_eq!(listed("branch").await, json!([]));
        assert_eq!(archive.get("branch", &format!("/holds/{id}")).await.status, StatusCode::NOT_FOUND);
    });
}
