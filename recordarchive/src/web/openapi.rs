//! The API's description, OpenAPI 3.1: `GET /openapi.json`.
//!
//! Owns: one line for each route, with its permission, its body and its answer. The tests compare the lines
//! with the table of routes, both ways, so none is missing and none too many.

use axum::Json;
use serde_json::{Map, Value, json};

/// A route, as it is described.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    summary: &'static str,
    /// The permission that it takes; `-`: a login only; empty: no login.
    permission: &'static str,
    /// Names of parameters in the query, separated by spaces; `:n` is a whole number.
    query: &'static str,
    /// The schema of the body.
    takes: &'static str,
    /// Status and schema of the answer; another media type stands as it is.
    gives: (&'static str, &'static str),
}

#[cfg(test)]
impl Route {
    pub(super) fn permission(&self) -> &'static str {
        self.permission
    }
}

const fn route(
    method: &'static str,
    path: &'static str,
    permission: &'static str,
    summary: &'static str,
    query: &'static str,
    takes: &'static str,
    gives: (&'static str, &'static str),
) -> Route {
    Route { method, path, summary, permission, query, takes, gives }
}

/// The media type of the audio of a running call.
const LIVE: &str = "audio/wav, live";
const LIST: &str = "q from to limit:n cursor";

/// All routes.
#[rustfmt::skip]
pub(super) const ROUTES: &[Route] = &[
    route("get", "/openapi.json", "", "This description", "", "", ("200", "Object")),
    route("get", "/session", "-", "The user's account and permissions", "", "", ("200", "Session")),
    route("post", "/session", "", "Log in", "", "Credentials", ("200", "Object")),
    route("delete", "/session", "-", "Log out", "", "", ("204", "")),
    route("get", "/calls", "call.search", "Search", LIST, "", ("200", "Calls")),
    route("get", "/calls/days", "call.search", "Calls of a search, by day", LIST, "", ("200", "Days")),
    route("get", "/calls/{id}", "call.search", "A call", "", "", ("200", "Call")),
    route("put", "/calls/{id}/tags", "tag.write", "Replace the tags of a call", "", "Tags", ("200", "Call")),
    route("post", "/calls/{id}/notes", "note.write", "Add a note to a call", "", "NewNote", ("201", "Call")),
    route("post", "/calls/{id}/apart", "tag.write", "Say that another call is not the same one", "", "Apart", ("200", "Call")),
    route("get", "/recordings/{id}/audio", "audio.play", "Hear a recording", "format reason", "", ("200", "audio/wav")),
    route("get", "/recordings/{id}/peaks", "audio.play", "The wave of a recording", "reason", "", ("200", "Peaks")),
    route("get", "/recordings/{id}/original", "audio.download", "A file as it is stored", "segment:n reason", "", ("200", "application/octet-stream")),
    route("get", "/live", "audio.live", "Calls that go on and that one may listen to", "reason", "", ("200", "Live")),
    route("get", "/live/{id}/audio", "audio.live", "Listen in, until the call ends", "format reason", "", ("200", LIVE)),
    route("get", "/exports", "export.create", "One's exports", "", "", ("200", "Object")),
    route("post", "/exports", "export.create", "Ask for a package of evidence", "", "NewExport", ("202", "Export")),
    route("get", "/exports/{id}", "export.create", "The state of an export", "", "", ("200", "Export")),
    route("post", "/exports/{id}/approve", "export.approve", "Approve an export that another person asked for", "", "", ("204", "")),
    route("post", "/exports/{id}/reject", "export.approve", "Reject it", "", "", ("204", "")),
    route("get", "/exports/{id}/package", "export.create", "The package of an export", "", "", ("200", "application/zip")),
    route("post", "/events", "tag.write", "Take events of other systems in; of all calls", "", "NewEvents", ("200", "Bulk")),
    route("get", "/events/{id}", "call.search", "An event, with its calls on one clock", "", "", ("200", "Object")),
    route("post", "/cdrs", "tag.write", "Take records of an exchange in; of all calls", "", "NewCdrs", ("200", "Bulk")),
    route("get", "/holds", "hold.place", "Holds, the newest first", "limit:n cursor", "", ("200", "Holds")),
    route("post", "/holds", "hold.place", "Place a hold on calls", "", "NewHold", ("201", "Hold")),
    route("get", "/holds/{id}", "hold.place", "A hold with the ids of its calls", "", "", ("200", "Hold")),
    route("post", "/holds/{id}/release", "hold.release", "Ask for the release of a hold, or release it as the second person", "", "Why", ("200", "Hold")),
    route("get", "/policies", "policy.edit", "The policies in force, and those that wait for a second person", "", "", ("200", "Policies")),
    route("put", "/policies", "policy.edit", "Set the policies; 202: they wait for a second person", "", "NewPolicies", ("200", "Policies")),
    route("post", "/policies/preview", "policy.edit", "The effect of policies, before they apply", "", "NewPolicies", ("200", "Preview")),
    route("post", "/policies/{id}/approve", "policy.edit", "Approve policies that another person asked for", "", "", ("200", "Policies")),
    route("post", "/policies/{id}/reject", "policy.edit", "Reject policies that wait, or take them back", "", "", ("200", "Policies")),
    route("get", "/deletions", "delete.request", "Requests to delete calls, the newest first", "limit:n cursor", "", ("200", "Deletions")),
    route("post", "/deletions", "delete.request", "Ask for the deletion of calls", "", "NewDeletion", ("201", "Deletion")),
    route("post", "/deletions/{id}/approve", "delete.approve", "Approve another person's request", "", "", ("200", "Deletion")),
    route("post", "/deletions/{id}/reject", "delete.approve", "Reject another person's request", "", "", ("200", "Deletion")),
    route("post", "/deletions/{id}/restore", "delete.approve", "Take calls out of the trash", "", "", ("200", "Deletion")),
    route("get", "/audit", "audit.read", "Entries of the audit log", "before:n actor limit:n", "", ("200", "Entries")),
    route("get", "/audit/checkpoint", "audit.read", "The newest signed checkpoint of the audit log", "", "", ("200", "Object")),
    route("get", "/accounts", "account.edit", "All accounts", "", "", ("200", "Object")),
    route("post", "/accounts", "account.edit", "Add an account", "", "NewAccount", ("201", "Object")),
    route("post", "/accounts/{id}/disable", "account.edit", "End an account; its id is its name", "", "", ("204", "")),
    route("get", "/health", "config.edit", "Whether everything works", "", "", ("200", "Object")),
    route("get", "/stream", "call.search", "Events as they happen", "", "", ("200", "text/event-stream")),
];

