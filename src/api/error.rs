//! An error of the agent: a reason, with further members for the client.

use super::ending::TextKey;
use super::reason::{Cause, Reason};
use serde_json::{Map, Value};
use std::fmt;

/// The error for a client whose well-formed request could not be done.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentError {
    /// Goes to `data.reason`.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// Goes to `data.detail`: the server's or the system's own words.
    pub detail: Option<String>,
    /// More members of `data`.
    pub data: Map<String, Value>,
}

impl AgentError {
    /// The reason with its own sentence.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self { reason, message: reason.sentence().to_owned(), detail: None, data: Map::new() }
    }

    /// With another sentence.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// With the words of server or system.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With the trouble of the disk.
    #[must_use]
    pub fn because(self, cause: Cause) -> Self {
        self.with("cause", cause.as_str())
    }

    /// With advice for people, which depends on details that the reason alone does not tell.
    #[must_use]
    pub fn with_advice(self, advice: impl Into<String>) -> Self {
        self.with("advice", advice.into())
    }

    /// With another text for a user interface than that of the reason and cause.
    #[must_use]
    pub fn with_text(self, key: Option<TextKey>) -> Self {
        self.with("text_key", serde_json::json!(key))
    }

    /// With one more member of `data`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.to_owned(), value.into());
        self
    }
}

impl From<Reason> for AgentError {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.reason)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for AgentError {}
