//! Uploading over a bad network: loss and disorder, a link cut without a word, and packets marked as urgent
//! (DSCP). Each in network namespaces of the test's own, where it runs itself again.

use std::collections::BTreeSet;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use serde_json::{Value, json};

use crate::support::environment::skip_here;
use crate::support::network::{PHONE_ADDR, Way, across, bad_cable, inside, ip, servers_namespace};
use crate::support::server::{SERVER_ADDR, Server};
use crate::support::{
    Agent, Call, Codec, Setup, assert_audio, number, patience, read_recording, wait_for, wait_until,
};

fn start(agent: &Agent) -> Call {
    Call::start_with(agent, Codec::Pcma, json!({"mode": "server"}))
}

#[test]
fn a_link_cut_without_a_word_is_noticed_on_both_sides_within_ten_seconds() {
    inside(Way::Cable, "server_network::in_a_namespace_a_link_is_cut");
}

#[test]
fn servers_across_a_network_fail_in_every_way_as_those_on_this_machine_do() {
    across(Way::Cable, &["server_failure::", "server_mode::a_pause", "server_mode::packets_of_the_phone"]);
}

#[test]
fn two_percent_loss_and_disorder_in_the_network_cost_the_file_those_packets_and_no_time() {
    inside(Way::Middle, "server_network::in_a_namespace_rtp_is_lost_and_reordered");
}

#[test]
fn commands_and_audio_are_marked_on_the_wire_as_configured_from_the_first_packet_on() {
    inside(Way::Cable, "server_network::in_a_namespace_marks_are_read_off_the_wire");
}

