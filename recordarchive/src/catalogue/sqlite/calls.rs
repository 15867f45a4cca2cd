//! Single calls in SQLite: metadata, media, tags and notes.

use super::people::id;
use super::search::{NO_TRASH, Sql, condition_sql, statement};
use super::{Tx, deletions, holds, policies, rows, same};
use crate::access::Condition;
use crate::catalogue::model::{
    CallView, EventBrief, Note, Page, Party, Place, RecordingMedia, RecordingView, Search, Segment,
};
use crate::catalogue::{Done, Failure};
use crate::id::{Id, hex};
use crate::retention::{Class, Subject, fate};
use recfile::call::Direction;
use sha2::{Digest, Sha256};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};
use std::collections::HashMap;

/// Events of all calls of a page at most.
const MAX_EVENTS: usize = 2000;

/// Columns of a call for [`view`].
pub(super) const COLUMNS: &str = "c.key, c.id, c.external_id, c.started_us, c.duration_ms, c.extension, \
     (SELECT name FROM text WHERE key = c.direction) AS direction, \
     (SELECT name FROM device WHERE key = c.device) AS device, (SELECT name FROM site WHERE key = c.site) AS site, \
     coalesce(CASE r.number WHEN '+' THEN '+' || r.digits ELSE r.number END, r.digits) AS remote_number, \
     r.digits AS remote_digits, r.name AS remote_name, \
     coalesce(CASE l.number WHEN '+' THEN '+' || l.digits ELSE l.number END, l.digits) AS local_number, \
     l.digits AS local_digits, l.name AS local_name";

/// The sides of the call `c`.
pub(super) const PARTIES: &str = "JOIN party r ON r.call = c.key AND r.role = 0 \
     JOIN party l ON l.call = c.key AND l.role = 1";

fn view(row: &SqliteRow) -> CallView {
    CallView {
        key: row.get("key"),
        id: id(row.get("id")).to_string(),
        external_id: row.get("external_id"),
        direction: Direction::from_name(row.get("direction")),
        started_us: row.get("started_us"),
        duration_ms: row.get("duration_ms"),
        remote: Party {
            number: row.get("remote_number"),
            digits: row.get("remote_digits"),
            name: row.get("remote_name"),
        },
        local: Party {
            number: row.get("local_number"),
            digits: row.get("local_digits"),
            name: row.get("local_name"),
        },
        device: row.get("device"),
        site: row.get("site"),
        ..CallView::default()
    }
}

