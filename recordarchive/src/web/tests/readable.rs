//! Lists have exactly the objects that can be opened: accounts and calls by chance, compared with a second
//! rule, written here from the document.

use super::Archive;
use crate::access::audit::Entry;
use crate::access::secret::key_hash;
use crate::access::{Actor, Condition, Grant, Permission, Role, Use, authorize};
use crate::bench::synthetic::Chance;
use crate::catalogue::Catalogue;
use crate::catalogue::event::NewEvent;
use crate::catalogue::model::{Account, CallView, Decision, Note, Place, Scope, Search, Verdict};
use crate::catalogue::sqlite::SqliteCatalogue;
use crate::clock;
use crate::events::{About, Event};
use crate::id::Id;
use crate::live::Running;
use crate::query::Query;
use crate::testing::{NOW_US, catalogue, found, record, run, site};
use crate::time::{DAY_US, SECOND_US, rfc3339};
use ::media::codec::Codec;
use axum::body::{Body, HttpBody};
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tower::ServiceExt;

/// Extensions as sidecars have them. The last two are no digits, and nothing.
const EXTENSIONS: [&str; 6] = ["201", "202", "2010", "203", "desk", ""];
const MINUTE_US: i64 = 60 * SECOND_US;
/// Times at which calls begin, and at which extensions change hands.
const MINUTES: u64 = 12;
const NAMES: [&str; 4] = ["Anna Müller", "Otto Berg", "Annabell Ott", "201"];

/// Number of accounts, calls and routes that are tried, which `ACCESS_TRIPLES` may set.
fn triples() -> u64 {
    std::env::var("ACCESS_TRIPLES").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000)
}

fn one_of<T: Clone>(chance: &mut Chance, all: &[T]) -> T {
    all[usize::try_from(chance.below(all.len() as u64)).unwrap()].clone()
}

fn is(chance: &mut Chance, one_in: u64) -> bool {
    chance.below(one_in) == 0
}

/// Whose a call is.
#[derive(Clone, Debug)]
struct Known {
    key: i64,
    id: Id,
    extension: String,
    started_us: i64,
    is_trash: bool,
}

/// The table of the document: who may what.
fn roles_that_may(permission: Permission) -> &'static [Role] {
    use Role as R;
    match permission {
        Permission::CallSearch => {
            &[R::Agent, R::Supervisor, R::Investigator, R::Compliance, R::Auditor, R::Integration]
        }
        Permission::AudioPlay => &[R::Agent, R::Supervisor, R::Investigator, R::Integration],
        Permission::AudioLive => &[R::Supervisor],
        Permission::AudioDownload => &[R::Investigator, R::Integration],
        Permission::ExportCreate => &[R::Investigator],
        Permission::NoteWrite => &[R::Agent, R::Supervisor, R::Investigator],
        Permission::TagWrite => &[R::Supervisor, R::Integration],
        Permission::HoldPlace | Permission::DeleteRequest => &[R::Compliance],
        _ => unreachable!("no route about a call asks for it"),
    }
}

/// The permissions of routes about calls.
const ASKED: [Permission; 9] = [
    Permission::CallSearch,
    Permission::AudioPlay,
    Permission::AudioLive,
    Permission::AudioDownload,
    Permission::ExportCreate,
    Permission::NoteWrite,
    Permission::TagWrite,
    Permission::HoldPlace,
    Permission::DeleteRequest,
];

/// The grants by which somebody may do this with any call; none: they may not at all.
fn grants_for(actor: &Actor, permission: Permission, reason: bool, now_us: i64) -> Vec<&Grant> {
    let is_heard =
        [Permission::AudioPlay, Permission::AudioLive, Permission::AudioDownload, Permission::ExportCreate];
    let is_silent =
        |grant: &Grant| grant.role == Role::Investigator && is_heard.contains(&permission) && !reason;
    if actor.limit.as_ref().is_some_and(|limit| !limit.contains(&permission)) {
        return Vec::new();
    }
    let fits = |grant: &&Grant| {
        roles_that_may(permission).contains(&grant.role)
            && grant.expires_us.is_none_or(|end_us| end_us > now_us)
            && !is_silent(grant)
    };
    actor.grants.iter().filter(fits).collect()
}

