//! Parameters of a query; their errors have the form of all errors.

use super::problem::Problem;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The parameters of a request.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        read.map(|read| Self(read.0)).map_err(|error| Problem::bad(error.body_text()))
    }
}

/// The place in a list, as it is given out.
pub(super) fn cursor(key: i64) -> String {
    format!("k{key:x}")
}

pub(super) fn behind(cursor: &str) -> Option<i64> {
    i64::from_str_radix(cursor.strip_prefix('k')?, 16).ok().filter(|key| *key >= 0)
}

/// The error for a cursor that no list gave.
pub(super) const NO_CURSOR: &str = "the cursor is not one that a list gave";

/// The start of a page of a list, and its length.
#[derive(Deserialize)]
pub(super) struct Paging {
    limit: Option<u32>,
    cursor: Option<String>,
}

impl Paging {
    /// The key that the page is behind, and its length: `usual`, or the length asked for, up to `most`.
    pub(super) fn place(&self, usual: u32, most: u32) -> Result<(Option<i64>, u32), Problem> {
        let wrong = || Problem::bad(NO_CURSOR);
        let from = self.cursor.as_deref().map(|cursor| behind(cursor).ok_or_else(wrong)).transpose()?;
        Ok((from, self.limit.unwrap_or(usual).clamp(1, most)))
    }
}
