//! The program against phones in Python that know nothing but the source document (tests/peers).

use crate::support::{Server, files, noise, program, recorded};
use recfile::sidecar::SidecarState;
use recordserver::tokens::SECRET;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command};

#[test]
fn many_phones_at_once_are_stored_bit_by_bit_however_they_cut_swap_and_end() {
    let server = Server::start("rtp_ports = \"23000-23099\"\n");
    let payload = server.folder.path().join("payload");
    std::fs::write(&payload, noise(16_000)).expect("payload");
    let payload = payload.to_str().expect("path");
    let ways: [&[&str]; 4] = [
        &["--id", "plain", "--device", "00:11:22:33:44:55"],
        &["--id", "lines", "--terminator", "crlf", "--swap", "0.2", "--twice", "0.2", "--seed", "7"],
        &["--id", "reset", "--codec", "G722", "--end", "reset"],
        &["--id", "zero", "--terminator", "nul", "--codec", "pcmu", "--size", "240"],
    ];
    let phones: Vec<Child> = ways
        .iter()
        .map(|way| {
            let mut phone = server.phone(&["--payload", payload, "--speed", "4"]);
            phone.args(*way).spawn().expect("python3")
        })
        .collect();
    for phone in phones {
        let output = phone.wait_with_output().expect("phone");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let (status, folder) = server.terminate();
    assert_eq!(status.code(), Some(0));
    for (id, reason) in [
        ("plain", "stopped: hangup"),
        ("lines", "stopped: hangup"),
        ("reset", "connection_lost"),
        ("zero", "stopped: hangup"),
    ] {
        let (sidecar, audio) = recorded(folder.path(), id);
        assert_eq!((sidecar.end_reason.as_deref(), sidecar.state), (Some(reason), SidecarState::Ended));
        let expected = noise(16_000);
        assert!(audio.starts_with(&expected), "{id}: {} of {} octets", audio.len(), expected.len());
        assert!(audio.len() - expected.len() < 240, "only the last frame may be padded");
        assert_eq!((sidecar.packets.lost, sidecar.packets.dropped), (0, 0));
    }
    let first = files(&folder.path().join("rec/00:11:22:33:44:55"), "wav");
    assert_eq!(first.len(), 1, "one folder to a device");
}

#[test]
fn loss_on_the_way_keeps_the_length_of_the_call() {
    let server = Server::start("rtp_ports = \"23100-23109\"\n");
    let output = server
        .phone(&["--id", "lossy", "--seconds", "2", "--speed", "4", "--loss", "0.05", "--seed", "3"])
        .output()
        .expect("python3");
    assert!(output.status.success());
    let (_, folder) = server.terminate();
    let (sidecar, audio) = recorded(folder.path(), "lossy");
    assert_eq!(audio.len(), 16_000);
    assert!(sidecar.packets.lost > 0 && sidecar.gap_ms_total == sidecar.packets.lost * 20, "{sidecar:?}");
}

#[test]
fn a_range_without_a_free_port_refuses_by_reason_and_sigterm_finalises_running_recordings() {
    let server = Server::start("rtp_ports = \"23110-23110\"\n");
    let mut first = server.phone(&["--id", "first", "--seconds", "30"]).spawn().expect("python3");
    let mut lines = BufReader::new(first.stdout.take().expect("piped")).lines();
    let mut wait_for = |event: &str| {
        let wanted = format!("\"event\": \"{event}\"");
        lines.by_ref().map_while(Result::ok).find(|line| line.contains(&wanted)).expect("event")
    };
    wait_for("started");
    let refused = server.phone(&["--id", "second"]).output().expect("python3");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("no free RTP port on the server"));

    // Another program's packets to the same port are nobody's.
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    while !server.get("/sessions").contains("Record_") {}
    stranger.send_to(&[0x80, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 1, 1], "127.0.0.1:23110").expect("loopback");
    let metrics = server.get("/metrics");
    assert!(metrics.contains("recordserver_sessions 1"), "{metrics}");
    assert!(metrics.contains("recordserver_refused_total{reason=\"ports\"} 1"), "{metrics}");

    let (status, folder) = server.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(wait_for("stopped_by_server").contains("shutdown"));
    assert!(first.wait().expect("phone").success());
    let (sidecar, audio) = recorded(folder.path(), "first");
    assert_eq!((sidecar.end_reason.as_deref(), sidecar.state), (Some("shutdown"), SidecarState::Ended));
    assert!(!audio.is_empty() && sidecar.packets.dropped == 0, "{sidecar:?}");
    assert!(sidecar.packets.strangers == 1 && sidecar.contested, "{sidecar:?}");
    assert!(sidecar.peer.is_some_and(|peer| peer.starts_with("127.0.0.1:")));
}

