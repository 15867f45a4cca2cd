//! Taking files in, many at once.
//!
//! Owns: which of them are new. A file of which nothing is known yet, neither its place, nor its recording,
//! nor its call, is no more than rows, which [`rows`] inserts; all others go one by one ([`files::take`]),
//! behind those of their batch that are new. Invariant: the result is the same as that of taking them one by
//! one, in their order.

use super::Tx;
use super::events;
use super::files;
use super::rows::{self, Kept, New, ROWS, Texts};
use crate::catalogue::Done;
use crate::catalogue::event::CallKeys;
use crate::catalogue::model::{Found, Taken};
use sqlx::{QueryBuilder, Row, Sqlite};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

/// Any of these, and a file is not new. A call with its call id may become its call, whenever it is: an
/// earlier file of the batch may change when that call began.
const IS_KNOWN: &str = "
    EXISTS (SELECT 1 FROM segment s WHERE s.folder = n.folder AND s.name = n.name)
    OR EXISTS (SELECT 1 FROM recording r WHERE r.device = n.device AND r.recording = n.recording)
    OR EXISTS (SELECT 1 FROM recording r WHERE r.call BETWEEN n.call / 1000 * 1000 AND n.call / 1000 * 1000 + 1999
               AND r.id = n.recording_id)
    OR EXISTS (SELECT 1 FROM recording_elsewhere e WHERE e.id = n.recording_id)
    OR EXISTS (SELECT 1 FROM call c WHERE c.key = n.call)
    OR EXISTS (SELECT 1 FROM call c WHERE c.key BETWEEN n.call / 1000 * 1000 AND n.call / 1000 * 1000 + 1999
               AND c.id = n.call_id)
    OR EXISTS (SELECT 1 FROM call_elsewhere e WHERE e.id = n.call_id)
    OR EXISTS (SELECT 1 FROM call c WHERE c.external_id = n.external_id AND c.external_id != '')
    OR EXISTS (SELECT 1 FROM gone g WHERE g.device = n.phone AND g.recording = n.called)
    OR EXISTS (SELECT 1 FROM aside a WHERE a.folder = n.folder AND a.name = n.name)
    OR EXISTS (SELECT 1 FROM plain_copy p WHERE p.folder = n.folder AND p.name = n.name)";

pub(super) async fn take(tx: &mut Tx, files: &[Found]) -> Done<Vec<Taken>> {
    let mut taken = Vec::with_capacity(files.len());
    for files in files.chunks(ROWS) {
        taken.extend(take_some(tx, files).await?);
    }
    Ok(taken)
}

async fn take_some(tx: &mut Tx, files: &[Found]) -> Done<Vec<Taken>> {
    let mut candidates = candidates(files);
    keys(tx, files, &mut candidates).await?;
    let known = known(tx, &candidates).await?;
    let mut place = 0_i64;
    candidates.retain(|_| {
        place += 1;
        !known.contains(&(place - 1))
    });
    if !candidates.is_empty() {
        add(tx, &mut candidates).await?;
    }
    let added: HashMap<usize, Taken> =
        candidates.iter().map(|(at, new)| (*at, Taken::Added { recording: new.recording_id })).collect();
    let mut taken = Vec::with_capacity(files.len());
    for (at, file) in files.iter().enumerate() {
        taken.push(match added.get(&at) {
            Some(added) => added.clone(),
            None => files::take(tx, file).await?,
        });
    }
    Ok(taken)
}

/// Files that no earlier one of these has to do with, with their places. One that brings holds is none.
fn candidates(files: &[Found]) -> Vec<(usize, New<'_>)> {
    let (mut places, mut recordings) = (HashSet::new(), HashSet::new());
    let (mut external_ids, mut calls) = (HashSet::new(), HashSet::new());
    let mut found = Vec::with_capacity(files.len());
    for (at, file) in files.iter().enumerate() {
        let (call_id, call) = rows::identity(file);
        // Each is noted, independent of the others.
        let is_first = [
            places.insert((&file.place.root, &file.place.folder, &file.place.name)),
            recordings.insert((&file.device, &file.recording)),
            file.external_id.is_empty() || external_ids.insert(&file.external_id),
            calls.insert(call),
            file.holds.is_empty(),
        ];
        if is_first.iter().all(|first| *first) {
            found.push((at, New::of(file, call, call_id)));
        }
    }
    found
}

