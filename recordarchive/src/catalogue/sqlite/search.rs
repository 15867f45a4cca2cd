//! Lists of calls in SQLite: every search is a few streams that an index yields in the order of time.
//!
//! Owns: which index drives a search. A stream is a statement of which each row costs the same and the first
//! `limit + 1` are enough; the newest of all streams are the page. Terms that do not drive are filters, and
//! so is the condition of the user, unless it drives. Invariant: no stream sorts, none reads a whole table
//! (the tests ask `EXPLAIN`).

use super::rows;
use crate::access::{Clause, Condition};
use crate::catalogue::Done;
use crate::catalogue::model::Search;
use crate::id::Id;
use crate::number::{Column, begins, ends};
use crate::query::Has;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqlitePool};
use sqlx::{AssertSqlSafe, Row, Sqlite};

/// Extensions of a condition that drive a search; more of them are a filter.
const MAX_CLAUSE_STREAMS: usize = 200;

/// The call `c` is not in the trash.
pub(super) const NO_TRASH: &str = " AND NOT EXISTS (SELECT 1 FROM trash x WHERE x.call = c.key)";

/// A value of a statement.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Integer(i64),
    Text(String),
    Octets(Vec<u8>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Octets(value)
    }
}

/// A statement in the making. Values from outside are bound, never written into it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub(super) fn new(text: String) -> Self {
        Self { text, values: Vec::new() }
    }

    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn bind(&mut self, value: impl Into<Value>) {
        self.text.push('?');
        self.values.push(value.into());
    }

    /// Appends a list of keys: one value, so that the statement is the same for any number of them.
    pub(super) fn bind_keys(&mut self, keys: &[i64]) {
        self.push("(SELECT value FROM json_each(");
        self.bind(serde_json::json!(keys).to_string().as_str());
        self.push("))");
    }

    /// Appends that the call `c` is the one with this id.
    pub(super) fn push_is_call(&mut self, id: Id) {
        let (keys, id) = (rows::keys_of(id), id.0.to_vec());
        let text = "c.key IN (SELECT x.key FROM call x WHERE x.key BETWEEN ? AND ? AND x.id = ?
                              UNION ALL SELECT call FROM call_elsewhere WHERE id = ?)";
        self.with(text, [(*keys.start()).into(), (*keys.end()).into(), id.clone().into(), id.into()]);
    }

    /// Appends that the recording `r` is the one with this id.
    pub(super) fn push_is_recording(&mut self, id: Id) {
        let (keys, id) = (rows::keys_of(id), id.0.to_vec());
        let text = "r.key IN (SELECT x.key FROM recording x WHERE x.call BETWEEN ? AND ? AND x.id = ?
                              UNION ALL SELECT recording FROM recording_elsewhere WHERE id = ?)";
        self.with(text, [(*keys.start()).into(), (*keys.end()).into(), id.clone().into(), id.into()]);
    }

    /// Appends a text whose question marks stand for these values.
    fn with(&mut self, text: &str, values: impl IntoIterator<Item = Value>) {
        self.text.push_str(text);
        self.values.extend(values);
    }

    fn append(&mut self, other: &Self) {
        self.text.push_str(&other.text);
        self.values.extend(other.values.iter().cloned());
    }

    pub(super) fn query(&mut self) -> Query<'static, Sqlite, SqliteArguments> {
        let mut query = sqlx::query(AssertSqlSafe(std::mem::take(&mut self.text)));
        for value in self.values.drain(..) {
            query = match value {
                Value::Integer(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Octets(value) => query.bind(value),
            };
        }
        query
    }
}

/// Appends the condition of the user, about the call `c`.
pub(super) fn condition_sql(condition: &Condition, sql: &mut Sql) {
    let Condition::Any(clauses) = condition else { return };
    if clauses.is_empty() {
        return sql.push(" AND 0");
    }
    sql.push(" AND (");
    for (index, clause) in clauses.iter().enumerate() {
        if index > 0 {
            sql.push(" OR ");
        }
        sql.push("(");
        if let Some(extension) = &clause.extension {
            sql.with("c.extension = ? AND ", [extension.as_str().into()]);
        }
        if let Some(site) = &clause.site {
            sql.with("c.site = (SELECT key FROM site WHERE name = ?) AND ", [site.as_str().into()]);
        }
        sql.with("c.started_us >= ? AND c.started_us < ?)", [clause.from_us.into(), clause.to_us.into()]);
    }
    sql.push(")");
}

