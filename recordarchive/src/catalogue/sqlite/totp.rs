//! Second factors in SQLite.

use super::Tx;
use crate::catalogue::Done;
use crate::id::Id;
use sqlx::sqlite::SqlitePool;

pub(super) async fn secret(pool: &SqlitePool, account: Id) -> Done<Option<Vec<u8>>> {
    let query = "SELECT t.secret FROM totp t JOIN account a ON a.key = t.account WHERE a.id = ?";
    Ok(sqlx::query_scalar(query).bind(account.0.as_slice()).fetch_optional(pool).await?)
}

pub(super) async fn take_step(tx: &mut Tx, account: Id, step: i64) -> Done<bool> {
    let query =
        "UPDATE totp SET step = ? WHERE step < ? AND account = (SELECT key FROM account WHERE id = ?)";
    let done = sqlx::query(query).bind(step).bind(step).bind(account.0.as_slice());
    Ok(done.execute(&mut **tx).await?.rows_affected() == 1)
}

pub(super) async fn set(tx: &mut Tx, name: &str, secret: Option<&[u8]>) -> Done<bool> {
    let key = sqlx::query_scalar::<_, i64>("SELECT key FROM account WHERE name = ?").bind(name);
    let Some(key) = key.fetch_optional(&mut **tx).await? else { return Ok(false) };
    sqlx::query("DELETE FROM totp WHERE account = ?").bind(key).execute(&mut **tx).await?;
    if let Some(secret) = secret {
        let query = sqlx::query("INSERT INTO totp (account, secret, step) VALUES (?, ?, 0)");
        query.bind(key).bind(secret).execute(&mut **tx).await?;
    }
    Ok(true)
}
