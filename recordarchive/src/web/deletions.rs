//! Deletions: requests, and the decision of a second person.

use super::App;
use super::caller::caller;
use super::calls::id;
use super::holds::{reason, step};
use super::params::{Paging, Query, cursor};
use super::problem::Problem;
use crate::access::audit::Entry;
use crate::access::{Permission, authorize};
use crate::catalogue::MAX_DELETED_CALLS;
use crate::catalogue::model::{Deletion, Verdict};
use crate::clock;
use crate::id::Id;
use crate::time::rfc3339;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Requests of a page.
const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 50;

#[derive(Deserialize)]
struct NewDeletion {
    calls: Vec<String>,
    reason: String,
}

fn shown(deletion: &Deletion) -> Value {
    json!({
        "id": deletion.id, "state": deletion.state.name(), "by": deletion.asked.by,
        "asked": rfc3339(deletion.asked.at_us), "reason": deletion.asked.reason, "calls": deletion.calls,
        "decided": deletion.decided.as_ref().map(step), "due": deletion.due_us.map(rfc3339),
    })
}

/// `POST /deletions`
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    authorize(&actor, Permission::CallSearch, None, now_us)?;
    let condition = authorize(&actor, Permission::DeleteRequest, None, now_us)?;
    let wanted = |_| Problem::bad("a JSON object with calls, a list of ids, and reason");
    let new: NewDeletion = serde_json::from_slice(&body).map_err(wanted)?;
    let why = reason(&new.reason)?;
    if new.calls.is_empty() || new.calls.len() > MAX_DELETED_CALLS {
        return Err(Problem::bad(format!("calls is a list of 1 to {MAX_DELETED_CALLS} ids")));
    }
    let calls = new.calls.iter().map(|call| id(call)).collect::<Result<Vec<Id>, _>>()?;
    let deletion = Id::random(now_us);
    let detail = json!({"reason": why, "calls": calls.len()});
    let entry = Entry::new(now_us, &actor.name, "deletion.ask", deletion).with(&detail);
    let asked = app.catalogue.ask_deletion(deletion, &calls, &why, &condition, &entry).await?;
    let asked = asked.ok_or_else(Problem::not_found)?;
    Ok((StatusCode::CREATED, Json(shown(&asked))).into_response())
}

/// `GET /deletions`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    Query(paging): Query<Paging>,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    let condition = authorize(&actor, Permission::DeleteRequest, None, now_us)
        .or_else(|refusal| authorize(&actor, Permission::DeleteApprove, None, now_us).map_err(|_| refusal))?;
    let (from, limit) = paging.place(DEFAULT_LIMIT, MAX_LIMIT)?;
    let page = app.catalogue.deletions(from, limit, &condition).await?;
    let deletions: Vec<Value> = page.deletions.iter().map(shown).collect();
    Ok(Json(json!({"deletions": deletions, "next": page.next.map(cursor)})).into_response())
}

#[derive(Deserialize)]
struct Why {
    #[serde(default)]
    reason: String,
}

async fn decide(
    app: &App,
    text: &str,
    method: &Method,
    headers: &HeaderMap,
    body: &Bytes,
    (verdict, action): (Verdict, &str),
) -> Result<Response, Problem> {
    let actor = caller(app, method, headers).await?;
    let now_us = clock::now_us();
    let condition = authorize(&actor, Permission::DeleteApprove, None, now_us)?;
    let id = id(text)?;
    let mut why = String::new();
    if !body.is_empty() {
        let wanted = |_| Problem::bad("a JSON object with reason, or no body");
        let said: Option<Why> = serde_json::from_slice(body).map_err(wanted)?;
        if let Some(said) = said.filter(|said| !said.reason.trim().is_empty()) {
            why = reason(&said.reason)?;
        }
    }
    let entry = Entry::new(now_us, &actor.name, action, id).with(&json!({"reason": why}));
    let decided = app.catalogue.decide_deletion(id, verdict, &why, &condition, &entry).await?;
    Ok(Json(shown(&decided.ok_or_else(Problem::not_found)?)).into_response())
}

/// `POST /deletions/{id}/approve`
pub(super) async fn approve(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    decide(&app, &text, &method, &headers, &body, (Verdict::Approve, "deletion.approve")).await
}

/// `POST /deletions/{id}/reject`
pub(super) async fn reject(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    decide(&app, &text, &method, &headers, &body, (Verdict::Reject, "deletion.reject")).await
}

/// `POST /deletions/{id}/restore`
pub(super) async fn restore(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    decide(&app, &text, &method, &headers, &body, (Verdict::Restore, "deletion.restore")).await
}
