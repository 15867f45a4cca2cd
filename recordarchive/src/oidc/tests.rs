//! The archive as a client of a provider that signs, lies, changes its keys and goes away.

pub(crate) mod peer;

use super::attempt::Attempt;
use super::person::Unfit;
use super::provider::{Back, Provider, Trouble};
use crate::access::Role;
use crate::catalogue::identity::Person;
use crate::testing::{NOW_US, run};
use crate::time::SECOND_US;
use axum::extract::Query;
use axum::http::Uri;
use peer::{Key, Lie, Peer};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tokio::sync::Semaphore;

struct World {
    folder: tempfile::TempDir,
    peer: Peer,
    provider: Provider,
}

impl World {
    async fn new(key: Key) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let peer = Peer::start(key).await;
        let provider = Provider::new(peer.settings(folder.path()), "https://archive.example").unwrap();
        Self { folder, peer, provider }
    }

    /// The way there and back at this time.
    async fn back(&self, now_us: i64) -> Result<(Attempt, Back), Trouble> {
        let attempt = Attempt::new(now_us, "/");
        let url = self.provider.begin(&attempt, now_us).await?;
        let uri: Uri = self.peer.visit(&url).await.parse().unwrap();
        assert_eq!(uri.path(), "/login/oidc/callback");
        let Query(back) = Query::<Back>::try_from_uri(&uri).unwrap();
        Ok((attempt, back))
    }

    async fn log_in(&self, now_us: i64) -> Result<Person, Trouble> {
        self.peer.set().now_s = Some(now_us / SECOND_US);
        let (attempt, back) = self.back(now_us).await?;
        self.provider.finish(&attempt, back, now_us).await
    }
}

#[test]
fn a_token_signed_by_either_kind_of_key_tells_who_it_is() {
    for key in [Key::es256(), Key::rs256()] {
        run(async {
            let world = World::new(key).await;
            let person = world.log_in(NOW_US).await.unwrap();
            assert_eq!(
                (person.subject.as_str(), person.name.as_str(), person.display.as_str()),
                ("f:1", "anna", "Anna Müller")
            );
            assert_eq!((person.roles.len(), person.roles[0].role), (1, Role::Supervisor));
            world.peer.set().secret_in_body = true;
            assert!(world.log_in(NOW_US + 7200 * SECOND_US).await.is_ok(), "the secret goes as it is taken");
        });
    }
}

#[test]
fn a_token_with_claims_as_some_providers_write_them_is_read() {
    run(async {
        let world = World::new(Key::es256()).await;
        {
            let mut peer = world.peer.set();
            for (name, value) in [
                ("email", json!("anna@office.example")),
                // Auth0, Cognito.
                ("updated_at", json!("2026-11-27T10:15:00.123Z")),
                ("email_verified", json!("true")),
                ("address", json!({"country": "DE"})),
                ("groups", json!("leads")),
                ("ver", json!("2.0")),
            ] {
                peer.claims[name] = value;
            }
            peer.claims.as_object_mut().unwrap().remove("preferred_username");
        }
        assert_eq!(world.log_in(NOW_US).await.unwrap().name, "anna@office.example");
    });
}

#[test]
fn a_token_that_does_not_hold_lets_nobody_in() {
    run(async {
        let world = World::new(Key::es256()).await;
        for (lie, told) in [
            (Lie::WrongNonce, "nonce"),
            (Lie::NoNonce, "nonce"),
            (Lie::OtherAudience, "audience"),
            (Lie::TwoAudiences, "audience"),
            (Lie::OtherIssuer, "issuer"),
            (Lie::Expired, "xpired"),
            (Lie::Future, "clocks"),
            (Lie::Old, "clocks"),
            (Lie::NotYet, "not good yet"),
            (Lie::OtherKey, "ignature"),
            (Lie::ChangedClaims, "ignature"),
            (Lie::AlgNone, "ignature"),
            (Lie::SharedSecret, "ignature"),
            (Lie::NoToken, "no id_token"),
            (Lie::NoJson, "can't be read"),
        ] {
            world.peer.set().lie = lie;
            match world.log_in(NOW_US).await {
                Err(Trouble::Untrue(why)) => {
                    assert!(why.contains(told), "{lie:?}: {why}");
                    assert!(!why.contains("secret-token") && !why.contains("eyJ"), "{lie:?}: {why}");
                }
                other => panic!("{lie:?}: {other:?}"),
            }
        }
        world.peer.set().lie = Lie::None;
        assert!(world.log_in(NOW_US).await.is_ok());
    });
}

