//! The program under abuse and at the limits of its process: no address can harm another.

use crate::limits::{Phone, port, rtp};
use crate::support::{Server, files, program, recorded};
use recfile::sidecar::SidecarState;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const HONEST: [u8; 4] = [127, 0, 0, 50];

fn start(host: [u8; 4], server: &Server, id: &str) -> (Phone, UdpSocket) {
    let mut phone = Phone::at(host, server);
    let to = (Ipv4Addr::LOCALHOST, port(&phone.starts(id)));
    let socket = UdpSocket::bind((Ipv4Addr::from(host), 0)).expect("loopback");
    socket.connect(to).expect("loopback");
    (phone, socket)
}

fn talk(socket: &UdpSocket, packets: Range<u16>) {
    for number in packets {
        socket.send(&rtp(number)).expect("loopback");
    }
}

fn folders(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).expect("folder").flatten();
    let names = entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    names.map(|name| name.into_string().expect("UTF-8")).collect()
}

/// A process with a limit of the system, as a service has them.
fn limited(option: &str) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(option).arg(program());
    command
}

fn limited_server(option: &str, settings: &str) -> Server {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("rec")).expect("folder");
    Server::start_in(folder, settings, limited(option), "127.0.0.1")
}

/// Connections that ask for nothing, as many as the server takes.
fn silent(server: &Server, hosts: u8, of_each: usize) -> Vec<Phone> {
    (0..hosts).flat_map(|host| (0..of_each).map(move |_| Phone::at([127, 0, 3, 1 + host], server))).collect()
}

#[test]
fn starts_without_end_are_refused_in_words_to_their_address_alone() {
    let server = Server::start("rtp_ports = \"23300-23319\"\n[limits]\nstarts_per_minute = 5\n");
    let mut eager = Phone::at([127, 0, 0, 1], &server);
    for number in 0..5 {
        port(&eager.starts(&format!("e{number}")));
        eager.stops(&format!("e{number}"));
    }
    let answer = eager.starts("one-more");
    assert!(
        answer.contains("too many starts from this phone (setting limits.starts_per_minute)"),
        "{answer}"
    );
    let (mut phone, socket) = start(HONEST, &server, "good");
    talk(&socket, 0..50);
    phone.stops("good");
    let (_, folder) = server.terminate();
    let (sidecar, audio) = recorded(folder.path(), "good");
    assert_eq!((sidecar.state, audio.len()), (SidecarState::Ended, 8000));
}

#[test]
fn refusals_of_one_address_are_a_few_short_lines_in_the_log() {
    let server = Server::start("rtp_ports = \"23320-23329\"\n[limits]\nstarts_per_minute = 1\n");
    let fat = "%01".repeat(2000);
    for _ in 0..40 {
        let mut phone = Phone::at([127, 0, 0, 1], &server);
        for _ in 0..8 {
            phone.says(&format!("cmd=RecordStartRequest&id={}&device={fat}&codec=PCMA\n", "i".repeat(200)));
            phone.hears();
        }
    }
    let metrics = server.get("/metrics");
    assert!(metrics.contains("refused_total{reason=\"starts_of_address\"} 312"), "{metrics}");
    let log = server.terminate_for_log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("session_refused")).collect();
    assert!((1..=8).contains(&lines.len()), "{}", lines.len());
    assert!(
        lines.iter().all(|line| line.len() < 800 && line.contains("limits.starts_per_minute")),
        "{lines:?}"
    );
}

#[test]
fn recordings_without_a_packet_leave_files_up_to_a_limit_and_those_with_audio_all_of_theirs() {
    let settings = "rtp_ports = \"23330-23349\"\n[limits]\nempty_files_per_hour = 4\n";
    let server = Server::start(settings);
    let mut phone = Phone::at([127, 0, 0, 1], &server);
    for number in 0..30 {
        port(&phone.starts(&format!("empty{number}")));
        phone.stops(&format!("empty{number}"));
    }
    for number in 0..6 {
        let id = format!("full{number}");
        let (mut phone, socket) = start([127, 0, 0, 1], &server, &id);
        talk(&socket, 0..10);
        phone.stops(&id);
    }
    let (status, folder) = server.terminate();
    assert_eq!(status.code(), Some(0));
    assert_eq!(files(folder.path(), "wav").len(), 4 + 6);
    assert!(recorded(folder.path(), "empty3").0.no_media);
    assert_eq!(recorded(folder.path(), "full5").1.len(), 1600);
    assert!(!folder.path().join("rec/.recordserver-open-since").exists(), "nothing is left to recover");
}

#[test]
fn a_phone_that_invents_devices_fills_one_folder_and_loses_no_recording() {
    let settings = "rtp_ports = \"23350-23369\"\n[limits]\nnew_devices_per_hour = 3\n";
    let server = Server::start(settings);
    std::fs::create_dir(server.folder.path().join("rec/not-known-at-the-start")).expect("folder");
    for number in 0..9 {
        let mut phone = Phone::at([127, 0, 0, 1], &server);
        phone.says(&format!("cmd=RecordStartRequest&id=i{number}&device=new{number}&codec=PCMA\n"));
        let to = (Ipv4Addr::LOCALHOST, port(&phone.hears()));
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        socket.connect(to).expect("loopback");
        talk(&socket, 0..10);
        phone.stops(&format!("i{number}"));
    }
    let (mut phone, socket) = start(HONEST, &server, "good");
    talk(&socket, 0..10);
    phone.stops("good");
    let (_, folder) = server.terminate();
    let mut made = folders(&folder.path().join("rec"));
    made.sort();
    assert_eq!(made, ["127.0.0.1", "d", "new0", "new1", "new2", "not-known-at-the-start"]);
    assert_eq!(files(folder.path(), "wav").len(), 10);
}

