//! People of a provider in SQLite.

use super::people::{self, id};
use super::{SqliteCatalogue, Tx, log};
use crate::access::audit::Entry;
use crate::access::{Grant, Use};
use crate::catalogue::identity::{Entered, Entrance, Identities, Identity, MAX_FORMER, Person};
use crate::catalogue::model::Session;
use crate::catalogue::{Done, Failure};
use crate::id::Id;
use async_trait::async_trait;
use serde_json::json;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// Names that are tried for a new account.
const MAX_NAMES: u32 = 1000;

#[async_trait]
impl Identities for SqliteCatalogue {
    async fn enter(&self, person: &Person, entrance: &Entrance, entry: &Entry) -> Done<Entered> {
        let mut tx = self.begin().await?;
        let entered = enter(&mut tx, person, entrance, entry).await?;
        if matches!(entered, Entered::In(_)) {
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        Ok(entered)
    }

    async fn identities(&self) -> Done<Vec<Identity>> {
        let query = "SELECT a.id, i.issuer, i.display FROM identity i JOIN account a ON a.key = i.account";
        let rows = sqlx::query(query).fetch_all(self.readers()).await?;
        Ok(rows.iter().map(identity).collect())
    }

    async fn identity(&self, account: Id) -> Done<Option<Identity>> {
        let query = "SELECT a.id, i.issuer, i.display FROM identity i JOIN account a ON a.key = i.account
                     WHERE a.id = ?";
        let row = sqlx::query(query).bind(account.0.as_slice()).fetch_optional(self.readers()).await?;
        Ok(row.as_ref().map(identity))
    }
}

fn identity(row: &SqliteRow) -> Identity {
    Identity { account: id(row.get("id")), issuer: row.get("issuer"), display: row.get("display") }
}

async fn enter(tx: &mut Tx, person: &Person, entrance: &Entrance, entry: &Entry) -> Done<Entered> {
    let now_us = entrance.now_us;
    sqlx::query("DELETE FROM used_login WHERE until_us < ?").bind(now_us).execute(&mut **tx).await?;
    let used = sqlx::query("INSERT OR IGNORE INTO used_login (state_hash, until_us) VALUES (?, ?)");
    let used = used.bind(&entrance.state_hash).bind(entrance.until_us).execute(&mut **tx).await?;
    if used.rows_affected() == 0 {
        return Ok(Entered::Again);
    }
    let query = "SELECT a.key, a.id, a.name, a.disabled FROM identity i JOIN account a ON a.key = i.account
                 WHERE i.issuer = ? AND i.subject = ?";
    let known = sqlx::query(query).bind(&person.issuer).bind(&person.subject);
    let (key, account, name, is_new) = match known.fetch_optional(&mut **tx).await? {
        Some(row) if row.get("disabled") => return Ok(Entered::Disabled(row.get("name"))),
        Some(row) => (row.get::<i64, _>("key"), id(row.get("id")), row.get::<String, _>("name"), false),
        None => {
            let (key, account, name) = add(tx, person, now_us).await?;
            (key, account, name, true)
        }
    };
    sqlx::query("UPDATE identity SET display = ? WHERE account = ?")
        .bind(&person.display)
        .bind(key)
        .execute(&mut **tx)
        .await?;
    let had = people::grants(tx, key).await?;
    let grants = grants(tx, person, key, &had, now_us).await?;
    if grants != had {
        sqlx::query("DELETE FROM role WHERE account = ?").bind(key).execute(&mut **tx).await?;
        for grant in &grants {
            people::add_grant(tx, key, grant).await?;
        }
    }
    for extension in &person.own {
        people::note_extension(tx, key, extension).await?;
    }
    let by = |action: &str| Entry::new(now_us, &name, action, &name).with(&told(person, &grants));
    let mut entries = Vec::new();
    if is_new {
        entries.push(by("account.add"));
    } else if grants != had {
        entries.push(by("account.role"));
    }
    entries.push(Entry { actor: name.clone(), object: name.clone(), ..entry.clone() });
    let session = Session { key_hash: entrance.key_hash.clone(), account, began_us: now_us };
    people::open_session(tx, &session).await?;
    log::append(tx, &entries).await?;
    Ok(Entered::In(name))
}

/// The detail of an audit entry about an account that a log-in made or changed.
fn told(person: &Person, grants: &[Grant]) -> serde_json::Value {
    let role = |grant: &Grant| {
        let extensions: Vec<&str> = grant.uses.iter().map(|used| used.extension.as_str()).collect();
        json!({"role": grant.role.name(), "extensions": extensions})
    };
    json!({
        "issuer": person.issuer, "subject": person.subject, "display": person.display,
        "roles": grants.iter().map(role).collect::<Vec<_>>(),
    })
}

/// Makes an account under the first free name.
async fn add(tx: &mut Tx, person: &Person, now_us: i64) -> Done<(i64, Id, String)> {
    let account = Id::random(now_us);
    for number in 1..=MAX_NAMES {
        let name = if number == 1 { person.name.clone() } else { format!("{}-{number}", person.name) };
        let query = "INSERT OR IGNORE INTO account (id, name) VALUES (?, ?)";
        let done = sqlx::query(query).bind(account.0.as_slice()).bind(&name).execute(&mut **tx).await?;
        if done.rows_affected() == 0 {
            continue;
        }
        let key = done.last_insert_rowid();
        sqlx::query("INSERT INTO identity (account, issuer, subject, display) VALUES (?, ?, ?, ?)")
            .bind(key)
            .bind(&person.issuer)
            .bind(&person.subject)
            .bind(&person.display)
            .execute(&mut **tx)
            .await?;
        return Ok((key, account, name));
    }
    Err(Failure::Conflict(format!("there are {MAX_NAMES} accounts {:?} already", person.name)))
}

/// The grants of a person from now on. An extension of their own counts from the log-in that brought it, and
/// up to the one that has it no more.
async fn grants(tx: &mut Tx, person: &Person, key: i64, had: &[Grant], now_us: i64) -> Done<Vec<Grant>> {
    // Extensions of a group are not among them: they end with the group.
    let own = sqlx::query_scalar::<_, String>("SELECT extension FROM extension WHERE account = ?");
    let noted: Vec<String> = own.bind(key).fetch_all(&mut **tx).await?;
    let mut grants = Vec::with_capacity(person.roles.len());
    for of in &person.roles {
        let whenever =
            |extension: &String| Use { extension: extension.clone(), from_us: i64::MIN, to_us: None };
        let mut uses: Vec<Use> = of.extensions.iter().map(whenever).collect();
        if of.role.is_by_extension() {
            let before = had.iter().filter(|grant| grant.role == of.role).flat_map(|grant| &grant.uses);
            let before: Vec<Use> =
                before.filter(|used| !of.extensions.contains(&used.extension)).cloned().collect();
            let is_own = |used: &Use| used.to_us.is_none() && person.own.contains(&used.extension);
            let mut former: Vec<Use> = Vec::new();
            for used in before.iter().filter(|used| !is_own(used) && noted.contains(&used.extension)) {
                let same = |it: &Use| (&it.extension, it.from_us) == (&used.extension, used.from_us);
                if former.iter().any(same) {
                    continue;
                }
                let to_us = match used.to_us {
                    Some(to_us) => to_us,
                    None => taken_over(tx, key, used).await?.unwrap_or(now_us).min(now_us),
                };
                former.push(Use { to_us: Some(to_us), ..used.clone() });
            }
            let too_many = former.len().saturating_sub(MAX_FORMER);
            uses.extend(former.drain(too_many..));
            for extension in &person.own {
                if of.extensions.contains(extension) {
                    continue;
                }
                let from_us = match before.iter().find(|used| is_own(used) && used.extension == *extension) {
                    Some(used) => used.from_us,
                    None => people::extension_from(tx, extension, now_us).await?,
                };
                uses.push(Use { extension: extension.clone(), from_us, to_us: None });
            }
        }
        grants.push(Grant::of(of.role, uses));
    }
    Ok(grants)
}

/// When somebody else got an extension after its use by an account began; `None` if nobody has.
async fn taken_over(tx: &mut Tx, key: i64, used: &Use) -> Done<Option<i64>> {
    let query = "SELECT min(json_extract(u.value, '$.from_us')) FROM role r, json_each(r.uses) u
        WHERE r.account <> ?1 AND json_extract(u.value, '$.extension') = ?2
            AND json_extract(u.value, '$.from_us') > ?3";
    let query = sqlx::query_scalar(query).bind(key).bind(&used.extension).bind(used.from_us);
    Ok(query.fetch_one(&mut **tx).await?)
}
