//! A hundred thousand schedules by chance: policies, holds, requests, restarts, and clocks that jump. Nothing
//! goes before its time, by a time that no clock of the archive shows, and nothing that is held.

use super::calendar::Steady;
use super::decide::{InTrash, Standing};
use super::{Class, Policy, Subject, fate};
use crate::testing::NOW_US;
use crate::time::DAY_US;
use recfile::call::Direction;

const SCHEDULES: u64 = 100_000;
const STEPS: usize = 30;
const HOUR_US: i64 = DAY_US / 24;
const WEEK_US: i64 = 7 * DAY_US;
/// A clock that is right is so within this.
const RIGHT_US: i64 = 20 * HOUR_US;

/// A small generator of chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn between(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(to - from).unwrap())).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

struct Call {
    subject: Subject,
    holds: u32,
    trash: Option<InTrash>,
    /// The time, by the calendar, at which a person took it out of the trash.
    spared_us: Option<i64>,
    is_gone: bool,
}

struct World<'p> {
    chance: Chance,
    /// The time that it is.
    true_us: i64,
    /// The lead of the calendar over it.
    ahead_us: i64,
    /// Since a start, which no calendar moves.
    monotonic_us: i64,
    steady: Steady,
    /// The last trusted time, as the catalogue keeps it.
    right_us: Option<i64>,
    /// By then the clock is put right, if a start found it wrong.
    put_right_us: Option<i64>,
    policies: &'p Vec<Policy>,
    calls: Vec<Call>,
    gone: u64,
}

impl<'p> World<'p> {
    fn new(seed: u64, sets: &'p [Vec<Policy>]) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let policies = chance.of(sets);
        let calls = (0..2).map(|_| {
            let subject = Subject {
                started_us: NOW_US + chance.between(-100, 1) * DAY_US,
                site: "main".into(),
                extension: (*chance.of(&["201", "202"])).into(),
                direction: *chance.of(&[Some(Direction::In), Some(Direction::Out), None]),
                tags: if chance.below(3) == 0 { vec!["vip".into()] } else { Vec::new() },
                class: Class::Normal,
            };
            Call { subject, holds: 0, trash: None, spared_us: None, is_gone: false }
        });
        let calls = calls.collect();
        let steady = Steady::new(NOW_US, 0, None);
        Self {
            chance,
            true_us: NOW_US,
            ahead_us: 0,
            monotonic_us: 0,
            steady,
            right_us: None,
            put_right_us: None,
            policies,
            calls,
            gone: 0,
        }
    }

    fn now_us(&self) -> i64 {
        self.true_us + self.ahead_us
    }

    fn is_wrong(&self) -> bool {
        self.ahead_us.abs() > RIGHT_US
    }

    fn restart(&mut self) {
        self.monotonic_us = 0;
        self.steady = Steady::new(self.now_us(), 0, self.right_us);
        self.put_right_us = self.is_wrong().then_some(DAY_US - HOUR_US);
    }

    fn pass(&mut self, us: i64) {
        if let Some(at_us) = self.put_right_us.filter(|at_us| self.monotonic_us + us >= *at_us) {
            let before = at_us - self.monotonic_us;
            self.true_us += before;
            self.monotonic_us += before;
            self.look();
            self.ahead_us = self.chance.between(-RIGHT_US, RIGHT_US);
            self.put_right_us = None;
            self.look();
            return self.pass(us - before);
        }
        self.true_us += us;
        self.monotonic_us += us;
    }

    fn standing(&self, call: &Call) -> Standing {
        let now_us = self.now_us();
        Standing {
            fate: fate(self.policies, &call.subject),
            is_held: call.holds > 0,
            is_spared: call.spared_us.is_some_and(|spared_us| spared_us > now_us - WEEK_US),
        }
    }

    /// As the archive does it: calls come back, go to the trash, and are deleted.
    fn look(&mut self) {
        let now_us = self.now_us();
        if self.steady.doubt(now_us, self.monotonic_us).is_some() {
            return;
        }
        self.right_us = Some(now_us);
        for at in 0..self.calls.len() {
            if self.calls[at].is_gone {
                continue;
            }
            let standing = self.standing(&self.calls[at]);
            match self.calls[at].trash {
                Some(trash) if trash.is_by_policy && standing.comes_back(now_us).is_some() => {
                    self.calls[at].trash = None;
                }
                Some(trash) if standing.may_go(trash, now_us) => {
                    self.judge(&self.calls[at], trash);
                    self.calls[at].is_gone = true;
                    self.gone += 1;
                }
                None if standing.condemned_by(now_us).is_some() => {
                    self.calls[at].trash = Some(InTrash { is_by_policy: true, due_us: now_us + WEEK_US });
                }
                _ => {}
            }
        }
    }

