//! Pages: who sees which, and that names of callers stay text.

use super::{Archive, PASSWORD};
use crate::access::audit::Entry;
use crate::access::secret::{hash_password, key_hash};
use crate::catalogue::Catalogue;
use crate::testing::{record, run};
use ::media::codec::Codec;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;
use std::path::Path;

impl Archive {
    /// Logs in, and gives the cookie.
    pub(super) async fn log_in(&self, name: &str) -> String {
        let entry = Entry::new(0, "test", "account.password", name);
        self.catalogue.set_password(name, &hash_password(PASSWORD).unwrap(), &entry).await.unwrap();
        let body = json!({"user": name, "password": PASSWORD}).to_string();
        let answer = self.ask(Request::post("/api/v1/session").body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK);
        answer.header("set-cookie").split(';').next().unwrap().to_owned()
    }

    pub(super) async fn page(&self, cookie: &str, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header("cookie", cookie).body(Body::empty()).unwrap();
        let answer = self.ask(request).await;
        (answer.status, String::from_utf8(answer.octets).unwrap())
    }
}

#[test]
fn names_of_callers_are_text_on_every_page_and_scripts_come_from_the_program_alone() {
    run(async {
        let archive = Archive::new().await;
        let hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;";
        record(&archive.intake(), "Record_h.wav", Codec::Pcma, &[1; 1600], |sidecar| {
            sidecar.call.remote_name = hostile.into();
            sidecar.call.remote_number = "<b>4711</b>".into();
            sidecar.call.local_name = "\"><script>".into();
            sidecar.call.id = "'\"<svg onload=alert(3)>".into();
            sidecar.end_reason = Some("<i>".into());
        });
        archive.reconcile().await;
        let cookie = archive.log_in("super").await;
        let (call, _) = archive.recording("pcma").await;
        let note = Request::post(format!("/api/v1/calls/{call}/notes")).header("cookie", &cookie);
        let note = note.body(Body::from(json!({"text": hostile, "at_ms": 1}).to_string())).unwrap();
        assert_eq!(archive.ask(note).await.status, StatusCode::CREATED);
        let q = "/?q=%22%3E%3Cscript%3E";
        for path in
            ["/", &format!("/calls/{call}"), q, "/?q=fron%3A%3Cb%3E", "/login?next=/%22%3E%3Cscript%3E"]
        {
            let (_, text) = archive.page(&cookie, path).await;
            for (tag, _) in text.match_indices("<script") {
                assert!(text[tag..].starts_with("<script src=\"/static/"), "{path}: {}", &text[tag..]);
            }
            for bad in ["<img", "<svg onload", "<b>", "<i>", " onerror=alert(2)>&amp;<", " style="] {
                assert!(!text.contains(bad), "{path}: {bad}");
            }
        }
        let (_, text) = archive.page(&cookie, "/").await;
        assert!(text.contains("&#60;script&#62;alert(1)&#60;/script&#62;"), "{text}");
    });
}

#[test]
fn a_page_asks_for_a_login_and_shows_only_what_the_user_may_see() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/page/mod.rs");
        let source = std::fs::read_to_string(file).unwrap();
        let pages: Vec<&str> =
            source.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(pages.len() >= 6, "{pages:?}");
        let open = ["/login", "/static/{name}"];
        for path in pages.iter().filter(|path| !open.contains(path)) {
            let path = path.replace("{id}", &call);
            let answer = archive.ask(Request::get(&path).body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
            assert!(answer.header("location").starts_with("/login?next=%2F"), "{path}");
        }
        let of = |extension: &'static str| format!("/?q=ext%3A{extension}");
        let own = archive.log_in("agent").await;
        let (status, text) = archive.page(&own, &of("201")).await;
        assert!(status == StatusCode::OK && text.contains(&call) && text.contains("3 calls"), "{text}");
        assert!(!text.contains("/accounts") && !text.contains("/audit"), "{text}");
        let other = archive.log_in("other").await;
        let (_, text) = archive.page(&other, "/").await;
        assert!(text.contains("No calls.") && !text.contains(&call));
        assert_eq!(archive.page(&other, &format!("/calls/{call}")).await.0, StatusCode::NOT_FOUND);
        assert_eq!(archive.page(&other, "/audit").await.0, StatusCode::FORBIDDEN);
        // A user who may not listen has no button for it, and sees no whole number.
        let auditor = archive.log_in("auditor").await;
        let (_, text) = archive.page(&auditor, &format!("/calls/{call}")).await;
        assert!(!text.contains("data-play") && !text.contains("1234711"), "{text}");
        let admin = archive.log_in("admin").await;
        let (status, text) = archive.page(&admin, "/accounts").await;
        assert!(status == StatusCode::OK && text.contains("invest"), "{text}");
        assert_eq!(archive.page(&admin, "/health").await.0, StatusCode::OK);
        assert_eq!(archive.page(&admin, "/").await.0, StatusCode::FORBIDDEN);
    });
}