/// The values of a clause that has an extension.
fn clause_values(clause: &Clause) -> Option<[Value; 3]> {
    Some([clause.extension.as_deref()?.into(), clause.from_us.into(), clause.to_us.into()])
}

/// The source of the hits of a search.
struct Stream {
    /// The column with the call's key.
    key: &'static str,
    /// From `FROM` on, with a condition at its end.
    from: Sql,
}

impl Stream {
    fn new(key: &'static str, text: &str, values: impl IntoIterator<Item = Value>) -> Self {
        let mut from = Sql::default();
        from.with(text, values);
        Self { key, from }
    }
}

/// The terms of a search that remain when its driver is chosen.
#[derive(Default)]
struct Left {
    numbers: Vec<String>,
    words: bool,
    extension: bool,
    device: bool,
    tags: usize,
    condition: bool,
}

fn number_streams(digits: &str) -> Vec<Stream> {
    let end = format!("substr(p.digits, -{}) = ?", digits.len());
    let begin = format!("substr(p.digits, 1, {}) = ?", digits.len());
    let all = [(ends(digits), end), (begins(digits), begin)];
    let mut streams = Vec::new();
    for ((column, keys), check) in all {
        let (name, index) = match column {
            Column::Tail4 => ("tail4", "party_by_tail4"),
            Column::Tail7 => ("tail7", "party_by_tail7"),
            Column::Head4 => ("head4", "party_by_head4"),
            Column::Head6 => ("head6", "party_by_head6"),
            Column::Head9 => ("head9", "party_by_head9"),
        };
        let text = format!(
            "FROM party p INDEXED BY {index} CROSS JOIN call c ON c.key = p.call WHERE p.{name} = ? AND {check}"
        );
        let stream = |key: i64| Stream::new("p.call", &text, [key.into(), digits.into()]);
        streams.extend(keys.into_iter().map(stream));
    }
    streams
}

/// The words as FTS5 looks for them; and the extensions, where they are all that one may see.
fn match_text(search: &Search, condition: &Condition) -> String {
    let words = search.query.words.iter().map(|word| format!("\"{word}\"*"));
    let mut text = words.collect::<Vec<_>>().join(" ");
    if let Condition::Any(clauses) = condition
        && (1..=MAX_CLAUSE_STREAMS).contains(&clauses.len())
    {
        let known: Vec<String> =
            clauses.iter().filter_map(|clause| rows::extension_word(clause.extension.as_deref()?)).collect();
        if known.len() == clauses.len() {
            let quoted: Vec<String> = known.iter().map(|word| format!("\"{word}\"")).collect();
            text = format!("{text} AND ({})", quoted.join(" OR "));
        }
    }
    text
}

/// Chooses the index that drives a search.
fn streams(search: &Search, condition: &Condition) -> (Vec<Stream>, Left) {
    let query = &search.query;
    let mut left = Left {
        numbers: query.numbers.clone(),
        words: !query.words.is_empty(),
        extension: query.extension.is_some(),
        device: query.device.is_some(),
        tags: 0,
        condition: true,
    };
    // The longest number has the fewest hits.
    if let Some(at) = (0..left.numbers.len()).max_by_key(|at| left.numbers[*at].len()) {
        return (number_streams(&left.numbers.swap_remove(at)), left);
    }
    if left.words {
        left.words = false;
        let text = "FROM word w CROSS JOIN call c ON c.key = w.rowid WHERE w.word MATCH ?";
        return (vec![Stream::new("w.rowid", text, [match_text(search, condition).as_str().into()])], left);
    }
    if let Some(tag) = query.tags.first() {
        left.tags = 1;
        let text = "FROM tagged t CROSS JOIN call c ON c.key = t.call
                    WHERE t.tag = (SELECT key FROM tag WHERE name = ?)";
        return (vec![Stream::new("t.call", text, [tag.as_str().into()])], left);
    }
    if let Some(extension) = &query.extension {
        left.extension = false;
        let text = "FROM call c INDEXED BY call_by_extension WHERE c.extension = ?";
        return (vec![Stream::new("c.key", text, [extension.as_str().into()])], left);
    }
    if let Condition::Any(clauses) = condition
        && (1..=MAX_CLAUSE_STREAMS).contains(&clauses.len())
        && let Some(driving) = clauses.iter().map(clause_values).collect::<Option<Vec<_>>>()
    {
        left.condition = clauses.iter().any(|clause| clause.site.is_some());
        let text = "FROM call c INDEXED BY call_by_extension
                    WHERE c.extension = ? AND c.started_us >= ? AND c.started_us < ?";
        let stream = |values| Stream::new("c.key", text, values);
        return (driving.into_iter().map(stream).collect(), left);
    }
    if let Some(device) = &query.device {
        left.device = false;
        let text = "FROM call c INDEXED BY call_by_device
                    WHERE c.device = (SELECT key FROM device WHERE name = ?)";
        return (vec![Stream::new("c.key", text, [device.as_str().into()])], left);
    }
    let text = if query.has.contains(&Has::Hold) {
        let from =
            "FROM held h INDEXED BY held_by_call CROSS JOIN call c ON c.key = h.call WHERE h.active = 1";
        return (vec![Stream::new("h.call", from, [])], left);
    } else if query.has.contains(&Has::Note) {
        return (
            vec![Stream::new("n.call", "FROM note n CROSS JOIN call c ON c.key = n.call WHERE 1", [])],
            left,
        );
    } else if query.has.contains(&Has::Event) {
        let text = "FROM event_call e CROSS JOIN call c ON c.key = e.call WHERE 1";
        return (vec![Stream::new("e.call", text, [])], left);
    } else if query.has.contains(&Has::Empty) {
        "FROM call c INDEXED BY call_empty WHERE c.duration_ms = 0"
    } else if query.has.contains(&Has::Gap) {
        "FROM call c INDEXED BY call_with_gap WHERE c.gap_ms > 0"
    } else {
        "FROM call c WHERE 1"
    };
    (vec![Stream::new("c.key", text, [])], left)
}

