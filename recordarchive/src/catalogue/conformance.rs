//! The contract that every database keeps. A new one has to pass [`all`] on an empty catalogue of its own.

use super::identity::{Entered, Entrance, Person, PersonRole};
use super::model::{Account, Decision, Note, Scope, Search, Session, Step, Taken};
use super::retention::Proposal;
use super::{Catalogue, Failure};
use crate::access::audit::{Check, Entry};
use crate::access::secret::key_hash;
use crate::access::{Clause, Condition, Grant, Permission, Role, Use, authorize};
use crate::id::Id;
use crate::query::Query;
use crate::retention::Policy;
use crate::testing::{NOW_US, catalogue, found, run, site};
use crate::time::DAY_US;

/// The suite. Its parts use numbers and names of their own.
pub(crate) async fn all(catalogue: &dyn Catalogue) {
    files_are_taken_once_and_heal(catalogue).await;
    numbers_are_found_by_end_and_beginning(catalogue).await;
    words_tags_and_notes_are_found(catalogue).await;
    pages_join_without_a_call_twice_or_left_out(catalogue).await;
    conditions_hold_for_lists_and_single_calls_alike(catalogue).await;
    accounts_sessions_and_tokens(catalogue).await;
    audit_is_one_chain(catalogue).await;
    policies_are_set_and_calls_go_by_them(catalogue).await;
    hooks_go_on_where_they_were(catalogue).await;
    people_of_a_provider_are_accounts_by_issuer_and_subject(catalogue).await;
}

fn search(line: &str) -> Search {
    let query = Query::parse(line, &site()).unwrap();
    Search { query, from_us: NOW_US - DAY_US, to_us: NOW_US + 10 * DAY_US, behind: None, limit: 50 }
}

async fn hits(catalogue: &dyn Catalogue, line: &str) -> Vec<String> {
    let page = catalogue.search(&search(line), &Condition::All).await.unwrap();
    page.calls.into_iter().map(|call| call.external_id).collect()
}

async fn files_are_taken_once_and_heal(catalogue: &dyn Catalogue) {
    let file = found(1, "+49 30 5550001", "301");
    let taken = catalogue.take(std::slice::from_ref(&file)).await.unwrap();
    let [Taken::Added { recording }] = taken.as_slice() else { panic!("{taken:?}") };
    let again = catalogue.take(std::slice::from_ref(&file)).await.unwrap();
    assert_eq!(again, [Taken::Updated { recording: *recording }]);
    let mut copy = file.clone();
    copy.place.name = "Record_1-2.wav".into();
    assert_eq!(catalogue.take(std::slice::from_ref(&copy)).await.unwrap(), [Taken::Duplicate]);
    let mut other = copy.clone();
    other.place.name = "Record_1-3.wav".into();
    other.sha256 = [9; 32];
    assert_eq!(catalogue.take(&[other]).await.unwrap(), [Taken::Conflict]);
    assert_eq!(catalogue.quarantine(10).await.unwrap().len(), 1);

    let known = catalogue.known("/intake", "phone/2026-11-27").await.unwrap();
    assert_eq!(known.iter().filter(|known| known.missing).count(), 0);
    catalogue.set_missing("/intake", "phone/2026-11-27", &["Record_1.wav".into()], true).await.unwrap();
    assert_eq!(catalogue.totals().await.unwrap().missing, 1);
    // The copy takes the place of the file that is gone, and the recording keeps its id.
    assert_eq!(catalogue.take(&[copy]).await.unwrap(), [Taken::Updated { recording: *recording }]);
    assert_eq!(catalogue.totals().await.unwrap().missing, 0);
    let media = catalogue.media(*recording, &Condition::All).await.unwrap().unwrap();
    assert_eq!(media.segments[0].file.name, "Record_1-2.wav");

    // A second segment, and a second recording of the same call by another phone.
    let mut second = file.clone();
    (second.segment, second.place.name, second.sha256) = (2, "Record_1b.wav".into(), [2; 32]);
    let mut phone_b = file.clone();
    (phone_b.device, phone_b.place.folder) = ("phone-b".into(), "phone-b/2026-11-27".into());
    phone_b.started_us += 2_000_000;
    catalogue.take(&[second, phone_b]).await.unwrap();
    let page = catalogue.search(&search("5550001"), &Condition::All).await.unwrap();
    let [call] = page.calls.as_slice() else { panic!("{page:?}") };
    let segments: Vec<i64> = call.recordings.iter().map(|recording| recording.segments).collect();
    assert_eq!((segments.as_slice(), call.duration_ms), (&[2, 1][..], 2000));

    // A file without a sidecar that gets one later stays the same recording.
    let mut bare = found(2, "", "");
    (bare.recording, bare.external_id) = ("sha256:x".into(), String::new());
    let Taken::Added { recording } = catalogue.take(std::slice::from_ref(&bare)).await.unwrap()[0] else {
        panic!()
    };
    let named = found(2, "+49305550002", "302");
    assert_eq!(catalogue.take(&[named]).await.unwrap(), [Taken::Updated { recording }]);
    assert_eq!(hits(catalogue, "5550002").await, ["c2"]);
    // And a copy of it that has none is that recording, which had its name once.
    bare.place.name = "Record_2-2.wav".into();
    assert_eq!(catalogue.take(&[bare]).await.unwrap(), [Taken::Duplicate]);
}