#[test]
fn logging_in_leads_to_a_page_of_ours_alone() {
    run(async {
        let archive = Archive::new().await;
        for (next, shown) in [
            ("/calls/1?x=1", "data-then=\"/calls/1?x=1\""),
            ("//evil.example", "data-then=\"/\""),
            ("https://evil.example", "data-then=\"/\""),
            ("/%5Cevil.example", "data-then=\"/\""),
        ] {
            let (_, text) = archive.page("", &format!("/login?next={next}")).await;
            assert!(text.contains(shown), "{next}: {text}");
        }
    });
}

#[test]
fn an_administrator_adds_and_disables_accounts_and_nobody_else_does() {
    run(async {
        let archive = Archive::new().await;
        let send = async |who: &str, path: &str, body: serde_json::Value| {
            let request =
                Request::post(format!("/api/v1{path}")).header("authorization", format!("Bearer {who}"));
            archive.ask(request.body(Body::from(body.to_string())).unwrap()).await
        };
        let anna = json!({"name": "anna", "role": "agent", "extensions": ["301"], "password": PASSWORD});
        assert_eq!(send("super", "/accounts", anna.clone()).await.status, StatusCode::FORBIDDEN);
        assert_eq!(send("admin", "/accounts", anna.clone()).await.status, StatusCode::CREATED);
        assert_eq!(send("admin", "/accounts", anna).await.status, StatusCode::CONFLICT);
        for wrong in [
            json!({"name": "b", "role": "root", "password": PASSWORD}),
            json!({"name": "b", "role": "agent", "password": PASSWORD}),
            json!({"name": "b", "role": "agent", "extensions": ["x"], "password": PASSWORD}),
            json!({"name": "b", "role": "supervisor", "password": "short"}),
            json!({"name": "<b>", "role": "supervisor", "password": PASSWORD}),
        ] {
            let answer = send("admin", "/accounts", wrong.clone()).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
        }
        assert_eq!(send("super", "/accounts/anna/disable", json!({})).await.status, StatusCode::FORBIDDEN);
        assert_eq!(send("admin", "/accounts/anna/disable", json!({})).await.status, StatusCode::NO_CONTENT);
        assert_eq!(send("admin", "/accounts/nobody/disable", json!({})).await.status, StatusCode::NOT_FOUND);
        assert_eq!(send("admin", "/accounts/admin/disable", json!({})).await.status, StatusCode::CONFLICT);
        let listed = archive.get("admin", "/accounts").await.json();
        let anna = listed["accounts"].as_array().unwrap().iter().find(|one| one["name"] == "anna").unwrap();
        assert_eq!((&anna["disabled"], &anna["grants"][0]["extensions"][0]), (&json!(true), &json!("301")));
        // A role for a site, a time, and until a day.
        let mut bert = json!({"name": "bert", "role": "investigator", "password": PASSWORD, "sites": ["main"],
            "from": "2026-11-01", "to": "2026-11-30", "expires": "someday"});
        assert_eq!(send("admin", "/accounts", bert.clone()).await.status, StatusCode::BAD_REQUEST);
        bert["expires"] = json!("2000-01-01T00:00:00Z");
        assert_eq!(send("admin", "/accounts", bert).await.status, StatusCode::CREATED);
        let listed = archive.get("admin", "/accounts").await.json();
        let bert = listed["accounts"].as_array().unwrap().iter().find(|one| one["name"] == "bert").unwrap();
        let grant = &bert["grants"][0];
        assert_eq!(
            (&grant["sites"], &grant["expires"]),
            (&json!(["main"]), &json!("2000-01-01T00:00:00.000Z"))
        );
        assert!(grant["from"].is_string() && grant["to"].is_string(), "{grant}");
        let entry = Entry::new(0, "test", "token.create", "bert");
        archive.catalogue.add_token("bert", "test", &key_hash("bert"), &[], &entry).await.unwrap();
        assert_eq!(archive.get("bert", "/calls").await.status, StatusCode::FORBIDDEN, "it has ended");
    });
}

#[test]
fn days_count_the_calls_that_one_may_see() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let days = archive.get("agent", "/calls/days?q=4711").await.json();
        let counted: u64 =
            days["days"].as_array().unwrap().iter().map(|day| day["calls"].as_u64().unwrap()).sum();
        assert_eq!((counted, &days["more"]), (3, &json!(false)));
        assert_eq!(archive.get("other", "/calls/days").await.json()["days"], json!([]));
        assert_eq!(archive.get("admin", "/calls/days").await.status, StatusCode::FORBIDDEN);
    });
}
