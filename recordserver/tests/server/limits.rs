//! The program at its limits: refusals and their words, idle sessions, and that a session that ends makes
//! room.

use crate::support::{Server, program, recorded};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

/// Longest wait for the server.
const PATIENCE: Duration = Duration::from_secs(10);

/// A phone that sends the messages of the test.
pub(crate) struct Phone {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Phone {
    /// Connects from an address of the loopback network.
    pub(crate) fn at(host: [u8; 4], server: &Server) -> Self {
        let socket =
            socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
        let SocketAddr::V4(control) = server.control else { panic!("{}", server.control) };
        let own = SocketAddrV4::new(Ipv4Addr::from(host), 0);
        bind(socket.as_raw_fd(), &SockaddrIn::from(own)).expect("bound");
        connect(socket.as_raw_fd(), &SockaddrIn::from(control)).expect("connected");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) fn says(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("sends");
    }

    /// Says something to a server that may have hung up.
    pub(crate) fn tries(&mut self, text: &str) -> std::io::Result<()> {
        self.stream.get_mut().write_all(text.as_bytes())
    }

    /// The next message, with the octet that ends it.
    pub(crate) fn hears(&mut self) -> String {
        let mut text = String::new();
        self.stream.read_line(&mut text).expect("a message");
        text
    }

    /// Asks for a recording; the answer.
    pub(crate) fn starts(&mut self, id: &str) -> String {
        self.says(&format!("cmd=RecordStartRequest&id={id}&device=d&codec=PCMA\n"));
        self.hears()
    }