async fn numbers_are_found_by_end_and_beginning(catalogue: &dyn Catalogue) {
    let numbers =
        [(11, "+49 30 7774711"), (12, "030 8884711"), (13, "+4940 4711222"), (14, "4711"), (15, "0711")];
    let files: Vec<_> = numbers.iter().map(|(number, remote)| found(*number, remote, "311")).collect();
    catalogue.take(&files).await.unwrap();
    for (line, expected) in [
        ("4711", &["c14", "c12", "c11"][..]),
        ("711", &["c15", "c14", "c12", "c11"]),
        ("07774711", &[]),
        ("0307774711", &["c11"]),
        ("+49 30 8884711", &["c12"]),
        ("4930888", &["c12"]),
        ("49404", &["c13"]),
        ("4940", &["c13"]),
        ("4711222", &["c13"]),
        ("311 4711", &["c14", "c12", "c11"]),
        ("311 dir:out", &[]),
        ("311 dur:>2", &[]),
        ("ext:311 dur:<2", &["c15", "c14", "c13", "c12", "c11"]),
    ] {
        assert_eq!(hits(catalogue, line).await, expected, "{line}");
    }
}

async fn words_tags_and_notes_are_found(catalogue: &dyn Catalogue) {
    let mut file = found(21, "+49305550021", "321");
    file.remote.name = "Zoë O'Brien-Strauß <script>\"'; DROP TABLE call".into();
    catalogue.take(&[file]).await.unwrap();
    for line in ["zo", "brien", "strauß", "drop obr".split(' ').next().unwrap(), "Zoë brien"] {
        assert_eq!(hits(catalogue, line).await, ["c21"], "{line}");
    }
    assert_eq!(hits(catalogue, "zoe otto").await, [""; 0]);
    let page = catalogue.search(&search("brien"), &Condition::All).await.unwrap();
    let id = Id::parse(&page.calls[0].id).unwrap();
    let entry = Entry::new(NOW_US, "anna", "tag", id);
    assert!(catalogue.set_tags(id, &["complaint".into()], None, &Condition::All, &entry).await.unwrap());
    let note = Note {
        id: Id::random(NOW_US).to_string(),
        text: "refund promised".into(),
        by: "anna".into(),
        ..Note::default()
    };
    assert!(catalogue.add_note(id, &note, &Condition::All, &entry).await.unwrap());
    for line in ["tag:complaint", "compl", "refund", "has:note", "brien refund", "tag:complaint 0021"] {
        assert_eq!(hits(catalogue, line).await, ["c21"], "{line}");
    }
    assert!(catalogue.set_tags(id, &[], None, &Condition::All, &entry).await.unwrap());
    assert_eq!(hits(catalogue, "compl").await, [""; 0]);
    let nobody = Condition::Any(Vec::new());
    assert!(!catalogue.set_tags(id, &["x".into()], None, &nobody, &entry).await.unwrap());
    assert!(!catalogue.add_note(id, &note, &nobody, &entry).await.unwrap());
}

