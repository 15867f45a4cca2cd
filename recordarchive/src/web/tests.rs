//! Requests to the whole API, from files in an intake to octets of audio.

#![allow(clippy::multiple_inherent_impl, reason = "each file of tests asks the archive in its own way")]

mod at_rest;
mod audio;
mod deletions;
mod events;
mod exports;
mod holds;
mod killed;
mod live;
mod oidc;
mod page;
mod policies;
mod readable;
mod restored;
mod schedules;
mod surface;
mod tampering;

use super::{App, routes};
use crate::access::audit::{Check, Entry};
use crate::access::secret::{hash_password, key_hash};
use crate::access::{Grant, Role, Use};
use crate::catalogue::Catalogue;
use crate::catalogue::model::Account;
use crate::catalogue::sqlite::SqliteCatalogue;
use crate::clock;
use crate::config::Config;
use crate::id::Id;
use crate::jobs::import::import;
use crate::jobs::intake::{Counts, Intake};
use crate::jobs::verify::{Anchors, verify};
use crate::media::vault::Vault;
use crate::oidc::provider::Provider;
use crate::testing::{catalogue, record, run, site};
use ::media::codec::Codec;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tower::ServiceExt;

const PASSWORD: &str = "correct horse battery";

struct Archive {
    folder: tempfile::TempDir,
    catalogue: Arc<SqliteCatalogue>,
    app: Arc<App>,
    routes: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    octets: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.octets).unwrap_or(Value::Null)
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Archive {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// One with other settings.
    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::made(change, Vault::default()).await
    }

    /// One with a vault for encrypted recordings.
    async fn with_vault(vault: Vault) -> Self {
        Self::made(|_| {}, vault).await
    }

    async fn made(change: impl FnOnce(&mut Config), vault: Vault) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalogue = catalogue(folder.path()).await;
        let mut config = Config { data: folder.path().into(), site: site(), ..Config::default() };
        change(&mut config);
        let app = {
            let made = |settings| Provider::new(settings, &config.base_url()).unwrap();
            let provider = config.oidc.clone().map(made);
            App::made_of(Arc::clone(&catalogue) as Arc<dyn Catalogue>, config, vault, provider)
        };
        let routes = routes(Arc::clone(&app));
        let archive = Self { folder, catalogue, app, routes };
        for (name, role, extensions) in [
            ("agent", Role::Agent, &["201"][..]),
            ("other", Role::Agent, &["202"]),
            ("super", Role::Supervisor, &[]),
            ("invest", Role::Investigator, &[]),
            ("auditor", Role::Auditor, &[]),
            ("admin", Role::Admin, &[]),
            ("legal", Role::Compliance, &[]),
            ("second", Role::Compliance, &[]),
            ("branch", Role::Compliance, &["202"]),
            ("program", Role::Integration, &[]),
        ] {
            let used = |extension: &&str| Use { extension: (*extension).into(), from_us: 0, to_us: None };
            let grant = Grant::of(role, extensions.iter().map(used).collect());
            let account = Account { id: Id::random(0), name: name.into(), password: None, disabled: false };
            let entry = Entry::new(0, "test", "account.add", name);
            archive.catalogue.add_account(&account, &grant, &entry).await.unwrap();
            archive.catalogue.add_token(name, "test", &key_hash(name), &[], &entry).await.unwrap();
        }
        archive
    }

    fn intake(&self) -> PathBuf {
        self.folder.path().join("intake")
    }

    /// Makes the audit log one that can't be written to.
    async fn refuse_entries(&self) {
        let path = self.folder.path().join("catalogue.sqlite");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let full = "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE (ABORT, 'full'); END";
        sqlx::raw_sql(full).execute(&pool).await.unwrap();
    }

    async fn reconcile(&self) -> Counts {
        let catalogue = Arc::clone(&self.catalogue) as Arc<dyn Catalogue>;
        Intake::new(catalogue, site(), self.intake()).reconcile(false).await.unwrap()
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.routes.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let octets = to_bytes(body, 64 << 20).await.unwrap_or_default().to_vec();
        Answer { status: parts.status, headers: parts.headers, octets }
    }

    async fn get_with(&self, who: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request =
            Request::get(format!("/api/v1{path}")).header("authorization", format!("Bearer {who}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request.body(Body::empty()).unwrap()).await
    }

    async fn get(&self, who: &str, path: &str) -> Answer {
        self.get_with(who, path, &[]).await
    }

    /// One recording of each codec.
    async fn fill(&self) {
        let folder = self.intake().join("0c:11/2026-11-27");
        let audio: Vec<u8> = (0..160_u32 * 50).map(|n| n.to_be_bytes()[3].wrapping_mul(37)).collect();
        for (name, codec) in
            [("Record_a.wav", Codec::Pcma), ("Record_u.wav", Codec::Pcmu), ("Record_g.wav", Codec::G722)]
        {
            record(&folder, name, codec, &audio, |_| {});
        }
        assert_eq!(self.reconcile().await.added, 3);
    }

    async fn recording(&self, codec: &str) -> (String, String) {
        let listed = self.get("super", &format!("/calls?q=codec:{codec}")).await.json();
        let call = &listed["calls"][0];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&call["id"]), text(&call["recordings"][0]["id"]))
    }
}

