//! The catalogue in one SQLite file.
//!
//! Owns: the connections, one that writes and several that read, and the schema. Never: decisions; each file
//! beside this one has the statements of one part of the trait.

mod at_rest;
pub(crate) mod bulk;
mod calls;
mod checkpoints;
mod deletions;
mod events;
mod exports;
mod files;
pub(crate) mod folders;
mod holds;
mod hooks;
mod identities;
mod log;
mod new;
mod people;
mod policies;
mod rows;
mod same;
pub(crate) mod search;
mod totp;

use super::event::{Bulk, EventView, NewEvent};
use super::export::Export;
use super::model::{
    Account, Broken, CallView, Decision, Deletion, DeletionPage, Doomed, Found, Hold, HoldPage, Kept,
    KnownFile, Note, Page, RecordingMedia, Released, Scope, Search, SegmentFile, Session, Taken, Totals,
    Verdict,
};
use super::{Catalogue, Done, Failure};
use crate::access::audit::{Entry, Link};
use crate::access::checkpoint::Signed;
use crate::access::site_key::SiteKey;
use crate::access::{Actor, Condition, Grant};
use crate::id::Id;
use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};
use std::path::Path;
use std::time::Duration;

/// The schema, step by step: `user_version` of the file counts those that it has. A step that was released
/// stays as it is.
const SCHEMA: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("totp.sql"),
    include_str!("checkpoints.sql"),
    include_str!("events.sql"),
    include_str!("holds.sql"),
    include_str!("deletions.sql"),
    include_str!("exports.sql"),
    include_str!("policies.sql"),
    include_str!("export_approval.sql"),
    include_str!("hooks.sql"),
    include_str!("same.sql"),
    include_str!("at_rest.sql"),
    include_str!("numbers.sql"),
    include_str!("identities.sql"),
    include_str!("compact.sql"),
    include_str!("supersedes.sql"),
    include_str!("grants.sql"),
];
/// Connections that read.
const READERS: u32 = 4;
/// The time that a statement waits for another process, such as a command beside the server.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Memory of each connection for pages of the file, in KiB.
const CACHE_KIB: u32 = 8 << 10;

/// The settings of a connection that fills a new file, which is thrown away if that fails.
const BULK_PRAGMAS: &[(&str, &str)] =
    &[("journal_mode", "off"), ("synchronous", "off"), ("cache_size", "-262144"), ("temp_store", "file")];

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.to_string())
    }
}

/// The catalogue in a file.
#[derive(Debug)]
pub(crate) struct SqliteCatalogue {
    writer: SqlitePool,
    readers: SqlitePool,
    appender: log::Appender,
}

type Tx = Transaction<'static, Sqlite>;

