//! Policies by example and by chance.

use super::compare::shortens;
use super::preview::Preview;
use super::words::retention;
use super::{Class, FIRST_TIME_US, Policy, Subject, check, earliest_us, fate};
use crate::testing::NOW_US;
use crate::time::DAY_US;
use proptest::prelude::*;
use recfile::call::Direction;

fn policy(name: &str, keep_days: u32, delete_after_days: impl Into<Option<u32>>) -> Policy {
    Policy { name: name.into(), keep_days, delete_after_days: delete_after_days.into(), ..Policy::default() }
}

fn subject(tags: &[&str]) -> Subject {
    Subject {
        started_us: NOW_US,
        site: "main".into(),
        extension: "201".into(),
        direction: Some(Direction::In),
        tags: tags.iter().map(|tag| (*tag).into()).collect(),
        class: Class::Normal,
    }
}

#[test]
fn fate_is_due_by_the_first_policy_that_fits_and_never_before_the_longest_keep() {
    let complaint = Policy { tag: Some("complaint".into()), ..policy("complaints", 3650, None) };
    let desk = Policy { extensions: vec!["201".into()], ..policy("desk", 0, 90) };
    let all = policy("all", 30, 365);
    let due = |policies: &[Policy], subject: &Subject| {
        fate(policies, subject).due.map(|due| ((due.at_us - subject.started_us) / DAY_US, due.policy))
    };
    let policies = [desk.clone(), complaint.clone(), all.clone()];
    assert_eq!(due(&policies, &subject(&[])), Some((90, "desk".into())));
    // Kept by another policy than the one that deletes.
    assert_eq!(due(&policies, &subject(&["complaint"])), Some((3650, "desk".into())));
    assert_eq!(due(&[complaint, desk, all.clone()], &subject(&["complaint"])), None);
    let elsewhere = Subject { extension: "202".into(), ..subject(&[]) };
    assert_eq!(due(&policies, &elsewhere), Some((365, "all".into())));
    let kept = fate(&policies, &elsewhere).kept.unwrap();
    assert_eq!(((kept.at_us - NOW_US) / DAY_US, kept.policy.as_str()), (30, "all"));
    assert_eq!((fate(&[], &elsewhere).due, fate(&[], &elsewhere).kept), (None, None));
    assert_eq!(earliest_us(&policies), Some(90 * DAY_US));
    // A clock that was never set says nothing about when.
    let unset = Subject { started_us: FIRST_TIME_US - 1, ..elsewhere };
    assert_eq!(due(&policies, &unset), None);
    assert!(fate(&[all], &unset).kept.is_some());
}

#[test]
fn a_policy_fits_by_site_extension_direction_tag_and_class() {
    let fits = |policy: Policy, subject: &Subject| policy.fits(subject);
    let base = || policy("p", 0, 1);
    let call = subject(&["vip"]);
    for (policy, expected) in [
        (Policy { site: Some("main".into()), ..base() }, true),
        (Policy { site: Some("branch".into()), ..base() }, false),
        (Policy { extensions: vec!["200".into(), "201".into()], ..base() }, true),
        (Policy { direction: Some(Direction::Out), ..base() }, false),
        (Policy { tag: Some("vip".into()), ..base() }, true),
        (Policy { class: Some(Class::Internal), ..base() }, false),
        (Policy { class: Some(Class::Normal), ..base() }, true),
    ] {
        assert_eq!(fits(policy.clone(), &call), expected, "{policy:?}");
    }
    let out = Some(Direction::Out);
    for (direction, remote, class) in [
        (out, "112", Class::Emergency),
        (Some(Direction::In), "112", Class::Internal),
        (out, "202", Class::Internal),
        (out, "49301234711", Class::Normal),
        (None, "", Class::Normal),
    ] {
        assert_eq!(Class::of(direction, remote, "201"), class, "{remote}");
    }
}