#[test]
fn a_recording_in_the_intake_is_found_by_its_last_four_digits_and_heard_octet_by_octet() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let listed = archive.get("super", "/calls?q=4711").await;
        assert_eq!(listed.status, StatusCode::OK, "{:?}", listed.json());
        assert_eq!(listed.json()["calls"].as_array().unwrap().len(), 3);
        let call = listed.json()["calls"][0].clone();
        for (key, value) in [
            ("direction", json!("in")),
            ("remote", json!({"number": "+49 30 1234711", "name": "Anna Müller"})),
            ("local", json!({"number": "201", "name": "Desk"})),
            ("device", json!("0c:11")),
            ("duration_ms", json!(1000)),
            ("state", json!("sealed")),
            ("has_notes", json!(false)),
        ] {
            assert_eq!(call[key], value, "{key}");
        }
        assert_eq!(call["recordings"][0]["source"], "uplink");

        let (_, recording) = archive.recording("pcma").await;
        let stored = std::fs::read(archive.intake().join("0c:11/2026-11-27/Record_a.wav")).unwrap();
        let path = format!("/recordings/{recording}/audio");
        let whole = archive.get("super", &path).await;
        assert_eq!((whole.status, whole.header("content-length")), (StatusCode::OK, "8058"));
        assert_eq!((whole.octets.len(), &whole.octets[20..22]), (8058, &[6, 0][..]));
        assert!(whole.octets[58..] == stored[76..], "the stored octets");
        let part = archive.get_with("super", &path, &[("range", "bytes=50-1000")]).await;
        assert_eq!(
            (part.status, part.header("content-range")),
            (StatusCode::PARTIAL_CONTENT, "bytes 50-1000/8058")
        );
        assert!(part.octets == whole.octets[50..=1000]);
        let tag = whole.header("etag").to_owned();
        let same = archive.get_with("super", &path, &[("if-none-match", &tag)]).await;
        assert_eq!((same.status, same.octets.len()), (StatusCode::NOT_MODIFIED, 0));
        let stale = archive.get_with("super", &path, &[("range", "bytes=0-9"), ("if-range", "\"x\"")]).await;
        assert_eq!(stale.status, StatusCode::OK);
        let beyond = archive.get_with("super", &path, &[("range", "bytes=9000-")]).await;
        assert_eq!(
            (beyond.status, beyond.header("content-range")),
            (StatusCode::RANGE_NOT_SATISFIABLE, "bytes */8058")
        );
        let head = Request::head(format!("/api/v1{path}")).header("authorization", "Bearer super");
        let head = archive.ask(head.body(Body::empty()).unwrap()).await;
        assert_eq!((head.header("content-length"), head.octets.len()), ("8058", 0));

        let (_, g722) = archive.recording("g722").await;
        let pcm = archive.get("super", &format!("/recordings/{g722}/audio")).await;
        assert_eq!((pcm.octets.len(), pcm.octets[20]), (44 + 4 * 8000, 1));
        let wav = hound::WavReader::new(std::io::Cursor::new(pcm.octets)).unwrap();
        assert_eq!((wav.spec().sample_rate, wav.len()), (16_000, 16_000));
        let peaks = archive.get("super", &format!("/recordings/{recording}/peaks")).await.json();
        assert_eq!((peaks["peaks"].as_array().unwrap().len(), &peaks["duration_ms"]), (10, &json!(1000)));
        let original = archive.get("program", &format!("/recordings/{recording}/original")).await;
        assert!(original.octets == stored);
    });
}

