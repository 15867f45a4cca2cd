//! The HTTP API: routes, errors, and callers.
//!
//! Owns: the table of routes, the state that requests share, headers that every answer has. Never: decisions
//! about calls, which are [`crate::access::authorize`]'s. Invariants: each route of the API names its
//! permission; an answer about a call comes after its audit entry; an object that the user may not see is
//! 404, as if it did not exist.

mod admin;
mod audio;
mod caller;
mod calls;
mod deletions;
mod events;
mod evidence;
mod exports;
mod holds;
mod live;
mod oidc;
mod openapi;
mod page;
mod params;
mod people;
mod policies;
mod problem;
mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

pub(crate) use admin::shown_grant;
pub(crate) use people::{Limits, account_name};

use crate::access::heard::Heard;
use crate::catalogue::Catalogue;
use crate::clock;
use crate::config::Config;
use crate::events::Events;
use crate::id::Id;
use crate::live::Live;
use crate::media::derived::Store;
use crate::media::vault::Vault;
use crate::media::view::States;
use crate::oidc::provider::{CALLBACK, Provider};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use people::Attempts;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, watch};

/// Largest body of a request.
const MAX_BODY_OCTETS: usize = 64 << 10;
/// Passwords that are hashed at once: each takes memory and a core.
const HASHES_AT_ONCE: usize = 2;

/// The state that requests share.
pub(crate) struct App {
    catalogue: Arc<dyn Catalogue>,
    config: Config,
    states: Arc<States>,
    derived: Store,
    vault: Vault,
    /// The last time at which a listening of a user to a recording was noted.
    plays: Mutex<HashMap<(Id, Id), i64>>,
    /// The audio sent to listeners.
    heard: Mutex<Heard>,
    attempts: Mutex<Attempts>,
    hashes: Semaphore,
    /// The provider that knows people.
    provider: Option<Provider>,
    /// Its strangers.
    refusals: Mutex<oidc::Refusals>,
    /// Events, for streams.
    events: Events,
    streams: Arc<Semaphore>,
    /// Running recordings.
    live: Arc<Live>,
    listeners: Arc<Semaphore>,
    /// Looks at every call at once.
    previews: Semaphore,
    /// Becomes true when the server ends.
    ends: watch::Sender<bool>,
}

impl App {
    /// The state of a server that has just started.
    #[cfg(test)]
    pub(crate) fn new(catalogue: Arc<dyn Catalogue>, config: Config) -> Arc<Self> {
        Self::with_vault(catalogue, config, Vault::default())
    }

    /// The same, with the vault for encrypted recordings.
    #[cfg(test)]
    pub(crate) fn with_vault(catalogue: Arc<dyn Catalogue>, config: Config, vault: Vault) -> Arc<Self> {
        Self::made_of(catalogue, config, vault, None)
    }

    /// The same, with the provider of log-ins.
    pub(crate) fn made_of(
        catalogue: Arc<dyn Catalogue>,
        config: Config,
        vault: Vault,
        provider: Option<Provider>,
    ) -> Arc<Self> {
        Arc::new(Self {
            catalogue,
            derived: Store::new(&config.data).with_vault(vault.clone()),
            vault,
            config,
            states: Arc::default(),
            plays: Mutex::default(),
            heard: Mutex::default(),
            attempts: Mutex::default(),
            hashes: Semaphore::new(HASHES_AT_ONCE),
            provider,
            refusals: Mutex::default(),
            events: Events::default(),
            streams: Arc::new(Semaphore::new(stream::MAX_STREAMS)),
            live: Arc::default(),
            listeners: Arc::new(Semaphore::new(live::MAX_LISTENERS)),
            previews: Semaphore::new(1),
            ends: watch::Sender::new(false),
        })
    }

    /// The channel for events.
    pub(crate) fn events(&self) -> Events {
        self.events.clone()
    }