#[test]
fn silent_connections_make_room_for_a_phone_that_records() {
    let settings = "rtp_ports = \"23370-23379\"\n[limits]\nconnections = 80\n";
    let server = Server::start(settings);
    let held = silent(&server, 4, 40);
    for number in 0..3 {
        let (mut phone, socket) = start(HONEST, &server, &format!("good{number}"));
        talk(&socket, 0..10);
        phone.stops(&format!("good{number}"));
    }
    drop(held);
    let (_, folder) = server.terminate();
    assert_eq!(recorded(folder.path(), "good2").1.len(), 1600);
}

#[test]
fn calls_that_have_just_ended_do_not_hide_the_silent_connections_that_make_room() {
    let settings = "rtp_ports = \"23600-23899\"\n[limits]\nconnections = 200\n";
    let server = Server::start(settings);
    let ended: Vec<_> = (1..=70)
        .map(|host| {
            let (mut phone, _) = start([127, 0, 5, host], &server, &format!("ended{host}"));
            phone.stops(&format!("ended{host}"));
            phone
        })
        .collect();
    let held = silent(&server, 4, 60);
    let (mut phone, socket) = start(HONEST, &server, "good");
    talk(&socket, 0..10);
    phone.stops("good");
    drop((ended, held));
    let (_, folder) = server.terminate();
    assert_eq!(recorded(folder.path(), "good").1.len(), 1600);
}

#[test]
fn recordings_without_a_packet_make_room_for_another_phone_and_those_with_audio_do_not() {
    let settings = "rtp_ports = \"23380-23399\"\n[limits]\nsessions = 10\nsessions_per_address = 10\n";
    let server = Server::start(settings);
    let (mut speaker, socket) = start([127, 0, 0, 1], &server, "speaks");
    talk(&socket, 0..10);
    while !server.get("/sessions").contains("Record_") {}
    let held: Vec<_> =
        (0..9).map(|number| start([127, 0, 0, 1], &server, &format!("mute{number}"))).collect();
    let (mut phone, socket) = start(HONEST, &server, "good");
    talk(&socket, 0..10);
    phone.stops("good");
    speaker.stops("speaks");
    drop(held);
    let (_, folder) = server.terminate();
    assert_eq!(recorded(folder.path(), "good").1.len(), 1600);
    assert_eq!(recorded(folder.path(), "speaks").0.end_reason.as_deref(), Some("stopped: hangup"));
    assert_eq!(recorded(folder.path(), "mute0").0.end_reason.as_deref(), Some("idle"));
}

#[test]
fn octets_that_come_one_by_one_are_understood_and_answered() {
    let server = Server::start("rtp_ports = \"23400-23409\"\n");
    let mut stream = TcpStream::connect(server.control).expect("connection");
    stream.set_nodelay(true).expect("option");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
    for octet in b"cmd=RecordStartRequest&id=slow&device=d&codec=PCMA\n" {
        stream.write_all(&[*octet]).expect("sends");
        std::thread::yield_now();
    }
    let mut answer = [0; 256];
    let count = stream.read(&mut answer).expect("an answer");
    assert!(String::from_utf8_lossy(&answer[..count]).contains("result=success"));
}

#[test]
fn with_few_descriptors_the_limits_are_lowered_and_a_recording_is_finished_all_the_same() {
    for descriptors in [40, 100, 200] {
        let server = limited_server(&format!("--nofile={descriptors}"), "rtp_ports = \"23410-23439\"\n");
        let (mut phone, socket) = start(HONEST, &server, "good");
        talk(&socket, 0..10);
        let held = silent(&server, 10, 30);
        for number in 0..100 {
            let mut phone = Phone::at([127, 0, 0, 1], &server);
            phone.says(&format!("cmd=RecordStartRequest&id=more{number}&device=d&codec=PCMA\n"));
        }
        assert!(server.get("/metrics").starts_with("HTTP/1.1 200"), "{descriptors}");
        talk(&socket, 10..20);
        phone.stops("good");
        drop(held);
        let (status, folder) = server.terminate();
        assert_eq!(status.code(), Some(0), "{descriptors}");
        let (sidecar, audio) = recorded(folder.path(), "good");
        assert_eq!((sidecar.state, audio.len()), (SidecarState::Ended, 3200), "{descriptors}");
    }
}

#[test]
fn with_little_memory_the_server_takes_the_calls_it_can_and_goes_on() {
    let server = limited_server("--as=67108864", "rtp_ports = \"23440-23469\"\n");
    let (mut phone, socket) = start(HONEST, &server, "good");
    talk(&socket, 0..10);
    let mut held = silent(&server, 20, 50);
    let part = format!("cmd=RecordStartRequest&id=x&device={}", "d".repeat(7000));
    for other in &mut held {
        let _ = other.tries(&part);
    }
    assert!(server.get("/metrics").starts_with("HTTP/1.1 200"));
    phone.stops("good");
    drop(held);
    let (status, folder) = server.terminate();
    assert_eq!(status.code(), Some(0));
    assert_eq!(recorded(folder.path(), "good").0.state, SidecarState::Ended);
}
