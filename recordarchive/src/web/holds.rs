//! Holds: placing one, seeing them, and releasing one with a second person.

use super::App;
use super::caller::caller;
use super::calls::id;
use super::params::{Paging, Query, cursor};
use super::problem::Problem;
use crate::access::audit::Entry;
use crate::access::{Actor, Condition, Permission, Refusal, authorize};
use crate::catalogue::MAX_HELD_CALLS;
use crate::catalogue::model::{Decision, Hold, Released, Scope, Search, Step};
use crate::clock;
use crate::id::Id;
use crate::query::Query as Searched;
use crate::time::rfc3339;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Holds of a page.
const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;
const MAX_NAME_CHARS: usize = 100;
const MAX_REASON_CHARS: usize = 500;

/// A text that a decision needs, within its limit and on one line.
fn said(name: &str, text: &str, limit: usize) -> Result<String, Problem> {
    let text = text.trim();
    let fits = (1..=limit).contains(&text.chars().count()) && recfile::text::is_harmless(text);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(Problem::bad(format!("{name} has 1 to {limit} characters, on one line")))
    }
}

/// The reason of a decision.
pub(super) fn reason(text: &str) -> Result<String, Problem> {
    said("reason", text, MAX_REASON_CHARS)
}

#[derive(Deserialize)]
struct NewHold {
    name: String,
    #[serde(default)]
    reference: String,
    reason: String,
    calls: Option<Vec<String>>,
    q: Option<String>,
}

pub(super) fn step(step: &Step) -> Value {
    json!({"by": step.by, "at": rfc3339(step.at_us), "reason": step.reason})
}

fn shown(hold: &Hold) -> Value {
    let state = match (&hold.asked, &hold.released) {
        (_, Some(_)) => "released",
        (Some(_), None) => "release-asked",
        (None, None) => "active",
    };
    let Decision { id, name, reference, reason, by, placed_us } = &hold.decision;
    json!({
        "id": id, "name": name, "reference": reference, "reason": reason, "by": by, "placed": rfc3339(*placed_us),
        "state": state, "calls_total": hold.calls, "release_asked": hold.asked.as_ref().map(step),
        "released": hold.released.as_ref().map(step),
    })
}

/// The calls whose holds a user may see: those that they may place holds on, or release.
fn condition_of_reader(actor: &Actor, now_us: i64) -> Result<Condition, Refusal> {
    let placed = authorize(actor, Permission::HoldPlace, None, now_us);
    placed.or_else(|refusal| authorize(actor, Permission::HoldRelease, None, now_us).map_err(|_| refusal))
}

/// `POST /holds`
pub(super) async fn place(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    // A hold needs the permission to search, too: it is placed on the calls that a search finds.
    authorize(&actor, Permission::CallSearch, None, now_us)?;
    let condition = authorize(&actor, Permission::HoldPlace, None, now_us)?;
    let wanted = "a JSON object with name, reference, reason, and calls, a list of ids, or q, a search";
    let new: NewHold = serde_json::from_slice(&body).map_err(|_| Problem::bad(wanted))?;
    let name = said("name", &new.name, MAX_NAME_CHARS)?;
    let reference = match new.reference.trim() {
        "" => String::new(),
        text => said("reference", text, MAX_NAME_CHARS)?,
    };
    let reason = reason(&new.reason)?;
    let scope = match (&new.calls, &new.q) {
        (Some(calls), None) if calls.is_empty() || calls.len() > MAX_HELD_CALLS as usize => {
            return Err(Problem::bad(format!("calls is a list of 1 to {MAX_HELD_CALLS} ids")));
        }
        (Some(calls), None) => Scope::Calls(calls.iter().map(|call| id(call)).collect::<Result<_, _>>()?),
        (None, Some(line)) if !line.trim().is_empty() => {
            let query = Searched::parse(line, &app.config.site).map_err(Problem::bad)?;
            // Without dates in the search there is no limit: a hold covers the oldest call, too.
            let (from_us, to_us) = (query.from_us.unwrap_or(0), query.to_us.unwrap_or(i64::MAX));
            Scope::Found(Box::new(Search { query, from_us, to_us, behind: None, limit: MAX_HELD_CALLS }))
        }
        _ => return Err(Problem::bad(wanted)),
    };
    let decision = Decision {
        id: Id::random(now_us).to_string(),
        name,
        reference,
        reason,
        by: actor.name.clone(),
        placed_us: now_us,
    };
    let detail = json!({"name": decision.name, "reference": decision.reference, "reason": decision.reason, "q": new.q,
        "calls": new.calls.as_ref().map(Vec::len)});
    let entry = Entry::new(now_us, &actor.name, "hold.place", &decision.id).with(&detail);
    let hold = app.catalogue.place_hold(&decision, &scope, &condition, &entry).await?;
    let hold = hold.ok_or_else(|| match scope {
        Scope::Calls(_) => Problem::not_found(),
        Scope::Found(_) => Problem::new(StatusCode::NOT_FOUND, "no call fits the search"),
    })?;
    Ok((StatusCode::CREATED, Json(shown(&hold))).into_response())
}

/// `GET /holds`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let condition = condition_of_reader(&actor, clock::now_us())?;
    let (from, limit) = paging.place(DEFAULT_LIMIT, MAX_LIMIT)?;
    let page = app.catalogue.holds(from, limit, &condition).await?;
    let holds: Vec<Value> = page.holds.iter().map(shown).collect();
    Ok(Json(json!({"holds": holds, "next": page.next.map(cursor)})).into_response())
}

/// `GET /holds/{id}`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    let condition = condition_of_reader(&actor, now_us)?;
    let id = id(&text)?;
    let (hold, calls) = app.catalogue.hold(id, &condition).await?.ok_or_else(Problem::not_found)?;
    app.catalogue.log(&[Entry::new(now_us, &actor.name, "view", id)]).await?;
    let mut value = shown(&hold);
    value["calls"] = json!(calls);
    Ok(Json(value).into_response())
}

#[derive(Deserialize)]
struct Why {
    reason: String,
}

/// `POST /holds/{id}/release`: the first person asks, another one's request does it.
pub(super) async fn release(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    let condition = authorize(&actor, Permission::HoldRelease, None, now_us)?;
    let id = id(&text)?;
    let Why { reason: why } =
        serde_json::from_slice(&body).map_err(|_| Problem::bad("a JSON object with reason"))?;
    let why = reason(&why)?;
    let entry = Entry::new(now_us, &actor.name, "hold.release", id).with(&json!({"reason": why}));
    let conflict = |detail: &str| Err(Problem::new(StatusCode::CONFLICT, detail));
    match app.catalogue.release_hold(id, &why, &condition, &entry).await? {
        None => Err(Problem::not_found()),
        Some(Released::Before) => conflict("the hold was released before"),
        Some(Released::SamePerson) => {
            conflict("you asked for the release of this hold: another person with hold.release has to do it")
        }
        Some(Released::Asked(hold)) => Ok((StatusCode::ACCEPTED, Json(shown(&hold))).into_response()),
        Some(Released::Done(hold)) => Ok(Json(shown(&hold)).into_response()),
    }
}