#[test]
fn calls_that_a_user_may_not_see_are_not_there_and_actions_they_may_not_do_are_refused() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, recording) = archive.recording("pcma").await;
        let audio = format!("/recordings/{recording}/audio");
        for (who, path, status) in [
            ("agent", format!("/calls/{call}"), 200),
            ("agent", audio.clone(), 200),
            ("agent", format!("/recordings/{recording}/original"), 403),
            ("other", format!("/calls/{call}"), 404),
            ("other", audio.clone(), 404),
            ("other", format!("/recordings/{recording}/peaks"), 404),
            ("auditor", format!("/calls/{call}"), 200),
            ("auditor", audio.clone(), 403),
            ("admin", "/calls".into(), 403),
            ("admin", audio.clone(), 403),
            ("agent", "/audit".into(), 403),
            ("auditor", "/audit".into(), 200),
            ("invest", audio.clone(), 403),
            ("invest", format!("{audio}?reason=case%207"), 200),
            ("nobody", "/calls".into(), 401),
            ("super", "/calls/1".into(), 404),
            ("super", format!("/calls/{}", Id::random(0)), 404),
            ("super", "/calls?q=fron:1".into(), 400),
            ("super", "/calls?limit=x".into(), 400),
            ("super", "/calls?cursor=x".into(), 400),
            ("super", "/nothing".into(), 404),
            ("super", format!("{audio}?format=mp3"), 400),
        ] {
            let answer = archive.get(who, &path).await;
            assert_eq!(
                answer.status.as_u16(),
                status,
                "{who} {path}: {}",
                String::from_utf8_lossy(&answer.octets)
            );
            if status >= 400 {
                assert_eq!(answer.json()["status"], status, "{who} {path}");
                assert_eq!(answer.header("content-type"), "application/problem+json");
            }
        }
        let masked = archive.get("auditor", &format!("/calls/{call}")).await.json();
        assert!(masked["remote"]["number"].as_str().unwrap().contains('•'), "{masked}");
        let listed = archive.get("other", "/calls").await.json();
        assert_eq!(listed["calls"], json!([]));
    });
}

#[test]
fn audio_has_its_audit_entry_and_without_one_there_is_no_audio() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, recording) = archive.recording("pcma").await;
        let audio = format!("/recordings/{recording}/audio");
        for range in ["bytes=0-99", "bytes=100-", "bytes=5-9"] {
            archive.get_with("agent", &audio, &[("range", range)]).await;
        }
        archive.get("invest", &format!("{audio}?reason=case+7")).await;
        let entries = archive.get("auditor", "/audit?limit=200").await.json();
        let plays: Vec<&Value> =
            entries["entries"].as_array().unwrap().iter().filter(|entry| entry["action"] == "play").collect();
        assert_eq!(plays.len(), 2, "one for each listening, not one for each range");
        assert_eq!(plays[0]["detail"], json!({"call": call, "reason": "case 7"}));
        assert_eq!((&plays[1]["actor"], &plays[1]["object"]), (&json!("agent"), &json!(recording)));
        let peaks = format!("/recordings/{recording}/peaks");
        assert_eq!(archive.get("agent", &peaks).await.status, StatusCode::OK);
        let newest = archive.get("auditor", "/audit?actor=agent&limit=1").await.json()["entries"][0].clone();
        assert_eq!((&newest["action"], &newest["object"]), (&json!("view"), &json!(recording)));
        assert_eq!(newest["detail"], json!({"call": call, "part": "peaks", "reason": null}));
        archive.refuse_entries().await;
        for path in [&audio, &peaks] {
            let refused = archive.get("program", path).await;
            assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
            assert!(refused.json()["detail"].as_str().unwrap().contains("catalogue"), "{path}: no audio");
        }
    });
}

