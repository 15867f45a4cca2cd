//! The audit log in SQLite: it is appended to by the one transaction that writes, so it can't fork.

use super::Tx;
use crate::access::audit::{Entry, GENESIS, Link};
use crate::catalogue::Done;
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};

/// Number and hash of the last entry.
pub(super) async fn head(tx: &mut Tx) -> Done<Option<(i64, Vec<u8>)>> {
    let query = sqlx::query_as("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1");
    Ok(query.fetch_optional(&mut **tx).await?)
}

/// Appends entries behind the last one.
pub(super) async fn append(tx: &mut Tx, entries: &[Entry]) -> Done<()> {
    let (mut seq, mut head) = head(tx).await?.unwrap_or((0, GENESIS.to_vec()));
    for entry in entries {
        seq += 1;
        let hash = entry.hash(seq, &head).to_vec();
        sqlx::query(
            "INSERT INTO audit (seq, at_us, actor, action, object, result, detail, previous, hash)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(seq)
        .bind(entry.at_us)
        .bind(&entry.actor)
        .bind(&entry.action)
        .bind(&entry.object)
        .bind(&entry.result)
        .bind(&entry.detail)
        .bind(&head)
        .bind(&hash)
        .execute(&mut **tx)
        .await?;
        head = hash;
    }
    Ok(())
}

fn link(row: &SqliteRow) -> Link {
    let entry = Entry {
        at_us: row.get("at_us"),
        actor: row.get("actor"),
        action: row.get("action"),
        object: row.get("object"),
        result: row.get("result"),
        detail: row.get("detail"),
    };
    Link { seq: row.get("seq"), entry, previous: row.get("previous"), hash: row.get("hash") }
}

/// Entries behind a number, in order.
pub(super) async fn behind(pool: &SqlitePool, behind: i64, limit: u32) -> Done<Vec<Link>> {
    let query = sqlx::query("SELECT * FROM audit WHERE seq > ? ORDER BY seq LIMIT ?");
    Ok(query.bind(behind).bind(limit).fetch_all(pool).await?.iter().map(link).collect())
}

/// The newest entries before a number.
pub(super) async fn newest(
    pool: &SqlitePool,
    before: Option<i64>,
    actor: Option<&str>,
    limit: u32,
) -> Done<Vec<Link>> {
    let before = before.unwrap_or(i64::MAX);
    let rows = match actor {
        Some(actor) => {
            let query = "SELECT * FROM audit WHERE actor = ? AND seq < ? ORDER BY seq DESC LIMIT ?";
            sqlx::query(query).bind(actor).bind(before).bind(limit).fetch_all(pool).await?
        }
        None => {
            let query = "SELECT * FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT ?";
            sqlx::query(query).bind(before).bind(limit).fetch_all(pool).await?
        }
    };
    Ok(rows.iter().map(link).collect())
}