#[test]
fn a_way_back_that_does_not_belong_to_its_attempt_is_refused_and_a_code_is_good_once() {
    run(async {
        let world = World::new(Key::es256()).await;
        world.peer.set().now_s = Some(NOW_US / SECOND_US);
        let (attempt, back) = world.back(NOW_US).await.unwrap();
        let finish = async |attempt: &Attempt, change: &dyn Fn(&mut Back)| {
            let mut back = back.clone();
            change(&mut back);
            world.provider.finish(attempt, back, NOW_US).await
        };
        let other = Attempt::new(NOW_US, "/");
        assert_eq!(finish(&other, &|_| {}).await, Err(Trouble::NotBegun));
        assert_eq!(finish(&attempt, &|back| back.state = None).await, Err(Trouble::NotBegun));
        assert_eq!(finish(&attempt, &|back| back.state = Some("x".into())).await, Err(Trouble::NotBegun));
        let elsewhere = finish(&attempt, &|back| back.iss = Some("https://another.example".into())).await;
        assert!(matches!(elsewhere, Err(Trouble::Untrue(why)) if why.contains("another.example")));
        let none = finish(&attempt, &|back| back.code = None).await;
        assert!(matches!(none, Err(Trouble::Untrue(why)) if why.contains("without a code")));
        // A code of another browser: state and cookie fit, the challenge does not.
        let (_, others) = world.back(NOW_US).await.unwrap();
        let stolen = finish(&attempt, &|back| back.code.clone_from(&others.code)).await;
        assert!(matches!(stolen, Err(Trouble::Untrue(why)) if why.contains("invalid_grant")));
        assert!(finish(&attempt, &|_| {}).await.is_ok());
        let again = finish(&attempt, &|_| {}).await;
        assert!(matches!(again, Err(Trouble::Untrue(why)) if why.contains("invalid_grant")));
        world.peer.set().error = Some("access_denied");
        let (attempt, back) = world.back(NOW_US).await.unwrap();
        let refused = world.provider.finish(&attempt, back, NOW_US).await;
        assert_eq!(refused, Err(Trouble::Refused("access_denied: not <you>".into())));
    });
}

#[test]
fn a_person_without_a_group_that_has_a_role_is_unfit() {
    run(async {
        let world = World::new(Key::es256()).await;
        world.peer.set().claims["groups"] = json!(["staff"]);
        let Err(Trouble::Unfit(Unfit::NoRole { wanted, .. })) = world.log_in(NOW_US).await else { panic!() };
        assert_eq!(wanted, ["leads", "desk", "admins", "legal"]);
    });
}

#[test]
fn a_clock_may_be_a_minute_off_and_no_more() {
    run(async {
        let world = World::new(Key::es256()).await;
        // Issued at now + 59 s by the provider's clock, and expired 59 s ago: five minutes is how long it is
        // good.
        for (off_s, is_in) in [(59, true), (62, false), (-359, true), (-361, false)] {
            world.peer.set().now_s = Some(NOW_US / SECOND_US + off_s);
            let (attempt, back) = world.back(NOW_US).await.unwrap();
            let read = world.provider.finish(&attempt, back, NOW_US).await;
            assert_eq!(read.is_ok(), is_in, "{off_s}: {read:?}");
        }
    });
}

