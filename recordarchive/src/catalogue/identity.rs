//! People whom a provider knows: their accounts, and how they log in.

use super::Done;
use crate::access::Role;
use crate::access::audit::Entry;
use crate::id::Id;
use async_trait::async_trait;

/// Extensions that an account keeps that were its own once.
pub(crate) const MAX_FORMER: usize = 100;

/// Somebody as the provider tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    /// The provider.
    pub(crate) issuer: String,
    /// Who it is there, for ever.
    pub(crate) subject: String,
    /// What their account is to be called, if nobody's is yet.
    pub(crate) name: String,
    /// How people call them.
    pub(crate) display: String,
    /// What they may.
    pub(crate) roles: Vec<PersonRole>,
    /// Their extensions, for roles that are by extension.
    pub(crate) own: Vec<String>,
}

/// A role that a group gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PersonRole {
    /// The role.
    pub(crate) role: Role,
    /// For the calls of these extensions, whenever; none: what the role is for.
    pub(crate) extensions: Vec<String>,
}

/// A session that a provider's word begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entrance {
    /// SHA-256 of its key.
    pub(crate) key_hash: Vec<u8>,
    /// SHA-256 of the state of its log-in, which is good once.
    pub(crate) state_hash: Vec<u8>,
    /// When the state is no good any more.
    pub(crate) until_us: i64,
    /// Now.
    pub(crate) now_us: i64,
}

/// What became of a log-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// The session is there, for the account of this name.
    In(String),
    /// The account of this name is disabled.
    Disabled(String),
    /// The same log-in came before.
    Again,
}

/// The provider's side of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The account.
    pub(crate) account: Id,
    /// The provider.
    pub(crate) issuer: String,
    /// How people call them.
    pub(crate) display: String,
}

/// The part of the catalogue that is about people whom a provider knows.
#[async_trait]
pub(crate) trait Identities: Send + Sync {
    /// Lets somebody in: makes their account if they have none, gives it their name and roles of now, and begins the
    /// session. The account is theirs by issuer and subject alone, and its own name never changes. The audit entries are
    /// `entry`'s, with the account's name.
    async fn enter(&self, person: &Person, entrance: &Entrance, entry: &Entry) -> Done<Entered>;
    /// The accounts of people whom a provider knows.
    async fn identities(&self) -> Done<Vec<Identity>>;
    /// What the provider knows of an account.
    async fn identity(&self, account: Id) -> Done<Option<Identity>>;
}