/// `GET /openapi.json`
pub(super) async fn description() -> Json<Value> {
    Json(document())
}

/// The whole description.
pub(super) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "recordarchive", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "MIT OR Apache-2.0"}},
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "recordarchive"},
            },
            "schemas": schemas(),
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    if route.path.contains("{id}") {
        parameters.push(json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}));
    }
    for name in route.query.split_whitespace() {
        let (name, kind) = name.strip_suffix(":n").map_or((name, "string"), |name| (name, "integer"));
        parameters.push(json!({"name": name, "in": "query", "schema": {"type": kind}}));
    }
    let problem = json!({
        "description": "It did not work; `detail` says why (RFC 9457).",
        "content": {"application/problem+json": {"schema": schema("Problem")}},
    });
    let (status, given) = route.gives;
    let success = match given {
        // Without an end there are no ranges.
        LIVE => json!({"description": route.summary, "content": {"audio/wav": {}}}),
        "" => json!({"description": route.summary}),
        kind if kind.contains('/') => json!({"description": route.summary, "content": {kind: {}}}),
        name => {
            json!({"description": route.summary, "content": {"application/json": {"schema": schema(name)}}})
        }
    };
    let mut responses = json!({status: success, "default": problem});
    if ["audio/wav", "application/octet-stream", "application/zip"].contains(&given) {
        responses["206"] = json!({"description": "The range that was asked for", "content": {given: {}}});
        responses["304"] = json!({"description": "It is as it was"});
        responses["416"] = json!({"description": "There is no such range"});
    }
    let mut operation = json!({
        "operationId": id(route), "summary": route.summary, "parameters": parameters, "responses": responses,
    });
    if route.permission.is_empty() {
        operation["security"] = json!([]);
    } else if route.permission != "-" {
        operation["description"] = json!(format!("Takes the permission `{}`.", route.permission));
    }
    if !route.takes.is_empty() {
        let content = json!({"application/json": {"schema": schema(route.takes)}});
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    operation
}

fn id(route: &Route) -> String {
    let words = route.path.split(['/', '{', '}', '.']).filter(|word| !word.is_empty());
    std::iter::once(route.method).chain(words).collect::<Vec<_>>().join("_")
}

fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An object of these members; `?` ends the name of one that may be missing.
fn object(members: &[(&str, Value)]) -> Value {
    let named: Map<String, Value> =
        members.iter().map(|(name, kind)| (name.trim_end_matches('?').to_owned(), kind.clone())).collect();
    let required: Vec<&str> =
        members.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    json!({"type": "object", "properties": named, "required": required})
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let number = json!({"type": "integer"});
    let yes = json!({"type": "boolean"});
    let time = json!({"type": "string", "format": "date-time"});
    let or_null = |kind: &str| json!({"type": [kind, "null"]});
    let list = |of: Value| json!({"type": "array", "items": of});
    let pairs = || list(json!({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}));
    json!({
        "Object": {"type": "object"},
        "Problem": object(&[("type", text.clone()), ("title", text.clone()), ("status", number.clone()),
            ("detail", text.clone())]),
        "Credentials": object(&[("user", text.clone()), ("password", text.clone()), ("totp?", text.clone())]),
        "Session": object(&[("user", text.clone()), ("display", or_null("string")), ("permissions", list(text.clone()))]),
        "Tags": object(&[("tags", json!({"type": "array", "maxItems": 50,
            "items": {"type": "string", "minLength": 1, "maxLength": 64}})),
            ("was?", json!({"type": ["array", "null"], "items": {"type": "string"}}))]),
        "NewNote": object(&[("text", json!({"type": "string", "minLength": 1, "maxLength": 4000})),
            ("at_ms?", json!({"type": ["integer", "null"], "minimum": 0, "maximum": u32::MAX})),
            ("supersedes?", or_null("string"))]),
        "NewAccount": object(&[("name", text.clone()), ("role", text.clone()), ("password", text.clone()),
            ("extensions?", list(text.clone())), ("sites?", list(text.clone())), ("from?", or_null("string")),
            ("to?", or_null("string")), ("expires?", or_null("string"))]),
        "NewExport": object(&[("calls?", json!({"type": ["array", "null"], "items": {"type": "string"}})),
            ("q?", or_null("string")), ("reason", json!({"type": "string", "minLength": 1, "maxLength": 500})),
            ("originals?", or_null("boolean")), ("as_stored?", or_null("boolean")), ("mask_numbers?", or_null("boolean"))]),
        "Export": object(&[("id", text.clone()), ("state", json!({"enum": ["waiting", "rejected", "running", "ready", "failed", "expired"]})),
            ("reason", text.clone()), ("by", text.clone()), ("calls", number.clone()), ("originals", yes.clone()),
            ("mask_numbers", yes.clone()), ("asked", time.clone()), ("expires", time.clone()),
            ("octets", or_null("integer")), ("sha256", or_null("string")), ("package", or_null("string")),
            ("problem", or_null("string"))]),
        "NewEvents": object(&[("events", list(object(&[("source", text.clone()), ("external_id", text.clone()),
            ("kind", text.clone()), ("title", text.clone()), ("from", time.clone()), ("to?", or_null("string")),
            ("extensions?", list(text.clone())), ("numbers?", list(text.clone())), ("payload?", json!({}))])))]),
        "NewCdrs": object(&[("cdrs", list(object(&[("source", text.clone()), ("external_id", text.clone()),
            ("started", time.clone()), ("duration_ms?", json!({"type": ["integer", "null"], "minimum": 0, "maximum": u32::MAX})),
            ("caller", text.clone()), ("called", text.clone()), ("call_id?", or_null("string")), ("payload?", json!({}))])))]),
        "Bulk": object(&[("added", number.clone()), ("changed", number.clone()), ("unchanged", number.clone()),
            ("linked", number.clone())]),
        "Party": object(&[("number", text.clone()), ("name", text.clone())]),
        "Note": object(&[("id", text.clone()), ("text", text.clone()), ("at_ms", or_null("integer")),
            ("by", text.clone()), ("written", time.clone()), ("supersedes", or_null("string")),
            ("superseded_by", or_null("string"))]),
        "Recording": object(&[("id", text.clone()), ("recording", text.clone()), ("source", text.clone()),
            ("codec", text.clone()), ("duration_ms", number.clone()), ("segments", number.clone()),
            ("gap_ms", number.clone()), ("lost", number.clone()), ("end_reason", text.clone()),
            ("state", text.clone()), ("encrypted", yes.clone()), ("sha256", text.clone())]),
        "Call": object(&[("id", text.clone()), ("external_id", text.clone()),
            ("direction", json!({"enum": ["in", "out", null]})), ("started", time.clone()),
            ("duration_ms", number.clone()), ("remote", schema("Party")), ("local", schema("Party")),
            ("device", text.clone()), ("site", text.clone()), ("state", text.clone()),
            ("tags", list(text.clone())), ("has_notes", yes.clone()), ("on_hold", yes.clone()),
            ("delete_due", or_null("string")), ("delete_why", or_null("string")),
            ("recordings", list(schema("Recording"))), ("notes?", list(schema("Note"))),
            ("holds?", list(schema("CallHold"))), ("retention?", text.clone()),
            ("same?", list(object(&[("id", text.clone()), ("started", time.clone()), ("device", text.clone()),
                ("extension", text.clone())])))]),
        "CallHold": object(&[("id", text.clone()), ("name", text.clone()), ("reference", text.clone()),
            ("by", text.clone()), ("placed", time.clone())]),
        "Hold": object(&[("id", text.clone()), ("name", text.clone()), ("reference", text.clone()),
            ("reason", text.clone()), ("by", text.clone()), ("placed", time.clone()), ("state", text.clone()),
            ("calls_total", number.clone()), ("release_asked", json!({"type": ["object", "null"]})),
            ("released", json!({"type": ["object", "null"]})), ("calls?", list(text.clone()))]),
        "Holds": object(&[("holds", list(schema("Hold"))), ("next", or_null("string"))]),
        "NewHold": object(&[("name", json!({"type": "string", "minLength": 1, "maxLength": 100})),
            ("reference?", json!({"type": "string", "maxLength": 100})),
            ("reason", json!({"type": "string", "minLength": 1, "maxLength": 500})),
            ("calls?", list(text.clone())), ("q?", text.clone())]),
        "Deletion": object(&[("id", text.clone()), ("state", text.clone()), ("by", text.clone()),
            ("asked", time.clone()), ("reason", text.clone()), ("calls", list(text.clone())),
            ("decided", json!({"type": ["object", "null"]})), ("due", or_null("string"))]),
        "Deletions": object(&[("deletions", list(schema("Deletion"))), ("next", or_null("string"))]),
        "NewDeletion": object(&[("calls", json!({"type": "array", "minItems": 1, "maxItems": 1000,
            "items": {"type": "string"}})),
            ("reason", json!({"type": "string", "minLength": 1, "maxLength": 500}))]),
        "Apart": object(&[("call", text.clone())]),
        "Live": object(&[("live", list(object(&[("id", text.clone()), ("external_id", text.clone()),
            ("direction", json!({"enum": ["in", "out", null]})), ("started", time.clone()), ("elapsed_ms", number.clone()),
            ("remote", schema("Party")), ("local", schema("Party")), ("device", text.clone()), ("site", text.clone()),
            ("codec", text.clone()), ("encrypted", yes.clone()), ("packets", or_null("integer")),
            ("lost", or_null("integer"))])))]),
        "Policy": object(&[("name", json!({"type": "string", "minLength": 1, "maxLength": 64})), ("site?", text.clone()),
            ("extensions?", json!({"type": "array", "maxItems": 200, "items": {"type": "string", "minLength": 1, "maxLength": 64}})),
            ("direction?", json!({"enum": ["in", "out"]})), ("tag?", text.clone()),
            ("class?", json!({"enum": ["normal", "internal", "emergency"]})),
            ("keep_days?", json!({"type": "integer", "minimum": 0, "maximum": 36500})),
            ("delete_after_days?", json!({"type": ["integer", "null"], "minimum": 1, "maximum": 36500}))]),
        "NewPolicies": object(&[("policies", json!({"type": "array", "maxItems": 32, "items": schema("Policy")})),
            ("version?", or_null("integer")), ("reason?", text.clone()), ("preview?", or_null("string"))]),
        "Policies": object(&[("version", number.clone()), ("policies", list(schema("Policy"))),
            ("set", json!({"type": ["object", "null"]})), ("approved_by", or_null("string")),
            ("proposal", json!({"type": ["object", "null"]}))]),
        "Tally": object(&[("calls", number.clone()), ("hours", json!({"type": "number"})), ("oldest", or_null("string"))]),
        "Preview": object(&[("calls", number.clone()), ("hours", json!({"type": "number"})),
            ("oldest", or_null("string")), ("within_30_days", schema("Tally")), ("earlier", schema("Tally")),
            ("later", schema("Tally")), ("held", schema("Tally")), ("policies", list(json!({"type": "object"}))),
            ("version", number.clone()), ("shortens", yes.clone()), ("preview", text.clone())]),
        "Why": object(&[("reason", json!({"type": "string", "minLength": 1, "maxLength": 500}))]),
        "Calls": object(&[("calls", list(schema("Call"))), ("next", or_null("string"))]),
        "Days": object(&[("days", list(object(&[("day", text.clone()), ("calls", number.clone())]))),
            ("more", yes)]),
        "Peaks": object(&[("step_ms", number.clone()), ("duration_ms", number.clone()), ("peaks", pairs()),
            ("sound", pairs()), ("gaps", pairs()), ("pauses", pairs())]),
        "Entry": object(&[("seq", number), ("at", time), ("actor", text.clone()), ("action", text.clone()),
            ("object", text.clone()), ("result", text.clone()), ("detail", json!({})), ("previous", text.clone()),
            ("hash", text)]),
        "Entries": object(&[("entries", list(schema("Entry"))), ("next", or_null("integer"))]),
    })
}
