//! The journal of the program: a line for each finished file, for every kind of end, and after a crash, too.

use crate::limits::{Phone, port};
use crate::support::{Server, files, program, recorded_if_any, wait};
use recfile::header::HEADER_OCTETS;
use recfile::sidecar::{Sidecar, SidecarState};
use recordserver::journal::{Line, MAX_FILE_OCTETS};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The lines of one file of the journal; it has whole lines only.
fn lines(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).expect("a journal");
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| Line::parse(line.as_bytes()).expect("a line")).collect()
}

fn journal(folder: &Path) -> PathBuf {
    folder.join("rec/.journal")
}

/// The hash of a file's audio, by a program that is not ours.
fn hash(wav: &Path) -> String {
    let octets = std::fs::read(wav).expect("a file");
    let mut program =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sha256sum");
    program.stdin.take().expect("piped").write_all(&octets[HEADER_OCTETS..]).expect("takes it");
    let said = program.wait_with_output().expect("a hash").stdout;
    String::from_utf8_lossy(&said)[..64].to_owned()
}

/// The journal has each finished file once, with the fields of its sidecar and the hash of the file.
fn is_complete(folder: &Path) -> Vec<Line> {
    let listed = lines(&journal(folder));
    let by_file: BTreeMap<&str, &Line> = listed.iter().map(|line| (line.file.as_str(), line)).collect();
    assert_eq!(by_file.len(), listed.len(), "a file is listed twice: {listed:?}");
    let there = files(&folder.join("rec"), "wav");
    assert_eq!(there.len(), listed.len(), "{listed:?}");
    for wav in there {
        let file = wav.strip_prefix(folder.join("rec")).expect("below it").to_str().expect("text");
        let line = by_file.get(file).unwrap_or_else(|| panic!("{file} is not in {listed:?}"));
        let sidecar = Sidecar::parse(&std::fs::read(wav.with_extension("json")).expect("a sidecar")).unwrap();
        assert_eq!(sidecar.state, SidecarState::Ended);
        assert_eq!((&line.recording, line.segment), (&sidecar.recording, sidecar.segment));
        assert_eq!(line.sha256, Some(hash(&wav)), "{file}");
    }
    listed
}

fn records(server: &Server, arguments: &[&str]) {
    let phone = server.phone(arguments).output().expect("python3");
    assert!(phone.status.success(), "{}", String::from_utf8_lossy(&phone.stdout));
}

/// Waits until the sidecar of a recording is final.
fn await_end(server: &Server, id: &str) {
    while recorded_if_any(server.folder.path(), id).is_none_or(|(it, _)| it.state != SidecarState::Ended) {
        std::thread::yield_now();
    }
}

#[test]
fn the_journal_has_a_line_of_each_file_however_its_recording_ends_and_of_each_segment() {
    let server = Server::start("rtp_ports = \"24000-24009\"\nmax_file_size = 8192\n");
    records(&server, &["--id", "long", "--seconds", "3", "--speed", "8"]);
    records(&server, &["--id", "reset", "--seconds", "0.5", "--speed", "8", "--end", "reset"]);
    records(&server, &["--id", "mute", "--seconds", "0"]);
    let mut open = server.phone(&["--id", "open", "--seconds", "60"]).spawn().expect("python3");
    while recorded_if_any(server.folder.path(), "open").is_none() {
        std::thread::yield_now();
    }
    let (status, folder) = server.terminate();
    assert_eq!(status.code(), Some(0));
    open.wait().expect("phone");
    let listed = is_complete(folder.path());
    let segments = |id: &str| -> Vec<u32> {
        listed.iter().filter(|line| line.recording == id).map(|line| line.segment).collect()
    };
    assert_eq!(segments("long"), [1, 2, 3], "in order");
    assert_eq!([segments("reset"), segments("mute"), segments("open")], [[1], [1], [1]]);
}

