//! Encryption at rest in SQLite.
//!
//! Invariants: a segment becomes an encrypted file in the transaction that notes its plain one for removal;
//! an identity is replaced by the same one in another wrapping, or not at all.

use super::people::id;
use super::rows::Kept;
use super::{SqliteCatalogue, Tx, files, holds, log};
use crate::access::audit::Entry;
use crate::catalogue::Done;
use crate::catalogue::at_rest::{AtRest, PlainCopy, PlainSegment, Rewrapped, Sealed};
use crate::catalogue::model::Place;
use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

fn place(row: &SqliteRow) -> Place {
    Place { root: row.get("root"), folder: row.get("path"), name: row.get("name"), ..Place::default() }
}

async fn encrypted(tx: &mut Tx, segment: &PlainSegment, to: &Place, entry: &Entry) -> Done<bool> {
    let from = files::folder_key(tx, &segment.file.root, &segment.file.folder).await?;
    let folder = files::folder_key(tx, &to.root, &to.folder).await?;
    let query = sqlx::query(
        "UPDATE segment SET folder = ?, name = ?, octets = ?, modified_ms = ?, sidecar_ms = ?
         WHERE recording = ? AND number = ? AND folder = ? AND name = ?
           AND (SELECT z.sha256 FROM sealed z WHERE z.seq = segment.sealed) = ?
           AND NOT EXISTS (SELECT 1 FROM recording r JOIN trash t ON t.call = r.call
                           WHERE r.key = segment.recording AND t.begun = 1)",
    );
    let query = query.bind(folder).bind(&to.name).bind(to.octets).bind(to.modified_ms).bind(to.sidecar_ms);
    let query = query.bind(segment.recording).bind(segment.number).bind(from).bind(&segment.file.name);
    if query.bind(&segment.sha256).execute(&mut **tx).await?.rows_affected() == 0 {
        return Ok(false);
    }
    let query = "INSERT INTO plain_copy (folder, name, recording) VALUES (?, ?, ?) ON CONFLICT (folder, name) DO NOTHING";
    let query = sqlx::query(query).bind(from).bind(&segment.file.name).bind(segment.recording);
    query.execute(&mut **tx).await?;
    files::forget_aside(tx, folder, &to.name).await?;
    // A hold that was placed while the file was copied may be in the sidecar of the other one alone.
    let query = "SELECT r.call FROM recording r WHERE r.key = ?1
                 AND EXISTS (SELECT 1 FROM held WHERE held.call = r.call)";
    let held: Option<i64> =
        sqlx::query_scalar(query).bind(segment.recording).fetch_optional(&mut **tx).await?;
    if let Some(call) = held {
        holds::want_written(tx, call).await?;
    }
    log::append(tx, std::slice::from_ref(entry)).await?;
    Ok(true)
}

#[async_trait]
impl AtRest for SqliteCatalogue {
    async fn wrapped_key(&self, place: &Place, device: &str, recording: &str) -> Done<Option<Vec<u8>>> {
        let query = "SELECT k.wrapped FROM folder f JOIN segment s ON s.folder = f.key
                     JOIN recording_key k ON k.recording = s.recording
                     WHERE f.root = ? AND f.path = ? AND s.name = ?";
        let query = sqlx::query_scalar(query).bind(&place.root).bind(&place.folder).bind(&place.name);
        if let Some(found) = query.fetch_optional(self.readers()).await? {
            return Ok(Some(found));
        }
        let query = "SELECT k.wrapped FROM device d JOIN recording r ON r.device = d.key
                     JOIN recording_key k ON k.recording = r.key WHERE d.name = ? AND r.recording = ?";
        let query = sqlx::query_scalar(query).bind(device).bind(Kept::of(recording));
        Ok(query.fetch_optional(self.readers()).await?)
    }

    async fn plain_segments(&self, behind: (i64, u32), limit: u32) -> Done<Vec<PlainSegment>> {
        // Only an archive that encrypts has this index, and then it is small.
        let index = "CREATE INDEX IF NOT EXISTS segment_plain ON segment (recording, number)
                     WHERE substr(name, -4) != '.age'";
        if behind == (i64::MIN, 0) {
            let query = "SELECT 1 FROM sqlite_schema WHERE name = 'segment_plain'";
            let there: Option<i64> = sqlx::query_scalar(query).fetch_optional(self.readers()).await?;
            if there.is_none() {
                sqlx::query(index).execute(&self.writer).await?;
            }
        }
        let query = "SELECT s.recording, s.number, s.started_us, z.sha256, s.name, f.root, f.path, r.id, d.name AS device,
                            k.wrapped
                     FROM segment s INDEXED BY segment_plain JOIN sealed z ON z.seq = s.sealed JOIN folder f ON f.key = s.folder
                     JOIN recording r ON r.key = s.recording JOIN device d ON d.key = r.device
                     LEFT JOIN recording_key k ON k.recording = s.recording
                     WHERE substr(s.name, -4) != '.age' AND (s.recording, s.number) > (?, ?) AND s.missing = 0
                     ORDER BY s.recording, s.number LIMIT ?";
        let query = sqlx::query(query).bind(behind.0).bind(behind.1).bind(limit);
        let segment = |row: &SqliteRow| PlainSegment {
            recording: row.get("recording"),
            number: row.get("number"),
            id: id(row.get("id")),
            device: row.get("device"),
            started_us: row.get("started_us"),
            file: place(row),
            sha256: row.get("sha256"),
            key: row.get("wrapped"),
        };
        Ok(query.fetch_all(self.readers()).await?.iter().map(segment).collect())
    }

