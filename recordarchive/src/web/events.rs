//! Data of other systems: events and the call records of an exchange, taken in bulk and shown with their
//! calls.
//!
//! Owns: how they are written, and their limits. Links to calls are made by [`crate::catalogue::event`]'s
//! rule.

use super::App;
use super::caller::caller;
use super::calls::{CDR, id, shown};
use super::problem::Problem;
use crate::access::audit::Entry;
use crate::access::{Permission, authorize, permit_for_all, sees_numbers};
use crate::catalogue::event::{MAX_EVENT_US, NewEvent};
use crate::catalogue::model::CallView;
use crate::clock;
use crate::number::{digits, masked};
use crate::time::{DAY_US, parse as parse_time, rfc3339};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Largest body of a bulk.
pub(super) const MAX_BULK_OCTETS: usize = 4 << 20;
/// Events of a bulk.
const MAX_BULK: usize = 5000;
const MAX_NAME_OCTETS: usize = 128;
const MAX_TITLE_OCTETS: usize = 500;
const MAX_PAYLOAD_OCTETS: usize = 16 << 10;
/// Numbers and extensions of an event, each.
const MAX_KEYS: usize = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventItem {
    source: String,
    external_id: String,
    kind: String,
    title: String,
    from: String,
    to: Option<String>,
    #[serde(default)]
    extensions: Vec<String>,
    #[serde(default)]
    numbers: Vec<String>,
    #[serde(default)]
    payload: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CdrItem {
    source: String,
    external_id: String,
    started: String,
    duration_ms: Option<u32>,
    caller: String,
    called: String,
    call_id: Option<String>,
    #[serde(default)]
    payload: Value,
}

/// `POST /events`
pub(super) async fn put_events(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    put(&app, &method, &headers, &body, "events", |app, item: EventItem| {
        if item.kind == CDR {
            return Err("records of an exchange are taken by /cdrs".into());
        }
        let from_us = time("from", &item.from)?;
        Ok(NewEvent {
            to_us: item.to.map_or(Ok(from_us), |to| time("to", &to))?,
            from_us,
            source: item.source,
            external_id: item.external_id,
            kind: item.kind,
            title: item.title,
            extensions: item.extensions,
            numbers: item.numbers.iter().map(|number| number_of(app, number)).collect(),
            payload: payload(&item.payload),
            ..NewEvent::default()
        })
    })
    .await
}

/// `POST /cdrs`
pub(super) async fn put_cdrs(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    put(&app, &method, &headers, &body, "cdrs", |app, item: CdrItem| {
        let from_us = time("started", &item.started)?;
        Ok(NewEvent {
            to_us: from_us + i64::from(item.duration_ms.unwrap_or(0)) * 1000,
            from_us,
            source: item.source,
            external_id: item.external_id,
            kind: CDR.into(),
            title: format!("{} → {}", item.caller, item.called),
            pair: true,
            numbers: vec![number_of(app, &item.caller), number_of(app, &item.called)],
            call_id: item.call_id.unwrap_or_default(),
            payload: payload(&item.payload),
            ..NewEvent::default()
        })
    })
    .await
}

fn number_of(app: &App, number: &str) -> String {
    digits(number, app.config.site.country_code.as_deref())
}

fn payload(value: &Value) -> String {
    if value.is_null() { String::new() } else { value.to_string() }
}

fn time(key: &str, text: &str) -> Result<i64, String> {
    parse_time(text).ok_or_else(|| format!("{key} is no time of RFC 3339, such as 2026-11-01T09:30:00Z"))
}

/// Takes a list in, all or nothing, and answers with the result.
async fn put<T: for<'de> Deserialize<'de>>(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
    body: &Bytes,
    name: &str,
    read: impl Fn(&App, T) -> Result<NewEvent, String>,
) -> Result<Response, Problem> {
    let actor = caller(app, method, headers).await?;
    let now_us = clock::now_us();
    // The data here are about calls of everybody.
    permit_for_all(&actor, Permission::TagWrite, now_us)?;
    let wanted = || Problem::bad(format!("a JSON list of {name}, or an object with it as `{name}`"));
    let items = match serde_json::from_slice(body).map_err(|_| wanted())? {
        Value::Array(items) => items,
        Value::Object(mut object) => match object.remove(name) {
            Some(Value::Array(items)) => items,
            _ => return Err(wanted()),
        },
        _ => return Err(wanted()),
    };
    if items.len() > MAX_BULK {
        return Err(Problem::bad(format!("at most {MAX_BULK} at once")));
    }
    let mut events = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let wrong = |problem: String| Problem::bad(format!("{name}[{index}]: {problem}"));
        let item: T = serde_json::from_value(item).map_err(|error| wrong(error.to_string()))?;
        let event = read(app, item).map_err(wrong)?;
        checked(&event).map_err(wrong)?;
        events.push(event);
    }
    let entry = Entry::new(now_us, &actor.name, "event.add", name).with(&json!({"count": events.len()}));
    let bulk = app.catalogue.put_events(&events, &entry).await?;
    Ok(Json(json!({
        "added": bulk.added, "changed": bulk.changed, "unchanged": bulk.unchanged, "linked": bulk.linked,
    }))
    .into_response())
}