/// The calls of these rows, with recordings, tags and notes.
pub(super) async fn views(connection: &mut SqliteConnection, rows: &[SqliteRow]) -> Done<Vec<CallView>> {
    let mut calls: Vec<CallView> = rows.iter().map(view).collect();
    let at: HashMap<i64, usize> = calls.iter().enumerate().map(|(at, call)| (call.key, at)).collect();
    let numbers: Vec<i64> = calls.iter().map(|call| call.key).collect();
    for (key, kept) in holds::of_calls(connection, &numbers).await? {
        if let Some(&at) = at.get(&key) {
            calls[at].holds = kept;
        }
    }
    for (key, trash) in deletions::of_calls(connection, &numbers).await? {
        if let Some(&at) = at.get(&key) {
            calls[at].trash = Some(trash);
        }
    }
    let mut hashes: HashMap<(usize, usize), Vec<Vec<u8>>> = HashMap::new();
    let mut sql = Sql::new(
        "SELECT r.call, r.key, r.id, CASE typeof(r.recording) WHEN 'blob' THEN lower(hex(r.recording)) ELSE r.recording END AS recording,
                (SELECT name FROM text WHERE key = r.source) AS source, (SELECT name FROM text WHERE key = r.codec) AS codec,
                (SELECT name FROM text WHERE key = s.end_reason) AS end_reason,
                r.encrypted, s.duration_ms, s.gap_ms, s.lost, s.missing, z.sha256
         FROM recording r JOIN segment s ON s.recording = r.key JOIN sealed z ON z.seq = s.sealed
         WHERE r.call IN "
            .into(),
    );
    sql.bind_keys(&numbers);
    sql.push(" ORDER BY r.call, r.id, s.number");
    for row in sql.query().fetch_all(&mut *connection).await? {
        let Some(&at) = at.get(&row.get::<i64, _>("call")) else { continue };
        let recordings = &mut calls[at].recordings;
        let id = id(row.get("id")).to_string();
        if recordings.last().is_none_or(|last| last.id != id) {
            recordings.push(RecordingView {
                id,
                recording: row.get("recording"),
                source: row.get("source"),
                codec: row.get("codec"),
                encrypted: row.get("encrypted"),
                ..RecordingView::default()
            });
        }
        let place = recordings.len() - 1;
        let recording = &mut recordings[place];
        recording.segments += 1;
        recording.duration_ms = recording.duration_ms.saturating_add(row.get("duration_ms"));
        recording.gap_ms = recording.gap_ms.saturating_add(row.get("gap_ms"));
        recording.lost = recording.lost.saturating_add(row.get("lost"));
        recording.end_reason = row.get("end_reason");
        recording.missing |= row.get::<bool, _>("missing");
        hashes.entry((at, place)).or_default().push(row.get("sha256"));
    }
    for ((call, recording), hashes) in hashes {
        calls[call].recordings[recording].sha256 = match hashes.as_slice() {
            [one] => hex(one),
            several => hex(&Sha256::digest(several.concat())),
        };
    }
    let mut sql = Sql::new(
        "SELECT tagged.call, tag.name FROM tagged JOIN tag ON tag.key = tagged.tag WHERE tagged.call IN "
            .into(),
    );
    sql.bind_keys(&numbers);
    sql.push(" ORDER BY tagged.call, tag.name");
    for row in sql.query().fetch_all(&mut *connection).await? {
        if let Some(&at) = at.get(&row.get::<i64, _>("call")) {
            calls[at].tags.push(row.get("name"));
        }
    }
    let in_force = policies::in_force(connection).await?.policies;
    for (call, row) in calls.iter_mut().zip(rows) {
        let subject = Subject {
            started_us: call.started_us,
            site: call.site.clone(),
            extension: row.get("extension"),
            direction: call.direction,
            tags: call.tags.clone(),
            class: Class::of(call.direction, &call.remote.digits, &call.local.digits),
        };
        call.fate = fate(&in_force, &subject);
    }
    let mut sql = Sql::new("SELECT * FROM note WHERE call IN ".into());
    sql.bind_keys(&numbers);
    sql.push(" ORDER BY call, written_us, id");
    for row in sql.query().fetch_all(&mut *connection).await? {
        if let Some(&at) = at.get(&row.get::<i64, _>("call")) {
            calls[at].notes.push(Note {
                id: id(row.get("id")).to_string(),
                text: row.get("text"),
                at_ms: row.get("at_ms"),
                by: row.get("by"),
                written_us: row.get("written_us"),
                supersedes: row.get::<Option<&[u8]>, _>("supersedes").map(|old| id(old).to_string()),
            });
        }
    }
    let mut sql = Sql::new(
        "SELECT x.call, e.id, e.kind, e.title, e.source, e.from_us, e.to_us
         FROM event_call x JOIN event e ON e.key = x.event WHERE x.call IN "
            .into(),
    );
    sql.bind_keys(&numbers);
    sql.push(&format!(" ORDER BY x.call, e.from_us, e.key LIMIT {MAX_EVENTS}"));
    for row in sql.query().fetch_all(&mut *connection).await? {
        if let Some(&at) = at.get(&row.get::<i64, _>("call")) {
            calls[at].events.push(EventBrief {
                id: id(row.get("id")).to_string(),
                kind: row.get("kind"),
                title: row.get("title"),
                source: row.get("source"),
                from_us: row.get("from_us"),
                to_us: row.get("to_us"),
            });
        }
    }
    Ok(calls)
}

pub(super) async fn call(pool: &SqlitePool, id: Id, condition: &Condition) -> Done<Option<CallView>> {
    let mut connection = pool.acquire().await?;
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM call c {PARTIES} WHERE "));
    sql.push_is_call(id);
    condition_sql(condition, &mut sql);
    let rows = sql.query().fetch_all(&mut *connection).await?;
    let Some(mut call) = views(&mut connection, &rows).await?.pop() else { return Ok(None) };
    call.same = same::of(&mut connection, &call, condition).await?;
    Ok(Some(call))
}

pub(super) async fn media(
    pool: &SqlitePool,
    recording: Id,
    condition: &Condition,
) -> Done<Option<RecordingMedia>> {
    let mut sql = Sql::new(
        "SELECT c.id AS call_id, (SELECT name FROM text WHERE key = r.codec) AS codec, r.encrypted, k.wrapped, s.number, f.root, f.path, s.name, s.octets, s.modified_ms,
                s.sidecar_ms, s.audio_octets, s.is_plain, z.sha256
         FROM recording r JOIN call c ON c.key = r.call JOIN segment s ON s.recording = r.key
         JOIN sealed z ON z.seq = s.sealed JOIN folder f ON f.key = s.folder LEFT JOIN recording_key k ON k.recording = r.key WHERE "
            .into(),
    );
    sql.push_is_recording(recording);
    condition_sql(condition, &mut sql);
    sql.push(NO_TRASH);
    sql.push(" ORDER BY s.number");
    let rows = sql.query().fetch_all(pool).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let segment = |row: &SqliteRow| Segment {
        number: row.get("number"),
        file: Place {
            root: row.get("root"),
            folder: row.get("path"),
            name: row.get("name"),
            octets: row.get("octets"),
            modified_ms: row.get("modified_ms"),
            sidecar_ms: row.get("sidecar_ms"),
        },
        audio_octets: u64::try_from(row.get::<i64, _>("audio_octets")).unwrap_or(0),
        is_plain: row.get("is_plain"),
        sha256: row.get("sha256"),
    };
    Ok(Some(RecordingMedia {
        id: recording,
        call: id(first.get("call_id")).to_string(),
        codec: first.get("codec"),
        encrypted: first.get("encrypted"),
        key: first.get("wrapped"),
        segments: rows.iter().map(segment).collect(),
    }))
}