#[test]
fn policies_that_cannot_be_are_told_with_their_name() {
    for (policies, told) in [
        (vec![policy("", 0, 1)], "a name has"),
        (vec![policy("a\nb", 0, 1)], "on one line"),
        (vec![policy("a", 0, 1), policy("a", 0, 2)], "same name"),
        (vec![policy("a", 90, 30)], "not less than keep_days"),
        (vec![policy("a", 0, 0)], "1 or more"),
        (vec![policy("a", 40_000, None)], "36500 days"),
        (vec![Policy { tag: Some("Vip".into()), ..policy("a", 0, 1) }], "lower case"),
        (vec![Policy { site: Some(String::new()), ..policy("a", 0, 1) }], "site, tag"),
        ((0..33).map(|at| policy(&format!("p{at}"), 0, 1)).collect(), "at most 32"),
    ] {
        let error = check(&policies).unwrap_err();
        assert!(error.contains(told), "{policies:?}: {error}");
    }
    assert_eq!(check(&[policy("Service desk, 90 days", 30, 90)]), Ok(()));
    let json = r#"{"name": "a", "delete_after_day": 3}"#;
    assert!(serde_json::from_str::<Policy>(json).unwrap_err().to_string().contains("delete_after_day"));
}

#[test]
fn shortening_is_told_from_renaming_lengthening_and_kinds_that_no_call_is_of() {
    let desk = |days: u32| Policy { extensions: vec!["201".into()], ..policy("desk", 0, days) };
    let vip = |days: u32| Policy { tag: Some("vip".into()), ..policy("vip", 0, days) };
    let all = |days: u32| policy("all", 0, days);
    for (old, new, expected) in [
        (vec![], vec![all(365)], true),
        (vec![all(365)], vec![], false),
        (vec![desk(30), all(365)], vec![desk(30), all(365)], false),
        (vec![desk(30), all(365)], vec![desk(31), all(366)], false),
        (vec![desk(30), all(365)], vec![all(365), desk(30)], false),
        (vec![all(365), desk(30)], vec![desk(30), all(365)], true),
        // A policy behind one for all calls fits none.
        (vec![all(365), desk(90)], vec![all(365), desk(1)], false),
        (vec![vip(90), desk(30)], vec![desk(30), vip(90)], true),
        (vec![policy("a", 30, 90)], vec![policy("a", 29, 90)], true),
        (vec![policy("a", 30, 90)], vec![policy("a", 31, 90)], false),
        (vec![policy("a", 0, None)], vec![policy("a", 0, 36_500)], true),
        (vec![policy("a", 0, 36_500)], vec![policy("a", 0, None)], false),
        // A longer keep of one makes good for an earlier end of another.
        (vec![policy("a", 0, 90)], vec![policy("a", 0, 30), policy("b", 90, None)], false),
    ] {
        assert_eq!(shortens(&old, &new), expected, "{old:?} {new:?}");
    }
}

#[test]
fn shortening_of_the_most_policies_there_can_be_is_found_out_soon() {
    let most = |shift: u32| -> Vec<Policy> {
        let one = |at: u32| Policy {
            site: Some(format!("s{}", at % 8)),
            extensions: (0..200).map(|extension| format!("{}", extension * (at + 1))).collect(),
            tag: Some(format!("t{at}")),
            ..policy(&format!("p{at}"), at, at + 40 + shift)
        };
        (0..32).map(one).collect()
    };
    assert!(!shortens(&most(0), &most(0)));
    assert!(!shortens(&most(0), &most(1)));
    assert!(shortens(&most(1), &most(0)));
}

#[test]
fn retention_is_told_in_words() {
    let policies = [policy("desk", 30, 90)];
    let call = subject(&[]);
    let fate = fate(&policies, &call);
    let utc = jiff::tz::TimeZone::UTC;
    assert_eq!(
        retention(&fate, &[], NOW_US, &utc),
        "Kept until 2026-12-27 at least, by policy \"desk\". Goes to the trash on 2027-02-25, by policy \"desk\"; 7 days \
         later it is gone."
    );
    let held = retention(&fate, &["K-17"], NOW_US + 40 * DAY_US, &utc);
    assert_eq!(
        held,
        "On hold: \"K-17\". Nothing deletes it until two people release it. Without a hold it goes to the trash on \
         2027-02-25, by policy \"desk\"."
    );
    assert!(retention(&fate, &[], NOW_US + 91 * DAY_US, &utc).starts_with("Due since 2027-02-25"));
    assert_eq!(retention(&super::Fate::default(), &[], NOW_US, &utc), "No policy deletes it.");
}

