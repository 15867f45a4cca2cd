//! Exports: requests, their states, and the packages.

use super::App;
use super::audio::{Content, Source, answer, send};
use super::caller::caller;
use super::calls::id;
use super::holds::reason;
use super::problem::Problem;
use crate::access::audit::Entry;
use crate::access::{Actor, Condition, Permission, authorize, sees_numbers};
use crate::catalogue::export::{Export, State as ExportState};
use crate::catalogue::model::Search;
use crate::clock;
use crate::id::Id;
use crate::jobs::export::{self, MAX_CALLS};
use crate::media::vault::Media;
use crate::query::Query as Searched;
use crate::time::{DAY_US, rfc3339};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use store::fs::{Fs, RealFs};

/// The time for which a package can be fetched.
const KEPT_US: i64 = 7 * DAY_US;
/// Packages of one account at once: they take room until their time is over.
const MAX_EXPORTS: usize = 50;
/// Calls of a page of a search.
const PAGE: u32 = 200;

#[derive(Deserialize)]
struct NewExport {
    calls: Option<Vec<String>>,
    q: Option<String>,
    reason: String,
    originals: Option<bool>,
    as_stored: Option<bool>,
    mask_numbers: Option<bool>,
}

fn shown(export: &Export) -> Value {
    let is_ready = export.state == ExportState::Ready;
    json!({
        "id": export.id.to_string(), "state": export.state.name(), "reason": export.reason, "by": export.by,
        "calls": export.calls.len(), "originals": export.originals, "mask_numbers": export.mask_numbers,
        "asked": rfc3339(export.asked_us), "expires": rfc3339(export.expires_us),
        "decided": export.decided.as_ref().map(|(by, at_us)| json!({"by": by, "at": rfc3339(*at_us)})),
        "octets": is_ready.then_some(export.octets), "sha256": is_ready.then_some(&export.sha256),
        "package": is_ready.then(|| format!("/api/v1/exports/{}/package", export.id)),
        "problem": (!export.problem.is_empty()).then_some(&export.problem),
    })
}

/// The calls that are meant, each of which the condition admits.
async fn calls_of(app: &App, new: &NewExport, condition: &Condition) -> Result<Vec<Id>, Problem> {
    let too_many = || Problem::bad(format!("at most {MAX_CALLS} calls at once: narrow the search"));
    let mut found: BTreeSet<Id> = BTreeSet::new();
    match (&new.calls, &new.q) {
        (Some(calls), None) if !calls.is_empty() => {
            if calls.len() > MAX_CALLS {
                return Err(too_many());
            }
            for call in calls {
                let call = id(call)?;
                // Calls in the trash are as if they did not exist.
                let seen = app.catalogue.call(call, condition).await?.filter(|seen| seen.trash.is_none());
                seen.ok_or_else(Problem::not_found)?;
                found.insert(call);
            }
        }
        (None, Some(line)) if !line.trim().is_empty() => {
            let query = Searched::parse(line, &app.config.site).map_err(Problem::bad)?;
            let (from_us, to_us) = (query.from_us.unwrap_or(0), query.to_us.unwrap_or(i64::MAX));
            let mut search = Search { query, from_us, to_us, behind: None, limit: PAGE };
            loop {
                let page = app.catalogue.search(&search, condition).await?;
                found.extend(page.calls.iter().filter_map(|call| Id::parse(&call.id)));
                if found.len() > MAX_CALLS {
                    return Err(too_many());
                }
                search.behind = page.next;
                if search.behind.is_none() {
                    break;
                }
            }
            if found.is_empty() {
                return Err(Problem::bad("the search finds no call"));
            }
        }
        _ => return Err(Problem::bad("give calls, a list of ids, or q, a search")),
    }
    Ok(found.into_iter().collect())
}

/// `POST /exports`
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    permit_any(&actor, now_us)?;
    let wanted = "a JSON object with reason, calls or q, and originals, as_stored and mask_numbers or not";
    let new: NewExport = serde_json::from_slice(&body).map_err(|_| Problem::bad(wanted))?;
    let reason = reason(&new.reason)?;
    let condition = authorize(&actor, Permission::ExportCreate, Some(&reason), now_us)?;
    let mask_numbers = new.mask_numbers.unwrap_or(false) || !sees_numbers(&actor, &condition, now_us);
    let as_stored = new.as_stored.unwrap_or(false);
    if as_stored && new.originals == Some(false) {
        return Err(Problem::bad("as_stored is about originals: leave out one of both"));
    }
    if mask_numbers && (new.originals == Some(true) || as_stored) {
        return Err(Problem::bad("originals have whole numbers in them: leave out one of both"));
    }
    let kept = app.catalogue.exports(actor.account).await?;
    let kept = kept.iter().filter(|export| {
        matches!(export.state, ExportState::Waiting | ExportState::Running | ExportState::Ready)
    });
    if kept.count() >= MAX_EXPORTS {
        let detail = format!("{MAX_EXPORTS} packages are kept for you: wait until the time of one is over");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let calls = calls_of(&app, &new, &condition).await?;
    let export = Export {
        id: Id::random(now_us),
        account: actor.account,
        by: actor.name.clone(),
        reason,
        calls,
        originals: new.originals.unwrap_or(!mask_numbers),
        as_stored: as_stored && !mask_numbers,
        mask_numbers,
        asked_us: now_us,
        expires_us: now_us + KEPT_US,
        state: if app.config.export_approval { ExportState::Waiting } else { ExportState::Running },
        decided: None,
        octets: 0,
        sha256: String::new(),
        problem: String::new(),
    };
    app.catalogue.add_export(&export, &export::entries(&export, new.q.as_deref())).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(&export))).into_response())
}

