//! The events that a client wants.
//!
//! Owns: the prefixes that it subscribed to and those it took back. Invariant: the wanted events follow from
//! subscribing and unsubscribing in this order, in bounded memory.

/// Most rules that a client's wishes may come to.
pub const MAX_PREFIXES: usize = 32;
/// Longest prefix.
pub const MAX_PREFIX_OCTETS: usize = 64;

/// A client's wishes need more than [`MAX_PREFIXES`] rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyPrefixes;

/// A client's wishes; without any it gets no events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The last rule whose prefix fits a name decides.
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    prefix: String,
    wanted: bool,
}

impl Subscription {
    /// A client that wants nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether events of this name are wanted.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.rules.iter().rev().find(|rule| name.starts_with(&rule.prefix)).is_some_and(|rule| rule.wanted)
    }

    /// Whether any event may be wanted.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.rules.iter().any(|rule| rule.wanted)
    }

    /// From now on also events that begin with one of `types`; none given: all.
    ///
    /// # Errors
    /// [`TooManyPrefixes`], then nothing is changed.
    pub fn subscribe(&mut self, types: Option<&[String]>) -> Result<(), TooManyPrefixes> {
        self.change(types, true)
    }

    /// From now on no events that begin with one of `types`; none given: no events at all.
    ///
    /// # Errors
    /// [`TooManyPrefixes`], then nothing is changed.
    pub fn unsubscribe(&mut self, types: Option<&[String]>) -> Result<(), TooManyPrefixes> {
        self.change(types, false)
    }

    fn change(&mut self, types: Option<&[String]>, wanted: bool) -> Result<(), TooManyPrefixes> {
        let all = [String::new()];
        let types = types.filter(|types| !types.is_empty()).unwrap_or(&all);
        let mut rules = self.rules.clone();
        for prefix in types {
            // Rules that are narrower than the new one have no effect any more.
            rules.retain(|rule| !rule.prefix.starts_with(prefix));
            let so_far = rules.iter().rev().find(|rule| prefix.starts_with(&rule.prefix));
            if so_far.is_some_and(|rule| rule.wanted) != wanted {
                rules.push(Rule { prefix: prefix.clone(), wanted });
            }
            if rules.len() > MAX_PREFIXES || prefix.len() > MAX_PREFIX_OCTETS {
                return Err(TooManyPrefixes);
            }
        }
        self.rules = rules;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Event;
    use super::*;
    use proptest::prelude::*;

    fn types(prefixes: &[&str]) -> Option<Vec<String>> {
        Some(prefixes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_client_gets_what_it_asked_for_and_nothing_before() {
        let mut subscription = Subscription::new();
        assert!(!subscription.wants("recording.started"));
        subscription.subscribe(types(&["recording.", "storage.full"]).as_deref()).unwrap();
        assert!(subscription.wants("recording.started"));
        assert!(subscription.wants("storage.full"));
        assert!(!subscription.wants("storage.low"));
    }

    #[test]
    fn all_but_one_is_possible() {
        let mut subscription = Subscription::new();
        subscription.subscribe(None).unwrap();
        subscription.unsubscribe(types(&["recording.progress"]).as_deref()).unwrap();
        assert!(subscription.wants("recording.started"));
        assert!(!subscription.wants("recording.progress"));
        subscription.unsubscribe(None).unwrap();
        assert_eq!(subscription, Subscription::new());
    }

    #[test]
    fn too_many_prefixes_change_nothing() {
        let mut subscription = Subscription::new();
        let many: Vec<String> = (0..=MAX_PREFIXES).map(|n| format!("x{n:02}")).collect();
        assert_eq!(subscription.subscribe(Some(&many)), Err(TooManyPrefixes));
        assert_eq!(subscription, Subscription::new());
        assert_eq!(subscription.subscribe(Some(&many[1..])), Ok(()));
    }

    proptest! {
        #[test]
        fn any_order_of_changes_has_the_effect_of_each_on_every_event(
            changes in prop::collection::vec((any::<bool>(), prop::option::of(prop::sample::select(vec![
                "", "r", "recording", "recording.", "recording.p", "recording.progress", "storage.", "sip.info",
            ]))), 0..20),
        ) {
            let mut subscription = Subscription::new();
            let mut model = [false; Event::NAMES.len()];
            for (wanted, prefix) in changes {
                let list = prefix.map(|prefix| vec![prefix.to_owned()]);
                match wanted {
                    true => subscription.subscribe(list.as_deref()).unwrap(),
                    false => subscription.unsubscribe(list.as_deref()).unwrap(),
                }
                for (name, on) in Event::NAMES.iter().zip(&mut model) {
                    if name.starts_with(prefix.unwrap_or("")) { *on = wanted; }
                    prop_assert_eq!(subscription.wants(name), *on);
                }
            }
        }
    }
}
