//! The description of the API, the second factor, and the stream of events.

use super::{Archive, PASSWORD};
use crate::access::audit::Entry;
use crate::access::secret::hash_password;
use crate::access::totp;
use crate::access::{Permission, Role};
use crate::catalogue::Catalogue;
use crate::clock;
use crate::events::{About, Event};
use crate::id::Id;
use crate::testing::run;
use crate::web::openapi::{ROUTES, document};
use axum::body::{Body, HttpBody};
use axum::http::{Request, StatusCode};
use serde_json::json;
use std::path::Path;
use std::pin::pin;
use tower::ServiceExt;

#[test]
fn the_description_has_every_route_and_no_other() {
    let source =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/mod.rs")).unwrap();
    let api = &source[source.find("let api").unwrap()..source.find(".nest(").unwrap()];
    let mut routed: Vec<(String, String)> = Vec::new();
    for rest in api.split(".route(").skip(1) {
        let path = rest.split('"').nth(1).unwrap();
        for method in ["get", "post", "put", "delete"] {
            if rest.contains(&format!("{method}(")) {
                routed.push((path.into(), method.into()));
            }
        }
    }
    let mut told: Vec<(String, String)> =
        ROUTES.iter().map(|route| (route.path.into(), route.method.into())).collect();
    routed.sort();
    told.sort();
    assert_eq!(routed, told);
    // Each name of a schema is one that there is.
    let document = document();
    let text = document.to_string();
    for (at, _) in text.match_indices("#/components/schemas/") {
        let name = text[at + 21..].split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}

/// Permissions that no route asks for: one changes the content of answers, and one is for users
/// of `token create`.
const OF_NO_ROUTE: [Permission; 2] = [Permission::NumberFull, Permission::TokenCreate];

#[test]
fn each_permission_is_asked_for_by_a_route_and_refused_to_who_has_it_not() {
    run(async {
        let archive = Archive::new().await;
        for permission in Permission::ALL {
            let asked = ROUTES.iter().any(|route| route.permission() == permission.name());
            assert_ne!(asked, OF_NO_ROUTE.contains(&permission), "{}", permission.name());
        }
        // Where another permission will do, too.
        let or = [
            ("/holds", "hold.release"),
            ("/holds/{id}", "hold.release"),
            ("/deletions", "delete.approve"),
            ("/policies", "audit.read"),
            ("/exports", "export.approve"),
        ];
        let mut refused = 0;
        for (who, role) in [
            ("agent", Role::Agent),
            ("super", Role::Supervisor),
            ("invest", Role::Investigator),
            ("legal", Role::Compliance),
            ("auditor", Role::Auditor),
            ("admin", Role::Admin),
            ("program", Role::Integration),
        ] {
            for route in ROUTES.iter().filter(|route| !["", "-"].contains(&route.permission())) {
                let has = |name: &str| role.permissions().iter().any(|permission| permission.name() == name);
                let other =
                    or.iter().any(|(path, other)| *path == route.path && has(other) && route.method == "get");
                if has(route.permission()) || other {
                    continue;
                }
                let path = route.path.replace("{id}", &Id::random(0).to_string());
                let request = Request::builder().method(route.method.to_uppercase().as_str());
                let request = request.uri(format!("/api/v1{path}"));
                let request = request.header("authorization", format!("Bearer {who}"));
                let answer = archive.ask(request.body(Body::from("{}")).unwrap()).await;
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{who} {} {path}", route.method);
                refused += 1;
            }
        }
        assert!(refused > 100, "{refused}");
    });
}

#[test]
fn parameters_that_do_not_fit_are_a_problem_as_all_others() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (_, recording) = archive.recording("pcma").await;
        for path in [
            &format!("/recordings/{recording}/original?segment=one"),
            "/calls?limit=x",
            "/calls/days?limit=x",
        ] {
            let answer = archive.get("program", path).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        }
    });
}

