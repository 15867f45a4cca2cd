//! Errors as RFC 9457 has them.

use crate::access::Refusal;
use crate::catalogue::Failure;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error answer.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    /// Seconds until another try makes sense.
    retry_after_s: Option<u64>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after_s: None }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing here")
    }

    pub(super) fn who() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "log in first, or send Authorization: Bearer TOKEN")
    }

    pub(super) fn later(seconds: u64) -> Self {
        let detail = format!("too many attempts: wait {seconds} seconds");
        Self { retry_after_s: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Conflict(detail) => Self::new(StatusCode::CONFLICT, detail),
            Failure::Database(detail) => {
                log::error!("catalogue: {detail}");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the catalogue does not work at the moment; see the log",
                )
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = match refusal {
            Refusal::Permission(permission) => format!("this takes the permission {}", permission.name()),
            Refusal::Reason => "say why: add ?reason=TEXT".into(),
        };
        Self::new(StatusCode::FORBIDDEN, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("error");
        let body = json!({
            "type": "about:blank", "title": title, "status": self.status.as_u16(), "detail": self.detail,
        });
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, content_type, body.to_string()).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
