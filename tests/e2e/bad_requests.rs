//! The socket under bad, hasty and lazy clients: errors or a closed connection, and the others served.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::agent::{is_emulated, output_of, recordctl_copied_to};
use crate::support::client::refusal_or_result;
use crate::support::environment::{has_program, skip_here};
use crate::support::{Agent, Call, Client, Codec, Setup, patience, wait_until};

/// Sends a line and gives id and code of the error it brings.
fn error_of(client: &mut Client, line: &[u8]) -> (Value, i64) {
    client.send_raw(line);
    client.send_raw(b"\n");
    let answer = client.read_answer();
    let id = answer["id"].clone();
    let error = refusal_or_result(answer).expect_err("an error");
    (id, error.code)
}

#[test]
fn a_line_that_is_no_json_is_a_parse_error() {
    let agent = Agent::start();
    let mut client = agent.client();
    for line in [&b"{\"jsonrpc\": \"2.0\", \"id\": 1,"[..], b"record.start", b"{]", b"\x00\x01"] {
        assert_eq!(error_of(&mut client, line), (Value::Null, -32700));
    }
    client.ok("agent.info", json!({}));
}

#[test]
fn a_line_that_is_no_utf8_is_a_parse_error() {
    let agent = Agent::start();
    let mut client = agent.client();
    let line = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"agent.\xFF\xFE\"}";
    assert_eq!(error_of(&mut client, line), (Value::Null, -32700));
    client.ok("agent.info", json!({}));
}

#[test]
fn json_that_is_no_request_is_an_invalid_request() {
    let agent = Agent::start();
    let mut client = agent.client();
    for line in [r#"{}"#, r#""agent.info""#, "17", r#"{"jsonrpc":"2.0","id":1,"method":5}"#] {
        let (_, code) = error_of(&mut client, line.as_bytes());
        assert_eq!(code, -32600, "{line}");
    }
    client.ok("agent.info", json!({}));
}

#[test]
fn an_unknown_method_is_not_found_and_keeps_its_id() {
    let agent = Agent::start();
    let mut client = agent.client();
    for id in [json!("a-text"), json!(17), json!(-3)] {
        let line = json!({"jsonrpc": "2.0", "id": id, "method": "record.begin"}).to_string();
        assert_eq!(error_of(&mut client, line.as_bytes()), (id, -32601));
    }
}

#[test]
fn wrong_parameters_are_refused_as_such() {
    let agent = Agent::start();
    let mut client = agent.client();
    let wrong = [
        ("record.start", json!({"mode": "tape", "codec": "PCMA"})),
        ("record.start", json!({"mode": "local"})),
        ("record.start", json!({"mode": "local", "codec": 8})),
        ("record.start", json!({"mode": "local", "codec": "PCMA", "ptime_ms": "long"})),
        ("record.start", json!({"mode": "local", "codec": "PCMA", "ptime_ms": 0})),
        ("record.start", json!({"mode": "local", "codec": "PCMA", "ptime_ms": -20})),
        ("record.start", json!({"mode": "local", "codec": "PCMA", "ptime_ms": 4_000_000_000_u32})),
        ("record.start", json!({"mode": "local", "codec": "PCMA", "call": {"direction": "up"}})),
        ("record.start", json!("local")),
        ("record.pause", json!({"recording": 5})),
        ("record.status", json!({"recording": ["a"]})),
        ("events.subscribe", json!({"types": "recording"})),
    ];
    for (method, params) in wrong {
        let error = client.refused(method, params.clone());
        assert_eq!(error.code, -32602, "{method} {params}: {}", error.whole);
    }
    assert!(agent.recordings().is_empty(), "nothing was started");
}

#[test]
fn a_line_over_64_kib_is_an_error_or_the_end_of_the_connection() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(10);
    let mut client = agent.client();
    let mut line = vec![b' '; 70_000];
    line.extend(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"agent.info\"}\n");
    // The agent may hang up before all of it is sent.
    if client.try_send_raw(&line).is_ok() {
        match client.read_message(patience()) {
            Ok(Some(answer)) => {
                let error = refusal_or_result(answer).expect_err("an error");
                assert!([-32700, -32600].contains(&error.code), "{}", error.whole);
            }
            Ok(None) => panic!("neither an answer nor the end"),
            Err(_) => {}
        }
    }
    heard.extend(call.speak(10));
    call.finish_and_expect(&heard);
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let agent = Agent::start();
    let mut client = agent.client();
    let before = agent.process_status("VmRSS");
    let chunk = [b'x'; 65_536];
    for _ in 0..160 {
        if client.try_send_raw(&chunk).is_err() {
            break;
        }
    }
    agent.client().ok("agent.info", json!({}));
    let grown = agent.process_status("VmRSS").saturating_sub(before);
    assert!(grown < 2048 || is_emulated(), "10 MiB of one line cost {grown} KiB");
}

