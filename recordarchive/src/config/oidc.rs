//! The section `[auth.oidc]`.

use crate::access::Role;
use crate::client::is_https_or_local;
use crate::oidc::{GroupRole, Settings};
use settings::{ConfigError, Problem, Section, invalid, text};
use std::path::PathBuf;

/// Its keys.
pub(super) const KEYS: &[&str] =
    &["issuer", "client_id", "client_secret_file", "groups_claim", "extensions_claim", "roles"];
/// Groups that have a role.
const MAX_GROUPS: usize = 200;
/// Extensions of a group.
const MAX_EXTENSIONS: usize = 200;
/// How `roles` is written.
const ROLES: &str =
    "roles = { \"GROUP\" = \"ROLE\" }, or { role = \"ROLE\", extensions = [\"201\"] } for a group";

/// Reads it; `None` if it is not there. The provider sends browsers back, so the archive's own address has to
/// be set.
pub(super) fn read(section: &Section<'_, '_>, has_public_url: bool) -> Result<Option<Settings>, ConfigError> {
    if !section.is_there() {
        return Ok(None);
    }
    let mut read = Settings { groups_claim: "groups".into(), ..Settings::default() };
    section.read("issuer", &mut read.issuer, |value| {
        let found = text(value)?;
        if is_https_or_local(found) && !found.contains(['?', '#']) {
            Ok(found.to_owned())
        } else {
            Err(invalid(found, "the https:// URL of the provider, as it writes its issuer"))
        }
    })?;
    section.read("client_id", &mut read.client_id, |value| Ok(text(value)?.to_owned()))?;
    section.read("client_secret_file", &mut read.secret_file, |value| {
        let found = text(value)?;
        if found.starts_with('/') { Ok(PathBuf::from(found)) } else { Err(invalid(found, "/FILE")) }
    })?;
    for (key, into) in
        [("groups_claim", &mut read.groups_claim), ("extensions_claim", &mut read.extensions_claim)]
    {
        section.read(key, into, |value| match text(value)? {
            "" => Err(invalid("", "the name of a claim, such as \"groups\"")),
            name => Ok(name.to_owned()),
        })?;
    }
    section.read("roles", &mut read.roles, |value| {
        let table = value.as_table().ok_or_else(|| invalid(value.type_str(), ROLES))?;
        let groups = table.iter().map(|(group, value)| group_role(group.get_ref(), value.get_ref()));
        groups.collect::<Result<Vec<_>, _>>()
    })?;
    let missing = [
        ("issuer", read.issuer.is_empty()),
        ("client_id", read.client_id.is_empty()),
        ("client_secret_file", read.secret_file.as_os_str().is_empty()),
    ];
    if let Some((key, _)) = missing.into_iter().find(|(_, is_missing)| *is_missing) {
        let why = "it is missing: [auth.oidc] takes issuer, client_id, client_secret_file and roles";
        return Err(section.fail(key, Problem::Refused(why.into())));
    }
    if !(1..=MAX_GROUPS).contains(&read.roles.len()) {
        let found = format!("{} groups", read.roles.len());
        return Err(section.fail("roles", invalid(&found, &format!("1 to {MAX_GROUPS} of them: {ROLES}"))));
    }
    let is_empty = |of: &&GroupRole| of.role.is_by_extension() && of.extensions.is_empty();
    if read.extensions_claim.is_empty()
        && let Some(of) = read.roles.iter().find(is_empty)
    {
        let why = format!(
            "{:?} gives the role {}, which is for extensions: write {{ role = \"{}\", extensions = [\"201\"] }}, \
             or set extensions_claim",
            of.group,
            of.role.name(),
            of.role.name()
        );
        return Err(section.fail("roles", Problem::Refused(why)));
    }
    if !has_public_url {
        let why =
            "browsers are sent back from the provider: set [web] public_url to the address that they use";
        return Err(section.fail("issuer", Problem::Refused(why.into())));
    }
    Ok(Some(read))
}

fn group_role(group: &str, value: &settings::Value<'_>) -> Result<GroupRole, Problem> {
    let mut of = GroupRole { group: group.to_owned(), role: Role::Agent, extensions: Vec::new() };
    let role = match value.as_table() {
        None => value.as_str(),
        Some(table) => {
            if let Some((stray, _)) =
                table.iter().find(|(key, _)| !["role", "extensions"].contains(&key.get_ref().as_ref()))
            {
                return Err(invalid(stray.get_ref(), "role and extensions"));
            }
            if let Some((_, list)) = table.iter().find(|(key, _)| key.get_ref() == "extensions") {
                let wanted =
                    format!("at most {MAX_EXTENSIONS} extensions of {group:?}, such as [\"201\", \"202\"]");
                let list = list.get_ref().as_array().filter(|list| list.len() <= MAX_EXTENSIONS);
                let list = list.ok_or_else(|| invalid("extensions", &wanted))?;
                for extension in list {
                    let found = extension.get_ref().as_str().unwrap_or_default();
                    if !crate::number::is_extension(found) {
                        return Err(invalid(found, &wanted));
                    }
                    of.extensions.push(found.to_owned());
                }
            }
            table
                .iter()
                .find(|(key, _)| key.get_ref() == "role")
                .and_then(|(_, role)| role.get_ref().as_str())
        }
    };
    let names = || Role::ALL.map(Role::name).join(", ");
    let wrong = |found: &str| invalid(found, &format!("a role for {group:?}, one of {}", names()));
    let role = role.ok_or_else(|| wrong(value.type_str()))?;
    of.role = Role::from_name(role).ok_or_else(|| wrong(role))?;
    Ok(of)
}
