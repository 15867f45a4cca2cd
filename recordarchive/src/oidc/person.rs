//! The person of a token, and the roles of their groups.
//!
//! Invariants: a person is known by issuer and subject alone; texts of the provider are cut and cleaned here.

use super::Settings;
use crate::catalogue::identity::{Person, PersonRole};
use crate::number::is_extension;
use serde_json::{Map, Value};

/// Octets of a subject; the standard's limit is 255.
const MAX_SUBJECT_OCTETS: usize = 255;
/// Characters of an account's name, so that a number fits behind.
const MAX_NAME_CHARS: usize = 48;
/// Characters of a displayed name.
const MAX_DISPLAY_CHARS: usize = 100;
/// Extensions of a person.
const MAX_OWN: usize = 20;

/// Why somebody has no place here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// None of their groups has a role.
    NoRole {
        /// Their name at the provider.
        who: String,
        /// The claim with groups.
        claim: String,
        /// Groups that have one.
        wanted: Vec<String>,
        /// The token has no groups since there are too many.
        left_out: bool,
    },
    /// The subject is none.
    Subject,
}

/// The claims of a token that holds.
pub(crate) struct Said<'t> {
    /// The lasting id.
    pub(crate) subject: &'t str,
    /// The name for logging in.
    pub(crate) user: Option<&'t str>,
    /// Their address, if the provider tells it.
    pub(crate) mail: Option<&'t str>,
    /// The name for people.
    pub(crate) name: Option<&'t str>,
    /// All claims that are not of the standard.
    pub(crate) claims: &'t Map<String, Value>,
}

/// The texts of a claim: a list, or one alone.
fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// The person that a token is about.
///
/// # Errors
/// They have no place here.
pub(crate) fn person(settings: &Settings, said: &Said<'_>) -> Result<Person, Unfit> {
    if said.subject.is_empty() || said.subject.len() > MAX_SUBJECT_OCTETS {
        return Err(Unfit::Subject);
    }
    let wanted = [said.user, said.mail, Some(said.subject)];
    let name = wanted.into_iter().flatten().map(account_name).find(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| "person".into());
    let groups = texts(said.claims.get(&settings.groups_claim));
    let mut roles: Vec<PersonRole> = Vec::new();
    for of in settings.roles.iter().filter(|of| groups.contains(&of.group.as_str())) {
        let role = PersonRole { role: of.role, extensions: of.extensions.clone() };
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    if roles.is_empty() {
        // A claim that is told of in `_claim_names` is to be fetched elsewhere, with rights that the archive
        // has not.
        let elsewhere = said.claims.get("_claim_names").and_then(|names| names.get(&settings.groups_claim));
        return Err(Unfit::NoRole {
            who: name,
            claim: settings.groups_claim.clone(),
            wanted: settings.roles.iter().map(|of| of.group.clone()).collect(),
            left_out: elsewhere.is_some(),
        });
    }
    let own = match settings.extensions_claim.as_str() {
        "" => Vec::new(),
        claim => texts(said.claims.get(claim)),
    };
    let mut own: Vec<String> = own.into_iter().filter(|own| is_extension(own)).map(str::to_owned).collect();
    own.sort();
    own.dedup();
    own.truncate(MAX_OWN);
    let display: String =
        said.name.unwrap_or(&name).chars().filter(|c| !c.is_control()).take(MAX_DISPLAY_CHARS).collect();
    Ok(Person {
        issuer: settings.issuer.clone(),
        subject: said.subject.to_owned(),
        display: if display.trim().is_empty() { name.clone() } else { display },
        name,
        roles,
        own,
    })
}

/// A text as the name of an account.
fn account_name(text: &str) -> String {
    let fits = |c: char| if c.is_alphanumeric() || "._@-".contains(c) { c } else { '-' };
    text.trim().chars().take(MAX_NAME_CHARS).map(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use crate::oidc::GroupRole;
    use serde_json::json;

    fn settings() -> Settings {
        let of = |group: &str, role, extensions: &[&str]| GroupRole {
            group: group.into(),
            role,
            extensions: extensions.iter().map(|text| (*text).to_owned()).collect(),
        };
        Settings {
            issuer: "https://idp.example".into(),
            groups_claim: "groups".into(),
            extensions_claim: "ext".into(),
            roles: vec![
                of("desk", Role::Agent, &[]),
                of("leads", Role::Supervisor, &["201", "202"]),
                of("audit", Role::Auditor, &[]),
                of("audit-old", Role::Auditor, &[]),
            ],
            ..Settings::default()
        }
    }

    fn read(claims: &Value, user: Option<&str>, name: Option<&str>) -> Result<Person, Unfit> {
        let claims = claims.as_object().unwrap();
        person(&settings(), &Said { subject: "s/1 x", user, mail: None, name, claims })
    }

    #[test]
    fn groups_give_roles_once_each_and_extensions_are_those_of_digits() {
        let claims = json!({
            "groups": ["desk", "other", "leads", "audit", "audit-old", 7],
            "ext": ["203", "+49", "201", "203", ""],
        });
        let of = |role, extensions: &[&str]| PersonRole {
            role,
            extensions: extensions.iter().map(|text| (*text).to_owned()).collect(),
        };
        let found = read(&claims, Some("anna b"), Some("Anna\u{7} B")).unwrap();
        let roles = [of(Role::Agent, &[]), of(Role::Supervisor, &["201", "202"]), of(Role::Auditor, &[])];
        assert_eq!((found.roles.as_slice(), found.own), (&roles[..], vec!["201".to_owned(), "203".into()]));
        assert_eq!((found.name.as_str(), found.display.as_str()), ("anna-b", "Anna B"));
        let one = read(&json!({"groups": "audit", "ext": "201"}), None, Some(" ")).unwrap();
        assert_eq!((one.roles.len(), one.own.len(), one.name.as_str()), (1, 1, "s-1-x"));
        assert_eq!(one.display, "s-1-x");
    }

    #[test]
    fn a_person_without_a_group_that_has_a_role_is_told_which_have_one() {
        for (claims, left) in [
            (json!({}), false),
            (json!({"groups": {"desk": true}}), false),
            (json!({"groups": ["Desk", "desk "]}), false),
            (json!({"roles": ["desk"]}), false),
            (json!({"_claim_names": {"groups": "src1"}}), true),
        ] {
            let Err(Unfit::NoRole { who, wanted, left_out, .. }) = read(&claims, Some("a"), None) else {
                panic!("{claims}")
            };
            assert_eq!((who.as_str(), wanted.len(), left_out), ("a", 4, left), "{claims}");
        }
    }

    #[test]
    fn a_subject_has_a_length() {
        let claims = json!({"groups": "audit"});
        for (subject, fits) in [("", false), (&*"x".repeat(256), false), (&*"x".repeat(255), true)] {
            let claims = claims.as_object().unwrap();
            let said = Said { subject, user: None, mail: None, name: None, claims };
            let found = person(&settings(), &said);
            assert_eq!(found.is_ok(), fits, "{subject}");
            assert!(found.is_err() || found.unwrap().name.len() == MAX_NAME_CHARS);
        }
    }
}
