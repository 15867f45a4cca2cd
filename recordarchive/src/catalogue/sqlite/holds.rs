//! Holds in SQLite.
//!
//! Invariant: a change of a call's holds notes, in the same transaction, that its sidecars are to be written.

use super::people::id;
use super::search::{Sql, condition_sql, statement};
use super::{Tx, log};
use crate::access::Condition;
use crate::access::audit::Entry;
use crate::catalogue::model::{Decision, Found, Hold, HoldPage, Kept, Place, Released, Scope, Step};
use crate::catalogue::{Done, Failure, MAX_HELD_CALLS as MAX_CALLS};
use crate::id::Id;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};
use std::collections::HashMap;

/// Columns of a hold `h` for [`hold_of`].
const COLUMNS: &str = "h.*, (SELECT count(*) FROM held WHERE hold = h.key) AS calls";
/// The actor in audit entries about holds that a sidecar brought.
const SIDECAR: &str = "(sidecar)";

fn decision_of(row: &SqliteRow) -> Decision {
    Decision {
        id: id(row.get("id")).to_string(),
        name: row.get("name"),
        reference: row.get("reference"),
        reason: row.get("reason"),
        by: row.get("placed_by"),
        placed_us: row.get("placed_us"),
    }
}

fn hold_of(row: &SqliteRow) -> Hold {
    let step = |by: &str, at: &str, reason: &str| {
        let by: Option<String> = row.get(by);
        by.map(|by| Step {
            by,
            at_us: row.get::<Option<i64>, _>(at).unwrap_or_default(),
            reason: row.get::<Option<String>, _>(reason).unwrap_or_default(),
        })
    };
    Hold {
        key: row.get("key"),
        decision: decision_of(row),
        calls: row.get("calls"),
        asked: step("asked_by", "asked_us", "asked_reason"),
        released: step("released_by", "released_us", "released_reason"),
    }
}

