//! Whether other policies would keep any call for a shorter time: that takes two people.
//!
//! Exact, without looking at calls: policies tell calls apart by a few properties only, so one call of each
//! kind stands for all. Each kind is two sets of policies that fit it, as bits: of those in force, and of
//! those to come. Of tags a call has two at most: further ones only make more policies fit, and never turn a
//! call that is kept as long into one that is not.

use super::{Class, Policy};
use recfile::call::Direction;
use std::collections::BTreeSet;

/// Which policies fit, by place: those in force in the low half, those to come in the high one.
type Fitting = u64;
/// Kinds of calls that are looked at: a tenth of a second.
const MAX_KINDS: usize = 500_000;
/// Width of a half: [`super::MAX_POLICIES`].
const HALF: u32 = 32;

/// Whether `new` keeps any kind of call for a shorter time than `old` does: it may go earlier, or is due
/// earlier.
pub(crate) fn shortens(old: &[Policy], new: &[Policy]) -> bool {
    let fitting = |fits: &dyn Fn(&Policy) -> bool| -> Fitting {
        let half = |policies: &[Policy]| -> Fitting {
            policies
                .iter()
                .take(HALF as usize)
                .enumerate()
                .filter(|(_, policy)| fits(policy))
                .map(|(at, _)| 1 << at)
                .sum()
        };
        half(old) | half(new) << HALF
    };
    let all = || old.iter().chain(new);
    let sites = named(all().filter_map(|policy| policy.site.as_ref()));
    let sites = sites
        .into_iter()
        .map(|site| fitting(&|policy| policy.site.is_none() || policy.site.as_ref() == site));
    let extensions = named(all().flat_map(|policy| &policy.extensions));
    let extensions = extensions.into_iter().map(|extension| {
        fitting(&|policy| {
            policy.extensions.is_empty()
                || extension.is_some_and(|extension| policy.extensions.contains(extension))
        })
    });
    let directions = [None, Some(Direction::In), Some(Direction::Out)];
    let kinds = directions.into_iter().flat_map(|direction| Class::ALL.map(|class| (direction, class)));
    let kinds =
        kinds.filter(|(direction, class)| *class != Class::Emergency || *direction == Some(Direction::Out));
    let kinds = kinds.map(|(direction, class)| {
        fitting(&|policy| {
            policy.direction.is_none_or(|wanted| direction == Some(wanted))
                && policy.class.is_none_or(|wanted| wanted == class)
        })
    });
    let tags = named(all().filter_map(|policy| policy.tag.as_ref()));
    let pairs = tags.iter().flat_map(|one| tags.iter().map(move |two| (*one, *two)));
    let tags = pairs.map(|(one, two)| {
        fitting(&|policy| policy.tag.is_none() || policy.tag.as_ref() == one || policy.tag.as_ref() == two)
    });
    let crossed =
        cross(&sites.collect(), &kinds.collect()).and_then(|crossed| cross(&crossed, &tags.collect()));
    let all = crossed.and_then(|crossed| cross(&crossed, &extensions.collect()));
    // Too many to look at: a second person does.
    let Some(all) = all else { return true };
    all.into_iter().any(|fitting| {
        let low = fitting & ((1 << HALF) - 1);
        let (was, will) = (terms(old, low), terms(new, fitting >> HALF));
        will.0 < was.0 || will.1 < was.1
    })
}

/// Each name, and `None` for all that no policy names.
fn named<'n>(names: impl Iterator<Item = &'n String>) -> Vec<Option<&'n String>> {
    names.collect::<BTreeSet<_>>().into_iter().map(Some).chain([None]).collect()
}

/// All pairs of both; `None` if they are too many.
fn cross(one: &BTreeSet<Fitting>, two: &BTreeSet<Fitting>) -> Option<BTreeSet<Fitting>> {
    let fits = one.len().saturating_mul(two.len()) <= MAX_KINDS;
    fits.then(|| one.iter().flat_map(|a| two.iter().map(move |b| a & b)).collect())
}

/// Days that a call is kept at least, and after which it is due, where these policies fit.
fn terms(policies: &[Policy], fitting: Fitting) -> (u32, u32) {
    let fits = policies.iter().enumerate().filter(|(at, _)| fitting >> at & 1 == 1).map(|(_, policy)| policy);
    let keep = fits.clone().map(|policy| policy.keep_days).max().unwrap_or(0);
    let due = fits.into_iter().next().and_then(|policy| policy.delete_after_days);
    (keep, due.map_or(u32::MAX, |due| due.max(keep)))
}
