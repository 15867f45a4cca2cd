//! Recording to a server that refuses, lies, dies or is silent.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::recording_file::wait_finished;
use crate::support::server::Server;
use crate::support::{
    Agent, Call, Codec, Setup, assert_audio, number, patience, read_recording, sidecar, text,
};

/// Longest time until the agent notices that a server is gone.
const NOTICED: Duration = Duration::from_secs(10);

fn params() -> Value {
    json!({"mode": "server", "codec": "PCMA"})
}

fn start(agent: &Agent) -> Call {
    Call::start_with(agent, Codec::Pcma, json!({"mode": "server"}))
}

/// An agent whose server behaves like `mode`.
fn agent_with(mode: &str, more: &[&str]) -> Option<(Agent, Server)> {
    let server = Server::by_document(mode, more)?;
    Some((Setup::new().uploads_to(server.addr).start(), server))
}

#[test]
fn a_refusal_carries_the_servers_own_words() {
    let Some((agent, _server)) = agent_with("failed", &["--reason", "no license left"]) else { return };
    let mut client = agent.subscribed_client();
    let error = client.refused("record.start", params());
    assert_eq!(error.reason, "server_refused", "{}", error.whole);
    assert_eq!(error.whole["data"]["detail"], "no license left", "{}", error.whole);
    assert_eq!(client.ok("record.status", json!({}))["recordings"], json!([]));
}

#[test]
fn numbers_that_a_server_repeats_are_told_to_the_client_and_not_to_the_log() {
    for on_failure in ["stop", "local"] {
        let Some(server) = Server::by_document("failed", &["--reason", "+49301 may not record"]) else {
            return;
        };
        let setup = Setup::new().uploads_to(server.addr).quoted("uplink", "on_failure", on_failure);
        let agent = setup.start();
        let mut client = agent.subscribed_client();
        let params = json!({"mode": "server", "codec": "PCMA", "call": {"remote_number": "+49301"}});
        let said = match client.request("record.start", params) {
            Err(error) => error.whole["data"]["detail"].clone(),
            Ok(_) => client.wait_event("uplink.lost", patience())["detail"].clone(),
        };
        assert_eq!(said, "+49301 may not record");
        let log = agent.log();
        assert!(log.contains("may not record") && !log.contains("+49301"), "{log}");
    }
}

#[test]
fn a_silent_server_is_a_time_out_and_a_missing_one_is_unreachable() {
    let Some((agent, _server)) = agent_with("never", &[]) else { return };
    agent.client().refused_because("server_timeout", "record.start", params());
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let agent = Setup::new().uploads_to(closed).start();
    agent.client().refused_because("server_unreachable", "record.start", params());
    let agent =
        Setup::new().uploads_to(closed).quoted("uplink", "server_addr", "no-such-host.invalid").start();
    agent.client().refused_because("server_unreachable", "record.start", params());
}

#[test]
fn a_late_answer_is_an_answer() {
    let Some((agent, server)) = agent_with("late", &["--after", "0.5"]) else { return };
    let mut call = start(&agent);
    let heard = call.speak(10);
    call.stop();
    server.wait_report("stopped");
    assert_audio(&server.payload(), &heard);
}

#[test]
fn a_server_that_hangs_up_or_speaks_of_another_recording_is_lost() {
    for mode in ["close", "wrong-id"] {
        let Some((agent, _server)) = agent_with(mode, &[]) else { return };
        agent.client().refused_because("uplink_lost", "record.start", params());
    }
}

#[test]
fn a_connection_that_breaks_in_mid_call_fails_the_recording() {
    for mode in ["drop", "refuse-udp"] {
        let Some((agent, _server)) = agent_with(mode, &["--after", "0.3"]) else { return };
        let mut call = start(&agent);
        let begin = Instant::now();
        call.speak_in_real_time(40);
        let lost = call.wait_event("uplink.lost");
        assert_eq!(lost["reason"], "uplink_lost", "{mode}: {lost}");
        let failed = call.wait_event("recording.failed");
        assert_eq!(failed["reason"], "uplink_lost", "{mode}: {failed}");
        assert_eq!(failed["state"], "ended", "{mode}: {failed}");
        assert!(begin.elapsed() < NOTICED, "{mode}: {:?}", begin.elapsed());
        assert_eq!(call.status()["end_reason"], "uplink_lost");
        // And the next one is no worse for it.
        call.client.ok("record.start", params());
    }
}

