//! The page of requests to delete calls.

use super::model::when;
use super::{Frame, Pages, Told, encoded};
use askama::Template;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Params {
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Step {
    by: String,
    at: String,
    reason: String,
}

#[derive(Deserialize)]
struct Deletion {
    id: String,
    state: String,
    by: String,
    asked: String,
    reason: String,
    calls: Vec<String>,
    decided: Option<Step>,
    due: Option<String>,
    #[serde(skip)]
    when: String,
    #[serde(skip)]
    due_when: String,
}

impl Deletion {
    /// Whether this person may decide about it.
    fn may_decide(&self, frame: &Frame) -> bool {
        self.state == "pending" && self.by != frame.user && frame.may("delete.approve")
    }

    fn may_restore(&self, frame: &Frame) -> bool {
        self.state == "approved" && frame.may("delete.approve")
    }

    /// Whether its calls have pages yet.
    fn has_calls(&self) -> bool {
        self.state != "done"
    }
}

#[derive(Deserialize)]
struct Deletions {
    deletions: Vec<Deletion>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "deletions.html")]
struct Page {
    frame: Frame,
    deletions: Vec<Deletion>,
    next: Option<String>,
}

/// `GET /deletions`
pub(super) async fn page(
    State(pages): State<Pages>,
    Query(params): Query<Params>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let made = make(&pages, params, &headers).await;
    pages.shown(&headers, &uri, made).await
}

async fn make(pages: &Pages, params: Params, headers: &HeaderMap) -> Result<Page, Told> {
    let frame = pages.frame(headers, "/deletions").await?;
    let cursor = params.cursor.map(|cursor| format!("?cursor={}", encoded(&cursor))).unwrap_or_default();
    let mut found: Deletions = pages.ask(headers, &format!("/deletions{cursor}")).await?;
    let zone = &pages.app.config.site.zone;
    for deletion in &mut found.deletions {
        deletion.when = when(&deletion.asked, zone);
        deletion.due_when = deletion.due.as_deref().map(|due| when(due, zone)).unwrap_or_default();
        if let Some(step) = &mut deletion.decided {
            step.at = when(&step.at, zone);
        }
    }
    let next = found.next.map(|cursor| format!("/deletions?cursor={}", encoded(&cursor)));
    Ok(Page { frame, deletions: found.deletions, next })
}
