//! Logging in and out, the set-up link, and the audit log.

use super::App;
use super::caller::{caller, cookie_name, is_secure, same_origin, session_key};
use super::page;
use super::problem::Problem;
use crate::access::audit::Entry;
use crate::access::secret::{hash_password, is_password, key_hash, new_key};
use crate::access::totp;
use crate::access::{Grant, Permission, Role, Use, Within, authorize, permit_for_all};
use crate::catalogue::model::{Account, Session};
use crate::clock;
use crate::id::{Id, hex};
use crate::time::{SECOND_US, day_begins, day_ends, parse, rfc3339};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// Attempts on an account before one has to wait.
const FREE_ATTEMPTS: u32 = 5;
/// The first wait; each further failure doubles it.
const FIRST_WAIT_S: i64 = 30;
/// Longest wait.
const MAX_WAIT_S: i64 = 900;
/// Accounts of which attempts are counted.
const MAX_COUNTED: usize = 10_000;
/// Entries of a page of the audit log.
const MAX_ENTRIES: u32 = 200;
/// Characters of an account's name.
pub(crate) const MAX_NAME_CHARS: usize = 64;

/// Failed attempts to log in.
#[derive(Debug, Default)]
pub(super) struct Attempts(HashMap<String, (u32, i64)>);

impl Attempts {
    /// Seconds to wait before the next one, if any.
    fn wait_s(&self, name: &str, now_us: i64) -> Option<u64> {
        let (count, last_us) = self.0.get(name)?;
        let over = count.checked_sub(FREE_ATTEMPTS)?;
        let wait_us = MAX_WAIT_S.min(FIRST_WAIT_S << over.min(10)) * SECOND_US;
        let left_us = last_us + wait_us - now_us;
        u64::try_from(left_us).ok().filter(|left| *left > 0).map(|left| left.div_ceil(1_000_000))
    }

    fn failed(&mut self, name: &str, now_us: i64) {
        if self.0.len() >= MAX_COUNTED {
            self.0.retain(|_, (_, last_us)| now_us - *last_us < MAX_WAIT_S * SECOND_US);
            if self.0.len() >= MAX_COUNTED {
                self.0.clear();
            }
        }
        let (count, last_us) = self.0.entry(name.to_owned()).or_default();
        (*count, *last_us) = (count.saturating_add(1), now_us);
    }
}

#[derive(Deserialize)]
struct Credentials {
    user: String,
    password: String,
    totp: Option<String>,
}

/// `POST /session`
pub(super) async fn log_in(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    same_origin(&headers)?;
    let wanted = "a JSON object with user and password";
    let Credentials { user, password, totp: code } =
        serde_json::from_slice(&body).map_err(|_| Problem::bad(wanted))?;
    let user: String = user.chars().take(MAX_NAME_CHARS).collect();
    let now_us = clock::now_us();
    let lock = || app.attempts.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(seconds) = lock().wait_s(&user, now_us) {
        return Err(Problem::later(seconds));
    }
    // Counted before the password is looked at: many requests at once are many attempts.
    lock().failed(&user, now_us);
    let account = app.catalogue.account(&user).await?.filter(|account| !account.disabled);
    let kept = account.as_ref().and_then(|account| account.password.clone());
    let permit = app.hashes.acquire().await;
    let fits =
        tokio::task::spawn_blocking(move || is_password(&password, kept.as_deref())).await.unwrap_or(false);
    drop(permit);
    let Some(account) = account.filter(|_| fits) else {
        app.catalogue.log(&[Entry::new(now_us, &user, "login", &user).result("failed")]).await?;
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "user or password is wrong"));
    };
    if let Some(secret) = app.catalogue.totp(account.id).await? {
        let Some(code) = code else {
            // The password is known to somebody: that is to be seen, too.
            let entry = Entry::new(now_us, &user, "login", &user).result("failed");
            app.catalogue.log(&[entry.with(&json!({"why": "no second factor"}))]).await?;
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "the account has a second factor: add totp"));
        };
        // A code works once: somebody may have seen it.
        let is_good = match totp::step(&secret, &code, now_us) {
            Some(step) => app.catalogue.take_totp_step(account.id, step).await?,
            None => false,
        };
        if !is_good {
            let entry = Entry::new(now_us, &user, "login", &user).result("failed");
            app.catalogue.log(&[entry.with(&json!({"why": "second factor"}))]).await?;
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "the code is wrong, or was used"));
        }
    }
    lock().0.remove(&user);
    let key = new_key();
    let session = Session { key_hash: key_hash(&key), account: account.id, began_us: now_us };
    app.catalogue.open_session(&session, &Entry::new(now_us, &user, "login", &user)).await?;
    Ok((
        [(header::SET_COOKIE, session_cookie(&app, &key, app.config.session_max_s))],
        Json(json!({"user": user})),
    )
        .into_response())
}

