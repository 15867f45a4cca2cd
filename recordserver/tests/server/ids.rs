//! Ids of recordings: a phone's own on the wire, unique at the server.

use crate::limits::{Phone, port, rtp};
use crate::support::{Server, files, program};
use recfile::sidecar::Sidecar;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

const SETTINGS: &str = "flush_interval_ms = 400\nrtp_ports = \"24100-24109\"\n";

fn sidecars(folder: &Path) -> Vec<Sidecar> {
    let read = |path| Sidecar::parse(&std::fs::read(path).expect("a file")).expect("a sidecar");
    files(&folder.join("rec"), "json").into_iter().map(read).collect()
}

/// A recording of one packet that a phone calls `id`, while it goes on.
fn begins(server: &Server, id: &str) -> Phone {
    let mut phone = Phone::at([127, 0, 0, 1], server);
    let to = port(&phone.starts(id));
    let own = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    for number in 0..5 {
        own.send_to(&rtp(number), ("127.0.0.1", to)).expect("loopback");
    }
    phone
}

/// A whole one; the phone hears nothing but its own id.
fn records(server: &Server, id: &str) {
    begins(server, id).stops(id);
}

/// All recordings have ids of their own, and keep the phone's id.
fn assert_unique(folder: &Path, id: &str, count: usize) {
    let found = sidecars(folder);
    let ids: BTreeSet<&str> = found.iter().map(|sidecar| sidecar.recording.as_str()).collect();
    assert_eq!((found.len(), ids.len()), (count, count), "{ids:?}");
    assert!(ids.contains(id) && ids.iter().all(|found| found.starts_with(id)), "{ids:?}");
    assert!(found.iter().all(|sidecar| sidecar.uplink_id.as_deref() == Some(id)), "{found:?}");
    let journal = std::fs::read_to_string(folder.join("rec/.journal")).expect("a journal");
    ids.iter().for_each(|id| assert!(journal.contains(&format!("\"recording\":\"{id}\"")), "{journal}"));
}

#[test]
fn phones_that_send_the_same_id_at_once_or_one_after_another_get_recordings_of_their_own() {
    let server = Server::start(SETTINGS);
    let mut both = [(); 2].map(|()| begins(&server, "same"));
    let sessions = server.get("/sessions");
    assert_eq!(sessions.matches("\"id\":\"same\"").count(), 2, "{sessions}");
    assert_eq!(sessions.matches("\"recording\":\"same\"").count(), 1, "{sessions}");
    both.iter_mut().for_each(|phone| phone.stops("same"));
    records(&server, "same");
    let (_, folder) = server.terminate();
    assert_unique(folder.path(), "same", 3);
}

#[test]
fn an_id_stays_used_after_the_end_of_the_server_after_a_crash_and_without_the_file_that_has_them() {
    let server = Server::start(SETTINGS);
    records(&server, "1");
    let (_, folder) = server.terminate();
    let again = |folder| Server::start_in(folder, SETTINGS, Command::new(program()), "127.0.0.1");

    let server = again(folder);
    records(&server, "1");
    let _open = begins(&server, "other");
    while !server.get("/sessions").contains("Record_") {
        std::thread::yield_now();
    }
    let folder = server.kill();
    // As if no noted id had reached the disk.
    let ids = folder.path().join("rec/.recordserver-ids");
    let octets = std::fs::metadata(&ids).expect("the ids").len();
    std::fs::write(&ids, vec![0; usize::try_from(octets).expect("fits")]).expect("emptied");

    let server = again(folder);
    records(&server, "1");
    records(&server, "other");
    let (_, folder) = server.terminate();
    std::fs::remove_file(&ids).expect("removed");

    let server = again(folder);
    records(&server, "1");
    records(&server, "new");
    let (_, folder) = server.terminate();
    let found = sidecars(folder.path());
    let of = |id: &str| -> BTreeSet<&str> {
        let all = found.iter().filter(|it| it.uplink_id.as_deref() == Some(id));
        all.map(|it| it.recording.as_str()).collect()
    };
    assert_eq!([of("1").len(), of("other").len(), of("new").len()], [4, 2, 1], "{found:?}");
    assert_eq!(of("new"), BTreeSet::from(["new"]), "one that nobody had is as the phone says it");
}

#[test]
fn the_log_tells_which_recording_an_id_that_was_used_before_became() {
    let server = Server::start("rtp_ports = \"24110-24119\"\n");
    records(&server, "again");
    records(&server, "again");
    let log = server.terminate_for_log();
    assert_eq!(log.matches("id_used_before id=\"again\" peer=127.0.0.1:").count(), 1, "{log}");
    assert!(log.contains(" recording=\"again-"), "{log}");
}
