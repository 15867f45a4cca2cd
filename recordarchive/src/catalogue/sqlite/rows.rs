//! The rows of files that are new, each with a call and a recording of its own: many at once, with a
//! statement for each table.
//!
//! Owns: the values of these rows. Never: whether a file is new, and which keys it gets; the caller knows.
//! Invariant: they are the rows that taking the same files one by one makes (a test compares them).

use super::Tx;
use crate::catalogue::Done;
use crate::catalogue::model::{Found, Party};
use crate::id::{Id, hex, unhex};
use crate::query::words;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteConnection, SqliteTypeInfo};
use sqlx::{Encode, QueryBuilder, Sqlite, Type};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Most files of a statement. A statement for all of them is prepared once and kept; one for fewer is not.
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
    /// Keys of its words.
    pub(super) texts: Texts,
}

/// Keys of the words of a file that many others have as well.
#[derive(Clone, Copy, Default)]
pub(super) struct Texts {
    pub(super) direction: i64,
    pub(super) codec: i64,
    pub(super) end_reason: i64,
    pub(super) source: i64,
}

impl Texts {
    /// The words themselves, in the order of [`Self::of`].
    pub(super) fn names(file: &Found) -> [&str; 4] {
        let direction = file.direction.map_or("", recfile::call::Direction::as_str);
        [direction, &file.codec, &file.end_reason, file.source]
    }

    /// Those of these keys.
    pub(super) fn of([direction, codec, end_reason, source]: [i64; 4]) -> Self {
        Self { direction, codec, end_reason, source }
    }
}

impl<'a> New<'a> {
    /// That of a file and its call; all other keys are still to be given.
    pub(super) fn of(found: &'a Found, call: i64, call_id: Id) -> Self {
        let recording_id = recording_id(found);
        let texts = Texts::default();
        Self {
            found,
            call,
            call_id,
            recording: 0,
            recording_id,
            sealed: 0,
            device: 0,
            site: 0,
            folder: 0,
            texts,
        }
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

/// The number of a side as its row has it: nothing where the digits are all of it, `+` where a plus is before
/// them.
pub(super) fn kept_number(party: &Party) -> Option<&str> {
    match party.number.strip_prefix('+') {
        _ if party.number == party.digits => None,
        Some(digits) if digits == party.digits => Some("+"),
        _ => Some(&party.number),
    }
}

/// The name of a recording as its row has it: octets, where it is hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Octets(Vec<u8>),
    Text(String),
}

impl Kept {
    pub(super) fn of(recording: &str) -> Self {
        match unhex(recording) {
            Some(octets) if !octets.is_empty() && hex(&octets) == recording => Self::Octets(octets),
            _ => Self::Text(recording.to_owned()),
        }
    }
}

impl Type<Sqlite> for Kept {
    fn type_info() -> SqliteTypeInfo {
        <Vec<u8> as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Kept {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        match self {
            Self::Octets(octets) => octets.clone().encode(buffer),
            Self::Text(text) => text.clone().encode(buffer),
        }
    }
}

/// The keys that the call with an id has: the time that its id begins with, spread by what begins in the same
/// millisecond. A call with another key is in `call_elsewhere`.
pub(super) fn keys_of(call: Id) -> RangeInclusive<i64> {
    let ms = call.0[..6].iter().fold(0, |ms, octet| ms << 8 | i64::from(*octet));
    ms * 1000..=ms * 1000 + 1999
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
        sql.push_bind(new.texts.direction)
            .push_bind(found.started_us)
            .push_bind(found.duration_ms)
            .push_bind(new.device);
        sql.push_bind(new.site).push_bind(found.local.extension().to_owned());
        sql.push_bind(found.gap_ms).push_bind(new.texts.end_reason).push_bind(new.texts.codec);
    });
    execute(connection, sql, files.len()).await
}

