//! Files in SQLite: intake, and the metadata of known files.
//!
//! Invariant: a file that is taken twice changes nothing, and a file never takes the place of another one
//! that has other audio. A recording keeps its id, and a call its notes, even if their files change or go.

use super::rows::{Kept, Texts};
use super::search::Sql;
use super::{Tx, checkpoints, deletions, events, holds, people, rows};
use crate::catalogue::Done;
use crate::catalogue::model::{
    Broken, ENCRYPTED_ENDING, Found, KnownFile, Place, SegmentFile, Taken, Totals,
};
use crate::id::Id;
use crate::time::{DAY_US, SECOND_US};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, FromRow, Row};

/// Recordings of one phone with the same call id are of one call within this time.
const SAME_PHONE_US: i64 = DAY_US;
/// Of several phones within this: a call id need not be unique between phones.
const OTHER_PHONE_US: i64 = 60 * SECOND_US;
/// The call of a call id, time, and device. Without `!= ''` it would read all calls: the index has none
/// without an id.
const SAME_CALL: &str = "SELECT c.key FROM call c WHERE c.external_id = ?1 AND c.external_id != ''
       AND abs(c.started_us - ?2) <= CASE WHEN c.device = ?3 THEN ?4 ELSE ?5 END
     ORDER BY abs(c.started_us - ?2) LIMIT 1";
/// Moves of a key by one microsecond, before they get longer.
const SMALL_MOVES: i64 = 1000;

/// The key of a name in a table of names.
pub(super) async fn intern(tx: &mut Tx, table: &'static str, name: &str) -> Done<i64> {
    let find = format!("SELECT key FROM {table} WHERE name = ?");
    if let Some(key) = sqlx::query_scalar(AssertSqlSafe(find)).bind(name).fetch_optional(&mut **tx).await? {
        return Ok(key);
    }
    let add = format!("INSERT INTO {table} (name) VALUES (?)");
    Ok(sqlx::query(AssertSqlSafe(add)).bind(name).execute(&mut **tx).await?.last_insert_rowid())
}

/// Keys of the words of a file.
async fn texts(tx: &mut Tx, file: &Found) -> Done<Texts> {
    let mut keys = [0; 4];
    for (key, name) in keys.iter_mut().zip(Texts::names(file)) {
        *key = intern(tx, "text", name).await?;
    }
    Ok(Texts::of(keys))
}

pub(super) async fn folder_key(tx: &mut Tx, root: &str, path: &str) -> Done<i64> {
    let find = sqlx::query_scalar("SELECT key FROM folder WHERE root = ? AND path = ?").bind(root).bind(path);
    if let Some(key) = find.fetch_optional(&mut **tx).await? {
        return Ok(key);
    }
    let add = sqlx::query("INSERT INTO folder (root, path) VALUES (?, ?)").bind(root).bind(path);
    Ok(add.execute(&mut **tx).await?.last_insert_rowid())
}

/// Segments `s`, each as [`Listed`].
const LISTED: &str = "SELECT s.*, z.sha256 FROM segment s JOIN sealed z ON z.seq = s.sealed";

/// A segment that is in the catalogue.
struct Listed {
    recording: i64,
    number: i64,
    folder: i64,
    name: String,
    sha256: Vec<u8>,
    missing: bool,
}

impl<'r> FromRow<'r, SqliteRow> for Listed {
    fn from_row(row: &'r SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            recording: row.try_get("recording")?,
            number: row.try_get("number")?,
            folder: row.try_get("folder")?,
            name: row.try_get("name")?,
            sha256: row.try_get("sha256")?,
            missing: row.try_get("missing")?,
        })
    }
}

