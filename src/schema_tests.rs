//! The JSON Schema of the local socket, made from the types that are sent, and kept in `docs`.
//!
//! `UPDATE_SCHEMA=1 cargo test --lib schema_tests` writes it anew. Parameters are read by hand, so their
//! schema is written by hand too, and checked against the reader.

use crate::agent::RecordingInfo;
use crate::api::PROTOCOL_VERSION;
use crate::api::ending::{Ending, TextKey};
use crate::api::event::tests::one_of_each;
use crate::api::event::{EVENTS_LOST, Event, NoMedia, SipRecord, StateChange};
use crate::api::line::MAX_LINE_OCTETS;
use crate::api::reason::{Cause, Reason};
use crate::api::reply::{self, Done, INVALID_PARAMS};
use crate::api::request::{MAX_FILE_CHARS, MAX_NAME_CHARS, method_names, parse};
use crate::api::status::*;
use crate::api::subscription::{MAX_PREFIX_OCTETS, MAX_PREFIXES};
use recfile::call::Call;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/local-api.schema.json");

/// A parameter: its name, whether it is required, and its schema.
type Param = (&'static str, bool, Value);

fn object(params: &[Param]) -> Value {
    let mut properties = Map::new();
    for (name, required, schema) in params {
        let mut schema = schema.clone();
        if !required {
            // Null counts as left out.
            schema = json!({"anyOf": [schema, {"type": "null"}]});
        }
        properties.insert((*name).to_owned(), schema);
    }
    let required: Vec<&str> = params.iter().filter(|param| param.1).map(|param| param.0).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn text(max: usize) -> Value {
    json!({"type": "string", "maxLength": max})
}

fn number(lowest: u64, highest: u64) -> Value {
    json!({"type": "integer", "minimum": lowest, "maximum": highest})
}

fn call() -> Value {
    // Texts of others decide nothing: long ones are cut, and a value that can't become a text is passed over.
    let text = || json!({"type": ["string", "number"]});
    object(&[
        ("id", false, text()),
        ("direction", false, json!({"if": {"type": "string"}, "then": {"enum": ["in", "out"]}})),
        ("remote_number", false, text()),
        ("remote_name", false, text()),
        ("local_number", false, text()),
        ("local_name", false, text()),
    ])
}

/// The parameters of a method.
fn params(method: &str) -> Vec<Param> {
    let name = || text(MAX_NAME_CHARS);
    let file = || ("file", true, text(MAX_FILE_CHARS));
    let recording = || ("recording", false, name());
    let playback = || ("playback", false, name());
    let position = |required| ("position_ms", required, number(0, u64::MAX));
    match method {
        "agent.info" | "storage.eject" | "storage.status" | "stats.get" => Vec::new(),
        "record.start" => vec![
            ("mode", false, json!({"enum": Mode::ALL.map(Mode::as_str)})),
            ("codec", true, name()),
            ("ptime_ms", false, number(5, 200)),
            ("payload_type", false, number(0, 127)),
            ("call", false, call()),
        ],
        "record.pause" | "record.resume" | "record.stop" | "record.status" => vec![recording()],
        "record.update" => vec![recording(), ("call", true, call())],
        "recordings.list" => vec![
            ("limit", false, number(1, u64::from(u32::MAX))),
            ("after", false, text(MAX_FILE_CHARS)),
            ("query", false, text(MAX_FILE_CHARS)),
        ],
        "recordings.info" | "recordings.delete" => vec![file()],
        "recordings.protect" => vec![file(), ("protected", false, json!({"type": "boolean"}))],
        "play.start" => {
            let addr = json!({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]});
            let rtp = object(&[("addr", true, addr), ("port", true, number(1, 65535))]);
            vec![file(), ("rtp", true, rtp), position(false)]
        }
        "play.pause" | "play.resume" | "play.stop" | "play.status" => vec![playback()],
        "play.seek" => vec![playback(), position(true)],
        "events.subscribe" | "events.unsubscribe" => {
            let items = text(MAX_PREFIX_OCTETS);
            vec![("types", false, json!({"type": "array", "maxItems": MAX_PREFIXES, "items": items}))]
        }
        "sip.info_result" => vec![("recording", true, name()), ("code", true, number(200, 699))],
        other => panic!("{other} has no schema of its parameters"),
    }
}

fn result(method: &str, all: &mut SchemaGenerator) -> Value {
    let schema = match method {
        "agent.info" => all.subschema_for::<AgentInfo>(),
        "record.start" => all.subschema_for::<RecordStarted>(),
        "record.pause" | "record.resume" | "record.stop" | "record.update" => {
            all.subschema_for::<RecordingStatus>()
        }
        "record.status" => {
            let one_or_all = [all.subschema_for::<RecordingStatus>(), all.subschema_for::<Recordings>()];
            return json!({"anyOf": one_or_all});
        }
        "storage.status" => all.subschema_for::<StorageStatus>(),
        "storage.eject" => {
            let flag = json!({"type": "boolean"});
            let mut schema = told(json!({"safe_to_pull": flag, "unmounted": flag}));
            schema["properties"]["still_mounted"] = json!({"type": "array", "items": {"type": "string"}});
            schema["properties"]["note"] = json!({"type": "string"});
            return schema;
        }
        "recordings.list" => all.subschema_for::<RecordingsListed>(),
        "recordings.info" => all.subschema_for::<RecordingInfo>(),
        "recordings.protect" => all.subschema_for::<RecordingEntry>(),
        "play.start" => all.subschema_for::<PlayStarted>(),
        "play.pause" | "play.resume" | "play.seek" | "play.stop" => all.subschema_for::<PlaybackStatus>(),
        "play.status" => {
            let one_or_all = [all.subschema_for::<PlaybackStatus>(), all.subschema_for::<Playbacks>()];
            return json!({"anyOf": one_or_all});
        }
        "recordings.delete" | "events.subscribe" | "events.unsubscribe" | "sip.info_result" => {
            all.subschema_for::<Done>()
        }
        "stats.get" => all.subschema_for::<Stats>(),
        other => panic!("{other} has no schema of its result"),
    };
    schema.to_value()
}

/// An object that the agent makes, with all of these members.
fn told(properties: Value) -> Value {
    let names: Vec<&String> = properties.as_object().unwrap().keys().collect();
    json!({"type": "object", "required": names, "properties": properties})
}

/// The members of an event beside `seq`.
fn event(name: &str, all: &mut SchemaGenerator) -> Value {
    let text = json!({"type": "string"});
    let maybe = json!({"type": ["string", "null"]});
    match name {
        "recording.no_media" => all.subschema_for::<NoMedia<'static>>().to_value(),
        "recording.ended" | "recording.failed" => {
            json!({"allOf": [all.subschema_for::<RecordingStatus>(), all.subschema_for::<Ending>()]})
        }
        name if name.starts_with("recording.") => all.subschema_for::<RecordingStatus>().to_value(),
        "storage.state" => all.subschema_for::<StateChange>().to_value(),
        "storage.recovered" => told(json!({"files": {"type": "array", "items": text}})),
        name if name.starts_with("storage.") => all.subschema_for::<StorageStatus>().to_value(),
        "uplink.connected" => {
            let rtp = all.subschema_for::<Option<RtpAddress>>();
            told(json!({"recording": text, "server": text, "rtp": rtp}))
        }
        "uplink.degraded" => {
            let waiting = json!({"type": "integer", "minimum": 0});
            told(json!({"recording": text, "detail": text, "waiting_ms": waiting}))
        }
        "uplink.restored" => {
            told(json!({"recording": text, "waiting_ms": {"type": "integer", "minimum": 0}}))
        }
        "uplink.lost" => {
            let text_key = all.subschema_for::<Option<TextKey>>();
            let reason = all.subschema_for::<Reason>();
            told(json!({"recording": text, "reason": reason, "detail": maybe, "text_key": text_key}))
        }
        name if name.starts_with("playback.") => all.subschema_for::<PlaybackStatus>().to_value(),
        "sip.info" => {
            let headers = told(json!({"Record": all.subschema_for::<SipRecord>()}));
            told(json!({"recording": text, "call": all.subschema_for::<Call>(), "headers": headers}))
        }
        EVENTS_LOST => told(json!({"count": {"type": "integer", "minimum": 1}})),
        other => panic!("{other} has no schema"),
    }
}

pub(crate) fn schema() -> Value {
    let mut all = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut methods = Map::new();
    let mut requests = Vec::new();
    for name in method_names() {
        let params = object(&params(name));
        methods.insert(name.to_owned(), json!({"params": params, "result": result(name, &mut all)}));
        let params = json!({"$ref": format!("#/methods/{name}/params")});
        requests.push(json!({"properties": {"method": {"const": name}, "params": params}}));
    }
    let mut events = Map::new();
    let mut notifications = Vec::new();
    for name in Event::NAMES {
        let seq = json!({"properties": {"seq": {"type": "integer", "minimum": 1}}, "required": ["seq"]});
        events.insert(name.to_owned(), json!({"params": {"allOf": [seq, event(name, &mut all)]}}));
        let params = json!({"$ref": format!("#/events/{name}/params")});
        notifications.push(json!({"properties": {"method": {"const": name}, "params": params}}));
    }
    let reason = all.subschema_for::<Reason>();
    let cause = all.subschema_for::<Cause>();
    let text_key = all.subschema_for::<TextKey>();
    let text = json!({"type": "string"});
    let data =
        json!({"reason": reason, "cause": cause, "detail": text, "advice": text, "text_key": text_key});
    let data = json!({"type": "object", "properties": data});
    let error = json!({
        "type": "object", "required": ["code", "message"],
        "properties": {"code": {"type": "integer"}, "message": {"type": "string"}, "data": data},
    });
    let mut definitions = all.take_definitions(true);
    let id = json!({"type": ["number", "string", "null"]});
    let version = json!({"const": "2.0"});
    definitions.insert(
        "Request".into(),
        json!({
            "description": "A line to the agent; without `id` it is not answered.",
            "type": "object", "required": ["jsonrpc", "method"],
            "properties": {"jsonrpc": version, "id": id}, "anyOf": requests,
        }),
    );
    definitions.insert(
        "Notification".into(),
        json!({
            "description": "A line from the agent that tells an event.",
            "type": "object", "required": ["jsonrpc", "method", "params"],
            "properties": {"jsonrpc": version}, "anyOf": notifications,
        }),
    );
    definitions.insert("Answer".into(), json!({
        "description": "A line from the agent that answers a request; the type of `result` depends on its method.",
        "type": "object", "required": ["jsonrpc", "id"],
        "properties": {"jsonrpc": version, "id": id, "result": {"type": "object"}, "error": error},
        "oneOf": [{"required": ["result"]}, {"required": ["error"]}],
    }));
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("The local socket of recordd, protocol {PROTOCOL_VERSION}"),
        "description": "Any line of the socket. `methods` and `events` have the schema of each by its name.",
        "anyOf": [{"$ref": "#/$defs/Request"}, {"$ref": "#/$defs/Notification"}, {"$ref": "#/$defs/Answer"}],
        "methods": methods, "events": events, "$defs": definitions,
    });
    polish(&mut schema);
    schema
}