#[test]
fn a_line_of_almost_64_kib_is_served() {
    let agent = Agent::start();
    let mut client = agent.client();
    let mut line = vec![b' '; 65_000];
    line.extend(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"agent.info\"}\n");
    client.send_raw(&line);
    assert!(refusal_or_result(client.read_answer()).is_ok());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let agent = Agent::start();
    let mut client = agent.client();
    let mut lines = String::new();
    for id in 0..200 {
        let method = if id % 7 == 3 { "no.such" } else { "record.status" };
        lines += &format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "method": method}));
    }
    client.send_raw(lines.as_bytes());
    for id in 0..200 {
        let answer = client.read_answer();
        assert_eq!(answer["id"], id);
        assert_eq!(refusal_or_result(answer).is_err(), id % 7 == 3);
    }
}

#[test]
fn a_request_may_come_in_pieces() {
    let agent = Agent::start();
    let mut client = agent.client();
    let line = b"{\"jsonrpc\":\"2.0\",\"id\":\"slow\",\"method\":\"agent.info\"}\n";
    for piece in line.chunks(7) {
        client.send_raw(piece);
        // Another client is served in between: the agent has read the piece, or could have.
        agent.client().ok("record.status", json!({}));
    }
    assert_eq!(client.read_answer()["id"], "slow");
}

#[test]
fn a_notification_is_obeyed_and_not_answered() {
    let agent = Agent::start();
    let mut client = agent.client();
    let mut call = Call::start(&agent, Codec::Pcma);
    client.send(&json!({"jsonrpc": "2.0", "method": "record.pause"}));
    client.send(&json!({"jsonrpc": "2.0", "method": "no.such.method"}));
    client.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "record.status"}));
    let answer = client.read_answer();
    assert_eq!(answer["id"], 1, "{answer}");
    assert_eq!(answer["result"]["recordings"][0]["state"], "paused", "{answer}");
    call.finish_and_expect(&[]);
}

#[test]
fn several_clients_are_served_side_by_side() {
    let agent = Agent::start();
    let mut clients: Vec<Client> = (0..6).map(|_| agent.client()).collect();
    for _ in 0..5 {
        for client in &mut clients {
            client.ok("agent.info", json!({}));
        }
    }
    clients.truncate(1);
    clients[0].ok("agent.info", json!({}));
}

#[test]
fn far_too_many_clients_cost_neither_the_agent_nor_its_recording() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(10);
    // However many of them it keeps.
    let crowd: Vec<_> = (0..200).map(|_| std::os::unix::net::UnixStream::connect(&agent.socket)).collect();
    heard.extend(call.speak(10));
    drop(crowd);
    wait_until("a new client to be served", patience(), || {
        let Ok(mut stream) = std::os::unix::net::UnixStream::connect(&agent.socket) else {
            return false;
        };
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let asked = stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"agent.info\"}\n");
        let mut byte = [0];
        asked.is_ok() && std::io::Read::read(&mut stream, &mut byte).is_ok_and(|count| count == 1)
    });
    call.finish_and_expect(&heard);
}

#[test]
fn a_client_that_never_reads_loses_its_connection_and_costs_no_memory() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak(10);
    let before = agent.process_status("VmRSS");
    let lazy = agent.subscribed_client();
    lazy.stream().set_nonblocking(true).unwrap();
    let request = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"agent.info\"}\n".repeat(50);
    let mut rest: &[u8] = &[];
    let end = Instant::now() + 2 * patience();
    let hung_up = loop {
        if rest.is_empty() {
            rest = &request;
        }
        match lazy.stream().write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                // Events go on being made for it.
                call.ok("record.pause");
                call.ok("record.resume");
            }
            Err(error) => break error,
        }
        assert!(Instant::now() < end, "the agent keeps a client that never reads");
    };
    let kinds = [std::io::ErrorKind::BrokenPipe, std::io::ErrorKind::ConnectionReset];
    assert!(kinds.contains(&hung_up.kind()), "{hung_up}");
    let grown = agent.process_status("VmRSS").saturating_sub(before);
    assert!(grown < 2048 || is_emulated(), "it cost {grown} KiB");
    assert_eq!(call.client.ok("stats.get", json!({}))["clients_closed"], 1);
    heard.extend(call.speak(10));
    call.finish_and_expect(&heard);
}

