//! `recordctl simulate-agent`: a user interface meets everything that can happen, without a phone.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::agent::recordctl;
use crate::support::{Client, number, patience, read_recording, text, wait_until};

/// As long as a user may wait for an event to show.
const SHOWN: Duration = Duration::from_secs(2);

pub(crate) struct Simulation {
    child: Child,
    dir: tempfile::TempDir,
}

impl Simulation {
    /// Starts one that obeys `script` first.
    pub(crate) fn start(script: &str) -> Self {
        Self::start_with(script, "")
    }

    /// The same with settings.
    pub(crate) fn start_with(script: &str, settings: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("simulated-agent-").tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("script"), script).expect("a script");
        std::fs::write(path("config"), settings).expect("a config");
        let mut command = recordctl();
        command.arg("simulate-agent");
        for (option, name) in [
            ("--socket", "socket"),
            ("--control", "control"),
            ("--script", "script"),
            ("--dir", "stick"),
            ("--config", "config"),
        ] {
            command.arg(option).arg(path(name));
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("recordctl");
        let it = Self { child, dir };
        wait_until("the agent's socket", patience(), || UnixStream::connect(it.path("socket")).is_ok());
        it
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn client(&self) -> Client {
        let mut client = Client::connect(&self.path("socket"));
        client.ok("events.subscribe", json!({}));
        client
    }

    /// The answer to a line of commands.
    fn command(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(self.path("control")).expect("the control socket");
        writeln!(stream, "{line}").expect("sent");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("an answer");
        answer.trim().to_owned()
    }

    pub(crate) fn set(&self, line: &str) {
        assert_eq!(self.command(line), "ok", "{line}");
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a recording that has heard something.
pub(crate) fn record(client: &mut Client) {
    client.ok("record.start", json!({"codec": "PCMU"}));
    client.wait_event_where("recording.progress", patience(), |status| {
        number(status, "/packets/received") > 10 && status["level_dbfs"].is_number()
    });
}

#[test]
fn a_simulated_call_is_heard_and_a_pulled_stick_is_told_and_comes_back() {
    let simulation = Simulation::start("");
    let mut client = simulation.client();
    record(&mut client);
    simulation.set("storage pulled");
    let failed = client.wait_event("recording.failed", SHOWN);
    assert_eq!(text(&failed, "/reason"), "storage_io", "{failed}");
    // Until the agent has looked, the disk failed, and then it is gone.
    wait_until("no stick", SHOWN, || text(&client.ok("storage.status", json!({})), "/state") == "absent");
    client.refused_because("no_storage", "record.start", json!({"codec": "PCMA"}));
    simulation.set("storage inserted");
    client.wait_event("storage.inserted", SHOWN);
    record(&mut client);
    client.ok("record.stop", json!({}));
    let ended = client.wait_event("recording.ended", patience());
    let file = simulation.path("stick/Record").join(text(&ended, "/file"));
    assert!(!read_recording(&file).data.is_empty());
}

#[test]
fn a_stick_that_gave_errors_is_told_as_failed_until_there_is_a_good_one() {
    let simulation = Simulation::start("");
    let mut client = simulation.client();
    record(&mut client);
    simulation.set("storage failed");
    client.wait_event("recording.failed", SHOWN);
    let state = |client: &mut Client| text(&client.ok("storage.status", json!({})), "/state").to_owned();
    assert_eq!(state(&mut client), "failed");
    // It is there, and it is broken.
    client.refused_because("storage_io", "record.start", json!({"codec": "PCMA"}));
    simulation.set("storage ok");
    wait_until("a good stick", SHOWN, || state(&mut client) == "ok");
    record(&mut client);
    assert_eq!(state(&mut client), "ok");
}

#[test]
fn every_state_of_the_stick_is_left_by_ok() {
    let simulation = Simulation::start("");
    let mut client = simulation.client();
    for (state, told) in [
        ("pulled", "absent"),
        ("low", "low"),
        ("full", "full"),
        ("read_only", "read_only"),
        ("failed", "ok"),
        ("stalled", "ok"),
        ("slow", "ok"),
    ] {
        simulation.set(&format!("storage {state}"));
        // A disk that gives errors or stalls shows so when it is written to.
        let is = |client: &mut Client, told| client.ok("storage.status", json!({}))["state"] == told;
        wait_until(state, SHOWN, || is(&mut client, told));
        simulation.set("storage ok");
        if ["pulled", "failed"].contains(&state) {
            // It is another one, and the old one counts as pulled: a start before that is known is refused.
            client.wait_event("storage.inserted", SHOWN);
        }
        wait_until("a good stick", SHOWN, || is(&mut client, "ok"));
        let started = client.ok("record.start", json!({"codec": "PCMA"}));
        client.ok("record.stop", json!({}));
        client.wait_event_where("recording.ended", patience(), |ended| {
            ended["recording"] == started["recording"]
        });
    }
}

#[test]
fn a_stick_that_stalls_and_goes_on_is_told_and_loses_nothing() {
    let simulation = Simulation::start("");
    let mut client = simulation.client();
    record(&mut client);
    simulation.set("storage stalled");
    // Two seconds of one job, which begins with the next flush.
    client.wait_event("recording.stalled", patience());
    simulation.set("storage ok");
    client.ok("record.stop", json!({}));
    let ended = client.wait_event("recording.ended", patience());
    assert_eq!(ended["degraded"], false, "{ended}");
}

#[test]
fn a_stick_is_low_then_full_then_read_only() {
    let simulation = Simulation::start("");
    let mut client = simulation.client();
    record(&mut client);
    simulation.set("storage low");
    client.wait_event("storage.low", SHOWN);
    simulation.set("storage full");
    client.wait_event("storage.full", SHOWN);
    let ended = client.wait_event("recording.ended", patience());
    assert_eq!(ended["end_reason"], "storage_full", "{ended}");
    client.refused_because("storage_full", "record.start", json!({"codec": "PCMA"}));
    simulation.set("storage ok");
    simulation.set("storage read_only");
    wait_until("a read-only stick", SHOWN, || client.ok("storage.status", json!({}))["state"] == "read_only");
    client.refused_because("storage_read_only", "record.start", json!({"codec": "PCMA"}));
}

#[test]
fn a_script_sets_the_scene_and_the_pbx_says_what_it_is_told_to() {
    let mut simulation = Simulation::start("# no stick, a PBX that refuses\nstorage pulled; sip 403\n");
    // It does not subscribe: a client that has subscribed to all events counts as a SIP stack, too.
    let mut client = Client::connect(&simulation.path("socket"));
    wait_until("the script", patience(), || {
        let info = client.ok("agent.info", json!({}));
        info["storage"]["present"] == false && info["modes"].to_string().contains("sip-info")
    });
    let start = json!({"codec": "PCMA", "mode": "sip-info"});
    client.refused_because("server_refused", "record.start", start.clone());
    simulation.set("sip 200");
    let started = client.ok("record.start", start);
    assert_eq!(started["confirmed"], false, "{started}");
    assert!(simulation.command("storage gone").starts_with("error: "));
    simulation.set("quit");
    let status =
        crate::support::wait_for("its end", patience(), || simulation.child.try_wait().expect("a child"));
    assert!(status.success(), "{status}");
}

#[test]
fn a_stick_that_was_ejected_comes_back_by_either_command() {
    let simulation = Simulation::start("");
    let mut client = simulation.client();
    for command in ["storage ok", "storage inserted"] {
        client.ok("storage.eject", json!({}));
        client.refused_because("no_storage", "record.start", json!({"codec": "PCMA"}));
        simulation.set(command);
        let present = |client: &mut Client| client.ok("storage.status", json!({}))["state"] == "ok";
        wait_until("the stick", SHOWN, || present(&mut client));
        record(&mut client);
        client.ok("record.stop", json!({}));
        client.wait_event("recording.ended", patience());
    }
}

#[test]
fn a_refusal_of_the_agent_says_what_to_do_and_nothing_about_something_else() {
    let simulation = Simulation::start("");
    let mut client = simulation.client();
    let params = json!({"file": "a.wav", "rtp": {"addr": "10.0.0.1", "port": 40100}});
    let error = client.refused("play.start", params).whole;
    assert!(text(&error, "/message").contains("10.0.0.1"), "{error}");
    assert!(text(&error, "/data/advice").contains("allow_remote"), "{error}");
    let ids = [0, 1].map(|_| {
        let started = client.ok("record.start", json!({"codec": "PCMA"}));
        text(&started, "/recording").to_owned()
    });
    let error = client.refused("record.stop", json!({})).whole;
    assert!(ids.iter().all(|id| text(&error, "/message").contains(id.as_str())), "{error}");
}
