//! Events in SQLite: they come before or after their calls, so links are made from both sides.

use super::calls::{COLUMNS, PARTIES, views};
use super::search::{NO_TRASH, Sql, condition_sql};
use super::{Tx, people};
use crate::access::Condition;
use crate::catalogue::Done;
use crate::catalogue::event::{
    Bulk, CallKeys, EventView, MAX_CALL_US, MAX_EVENT_US, NewEvent, SAME_ID_US, TOLERANCE_US, number_key,
};
use crate::id::Id;
use crate::number::Keys;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};
use std::collections::BTreeSet;

/// Calls that one key of an event finds at most, and events that one key of a call finds.
const MAX_LINKS: i64 = 1000;
/// Calls of an event that are shown.
const MAX_SHOWN: i64 = 200;

fn list(texts: &[String]) -> String {
    serde_json::to_string(texts).unwrap_or_default()
}

fn texts(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_default()
}

fn event(row: &SqliteRow) -> NewEvent {
    NewEvent {
        source: row.get("source"),
        external_id: row.get("external_id"),
        kind: row.get("kind"),
        title: row.get("title"),
        from_us: row.get("from_us"),
        to_us: row.get("to_us"),
        pair: row.get("pair"),
        extensions: texts(row.get("extensions")),
        numbers: texts(row.get("numbers")),
        call_id: row.get("call_id"),
        payload: row.get("payload"),
    }
}

/// Takes an event in, and links it to the calls that are there.
pub(super) async fn put(tx: &mut Tx, new: &NewEvent, bulk: &mut Bulk) -> Done<()> {
    let known = sqlx::query("SELECT * FROM event WHERE source = ? AND external_id = ?");
    let known = known.bind(&new.source).bind(&new.external_id).fetch_optional(&mut **tx).await?;
    let known = known.map(|row| (row.get::<i64, _>("key"), event(&row)));
    let key = match known {
        Some((_, known)) if known == *new => {
            bulk.unchanged += 1;
            return Ok(());
        }
        Some((key, _)) => {
            bulk.changed += 1;
            update(tx, key, new).await?;
            key
        }
        None => {
            bulk.added += 1;
            insert(tx, new).await?
        }
    };
    for (kind, text) in keys(new) {
        let add =
            sqlx::query("INSERT OR IGNORE INTO event_key (kind, text, from_us, event) VALUES (?, ?, ?, ?)");
        add.bind(kind).bind(text).bind(new.from_us).bind(key).execute(&mut **tx).await?;
    }
    for call in candidates(tx, new).await? {
        if let Some(keys) = call_keys(tx, call).await?
            && new.is_about(&keys)
        {
            bulk.linked += link(tx, call, key).await?;
        }
    }
    Ok(())
}

async fn insert(tx: &mut Tx, new: &NewEvent) -> Done<i64> {
    let id = Id::derived(new.from_us, &[b"event", new.source.as_bytes(), new.external_id.as_bytes()]);
    let query = sqlx::query(
        "INSERT INTO event (id, source, external_id, kind, title, from_us, to_us, pair, extensions, numbers, call_id,
                            payload)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    );
    let done = query
        .bind(id.0.as_slice())
        .bind(&new.source)
        .bind(&new.external_id)
        .bind(&new.kind)
        .bind(&new.title)
        .bind(new.from_us)
        .bind(new.to_us)
        .bind(new.pair)
        .bind(list(&new.extensions))
        .bind(list(&new.numbers))
        .bind(&new.call_id)
        .bind(&new.payload)
        .execute(&mut **tx)
        .await?;
    Ok(done.last_insert_rowid())
}

