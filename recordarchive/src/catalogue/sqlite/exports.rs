//! Exports in SQLite, and the entries of the audit log that go with them.

use super::{Tx, log, people};
use crate::access::audit::{Entry, Link};
use crate::catalogue::export::{Export, State};
use crate::catalogue::{Done, Failure};
use crate::id::Id;
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

/// Exports of one account that are listed.
const MAX_LISTED: i64 = 200;

/// The value for originals that stay encrypted as they are stored; 1: decrypted.
const AS_STORED: i64 = 2;

fn export(row: &SqliteRow) -> Export {
    let calls: Vec<String> = serde_json::from_str(row.get("calls")).unwrap_or_default();
    Export {
        id: people::id(row.get("id")),
        account: people::id(row.get("account")),
        by: row.get("by"),
        reason: row.get("reason"),
        calls: calls.iter().filter_map(|call| Id::parse(call)).collect(),
        originals: row.get("originals"),
        as_stored: row.get::<i64, _>("originals") == AS_STORED,
        mask_numbers: row.get("mask_numbers"),
        asked_us: row.get("asked_us"),
        expires_us: row.get("expires_us"),
        state: State::from_name(row.get("state")).unwrap_or(State::Failed),
        decided: row
            .get::<Option<String>, _>("decided_by")
            .map(|by| (by, row.get::<Option<i64>, _>("decided_us").unwrap_or_default())),
        octets: row.get("octets"),
        sha256: row.get("sha256"),
        problem: row.get("problem"),
    }
}

pub(super) async fn add(tx: &mut Tx, export: &Export) -> Done<()> {
    let calls: Vec<String> = export.calls.iter().map(Id::to_string).collect();
    sqlx::query(
        "INSERT INTO export (id, account, by, reason, calls, originals, mask_numbers, asked_us, expires_us, state)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(export.id.0.as_slice())
    .bind(export.account.0.as_slice())
    .bind(&export.by)
    .bind(&export.reason)
    .bind(serde_json::to_string(&calls).unwrap_or_default())
    .bind(if export.as_stored { AS_STORED } else { i64::from(export.originals) })
    .bind(export.mask_numbers)
    .bind(export.asked_us)
    .bind(export.expires_us)
    .bind(export.state.name())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn set(tx: &mut Tx, export: &Export) -> Done<()> {
    let query = sqlx::query("UPDATE export SET state = ?, octets = ?, sha256 = ?, problem = ? WHERE id = ?");
    query
        .bind(export.state.name())
        .bind(export.octets)
        .bind(&export.sha256)
        .bind(&export.problem)
        .bind(export.id.0.as_slice())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Those of an account, the newest first.
pub(super) async fn of(pool: &SqlitePool, account: Id) -> Done<Vec<Export>> {
    let query = sqlx::query("SELECT * FROM export WHERE account = ? ORDER BY key DESC LIMIT ?");
    let rows = query.bind(account.0.as_slice()).bind(MAX_LISTED).fetch_all(pool).await?;
    Ok(rows.iter().map(export).collect())
}

pub(super) async fn one(pool: &SqlitePool, id: Id, account: Id) -> Done<Option<Export>> {
    let query = sqlx::query("SELECT * FROM export WHERE id = ? AND account = ?");
    let row = query.bind(id.0.as_slice()).bind(account.0.as_slice()).fetch_optional(pool).await?;
    Ok(row.as_ref().map(export))
}

/// Those that wait for another person, the oldest first.
pub(super) async fn waiting(pool: &SqlitePool) -> Done<Vec<Export>> {
    let query = sqlx::query("SELECT * FROM export WHERE state = 'waiting' ORDER BY key LIMIT ?");
    Ok(query.bind(MAX_LISTED).fetch_all(pool).await?.iter().map(export).collect())
}

/// Has another person decide about one that waits; false if there is none.
pub(super) async fn decide(tx: &mut Tx, id: Id, approves: bool, until_us: i64, entry: &Entry) -> Done<bool> {
    let query = sqlx::query("SELECT * FROM export WHERE id = ?").bind(id.0.as_slice());
    let Some(found) = query.fetch_optional(&mut **tx).await?.as_ref().map(export) else { return Ok(false) };
    if found.state != State::Waiting {
        return Err(Failure::Conflict(format!("the export is {} already", found.state.name())));
    }
    if found.by == entry.actor {
        let told = "you asked for this export: another person with export.approve has to decide";
        return Err(Failure::Conflict(told.into()));
    }
    let state = if approves { State::Running } else { State::Rejected };
    let query = "UPDATE export SET state = ?, decided_by = ?, decided_us = ?, expires_us = ? WHERE id = ?";
    let query = sqlx::query(query).bind(state.name()).bind(&entry.actor).bind(entry.at_us).bind(until_us);
    query.bind(id.0.as_slice()).execute(&mut **tx).await?;
    log::append(tx, std::slice::from_ref(entry)).await?;
    Ok(true)
}

/// The oldest that is to be made, and those whose time is over.
pub(super) async fn to_do(pool: &SqlitePool, now_us: i64) -> Done<(Option<Export>, Vec<Export>)> {
    let next = sqlx::query("SELECT * FROM export WHERE state = 'running' ORDER BY key LIMIT 1");
    let next = next.fetch_optional(pool).await?.as_ref().map(export);
    let over =
        sqlx::query("SELECT * FROM export WHERE state IN ('ready', 'waiting') AND expires_us <= ? LIMIT 100");
    let over = over.bind(now_us).fetch_all(pool).await?.iter().map(export).collect();
    Ok((next, over))
}

/// Entries of the audit log about one of these, in order, at most `limit`.
pub(super) async fn about(pool: &SqlitePool, objects: &[String], limit: u32) -> Done<Vec<Link>> {
    let mut links: Vec<Link> = Vec::new();
    for object in objects {
        let query = "SELECT * FROM audit INDEXED BY audit_by_object WHERE object = ? AND object != ''
                     ORDER BY seq DESC LIMIT ?";
        let rows = sqlx::query(query).bind(object).bind(limit).fetch_all(pool).await?;
        links.extend(rows.iter().map(log::link));
    }
    links.sort_by_key(|link| link.seq);
    links.dedup_by_key(|link| link.seq);
    Ok(links)
}