#[test]
#[ignore = "run by a_link_cut…, in a namespace"]
fn in_a_namespace_a_link_is_cut() {
    let namespace = servers_namespace();
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
fn a_name_that_takes_its_time_to_be_looked_up_holds_up_nothing_else() {
    inside(Way::Middle, "server_network::in_a_namespace_no_name_server_answers");
}

#[test]
fn packets_that_the_network_does_not_take_are_counted_one_by_one_and_not_waited_for() {
    inside(Way::Cable, "server_network::in_a_namespace_the_network_is_slow");
}

#[test]
fn a_server_that_is_known_by_its_link_local_address_gets_the_audio() {
    inside(Way::Cable, "server_network::in_a_namespace_the_server_has_a_link_local_address");
}

#[test]
fn a_server_at_the_end_of_a_tunnel_gets_the_audio_past_it() {
    inside(Way::Cable, "server_network::in_a_namespace_there_is_a_tunnel");
}

/// The sidecar of the server's only recording, once it has ended.
fn ended_sidecar(server: &Server) -> Value {
    wait_for("the server's file", patience(), || {
        let sidecar: Value =
            serde_json::from_slice(&std::fs::read(server.files("json").first()?).ok()?).ok()?;
        sidecar["end_reason"].is_string().then_some(sidecar)
    })
}

#[test]
#[ignore = "run by two_percent_loss…, in a namespace"]
fn in_a_namespace_rtp_is_lost_and_reordered() {
    servers_namespace();
    let Some(server) = Server::real() else { return };
    let Some(cable) = bad_cable() else { return };
    let agent = Setup::new().uploads_to(server.addr).start();
    let mut call = start(&agent);
    let first_seq = u64::from(call.source.seq);
    let mut heard = call.speak_in_real_time(400);
    call.stop();
    let sidecar = ended_sidecar(&server);
    let told = cable.terminate("relayed");
    eprintln!("{told}\n{sidecar}");
    assert_eq!(number(&told, "/passed") + number(&told, "/lost"), 400, "not all went this way: {told}");
    assert!(number(&told, "/lost") > 0 && number(&told, "/swapped") > 0, "{told}");
    assert_eq!(sidecar["packets"]["lost"], told["lost"], "{sidecar}");
    assert_eq!(sidecar["packets"]["received"], told["passed"], "{sidecar}");
    // Packets that arrived are in their place, to the bit, and silence is where something is missing.
    for seq in told["lost_seqs"].as_array().expect("numbers") {
        let at = (seq.as_u64().expect("a number") - first_seq) as usize * 160;
        heard[at..at + 160].copy_from_slice(&call.silence(1));
    }
    read_recording(&server.files("wav")[0]).assert_finished(Codec::Pcma, &heard);
}

/// Records a moment by `setup`, and looks whether the server has it all.
fn assert_reaches(server: &Server, setup: Setup) {
    let agent = setup.start();
    let mut call = start(&agent);
    let heard = call.speak_in_real_time(20);
    call.stop();
    ended_sidecar(server);
    read_recording(&server.files("wav")[0]).assert_finished(Codec::Pcma, &heard);
}

#[test]
#[ignore = "run by a_server_that_is_known_by…, in a namespace"]
fn in_a_namespace_the_server_has_a_link_local_address() {
    let namespace = servers_namespace();
    // Without the second that the kernel takes to see whether another host has it.
    assert!(ip(&format!("-n {namespace} addr add fe80::1/64 dev eth0 nodad")));
    assert!(ip("addr add fe80::2/64 dev eth0 nodad"));
    let Some(server) = Server::real_at("[::]:0", None, "") else { return };
    assert_reaches(
        &server,
        Setup::new().uploads_to(server.addr).quoted("uplink", "server_addr", "fe80::1%eth0"),
    );
}

#[test]
#[ignore = "run by a_server_at_the_end_of_a_tunnel…, in a namespace"]
fn in_a_namespace_there_is_a_tunnel() {
    servers_namespace();
    let Some(server) = Server::real() else { return };
    let tunnel = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let entrance = tunnel.local_addr().expect("an address");
    let far = server.addr;
    std::thread::spawn(move || {
        let (near, _) = tunnel.accept().expect("a connection");
        let far = TcpStream::connect(far).expect("the server");
        let mut back = (far.try_clone().expect("a handle"), near.try_clone().expect("a handle"));
        std::thread::spawn(move || std::io::copy(&mut back.0, &mut back.1));
        let _ = std::io::copy(&mut &near, &mut &far);
        let _ = far.shutdown(Shutdown::Both);
    });
    let setup = Setup::new().uploads_to(entrance);
    // The server tells the address by which the tunnel reaches it, and the phone does not know that one.
    assert_reaches(&server, setup.set("uplink", "media_hosts", "[\"10.213.78.0/24\"]"));
}

#[test]
fn loss_and_disorder_on_the_way_to_the_server_give_a_file_as_long_as_the_call() {
    let Some(server) = Server::real() else { return };
    let Some(relay) = Server::lossy(server.addr) else { return };
    let agent = Setup::new().uploads_to(relay.addr).start();
    let mut call = start(&agent);
    let heard = call.speak_in_real_time(400);
    call.stop();
    let sidecar = ended_sidecar(&server);
    assert_eq!(read_recording(&server.files("wav")[0]).data.len(), heard.len());
    assert_eq!(number(&sidecar, "/packets/received") + number(&sidecar, "/packets/lost"), 400, "{sidecar}");
    assert!(number(&sidecar, "/packets/lost") > 0, "{sidecar}");
}

/// All that went out of this namespace to the servers, as IP packets.
fn sent_to_servers(wire: &impl AsRawFd) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut octets = [0; 65_536];
    while let Ok(count) = recv(wire.as_raw_fd(), &mut octets, MsgFlags::MSG_DONTWAIT) {
        let packet = &octets[..count];
        if count >= 40
            && packet[0] >> 4 == 4
            && packet[12..16] == PHONE_ADDR
            && packet[16..20] == SERVER_ADDR.octets()
        {
            packets.push(packet.to_vec());
        }
    }
    packets
}

