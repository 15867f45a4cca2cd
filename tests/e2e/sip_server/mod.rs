//! Recording by the PBX against a SIP stack that is not ours: the test is the phone's stack, carries each
//! `sip.info` as an INFO in a call to SIPp, and SIPp's log has the messages on the wire.

mod dialog;
mod sipp;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::dialog::Dialog;
use self::sipp::{Message, Sipp, Step};
use crate::support::agent::is_emulated;
use crate::support::environment::{has_program, skip};
use crate::support::{Agent, Client, patience, text};

/// The phone: a UI, a SIP stack, and a call that is up.
struct Phone {
    ui: Client,
    stack: Client,
    call: Dialog,
    server: Sipp,
    script: Vec<Step>,
}

impl Phone {
    fn call(agent: &Agent, script: &[Step]) -> Self {
        let ui = agent.client();
        let mut stack = agent.client();
        stack.ok("events.subscribe", json!({"types": ["sip.info", "recording.ended"]}));
        let server = Sipp::start(script);
        let call = Dialog::call(server.address);
        Self { ui, stack, call, server, script: script.to_vec() }
    }

    /// Sends a request of the UI; the answer comes later.
    fn ask(&mut self, method: &str) {
        let params = match method {
            "record.start" => json!({"mode": "sip-info", "codec": "PCMA"}),
            _ => json!({}),
        };
        self.ui.send(&json!({"jsonrpc": "2.0", "id": method, "method": method, "params": params}));
    }

    /// Carries the next INFO to the server and its answer to the agent.
    fn carry(&mut self) -> Option<u16> {
        let event = self.stack.wait_event("sip.info", patience());
        let code = self.call.info(event["headers"].as_object().expect("an object"));
        if let Some(code) = code {
            let recording = text(&event, "/recording");
            self.stack.ok("sip.info_result", json!({"recording": recording, "code": code}));
        }
        code
    }

    fn result(&mut self) -> Value {
        let answer = self.ui.read_answer();
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }

    fn reason(&mut self) -> String {
        text(&self.ui.read_answer(), "/error/data/reason").to_owned()
    }

    fn start(&mut self) {
        self.ask("record.start");
        assert_eq!(self.carry(), Some(200));
        let started = self.result();
        assert_eq!(
            (&started["state"], &started["confirmed"]),
            (&json!("recording"), &json!(false)),
            "{started}"
        );
    }

    /// Fails unless the agent has forgotten the recording.
    fn expect_nothing_recorded(&mut self) {
        assert_eq!(self.ui.ok("record.status", json!({}))["recordings"], json!([]));
    }

    /// Hangs up and returns the messages on the wire.
    fn hang_up(mut self) {
        self.call.bye();
        check_wire(&self.server.finish(), &self.script);
    }
}

/// Each INFO is as it should be, no other was sent, and a PBX that toggles records when it should.
fn check_wire(messages: &[Message], script: &[Step]) {
    let mut seen: Vec<Step> = Vec::new();
    let mut last = 0;
    let mut may_record = false;
    for info in messages.iter().filter(|it| !it.sent && it.first_line.starts_with("INFO ")) {
        let (number, _) = info.cseq();
        if number == last {
            continue; // sent again for want of an answer
        }
        assert!(number > last, "{:?}", info.headers);
        last = number;
        check_info(info);
        let record = if info.headers.contains(&"Record: on".to_owned()) { "on" } else { "off" };
        let answer = messages.iter().find(|it| it.sent && it.cseq() == (number, "INFO"));
        let code = answer.and_then(Message::code);
        assert!(!(record == "on" && may_record), "`on` twice: {seen:?}, then {record}");
        match (record, code) {
            ("on", None | Some(200)) => may_record = true,
            ("off", Some(200)) => may_record = false,
            _ => {}
        }
        seen.push((record, code));
    }
    assert_eq!(seen, script);
}

/// A legacy INFO, with the one header field and nothing else.
fn check_info(info: &Message) {
    let records: Vec<&String> =
        info.headers.iter().filter(|line| line.to_lowercase().starts_with("record")).collect();
    assert!(matches!(records[..], [line] if line == "Record: on" || line == "Record: off"), "{records:?}");
    assert_eq!((info.values("Content-Length"), info.body.as_str()), (vec!["0"], ""));
    for absent in ["Info-Package", "Recv-Info", "Content-Type", "Content-Disposition"] {
        assert_eq!(info.values(absent), Vec::<&str>::new(), "{absent}");
    }
    assert!(info.values("To")[0].contains(";tag="), "not in the dialog: {:?}", info.headers);
}

/// Whether there is a SIP server to talk to; says so if there is none.
fn no_sipp() -> bool {
    let missing = !has_program("sipp");
    if missing {
        skip("sipp (package sip-tester) is not installed");
    }
    missing
}