#[test]
fn the_server_may_stop_and_is_told_that_it_was_heard() {
    let settings = ["--after", "0", "--packets", "10", "--reason", "quota used up"];
    let Some((agent, server)) = agent_with("stop", &settings) else { return };
    let mut call = start(&agent);
    call.speak(10);
    let ended = call.wait_ended();
    assert_eq!(ended["end_reason"], "quota used up", "{ended}");
    assert_eq!(number(&server.wait_report("stop_confirmed"), "/packets"), 10);
}

#[test]
fn a_stop_before_the_answer_is_possible() {
    let Some((agent, server)) = agent_with("late", &["--after", "0.6"]) else { return };
    let mut client = agent.subscribed_client();
    client.send(&json!({"jsonrpc": "2.0", "id": "start", "method": "record.start", "params": params()}));
    server.wait_message("RecordStartRequest");
    client.send(&json!({"jsonrpc": "2.0", "id": "stop", "method": "record.stop", "params": {}}));
    let stop = client.read_answer();
    assert_eq!(stop["result"]["state"], "stopping", "{stop}");
    let start = client.read_answer();
    assert_eq!(start["error"]["data"]["reason"], "invalid_state", "{start}");
    client.wait_event("recording.ended", patience());
    server.wait_message("RecordStopRequest");
}

#[test]
fn with_a_stick_to_go_on_to_no_packet_is_lost_when_the_server_is_killed() {
    kill_the_server_after(200, "");
}

#[test]
fn with_a_stick_to_go_on_to_no_packet_is_lost_when_the_server_is_killed_with_a_block_in_memory() {
    // A block of 16 KiB is full after 102.4 packets, and the next one not yet.
    kill_the_server_after(204, "flush_interval_ms = 60000\n");
}

/// Kills the server of a call after `packets` packets. Its part and the phone's leave no hole.
fn kill_the_server_after(packets: u32, settings: &str) {
    let Some(mut server) = Server::real_with(None, settings) else { return };
    let agent = Setup::new().uploads_to(server.addr).quoted("uplink", "on_failure", "local").start();
    let mut call = start(&agent);
    let mut heard = call.speak_in_real_time(packets);
    server.kill();
    let killed = Instant::now();
    heard.extend(call.speak_in_real_time(100));
    let lost = call.wait_event("uplink.lost");
    assert_eq!(lost["reason"], "uplink_lost", "{lost}");
    assert!(killed.elapsed() < NOTICED);
    heard.extend(call.speak(50));
    let status = call.status();
    assert_eq!((&status["state"], &status["mode"]), (&json!("recording"), &json!("local")), "{status}");
    assert_eq!(number(&status, "/elapsed_ms"), 3000 + u64::from(packets) * 20, "{status}");
    assert_eq!(number(&status, "/packets/lost"), 0, "{status}");
    let segment = call.wait_event("recording.segment");
    let file = agent.path_of(text(&segment, "/file"));
    call.stop();
    let here = read_recording(&file);
    here.assert_header(Codec::Pcma, 160);
    assert!(heard.ends_with(&here.data), "the file at the phone has a hole");
    let there = &server.files("wav")[0];
    let there = read_recording(there).data;
    // Audio that the killed server had not written yet is missing there: at most the last second or so.
    let (end_there, begin_here) = (there.len(), heard.len() - here.data.len());
    eprintln!("the server has {} ms, the phone from {} ms on", end_there / 8, begin_here / 8);
    assert!(heard.starts_with(&there), "the server's file has something else");
    assert!(end_there >= begin_here, "{} ms are in neither file", (begin_here - end_there) / 8);
    let sidecar = sidecar(&file).expect("a sidecar");
    assert_eq!(number(&sidecar, "/packets/received"), here.data.len() as u64 / 160, "{sidecar}");
}