/// The filters of every stream, on the call `c`.
fn filters(search: &Search, condition: &Condition, left: &Left) -> Sql {
    let query = &search.query;
    let mut sql = Sql::default();
    for digits in &left.numbers {
        let text = format!(
            " AND EXISTS (SELECT 1 FROM party x WHERE x.call = c.key
               AND (substr(x.digits, -{0}) = ? OR substr(x.digits, 1, {0}) = ?))",
            digits.len()
        );
        sql.with(&text, [digits.as_str().into(), digits.as_str().into()]);
    }
    if left.words {
        let text = " AND EXISTS (SELECT 1 FROM word WHERE word MATCH ? AND rowid = c.key)";
        sql.with(text, [match_text(search, &Condition::All).as_str().into()]);
    }
    for tag in query.tags.iter().skip(left.tags) {
        let text = " AND EXISTS (SELECT 1 FROM tagged x WHERE x.call = c.key
                      AND x.tag = (SELECT key FROM tag WHERE name = ?))";
        sql.with(text, [tag.as_str().into()]);
    }
    if let (true, Some(extension)) = (left.extension, &query.extension) {
        sql.with(" AND c.extension = ?", [extension.as_str().into()]);
    }
    if let (true, Some(device)) = (left.device, &query.device) {
        sql.with(" AND c.device = (SELECT key FROM device WHERE name = ?)", [device.as_str().into()]);
    }
    if let Some(site) = &query.site {
        sql.with(" AND c.site = (SELECT key FROM site WHERE name = ?)", [site.as_str().into()]);
    }
    if let Some(direction) = query.direction {
        sql.with(" AND c.direction = (SELECT key FROM text WHERE name = ?)", [direction.as_str().into()]);
    }
    if let Some(ms) = query.longer_ms {
        sql.with(" AND c.duration_ms > ?", [ms.into()]);
    }
    if let Some(ms) = query.shorter_ms {
        sql.with(" AND c.duration_ms < ?", [ms.into()]);
    }
    if let Some(reason) = &query.reason {
        sql.with(" AND c.end_reason = (SELECT key FROM text WHERE name = ?)", [reason.as_str().into()]);
    }
    if let Some(codec) = &query.codec {
        sql.with(" AND c.codec = (SELECT key FROM text WHERE name = ?)", [codec.as_str().into()]);
    }
    for has in &query.has {
        sql.push(match has {
            Has::Note => " AND EXISTS (SELECT 1 FROM note x WHERE x.call = c.key)",
            Has::Gap => " AND c.gap_ms > 0",
            Has::Empty => " AND c.duration_ms = 0",
            Has::Event => " AND EXISTS (SELECT 1 FROM event_call x WHERE x.call = c.key)",
            Has::Hold => " AND EXISTS (SELECT 1 FROM held x WHERE x.call = c.key AND x.active = 1)",
        });
    }
    sql.push(NO_TRASH);
    if left.condition {
        condition_sql(condition, &mut sql);
    }
    sql
}