#[test]
fn files_that_vanish_are_missing_and_heal_and_broken_ones_are_put_aside_once() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let folder = archive.intake().join("0c:11/2026-11-27");
        let (_, recording) = archive.recording("pcma").await;
        std::fs::rename(folder.join("Record_a.wav"), archive.folder.path().join("away")).unwrap();
        let audio = archive.get("super", &format!("/recordings/{recording}/audio")).await;
        assert_eq!(audio.status, StatusCode::GONE);
        assert_eq!(archive.reconcile().await, Counts { missing: 1, ..Counts::default() });
        let listed = archive.get("super", "/calls?q=codec:pcma").await.json();
        assert_eq!(listed["calls"][0]["recordings"][0]["state"], "missing");
        std::fs::rename(archive.folder.path().join("away"), folder.join("Record_a.wav")).unwrap();
        assert_eq!(archive.reconcile().await, Counts::default());
        let listed = archive.get("super", "/calls?q=codec:pcma").await.json();
        assert_eq!(listed["calls"][0]["recordings"][0]["state"], "sealed");

        std::fs::write(folder.join("Record_x.wav"), "no recording at all").unwrap();
        record(&folder, "Record_y.wav", Codec::Pcma, &[1; 1600], |sidecar| {
            sidecar.sha256 = Some("ab".repeat(32))
        });
        std::fs::write(folder.join("Record_z.wav"), std::fs::read(folder.join("Record_a.wav")).unwrap())
            .unwrap();
        std::fs::write(folder.join("Record_z.json"), "{\"segment\": \"one\"}").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("Record_l.wav")).unwrap();
        assert_eq!(archive.reconcile().await.broken, 3);
        assert_eq!(archive.reconcile().await, Counts::default(), "not again until they change");
        let reasons: Vec<String> =
            archive.catalogue.quarantine(10).await.unwrap().into_iter().map(|broken| broken.reason).collect();
        assert!(reasons.iter().any(|reason| reason.contains("hash in its sidecar differs")), "{reasons:?}");
        // One without a sidecar is taken as it is.
        std::fs::remove_file(folder.join("Record_z.json")).unwrap();
        assert_eq!(archive.reconcile().await.added, 1);
    });
}

#[test]
fn an_import_is_copied_once_and_verified_and_a_changed_file_is_found() {
    run(async {
        let archive = Archive::new().await;
        let stick = archive.folder.path().join("stick");
        record(&stick, "Record_1.wav", Codec::Pcma, &[7; 1600], |_| {});
        record(&stick, "Record_2.wav", Codec::Pcmu, &[8; 1600], |sidecar| sidecar.recording = "two".into());
        let media = archive.folder.path().join("media");
        let files = crate::jobs::import::files(std::slice::from_ref(&stick)).unwrap();
        let take = async |counts: &mut Counts| {
            for file in &files {
                import(&*archive.catalogue, &site(), &media, file, counts).await.unwrap();
            }
        };
        let mut counts = Counts::default();
        take(&mut counts).await;
        take(&mut counts).await;
        assert_eq!(counts, Counts { added: 2, duplicate: 2, ..Counts::default() });
        std::fs::remove_dir_all(&stick).unwrap();
        let verified = verify(&*archive.catalogue, Anchors::default(), i64::MIN).await.unwrap();
        assert_eq!((verified.files, verified.problems.as_slice()), (2, &[][..]));
        let copied = crate::jobs::import::files(std::slice::from_ref(&media)).unwrap();
        let mut octets = std::fs::read(&copied[0]).unwrap();
        octets[100] ^= 1;
        std::fs::write(&copied[0], octets).unwrap();
        let verified = verify(&*archive.catalogue, Anchors::default(), i64::MIN).await.unwrap();
        assert_eq!(verified.files, 1);
        assert!(verified.problems[0].contains("not what was taken in"), "{:?}", verified.problems);
    });
}

