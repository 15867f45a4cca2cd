//! Evidence for others: signed checkpoints of the audit log.

use super::App;
use super::caller::caller;
use super::problem::Problem;
use crate::access::audit::Entry;
use crate::access::{Permission, permit_for_all};
use crate::clock;
use crate::id::hex;
use crate::jobs::checkpoint;
use crate::time::rfc3339;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::sync::Arc;

/// `GET /audit/checkpoint`
pub(super) async fn checkpoint(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    permit_for_all(&actor, Permission::AuditRead, now_us)?;
    app.catalogue.log(&[Entry::new(now_us, &actor.name, "audit", "checkpoint")]).await?;
    let none = || Problem::new(StatusCode::NOT_FOUND, "there is no checkpoint yet: one is made each minute");
    let signed = app.catalogue.newest_checkpoint().await?.ok_or_else(none)?;
    let said = signed.read().ok_or_else(none)?;
    let folder = app.config.keys();
    let key = tokio::task::spawn_blocking(move || checkpoint::public_key(&folder)).await;
    let key = key.ok().and_then(Result::ok).flatten().map(|key| key.line());
    Ok(Json(json!({
        "number": said.number, "at": rfc3339(said.at_us), "entries": said.entries, "head": hex(&said.head),
        "sealed": said.sealed, "root": hex(&said.root), "previous": hex(&said.previous),
        "text": signed.text, "signature": signed.signature, "public_key": key,
    }))
    .into_response())
}
