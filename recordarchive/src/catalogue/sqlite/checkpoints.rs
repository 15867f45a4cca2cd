//! Checkpoints and seals in SQLite.

use super::{Tx, log};
use crate::access::audit::GENESIS;
use crate::access::checkpoint::{Checkpoint, MAX_COVERED, Signed, merkle_root};
use crate::access::site_key::SiteKey;
use crate::catalogue::Done;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};

fn signed(row: &SqliteRow) -> Signed {
    Signed { text: row.get("text"), signature: row.get("signature") }
}

/// The seal of a segment with this hash: the one that it has already, or a new one.
pub(super) async fn seal(tx: &mut Tx, recording: i64, number: i64, sha256: &[u8]) -> Done<i64> {
    let query = "SELECT s.sealed FROM segment s JOIN sealed z ON z.seq = s.sealed
                 WHERE s.recording = ? AND s.number = ? AND z.sha256 = ?";
    let query = sqlx::query_scalar(query).bind(recording).bind(number).bind(sha256);
    if let Some(seq) = query.fetch_optional(&mut **tx).await? {
        return Ok(seq);
    }
    let query = sqlx::query("INSERT INTO sealed (sha256) VALUES (?)").bind(sha256);
    Ok(query.execute(&mut **tx).await?.last_insert_rowid())
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
    let query = "SELECT seq, sha256 FROM sealed WHERE seq > ? ORDER BY seq LIMIT ?";
    let query = sqlx::query_as::<_, (i64, Vec<u8>)>(query).bind(sealed).bind(MAX_COVERED);
    let covered = query.fetch_all(&mut **tx).await?;
    if count == entries && covered.is_empty() {
        return Ok(None);
    }
    let last = covered.last().map_or(sealed, |(seq, _)| *seq);
    let leaves: Vec<Vec<u8>> = covered.into_iter().map(|(_, sha256)| sha256).collect();
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

/// Hashes of the recordings sealed behind one number and up to another, in order.
pub(super) async fn sealed(pool: &SqlitePool, behind: i64, to: i64) -> Done<Vec<Vec<u8>>> {
    let query = sqlx::query_scalar("SELECT sha256 FROM sealed WHERE seq > ? AND seq <= ? ORDER BY seq");
    Ok(query.bind(behind).bind(to).fetch_all(pool).await?)
}

/// Files whose hash is not the one that was sealed.
pub(super) async fn unsealed(pool: &SqlitePool, limit: u32) -> Done<Vec<String>> {
    let query = "SELECT f.root, f.path, s.name FROM segment s JOIN folder f ON f.key = s.folder
                 LEFT JOIN sealed z ON z.seq = s.sealed
                 WHERE z.seq IS NULL LIMIT ?";
    let name = |row: &SqliteRow| {
        let parts: [String; 3] = [row.get("root"), row.get("path"), row.get("name")];
        parts.join("/")
    };
    Ok(sqlx::query(query).bind(limit).fetch_all(pool).await?.iter().map(name).collect())
}

#[cfg(test)]
mod tests {
    use crate::access::checkpoint::{MAX_COVERED, Signed};
    use crate::catalogue::Catalogue;
    use crate::catalogue::sqlite::SqliteCatalogue;
    use crate::jobs::checkpoint::{Checkpoints, key};
    use crate::testing::{catalogue, run};
    use sqlx::AssertSqlSafe;
    use std::path::Path;
    use std::sync::Arc;

    async fn seal(catalogue: &SqliteCatalogue, count: i64) {
        let add = format!(
            "INSERT INTO sealed (sha256) WITH RECURSIVE n (value) AS
             (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {count}) SELECT randomblob(32) FROM n"
        );
        sqlx::raw_sql(AssertSqlSafe(add)).execute(&catalogue.writer).await.unwrap();
    }

    async fn make(catalogue: &Arc<SqliteCatalogue>, folder: &Path) -> Vec<i64> {
        let catalogue = Arc::clone(catalogue) as Arc<dyn Catalogue>;
        Checkpoints::new(Arc::clone(&catalogue), key(folder).unwrap(), None).make().await.unwrap();
        let all = catalogue.checkpoints(0, 100).await.unwrap();
        all.iter().filter_map(Signed::read).map(|said| said.sealed).collect()
    }

    #[test]
    fn a_checkpoint_covers_no_more_files_than_it_may_and_the_next_ones_have_the_rest_at_once() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let catalogue = catalogue(folder.path()).await;
            seal(&catalogue, 2 * MAX_COVERED + 5).await;
            let covered = [MAX_COVERED, 2 * MAX_COVERED, 2 * MAX_COVERED + 5];
            assert_eq!(make(&catalogue, folder.path()).await, covered);
            assert_eq!(make(&catalogue, folder.path()).await, covered, "nothing new, nothing to make");
            seal(&catalogue, 1).await;
            let last = [&covered[..], &[covered[2] + 1]].concat();
            assert_eq!(make(&catalogue, folder.path()).await, last);
        });
    }
}
