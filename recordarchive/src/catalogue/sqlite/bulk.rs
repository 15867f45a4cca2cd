//! Many calls at once into a catalogue that has none, for measurements: the rows that taking them in one by
//! one would make, without a search for rows that can't exist.

use super::rows::{self, New, ROWS, Texts};
use super::{BULK_PRAGMAS, SqliteCatalogue};
use crate::catalogue::model::Found;
use crate::catalogue::{Done, Failure};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Calls of a transaction.
const BATCH: usize = 8 * ROWS;

/// Keys that were given, by name.
type Names = HashMap<String, i64>;

#[derive(Default)]
struct Filled {
    devices: Names,
    sites: Names,
    folders: Names,
    texts: Names,
    last_key: i64,
    recordings: i64,
}

/// Puts calls, the earliest first, into the new catalogue `path`; `told` hears how many are in it. Each is of
/// one recording of one segment, and no two are of one call.
pub(crate) async fn fill(
    path: &Path,
    calls: impl Iterator<Item = Found>,
    told: &mut dyn FnMut(u64),
) -> Done<u64> {
    let made = SqliteCatalogue::open(path).await?;
    made.readers.close().await;
    made.writer.close().await;
    let mut options = SqliteConnectOptions::new().filename(path);
    for (name, value) in BULK_PRAGMAS {
        options = options.pragma(*name, *value);
    }
    let mut connection = options.connect().await?;
    let indexes = without_indexes(&mut connection).await?;
    let (mut filled, mut count) = (Filled::default(), 0);
    filled.texts.insert(String::new(), 1);
    let mut calls = calls.peekable();
    while calls.peek().is_some() {
        let batch: Vec<Found> = calls.by_ref().take(BATCH).collect();
        let mut tx = connection.begin().await?;
        filled.put(&mut tx, &batch).await?;
        tx.commit().await?;
        count += batch.len() as u64;
        told(count);
    }
    for index in indexes {
        sqlx::raw_sql(AssertSqlSafe(index)).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(count)
}

/// How long the same questions take as others put them, once each: the last four digits as FreePBX looks for
/// them, in both columns without an index that knows ends, and the thousandth page by an offset, as
/// rdio-scanner turns pages.
pub(crate) async fn as_peers_ask(
    catalogue: &SqliteCatalogue,
    tail: &str,
) -> Done<Vec<(&'static str, Duration)>> {
    let mut took = Vec::new();
    let ends = format!("%{tail}");
    let like = "SELECT c.key FROM call c JOIN party r ON r.call = c.key AND r.role = 0
                JOIN party l ON l.call = c.key AND l.role = 1
                WHERE r.digits LIKE ?1 OR l.digits LIKE ?1 ORDER BY c.started_us DESC LIMIT 50";
    let begun = Instant::now();
    sqlx::query(like).bind(ends).fetch_all(catalogue.readers()).await?;
    took.push(("last four digits by LIKE '%…', as FreePBX asks", begun.elapsed()));
    let offset = "SELECT c.key, (SELECT count(*) FROM call) FROM call c
                  ORDER BY c.started_us DESC LIMIT 50 OFFSET 49950";
    let begun = Instant::now();
    sqlx::query(offset).fetch_all(catalogue.readers()).await?;
    took.push((
        "page 1,000 by OFFSET, sorted by a time without an index, as rdio-scanner asks",
        begun.elapsed(),
    ));
    Ok(took)
}

/// Takes the indexes off that can be made later, and gives back how.
async fn without_indexes(connection: &mut SqliteConnection) -> Done<Vec<String>> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM call").fetch_one(&mut *connection).await?;
    if count > 0 {
        return Err(Failure::Conflict("the catalogue has calls already".into()));
    }
    let query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL
                 AND tbl_name IN ('call', 'party', 'recording', 'segment')";
    let indexes: Vec<(String, String)> = sqlx::query_as(query).fetch_all(&mut *connection).await?;
    for (name, _) in &indexes {
        let drop = format!("DROP INDEX {name}");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *connection).await?;
    }
    Ok(indexes.into_iter().map(|(_, sql)| sql).collect())
}

fn named(names: &mut Names, name: &str) -> (i64, bool) {
    if let Some(key) = names.get(name) {
        return (*key, false);
    }
    let key = i64::try_from(names.len()).unwrap_or(i64::MAX) + 1;
    names.insert(name.to_owned(), key);
    (key, true)
}

impl Filled {
    /// Gives a batch its keys, and puts it in.
    async fn put(&mut self, connection: &mut SqliteConnection, batch: &[Found]) -> Done<()> {
        let mut new = Vec::with_capacity(batch.len());
        for found in batch {
            let (device, is_new) = named(&mut self.devices, &found.device);
            if is_new {
                let add = sqlx::query("INSERT INTO device (key, name) VALUES (?, ?)").bind(device);
                add.bind(&found.device).execute(&mut *connection).await?;
            }
            let (site, is_new) = named(&mut self.sites, &found.site);
            if is_new {
                let add = sqlx::query("INSERT INTO site (key, name) VALUES (?, ?)").bind(site);
                add.bind(&found.site).execute(&mut *connection).await?;
            }
            let (folder, is_new) = named(&mut self.folders, &found.place.folder);
            if is_new {
                let add = sqlx::query("INSERT INTO folder (key, root, path) VALUES (?, ?, ?)").bind(folder);
                add.bind(&found.place.root).bind(&found.place.folder).execute(&mut *connection).await?;
            }
            let mut texts = [0; 4];
            for (text, name) in texts.iter_mut().zip(Texts::names(found)) {
                let (key, is_new) = named(&mut self.texts, name);
                if is_new {
                    let add = sqlx::query("INSERT INTO text (key, name) VALUES (?, ?)").bind(key);
                    add.bind(name).execute(&mut *connection).await?;
                }
                *text = key;
            }
            let texts = Texts::of(texts);
            let (call_id, key) = rows::identity(found);
            self.last_key = key.max(self.last_key + 1);
            self.recordings += 1;
            let (recording, sealed) = (self.recordings, self.recordings);
            let keys = New {
                recording,
                sealed,
                device,
                site,
                folder,
                texts,
                ..New::of(found, self.last_key, call_id)
            };
            new.push(keys);
        }
        rows::insert(connection, &new.iter().collect::<Vec<_>>()).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SCHEMA, files};
    use super::*;
    use crate::bench::synthetic::Year;
    use crate::number::Keys;
    use crate::testing::run;
    use sqlx::Row as _;