pub(super) async fn take(tx: &mut Tx, file: &Found) -> Done<Taken> {
    let device = intern(tx, "device", &file.device).await?;
    let folder = folder_key(tx, &file.place.root, &file.place.folder).await?;
    let segment = i64::from(file.segment);
    if deletions::is_gone(tx, &file.device, &file.recording).await? {
        let reason = "its recording was deleted here, and is not taken in again";
        set_aside(tx, &file.place, reason, file.started_us).await?;
        return Ok(Taken::Duplicate);
    }
    let here: Option<Listed> =
        sqlx::query_as(AssertSqlSafe(format!("{LISTED} WHERE s.folder = ? AND s.name = ?")))
            .bind(folder)
            .bind(&file.place.name)
            .fetch_optional(&mut **tx)
            .await?;
    let mut known: Option<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT key, id FROM recording WHERE device = ? AND recording = ?")
            .bind(device)
            .bind(Kept::of(&file.recording))
            .fetch_optional(&mut **tx)
            .await?;
    let is_renamed = match &here {
        Some(here) => known.is_none() && is_alone(tx, here.recording).await?,
        None => false,
    };
    if known.is_none() && !is_renamed {
        // Its file may have said meanwhile that it is called otherwise: it has its id still.
        let mut sql = Sql::new("SELECT r.key, r.id FROM recording r WHERE ".into());
        sql.push_is_recording(rows::recording_id(file));
        let found = sql.query().fetch_optional(&mut **tx).await?;
        known = found.map(|row| (row.get("key"), row.get("id")));
    }
    let same: Option<Listed> = match &known {
        Some((key, _)) => {
            sqlx::query_as(AssertSqlSafe(format!("{LISTED} WHERE s.recording = ? AND s.number = ?")))
                .bind(key)
                .bind(segment)
                .fetch_optional(&mut **tx)
                .await?
        }
        None => None,
    };
    if let Some(same) = &same
        && (same.folder, same.name.as_str()) != (folder, file.place.name.as_str())
    {
        let is_same_audio = same.sha256 == file.sha256;
        if !(is_same_audio && same.missing) {
            let reason = if is_same_audio {
                ""
            } else {
                "another file has the same recording and segment number, and other audio"
            };
            if here.is_none() {
                set_aside(tx, &file.place, reason, file.started_us).await?;
            }
            if is_same_audio && same.name.ends_with(ENCRYPTED_ENDING) && !file.place.is_encrypted() {
                // A plain copy of what is encrypted goes, too.
                let query = "INSERT INTO plain_copy (folder, name, recording) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
                let query = sqlx::query(query).bind(folder).bind(&file.place.name).bind(same.recording);
                query.execute(&mut **tx).await?;
            }
            return Ok(if is_same_audio { Taken::Duplicate } else { Taken::Conflict });
        }
    }
    let texts = texts(tx, file).await?;
    let is_update = here.is_some() || same.is_some();
    if let Some(here) = here
        && known.as_ref().is_none_or(|(key, _)| (*key, segment) != (here.recording, here.number))
    {
        // The file says now that it is something else: its sidecar came later, or was put right.
        if is_renamed {
            sqlx::query("UPDATE recording SET device = ?, recording = ? WHERE key = ?")
                .bind(device)
                .bind(Kept::of(&file.recording))
                .bind(here.recording)
                .execute(&mut **tx)
                .await?;
            let id = sqlx::query_scalar("SELECT id FROM recording WHERE key = ?").bind(here.recording);
            known = Some((here.recording, id.fetch_one(&mut **tx).await?));
        }
        if file.place.is_encrypted() && known.as_ref().is_none_or(|(key, _)| *key != here.recording) {
            // The key that opens it is that of the recording that it was of.
            return Ok(Taken::Conflict);
        }
        remove_segment(tx, here.recording, here.number).await?;
        if known.as_ref().is_none_or(|(key, _)| *key != here.recording) {
            drop_if_empty(tx, here.recording).await?;
        }
    }
    let (recording, id) = match known {
        Some((key, id)) => {
            // Where it came from is not known any more of one that lies encrypted among the archive's own.
            let query =
                "UPDATE recording SET codec = ?, source = iif(?, source, ?), encrypted = ? WHERE key = ?";
            sqlx::query(query)
                .bind(texts.codec)
                .bind(file.place.is_encrypted())
                .bind(texts.source)
                .bind(file.encrypted)
                .bind(key)
                .execute(&mut **tx)
                .await?;
            (key, people::id(&id))
        }
        None => add_recording(tx, file, device, texts).await?,
    };
    let sealed = checkpoints::seal(tx, recording, segment, &file.sha256).await?;
    sqlx::query(
        "INSERT INTO segment (recording, number, folder, name, octets, modified_ms, sidecar_ms, started_us, duration_ms,
                              audio_octets, is_plain, gap_ms, lost, end_reason, sealed)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (recording, number) DO UPDATE SET
             folder = excluded.folder, name = excluded.name, octets = excluded.octets,
             modified_ms = excluded.modified_ms, sidecar_ms = excluded.sidecar_ms, started_us = excluded.started_us,
             duration_ms = excluded.duration_ms, audio_octets = excluded.audio_octets, is_plain = excluded.is_plain,
             gap_ms = excluded.gap_ms, lost = excluded.lost, end_reason = excluded.end_reason,
             sealed = excluded.sealed, missing = 0",
    )
    .bind(recording)
    .bind(segment)
    .bind(folder)
    .bind(&file.place.name)
    .bind(file.place.octets)
    .bind(file.place.modified_ms)
    .bind(file.place.sidecar_ms)
    .bind(file.started_us)
    .bind(file.duration_ms)
    .bind(file.audio_octets)
    .bind(file.is_plain)
    .bind(file.gap_ms)
    .bind(file.lost)
    .bind(texts.end_reason)
    .bind(sealed)
    .execute(&mut **tx)
    .await?;
    forget_aside(tx, folder, &file.place.name).await?;
    // The catalogue plays this file now, so it is no copy to be removed.
    let query = sqlx::query("DELETE FROM plain_copy WHERE folder = ? AND name = ?").bind(folder);
    query.bind(&file.place.name).execute(&mut **tx).await?;
    let call = sqlx::query_scalar("SELECT call FROM recording WHERE key = ?").bind(recording);
    let call: i64 = call.fetch_one(&mut **tx).await?;
    describe(tx, call, file, texts).await?;
    holds::take(tx, call, file).await?;
    Ok(if is_update { Taken::Updated { recording: id } } else { Taken::Added { recording: id } })
}

