//! Errors as RFC 9457 has them.

use crate::access::Refusal;
use crate::catalogue::Failure;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The type of a body that has an error.
const PROBLEM_TYPE: &str = "application/problem+json";

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

/// An error that has no form of its own, such as that of a method which a route does not take, as a problem.
/// Its headers stay.
pub(super) fn whole(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    if !(status.is_client_error() || status.is_server_error())
        || kind.is_some_and(|kind| kind == PROBLEM_TYPE)
    {
        return response;
    }
    let detail = match status {
        StatusCode::METHOD_NOT_ALLOWED => "the header Allow has the methods that this takes",
        StatusCode::PAYLOAD_TOO_LARGE => "the request is larger than it may be",
        StatusCode::RANGE_NOT_SATISFIABLE => "it has no octet of this range: Content-Range has its length",
        StatusCode::BAD_REQUEST => "the path is no text in UTF-8",
        _ => "it did not work",
    };
    let (head, _) = response.into_parts();
    let mut problem = Problem::new(status, detail).into_response();
    for (name, value) in &head.headers {
        if ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name) {
            problem.headers_mut().append(name, value.clone());
        }
    }
    problem
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
        let content_type = [(header::CONTENT_TYPE, PROBLEM_TYPE)];
        let mut response = (self.status, content_type, body.to_string()).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
