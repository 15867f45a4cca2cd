//! Logging in by a provider that knows people: OpenID Connect's authorization code flow with PKCE.
//!
//! Owns: requests to the provider, and the meaning of its answers. [`provider`] talks to it, [`attempt`]
//! binds a log-in to the browser that began it, [`person`] reads the person. Never: sessions and accounts,
//! which are the web server's and the catalogue's. Invariants: nobody is let in but by a token that this
//! provider signed for this archive and this browser, moments ago; the client's secret is in no log, error or
//! `Debug`.

pub(crate) mod attempt;
pub(crate) mod person;
pub(crate) mod provider;
#[cfg(test)]
pub(crate) mod tests;

use crate::access::Role;
use std::path::PathBuf;

/// The settings of `[auth.oidc]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The provider's URL, as it writes its issuer.
    pub(crate) issuer: String,
    /// The archive's name at the provider.
    pub(crate) client_id: String,
    /// File with the archive's secret at the provider.
    pub(crate) secret_file: PathBuf,
    /// Claim with the groups of somebody.
    pub(crate) groups_claim: String,
    /// Claim with their extensions; empty: there is none.
    pub(crate) extensions_claim: String,
    /// Roles of groups.
    pub(crate) roles: Vec<GroupRole>,
}

/// The role of the people of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupRole {
    /// Its name in the claim.
    pub(crate) group: String,
    /// Their role.
    pub(crate) role: Role,
    /// For the calls of these extensions alone; none: for all calls, or those of the person's.
    pub(crate) extensions: Vec<String>,
}
