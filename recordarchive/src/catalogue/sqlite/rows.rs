//! The rows of files that are new, each with a call and a recording of its own: many at once, with a
//! statement for each table.
//!
//! Owns: the values of these rows. Never: whether a file is new, and which keys it gets; the caller knows.
//! Invariant: they are the rows that taking the same files one by one makes (a test compares them).

use super::search::extension_word;
use crate::catalogue::Done;
use crate::catalogue::model::Found;
use crate::id::Id;
use crate::number::Keys;
use crate::query::words;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};
use std::collections::BTreeSet;

/// Files of a statement. A statement for so many is prepared once and kept; one for fewer is not.
pub(super) const ROWS: usize = 64;
/// Words of a call that are indexed.
const MAX_WORDS: usize = 400;

/// A new file, with the keys that its rows get.
pub(super) struct New<'a> {
    /// The file.
    pub(super) found: &'a Found,
    /// Key of its call.
    pub(super) call: i64,
    /// Id of its call.
    pub(super) call_id: Id,
    /// Key of its recording.
    pub(super) recording: i64,
    /// Id of its recording.
    pub(super) recording_id: Id,
    /// Number of its seal.
    pub(super) sealed: i64,
    /// Key of its phone.
    pub(super) device: i64,
    /// Key of its site.
    pub(super) site: i64,
    /// Key of its folder.
    pub(super) folder: i64,
}

impl<'a> New<'a> {
    /// That of a file and its call; all other keys are still to be given.
    pub(super) fn of(found: &'a Found, call: i64, call_id: Id) -> Self {
        let recording_id = recording_id(found);
        Self { found, call, call_id, recording: 0, recording_id, sealed: 0, device: 0, site: 0, folder: 0 }
    }
}

/// Id of the recording that begins with a file.
pub(super) fn recording_id(file: &Found) -> Id {
    Id::derived(file.started_us, &[file.device.as_bytes(), file.recording.as_bytes()])
}

/// Id and key of the call that begins with a file, unless another call has the key.
pub(super) fn identity(file: &Found) -> (Id, i64) {
    let id = Id::derived(file.started_us, &[b"call", file.device.as_bytes(), file.recording.as_bytes()]);
    // Clocks show milliseconds: the microseconds tell apart recordings that begin in the same one.
    let spread = i64::from(u16::from_be_bytes([id.0[14], id.0[15]])) % 1000;
    (id, file.started_us.div_euclid(1000) * 1000 + spread)
}

/// The text of a call in the index of words; nothing without a word.
pub(super) fn indexed<'t>(texts: impl Iterator<Item = &'t str>, extension: &str) -> Option<String> {
    let mut all: BTreeSet<String> = texts.flat_map(words).take(MAX_WORDS).collect();
    if all.is_empty() {
        return None;
    }
    all.extend(extension_word(extension));
    Some(all.into_iter().collect::<Vec<_>>().join(" "))
}