/// Leaves out all that concerns Rust alone: defaults of readers, widths of numbers, the words of its
/// documentation.
fn polish(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let is_schema = members.contains_key("type") || members.contains_key("$ref");
            if is_schema {
                members.remove("default");
                members.retain(|name, value| {
                    name != "format" || value.as_str().is_none_or(|it| it.starts_with("ip"))
                });
            }
            if let Some(Value::String(text)) = members.get_mut("description") {
                for (rust, plain) in [("`None`", "null"), ("[`", "`"), ("`]", "`"), ("super::", "")] {
                    *text = text.replace(rust, plain);
                }
            }
            members.values_mut().for_each(polish);
        }
        Value::Array(parts) => parts.iter_mut().for_each(polish),
        _ => {}
    }
}

/// Whether `value` fits `schema`, as far as the keywords go that are used here.
pub(crate) fn fits(schema: &Value, value: &Value, root: &Value) -> bool {
    let part = |keyword: &str| schema.get(keyword).and_then(Value::as_array);
    let all_of =
        |check: &dyn Fn(&Value) -> bool, keyword| part(keyword).is_none_or(|parts| parts.iter().all(check));
    let any_of = |keyword| part(keyword).is_none_or(|parts| parts.iter().any(|part| fits(part, value, root)));
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("{other} is no type"),
    };
    let typed = match schema.get("type") {
        None => true,
        Some(Value::Array(kinds)) => kinds.iter().any(is),
        Some(kind) => is(kind),
    };
    let referred = schema.get("$ref").is_none_or(|target| {
        let target = target.as_str().unwrap().strip_prefix('#').unwrap();
        fits(root.pointer(target).unwrap_or_else(|| panic!("nothing at {target}")), value, root)
    });
    let members = schema.get("properties").and_then(Value::as_object).is_none_or(|properties| {
        properties.iter().all(|(name, part)| value.get(name).is_none_or(|value| fits(part, value, root)))
    });
    let items = schema.get("items").is_none_or(|part| {
        value.as_array().is_none_or(|items| items.iter().all(|item| fits(part, item, root)))
    });
    let listed = part("enum").is_none_or(|values| values.contains(value));
    let constant = schema.get("const").is_none_or(|constant| constant == value);
    let complete = all_of(&|name| value.get(name.as_str().unwrap()).is_some(), "required");
    let all = all_of(&|part| fits(part, value, root), "allOf");
    typed
        && referred
        && members
        && items
        && listed
        && constant
        && complete
        && all
        && any_of("anyOf")
        && any_of("oneOf")
}

