//! Accounts, grants, sessions and tokens in SQLite.

use super::{SqliteCatalogue, Tx};
use crate::access::{Actor, Grant, Permission, Role, Use};
use crate::catalogue::model::{Account, Session};
use crate::catalogue::{Done, FIRST_ROLE, Failure};
use crate::id::Id;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row, SqliteConnection};

/// The interval at which a session that is used is noted as used.
const NOTE_USE_EVERY_US: i64 = 60_000_000;

pub(super) fn id(octets: &[u8]) -> Id {
    Id(octets.try_into().unwrap_or_default())
}

fn account(row: &SqliteRow) -> Account {
    Account {
        id: id(row.get("id")),
        name: row.get("name"),
        password: row.get("password"),
        disabled: row.get("disabled"),
    }
}

fn is_taken(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

pub(super) async fn add(tx: &mut Tx, account: &Account, grant: &Grant) -> Done<()> {
    let query = sqlx::query("INSERT INTO account (id, name, password) VALUES (?, ?, ?)");
    let query = query.bind(account.id.0.as_slice()).bind(&account.name).bind(&account.password);
    let key = match query.execute(&mut **tx).await {
        Ok(done) => done.last_insert_rowid(),
        Err(error) if is_taken(&error) => {
            return Err(Failure::Conflict(format!("there is an account {:?} already", account.name)));
        }
        Err(error) => return Err(error.into()),
    };
    add_grant(tx, key, grant).await?;
    for used in &grant.uses {
        note_extension(tx, key, &used.extension).await?;
    }
    Ok(())
}

pub(super) async fn add_grant(tx: &mut Tx, key: i64, grant: &Grant) -> Done<()> {
    let uses = serde_json::to_string(&grant.uses).map_err(|error| Failure::Database(error.to_string()))?;
    let within =
        serde_json::to_string(&grant.within).map_err(|error| Failure::Database(error.to_string()))?;
    sqlx::query("INSERT INTO role (account, role, uses, within, expires_us) VALUES (?, ?, ?, ?, ?)")
        .bind(key)
        .bind(grant.role.name())
        .bind(uses)
        .bind(within)
        .bind(grant.expires_us)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes that an account has an extension.
pub(super) async fn note_extension(tx: &mut Tx, key: i64, extension: &str) -> Done<()> {
    let query = sqlx::query("INSERT OR IGNORE INTO extension (extension, account) VALUES (?, ?)");
    query.bind(extension).bind(key).execute(&mut **tx).await?;
    Ok(())
}

/// When an extension begins to be somebody's: from the start if nobody had it before, else now.
pub(super) async fn extension_from(
    connection: &mut SqliteConnection,
    extension: &str,
    now_us: i64,
) -> Done<i64> {
    let had = sqlx::query_scalar::<_, i64>("SELECT 1 FROM extension WHERE extension = ? LIMIT 1");
    let had = had.bind(extension).fetch_optional(connection).await?;
    Ok(if had.is_some() { now_us } else { i64::MIN })
}

pub(super) async fn grants(connection: &mut SqliteConnection, key: i64) -> Done<Vec<Grant>> {
    let rows = sqlx::query("SELECT role, uses, within, expires_us FROM role WHERE account = ?").bind(key);
    let mut grants = Vec::new();
    for row in rows.fetch_all(connection).await? {
        // An unknown role grants nothing.
        let Some(role) = Role::from_name(row.get("role")) else { continue };
        let Ok(uses) = serde_json::from_str::<Vec<Use>>(row.get("uses")) else { continue };
        // Nor does one with a limit that can't be read.
        let Ok(within) = serde_json::from_str(row.get("within")) else { continue };
        grants.push(Grant { role, uses, within, expires_us: row.get("expires_us") });
    }
    Ok(grants)
}

pub(super) async fn all(pool: &SqlitePool) -> Done<Vec<(Account, Vec<Grant>)>> {
    let mut connection = pool.acquire().await?;
    let mut found = Vec::new();
    for row in sqlx::query("SELECT * FROM account ORDER BY name").fetch_all(&mut *connection).await? {
        let grants = grants(&mut connection, row.get("key")).await?;
        found.push((account(&row), grants));
    }
    Ok(found)
}

pub(super) async fn named(pool: &SqlitePool, name: &str) -> Done<Option<Account>> {
    let row = sqlx::query("SELECT * FROM account WHERE name = ?").bind(name).fetch_optional(pool).await?;
    Ok(row.as_ref().map(account))
}

async fn key_of(tx: &mut Tx, name: &str) -> Done<Option<i64>> {
    Ok(sqlx::query_scalar("SELECT key FROM account WHERE name = ?")
        .bind(name)
        .fetch_optional(&mut **tx)
        .await?)
}

pub(super) async fn disable(tx: &mut Tx, name: &str) -> Done<bool> {
    let Some(key) = key_of(tx, name).await? else { return Ok(false) };
    sqlx::query("UPDATE account SET disabled = 1 WHERE key = ?").bind(key).execute(&mut **tx).await?;
    sqlx::query("DELETE FROM session WHERE account = ?").bind(key).execute(&mut **tx).await?;
    sqlx::query("DELETE FROM token WHERE account = ?").bind(key).execute(&mut **tx).await?;
    Ok(true)
}

pub(super) async fn set_password(tx: &mut Tx, name: &str, hash: &str) -> Done<bool> {
    let Some(key) = key_of(tx, name).await? else { return Ok(false) };
    sqlx::query("UPDATE account SET password = ? WHERE key = ?")
        .bind(hash)
        .bind(key)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM session WHERE account = ?").bind(key).execute(&mut **tx).await?;
    Ok(true)
}

pub(super) async fn open_session(tx: &mut Tx, session: &Session) -> Done<()> {
    let query = "INSERT INTO session (key_hash, account, began_us, used_us)
                 SELECT ?, key, ?, ? FROM account WHERE id = ? AND disabled = 0";
    let done = sqlx::query(query)
        .bind(&session.key_hash)
        .bind(session.began_us)
        .bind(session.began_us)
        .bind(session.account.0.as_slice())
        .execute(&mut **tx)
        .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Failure::Conflict("the account is disabled".into())) }
}