    pub(crate) fn stops(&mut self, id: &str) {
        self.says(&format!("cmd=RecordStopRequest&id={id}&reason=hangup\n"));
        assert_eq!(self.hears(), format!("cmd=RecordStopResponse&id={id}&result=success\n"));
    }
}

/// Starts a recording as soon as there is room: a connection that broke is noticed a moment later.
fn starts_in_time(host: [u8; 4], server: &Server, id: &str) -> (Phone, u16) {
    let end = os::clock::mono() + PATIENCE;
    loop {
        let mut phone = Phone::at(host, server);
        let answer = phone.starts(id);
        if answer.contains("&result=success&") {
            return (phone, port(&answer));
        }
        assert!(os::clock::mono() < end, "{answer}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn refused(id: &str, reason: &str) -> String {
    format!("cmd=RecordStartResponse&id={id}&result=failed&reason={reason}&server=&port=\n")
}

pub(crate) fn port(answer: &str) -> u16 {
    assert!(answer.contains("&result=success&"), "{answer}");
    answer.trim_end().rsplit_once("&port=").expect("port").1.parse().expect("port")
}

pub(crate) fn rtp(number: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&(u32::from(number) * 160).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 9]);
    packet.extend_from_slice(&[0x55; 160]);
    packet
}

#[test]
fn too_many_recordings_in_all_and_from_one_phone_are_refused_in_words_until_one_ends() {
    let settings = "rtp_ports = \"23170-23179\"\n[limits]\nsessions = 2\nsessions_per_address = 1\n";
    let server = Server::start(settings);
    let (mut first, mut again) = (Phone::at([127, 0, 0, 1], &server), Phone::at([127, 0, 0, 1], &server));
    port(&first.starts("a"));
    assert_eq!(
        again.starts("b"),
        refused("b", "too many recordings from this phone (setting limits.sessions_per_address)")
    );
    let mut second = Phone::at([127, 0, 0, 2], &server);
    port(&second.starts("c"));
    let mut third = Phone::at([127, 0, 0, 3], &server);
    assert_eq!(
        third.starts("d"),
        refused("d", "too many recordings on the server (setting limits.sessions)")
    );
    let metrics = server.get("/metrics");
    for reason in ["sessions", "sessions_of_address"] {
        let line = format!("recordserver_refused_total{{reason=\"{reason}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
    // One ends by a stop, the other by a reset.
    first.stops("a");
    port(&again.starts("b"));
    drop(second);
    let _third = starts_in_time([127, 0, 0, 3], &server, "d");
    let (status, folder) = server.terminate();
    assert_eq!(status.code(), Some(0));
    for (id, reason) in
        [("a", "stopped: hangup"), ("b", "shutdown"), ("c", "connection_lost"), ("d", "shutdown")]
    {
        assert_eq!(recorded(folder.path(), id).0.end_reason.as_deref(), Some(reason), "{id}");
    }
}

#[test]
fn a_message_without_end_is_refused_and_no_other_phone_minds() {
    let server = Server::start("rtp_ports = \"23180-23189\"\n");
    let mut other = Phone::at([127, 0, 0, 2], &server);
    port(&other.starts("other"));
    let mut flood = Phone::at([127, 0, 0, 1], &server);
    flood.says(&format!("cmd=RecordStartRequest&id=flood&device={}", "x".repeat(9000)));
    let mut answer = String::new();
    flood.stream.read_to_string(&mut answer).expect("an answer and the end");
    assert!(answer.starts_with("cmd=RecordStartResponse&id=&result=failed&reason="), "{answer}");
    other.stops("other");
}

#[test]
fn without_rtp_of_the_phone_itself_a_recording_ends_and_its_port_serves_the_next_one() {
    let server = Server::start("rtp_ports = \"23190-23190\"\n[limits]\nidle_timeout_s = 1\n");
    let mut phone = Phone::at([127, 0, 0, 1], &server);
    let to = (Ipv4Addr::LOCALHOST, port(&phone.starts("idle")));
    let own = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    for number in 0..10 {
        own.send_to(&rtp(number), to).expect("loopback");
    }
    // Another host, and another port of the phone's: neither is heard.
    let strangers = ["127.0.0.9:0", "127.0.0.1:0"].map(|addr| UdpSocket::bind(addr).expect("loopback"));
    phone.stream.get_mut().set_read_timeout(Some(Duration::from_millis(50))).expect("time-out");
    let (mut told, mut sent) = (String::new(), 0);
    while !told.ends_with('\n') {
        for stranger in &strangers {
            stranger.send_to(&rtp(1000 + sent), to).expect("loopback");
        }
        sent += 1;
        assert!(sent < 200, "it goes on for the strangers");
        let _ = phone.stream.read_line(&mut told);
    }
    assert!(told.starts_with("cmd=RecordStopRequest&id=idle&") && told.ends_with("&reason=idle\n"), "{told}");
    phone.says("cmd=RecordStopResponse&id=idle&result=success\n");

    // There is one port: the next phone gets it, however the one before has ended.
    for id in ["stopped", "reset", "last"] {
        let (mut phone, port) = starts_in_time([127, 0, 0, 1], &server, id);
        assert_eq!(port, to.1);
        match id {
            "stopped" => phone.stops(id),
            "reset" => drop(phone),
            _ => {
                let http = server.http.to_string();
                let asked = Command::new(program()).args(["sessions", "--http", &http]).output();
                let table = String::from_utf8(asked.expect("recordserver").stdout).expect("UTF-8");
                assert!(table.starts_with("1 recording(s)\n") && table.contains("port 23190"), "{table}");
            }
        }
    }
    let (_, folder) = server.terminate();
    let (sidecar, audio) = recorded(folder.path(), "idle");
    assert_eq!((sidecar.end_reason.as_deref(), audio.len()), (Some("idle"), 1600), "{sidecar:?}");
    assert_eq!((sidecar.packets.received, sidecar.packets.lost, sidecar.packets.dropped), (10, 0, 0));
    assert!(sidecar.packets.strangers > 2 && sidecar.contested, "{sidecar:?}");
}

#[test]
fn a_phone_that_asks_and_never_reads_is_given_up_and_its_recording_finished() {
    let server = Server::start("rtp_ports = \"23210-23219\"\n");
    let mut phone = Phone::at([127, 0, 0, 1], &server);
    port(&phone.starts("deaf"));
    let stream = phone.stream.get_mut();
    stream.set_write_timeout(Some(PATIENCE)).expect("time-out");
    let question = format!("cmd=RecordStopRequest&id={}&reason=\n", "x".repeat(200)).repeat(100);
    let end = os::clock::mono() + PATIENCE;
    // Its answers fill the system's buffers of both ends, some megabytes.
    while stream.write_all(question.as_bytes()).is_ok() {
        assert!(os::clock::mono() < end, "it is still listened to");
    }
    let (status, folder) = server.terminate();
    assert_eq!(status.code(), Some(0));
    assert_eq!(recorded(folder.path(), "deaf").0.end_reason.as_deref(), Some("connection_lost"));
}

#[test]
fn a_phone_that_sends_another_codec_than_it_asked_for_gets_a_file_of_that_codec() {
    let server = Server::start("rtp_ports = \"23230-23239\"\n");
    let mut phone = Phone::at([127, 0, 0, 1], &server);
    let to = (Ipv4Addr::LOCALHOST, port(&phone.starts("other")));
    let own = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    for number in 0..25 {
        let mut packet = rtp(number);
        packet[1] = 0;
        own.send_to(&packet, to).expect("loopback");
    }
    phone.stops("other");
    let (_, folder) = server.terminate();
    let (sidecar, audio) = recorded(folder.path(), "other");
    assert_eq!((sidecar.codec.as_str(), sidecar.no_media, audio.len()), ("PCMU", false, 4000), "{sidecar:?}");
    assert_eq!((sidecar.packets.received, sidecar.packets.dropped), (25, 0), "{sidecar:?}");
}

#[test]
fn the_log_warns_of_an_id_that_another_connection_has() {
    let server = Server::start("rtp_ports = \"23240-23249\"\n");
    let mut phones = [[127, 0, 0, 1], [127, 0, 0, 2]].map(|host| Phone::at(host, &server));
    for phone in &mut phones {
        port(&phone.starts("twice"));
    }
    let log = server.terminate_for_log();
    assert_eq!(log.matches("id_in_use id=\"twice\" peer=127.0.0.2:").count(), 1, "{log}");
}
