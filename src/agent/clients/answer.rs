//! The answer to a request: a result, nothing yet, or why not.

use crate::agent::{Action, ClientId};
use crate::api::error::AgentError;
use crate::api::reason::Reason;
use crate::api::reply::{self, INVALID_PARAMS, RequestId};
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

/// The sender of a request, with the reply that is owed. A request without an id gets none.
#[derive(Debug)]
pub(in crate::agent) struct Caller {
    reply: Option<PendingReply>,
}

impl Caller {
    pub(in crate::agent) fn new(client: ClientId, id: Option<RequestId>) -> Self {
        Self { reply: id.map(|id| PendingReply { client, id }) }
    }

    /// Takes the reply, to give it later or in another way than as the request's result.
    pub(in crate::agent) fn defer(&mut self) -> Option<PendingReply> {
        self.reply.take()
    }

    /// Gives the answer, unless the reply was taken, to be answered later or already.
    pub(in crate::agent) fn give(self, answer: Answer, actions: &mut Vec<Action>) {
        match (answer, self.reply) {
            (Ok(None), left) => debug_assert!(left.is_none(), "each request with an id gets a reply"),
            (_, None) => {}
            (Ok(Some(result)), Some(reply)) => reply.ok(&result, actions),
            (Err(Failure::Agent(error)), Some(reply)) => reply.err(&error, actions),
            (Err(Failure::Params(message)), Some(reply)) => reply.invalid_params(&message, actions),
        }
    }
}

/// A reply that a client waits for; giving it consumes it.
#[derive(Debug)]
#[must_use]
pub(in crate::agent) struct PendingReply {
    client: ClientId,
    id: RequestId,
}

impl PendingReply {
    pub(in crate::agent) fn ok(self, result: &impl Serialize, actions: &mut Vec<Action>) {
        actions.push(Action::Reply(self.client, reply::result(&self.id, result)));
    }

    pub(in crate::agent) fn err(self, error: &AgentError, actions: &mut Vec<Action>) {
        actions.push(Action::Reply(self.client, reply::agent_error(&self.id, error)));
    }

    fn invalid_params(self, message: &str, actions: &mut Vec<Action>) {
        actions.push(Action::Reply(self.client, reply::rpc_error(&self.id, INVALID_PARAMS, message)));
    }
}