/// The cookie of a session.
pub(super) fn session_cookie(app: &App, key: &str, max_age_s: i64) -> String {
    let secure = if is_secure(app) { "; Secure" } else { "" };
    format!("{}={key}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_s}{secure}", cookie_name(app))
}

/// `DELETE /session`
pub(super) async fn log_out(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let key = session_key(&app, &headers).ok_or_else(Problem::who)?;
    let entry = Entry::new(clock::now_us(), &actor.name, "logout", &actor.name);
    app.catalogue.close_session(&key_hash(key), &entry).await?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, session_cookie(&app, "", 0))]).into_response())
}

#[derive(Deserialize)]
pub(super) struct AuditParams {
    before: Option<i64>,
    actor: Option<String>,
    limit: Option<u32>,
}

/// `GET /audit`
pub(super) async fn audit(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    params: Result<Query<AuditParams>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    permit_for_all(&actor, Permission::AuditRead, now_us)?;
    let Query(params) = params.map_err(|error| Problem::bad(error.body_text()))?;
    app.catalogue.log(&[Entry::new(now_us, &actor.name, "audit", "")]).await?;
    let limit = params.limit.unwrap_or(50).clamp(1, MAX_ENTRIES);
    let links = app.catalogue.audit_newest(params.before, params.actor.as_deref(), limit).await?;
    let next = links.last().filter(|last| last.seq > 1 && links.len() == limit as usize).map(|last| last.seq);
    let entry = |link: &crate::access::audit::Link| {
        let detail: Option<serde_json::Value> = serde_json::from_str(&link.entry.detail).ok();
        json!({
            "seq": link.seq, "at": rfc3339(link.entry.at_us), "actor": link.entry.actor, "action": link.entry.action,
            "object": link.entry.object, "result": link.entry.result, "detail": detail,
            "previous": hex(&link.previous), "hash": hex(&link.hash),
        })
    };
    let entries: Vec<_> = links.iter().map(entry).collect();
    Ok(Json(json!({"entries": entries, "next": next})).into_response())
}

/// `GET /session`: the user's account and permissions.
pub(super) async fn session(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    // With a reason, if one is needed: it is asked for when there is something to hear.
    let is_held = |permission: &Permission| authorize(&actor, *permission, Some("-"), now_us).is_ok();
    let held = Permission::ALL.into_iter().filter(is_held).map(Permission::name);
    let held: Vec<_> = held.collect();
    let display = app.catalogue.identity(actor.account).await?.map(|identity| identity.display);
    Ok(Json(json!({"user": actor.name, "display": display, "permissions": held})).into_response())
}

/// `GET /setup`: the page of the set-up link.
pub(super) async fn setup_page() -> Response {
    page::render(StatusCode::OK, &page::SetUp { done: false })
}

#[derive(Deserialize)]
pub(super) struct SetupKey {
    key: Option<String>,
}