    /// All rows of a table, as text.
    async fn dump(catalogue: &SqliteCatalogue, table: &str) -> Vec<String> {
        let columns = sqlx::query(AssertSqlSafe(format!("PRAGMA table_info({table})")));
        let columns = columns.fetch_all(catalogue.readers()).await.unwrap();
        let quoted: Vec<String> =
            columns.iter().map(|row| format!("quote({})", row.get::<String, _>("name"))).collect();
        let query = format!("SELECT {} FROM {table} ORDER BY 1", quoted.join(" || '|' || "));
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(catalogue.readers()).await.unwrap()
    }

    #[test]
    fn a_catalogue_that_is_filled_at_once_has_the_rows_of_one_that_took_call_by_call() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let (at_once, one_by_one) = (folder.path().join("a"), folder.path().join("b"));
            let mut told = 0;
            fill(&at_once, Year::new(1200, 1), &mut |count| told = count).await.unwrap();
            assert_eq!(told, 1200);
            let at_once = SqliteCatalogue::open(&at_once).await.unwrap();
            let one_by_one = SqliteCatalogue::open(&one_by_one).await.unwrap();
            let calls: Vec<Found> = Year::new(1200, 1).collect();
            let mut tx = one_by_one.begin().await.unwrap();
            for call in &calls {
                files::take(&mut tx, call).await.unwrap();
            }
            tx.commit().await.unwrap();
            for table in
                ["device", "site", "folder", "text", "call", "party", "recording", "segment", "sealed"]
            {
                let rows = dump(&at_once, table).await;
                assert!(!rows.is_empty());
                assert!(rows == dump(&one_by_one, table).await, "{table}");
            }
            let mut words = Vec::new();
            for catalogue in [&at_once, &one_by_one] {
                let make = "CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab ('main', 'word', 'row')";
                let mut connection = catalogue.writer.acquire().await.unwrap();
                sqlx::raw_sql(make).execute(&mut *connection).await.unwrap();
                let query = "SELECT term || ' ' || doc FROM temp.vocabulary ORDER BY term";
                words.push(sqlx::query_scalar::<_, String>(query).fetch_all(&mut *connection).await.unwrap());
            }
            assert!(words[0].len() > 50);
            let differ = words[0].iter().zip(&words[1]).find(|(one, other)| one != other);
            assert_eq!((words[0].len(), differ), (words[1].len(), None));
            let index = "SELECT count(*) FROM sqlite_master WHERE type = 'index'";
            let mut counts = Vec::new();
            for catalogue in [&at_once, &one_by_one] {
                counts
                    .push(sqlx::query_scalar::<_, i64>(index).fetch_one(catalogue.readers()).await.unwrap());
            }
            assert_eq!(counts[0], counts[1]);
        });
    }

    #[test]
    fn a_catalogue_of_before_the_keys_of_numbers_gets_them_when_it_is_opened() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("catalogue.sqlite");
            let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
            let mut connection = options.connect().await.unwrap();
            let numbers = SCHEMA.iter().position(|step| step.contains("head9")).unwrap();
            for step in &SCHEMA[..numbers] {
                sqlx::raw_sql(*step).execute(&mut connection).await.unwrap();
            }
            let old = format!(
                "INSERT INTO device (key, name) VALUES (1, 'd'); INSERT INTO site (key, name) VALUES (1, 's');
                 INSERT INTO call VALUES (5, x'0102', '', '', 5, 0, 1, 1, '201', 0, '', '');
                 INSERT INTO party (call, role, number, digits, name, tail4, tail7, head3, head6) VALUES
                     (5, 0, '', '4930123456789', '', 6789, 3456789, 493, 493012), (5, 1, '', '201', '', 201, 201, 201, 201000);
                 PRAGMA user_version = {numbers}"
            );
            sqlx::raw_sql(AssertSqlSafe(old)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            let catalogue = SqliteCatalogue::open(&path).await.unwrap();
            for digits in ["4930123456789", "201"] {
                let query = "SELECT tail4, tail7, head4, head6, head9 FROM party WHERE digits = ?";
                let row = sqlx::query(query).bind(digits).fetch_one(catalogue.readers()).await.unwrap();
                let keys = Keys {
                    tail4: row.get("tail4"),
                    tail7: row.get("tail7"),
                    head4: row.get("head4"),
                    head6: row.get("head6"),
                    head9: row.get("head9"),
                };
                assert_eq!(Some(keys), Keys::of(digits), "{digits}");
            }
        });
    }
}