#[test]
fn a_client_that_sends_no_more_is_answered_before_it_is_let_go() {
    let agent = Agent::start();
    let ask_and_end = |method: &str, params: Value| {
        let mut client = agent.client();
        client.send(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}));
        client.stream().shutdown(Shutdown::Write).unwrap();
        let answer = client.read_answer();
        client.expect_hang_up(patience());
        refusal_or_result(answer)
    };
    let started = ask_and_end("record.start", json!({"mode": "local", "codec": "PCMA"})).unwrap();
    let recording = json!({"recording": started["recording"]});
    ask_and_end("record.stop", recording.clone()).unwrap();
    wait_until("the end of the recording", patience(), || {
        agent.client().ok("record.status", recording.clone())["state"] == "ended"
    });
    ask_and_end("recordings.info", json!({"file": started["file"]})).unwrap();
    ask_and_end("recordings.delete", json!({"file": started["file"]})).unwrap();
    ask_and_end("storage.eject", json!({})).unwrap();
}

#[test]
fn progress_that_a_client_does_not_read_is_counted_as_lost() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    call.speak(10);
    let mut lazy = agent.client();
    lazy.ok("events.subscribe", json!({"types": ["recording.progress"]}));
    lazy.stream().set_nonblocking(true).unwrap();
    // Answers that nobody reads: as long as they wait, progress is dropped.
    let request = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"agent.info\"}\n".repeat(50);
    wait_until("an event is lost", 2 * patience(), || {
        while lazy.try_send_raw(&request).is_ok() {}
        call.client.ok("stats.get", json!({}))["events_lost"].as_u64() > Some(0)
    });
    assert_eq!(call.client.ok("stats.get", json!({}))["clients_closed"], 0);
}

/// A client that asks for a recording by the PBX, and a SIP stack that has been asked for it and has not
/// answered.
fn waiting_client(agent: &Agent) -> (Client, Client, String) {
    let mut stack = agent.client();
    stack.ok("events.subscribe", json!({"types": ["sip."]}));
    let mut client = agent.client();
    let params = json!({"mode": "sip-info", "codec": "PCMA"});
    client.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "record.start", "params": params}));
    let info = stack.wait_event("sip.info", patience());
    (client, stack, info["recording"].as_str().unwrap().to_owned())
}

#[test]
fn a_client_that_sends_no_more_is_kept_until_its_answer_comes() {
    let agent = Agent::start();
    let (mut client, mut stack, recording) = waiting_client(&agent);
    client.stream().shutdown(Shutdown::Write).unwrap();
    for _ in 0..20 {
        assert_eq!(stack.ok("stats.get", json!({}))["clients"], 2);
    }
    stack.ok("sip.info_result", json!({"recording": recording, "code": 200}));
    assert_eq!(refusal_or_result(client.read_answer()).unwrap()["recording"], recording);
    client.expect_hang_up(patience());
}

#[test]
fn a_client_that_hangs_up_is_gone_at_once_whatever_it_waits_for() {
    let agent = Agent::start();
    let (client, mut stack, _) = waiting_client(&agent);
    // First one direction, then both.
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(stack.ok("stats.get", json!({}))["clients"], 2);
    drop(client);
    let begin = Instant::now();
    wait_until("the client is gone", patience(), || stack.ok("stats.get", json!({}))["clients"] == 1);
    assert!(begin.elapsed() < Duration::from_secs(4), "it was kept until it was answered");
}