#[test]
#[ignore = "run by commands_and_audio_are_marked…, in a namespace"]
fn in_a_namespace_marks_are_read_off_the_wire() {
    servers_namespace();
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    for (settings, control, media) in [(None, 24, 46), (Some((10, 34)), 10, 34), (Some((0, 0)), 0, 0)] {
        let Some(server) = Server::by_document("ok", &[]) else { return };
        let mut setup = Setup::new().uploads_to(server.addr);
        if let Some((control, media)) = settings {
            setup = setup.set("uplink", "dscp_control", control).set("uplink", "dscp_media", media);
        }
        let agent = setup.start();
        let none = SockFlag::empty();
        let wire = socket(AddressFamily::Packet, SockType::Datagram, none, SockProtocol::EthAll).unwrap();
        let mut call = start(&agent);
        let heard = call.speak(20);
        call.stop();
        server.wait_report("stopped");
        assert_audio(&server.payload(), &heard);
        drop(agent);

        let packets = sent_to_servers(&wire);
        let dscps = |protocol: u8| -> BTreeSet<u8> {
            packets.iter().filter(|packet| packet[9] == protocol).map(|packet| packet[1] >> 2).collect()
        };
        assert_eq!(dscps(TCP), [control].into(), "of the commands");
        assert_eq!(dscps(UDP), [media].into(), "of the audio");
        // The set is of all there is: from the SYN, over the requests, to the FIN.
        let flagged = |flag: u8| packets.iter().any(|packet| packet[9] == TCP && packet[33] & flag != 0);
        let says = |text: &str| packets.iter().any(|packet| String::from_utf8_lossy(packet).contains(text));
        assert!(flagged(2) && flagged(1) && says("cmd=RecordStartRequest") && says("cmd=RecordStopRequest"));
        assert_eq!(packets.iter().filter(|packet| packet[9] == UDP).count(), 20);
    }
}

#[test]
#[ignore = "run by a_name_that_takes_its_time…, in a namespace"]
fn in_a_namespace_no_name_server_answers() {
    servers_namespace();
    // `ip netns exec` has given us mounts of our own: only we see this file. Nobody passes questions on.
    let setup = Setup::new().uploads_to((SERVER_ADDR, 9).into());
    let resolver = setup.dir().join("resolv.conf");
    std::fs::write(&resolver, format!("nameserver {SERVER_ADDR}\noptions timeout:5 attempts:2\n")).unwrap();
    if !Path::new("/etc/resolv.conf").exists() {
        return skip_here("there is no /etc/resolv.conf in whose place another one could be put");
    }
    let none = None::<&str>;
    mount(Some(&resolver), "/etc/resolv.conf", none, MsFlags::MS_BIND, none).expect("a file over another");
    let mut agent = setup.quoted("uplink", "server_addr", "recorder.example").start();
    let mut kept = Call::start(&agent, Codec::Pcma);
    let mut client = agent.subscribed_client();
    let params = json!({"mode": "server", "codec": "PCMA"});
    let asked = Instant::now();
    client.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "record.start", "params": params}));
    let mut heard = Vec::new();
    let mut longest = Duration::ZERO;
    while asked.elapsed() < Duration::from_millis(800) {
        let begin = Instant::now();
        heard.extend(kept.speak(1));
        kept.status();
        longest = longest.max(begin.elapsed());
    }
    assert!(longest < Duration::from_millis(400), "the agent did not answer for {longest:?}");
    let answer = client.read_answer();
    assert_eq!(answer["error"]["data"]["reason"], "server_unreachable", "{answer}");
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(900), "it was no slow look-up: {answer} after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    kept.finish_and_expect(&heard);
    // And the end does not wait for the look-up that is still under way.
    let begin = Instant::now();
    assert!(agent.terminate().success());
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
#[ignore = "run by packets_that_the_network_does_not_take…, in a namespace"]
fn in_a_namespace_the_network_is_slow() {
    servers_namespace();
    let slow =
        ["qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "1mbit", "burst", "2kb", "limit", "10mb"];
    if !Command::new("tc").args(slow).status().is_ok_and(|status| status.success()) {
        return skip_here("the kernel has no token bucket filter");
    }
    let Some(server) = Server::by_document("ok", &[]) else { return };
    let agent = Setup::new().uploads_to(server.addr).start();
    let mut call = start(&agent);
    let begin = Instant::now();
    call.speak(800);
    assert!(begin.elapsed() < Duration::from_secs(1), "the call waited: {:?}", begin.elapsed());
    let stats = agent.client().ok("stats.get", json!({}));
    let failed = number(&stats, "/drops/uplink");
    assert!(failed > 0, "{stats}");
    let ended = call.stop();
    assert_eq!((&ended["end_reason"], &ended["degraded"]), (&json!("stopped"), &json!(true)), "{ended}");
    assert_eq!((number(&ended, "/packets/received"), number(&ended, "/packets/dropped")), (800, failed));
    let stopped = server.wait_report("stopped");
    eprintln!("{failed} of 800 packets did not fit: {stopped}");
    assert_eq!(number(&stopped, "/packets") + failed, 800, "{stopped}");
}
