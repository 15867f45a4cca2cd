//! Roles, permissions and conditions: who may do what.
//!
//! Owns: permissions, roles, grants, and the one function that decides: [`authorize`] turns an actor and a
//! permission into a [`Condition`] on calls. Lists push it into their query, single objects are asked for
//! with it, and there is no other way to a call, its recordings or its audio. Never: databases and requests.

pub(crate) mod audit;
pub(crate) mod checkpoint;
pub(crate) mod heard;
pub(crate) mod minisig;
pub(crate) mod secret;
pub(crate) mod site_key;
pub(crate) mod totp;

use crate::id::Id;
use serde::{Deserialize, Serialize};

/// A permission. Each is granted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permission {
    /// Find calls, and see their metadata.
    CallSearch,
    /// See whole numbers.
    NumberFull,
    /// Listen.
    AudioPlay,
    /// Listen to calls that go on.
    AudioLive,
    /// Fetch recordings as files.
    AudioDownload,
    /// Write notes.
    NoteWrite,
    /// Tag calls.
    TagWrite,
    /// Export calls.
    ExportCreate,
    /// Approve or reject the exports of others.
    ExportApprove,
    /// Place holds, and see them.
    HoldPlace,
    /// Release holds, with a second person.
    HoldRelease,
    /// Ask for the deletion of calls.
    DeleteRequest,
    /// Approve or reject another person's request.
    DeleteApprove,
    /// Set how long calls are kept.
    PolicyEdit,
    /// Read the audit log.
    AuditRead,
    /// Add, change and disable accounts.
    AccountEdit,
    /// See how the archive is set up, and how it does.
    ConfigEdit,
    /// Make tokens for programs.
    TokenCreate,
}

impl Permission {
    /// All of them.
    pub(crate) const ALL: [Self; 18] = [
        Self::CallSearch,
        Self::NumberFull,
        Self::AudioPlay,
        Self::AudioLive,
        Self::AudioDownload,
        Self::NoteWrite,
        Self::TagWrite,
        Self::ExportCreate,
        Self::ExportApprove,
        Self::HoldPlace,
        Self::HoldRelease,
        Self::DeleteRequest,
        Self::DeleteApprove,
        Self::PolicyEdit,
        Self::AuditRead,
        Self::AccountEdit,
        Self::ConfigEdit,
        Self::TokenCreate,
    ];

    /// As settings, tokens and answers spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CallSearch => "call.search",
            Self::NumberFull => "number.full",
            Self::AudioPlay => "audio.play",
            Self::AudioLive => "audio.live",
            Self::AudioDownload => "audio.download",
            Self::NoteWrite => "note.write",
            Self::TagWrite => "tag.write",
            Self::ExportCreate => "export.create",
            Self::ExportApprove => "export.approve",
            Self::HoldPlace => "hold.place",
            Self::HoldRelease => "hold.release",
            Self::DeleteRequest => "delete.request",
            Self::DeleteApprove => "delete.approve",
            Self::PolicyEdit => "policy.edit",
            Self::AuditRead => "audit.read",
            Self::AccountEdit => "account.edit",
            Self::ConfigEdit => "config.edit",
            Self::TokenCreate => "token.create",
        }
    }

    /// The one of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.name() == name)
    }
}

/// A set of permissions for one kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Own calls.
    Agent,
    /// The calls of a group.
    Supervisor,
    /// Any calls in scope, with a reason.
    Investigator,
    /// Rules and decisions.
    Compliance,
    /// Looks after the others: no audio.
    Auditor,
    /// Accounts: no audio.
    Admin,
    /// A program.
    Integration,
}

impl Role {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Agent,
        Self::Supervisor,
        Self::Investigator,
        Self::Compliance,
        Self::Auditor,
        Self::Admin,
        Self::Integration,
    ];

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Supervisor => "supervisor",
            Self::Investigator => "investigator",
            Self::Compliance => "compliance",
            Self::Auditor => "auditor",
            Self::Admin => "admin",
            Self::Integration => "integration",
        }
    }

    /// The role of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether it is for calls of certain extensions, and for none without.
    pub(crate) fn is_by_extension(self) -> bool {
        matches!(self, Self::Agent)
    }

    /// Whether listening in this role takes a reason.
    pub(crate) fn needs_reason(self) -> bool {
        self == Self::Investigator
    }

    /// The permissions of this role.
    pub(crate) fn permissions(self) -> &'static [Permission] {
        use Permission as P;
        match self {
            Self::Agent => &[P::CallSearch, P::NumberFull, P::AudioPlay, P::NoteWrite],
            Self::Supervisor => {
                &[P::CallSearch, P::NumberFull, P::AudioPlay, P::AudioLive, P::NoteWrite, P::TagWrite]
            }
            Self::Investigator => {
                &[P::CallSearch, P::NumberFull, P::AudioPlay, P::AudioDownload, P::NoteWrite, P::ExportCreate]
            }
            Self::Compliance => &[
                P::CallSearch,
                P::NumberFull,
                P::HoldPlace,
                P::HoldRelease,
                P::DeleteRequest,
                P::DeleteApprove,
                P::PolicyEdit,
                P::ExportApprove,
                P::AuditRead,
            ],
            Self::Auditor => &[P::CallSearch, P::AuditRead],
            Self::Admin => &[P::AccountEdit, P::ConfigEdit, P::TokenCreate],
            Self::Integration => &[P::CallSearch, P::NumberFull, P::AudioPlay, P::AudioDownload, P::TagWrite],
        }
    }
}