#[test]
fn tampering_with_the_audit_log_is_refused_by_the_database_and_found_by_verification() {
    run(async {
        let archive = Archive::new().await;
        let path = archive.folder.path().join("catalogue.sqlite");
        let pool = sqlx::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(path))
            .await
            .unwrap();
        let change = "UPDATE audit SET actor = 'nobody' WHERE seq = 2";
        for statement in [change, "DELETE FROM audit WHERE seq = 2"] {
            assert!(sqlx::raw_sql(statement).execute(&pool).await.is_err(), "{statement}");
        }
        sqlx::raw_sql("DROP TRIGGER audit_stays").execute(&pool).await.unwrap();
        sqlx::raw_sql(change).execute(&pool).await.unwrap();
        let verified = verify(&*archive.catalogue, Anchors::default(), i64::MIN).await.unwrap();
        assert_eq!(verified.problems, ["audit: entry 2 was changed"]);
        let links = archive.catalogue.audit(0, 1).await.unwrap();
        Check::default().next(&links[0]).unwrap();
    });
}

#[test]
fn a_person_logs_in_writes_notes_and_tags_and_logs_out_and_other_sites_can_not() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let entry = Entry::new(clock::now_us(), "test", "account.password", "super");
        let hash = hash_password(PASSWORD).unwrap();
        archive.catalogue.set_password("super", &hash, &entry).await.unwrap();
        let send = async |method: &str, path: &str, headers: &[(&str, &str)], body: Value| {
            let mut request =
                Request::builder().method(method).uri(format!("/api/v1{path}")).header("host", "archive:80");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            archive.ask(request.body(Body::from(body.to_string())).unwrap()).await
        };
        let credentials = json!({"user": "super", "password": PASSWORD});
        let foreign = [("origin", "https://evil.example")];
        assert_eq!(
            send("POST", "/session", &foreign, credentials.clone()).await.status,
            StatusCode::FORBIDDEN
        );
        let wrong = json!({"user": "super", "password": "correct horse batterx"});
        assert_eq!(send("POST", "/session", &[], wrong.clone()).await.status, StatusCode::UNAUTHORIZED);
        let answer = send("POST", "/session", &[("origin", "http://archive:80")], credentials.clone()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json());
        let set = answer.header("set-cookie").to_owned();
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
        let cookie = set.split(';').next().unwrap();
        let mine = [("cookie", cookie)];
        let tags = json!({"tags": ["Complaint", "VIP"]});
        let path = format!("/calls/{call}/tags");
        for header in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
            assert_eq!(
                send("PUT", &path, &[mine[0], header], tags.clone()).await.status,
                StatusCode::FORBIDDEN
            );
        }
        let tagged = send("PUT", &path, &mine, tags).await;
        assert_eq!(tagged.json()["tags"], json!(["complaint", "vip"]));
        let note = send(
            "POST",
            &format!("/calls/{call}/notes"),
            &mine,
            json!({"text": "<b>call back</b>", "at_ms": 500}),
        )
        .await;
        assert_eq!(note.status, StatusCode::CREATED);
        assert_eq!(note.json()["notes"][0]["text"], "<b>call back</b>");
        let listed = archive.get("super", "/calls?q=tag:vip+back").await.json();
        assert_eq!(
            (listed["calls"].as_array().unwrap().len(), &listed["calls"][0]["has_notes"]),
            (1, &json!(true))
        );
        assert_eq!(send("DELETE", "/session", &mine, Value::Null).await.status, StatusCode::NO_CONTENT);
        assert_eq!(send("PUT", &path, &mine, json!({"tags": []})).await.status, StatusCode::UNAUTHORIZED);
        // A user who guesses has to wait, with the right password, too.
        for _ in 0..6 {
            send("POST", "/session", &[], wrong.clone()).await;
        }
        let waits = send("POST", "/session", &[], credentials).await;
        assert_eq!(waits.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(!waits.header("retry-after").is_empty());
    });
}