/// Replaces the fields of a known event. Its links are made anew, its id stays.
async fn update(tx: &mut Tx, key: i64, new: &NewEvent) -> Done<()> {
    let query = sqlx::query(
        "UPDATE event SET kind = ?, title = ?, from_us = ?, to_us = ?, pair = ?, extensions = ?, numbers = ?,
                          call_id = ?, payload = ? WHERE key = ?",
    );
    query
        .bind(&new.kind)
        .bind(&new.title)
        .bind(new.from_us)
        .bind(new.to_us)
        .bind(new.pair)
        .bind(list(&new.extensions))
        .bind(list(&new.numbers))
        .bind(&new.call_id)
        .bind(&new.payload)
        .bind(key)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM event_key WHERE event = ?").bind(key).execute(&mut **tx).await?;
    sqlx::query("DELETE FROM event_call WHERE event = ?").bind(key).execute(&mut **tx).await?;
    Ok(())
}

fn keys(event: &NewEvent) -> impl Iterator<Item = (i64, &str)> {
    let extensions = event.extensions.iter().map(|extension| (0, extension.as_str()));
    let numbers = event.numbers.iter().map(|digits| (1, number_key(digits)));
    let call_id = std::iter::once((2, event.call_id.as_str()));
    extensions.chain(numbers).chain(call_id).filter(|(_, text)| !text.is_empty())
}

async fn link(tx: &mut Tx, call: i64, event: i64) -> Done<u64> {
    let query = sqlx::query("INSERT OR IGNORE INTO event_call (call, event) VALUES (?, ?)");
    Ok(query.bind(call).bind(event).execute(&mut **tx).await?.rows_affected())
}

/// Calls that may belong to an event: each key of it finds them by an index.
async fn candidates(tx: &mut Tx, event: &NewEvent) -> Done<BTreeSet<i64>> {
    let (from, to) = (event.from_us - MAX_CALL_US, event.to_us + TOLERANCE_US);
    let mut found: BTreeSet<i64> = BTreeSet::new();
    for extension in &event.extensions {
        let query = "SELECT key FROM call INDEXED BY call_by_extension
                     WHERE extension = ? AND key BETWEEN ? AND ? ORDER BY key DESC LIMIT ?";
        let query = sqlx::query_scalar::<_, i64>(query).bind(extension).bind(from).bind(to).bind(MAX_LINKS);
        found.extend(query.fetch_all(&mut **tx).await?);
    }
    for keys in event.numbers.iter().filter_map(|digits| Keys::of(digits)) {
        let query = "SELECT call FROM party INDEXED BY party_by_tail4
                     WHERE tail4 = ? AND call BETWEEN ? AND ? ORDER BY call DESC LIMIT ?";
        let query = sqlx::query_scalar::<_, i64>(query).bind(keys.tail4).bind(from).bind(to).bind(MAX_LINKS);
        found.extend(query.fetch_all(&mut **tx).await?);
    }
    if !event.call_id.is_empty() {
        let query = "SELECT key FROM call WHERE external_id = ? AND external_id != '' AND key BETWEEN ? AND ? LIMIT ?";
        let query = sqlx::query_scalar::<_, i64>(query)
            .bind(&event.call_id)
            .bind(event.from_us - SAME_ID_US)
            .bind(event.to_us + SAME_ID_US)
            .bind(MAX_LINKS);
        found.extend(query.fetch_all(&mut **tx).await?);
    }
    Ok(found)
}

async fn call_keys(tx: &mut Tx, call: i64) -> Done<Option<CallKeys>> {
    let query = sqlx::query(
        "SELECT c.extension, c.external_id, c.started_us, c.duration_ms, r.digits AS remote, l.digits AS local
         FROM call c JOIN party r ON r.call = c.key AND r.role = 0 JOIN party l ON l.call = c.key AND l.role = 1
         WHERE c.key = ?",
    );
    let row = query.bind(call).fetch_optional(&mut **tx).await?;
    Ok(row.map(|row| {
        let from_us: i64 = row.get("started_us");
        CallKeys {
            extension: row.get("extension"),
            numbers: [row.get("remote"), row.get("local")],
            call_id: row.get("external_id"),
            from_us,
            to_us: from_us.saturating_add(row.get::<i64, _>("duration_ms").saturating_mul(1000)),
        }
    }))
}

