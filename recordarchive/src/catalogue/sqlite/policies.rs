//! Policies in SQLite.
//!
//! Invariants: whether it takes a second person is decided in the transaction that sets; a call is put in the
//! trash in the transaction that looked at its policies, its tags and its holds.

use super::people::id;
use super::search::{NO_TRASH, Sql};
use super::{SqliteCatalogue, Tx, holds, log};
use crate::access::audit::Entry;
use crate::catalogue::deletions::TRASH_US;
use crate::catalogue::holds::Step;
use crate::catalogue::model::{Doomed, Place};
use crate::catalogue::retention::{BY_POLICY, Candidate, InForce, Proposal, Retention};
use crate::catalogue::{Done, Failure};
use crate::id::Id;
use crate::retention::compare::shortens;
use crate::retention::decide::{InTrash, Standing};
use crate::retention::{Class, Policy, Subject, fate};
use crate::time::{DAY_US, rfc3339};
use async_trait::async_trait;
use recfile::call::Direction;
use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Policies spare a call for this time after a person took it out of the trash.
const SPARED_US: i64 = 7 * DAY_US;
/// The actor in the audit log when a disk is short of room.
const ROOM: &str = "(room)";
/// The separator between tags in a column.
const BETWEEN_TAGS: char = '\u{1f}';

/// Columns of a call `c` with its sides `r` and `l`, for [`candidate`].
const COLUMNS: &str = "c.key, c.id, c.started_us, c.duration_ms, c.extension,
    (SELECT name FROM text WHERE key = c.direction) AS direction,
    (SELECT name FROM site WHERE key = c.site) AS site,
    (SELECT digits FROM party WHERE call = c.key AND role = 0) AS remote,
    (SELECT digits FROM party WHERE call = c.key AND role = 1) AS local,
    (SELECT group_concat(tag.name, char(31)) FROM tagged JOIN tag ON tag.key = tagged.tag WHERE tagged.call = c.key) AS tags,
    EXISTS (SELECT 1 FROM held WHERE held.call = c.key AND held.active = 1) AS is_held";

/// Whether a person took the call `c` out of the trash since a time, about the value that is bound.
const IS_SPARED: &str = "EXISTS (SELECT 1 FROM deletion_call x JOIN deletion d ON d.key = x.deletion
    WHERE x.call = c.id AND d.state = 'restored' AND d.decided_us > ";

fn broken(error: &serde_json::Error) -> Failure {
    Failure::Database(format!("its policies can't be read: {error}"))
}

fn text(policies: &[Policy]) -> Done<String> {
    serde_json::to_string(policies).map_err(|error| broken(&error))
}

fn candidate(row: &SqliteRow) -> Candidate {
    let tags: Option<String> = row.get("tags");
    let direction = Direction::from_name(row.get("direction"));
    Candidate {
        key: row.get("key"),
        subject: Subject {
            started_us: row.get("started_us"),
            site: row.get("site"),
            extension: row.get("extension"),
            direction,
            tags: tags.map(|tags| tags.split(BETWEEN_TAGS).map(str::to_owned).collect()).unwrap_or_default(),
            class: Class::of(
                direction,
                row.get::<Option<&str>, _>("remote").unwrap_or_default(),
                row.get::<Option<&str>, _>("local").unwrap_or_default(),
            ),
        },
        duration_ms: row.get("duration_ms"),
        is_held: row.get("is_held"),
    }
}

/// The policies in force. One that can't be read is an error, never none.
pub(super) async fn in_force(connection: &mut SqliteConnection) -> Done<InForce> {
    let query = sqlx::query("SELECT * FROM policies ORDER BY version DESC LIMIT 1");
    let Some(row) = query.fetch_optional(connection).await? else { return Ok(InForce::default()) };
    Ok(InForce {
        version: row.get("version"),
        policies: serde_json::from_str(row.get("text")).map_err(|error| broken(&error))?,
        set: Step { by: row.get("set_by"), at_us: row.get("set_us"), reason: row.get("reason") },
        approved_by: row.get("approved_by"),
    })
}