/// Whether a call is among those of one of these grants.
fn may(grants: &[&Grant], extension: &str, started_us: i64) -> bool {
    let is_theirs = |used: &Use| {
        used.extension == extension
            && started_us >= used.from_us
            && used.to_us.is_none_or(|to_us| started_us < to_us)
    };
    grants.iter().any(|grant| match grant.uses.as_slice() {
        [] => grant.role != Role::Agent,
        uses => uses.iter().any(is_theirs),
    })
}

fn any_grant(chance: &mut Chance, role: Role, began_us: i64, now_us: i64) -> Grant {
    let uses = match chance.below(5) {
        0 | 1 => 0,
        2 | 3 => 1 + chance.below(3),
        // More than a search has streams for.
        _ if is(chance, 10) => 230,
        _ => 4,
    };
    let minute =
        |chance: &mut Chance| began_us + i64::try_from(chance.below(MINUTES + 1)).unwrap() * MINUTE_US;
    let any_use = |_| Use {
        extension: one_of(chance, &EXTENSIONS).into(),
        from_us: if is(chance, 2) { 0 } else { minute(chance) },
        to_us: if is(chance, 2) { None } else { Some(minute(chance)) },
    };
    let uses = (0..uses).map(any_use).collect();
    let ends = [None, None, None, Some(now_us - 1), Some(now_us + DAY_US)];
    Grant { expires_us: one_of(chance, &ends), ..Grant::of(role, uses) }
}

fn any_limit(chance: &mut Chance) -> Option<Vec<Permission>> {
    if !is(chance, 4) {
        return None;
    }
    let all = Permission::ALL.into_iter();
    let mut limit: Vec<Permission> = all.filter(|_| is(chance, 2)).collect();
    limit.push(Permission::CallSearch);
    Some(limit)
}

/// A catalogue without files: calls by chance, some with notes, tags, events and holds, and some in the
/// trash.
struct World {
    _folder: tempfile::TempDir,
    catalogue: std::sync::Arc<SqliteCatalogue>,
    calls: Vec<Known>,
    events: Vec<(Id, Vec<i64>)>,
    holds: Vec<(Id, Vec<usize>)>,
    deletions: Vec<(Id, Vec<usize>)>,
}

impl World {
    async fn new(chance: &mut Chance, count: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalogue = catalogue(folder.path()).await;
        let mut files = Vec::new();
        for number in 0..count {
            let remote = format!("+49 30 {}", 1_234_700 + chance.below(8));
            let mut file = found(number, &remote, one_of(chance, &EXTENSIONS));
            file.started_us = NOW_US + i64::try_from(chance.below(MINUTES)).unwrap() * MINUTE_US;
            file.remote.name = one_of(chance, &NAMES).into();
            file.device = one_of(chance, &["phone", "other"]).into();
            file.codec = one_of(chance, &["PCMA", "G722"]).into();
            file.gap_ms = i64::try_from(chance.below(2)).unwrap();
            file.duration_ms = i64::try_from(chance.below(3)).unwrap() * 1000;
            files.push(file);
        }
        catalogue.take(&files).await.unwrap();
        let seen = catalogue.search(&search("", count), &Condition::All).await.unwrap().calls;
        assert_eq!(seen.len(), files.len());
        let known = |call: &CallView| {
            let number: usize = call.external_id[1..].parse().unwrap();
            let (extension, started_us) = (files[number].local.number.clone(), files[number].started_us);
            Known { key: call.key, id: Id::parse(&call.id).unwrap(), extension, started_us, is_trash: false }
        };
        let calls = seen.iter().map(known).collect();
        let mut world =
            Self { _folder: folder, catalogue, calls, events: vec![], holds: vec![], deletions: vec![] };
        world.decide(chance).await;
        world
    }

    fn some(&self, chance: &mut Chance, most: u64) -> (Vec<usize>, Vec<Id>) {
        let count = self.calls.len() as u64;
        let all: BTreeSet<u64> = (0..=chance.below(most)).map(|_| chance.below(count)).collect();
        let all: Vec<usize> = all.into_iter().map(|at| usize::try_from(at).unwrap()).collect();
        let ids = all.iter().map(|at| self.calls[*at].id).collect();
        (all, ids)
    }