/// Keys of phones and folders, of the rest of the batch as well.
async fn keys(tx: &mut Tx, files: &[Found], candidates: &mut [(usize, New<'_>)]) -> Done<()> {
    let (mut devices, mut folders) = (HashMap::new(), HashMap::new());
    for file in files {
        if let Entry::Vacant(device) = devices.entry(&file.device) {
            device.insert(files::intern(tx, "device", &file.device).await?);
        }
        let (root, path) = (&file.place.root, &file.place.folder);
        if let Entry::Vacant(folder) = folders.entry((root, path)) {
            folder.insert(files::folder_key(tx, root, path).await?);
        }
    }
    for (_, new) in candidates {
        let file = new.found;
        new.device = devices.get(&file.device).copied().unwrap_or_default();
        new.folder = folders.get(&(&file.place.root, &file.place.folder)).copied().unwrap_or_default();
    }
    Ok(())
}

/// The statement that finds which are known.
fn known_sql(candidates: &[(usize, New<'_>)]) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(
        "WITH new (place, folder, name, device, phone, called, recording, external_id, call, call_id, recording_id) AS (",
    );
    let mut place = 0_i64;
    sql.push_values(candidates, |mut sql, (_, new)| {
        let file = new.found;
        sql.push_bind(place).push_bind(new.folder).push_bind(file.place.name.clone());
        sql.push_bind(new.device).push_bind(file.device.clone()).push_bind(file.recording.clone());
        sql.push_bind(Kept::of(&file.recording));
        sql.push_bind(file.external_id.clone()).push_bind(new.call);
        sql.push_bind(new.call_id.0.to_vec()).push_bind(new.recording_id.0.to_vec());
        place += 1;
    });
    sql.push(") SELECT n.place FROM new n WHERE ").push(IS_KNOWN);
    sql
}

/// Places of the candidates that are not new.
async fn known(tx: &mut Tx, candidates: &[(usize, New<'_>)]) -> Done<HashSet<i64>> {
    if candidates.is_empty() {
        return Ok(HashSet::new());
    }
    let mut sql = known_sql(candidates);
    let known = sql.build().persistent(candidates.len() == ROWS).fetch_all(&mut **tx).await?;
    Ok(known.iter().map(|row| row.get(0)).collect())
}

async fn add(tx: &mut Tx, candidates: &mut [(usize, New<'_>)]) -> Done<()> {
    let query =
        "SELECT (SELECT coalesce(max(key), 0) FROM recording), (SELECT coalesce(max(seq), 0) FROM sealed),
                        EXISTS (SELECT 1 FROM event_key)";
    let (mut recording, mut sealed, has_events): (i64, i64, bool) =
        sqlx::query_as(query).fetch_one(&mut **tx).await?;
    let (mut sites, mut texts) = (HashMap::new(), HashMap::new());
    for (_, new) in &mut *candidates {
        let site = &new.found.site;
        if let Entry::Vacant(key) = sites.entry(site) {
            key.insert(files::intern(tx, "site", site).await?);
        }
        let mut keys = [0; 4];
        for (key, name) in keys.iter_mut().zip(Texts::names(new.found)) {
            if let Entry::Vacant(text) = texts.entry(name) {
                text.insert(files::intern(tx, "text", name).await?);
            }
            *key = texts.get(name).copied().unwrap_or_default();
        }
        new.texts = Texts::of(keys);
        (recording, sealed) = (recording + 1, sealed + 1);
        new.site = sites.get(site).copied().unwrap_or_default();
        (new.recording, new.sealed) = (recording, sealed);
    }
    let all: Vec<&New<'_>> = candidates.iter().map(|(_, new)| new).collect();
    rows::insert(tx, &all).await?;
    if has_events {
        let calls: Vec<(i64, CallKeys)> =
            candidates.iter().map(|(_, new)| (new.call, call_keys(new.found))).collect();
        events::link_calls(tx, &calls).await?;
    }
    Ok(())
}

fn call_keys(file: &Found) -> CallKeys {
    CallKeys {
        extension: file.local.extension().to_owned(),
        numbers: [file.remote.digits.clone(), file.local.digits.clone()],
        call_id: file.external_id.clone(),
        from_us: file.started_us,
        to_us: file.started_us.saturating_add(file.duration_ms.saturating_mul(1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::SqliteCatalogue;
    use super::*;
    use crate::access::Condition;
    use crate::access::audit;
    use crate::catalogue::Catalogue;
    use crate::catalogue::event::NewEvent;
    use crate::catalogue::model::{Broken, CallView, Decision, KnownFile, Search};
    use crate::id::Id;
    use crate::query::Query;
    use crate::testing::{NOW_US, catalogue, found, run};
    use proptest::prelude::*;
    use sqlx::AssertSqlSafe;

    /// Files that have much to do with each other: few phones, recordings, names, call ids, times and hashes.
    fn file() -> impl Strategy<Value = Found> {
        let ids = (0..2_u32, 0..8_u32, 1..3_u32, 0..8_u32, 0..6_u32);
        let rest = (0..4_i64, 0..3_u8, any::<bool>(), 0..20_u32);
        (ids, rest).prop_map(|((phone, recording, segment, name, call), (at, hash, bare, hold))| {
            let mut file = found(recording, "+49 30 5550001", "201");
            file.device = format!("phone-{phone}");
            file.place.folder = format!("phone-{phone}/2026-11-27");
            file.place.name = format!("Record_{name}.wav");
            file.segment = segment;
            file.external_id = if call == 0 { String::new() } else { format!("call-{call}") };
            file.started_us = NOW_US + at * 40_000_000;
            file.sha256 = [hash; 32];
            if bare {
                file.remote = Default::default();
            }
            if hold == 0 {
                let id = Id::derived(NOW_US, &[b"hold"]).to_string();
                file.holds = vec![Decision { id, name: "h".into(), ..Decision::default() }];
            }
            file
        })
    }

    type State = (Vec<CallView>, Vec<Broken>, Vec<Vec<KnownFile>>, Vec<String>);

    /// The contents of the catalogue, but for keys.
    async fn state(catalogue: &SqliteCatalogue) -> State {
        let query = Query::default();
        let search = Search { query, from_us: 0, to_us: i64::MAX, behind: None, limit: 1000 };
        let mut calls = catalogue.search(&search, &Condition::All).await.unwrap().calls;
        calls.sort_by(|one, other| one.id.cmp(&other.id));
        for call in &mut calls {
            call.key = 0;
            call.recordings.sort_by(|one, other| one.id.cmp(&other.id));
        }
        let mut broken = catalogue.quarantine(1000).await.unwrap();
        broken.sort_by(|one, other| one.place.name.cmp(&other.place.name));
        let mut known = Vec::new();
        for phone in 0..3 {
            let mut files = catalogue.known("/intake", &format!("phone-{phone}/2026-11-27")).await.unwrap();
            files.sort_by(|one, other| one.name.cmp(&other.name));
            known.push(files);
        }
        let others = "SELECT hex(sha256) FROM sealed UNION ALL SELECT hex(c.id) FROM hold_unwritten h JOIN call c ON c.key = h.call
                      UNION ALL SELECT digits || name || coalesce(tail4, '') || coalesce(head9, '') FROM party ORDER BY 1";
        let others = sqlx::query_scalar(others).fetch_all(catalogue.readers()).await.unwrap();
        (calls, broken, known, others)
    }

    async fn with_event(folder: &std::path::Path) -> std::sync::Arc<SqliteCatalogue> {
        let catalogue = catalogue(folder).await;
        let event = NewEvent {
            source: "s".into(),
            external_id: "1".into(),
            from_us: NOW_US,
            to_us: NOW_US + 60_000_000,
            numbers: vec!["49305550001".into()],
            call_id: "call-3".into(),
            ..NewEvent::default()
        };
        catalogue.put_events(&[event], &audit::Entry::new(NOW_US, "a", "event.put", "")).await.unwrap();
        catalogue
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn take_of_many_files_equals_taking_them_one_by_one(
            batches in proptest::collection::vec(proptest::collection::vec(file(), 1..24), 1..4)
        ) {
            run(async {
                let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
                let (together, alone) = (with_event(one.path()).await, with_event(other.path()).await);
                for batch in &batches {
                    let taken = together.take(batch).await.unwrap();
                    let mut tx = alone.begin().await.unwrap();
                    let mut expected = Vec::new();
                    for file in batch {
                        expected.push(files::take(&mut tx, file).await.unwrap());
                    }
                    tx.commit().await.unwrap();
                    assert_eq!(taken, expected);
                    assert_eq!(state(&together).await, state(&alone).await);
                }
            });
        }
    }

    #[test]
    fn take_of_new_files_looks_for_each_by_an_index() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let catalogue = catalogue(folder.path()).await;
            let files = [found(1, "4711", "201"), found(2, "4711", "201")];
            let sql = known_sql(&candidates(&files)).into_sql();
            let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", sql.as_str())));
            let plan = plan.fetch_all(catalogue.readers()).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
            let scans: Vec<&String> = plan.iter().filter(|line| line.contains("SCAN")).collect();
            assert!(
                plan.len() > 8
                    && scans.iter().all(|line| line.starts_with("SCAN n") || line.contains("CONSTANT ROW")),
                "{plan:#?}"
            );
        });
    }
}
