//! The catalogue: the known calls, and the decisions of people about them.
//!
//! Owns: the trait [`Catalogue`], its models, and the conformance suite that every database has to pass. The
//! media are the truth about calls, the catalogue about decisions: [`Catalogue::take`] can be repeated for
//! every file at any time.
//! Invariants: a change and its audit entry are one transaction; every read of a call takes an
//! [`crate::access::Condition`]; a list is ordered by a key, never by an offset.

pub(crate) mod at_rest;
#[cfg(test)]
mod conformance;
mod deletions;
pub(crate) mod event;
pub(crate) mod export;
mod holds;
pub(crate) mod hooks;
pub(crate) mod identity;
pub(crate) mod model;
mod place;
pub(crate) mod retention;
pub(crate) mod same;
pub(crate) mod sqlite;

use crate::access::audit::{Entry, Link};
use crate::access::checkpoint::Signed;
use crate::access::site_key::SiteKey;
use crate::access::{Actor, Condition, Grant, Role};
use crate::id::Id;
use async_trait::async_trait;
pub(crate) use deletions::MAX_CALLS as MAX_DELETED_CALLS;
use event::{Bulk, EventView, NewEvent};
use export::Export;
pub(crate) use holds::MAX_CALLS as MAX_HELD_CALLS;
use model::{
    Account, Broken, CallView, Decision, Deletion, DeletionPage, Doomed, Found, Hold, HoldPage, Kept,
    KnownFile, Note, Page, RecordingMedia, Released, Scope, Search, SegmentFile, Session, Taken, Totals,
    Verdict,
};
use std::fmt;
use std::path::Path;

/// The reason for which the catalogue refused or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request conflicts with the present state; a text for the user.
    Conflict(String),
    /// The database does not work, for a person.
    Database(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(text) => f.write_str(text),
            Self::Database(text) => write!(f, "the catalogue does not work: {text}"),
        }
    }
}

impl std::error::Error for Failure {}

/// The result of a method of the catalogue.
pub(crate) type Done<T> = Result<T, Failure>;