    async fn decide(&mut self, chance: &mut Chance) {
        let entry = |action: &str| Entry::new(NOW_US, "anna", action, "");
        for at in 0..self.calls.len() {
            let id = self.calls[at].id;
            if is(chance, 6) {
                let tags = [one_of(chance, &["vip", "complaint"]).to_owned()];
                self.catalogue.set_tags(id, &tags, None, &Condition::All, &entry("tag")).await.unwrap();
            }
            if is(chance, 8) {
                let note = Note {
                    id: Id::random(NOW_US).to_string(),
                    text: "Ring back Anna".into(),
                    ..Note::default()
                };
                self.catalogue.add_note(id, &note, &Condition::All, &entry("note")).await.unwrap();
            }
        }
        let any_event = |number: u64| {
            let from_us = NOW_US + i64::try_from(chance.below(MINUTES)).unwrap() * MINUTE_US;
            NewEvent {
                source: "desk".into(),
                external_id: number.to_string(),
                kind: "alarm".into(),
                from_us,
                to_us: from_us + MINUTE_US,
                extensions: vec![one_of(chance, &EXTENSIONS).into()],
                ..NewEvent::default()
            }
        };
        let events: Vec<NewEvent> = (0..8).map(any_event).collect();
        self.catalogue.put_events(&events, &entry("event.add")).await.unwrap();
        let mut linked: BTreeMap<Id, Vec<i64>> = BTreeMap::new();
        for call in &self.calls {
            let view = self.catalogue.call(call.id, &Condition::All).await.unwrap().unwrap();
            for event in view.events {
                linked.entry(Id::parse(&event.id).unwrap()).or_default().push(call.key);
            }
        }
        self.events = linked.into_iter().collect();
        for number in 0..6 {
            let (at, ids) = self.some(chance, 3);
            let id = Id::random(NOW_US + number);
            let decision = Decision { id: id.to_string(), name: "Case 7".into(), ..Decision::default() };
            let scope = Scope::Calls(ids);
            self.catalogue
                .place_hold(&decision, &scope, &Condition::All, &entry("hold.place"))
                .await
                .unwrap();
            self.holds.push((id, at));
        }
        for number in 0..12 {
            let (at, ids) = self.some(chance, 3);
            let id = Id::random(NOW_US + number);
            // Calls that are held, or in the trash already, are refused.
            let asks =
                self.catalogue.ask_deletion(id, &ids, "old", &Condition::All, &entry("deletion.ask")).await;
            if asks.is_err() {
                continue;
            }
            self.deletions.push((id, at.clone()));
            let second = Entry::new(NOW_US, "otto", "deletion.approve", "");
            let verdict = one_of(chance, &[Verdict::Approve, Verdict::Reject]);
            let decided = self.catalogue.decide_deletion(id, verdict, "old", &Condition::All, &second).await;
            if decided.is_ok() && verdict == Verdict::Approve {
                at.iter().for_each(|at| self.calls[*at].is_trash = true);
            }
        }
    }

    /// Keys of the calls that somebody may do this with, by the rule of the test.
    fn expected(&self, grants: &[&Grant], with_trash: bool) -> BTreeSet<i64> {
        let fits =
            |call: &&Known| (with_trash || !call.is_trash) && may(grants, &call.extension, call.started_us);
        self.calls.iter().filter(fits).map(|call| call.key).collect()
    }

    /// All lists and objects, for one account; how many accounts, calls and routes were tried.
    async fn check(&self, actor: &Actor, lines: &[(String, BTreeSet<i64>)]) -> u64 {
        let mut tried = 0;
        let count = self.calls.len() as u64;
        for permission in ASKED {
            for reason in [None, Some("case 7")] {
                let grants = grants_for(actor, permission, reason.is_some(), NOW_US);
                let condition = authorize(actor, permission, reason, NOW_US);
                assert_eq!(condition.is_ok(), !grants.is_empty(), "{permission:?} {actor:?}");
                let Ok(condition) = condition else { continue };
                for with_trash in [false, true] {
                    let admitted = self.catalogue.admitted(&condition, with_trash).await;
                    let expected = self.expected(&grants, with_trash);
                    assert_eq!(BTreeSet::from_iter(admitted), expected, "{permission:?} {actor:?}");
                }
                for call in &self.calls {
                    let admits = condition.admits(&call.extension, "main", call.started_us);
                    assert_eq!(admits, may(&grants, &call.extension, call.started_us), "{call:?} {actor:?}");
                }
                tried += 3 * count;
            }
        }
        if let Ok(condition) = authorize(actor, Permission::CallSearch, None, NOW_US) {
            let expected = self.expected(&grants_for(actor, Permission::CallSearch, false, NOW_US), false);
            for (line, fit) in lines {
                let found = self.pages(line, &condition).await;
                let expected: Vec<i64> =
                    fit.iter().rev().copied().filter(|key| expected.contains(key)).collect();
                assert_eq!(found, expected, "{line:?} {actor:?}");
                tried += count;
            }
            for (id, linked) in &self.events {
                let event = self.catalogue.event(*id, &condition).await.unwrap();
                let seen: Vec<i64> = linked.iter().copied().filter(|key| expected.contains(key)).collect();
                let shown =
                    event.map(|event| event.calls.iter().map(|call| call.key).rev().collect::<Vec<_>>());
                let is_there = condition == Condition::All || !seen.is_empty();
                assert_eq!(shown, is_there.then_some(seen), "{actor:?}");
                tried += count;
            }
        }
        tried + self.check_decisions(actor).await
    }

