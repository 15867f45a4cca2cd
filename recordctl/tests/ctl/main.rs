//! `recordctl` for the people and scripts that run it, against an imaginary agent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod advice;
mod exporting;
mod fake_agent;
mod terminal;

use fake_agent::FakeAgent;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

/// `recordctl`, through the emulator if the tests were built for another machine: `RECORDD_TEST_RUNNER`, or
/// the one that cargo was told of.
fn program() -> Command {
    let machine = format!("CARGO_TARGET_{}", std::env::consts::ARCH.to_uppercase());
    let of_cargo = |(name, value): (String, String)| {
        (name.starts_with(&machine) && name.ends_with("_RUNNER")).then_some(value)
    };
    let runner = std::env::var("RECORDD_TEST_RUNNER").ok().or_else(|| std::env::vars().find_map(of_cargo));
    let runner = runner.unwrap_or_default();
    let mut words = runner.split_whitespace().chain([env!("CARGO_BIN_EXE_recordctl")]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).env_remove("RECORDD_SOCKET");
    command
}

fn recordctl(socket: &Path, arguments: &[&str]) -> Output {
    program().arg("--socket").arg(socket).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn start_tells_the_call_and_prints_where_the_rtp_goes() {
    let agent = FakeAgent::start();
    let words = "start --codec pcmu --ptime 30 --direction in --remote-number +49301234 --remote-name Zoë --call-id c7";
    let text = stdout(&recordctl(&agent.socket, &words.split(' ').collect::<Vec<_>>()));
    let port = agent.rtp.local_addr().unwrap().port();
    assert!(text.contains(&format!("send RTP to  127.0.0.1:{port}")), "{text}");
    let call = json!({"id": "c7", "direction": "in", "remote_number": "+49301234", "remote_name": "Zoë"});
    let params = json!({"mode": "local", "codec": "PCMU", "ptime_ms": 30, "call": call});
    assert_eq!(agent.asked("record.start"), Some(params));
}

#[test]
fn start_names_a_payload_type_if_it_is_given_one() {
    let agent = FakeAgent::start();
    stdout(&recordctl(&agent.socket, &["start", "--payload-type", "101"]));
    assert_eq!(agent.asked("record.start").unwrap()["payload_type"], 101);
}

#[test]
fn json_is_the_agents_result_on_one_line() {
    let agent = FakeAgent::start();
    for (command, member) in [
        ("status", "version"),
        ("start", "rtp"),
        ("pause", "state"),
        ("list", "recordings"),
        ("storage", "mount"),
        ("stats", "packets"),
    ] {
        let text = stdout(&recordctl(&agent.socket, &[command, "--json"]));
        assert_eq!(text.lines().count(), 1, "{text}");
        let result: Value = serde_json::from_str(&text).unwrap();
        assert!(!result[member].is_null(), "{command}: {text}");
    }
}

#[test]
fn people_get_tables_and_sizes() {
    let agent = FakeAgent::start();
    let list = stdout(&recordctl(&agent.socket, &["list", "+4930", "--limit", "5"]));
    assert!(list.contains("2026-03-01 09:15    1:23  648.5 KiB  PCMA   in   +49301234  Zoë"), "{list}");
    assert_eq!(agent.asked("recordings.list"), Some(json!({"query": "+4930", "limit": 5})));
    let storage = stdout(&recordctl(&agent.socket, &["storage"]));
    assert!(storage.contains("free        14.9 GiB\ntime left   23 d 3 h"), "{storage}");
    let status = stdout(&recordctl(&agent.socket, &["status"]));
    assert!(status.contains("Nothing is being recorded."), "{status}");
}

#[test]
fn watch_follows_one_recording_to_its_end() {
    let agent = FakeAgent::start();
    agent.set_recording("recording");
    let text = stdout(&recordctl(&agent.socket, &["watch"]));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0].starts_with("REC      1:23 [#############-------] -20 dB"), "{text}");
    assert!(lines[2].starts_with("ended    1:23"), "{text}");
    assert_eq!(lines[3], "Record_20260301-091500.wav (stopped)");
    assert_eq!(agent.methods(), ["events.subscribe", "record.status"]);
}