/// An extension that somebody has or had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Use {
    /// Its digits.
    pub(crate) extension: String,
    /// From this time on, in microseconds.
    pub(crate) from_us: i64,
    /// Until then; `None`: still.
    pub(crate) to_us: Option<i64>,
}

/// A role, and the calls that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The role.
    pub(crate) role: Role,
    /// The calls of these extensions; none: all calls, unless the role is by extension.
    pub(crate) uses: Vec<Use>,
    /// Of these, the calls of some sites, or of a time.
    pub(crate) within: Within,
    /// Nothing any more from this time on.
    pub(crate) expires_us: Option<i64>,
}

impl Grant {
    /// A role for the calls of these extensions, without an end.
    pub(crate) fn of(role: Role, uses: Vec<Use>) -> Self {
        Self { role, uses, within: Within::default(), expires_us: None }
    }
}

/// A part of all calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Within {
    /// Calls of these sites; none: of every site.
    pub(crate) sites: Vec<String>,
    /// Calls that began at this time or later, in microseconds.
    pub(crate) from_us: Option<i64>,
    /// And before.
    pub(crate) to_us: Option<i64>,
}

impl Within {
    /// The clauses of calls that an extension has in a time, or that any has.
    fn clauses(&self, extension: Option<&str>, from_us: i64, to_us: i64) -> Vec<Clause> {
        let clause = |site: Option<&String>| Clause {
            extension: extension.map(str::to_owned),
            site: site.cloned(),
            from_us: from_us.max(self.from_us.unwrap_or(i64::MIN)),
            to_us: to_us.min(self.to_us.unwrap_or(i64::MAX)),
        };
        if self.sites.is_empty() {
            vec![clause(None)]
        } else {
            self.sites.iter().map(|site| clause(Some(site))).collect()
        }
    }
}

/// The user of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor {
    /// Their account.
    pub(crate) account: Id,
    /// Its name.
    pub(crate) name: String,
    /// The roles granted, each with its condition.
    pub(crate) grants: Vec<Grant>,
    /// The permissions a token is limited to.
    pub(crate) limit: Option<Vec<Permission>>,
}

/// The calls of an extension, a site, or both, in a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    /// The extension; `None`: every one.
    pub(crate) extension: Option<String>,
    /// The site; `None`: every one.
    pub(crate) site: Option<String>,
    /// Calls that began at this time or later, in microseconds.
    pub(crate) from_us: i64,
    /// And before.
    pub(crate) to_us: i64,
}

/// The calls that somebody may do something with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Every call.
    All,
    /// Those of any of these; none: no call.
    Any(Vec<Clause>),
}

impl Condition {
    /// Whether a call is among them: the same as the query says, for a call that is known.
    pub(crate) fn admits(&self, extension: &str, site: &str, started_us: i64) -> bool {
        let is_of = |wanted: &Option<String>, found| wanted.as_ref().is_none_or(|wanted| wanted == found);
        match self {
            Self::All => true,
            Self::Any(clauses) => clauses.iter().any(|clause| {
                is_of(&clause.extension, extension)
                    && is_of(&clause.site, site)
                    && (clause.from_us..clause.to_us).contains(&started_us)
            }),
        }
    }
}

/// The reason of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// None of their roles has the permission.
    Permission(Permission),
    /// They may, if they say why.
    Reason,
}

