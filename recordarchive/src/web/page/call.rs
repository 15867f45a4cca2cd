//! The page of a call.

use super::model::Call;
use super::{Frame, Pages, Told, encoded};
use askama::Template;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;

#[derive(Template)]
#[template(path = "call.html")]
struct Page {
    frame: Frame,
    call: Call,
}

/// `GET /calls/{id}`
pub(super) async fn page(
    State(pages): State<Pages>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let made = make(&pages, &id, &headers).await;
    pages.shown(&headers, &uri, made).await
}

async fn make(pages: &Pages, id: &str, headers: &HeaderMap) -> Result<Page, Told> {
    let frame = pages.frame(headers, "").await?;
    let call: Call = pages.ask(headers, &format!("/calls/{}", encoded(id))).await?;
    Ok(Page { frame, call: call.at(&pages.app.config.site.zone) })
}