#[test]
fn with_a_stick_to_go_on_to_a_reset_or_a_closed_port_costs_no_packet_either() {
    for mode in ["drop", "refuse-udp"] {
        let Some(server) = Server::by_document(mode, &["--after", "0.5"]) else { return };
        let agent = Setup::new().uploads_to(server.addr).quoted("uplink", "on_failure", "local").start();
        let mut call = start(&agent);
        let heard = call.speak_in_real_time(75);
        let file = agent.path_of(text(&call.wait_event("recording.segment"), "/file"));
        let status = call.status();
        assert_eq!(
            (number(&status, "/packets/dropped"), &status["degraded"]),
            (0, &json!(false)),
            "{mode}: {status}"
        );
        call.stop();
        let here = read_recording(&file).data;
        let there = server.payload();
        assert!(heard.ends_with(&here) && heard.starts_with(&there), "{mode}: something else was recorded");
        assert!(there.len() + here.len() >= heard.len(), "{mode}: a hole");
    }
}

#[test]
fn a_pause_just_before_the_server_dies_is_not_in_the_file() {
    let Some(server) = Server::by_document("drop", &["--after", "0", "--packets", "20"]) else { return };
    let agent = Setup::new().uploads_to(server.addr).quoted("uplink", "on_failure", "local").start();
    let mut call = start(&agent);
    let mut heard = call.speak(10);
    call.ok("record.pause");
    call.speak(40);
    call.ok("record.resume");
    heard.extend(call.speak(10));
    call.wait_event("uplink.lost");
    heard.extend(call.speak(10));
    let file = agent.path_of(text(&call.wait_event("recording.segment"), "/file"));
    call.stop();
    read_recording(&file).assert_finished(Codec::Pcma, &heard);
}

#[test]
fn with_a_stick_to_go_on_to_a_refusal_is_no_obstacle() {
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let refusing = Server::by_document("failed", &[]);
    for addr in [Some(closed), refusing.as_ref().map(|server| server.addr)].into_iter().flatten() {
        let agent = Setup::new().uploads_to(addr).quoted("uplink", "on_failure", "local").start();
        let mut call = start(&agent);
        assert!(call.file.is_file(), "{}", call.file.display());
        let heard = call.speak(50);
        let status = call.status();
        assert_eq!((&status["state"], &status["mode"]), (&json!("recording"), &json!("local")), "{status}");
        call.ok("record.stop");
        wait_finished(&call.file).assert_finished(Codec::Pcma, &heard);
    }
}

#[test]
fn with_neither_server_nor_stick_the_servers_reason_counts() {
    let Some(server) = Server::by_document("failed", &["--reason", "disk full"]) else { return };
    let setup = Setup::new().uploads_to(server.addr).quoted("uplink", "on_failure", "local");
    let missing = setup.dir().join("no-stick");
    let agent = setup.storage(&missing).start();
    let error = agent.client().refused("record.start", params());
    assert_eq!(error.reason, "server_refused", "{}", error.whole);
    assert!(text(&error.whole, "/data/detail").starts_with("disk full; "), "{}", error.whole);
}

#[test]
fn a_server_that_drains_keeps_the_call_that_goes_on_and_the_next_one_is_recorded_at_the_phone() {
    let Some(mut server) = Server::real() else { return };
    let agent = Setup::new().uploads_to(server.addr).quoted("uplink", "on_failure", "local").start();
    let mut first = start(&agent);
    let mut heard = first.speak(20);
    server.drain();
    let mut next = start(&agent);
    let status = next.status();
    assert_eq!((&status["state"], &status["mode"]), (&json!("recording"), &json!("local")), "{status}");
    let here = next.speak(20);
    next.ok("record.stop");
    wait_finished(&next.file).assert_finished(Codec::Pcma, &here);
    heard.extend(first.speak(20));
    first.ok("record.stop");
    assert_eq!(server.wait_end(), Some(0), "with the last call");
    let there = server.files("wav");
    assert_eq!(there.len(), 1, "{there:?}");
    read_recording(&there[0]).assert_finished(Codec::Pcma, &heard);
}