/// The calls that `actor` may do this with: the one decision about calls. `now_us` is the calendar's time.
///
/// # Errors
/// They may with none at all.
pub(crate) fn authorize(
    actor: &Actor,
    permission: Permission,
    reason: Option<&str>,
    now_us: i64,
) -> Result<Condition, Refusal> {
    let refused = Err(Refusal::Permission(permission));
    if actor.limit.as_ref().is_some_and(|limit| !limit.contains(&permission)) {
        return refused;
    }
    let valid = actor.grants.iter().filter(|grant| {
        grant.role.permissions().contains(&permission) && grant.expires_us.is_none_or(|end| now_us < end)
    });
    let is_audio = matches!(
        permission,
        Permission::AudioPlay | Permission::AudioLive | Permission::AudioDownload | Permission::ExportCreate
    );
    let has_reason = reason.is_some_and(|reason| !reason.trim().is_empty());
    let mut clauses = Vec::new();
    let mut needs_reason = false;
    let mut found = false;
    for grant in valid {
        if is_audio && grant.role.needs_reason() && !has_reason {
            needs_reason = true;
            continue;
        }
        found = true;
        if grant.uses.is_empty() && !grant.role.is_by_extension() {
            if grant.within == Within::default() {
                return Ok(Condition::All);
            }
            clauses.extend(grant.within.clauses(None, i64::MIN, i64::MAX));
        }
        clauses.extend(grant.uses.iter().flat_map(|used| {
            let to_us = used.to_us.unwrap_or(i64::MAX);
            grant.within.clauses(Some(&used.extension), used.from_us, to_us)
        }));
    }
    match (found, needs_reason) {
        (true, _) => Ok(Condition::Any(clauses)),
        (false, true) => Err(Refusal::Reason),
        (false, false) => refused,
    }
}

/// Whether `actor` may something that is about no call.
///
/// # Errors
/// They may not.
pub(crate) fn permit(actor: &Actor, permission: Permission, now_us: i64) -> Result<(), Refusal> {
    authorize(actor, permission, None, now_us).map(drop)
}

/// Whether `actor` may something that is about all calls: a grant for some extensions, sites or times is none for it.
///
/// # Errors
/// They may not.
pub(crate) fn permit_for_all(actor: &Actor, permission: Permission, now_us: i64) -> Result<(), Refusal> {
    match authorize(actor, permission, None, now_us)? {
        Condition::All => Ok(()),
        Condition::Any(_) => Err(Refusal::Permission(permission)),
    }
}

