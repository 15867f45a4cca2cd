//! Calls: lists, single ones, tags and notes.

use super::App;
use super::caller::caller;
use super::params::{NO_CURSOR, Query, behind, cursor};
use super::problem::Problem;
use crate::access::audit::Entry;
use crate::access::{Actor, Condition, Permission, authorize, permit, sees_numbers};
use crate::catalogue::model::{CallView, Decision, EventBrief, Note, Party, Search};
use crate::catalogue::same::Same;
use crate::clock;
use crate::id::Id;
use crate::number::masked;
use crate::query::Query as Searched;
use crate::retention::words::retention;
use crate::time::{DAY_US, day_begins, day_ends, day_of, parse as parse_time, rfc3339};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The kind of an exchange's record of a call. Its title has whole numbers.
pub(super) const CDR: &str = "cdr";

/// Calls of a page.
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;
/// Days that a search without a time goes back.
const DEFAULT_DAYS: i64 = 30;
/// Calls that are counted by day.
const MAX_COUNTED: u32 = 20_000;
const MAX_TAGS: usize = 50;
const MAX_TAG_CHARS: usize = 64;
const MAX_NOTE_CHARS: usize = 4000;

#[derive(Deserialize)]
pub(super) struct ListParams {
    q: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// `GET /calls`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    params: Result<Query<ListParams>, Problem>,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    let condition = authorize(&actor, Permission::CallSearch, None, now_us)?;
    let Query(params) = params?;
    let search = search(&app, &params, now_us).map_err(Problem::bad)?;
    let said = json!({"q": params.q.unwrap_or_default(), "from": rfc3339(search.from_us), "to": rfc3339(search.to_us)});
    app.catalogue.log(&[Entry::new(now_us, &actor.name, "search", "").with(&said)]).await?;
    let page = app.catalogue.search(&search, &condition).await?;
    let full = sees_numbers(&actor, &condition, now_us);
    let calls: Vec<Value> = page.calls.iter().map(|call| shown(call, full)).collect();
    Ok(Json(json!({"calls": calls, "next": page.next.map(cursor)})).into_response())
}

/// `GET /calls/days`: how many calls of a search there are a day, of the newest [`MAX_COUNTED`].
pub(super) async fn days(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    params: Result<Query<ListParams>, Problem>,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    let condition = authorize(&actor, Permission::CallSearch, None, now_us)?;
    let Query(params) = params?;
    let mut search = search(&app, &params, now_us).map_err(Problem::bad)?;
    search.limit = MAX_COUNTED;
    let said = json!({"q": params.q.unwrap_or_default(), "from": rfc3339(search.from_us), "to": rfc3339(search.to_us),
        "days": true});
    app.catalogue.log(&[Entry::new(now_us, &actor.name, "search", "").with(&said)]).await?;
    let keys = app.catalogue.keys(&search, &condition).await?;
    let mut days: Vec<(String, u64)> = Vec::new();
    let mut begins_us = i64::MAX;
    for key in &keys {
        // Keys come the newest first: a day is looked up once.
        if *key < begins_us {
            let day = day_of(*key, &app.config.site.zone);
            begins_us = day_begins(&day, &app.config.site.zone).unwrap_or(*key);
            days.push((day, 0));
        }
        if let Some((_, count)) = days.last_mut() {
            *count += 1;
        }
    }
    let days: Vec<Value> = days.iter().map(|(day, calls)| json!({"day": day, "calls": calls})).collect();
    Ok(Json(json!({"days": days, "more": keys.len() >= MAX_COUNTED as usize})).into_response())
}

fn search(app: &App, params: &ListParams, now_us: i64) -> Result<Search, String> {
    let site = &app.config.site;
    let query = Searched::parse(params.q.as_deref().unwrap_or_default(), site)?;
    let wrong = |key: &str| format!("{key} is neither a day, 2026-11-01, nor a time of RFC 3339");
    let from = match &params.from {
        Some(from) => {
            let at = day_begins(from, &site.zone).or_else(|| parse_time(from));
            Some(at.ok_or_else(|| wrong("from"))?)
        }
        None => query.from_us,
    };
    let to = match &params.to {
        Some(to) => Some(day_ends(to, &site.zone).or_else(|| parse_time(to)).ok_or_else(|| wrong("to"))?),
        None => query.to_us,
    };
    let to_us = to.unwrap_or(now_us + DAY_US);
    let from_us = from.unwrap_or_else(|| to.unwrap_or(now_us).saturating_sub(DEFAULT_DAYS * DAY_US));
    let behind = match params.cursor.as_deref() {
        Some(cursor) => Some(behind(cursor).ok_or(NO_CURSOR)?),
        None => None,
    };
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    Ok(Search { query, from_us, to_us, behind, limit })
}