#[test]
fn errors_from_before_a_handler_are_problems_as_all_others() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (_, recording) = archive.recording("pcma").await;
        let ask = async |method: &str, path: &str, range: &str, octets: usize| {
            let request = Request::builder().method(method).uri(path).header("authorization", "Bearer super");
            let body = Body::from(vec![b' '; octets]);
            archive.ask(request.header("range", range).body(body).unwrap()).await
        };
        let audio = format!("/api/v1/recordings/{recording}/audio");
        for (method, path, octets, status) in [
            ("DELETE", "/api/v1/calls", 0, StatusCode::METHOD_NOT_ALLOWED),
            ("PUT", "/api/v1/calls/x/tags", 100_000, StatusCode::PAYLOAD_TOO_LARGE),
            ("GET", "/api/v1/calls/%ff", 0, StatusCode::BAD_REQUEST),
            ("GET", "/api/v1/nothing", 0, StatusCode::NOT_FOUND),
            ("GET", &audio, 0, StatusCode::RANGE_NOT_SATISFIABLE),
        ] {
            let answer = ask(method, path, "bytes=99999999-", octets).await;
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}");
            assert_eq!(answer.json()["status"], status.as_u16(), "{method} {path}");
        }
        assert_eq!(ask("DELETE", "/api/v1/calls", "", 0).await.header("allow"), "GET,HEAD");
        let none = ask("GET", &audio, "bytes=99999999-", 0).await;
        assert!(none.header("content-range").starts_with("bytes */"));
    });
}

#[test]
fn a_second_factor_is_asked_for_and_a_code_is_good_once() {
    run(async {
        let archive = Archive::new().await;
        let entry = Entry::new(0, "test", "account.totp", "super");
        archive.catalogue.set_password("super", &hash_password(PASSWORD).unwrap(), &entry).await.unwrap();
        let secret = totp::new_secret();
        archive.catalogue.set_totp("super", Some(&secret), &entry).await.unwrap();
        let log_in = async |code: Option<&str>| {
            let body = json!({"user": "super", "password": PASSWORD, "totp": code}).to_string();
            let answer = archive.ask(Request::post("/api/v1/session").body(Body::from(body)).unwrap()).await;
            (answer.status, answer.json()["detail"].as_str().unwrap_or_default().to_owned())
        };
        let (status, detail) = log_in(None).await;
        assert!(status == StatusCode::UNAUTHORIZED && detail.contains("second factor"), "{detail}");
        let newest = archive.catalogue.audit_newest(None, Some("super"), 1).await.unwrap().remove(0).entry;
        assert_eq!((newest.action.as_str(), newest.result.as_str()), ("login", "failed"));
        // A code that is not the one of now.
        let now_us = clock::now_us();
        let good = totp::shown(&secret, now_us).unwrap();
        let is_wrong = |code: &String| totp::step(&secret, code, now_us).is_none();
        let wrong = (0..4).map(|code| format!("{code:06}")).find(is_wrong).unwrap();
        assert_eq!(log_in(Some(&wrong)).await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(log_in(Some(&good)).await.0, StatusCode::OK);
        assert_eq!(log_in(Some(&good)).await.0, StatusCode::UNAUTHORIZED, "it was used");
    });
}

#[test]
fn an_event_reaches_those_alone_who_may_see_its_call() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, recording) = archive.recording("pcma").await;
        let open = async |who: &str| {
            let request = Request::get("/api/v1/stream").header("authorization", format!("Bearer {who}"));
            let response =
                archive.routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(
                (response.status(), &response.headers()["content-type"] == "text/event-stream"),
                (StatusCode::OK, true)
            );
            let mut body = Box::pin(response.into_body());
            next(&mut body).await;
            body
        };
        let (mut own, mut other) = (open("agent").await, open("other").await);
        let events = archive.app.events();
        let about = About::Recording(Id::parse(&recording).unwrap());
        events.tell(Event { kind: "call.sealed", about: about.clone(), data: json!({}) });
        events.tell(Event { kind: "storage.low", about: About::System, data: json!({}) });
        let text = next(&mut own).await;
        assert!(text.starts_with("event: call.sealed\ndata: {") && text.contains(&call), "{text}");
        let refused = Request::get("/api/v1/stream").header("authorization", "Bearer admin");
        let refused = archive.ask(refused.body(Body::empty()).unwrap()).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        archive.app.end();
        // Events that the user may not see leave no trace: the stream's end comes next.
        for body in [&mut own, &mut other] {
            assert!(std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await.is_none());
        }
    });
}

/// The next piece of a stream.
async fn next(body: &mut std::pin::Pin<Box<Body>>) -> String {
    let frame = pin!(std::future::poll_fn(|context| body.as_mut().poll_frame(context))).await;
    String::from_utf8(frame.unwrap().unwrap().into_data().unwrap().to_vec()).unwrap()
}