async fn pages_join_without_a_call_twice_or_left_out(catalogue: &dyn Catalogue) {
    // All in the same millisecond, which no key of a time alone would tell apart.
    let file = |number| {
        let mut file = found(number, "+49305559999", "9999");
        file.started_us = NOW_US + 5 * DAY_US;
        file
    };
    let files: Vec<_> = (1000..1060).map(file).collect();
    catalogue.take(&files).await.unwrap();
    for line in ["9999", "4930", "ext:9999", "anna", "from:2026-12-01"] {
        let mut search = Search { limit: 7, ..search(line) };
        let mut seen = Vec::new();
        loop {
            let page = catalogue.search(&search, &Condition::All).await.unwrap();
            seen.extend(page.calls.iter().map(|call| (call.key, call.external_id.clone())));
            search.behind = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert!(seen.windows(2).all(|pair| pair[0].0 > pair[1].0), "{line}");
        assert_eq!(seen.iter().filter(|(_, id)| id.len() == 5).count(), 60, "{line}");
    }
}

async fn conditions_hold_for_lists_and_single_calls_alike(catalogue: &dyn Catalogue) {
    let files: Vec<_> =
        (0..40).map(|n| found(2000 + n, "+49305554444", if n % 2 == 0 { "441" } else { "442" })).collect();
    catalogue.take(&files).await.unwrap();
    let clause = |extension: &str, from: i64, to: i64| Clause {
        extension: Some(extension.into()),
        site: None,
        from_us: NOW_US + from * 1_000_000,
        to_us: NOW_US + to * 1_000_000,
    };
    let conditions = [
        Condition::All,
        Condition::Any(Vec::new()),
        Condition::Any(vec![clause("441", 2000, 2020)]),
        Condition::Any(vec![clause("441", 2000, 2020), clause("442", 2010, 2040), clause("443", 0, 9999)]),
        // Calls of a time, of a site, of no site that there is, and of a site and an extension.
        Condition::Any(vec![Clause { extension: None, ..clause("", 2003, 2030) }]),
        Condition::Any(vec![Clause { extension: None, site: Some("main".into()), ..clause("", 2003, 2030) }]),
        Condition::Any(vec![Clause { extension: None, site: Some("none".into()), ..clause("", 0, 9999) }]),
        Condition::Any(vec![
            Clause { site: Some("none".into()), ..clause("441", 0, 9999) },
            Clause { site: Some("main".into()), ..clause("442", 2010, 2040) },
        ]),
    ];
    let all = catalogue.search(&search("5554444"), &Condition::All).await.unwrap().calls;
    assert_eq!(all.len(), 40);
    // A user who may see no call finds none by any index.
    for line in ["has:hold", "has:note", "has:event", "has:gap", "has:empty", "tag:vip", ""] {
        let none = catalogue.search(&search(line), &Condition::Any(Vec::new())).await.unwrap();
        assert_eq!(none.calls, [], "{line}");
    }
    for condition in &conditions {
        let expected: Vec<&str> = all
            .iter()
            .filter(|call| condition.admits(&call.local.digits, &call.site, call.started_us))
            .map(|call| call.external_id.as_str())
            .collect();
        for line in [
            "5554444",
            "anna 5554444",
            "müller ext:441",
            "ext:441",
            "ext:442",
            "dir:in",
            "device:phone",
            "493",
        ] {
            let mut wide = search(line);
            wide.limit = 200;
            let listed = catalogue.search(&wide, condition).await.unwrap().calls;
            let listed: Vec<&str> = listed
                .iter()
                .filter(|call| call.external_id.starts_with("c20"))
                .map(|call| call.external_id.as_str())
                .collect();
            let fits = |id: &&&str| {
                let call = all.iter().find(|call| call.external_id == **id).unwrap();
                !line.contains("ext:") || line.ends_with(&format!("ext:{}", call.local.digits))
            };
            let expected: Vec<&str> = expected.iter().filter(fits).copied().collect();
            assert_eq!(listed, expected, "{line} {condition:?}");
        }
        for call in &all {
            let id = Id::parse(&call.id).unwrap();
            let admitted = condition.admits(&call.local.digits, &call.site, call.started_us);
            assert_eq!(catalogue.call(id, condition).await.unwrap().is_some(), admitted);
            let recording = Id::parse(&call.recordings[0].id).unwrap();
            assert_eq!(catalogue.media(recording, condition).await.unwrap().is_some(), admitted);
        }
    }
}

async fn accounts_sessions_and_tokens(catalogue: &dyn Catalogue) {
    let entry = |action| Entry::new(NOW_US, "admin", action, "anna");
    assert_eq!(catalogue.extension_from("201", NOW_US).await.unwrap(), i64::MIN);
    let uses = vec![Use { extension: "201".into(), from_us: i64::MIN, to_us: None }];
    let account = Account {
        id: Id::random(NOW_US),
        name: "anna".into(),
        password: Some("hash".into()),
        disabled: false,
    };
    // The first account comes by the set-up link, once.
    catalogue.offer_setup(&key_hash("key"), NOW_US + 10).await.unwrap();
    let first = Account { id: Id::random(NOW_US), name: "admin".into(), ..account.clone() };
    assert!(!catalogue.set_up(&key_hash("key"), NOW_US + 10, &first, &entry("account.add")).await.unwrap());
    assert!(!catalogue.set_up(&key_hash("other"), NOW_US, &first, &entry("account.add")).await.unwrap());
    assert!(catalogue.set_up(&key_hash("key"), NOW_US, &first, &entry("account.add")).await.unwrap());
    assert!(!catalogue.set_up(&key_hash("key"), NOW_US, &first, &entry("account.add")).await.unwrap());

    let grant = Grant::of(Role::Agent, uses);
    catalogue.add_account(&account, &grant, &entry("account.add")).await.unwrap();
    let twice = catalogue.add_account(&account, &grant, &entry("account.add")).await.unwrap_err();
    assert!(matches!(twice, Failure::Conflict(_)), "{twice}");
    assert_eq!(catalogue.extension_from("201", NOW_US).await.unwrap(), NOW_US, "somebody has it");
    assert_eq!(catalogue.accounts().await.unwrap().len(), 2);

    let session = Session { key_hash: key_hash("k"), account: account.id, began_us: NOW_US };
    catalogue.open_session(&session, &entry("login")).await.unwrap();
    let who = async |idle_before, began_after| {
        catalogue
            .session(&key_hash("k"), NOW_US, idle_before, began_after)
            .await
            .unwrap()
            .map(|actor| actor.name)
    };
    assert_eq!(who(NOW_US - 1, NOW_US - 1).await.as_deref(), Some("anna"));
    assert_eq!((who(NOW_US + 1, NOW_US - 1).await, who(NOW_US - 1, NOW_US + 1).await), (None, None));
    catalogue
        .add_token("anna", "crm", &key_hash("t"), &["call.search".into()], &entry("token.create"))
        .await
        .unwrap();
    let again = catalogue.add_token("anna", "crm", &key_hash("t2"), &[], &entry("token.create")).await;
    assert!(matches!(again, Err(Failure::Conflict(_))));
    let actor = catalogue.token(&key_hash("t")).await.unwrap().unwrap();
    assert!(authorize(&actor, Permission::CallSearch, None, NOW_US).is_ok());
    assert!(authorize(&actor, Permission::AudioPlay, None, NOW_US).is_err());
    // A second factor's code is good once.
    assert_eq!(catalogue.totp(account.id).await.unwrap(), None);
    assert!(!catalogue.take_totp_step(account.id, 5).await.unwrap());
    assert!(catalogue.set_totp("anna", Some(b"secret"), &entry("account.totp")).await.unwrap());
    assert!(!catalogue.set_totp("otto", Some(b"secret"), &entry("account.totp")).await.unwrap());
    assert_eq!(catalogue.totp(account.id).await.unwrap().as_deref(), Some(&b"secret"[..]));
    for (step, is_good) in [(5, true), (5, false), (4, false), (6, true)] {
        assert_eq!(catalogue.take_totp_step(account.id, step).await.unwrap(), is_good, "{step}");
    }
    assert!(catalogue.set_totp("anna", None, &entry("account.totp")).await.unwrap());
    assert_eq!(catalogue.totp(account.id).await.unwrap(), None);
    assert!(catalogue.disable("anna", &entry("account.disable")).await.unwrap());
    assert_eq!(who(NOW_US - 1, NOW_US - 1).await, None);
    assert_eq!(catalogue.token(&key_hash("t")).await.unwrap(), None);
    assert!(!catalogue.disable("otto", &entry("account.disable")).await.unwrap());
}

async fn people_of_a_provider_are_accounts_by_issuer_and_subject(catalogue: &dyn Catalogue) {
    let mut number = 0;
    let mut enter = async |person: &Person, at_us: i64| {
        number += 1;
        let entrance = Entrance {
            key_hash: key_hash(&format!("oidc {number}")),
            state_hash: key_hash(&format!("state {number}")),
            until_us: at_us + 600,
            now_us: at_us,
        };
        let entered = catalogue.enter(person, &entrance, &Entry::new(at_us, "", "login", "")).await.unwrap();
        (entered, entrance)
    };
    let who = async |entrance: &Entrance| {
        let (hash, now_us) = (&entrance.key_hash, entrance.now_us);
        catalogue.session(hash, now_us, now_us - 1, now_us - 1).await.unwrap()
    };
    let grants = async |name: &str| {
        let all = catalogue.accounts().await.unwrap();
        all.into_iter().find(|(account, _)| account.name == name).unwrap().1
    };
    let mut person = Person {
        issuer: "https://idp.example".into(),
        subject: "1".into(),
        // There is a local account of this name, which is disabled.
        name: "anna".into(),
        display: "Anna".into(),
        roles: vec![PersonRole { role: Role::Agent, extensions: vec!["690".into()] }],
        own: vec!["601".into(), "690".into()],
    };
    let (entered, entrance) = enter(&person, NOW_US).await;
    assert_eq!(entered, Entered::In("anna-2".into()));
    let actor = who(&entrance).await.unwrap();
    assert_eq!((actor.name.as_str(), actor.limit), ("anna-2", None));
    let identity = catalogue.identity(actor.account).await.unwrap().unwrap();
    assert_eq!((identity.display.as_str(), identity.issuer.as_str()), ("Anna", "https://idp.example"));
    let used = |extension: &str, from_us, to_us| Use { extension: extension.into(), from_us, to_us };
    let always = |extension| used(extension, i64::MIN, None);
    assert_eq!(grants("anna-2").await[0].uses, [always("690"), always("601")]);
    // The same log-in comes again.
    let again = catalogue.enter(&person, &entrance, &Entry::new(NOW_US, "", "login", "")).await.unwrap();
    assert_eq!(again, Entered::Again);
    // Another name, another role, another extension: the same account, whose name stays.
    (person.name, person.display) = ("admin".into(), "Anna B".into());
    person.own = vec!["602".into()];
    person.roles.push(PersonRole { role: Role::Auditor, extensions: Vec::new() });
    let (entered, entrance) = enter(&person, NOW_US + 10).await;
    assert_eq!(entered, Entered::In("anna-2".into()));
    assert_eq!(who(&entrance).await.unwrap().grants, grants("anna-2").await);
    let had = grants("anna-2").await;
    assert_eq!(had.iter().map(|grant| grant.role).collect::<Vec<_>>(), [Role::Agent, Role::Auditor]);
    let former = used("601", i64::MIN, Some(NOW_US + 10));
    assert_eq!(had[0].uses, [always("690"), former.clone(), always("602")]);
    assert_eq!(catalogue.identity(actor.account).await.unwrap().unwrap().display, "Anna B");
    // Who has the extension next has it from then on.
    let other =
        Person { subject: "2".into(), name: "bert".into(), own: vec!["601".into()], ..person.clone() };
    assert_eq!(enter(&other, NOW_US + 20).await.0, Entered::In("bert".into()));
    assert_eq!(grants("bert").await[0].uses, [always("690"), used("601", NOW_US + 20, None)]);
    // Who did not log in since has it up to then, and none of the next one's calls.
    let mut carl =
        Person { subject: "3".into(), name: "carl".into(), own: vec!["603".into()], ..person.clone() };
    enter(&carl, NOW_US + 21).await;
    let dora = Person { subject: "4".into(), name: "dora".into(), own: vec!["603".into()], ..person.clone() };
    enter(&dora, NOW_US + 22).await;
    carl.own.clear();
    enter(&carl, NOW_US + 29).await;
    assert_eq!(grants("carl").await[0].uses, [always("690"), used("603", i64::MIN, Some(NOW_US + 22))]);
    // An extension of a group ends with the group.
    carl.roles[0].extensions = vec!["691".into()];
    enter(&carl, NOW_US + 30).await;
    assert_eq!(grants("carl").await[0].uses, [always("691"), used("603", i64::MIN, Some(NOW_US + 22))]);
    // The same subject of another provider is somebody else.
    let stranger = Person { issuer: "https://other.example".into(), ..person.clone() };
    assert_eq!(enter(&stranger, NOW_US + 20).await.0, Entered::In("admin-2".into()));
    assert_eq!(catalogue.identities().await.unwrap().len(), 5);
    // Nothing changed: the grants are as they were.
    assert_eq!(enter(&person, NOW_US + 30).await.0, Entered::In("anna-2".into()));
    assert_eq!(grants("anna-2").await, had);
    // An account disabled here stays out, even if the provider lets it in.
    let entry = Entry::new(NOW_US, "admin", "account.disable", "anna-2");
    assert!(catalogue.disable("anna-2", &entry).await.unwrap());
    person.roles = vec![PersonRole { role: Role::Admin, extensions: Vec::new() }];
    let (entered, entrance) = enter(&person, NOW_US + 40).await;
    assert_eq!((entered, who(&entrance).await), (Entered::Disabled("anna-2".into()), None));
    assert_eq!(grants("anna-2").await, had);
    let actions: Vec<String> = catalogue
        .audit_newest(None, Some("anna-2"), 9)
        .await
        .unwrap()
        .into_iter()
        .map(|link| link.entry.action)
        .collect();
    assert_eq!(actions, ["login", "login", "account.role", "login", "account.add"]);
}

async fn hooks_go_on_where_they_were(catalogue: &dyn Catalogue) {
    let place = catalogue.hook_place("https://a/").await.unwrap();
    assert_eq!(catalogue.recordings_behind(place, 10).await.unwrap(), []);
    let files = [found(501, "+49305550501", "501"), found(502, "+49305550502", "501")];
    catalogue.take(&files).await.unwrap();
    let behind = catalogue.recordings_behind(place, 10).await.unwrap();
    assert_eq!(behind.len(), 2);
    catalogue.set_hook_place("https://a/", behind[0].0).await.unwrap();
    assert_eq!(catalogue.hook_place("https://a/").await.unwrap(), behind[0].0);
    assert_eq!(catalogue.hook_place("https://b/").await.unwrap(), behind[1].0, "a new one begins here");
    assert_eq!(catalogue.recordings_behind(behind[0].0, 10).await.unwrap(), behind[1..]);
    // A place beyond the last file is set back to it.
    catalogue.set_hook_place("https://a/", i64::MAX).await.unwrap();
    assert_eq!(catalogue.hook_place("https://a/").await.unwrap(), behind[1].0);
}

async fn policies_are_set_and_calls_go_by_them(catalogue: &dyn Catalogue) {
    let mut file = found(401, "+49305550401", "401");
    file.started_us = NOW_US + 100 * DAY_US;
    catalogue.take(&[file]).await.unwrap();
    let search = Search { to_us: i64::MAX, ..search("ext:401") };
    let page = catalogue.search(&search, &Condition::All).await.unwrap();
    let (key, id) = (page.calls[0].key, Id::parse(&page.calls[0].id).unwrap());
    let entry = |who: &str| Entry::new(NOW_US, who, "policy.set", "");
    let policy = |keep_days, delete_after_days| Policy {
        name: "short".into(),
        extensions: vec!["401".into()],
        keep_days,
        delete_after_days,
        ..Policy::default()
    };
    let set = async |who: &str, policies: Vec<Policy>, base| {
        let asked = Step { by: who.into(), at_us: NOW_US, reason: "r".into() };
        let proposal = Proposal { id: Id::random(NOW_US), base, policies, preview: "{}".into(), asked };
        catalogue.set_policies(&proposal, &entry(who)).await.map(|()| proposal.id)
    };
    assert_eq!(catalogue.right_time().await.unwrap(), None);
    for at in [5, 3] {
        catalogue.note_right_time(at).await.unwrap();
    }
    assert_eq!(catalogue.right_time().await.unwrap(), Some(3));
    // A longer retention applies at once, a shorter one waits for another person.
    set("anna", vec![policy(20, None)], 0).await.unwrap();
    let waits = set("anna", vec![policy(5, Some(10))], 1).await.unwrap();
    let (present, waiting) = catalogue.policies().await.unwrap();
    assert_eq!((present.version, present.policies, waiting.unwrap().id), (1, vec![policy(20, None)], waits));
    for wrong in [set("otto", vec![], 1).await, set("otto", vec![], 0).await] {
        assert!(matches!(wrong, Err(Failure::Conflict(_))), "{wrong:?}");
    }
    assert!(catalogue.decide_policies(waits, true, &entry("anna")).await.is_err());
    assert!(!catalogue.decide_policies(Id::random(0), true, &entry("otto")).await.unwrap());
    assert!(catalogue.decide_policies(waits, true, &entry("otto")).await.unwrap());
    let (present, waiting) = catalogue.policies().await.unwrap();
    assert_eq!((present.version, present.approved_by.as_deref(), waiting), (2, Some("otto"), None));

    let at = |days: i64| NOW_US + (100 + days) * DAY_US;
    let fate = catalogue.call(id, &Condition::All).await.unwrap().unwrap().fate;
    assert_eq!((fate.kept.unwrap().at_us, fate.due.unwrap().at_us), (at(5), at(10)));
    assert_eq!(catalogue.candidates(key - 1, key + 1, 10).await.unwrap()[0].subject.extension, "401");
    // Not even two people delete it while a policy keeps it.
    let ask = async |days: i64| {
        let entry = Entry::new(at(days), "anna", "deletion.ask", "");
        catalogue.ask_deletion(Id::random(at(days)), &[id], "r", &Condition::All, &entry).await
    };
    assert!(ask(4).await.unwrap_err().to_string().contains("short"));
    assert!(ask(5).await.unwrap().is_some());
    // Due is due, unless a hold keeps it; and one that is not due any more comes back.
    assert_eq!(catalogue.condemn(&[key], at(10) - 1).await.unwrap(), 0);
    assert_eq!(catalogue.condemn(&[key], at(10)).await.unwrap(), 1);
    assert_eq!(catalogue.condemn(&[key], at(10)).await.unwrap(), 0, "it is in the trash");
    assert!(catalogue.search(&search, &Condition::All).await.unwrap().calls.is_empty());
    assert_eq!(catalogue.spare(key - 1, at(10), 10).await.unwrap(), (0, Some(key)));
    let doomed =
        catalogue.doomed(at(17), 10).await.unwrap().into_iter().find(|doomed| doomed.call == key).unwrap();
    set("anna", vec![policy(5, Some(60))], 2).await.unwrap();
    assert!(
        !catalogue.begin_deletions(std::slice::from_ref(&doomed), at(17)).await.unwrap()[0],
        "it is not due any more"
    );
    assert_eq!(catalogue.spare(key - 1, at(17), 10).await.unwrap(), (1, Some(key)));
    let decision = Decision { id: Id::random(0).to_string(), name: "h".into(), ..Decision::default() };
    let scope = Scope::Calls(vec![id]);
    catalogue.place_hold(&decision, &scope, &Condition::All, &entry("anna")).await.unwrap().unwrap();
    assert_eq!(catalogue.condemn(&[key], at(60)).await.unwrap(), 0, "it is held");
    assert!(catalogue.candidates(key - 1, key + 1, 10).await.unwrap()[0].is_held);
}

async fn audit_is_one_chain(catalogue: &dyn Catalogue) {
    let entries: Vec<Entry> = (0..20).map(|n| Entry::new(NOW_US, "otto", "view", n)).collect();
    catalogue.log(&entries).await.unwrap();
    let links = catalogue.audit(0, 10_000).await.unwrap();
    let mut check = Check::default();
    links.iter().for_each(|link| check.next(link).unwrap());
    assert_eq!(check.head().0, links.last().unwrap().seq);
    let newest = catalogue.audit_newest(None, Some("otto"), 5).await.unwrap();
    let objects: Vec<&str> = newest.iter().map(|link| link.entry.object.as_str()).collect();
    assert_eq!(objects, ["19", "18", "17", "16", "15"]);
    assert_eq!(catalogue.audit_newest(Some(2), None, 5).await.unwrap().len(), 1);
    assert_eq!(catalogue.check().await.unwrap(), [""; 0]);
}

#[test]
fn sqlite_passes_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    run(async { all(&*catalogue(folder.path()).await).await });
}

