//! Events and records of an exchange: taken in, linked, found, and seen only by users who may see their
//! calls.

use super::{Answer, Archive};
use crate::clock;
use crate::testing::run;
use crate::time::{SECOND_US, rfc3339};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

async fn post(archive: &Archive, who: &str, path: &str, body: &Value) -> Answer {
    let request = Request::post(format!("/api/v1{path}")).header("authorization", format!("Bearer {who}"));
    archive.ask(request.body(Body::from(body.to_string())).unwrap()).await
}

/// An alarm about the extension of the recordings in [`Archive::fill`].
fn alarm(external_id: &str, title: &str) -> Value {
    let at = |seconds: i64| rfc3339(clock::now_us() - seconds * SECOND_US);
    json!({
        "source": "alarms", "external_id": external_id, "kind": "alarm", "title": title,
        "from": at(90), "to": at(30), "extensions": ["201"], "payload": {"zone": 7},
    })
}

#[test]
fn an_event_is_linked_whether_it_comes_before_or_after_its_calls() {
    run(async {
        let archive = Archive::new().await;
        let before = post(&archive, "program", "/events", &json!({"events": [alarm("a1", "Fire")]})).await;
        assert_eq!(before.status, StatusCode::OK, "{:?}", before.json());
        assert_eq!(before.json(), json!({"added": 1, "changed": 0, "unchanged": 0, "linked": 0}));
        archive.fill().await;
        let after = post(&archive, "program", "/events", &json!([alarm("a2", "Flood")])).await;
        assert_eq!(after.json()["linked"], 3, "{:?}", after.json());

        let listed = archive.get("super", "/calls?q=has:event").await.json();
        assert_eq!(listed["calls"].as_array().unwrap().len(), 3);
        let call = listed["calls"][0]["id"].as_str().unwrap().to_owned();
        let shown = archive.get("super", &format!("/calls/{call}")).await.json();
        let titles: Vec<&str> = shown["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["title"].as_str().unwrap())
            .collect();
        assert_eq!(titles.len(), 2);
        assert!(titles.contains(&"Fire") && titles.contains(&"Flood"), "{titles:?}");

        let event = shown["events"][0]["id"].as_str().unwrap();
        let whole = archive.get("super", &format!("/events/{event}")).await.json();
        assert_eq!(whole["payload"]["zone"], 7);
        let offsets: Vec<i64> = whole["calls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|call| call["offset_ms"].as_i64().unwrap())
            .collect();
        assert_eq!(offsets.len(), 3);
        // The calls began 60 s ago, the event 90 s ago.
        assert!(offsets.iter().all(|ms| (25_000..=35_000).contains(ms)), "{offsets:?}");
    });
}

#[test]
fn an_event_that_comes_again_changes_nothing_and_a_new_wording_replaces_the_old_one() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let fire = alarm("a1", "Fire");
        let first = post(&archive, "program", "/events", &json!([fire, fire])).await.json();
        assert_eq!(
            (&first["added"], &first["unchanged"], &first["linked"]),
            (&json!(1), &json!(1), &json!(3))
        );
        let again = post(&archive, "program", "/events", &json!([fire])).await.json();
        assert_eq!(again, json!({"added": 0, "changed": 0, "unchanged": 1, "linked": 0}));
        let mut other = fire.clone();
        (other["title"], other["extensions"]) = (json!("Fire in hall 2"), json!(["999"]));
        let changed = post(&archive, "program", "/events", &json!([other])).await.json();
        assert_eq!(changed, json!({"added": 0, "changed": 1, "unchanged": 0, "linked": 0}));
        let listed = archive.get("super", "/calls?q=has:event").await.json();
        assert_eq!(listed["calls"], json!([]), "the links went with their events");
    });
}