#[test]
fn watch_ends_after_the_count_and_fails_where_nothing_is_recorded() {
    let agent = FakeAgent::start();
    let idle = recordctl(&agent.socket, &["watch"]);
    assert_eq!(idle.status.code(), Some(1));
    assert!(stderr(&idle).contains("nothing is being recorded"), "{idle:?}");
    agent.set_recording("paused");
    let text = stdout(&recordctl(&agent.socket, &["watch", "--count", "1", "--json"]));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["state"], "paused");
}

#[test]
fn events_are_printed_as_they_came() {
    let agent = FakeAgent::start();
    agent.set_recording("recording");
    let events = recordctl_in_background(&agent, &["events", "recording.", "--count", "2"]);
    wait_until_asked(&agent, "events.subscribe");
    stdout(&recordctl(&agent.socket, &["watch"]));
    let output = events.wait_with_output().unwrap();
    let names: Vec<_> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["method"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["recording.progress", "recording.progress"]);
}

/// Waits up to ten seconds for a request of `recordctl` in the background.
fn wait_until_asked(agent: &FakeAgent, method: &str) {
    for _ in 0..2000 {
        if agent.asked(method).is_some() {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    panic!("{method} was never asked; only {:?}", agent.methods());
}

fn recordctl_in_background(agent: &FakeAgent, arguments: &[&str]) -> std::process::Child {
    program()
        .env("RECORDD_SOCKET", &agent.socket)
        .args(arguments)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn play_shows_progress_until_the_end() {
    let agent = FakeAgent::start();
    let arguments = ["play", "a.wav", "--rtp", "[::1]:4000", "--position-ms", "500"];
    let text = stdout(&recordctl(&agent.socket, &arguments));
    assert!(text.starts_with("0:41 / 1:23 [###############"), "{text}");
    let params = json!({"file": "a.wav", "rtp": {"addr": "::1", "port": 4000}, "position_ms": 500});
    assert_eq!(agent.asked("play.start"), Some(params));
}

#[test]
fn an_error_of_the_agent_is_a_sentence_for_people_and_json_for_scripts() {
    let agent = FakeAgent::start();
    let error = json!({"code": -32000, "message": "there is no USB stick", "data": {"reason": "no_storage"}});
    agent.refuse(error.clone());
    let plain = recordctl(&agent.socket, &["start"]);
    assert_eq!(plain.status.code(), Some(1));
    let sentence = "recordctl: there is no USB stick (no_storage); put in a USB stick";
    assert!(stderr(&plain).starts_with(sentence), "{plain:?}");
    let scripted = recordctl(&agent.socket, &["start", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&stderr(&scripted)).unwrap(), json!({ "error": error }));
    assert!(scripted.stdout.is_empty());
}

#[test]
fn an_agent_that_is_not_there_is_told_from_wrong_usage() {
    let nowhere = Path::new("/nonexistent/agent.sock");
    let absent = recordctl(nowhere, &["status"]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(stderr(&absent).contains("cannot reach the agent at /nonexistent/agent.sock"), "{absent:?}");
    assert!(stderr(&absent).contains("is recordd running?"), "{absent:?}");
    for wrong in [&["start", "--mode", "tape"][..], &["update"], &["simulate-phone", "--script", "sing 3"]] {
        assert_eq!(recordctl(nowhere, wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn the_simulated_phone_makes_the_call_of_its_script() {
    let agent = FakeAgent::start();
    let script = "talk 1; pause 0.5; silence 0.2; talk 0.5; stop";
    let arguments = ["simulate-phone", "--script", script, "--speed", "50", "--codec", "G722", "--json"];
    let output = recordctl(&agent.socket, &arguments);
    let outcome: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(outcome["sent"]["sent"], 100);
    assert_eq!(outcome["file"], "Record_20260301-091500.wav");
    let methods = ["events.subscribe", "record.start", "record.pause", "record.resume", "record.stop"];
    assert_eq!(agent.methods(), methods);

    let packets = agent.packets();
    assert_eq!(packets.len(), 100);
    assert!(packets.iter().all(|packet| packet.len() == 172 && packet[0] == 0x80 && packet[1] & 0x7F == 9));
    let marked = packets.iter().filter(|packet| packet[1] & 0x80 != 0).count();
    assert_eq!(marked, 2, "one marker per talk spurt");
    let clip = include_bytes!("../../../tests/media/speech.g722");
    assert_eq!(packets[0][12..], clip[..160]);
    assert_eq!(packets[99][12..], clip[99 * 160..100 * 160]);
}

#[test]
fn a_lossy_call_is_the_same_for_the_same_seed() {
    let sent = |seed| {
        let agent = FakeAgent::start();
        let arguments = [
            "simulate-phone",
            "--loop",
            "2",
            "--speed",
            "100",
            "--loss",
            "10",
            "--reorder",
            "5",
            "--dup",
            "5",
            "--seed",
            seed,
        ];
        assert_eq!(stdout(&recordctl(&agent.socket, &arguments)), "Record_20260301-091500.wav\n");
        agent.packets()
    };
    let first = sent("7");
    assert!((70..110).contains(&first.len()), "{}", first.len());
    assert_eq!(first, sent("7"));
    assert_ne!(first, sent("8"));
}

#[test]
fn a_reader_of_stderr_that_is_gone_breaks_nothing_off() {
    let nobody = || {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(reader);
        std::process::Stdio::from(std::os::fd::OwnedFd::from(writer))
    };
    let agent = FakeAgent::start();
    let call = ["simulate-phone", "--script", "talk 1; stop", "--speed", "50"];
    let output = program().arg("--socket").arg(&agent.socket).args(call).stderr(nobody()).output().unwrap();
    assert_eq!(stdout(&output), "Record_20260301-091500.wav\n");
    assert!(agent.asked("record.stop").is_some(), "{:?}", agent.methods());
    let refused = program().args(["--socket", "/nonexistent", "status"]).stderr(nobody()).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}

#[test]
fn a_playback_that_nobody_can_see_is_stopped() {
    let agent = FakeAgent::start();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let words = ["play", "a.wav", "--rtp", "127.0.0.1:4000"];
    let output = program().arg("--socket").arg(&agent.socket).args(words).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(agent.asked("play.stop"), Some(json!({"playback": "p1"})));
}

#[test]
fn every_file_is_tried_and_the_refused_ones_are_named() {
    let agent = FakeAgent::start();
    agent.refuse(json!({"code": -32000, "message": "nothing of this name", "data": {"reason": "not_found"}}));
    for command in ["delete", "protect"] {
        let output = recordctl(&agent.socket, &[command, "a.wav", "b.wav"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = stderr(&output);
        assert!(said.contains("a.wav: nothing of this name") && said.contains("b.wav: "), "{said}");
    }
}

#[test]
fn a_socket_variable_that_is_set_to_nothing_is_none() {
    let status = program().env("RECORDD_SOCKET", "").args(["info", "/nonexistent.wav"]).output().unwrap();
    assert_eq!(status.status.code(), Some(1), "{status:?}");
}

#[test]
fn a_simulated_agent_removes_no_file_that_is_not_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (precious, socket) = (folder.path().join("precious"), folder.path().join("socket"));
    std::fs::write(&precious, "text").unwrap();
    let words = ["simulate-agent", "--control"];
    let output = program().arg("--socket").arg(&socket).args(words).arg(&precious).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "text");
}

#[test]
fn a_clip_without_an_end_is_refused() {
    let agent = FakeAgent::start();
    let output = recordctl(&agent.socket, &["simulate-phone", "--clip", "/dev/zero"]);
    assert!(stderr(&output).contains("it is too large"), "{output:?}");
}

#[test]
fn the_file_commands_are_there_and_keep_to_the_exit_statuses() {
    let nowhere = Path::new("/nonexistent/agent.sock");
    for command in ["info", "verify", "repair"] {
        assert_eq!(recordctl(nowhere, &[command]).status.code(), Some(2), "{command} without a file");
        let missing = recordctl(nowhere, &[command, "/nonexistent/a.wav"]);
        assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    }
    assert_eq!(recordctl(nowhere, &["export", "a.wav"]).status.code(), Some(2), "export without -o");
}

#[test]
fn completions_and_man_pages_name_every_command() {
    let nowhere = Path::new("/nonexistent/agent.sock");
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&recordctl(nowhere, &["completions", shell])).contains("simulate-phone"));
    }
    assert!(stdout(&recordctl(nowhere, &["man"])).contains(".TH recordctl 1"));
    let folder = tempfile::tempdir().unwrap();
    stdout(&recordctl(nowhere, &["man", folder.path().to_str().unwrap()]));
    for page in ["recordctl.1", "recordctl-start.1", "recordctl-simulate-phone.1"] {
        assert!(folder.path().join(page).is_file(), "{page}");
    }
}

#[test]
fn the_simulated_phone_answers_the_sip_info_for_the_pbx() {
    let agent = FakeAgent::start();
    let phone = recordctl_in_background(
        &agent,
        &["simulate-phone", "--mode", "sip-info", "--sip-code", "403", "--loop", "3600"],
    );
    wait_until_asked(&agent, "sip.info_result");
    assert_eq!(agent.asked("sip.info_result"), Some(json!({"recording": "r1", "code": 403})));
    interrupt(&phone);
    assert!(phone.wait_with_output().unwrap().status.success());
    assert!(agent.packets().is_empty());
}

fn interrupt(process: &std::process::Child) {
    let pid = nix::unistd::Pid::from_raw(process.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
}

#[test]
fn ctrl_c_ends_the_simulated_call_and_its_recording() {
    let agent = FakeAgent::start();
    let phone = recordctl_in_background(&agent, &["simulate-phone", "--loop", "3600"]);
    wait_until_asked(&agent, "record.start");
    interrupt(&phone);
    assert_eq!(stdout(&phone.wait_with_output().unwrap()), "Record_20260301-091500.wav\n");
    assert!(agent.asked("record.stop").is_some());
}

#[test]
fn a_spawned_agent_that_does_not_start_is_a_failure_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = Path::new("/nonexistent/agent.sock");
    let dir = folder.path().to_str().unwrap();
    let output = recordctl(nowhere, &["simulate-phone", "--spawn", "/bin/false", "--dir", dir]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("the agent ended at once with exit status: 1"), "{output:?}");
}

#[test]
fn a_file_is_decoded_to_stdout_without_an_agent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("call.wav");
    let mut octets = b"PCMU".to_vec();
    octets.resize(64, 0);
    for field in [160_u32, 160, 32_000] {
        octets.extend(field.to_le_bytes());
    }
    octets.extend(include_bytes!("../../../tests/media/speech.ul"));
    std::fs::write(&file, octets).unwrap();
    let nowhere = Path::new("/nonexistent/agent.sock");
    let arguments = ["play", "--stdout", file.to_str().unwrap(), "--position-ms", "3000"];
    let output = recordctl(nowhere, &arguments);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout.len(), 16_000);
    assert!(stderr(&output).contains("PCMU, 0:04; raw S16_LE, 8000 Hz, mono"), "{output:?}");
}

#[test]
fn a_name_that_a_shell_has_put_on_the_command_line_does_nothing_to_a_terminal() {
    let name = "--\u{1b}[2J\u{9b}2J\u{202e}\r.wav";
    for arguments in [["info", name], [name, "x"], ["export", name]] {
        let output = program().args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said.contains("error: ") && said.contains("2J") && said.ends_with('\n'), "{said:?}");
        assert!(!said.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\r']), "{said:?}");
    }
}
