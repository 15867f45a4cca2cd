//! Pages for administrators: audit, accounts, system.

use super::model::{when, words};
use super::{Frame, Pages, Told, encoded};
use crate::access::Role;
use askama::Template;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct AuditParams {
    actor: Option<String>,
    before: Option<i64>,
}

#[derive(Deserialize)]
struct Entry {
    seq: i64,
    at: String,
    actor: String,
    action: String,
    object: String,
    result: String,
    #[serde(default)]
    detail: Value,
    #[serde(skip)]
    when: String,
}

impl Entry {
    fn more(&self) -> String {
        words(&self.detail)
    }
}

#[derive(Deserialize)]
struct Entries {
    entries: Vec<Entry>,
    next: Option<i64>,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    actor: String,
    entries: Vec<Entry>,
    next: Option<String>,
}

/// `GET /audit`
pub(super) async fn audit(
    State(pages): State<Pages>,
    Query(params): Query<AuditParams>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let made = make_audit(&pages, params, &headers).await;
    pages.shown(&headers, &uri, made).await
}

async fn make_audit(pages: &Pages, params: AuditParams, headers: &HeaderMap) -> Result<AuditPage, Told> {
    let frame = pages.frame(headers, "/audit").await?;
    let actor = params.actor.unwrap_or_default();
    let who = if actor.is_empty() { String::new() } else { format!("&actor={}", encoded(&actor)) };
    let from = params.before.map(|before| format!("&before={before}")).unwrap_or_default();
    let mut found: Entries = pages.ask(headers, &format!("/audit?limit=100{who}{from}")).await?;
    for entry in &mut found.entries {
        entry.when = when(&entry.at, &pages.app.config.site.zone);
    }
    let next = found.next.map(|before| format!("/audit?before={before}{who}"));
    Ok(AuditPage { frame, actor, entries: found.entries, next })
}

#[derive(Deserialize)]
struct AccountGrant {
    role: String,
    extensions: Vec<String>,
    sites: Vec<String>,
    from: Option<String>,
    to: Option<String>,
    expires: Option<String>,
}

#[derive(Deserialize)]
struct Account {
    name: String,
    display: Option<String>,
    disabled: bool,
    grants: Vec<AccountGrant>,
}

impl Account {
    fn roles(&self) -> String {
        self.grants.iter().map(|grant| grant.role.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The limits of roles, a line each.
    fn limits(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for grant in &self.grants {
            if !grant.sites.is_empty() {
                lines.push(format!("sites {}", grant.sites.join(", ")));
            }
            let times = [("calls from", &grant.from), ("calls until", &grant.to), ("ends", &grant.expires)];
            let said = times.iter().filter_map(|(name, time)| Some(format!("{name} {}", time.as_ref()?)));
            lines.extend(said);
        }
        lines
    }

    fn extensions(&self) -> String {
        let all: Vec<&str> =
            self.grants.iter().flat_map(|grant| &grant.extensions).map(String::as_str).collect();
        all.join(", ")
    }
}

#[derive(Deserialize)]
struct Accounts {
    accounts: Vec<Account>,
}

#[derive(Template)]
#[template(path = "accounts.html")]
struct AccountsPage {
    frame: Frame,
    accounts: Vec<Account>,
    roles: Vec<&'static str>,
}

/// `GET /accounts`
pub(super) async fn accounts(State(pages): State<Pages>, headers: HeaderMap, uri: Uri) -> Response {
    let made = async {
        let frame = pages.frame(&headers, "/accounts").await?;
        let Accounts { accounts } = pages.ask(&headers, "/accounts").await?;
        Ok(AccountsPage { frame, accounts, roles: Role::ALL.map(Role::name).to_vec() })
    };
    let made = made.await;
    pages.shown(&headers, &uri, made).await
}

#[derive(Deserialize)]
struct Folder {
    path: String,
    role: String,
    state: String,
    free_octets: Option<u64>,
}

impl Folder {
    fn room(&self) -> String {
        self.free_octets.map(|octets| format!("{} GB", octets / 1_000_000_000)).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Quarantined {
    file: String,
    reason: String,
    since: String,
    #[serde(skip)]
    when: String,
}

#[derive(Deserialize)]
struct Health {
    recordings: i64,
    missing: i64,
    quarantined: i64,
    accounts: i64,
    version: String,
    folders: Vec<Folder>,
    quarantine: Vec<Quarantined>,
}

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    frame: Frame,
    figures: Vec<(&'static str, String)>,
    folders: Vec<Folder>,
    quarantine: Vec<Quarantined>,
}

/// `GET /health`
pub(super) async fn health(State(pages): State<Pages>, headers: HeaderMap, uri: Uri) -> Response {
    let made = async {
        let frame = pages.frame(&headers, "/health").await?;
        let mut found: Health = pages.ask(&headers, "/health").await?;
        for file in &mut found.quarantine {
            file.when = when(&file.since, &pages.app.config.site.zone);
        }
        let figures = vec![
            ("Recordings", found.recordings.to_string()),
            ("Files that are missing", found.missing.to_string()),
            ("Files that can't be taken", found.quarantined.to_string()),
            ("Accounts", found.accounts.to_string()),
            ("Version", found.version),
        ];
        Ok(HealthPage { frame, figures, folders: found.folders, quarantine: found.quarantine })
    };
    let made = made.await;
    pages.shown(&headers, &uri, made).await
}