async fn proposal(connection: &mut SqliteConnection) -> Done<Option<Proposal>> {
    let query = sqlx::query("SELECT * FROM policy_proposal");
    let Some(row) = query.fetch_optional(connection).await? else { return Ok(None) };
    Ok(Some(Proposal {
        id: id(row.get("id")),
        base: row.get("base"),
        policies: serde_json::from_str(row.get("text")).map_err(|error| broken(&error))?,
        preview: row.get("preview"),
        asked: Step { by: row.get("asked_by"), at_us: row.get("asked_us"), reason: row.get("reason") },
    }))
}

async fn apply(tx: &mut Tx, proposal: &Proposal, approved_by: Option<&str>) -> Done<()> {
    let query =
        "INSERT INTO policies (version, text, set_by, set_us, reason, approved_by) VALUES (?, ?, ?, ?, ?, ?)";
    let query = sqlx::query(query).bind(proposal.base + 1).bind(text(&proposal.policies)?);
    let query = query.bind(&proposal.asked.by).bind(proposal.asked.at_us).bind(&proposal.asked.reason);
    query.bind(approved_by).execute(&mut **tx).await?;
    sqlx::query("DELETE FROM policy_proposal").execute(&mut **tx).await?;
    Ok(())
}

fn refuse_other_version(base: i64, version: i64) -> Done<()> {
    if base == version {
        return Ok(());
    }
    let told = format!("the policies were changed meanwhile: they have version {version}, not {base}");
    Err(Failure::Conflict(told))
}

async fn set(tx: &mut Tx, new: &Proposal, entry: &Entry) -> Done<()> {
    let present = in_force(tx).await?;
    refuse_other_version(new.base, present.version)?;
    let detail = json!({"base": new.base, "reason": new.asked.reason, "policies": new.policies});
    if shortens(&present.policies, &new.policies) {
        if let Some(waits) = proposal(tx).await?.filter(|waits| waits.base == present.version) {
            let told = format!(
                "policies of {} wait for a second person: approve or reject them first",
                waits.asked.by
            );
            return Err(Failure::Conflict(told));
        }
        let query = "INSERT OR REPLACE INTO policy_proposal (one, id, base, text, preview, asked_by, asked_us, reason)
                     VALUES (1, ?, ?, ?, ?, ?, ?, ?)";
        let query = sqlx::query(query).bind(new.id.0.to_vec()).bind(new.base).bind(text(&new.policies)?);
        let query =
            query.bind(&new.preview).bind(&new.asked.by).bind(new.asked.at_us).bind(&new.asked.reason);
        query.execute(&mut **tx).await?;
        let asks = Entry { action: "policy.ask".into(), ..entry.clone() };
        log::append(tx, &[asks.with(&detail)]).await?;
    } else {
        apply(tx, new, None).await?;
        let sets = Entry { action: "policy.set".into(), ..entry.clone() };
        log::append(tx, &[sets.with(&detail)]).await?;
    }
    Ok(())
}

async fn decide(tx: &mut Tx, wanted: Id, approves: bool, entry: &Entry) -> Done<bool> {
    let Some(waits) = proposal(tx).await?.filter(|waits| waits.id == wanted) else { return Ok(false) };
    if !approves {
        sqlx::query("DELETE FROM policy_proposal").execute(&mut **tx).await?;
    } else if waits.asked.by == entry.actor {
        let told = "you asked for these policies: another person with policy.edit has to approve";
        return Err(Failure::Conflict(told.into()));
    } else {
        refuse_other_version(waits.base, in_force(tx).await?.version)?;
        apply(tx, &waits, Some(&entry.actor)).await?;
    }
    log::append(tx, std::slice::from_ref(entry)).await?;
    Ok(true)
}

