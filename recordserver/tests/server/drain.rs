//! `recordserver --drain`: no new calls, those that go on are not disturbed, and the server ends with the
//! last one.

use crate::limits::{Phone, port, rtp};
use crate::support::{Server, program, recorded, recorded_if_any};
use nix::sys::signal::Signal;
use recfile::sidecar::SidecarState;
use std::net::UdpSocket;
use std::process::{Command, Output};

fn drain(server: &Server) -> Output {
    let storage = server.folder.path().join("rec");
    Command::new(program()).arg("--drain").arg("--storage").arg(storage).output().expect("recordserver")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_draining_server_refuses_new_calls_and_ends_well_with_the_last_that_goes_on() {
    let mut server = Server::start("rtp_ports = \"24200-24209\"\n");
    let host = [127, 0, 0, 1];
    let (mut first, mut second) = (Phone::at(host, &server), Phone::at(host, &server));
    let to = port(&first.starts("first"));
    port(&second.starts("second"));
    let mut waiting = Phone::at(host, &server);
    assert!(server.get("/health").ends_with("\r\n\r\nok\n"));

    assert_eq!(said(&drain(&server)), "draining: 2 recording(s) go on, the server ends with the last one\n");
    assert!(server.get("/health").ends_with("\r\n\r\ndraining\n"), "and it is healthy");
    let metrics = server.get("/metrics");
    assert!(metrics.contains("recordserver_draining 1\n"), "{metrics}");
    let sessions = Command::new(program())
        .args(["sessions", "--storage"])
        .arg(server.folder.path().join("rec"))
        .output()
        .expect("recordserver");
    assert!(said(&sessions).starts_with("2 recording(s), draining: no new ones are taken\n"));

    let refusal = "&result=failed&reason=the server is draining and takes no new recordings&";
    second.stops("second");
    for (phone, id) in [(&mut waiting, "a"), (&mut Phone::at(host, &server), "b"), (&mut second, "c")] {
        let answer = phone.starts(id);
        assert!(answer.contains(refusal), "{answer}");
    }
    assert!(server.get("/metrics").contains("recordserver_refused_total{reason=\"draining\"} 3\n"));
    // Told once more, it goes on as it was.
    assert_eq!(said(&drain(&server)), "draining: 1 recording(s) go on, the server ends with the last one\n");
    let own = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    for number in 0..25 {
        own.send_to(&rtp(number), ("127.0.0.1", to)).expect("loopback");
    }
    while recorded_if_any(server.folder.path(), "first").is_none() {
        std::thread::yield_now();
    }
    assert!(server.process.try_wait().expect("status").is_none(), "it goes on");
    first.stops("first");
    assert_eq!(server.process.wait().expect("status").code(), Some(0));
    let (sidecar, audio) = recorded(server.folder.path(), "first");
    assert_eq!(
        (sidecar.state, sidecar.end_reason.as_deref()),
        (SidecarState::Ended, Some("stopped: hangup"))
    );
    assert_eq!(audio.len(), 25 * 160);
    assert!(!server.folder.path().join("rec/.recordserver-open-since").exists(), "all is finished");
}

#[test]
fn a_server_without_a_call_ends_at_once_when_it_is_drained() {
    let mut server = Server::start("rtp_ports = \"24210-24219\"\n");
    let text = said(&drain(&server));
    assert!(
        text == "the server had no recording, and has ended\n" || text.starts_with("draining: 0 "),
        "{text}"
    );
    assert_eq!(server.process.wait().expect("status").code(), Some(0));
    let again = drain(&server);
    assert_eq!(again.status.code(), Some(1));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("is recordserver running?"), "{said}");
}

#[test]
fn sigterm_ends_a_draining_server_without_waiting_for_its_calls() {
    let server = Server::start("rtp_ports = \"24220-24229\"\n");
    let mut phone = Phone::at([127, 0, 0, 1], &server);
    port(&phone.starts("long"));
    said(&drain(&server));
    let (status, folder) = server.terminate();
    assert_eq!(status.code(), Some(0));
    assert_eq!(recorded(folder.path(), "long").0.end_reason.as_deref(), Some("shutdown"));
}

#[test]
fn a_draining_server_is_told_by_the_signal_alone_too() {
    let mut server = Server::start("status_socket = \"off\"\nrtp_ports = \"24230-24239\"\n");
    server.signal(Signal::SIGUSR1);
    assert_eq!(server.process.wait().expect("status").code(), Some(0));
}