#[test]
fn two_browsers_that_edit_the_same_call_overwrite_nothing_of_each_other() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, _) = archive.recording("pcma").await;
        let send = async |who: &str, method: &str, what: &str, body: Value| {
            let request = Request::builder().method(method).uri(format!("/api/v1/calls/{call}/{what}"));
            let request = request.header("authorization", format!("Bearer {who}"));
            archive.ask(request.body(Body::from(body.to_string())).unwrap()).await
        };
        let tags = async |was: &[&str], tags: &[&str]| {
            send("super", "PUT", "tags", json!({"was": was, "tags": tags})).await
        };
        assert_eq!(tags(&[], &["vip", "two words"]).await.status, StatusCode::OK);
        let late = tags(&[], &["complaint"]).await;
        assert_eq!(late.status, StatusCode::CONFLICT);
        assert!(late.json()["detail"].as_str().unwrap().contains("two words"), "{}", late.json());
        assert_eq!(tags(&["vip", "two words"], &["vip"]).await.json()["tags"], json!(["vip"]));
        // A note stays, and another one is in its place: once, and of the same person.
        let note = async |who: &str, body: Value| send(who, "POST", "notes", body).await;
        let first = note("super", json!({"text": "wants mony", "at_ms": 500})).await.json();
        let first = first["notes"][0]["id"].as_str().unwrap().to_owned();
        let again = json!({"text": "wants money", "at_ms": 500, "supersedes": first});
        assert_eq!(note("agent", again.clone()).await.status, StatusCode::CONFLICT);
        let second = note("super", again.clone()).await;
        assert_eq!(second.status, StatusCode::CREATED);
        let notes = second.json()["notes"].clone();
        assert_eq!((&notes[0]["text"], &notes[0]["superseded_by"]), (&json!("wants mony"), &notes[1]["id"]));
        assert_eq!((&notes[1]["supersedes"], &notes[1]["superseded_by"]), (&json!(first), &Value::Null));
        assert_eq!(note("super", again).await.status, StatusCode::CONFLICT);
        for nothing in ["x", &call] {
            let answer = note("super", json!({"text": "x", "supersedes": nothing})).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{nothing}");
        }
    });
}

#[test]
fn the_set_up_link_makes_one_account_of_an_empty_archive() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let catalogue = catalogue(folder.path()).await;
        catalogue.offer_setup(&key_hash("k"), clock::now_us() + 1_000_000_000).await.unwrap();
        let routes = routes(App::new(Arc::clone(&catalogue) as Arc<dyn Catalogue>, Config::default()));
        let post = async |key: &str, body: &'static str| {
            let request = Request::post(format!("/setup?key={key}")).body(Body::from(body)).unwrap();
            routes.clone().oneshot(request).await.unwrap().status()
        };
        let form = "user=anna&password=correct+horse%20battery";
        assert_eq!(post("wrong", form).await, StatusCode::FORBIDDEN);
        assert_eq!(post("k", "user=anna&password=short").await, StatusCode::BAD_REQUEST);
        assert_eq!(post("k", form).await, StatusCode::OK);
        assert_eq!(post("k", "user=otto&password=correct+horse%20battery").await, StatusCode::FORBIDDEN);
        let accounts = catalogue.accounts().await.unwrap();
        assert_eq!((accounts.len(), accounts[0].0.name.as_str()), (1, "anna"));
    });
}

/// Each route of the API refuses a request without a login.
#[test]
fn every_route_of_the_api_asks_who_it_is() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, recording) = archive.recording("pcma").await;
        let source =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/mod.rs")).unwrap();
        let api = &source[source.find("let api").unwrap()..source.find(".nest(").unwrap()];
        let routes: Vec<&str> =
            api.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(routes.len() >= 9, "{routes:?}");
        for route in routes {
            let id = if route.starts_with("/recordings") { &recording } else { &call };
            for method in ["GET", "PUT", "POST", "DELETE"] {
                let uri = format!("/api/v1{}", route.replace("{id}", id));
                let request = Request::builder().method(method).uri(&uri).body(Body::from("{}")).unwrap();
                let status = archive.ask(request).await.status;
                // The description is public, as the source is.
                if (route, method) == ("/openapi.json", "GET") {
                    assert_eq!(status, StatusCode::OK);
                    continue;
                }
                let is_login = (route, method) == ("/session", "POST") && status == StatusCode::BAD_REQUEST;
                let refused = [StatusCode::UNAUTHORIZED, StatusCode::METHOD_NOT_ALLOWED].contains(&status);
                assert!(refused || is_login, "{method} {uri}: {status}");
            }
        }
    });
}