    /// The running recordings.
    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Logs listening that has ended; with `all`, all of it. Entries that can't be logged are kept.
    pub(crate) async fn log_heard(&self, all: bool) {
        let lock = || self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let over = lock().over(clock::now_us(), all);
        if over.is_empty() {
            return;
        }
        if let Err(error) = self.catalogue.log(&over).await {
            log::warn!("audit: listening can't be noted yet: {error}");
            lock().put_back(over);
        }
    }

    /// Ends the streams that would go on by themselves.
    pub(crate) fn end(&self) {
        self.ends.send_replace(true);
    }
}

/// All routes.
pub(crate) fn routes(app: Arc<App>) -> Router {
    let api = Router::new()
        .route("/session", get(people::session).post(people::log_in).delete(people::log_out))
        .route("/calls", get(calls::list))
        .route("/calls/days", get(calls::days))
        .route("/calls/{id}", get(calls::one))
        .route("/calls/{id}/tags", put(calls::set_tags))
        .route("/calls/{id}/notes", post(calls::add_note))
        .route("/calls/{id}/apart", post(calls::set_apart))
        .route("/recordings/{id}/audio", get(audio::audio))
        .route("/recordings/{id}/peaks", get(audio::peaks))
        .route("/recordings/{id}/original", get(audio::original))
        .route("/live", get(live::list))
        .route("/live/{id}/audio", get(live::audio))
        .route("/exports", get(exports::list).post(exports::ask))
        .route("/exports/{id}", get(exports::one))
        .route("/exports/{id}/approve", post(exports::approve))
        .route("/exports/{id}/reject", post(exports::reject))
        .route("/exports/{id}/package", get(exports::package))
        .route("/events", post(events::put_events).layer(DefaultBodyLimit::max(events::MAX_BULK_OCTETS)))
        .route("/events/{id}", get(events::one))
        .route("/cdrs", post(events::put_cdrs).layer(DefaultBodyLimit::max(events::MAX_BULK_OCTETS)))
        .route("/holds", get(holds::list).post(holds::place))
        .route("/holds/{id}", get(holds::one))
        .route("/holds/{id}/release", post(holds::release))
        .route("/policies", get(policies::get).put(policies::put))
        .route("/policies/preview", post(policies::previewed))
        .route("/policies/{id}/approve", post(policies::approve))
        .route("/policies/{id}/reject", post(policies::reject))
        .route("/deletions", get(deletions::list).post(deletions::ask))
        .route("/deletions/{id}/approve", post(deletions::approve))
        .route("/deletions/{id}/reject", post(deletions::reject))
        .route("/deletions/{id}/restore", post(deletions::restore))
        .route("/audit", get(people::audit))
        .route("/audit/checkpoint", get(evidence::checkpoint))
        .route("/accounts", get(admin::accounts).post(admin::add_account))
        .route("/accounts/{id}/disable", post(admin::disable_account))
        .route("/health", get(admin::health))
        .route("/stream", get(stream::stream))
        .route("/openapi.json", get(openapi::description));
    let pages = page::routes(Arc::clone(&app), api.clone().with_state(Arc::clone(&app)));
    Router::new()
        .nest("/api/v1", api)
        .route("/setup", get(people::setup_page).post(people::set_up))
        .route("/login/oidc", get(oidc::begin))
        .route(CALLBACK, get(oidc::back))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(app)
        .merge(pages)
        .fallback(|| async { problem::Problem::not_found() })
        .layer(from_fn(headers))
        .layer(DefaultBodyLimit::max(MAX_BODY_OCTETS))
}

/// Headers of every answer, and errors that came from before a handler as all others.
async fn headers(request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let mut response = next.run(request).await;
    if is_api {
        response = problem::whole(response);
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, "default-src 'self'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-store"));
    response
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.catalogue.totals().await {
        Ok(_) => "ready\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let Ok(totals) = app.catalogue.totals().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let lines = [
        ("recordings", "Recordings in the catalogue.", totals.recordings),
        ("quarantined_files", "Files that can't be taken.", totals.quarantine),
        ("missing_segments", "Files that are not where they were.", totals.missing),
    ];
    let text: String = lines
        .iter()
        .map(|(name, help, value)| {
            let name = format!("recordarchive_{name}");
            format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n")
        })
        .collect();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
