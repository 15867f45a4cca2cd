use super::*;
use proptest::prelude::*;
use serde_json::json;

fn call(method: &str, params: Value) -> Result<Method, Refused> {
    let line = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    parse(line.as_bytes()).map(|request| request.method)
}

fn refusal(line: &str) -> (i32, String) {
    let refused = parse(line.as_bytes()).expect_err(line);
    let answer: Value = serde_json::from_slice(&refused.line().expect("an answer")).unwrap();
    assert_eq!(answer["error"]["code"], refused.code);
    (refused.code, answer["id"].to_string())
}

fn param_problem(method: &str, params: Value) -> String {
    let refused = call(method, params).expect_err(method);
    assert_eq!(refused.code, INVALID_PARAMS);
    refused.message
}

#[test]
fn a_start_request_is_read_with_all_its_parameters() {
    let line = r#"{"jsonrpc":"2.0","id":"a-1","method":"record.start","params":{"mode":"server","codec":"G722",
        "ptime_ms":30,"payload_type":97,"call":{"id":"c1","direction":"out","remote_number":"+493012","remote_name":"Zoë & Co",
        "local_number":"12","local_name":"Desk"}}}"#;
    let request = parse(line.as_bytes()).unwrap();
    assert_eq!(request.id.unwrap().as_json(), "\"a-1\"");
    let expected = RecordStart {
        mode: Mode::Server,
        codec: "G722".into(),
        ptime_ms: 30,
        payload_type: Some(97),
        call: Call {
            id: "c1".into(),
            direction: Some(Direction::Out),
            remote_number: "+493012".into(),
            remote_name: "Zoë & Co".into(),
            local_number: "12".into(),
            local_name: "Desk".into(),
            ..Call::default()
        },
    };
    assert_eq!(request.method, Method::RecordStart(expected));
}

#[test]
fn a_start_request_needs_no_more_than_the_codec() {
    let expected = RecordStart {
        mode: Mode::Local,
        codec: "PCMA".into(),
        ptime_ms: 20,
        payload_type: None,
        call: Call::default(),
    };
    assert_eq!(call("record.start", json!({ "codec": "PCMA" })), Ok(Method::RecordStart(expected)));
    assert_eq!(param_problem("record.start", json!({})), "`codec` is missing");
}

#[test]
fn every_method_is_read_from_its_parameters() {
    let name = || Some("r1".to_owned());
    let types = || Some(vec!["recording.".to_owned(), "storage".to_owned()]);
    let file = || "a/b.wav".to_owned();
    let rtp = RtpAddress { addr: "::1".parse().unwrap(), port: 4000 };
    let update = CallUpdate { remote_name: Some("Bo".into()), ..CallUpdate::default() };
    let cases = [
        ("agent.info", json!({}), Method::AgentInfo),
        ("record.pause", json!({ "recording": "r1" }), Method::RecordPause { recording: name() }),
        ("record.resume", json!({ "recording": null }), Method::RecordResume { recording: None }),
        ("record.stop", json!({}), Method::RecordStop { recording: None }),
        (
            "record.update",
            json!({ "recording": "r1", "call": { "remote_name": "Bo" } }),
            Method::RecordUpdate { recording: name(), call: update },
        ),
        ("record.status", json!(null), Method::RecordStatus { recording: None }),
        ("storage.eject", json!({}), Method::StorageEject),
        ("storage.status", json!({}), Method::StorageStatus),
        (
            "recordings.list",
            json!({ "limit": 5, "after": "x.wav", "query": "bo" }),
            Method::RecordingsList { limit: Some(5), after: Some("x.wav".into()), query: Some("bo".into()) },
        ),
        ("recordings.info", json!({ "file": "a/b.wav" }), Method::RecordingsInfo { file: file() }),
        ("recordings.delete", json!({ "file": "a/b.wav" }), Method::RecordingsDelete { file: file() }),
        (
            "recordings.protect",
            json!({ "file": "a/b.wav" }),
            Method::RecordingsProtect { file: file(), protected: true },
        ),
        (
            "recordings.protect",
            json!({ "file": "a/b.wav", "protected": false }),
            Method::RecordingsProtect { file: file(), protected: false },
        ),
        (
            "play.start",
            json!({ "file": "a/b.wav", "rtp": { "addr": "::1", "port": 4000 } }),
            Method::PlayStart { file: file(), rtp, position_ms: 0 },
        ),
        ("play.pause", json!({}), Method::PlayPause { playback: None }),
        ("play.resume", json!({ "playback": "r1" }), Method::PlayResume { playback: name() }),
        ("play.seek", json!({ "position_ms": 9 }), Method::PlaySeek { playback: None, position_ms: 9 }),
        ("play.stop", json!({}), Method::PlayStop { playback: None }),
        ("play.status", json!({}), Method::PlayStatus { playback: None }),
        (
            "events.subscribe",
            json!({ "types": ["recording.", "storage"] }),
            Method::EventsSubscribe { types: types() },
        ),
        ("events.unsubscribe", json!({}), Method::EventsUnsubscribe { types: None }),
        ("stats.get", json!({}), Method::StatsGet),
        (
            "sip.info_result",
            json!({ "recording": "r1", "code": 200 }),
            Method::SipInfoResult { recording: "r1".into(), code: 200 },
        ),
    ];
    for (method, params, expected) in &cases {
        assert_eq!(call(method, params.clone()).as_ref(), Ok(expected), "{method}");
    }
    for method in method_names().filter(|name| *name != "record.start") {
        assert!(cases.iter().any(|(name, _, _)| *name == method), "{method} is not in this test");
    }
}