/// The present state of a call, with its id; `None` if it is not there.
async fn standing(tx: &mut Tx, policies: &[Policy], call: i64, now_us: i64) -> Done<Option<(Standing, Id)>> {
    let mut sql = Sql::new(format!("SELECT {COLUMNS}, {IS_SPARED}"));
    sql.bind(now_us.saturating_sub(SPARED_US));
    sql.push(") AS is_spared FROM call c WHERE c.key = ");
    sql.bind(call);
    let Some(row) = sql.query().fetch_optional(&mut **tx).await? else { return Ok(None) };
    let Candidate { subject, is_held, .. } = candidate(&row);
    let standing = Standing { fate: fate(policies, &subject), is_held, is_spared: row.get("is_spared") };
    Ok(Some((standing, id(row.get("id")))))
}

/// Refuses a call that a policy keeps.
pub(super) async fn refuse_kept(tx: &mut Tx, call: i64, call_id: Id, now_us: i64) -> Done<()> {
    let policies = in_force(tx).await?.policies;
    let Some((standing, _)) = standing(tx, &policies, call, now_us).await? else { return Ok(()) };
    match standing.fate.keeps(now_us) {
        None => Ok(()),
        Some(kept) => {
            let told =
                format!("the policy {:?} keeps call {call_id} until {}", kept.policy, rfc3339(kept.at_us));
            Err(Failure::Conflict(told))
        }
    }
}

/// Refuses other tags of a call by which a policy would keep it for less time than it does now.
pub(super) async fn refuse_tags(tx: &mut Tx, call: i64, tags: &[String], now_us: i64) -> Done<()> {
    let policies = in_force(tx).await?.policies;
    if policies.iter().all(|policy| policy.tag.is_none()) {
        return Ok(());
    }
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM call c WHERE c.key = "));
    sql.bind(call);
    let subject = candidate(&sql.query().fetch_one(&mut **tx).await?).subject;
    let was = fate(&policies, &subject);
    let will = fate(&policies, &Subject { tags: tags.to_vec(), ..subject });
    match was.keeps(now_us) {
        Some(kept) if will.kept.as_ref().is_none_or(|will| will.at_us < kept.at_us) => {
            let told = format!(
                "by its tag the policy {:?} keeps the call until {}",
                kept.policy,
                rfc3339(kept.at_us)
            );
            Err(Failure::Conflict(told))
        }
        _ => Ok(()),
    }
}

/// Whether the files of a call in the trash may be removed now.
pub(super) async fn may_go(tx: &mut Tx, call: i64, trash: InTrash, now_us: i64) -> Done<bool> {
    let policies = in_force(tx).await?.policies;
    let standing = standing(tx, &policies, call, now_us).await?;
    Ok(standing.is_some_and(|(standing, _)| standing.may_go(trash, now_us)))
}