async fn insert_parties(connection: &mut SqliteConnection, files: &[&New<'_>]) -> Done<()> {
    let parties = files.iter().flat_map(|new| {
        [(0_i64, &new.found.remote), (1, &new.found.local)].map(|(role, party)| (new.call, role, party))
    });
    let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO party (call, role, number, digits, name) ");
    sql.push_values(parties, |mut sql, (call, role, party)| {
        sql.push_bind(call).push_bind(role).push_bind(kept_number(party).map(str::to_owned));
        sql.push_bind(party.digits.clone()).push_bind(party.name.clone());
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
        "INSERT INTO recording (key, id, call, device, recording, source, codec, encrypted) ",
    );
    sql.push_values(files, |mut sql, new| {
        let found = new.found;
        sql.push_bind(new.recording).push_bind(new.recording_id.0.to_vec());
        sql.push_bind(new.call).push_bind(new.device);
        sql.push_bind(Kept::of(&found.recording)).push_bind(new.texts.source).push_bind(new.texts.codec);
        sql.push_bind(found.encrypted);
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
                              audio_octets, is_plain, gap_ms, lost, end_reason, sealed) ",
    );
    sql.push_values(files, |mut sql, new| {
        let (found, place) = (new.found, &new.found.place);
        sql.push_bind(new.recording).push_bind(i64::from(found.segment)).push_bind(new.folder);
        sql.push_bind(place.name.clone()).push_bind(place.octets).push_bind(place.modified_ms);
        sql.push_bind(place.sidecar_ms).push_bind(found.started_us).push_bind(found.duration_ms);
        sql.push_bind(found.audio_octets).push_bind(found.is_plain).push_bind(found.gap_ms);
        sql.push_bind(found.lost).push_bind(new.texts.end_reason).push_bind(new.sealed);
    });
    execute(connection, sql, files.len()).await
}

/// The word that stands for an extension in the index of words; no word of a text begins like it.
pub(super) fn extension_word(extension: &str) -> Option<String> {
    let fits = !extension.is_empty() && extension.bytes().all(|octet| octet.is_ascii_digit());
    fits.then(|| format!("=e{extension}"))
}

/// Makes the entry of a call in the index of words anew.
pub(super) async fn index_words(tx: &mut Tx, call: i64) -> Done<()> {
    let texts: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM party WHERE call = ?1
         UNION ALL SELECT number FROM party WHERE call = ?1 AND digits = '' AND number IS NOT NULL
         UNION ALL SELECT tag.name FROM tagged JOIN tag ON tag.key = tagged.tag WHERE tagged.call = ?1
         UNION ALL SELECT text FROM note WHERE call = ?1
             AND NOT EXISTS (SELECT 1 FROM note newer WHERE newer.supersedes = note.id)",
    )
    .bind(call)
    .fetch_all(&mut **tx)
    .await?;
    let extension: String = sqlx::query_scalar("SELECT extension FROM call WHERE key = ?")
        .bind(call)
        .fetch_one(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM word WHERE rowid = ?").bind(call).execute(&mut **tx).await?;
    let Some(text) = indexed(texts.iter().map(String::as_str), &extension) else { return Ok(()) };
    let query = sqlx::query("INSERT INTO word (rowid, words) VALUES (?, ?)").bind(call).bind(text);
    query.execute(&mut **tx).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{SCHEMA, SqliteCatalogue};
    use super::*;
    use crate::access::Condition;
    use crate::catalogue::Catalogue;
    use crate::testing::{NOW_US, found, run};
    use sqlx::sqlite::SqliteConnectOptions;
    use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

    #[test]
    fn kept_number_and_its_digits_say_the_number_again() {
        for (number, kept) in [
            ("+49 30 1234", Some("+49 30 1234")),
            ("+49301234", Some("+")),
            ("49301234", None),
            ("2001", None),
            ("", None),
            ("+", Some("+")),
            ("anonymous", Some("anonymous")),
        ] {
            assert_eq!(kept_number(&found(1, number, "201").remote), kept, "{number}");
        }
    }

    #[test]
    fn kept_names_of_recordings_are_octets_where_those_say_the_name_again() {
        assert_eq!(
            Kept::of("0123456789abcdef"),
            Kept::Octets(vec![1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef])
        );
        for name in ["", "abc", "ABCD", "rec-1", "sha256:00"] {
            assert_eq!(Kept::of(name), Kept::Text(name.into()), "{name}");
        }
    }

    #[test]
    fn a_catalogue_of_before_the_compact_rows_keeps_all_that_it_has() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("catalogue.sqlite");
            let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
            let mut connection = options.connect().await.unwrap();
            let compact = SCHEMA.iter().position(|step| step.contains("call_elsewhere")).unwrap();
            for step in &SCHEMA[..compact] {
                sqlx::raw_sql(*step).execute(&mut connection).await.unwrap();
            }
            let begun = "INSERT INTO device (key, name) VALUES (1, 'd'); INSERT INTO site (key, name) VALUES (1, 's');
                         INSERT INTO folder (key, root, path) VALUES (1, '/intake', 'd/2026-11-27');
                         INSERT INTO deletion (key, id, state, asked_by, asked_us, reason) VALUES (1, x'01', 'pending', 'a', 1, 'r')";
            sqlx::raw_sql(begun).execute(&mut connection).await.unwrap();
            let numbers = ["+4930123456789", "+49 30 1234567", "201", "anonymous", ""];
            let mut files: Vec<Found> =
                (1..).zip(numbers).map(|(at, number)| found(at, number, "201")).collect();
            files[0].recording = "0123456789abcdef".into();
            let mut calls = Vec::new();
            for (at, file) in (1_i64..).zip(&files) {
                let (id, mut key) = identity(file);
                // The second one has the key of another time.
                key += if at == 2 { 5_000_000 } else { 0 };
                calls.push((id, key));
                let (remote, local) = (&file.remote, &file.local);
                let old = format!(
                    "INSERT INTO call VALUES ({key}, x'{id}', 'c{at}', 'in', {NOW_US}, 1000, 1, 1, '201', 0, 'stopped', 'PCMA');
                     INSERT INTO party (call, role, number, digits, name) VALUES
                         ({key}, 0, '{}', '{}', 'Anna'), ({key}, 1, '{}', '{}', 'Desk');
                     INSERT INTO recording VALUES ({at}, x'{recording}', {key}, 1, '{}', 'uplink', 'PCMA', {NOW_US}, 0);
                     INSERT INTO sealed VALUES ({at}, x'{sha256}');
                     INSERT INTO segment VALUES
                         ({at}, 1, 1, 'Record_{at}.wav', 1, 1, 1, {NOW_US}, 1000, 1, 1, 0, 0, '', x'{sha256}', 0, {at});
                     INSERT INTO note VALUES ({key}, x'{id}', NULL, 'said', 'anna', 1);
                     INSERT INTO deletion_call VALUES (1, x'{id}')",
                    remote.number,
                    remote.digits,
                    local.number,
                    local.digits,
                    file.recording,
                    id = hex(&id.0),
                    recording = hex(&recording_id(file).0),
                    sha256 = hex(&file.sha256),
                );
                sqlx::raw_sql(AssertSqlSafe(old)).execute(&mut connection).await.unwrap();
            }
            let version = format!("PRAGMA user_version = {compact}");
            sqlx::raw_sql(AssertSqlSafe(version)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();

            let catalogue = SqliteCatalogue::open(&path).await.unwrap();
            for ((id, key), file) in calls.iter().zip(&files) {
                let call = catalogue.call(*id, &Condition::All).await.unwrap().unwrap();
                assert_eq!((call.key, &call.remote.number), (*key, &file.remote.number));
                assert_eq!(
                    (&call.remote.digits, &call.local.number),
                    (&file.remote.digits, &file.local.number)
                );
                assert_eq!((call.notes.len(), call.recordings.len(), call.direction), (1, 1, file.direction));
                let recording = &call.recordings[0];
                assert_eq!((&recording.recording, &recording.sha256), (&file.recording, &hex(&file.sha256)));
                assert_eq!((recording.codec.as_str(), recording.source.as_str()), ("PCMA", "uplink"));
                let media = catalogue.media(recording_id(file), &Condition::All).await.unwrap().unwrap();
                assert_eq!(media.codec, "PCMA");
            }
            let elsewhere = "SELECT call FROM call_elsewhere";
            let elsewhere =
                sqlx::query_scalar::<_, i64>(elsewhere).fetch_all(catalogue.readers()).await.unwrap();
            assert_eq!(elsewhere, [calls[1].1]);
            let named = "SELECT count(*) FROM deletion_call x JOIN call c ON c.key = x.key AND c.id = x.call";
            let named = sqlx::query_scalar::<_, i64>(named).fetch_one(catalogue.readers()).await.unwrap();
            assert_eq!(named, 5);
            // What belongs together is held together again, and whole.
            let mut writer = catalogue.writer.acquire().await.unwrap();
            let enforced = sqlx::query("PRAGMA foreign_keys").fetch_one(&mut *writer).await.unwrap();
            assert_eq!(enforced.get::<i64, _>(0), 1);
            assert!(sqlx::raw_sql("DELETE FROM call").execute(&mut *writer).await.is_err());
            drop(writer);
            assert_eq!(catalogue.check().await.unwrap(), [""; 0]);
        });
    }
}