/// Appends that the condition admits all calls of the hold `h`. A hold of which no call is left is for users
/// who may see all calls.
fn admitted_sql(condition: &Condition, sql: &mut Sql) {
    if *condition == Condition::All {
        return;
    }
    sql.push(
        " AND EXISTS (SELECT 1 FROM held x WHERE x.hold = h.key)
          AND NOT EXISTS (SELECT 1 FROM held x JOIN call c ON c.key = x.call WHERE x.hold = h.key AND NOT (1 = 1",
    );
    condition_sql(condition, sql);
    sql.push("))");
}

/// Keys and ids of the calls of a scope; `None` if one of them is not admitted, or there is none.
async fn calls_of(tx: &mut Tx, scope: &Scope, condition: &Condition) -> Done<Option<Vec<(i64, Id)>>> {
    let mut calls = Vec::new();
    match scope {
        Scope::Calls(ids) => {
            for call in ids {
                let mut sql = Sql::new("SELECT c.key FROM call c WHERE ".into());
                sql.push_is_call(*call);
                condition_sql(condition, &mut sql);
                let Some(row) = sql.query().fetch_optional(&mut **tx).await? else { return Ok(None) };
                calls.push((row.get("key"), *call));
            }
        }
        Scope::Found(search) => {
            let rows = statement(search, condition).query().fetch_all(&mut **tx).await?;
            if rows.len() > MAX_CALLS as usize {
                let told =
                    format!("more than {MAX_CALLS} calls fit: narrow the search, and place several holds");
                return Err(Failure::Conflict(told));
            }
            for row in rows {
                let key: i64 = row.get("key");
                let found = sqlx::query_scalar::<_, Vec<u8>>("SELECT id FROM call WHERE key = ?").bind(key);
                calls.push((key, id(&found.fetch_one(&mut **tx).await?)));
            }
        }
    }
    Ok(Some(calls).filter(|calls| !calls.is_empty()))
}

/// Notes that the sidecars of a call are to be written.
pub(super) async fn want_written(tx: &mut Tx, call: i64) -> Done<()> {
    let query = "INSERT INTO hold_unwritten (call, version, due_us) VALUES (?, 1, 0)
                 ON CONFLICT (call) DO UPDATE SET version = hold_unwritten.version + 1, due_us = 0";
    sqlx::query(query).bind(call).execute(&mut **tx).await?;
    Ok(())
}

async fn add(tx: &mut Tx, decision: &Decision) -> Done<i64> {
    let query =
        "INSERT INTO hold (id, name, reference, reason, placed_by, placed_us) VALUES (?, ?, ?, ?, ?, ?)
                 RETURNING key";
    let hold = Id::parse(&decision.id).unwrap_or(Id([0; 16]));
    let query = sqlx::query_scalar(query).bind(hold.0.to_vec()).bind(&decision.name);
    let query = query.bind(&decision.reference).bind(&decision.reason).bind(&decision.by);
    Ok(query.bind(decision.placed_us).fetch_one(&mut **tx).await?)
}

/// Has a hold keep a call; false if it did already.
async fn keep(tx: &mut Tx, hold: i64, call: i64) -> Done<bool> {
    let query = "INSERT INTO held (hold, call, active)
                 SELECT ?1, ?2, 1 WHERE NOT EXISTS (SELECT 1 FROM trash WHERE call = ?2 AND begun = 1)
                 ON CONFLICT (hold, call) DO NOTHING";
    let done = sqlx::query(query).bind(hold).bind(call).execute(&mut **tx).await?;
    Ok(done.rows_affected() > 0)
}

async fn is_kept(tx: &mut Tx, hold: i64, call: i64) -> Done<bool> {
    let query = sqlx::query_scalar::<_, i64>("SELECT 1 FROM held WHERE hold = ? AND call = ?");
    Ok(query.bind(hold).bind(call).fetch_optional(&mut **tx).await?.is_some())
}

async fn by_key(tx: &mut Tx, key: i64) -> Done<Hold> {
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM hold h WHERE h.key = "));
    sql.bind(key);
    Ok(hold_of(&sql.query().fetch_one(&mut **tx).await?))
}

pub(super) async fn place(
    tx: &mut Tx,
    decision: &Decision,
    scope: &Scope,
    condition: &Condition,
    entry: &Entry,
) -> Done<Option<Hold>> {
    let Some(calls) = calls_of(tx, scope, condition).await? else { return Ok(None) };
    let hold = add(tx, decision).await?;
    let mut entries = vec![entry.clone()];
    for (call, call_id) in calls {
        if keep(tx, hold, call).await? {
            want_written(tx, call).await?;
            entries.push(about_call(entry, "hold", &decision.id, call_id));
        } else if !is_kept(tx, hold, call).await? {
            let told = format!("the files of call {call_id} are being removed: it is too late for a hold");
            return Err(Failure::Conflict(told));
        }
    }
    log::append(tx, &entries).await?;
    Ok(Some(by_key(tx, hold).await?))
}

/// The entry about one call of a hold.
fn about_call(entry: &Entry, action: &str, hold: &str, call: Id) -> Entry {
    Entry::new(entry.at_us, &entry.actor, action, call).with(&serde_json::json!({"hold": hold}))
}

pub(super) async fn release(
    tx: &mut Tx,
    hold: Id,
    reason: &str,
    condition: &Condition,
    entry: &Entry,
) -> Done<Option<Released>> {
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM hold h WHERE h.id = "));
    sql.bind(hold.0.to_vec());
    admitted_sql(condition, &mut sql);
    let Some(row) = sql.query().fetch_optional(&mut **tx).await? else { return Ok(None) };
    let found = hold_of(&row);
    if found.released.is_some() {
        return Ok(Some(Released::Before));
    }
    let Some(asked) = found.asked else {
        let query = "UPDATE hold SET asked_by = ?, asked_us = ?, asked_reason = ? WHERE key = ?";
        let query = sqlx::query(query).bind(&entry.actor).bind(entry.at_us).bind(reason);
        query.bind(found.key).execute(&mut **tx).await?;
        let asks = Entry { action: "hold.release.ask".into(), ..entry.clone() };
        log::append(tx, &[asks]).await?;
        return Ok(Some(Released::Asked(by_key(tx, found.key).await?)));
    };
    if asked.by == entry.actor {
        return Ok(Some(Released::SamePerson));
    }
    let query = "UPDATE hold SET released_by = ?, released_us = ?, released_reason = ? WHERE key = ?";
    let query = sqlx::query(query).bind(&entry.actor).bind(entry.at_us).bind(reason);
    query.bind(found.key).execute(&mut **tx).await?;
    sqlx::query("UPDATE held SET active = 0 WHERE hold = ?").bind(found.key).execute(&mut **tx).await?;
    let mut entries = vec![entry.clone()];
    let query =
        "SELECT c.key, c.id FROM held x JOIN call c ON c.key = x.call WHERE x.hold = ? ORDER BY c.key";
    for row in sqlx::query(query).bind(found.key).fetch_all(&mut **tx).await? {
        want_written(tx, row.get("key")).await?;
        entries.push(about_call(entry, "hold.end", &found.decision.id, id(row.get("id"))));
    }
    log::append(tx, &entries).await?;
    Ok(Some(Released::Done(by_key(tx, found.key).await?)))
}

pub(super) async fn list(
    pool: &SqlitePool,
    behind: Option<i64>,
    limit: u32,
    condition: &Condition,
) -> Done<HoldPage> {
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM hold h WHERE h.key < "));
    sql.bind(behind.unwrap_or(i64::MAX));
    admitted_sql(condition, &mut sql);
    sql.push(" ORDER BY h.key DESC LIMIT ");
    sql.bind(i64::from(limit) + 1);
    let mut holds: Vec<Hold> = sql.query().fetch_all(pool).await?.iter().map(hold_of).collect();
    let more = holds.len() > limit as usize;
    holds.truncate(limit as usize);
    let next = holds.last().map(|hold| hold.key).filter(|_| more);
    Ok(HoldPage { holds, next })
}

pub(super) async fn one(
    pool: &SqlitePool,
    hold: Id,
    condition: &Condition,
) -> Done<Option<(Hold, Vec<String>)>> {
    let mut tx = pool.begin().await?;
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM hold h WHERE h.id = "));
    sql.bind(hold.0.to_vec());
    admitted_sql(condition, &mut sql);
    let Some(row) = sql.query().fetch_optional(&mut *tx).await? else { return Ok(None) };
    let found = hold_of(&row);
    let query = "SELECT c.id FROM held x JOIN call c ON c.key = x.call WHERE x.hold = ? ORDER BY c.key DESC";
    let rows = sqlx::query(query).bind(found.key).fetch_all(&mut *tx).await?;
    Ok(Some((found, rows.iter().map(|row| id(row.get("id")).to_string()).collect())))
}

/// The holds that keep these calls.
pub(super) async fn of_calls(
    connection: &mut SqliteConnection,
    keys: &[i64],
) -> Done<HashMap<i64, Vec<Decision>>> {
    let mut sql = Sql::new(
        "SELECT x.call, h.* FROM held x JOIN hold h ON h.key = x.hold WHERE x.active = 1 AND x.call IN "
            .into(),
    );
    sql.bind_keys(keys);
    sql.push(" ORDER BY x.call, h.key");
    let mut found: HashMap<i64, Vec<Decision>> = HashMap::new();
    for row in sql.query().fetch_all(connection).await? {
        found.entry(row.get("call")).or_default().push(decision_of(&row));
    }
    Ok(found)
}

/// Takes in the holds that a file's sidecar has. One that was released here stays released; one that is not
/// known was placed by a catalogue that is lost.
pub(super) async fn take(tx: &mut Tx, call: i64, file: &Found) -> Done<()> {
    for decision in &file.holds {
        let Some(hold) = Id::parse(&decision.id) else { continue };
        let query = sqlx::query_as("SELECT key, released_us IS NULL FROM hold WHERE id = ?");
        let known: Option<(i64, bool)> = query.bind(hold.0.to_vec()).fetch_optional(&mut **tx).await?;
        let key = match known {
            Some((_, false)) => continue,
            Some((key, true)) => key,
            None => add(tx, decision).await?,
        };
        if keep(tx, key, call).await? {
            let found = sqlx::query_scalar::<_, Vec<u8>>("SELECT id FROM call WHERE key = ?").bind(call);
            let call_id = id(&found.fetch_one(&mut **tx).await?);
            let entry = Entry::new(crate::clock::now_us(), SIDECAR, "hold", call_id);
            log::append(tx, &[about_call(&entry, "hold", &decision.id, call_id)]).await?;
        }
    }
    let mut kept = of_calls(tx, &[call]).await?.remove(&call).unwrap_or_default();
    let mut said: Vec<&str> = file.holds.iter().map(|decision| decision.id.as_str()).collect();
    said.sort_unstable();
    kept.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    if !kept.iter().map(|decision| decision.id.as_str()).eq(said) {
        want_written(tx, call).await?;
    }
    Ok(())
}

pub(super) async fn unwritten(pool: &SqlitePool, now_us: i64, limit: u32) -> Done<Vec<Kept>> {
    // One transaction: files, holds and version belong together.
    let mut tx = pool.begin().await?;
    let query = "SELECT call, version FROM hold_unwritten WHERE due_us <= ? ORDER BY due_us LIMIT ?";
    let due: Vec<(i64, i64)> = sqlx::query_as(query).bind(now_us).bind(limit).fetch_all(&mut *tx).await?;
    let keys: Vec<i64> = due.iter().map(|(call, _)| *call).collect();
    let mut holds = of_calls(&mut tx, &keys).await?;
    let mut all = Vec::with_capacity(due.len());
    for (call, version) in due {
        let files = files_of(&mut tx, call).await?;
        all.push(Kept { call, version, files, holds: holds.remove(&call).unwrap_or_default() });
    }
    Ok(all)
}

/// The files of a call.
pub(super) async fn files_of(connection: &mut SqliteConnection, call: i64) -> Done<Vec<Place>> {
    let query = "SELECT f.root, f.path, s.name, s.octets, s.modified_ms, s.sidecar_ms
                 FROM recording r JOIN segment s ON s.recording = r.key JOIN folder f ON f.key = s.folder
                 WHERE r.call = ? ORDER BY r.key, s.number";
    let rows = sqlx::query(query).bind(call).fetch_all(connection).await?;
    let place = |row: &SqliteRow| Place {
        root: row.get("root"),
        folder: row.get("path"),
        name: row.get("name"),
        octets: row.get("octets"),
        modified_ms: row.get("modified_ms"),
        sidecar_ms: row.get("sidecar_ms"),
    };
    Ok(rows.iter().map(place).collect())
}

pub(super) async fn written(tx: &mut Tx, kept: &Kept) -> Done<()> {
    let query = sqlx::query("DELETE FROM hold_unwritten WHERE call = ? AND version = ?");
    query.bind(kept.call).bind(kept.version).execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn again(tx: &mut Tx, kept: &Kept, again_us: i64) -> Done<()> {
    let query = sqlx::query("UPDATE hold_unwritten SET due_us = ? WHERE call = ? AND version = ?");
    query.bind(again_us).bind(kept.call).bind(kept.version).execute(&mut **tx).await?;
    Ok(())
}
