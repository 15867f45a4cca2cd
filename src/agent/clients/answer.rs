//! The answer to a request: a result, nothing yet, or why not.

use crate::api::reason::{AgentError, Reason};
use serde::Serialize;
use serde_json::Value;

/// Why a request is not fulfilled.
pub(in crate::agent) enum Failure {
    /// For a reason of the agent's.
    Agent(AgentError),
    /// A parameter does not fit the situation.
    Params(String),
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::Agent(reason.into())
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        Self::Agent(error)
    }
}

/// The result of a request, or nothing yet.
pub(in crate::agent) type Answer = Result<Option<Value>, Failure>;

pub(in crate::agent) fn answer(result: &impl Serialize) -> Answer {
    serde_json::to_value(result).map(Some).map_err(|error| Failure::Params(error.to_string()))
}
