//! The status interface of the program: abuse costs no recording, and a proper client gets an answer.

use crate::support::{Server, program};
use nix::libc::linger;
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

/// Ends a connection by a reset, as a scraper does which has waited long enough.
fn reset(stream: TcpStream) {
    setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).expect("linger");
    drop(stream);
}

fn alive(server: &mut Server) {
    assert!(server.process.try_wait().expect("status").is_none(), "the server has ended");
    assert!(server.get("/metrics").starts_with("HTTP/1.1 200"));
}

#[test]
fn requests_that_are_reset_before_they_are_accepted_do_not_end_the_server() {
    let mut server = Server::start("rtp_ports = \"23250-23259\"\n");
    for request in ["GET /metrics HTTP/1.0\r\n\r\n", "GET /sessions HTTP/1.0\r\n\r\n", "GET", ""] {
        for _ in 0..300 {
            let mut stream = TcpStream::connect(server.http).expect("connection");
            let _ = stream.write_all(request.as_bytes());
            reset(stream);
        }
    }
    alive(&mut server);
}

#[test]
fn idle_and_endless_requests_cost_a_fixed_number_of_descriptors_and_threads() {
    let mut server = Server::start("rtp_ports = \"23260-23269\"\n");
    let count = |server: &Server, what: &str| {
        let folder = format!("/proc/{}/{what}", server.process.id());
        std::fs::read_dir(folder).expect("proc").count()
    };
    let (threads, descriptors) = (count(&server, "task"), count(&server, "fd"));
    let mut held = Vec::new();
    for index in 0..300 {
        let mut stream = TcpStream::connect(server.http).expect("connection");
        let line = if index % 2 == 0 { "" } else { "GET /metrics HTTP/1.1\r\nX: aaaa" };
        let _ = stream.write_all(line.as_bytes());
        held.push(stream);
    }
    alive(&mut server);
    assert_eq!(count(&server, "task"), threads);
    assert!(count(&server, "fd") <= descriptors + recordserver::http::MAX_DESCRIPTORS);
}

#[test]
fn a_foreign_host_gets_no_list_of_recordings() {
    let server = Server::start("rtp_ports = \"23270-23279\"\n");
    let mut stream = TcpStream::connect(server.http).expect("connection");
    write!(stream, "GET /sessions HTTP/1.1\r\nHost: attacker.example:9755\r\n\r\n").expect("request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answer");
    assert!(text.starts_with("HTTP/1.1 421 "), "{text}");
}

#[test]
fn sessions_are_told_at_the_socket_in_the_storage_folder_and_it_goes_with_the_server() {
    let server = Server::start("http = \"off\"\nrtp_ports = \"23280-23289\"\n");
    let socket = server.folder.path().join("rec/.recordserver.sock");
    let asked = Command::new(program())
        .args(["sessions", "--storage"])
        .arg(server.folder.path().join("rec"))
        .output()
        .expect("recordserver");
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "0 recording(s)\n", "{asked:?}");
    let (status, _folder) = server.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_terminal_that_closes_does_not_end_recordings() {
    let mut server = Server::start("rtp_ports = \"23290-23299\"\n");
    server.signal(Signal::SIGHUP);
    server.signal(Signal::SIGHUP);
    alive(&mut server);
    assert_eq!(server.terminate().0.code(), Some(0));
}