#[test]
fn a_new_key_of_the_provider_is_found_and_its_description_lasts_while_it_is_away() {
    run(async {
        let world = World::new(Key::es256()).await;
        let at = |s: i64| NOW_US + s * SECOND_US;
        assert!(world.log_in(at(0)).await.is_ok());
        assert!(world.log_in(at(60)).await.is_ok());
        assert_eq!(world.peer.set().described, 1, "a fresh description is not asked for again");
        (world.peer.set().key, world.peer.set().kid) = (Key::es256(), "two");
        assert!(world.log_in(at(120)).await.is_ok(), "a new key under a new id");
        world.peer.set().key = Key::es256();
        assert!(world.log_in(at(125)).await.is_err(), "moments later it is not looked for again");
        assert_eq!(world.peer.set().described, 2);
        assert!(world.log_in(at(140)).await.is_ok(), "a new key under the same id");
        assert_eq!(world.peer.set().described, 3);
        // An hour later it is asked again, and the old description has to do.
        world.peer.set().away = true;
        assert!(world.log_in(at(4000)).await.is_ok());
        assert_eq!(world.peer.set().described, 4);
        assert!(world.log_in(at(4002)).await.is_ok());
        assert_eq!(world.peer.set().described, 4, "not at each log-in");
        assert!(matches!(world.log_in(at(100_000)).await, Err(Trouble::Away(_))), "it has an age");
        world.peer.set().away = false;
        assert!(matches!(world.log_in(at(100_001)).await, Err(Trouble::Away(_))));
        assert!(world.log_in(at(100_006)).await.is_ok(), "and it is tried again");
        assert!(world.log_in(at(0)).await.is_ok(), "whatever the clock does");
    });
}

#[test]
fn a_failure_of_a_slow_provider_is_that_of_all_who_wait_for_it() {
    run(async {
        let world = World::new(Key::es256()).await;
        let gate = Arc::new(Semaphore::new(0));
        (world.peer.set().away, world.peer.set().gate) = (true, Some(Arc::clone(&gate)));
        // Each came later than a failure would be remembered for.
        let begin = async |s: i64| {
            let now_us = NOW_US + s * SECOND_US;
            world.provider.begin(&Attempt::new(now_us, "/"), now_us).await
        };
        let open = async {
            while world.peer.set().described == 0 {
                tokio::task::yield_now().await;
            }
            gate.add_permits(3);
        };
        let (first, second, third, ()) = tokio::join!(begin(0), begin(10), begin(20), open);
        for answer in [first, second, third] {
            assert!(matches!(answer, Err(Trouble::Away(_))), "{answer:?}");
        }
        assert_eq!(world.peer.set().described, 1);
    });
}

#[test]
fn a_provider_that_is_not_there_or_another_one_is_told() {
    run(async {
        let world = World::new(Key::es256()).await;
        assert!(world.provider.check(NOW_US).await.unwrap().contains("1 key"));
        let settings = world.peer.settings(world.folder.path());
        for (issuer, told) in [
            ("http://127.0.0.1:1/realm".to_owned(), "127.0.0.1:1"),
            (format!("http://{}/other", world.peer.addr), "404"),
            (format!("http://{}/realm/", world.peer.addr), "unexpected issuer"),
        ] {
            let settings = super::Settings { issuer, ..settings.clone() };
            let provider = Provider::new(settings, "https://archive.example").unwrap();
            let why = provider.check(NOW_US).await.unwrap_err();
            assert!(why.contains(told), "{why}");
        }
    });
}

#[test]
fn a_file_with_the_secret_is_its_owners_alone() {
    run(async {
        let world = World::new(Key::es256()).await;
        let settings = world.peer.settings(world.folder.path());
        let refused = || Provider::new(settings.clone(), "https://archive.example").err().unwrap();
        let set = |mode| {
            std::fs::set_permissions(&settings.secret_file, PermissionsExt::from_mode(mode)).unwrap();
        };
        for mode in [0o640, 0o604, 0o620] {
            set(mode);
            assert!(refused().contains("chmod 600"), "{mode:o}: {}", refused());
        }
        set(0o600);
        std::fs::write(&settings.secret_file, " \n").unwrap();
        assert!(refused().contains("it is empty"), "{}", refused());
        std::fs::remove_file(&settings.secret_file).unwrap();
        assert!(refused().contains("client_secret_file"), "{}", refused());
    });
}
