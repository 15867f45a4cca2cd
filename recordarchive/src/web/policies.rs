//! Policies: reading them, setting them, their preview, and the second person's decision.

use super::App;
use super::caller::caller;
use super::calls::id;
use super::holds::{reason, step};
use super::problem::Problem;
use crate::access::audit::Entry;
use crate::access::{Actor, Permission, permit, permit_for_all};
use crate::catalogue::model::Step;
use crate::catalogue::retention::{InForce, Proposal};
use crate::clock;
use crate::id::{Id, hex};
use crate::jobs::retention::preview;
use crate::retention::compare::shortens;
use crate::retention::{Policy, check};
use crate::time::rfc3339;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Policies are set for all calls: a role for some extensions can't set them.
fn edits(actor: &Actor, now_us: i64) -> Result<(), Problem> {
    Ok(permit_for_all(actor, Permission::PolicyEdit, now_us)?)
}

fn shown(present: &InForce, waits: Option<&Proposal>) -> Value {
    let set = (present.version > 0).then(|| step(&present.set));
    let waits = waits.map(|waits| {
        let preview: Value = serde_json::from_str(&waits.preview).unwrap_or_default();
        json!({
            "id": waits.id.to_string(), "by": waits.asked.by, "asked": rfc3339(waits.asked.at_us),
            "reason": waits.asked.reason, "policies": waits.policies, "preview": preview,
        })
    });
    json!({
        "version": present.version, "policies": present.policies, "set": set, "approved_by": present.approved_by,
        "proposal": waits,
    })
}

/// `GET /policies`
pub(super) async fn get(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    // The audit log shows policies, too, so its readers may read them here.
    permit(&actor, Permission::PolicyEdit, now_us)
        .or_else(|refusal| permit(&actor, Permission::AuditRead, now_us).map_err(|_| refusal))?;
    let (present, waits) = app.catalogue.policies().await?;
    Ok(Json(shown(&present, waits.as_ref())).into_response())
}

#[derive(Deserialize)]
struct New {
    policies: Vec<Policy>,
    version: Option<i64>,
    #[serde(default)]
    reason: String,
    preview: Option<String>,
}

fn new(body: &[u8]) -> Result<New, Problem> {
    let new: New = serde_json::from_slice(body).map_err(|error| {
        Problem::bad(format!("a JSON object with policies, a list, and reason is wanted: {error}"))
    })?;
    check(&new.policies).map_err(Problem::bad)?;
    Ok(new)
}

/// The token of a preview: these policies in place of that version.
fn token(version: i64, policies: &[Policy]) -> String {
    hex(&Sha256::digest(json!([version, policies]).to_string()))[..32].to_owned()
}

/// `POST /policies/preview`
pub(super) async fn previewed(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    edits(&actor, now_us)?;
    let new = new(&body)?;
    let (present, _) = app.catalogue.policies().await?;
    let mut value = counted(&app, &present, &new.policies, now_us).await?;
    value["version"] = json!(present.version);
    value["shortens"] = json!(shortens(&present.policies, &new.policies));
    value["preview"] = json!(token(present.version, &new.policies));
    app.catalogue.log(&[Entry::new(now_us, &actor.name, "policy.preview", "")]).await?;
    Ok(Json(value).into_response())
}

/// The effect of policies. One preview at a time: it looks at every call.
async fn counted(app: &App, present: &InForce, policies: &[Policy], now_us: i64) -> Result<Value, Problem> {
    let busy = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the archive ends");
    let _one = app.previews.acquire().await.map_err(busy)?;
    Ok(preview(&*app.catalogue, present.policies.clone(), policies.to_vec(), now_us).await?)
}

/// `PUT /policies`: in force at once, or with 202 waiting for a second person.
pub(super) async fn put(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    edits(&actor, now_us)?;
    let new = new(&body)?;
    let why = reason(&new.reason)?;
    let (present, _) = app.catalogue.policies().await?;
    let base = new.version.unwrap_or(present.version);
    let is_shorter = shortens(&present.policies, &new.policies);
    if is_shorter && new.preview.as_deref() != Some(&token(base, &new.policies)) {
        let told = "calls would go earlier: look at POST /policies/preview of these policies, and send its preview along";
        return Err(Problem::new(StatusCode::CONFLICT, told));
    }
    let seen = if is_shorter { counted(&app, &present, &new.policies, now_us).await? } else { Value::Null };
    let proposal = Proposal {
        id: Id::random(now_us),
        base,
        policies: new.policies,
        preview: seen.to_string(),
        asked: Step { by: actor.name.clone(), at_us: now_us, reason: why },
    };
    // Which of both it is, is decided where it is written.
    app.catalogue
        .set_policies(&proposal, &Entry::new(now_us, &actor.name, "policy.set", proposal.id))
        .await?;
    let (present, waits) = app.catalogue.policies().await?;
    let status = if is_shorter { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(shown(&present, waits.as_ref()))).into_response())
}

async fn decide(
    app: &App,
    text: &str,
    method: &Method,
    headers: &HeaderMap,
    approves: bool,
) -> Result<Response, Problem> {
    let actor = caller(app, method, headers).await?;
    let now_us = clock::now_us();
    edits(&actor, now_us)?;
    let id = id(text)?;
    let action = if approves { "policy.approve" } else { "policy.reject" };
    if !app.catalogue.decide_policies(id, approves, &Entry::new(now_us, &actor.name, action, id)).await? {
        return Err(Problem::not_found());
    }
    let (present, waits) = app.catalogue.policies().await?;
    Ok(Json(shown(&present, waits.as_ref())).into_response())
}

/// `POST /policies/{id}/approve`
pub(super) async fn approve(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    decide(&app, &text, &method, &headers, true).await
}

/// `POST /policies/{id}/reject`: its author may take it back by this.
pub(super) async fn reject(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    decide(&app, &text, &method, &headers, false).await
}
