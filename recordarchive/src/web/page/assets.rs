//! Files of pages that are part of the program.

use crate::id::hex;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

const FILES: [(&str, &str, &str); 6] = [
    ("page.css", "text/css; charset=utf-8", include_str!("../../../static/page.css")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("../../../static/page.js")),
    ("player.js", "text/javascript; charset=utf-8", include_str!("../../../static/player.js")),
    ("live.js", "text/javascript; charset=utf-8", include_str!("../../../static/live.js")),
    ("policies.js", "text/javascript; charset=utf-8", include_str!("../../../static/policies.js")),
    ("icon.svg", "image/svg+xml", include_str!("../../../static/icon.svg")),
];

/// `GET /static/{name}`
pub(super) async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = format!("\"{}\"", &hex(&Sha256::digest(text))[..16]);
    // Asked for again each time, sent again only when the program is another one.
    let common = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".into())];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, *kind)], *text).into_response()
}
