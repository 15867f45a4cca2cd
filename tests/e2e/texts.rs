//! Texts of others: a caller's name, a server's answer, a stick's file names.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::{output_of, recordctl};
use crate::support::client::refusal_or_result;
use crate::support::{Agent, Call, Codec, Setup, patience, sidecar_of, wait_until};

/// Moves the cursor, turns a number about, can't be seen.
const HARM: [&str; 8] =
    ["\u{1b}[2J", "\u{9b}2J", "\u{7f}", "\u{202e}", "\u{2028}", "\u{200b}", "\u{2066}", "\u{e0041}"];

fn harmful() -> String {
    format!("A{}Z", HARM.join("B"))
}

#[track_caller]
fn assert_harmless(what: &str, text: &str) {
    for harm in HARM {
        let first = harm.chars().next().expect("a character");
        assert!(!text.contains(first), "{what} has {first:?}: {text:?}");
    }
}

#[test]
fn a_callers_text_of_any_form_never_prevents_a_recording() {
    let agent = Setup::new().set("rtp", "max_recordings", 16).start();
    let mut client = agent.client();
    let long = "x".repeat(300);
    for (said, kept) in [
        (&b"300 letters"[..], "300 letters"),
        (long.as_bytes(), &long[..256]),
        (b"Anna \\ud83d", "Anna \u{fffd}"),
        (b"M\xfcller", "M\u{fffd}ller"),
        (b"tab\there", "tab here"),
        ("\u{202d}+49 30\u{202c}".as_bytes(), "+49 30"),
        ("\u{1F469}\u{200D}\u{1F467}".as_bytes(), "\u{1F469}\u{200D}\u{1F467}"),
    ] {
        let head = &br#"{"jsonrpc":"2.0","id":1,"method":"record.start","params":{"codec":"PCMA","call":{"remote_name":""#[..];
        client.send_raw(&[head, said, b"\"}}}\n"].concat());
        let started = refusal_or_result(client.read_answer()).expect("a recording");
        let path = agent.path_of(started["file"].as_str().expect("a file"));
        client.ok("record.stop", json!({"recording": started["recording"]}));
        wait_until("the end of the recording", patience(), || sidecar_of(&path)["state"] == "ended");
        let call = &sidecar_of(&path)["call"];
        assert_eq!(call["remote_name"], kept);
        let altered = if said == kept.as_bytes() { Value::Null } else { json!(["remote_name"]) };
        assert_eq!(call["altered"], altered, "{kept}");
    }
    let log = agent.log();
    assert!(log.contains("cut or cleaned") && !log.contains("ller"), "{log}");
}

#[test]
fn names_and_file_names_do_no_harm_on_a_terminal_or_in_the_log() {
    let agent = Agent::start();
    let mut call = Call::start_with(&agent, Codec::Pcma, json!({"call": {"remote_name": harmful()}}));
    call.speak(10);
    call.finish();
    let made = agent.recordings().remove(0);
    let beside = sidecar_of(&made);
    let hostile = agent.storage().join("Record").join(format!("Record_20260101-000000 {}\n.wav", harmful()));
    std::fs::copy(&made, &hostile).expect("a copy");
    // A sidecar from elsewhere has not gone through the agent.
    let mut elsewhere = beside.clone();
    elsewhere["call"]["remote_name"] = json!(harmful());
    elsewhere["end_reason"] = json!(harmful());
    std::fs::write(made.with_extension("json"), elsewhere.to_string()).expect("a sidecar");
    let socket = agent.dir().join("recordd.sock");
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["status", "--json"],
        &["info", made.to_str().expect("UTF-8")],
        &["info", "--json", made.to_str().expect("UTF-8")],
        &["info", hostile.to_str().expect("UTF-8")],
        &["verify", hostile.to_str().expect("UTF-8")],
        &["verify", "--json", hostile.to_str().expect("UTF-8")],
        &["repair", "--dry-run", hostile.to_str().expect("UTF-8")],
        &["export", hostile.to_str().expect("UTF-8"), "-o", "/nowhere/at/all.wav"],
    ] {
        let output = output_of(recordctl().args(arguments).env("RECORDD_SOCKET", &socket));
        let text = [output.stdout, output.stderr].concat();
        assert_harmless(&arguments.join(" "), &String::from_utf8(text).expect("UTF-8"));
    }
    assert_harmless("log", &agent.log());
}

