//! The record key of the documents, in Python: it shows the true state.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use serde_json::json;

use crate::simulated_agent::Simulation;
use crate::support::environment::{has_program, skip};
use crate::support::server::Server;
use crate::support::{Agent, Codec, RtpSource, number, patience};

/// The key as a process; killed when dropped.
struct RecordKey {
    process: Child,
    shown: Receiver<String>,
}

impl RecordKey {
    /// Starts one at an agent's socket; `None`, with the reason said, where there is no Python.
    fn start(socket: &Path) -> Option<Self> {
        if !has_program("python3") {
            skip("python3 is missing");
            return None;
        }
        let mut command = Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/record_key.py")).arg(socket);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3");
        let out = process.stdout.take().expect("piped");
        let (sender, shown) = sync_channel(1000);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Some(Self { process, shown })
    }

    fn press(&mut self, key: &str) {
        let keys = self.process.stdin.as_mut().expect("piped");
        writeln!(keys, "{key}").expect("a key pressed");
    }

    /// Fails unless it shows exactly these, one after the other; a timer behind a light is not compared.
    fn shows(&self, expected: &[&str]) {
        let end = Instant::now() + patience();
        for line in expected {
            let left = end.saturating_duration_since(Instant::now());
            let shown =
                self.shown.recv_timeout(left).unwrap_or_else(|_| panic!("nothing instead of: {line}"));
            assert_eq!(without_timer(&shown), *line, "of {expected:?}");
        }
    }

    /// Fails unless it shows a recording. Before that there may be no audio: nothing comes until the phone
    /// knows where to send it.
    fn shows_recording(&self) {
        let mut shown = self.next();
        if without_timer(&shown) == "light recording, no audio" {
            shown = self.next();
        }
        assert_eq!(without_timer(&shown), "light recording");
    }

    /// The next line that it shows.
    fn next(&self) -> String {
        self.shown.recv_timeout(patience()).expect("a line")
    }

    /// All prompts until this light; lights between them come and go.
    fn prompts_until(&self, light: &str) -> Vec<String> {
        let mut prompts = Vec::new();
        loop {
            let shown = self.next();
            if without_timer(&shown) == light {
                return prompts;
            }
            if shown.starts_with("prompt") {
                prompts.push(shown);
            }
        }
    }
}

impl Drop for RecordKey {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn without_timer(line: &str) -> &str {
    match line.rsplit_once(' ') {
        Some((light, timer)) if timer.contains(':') && timer.ends_with(|it: char| it.is_ascii_digit()) => {
            light
        }
        _ => line,
    }
}

#[test]
fn the_record_key_shows_media_that_is_missing_and_back_and_a_stick_that_stalls_and_goes_on() {
    let simulation = Simulation::start("");
    let Some(mut key) = RecordKey::start(&simulation.path("socket")) else { return };
    key.shows(&["light off"]);
    key.press("record");
    key.shows_recording();
    simulation.set("media off");
    key.shows(&["light recording, no audio"]);
    simulation.set("media on");
    key.shows(&["light recording"]);
    simulation.set("storage stalled");
    key.shows(&["light recording, the stick does not keep up"]);
    simulation.set("storage ok");
    key.shows(&["light recording"]);
    key.press("pause");
    key.shows(&["light paused"]);
    key.press("resume");
    key.shows(&["light recording"]);
    key.press("stop");
    assert_eq!(key.prompts_until("light off"), [""; 0]);
}

#[test]
fn the_record_key_prompts_for_a_stick_that_is_full_pulled_or_broken_and_is_well_again_afterwards() {
    let simulation = Simulation::start("");
    let Some(mut key) = RecordKey::start(&simulation.path("socket")) else { return };
    key.shows(&["light off"]);
    let troubles = [
        ("storage full", "The stick is full: delete recordings, or use another one", "full", "storage ok"),
        ("storage pulled", "The stick was pulled: insert it again", "absent", "storage inserted"),
        ("storage read_only", "The stick is write-protected", "read_only", "storage ok"),
    ];
    for (command, prompt, state, cure) in troubles {
        key.press("record");
        key.shows_recording();
        simulation.set(command);
        let (prompt, light) = (format!("prompt {prompt}"), format!("light off, stick {state}"));
        assert_eq!(key.prompts_until(&light), [&prompt[..]]);
        key.press("record");
        key.shows(&[&prompt]);
        simulation.set(cure);
        key.shows(&["light off"]);
    }
}

#[test]
fn the_record_key_outlives_the_agent_and_says_that_it_was_ended() {
    let mut agent = Agent::start();
    let Some(mut key) = RecordKey::start(&agent.socket) else { return };
    key.shows(&["light off"]);
    key.press("record");
    key.shows(&["light recording, no audio"]);
    let status = agent.client().ok("record.status", json!({}));
    let port = u16::try_from(number(&status, "/recordings/0/rtp/port")).expect("a port");
    let mut source = RtpSource::new(([127, 0, 0, 1], port).into(), Codec::Pcma);
    (0..20).for_each(|_| drop(source.send_next()));
    key.shows(&["light recording"]);
    assert!(agent.terminate().success());
    assert_eq!(key.prompts_until("light off, no recorder"), ["prompt The recorder was ended"]);
    agent.restart();
    key.shows(&["light off"]);
}

#[test]
fn a_record_key_that_starts_in_mid_call_shows_the_call_with_its_time() {
    let simulation = Simulation::start("");
    let Some(mut key) = RecordKey::start(&simulation.path("socket")) else { return };
    key.shows(&["light off"]);
    key.press("record");
    key.shows_recording();
    drop(key);
    simulation
        .client()
        .wait_event_where("recording.progress", patience(), |it| it["elapsed_ms"].as_u64() > Some(2000));
    let mut key = RecordKey::start(&simulation.path("socket")).expect("it was there before");
    let light = key.next();
    let seconds = light.strip_prefix("light recording 0:").and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| seconds >= 2), "{light}");
    key.press("stop");
    assert_eq!(key.prompts_until("light off"), [""; 0]);
}

#[test]
fn the_record_key_shows_the_words_of_a_server_that_refuses_and_that_it_goes_on_at_the_stick() {
    let Some(server) = Server::by_document("failed", &["--reason", "no license left"]) else { return };
    for on_failure in ["stop", "local"] {
        let (ip, port) = (server.addr.ip(), server.addr.port());
        let settings = format!(
            "[uplink]\nserver_addr = \"{ip}\"\nserver_port = {port}\non_failure = \"{on_failure}\"\n"
        );
        let simulation = Simulation::start_with("", &settings);
        let Some(mut key) = RecordKey::start(&simulation.path("socket")) else { return };
        key.shows(&["light off"]);
        key.press("record server");
        if on_failure == "stop" {
            key.shows(&["prompt The recording server refused: no license left"]);
            continue;
        }
        let prompts = key.prompts_until("light recording");
        assert_eq!(prompts, ["prompt The recording server failed: recording to the stick"]);
    }
}
