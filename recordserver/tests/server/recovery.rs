//! A server that was killed in mid-call, and its next start.

use crate::support::{Server, files, program, recorded, recorded_if_any};
use recfile::header::FileHeader;
use recfile::sidecar::SidecarState;
use std::io::{BufRead, BufReader};
use std::process::Command;

#[test]
fn recordings_cut_off_by_kill_9_are_whole_after_the_next_start_and_lack_at_most_a_flush_interval() {
    let settings = "flush_interval_ms = 400\nrtp_ports = \"23150-23159\"\n";
    let server = Server::start(settings);
    let mut phone = server.phone(&["--id", "killed", "--seconds", "60"]).spawn().expect("python3");
    while recorded_if_any(server.folder.path(), "killed").is_none_or(|(_, audio)| audio.len() < 8000) {
        std::thread::yield_now();
    }
    let sent_at_least = server.get("/sessions");
    let folder = server.kill();
    let output = BufReader::new(phone.stdout.take().expect("piped")).lines();
    assert!(!phone.wait().expect("phone").success(), "the phone notices that its server is gone");
    drop(output);
    let (cut_off, _) = recorded(folder.path(), "killed");
    assert_eq!(cut_off.state, SidecarState::Recording);

    let server = Server::start_in(folder, settings, Command::new(program()), "127.0.0.1");
    let (sidecar, audio) = recorded(server.folder.path(), "killed");
    assert_eq!((sidecar.state, sidecar.recovered), (SidecarState::Ended, true));
    assert_eq!(sidecar.end_reason.as_deref(), Some("interrupted"));
    assert_eq!((audio.len() % 160, sidecar.data_bytes), (0, audio.len() as u64));
    let file = std::fs::read(&files(server.folder.path(), "wav")[0]).expect("file");
    let header = FileHeader::parse(&file).expect("header");
    assert_eq!(header.data_size as usize, audio.len());
    let packets = sent_at_least.split_once("\"packets\":").expect("status").1;
    let packets: usize = packets[..packets.find(',').expect("number")].parse().expect("number");
    assert!(audio.len() + 400 * 8 >= packets * 160, "{} octets of {packets} packets", audio.len());
    let (status, _) = server.terminate();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn recordings_that_the_disk_left_unfinished_are_finished_by_the_next_start_after_a_clean_end_too() {
    let server = Server::start("flush_interval_ms = 200\nrtp_ports = \"23210-23219\"\n");
    let mut phone = server.phone(&["--id", "left", "--seconds", "2"]).spawn().expect("python3");
    while recorded_if_any(server.folder.path(), "left").is_none_or(|(_, audio)| audio.len() < 8000) {
        std::thread::yield_now();
    }
    let day = files(server.folder.path(), "wav")[0].parent().expect("a folder").to_owned();
    let away = day.with_file_name("away");
    std::fs::rename(&day, &away).expect("renamed");
    phone.wait().expect("phone");
    let (status, folder) = server.terminate();
    assert_eq!(status.code(), Some(0));
    std::fs::rename(&away, &day).expect("renamed");
    assert_eq!(recorded(folder.path(), "left").0.state, SidecarState::Recording);

    let server = Server::start_in(folder, "", Command::new(program()), "127.0.0.1");
    let (sidecar, audio) = recorded(server.folder.path(), "left");
    assert_eq!((sidecar.state, sidecar.data_bytes), (SidecarState::Ended, audio.len() as u64));
    let (_, folder) = server.terminate();
    assert!(!folder.path().join("rec/.recordserver-open-since").exists(), "all is finished");
}

#[test]
fn a_second_server_on_the_same_folder_does_not_start_and_leaves_the_first_ones_mark() {
    let server = Server::start("rtp_ports = \"23200-23209\"\n");
    let storage = server.folder.path().join("rec");
    let second = Command::new(program())
        .args(["--listen", "127.0.0.1:0", "--http", "off", "--storage"])
        .arg(&storage)
        .output()
        .expect("recordserver");
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another recordserver uses this folder"), "{said}");
    assert!(storage.join(".recordserver-open-since").exists());
    assert_eq!(server.terminate().0.code(), Some(0));
}
