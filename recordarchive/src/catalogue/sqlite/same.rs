//! Calls that look like one, in SQLite: the same two numbers, begun within ten seconds of each other.

use super::people::id;
use super::search::{NO_TRASH, Sql, condition_sql};
use super::{SqliteCatalogue, log};
use crate::access::Condition;
use crate::access::audit::Entry;
use crate::catalogue::Done;
use crate::catalogue::model::CallView;
use crate::catalogue::same::{Same, Sameness};
use crate::id::Id;
use crate::time::SECOND_US;
use async_trait::async_trait;
use sqlx::{Row, SqliteConnection};

/// Longest time between the beginnings of two calls that may be one.
const NEAR_US: i64 = 10 * SECOND_US;
/// Digits at the end of a number by which it is known, however it is written.
const KNOWN_DIGITS: usize = 7;
/// Calls of the time around one that are looked at.
const MAX_NEAR: i64 = 1000;

/// Both numbers, in either order: the caller at one end is the called party at the other.
fn pair<'d>(one: &'d str, other: &'d str) -> Option<[&'d str; 2]> {
    let known = |digits: &'d str| digits.get(digits.len().saturating_sub(KNOWN_DIGITS)..).unwrap_or(digits);
    let mut pair = [known(one), known(other)];
    pair.sort_unstable();
    (!pair[0].is_empty()).then_some(pair)
}

fn in_order(one: Id, other: Id) -> [Vec<u8>; 2] {
    [one.min(other).0.to_vec(), one.max(other).0.to_vec()]
}

/// Calls that are perhaps the same as this one, and that the condition admits.
pub(super) async fn of(
    connection: &mut SqliteConnection,
    call: &CallView,
    condition: &Condition,
) -> Done<Vec<Same>> {
    let Some(wanted) = pair(&call.remote.digits, &call.local.digits) else { return Ok(Vec::new()) };
    let Some(own) = Id::parse(&call.id) else { return Ok(Vec::new()) };
    let mut sql = Sql::new(
        "SELECT c.id, c.started_us, c.extension, (SELECT name FROM device WHERE key = c.device) AS device,
                r.digits AS remote, l.digits AS local
         FROM call c JOIN party r ON r.call = c.key AND r.role = 0 JOIN party l ON l.call = c.key AND l.role = 1
         WHERE c.key >= "
            .into(),
    );
    sql.bind(call.started_us.saturating_sub(NEAR_US));
    sql.push(" AND c.key <= ");
    sql.bind(call.started_us.saturating_add(NEAR_US));
    sql.push(" AND c.key != ");
    sql.bind(call.key);
    sql.push(" AND NOT EXISTS (SELECT 1 FROM apart x WHERE x.one = min(c.id, ");
    sql.bind(own.0.to_vec());
    sql.push(") AND x.other = max(c.id, ");
    sql.bind(own.0.to_vec());
    sql.push("))");
    condition_sql(condition, &mut sql);
    sql.push(NO_TRASH);
    sql.push(" ORDER BY c.key LIMIT ");
    sql.bind(MAX_NEAR);
    let rows = sql.query().fetch_all(connection).await?;
    let same = rows.iter().filter(|row| pair(row.get("remote"), row.get("local")) == Some(wanted));
    Ok(same
        .map(|row| Same {
            id: id(row.get("id")).to_string(),
            started_us: row.get("started_us"),
            device: row.get("device"),
            extension: row.get("extension"),
        })
        .collect())
}

#[async_trait]
impl Sameness for SqliteCatalogue {
    async fn set_apart(&self, one: Id, other: Id, condition: &Condition, entry: &Entry) -> Done<bool> {
        let mut tx = self.begin().await?;
        for call in [one, other] {
            let mut sql = Sql::new("SELECT c.key FROM call c WHERE ".into());
            sql.push_is_call(call);
            condition_sql(condition, &mut sql);
            sql.push(NO_TRASH);
            if sql.query().fetch_optional(&mut *tx).await?.is_none() {
                return Ok(false);
            }
        }
        let [first, second] = in_order(one, other);
        let query = sqlx::query("INSERT INTO apart (one, other) VALUES (?, ?) ON CONFLICT DO NOTHING");
        query.bind(first).bind(second).execute(&mut *tx).await?;
        log::append(&mut tx, std::slice::from_ref(entry)).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn begun(&self, device: &str, recording: &str) -> Done<Option<(Id, i64)>> {
        let query = "SELECT r.id, s.started_us FROM device d JOIN recording r ON r.device = d.key
                     JOIN segment s ON s.recording = r.key
                     WHERE d.name = ? AND r.recording = ? ORDER BY s.number LIMIT 1";
        let row = sqlx::query(query).bind(device).bind(recording).fetch_optional(self.readers()).await?;
        Ok(row.map(|row| (id(row.get("id")), row.get("started_us"))))
    }
}
