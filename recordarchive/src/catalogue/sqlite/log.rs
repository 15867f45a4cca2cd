//! The audit log in SQLite: it is appended to by the one transaction that writes, so it can't fork.
//!
//! Entries that come while one is written are the next transaction together: they share one wait for the
//! disk.

use super::Tx;
use crate::access::audit::{Entry, GENESIS, Link};
use crate::catalogue::{Done, Failure};
use sqlx::Row;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use tokio::sync::{mpsc, oneshot};

/// Requests that wait for the log; more of them wait for a place.
const MAX_WAITING: usize = 1024;
/// Requests of one transaction.
const MAX_TOGETHER: usize = 512;

/// Entries of one request, and the channel that tells that they are on the disk.
type Request = (Vec<Entry>, oneshot::Sender<Done<()>>);

/// Appends for many at once. It ends with the last handle.
#[derive(Debug)]
pub(super) struct Appender(mpsc::Sender<Request>);

impl Appender {
    /// Appends through `writer`.
    pub(super) fn start(writer: SqlitePool) -> Self {
        let (sender, mut requests) = mpsc::channel::<Request>(MAX_WAITING);
        tokio::spawn(async move {
            let mut together = Vec::new();
            while requests.recv_many(&mut together, MAX_TOGETHER).await > 0 {
                let done = write(&writer, &together).await;
                for (_, asked) in together.drain(..) {
                    // A caller that has gone meanwhile gets no answer.
                    let _ = asked.send(done.clone());
                }
            }
        });
        Self(sender)
    }

    /// Appends entries; they are on the disk when this returns.
    pub(super) async fn append(&self, entries: &[Entry]) -> Done<()> {
        let ended = || Failure::Database("the audit log is not written any more".into());
        let (sender, answer) = oneshot::channel();
        self.0.send((entries.to_vec(), sender)).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

async fn write(writer: &SqlitePool, together: &[Request]) -> Done<()> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
    let entries: Vec<Entry> = together.iter().flat_map(|(entries, _)| entries).cloned().collect();
    append(&mut tx, &entries).await?;
    Ok(tx.commit().await?)
}

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

pub(super) fn link(row: &SqliteRow) -> Link {
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