impl SqliteCatalogue {
    /// Opens the file, and makes it if there is none.
    pub(crate) async fn open(path: &Path) -> Done<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // The audit log says that it is on the disk before audio leaves.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("cache_size", format!("-{CACHE_KIB}"))
            .pragma("temp_store", "memory")
            .pragma("trusted_schema", "off")
            // A wrapped key that is deleted is not to be found in the file any more.
            .pragma("secure_delete", "on");
        let pool = |count| SqlitePoolOptions::new().max_connections(count).min_connections(1);
        let named = |error: sqlx::Error| Failure::Database(format!("{}: {error}", path.display()));
        let writer = pool(1).connect_with(options.clone()).await.map_err(named)?;
        let appender = log::Appender::start(writer.clone());
        let catalogue = Self { readers: pool(READERS).connect_lazy_with(options), writer, appender };
        catalogue.migrate().await?;
        Ok(catalogue)
    }

    /// Brings the schema up to date. Meanwhile no table holds on to others, so that a step can make any of
    /// them anew.
    async fn migrate(&self) -> Done<()> {
        sqlx::raw_sql("PRAGMA foreign_keys = OFF").execute(&self.writer).await?;
        self.take_steps().await?;
        sqlx::raw_sql("PRAGMA foreign_keys = ON").execute(&self.writer).await?;
        Ok(())
    }

    async fn take_steps(&self) -> Done<()> {
        let mut tx = self.begin().await?;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *tx).await?;
        let steps = usize::try_from(version).ok().and_then(|version| SCHEMA.get(version..));
        let Some(steps) = steps else {
            let known = format!("this program knows version {}", SCHEMA.len());
            return Err(Failure::Database(format!("the catalogue has version {version}; {known}")));
        };
        if steps.is_empty() {
            return Ok(());
        }
        for step in steps {
            sqlx::raw_sql(*step).execute(&mut *tx).await?;
        }
        let broken = sqlx::query("PRAGMA foreign_key_check").fetch_optional(&mut *tx).await?;
        if let Some(broken) = broken {
            let table: String = broken.get("table");
            let told =
                format!("a row of {table:?} belongs to none: restore the last backup, and tell the makers");
            return Err(Failure::Database(told));
        }
        let set = format!("PRAGMA user_version = {}", SCHEMA.len());
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// A transaction that writes, and is the only one.
    async fn begin(&self) -> Done<Tx> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// The pool for statements that only read.
    fn readers(&self) -> &SqlitePool {
        &self.readers
    }
}

/// Ends a transaction, with the entry of what was done.
async fn finish(mut tx: Tx, done: bool, entry: &Entry) -> Done<bool> {
    if done {
        log::append(&mut tx, std::slice::from_ref(entry)).await?;
    }
    tx.commit().await?;
    Ok(done)
}

#[async_trait]
impl Catalogue for SqliteCatalogue {
    async fn take(&self, files: &[Found]) -> Done<Vec<Taken>> {
        let mut tx = self.begin().await?;
        let taken = new::take(&mut tx, files).await?;
        tx.commit().await?;
        Ok(taken)
    }

