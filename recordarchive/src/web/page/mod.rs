//! The pages for people.
//!
//! Owns: templates and their values. A page is a client of the API inside the process: it asks the same
//! routes with the user's cookie, so permissions, conditions and audit entries are the API's and never a
//! page's. Never: the catalogue. Invariant: every text of a call goes through a template, which escapes it.

mod admin;
mod assets;
mod call;
mod deletions;
mod exports;
mod holds;
mod live;
mod model;
mod policies;
mod search;

use super::App;
use askama::Template;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Request, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tower::ServiceExt;

/// Largest answer of the API that a page is made of.
const MAX_ANSWER_OCTETS: usize = 16 << 20;

/// The state that pages share.
#[derive(Clone)]
struct Pages {
    app: Arc<App>,
    api: Router,
}

/// All pages. `api` has the routes of the API, from `/session` on.
pub(super) fn routes(app: Arc<App>, api: Router) -> Router {
    Router::new()
        .route("/", get(search::page))
        .route("/calls/{id}", get(call::page))
        .route("/live", get(live::page))
        .route("/holds", get(holds::page))
        .route("/policies", get(policies::page))
        .route("/exports", get(exports::page))
        .route("/deletions", get(deletions::page))
        .route("/audit", get(admin::audit))
        .route("/accounts", get(admin::accounts))
        .route("/health", get(admin::health))
        .route("/login", get(log_in))
        .route("/static/{name}", get(assets::file))
        .with_state(Pages { app, api })
}

/// The reason for which there is no page.
enum Told {
    /// Somebody has to log in first.
    LogIn,
    /// The API refused, for a person.
    Refused(StatusCode, String),
}

#[derive(Deserialize)]
struct Detail {
    detail: String,
}

impl Pages {
    /// The answer of the API to this user.
    async fn ask<T: DeserializeOwned>(&self, headers: &HeaderMap, path: &str) -> Result<T, Told> {
        let broken = |_| Told::Refused(StatusCode::INTERNAL_SERVER_ERROR, "the page can't be made".into());
        let mut request = Request::get(path);
        for cookie in headers.get_all(header::COOKIE) {
            request = request.header(header::COOKIE, cookie);
        }
        let request = request.body(Body::empty()).map_err(|error| broken(error.to_string()))?;
        let Ok(response) = self.api.clone().oneshot(request).await;
        let status = response.status();
        let octets = to_bytes(response.into_body(), MAX_ANSWER_OCTETS).await;
        let octets = octets.map_err(|error| broken(error.to_string()))?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(Told::LogIn);
        }
        if !status.is_success() {
            let detail = serde_json::from_slice::<Detail>(&octets).map(|said| said.detail);
            return Err(Told::Refused(status, detail.unwrap_or_else(|_| status.to_string())));
        }
        serde_json::from_slice(&octets).map_err(|error| {
            log::error!("page: the answer of {path} has another form: {error}");
            broken(error.to_string())
        })
    }

    /// The frame of a page at this path.
    async fn frame(&self, headers: &HeaderMap, path: &'static str) -> Result<Frame, Told> {
        let session: model::Session = self.ask(headers, "/session").await?;
        let display = session.display.unwrap_or_else(|| session.user.clone());
        Ok(Frame { user: session.user, display, permissions: session.permissions, path })
    }

    /// A page, or the one shown instead.
    async fn shown<T: Template>(&self, headers: &HeaderMap, uri: &Uri, made: Result<T, Told>) -> Response {
        match made {
            Ok(page) => render(StatusCode::OK, &page),
            Err(Told::LogIn) => {
                let next = uri.path_and_query().map_or("/", |next| next.as_str());
                Redirect::to(&format!("/login?next={}", encoded(next))).into_response()
            }
            Err(Told::Refused(status, detail)) => match self.frame(headers, "").await {
                Ok(frame) => {
                    let title = status.canonical_reason().unwrap_or("It did not work").to_owned();
                    render(status, &ToldPage { frame, title, detail })
                }
                Err(_) => (status, detail).into_response(),
            },
        }
    }
}

/// The frame around every page.
struct Frame {
    user: String,
    /// The name for people.
    display: String,
    permissions: Vec<String>,
    path: &'static str,
}

struct Item {
    name: &'static str,
    path: &'static str,
    current: bool,
}

impl Frame {
    /// Whether the user has this permission for at least one call. The API decides for which.
    fn may(&self, permission: &str) -> bool {
        self.permissions.iter().any(|known| known == permission)
    }

    /// The pages that they may open.
    fn items(&self) -> Vec<Item> {
        let all = [
            ("Calls", "/", "call.search"),
            ("Live", "/live", "audio.live"),
            ("Holds", "/holds", "hold.place"),
            ("Policies", "/policies", "policy.edit"),
            ("Exports", "/exports", "export.create"),
            ("Deletions", "/deletions", "delete.request"),
            ("Audit", "/audit", "audit.read"),
            ("Accounts", "/accounts", "account.edit"),
            ("System", "/health", "config.edit"),
        ];
        let open = all.into_iter().filter(|(_, path, permission)| {
            // Exports that wait for a second person are there, too.
            self.may(permission) || *path == "/exports" && self.may("export.approve")
        });
        open.map(|(name, path, _)| Item { name, path, current: path == self.path }).collect()
    }
}

#[derive(Template)]
#[template(path = "told.html")]
struct ToldPage {
    frame: Frame,
    title: String,
    detail: String,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LogIn {
    next: String,
    /// The host of the provider, if there is one.
    provider: Option<String>,
}

/// The page of a refused log-in by the provider.
#[derive(Template)]
#[template(path = "not-in.html")]
pub(super) struct NotIn {
    /// The refusal.
    pub(super) detail: String,
    /// The next step.
    pub(super) more: String,
}

/// The page of the set-up link.
#[derive(Template)]
#[template(path = "setup.html")]
pub(super) struct SetUp {
    /// The account was made.
    pub(super) done: bool,
}

#[derive(Deserialize)]
struct Next {
    next: Option<String>,
}

/// `GET /login`
async fn log_in(State(pages): State<Pages>, Query(Next { next }): Query<Next>) -> Response {
    let provider = pages.app.provider.as_ref().map(|provider| provider.host().to_owned());
    render(StatusCode::OK, &LogIn { next: own_path(next), provider })
}

/// A path of the archive's own, and of no other site.
pub(super) fn own_path(next: Option<String>) -> String {
    let is_ours = |next: &String| {
        next.starts_with('/') && !next.starts_with("//") && !next.chars().any(|c| c == '\\' || c.is_control())
    };
    next.filter(is_ours).unwrap_or_else(|| "/".into())
}

pub(super) fn render<T: Template>(status: StatusCode, page: &T) -> Response {
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            log::error!("page: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A text as a part of a URL's query.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(octet.into()),
            _ => out.push_str(&format!("%{octet:02X}")),
        }
    }
    out
}
