//! The page of exports: one's own, and those that wait for one's word.

use super::model::when;
use super::{Frame, Pages, Told};
use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Deserialize;

#[derive(Deserialize)]
struct Decided {
    by: String,
}

#[derive(Deserialize)]
struct Export {
    id: String,
    state: String,
    reason: String,
    by: String,
    calls: u64,
    mask_numbers: bool,
    asked: String,
    expires: String,
    octets: Option<u64>,
    sha256: Option<String>,
    package: Option<String>,
    problem: Option<String>,
    decided: Option<Decided>,
}

impl Export {
    /// Whether this person may decide about it.
    fn may_decide(&self, frame: &Frame) -> bool {
        self.state == "waiting" && self.by != frame.user && frame.may("export.approve")
    }

    fn size(&self) -> String {
        let kib = self.octets.unwrap_or(0).div_ceil(1024);
        if kib >= 10_240 { format!("{} MiB", kib / 1024) } else { format!("{kib} KiB") }
    }

    fn hash(&self) -> &str {
        self.sha256.as_deref().and_then(|hash| hash.get(..12)).unwrap_or_default()
    }

    /// The state, in words.
    fn words(&self) -> String {
        let by = self.decided.as_ref().map(|decided| format!(" by {}", decided.by)).unwrap_or_default();
        match (self.state.as_str(), &self.problem) {
            ("waiting", _) => "waits for a second person".into(),
            ("rejected", _) => format!("rejected{by}"),
            ("running", _) => "being made".into(),
            ("failed", Some(problem)) => format!("failed: {problem}"),
            ("ready", _) => format!("ready until {}", self.expires),
            (other, _) => other.into(),
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    exports: Vec<Export>,
}

#[derive(Template)]
#[template(path = "exports.html")]
struct Page {
    frame: Frame,
    exports: Vec<Export>,
}

/// `GET /exports`
pub(super) async fn page(State(pages): State<Pages>, headers: HeaderMap, uri: Uri) -> Response {
    let made = make(&pages, &headers).await;
    pages.shown(&headers, &uri, made).await
}

async fn make(pages: &Pages, headers: &HeaderMap) -> Result<Page, Told> {
    let frame = pages.frame(headers, "/exports").await?;
    let Answer { mut exports } = pages.ask(headers, "/exports").await?;
    let zone = &pages.app.config.site.zone;
    for export in &mut exports {
        export.asked = when(&export.asked, zone);
        export.expires = when(&export.expires, zone);
    }
    Ok(Page { frame, exports })
}
