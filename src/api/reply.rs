//! Answers as whole lines.
//!
//! Owns: the envelope of results and errors and the codes. Invariant: one line, one LF, at its end.

use super::ending::TextKey;
use super::error::AgentError;
use super::reason::Cause;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Invalid JSON or UTF-8 (JSON-RPC 2.0, section 5.1).
pub const PARSE_ERROR: i32 = -32700;
/// Valid JSON that is no request.
pub const INVALID_REQUEST: i32 = -32600;
/// No such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// Parameters that don't fit the method.
pub const INVALID_PARAMS: i32 = -32602;
/// A fault of the agent.
pub const INTERNAL_ERROR: i32 = -32603;
/// The request was understood but could not be done; `data.reason` says why.
pub const AGENT_ERROR: i32 = -32000;

/// The `id` of a request as the client wrote it: a JSON number, string or null.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// The id of answers to lines without a readable id.
    #[must_use]
    pub fn null() -> Self {
        Self("null".into())
    }

    /// `json` must be the text of a JSON number, string or null.
    pub(super) fn from_json(json: &str) -> Self {
        Self(json.into())
    }

    /// The JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// The result of methods that have nothing to tell: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Done {}

/// The line that answers `id` with `result`.
#[must_use]
pub fn result(id: &RequestId, result: &impl Serialize) -> Vec<u8> {
    match serde_json::to_vec(result) {
        Ok(json) => line(id, "result", &json),
        Err(error) => rpc_error(id, INTERNAL_ERROR, &error.to_string()),
    }
}

/// The line that tells `id` why its request could not be done.
#[must_use]
pub fn agent_error(id: &RequestId, error: &AgentError) -> Vec<u8> {
    let mut data = Map::new();
    data.insert("reason".to_owned(), Value::from(error.reason.as_str()));
    if let Some(detail) = &error.detail {
        data.insert("detail".to_owned(), Value::from(detail.as_str()));
    }
    let cause = error.data.get("cause").and_then(|cause| Cause::deserialize(cause).ok());
    if let Some(key) = TextKey::of(error.reason, cause) {
        data.insert("text_key".to_owned(), json!(key));
    }
    data.extend(error.data.clone());
    error_line(id, &json!({ "code": AGENT_ERROR, "message": error.message, "data": data }))
}

/// The line with the error of the request `id`.
#[must_use]
pub fn rpc_error(id: &RequestId, code: i32, message: &str) -> Vec<u8> {
    error_line(id, &json!({ "code": code, "message": message }))
}

fn error_line(id: &RequestId, error: &Value) -> Vec<u8> {
    line(id, "error", error.to_string().as_bytes())
}

fn line(id: &RequestId, member: &str, json: &[u8]) -> Vec<u8> {
    let head = format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"{member}\":", id.as_json());
    let mut line = Vec::with_capacity(head.len() + json.len() + 2);
    line.extend_from_slice(head.as_bytes());
    line.extend_from_slice(json);
    line.extend_from_slice(b"}\n");
    line
}

#[cfg(test)]
mod tests {
    use super::super::reason::Reason;
    use super::*;

    fn text(line: Vec<u8>) -> String {
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_result_is_one_line_with_the_id_as_it_was_written() {
        let id = RequestId::from_json("1.0e3");
        assert_eq!(text(result(&id, &Done {})), "{\"jsonrpc\":\"2.0\",\"id\":1.0e3,\"result\":{}}\n");
        let broken = text(result(&id, &"a\nb"));
        assert_eq!(broken.find('\n'), Some(broken.len() - 1));
    }

    #[test]
    fn an_agent_error_has_reason_and_detail_in_data() {
        let error = AgentError::new(Reason::ServerRefused).with_detail("no \"disk\"").with("recording", "r1");
        let line: Value = serde_json::from_slice(&agent_error(&RequestId::null(), &error)).unwrap();
        let data = json!({
            "reason": "server_refused", "detail": "no \"disk\"", "text_key": "server_refused", "recording": "r1",
        });
        let error = json!({ "code": -32000, "message": Reason::ServerRefused.sentence(), "data": data });
        assert_eq!(line, json!({ "jsonrpc": "2.0", "id": null, "error": error }));
    }
}
