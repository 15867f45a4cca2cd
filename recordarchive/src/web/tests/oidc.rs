//! Logging in by a provider, from the button to the page at its end.

use super::{Answer, Archive, PASSWORD};
use crate::access::audit::Entry;
use crate::access::secret::hash_password;
use crate::catalogue::Catalogue;
use crate::oidc::tests::peer::{Key, Lie, Peer};
use crate::testing::run;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};

struct World {
    archive: Archive,
    peer: Peer,
    _folder: tempfile::TempDir,
}

/// A browser's cookies, by their names.
#[derive(Default)]
struct Browser(Vec<(String, String)>);

impl Browser {
    fn take(&mut self, answer: &Answer) {
        for set in answer.headers.get_all(header::SET_COOKIE) {
            let text = set.to_str().unwrap();
            let flags = ["HttpOnly", "SameSite=Lax", "Path=/", "Secure", "Max-Age="];
            assert!(flags.iter().all(|flag| text.contains(flag)), "{text}");
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            assert!(name.starts_with("__Host-"), "{text}");
            self.0.retain(|(known, _)| known != name);
            if !text.contains("Max-Age=0") {
                self.0.push((name.into(), value.into()));
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

const SESSION: &str = "__Host-recordarchive";
const ATTEMPT: &str = "__Host-recordarchive-login";

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let peer = Peer::start(Key::es256()).await;
        let settings = peer.settings(folder.path());
        let archive = Archive::with(|config| {
            config.public_url = "https://archive.example".into();
            config.oidc = Some(settings);
        })
        .await;
        Self { archive, peer, _folder: folder }
    }

    async fn get(&self, browser: &mut Browser, path: &str) -> Answer {
        let cookies: Vec<String> = browser.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::get(path).header("cookie", cookies.join("; "));
        let request = request.header("sec-fetch-site", "cross-site");
        let answer = self.archive.ask(request.body(Body::empty()).unwrap()).await;
        browser.take(&answer);
        answer
    }

    /// From the log-in page to the provider; the path and query that it sends the browser back to.
    async fn visit(&self, browser: &mut Browser) -> String {
        let begun = self.get(browser, "/login/oidc?next=%2Fcalls%2F1%3Fa%3Db").await;
        assert_eq!(begun.status, StatusCode::SEE_OTHER);
        assert!(browser.has(ATTEMPT));
        self.peer.visit(begun.header("location")).await
    }

    async fn log_in(&self, browser: &mut Browser) -> Answer {
        let back = self.visit(browser).await;
        self.get(browser, &back).await
    }

    /// The session of a browser.
    async fn session(&self, browser: &mut Browser) -> Value {
        self.get(browser, "/api/v1/session").await.json()
    }

    /// The newest entry of the audit log about logging in.
    async fn entry(&self) -> Value {
        let entries = self.archive.get("auditor", "/audit?limit=20").await.json()["entries"].clone();
        entries.as_array().unwrap().iter().find(|entry| entry["action"] == "login").unwrap().clone()
    }
}

#[test]
fn a_person_logs_in_with_the_button_and_has_name_and_roles_of_the_provider_each_time_anew() {
    run(async {
        let world = World::new().await;
        let mut browser = Browser::default();
        let page = world.get(&mut browser, "/login?next=/calls/1").await;
        let text = String::from_utf8(page.octets).unwrap();
        assert!(
            text.contains("href=\"/login/oidc?next=%2Fcalls%2F1\"") && text.contains("127.0.0.1"),
            "{text}"
        );
        let done = world.log_in(&mut browser).await;
        assert_eq!((done.status, done.header("location")), (StatusCode::SEE_OTHER, "/calls/1?a=b"));
        assert!(browser.has(SESSION) && !browser.has(ATTEMPT));
        let session = world.session(&mut browser).await;
        assert_eq!((&session["user"], &session["display"]), (&json!("anna"), &json!("Anna Müller")));
        assert!(session["permissions"].to_string().contains("audio.live"), "{session}");
        let entry = world.entry().await;
        assert_eq!(
            (&entry["actor"], &entry["object"], &entry["result"]),
            (&json!("anna"), &json!("anna"), &json!("ok"))
        );
        assert_eq!(entry["detail"]["by"], json!(world.peer.set().issuer));
        // A person of the provider has no password, and an empty one is none.
        for password in ["", PASSWORD] {
            let body = json!({"user": "anna", "password": password}).to_string();
            let request = Request::post("/api/v1/session").body(Body::from(body)).unwrap();
            assert_eq!(world.archive.ask(request).await.status, StatusCode::UNAUTHORIZED);
        }
        // Renamed, and in another group: the account's own name stays.
        {
            let mut peer = world.peer.set();
            peer.claims["name"] = json!("Anna <b>Schmidt");
            peer.claims["preferred_username"] = json!("legal");
            peer.claims["groups"] = json!(["desk"]);
            peer.claims["ext"] = json!("201");
        }
        world.log_in(&mut browser).await;
        let session = world.session(&mut browser).await;
        assert_eq!((&session["user"], &session["display"]), (&json!("anna"), &json!("Anna <b>Schmidt")));
        assert!(!session["permissions"].to_string().contains("audio.live"), "{session}");
        let page = world.get(&mut browser, "/").await;
        let text = String::from_utf8(page.octets).unwrap();
        assert!(text.contains("Anna &#60;b&#62;Schmidt") && text.contains("title=\"anna\""), "{text}");
        let accounts = world.archive.get("admin", "/accounts").await.json();
        let accounts = accounts["accounts"].as_array().unwrap();
        let account = accounts.iter().find(|account| account["name"] == "anna").unwrap();
        let of_all = json!({"role": "agent", "extensions": ["201"], "sites": [], "from": null, "to": null, "expires": null});
        assert_eq!(account["grants"], json!([of_all]));
        assert_eq!(account["provider"], json!(world.peer.set().issuer));
    });
}

#[test]
fn a_refusal_is_a_page_with_the_next_step_and_an_entry_with_the_cause() {
    run(async {
        let world = World::new().await;
        let refused = async |status: StatusCode, page: &str, why: &str| {
            let mut browser = Browser::default();
            let answer = world.log_in(&mut browser).await;
            let text = String::from_utf8(answer.octets.clone()).unwrap();
            assert_eq!(answer.status, status, "{text}");
            assert!(text.contains(page), "{page}: {text}");
            assert!(!browser.has(SESSION) && !browser.has(ATTEMPT));
            let entry = world.entry().await;
            assert_eq!((&entry["actor"], &entry["result"]), (&json!("(oidc)"), &json!("refused")));
            assert!(entry["detail"]["why"].as_str().unwrap().contains(why), "{entry}");
            entry["object"].clone()
        };
        for lie in [Lie::WrongNonce, Lie::OtherAudience, Lie::Expired, Lie::OtherKey, Lie::AlgNone] {
            world.peer.set().lie = lie;
            refused(StatusCode::FORBIDDEN, "can&#39;t be trusted", "the token does not hold").await;
        }
        world.peer.set().lie = Lie::None;
        world.peer.set().error = Some("access_denied");
        refused(StatusCode::FORBIDDEN, "access_denied: not &#60;you&#62;", "access_denied").await;
        world.peer.set().error = None;
        world.peer.set().claims["groups"] = json!(["staff"]);
        let who = refused(StatusCode::FORBIDDEN, "leads, desk, admins, legal", "no group with a role").await;
        assert_eq!(who, "anna");
        assert!(world.archive.catalogue.account("anna").await.unwrap().is_none());
        // Too many groups for a token.
        world.peer.set().claims["_claim_names"] = json!({"groups": "src1"});
        refused(StatusCode::FORBIDDEN, "too many groups", "no group").await;
    });
}

#[test]
fn a_way_back_is_good_once_and_in_the_browser_that_began_it() {
    run(async {
        let world = World::new().await;
        // Even if the provider takes a code twice.
        world.peer.set().forgets = true;
        let mut browser = Browser::default();
        let back = world.visit(&mut browser).await;
        let (mut stranger, mut thief) = (Browser::default(), Browser(browser.0.clone()));
        let refused = world.get(&mut stranger, &back).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "no cookie");
        assert_eq!(world.entry().await["detail"]["why"], "this browser did not begin it");
        let forged = back.replace("state=", "state=f");
        assert_eq!(world.get(&mut browser, &forged).await.status, StatusCode::BAD_REQUEST);
        for odd in
            ["/login/oidc/callback", "/login/oidc/callback?state=a&state=b", "/login/oidc/callback?code="]
        {
            assert_eq!(world.get(&mut browser, odd).await.status, StatusCode::BAD_REQUEST, "{odd}");
        }
        assert!(browser.has(ATTEMPT), "another page's request does not end it");
        assert_eq!(world.get(&mut browser, &back).await.status, StatusCode::SEE_OTHER);
        assert_eq!(world.get(&mut browser, &back).await.status, StatusCode::BAD_REQUEST);
        let again = world.get(&mut thief, &back).await;
        assert_eq!((again.status, thief.has(SESSION)), (StatusCode::BAD_REQUEST, false));
        assert_eq!(world.entry().await["detail"]["why"], "the log-in was used before");
    });
}

#[test]
fn a_local_account_of_the_same_name_is_another_one_and_a_disabled_account_stays_out() {
    run(async {
        let world = World::new().await;
        world.peer.set().claims["preferred_username"] = json!("admin");
        world.peer.set().claims["email"] = json!("admin");
        let mut browser = Browser::default();
        world.log_in(&mut browser).await;
        let session = world.session(&mut browser).await;
        assert_eq!(session["user"], "admin-2");
        assert!(!session["permissions"].to_string().contains("account.edit"), "{session}");
        let entry = Entry::new(0, "test", "account.disable", "admin-2");
        assert!(world.archive.catalogue.disable("admin-2", &entry).await.unwrap());
        assert_eq!(world.session(&mut browser).await["status"], 401, "its session is over");
        let answer = world.log_in(&mut browser).await;
        let text = String::from_utf8(answer.octets).unwrap();
        assert!(answer.status == StatusCode::FORBIDDEN && text.contains("admin-2 is disabled"), "{text}");
        assert_eq!(world.entry().await["detail"]["why"], "disabled");
        assert!(!browser.has(SESSION) || world.session(&mut browser).await["status"] == 401);
    });
}

#[test]
fn a_provider_that_is_away_keeps_nobody_with_a_password_out() {
    run(async {
        let world = World::new().await;
        world.peer.set().away = true;
        let mut browser = Browser::default();
        let answer = world.get(&mut browser, "/login/oidc").await;
        let text = String::from_utf8(answer.octets).unwrap();
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("does not answer") && text.contains("password"), "{text}");
        let entry = Entry::new(0, "test", "account.password", "super");
        world
            .archive
            .catalogue
            .set_password("super", &hash_password(PASSWORD).unwrap(), &entry)
            .await
            .unwrap();
        let body = json!({"user": "super", "password": PASSWORD}).to_string();
        let answer =
            world.archive.ask(Request::post("/api/v1/session").body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK);
    });
}

#[test]
fn an_entry_that_can_not_be_written_lets_nobody_in() {
    run(async {
        let world = World::new().await;
        let mut browser = Browser::default();
        let back = world.visit(&mut browser).await;
        world.archive.refuse_entries().await;
        let answer = world.get(&mut browser, &back).await;
        assert_eq!((answer.status, browser.has(SESSION)), (StatusCode::SERVICE_UNAVAILABLE, false));
        assert!(world.archive.catalogue.account("anna").await.unwrap().is_none());
    });
}

#[test]
fn an_archive_without_a_provider_has_no_button_and_no_way_there() {
    run(async {
        let archive = Archive::new().await;
        for path in ["/login/oidc", "/login/oidc/callback?code=a&state=b"] {
            let answer = archive.ask(Request::get(path).body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        }
        let page = archive.ask(Request::get("/login").body(Body::empty()).unwrap()).await;
        assert!(!String::from_utf8(page.octets).unwrap().contains("oidc"));
    });
}