/// Whether `actor` sees whole numbers of all calls of a condition. Grants of which some show them and some do not are
/// not taken apart call by call: then no number is whole.
pub(crate) fn sees_numbers(actor: &Actor, of: &Condition, now_us: i64) -> bool {
    authorize(actor, Permission::NumberFull, None, now_us)
        .is_ok_and(|numbers| numbers == Condition::All || numbers == *of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(role: Role, uses: &[(&str, i64, Option<i64>)]) -> Actor {
        let uses = uses.iter().map(|(extension, from_us, to_us)| Use {
            extension: (*extension).into(),
            from_us: *from_us,
            to_us: *to_us,
        });
        let grant = Grant::of(role, uses.collect());
        Actor { account: Id([0; 16]), name: "anna".into(), grants: vec![grant], limit: None }
    }

    #[test]
    fn a_grant_for_a_site_is_none_for_the_whole_audit_log_or_all_accounts() {
        let within = Within { sites: vec!["berlin".into()], ..Within::default() };
        for (role, permission) in
            [(Role::Auditor, Permission::AuditRead), (Role::Admin, Permission::AccountEdit)]
        {
            let mut actor = actor(role, &[]);
            assert_eq!(permit_for_all(&actor, permission, 0), Ok(()));
            actor.grants[0].within = within.clone();
            assert_eq!(permit(&actor, permission, 0), Ok(()));
            assert_eq!(permit_for_all(&actor, permission, 0), Err(Refusal::Permission(permission)));
        }
    }

    #[test]
    fn whole_numbers_are_of_the_calls_alone_whose_grant_shows_them() {
        let search = |actor: &Actor| authorize(actor, Permission::CallSearch, None, 0).unwrap();
        let mut actor = actor(Role::Agent, &[("201", i64::MIN, None)]);
        assert!(sees_numbers(&actor, &search(&actor), 0));
        actor.grants.push(Grant::of(Role::Auditor, Vec::new()));
        assert!(!sees_numbers(&actor, &search(&actor), 0), "the auditor's calls are everybody's");
        actor.grants.remove(0);
        assert!(!sees_numbers(&actor, &search(&actor), 0));
    }

    #[test]
    fn a_permission_has_a_name_of_its_own_and_is_found_by_it() {
        for permission in Permission::ALL {
            assert_eq!(Permission::from_name(permission.name()), Some(permission));
        }
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.name()), Some(role));
        }
        assert_eq!((Permission::from_name("call"), Role::from_name("root")), (None, None));
    }

    #[test]
    fn an_agent_has_the_calls_of_an_extension_at_the_time_that_it_was_theirs() {
        let agent = actor(Role::Agent, &[("201", 100, Some(200)), ("202", 150, None)]);
        let condition = authorize(&agent, Permission::AudioPlay, None, 0).unwrap();
        for (extension, at, admitted) in [
            ("201", 99, false),
            ("201", 100, true),
            ("201", 200, false),
            ("202", 1_000, true),
            ("203", 160, false),
        ] {
            assert_eq!(condition.admits(extension, "main", at), admitted, "{extension} {at}");
        }
        // Without an extension there are none.
        let nobody = authorize(&actor(Role::Agent, &[]), Permission::CallSearch, None, 0).unwrap();
        assert_eq!(nobody, Condition::Any(Vec::new()));
    }

    #[test]
    fn admins_and_auditors_never_hear_a_call() {
        for role in [Role::Admin, Role::Auditor, Role::Compliance] {
            for permission in [Permission::AudioPlay, Permission::AudioLive, Permission::AudioDownload] {
                let refused = authorize(&actor(role, &[]), permission, Some("why"), 0);
                assert_eq!(refused, Err(Refusal::Permission(permission)), "{role:?}");
            }
        }
        assert_eq!(
            authorize(&actor(Role::Supervisor, &[]), Permission::AudioPlay, None, 0),
            Ok(Condition::All)
        );
    }

    #[test]
    fn a_user_who_may_decide_about_a_call_may_see_it() {
        for role in Role::ALL {
            let may = role.permissions();
            let deciding = [
                Permission::HoldPlace,
                Permission::HoldRelease,
                Permission::DeleteRequest,
                Permission::DeleteApprove,
                Permission::PolicyEdit,
                Permission::ExportApprove,
            ];
            let decides = deciding.iter().any(|permission| may.contains(permission));
            assert!(!decides || may.contains(&Permission::CallSearch), "{role:?}");
        }
    }

    #[test]
    fn an_investigator_says_why_and_an_expired_grant_is_none() {
        let mut investigator = actor(Role::Investigator, &[]);
        let play = |actor: &Actor, reason, now| authorize(actor, Permission::AudioPlay, reason, now);
        assert_eq!(play(&investigator, None, 0), Err(Refusal::Reason));
        assert_eq!(play(&investigator, Some("  "), 0), Err(Refusal::Reason));
        assert_eq!(play(&investigator, Some("case 7"), 0), Ok(Condition::All));
        investigator.grants[0].expires_us = Some(1000);
        assert_eq!(play(&investigator, Some("case 7"), 999), Ok(Condition::All));
        assert!(play(&investigator, Some("case 7"), 1000).is_err());
    }

    #[test]
    fn a_grant_for_sites_and_a_time_is_for_no_other_call() {
        let mut lead = actor(Role::Supervisor, &[]);
        let may = |lead: &Actor, extension: &str, site: &str, at| {
            authorize(lead, Permission::AudioPlay, None, 0).unwrap().admits(extension, site, at)
        };
        lead.grants[0].within =
            Within { sites: vec!["north".into(), "south".into()], from_us: Some(100), to_us: Some(200) };
        for (site, at, admitted) in
            [("north", 100, true), ("south", 199, true), ("main", 150, false), ("north", 200, false)]
        {
            assert_eq!(may(&lead, "201", site, at), admitted, "{site} {at}");
        }
        // With extensions it is for those calls that both admit.
        let of_201 = Use { extension: "201".into(), from_us: 150, to_us: Some(300) };
        lead.grants[0].uses = vec![of_201];
        for (extension, site, at, admitted) in [
            ("201", "north", 150, true),
            ("201", "north", 149, false),
            ("201", "north", 200, false),
            ("201", "main", 150, false),
            ("202", "north", 150, false),
        ] {
            assert_eq!(may(&lead, extension, site, at), admitted, "{extension} {site} {at}");
        }
        // An agent has calls of extensions alone.
        let mut agent = actor(Role::Agent, &[]);
        agent.grants[0].within.sites = vec!["north".into()];
        assert!(!may(&agent, "201", "north", 150));
    }

    #[test]
    fn a_token_has_the_permissions_of_its_account_within_its_limit() {
        let mut program = actor(Role::Integration, &[]);
        program.limit = Some(vec![Permission::CallSearch, Permission::AuditRead]);
        assert_eq!(authorize(&program, Permission::CallSearch, None, 0), Ok(Condition::All));
        for permission in [Permission::AudioPlay, Permission::AuditRead] {
            assert!(authorize(&program, permission, None, 0).is_err(), "{permission:?}");
        }
    }
}
