//! Requests of administrators: accounts, and the health of the archive.

use super::App;
use super::caller::caller;
use super::people::{Limits, account_name};
use super::problem::Problem;
use crate::access::audit::Entry;
use crate::access::secret::hash_password;
use crate::access::{Grant, Permission, Role, Use, Within, permit_for_all};
use crate::catalogue::model::Account;
use crate::clock;
use crate::id::Id;
use crate::number::is_extension;
use crate::time::rfc3339;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use nix::sys::statvfs::statvfs;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Files that can't be taken that are listed.
const LISTED: u32 = 100;
/// Extensions of an account.
const MAX_EXTENSIONS: usize = 200;

/// A grant in answers and in the audit log.
pub(crate) fn shown_grant(grant: &Grant) -> Value {
    let extensions: Vec<&str> = grant.uses.iter().map(|used| used.extension.as_str()).collect();
    let Within { sites, from_us, to_us } = &grant.within;
    json!({
        "role": grant.role.name(), "extensions": extensions, "sites": sites, "from": from_us.map(rfc3339),
        "to": to_us.map(rfc3339), "expires": grant.expires_us.map(rfc3339),
    })
}

/// `GET /accounts`
pub(super) async fn accounts(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    permit_for_all(&actor, Permission::AccountEdit, clock::now_us())?;
    let identities = app.catalogue.identities().await?;
    let shown = |(account, grants): &(Account, Vec<Grant>)| {
        let grants: Vec<Value> = grants.iter().map(shown_grant).collect();
        let identity = identities.iter().find(|identity| identity.account == account.id);
        let (display, provider) = identity.map(|of| (&of.display, &of.issuer)).unzip();
        json!({"name": account.name, "display": display, "provider": provider, "disabled": account.disabled, "grants": grants})
    };
    let accounts: Vec<Value> = app.catalogue.accounts().await?.iter().map(shown).collect();
    Ok(Json(json!({"accounts": accounts})).into_response())
}

#[derive(Deserialize)]
struct NewAccount {
    name: String,
    role: String,
    password: String,
    #[serde(default)]
    extensions: Vec<String>,
    #[serde(flatten)]
    limits: Limits,
}

/// `POST /accounts`
pub(super) async fn add_account(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    permit_for_all(&actor, Permission::AccountEdit, now_us)?;
    let wanted = |_| {
        Problem::bad(
            "a JSON object with name, role, password, and extensions, sites, from, to, expires or not",
        )
    };
    let new: NewAccount = serde_json::from_slice(&body).map_err(wanted)?;
    let name = account_name(&new.name).map_err(Problem::bad)?;
    let there_is_none = || Problem::bad(format!("there is no role {:?}", new.role));
    let role = Role::from_name(&new.role).ok_or_else(there_is_none)?;
    let fits = |extension: &String| is_extension(extension);
    if new.extensions.len() > MAX_EXTENSIONS || !new.extensions.iter().all(fits) {
        return Err(Problem::bad(format!("at most {MAX_EXTENSIONS} extensions, each of digits")));
    }
    if role.is_by_extension() && new.extensions.is_empty() {
        return Err(Problem::bad(format!("{} is a role for extensions: name one at least", role.name())));
    }
    let permit = app.hashes.acquire().await;
    let hash = tokio::task::spawn_blocking(move || hash_password(&new.password)).await;
    drop(permit);
    let hash = hash.unwrap_or_else(|_| Err("the password can't be hashed".into())).map_err(Problem::bad)?;
    let mut uses = Vec::new();
    for extension in new.extensions {
        let from_us = app.catalogue.extension_from(&extension, now_us).await?;
        uses.push(Use { extension, from_us, to_us: None });
    }
    let grant = new.limits.grant(role, uses, &app.config.site.zone).map_err(Problem::bad)?;
    let said = shown_grant(&grant);
    let account = Account { id: Id::random(now_us), name, password: Some(hash), disabled: false };
    let entry = Entry::new(now_us, &actor.name, "account.add", &account.name).with(&said);
    app.catalogue.add_account(&account, &grant, &entry).await?;
    Ok((StatusCode::CREATED, Json(json!({"name": account.name, "role": role.name()}))).into_response())
}

/// `POST /accounts/{id}/disable`; the id of an account is its name.
pub(super) async fn disable_account(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    permit_for_all(&actor, Permission::AccountEdit, now_us)?;
    if name == actor.name {
        return Err(Problem::new(StatusCode::CONFLICT, "nobody disables the account that they use"));
    }
    let entry = Entry::new(now_us, &actor.name, "account.disable", &name);
    if app.catalogue.disable(&name, &entry).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(Problem::not_found())
    }
}

/// `GET /health`: the state of the archive, for administrators.
pub(super) async fn health(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    permit_for_all(&actor, Permission::ConfigEdit, clock::now_us())?;
    let totals = app.catalogue.totals().await?;
    let quarantine = app.catalogue.quarantine(LISTED).await?;
    let quarantine: Vec<Value> = quarantine
        .iter()
        .map(|broken| {
            let file = crate::media::path(&broken.place);
            json!({"file": file.to_string_lossy(), "reason": broken.reason, "since": rfc3339(broken.since_us)})
        })
        .collect();
    let config = app.config.clone();
    let folders = tokio::task::spawn_blocking(move || {
        config
            .folders()
            .map(|(path, role)| {
                let state = match std::fs::read_dir(path) {
                    Ok(_) => "ok".to_owned(),
                    Err(error) => error.to_string(),
                };
                let free = statvfs(path).ok().map(|room| room.blocks_available() * room.fragment_size());
                json!({"path": path.to_string_lossy(), "role": role, "state": state, "free_octets": free})
            })
            .collect::<Vec<_>>()
    });
    let folders = folders.await.unwrap_or_default();
    let answer = json!({
        "version": env!("CARGO_PKG_VERSION"), "recordings": totals.recordings, "missing": totals.missing,
        "quarantined": totals.quarantine, "accounts": totals.accounts, "folders": folders, "quarantine": quarantine,
    });
    Ok(Json(answer).into_response())
}