/// Links a call that has come, or has changed, to the events that are there.
pub(super) async fn link_call(tx: &mut Tx, call: i64) -> Done<()> {
    match call_keys(tx, call).await? {
        Some(keys) => link_by(tx, call, &keys).await,
        None => Ok(()),
    }
}

/// The keys of events that may belong to a call, and when such an event begins.
fn wanted(keys: &CallKeys) -> (impl Iterator<Item = (i64, &str)>, i64, i64) {
    let numbers = keys.numbers.iter().map(|digits| (1, number_key(digits)));
    let all = [(0, keys.extension.as_str()), (2, keys.call_id.as_str())].into_iter().chain(numbers);
    let (from, to) = (keys.from_us - MAX_EVENT_US - SAME_ID_US, keys.to_us + SAME_ID_US);
    (all.filter(|(_, text)| !text.is_empty()), from, to)
}

/// Links new calls to the events that are there: one statement says which of them have any.
pub(super) async fn link_calls(tx: &mut Tx, calls: &[(i64, CallKeys)]) -> Done<()> {
    let mut rows = Vec::new();
    for (at, (_, keys)) in (0_i64..).zip(calls) {
        let (all, from, to) = wanted(keys);
        rows.extend(all.map(|(kind, text)| (at, kind, text, from, to)));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let mut sql = QueryBuilder::<Sqlite>::new("WITH wanted (place, kind, text, from_us, to_us) AS (");
    sql.push_values(rows, |mut sql, (at, kind, text, from, to)| {
        sql.push_bind(at).push_bind(kind).push_bind(text.to_owned()).push_bind(from).push_bind(to);
    });
    sql.push(
        ") SELECT DISTINCT w.place FROM wanted w WHERE EXISTS (SELECT 1 FROM event_key k
           WHERE k.kind = w.kind AND k.text = w.text AND k.from_us BETWEEN w.from_us AND w.to_us)",
    );
    let found: Vec<i64> = sql.build_query_scalar().persistent(false).fetch_all(&mut **tx).await?;
    for at in found {
        if let Some((call, keys)) = usize::try_from(at).ok().and_then(|at| calls.get(at)) {
            link_by(tx, *call, keys).await?;
        }
    }
    Ok(())
}

async fn link_by(tx: &mut Tx, call: i64, keys: &CallKeys) -> Done<()> {
    let (all, from, to) = wanted(keys);
    for (kind, text) in all {
        let query = "SELECT e.* FROM event_key k JOIN event e ON e.key = k.event
                     WHERE k.kind = ? AND k.text = ? AND k.from_us BETWEEN ? AND ? ORDER BY k.from_us DESC LIMIT ?";
        let query = sqlx::query(query).bind(kind).bind(text).bind(from).bind(to).bind(MAX_LINKS);
        for row in query.fetch_all(&mut **tx).await? {
            if event(&row).is_about(keys) {
                link(tx, call, row.get("key")).await?;
            }
        }
    }
    Ok(())
}

/// An event with the calls that the condition admits; without any of them, the event does not exist for a
/// user who may not see all calls.
pub(super) async fn one(pool: &SqlitePool, id: Id, condition: &Condition) -> Done<Option<EventView>> {
    let mut tx = pool.begin().await?;
    let row = sqlx::query("SELECT * FROM event WHERE id = ?").bind(id.0.as_slice());
    let Some(row) = row.fetch_optional(&mut *tx).await? else { return Ok(None) };
    let mut sql = Sql::new(format!(
        "SELECT {COLUMNS} FROM event_call e JOIN call c ON c.key = e.call {PARTIES} WHERE e.event = "
    ));
    sql.bind(row.get::<i64, _>("key"));
    condition_sql(condition, &mut sql);
    sql.push(NO_TRASH);
    sql.push(" ORDER BY e.call LIMIT ");
    sql.bind(MAX_SHOWN);
    let rows = sql.query().fetch_all(&mut *tx).await?;
    let calls = views(&mut tx, &rows).await?;
    let is_seen = *condition == Condition::All || !calls.is_empty();
    Ok(is_seen.then(|| EventView { event: event(&row), id: people::id(row.get("id")), calls }))
}
