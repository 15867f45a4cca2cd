//! The agent when the system gives its process no more descriptors, threads or memory: it says so, and goes
//! on.

use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::agent::is_emulated;
use crate::support::environment::skip_here;
use crate::support::{Agent, Call, Client, Codec, Setup, patience, read_recording, sidecar, wait_until};

/// Limits a running agent; false where `prlimit` is missing.
fn limit(agent: &Agent, option: &str) -> bool {
    let pid = agent.pid().to_string();
    Command::new("prlimit").args(["--pid", &pid, option]).status().is_ok_and(|status| status.success())
}

fn descriptors(agent: &Agent) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count()
}

#[test]
fn without_a_free_descriptor_a_call_goes_on_starts_are_refused_and_all_is_well_when_there_are_some_again() {
    let mut agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut audio = call.speak(50);
    call.status();
    let now = descriptors(&agent);
    if !limit(&agent, &format!("--nofile={now}:")) {
        return;
    }
    let waiting: Vec<_> = (0..40).filter_map(|_| UnixStream::connect(&agent.socket).ok()).collect();
    let refused = call.client.request("record.start", json!({"mode": "local", "codec": "PCMA"}));
    assert!(refused.is_err(), "{refused:?}");
    audio.extend(call.speak(50));
    call.status();
    assert!(agent.is_alive());
    drop(waiting);
    assert!(limit(&agent, "--nofile=1024:"));
    call.finish_and_expect(&audio);
    let mut next = Call::start(&agent, Codec::Pcma);
    let audio = next.speak(10);
    next.finish_and_expect(&audio);
    assert!(agent.terminate().success());
}

#[test]
fn clients_leave_descriptors_for_recordings() {
    if is_emulated() {
        return skip_here("an emulator itself needs descriptors");
    }
    let setup = Setup::new().set("rtp", "max_recordings", 2);
    let config = setup.write_config();
    let socket = setup.dir().join("recordd.sock");
    let mut limited = Command::new("prlimit");
    limited.args(["--nofile=36", env!("CARGO_BIN_EXE_recordd"), "--config"]).arg(config);
    let Ok(mut agent) = limited.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
        return skip_here("there is no prlimit");
    };
    wait_until("the agent's socket", patience(), || UnixStream::connect(&socket).is_ok());
    let mut phone = Client::connect(&socket);
    phone.ok("agent.info", json!({}));
    let others: Vec<_> = (0..40).filter_map(|_| UnixStream::connect(&socket).ok()).collect();
    let mut start = || phone.request("record.start", json!({"mode": "local", "codec": "PCMA"}));
    let started = [start(), start()];
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(started.iter().all(Result::is_ok), "{started:?} beside {} others", others.len());
}

#[test]
fn without_threads_and_memory_beyond_what_it_has_the_agent_records_and_names_are_looked_up_without_success() {
    if is_emulated() {
        return skip_here("an emulator itself needs memory and threads to go on");
    }
    let setup = Setup::new().quoted("uplink", "server_addr", "localhost").set("uplink", "server_port", 9);
    let mut agent = setup.start();
    // For root the number of tasks has no limit, memory does.
    let used = agent.process_status("VmSize") * 1024 + (1 << 20);
    if !limit(&agent, "--nproc=1:") || !limit(&agent, &format!("--as={used}:")) {
        return;
    }
    let refused = agent.client().request("record.start", json!({"mode": "server", "codec": "PCMA"}));
    assert!(refused.is_err(), "{refused:?}");
    let mut call = Call::start(&agent, Codec::Pcma);
    let audio = call.speak(200);
    call.finish_and_expect(&audio);
    assert_eq!(sidecar(&call.file).unwrap()["state"], "ended");
    assert!(agent.is_alive());
}

#[test]
fn a_file_that_may_not_grow_is_finished_and_it_is_said_that_a_limit_ended_it_and_not_a_full_disk() {
    let mut agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let audio = call.speak(50);
    // In mid-frame, with the header's 76 octets.
    if !limit(&agent, "--fsize=4000:") {
        return;
    }
    let ended = call.wait_ended();
    assert_eq!((&ended["end_reason"], &ended["cause"]), (&json!("storage_full"), &json!("file_too_large")));
    let file = read_recording(&call.file);
    assert!(file.data.len() > 3500 && file.data.len() % 160 == 0, "{} octets", file.data.len());
    assert!(audio.starts_with(&file.data), "another audio");
    // The disk is well: the next recording is let in, and is too long where the first one was.
    assert_eq!(call.client.ok("storage.status", json!({}))["state"], "ok");
    wait_until("the reason in the log", patience(), || agent.log().contains("set max_file_size below"));
    assert!(limit(&agent, "--fsize=unlimited:"));
    let mut next = Call::start(&agent, Codec::Pcma);
    let audio = next.speak(100);
    next.finish_and_expect(&audio);
    assert!(agent.terminate().success());
}
