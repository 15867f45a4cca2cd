//! Deletions in SQLite.
//!
//! Invariant: a call that a hold keeps is not made trash, and no removal of its files begins; a call whose
//! removal began gets no hold. Nor does one go that a policy keeps.

use super::people::id;
use super::search::{Sql, condition_sql};
use super::{Tx, log, policies};
use crate::access::Condition;
use crate::access::audit::Entry;
use crate::catalogue::deletions::{Deletion, DeletionPage, Doomed, State, TRASH_US, Trash, Verdict};
use crate::catalogue::holds::Step;
use crate::catalogue::model::Place;
use crate::catalogue::retention::BY_POLICY;
use crate::catalogue::{Done, Failure};
use crate::id::Id;
use crate::retention::decide::InTrash;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};
use std::collections::HashMap;

/// The actor in the audit log when calls are gone.
const ARCHIVE: &str = "(deletion)";

/// Columns of a request `d` for [`deletion_of`].
const COLUMNS: &str = "d.*, (SELECT max(due_us) FROM trash WHERE deletion = d.key) AS due_us";

fn deletion_of(row: &SqliteRow, calls: Vec<String>) -> Deletion {
    let decided: Option<String> = row.get("decided_by");
    let due_us: Option<i64> = row.get("due_us");
    let state = State::from_name(row.get("state")).unwrap_or(State::Pending);
    Deletion {
        key: row.get("key"),
        id: id(row.get("id")).to_string(),
        state: if state == State::Approved && due_us.is_none() { State::Done } else { state },
        asked: Step { by: row.get("asked_by"), at_us: row.get("asked_us"), reason: row.get("reason") },
        decided: decided.map(|by| Step {
            by,
            at_us: row.get::<Option<i64>, _>("decided_us").unwrap_or_default(),
            reason: row.get::<Option<String>, _>("decided_reason").unwrap_or_default(),
        }),
        due_us,
        calls,
    }
}

async fn with_calls(connection: &mut SqliteConnection, row: &SqliteRow) -> Done<Deletion> {
    let query = sqlx::query_scalar::<_, Vec<u8>>("SELECT call FROM deletion_call WHERE deletion = ?");
    let calls = query.bind(row.get::<i64, _>("key")).fetch_all(connection).await?;
    Ok(deletion_of(row, calls.iter().map(|call| id(call).to_string()).collect()))
}