/// A server that answers one start request with success and these pairs, then listens for a moment.
fn answering(pairs: String) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let serve = move || {
        let (mut stream, _) = listener.accept().expect("the phone");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        let mut request = Vec::new();
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        reader.read_until(b'\n', &mut request).expect("a request");
        let request = String::from_utf8(request).expect("text");
        let id = request.split('&').find_map(|pair| pair.strip_prefix("id=")).expect("an id").to_owned();
        let answer = format!("cmd=RecordStartResponse&id={id}&result=success&reason=&{pairs}\n");
        stream.write_all(answer.as_bytes()).expect("sent");
        let mut after = String::new();
        let _ = reader.read_line(&mut after);
        after
    };
    (addr, std::thread::spawn(serve))
}

#[test]
fn audio_goes_to_the_server_or_where_the_config_says_and_nowhere_else() {
    for (host, admitted) in [
        ("127.0.0.77", ""),
        ("239.1.2.3", "0.0.0.0/0"),
        ("255.255.255.255", "0.0.0.0/0"),
        ("exfil-0123456789.attacker.invalid", "media.example.net"),
    ] {
        let (addr, server) = answering(format!("server={host}&port=4000"));
        let setup = Setup::new().uploads_to(addr).quoted("uplink", "terminator", "lf");
        let agent = setup.set("uplink", "media_hosts", format!("[{}]", admitted_list(admitted))).start();
        let error = agent.client().refused("record.start", json!({"mode": "server", "codec": "PCMA"}));
        assert_eq!(error.reason, "server_refused", "{}", error.whole);
        let detail = error.whole["data"]["detail"].as_str().expect("a detail");
        assert!(detail.contains(host) && detail.contains("uplink.media_hosts"), "{detail}");
        assert!(agent.log().contains(host), "{}", agent.log());
        let after = server.join().expect("a server");
        assert!(after.starts_with("cmd=RecordStopRequest&"), "{after}");
    }
}

fn admitted_list(host: &str) -> String {
    if host.is_empty() { String::new() } else { format!("{host:?}") }
}

#[test]
fn a_host_of_the_config_gets_the_audio_and_event_and_log_say_so() {
    let sink = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = sink.local_addr().expect("an address").port();
    let (addr, _server) = answering(format!("Server = \"127.0.0.1:{port}\" & PORT = {port} "));
    let setup = Setup::new().uploads_to(addr).quoted("uplink", "terminator", "lf");
    let agent = setup.set("uplink", "media_hosts", "[\"127.0.0.0/8\"]").start();
    let mut client = agent.subscribed_client();
    client.ok("record.start", json!({"mode": "server", "codec": "PCMA"}));
    let connected = client.wait_event("uplink.connected", patience());
    assert_eq!(connected["rtp"], json!({"addr": "127.0.0.1", "port": port}));
    assert!(agent.log().contains(&format!("the audio goes to 127.0.0.1:{port}")), "{}", agent.log());
}

#[test]
fn a_refused_target_is_recorded_at_the_phone_if_that_is_wanted() {
    let (addr, _server) = answering("server=203.0.113.9&port=4000".into());
    let setup = Setup::new().uploads_to(addr).quoted("uplink", "terminator", "lf");
    let agent = setup.quoted("uplink", "on_failure", "local").start();
    let mut client = agent.subscribed_client();
    let started = client.ok("record.start", json!({"mode": "server", "codec": "PCMA"}));
    assert_eq!(started["state"], "recording");
    let lost = client.wait_event("uplink.lost", patience());
    assert_eq!(lost["reason"], "server_refused");
    assert!(lost["detail"].as_str().is_some_and(|detail| detail.contains("203.0.113.9")), "{lost}");
}
