//! The page of policies: the list as a form, its preview, and the second person's buttons.

use super::model::when;
use super::{Frame, Pages, Told};
use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Policy {
    name: String,
    site: String,
    extensions: Vec<String>,
    direction: String,
    tag: String,
    class: String,
    keep_days: u32,
    delete_after_days: Option<u32>,
}

impl Policy {
    fn extension_line(&self) -> String {
        self.extensions.join(" ")
    }

    fn days(&self) -> String {
        self.delete_after_days.map(|days| days.to_string()).unwrap_or_default()
    }

    /// Which calls fit it, in words.
    fn fits(&self) -> String {
        let extensions = self.extension_line();
        let all = [
            ("site", &self.site),
            ("extension", &extensions),
            ("direction", &self.direction),
            ("tag", &self.tag),
            ("class", &self.class),
        ];
        let said = all.iter().filter(|(_, value)| !value.is_empty());
        let said: Vec<String> = said.map(|(name, value)| format!("{name} {value}")).collect();
        if said.is_empty() { "all calls".into() } else { said.join(", ") }
    }

    /// The time for which they are kept, in words.
    fn terms(&self) -> String {
        let keep = match self.keep_days {
            0 => String::new(),
            days => format!("kept {days} days at least, "),
        };
        match self.delete_after_days {
            None => format!("{keep}never deleted"),
            Some(days) => format!("{keep}deleted after {days} days"),
        }
    }
}

#[derive(Deserialize)]
struct Step {
    by: String,
    at: String,
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tally {
    calls: u64,
    hours: f64,
    oldest: Option<String>,
}

impl Tally {
    fn words(&self) -> String {
        let day = self.oldest.as_deref().and_then(|oldest| oldest.get(..10));
        let oldest = day.map(|day| format!(", the oldest of {day}")).unwrap_or_default();
        format!("{} calls, {:.1} hours{oldest}", self.calls, self.hours)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Preview {
    #[serde(flatten)]
    due: Tally,
    within_30_days: Tally,
    earlier: Tally,
    later: Tally,
    held: Tally,
}

#[derive(Deserialize)]
struct Proposal {
    id: String,
    by: String,
    asked: String,
    reason: String,
    policies: Vec<Policy>,
    preview: Preview,
}

#[derive(Deserialize)]
struct Answer {
    version: i64,
    policies: Vec<Policy>,
    set: Option<Step>,
    approved_by: Option<String>,
    proposal: Option<Proposal>,
}

#[derive(Template)]
#[template(path = "policies.html")]
struct Page {
    frame: Frame,
    version: i64,
    policies: Vec<Policy>,
    /// The template of a new row of the form.
    empty: [Policy; 1],
    set: Option<Step>,
    approved_by: String,
    proposal: Option<Proposal>,
}

/// `GET /policies`
pub(super) async fn page(State(pages): State<Pages>, headers: HeaderMap, uri: Uri) -> Response {
    let made = make(&pages, &headers).await;
    pages.shown(&headers, &uri, made).await
}

async fn make(pages: &Pages, headers: &HeaderMap) -> Result<Page, Told> {
    let frame = pages.frame(headers, "/policies").await?;
    let Answer { version, policies, mut set, approved_by, mut proposal } =
        pages.ask(headers, "/policies").await?;
    let zone = &pages.app.config.site.zone;
    if let Some(step) = &mut set {
        step.at = when(&step.at, zone);
    }
    if let Some(proposal) = &mut proposal {
        proposal.asked = when(&proposal.asked, zone);
    }
    let (approved_by, empty) = (approved_by.unwrap_or_default(), [Policy::default()]);
    Ok(Page { frame, version, policies, empty, set, approved_by, proposal })
}