#[test]
fn the_id_comes_back_as_it_was_written() {
    for id in ["1", "-1.50e+3", "\"x \\u00e4\"", "null", "18446744073709551616"] {
        let line = format!(r#"{{"method":"stats.get","id": {id} ,"jsonrpc":"2.0"}}"#);
        assert_eq!(parse(line.as_bytes()).unwrap().id.unwrap().as_json(), id);
    }
}

#[test]
fn a_line_that_is_not_json_is_a_parse_error() {
    for line in ["{", "hello", "{\"id\":1}x", "[1,", "{\"id\":01}", "\u{feff}{}", "{'id':1}"] {
        assert_eq!(refusal(line), (PARSE_ERROR, "null".to_owned()), "{line}");
    }
    assert_eq!(parse(b"{\"a\":\xff}").unwrap_err().code, PARSE_ERROR);
    let half_a_pair = r#"{"jsonrpc":"2.0","id":"\ud800","method":"stats.get"}"#;
    assert_eq!(refusal(half_a_pair), (PARSE_ERROR, "null".to_owned()));
}

#[test]
fn json_that_is_no_request_is_an_invalid_request() {
    for (line, id) in [
        ("1", "null"),
        ("[]", "null"),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"stats.get"}]"#, "null"),
        ("{}", "null"),
        (r#"{"jsonrpc":"1.0","id":1,"method":"stats.get"}"#, "1"),
        (r#"{"jsonrpc":2.0,"id":1,"method":"stats.get"}"#, "1"),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"stats.get"}"#, "null"),
        (r#"{"jsonrpc":"2.0","id":true,"method":"stats.get"}"#, "null"),
        (r#"{"jsonrpc":"2.0","id":2,"method":7}"#, "2"),
        (r#"{"jsonrpc":"2.0","id":2}"#, "2"),
        (r#"{"jsonrpc":"2.0","id":2,"id":3,"method":"stats.get"}"#, "null"),
    ] {
        assert_eq!(refusal(line), (INVALID_REQUEST, id.to_owned()), "{line}");
    }
    let long = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"stats.get"}}"#, "x".repeat(300));
    assert_eq!(refusal(&long), (INVALID_REQUEST, "null".to_owned()));
}

#[test]
fn a_notification_is_never_answered() {
    let parsed = parse(br#"{"jsonrpc":"2.0","method":"record.stop"}"#).unwrap();
    assert_eq!(parsed.id, None);
    for (line, code) in [
        (r#"{"jsonrpc":"2.0","method":"no.such"}"#, METHOD_NOT_FOUND),
        (r#"{"jsonrpc":"2.0","method":"record.stop","params":[1]}"#, INVALID_PARAMS),
    ] {
        let refused = parse(line.as_bytes()).unwrap_err();
        assert_eq!((refused.code, refused.line()), (code, None));
    }
}

#[test]
fn an_unknown_method_is_told_by_name() {
    let refused = call("record.begin", json!({})).unwrap_err();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (METHOD_NOT_FOUND, "there is no method \"record.begin\"")
    );
}

#[test]
fn a_wrong_parameter_is_told_by_name() {
    let long = "ü".repeat(257);
    for (method, params, name) in [
        ("record.start", json!({ "codec": 8 }), "`codec`"),
        ("record.start", json!({ "codec": "PCMA", "mode": "LOCAL" }), "`mode`"),
        ("record.start", json!({ "codec": "PCMA", "ptime_ms": 4 }), "`ptime_ms`"),
        ("record.start", json!({ "codec": "PCMA", "ptime_ms": 201 }), "`ptime_ms`"),
        ("record.start", json!({ "codec": "PCMA", "ptime_ms": 20.0 }), "`ptime_ms`"),
        ("record.start", json!({ "codec": "PCMA", "file": "x" }), "`file`"),
        ("record.start", json!({ "codec": "PCMA", "call": "c1" }), "`call`"),
        ("record.start", json!({ "codec": "PCMA", "call": { "direction": "IN" } }), "`call.direction`"),
        ("record.start", json!({ "codec": "PCMA", "call": { "name": "x" } }), "`call.name`"),
        ("record.update", json!({}), "`call`"),
        ("record.stop", json!({ "recording": 1 }), "`recording`"),
        ("record.stop", json!({ "playback": "p" }), "`playback`"),
        ("recordings.list", json!({ "limit": 0 }), "`limit`"),
        ("recordings.list", json!({ "limit": -1 }), "`limit`"),
        ("recordings.info", json!({}), "`file`"),
        ("recordings.protect", json!({ "file": "x", "protected": 1 }), "`protected`"),
        ("play.start", json!({ "file": "x" }), "`rtp`"),
        ("play.start", json!({ "file": "x", "rtp": { "addr": "host", "port": 1 } }), "`rtp.addr`"),
        ("play.start", json!({ "file": "x", "rtp": { "addr": "::1", "port": 0 } }), "`rtp.port`"),
        ("play.start", json!({ "file": "x", "rtp": { "addr": "::1", "port": 65536 } }), "`rtp.port`"),
        ("play.seek", json!({}), "`position_ms`"),
        ("events.subscribe", json!({ "types": "recording" }), "`types`"),
        ("events.subscribe", json!({ "types": [1] }), "`types`"),
        ("events.subscribe", json!({ "types": vec!["x"; 33] }), "`types`"),
        ("events.subscribe", json!({ "types": [long] }), "`types`"),
        ("sip.info_result", json!({ "recording": "r1", "code": 100 }), "`code`"),
        ("stats.get", json!({ "reset": true }), "`reset`"),
        ("stats.get", json!([]), "`params`"),
        ("stats.get", json!("x"), "`params`"),
    ] {
        let problem = param_problem(method, params);
        assert!(problem.contains(name), "{method}: {problem}");
    }
}

/// The call that a start request with these octets in it as `call` gives.
fn started(call: &[u8]) -> Call {
    let head = &br#"{"jsonrpc":"2.0","id":1,"method":"record.start","params":{"codec":"PCMA","call":{"#[..];
    let line = [head, call, b"}}}"].concat();
    match parse(&line).map(|request| request.method) {
        Ok(Method::RecordStart(start)) => start.call,
        other => panic!("{:?} gives {other:?}", String::from_utf8_lossy(&line)),
    }
}

#[test]
fn a_callers_text_of_any_form_never_prevents_a_recording() {
    let long = "ü".repeat(300);
    for (said, kept) in [
        (format!("\"{long}\"").as_bytes(), &long[..512]),
        (br#""Anna \ud83d""#, "Anna \u{fffd}"),
        (br#""\ude00Anna""#, "\u{fffd}Anna"),
        (b"\"M\xfcller\"", "M\u{fffd}ller"),
        (b"\"cut \xf0\x9f\x98\"", "cut \u{fffd}"),
        (b"\"tab\tesc\x1b[2J\x01\"", "tab esc [2J "),
        (br#""a\u0000b\u009b\u2028c""#, "a b  c"),
        (br#""1\u202e2\u200b3\ufeff""#, "123"),
        (b"[1]", ""),
        (b"{\"a\":{}}", ""),
        (b"true", ""),
    ] {
        let call = started(&[&b"\"remote_name\":"[..], said].concat());
        assert_eq!(call.remote_name, kept);
        assert_eq!(call.altered.to_string(), "remote_name", "{kept}");
    }
    for (said, kept) in [("4930", "4930"), ("-1.5", "-1.5"), ("null", ""), (r#""+49 30""#, "+49 30")] {
        let call = started(format!(r#""local_number":{said}"#).as_bytes());
        assert_eq!((call.local_number.as_str(), call.altered.is_empty()), (kept, true));
    }
    let call = started(br#""direction":7,"id":[]"#);
    assert_eq!((call.direction, call.altered.to_string()), (None, "id, direction".into()));
}

#[test]
fn an_update_with_a_bad_name_is_taken_like_a_start() {
    let line = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"record.update\",\"params\":{\"call\":{\"remote_name\":\"B\xf6\\ud800\"}}}";
    let Ok(Method::RecordUpdate { call, .. }) = parse(line).map(|request| request.method) else { panic!() };
    assert_eq!(call.remote_name.as_deref(), Some("B\u{fffd}\u{fffd}"));
    assert!(call.altered.has(Field::RemoteName));
}

#[test]
fn bad_text_outside_of_parameters_is_an_error_still() {
    for line in [
        &b"{\"jsonrpc\":\"2.0\",\"id\":\"\xff\",\"method\":\"stats.get\"}"[..],
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stats.get\xff\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stats.get\"}\xff",
        b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stats.get\"}",
    ] {
        assert_eq!(parse(line).unwrap_err().code, PARSE_ERROR, "{:?}", String::from_utf8_lossy(line));
    }
}

#[test]
fn control_characters_in_a_name_become_spaces_and_256_characters_fit() {
    let name = format!("{}\u{1b}[2J\n", "ü".repeat(251));
    let Ok(Method::RecordStart(start)) =
        call("record.start", json!({ "codec": "PCMA", "call": { "remote_name": name } }))
    else {
        panic!("a good request");
    };
    assert_eq!(start.call.remote_name, format!("{} [2J ", "ü".repeat(251)));
}

#[test]
fn nesting_as_deep_as_a_line_allows_is_an_error_and_no_crash() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = 65_000 / (open.len() + close.len());
        let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let _ = parse(deep.as_bytes());
        let line =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"record.start","params":{{"call":{deep}}}}}"#);
        assert_eq!(refusal(&line), (INVALID_PARAMS, "1".to_owned()));
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec!["PCMA", "local", "in", "::1", "2.0", "recording."]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let key = prop::sample::select(vec![
            "codec",
            "mode",
            "call",
            "rtp",
            "addr",
            "port",
            "file",
            "types",
            "recording",
            "playback",
            "code",
            "direction",
            "position_ms",
            "ptime_ms",
            "other",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key.prop_map(str::to_owned), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_octets_are_refused_with_one_line_of_json(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let refused = parse(&line).expect_err("random octets are no request");
        let answer = refused.line().expect("an answer");
        prop_assert_eq!(answer.iter().position(|octet| *octet == b'\n'), Some(answer.len() - 1));
        prop_assert!(serde_json::from_slice::<Value>(&answer).is_ok());
    }

    #[test]
    fn any_parameters_of_any_method_give_a_request_or_invalid_params(
        method in prop::sample::select(method_names().collect::<Vec<_>>()), params in json_value(),
    ) {
        if let Err(refused) = call(method, params) {
            prop_assert_eq!(refused.code, INVALID_PARAMS);
            prop_assert!(refused.message.len() < 600, "{}", refused.message);
        }
    }

    #[test]
    fn any_json_is_taken_or_answered_with_its_id(value in json_value(), id in json_value()) {
        let line = json!({ "jsonrpc": "2.0", "id": id, "method": value }).to_string();
        match parse(line.as_bytes()) {
            Ok(request) => prop_assert_eq!(request.id, Some(RequestId::from_json(&id.to_string()))),
            Err(refused) => {
                let answer = String::from_utf8(refused.line().unwrap()).unwrap();
                let begins_with_id = |id: &str| answer.starts_with(&format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},"));
                prop_assert!(begins_with_id("null") || begins_with_id(&id.to_string()), "{}", answer);
            }
        }
    }
}
