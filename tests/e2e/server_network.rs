//! Uploading over a bad network: loss and disorder, and a link cut without a word. The latter in network
//! namespaces of the test's own: it runs itself again inside one (needs root and iproute2).

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::agent::is_emulated;
use crate::support::environment::skip_here;
use crate::support::server::{SERVER_ADDR, SERVER_NAMESPACE, Server};
use crate::support::{Agent, Call, Codec, Setup, number, patience, read_recording, wait_until};

fn start(agent: &Agent) -> Call {
    Call::start_with(agent, Codec::Pcma, json!({"mode": "server"}))
}

/// Runs tests of this program in the network namespace of a phone, with the servers in another one and a
/// cable between them.
fn across_a_network(arguments: &[&str]) {
    if is_emulated() {
        return skip_here("this test starts itself in a namespace, which an emulated program can't");
    }
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let (phone, server) = (format!("rdp{id}"), format!("rds{id}"));
    let ready = [
        format!("netns add {phone}"),
        format!("netns add {server}"),
        format!("-n {phone} link add eth0 type veth peer name eth0 netns {server}"),
        format!("-n {phone} addr add 10.213.78.2/24 dev eth0"),
        format!("-n {server} addr add {SERVER_ADDR}/24 dev eth0"),
        format!("-n {phone} link set lo up"),
        format!("-n {phone} link set eth0 up"),
        format!("-n {server} link set lo up"),
        format!("-n {server} link set eth0 up"),
    ]
    .iter()
    .all(|step| ip(step));
    let inside = ready.then(|| {
        let mut again = Command::new("ip");
        again.args(["netns", "exec", &phone]).arg(std::env::current_exe().unwrap()).args(arguments);
        again.env(SERVER_NAMESPACE, &server).status()
    });
    for namespace in [phone, server] {
        ip(&format!("netns del {namespace}"));
    }
    match inside {
        Some(status) => assert!(status.unwrap().success()),
        None => skip_here("network namespaces take root and iproute2"),
    }
}

#[test]
fn a_link_cut_without_a_word_is_noticed_on_both_sides_within_ten_seconds() {
    across_a_network(&["--exact", "server_network::inside_a_namespace", "--ignored", "--nocapture"]);
}

#[test]
fn servers_across_a_network_fail_in_every_way_as_those_on_this_machine_do() {
    across_a_network(&["server_failure::", "server_mode::a_pause", "server_mode::what_the_phone_sends"]);
}

fn ip(arguments: &str) -> bool {
    Command::new("ip").args(arguments.split(' ')).output().is_ok_and(|output| output.status.success())
}

#[test]
#[ignore = "run by a_link_cut…, in a namespace"]
fn inside_a_namespace() {
    let namespace = std::env::var(SERVER_NAMESPACE).expect("run by the test of a link cut");
    let Some(server) = Server::real() else { return };
    let agent = Setup::new().uploads_to(server.addr).start();
    let mut call = start(&agent);
    call.speak_in_real_time(50);
    assert!(ip(&format!("-n {namespace} link set eth0 down")));
    let cut = Instant::now();
    let lost = call.wait_event("uplink.lost");
    eprintln!("the agent noticed after {:?}: {lost}", cut.elapsed());
    let failed = call.wait_event("recording.failed");
    assert_eq!(failed["reason"], "uplink_lost", "{failed}");
    assert!(cut.elapsed() < Duration::from_millis(10_500), "noticed after {:?}", cut.elapsed());
    let ended = || {
        let sidecars = server.files("json");
        sidecars.iter().any(|path| std::fs::read_to_string(path).unwrap().contains("\"connection_lost\""))
    };
    wait_until("the server's end", patience(), ended);
    eprintln!("the server's file was finished after {:?}", cut.elapsed());
    assert!(cut.elapsed() < Duration::from_secs(12), "finished after {:?}", cut.elapsed());
    let file = read_recording(&server.files("wav")[0]);
    assert_eq!(file.data.len() % 160, 0);
    assert!(file.data.len() >= 40 * 160, "{} octets", file.data.len());
}

#[test]
fn loss_and_disorder_on_the_way_to_the_server_give_a_file_as_long_as_the_call() {
    let Some(server) = Server::real() else { return };
    let Some(relay) = Server::lossy(server.addr) else { return };
    let agent = Setup::new().uploads_to(relay.addr).start();
    let mut call = start(&agent);
    let heard = call.speak_in_real_time(400);
    call.stop();
    let ended = || {
        let sidecars = server.files("json");
        sidecars.iter().any(|path| std::fs::read_to_string(path).unwrap().contains("\"end_reason\""))
    };
    wait_until("the server's file", patience(), ended);
    let file = read_recording(&server.files("wav")[0]);
    assert_eq!(file.data.len(), heard.len());
    let sidecar = std::fs::read(server.files("json").remove(0)).unwrap();
    let sidecar = serde_json::from_slice(&sidecar).unwrap();
    assert_eq!(number(&sidecar, "/packets/received") + number(&sidecar, "/packets/lost"), 400, "{sidecar}");
    assert!(number(&sidecar, "/packets/lost") > 0, "{sidecar}");
}