async fn key_of(tx: &mut Tx, call: Id, condition: &Condition) -> Done<Option<i64>> {
    let mut sql = Sql::new("SELECT c.key FROM call c WHERE ".into());
    sql.push_is_call(call);
    condition_sql(condition, &mut sql);
    sql.push(NO_TRASH);
    Ok(sql.query().fetch_optional(&mut **tx).await?.map(|row| row.get("key")))
}

pub(super) async fn set_tags(
    tx: &mut Tx,
    call: Id,
    (tags, was): (&[String], Option<&[String]>),
    condition: &Condition,
    now_us: i64,
) -> Done<bool> {
    let Some(key) = key_of(tx, call, condition).await? else { return Ok(false) };
    if let Some(was) = was {
        let query =
            "SELECT g.name FROM tagged t JOIN tag g ON g.key = t.tag WHERE t.call = ? ORDER BY g.name";
        let present: Vec<String> = sqlx::query_scalar(query).bind(key).fetch_all(&mut **tx).await?;
        let mut was = was.to_vec();
        was.sort();
        if was != present {
            let told =
                format!("the tags were changed meanwhile, and are {present:?}: look at the call again");
            return Err(Failure::Conflict(told));
        }
    }
    policies::refuse_tags(tx, key, tags, now_us).await?;
    sqlx::query("DELETE FROM tagged WHERE call = ?").bind(key).execute(&mut **tx).await?;
    for tag in tags {
        sqlx::query("INSERT OR IGNORE INTO tag (name) VALUES (?)").bind(tag).execute(&mut **tx).await?;
        sqlx::query("INSERT OR IGNORE INTO tagged (tag, call) SELECT key, ? FROM tag WHERE name = ?")
            .bind(key)
            .bind(tag)
            .execute(&mut **tx)
            .await?;
    }
    rows::index_words(tx, key).await?;
    Ok(true)
}

pub(super) async fn add_note(tx: &mut Tx, call: Id, note: &Note, condition: &Condition) -> Done<bool> {
    let Some(key) = key_of(tx, call, condition).await? else { return Ok(false) };
    let note_id = Id::parse(&note.id).unwrap_or(Id([0; 16]));
    let old = note.supersedes.as_deref().and_then(Id::parse);
    if let Some(old) = old {
        let query = "SELECT by, EXISTS (SELECT 1 FROM note x WHERE x.supersedes = ?2) AS superseded
                     FROM note WHERE call = ?1 AND id = ?2";
        let row = sqlx::query(query).bind(key).bind(old.0.as_slice()).fetch_optional(&mut **tx).await?;
        let Some(row) = row else { return Ok(false) };
        if row.get::<&str, _>("by") != note.by {
            return Err(Failure::Conflict(
                "a note is superseded by who wrote it alone: add another one".into(),
            ));
        }
        if row.get("superseded") {
            return Err(Failure::Conflict("the note was superseded before: look at the call again".into()));
        }
    }
    let query = "INSERT INTO note (call, id, at_ms, text, by, written_us, supersedes)
                 VALUES (?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(query)
        .bind(key)
        .bind(note_id.0.as_slice())
        .bind(note.at_ms)
        .bind(&note.text)
        .bind(&note.by)
        .bind(note.written_us)
        .bind(old.as_ref().map(|old| old.0.as_slice()))
        .execute(&mut **tx)
        .await?;
    rows::index_words(tx, key).await?;
    Ok(true)
}

/// A page of a search.
pub(super) async fn page(pool: &SqlitePool, search: &Search, condition: &Condition) -> Done<Page> {
    // One transaction: the list shows the same state as the search.
    let mut tx = pool.begin().await?;
    let rows = statement(search, condition).query().fetch_all(&mut *tx).await?;
    let mut keys: Vec<i64> = rows.iter().map(|row| row.get("key")).collect();
    let more = keys.len() > search.limit as usize;
    keys.truncate(search.limit as usize);
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM call c {PARTIES} WHERE c.key IN "));
    sql.bind_keys(&keys);
    sql.push(" ORDER BY c.key DESC");
    let rows = sql.query().fetch_all(&mut *tx).await?;
    let calls = views(&mut tx, &rows).await?;
    Ok(Page { calls, next: keys.last().copied().filter(|_| more) })
}