#[test]
fn a_preview_counts_calls_that_go_are_held_and_change() {
    let new = vec![Policy { tag: Some("vip".into()), ..policy("vip", 0, None) }, policy("all", 0, 90)];
    let mut preview = Preview::new(vec![policy("all", 0, 365)], new, NOW_US + 100 * DAY_US);
    for (tags, held, ago) in
        [(&[][..], false, 0), (&[], true, 0), (&["vip"], false, 0), (&[], false, -30), (&[], false, 60)]
    {
        let call = Subject { started_us: NOW_US + ago * DAY_US, ..subject(tags) };
        preview.count(&call, 1_800_000, held);
    }
    let shown = preview.shown();
    assert_eq!(
        (&shown["calls"], &shown["hours"]),
        (&serde_json::json!(2), &serde_json::json!(1.0)),
        "{shown}"
    );
    assert_eq!(shown["oldest"], "2026-10-28T10:15:00.000Z");
    assert_eq!(
        (&shown["held"]["calls"], &shown["within_30_days"]["calls"]),
        (&1.into(), &2.into()),
        "{shown}"
    );
    assert_eq!((&shown["earlier"]["calls"], &shown["later"]["calls"]), (&4.into(), &1.into()), "{shown}");
    assert_eq!(
        (&shown["policies"][0]["calls"], &shown["policies"][1]["due"]["calls"]),
        (&1.into(), &2.into())
    );
}

fn some_policy() -> impl Strategy<Value = Policy> {
    let from = |all: &'static [&'static str]| proptest::option::of(proptest::sample::select(all));
    (
        from(&["main", "branch"]),
        proptest::collection::vec(proptest::sample::select(&["201", "202"][..]), 0..2),
        proptest::option::of(proptest::sample::select(vec![Direction::In, Direction::Out])),
        from(&["vip", "complaint", "test"]),
        proptest::option::of(proptest::sample::select(Class::ALL.to_vec())),
        0..4_u32,
        proptest::option::of(1..6_u32),
    )
        .prop_map(|(site, extensions, direction, tag, class, keep, due)| Policy {
            name: "p".into(),
            site: site.map(Into::into),
            extensions: extensions.into_iter().map(Into::into).collect(),
            direction,
            tag: tag.map(Into::into),
            class,
            keep_days: keep,
            delete_after_days: due.map(|due: u32| due.max(keep)),
        })
}

/// Every kind of call that these policies can tell apart.
fn every_kind() -> Vec<Subject> {
    let mut all = Vec::new();
    for site in ["main", "branch", "other"] {
        for extension in ["201", "202", "203"] {
            for direction in [None, Some(Direction::In), Some(Direction::Out)] {
                for class in Class::ALL {
                    if class == Class::Emergency && direction != Some(Direction::Out) {
                        continue;
                    }
                    for tags in 0..8 {
                        let tag = |at: usize, name: &str| (tags >> at & 1 == 1).then(|| name.to_owned());
                        let tags = [tag(0, "vip"), tag(1, "complaint"), tag(2, "test")];
                        all.push(Subject {
                            started_us: NOW_US,
                            site: site.into(),
                            extension: extension.into(),
                            direction,
                            tags: tags.into_iter().flatten().collect(),
                            class,
                        });
                    }
                }
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// The comparison without a look at calls agrees with a look at each kind of call.
    #[test]
    fn shortening_is_seen_by_some_call(
        old in proptest::collection::vec(some_policy(), 0..5),
        new in proptest::collection::vec(some_policy(), 0..5),
    ) {
        let when = |term: Option<super::Term>, otherwise: i64| term.map_or(otherwise, |term| term.at_us);
        let seen = every_kind().iter().any(|call| {
            let (was, will) = (fate(&old, call), fate(&new, call));
            when(will.kept, NOW_US) < when(was.kept, NOW_US) || when(will.due, i64::MAX) < when(was.due, i64::MAX)
        });
        prop_assert_eq!(shortens(&old, &new), seen);
    }

    #[test]
    fn fate_is_never_due_before_it_may_go(
        policies in proptest::collection::vec(some_policy(), 0..6), at in 0..648_usize,
    ) {
        let kinds = every_kind();
        let fate = fate(&policies, &kinds[at % kinds.len()]);
        if let (Some(kept), Some(due)) = (&fate.kept, &fate.due) {
            prop_assert!(kept.at_us <= due.at_us);
            prop_assert!(fate.is_due(due.at_us).is_some() && fate.is_due(due.at_us - 1).is_none());
            prop_assert!(fate.keeps(due.at_us).is_none());
        }
    }
}