/// A call in an answer.
pub(super) fn shown(call: &CallView, full: bool) -> Value {
    let party = |party: &Party| {
        let number = if full { party.number.clone() } else { masked(&party.number) };
        json!({"number": number, "name": party.name})
    };
    let recordings: Vec<Value> = call
        .recordings
        .iter()
        .map(|recording| {
            json!({
                "id": recording.id, "recording": recording.recording, "source": recording.source,
                "codec": recording.codec, "duration_ms": recording.duration_ms, "segments": recording.segments,
                "gap_ms": recording.gap_ms, "lost": recording.lost, "end_reason": recording.end_reason,
                "state": if recording.missing { "missing" } else { "sealed" }, "encrypted": recording.encrypted,
                "sha256": recording.sha256,
            })
        })
        .collect();
    let missing = !call.recordings.is_empty() && call.recordings.iter().all(|recording| recording.missing);
    let state = match (&call.trash, missing) {
        (Some(_), _) => "trash",
        (None, true) => "missing",
        (None, false) => "sealed",
    };
    // A call that a hold keeps is due at no time.
    let by_policy = call.fate.due.as_ref().filter(|_| call.holds.is_empty());
    let by_policy = by_policy.map(|due| (due.at_us, format!("policy {:?}", due.policy)));
    let due = call.trash.as_ref().map(|trash| (trash.due_us, trash.reason.clone())).or(by_policy);
    json!({
        "id": call.id, "external_id": call.external_id,
        "direction": call.direction.map(recfile::call::Direction::as_str),
        "started": rfc3339(call.started_us), "duration_ms": call.duration_ms,
        "remote": party(&call.remote), "local": party(&call.local),
        "device": call.device, "site": call.site, "state": state,
        "tags": call.tags, "has_notes": !call.notes.is_empty(), "on_hold": !call.holds.is_empty(),
        "delete_due": due.as_ref().map(|(due_us, _)| rfc3339(*due_us)), "delete_why": due.map(|(_, why)| why),
        "recordings": recordings,
    })
}

/// The id in a path; any other text is 404.
pub(super) fn id(text: &str) -> Result<Id, Problem> {
    Id::parse(text).ok_or_else(Problem::not_found)
}

/// `GET /calls/{id}`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    let condition = authorize(&actor, Permission::CallSearch, None, now_us)?;
    let id = id(&text)?;
    let call = app.catalogue.call(id, &condition).await?.ok_or_else(Problem::not_found)?;
    // Calls in the trash exist only for users who can take them out, or put them in.
    let decides = [Permission::DeleteApprove, Permission::DeleteRequest]
        .iter()
        .any(|permission| permit(&actor, *permission, now_us).is_ok());
    if call.trash.is_some() && !decides {
        return Err(Problem::not_found());
    }
    app.catalogue.log(&[Entry::new(now_us, &actor.name, "view", id)]).await?;
    Ok(Json(whole(&app, &call, sees_numbers(&actor, &condition, now_us), now_us)).into_response())
}

fn whole(app: &App, call: &CallView, full: bool, now_us: i64) -> Value {
    let note = |note: &Note| {
        let newer = call.notes.iter().find(|newer| newer.supersedes.as_ref() == Some(&note.id));
        json!({
            "id": note.id, "text": note.text, "at_ms": note.at_ms, "by": note.by, "written": rfc3339(note.written_us),
            "supersedes": note.supersedes, "superseded_by": newer.map(|newer| &newer.id),
        })
    };
    let mut value = shown(call, full);
    value["notes"] = call.notes.iter().map(note).collect();
    value["events"] =
        call.events.iter().filter(|event| full || event.kind != CDR).map(event_in_call).collect();
    // The reason of a hold is only for users who decide about holds.
    let hold = |hold: &Decision| {
        json!({
            "id": hold.id, "name": hold.name, "reference": hold.reference, "by": hold.by,
            "placed": rfc3339(hold.placed_us),
        })
    };
    value["holds"] = call.holds.iter().map(hold).collect();
    let same = |same: &Same| json!({"id": same.id, "started": rfc3339(same.started_us), "device": same.device, "extension": same.extension});
    value["same"] = call.same.iter().map(same).collect();
    let holds: Vec<&str> = call.holds.iter().map(|hold| hold.name.as_str()).collect();
    value["retention"] = json!(retention(&call.fate, &holds, now_us, &app.config.site.zone));
    value
}