#[test]
fn the_schema_in_the_documents_is_that_of_the_types() {
    let text = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(FILE, &text).unwrap();
    }
    let kept = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(kept == text, "docs/local-api.schema.json is old: UPDATE_SCHEMA=1 cargo test --lib schema_tests");
}

#[test]
fn every_event_fits_its_schema_and_no_other_kind() {
    let root = schema();
    for event in one_of_each() {
        let mut params: Value = serde_json::from_slice(&event.params_json()).unwrap();
        params["seq"] = json!(1);
        let schema = &root["events"][event.name()]["params"];
        assert!(fits(schema, &params, &root), "{}: {params}", event.name());
        let line = json!({"jsonrpc": "2.0", "method": event.name(), "params": params});
        assert!(fits(&root, &line, &root), "{line}");
        for name in schema_members(&params) {
            let mut broken = params.clone();
            broken[&name] = json!([[]]);
            assert!(!fits(schema, &broken, &root), "{}: {name} may be anything", event.name());
        }
    }
}

fn schema_members(params: &Value) -> Vec<String> {
    params.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn an_answer_fits_the_schema_of_its_method() {
    let root = schema();
    let info = serde_json::to_value(AgentInfo::default()).unwrap();
    assert!(fits(&root["methods"]["agent.info"]["result"], &info, &root), "{info}");
    let stats = serde_json::to_value(Stats::default()).unwrap();
    assert!(fits(&root["methods"]["stats.get"]["result"], &stats, &root), "{stats}");
    assert!(!fits(&root["methods"]["stats.get"]["result"], &info, &root));
    let refused = parse(br#"{"jsonrpc":"2.0","id":1,"method":"x"}"#).unwrap_err().line().unwrap();
    assert!(fits(&root, &serde_json::from_slice(&refused).unwrap(), &root));
    let id = parse(br#"{"jsonrpc":"2.0","id":1,"method":"agent.info"}"#).unwrap().id.unwrap();
    let error = reply::agent_error(&id, &Reason::NoStorage.into());
    assert!(fits(&root, &serde_json::from_slice(&error).unwrap(), &root));
}

fn is_taken(method: &str, params: &Value) -> bool {
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    assert!(line.len() < MAX_LINE_OCTETS);
    match parse(line.as_bytes()) {
        Ok(_) => true,
        Err(refused) => {
            assert_eq!(refused.code, INVALID_PARAMS, "{}", refused.message);
            false
        }
    }
}

/// Values at the edges of a schema, and beyond them.
fn edges(schema: &Value) -> (Vec<Value>, Vec<Value>) {
    if let Some(values) = schema["enum"].as_array() {
        return (values.clone(), vec![json!("none of them"), json!(1)]);
    }
    if let Some(then) = schema.get("then") {
        return (vec![then["enum"][0].clone(), json!(1), json!([])], vec![json!("none of them")]);
    }
    if schema["type"].is_array() {
        return (vec![json!("x"), json!("x".repeat(5000)), json!(1)], Vec::new());
    }
    match schema["type"].as_str().unwrap() {
        "boolean" => (vec![json!(true), json!(false)], vec![json!(1)]),
        "string" => match schema["maxLength"].as_u64() {
            None => (vec![json!("::1"), json!("192.0.2.1")], vec![json!("host"), json!(1)]),
            Some(max) => {
                let text = |length: u64| json!("x".repeat(usize::try_from(length).unwrap()));
                (vec![text(1), text(max)], vec![text(max + 1), json!(1)])
            }
        },
        "integer" => {
            let (low, high) = (schema["minimum"].as_u64().unwrap(), schema["maximum"].as_u64().unwrap());
            let mut beyond = vec![json!("1"), json!(-1), json!(1.5)];
            beyond.extend(low.checked_sub(1).map(Value::from));
            beyond.extend(high.checked_add(1).map(Value::from));
            (vec![json!(low), json!(high)], beyond)
        }
        "array" => {
            let max = usize::try_from(schema["maxItems"].as_u64().unwrap()).unwrap();
            let (good, bad) = edges(&schema["items"]);
            let list = |item: &Value, count| Value::from(vec![item.clone(); count]);
            let beyond = bad.iter().map(|item| list(item, 1)).chain([list(&good[0], max + 1), json!("x")]);
            (vec![list(&good[1], max), json!([])], beyond.collect())
        }
        "object" => {
            let properties = schema["properties"].as_object().unwrap();
            let required = schema["required"].as_array().unwrap();
            let inner = |part: &Value| {
                part.pointer("/anyOf/0").filter(|_| part.get("type").is_none()).unwrap_or(part).clone()
            };
            let whole: Map<String, Value> = properties
                .iter()
                .map(|(name, part)| (name.clone(), edges(&inner(part)).0[0].clone()))
                .collect();
            let with = |name: &str, value: Value| {
                let mut members = whole.clone();
                members.insert(name.to_owned(), value);
                Value::from(members)
            };
            let (mut good, mut bad) = (vec![Value::from(whole.clone())], vec![with("another", json!(1))]);
            for (name, part) in properties {
                let (within, beyond) = edges(&inner(part));
                good.extend(within.into_iter().map(|value| with(name, value)));
                bad.extend(beyond.into_iter().map(|value| with(name, value)));
                let mut without = whole.clone();
                without.remove(name);
                let needed = required.iter().any(|it| it == name.as_str());
                let list = if needed { &mut bad } else { &mut good };
                list.extend([Value::from(without), with(name, Value::Null)]);
            }
            (good, bad)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn parameters_are_taken_exactly_where_the_schema_allows_them() {
    for method in method_names() {
        let (good, bad) = edges(&object(&params(method)));
        for params in good {
            assert!(is_taken(method, &params), "{method} refuses {params}");
        }
        for params in bad {
            assert!(!is_taken(method, &params), "{method} takes {params}");
        }
    }
}