#[test]
fn another_codec_in_mid_call_gives_two_lines() {
    let server = Server::start("rtp_ports = \"24010-24019\"\n");
    let mut phone = Phone::at([127, 0, 0, 1], &server);
    let to = port(&phone.starts("codecs"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    for number in 0..40_u16 {
        let mut packet = vec![0x80, if number < 20 { 8 } else { 0 }];
        packet.extend_from_slice(&number.to_be_bytes());
        packet.extend_from_slice(&(u32::from(number) * 160).to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 7]);
        packet.extend_from_slice(&[0x42; 160]);
        socket.send_to(&packet, ("127.0.0.1", to)).expect("loopback");
        wait(Duration::from_millis(20));
    }
    phone.stops("codecs");
    let (_, folder) = server.terminate();
    let listed = is_complete(folder.path());
    assert_eq!(listed.iter().map(|line| line.segment).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_crash_loses_no_line_whether_it_cut_off_a_recording_or_the_journal() {
    let settings = "flush_interval_ms = 400\nrtp_ports = \"24020-24029\"\n";
    let server = Server::start(settings);
    records(&server, &["--id", "first", "--seconds", "0.5"]);
    records(&server, &["--id", "second", "--seconds", "0.5"]);
    let mut open = server.phone(&["--id", "killed", "--seconds", "60"]).spawn().expect("python3");
    while recorded_if_any(server.folder.path(), "killed").is_none_or(|(_, audio)| audio.len() < 8000) {
        std::thread::yield_now();
    }
    let folder = server.kill();
    open.wait().expect("phone");
    let path = journal(folder.path());
    let before: Vec<String> = lines(&path).into_iter().map(|line| line.recording).collect();
    assert_eq!(before, ["first", "second"], "durable when the call counts as ended");
    // The last line, as a power cut can leave it.
    let octets = std::fs::read(&path).expect("a journal");
    std::fs::write(&path, &octets[..octets.len() - 40]).expect("torn");

    let server = Server::start_in(folder, settings, Command::new(program()), "127.0.0.1");
    records(&server, &["--id", "next", "--seconds", "0.5"]);
    let (_, folder) = server.terminate();
    let mut ids: Vec<String> = is_complete(folder.path()).into_iter().map(|line| line.recording).collect();
    assert_eq!(ids.pop().as_deref(), Some("next"));
    ids.sort_unstable();
    assert_eq!(ids, ["first", "killed", "second"]);
}

#[test]
fn a_journal_that_can_not_be_written_costs_no_recording_and_its_lines_come_later() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("rec")).expect("folder");
    let victim = folder.path().join("victim");
    symlink(&victim, journal(folder.path())).expect("link");
    let settings = "flush_interval_ms = 400\nrtp_ports = \"24030-24039\"\n";
    let server = Server::start_in(folder, settings, Command::new(program()), "127.0.0.1");
    records(&server, &["--id", "one", "--seconds", "0.5"]);
    await_end(&server, "one");
    let path = journal(server.folder.path());
    std::fs::remove_file(&path).expect("link removed");
    // Without any other recording.
    while std::fs::read(&path).map_or(true, |octets| octets.is_empty()) {
        std::thread::yield_now();
    }
    is_complete(server.folder.path());

    // The next start finds the files of the folder that this one can't list.
    std::fs::rename(&path, server.folder.path().join("aside")).expect("moved");
    std::fs::create_dir(&path).expect("an obstacle");
    records(&server, &["--id", "two", "--seconds", "0.5"]);
    let (status, folder) = server.terminate();
    assert_eq!(status.code(), Some(0));
    std::fs::remove_dir(&path).expect("removed");
    std::fs::rename(folder.path().join("aside"), &path).expect("moved back");
    let server = Server::start_in(folder, settings, Command::new(program()), "127.0.0.1");
    assert_eq!(is_complete(server.folder.path()).len(), 2);
    assert!(!victim.exists(), "no link is followed");
    let log = server.terminate_for_log();
    assert!(!log.contains("journal_behind"), "{log}");
}

#[test]
fn the_log_says_that_the_journal_is_behind_and_the_cause() {
    let server = Server::start("flush_interval_ms = 400\nrtp_ports = \"24040-24049\"\n");
    let path = journal(server.folder.path());
    std::fs::remove_file(&path).expect("the empty journal of the start");
    std::fs::create_dir(&path).expect("an obstacle");
    records(&server, &["--id", "one", "--seconds", "0.2"]);
    let log = server.terminate_for_log();
    assert_eq!(log.matches("journal_behind").count(), 1, "{log}");
    assert!(log.contains(".journal") && log.contains("is no file but a folder"), "{log}");
}

#[test]
fn a_full_journal_gets_a_number_and_no_line_is_lost() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("rec")).expect("folder");
    let full = "{}\n".repeat(usize::try_from(MAX_FILE_OCTETS / 3).expect("fits"));
    std::fs::write(journal(folder.path()), &full).expect("a full journal");
    let settings = "rtp_ports = \"24050-24059\"\n";
    let server = Server::start_in(folder, settings, Command::new(program()), "127.0.0.1");
    records(&server, &["--id", "one", "--seconds", "0.2"]);
    records(&server, &["--id", "two", "--seconds", "0.2"]);
    let (_, folder) = server.terminate();
    assert_eq!(is_complete(folder.path()).len(), 2);
    assert_eq!(std::fs::read_to_string(folder.path().join("rec/.journal.1")).expect("moved"), full);
}

#[test]
fn a_line_that_fits_by_half_is_taken_back_and_comes_whole_when_there_is_room() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("rec")).expect("folder");
    // The system's limit of a file ends in the middle of the first line.
    let limit = 6 << 20;
    let before = format!("{}\n", " ".repeat(limit - 51));
    std::fs::write(journal(folder.path()), &before).expect("a journal");
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--fsize={limit}:")).arg(program());
    let settings = "flush_interval_ms = 400\nrtp_ports = \"24060-24069\"\n";
    let server = Server::start_in(folder, settings, limited, "127.0.0.1");
    let path = journal(server.folder.path());
    // When the second is final, the line of the first has been tried.
    for id in ["one", "two"] {
        records(&server, &["--id", id, "--seconds", "0.2"]);
        await_end(&server, id);
    }
    let pid = server.process.id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:"]).status();
    assert!(raised.expect("prlimit").success());
    while !std::fs::read_to_string(&path).expect("a journal").ends_with("}\n") {
        std::thread::yield_now();
    }
    let text = std::fs::read_to_string(&path).expect("a journal");
    let added = text.strip_prefix(&before).expect("what was there before").lines();
    let ids: Vec<String> =
        added.map(|line| Line::parse(line.as_bytes()).expect("a line").recording).collect();
    assert_eq!(ids, ["one", "two"]);
    let log = server.terminate_for_log();
    assert_eq!(
        (log.matches("journal_behind").count(), log.matches("journal_caught_up").count()),
        (1, 1),
        "{log}"
    );
}
