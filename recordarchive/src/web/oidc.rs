//! Logging in by the provider: the way there, and the way back.
//!
//! Owns: two routes, the cookie between them, and the pages of refusals. Invariants: the session is begun,
//! and the account changed, in one transaction with the audit entry; a refusal tells the person the next
//! step, and the audit log the cause.

use super::App;
use super::caller::is_secure;
use super::page::{self, own_path};
use super::people::session_cookie;
use super::problem::Problem;
use crate::access::audit::Entry;
use crate::access::secret::{key_hash, new_key};
use crate::catalogue::identity::{Entered, Entrance};
use crate::clock;
use crate::oidc::attempt::{Attempt, MAX_AGE_S};
use crate::oidc::person::Unfit;
use crate::oidc::provider::{Back, Provider, Trouble};
use crate::time::SECOND_US;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError};

/// The actor in the audit log while the person is unknown.
const NOBODY: &str = "(oidc)";
/// Refusals of strangers that the audit log has of a minute; more are counted in the next one.
const MAX_REFUSALS_A_MINUTE: u32 = 60;

/// Refusals of strangers.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    minute: i64,
    noted: u32,
    left_out: u64,
}

impl Refusals {
    /// How many were left out before this one; `None`: it is left out itself.
    fn note(&mut self, now_us: i64) -> Option<u64> {
        let minute = now_us.div_euclid(60 * SECOND_US);
        if self.minute != minute {
            (self.minute, self.noted) = (minute, 0);
        }
        if self.noted >= MAX_REFUSALS_A_MINUTE {
            self.left_out += 1;
            return None;
        }
        self.noted += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Why a person is not let in.
enum Refusal {
    /// The provider or its answer is the reason.
    Trouble(Trouble),
    /// The account is disabled.
    Disabled(String),
    /// The log-in was used before.
    Again,
    /// The archive itself does not work.
    Failed(Problem),
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

fn cookie_name(app: &App) -> &'static str {
    if is_secure(app) { "__Host-recordarchive-login" } else { "recordarchive-login" }
}

/// A cookie that comes along when the provider sends the browser back.
fn cookie(app: &App, value: &str, max_age_s: i64) -> String {
    let secure = if is_secure(app) { "; Secure" } else { "" };
    format!("{}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_s}{secure}", cookie_name(app))
}

#[derive(Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

/// `GET /login/oidc`
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    next: Result<Query<Next>, QueryRejection>,
) -> Response {
    let Some(provider) = &app.provider else { return Problem::not_found().into_response() };
    let next = next.ok().and_then(|Query(Next { next })| next);
    let now_us = clock::now_us();
    let attempt = Attempt::new(now_us, &own_path(next));
    match provider.begin(&attempt, now_us).await {
        Ok(url) => {
            let cookie = cookie(&app, &attempt.cookie(), MAX_AGE_S);
            ([(header::SET_COOKIE, cookie)], Redirect::to(&url)).into_response()
        }
        Err(trouble) => told(provider, &trouble.into()),
    }
}

/// `GET /login/oidc/callback`
pub(super) async fn back(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    back: Result<Query<Back>, QueryRejection>,
) -> Response {
    let Some(provider) = &app.provider else { return Problem::not_found().into_response() };
    let back = back.map(|Query(back)| back).unwrap_or_default();
    let now_us = clock::now_us();
    let attempt = super::caller::cookie(&headers, cookie_name(&app))
        .and_then(|value| Attempt::of_cookie(value, now_us));
    let entered = match &attempt {
        Some(attempt) => enter(&app, provider, attempt, back, now_us).await,
        None => Err(Trouble::NotBegun.into()),
    };
    let (mut response, is_over) = match (entered, attempt) {
        (Ok(key), Some(attempt)) => {
            let session = session_cookie(&app, &key, app.config.session_max_s);
            let then = Redirect::to(&own_path(Some(attempt.next().to_owned())));
            (([(header::SET_COOKIE, session)], then).into_response(), true)
        }
        (Ok(_), None) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        (Err(refusal), _) => {
            if let Err(problem) = note(&app, provider, &refusal, now_us).await {
                return problem.into_response();
            }
            // Another page's request does not end an attempt of this browser.
            let is_over = !matches!(refusal, Refusal::Trouble(Trouble::NotBegun));
            (told(provider, &refusal), is_over)
        }
    };
    if is_over && let Ok(cookie) = HeaderValue::try_from(cookie(&app, "", 0)) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// The key of a new session.
async fn enter(
    app: &App,
    provider: &Provider,
    attempt: &Attempt,
    back: Back,
    now_us: i64,
) -> Result<String, Refusal> {
    let person = provider.finish(attempt, back, now_us).await?;
    let key = new_key();
    let entrance = Entrance {
        key_hash: key_hash(&key),
        state_hash: key_hash(&attempt.state()),
        until_us: attempt.ends_us(),
        now_us,
    };
    let entry = Entry::new(now_us, "", "login", "").with(&json!({"by": person.issuer}));
    match app.catalogue.enter(&person, &entrance, &entry).await {
        Ok(Entered::In(_)) => Ok(key),
        Ok(Entered::Disabled(name)) => Err(Refusal::Disabled(name)),
        Ok(Entered::Again) => Err(Refusal::Again),
        Err(failure) => Err(Refusal::Failed(failure.into())),
    }
}

/// Notes a refusal in the audit log, and faults of the provider in the log.
async fn note(app: &App, provider: &Provider, refusal: &Refusal, now_us: i64) -> Result<(), Problem> {
    let mut is_stranger = true;
    let (who, result, why) = match refusal {
        Refusal::Trouble(Trouble::Away(why)) => {
            log::warn!("oidc: {} can't be asked: {why}", provider.host());
            ("", "failed", "the provider can't be asked")
        }
        Refusal::Trouble(Trouble::Untrue(why)) => {
            log::warn!("oidc: {}: {why}", provider.host());
            ("", "refused", why.as_str())
        }
        Refusal::Trouble(Trouble::NotBegun) => ("", "refused", "this browser did not begin it"),
        Refusal::Trouble(Trouble::Refused(why)) => ("", "refused", why.as_str()),
        Refusal::Trouble(Trouble::Unfit(Unfit::Subject)) => ("", "refused", "the subject is none"),
        Refusal::Trouble(Trouble::Unfit(Unfit::NoRole { who, .. })) => {
            is_stranger = false;
            (who.as_str(), "refused", "no group with a role")
        }
        Refusal::Disabled(name) => {
            is_stranger = false;
            (name.as_str(), "refused", "disabled")
        }
        Refusal::Again => ("", "refused", "the log-in was used before"),
        Refusal::Trouble(Trouble::Busy) | Refusal::Failed(_) => return Ok(()),
    };
    let mut said = json!({"by": provider.issuer(), "why": why});
    if is_stranger {
        let left_out = app.refusals.lock().unwrap_or_else(PoisonError::into_inner).note(now_us);
        match left_out {
            None => return Ok(()),
            Some(0) => {}
            Some(count) => said["left_out"] = Value::from(count),
        }
    }
    let entry = Entry::new(now_us, NOBODY, "login", who).result(result).with(&said);
    app.catalogue.log(&[entry]).await?;
    Ok(())
}

/// The page that tells a person why they are not let in.
fn told(provider: &Provider, refusal: &Refusal) -> Response {
    use StatusCode as S;
    let host = provider.host();
    let again = "Begin again.".to_owned();
    let (status, detail, more) = match refusal {
        Refusal::Trouble(Trouble::Away(_)) => (
            S::SERVICE_UNAVAILABLE,
            format!("{host} does not answer at the moment."),
            "Try again soon. People with a password here can log in with it meanwhile.".into(),
        ),
        Refusal::Trouble(Trouble::Busy) => {
            (S::SERVICE_UNAVAILABLE, "Too many people log in at once.".into(), "Try again soon.".into())
        }
        Refusal::Trouble(Trouble::NotBegun) => {
            let minutes = MAX_AGE_S / 60;
            let what = format!("This browser did not begin to log in, or more than {minutes} minutes ago.");
            (S::BAD_REQUEST, what, again)
        }
        Refusal::Again => (S::BAD_REQUEST, "This log-in was used before.".into(), again),
        Refusal::Trouble(Trouble::Refused(said)) => {
            (S::FORBIDDEN, format!("{host} did not let you in."), format!("It says: {said}"))
        }
        Refusal::Trouble(Trouble::Untrue(_) | Trouble::Unfit(Unfit::Subject)) => {
            let more = "The log of the archive tells the cause: ask an administrator.".into();
            (S::FORBIDDEN, format!("The answer of {host} can't be trusted."), more)
        }
        Refusal::Trouble(Trouble::Unfit(Unfit::NoRole { who, claim, wanted, left_out })) => {
            let what = format!("{host} knows you as {who}, but none of your groups has a role here.");
            let more = format!("Ask to be put into one of these groups: {}.", wanted.join(", "));
            let unsaid =
                format!(" {host} left the claim {claim} out, since you have too many groups for it.");
            (S::FORBIDDEN, what, more + if *left_out { &unsaid } else { "" })
        }
        Refusal::Disabled(name) => {
            let more = "Ask an administrator.".into();
            (S::FORBIDDEN, format!("The account {name} is disabled."), more)
        }
        Refusal::Failed(problem) => {
            let more = "The log of the archive tells the cause: ask an administrator.".into();
            (problem.status(), "The archive does not work at the moment.".into(), more)
        }
    };
    page::render(status, &page::NotIn { detail, more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_a_minute_have_a_limit_and_those_left_out_are_counted() {
        let mut refusals = Refusals::default();
        let minute_us = 60 * SECOND_US;
        for _ in 0..MAX_REFUSALS_A_MINUTE {
            assert_eq!(refusals.note(5 * minute_us), Some(0));
        }
        assert_eq!((refusals.note(5 * minute_us), refusals.note(6 * minute_us - 1)), (None, None));
        assert_eq!((refusals.note(6 * minute_us), refusals.note(6 * minute_us)), (Some(2), Some(0)));
    }
}