#[test]
fn a_sip_server_that_takes_everything_is_told_each_change_once() {
    if no_sipp() {
        return;
    }
    let agent = Agent::start();
    let ok = Some(200);
    let mut phone =
        Phone::call(&agent, &[("on", ok), ("off", ok), ("on", ok), ("off", ok), ("on", ok), ("off", ok)]);
    phone.start();
    for (method, state) in [("record.pause", "paused"), ("record.resume", "recording")] {
        phone.ask(method);
        assert_eq!(phone.carry(), Some(200));
        let status = phone.result();
        assert_eq!((&status["state"], &status["confirmed"]), (&json!(state), &json!(false)), "{status}");
    }
    phone.ask("record.stop");
    assert_eq!(phone.result()["state"], "stopping");
    assert_eq!(phone.carry(), Some(200));
    phone.stack.wait_event("recording.ended", patience());
    // A second recording in the same call.
    phone.start();
    phone.ask("record.stop");
    phone.result();
    assert_eq!(phone.carry(), Some(200));
    let ended = phone.stack.wait_event("recording.ended", patience());
    assert_eq!(ended["end_reason"], "stopped", "{ended}");
    phone.hang_up();
}

#[test]
fn a_request_that_a_sip_server_refuses_has_a_reason_and_is_not_repeated() {
    if no_sipp() {
        return;
    }
    let agent = Agent::start();
    let codes = [
        (403, "server_refused"),
        (405, "unsupported_by_server"),
        (415, "unsupported_by_server"),
        (469, "unsupported_by_server"),
        (489, "unsupported_by_server"),
        (501, "unsupported_by_server"),
        (481, "invalid_state"),
        (603, "server_refused"),
    ];
    for (code, reason) in codes {
        let mut phone = Phone::call(&agent, &[("on", Some(code))]);
        phone.ask("record.start");
        assert_eq!(phone.carry(), Some(code));
        assert_eq!(phone.reason(), reason, "{code}");
        phone.expect_nothing_recorded();
        phone.hang_up();
    }
}

/// Longest delay of an answer beyond its promise on a busy machine.
fn slack() -> Duration {
    Duration::from_secs(if is_emulated() { 15 } else { 5 })
}

#[test]
fn a_sip_server_with_a_request_pending_is_asked_again_after_a_moment() {
    if no_sipp() {
        return;
    }
    let agent = Agent::start();
    let mut phone = Phone::call(&agent, &[("on", Some(491)), ("on", Some(200)), ("off", Some(200))]);
    phone.ask("record.start");
    assert_eq!(phone.carry(), Some(491));
    let pending = Instant::now();
    assert_eq!(phone.carry(), Some(200));
    let waited = pending.elapsed();
    // The agent counts from the result, which came a little before.
    assert!(waited > Duration::from_millis(2050), "{waited:?}");
    assert!(waited < Duration::from_secs(4) + slack(), "{waited:?}");
    assert_eq!(phone.result()["state"], "recording");
    phone.ask("record.stop");
    phone.result();
    assert_eq!(phone.carry(), Some(200));
    phone.stack.wait_event("recording.ended", patience());
    phone.hang_up();
}

#[test]
fn a_sip_server_with_a_request_pending_for_long_is_asked_only_twice() {
    if no_sipp() {
        return;
    }
    let agent = Agent::start();
    let mut phone = Phone::call(&agent, &[("on", Some(491)), ("on", Some(491))]);
    phone.ask("record.start");
    assert_eq!(phone.carry(), Some(491));
    assert_eq!(phone.carry(), Some(491));
    assert_eq!(phone.reason(), "server_refused");
    phone.expect_nothing_recorded();
    phone.hang_up();
}

#[test]
fn a_silent_sip_server_times_out_and_is_told_off() {
    if no_sipp() {
        return;
    }
    let agent = Agent::start();
    let mut phone = Phone::call(&agent, &[("on", None), ("off", Some(200))]);
    let asked = Instant::now();
    phone.ask("record.start");
    assert_eq!(phone.carry(), None);
    assert_eq!(phone.reason(), "server_timeout");
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_secs(5), "{waited:?}");
    assert!(waited < Duration::from_secs(5) + slack(), "{waited:?}");
    assert_eq!(phone.carry(), Some(200));
    phone.expect_nothing_recorded();
    phone.hang_up();
}

#[test]
fn a_sip_server_that_lost_a_request_behind_it_is_told_off() {
    if no_sipp() {
        return;
    }
    let agent = Agent::start();
    let mut phone = Phone::call(&agent, &[("on", Some(408)), ("off", Some(200))]);
    phone.ask("record.start");
    assert_eq!(phone.carry(), Some(408));
    assert_eq!(phone.reason(), "server_timeout");
    assert_eq!(phone.carry(), Some(200));
    phone.expect_nothing_recorded();
    phone.hang_up();
}

#[test]
fn a_recording_whose_call_a_sip_server_has_forgotten_ends() {
    if no_sipp() {
        return;
    }
    let agent = Agent::start();
    let mut phone = Phone::call(&agent, &[("on", Some(200)), ("off", Some(481))]);
    phone.start();
    phone.ask("record.pause");
    assert_eq!(phone.carry(), Some(481));
    assert_eq!(phone.reason(), "invalid_state");
    let ended = phone.stack.wait_event("recording.ended", patience());
    assert_eq!(ended["end_reason"], "call_gone", "{ended}");
    phone.expect_nothing_recorded();
    phone.hang_up();
}