    /// Holds and deletions: they are there for those alone who may see all of their calls.
    async fn check_decisions(&self, actor: &Actor) -> u64 {
        let Ok(condition) = authorize(actor, Permission::HoldPlace, None, NOW_US) else { return 0 };
        let grants = grants_for(actor, Permission::HoldPlace, false, NOW_US);
        let sees = |(id, calls): &(Id, Vec<usize>)| {
            let mut calls = calls.iter().map(|at| &self.calls[*at]);
            calls.all(|call| may(&grants, &call.extension, call.started_us)).then(|| id.to_string())
        };
        let holds = self.catalogue.holds(None, 100, &condition).await.unwrap().holds;
        let listed: BTreeSet<String> = holds.into_iter().map(|hold| hold.decision.id).collect();
        assert_eq!(listed, self.holds.iter().filter_map(sees).collect(), "{actor:?}");
        for (id, _) in &self.holds {
            let opened = self.catalogue.hold(*id, &condition).await.unwrap();
            assert_eq!(opened.is_some(), listed.contains(&id.to_string()), "{actor:?}");
        }
        let deletions = self.catalogue.deletions(None, 100, &condition).await.unwrap().deletions;
        let listed: BTreeSet<String> = deletions.into_iter().map(|deletion| deletion.id).collect();
        assert_eq!(listed, self.deletions.iter().filter_map(sees).collect(), "{actor:?}");
        (2 * self.holds.len() + self.deletions.len()) as u64
    }

    /// A list, page by page.
    async fn pages(&self, line: &str, condition: &Condition) -> Vec<i64> {
        let mut search = search(line, 150);
        let mut keys = Vec::new();
        loop {
            let page = self.catalogue.search(&search, condition).await;
            let page = page.unwrap_or_else(|error| panic!("{line:?} {condition:?}: {error}"));
            keys.extend(page.calls.iter().map(|call| call.key));
            search.behind = page.next;
            if page.next.is_none() {
                search.limit = 10_000;
                assert_eq!(self.catalogue.keys(&search, condition).await.unwrap(), keys, "{line:?}");
                return keys;
            }
        }
    }
}

fn search(line: &str, limit: u32) -> Search {
    let query = Query::parse(line, &site()).unwrap();
    Search { query, from_us: NOW_US - DAY_US, to_us: NOW_US + DAY_US, behind: None, limit }
}

/// Each index that can drive a search, and filters beside it.
const LINES: [&str; 16] = [
    "",
    "4703",
    "201",
    "1234705 dir:in",
    "anna",
    "ott codec:g722",
    "ring anna",
    "tag:vip",
    "vip 4701",
    "ext:201",
    "ext:202 tag:complaint",
    "device:other",
    "has:note",
    "has:hold",
    "has:event dur:>1",
    "has:gap",
];

#[test]
fn a_list_has_the_calls_that_an_account_may_open_and_no_other() {
    run(async {
        let (mut tried, mut seed) = (0, 0);
        while tried < triples() {
            seed += 1;
            let chance = &mut Chance::new(seed);
            let world = World::new(chance, 150).await;
            let mut lines = Vec::new();
            for line in LINES {
                let all = world.pages(line, &Condition::All).await;
                lines.push((line.to_owned(), BTreeSet::from_iter(all)));
            }
            for _ in 0..12 {
                let grants = (0..=chance.below(3)).map(|_| {
                    let role = one_of(chance, &Role::ALL);
                    any_grant(chance, role, NOW_US, NOW_US)
                });
                let grants = grants.collect();
                let limit = any_limit(chance);
                let actor = Actor { account: Id::random(0), name: format!("seed {seed}"), grants, limit };
                tried += world.check(&actor, &lines).await;
            }
        }
        eprintln!("accounts, calls and routes: {tried}, of {seed} catalogues");
    });
}