fn checked(event: &NewEvent) -> Result<(), String> {
    let names = [("source", &event.source), ("external_id", &event.external_id), ("kind", &event.kind)];
    for (key, text) in names {
        if text.is_empty() || text.len() > MAX_NAME_OCTETS || !recfile::text::is_harmless(text) {
            return Err(format!("{key} has 1 to {MAX_NAME_OCTETS} octets and no control characters"));
        }
    }
    let fits = |text: &String, max: usize| text.len() <= max && recfile::text::is_harmless(text);
    if !fits(&event.title, MAX_TITLE_OCTETS) {
        return Err(format!("title has at most {MAX_TITLE_OCTETS} octets and no control characters"));
    }
    if event.payload.len() > MAX_PAYLOAD_OCTETS {
        return Err(format!("payload has at most {MAX_PAYLOAD_OCTETS} octets"));
    }
    let lists = [&event.extensions, &event.numbers];
    if lists.iter().any(|list| list.len() > MAX_KEYS)
        || lists.into_iter().flatten().chain([&event.call_id]).any(|text| !fits(text, MAX_NAME_OCTETS))
    {
        return Err(format!("at most {MAX_KEYS} numbers and extensions of {MAX_NAME_OCTETS} octets"));
    }
    let length = event.to_us.checked_sub(event.from_us);
    if !length.is_some_and(|length| (0..=MAX_EVENT_US).contains(&length)) {
        let days = MAX_EVENT_US / DAY_US;
        return Err(format!("it ends when it begins or later, and takes {days} days at most"));
    }
    Ok(())
}

/// `GET /events/{id}`: an event, and its recordings on one clock: `offset_ms` is from the event's beginning.
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    let condition = authorize(&actor, Permission::CallSearch, None, now_us)?;
    let id = id(&text)?;
    let view = app.catalogue.event(id, &condition).await?.ok_or_else(Problem::not_found)?;
    app.catalogue.log(&[Entry::new(now_us, &actor.name, "view", id)]).await?;
    let full = sees_numbers(&actor, &condition, now_us);
    let event = &view.event;
    let number = |number: &String| if full { number.clone() } else { masked(number) };
    let numbers: Vec<String> = event.numbers.iter().map(number).collect();
    let call = |call: &CallView| {
        let mut value = shown(call, full);
        value["offset_ms"] = json!((call.started_us - event.from_us) / 1000);
        value
    };
    let calls: Vec<Value> = view.calls.iter().map(call).collect();
    // The title that an exchange gives a call has whole numbers in it, and so may its other fields.
    let title = if full || !event.pair { event.title.clone() } else { numbers.join(" → ") };
    let payload: Value =
        if full { serde_json::from_str(&event.payload).unwrap_or_default() } else { Value::Null };
    Ok(Json(json!({
        "id": view.id.to_string(), "source": event.source, "external_id": event.external_id, "kind": event.kind,
        "title": title, "from": rfc3339(event.from_us), "to": rfc3339(event.to_us),
        "extensions": event.extensions, "numbers": numbers, "payload": payload, "calls": calls,
    }))
    .into_response())
}
