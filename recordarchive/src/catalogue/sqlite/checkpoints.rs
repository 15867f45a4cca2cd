//! Checkpoints and seals in SQLite.

use super::{Tx, log};
use crate::access::audit::GENESIS;
use crate::access::checkpoint::{Checkpoint, Signed, merkle_root};
use crate::access::site_key::SiteKey;
use crate::catalogue::Done;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};

fn signed(row: &SqliteRow) -> Signed {
    Signed { text: row.get("text"), signature: row.get("signature") }
}

/// Seals a segment, unless it is sealed with this hash already.
pub(super) async fn seal(tx: &mut Tx, recording: i64, number: i64, sha256: &[u8]) -> Done<()> {
    let query = "SELECT 1 FROM segment s JOIN sealed z ON z.seq = s.sealed
                 WHERE s.recording = ? AND s.number = ? AND z.sha256 = ?";
    let query = sqlx::query_scalar::<_, i64>(query).bind(recording).bind(number).bind(sha256);
    if query.fetch_optional(&mut **tx).await?.is_some() {
        return Ok(());
    }
    let query = sqlx::query("INSERT INTO sealed (sha256) VALUES (?)").bind(sha256);
    let seq = query.execute(&mut **tx).await?.last_insert_rowid();
    let query = sqlx::query("UPDATE segment SET sealed = ? WHERE recording = ? AND number = ?");
    query.bind(seq).bind(recording).bind(number).execute(&mut **tx).await?;
    Ok(())
}

async fn newest_of(connection: &mut SqliteConnection) -> Done<Option<Signed>> {
    let query = sqlx::query("SELECT text, signature FROM checkpoint ORDER BY number DESC LIMIT 1");
    Ok(query.fetch_optional(connection).await?.as_ref().map(signed))
}

/// The newest checkpoint.
pub(super) async fn newest(pool: &SqlitePool) -> Done<Option<Signed>> {
    newest_of(&mut *pool.acquire().await?).await
}

/// Makes one, if something was logged or sealed since the last.
pub(super) async fn make(tx: &mut Tx, key: &SiteKey, at_us: i64) -> Done<Option<Signed>> {
    let before = newest_of(&mut *tx).await?;
    let said = before.as_ref().and_then(Signed::read);
    let (number, entries, sealed) = said.map_or((0, 0, 0), |said| (said.number, said.entries, said.sealed));
    let (count, head) = log::head(&mut *tx).await?.unwrap_or((0, GENESIS.to_vec()));
    let query = sqlx::query_scalar("SELECT sha256 FROM sealed WHERE seq > ? ORDER BY seq").bind(sealed);
    let leaves: Vec<Vec<u8>> = query.fetch_all(&mut **tx).await?;
    if count == entries && leaves.is_empty() {
        return Ok(None);
    }
    let last: i64 =
        sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM sealed").fetch_one(&mut **tx).await?;
    let checkpoint = Checkpoint {
        number: number + 1,
        at_us,
        entries: count,
        head: head.try_into().unwrap_or(GENESIS),
        sealed: last,
        root: merkle_root(&leaves),
        previous: before.map_or(GENESIS, |before| before.hash()),
    };
    let signed = checkpoint.sign(key);
    let query = sqlx::query("INSERT INTO checkpoint (number, text, signature) VALUES (?, ?, ?)");
    query.bind(number + 1).bind(&signed.text).bind(&signed.signature).execute(&mut **tx).await?;
    Ok(Some(signed))
}

/// Checkpoints behind a number, in order.
pub(super) async fn behind(pool: &SqlitePool, behind: i64, limit: u32) -> Done<Vec<Signed>> {
    let query =
        sqlx::query("SELECT text, signature FROM checkpoint WHERE number > ? ORDER BY number LIMIT ?");
    Ok(query.bind(behind).bind(limit).fetch_all(pool).await?.iter().map(signed).collect())
}

/// Hashes of what was sealed behind one number and up to another, in order.
pub(super) async fn sealed(pool: &SqlitePool, behind: i64, to: i64) -> Done<Vec<Vec<u8>>> {
    let query = sqlx::query_scalar("SELECT sha256 FROM sealed WHERE seq > ? AND seq <= ? ORDER BY seq");
    Ok(query.bind(behind).bind(to).fetch_all(pool).await?)
}

/// Files whose hash is not the one that was sealed.
pub(super) async fn unsealed(pool: &SqlitePool, limit: u32) -> Done<Vec<String>> {
    let query = "SELECT f.root, f.path, s.name FROM segment s JOIN folder f ON f.key = s.folder
                 LEFT JOIN sealed z ON z.seq = s.sealed
                 WHERE z.sha256 IS NULL OR z.sha256 != s.sha256 LIMIT ?";
    let name = |row: &SqliteRow| {
        let parts: [String; 3] = [row.get("root"), row.get("path"), row.get("name")];
        parts.join("/")
    };
    Ok(sqlx::query(query).bind(limit).fetch_all(pool).await?.iter().map(name).collect())
}