    async fn set_aside(&self, files: &[Broken]) -> Done<()> {
        let mut tx = self.begin().await?;
        for file in files {
            files::set_aside(&mut tx, &file.place, &file.reason, file.since_us).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn quarantine(&self, limit: u32) -> Done<Vec<Broken>> {
        files::quarantine(self.readers(), limit).await
    }

    async fn folders(&self, root: &str) -> Done<Vec<String>> {
        let found = sqlx::query_scalar("SELECT path FROM folder WHERE root = ?").bind(root);
        Ok(found.fetch_all(self.readers()).await?)
    }

    async fn known(&self, root: &str, folder: &str) -> Done<Vec<KnownFile>> {
        files::known(self.readers(), root, folder).await
    }

    async fn set_missing(&self, root: &str, folder: &str, names: &[String], missing: bool) -> Done<()> {
        let mut tx = self.begin().await?;
        for name in names {
            files::set_missing(&mut tx, root, folder, name, missing).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn has(&self, device: &str, recording: &str, segment: u32, sha256: &[u8]) -> Done<bool> {
        files::has(self.readers(), device, recording, segment, sha256).await
    }

    async fn segments(&self, behind: Option<(i64, u32)>, limit: u32) -> Done<Vec<SegmentFile>> {
        files::segments(self.readers(), behind, limit).await
    }

    async fn totals(&self) -> Done<Totals> {
        files::totals(self.readers()).await
    }

    async fn search(&self, search: &Search, condition: &Condition) -> Done<Page> {
        calls::page(self.readers(), search, condition).await
    }

    async fn keys(&self, search: &Search, condition: &Condition) -> Done<Vec<i64>> {
        search::keys(self.readers(), search, condition).await
    }

    async fn call(&self, id: Id, condition: &Condition) -> Done<Option<CallView>> {
        calls::call(self.readers(), id, condition).await
    }

    async fn media(&self, recording: Id, condition: &Condition) -> Done<Option<RecordingMedia>> {
        calls::media(self.readers(), recording, condition).await
    }

    async fn set_tags(
        &self,
        call: Id,
        tags: &[String],
        was: Option<&[String]>,
        condition: &Condition,
        entry: &Entry,
    ) -> Done<bool> {
        let mut tx = self.begin().await?;
        let done = calls::set_tags(&mut tx, call, (tags, was), condition, entry.at_us).await?;
        finish(tx, done, entry).await
    }

    async fn add_note(&self, call: Id, note: &Note, condition: &Condition, entry: &Entry) -> Done<bool> {
        let mut tx = self.begin().await?;
        let done = calls::add_note(&mut tx, call, note, condition).await?;
        finish(tx, done, entry).await
    }

    async fn put_events(&self, events: &[NewEvent], entry: &Entry) -> Done<Bulk> {
        let mut tx = self.begin().await?;
        let mut bulk = Bulk::default();
        for event in events {
            events::put(&mut tx, event, &mut bulk).await?;
        }
        log::append(&mut tx, std::slice::from_ref(entry)).await?;
        tx.commit().await?;
        Ok(bulk)
    }

    async fn event(&self, id: Id, condition: &Condition) -> Done<Option<EventView>> {
        events::one(self.readers(), id, condition).await
    }

    async fn place_hold(
        &self,
        decision: &Decision,
        scope: &Scope,
        condition: &Condition,
        entry: &Entry,
    ) -> Done<Option<Hold>> {
        let mut tx = self.begin().await?;
        let placed = holds::place(&mut tx, decision, scope, condition, entry).await?;
        tx.commit().await?;
        Ok(placed)
    }

    async fn release_hold(
        &self,
        id: Id,
        reason: &str,
        condition: &Condition,
        entry: &Entry,
    ) -> Done<Option<Released>> {
        let mut tx = self.begin().await?;
        let released = holds::release(&mut tx, id, reason, condition, entry).await?;
        tx.commit().await?;
        Ok(released)
    }

    async fn holds(&self, behind: Option<i64>, limit: u32, condition: &Condition) -> Done<HoldPage> {
        holds::list(self.readers(), behind, limit, condition).await
    }

    async fn hold(&self, id: Id, condition: &Condition) -> Done<Option<(Hold, Vec<String>)>> {
        holds::one(self.readers(), id, condition).await
    }

    async fn unwritten_holds(&self, now_us: i64, limit: u32) -> Done<Vec<Kept>> {
        holds::unwritten(self.readers(), now_us, limit).await
    }

    async fn holds_written(&self, kept: &Kept) -> Done<()> {
        let mut tx = self.begin().await?;
        holds::written(&mut tx, kept).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn holds_unwritten(&self, kept: &Kept, again_us: i64) -> Done<()> {
        let mut tx = self.begin().await?;
        holds::again(&mut tx, kept, again_us).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn ask_deletion(
        &self,
        id: Id,
        calls: &[Id],
        reason: &str,
        condition: &Condition,
        entry: &Entry,
    ) -> Done<Option<Deletion>> {
        let mut tx = self.begin().await?;
        let asked = deletions::ask(&mut tx, id, calls, reason, condition, entry).await?;
        if asked.is_some() {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok(asked)
    }

    async fn decide_deletion(
        &self,
        id: Id,
        verdict: Verdict,
        reason: &str,
        condition: &Condition,
        entry: &Entry,
    ) -> Done<Option<Deletion>> {
        let mut tx = self.begin().await?;
        let decided = deletions::decide(&mut tx, id, verdict, reason, condition, entry).await?;
        tx.commit().await?;
        Ok(decided)
    }

    async fn deletions(&self, behind: Option<i64>, limit: u32, condition: &Condition) -> Done<DeletionPage> {
        deletions::list(self.readers(), behind, limit, condition).await
    }

    async fn doomed(&self, now_us: i64, limit: u32) -> Done<Vec<Doomed>> {
        deletions::due(self.readers(), now_us, limit).await
    }

    async fn put_off_deletion(&self, doomed: &Doomed, due_us: i64) -> Done<()> {
        let mut tx = self.begin().await?;
        deletions::put_off(&mut tx, doomed, due_us).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn begin_deletions(&self, doomed: &[Doomed], now_us: i64) -> Done<Vec<bool>> {
        let mut tx = self.begin().await?;
        let mut all = Vec::with_capacity(doomed.len());
        for one in doomed {
            all.push(deletions::begin(&mut tx, one, now_us).await?);
        }
        tx.commit().await?;
        Ok(all)
    }

    async fn finish_deletions(&self, doomed: &[Doomed], now_us: i64) -> Done<Vec<bool>> {
        let mut tx = self.begin().await?;
        let mut all = Vec::with_capacity(doomed.len());
        for one in doomed {
            all.push(deletions::finish(&mut tx, one, now_us).await?);
        }
        tx.commit().await?;
        Ok(all)
    }

    async fn add_account(&self, account: &Account, grant: &Grant, entry: &Entry) -> Done<()> {
        let mut tx = self.begin().await?;
        people::add(&mut tx, account, grant).await?;
        log::append(&mut tx, std::slice::from_ref(entry)).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn accounts(&self) -> Done<Vec<(Account, Vec<Grant>)>> {
        people::all(self.readers()).await
    }

    async fn account(&self, name: &str) -> Done<Option<Account>> {
        people::named(self.readers(), name).await
    }

    async fn disable(&self, name: &str, entry: &Entry) -> Done<bool> {
        let mut tx = self.begin().await?;
        let done = people::disable(&mut tx, name).await?;
        finish(tx, done, entry).await
    }

    async fn set_password(&self, name: &str, hash: &str, entry: &Entry) -> Done<bool> {
        let mut tx = self.begin().await?;
        let done = people::set_password(&mut tx, name, hash).await?;
        finish(tx, done, entry).await
    }

    async fn extension_from(&self, extension: &str, now_us: i64) -> Done<i64> {
        let mut connection = self.readers().acquire().await?;
        people::extension_from(&mut connection, extension, now_us).await
    }

    async fn totp(&self, account: Id) -> Done<Option<Vec<u8>>> {
        totp::secret(self.readers(), account).await
    }

    async fn take_totp_step(&self, account: Id, step: i64) -> Done<bool> {
        let mut tx = self.begin().await?;
        let done = totp::take_step(&mut tx, account, step).await?;
        tx.commit().await?;
        Ok(done)
    }

    async fn set_totp(&self, name: &str, secret: Option<&[u8]>, entry: &Entry) -> Done<bool> {
        let mut tx = self.begin().await?;
        let done = totp::set(&mut tx, name, secret).await?;
        finish(tx, done, entry).await
    }

    async fn open_session(&self, session: &Session, entry: &Entry) -> Done<()> {
        let mut tx = self.begin().await?;
        people::open_session(&mut tx, session).await?;
        log::append(&mut tx, std::slice::from_ref(entry)).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn close_session(&self, key_hash: &[u8], entry: &Entry) -> Done<()> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM session WHERE key_hash = ?").bind(key_hash).execute(&mut *tx).await?;
        log::append(&mut tx, std::slice::from_ref(entry)).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn session(
        &self,
        key_hash: &[u8],
        now_us: i64,
        idle_before_us: i64,
        began_after_us: i64,
    ) -> Done<Option<Actor>> {
        people::session(self, key_hash, now_us, idle_before_us, began_after_us).await
    }

    async fn add_token(
        &self,
        account: &str,
        name: &str,
        hash: &[u8],
        scope: &[String],
        entry: &Entry,
    ) -> Done<()> {
        let mut tx = self.begin().await?;
        people::add_token(&mut tx, account, name, hash, scope).await?;
        log::append(&mut tx, std::slice::from_ref(entry)).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn token(&self, key_hash: &[u8]) -> Done<Option<Actor>> {
        people::token(self.readers(), key_hash).await
    }

    async fn offer_setup(&self, hash: &[u8], until_us: i64) -> Done<()> {
        let query = sqlx::query("INSERT OR REPLACE INTO setup (one, key_hash, until_us) VALUES (1, ?, ?)");
        query.bind(hash).bind(until_us).execute(&self.writer).await?;
        Ok(())
    }

    async fn set_up(&self, hash: &[u8], now_us: i64, account: &Account, entry: &Entry) -> Done<bool> {
        let mut tx = self.begin().await?;
        let done = people::set_up(&mut tx, hash, now_us, account).await?;
        finish(tx, done, entry).await
    }

    async fn log(&self, entries: &[Entry]) -> Done<()> {
        self.appender.append(entries).await
    }

    async fn audit(&self, behind: i64, limit: u32) -> Done<Vec<Link>> {
        log::behind(self.readers(), behind, limit).await
    }

    async fn audit_newest(&self, before: Option<i64>, actor: Option<&str>, limit: u32) -> Done<Vec<Link>> {
        log::newest(self.readers(), before, actor, limit).await
    }

    async fn make_checkpoint(&self, key: &SiteKey, at_us: i64) -> Done<Option<Signed>> {
        let mut tx = self.begin().await?;
        let made = checkpoints::make(&mut tx, key, at_us).await?;
        tx.commit().await?;
        Ok(made)
    }

    async fn newest_checkpoint(&self) -> Done<Option<Signed>> {
        checkpoints::newest(self.readers()).await
    }

    async fn checkpoints(&self, behind: i64, limit: u32) -> Done<Vec<Signed>> {
        checkpoints::behind(self.readers(), behind, limit).await
    }

    async fn sealed(&self, behind: i64, to: i64) -> Done<Vec<Vec<u8>>> {
        checkpoints::sealed(self.readers(), behind, to).await
    }

    async fn unsealed(&self, limit: u32) -> Done<Vec<String>> {
        checkpoints::unsealed(self.readers(), limit).await
    }

    async fn audit_about(&self, objects: &[String], limit: u32) -> Done<Vec<Link>> {
        exports::about(self.readers(), objects, limit).await
    }

    async fn add_export(&self, export: &Export, entries: &[Entry]) -> Done<()> {
        let mut tx = self.begin().await?;
        exports::add(&mut tx, export).await?;
        log::append(&mut tx, entries).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn set_export(&self, export: &Export, entry: &Entry) -> Done<()> {
        let mut tx = self.begin().await?;
        exports::set(&mut tx, export).await?;
        log::append(&mut tx, std::slice::from_ref(entry)).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn exports(&self, account: Id) -> Done<Vec<Export>> {
        exports::of(self.readers(), account).await
    }

    async fn export(&self, id: Id, account: Id) -> Done<Option<Export>> {
        exports::one(self.readers(), id, account).await
    }

    async fn waiting_exports(&self) -> Done<Vec<Export>> {
        exports::waiting(self.readers()).await
    }

    async fn decide_export(&self, id: Id, approves: bool, until_us: i64, entry: &Entry) -> Done<bool> {
        let mut tx = self.begin().await?;
        let done = exports::decide(&mut tx, id, approves, until_us, entry).await?;
        tx.commit().await?;
        Ok(done)
    }

    async fn exports_to_do(&self, now_us: i64) -> Done<(Option<Export>, Vec<Export>)> {
        exports::to_do(self.readers(), now_us).await
    }

    async fn copy_to(&self, path: &Path) -> Done<()> {
        let name = path.to_string_lossy();
        sqlx::query("VACUUM INTO ?").bind(&*name).execute(self.readers()).await?;
        Ok(())
    }

    async fn check(&self) -> Done<Vec<String>> {
        let told: Vec<String> =
            sqlx::query_scalar("PRAGMA quick_check(20)").fetch_all(self.readers()).await?;
        Ok(told.into_iter().filter(|line| line != "ok").collect())
    }
}
