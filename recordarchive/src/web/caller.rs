//! The caller of a request: a session's cookie or a token, and whether a foreign page sent the request.

use super::App;
use super::problem::Problem;
use crate::access::Actor;
use crate::access::secret::key_hash;
use crate::clock;
use crate::time::SECOND_US;
use axum::http::{HeaderMap, Method, StatusCode, header};

/// The cookie's name; with TLS one that only this host can set.
pub(super) fn cookie_name(app: &App) -> &'static str {
    if is_secure(app) { "__Host-recordarchive" } else { "recordarchive" }
}

pub(super) fn is_secure(app: &App) -> bool {
    app.config.base_url().starts_with("https://")
}

/// The session key in a request.
pub(super) fn session_key<'h>(app: &App, headers: &'h HeaderMap) -> Option<&'h str> {
    cookie(headers, cookie_name(app))
}

/// The value of a cookie in a request.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Refuses a request that another site's page made a browser send.
pub(super) fn same_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_ours = match (text(header::HeaderName::from_static("sec-fetch-site")), text(header::ORIGIN)) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host == text(header::HOST)
        }
        // No browser: a program without a user's cookies can't be made to use them.
        (None, None) => true,
    };
    if is_ours {
        Ok(())
    } else {
        Err(Problem::new(StatusCode::FORBIDDEN, "the request comes from another site"))
    }
}

/// The caller.
pub(super) async fn caller(app: &App, method: &Method, headers: &HeaderMap) -> Result<Actor, Problem> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let token = value.to_str().ok().and_then(|value| value.split_once(' '));
        let token =
            token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let actor = app.catalogue.token(&key_hash(token.ok_or_else(Problem::who)?)).await?;
        return actor.ok_or_else(Problem::who);
    }
    let key = session_key(app, headers).ok_or_else(Problem::who)?;
    if !method.is_safe() {
        same_origin(headers)?;
    }
    let now_us = clock::now_us();
    let idle_before_us = now_us - app.config.session_idle_s * SECOND_US;
    let began_after_us = now_us - app.config.session_max_s * SECOND_US;
    let actor = app.catalogue.session(&key_hash(key), now_us, idle_before_us, began_after_us).await?;
    actor.ok_or_else(Problem::who)
}
