//! Where media lie: folders that are elsewhere now, as after a restore into another data folder.

use super::SqliteCatalogue;
use crate::catalogue::Done;
use std::path::Path;

/// Lists everything below one folder as below another one, in a catalogue that nobody uses. A file that is
/// listed there already stays as it is. Everything is in the one file afterwards.
pub(crate) async fn move_root(catalogue: &Path, from: &str, to: &str) -> Done<()> {
    let catalogue = SqliteCatalogue::open(catalogue).await?;
    let done = moved(&catalogue, from, to).await;
    catalogue.readers.close().await;
    catalogue.writer.close().await;
    done
}

async fn moved(catalogue: &SqliteCatalogue, from: &str, to: &str) -> Done<()> {
    let mut tx = catalogue.begin().await?;
    for statement in [
        "UPDATE folder SET root = ?2 WHERE root = ?1
         AND NOT EXISTS (SELECT 1 FROM folder o WHERE o.root = ?2 AND o.path = folder.path)",
        "UPDATE OR IGNORE segment SET folder =
           (SELECT n.key FROM folder o JOIN folder n ON n.path = o.path WHERE o.key = segment.folder AND n.root = ?2)
         WHERE folder IN (SELECT o.key FROM folder o WHERE o.root = ?1)",
    ] {
        sqlx::query(statement).bind(from).bind(to).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}
