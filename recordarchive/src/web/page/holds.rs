//! The page of holds.

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
    #[serde(skip)]
    when: String,
}

#[derive(Deserialize)]
struct Hold {
    id: String,
    name: String,
    reference: String,
    reason: String,
    by: String,
    placed: String,
    calls_total: i64,
    release_asked: Option<Step>,
    released: Option<Step>,
    #[serde(skip)]
    when: String,
}

impl Hold {
    /// Whether this person may take the next step towards its end.
    fn may_release(&self, frame: &Frame) -> bool {
        let is_second = self.release_asked.as_ref().is_none_or(|step| step.by != frame.user);
        self.released.is_none() && frame.may("hold.release") && is_second
    }

    fn button(&self) -> &'static str {
        if self.release_asked.is_some() { "Release" } else { "Ask for release" }
    }
}

#[derive(Deserialize)]
struct Holds {
    holds: Vec<Hold>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "holds.html")]
struct Page {
    frame: Frame,
    holds: Vec<Hold>,
    next: Option<String>,
}

/// `GET /holds`
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
    let frame = pages.frame(headers, "/holds").await?;
    let cursor = params.cursor.map(|cursor| format!("?cursor={}", encoded(&cursor))).unwrap_or_default();
    let mut found: Holds = pages.ask(headers, &format!("/holds{cursor}")).await?;
    let zone = &pages.app.config.site.zone;
    for hold in &mut found.holds {
        hold.when = when(&hold.placed, zone);
        for step in hold.release_asked.iter_mut().chain(&mut hold.released) {
            step.when = when(&step.at, zone);
        }
    }
    let next = found.next.map(|cursor| format!("/holds?cursor={}", encoded(&cursor)));
    Ok(Page { frame, holds: found.holds, next })
}