#[test]
fn too_much_from_one_address_and_too_little_room_are_refused_with_words() {
    let server = Server::start("reserve = \"1000000 GiB\"\nrtp_ports = \"23120-23129\"\n");
    let refused = server.phone(&[]).output().expect("python3");
    assert!(String::from_utf8_lossy(&refused.stdout).contains("disk full on the server"));

    let server = Server::start("rtp_ports = \"23130-23139\"\n[limits]\nconnections_per_address = 1\n");
    let _first = TcpStream::connect(server.control).expect("connection");
    let mut second = TcpStream::connect(server.control).expect("connection");
    assert_eq!(second.read(&mut [0; 16]).expect("closed"), 0);
}

#[test]
fn a_connection_that_never_starts_is_closed() {
    let server = Server::start("[limits]\nstart_timeout_ms = 100\n");
    let mut stream = TcpStream::connect(server.control).expect("connection");
    stream.write_all(b"cmd=RecordSta").expect("sends");
    assert_eq!(stream.read(&mut [0; 16]).expect("closed"), 0);
}

#[test]
fn settings_that_make_no_sense_end_the_program_with_status_2_and_a_missing_folder_with_1() {
    let run = |arguments: &[&str]| Command::new(program()).args(arguments).output().expect("recordserver");
    assert_eq!(run(&["--listen", "nowhere"]).status.code(), Some(2));
    let missing = run(&["--listen", "127.0.0.1:0", "--storage", "/nonexistent", "--http", "off"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nonexistent"));
    assert!(run(&["--help"]).stdout.starts_with(b"Records what phones upload"));
}

#[test]
fn the_log_names_the_file_of_a_recording_that_had_no_audio() {
    let server = Server::start("rtp_ports = \"23220-23229\"\n");
    let output = server.phone(&["--id", "mute", "--seconds", "0"]).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let log = server.terminate_for_log();
    let line = log.lines().find(|line| line.contains("session_ended id=\"mute\"")).expect("a line");
    assert!(line.contains("/Record_") && line.contains(".wav\" seconds="), "{line}");
}

/// Modes of everything below a folder: of files, and of folders.
fn modes(folder: &Path) -> (Vec<u32>, Vec<u32>) {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let mode = entry.metadata().expect("facts").permissions().mode() & 0o777;
        if entry.path().is_dir() {
            let below = modes(&entry.path());
            files.extend(below.0);
            folders.extend(below.1);
            folders.push(mode);
        } else if entry.file_name() == SECRET {
            assert_eq!(mode, 0o600, "its secret is the server's alone");
        } else {
            files.push(mode);
        }
    }
    (files, folders)
}

#[test]
fn recordings_are_the_servers_alone_or_for_a_group_that_is_named() {
    let own = std::fs::metadata("/proc/self").expect("facts");
    // Root may give files to any group, also when it has given up other privileges.
    let gid = if own.uid() == 0 { 4242 } else { own.gid() };
    let for_group = format!("rtp_ports = \"23470-23479\"\nrecordings_group = \"{gid}\"\n");
    for (settings, file, folder) in
        [("rtp_ports = \"23470-23479\"\n", 0o600, 0o700), (&for_group, 0o640, 0o750)]
    {
        let server = Server::start(settings);
        let phone = server.phone(&["--id", "modes", "--seconds", "0.2"]).output().expect("python3");
        assert!(phone.status.success(), "{}", String::from_utf8_lossy(&phone.stdout));
        let (_, dir) = server.terminate();
        let found = modes(&dir.path().join("rec"));
        assert_eq!(found, (vec![file; 4], vec![folder; 2]), "the journal and the ids, too");
        let wanted = if file == 0o640 { gid } else { own.gid() };
        for wav in files(dir.path(), "wav") {
            assert_eq!(std::fs::metadata(&wav).expect("facts").gid(), wanted);
        }
    }
}

#[test]
fn a_link_in_place_of_a_devices_folder_is_not_followed() {
    let folder = tempfile::tempdir().expect("folder");
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("folder");
    std::fs::create_dir(folder.path().join("rec")).expect("folder");
    std::os::unix::fs::symlink(&elsewhere, folder.path().join("rec/linked")).expect("link");
    let settings = "rtp_ports = \"23480-23489\"\n";
    let server = Server::start_in(folder, settings, Command::new(program()), "127.0.0.1");
    for (device, well) in [("linked", false), ("plain", true)] {
        let arguments = ["--id", device, "--device", device, "--seconds", "0.2"];
        let phone = server.phone(&arguments).output().expect("python3");
        let told = String::from_utf8_lossy(&phone.stdout);
        assert_eq!(!told.contains("\"reason\": \"storage_io\""), well, "{told}");
    }
    assert_eq!(std::fs::read_dir(server.folder.path().join("elsewhere")).expect("folder").count(), 0);
    assert!(server.terminate_for_log().contains("linked is a link"));
}
