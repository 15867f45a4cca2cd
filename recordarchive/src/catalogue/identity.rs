//! People of a provider: their accounts and log-ins.

use super::Done;
use crate::access::Role;
use crate::access::audit::Entry;
use crate::id::Id;
use async_trait::async_trait;

/// Extensions that an account keeps that were its own once.
pub(crate) const MAX_FORMER: usize = 100;

/// A person, as the provider tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    /// The provider's URL.
    pub(crate) issuer: String,
    /// Their lasting id there.
    pub(crate) subject: String,
    /// The name of a new account, if no other has it.
    pub(crate) name: String,
    /// The name for people.
    pub(crate) display: String,
    /// Their roles.
    pub(crate) roles: Vec<PersonRole>,
    /// Their extensions, for roles that are by extension.
    pub(crate) own: Vec<String>,
}

/// A role that a group gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PersonRole {
    /// The role.
    pub(crate) role: Role,
    /// For the calls of these extensions at any time; none: for the usual calls of the role.
    pub(crate) extensions: Vec<String>,
}

/// A session to begin for a person of a provider.
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

/// The result of a log-in.
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
    /// The provider's URL.
    pub(crate) issuer: String,
    /// The name for people.
    pub(crate) display: String,
}

/// The part of the catalogue about people of a provider.
#[async_trait]
pub(crate) trait Identities: Send + Sync {
    /// Lets a person in: makes their account if they have none, gives it their name and roles of now, and
    /// begins the session. The account is theirs by issuer and subject alone, and its own name never changes.
    /// The audit entries are `entry`'s, with the account's name.
    async fn enter(&self, person: &Person, entrance: &Entrance, entry: &Entry) -> Done<Entered>;
    /// All accounts of people of a provider.
    async fn identities(&self) -> Done<Vec<Identity>>;
    /// The provider's side of an account, if it has one.
    async fn identity(&self, account: Id) -> Done<Option<Identity>>;
}