    async fn put_key(&self, recording: i64, wrapped: &[u8], label: &str) -> Done<Vec<u8>> {
        let mut tx = self.begin().await?;
        let wrapping = files::intern(&mut tx, "wrapping", label).await?;
        let query = "INSERT INTO recording_key (recording, wrapped, wrapping) VALUES (?, ?, ?)
                     ON CONFLICT (recording) DO NOTHING";
        sqlx::query(query).bind(recording).bind(wrapped).bind(wrapping).execute(&mut *tx).await?;
        let query = sqlx::query_scalar("SELECT wrapped FROM recording_key WHERE recording = ?");
        let kept = query.bind(recording).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(kept)
    }

    async fn is_listed(&self, root: &str, folder: &str, name: &str) -> Done<bool> {
        let query = "SELECT 1 FROM folder f JOIN segment s ON s.folder = f.key
                     WHERE f.root = ? AND f.path = ? AND s.name = ?";
        let query = sqlx::query_scalar::<_, i64>(query).bind(root).bind(folder).bind(name);
        Ok(query.fetch_optional(self.readers()).await?.is_some())
    }

    async fn encrypted(&self, segment: &PlainSegment, to: &Place, entry: &Entry) -> Done<bool> {
        let mut tx = self.begin().await?;
        let done = encrypted(&mut tx, segment, to, entry).await?;
        tx.commit().await?;
        Ok(done)
    }

    async fn plain_copies(&self, limit: u32) -> Done<Vec<PlainCopy>> {
        let query = "SELECT f.root, f.path, p.name, r.id FROM plain_copy p JOIN folder f ON f.key = p.folder
                     LEFT JOIN recording r ON r.key = p.recording
                     WHERE NOT EXISTS (SELECT 1 FROM segment s WHERE s.folder = p.folder AND s.name = p.name)
                     LIMIT ?";
        let copy = |row: &SqliteRow| PlainCopy {
            file: place(row),
            recording: row.get::<Option<Vec<u8>>, _>("id").map(|octets| id(&octets)),
        };
        Ok(sqlx::query(query).bind(limit).fetch_all(self.readers()).await?.iter().map(copy).collect())
    }

    async fn freed(&self, copy: &PlainCopy) -> Done<()> {
        let mut tx = self.begin().await?;
        let folder = files::folder_key(&mut tx, &copy.file.root, &copy.file.folder).await?;
        let query = sqlx::query("DELETE FROM plain_copy WHERE folder = ? AND name = ?").bind(folder);
        query.bind(&copy.file.name).execute(&mut *tx).await?;
        // A look at the folder may have found it twice meanwhile.
        files::forget_aside(&mut tx, folder, &copy.file.name).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn keys_to_rewrap(&self, behind: i64, label: &str, limit: u32) -> Done<Vec<(i64, Vec<u8>)>> {
        let query = "SELECT k.recording, k.wrapped FROM recording_key k JOIN wrapping w ON w.key = k.wrapping
                     WHERE k.recording > ? AND w.name != ? ORDER BY k.recording LIMIT ?";
        Ok(sqlx::query_as(query).bind(behind).bind(label).bind(limit).fetch_all(self.readers()).await?)
    }

    async fn rewrap(&self, keys: &[Rewrapped], label: &str, entry: &Entry) -> Done<usize> {
        let mut tx = self.begin().await?;
        let wrapping = files::intern(&mut tx, "wrapping", label).await?;
        let mut count = 0;
        for key in keys {
            let query =
                "UPDATE recording_key SET wrapped = ?, wrapping = ? WHERE recording = ? AND wrapped = ?";
            let query = sqlx::query(query).bind(&key.new).bind(wrapping).bind(key.recording).bind(&key.old);
            count += query.execute(&mut *tx).await?.rows_affected();
        }
        log::append(&mut tx, std::slice::from_ref(entry)).await?;
        tx.commit().await?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    async fn key_wrapped_for(&self, label: &str) -> Done<Option<Vec<u8>>> {
        let query = "SELECT k.wrapped FROM recording_key k JOIN wrapping w ON w.key = k.wrapping
                     WHERE w.name = ? LIMIT 1";
        Ok(sqlx::query_scalar(query).bind(label).fetch_optional(self.readers()).await?)
    }

    async fn sealed_totals(&self) -> Done<Sealed> {
        let query = "SELECT w.name, count(*) FROM recording_key k JOIN wrapping w ON w.key = k.wrapping
                     GROUP BY w.key ORDER BY w.key";
        let keys = sqlx::query_as(query).fetch_all(self.readers()).await?;
        let query = sqlx::query_scalar("SELECT count(*) FROM plain_copy");
        Ok(Sealed { keys, plain_copies: query.fetch_one(self.readers()).await? })
    }
}
