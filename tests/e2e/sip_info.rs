//! Recording by the PBX: the test plays the phone's SIP stack.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Agent, Client, patience, text};

/// The agent, a UI and a SIP stack.
struct Phone {
    agent: Agent,
    ui: Client,
    stack: Client,
}

impl Phone {
    fn new() -> Self {
        let agent = Agent::start();
        let ui = agent.client();
        let mut stack = agent.client();
        stack.ok("events.subscribe", json!({"types": ["sip.", "recording.started", "recording.ended"]}));
        Self { agent, ui, stack }
    }

    /// Sends a request of the UI; the answer comes later.
    fn ask(&mut self, method: &str) {
        let params = match method {
            "record.start" => json!({"mode": "sip-info", "codec": "PCMA", "call": {"id": "c7"}}),
            _ => json!({}),
        };
        self.ui.send(&json!({"jsonrpc": "2.0", "id": method, "method": method, "params": params}));
    }

    /// Waits for an INFO and gives the recording.
    fn info(&mut self, record: &str) -> String {
        let info = self.stack.wait_event("sip.info", patience());
        assert_eq!(info["headers"], json!({"Record": record}), "{info}");
        assert_eq!(info["call"]["id"], "c7", "{info}");
        text(&info, "/recording").to_owned()
    }

    /// Waits for an INFO and answers it.
    fn answer(&mut self, record: &str, code: u16) {
        let recording = self.info(record);
        self.stack.ok("sip.info_result", json!({"recording": recording, "code": code}));
    }

    fn result(&mut self) -> Value {
        let answer = self.ui.read_answer();
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }

    fn reason(&mut self) -> String {
        text(&self.ui.read_answer(), "/error/data/reason").to_owned()
    }

    fn start(&mut self) -> Value {
        self.ask("record.start");
        self.answer("on", 200);
        self.result()
    }
}

#[test]
fn the_pbx_is_asked_and_nothing_is_taken_for_certain() {
    let mut phone = Phone::new();
    let started = phone.start();
    assert_eq!((&started["state"], &started["confirmed"]), (&json!("recording"), &json!(false)), "{started}");
    assert_eq!((&started["rtp"], &started["file"]), (&Value::Null, &Value::Null), "{started}");
    phone.stack.wait_event("recording.started", patience());
    for (method, record, state) in [("record.pause", "off", "paused"), ("record.resume", "on", "recording")] {
        phone.ask(method);
        phone.answer(record, 200);
        assert_eq!(phone.result()["state"], state);
    }
    phone.ask("record.stop");
    assert_eq!(phone.result()["state"], "stopping");
    phone.answer("off", 200);
    let ended = phone.stack.wait_event("recording.ended", patience());
    assert_eq!((&ended["end_reason"], &ended["mode"]), (&json!("stopped"), &json!("sip-info")), "{ended}");
}

#[test]
fn status_codes_of_the_pbx_become_reasons() {
    let mut phone = Phone::new();
    let codes = [
        (403, "server_refused"),
        (405, "unsupported_by_server"),
        (415, "unsupported_by_server"),
        (469, "unsupported_by_server"),
        (489, "unsupported_by_server"),
        (501, "unsupported_by_server"),
        (481, "invalid_state"),
        (500, "server_refused"),
    ];
    for (code, reason) in codes {
        phone.ask("record.start");
        phone.answer("on", code);
        assert_eq!(phone.reason(), reason, "{code}");
        assert_eq!(phone.ui.ok("record.status", json!({}))["recordings"], json!([]), "{code}");
        assert!(phone.agent.log().contains(&format!("SIP {code}")), "{}", phone.agent.log());
    }
}

#[test]
fn a_pending_request_is_repeated_after_a_moment() {
    let mut phone = Phone::new();
    phone.ask("record.start");
    phone.answer("on", 491);
    let early = phone.stack.next_event(Duration::from_millis(1900));
    assert!(early.is_none(), "too early: {early:?}");
    phone.answer("on", 200);
    assert_eq!(phone.result()["state"], "recording");
}

#[test]
fn an_unanswered_on_times_out_and_is_taken_back() {
    let mut phone = Phone::new();
    phone.ask("record.start");
    phone.info("on");
    let off = phone.stack.wait_event("sip.info", Duration::from_secs(7));
    assert_eq!(off["headers"]["Record"], "off", "{off}");
    assert_eq!(phone.reason(), "server_timeout");
    let recording = text(&off, "/recording").to_owned();
    phone.stack.ok("sip.info_result", json!({"recording": recording, "code": 200}));
    assert_eq!(phone.ui.ok("record.status", json!({}))["recordings"], json!([]));
}

#[test]
fn a_pause_that_the_pbx_refuses_is_no_pause() {
    let mut phone = Phone::new();
    phone.start();
    phone.ask("record.pause");
    phone.answer("off", 403);
    assert_eq!(phone.reason(), "server_refused");
    let status = phone.ui.ok("record.status", json!({}));
    assert_eq!(status["recordings"][0]["state"], "recording", "{status}");
    phone.ask("record.pause");
    phone.answer("off", 481);
    assert_eq!(phone.reason(), "invalid_state");
    let ended = phone.stack.wait_event("recording.ended", patience());
    assert_eq!(ended["end_reason"], "call_gone", "{ended}");
}