async fn is_alone(tx: &mut Tx, recording: i64) -> Done<bool> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM segment WHERE recording = ?")
        .bind(recording)
        .fetch_one(&mut **tx)
        .await?;
    Ok(count == 1)
}

async fn remove_segment(tx: &mut Tx, recording: i64, number: i64) -> Done<()> {
    let query =
        sqlx::query("DELETE FROM segment WHERE recording = ? AND number = ?").bind(recording).bind(number);
    query.execute(&mut **tx).await?;
    Ok(())
}

/// Removes a recording without files, and its call if it has no other, unless people have said something
/// about it.
async fn drop_if_empty(tx: &mut Tx, recording: i64) -> Done<()> {
    let call: i64 = sqlx::query_scalar("SELECT call FROM recording WHERE key = ?")
        .bind(recording)
        .fetch_one(&mut **tx)
        .await?;
    sqlx::query(
        "DELETE FROM recording WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM segment WHERE recording = ?1)",
    )
    .bind(recording)
    .execute(&mut **tx)
    .await?;
    let done = sqlx::query(
        "DELETE FROM call WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM recording WHERE call = ?1)
           AND NOT EXISTS (SELECT 1 FROM note WHERE call = ?1) AND NOT EXISTS (SELECT 1 FROM tagged WHERE call = ?1)
           AND NOT EXISTS (SELECT 1 FROM held WHERE call = ?1)
           AND NOT EXISTS (SELECT 1 FROM trash WHERE call = ?1)",
    )
    .bind(call)
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() > 0 {
        sqlx::query("DELETE FROM word WHERE rowid = ?").bind(call).execute(&mut **tx).await?;
    }
    Ok(())
}