#[test]
fn the_socket_is_open_to_owner_and_group_only() {
    let agent = Agent::start();
    let mode = std::fs::metadata(&agent.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let agent = Setup::new().quoted("control", "mode", "0600").start();
    let mode = std::fs::metadata(&agent.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn users_that_are_not_on_the_list_are_turned_away() {
    const NOBODY: u32 = 65_534;
    if !nix::unistd::geteuid().is_root() {
        return skip_here("to connect as another user takes root");
    }
    for (listed, welcome) in [(NOBODY, true), (1, false)] {
        let setup = Setup::new().quoted("control", "mode", "0666");
        let agent = setup.set("control", "allow_uids", format!("[{listed}]")).start();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(agent.dir(), open).unwrap();
        let mut as_nobody = recordctl_copied_to(agent.dir());
        let as_nobody = as_nobody.uid(NOBODY).gid(NOBODY).current_dir("/");
        let output = output_of(as_nobody.arg("--socket").arg(&agent.socket).arg("status"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = if welcome { 0 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "list has {listed}: {said}");
        // A client that was turned away disturbs nobody.
        agent.client().ok("agent.info", json!({}));
    }
}

#[test]
fn long_answers_that_were_not_waited_for_one_by_one_all_come() {
    const ASKED: u64 = 12;
    let setup = Setup::new();
    let folder = setup.storage_path().join("Record");
    std::fs::create_dir(&folder).unwrap();
    let mut audio = b"PCMA".to_vec();
    audio.resize(64, 0);
    audio.extend([160, 0, 0, 0, 160, 0, 0, 0, 0, 0, 0, 0]);
    for n in 0..600 {
        let name = format!("Record_20260101-09{:02}{:02}", n / 60, n % 60);
        let call = json!({"remote_name": "A".repeat(256), "local_name": "B".repeat(256)});
        let sidecar = json!({"recording": format!("{n:016x}"), "state": "ended", "call": call});
        std::fs::write(folder.join(format!("{name}.wav")), &audio).unwrap();
        std::fs::write(folder.join(format!("{name}.json")), sidecar.to_string()).unwrap();
    }
    let agent = setup.start();
    let mut client = agent.client();
    wait_until("the index", patience(), || client.ok("recordings.list", json!({}))["indexing"].is_null());
    let before = agent.process_status("VmRSS");
    let mut hasty = agent.client();
    for id in 0..ASKED {
        let params = json!({"limit": 1000});
        hasty.send(&json!({"jsonrpc": "2.0", "id": id, "method": "recordings.list", "params": params}));
    }
    for id in 0..ASKED {
        let answer = hasty.read_answer();
        let entries = answer["result"]["recordings"].as_array().map_or(0, Vec::len);
        assert!(answer["id"] == id && entries > 400, "{} with {entries}", answer["id"]);
    }
    let grown = agent.process_status("VmHWM").saturating_sub(before);
    assert!(is_emulated() || grown < 4096, "{grown} KiB more");
    assert_eq!(client.ok("stats.get", json!({}))["clients_closed"], 0);
}

#[test]
fn requests_of_a_client_before_it_hung_up_are_all_done() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut hasty = agent.client();
    let mut lines = String::new();
    for number in 0..=500 {
        let params = json!({"call": {"remote_number": number.to_string()}});
        let request = json!({"jsonrpc": "2.0", "id": number, "method": "record.update", "params": params});
        lines += &format!("{request}\n");
    }
    hasty.send_raw(lines.as_bytes());
    drop(hasty);
    let number = |listed: &Value| listed["recordings"][0]["call"]["remote_number"].clone();
    wait_until("the last request is obeyed", patience(), || {
        number(&call.client.ok("recordings.list", json!({}))) == "500"
    });
    call.finish_and_expect(&[]);
}

#[test]
fn a_client_that_found_no_free_descriptor_is_served_when_there_is_one_again() {
    if is_emulated() || !has_program("prlimit") {
        return skip_here("the descriptors of the agent can't be limited");
    }
    let agent = Agent::start();
    let pid = agent.pid().to_string();
    output_of(std::process::Command::new("prlimit").args(["--pid", &pid, "--nofile=20:20"]));
    let mut clients: Vec<Client> = (0..20).map(|_| agent.client()).collect();
    wait_until("the limit", patience(), || agent.log().contains("cannot accept a client"));
    let mut last = clients.pop().expect("a client");
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": "storage.status"});
    last.send(&line);
    assert!(
        matches!(last.read_message(Duration::from_millis(1500)), Ok(None)),
        "there are enough descriptors"
    );
    drop(clients);
    assert_eq!(last.read_answer()["id"], 1);
    let before = agent.voluntary_switches();
    std::thread::sleep(Duration::from_secs(3));
    assert!(agent.voluntary_switches() - before < 3, "nothing is tried any more");
}