/// The store of an archive.
#[async_trait]
pub(crate) trait Catalogue:
    at_rest::AtRest + retention::Retention + hooks::Hooks + identity::Identities + same::Sameness + Send + Sync
{
    /// Takes files in: new ones, and those that are known already, as they are now. All or none.
    async fn take(&self, files: &[Found]) -> Done<Vec<Taken>>;
    /// Notes files that can't be taken.
    async fn set_aside(&self, files: &[Broken]) -> Done<()>;
    /// The files that can't be taken, at most `limit`.
    async fn quarantine(&self, limit: u32) -> Done<Vec<Broken>>;
    /// Folders of `root` with known files.
    async fn folders(&self, root: &str) -> Done<Vec<String>>;
    /// The known files of a folder.
    async fn known(&self, root: &str, folder: &str) -> Done<Vec<KnownFile>>;
    /// Notes that files of a folder are not there, or are there again.
    async fn set_missing(&self, root: &str, folder: &str, names: &[String], missing: bool) -> Done<()>;
    /// Whether a file of this recording, segment and hash is there.
    async fn has(&self, device: &str, recording: &str, segment: u32, sha256: &[u8]) -> Done<bool>;
    /// Segments in the order of their place, at most `limit` behind one; for looking at all of them.
    async fn segments(&self, behind: Option<(i64, u32)>, limit: u32) -> Done<Vec<SegmentFile>>;
    /// The totals.
    async fn totals(&self) -> Done<Totals>;

    /// Calls that fit and that the condition admits, the newest first.
    async fn search(&self, search: &Search, condition: &Condition) -> Done<Page>;
    /// The keys of the calls that fit and that the condition admits, the newest first, at most
    /// `search.limit`; a key is the start of its call in microseconds, or a little later.
    async fn keys(&self, search: &Search, condition: &Condition) -> Done<Vec<i64>>;
    /// A call, if the condition admits it.
    async fn call(&self, id: Id, condition: &Condition) -> Done<Option<CallView>>;
    /// The files of a recording, if the condition admits its call.
    async fn media(&self, recording: Id, condition: &Condition) -> Done<Option<RecordingMedia>>;
    /// Replaces the tags of a call; false if the condition does not admit it. A conflict, if they are not as
    /// they `was`: somebody else set them meanwhile.
    async fn set_tags(
        &self,
        call: Id,
        tags: &[String],
        was: Option<&[String]>,
        condition: &Condition,
        entry: &Entry,
    ) -> Done<bool>;
    /// Adds a note to a call; false if the condition does not admit it, or the call has no note that this one
    /// supersedes. A conflict, if that one is another person's, or was superseded before.
    async fn add_note(&self, call: Id, note: &Note, condition: &Condition, entry: &Entry) -> Done<bool>;

    /// Takes events of other systems in, and links them to calls; known ones are replaced. All or none.
    async fn put_events(&self, events: &[NewEvent], entry: &Entry) -> Done<Bulk>;
    /// An event with the calls that the condition admits, if there is one or it admits all.
    async fn event(&self, id: Id, condition: &Condition) -> Done<Option<EventView>>;

    /// Places a hold on calls; `None` if the condition does not admit one of them, or none fits.
    async fn place_hold(
        &self,
        decision: &Decision,
        scope: &Scope,
        condition: &Condition,
        entry: &Entry,
    ) -> Done<Option<Hold>>;
    /// Asks for the release of a hold, or releases it if another person asked before; `None` if the condition
    /// does not admit all of its calls.
    async fn release_hold(
        &self,
        id: Id,
        reason: &str,
        condition: &Condition,
        entry: &Entry,
    ) -> Done<Option<Released>>;
    /// Holds of which the condition admits all calls, the newest first, behind one with this key.
    async fn holds(&self, behind: Option<i64>, limit: u32, condition: &Condition) -> Done<HoldPage>;
    /// A hold with the ids of its calls, if the condition admits all of them.
    async fn hold(&self, id: Id, condition: &Condition) -> Done<Option<(Hold, Vec<String>)>>;
    /// Calls whose sidecars do not have the holds yet that they should have, due before `now_us`; at most
    /// `limit`.
    async fn unwritten_holds(&self, now_us: i64, limit: u32) -> Done<Vec<Kept>>;
    /// Notes that the sidecars of a call have its holds, unless they changed meanwhile.
    async fn holds_written(&self, kept: &Kept) -> Done<()>;
    /// Notes that the sidecars of a call can't be written, and are to be tried again.
    async fn holds_unwritten(&self, kept: &Kept, again_us: i64) -> Done<()>;

    /// Notes that somebody asks for the deletion of calls; `None` if the condition does not admit one of
    /// them.
    async fn ask_deletion(
        &self,
        id: Id,
        calls: &[Id],
        reason: &str,
        condition: &Condition,
        entry: &Entry,
    ) -> Done<Option<Deletion>>;
    /// Decides about a deletion; `None` if the condition does not admit all of its calls.
    async fn decide_deletion(
        &self,
        id: Id,
        verdict: Verdict,
        reason: &str,
        condition: &Condition,
        entry: &Entry,
    ) -> Done<Option<Deletion>>;
    /// Deletions of which the condition admits all calls, the newest first, behind one with this key.
    async fn deletions(&self, behind: Option<i64>, limit: u32, condition: &Condition) -> Done<DeletionPage>;
    /// Calls in the trash whose time is over, at most `limit`.
    async fn doomed(&self, now_us: i64, limit: u32) -> Done<Vec<Doomed>>;
    /// Notes the intent to remove the files of calls; false for one that a hold or a policy keeps, or that is
    /// trash no more.
    async fn begin_deletions(&self, doomed: &[Doomed], now_us: i64) -> Done<Vec<bool>>;
    /// Puts tombstones in the place of calls whose files are removed; false for one that has others
    /// meanwhile.
    async fn finish_deletions(&self, doomed: &[Doomed], now_us: i64) -> Done<Vec<bool>>;
    /// Has a call in the trash wait until `due_us`.
    async fn put_off_deletion(&self, doomed: &Doomed, due_us: i64) -> Done<()>;

    /// Adds an account with one grant.
    async fn add_account(&self, account: &Account, grant: &Grant, entry: &Entry) -> Done<()>;
    /// All accounts, with roles and extensions.
    async fn accounts(&self) -> Done<Vec<(Account, Vec<Grant>)>>;
    /// The account of this name.
    async fn account(&self, name: &str) -> Done<Option<Account>>;
    /// Disables an account, and ends its sessions and tokens; false if there is none of this name.
    async fn disable(&self, name: &str, entry: &Entry) -> Done<bool>;
    /// Changes a password, and ends the account's sessions; false if there is no account of this name.
    async fn set_password(&self, name: &str, hash: &str, entry: &Entry) -> Done<bool>;
    /// The time from which an extension is an account's: from the start if nobody had it before, else now.
    async fn extension_from(&self, extension: &str, now_us: i64) -> Done<i64>;
    /// The secret of an account's second factor, if it has one.
    async fn totp(&self, account: Id) -> Done<Option<Vec<u8>>>;
    /// Notes that the code of this step was used; false if it, or a later one, was already.
    async fn take_totp_step(&self, account: Id, step: i64) -> Done<bool>;
    /// Sets the second factor of an account, or takes it away; false if there is no account of this name.
    async fn set_totp(&self, name: &str, secret: Option<&[u8]>, entry: &Entry) -> Done<bool>;
    /// Begins a session.
    async fn open_session(&self, session: &Session, entry: &Entry) -> Done<()>;
    /// Ends a session.
    async fn close_session(&self, key_hash: &[u8], entry: &Entry) -> Done<()>;
    /// The account of this session, unless it is idle since `idle_before_us` or began before
    /// `began_after_us`.
    async fn session(
        &self,
        key_hash: &[u8],
        now_us: i64,
        idle_before_us: i64,
        began_after_us: i64,
    ) -> Done<Option<Actor>>;
    /// Makes a token for an account, limited to some permissions if there are any.
    async fn add_token(
        &self,
        account: &str,
        name: &str,
        hash: &[u8],
        scope: &[String],
        entry: &Entry,
    ) -> Done<()>;
    /// The account of this token.
    async fn token(&self, key_hash: &[u8]) -> Done<Option<Actor>>;
    /// Notes the hash of the set-up link's key, good until `until_us`.
    async fn offer_setup(&self, hash: &[u8], until_us: i64) -> Done<()>;
    /// Makes the first account with the set-up link's key; false if the key is not good.
    async fn set_up(&self, hash: &[u8], now_us: i64, account: &Account, entry: &Entry) -> Done<bool>;

    /// Appends entries to the audit log.
    async fn log(&self, entries: &[Entry]) -> Done<()>;
    /// Entries behind a number, at most `limit`, in order.
    async fn audit(&self, behind: i64, limit: u32) -> Done<Vec<Link>>;
    /// The newest entries before a number (`None`: all), at most `limit`, the newest first; of one actor, if
    /// asked for.
    async fn audit_newest(&self, before: Option<i64>, actor: Option<&str>, limit: u32) -> Done<Vec<Link>>;
    /// The newest entries about one of these objects, at most `limit` of each, in order.
    async fn audit_about(&self, objects: &[String], limit: u32) -> Done<Vec<Link>>;
    /// Notes that an export is to be made.
    async fn add_export(&self, export: &Export, entries: &[Entry]) -> Done<()>;
    /// Stores the state of an export.
    async fn set_export(&self, export: &Export, entry: &Entry) -> Done<()>;
    /// The exports of an account, the newest first.
    async fn exports(&self, account: Id) -> Done<Vec<Export>>;
    /// An export of an account.
    async fn export(&self, id: Id, account: Id) -> Done<Option<Export>>;
    /// Exports that wait for another person, the oldest first.
    async fn waiting_exports(&self) -> Done<Vec<Export>>;
    /// Has another person decide about an export that waits, which is kept until `until_us`; false if there
    /// is none.
    async fn decide_export(&self, id: Id, approves: bool, until_us: i64, entry: &Entry) -> Done<bool>;
    /// The export that is to be made next, and those whose time is over.
    async fn exports_to_do(&self, now_us: i64) -> Done<(Option<Export>, Vec<Export>)>;
    /// Makes and keeps a signed checkpoint; `None` if nothing was logged or sealed since the last. Of the
    /// files sealed since, it covers the first [`crate::access::checkpoint::MAX_COVERED`].
    async fn make_checkpoint(&self, key: &SiteKey, at_us: i64) -> Done<Option<Signed>>;
    /// The newest checkpoint.
    async fn newest_checkpoint(&self) -> Done<Option<Signed>>;
    /// Checkpoints behind a number, at most `limit`, in order.
    async fn checkpoints(&self, behind: i64, limit: u32) -> Done<Vec<Signed>>;
    /// Hashes of the files that were sealed behind one number and up to another, in order.
    async fn sealed(&self, behind: i64, to: i64) -> Done<Vec<Vec<u8>>>;
    /// Files of which the catalogue has another hash than was sealed, at most `limit`.
    async fn unsealed(&self, limit: u32) -> Done<Vec<String>>;
    /// Writes a copy of the whole catalogue, as it is at one moment, to a file that is not there yet.
    async fn copy_to(&self, path: &Path) -> Done<()>;
    /// Whether the database is whole.
    async fn check(&self) -> Done<Vec<String>>;
}

/// The first account of an archive: it makes the others.
pub(crate) const FIRST_ROLE: Role = Role::Admin;