    /// Whether the call may be gone, told without any of the code that decides.
    fn judge(&self, call: &Call, trash: InTrash) {
        let age_us = self.true_us + RIGHT_US - call.subject.started_us;
        let fits = |policy: &&Policy| {
            (policy.extensions.is_empty() || policy.extensions.contains(&call.subject.extension))
                && policy.tag.as_ref().is_none_or(|tag| call.subject.tags.contains(tag))
                && policy.direction.is_none_or(|direction| call.subject.direction == Some(direction))
        };
        assert_eq!(call.holds, 0, "it is held");
        for policy in self.policies.iter().filter(fits) {
            assert!(age_us >= i64::from(policy.keep_days) * DAY_US, "{policy:?} keeps it");
        }
        if trash.is_by_policy {
            let days = self.policies.iter().find(fits).and_then(|policy| policy.delete_after_days);
            assert!(days.is_some_and(|days| age_us >= i64::from(days) * DAY_US), "no policy deletes it yet");
        }
    }

    fn step(&mut self, sets: &'p [Vec<Policy>]) {
        let at = usize::try_from(self.chance.below(self.calls.len() as u64)).unwrap();
        let now_us = self.now_us();
        match self.chance.below(16) {
            0..=4 => {
                let most = *self.chance.of(&[2, 30, 24 * 9, 24 * 60]);
                let us = self.chance.between(1, most) * HOUR_US;
                self.pass(us);
            }
            // The clock jumps, by days or years, or is put right; or it only goes a little wrong.
            5 => {
                let days = *self.chance.of(&[2, 40, 3650]);
                self.ahead_us = *self.chance.of(&[days * DAY_US, -days * DAY_US]);
            }
            6 => self.ahead_us = self.chance.between(-RIGHT_US, RIGHT_US),
            7 | 8 => self.restart(),
            9 => self.calls[at].holds += 1,
            10 => self.calls[at].holds = self.calls[at].holds.saturating_sub(1),
            11 => self.policies = self.chance.of(sets),
            12 => {
                let standing = self.standing(&self.calls[at]);
                let is_refused = standing.is_held || standing.fate.keeps(now_us).is_some();
                if !is_refused && self.calls[at].trash.is_none() {
                    self.calls[at].trash = Some(InTrash { is_by_policy: false, due_us: now_us + WEEK_US });
                }
            }
            13 if self.calls[at].trash.take().is_some() => self.calls[at].spared_us = Some(now_us),
            _ => {}
        }
        self.look();
    }
}

/// Some lists of policies, of which one takes the place of another.
fn sets() -> Vec<Vec<Policy>> {
    let policy = |name: &str, keep_days, delete_after_days| Policy {
        name: name.into(),
        keep_days,
        delete_after_days,
        ..Policy::default()
    };
    let of_201 = |policy: Policy| Policy { extensions: vec!["201".into()], ..policy };
    let vip = |policy: Policy| Policy { tag: Some("vip".into()), ..policy };
    let out = |policy: Policy| Policy { direction: Some(Direction::Out), ..policy };
    vec![
        vec![],
        vec![policy("all", 0, Some(30))],
        vec![policy("all", 60, Some(90))],
        vec![vip(policy("vip", 400, None)), of_201(policy("desk", 0, Some(10))), policy("all", 5, Some(120))],
        vec![of_201(policy("desk", 0, Some(10))), vip(policy("vip", 400, None)), policy("all", 5, Some(120))],
        vec![out(policy("out", 0, Some(1))), vip(policy("vip", 20, Some(200))), policy("all", 0, Some(50))],
        vec![policy("keep", 36_500, None)],
    ]
}

#[test]
fn schedules_by_chance_never_delete_too_early_or_a_held_call() {
    let sets = sets();
    let mut gone = 0;
    for seed in 0..SCHEDULES {
        let mut world = World::new(seed, &sets);
        for _ in 0..STEPS {
            world.step(&sets);
        }
        gone += world.gone;
    }
    assert!(gone > SCHEDULES / 20, "{gone}: due calls go");
}