/// `POST /setup`
pub(super) async fn set_up(
    State(app): State<Arc<App>>,
    Query(SetupKey { key }): Query<SetupKey>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    same_origin(&headers)?;
    let text = format!("http://form/?{}", String::from_utf8_lossy(&body));
    let uri: axum::http::Uri = text.parse().map_err(|_| Problem::bad("a form with user and password"))?;
    let form = Query::<Credentials>::try_from_uri(&uri);
    let Query(Credentials { user, password, .. }) =
        form.map_err(|_| Problem::bad("a form with user and password"))?;
    let name = account_name(&user).map_err(Problem::bad)?;
    let permit = app.hashes.acquire().await;
    let hash = tokio::task::spawn_blocking(move || hash_password(&password)).await;
    drop(permit);
    let hash = hash.unwrap_or_else(|_| Err("the password can't be hashed".into())).map_err(Problem::bad)?;
    let now_us = clock::now_us();
    let account = Account { id: Id::random(now_us), name, password: Some(hash), disabled: false };
    let entry =
        Entry::new(now_us, &account.name, "account.add", &account.name).with(&json!({"role": "admin"}));
    if app.catalogue.set_up(&key_hash(&key.unwrap_or_default()), now_us, &account, &entry).await? {
        Ok(page::render(StatusCode::OK, &page::SetUp { done: true }))
    } else {
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the link was used, or is older than an hour: restart the archive",
        ))
    }
}

/// The most sites of a grant.
const MAX_SITES: usize = 50;
/// Pairs of an extension and a site that one grant may have: SQLite bounds the values of a query.
const MAX_PAIRS: usize = 80;

/// The limits of a grant, as people write them: a day, or RFC 3339. The last day is part of it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Limits {
    /// Calls of these sites.
    #[serde(default)]
    pub(crate) sites: Vec<String>,
    /// Calls from then on.
    pub(crate) from: Option<String>,
    /// Calls until then.
    pub(crate) to: Option<String>,
    /// The end of the grant.
    pub(crate) expires: Option<String>,
}

impl Limits {
    /// A grant with these limits.
    ///
    /// # Errors
    /// They do not fit, for a person.
    pub(crate) fn grant(&self, role: Role, uses: Vec<Use>, zone: &TimeZone) -> Result<Grant, String> {
        let fits = |site: &String| !site.is_empty() && recfile::text::is_harmless(site);
        if self.sites.len() > MAX_SITES || !self.sites.iter().all(fits) {
            return Err(format!("at most {MAX_SITES} sites, each with a name"));
        }
        // Each pair is a condition of every query.
        if self.sites.len() * uses.len().max(1) > MAX_PAIRS {
            return Err(format!("at most {MAX_PAIRS} pairs of an extension and a site: use two accounts"));
        }
        let wrong = |text: &str| format!("{text:?} is neither a day, 2026-11-01, nor a time of RFC 3339");
        let begins =
            |text: &String| day_begins(text, zone).or_else(|| parse(text)).ok_or_else(|| wrong(text));
        let ends = |text: &String| day_ends(text, zone).or_else(|| parse(text)).ok_or_else(|| wrong(text));
        let within = Within {
            sites: self.sites.clone(),
            from_us: self.from.as_ref().map(begins).transpose()?,
            to_us: self.to.as_ref().map(ends).transpose()?,
        };
        let expires_us = self.expires.as_ref().map(ends).transpose()?;
        Ok(Grant { role, uses, within, expires_us })
    }
}

/// A name that an account may have.
///
/// # Errors
/// It may not, for a person.
pub(crate) fn account_name(name: &str) -> Result<String, String> {
    let fits = |c: char| c.is_alphanumeric() || "._@-".contains(c);
    let count = name.chars().count();
    if (1..=MAX_NAME_CHARS).contains(&count) && name.chars().all(fits) {
        Ok(name.to_owned())
    } else {
        Err(format!("a name has 1 to {MAX_NAME_CHARS} letters, digits, dots, dashes, underscores or @"))
    }
}