/// Calls with files, live ones and events, behind the router.
struct Served {
    archive: Archive,
    calls: Vec<(Known, Vec<String>)>,
    live: Vec<Running>,
    events: Vec<String>,
}

impl Served {
    async fn new(chance: &mut Chance, began_us: i64) -> Self {
        let archive = Archive::new().await;
        let mut calls = Vec::new();
        for number in 0..24_u8 {
            let extension = one_of(chance, &EXTENSIONS);
            let started_us = began_us + i64::try_from(chance.below(MINUTES)).unwrap() * MINUTE_US;
            record(&archive.intake().join("phone"), &name(number), Codec::Pcma, &[number; 1600], |sidecar| {
                sidecar.start = rfc3339(started_us);
                sidecar.call.local_number = extension.into();
            });
            let known =
                Known { key: 0, id: Id([0; 16]), extension: extension.into(), started_us, is_trash: false };
            calls.push((known, Vec::new()));
        }
        assert_eq!(archive.reconcile().await.added, 24);
        let listed = archive.get("super", "/calls?limit=200").await.json();
        for call in listed["calls"].as_array().unwrap() {
            let (_, number) = call["external_id"].as_str().unwrap().split_once('_').unwrap();
            let at: usize = number.strip_suffix(".wav").unwrap().parse().unwrap();
            calls[at].0.id = Id::parse(call["id"].as_str().unwrap()).unwrap();
            let ids = call["recordings"].as_array().unwrap().iter();
            calls[at].1 = ids.map(|recording| recording["id"].as_str().unwrap().to_owned()).collect();
        }
        let mut served = Self { archive, calls, live: Vec::new(), events: Vec::new() };
        served.add_others(chance, began_us).await;
        served
    }

    async fn add_others(&mut self, chance: &mut Chance, began_us: i64) {
        let archive = &self.archive;
        for number in 0..8_u8 {
            let started_us = began_us + i64::from(number) * MINUTE_US;
            self.live.push(Running {
                id: Id::random(started_us),
                extension: one_of(chance, &EXTENSIONS).into(),
                started_us,
                codec: "PCMA".into(),
                file: Place {
                    root: archive.intake().to_string_lossy().into(),
                    folder: "phone".into(),
                    name: name(number),
                    ..Place::default()
                },
                ..running()
            });
        }
        archive.app.live().set(archive.intake(), self.live.clone());
        let alarm = |number: u8| {
            json!({"source": "desk", "external_id": number.to_string(), "kind": "alarm", "title": "Alarm",
                "from": rfc3339(began_us + i64::from(number) * MINUTE_US), "extensions": [EXTENSIONS[usize::from(number % 4)]]})
        };
        let alarms: Vec<Value> = (0..8).map(alarm).collect();
        let put = archive.post("program", "/events", json!(alarms)).await;
        assert_eq!(put.0, StatusCode::OK, "{}", put.1);
        let mut events = BTreeSet::new();
        for (call, _) in &self.calls {
            let told = archive.get("super", &format!("/calls/{}", call.id)).await.json();
            let ids = told["events"].as_array().unwrap().iter();
            events.extend(ids.map(|event| event["id"].as_str().unwrap().to_owned()));
        }
        self.events = events.into_iter().collect();
        for (call, _) in &mut self.calls[..2] {
            let asked = json!({"calls": [call.id.to_string()], "reason": "old"});
            let (status, asked) = archive.post("legal", "/deletions", asked).await;
            assert_eq!(status, StatusCode::CREATED, "{asked}");
            let path = format!("/deletions/{}/approve", asked["id"].as_str().unwrap());
            assert_eq!(archive.post("second", &path, json!({})).await.0, StatusCode::OK);
            call.is_trash = true;
        }
    }

    async fn account(&self, chance: &mut Chance, name: &str, role: Role, began_us: i64) -> Actor {
        let grant = any_grant(chance, role, began_us, clock::now_us());
        let account = Account { id: Id::random(0), name: name.into(), password: None, disabled: false };
        let limit = any_limit(chance);
        let scope = limit.iter().flatten().map(|permission| permission.name().to_owned());
        let scope: Vec<String> = scope.collect();
        let entry = Entry::new(0, "test", "account.add", name);
        let catalogue = &self.archive.catalogue;
        catalogue.add_account(&account, &grant, &entry).await.unwrap();
        catalogue.add_token(name, "test", &key_hash(name), &scope, &entry).await.unwrap();
        Actor { account: account.id, name: name.into(), grants: vec![grant], limit }
    }