async fn condemn(tx: &mut Tx, calls: &[i64], now_us: i64) -> Done<usize> {
    let present = in_force(tx).await?;
    let mut due: BTreeMap<String, Vec<(i64, Id)>> = BTreeMap::new();
    for call in calls {
        let is_trash = sqlx::query_scalar::<_, i64>("SELECT 1 FROM trash WHERE call = ?").bind(call);
        if is_trash.fetch_optional(&mut **tx).await?.is_some() {
            continue;
        }
        let Some((standing, call_id)) = standing(tx, &present.policies, *call, now_us).await? else {
            continue;
        };
        if let Some(term) = standing.condemned_by(now_us) {
            due.entry(term.policy.clone()).or_default().push((*call, call_id));
        }
    }
    let decided_by = present.approved_by.as_ref().unwrap_or(&present.set.by);
    let mut entries = Vec::new();
    for (policy, calls) in &due {
        let deletion = Id::random(now_us);
        let query = "INSERT INTO deletion (id, state, asked_by, asked_us, reason, decided_by, decided_us, decided_reason)
                     VALUES (?, 'approved', ?, ?, ?, ?, ?, '') RETURNING key";
        let query =
            sqlx::query_scalar::<_, i64>(query).bind(deletion.0.to_vec()).bind(BY_POLICY).bind(now_us);
        let query = query.bind(format!("policy {policy:?}")).bind(decided_by).bind(present.set.at_us);
        let key = query.fetch_one(&mut **tx).await?;
        for (call, call_id) in calls {
            let query =
                sqlx::query("INSERT INTO deletion_call (deletion, call, key) VALUES (?, ?, ?)").bind(key);
            query.bind(call_id.0.to_vec()).bind(call).execute(&mut **tx).await?;
            let query = sqlx::query("INSERT INTO trash (call, deletion, due_us) VALUES (?, ?, ?)").bind(call);
            query.bind(key).bind(now_us.saturating_add(TRASH_US)).execute(&mut **tx).await?;
            let detail =
                json!({"deletion": deletion.to_string(), "policy": policy, "version": present.version});
            entries.push(Entry::new(now_us, BY_POLICY, "trash", call_id).with(&detail));
        }
    }
    log::append(tx, &entries).await?;
    Ok(entries.len())
}

async fn put_back(tx: &mut Tx, doomed: &Doomed, why: &str, now_us: i64) -> Done<bool> {
    let query = "DELETE FROM trash WHERE call = ? AND begun = 0
                   AND (SELECT asked_by FROM deletion WHERE key = trash.deletion) = ?";
    let done = sqlx::query(query).bind(doomed.call).bind(BY_POLICY).execute(&mut **tx).await?;
    if done.rows_affected() > 0 {
        let entry = Entry::new(now_us, BY_POLICY, "restore", doomed.id).with(&json!({"why": why}));
        log::append(tx, &[entry]).await?;
    }
    Ok(done.rows_affected() > 0)
}

async fn hasten(tx: &mut Tx, now_us: i64, later_us: i64, folders: &[PathBuf], limit: u32) -> Done<usize> {
    let folders: Vec<_> = folders.iter().map(|folder| folder.to_string_lossy()).collect();
    let query = "SELECT t.call, c.id FROM trash t JOIN call c ON c.key = t.call
                 WHERE t.begun = 0 AND t.due_us > ?
                   AND NOT EXISTS (SELECT 1 FROM held h WHERE h.call = t.call AND h.active = 1)
                   AND EXISTS (SELECT 1 FROM recording r JOIN segment s ON s.recording = r.key
                               JOIN folder f ON f.key = s.folder
                               WHERE r.call = t.call AND f.root IN (SELECT value FROM json_each(?)))
                 ORDER BY t.due_us LIMIT ?";
    let query = sqlx::query(query).bind(later_us).bind(json!(folders).to_string()).bind(limit);
    let rows = query.fetch_all(&mut **tx).await?;
    let mut entries = Vec::new();
    for row in &rows {
        let query = sqlx::query("UPDATE trash SET due_us = ? WHERE call = ?").bind(now_us);
        query.bind(row.get::<i64, _>("call")).execute(&mut **tx).await?;
        entries.push(Entry::new(now_us, ROOM, "delete.hasten", id(row.get("id"))));
    }
    log::append(tx, &entries).await?;
    Ok(rows.len())
}