/// The statement that finds the keys of a page.
pub(super) fn statement(search: &Search, condition: &Condition) -> Sql {
    if matches!(condition, Condition::Any(clauses) if clauses.is_empty()) {
        // Beside `AND 0` the database refuses an index that it is told to take.
        return Sql::new("SELECT 0 AS key WHERE 0".into());
    }
    let (streams, left) = streams(search, condition);
    let filters = filters(search, condition, &left);
    let limit = i64::from(search.limit) + 1;
    let to = search.behind.map_or(search.to_us, |behind| behind.min(search.to_us));
    let mut sql = Sql::new("SELECT key FROM (".into());
    for (index, Stream { key, from }) in streams.iter().enumerate() {
        if index > 0 {
            sql.push(" UNION ");
        }
        sql.push(&format!("SELECT * FROM (SELECT DISTINCT {key} AS key "));
        sql.append(from);
        sql.with(&format!(" AND {key} >= ? AND {key} < ?"), [search.from_us.into(), to.into()]);
        sql.append(&filters);
        sql.with(&format!(" ORDER BY {key} DESC LIMIT ?)"), [limit.into()]);
    }
    sql.with(") ORDER BY key DESC LIMIT ?", [limit.into()]);
    sql
}

pub(super) async fn keys(pool: &SqlitePool, search: &Search, condition: &Condition) -> Done<Vec<i64>> {
    let rows = statement(search, condition).query().fetch_all(pool).await?;
    Ok(rows.iter().take(search.limit as usize).map(|row| row.get("key")).collect())
}

#[cfg(test)]
impl Sql {
    /// The query plan of the database for it, in its place.
    pub(super) fn explained(&mut self) -> Query<'static, Sqlite, SqliteArguments> {
        self.text.insert_str(0, "EXPLAIN QUERY PLAN ");
        self.query()
    }
}

/// The database's plan to find the keys of a page, line by line.
#[cfg(test)]
pub(crate) async fn explain(pool: &SqlitePool, search: &Search, condition: &Condition) -> Vec<String> {
    let rows = statement(search, condition).explained().fetch_all(pool).await.expect("a plan");
    rows.iter().map(|row| row.get("detail")).collect()
}

#[cfg(test)]
impl super::SqliteCatalogue {
    /// As [`explain`].
    pub(crate) async fn explain(&self, search: &Search, condition: &Condition) -> Vec<String> {
        explain(self.readers(), search, condition).await
    }

    /// Keys of all calls that the condition admits, as statements about single calls ask it; without those in
    /// the trash, or with them.
    pub(crate) async fn admitted(&self, condition: &Condition, with_trash: bool) -> Vec<i64> {
        let mut sql = Sql::new("SELECT c.key FROM call c WHERE 1".into());
        condition_sql(condition, &mut sql);
        sql.push(if with_trash { "" } else { NO_TRASH });
        let rows = sql.query().fetch_all(self.readers()).await.expect("keys");
        rows.iter().map(|row| row.get("key")).collect()
    }

    /// Adds `count` calls with numbers, names and extensions by chance, a second apart.
    pub(crate) async fn fill(&self, count: u32, from_us: i64) {
        sqlx::raw_sql(AssertSqlSafe(format!(
            "BEGIN;
             INSERT INTO device (key, name) VALUES (1, 'phone'); INSERT INTO site (key, name) VALUES (1, 'main');
             INSERT INTO text (key, name) VALUES (2, 'in'), (3, 'stopped'), (4, 'PCMA');
             INSERT INTO call SELECT {from_us} + value * 1000000, randomblob(16), 'c' || value, 2,
                 {from_us} + value * 1000000, 1000, 1, 1, 100 + abs(random() % 900), 0, 3, 4
             FROM (WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {count})
                   SELECT value FROM n);
             INSERT INTO party (call, role, number, digits, name)
                 SELECT key, 0, '', 4930000000000 + abs(random() % 1000000000),
                        'Name' || abs(random() % 5000) || ' Sur' || abs(random() % 5000) FROM call;
             INSERT INTO party (call, role, number, digits, name) SELECT key, 1, '', extension, 'Desk' FROM call;
             INSERT INTO word (rowid, words) SELECT call, name || ' =e' || (SELECT extension FROM call WHERE key = call)
                 FROM party WHERE role = 0;
             COMMIT;"
        )))
        .execute(&self.writer)
        .await
        .expect("calls");
    }
}