#[test]
fn a_paused_recording_ends_without_another_off() {
    let mut phone = Phone::new();
    phone.start();
    phone.ask("record.pause");
    phone.answer("off", 200);
    phone.result();
    phone.ask("record.stop");
    phone.result();
    let next = phone.stack.wait_event("recording.ended", patience());
    assert_eq!(next["end_reason"], "stopped", "{next}");
}

#[test]
fn a_stop_while_the_pbx_still_thinks_about_the_start_is_carried_out_afterwards() {
    let mut phone = Phone::new();
    phone.ask("record.start");
    let recording = phone.info("on");
    phone.ask("record.stop");
    phone.result();
    phone.stack.ok("sip.info_result", json!({"recording": recording, "code": 200}));
    phone.result();
    phone.answer("off", 200);
    phone.stack.wait_event("recording.ended", patience());
}

#[test]
fn without_a_sip_stack_it_is_not_configured() {
    let agent = Agent::start();
    let start = json!({"mode": "sip-info", "codec": "PCMA"});
    agent.client().refused_because("not_configured", "record.start", start);
    let mut stack = agent.client();
    stack.ok("events.subscribe", json!({"types": ["sip.info"]}));
    assert_eq!(stack.ok("agent.info", json!({}))["modes"], json!(["local", "sip-info"]));
    stack.refused_because("not_found", "sip.info_result", json!({"recording": "nobody", "code": 200}));
}

#[test]
fn a_call_that_the_pbx_records_is_not_asked_for_again_before_it_has_ended() {
    let mut phone = Phone::new();
    phone.ask("record.start");
    phone.ask("record.start");
    assert_eq!(phone.reason(), "invalid_state", "the second one, before any answer");
    phone.answer("on", 200);
    assert_eq!(phone.result()["state"], "recording");
    phone.ask("record.start");
    assert_eq!(phone.reason(), "invalid_state");
    phone.ask("record.stop");
    phone.result();
    phone.ask("record.start");
    assert_eq!(phone.reason(), "invalid_state", "its `off` has no answer yet");
    phone.answer("off", 200);
    phone.start();
    // Another call is another matter; two without an id may be the same.
    let mut other = |call: Value, id: &str| {
        let params = json!({"mode": "sip-info", "codec": "PCMA", "call": call});
        phone.ui.send(&json!({"jsonrpc": "2.0", "id": id, "method": "record.start", "params": params}));
        let info = phone.stack.wait_event("sip.info", patience());
        assert_eq!((&info["call"]["id"], &info["headers"]["Record"]), (&json!(id), &json!("on")), "{info}");
    };
    other(json!({"id": "c8"}), "c8");
    other(json!({}), "");
    let params = json!({"mode": "sip-info", "codec": "PCMA"});
    phone.ui.send(&json!({"jsonrpc": "2.0", "id": 9, "method": "record.start", "params": params}));
    assert_eq!(phone.reason(), "invalid_state");
}

#[test]
fn two_recordings_by_the_pbx_can_not_come_to_have_one_call_id() {
    let mut phone = Phone::new();
    let mut start = |id: &str| {
        let params = json!({"mode": "sip-info", "codec": "PCMA", "call": {"id": id}});
        phone.ui.send(&json!({"jsonrpc": "2.0", "id": id, "method": "record.start", "params": params}));
        let recording = phone.stack.wait_event("sip.info", patience())["recording"].clone();
        phone.stack.ok("sip.info_result", json!({"recording": recording, "code": 200}));
        assert_eq!(phone.ui.read_answer()["result"]["recording"], recording);
        recording
    };
    let (first, second) = (start("c1"), start("c2"));
    let mut update = |recording: &Value, call: Value| {
        phone.ui.request("record.update", json!({"recording": recording, "call": call}))
    };
    let refused = update(&second, json!({"id": "c1", "remote_number": "7"})).unwrap_err();
    assert_eq!(refused.reason, "invalid_state", "{}", refused.whole);
    update(&second, json!({"id": "c2", "remote_number": "7"})).unwrap();
    update(&second, json!({"id": "c3"})).unwrap();
    update(&first, json!({"id": "c2"})).unwrap();
}

#[test]
fn a_stop_before_an_on_is_repeated_ends_the_recording_at_once_and_sends_nothing_more() {
    let mut phone = Phone::new();
    phone.ask("record.start");
    phone.answer("on", 491);
    phone.ask("record.stop");
    assert_eq!(phone.reason(), "invalid_state", "the start");
    assert_eq!(phone.result()["state"], "ended");
    phone.stack.wait_event("recording.ended", patience());
    let late = phone.stack.next_event(Duration::from_millis(4200));
    assert!(late.is_none(), "{late:?}");

    phone.start();
    phone.ask("record.pause");
    phone.answer("off", 200);
    phone.result();
    phone.ask("record.resume");
    phone.answer("on", 491);
    phone.ask("record.stop");
    assert_eq!(phone.reason(), "invalid_state", "the resume");
    assert_eq!(phone.result()["state"], "ended");
    let ended = phone.stack.wait_event("recording.ended", patience());
    assert_eq!(ended["end_reason"], "stopped", "{ended}");
    let late = phone.stack.next_event(Duration::from_millis(4200));
    assert!(late.is_none(), "{late:?}");
}