#[test]
fn an_event_is_there_for_those_alone_who_may_see_one_of_its_calls() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        post(&archive, "program", "/events", &json!([alarm("a1", "Fire")])).await;
        let listed = archive.get("super", "/calls?q=has:event").await.json();
        let call = listed["calls"][0]["id"].as_str().unwrap().to_owned();
        let shown = archive.get("super", &format!("/calls/{call}")).await.json();
        let path = format!("/events/{}", shown["events"][0]["id"].as_str().unwrap());
        for (who, status) in [
            ("agent", StatusCode::OK),
            ("other", StatusCode::NOT_FOUND),
            ("auditor", StatusCode::OK),
            ("admin", StatusCode::FORBIDDEN),
            ("nobody", StatusCode::UNAUTHORIZED),
        ] {
            assert_eq!(archive.get(who, &path).await.status, status, "{who}");
        }
        assert_eq!(archive.get("other", "/calls?q=has:event").await.json()["calls"], json!([]));
        // An auditor sees no payload: whole numbers may be in it.
        assert_eq!(archive.get("auditor", &path).await.json()["payload"], Value::Null);
        for who in ["agent", "auditor", "admin", "invest"] {
            let refused = post(&archive, who, "/events", &json!([alarm("a9", "No")])).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{who}");
        }
    });
}

#[test]
fn a_record_of_an_exchange_is_linked_by_both_numbers_or_by_the_call_id() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let started = rfc3339(clock::now_us() - 65 * SECOND_US);
        let cdr = |external_id: &str, caller: &str, called: &str| {
            json!({"source": "pbx", "external_id": external_id, "started": started, "duration_ms": 20_000,
                "caller": caller, "called": called})
        };
        let linked = |answer: Answer| answer.json()["linked"].clone();
        let both = json!([cdr("1", "030 1234711", "201")]);
        assert_eq!(linked(post(&archive, "program", "/cdrs", &both).await), 3);
        let one_side = json!({"cdrs": [cdr("2", "030 1234711", "202")]});
        assert_eq!(linked(post(&archive, "program", "/cdrs", &one_side).await), 0);
        let mut by_id = cdr("3", "anonymous", "777");
        by_id["call_id"] = json!("call-Record_a.wav");
        assert_eq!(linked(post(&archive, "program", "/cdrs", &json!([by_id])).await), 1);
        // An auditor's numbers are masked, and those of a record are, too.
        let (call, _) = archive.recording("pcma").await;
        let events = |call: Value| call["events"].as_array().unwrap().len();
        assert_eq!(events(archive.get("super", &format!("/calls/{call}")).await.json()), 2);
        assert_eq!(events(archive.get("auditor", &format!("/calls/{call}")).await.json()), 0);
    });
}

#[test]
fn a_bulk_with_a_mistake_is_refused_whole_and_says_where() {
    run(async {
        let archive = Archive::new().await;
        let good = alarm("a1", "Fire");
        let with = |change: &dyn Fn(&mut Value)| {
            let mut item = good.clone();
            change(&mut item);
            json!([good, item])
        };
        for (body, told) in [
            (json!({"event": []}), "a JSON list of events"),
            (json!({"events": 5}), "a JSON list of events"),
            (json!("events"), "a JSON list of events"),
            (json!(null), "a JSON list of events"),
            (with(&|item| item["from"] = json!("yesterday")), "events[1]: from is no time"),
            (with(&|item| item["source"] = json!("")), "events[1]: source has 1 to"),
            (with(&|item| item["to"] = json!("2001-01-01T00:00:00Z")), "events[1]: it ends when it begins"),
            (with(&|item| item["kind"] = json!("cdr")), "/cdrs"),
            (with(&|item| item["colour"] = json!("red")), "events[1]: unknown field `colour`"),
            (with(&|item| item["title"] = json!("a\u{7}")), "events[1]: title"),
        ] {
            let answer = post(&archive, "program", "/events", &body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(told), "{detail}");
        }
        let last = post(&archive, "program", "/events", &json!([good])).await.json();
        assert_eq!(last["added"], 1, "nothing of the others is there");
    });
}