#[test]
fn audit_has_no_fork_when_many_processes_write_at_once() {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let mut tasks = tokio::task::JoinSet::new();
        // Each opens the file for itself, as another process would.
        for writer in 0..4 {
            let catalogue = catalogue(folder.path()).await;
            tasks.spawn(async move {
                for n in 0..50 {
                    catalogue.log(&[Entry::new(NOW_US, &format!("w{writer}"), "view", n)]).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let catalogue = catalogue(folder.path()).await;
        let links = catalogue.audit(0, 1000).await.unwrap();
        let mut check = Check::default();
        links.iter().for_each(|link| check.next(link).unwrap());
        assert_eq!(check.head().0, 200);
    });
}

/// `RECORDARCHIVE_LONG=1 cargo test --release -p recordarchive audit_of_many -- --nocapture`: a million, and
/// their rate.
#[test]
fn audit_of_many_writers_is_one_chain_with_every_entry() {
    const WRITERS: usize = 200;
    let is_long = std::env::var_os("RECORDARCHIVE_LONG").is_some();
    let each = if is_long { 1_000_000 } else { 10_000 } / WRITERS;
    let folder = tempfile::tempdir().unwrap();
    run(async {
        // Two that open the file for themselves, as a command beside the server does.
        let both = [catalogue(folder.path()).await, catalogue(folder.path()).await];
        let began_us = crate::clock::now_us();
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let catalogue = std::sync::Arc::clone(&both[usize::from(writer % 10 == 0)]);
            tasks.spawn(async move {
                for n in 0..each {
                    catalogue.log(&[Entry::new(NOW_US, &format!("w{writer}"), "view", n)]).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let took_ms = (crate::clock::now_us() - began_us) / 1000;
        let (mut check, mut next) = (Check::default(), vec![0_usize; WRITERS]);
        loop {
            let links = both[0].audit(check.head().0, 5000).await.unwrap();
            if links.is_empty() {
                break;
            }
            for link in &links {
                check.next(link).unwrap();
                let writer: usize = link.entry.actor[1..].parse().unwrap();
                // None is there twice, and those of one writer are in order.
                assert_eq!(link.entry.object, next[writer].to_string());
                next[writer] += 1;
            }
        }
        assert!(next.iter().all(|count| *count == each));
        println!("{} entries in {took_ms} ms", check.head().0);
    });
}

#[test]
fn sqlite_reads_no_whole_table_for_any_search_of_100_000_calls() {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let catalogue = catalogue(folder.path()).await;
        catalogue.fill(100_000, NOW_US).await;
        let agent = Condition::Any(
            ["201", "202", "203"]
                .map(|extension| Clause {
                    extension: Some(extension.into()),
                    site: None,
                    from_us: 0,
                    to_us: i64::MAX,
                })
                .to_vec(),
        );
        for line in [
            "",
            "4711",
            "711",
            "1234567",
            "4930",
            "49301",
            "493012",
            "4930123456",
            "4711 name12",
            "name1",
            "name1 sur2",
            "ext:201",
            "device:phone",
            "tag:complaint",
            "has:note",
            "has:gap",
            "has:empty",
            "has:hold",
            "dir:in dur:>60",
            "site:main",
            "201 ext:201",
            "name12 ext:201",
            "reason:stopped codec:PCMA",
        ] {
            for condition in [&Condition::All, &agent] {
                for line in catalogue.explain(&search(line), condition).await.iter().map(|plan| (line, plan))
                {
                    let (line, plan) = line;
                    let is_scan = plan.starts_with("SCAN ")
                        && !plan.contains("VIRTUAL TABLE INDEX")
                        && !plan.starts_with("SCAN (subquery")
                        && !plan.starts_with("SCAN (join")
                        // These indexes have the few calls that are asked for, in the order of time.
                        && !["call_with_gap", "call_empty", "SCAN n"].iter().any(|index| plan.contains(index));
                    assert!(!is_scan, "{line:?} {condition:?}: {plan}");
                }
            }
            let page = catalogue.search(&Search { to_us: i64::MAX, ..search(line) }, &agent).await.unwrap();
            let is_theirs = |digits: &str| ["201", "202", "203"].contains(&digits);
            assert!(page.calls.iter().all(|call| is_theirs(&call.local.digits)), "{line}");
        }
    });
}