#[test]
fn listening_is_logged_as_the_intervals_that_were_sent() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let (call, recording) = archive.recording("pcma").await;
        let path = format!("/recordings/{recording}/audio");
        // 58 octets of header, eight octets a millisecond.
        for range in ["bytes=0-857", "bytes=858-1657", "bytes=6458-"] {
            let part = archive.get_with("agent", &path, &[("range", range)]).await;
            assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        }
        archive.get_with("super", &format!("{path}?format=pcm"), &[("range", "bytes=44-1643")]).await;
        archive.app.log_heard(false).await;
        let entries = async || {
            let links = archive.catalogue.audit(0, 1000).await.unwrap();
            let heard = links.into_iter().map(|link| link.entry).filter(|entry| entry.action == "heard");
            let mut heard: Vec<(String, Value)> =
                heard.map(|entry| (entry.actor, serde_json::from_str(&entry.detail).unwrap())).collect();
            heard.sort_by(|a, b| a.0.cmp(&b.0));
            heard
        };
        assert_eq!(entries().await, [], "they may listen on");
        archive.app.log_heard(true).await;
        let heard = |intervals: Value| json!({"call": call, "heard_ms": intervals});
        let wanted = [
            ("agent".to_owned(), heard(json!([[0, 200], [800, 1000]]))),
            ("super".to_owned(), heard(json!([[0, 100]]))),
        ];
        assert_eq!(entries().await, wanted);
    });
}

#[test]
fn calls_of_the_same_numbers_within_ten_seconds_are_perhaps_one_until_a_person_says_no() {
    run(async {
        let archive = Archive::new().await;
        let began_us = clock::now_us() - 60_000_000;
        let numbers = [
            ("a", "201", "+49 30 1234202", 0, "in"),
            ("b", "+49301234202", "201", 9, "out"),
            ("c", "201", "+49 30 1234202", 25, "in"),
            ("d", "201", "+49 30 1234203", 1, "in"),
        ];
        for (name, remote, local, seconds, direction) in numbers {
            record(
                &archive.intake().join(name),
                &format!("Record_{name}.wav"),
                Codec::Pcma,
                &[1; 1600],
                |sidecar| {
                    sidecar.call.remote_number = remote.into();
                    sidecar.call.local_number = local.into();
                    sidecar.call.direction = recfile::call::Direction::from_name(direction);
                    sidecar.start = crate::time::rfc3339(began_us + seconds * 1_000_000);
                },
            );
        }
        assert_eq!(archive.reconcile().await.added, 4);
        let listed = archive.get("super", "/calls").await.json();
        let id_of = |name: &str| {
            let calls = listed["calls"].as_array().unwrap();
            let call = calls.iter().find(|call| call["external_id"] == format!("call-Record_{name}.wav"));
            call.unwrap()["id"].as_str().unwrap().to_owned()
        };
        let same = async |who: &str, name: &str| {
            let call = archive.get(who, &format!("/calls/{}", id_of(name))).await.json();
            call["same"]
                .as_array()
                .unwrap()
                .iter()
                .map(|same| same["id"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(same("super", "a").await, [id_of("b")]);
        assert_eq!(same("super", "b").await, [id_of("a")]);
        assert!(same("super", "c").await.is_empty() && same("super", "d").await.is_empty());
        // The list has no call that the user may not see.
        assert!(same("agent", "b").await.is_empty());
        let (_, text) = archive.page(&archive.log_in("super").await, &format!("/calls/{}", id_of("a"))).await;
        assert!(text.contains("Perhaps the same call") && text.contains("Not the same"), "{text}");
        let path = format!("/calls/{}/apart", id_of("b"));
        let body = json!({"call": id_of("a")});
        assert_eq!(archive.post("agent", &path, body.clone()).await.0, StatusCode::FORBIDDEN);
        let (status, call) = archive.post("super", &path, body).await;
        assert_eq!((status, &call["same"]), (StatusCode::OK, &json!([])), "{call}");
        assert!(same("super", "a").await.is_empty());
    });
}
