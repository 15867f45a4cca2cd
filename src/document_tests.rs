//! Compares `docs/local-api.md` with the agent's code: its tables name every reason, cause and text, and no
//! other, and its examples are lines of the protocol with all of their members.

use crate::api::ending::{EndReason, Order, TextKey};
use crate::api::reason::Reason;
use crate::api::request::parse;
use crate::schema_tests::{fits, schema};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const DOCUMENT: &str = include_str!("../docs/local-api.md");

/// The text between a heading and the next one of any rank.
fn section(heading: &str) -> &'static str {
    let (_, text) = DOCUMENT.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    text.split("\n#").next().unwrap()
}

/// The cells of each row of the table that begins with `head`.
fn table(heading: &str, head: &str) -> Vec<Vec<&'static str>> {
    let (_, text) = section(heading).split_once(head).unwrap_or_else(|| panic!("no {head} at {heading}"));
    let rows = text.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The words that are set as code.
fn words(cell: &str) -> impl Iterator<Item = String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned)
}

fn first_words(rows: &[Vec<&'static str>]) -> BTreeSet<String> {
    rows.iter().flat_map(|row| words(row[0])).filter(|word| word != "sip-info").collect()
}

/// The names of an enumeration in the schema.
fn names_of(kind: &str) -> BTreeSet<String> {
    let schema = schema();
    let parts = &schema["$defs"][kind];
    let variants = parts["oneOf"].as_array().unwrap_or_else(|| panic!("{kind} is {parts}"));
    let constant = |variant: &Value| variant["const"].as_str().unwrap().to_owned();
    variants.iter().map(constant).collect()
}

fn wire(key: TextKey) -> String {
    serde_json::to_value(key).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn every_reason_for_which_a_recording_ends_is_in_the_table_and_no_other() {
    let orders = Order::ALL.map(EndReason::from);
    let all = orders.into_iter().chain(EndReason::FAILURES.map(EndReason::from));
    let all: BTreeSet<String> = all.map(|reason| reason.as_str().to_owned()).collect();
    let rows = table("#### How a recording ends", "| `reason` | event |");
    assert_eq!(first_words(&rows), all);
}

#[test]
fn a_failure_has_the_text_that_the_table_says() {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in table("#### How a recording ends", "| `reason` | event |") {
        for reason in words(row[0]) {
            texts.entry(reason).or_default().extend(words(row[3]));
        }
    }
    for reason in EndReason::FAILURES {
        let keys = [TextKey::of(reason, None), TextKey::of_pbx(reason)].into_iter().flatten().map(wire);
        let told = keys.filter(|key| texts[reason.as_str()].contains(key)).count();
        assert!(told > 0 || reason == Reason::PermissionDenied, "{reason}: {:?}", texts[reason.as_str()]);
    }
}

#[test]
fn every_text_key_is_in_the_table_and_no_other() {
    let rows = table("## What to show", "| `text_key` | text |");
    assert_eq!(first_words(&rows), names_of("TextKey"));
    assert!(rows.iter().all(|row| !row[1].is_empty()));
    let used: BTreeSet<String> = table("#### How a recording ends", "| `reason` | event |")
        .iter()
        .flat_map(|row| words(row[3]))
        .filter(|word| word != "sip-info" && word != "stopped")
        .collect();
    assert!(used.is_subset(&names_of("TextKey")), "{used:?}");
}

#[test]
fn every_reason_and_cause_of_errors_is_in_its_table_and_no_other() {
    let reasons: BTreeSet<String> = Reason::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(first_words(&table("## Errors", "| reason | |")), reasons);
    let better = ["inserted", "next_disk", "room", "works", "writable"].map(String::from);
    let causes: BTreeSet<String> = names_of("Cause").into_iter().filter(|it| !better.contains(it)).collect();
    assert_eq!(first_words(&table("### Causes", "| cause | reason |")), causes);
}

#[test]
fn the_record_key_in_python_says_the_texts_of_the_table() {
    const RECORD_KEY: &str = include_str!("../docs/examples/record_key.py");
    for row in table("## What to show", "| `text_key` | text |") {
        let key = words(row[0]).next().unwrap();
        let text = row[1].split(" (and").next().unwrap();
        // A record key plays no files.
        let said = RECORD_KEY.contains(&format!("    \"{key}\": \"{text}\",\n"));
        assert!(said || key.starts_with("file_"), "{key}: {text}");
    }
}

/// The lines of JSON that the document shows; those of clients begin with `>`.
fn examples() -> impl Iterator<Item = (bool, Value)> {
    DOCUMENT.lines().filter_map(|line| {
        let line = line.trim_start();
        let asks = line.starts_with('>');
        let json = line.strip_prefix(['>', '<']).unwrap_or(line).trim();
        // Lines that are cut off show errors of the agent, and are no JSON.
        serde_json::from_str(json).ok().filter(Value::is_object).map(|value| (asks, value))
    })
}

/// Fails if an object has a member that its schema does not know.
fn check_members(schema: &Value, value: &Value, root: &Value, at: &str) {
    let Some(members) = value.as_object() else { return };
    let mut known = BTreeMap::new();
    gather(schema, value, root, &mut known);
    for (name, value) in members {
        match known.get(name) {
            Some(part) => check_members(part, value, root, &format!("{at}/{name}")),
            None => assert!(known.is_empty(), "the schema knows no {at}/{name}"),
        }
    }
}

/// The properties of a schema and of those that it refers to, as far as they fit.
fn gather<'a>(schema: &'a Value, value: &Value, root: &'a Value, known: &mut BTreeMap<String, &'a Value>) {
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        known.insert(name.clone(), part);
    }
    if let Some(target) = schema["$ref"].as_str() {
        gather(root.pointer(target.strip_prefix('#').unwrap()).unwrap(), value, root, known);
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for part in schema[keyword].as_array().into_iter().flatten().filter(|part| fits(part, value, root)) {
            gather(part, value, root, known);
        }
    }
}

#[test]
fn every_example_is_a_line_of_the_protocol_with_all_of_its_members() {
    let root = schema();
    let mut asked = BTreeMap::new();
    let (mut answers, mut events) = (0, 0);
    for (asks, line) in examples() {
        let id = line["id"].to_string();
        if asks {
            // Some show the answer to a mistake.
            let known = parse(line.to_string().as_bytes()).is_ok();
            asked.insert(id, line["method"].as_str().filter(|_| known).map(str::to_owned));
        } else if let Some(method) = line["method"].as_str() {
            let schema = &root["events"][method]["params"];
            assert!(fits(schema, &line["params"], &root), "{line}");
            check_members(schema, &line["params"], &root, method);
            events += 1;
        } else if let Some(result) = line.get("result") {
            let method = asked[&id].as_ref().unwrap_or_else(|| panic!("{line} answers a mistake"));
            let schema = &root["methods"][method]["result"];
            assert!(fits(schema, result, &root), "{method}: {line}");
            check_members(schema, result, &root, method);
            answers += 1;
        } else {
            assert!(fits(&root["$defs"]["Answer"], &line, &root), "{line}");
        }
    }
    assert!(answers >= 12 && events >= 6, "{answers} answers and {events} events: where are the others?");
}