fn event_in_call(event: &EventBrief) -> Value {
    json!({
        "id": event.id, "kind": event.kind, "title": event.title, "source": event.source,
        "from": rfc3339(event.from_us), "to": rfc3339(event.to_us),
    })
}

/// The answer to a change: the call as it is now, for users who may see it.
async fn changed(
    app: &App,
    id: Id,
    actor: &Actor,
    condition: &Condition,
    now_us: i64,
) -> Result<Value, Problem> {
    let call = app.catalogue.call(id, condition).await?.ok_or_else(Problem::not_found)?;
    Ok(whole(app, &call, sees_numbers(actor, condition, now_us), now_us))
}

#[derive(Deserialize)]
struct Tags {
    tags: Vec<String>,
    /// Those that the person saw.
    was: Option<Vec<String>>,
}

/// `PUT /calls/{id}/tags`
pub(super) async fn set_tags(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    let condition = authorize(&actor, Permission::TagWrite, None, now_us)?;
    let id = id(&text)?;
    let wanted =
        |_| Problem::bad("a JSON object with tags, a list of names, and was, the present ones, or not");
    let Tags { tags, was } = serde_json::from_slice(&body).map_err(wanted)?;
    let mut tags: Vec<String> = tags.iter().map(|tag| tag.trim().to_lowercase()).collect();
    tags.sort();
    tags.dedup();
    let fits =
        |tag: &String| (1..=MAX_TAG_CHARS).contains(&tag.chars().count()) && recfile::text::is_harmless(tag);
    if tags.len() > MAX_TAGS || !tags.iter().all(fits) {
        return Err(Problem::bad(format!("at most {MAX_TAGS} tags of 1 to {MAX_TAG_CHARS} characters")));
    }
    let entry = Entry::new(now_us, &actor.name, "tag", id).with(&json!({"tags": tags}));
    if !app.catalogue.set_tags(id, &tags, was.as_deref(), &condition, &entry).await? {
        return Err(Problem::not_found());
    }
    Ok(Json(changed(&app, id, &actor, &condition, now_us).await?).into_response())
}

#[derive(Deserialize)]
struct Apart {
    call: String,
}

/// `POST /calls/{id}/apart`
pub(super) async fn set_apart(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    let condition = authorize(&actor, Permission::TagWrite, None, now_us)?;
    let one = id(&text)?;
    let wanted = |_| Problem::bad("a JSON object with call, the id of the other one");
    let Apart { call } = serde_json::from_slice(&body).map_err(wanted)?;
    let other = id(&call)?;
    let entry = Entry::new(now_us, &actor.name, "apart", one).with(&json!({"call": other.to_string()}));
    if !app.catalogue.set_apart(one, other, &condition, &entry).await? {
        return Err(Problem::not_found());
    }
    Ok(Json(changed(&app, one, &actor, &condition, now_us).await?).into_response())
}

#[derive(Deserialize)]
struct NewNote {
    text: String,
    at_ms: Option<u32>,
    supersedes: Option<String>,
}

/// `POST /calls/{id}/notes`
pub(super) async fn add_note(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    let condition = authorize(&actor, Permission::NoteWrite, None, now_us)?;
    let id = id(&text)?;
    let wanted = |_| Problem::bad("a JSON object with text, and at_ms and supersedes or not");
    let NewNote { text, at_ms, supersedes } = serde_json::from_slice(&body).map_err(wanted)?;
    if text.trim().is_empty() || text.chars().count() > MAX_NOTE_CHARS {
        return Err(Problem::bad(format!("a note has 1 to {MAX_NOTE_CHARS} characters")));
    }
    let note = Note {
        id: Id::random(now_us).to_string(),
        text,
        at_ms: at_ms.map(i64::from),
        by: actor.name.clone(),
        written_us: now_us,
        supersedes: supersedes.map(|old| self::id(&old).map(|old| old.to_string())).transpose()?,
    };
    let said = json!({"note": note.id, "supersedes": note.supersedes});
    let entry = Entry::new(now_us, &actor.name, "note", id).with(&said);
    if !app.catalogue.add_note(id, &note, &condition, &entry).await? {
        return Err(Problem::not_found());
    }
    Ok((StatusCode::CREATED, Json(changed(&app, id, &actor, &condition, now_us).await?)).into_response())
}