async fn add_recording(tx: &mut Tx, file: &Found, device: i64, texts: Texts) -> Done<(i64, Id)> {
    let id = rows::recording_id(file);
    let call = match call_of(tx, file, device).await? {
        Some(call) => call,
        None => add_call(tx, file, device).await?,
    };
    let query = sqlx::query(
        "INSERT INTO recording (id, call, device, recording, source, codec, encrypted)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    );
    let done = query
        .bind(id.0.as_slice())
        .bind(call)
        .bind(device)
        .bind(Kept::of(&file.recording))
        .bind(texts.source)
        .bind(texts.codec)
        .bind(file.encrypted)
        .execute(&mut **tx)
        .await?;
    let key = done.last_insert_rowid();
    if !rows::keys_of(id).contains(&call) {
        let query = sqlx::query("INSERT INTO recording_elsewhere (id, recording) VALUES (?, ?)");
        query.bind(id.0.to_vec()).bind(key).execute(&mut **tx).await?;
    }
    Ok((key, id))
}

/// The call that a new recording is of, if it is there.
async fn call_of(tx: &mut Tx, file: &Found, device: i64) -> Done<Option<i64>> {
    // That of this recording may have outlived it: people have said something about it, or it has others.
    let mut own = Sql::new("SELECT c.key FROM call c WHERE ".into());
    own.push_is_call(rows::identity(file).0);
    if let Some(own) = own.query().fetch_optional(&mut **tx).await? {
        return Ok(Some(own.get("key")));
    }
    if file.external_id.is_empty() {
        return Ok(None);
    }
    let query = sqlx::query_scalar(SAME_CALL).bind(&file.external_id).bind(file.started_us).bind(device);
    Ok(query.bind(SAME_PHONE_US).bind(OTHER_PHONE_US).fetch_optional(&mut **tx).await?)
}

async fn add_call(tx: &mut Tx, file: &Found, device: i64) -> Done<i64> {
    let site = intern(tx, "site", &file.site).await?;
    let (id, begin) = rows::identity(file);
    let mut moves = 0;
    let key = loop {
        let key = begin + if moves < SMALL_MOVES { moves } else { moves * moves };
        let taken = sqlx::query_scalar::<_, i64>("SELECT 1 FROM call WHERE key = ?").bind(key);
        if taken.fetch_optional(&mut **tx).await?.is_none() {
            break key;
        }
        moves += 1;
    };
    sqlx::query(
        "INSERT INTO call (key, id, external_id, direction, started_us, duration_ms, device, site, extension, gap_ms,
                           end_reason, codec)
         SELECT ?, ?, ?, key, ?, 0, ?, ?, '', 0, key, key FROM text WHERE name = ''",
    )
    .bind(key)
    .bind(id.0.as_slice())
    .bind(&file.external_id)
    .bind(file.started_us)
    .bind(device)
    .bind(site)
    .execute(&mut **tx)
    .await?;
    if !rows::keys_of(id).contains(&key) {
        let query = sqlx::query("INSERT INTO call_elsewhere (id, call) VALUES (?, ?)").bind(id.0.to_vec());
        query.bind(key).execute(&mut **tx).await?;
    }
    for role in [0, 1] {
        let query = "INSERT INTO party (call, role, number, digits, name) VALUES (?, ?, '', '', '')";
        sqlx::query(query).bind(key).bind(role).execute(&mut **tx).await?;
    }
    Ok(key)
}

/// Brings a call up to date with one of its files.
async fn describe(tx: &mut Tx, call: i64, file: &Found, texts: Texts) -> Done<()> {
    sqlx::query(
        "UPDATE call SET
           direction = coalesce(?2, direction),
           extension = CASE WHEN ?3 = '' THEN extension ELSE ?3 END,
           external_id = CASE WHEN ?4 = '' THEN external_id ELSE ?4 END,
           codec = ?5,
           started_us = (SELECT min(s.started_us) FROM recording r JOIN segment s ON s.recording = r.key
                         WHERE r.call = ?1),
           duration_ms = (SELECT max(ms) FROM (SELECT sum(s.duration_ms) AS ms FROM recording r
                          JOIN segment s ON s.recording = r.key WHERE r.call = ?1 GROUP BY r.key)),
           gap_ms = (SELECT sum(s.gap_ms) FROM recording r JOIN segment s ON s.recording = r.key WHERE r.call = ?1),
           end_reason = (SELECT s.end_reason FROM recording r JOIN segment s ON s.recording = r.key WHERE r.call = ?1
                         ORDER BY s.started_us DESC, s.number DESC LIMIT 1)
         WHERE key = ?1",
    )
    .bind(call)
    .bind(file.direction.map(|_| texts.direction))
    .bind(file.local.extension())
    .bind(&file.external_id)
    .bind(texts.codec)
    .execute(&mut **tx)
    .await?;
    for (role, party) in [(0, &file.remote), (1, &file.local)] {
        if party.number.is_empty() && party.name.is_empty() {
            continue;
        }
        let query = "UPDATE party SET number = ?, digits = ?, name = ? WHERE call = ? AND role = ?";
        sqlx::query(query)
            .bind(rows::kept_number(party))
            .bind(&party.digits)
            .bind(&party.name)
            .bind(call)
            .bind(role)
            .execute(&mut **tx)
            .await?;
    }
    rows::index_words(tx, call).await?;
    events::link_call(tx, call).await
}

