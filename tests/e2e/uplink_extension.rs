//! Recordings at our own server with `uplink.extensions`: they outlive connections and the server's process,
//! and every packet is there once.

use std::net::TcpListener;
use std::path::Path;

use serde_json::json;

use crate::support::server::Server;
use crate::support::{
    Agent, Call, Codec, Setup, assert_audio, patience, read_recording, sidecar_of, wait_until,
};

/// A port of this machine that is free together with the next one, at which the server takes media.
fn two_ports() -> String {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let port = (0..100).find_map(|_| {
        let first = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        first.checked_add(1).filter(|next| is_free(first) && is_free(*next)).map(|_| first)
    });
    format!("127.0.0.1:{}", port.expect("two ports"))
}

fn server(listen: &str, storage: &Path) -> Option<Server> {
    Server::real_at(listen, Some(storage), "")
}

fn agent(server: &Server) -> Agent {
    Setup::new().uploads_to(server.addr).set("uplink", "extensions", true).start()
}

fn start(agent: &Agent) -> Call {
    Call::start_with(agent, Codec::Pcma, json!({"mode": "server"}))
}

/// The audio of all segments, in order; and that they are of one recording.
fn audio_at(server: &Server) -> Vec<u8> {
    let mut files = server.files("wav");
    files.sort_by_key(|file| sidecar_of(file)["segment"].as_u64());
    let first = &sidecar_of(&files[0])["recording"];
    let mut audio = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let sidecar = sidecar_of(file);
        assert_eq!(sidecar["segment"], index as u64 + 1, "{sidecar}");
        assert_eq!(&sidecar["recording"], first, "{sidecar}");
        audio.extend(read_recording(file).data);
    }
    audio
}

#[test]
fn recording_by_tcp_is_at_the_server_whole_when_it_has_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(server) = server(&two_ports(), folder.path()) else { return };
    let agent = agent(&server);
    let mut call = start(&agent);
    let mut heard = call.speak(100);
    call.ok("record.pause");
    call.speak(20);
    call.ok("record.resume");
    heard.extend(call.speak(100));
    let ended = call.stop();
    assert_eq!(ended["outcome"], "complete", "{ended}");
    assert_audio(&audio_at(&server), &heard);
    let sidecar = sidecar_of(&server.files("wav")[0]);
    assert_eq!(sidecar["pauses"].as_array().map(Vec::len), Some(1), "{sidecar}");
    assert_eq!(sidecar["packets"]["lost"], 0, "{sidecar}");
}

#[test]
fn recording_goes_on_at_a_server_that_was_killed_and_started_again_without_a_packet_lost_or_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let listen = two_ports();
    let Some(mut first) = server(&listen, folder.path()) else { return };
    let agent = agent(&first);
    let mut call = start(&agent);
    let mut heard = call.speak_in_real_time(120);
    first.kill();
    heard.extend(call.speak_in_real_time(50));
    let second = std::thread::scope(|scope| {
        let second = scope.spawn(|| server(&listen, folder.path()).expect("the same program"));
        while !second.is_finished() {
            heard.extend(call.speak_in_real_time(1));
        }
        second.join().expect("a server")
    });
    heard.extend(call.speak_in_real_time(100));
    let degraded = call.wait_event("uplink.degraded");
    assert!(degraded["waiting_ms"].as_u64().is_some(), "{degraded}");
    call.wait_event("uplink.restored");
    let ended = call.stop();
    assert_eq!(ended["outcome"], "complete", "{ended}");
    assert_audio(&audio_at(&second), &heard);
}

#[test]
fn stop_while_the_server_is_away_ends_when_it_is_back_and_has_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let listen = two_ports();
    let Some(mut first) = server(&listen, folder.path()) else { return };
    let agent = agent(&first);
    let mut call = start(&agent);
    let mut heard = call.speak_in_real_time(60);
    first.kill();
    heard.extend(call.speak_in_real_time(20));
    let status = call.client.ok("record.stop", json!({}));
    assert_eq!(status["state"], "stopping", "{status}");
    let Some(second) = server(&listen, folder.path()) else { return };
    let ended = call.wait_event("recording.ended");
    assert_eq!(ended["outcome"], "complete", "{ended}");
    wait_until("a finished file", patience(), || {
        second.files("wav").iter().all(|file| sidecar_of(file)["state"] != "recording")
    });
    assert_audio(&audio_at(&second), &heard);
}

#[test]
fn recording_goes_on_at_the_stick_when_the_memory_for_an_absent_server_is_used_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mut server) = server(&two_ports(), folder.path()) else { return };
    let setup = Setup::new().uploads_to(server.addr).set("uplink", "extensions", true);
    let setup = setup.quoted("uplink", "on_failure", "local").quoted("storage", "buffer", "256 KiB");
    let agent = setup.start();
    let mut call = start(&agent);
    let first = call.speak_in_real_time(100);
    server.kill();
    call.wait_event("uplink.degraded");
    let mut heard = first.clone();
    while call.status()["mode"] == "server" {
        heard.extend(call.speak(50));
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    heard.extend(call.speak(50));
    let ended = call.stop();
    assert_eq!(ended["state"], "ended", "{ended}");
    // The server has a beginning, and the stick all that the server did not say it has.
    let at_phone = read_recording(&agent.recordings()[0]).data;
    let tail = heard.len() - at_phone.len();
    assert!(tail <= first.len(), "{tail} of {}", first.len());
    assert_audio(&at_phone, &heard[tail..]);
}

#[test]
fn recording_that_ends_while_the_server_is_away_is_at_the_stick_if_there_is_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(mut server) = server(&two_ports(), folder.path()) else { return };
    let setup = Setup::new().uploads_to(server.addr).set("uplink", "extensions", true);
    let agent = setup.quoted("uplink", "on_failure", "local").start();
    let mut call = start(&agent);
    let mut heard = call.speak_in_real_time(100);
    let first = heard.len();
    server.kill();
    heard.extend(call.speak_in_real_time(50));
    call.wait_event("uplink.degraded");
    let ended = call.stop();
    assert_eq!((&ended["state"], &ended["end_reason"]), (&json!("ended"), &json!("stopped")), "{ended}");
    let at_phone = read_recording(&agent.recordings()[0]).data;
    let tail = heard.len() - at_phone.len();
    assert!(tail <= first, "{tail} of {first}");
    assert_audio(&at_phone, &heard[tail..]);
}