/// Whether they may export anything, should they say why.
fn permit_any(actor: &Actor, now_us: i64) -> Result<(), Problem> {
    Ok(authorize(actor, Permission::ExportCreate, Some("-"), now_us).map(drop)?)
}

/// `GET /exports`: one's own, and those that one may approve.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    let approves = authorize(&actor, Permission::ExportApprove, None, now_us);
    let creates = permit_any(&actor, now_us);
    let mut exports = Vec::new();
    if let Ok(condition) = &approves {
        for export in app.catalogue.waiting_exports().await? {
            if export.account != actor.account && are_admitted(&app, &export, condition).await? {
                exports.push(shown(&export));
            }
        }
    }
    match (creates, approves) {
        (Ok(()), _) => exports.extend(app.catalogue.exports(actor.account).await?.iter().map(shown)),
        (Err(problem), Err(_)) => return Err(problem),
        (Err(_), Ok(_)) => {}
    }
    Ok(Json(json!({"exports": exports})).into_response())
}

/// Whether a condition admits all calls of an export.
async fn are_admitted(app: &App, export: &Export, condition: &Condition) -> Result<bool, Problem> {
    if *condition != Condition::All {
        for call in &export.calls {
            if app.catalogue.call(*call, condition).await?.is_none() {
                return Ok(false);
            }
        }
    }
    Ok(true)
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
    let condition = authorize(&actor, Permission::ExportApprove, None, now_us)?;
    let id = id(text)?;
    let waits = app.catalogue.waiting_exports().await?;
    if let Some(export) = waits.iter().find(|export| export.id == id)
        && !are_admitted(app, export, &condition).await?
    {
        return Err(Problem::not_found());
    }
    let action = if approves { "export.approve" } else { "export.reject" };
    let entry = Entry::new(now_us, &actor.name, action, id);
    if app.catalogue.decide_export(id, approves, now_us + KEPT_US, &entry).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(Problem::not_found())
    }
}

/// `POST /exports/{id}/approve`
pub(super) async fn approve(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    decide(&app, &text, &method, &headers, true).await
}

/// `POST /exports/{id}/reject`
pub(super) async fn reject(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    decide(&app, &text, &method, &headers, false).await
}

async fn own(app: &App, actor: &Actor, text: &str) -> Result<Export, Problem> {
    permit_any(actor, clock::now_us())?;
    app.catalogue.export(id(text)?, actor.account).await?.ok_or_else(Problem::not_found)
}

/// `GET /exports/{id}`
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    Ok(Json(shown(&own(&app, &actor, &text).await?)).into_response())
}

/// `GET /exports/{id}/package`
pub(super) async fn package(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let export = own(&app, &actor, &text).await?;
    let now_us = clock::now_us();
    match export.state {
        ExportState::Ready if export.expires_us > now_us => {}
        ExportState::Running => return Err(Problem::new(StatusCode::CONFLICT, "it is not ready yet")),
        ExportState::Waiting => {
            return Err(Problem::new(StatusCode::CONFLICT, "another person has to approve it first"));
        }
        ExportState::Rejected => return Err(Problem::new(StatusCode::CONFLICT, "it was rejected")),
        ExportState::Failed => return Err(Problem::new(StatusCode::CONFLICT, export.problem)),
        _ => return Err(Problem::new(StatusCode::GONE, "its time is over: export it again")),
    }
    // A user who may no longer export one of the calls gets no package of it.
    let condition = authorize(&actor, Permission::ExportCreate, Some(&export.reason), now_us)?;
    if !are_admitted(&app, &export, &condition).await? {
        return Err(Problem::not_found());
    }
    let path = export::path(&app.config.data, export.id);
    let opened = tokio::task::spawn_blocking(move || {
        let file = RealFs.open_read(&path)?;
        let octets = file.metadata()?.len();
        Ok::<_, std::io::Error>((file, octets))
    });
    let gone = || Problem::new(StatusCode::GONE, "its package can't be read: export it again");
    let (file, total) = opened.await.ok().and_then(Result::ok).ok_or_else(gone)?;
    if method != Method::HEAD {
        let said = json!({"sha256": export.sha256});
        let entry = Entry::new(now_us, &actor.name, "export.fetch", export.id).with(&said);
        app.catalogue.log(&[entry]).await?;
    }
    let tag = format!("\"{}\"", &export.sha256);
    let answer = answer(&headers, &tag, total);
    let content = Content {
        kind: "application/zip",
        total,
        source: Source::File(Box::new(Media::Plain(file))),
        listener: None,
    };
    let mut response = send(&method, &headers, &tag, answer, content);
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"export-{}.zip\"", export.id)) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}