pub(super) async fn forget_aside(tx: &mut Tx, folder: i64, name: &str) -> Done<()> {
    let query = sqlx::query("DELETE FROM aside WHERE folder = ? AND name = ?").bind(folder).bind(name);
    query.execute(&mut **tx).await?;
    Ok(())
}

/// Notes a file that is not taken; without a reason it is one more copy.
pub(super) async fn set_aside(tx: &mut Tx, place: &Place, reason: &str, since_us: i64) -> Done<()> {
    let folder = folder_key(tx, &place.root, &place.folder).await?;
    let query = sqlx::query(
        "INSERT OR REPLACE INTO aside (folder, name, octets, modified_ms, sidecar_ms, reason, since_us)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    );
    let query = query.bind(folder).bind(&place.name).bind(place.octets).bind(place.modified_ms);
    query.bind(place.sidecar_ms).bind(reason).bind(since_us).execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn quarantine(pool: &SqlitePool, limit: u32) -> Done<Vec<Broken>> {
    let query = "SELECT f.root, f.path, a.* FROM aside a JOIN folder f ON f.key = a.folder
                 WHERE a.reason != '' ORDER BY a.since_us DESC LIMIT ?";
    let rows = sqlx::query(query).bind(limit).fetch_all(pool).await?;
    let broken = |row: &SqliteRow| Broken {
        place: Place {
            root: row.get("root"),
            folder: row.get("path"),
            name: row.get("name"),
            octets: row.get("octets"),
            modified_ms: row.get("modified_ms"),
            sidecar_ms: row.get("sidecar_ms"),
        },
        reason: row.get("reason"),
        since_us: row.get("since_us"),
    };
    Ok(rows.iter().map(broken).collect())
}

pub(super) async fn known(pool: &SqlitePool, root: &str, folder: &str) -> Done<Vec<KnownFile>> {
    let rows = sqlx::query(
        "SELECT s.name, s.octets, s.modified_ms, s.sidecar_ms, s.missing FROM folder f
         JOIN segment s ON s.folder = f.key WHERE f.root = ?1 AND f.path = ?2
         UNION ALL SELECT a.name, a.octets, a.modified_ms, a.sidecar_ms, 0 FROM folder f
         JOIN aside a ON a.folder = f.key WHERE f.root = ?1 AND f.path = ?2",
    )
    .bind(root)
    .bind(folder)
    .fetch_all(pool)
    .await?;
    let known = |row: &SqliteRow| KnownFile {
        name: row.get("name"),
        octets: row.get("octets"),
        modified_ms: row.get("modified_ms"),
        sidecar_ms: row.get("sidecar_ms"),
        missing: row.get("missing"),
    };
    Ok(rows.iter().map(known).collect())
}

pub(super) async fn set_missing(
    tx: &mut Tx,
    root: &str,
    folder: &str,
    name: &str,
    missing: bool,
) -> Done<()> {
    let folder = folder_key(tx, root, folder).await?;
    sqlx::query("UPDATE segment SET missing = ? WHERE folder = ? AND name = ?")
        .bind(missing)
        .bind(folder)
        .bind(name)
        .execute(&mut **tx)
        .await?;
    if missing {
        forget_aside(tx, folder, name).await?;
    }
    Ok(())
}

pub(super) async fn has(
    pool: &SqlitePool,
    device: &str,
    recording: &str,
    segment: u32,
    sha256: &[u8],
) -> Done<bool> {
    let query =
        "SELECT 1 FROM device d JOIN recording r ON r.device = d.key JOIN segment s ON s.recording = r.key
                 JOIN sealed z ON z.seq = s.sealed
                 WHERE d.name = ? AND r.recording = ? AND s.number = ? AND z.sha256 = ? AND s.missing = 0";
    let query = sqlx::query_scalar::<_, i64>(query).bind(device);
    let query = query.bind(Kept::of(recording)).bind(segment).bind(sha256);
    let is_here = query.fetch_optional(pool).await?.is_some();
    Ok(is_here || deletions::is_gone(&mut *pool.acquire().await?, device, recording).await?)
}

pub(super) async fn segments(
    pool: &SqlitePool,
    behind: Option<(i64, u32)>,
    limit: u32,
) -> Done<Vec<SegmentFile>> {
    let (recording, number) = behind.unwrap_or((i64::MIN, 0));
    let rows = sqlx::query(
        "SELECT s.*, z.sha256, f.root, f.path, k.wrapped FROM segment s JOIN sealed z ON z.seq = s.sealed
         JOIN folder f ON f.key = s.folder
         LEFT JOIN recording_key k ON k.recording = s.recording
         WHERE (s.recording, s.number) > (?, ?) ORDER BY s.recording, s.number LIMIT ?",
    )
    .bind(recording)
    .bind(number)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let segment = |row: &SqliteRow| SegmentFile {
        place: (row.get("recording"), row.get("number")),
        file: Place {
            root: row.get("root"),
            folder: row.get("path"),
            name: row.get("name"),
            octets: row.get("octets"),
            modified_ms: row.get("modified_ms"),
            sidecar_ms: row.get("sidecar_ms"),
        },
        sha256: row.get("sha256"),
        missing: row.get("missing"),
        key: row.get("wrapped"),
    };
    Ok(rows.iter().map(segment).collect())
}

pub(super) async fn totals(pool: &SqlitePool) -> Done<Totals> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM recording) AS recordings,
                (SELECT count(*) FROM aside WHERE reason != '') AS quarantine,
                (SELECT count(*) FROM segment WHERE missing = 1) AS missing,
                (SELECT count(*) FROM account) AS accounts",
    )
    .fetch_one(pool)
    .await?;
    Ok(Totals {
        recordings: row.get("recordings"),
        quarantine: row.get("quarantine"),
        missing: row.get("missing"),
        accounts: row.get("accounts"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::sqlite::SqliteCatalogue;
    use crate::testing::{catalogue, run};

    async fn plan(catalogue: &SqliteCatalogue, mut sql: Sql) -> Vec<String> {
        let plan = sql.explained().fetch_all(catalogue.readers()).await.unwrap();
        plan.iter().map(|row| row.get("detail")).collect()
    }

    #[test]
    fn calls_and_recordings_are_found_by_their_ids_without_reading_all() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let catalogue = catalogue(folder.path()).await;
            let (mut call, mut recording) = (Sql::default(), Sql::default());
            call.push("SELECT c.started_us FROM call c WHERE ");
            call.push_is_call(Id([1; 16]));
            recording.push("SELECT r.codec FROM recording r WHERE ");
            recording.push_is_recording(Id([1; 16]));
            for sql in [call, recording] {
                let plan = plan(&catalogue, sql).await;
                assert!(plan.iter().all(|line| !line.contains("SCAN")), "{plan:#?}");
                assert!(plan.iter().filter(|line| line.contains("SEARCH")).count() == 3, "{plan:#?}");
            }
        });
    }

    #[test]
    fn call_of_a_call_id_is_found_by_its_index() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let catalogue = catalogue(folder.path()).await;
            let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {SAME_CALL}")));
            let plan = plan.fetch_all(catalogue.readers()).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
            assert!(plan[0].contains("SEARCH c USING INDEX call_by_external_id"), "{plan:?}");
        });
    }
}