/// Appends that the condition admits all calls of the request `d`. Users who may see all calls see those that
/// are gone.
fn admitted_sql(condition: &Condition, sql: &mut Sql) {
    if *condition == Condition::All {
        return;
    }
    sql.push(
        " AND NOT EXISTS (SELECT 1 FROM deletion_call x LEFT JOIN call c ON c.key = x.key AND c.id = x.call
           WHERE x.deletion = d.key AND NOT (c.key IS NOT NULL",
    );
    condition_sql(condition, sql);
    sql.push("))");
}

/// Refuses a call that a hold keeps.
async fn refuse_held(tx: &mut Tx, call: i64, call_id: Id) -> Done<()> {
    let query = "SELECT h.name FROM held x JOIN hold h ON h.key = x.hold WHERE x.active = 1 AND x.call = ?";
    let name: Option<String> = sqlx::query_scalar(query).bind(call).fetch_optional(&mut **tx).await?;
    match name {
        Some(name) => Err(Failure::Conflict(format!("the hold {name:?} keeps call {call_id}"))),
        None => Ok(()),
    }
}

pub(super) async fn ask(
    tx: &mut Tx,
    deletion: Id,
    calls: &[Id],
    reason: &str,
    condition: &Condition,
    entry: &Entry,
) -> Done<Option<Deletion>> {
    let query = "INSERT INTO deletion (id, state, asked_by, asked_us, reason) VALUES (?, 'pending', ?, ?, ?)
                 RETURNING key";
    let query = sqlx::query_scalar::<_, i64>(query).bind(deletion.0.to_vec()).bind(&entry.actor);
    let key = query.bind(entry.at_us).bind(reason).fetch_one(&mut **tx).await?;
    let mut entries = vec![entry.clone()];
    for call in calls {
        let mut sql = Sql::new(
            "SELECT c.key, EXISTS (SELECT 1 FROM trash x WHERE x.call = c.key) AS is_trash FROM call c WHERE "
                .into(),
        );
        sql.push_is_call(*call);
        condition_sql(condition, &mut sql);
        let Some(row) = sql.query().fetch_optional(&mut **tx).await? else { return Ok(None) };
        if row.get("is_trash") {
            return Err(Failure::Conflict(format!("call {call} is in the trash already")));
        }
        refuse_held(tx, row.get("key"), *call).await?;
        policies::refuse_kept(tx, row.get("key"), *call, entry.at_us).await?;
        let query = "INSERT INTO deletion_call (deletion, call, key) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
        let query = sqlx::query(query).bind(key).bind(call.0.to_vec()).bind(row.get::<i64, _>("key"));
        let added = query.execute(&mut **tx).await?;
        if added.rows_affected() > 0 {
            entries.push(about_call(entry, "delete.ask", deletion, *call));
        }
    }
    log::append(tx, &entries).await?;
    by_key(tx, key).await.map(Some)
}

fn about_call(entry: &Entry, action: &str, deletion: Id, call: Id) -> Entry {
    let detail = serde_json::json!({"deletion": deletion.to_string()});
    Entry::new(entry.at_us, &entry.actor, action, call).with(&detail)
}

async fn by_key(tx: &mut Tx, key: i64) -> Done<Deletion> {
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM deletion d WHERE d.key = "));
    sql.bind(key);
    let row = sql.query().fetch_one(&mut **tx).await?;
    with_calls(tx, &row).await
}

pub(super) async fn decide(
    tx: &mut Tx,
    deletion: Id,
    verdict: Verdict,
    reason: &str,
    condition: &Condition,
    entry: &Entry,
) -> Done<Option<Deletion>> {
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM deletion d WHERE d.id = "));
    sql.bind(deletion.0.to_vec());
    admitted_sql(condition, &mut sql);
    let Some(row) = sql.query().fetch_optional(&mut **tx).await? else { return Ok(None) };
    let found = with_calls(tx, &row).await?;
    let wanted = if verdict == Verdict::Restore { State::Approved } else { State::Pending };
    if found.state != wanted {
        return Err(Failure::Conflict(format!("the request is {} already", found.state.name())));
    }
    if verdict != Verdict::Restore && found.asked.by == entry.actor {
        let told = "you asked for this deletion: another person with delete.approve has to decide";
        return Err(Failure::Conflict(told.into()));
    }
    let mut entries = vec![entry.clone()];
    let (state, action) = match verdict {
        Verdict::Approve => (State::Approved, "trash"),
        Verdict::Reject => (State::Rejected, "delete.reject"),
        Verdict::Restore => (State::Restored, "restore"),
    };
    for call in found.calls.iter().filter_map(|call| Id::parse(call)) {
        let mut sql = Sql::new("SELECT c.key FROM call c WHERE ".into());
        sql.push_is_call(call);
        let Some(row) = sql.query().fetch_optional(&mut **tx).await? else { continue };
        let key: i64 = row.get("key");
        let is_changed = match verdict {
            Verdict::Approve => {
                refuse_held(tx, key, call).await?;
                policies::refuse_kept(tx, key, call, entry.at_us).await?;
                let query =
                    "INSERT INTO trash (call, deletion, due_us) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
                let query = sqlx::query(query).bind(key).bind(found.key).bind(entry.at_us + TRASH_US);
                query.execute(&mut **tx).await?.rows_affected() > 0
            }
            Verdict::Reject => true,
            Verdict::Restore => {
                let query = "DELETE FROM trash WHERE call = ? AND deletion = ? AND begun = 0";
                let query = sqlx::query(query).bind(key).bind(found.key);
                let is_restored = query.execute(&mut **tx).await?.rows_affected() > 0;
                let left =
                    sqlx::query_scalar::<_, i64>("SELECT 1 FROM trash WHERE call = ? AND deletion = ?");
                if left.bind(key).bind(found.key).fetch_optional(&mut **tx).await?.is_some() {
                    let told = format!("the files of call {call} are being removed: it is too late");
                    return Err(Failure::Conflict(told));
                }
                is_restored
            }
        };
        if is_changed {
            entries.push(about_call(entry, action, deletion, call));
        }
    }
    let query =
        "UPDATE deletion SET state = ?, decided_by = ?, decided_us = ?, decided_reason = ? WHERE key = ?";
    let query = sqlx::query(query).bind(state.name()).bind(&entry.actor).bind(entry.at_us).bind(reason);
    query.bind(found.key).execute(&mut **tx).await?;
    log::append(tx, &entries).await?;
    by_key(tx, found.key).await.map(Some)
}

pub(super) async fn list(
    pool: &SqlitePool,
    behind: Option<i64>,
    limit: u32,
    condition: &Condition,
) -> Done<DeletionPage> {
    let mut tx = pool.begin().await?;
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM deletion d WHERE d.key < "));
    sql.bind(behind.unwrap_or(i64::MAX));
    admitted_sql(condition, &mut sql);
    sql.push(" ORDER BY d.key DESC LIMIT ");
    sql.bind(i64::from(limit) + 1);
    let rows = sql.query().fetch_all(&mut *tx).await?;
    let mut page = DeletionPage::default();
    for row in rows.iter().take(limit as usize) {
        page.deletions.push(with_calls(&mut tx, row).await?);
    }
    page.next = page.deletions.last().map(|last| last.key).filter(|_| rows.len() > limit as usize);
    Ok(page)
}

/// Which of these calls are trash.
pub(super) async fn of_calls(connection: &mut SqliteConnection, keys: &[i64]) -> Done<HashMap<i64, Trash>> {
    let mut sql = Sql::new(
        "SELECT t.call, t.due_us, d.reason FROM trash t JOIN deletion d ON d.key = t.deletion WHERE t.call IN "
            .into(),
    );
    sql.bind_keys(keys);
    let rows = sql.query().fetch_all(connection).await?;
    let trash = |row: &SqliteRow| Trash { due_us: row.get("due_us"), reason: row.get("reason") };
    Ok(rows.iter().map(|row| (row.get("call"), trash(row))).collect())
}

pub(super) async fn due(pool: &SqlitePool, now_us: i64, limit: u32) -> Done<Vec<Doomed>> {
    let mut tx = pool.begin().await?;
    let query = "SELECT c.key, c.id, d.asked_by = ? FROM trash t JOIN call c ON c.key = t.call
                 JOIN deletion d ON d.key = t.deletion WHERE t.due_us <= ? ORDER BY t.due_us LIMIT ?";
    let query = sqlx::query_as(query).bind(BY_POLICY).bind(now_us).bind(limit);
    let calls: Vec<(i64, Vec<u8>, bool)> = query.fetch_all(&mut *tx).await?;
    let mut doomed = Vec::with_capacity(calls.len());
    for (call, call_id, is_by_policy) in calls {
        let recordings: Vec<Vec<u8>> = sqlx::query_scalar("SELECT id FROM recording WHERE call = ?")
            .bind(call)
            .fetch_all(&mut *tx)
            .await?;
        let recordings = recordings.iter().map(|recording| id(recording)).collect();
        let files = files_of(&mut tx, call).await?;
        doomed.push(Doomed { call, id: id(&call_id), is_by_policy, recordings, files });
    }
    Ok(doomed)
}

/// Notes that the files of a call are about to be removed; false if it is not to be deleted any more.
pub(super) async fn begin(tx: &mut Tx, doomed: &Doomed, now_us: i64) -> Done<bool> {
    let query = "SELECT t.begun, t.due_us, d.asked_by = ? FROM trash t JOIN deletion d ON d.key = t.deletion
                 WHERE t.call = ?";
    let query = sqlx::query_as(query).bind(BY_POLICY).bind(doomed.call);
    let Some((begun, due_us, is_by_policy)) = query.fetch_optional(&mut **tx).await? else {
        return Ok(false);
    };
    let (begun, due_us, is_by_policy): (bool, i64, bool) = (begun, due_us, is_by_policy);
    if begun {
        return Ok(true);
    }
    if !policies::may_go(tx, doomed.call, InTrash { is_by_policy, due_us }, now_us).await? {
        return Ok(false);
    }
    sqlx::query("UPDATE trash SET begun = 1 WHERE call = ?").bind(doomed.call).execute(&mut **tx).await?;
    log::append(tx, &[Entry::new(now_us, ARCHIVE, "delete.begin", doomed.id)]).await?;
    Ok(true)
}

pub(super) async fn put_off(tx: &mut Tx, doomed: &Doomed, due_us: i64) -> Done<()> {
    let query = sqlx::query("UPDATE trash SET due_us = ? WHERE call = ?").bind(due_us).bind(doomed.call);
    query.execute(&mut **tx).await?;
    Ok(())
}

/// All files of a call, plain ones that were to be removed among them.
async fn files_of(connection: &mut SqliteConnection, call: i64) -> Done<Vec<Place>> {
    let mut files = super::holds::files_of(connection, call).await?;
    let query = "SELECT f.root, f.path, p.name FROM recording r JOIN plain_copy p ON p.recording = r.key
                 JOIN folder f ON f.key = p.folder WHERE r.call = ? ORDER BY p.folder, p.name";
    let plain = sqlx::query(query).bind(call).fetch_all(connection).await?;
    files.extend(plain.iter().map(|row| Place {
        root: row.get("root"),
        folder: row.get("path"),
        name: row.get("name"),
        ..Place::default()
    }));
    Ok(files)
}

/// Whether these are the same files, however they looked.
fn is_same(one: &[Place], other: &[Place]) -> bool {
    let names = |place: &Place| (place.root.clone(), place.folder.clone(), place.name.clone());
    one.iter().map(names).eq(other.iter().map(names))
}

/// Puts a tombstone in the place of a call whose files were removed; false if it has other files meanwhile.
pub(super) async fn finish(tx: &mut Tx, doomed: &Doomed, now_us: i64) -> Done<bool> {
    let query = sqlx::query_scalar::<_, i64>("SELECT 1 FROM trash WHERE call = ? AND begun = 1");
    if query.bind(doomed.call).fetch_optional(&mut **tx).await?.is_none()
        || !is_same(&files_of(tx, doomed.call).await?, &doomed.files)
    {
        return Ok(false);
    }
    for statement in [
        "INSERT INTO tombstone (call, deletion, gone_us, asked_by, approved_by, reason)
         SELECT c.id, d.key, ?2, d.asked_by, coalesce(d.decided_by, ''), d.reason
         FROM trash t JOIN call c ON c.key = t.call JOIN deletion d ON d.key = t.deletion WHERE t.call = ?1",
        "INSERT INTO gone (device, recording, call)
         SELECT v.name, CASE typeof(r.recording) WHEN 'blob' THEN lower(hex(r.recording)) ELSE r.recording END, c.id FROM recording r JOIN call c ON c.key = r.call
         JOIN device v ON v.key = r.device WHERE r.call = ?1 AND ?2 IS NOT NULL ON CONFLICT DO NOTHING",
        "DELETE FROM held WHERE call = ?1 AND active = 0 AND ?2 IS NOT NULL",
        "DELETE FROM word WHERE rowid = ?1 AND ?2 IS NOT NULL",
        "DELETE FROM note WHERE call = ?1 AND ?2 IS NOT NULL",
        "DELETE FROM tagged WHERE call = ?1 AND ?2 IS NOT NULL",
        "DELETE FROM plain_copy WHERE recording IN (SELECT key FROM recording WHERE call = ?1) AND ?2 IS NOT NULL",
        // With it goes the key of its audio.
        "DELETE FROM recording WHERE call = ?1 AND ?2 IS NOT NULL",
        "DELETE FROM trash WHERE call = ?1 AND ?2 IS NOT NULL",
        "DELETE FROM call WHERE key = ?1 AND ?2 IS NOT NULL",
    ] {
        sqlx::query(statement).bind(doomed.call).bind(now_us).execute(&mut **tx).await?;
    }
    log::append(tx, &[Entry::new(now_us, ARCHIVE, "delete", doomed.id)]).await?;
    Ok(true)
}

/// Whether a recording was deleted here.
pub(super) async fn is_gone(connection: &mut SqliteConnection, device: &str, recording: &str) -> Done<bool> {
    let query = sqlx::query_scalar::<_, i64>("SELECT 1 FROM gone WHERE device = ? AND recording = ?");
    Ok(query.bind(device).bind(recording).fetch_optional(connection).await?.is_some())
}
