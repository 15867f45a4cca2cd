//! An error that the agent answers with.

use serde_json::Value;

/// A JSON-RPC error of the agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentError {
    /// JSON-RPC code; -32000 for the agent's own reasons.
    pub code: i64,
    /// The agent's sentence.
    pub message: String,
    /// `reason` and, from a server, `detail`; null if there is none.
    pub data: Value,
}

impl AgentError {
    /// The agent's reason, e.g. `no_storage`; empty for errors of JSON-RPC itself.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.data.get("reason").and_then(Value::as_str).unwrap_or("")
    }

    pub(super) fn detail(&self) -> Option<&str> {
        self.data.get("detail").and_then(Value::as_str).filter(|detail| !detail.is_empty())
    }
}
