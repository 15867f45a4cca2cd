//! Policies, holds and clocks by chance, against a catalogue and the deletion job: no held call goes, and
//! none too early.

use crate::access::Condition;
use crate::access::audit::Entry;
use crate::catalogue::Catalogue;
use crate::catalogue::model::{Decision, Released, Scope, Search, Step, Taken};
use crate::catalogue::retention::{Proposal, Retention};
use crate::id::Id;
use crate::jobs::deletion::execute;
use crate::jobs::retention::apply;
use crate::media::derived::Store;
use crate::query::Query;
use crate::retention::Policy;
use crate::retention::calendar::Steady;
use crate::testing::{NOW_US, found, run};
use crate::time::DAY_US;
use std::collections::HashSet;
use std::path::Path;

const STEPS: u32 = 2500;

/// A call, as the test knows it.
struct Known {
    id: Id,
    started_us: i64,
    extension: &'static str,
    holds: HashSet<Id>,
}

fn below(seed: &mut u64, limit: usize) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    usize::try_from(*seed % limit as u64).unwrap()
}

fn sets() -> Vec<Vec<Policy>> {
    let policy = |name: &str, extensions: &[&str], keep_days, delete_after_days| Policy {
        name: name.into(),
        extensions: extensions.iter().map(|extension| (*extension).into()).collect(),
        keep_days,
        delete_after_days,
        ..Policy::default()
    };
    vec![
        vec![policy("all", &[], 0, Some(20))],
        vec![policy("desk", &["201"], 10, Some(30)), policy("all", &[], 5, Some(60))],
        vec![policy("keep", &["202"], 90, None), policy("all", &[], 0, Some(15))],
        vec![policy("never", &[], 40, None)],
    ]
}

#[test]
fn schedules_of_a_catalogue_never_delete_too_early_or_a_held_call() {
    run(async {
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let catalogue = crate::testing::catalogue(folder.path()).await;
        let derived = Store::new(folder.path());
        let (sets, mut seed) = (sets(), 0x9E37_79B9_7F4A_7C15_u64);
        let mut policies: &[Policy] = &[];
        let (mut known, mut number, mut gone): (Vec<Known>, u32, u32) = (Vec::new(), 0, 0);
        let (mut true_us, mut ahead_us, mut monotonic_us) = (NOW_US, 0, 0);
        let mut steady = Steady::new(NOW_US, 0, Some(NOW_US));
        for _ in 0..STEPS {
            let hours = i64::try_from(1 + below(&mut seed, 40)).unwrap();
            true_us += hours * DAY_US / 24;
            monotonic_us += hours * DAY_US / 24;
            let now_us = true_us + ahead_us;
            let entry = |who: &str| Entry::new(now_us, who, "test", "");
            let at = below(&mut seed, known.len().max(1));
            match below(&mut seed, 10) {
                _ if known.len() < 5 => {
                    number += 1;
                    let extension = ["201", "202"][below(&mut seed, 2)];
                    let mut file = found(number, "4711", extension);
                    file.place.root = folder.path().to_string_lossy().into_owned();
                    file.started_us = true_us;
                    let taken = catalogue.take(std::slice::from_ref(&file)).await.unwrap();
                    assert!(matches!(taken[0], Taken::Added { .. }));
                    let query = Query { extension: Some(extension.into()), ..Query::default() };
                    let search = Search { query, from_us: 0, to_us: i64::MAX, behind: None, limit: 1 };
                    let page = catalogue.search(&search, &Condition::All).await.unwrap();
                    let id = Id::parse(&page.calls[0].id).unwrap();
                    known.push(Known { id, started_us: true_us, extension, holds: HashSet::new() });
                }
                0 => {
                    let id = Id::random(now_us);
                    let decision = Decision { id: id.to_string(), name: "h".into(), ..Decision::default() };
                    let scope = Scope::Calls(vec![known[at].id]);
                    let placed =
                        catalogue.place_hold(&decision, &scope, &Condition::All, &entry("anna")).await;
                    assert!(placed.unwrap().is_some());
                    known[at].holds.insert(id);
                }
                1 | 2 => {
                    if let Some(hold) = known[at].holds.iter().next().copied() {
                        for who in ["anna", "otto"] {
                            let released =
                                catalogue.release_hold(hold, "r", &Condition::All, &entry(who)).await;
                            if matches!(released.unwrap(), Some(Released::Done(_))) {
                                known[at].holds.remove(&hold);
                            }
                        }
                    }
                }
                3 => {
                    let base = catalogue.policies().await.unwrap().0.version;
                    policies = &sets[below(&mut seed, sets.len())];
                    let asked = Step { by: "anna".into(), at_us: now_us, reason: "r".into() };
                    let id = Id::random(now_us);
                    let proposal =
                        Proposal { id, base, policies: policies.to_vec(), preview: "{}".into(), asked };
                    catalogue.set_policies(&proposal, &entry("anna")).await.unwrap();
                    catalogue.decide_policies(id, true, &entry("otto")).await.unwrap();
                }
                // A clock that jumps is put right with a restart.
                4 if ahead_us == 0 => ahead_us = [400, -400][below(&mut seed, 2)] * DAY_US,
                5 if ahead_us != 0 => {
                    (ahead_us, monotonic_us) = (0, 0);
                    steady = Steady::new(true_us, 0, catalogue.right_time().await.unwrap());
                }
                _ => {}
            }
            let now_us = true_us + ahead_us;
            if steady.doubt(now_us, monotonic_us).is_some() {
                continue;
            }
            catalogue.note_right_time(now_us).await.unwrap();
            apply(&*catalogue, now_us).await.unwrap();
            execute(&*catalogue, &derived, now_us).await.unwrap();
            for at in (0..known.len()).rev() {
                if catalogue.call(known[at].id, &Condition::All).await.unwrap().is_some() {
                    continue;
                }
                let call = known.swap_remove(at);
                let age = (true_us - call.started_us) / DAY_US;
                let fits = |policy: &&Policy| {
                    policy.extensions.is_empty() || policy.extensions.iter().any(|one| one == call.extension)
                };
                let days = policies.iter().find(fits).and_then(|policy| policy.delete_after_days);
                assert!(call.holds.is_empty(), "it was held");
                assert!(days.is_some_and(|days| age >= i64::from(days) + 7), "{age} days, {days:?}");
                assert!(policies.iter().filter(fits).all(|policy| age >= i64::from(policy.keep_days)));
                gone += 1;
            }
        }
        assert!(gone > 30, "{gone}: due calls go");
    });
}
