//! Places of webhooks in SQLite: keys of recordings, which rise as they come.

use super::SqliteCatalogue;
use super::people::id;
use crate::catalogue::Done;
use crate::catalogue::hooks::Hooks;
use crate::id::Id;
use async_trait::async_trait;

#[async_trait]
impl Hooks for SqliteCatalogue {
    async fn hook_place(&self, url: &str) -> Done<i64> {
        let mut tx = self.begin().await?;
        let newest = sqlx::query_scalar::<_, i64>("SELECT coalesce(max(key), 0) FROM recording");
        let newest = newest.fetch_one(&mut *tx).await?;
        // The key of a newest recording that is gone is given once more.
        let query = "INSERT INTO hook (url, place) VALUES (?1, ?2)
                     ON CONFLICT (url) DO UPDATE SET place = min(place, ?2) RETURNING place";
        let place = sqlx::query_scalar(query).bind(url).bind(newest).fetch_one(&mut *tx).await?;
        tx.commit().await?;
        Ok(place)
    }

    async fn set_hook_place(&self, url: &str, place: i64) -> Done<()> {
        let mut tx = self.begin().await?;
        let query = sqlx::query("UPDATE hook SET place = ? WHERE url = ?").bind(place).bind(url);
        query.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn recordings_behind(&self, place: i64, limit: u32) -> Done<Vec<(i64, Id)>> {
        let query = sqlx::query_as("SELECT key, id FROM recording WHERE key > ? ORDER BY key LIMIT ?");
        let rows: Vec<(i64, Vec<u8>)> = query.bind(place).bind(limit).fetch_all(self.readers()).await?;
        Ok(rows.into_iter().map(|(key, octets)| (key, id(&octets))).collect())
    }
}