/// Inserts the rows of all files.
pub(super) async fn insert(connection: &mut SqliteConnection, files: &[&New<'_>]) -> Done<()> {
    for files in files.chunks(ROWS) {
        insert_calls(connection, files).await?;
        insert_parties(connection, files).await?;
        insert_words(connection, files).await?;
        insert_recordings(connection, files).await?;
        insert_segments(connection, files).await?;
    }
    Ok(())
}

async fn execute(connection: &mut SqliteConnection, mut sql: QueryBuilder<Sqlite>, files: usize) -> Done<()> {
    sql.build().persistent(files == ROWS).execute(connection).await?;
    Ok(())
}

async fn insert_calls(connection: &mut SqliteConnection, files: &[&New<'_>]) -> Done<()> {
    let mut sql = QueryBuilder::<Sqlite>::new(
        "INSERT INTO call (key, id, external_id, direction, started_us, duration_ms, device, site, extension, gap_ms,
                           end_reason, codec) ",
    );
    sql.push_values(files, |mut sql, new| {
        let found = new.found;
        sql.push_bind(new.call).push_bind(new.call_id.0.to_vec()).push_bind(found.external_id.clone());
        sql.push_bind(found.direction.map_or("", recfile::call::Direction::as_str));
        sql.push_bind(found.started_us).push_bind(found.duration_ms).push_bind(new.device);
        sql.push_bind(new.site).push_bind(found.local.extension().to_owned());
        sql.push_bind(found.gap_ms).push_bind(found.end_reason.clone()).push_bind(found.codec.clone());
    });
    execute(connection, sql, files.len()).await
}

async fn insert_parties(connection: &mut SqliteConnection, files: &[&New<'_>]) -> Done<()> {
    let parties = files.iter().flat_map(|new| {
        [(0_i64, &new.found.remote), (1, &new.found.local)].map(|(role, party)| (new.call, role, party))
    });
    let mut sql = QueryBuilder::<Sqlite>::new(
        "INSERT INTO party (call, role, number, digits, name, tail4, tail7, head4, head6, head9) ",
    );
    sql.push_values(parties, |mut sql, (call, role, party)| {
        let keys = Keys::of(&party.digits);
        sql.push_bind(call).push_bind(role).push_bind(party.number.clone());
        sql.push_bind(party.digits.clone()).push_bind(party.name.clone());
        sql.push_bind(keys.map(|keys| keys.tail4)).push_bind(keys.and_then(|keys| keys.tail7));
        sql.push_bind(keys.and_then(|keys| keys.head4)).push_bind(keys.and_then(|keys| keys.head6));
        sql.push_bind(keys.and_then(|keys| keys.head9));
    });
    execute(connection, sql, files.len()).await
}

async fn insert_words(connection: &mut SqliteConnection, files: &[&New<'_>]) -> Done<()> {
    let texts = files.iter().filter_map(|new| {
        let sides = [&new.found.remote, &new.found.local];
        let names = sides.iter().map(|party| party.name.as_str());
        let unnumbered = sides.iter().filter(|party| party.digits.is_empty());
        let texts = names.chain(unnumbered.map(|party| party.number.as_str()));
        Some((new.call, indexed(texts, new.found.local.extension())?))
    });
    let texts: Vec<(i64, String)> = texts.collect();
    if texts.is_empty() {
        return Ok(());
    }
    let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO word (rowid, words) ");
    sql.push_values(texts, |mut sql, (call, text)| {
        sql.push_bind(call).push_bind(text);
    });
    // Its text differs with the number of calls with words: there is no use in keeping it.
    sql.build().persistent(false).execute(connection).await?;
    Ok(())
}

async fn insert_recordings(connection: &mut SqliteConnection, files: &[&New<'_>]) -> Done<()> {
    let mut sql = QueryBuilder::<Sqlite>::new(
        "INSERT INTO recording (key, id, call, device, recording, source, codec, started_us, encrypted) ",
    );
    sql.push_values(files, |mut sql, new| {
        let found = new.found;
        sql.push_bind(new.recording).push_bind(new.recording_id.0.to_vec());
        sql.push_bind(new.call).push_bind(new.device).push_bind(found.recording.clone());
        sql.push_bind(found.source).push_bind(found.codec.clone());
        sql.push_bind(found.started_us).push_bind(found.encrypted);
    });
    execute(connection, sql, files.len()).await
}

async fn insert_segments(connection: &mut SqliteConnection, files: &[&New<'_>]) -> Done<()> {
    let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO sealed (seq, sha256) ");
    sql.push_values(files, |mut sql, new| {
        sql.push_bind(new.sealed).push_bind(new.found.sha256.to_vec());
    });
    execute(connection, sql, files.len()).await?;
    let mut sql = QueryBuilder::<Sqlite>::new(
        "INSERT INTO segment (recording, number, folder, name, octets, modified_ms, sidecar_ms, started_us, duration_ms,
                              audio_octets, is_plain, gap_ms, lost, end_reason, sha256, sealed) ",
    );
    sql.push_values(files, |mut sql, new| {
        let (found, place) = (new.found, &new.found.place);
        sql.push_bind(new.recording).push_bind(i64::from(found.segment)).push_bind(new.folder);
        sql.push_bind(place.name.clone()).push_bind(place.octets).push_bind(place.modified_ms);
        sql.push_bind(place.sidecar_ms).push_bind(found.started_us).push_bind(found.duration_ms);
        sql.push_bind(found.audio_octets).push_bind(found.is_plain).push_bind(found.gap_ms);
        sql.push_bind(found.lost).push_bind(found.end_reason.clone());
        sql.push_bind(found.sha256.to_vec()).push_bind(new.sealed);
    });
    execute(connection, sql, files.len()).await
}