async fn spare(tx: &mut Tx, behind: i64, now_us: i64, limit: u32) -> Done<(usize, Option<i64>)> {
    let policies = in_force(tx).await?.policies;
    let query = "SELECT t.call, d.id FROM trash t JOIN deletion d ON d.key = t.deletion
                 WHERE t.call > ? AND t.begun = 0 AND d.asked_by = ? ORDER BY t.call LIMIT ?";
    let query = sqlx::query(query).bind(behind).bind(BY_POLICY).bind(limit);
    let rows = query.fetch_all(&mut **tx).await?;
    let mut entries = Vec::new();
    for row in &rows {
        let call: i64 = row.get("call");
        let Some((standing, call_id)) = standing(tx, &policies, call, now_us).await? else { continue };
        let Some(why) = standing.comes_back(now_us) else { continue };
        sqlx::query("DELETE FROM trash WHERE call = ?").bind(call).execute(&mut **tx).await?;
        let detail = json!({"deletion": id(row.get("id")).to_string(), "why": why});
        entries.push(Entry::new(now_us, BY_POLICY, "restore", call_id).with(&detail));
    }
    log::append(tx, &entries).await?;
    Ok((entries.len(), rows.last().map(|row| row.get("call"))))
}

#[async_trait]
impl Retention for SqliteCatalogue {
    async fn policies(&self) -> Done<(InForce, Option<Proposal>)> {
        let mut tx = self.readers().begin().await?;
        let present = in_force(&mut tx).await?;
        let waits = proposal(&mut tx).await?.filter(|waits| waits.base == present.version);
        Ok((present, waits))
    }

    async fn set_policies(&self, proposal: &Proposal, entry: &Entry) -> Done<()> {
        let mut tx = self.begin().await?;
        set(&mut tx, proposal, entry).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn decide_policies(&self, id: Id, approves: bool, entry: &Entry) -> Done<bool> {
        let mut tx = self.begin().await?;
        let done = decide(&mut tx, id, approves, entry).await?;
        tx.commit().await?;
        Ok(done)
    }

    async fn right_time(&self) -> Done<Option<i64>> {
        Ok(sqlx::query_scalar("SELECT right_us FROM calendar").fetch_optional(self.readers()).await?)
    }

    async fn note_right_time(&self, now_us: i64) -> Done<()> {
        let mut tx = self.begin().await?;
        let query = "INSERT OR REPLACE INTO calendar (one, right_us) VALUES (1, ?)";
        sqlx::query(query).bind(now_us).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn candidates(&self, behind: i64, before: i64, limit: u32) -> Done<Vec<Candidate>> {
        let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM call c WHERE c.key > "));
        sql.bind(behind);
        sql.push(" AND c.key < ");
        sql.bind(before);
        sql.push(NO_TRASH);
        sql.push(" ORDER BY c.key LIMIT ");
        sql.bind(i64::from(limit));
        Ok(sql.query().fetch_all(self.readers()).await?.iter().map(candidate).collect())
    }

    async fn condemn(&self, calls: &[i64], now_us: i64) -> Done<usize> {
        let mut tx = self.begin().await?;
        let count = condemn(&mut tx, calls, now_us).await?;
        tx.commit().await?;
        Ok(count)
    }

    async fn files_of(&self, calls: &[i64]) -> Done<Vec<Vec<Place>>> {
        let mut connection = self.readers().acquire().await?;
        let mut files = Vec::with_capacity(calls.len());
        for call in calls {
            files.push(holds::files_of(&mut connection, *call).await?);
        }
        Ok(files)
    }

    async fn put_back(&self, doomed: &Doomed, why: &str, now_us: i64) -> Done<bool> {
        let mut tx = self.begin().await?;
        let is_back = put_back(&mut tx, doomed, why, now_us).await?;
        tx.commit().await?;
        Ok(is_back)
    }

    async fn hasten(&self, now_us: i64, later_us: i64, folders: &[PathBuf], limit: u32) -> Done<usize> {
        let mut tx = self.begin().await?;
        let count = hasten(&mut tx, now_us, later_us, folders, limit).await?;
        tx.commit().await?;
        Ok(count)
    }

    async fn spare(&self, behind: i64, now_us: i64, limit: u32) -> Done<(usize, Option<i64>)> {
        let mut tx = self.begin().await?;
        let spared = spare(&mut tx, behind, now_us, limit).await?;
        tx.commit().await?;
        Ok(spared)
    }
}
