//! The page of calls that go on.

use super::model::{length, when};
use super::{Frame, Pages, Told};
use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Party {
    number: String,
    name: String,
}

#[derive(Deserialize)]
struct Running {
    id: String,
    direction: Option<String>,
    started: String,
    elapsed_ms: i64,
    remote: Party,
    local: Party,
    device: String,
    encrypted: bool,
    lost: Option<u64>,
}

impl Running {
    fn arrow(&self) -> &'static str {
        match self.direction.as_deref() {
            Some("in") => "←",
            Some("out") => "→",
            _ => "·",
        }
    }

    fn length(&self) -> String {
        length(self.elapsed_ms)
    }

    fn lost(&self) -> String {
        self.lost.map(|lost| lost.to_string()).unwrap_or_default()
    }

    fn title(&self) -> String {
        [self.remote.name.as_str(), self.remote.number.as_str()].join(" ").trim().to_owned()
    }
}

#[derive(Deserialize)]
struct Answer {
    live: Vec<Running>,
}

#[derive(Template)]
#[template(path = "live.html")]
struct Page {
    frame: Frame,
    live: Vec<Running>,
}

/// `GET /live`
pub(super) async fn page(State(pages): State<Pages>, headers: HeaderMap, uri: Uri) -> Response {
    let made = make(&pages, &headers).await;
    pages.shown(&headers, &uri, made).await
}

async fn make(pages: &Pages, headers: &HeaderMap) -> Result<Page, Told> {
    let frame = pages.frame(headers, "/live").await?;
    let Answer { mut live } = pages.ask(headers, "/live").await?;
    for running in &mut live {
        running.started = when(&running.started, &pages.app.config.site.zone);
    }
    Ok(Page { frame, live })
}