pub(super) async fn session(
    catalogue: &SqliteCatalogue,
    key_hash: &[u8],
    now_us: i64,
    idle_before_us: i64,
    began_after_us: i64,
) -> Done<Option<Actor>> {
    let query = "SELECT account.*, session.used_us, session.began_us FROM session
                 JOIN account ON account.key = session.account WHERE key_hash = ?";
    let mut connection = catalogue.readers.acquire().await?;
    let Some(row) = sqlx::query(query).bind(key_hash).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let (used_us, began_us): (i64, i64) = (row.get("used_us"), row.get("began_us"));
    if used_us < idle_before_us || began_us < began_after_us || row.get("disabled") {
        return Ok(None);
    }
    let grants = grants(&mut connection, row.get("key")).await?;
    if now_us - used_us > NOTE_USE_EVERY_US {
        let query =
            sqlx::query("UPDATE session SET used_us = ? WHERE key_hash = ?").bind(now_us).bind(key_hash);
        query.execute(&catalogue.writer).await?;
    }
    let account = account(&row);
    Ok(Some(Actor { account: account.id, name: account.name, grants, limit: None }))
}

pub(super) async fn add_token(
    tx: &mut Tx,
    account: &str,
    name: &str,
    hash: &[u8],
    scope: &[String],
) -> Done<()> {
    let key: Option<i64> = sqlx::query_scalar("SELECT key FROM account WHERE name = ? AND disabled = 0")
        .bind(account)
        .fetch_optional(&mut **tx)
        .await?;
    let key =
        key.ok_or_else(|| Failure::Conflict(format!("there is no account {account:?} that is in use")))?;
    let query = sqlx::query("INSERT INTO token (key_hash, account, name, scope) VALUES (?, ?, ?, ?)");
    match query.bind(hash).bind(key).bind(name).bind(scope.join(" ")).execute(&mut **tx).await {
        Ok(_) => Ok(()),
        Err(error) if is_taken(&error) => {
            Err(Failure::Conflict(format!("the account {account:?} has a token {name:?} already")))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn token(pool: &SqlitePool, key_hash: &[u8]) -> Done<Option<Actor>> {
    let query = "SELECT account.*, token.scope FROM token
                 JOIN account ON account.key = token.account WHERE key_hash = ? AND disabled = 0";
    let mut connection = pool.acquire().await?;
    let Some(row) = sqlx::query(query).bind(key_hash).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let grants = grants(&mut connection, row.get("key")).await?;
    let scope: String = row.get("scope");
    let limit: Vec<Permission> = scope.split_whitespace().filter_map(Permission::from_name).collect();
    let account = account(&row);
    let limit = (!scope.is_empty()).then_some(limit);
    Ok(Some(Actor { account: account.id, name: account.name, grants, limit }))
}

pub(super) async fn set_up(tx: &mut Tx, hash: &[u8], now_us: i64, account: &Account) -> Done<bool> {
    let query = "DELETE FROM setup WHERE key_hash = ? AND until_us > ?
                 AND NOT EXISTS (SELECT 1 FROM account)";
    let done = sqlx::query(query).bind(hash).bind(now_us).execute(&mut **tx).await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    add(tx, account, &Grant::of(FIRST_ROLE, Vec::new())).await?;
    Ok(true)
}