    /// The status of a route about a call, by the rule of the test.
    fn status(&self, actor: &Actor, permission: Permission, reason: bool, call: &Known) -> u16 {
        let grants = grants_for(actor, permission, reason, clock::now_us());
        match (grants.as_slice(), may(&grants, &call.extension, call.started_us)) {
            ([], _) => 403,
            (_, false) => 404,
            (_, true) => 200,
        }
    }

    /// The listed objects, page by page, and the counts of their days; or nothing, if it is refused.
    async fn listed(&self, who: &str) -> Option<BTreeSet<Id>> {
        let (mut ids, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let page = self.archive.get(who, &format!("/calls?limit=5{cursor}")).await;
            if page.status == StatusCode::FORBIDDEN {
                return None;
            }
            let page = page.json();
            for call in page["calls"].as_array().unwrap() {
                assert!(ids.insert(Id::parse(call["id"].as_str().unwrap()).unwrap()), "twice");
            }
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let days = self.archive.get(who, "/calls/days").await.json();
        let count: u64 =
            days["days"].as_array().unwrap().iter().map(|day| day["calls"].as_u64().unwrap()).sum();
        assert_eq!(count, ids.len() as u64, "{who}");
        Some(ids)
    }

    /// Every route of every call, for one account; how many requests that were.
    async fn check(&self, actor: &Actor) -> u64 {
        let (archive, who) = (&self.archive, actor.name.as_str());
        let mut asked = 0;
        let listed = self.listed(who).await;
        let search = |call: &Known| self.status(actor, Permission::CallSearch, false, call);
        for (call, recordings) in &self.calls {
            let is_listed = listed.as_ref().is_some_and(|listed| listed.contains(&call.id));
            assert_eq!(is_listed, search(call) == 200 && !call.is_trash, "{call:?} {actor:?}");
            let decides = [Permission::DeleteRequest, Permission::DeleteApprove]
                .into_iter()
                .any(|permission| authorize(actor, permission, None, clock::now_us()).is_ok());
            let of_call = match search(call) {
                200 if call.is_trash && !decides => 404,
                status => status,
            };
            let opened = archive.get(who, &format!("/calls/{}", call.id)).await;
            assert_eq!(opened.status, of_call, "{call:?} {actor:?}");
            for other in opened.json()["same"].as_array().into_iter().flatten() {
                let other = Id::parse(other["id"].as_str().unwrap()).unwrap();
                assert!(listed.as_ref().is_some_and(|listed| listed.contains(&other)), "{other} {actor:?}");
            }
            for (permission, reason, route) in [
                (Permission::AudioPlay, false, "audio"),
                (Permission::AudioPlay, true, "audio?reason=case"),
                (Permission::AudioPlay, false, "peaks"),
                (Permission::AudioPlay, true, "peaks?reason=case"),
                (Permission::AudioDownload, true, "original?reason=case"),
            ] {
                let status = match self.status(actor, permission, reason, call) {
                    200 if call.is_trash => 404,
                    status => status,
                };
                let path = format!("/recordings/{}/{route}", recordings[0]);
                assert_eq!(archive.get(who, &path).await.status, status, "{route} {call:?} {actor:?}");
            }
            let body = json!({"calls": [call.id.to_string()], "reason": "case"});
            let exported = match self.status(actor, Permission::ExportCreate, true, call) {
                200 if call.is_trash => 404,
                200 => 202,
                status => status,
            };
            assert_eq!(archive.post(who, "/exports", body).await.0, exported, "{call:?} {actor:?}");
            asked += 7;
        }
        asked + self.check_others(actor, &search).await
    }

    async fn check_others(&self, actor: &Actor, search: &impl Fn(&Known) -> u16) -> u64 {
        let (archive, who) = (&self.archive, actor.name.as_str());
        let live = archive.get(who, "/live").await;
        let known = |running: &Running| Known {
            key: 0,
            id: running.id,
            extension: running.extension.clone(),
            started_us: running.started_us,
            is_trash: false,
        };
        let json = live.json();
        let seen = json["live"].as_array().into_iter().flatten().map(|call| call["id"].as_str().unwrap());
        let seen: BTreeSet<&str> = seen.collect();
        for running in &self.live {
            let status = self.status(actor, Permission::AudioLive, false, &known(running));
            assert_eq!(seen.contains(running.id.to_string().as_str()), status == 200, "{actor:?}");
            let head = Request::head(format!("/api/v1/live/{}/audio", running.id));
            let head = head.header("authorization", format!("Bearer {who}"));
            let heard = archive.ask(head.body(Body::empty()).unwrap()).await;
            assert_eq!(heard.status, status, "{running:?} {actor:?}");
        }
        for event in &self.events {
            let opened = archive.get(who, &format!("/events/{event}")).await;
            let calls = opened.json()["calls"].as_array().cloned().unwrap_or_default();
            for call in &calls {
                let id = Id::parse(call["id"].as_str().unwrap()).unwrap();
                let (call, _) = self.calls.iter().find(|(call, _)| call.id == id).unwrap();
                assert!(search(call) == 200 && !call.is_trash, "{call:?} {actor:?}");
            }
            let sees_all =
                authorize(actor, Permission::CallSearch, None, clock::now_us()) == Ok(Condition::All);
            assert_eq!(opened.status == StatusCode::OK, sees_all || !calls.is_empty(), "{actor:?}");
        }
        (self.live.len() + self.events.len()) as u64
    }
}

fn name(number: u8) -> String {
    format!("Record_{number}.wav")
}

fn running() -> Running {
    Running {
        id: Id([0; 16]),
        external_id: String::new(),
        recording: String::new(),
        device: "phone".into(),
        site: "main".into(),
        extension: String::new(),
        direction: None,
        remote: crate::catalogue::model::Party::default(),
        local: crate::catalogue::model::Party::default(),
        codec: String::new(),
        started_us: 0,
        file: Place::default(),
        segment: 1,
        encrypted: false,
        told: None,
    }
}

/// All that a stream tells until it ends.
async fn told(body: Body) -> String {
    let mut body = Box::pin(body);
    let mut all = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        all.extend(frame.unwrap().into_data().unwrap());
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn every_route_opens_what_is_listed_and_knows_nothing_of_the_rest() {
    run(async {
        let chance = &mut Chance::new(1);
        let began_us = clock::now_us() / SECOND_US * SECOND_US - 30 * MINUTE_US;
        let served = Served::new(chance, began_us).await;
        let (mut asked, mut actors) = (0, Vec::new());
        for number in 0..14 {
            let name = format!("account {number}");
            let actor = served.account(chance, &name, Role::ALL[number % Role::ALL.len()], began_us).await;
            asked += served.check(&actor).await;
            actors.push(actor);
        }
        let mut streams = Vec::new();
        for actor in &actors {
            let request = Request::get("/api/v1/stream");
            let request = request.header("authorization", format!("Bearer {}", actor.name));
            let opened =
                served.archive.routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            streams.push((opened.status(), opened.into_body()));
        }
        let events = served.archive.app.events();
        for (_, recordings) in &served.calls {
            let about = About::Recording(Id::parse(&recordings[0]).unwrap());
            events.tell(Event { kind: "call.sealed", about, data: json!({}) });
        }
        for running in &served.live {
            let about = About::Live(running.extension.clone(), running.site.clone(), running.started_us);
            events.tell(Event {
                kind: "call.live",
                about,
                data: json!({"recording": running.id.to_string()}),
            });
        }
        served.archive.app.end();
        for (actor, (status, body)) in actors.iter().zip(streams) {
            let may_search = !grants_for(actor, Permission::CallSearch, false, clock::now_us()).is_empty();
            assert_eq!(status == StatusCode::OK, may_search, "{actor:?}");
            if !may_search {
                continue;
            }
            let text = told(body).await;
            for (call, recordings) in &served.calls {
                let is_seen =
                    served.status(actor, Permission::CallSearch, false, call) == 200 && !call.is_trash;
                assert_eq!(text.contains(&recordings[0]), is_seen, "{call:?} {actor:?}");
            }
            for running in &served.live {
                let grants = grants_for(actor, Permission::AudioLive, false, clock::now_us());
                let is_seen = may(&grants, &running.extension, running.started_us);
                assert_eq!(text.contains(&running.id.to_string()), is_seen, "{running:?} {actor:?}");
            }
        }
        assert!(asked > 2000, "{asked}");
    });
}
