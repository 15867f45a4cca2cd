//! Recordings over TCP: the program against phones that speak the extension.

use crate::lasting_phone::{Phone, segments};
use crate::support::{Server, files, noise, program};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use recfile::sidecar::SidecarState;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use uplink::media_stream::hello;
use uplink::phone::End;

const CONFIRMED: End = End::Stopped { confirmed: true };

/// A server without UDP ports for more than one call.
fn server() -> Server {
    Server::start("rtp_ports = \"23400-23400\"\nflush_interval_ms = 1000\n")
}

#[test]
fn a_call_over_tcp_is_on_the_disk_bit_for_bit_when_its_end_is_confirmed() {
    let server = server();
    let mut phones: Vec<Phone> =
        (0..3).map(|number| Phone::start(&server, &format!("tcp{number}"))).collect();
    let status = server.get("/sessions");
    assert!(status.contains("\"transport\":\"tcp\""), "{status}");
    for (number, phone) in phones.iter_mut().enumerate() {
        phone.says(500 + 100 * number);
        assert_eq!(phone.ends(), CONFIRMED);
        let (sidecars, audio) = segments(server.folder.path(), &format!("tcp{number}"));
        assert_eq!(audio, phone.said(500 + 100 * number));
        let [sidecar] = &sidecars[..] else { panic!("{sidecars:?}") };
        assert_eq!(
            (sidecar.state, sidecar.end_reason.as_deref()),
            (SidecarState::Ended, Some("stopped: hangup"))
        );
        assert_eq!((sidecar.packets.lost, sidecar.gaps_total), (0, 0));
    }
    assert_eq!(server.terminate().0.code(), Some(0));
}

#[test]
fn items_are_acknowledged_when_they_are_durable_while_the_call_goes_on() {
    let server = server();
    let mut phone = Phone::start(&server, "acks");
    phone.says(200);
    phone.until("all of it is acknowledged", |phone| phone.is_done());
    let (sidecars, audio) = segments(server.folder.path(), "acks");
    assert_eq!((sidecars[0].state, &audio[..]), (SidecarState::Recording, phone.said(200)));
    phone.pauses();
    phone.until("the pause is acknowledged", |phone| phone.is_done());
    phone.resumes_after(1000);
    phone.says(100);
    phone.until("the rest is acknowledged", |phone| phone.is_done());
    assert!((3..9).contains(&phone.acknowledged), "{} acknowledgements", phone.acknowledged);
    // Killed, the server has told the truth.
    let folder = server.kill();
    assert_eq!(segments(folder.path(), "acks").1, phone.said(300));
}

#[test]
fn pauses_of_the_phone_are_pauses_in_the_sidecar() {
    let server = server();
    let mut phone = Phone::start(&server, "paused");
    phone.says(100);
    phone.pauses();
    phone.resumes_after(7000);
    phone.says(50);
    phone.pauses();
    phone.resumes_after(100);
    phone.says(1);
    assert_eq!(phone.ends(), CONFIRMED);
    let (sidecars, audio) = segments(server.folder.path(), "paused");
    assert_eq!(audio, phone.said(151));
    let pauses: Vec<(u64, u64)> = sidecars[0].pauses.iter().map(|it| (it.at_ms, it.duration_ms)).collect();
    assert_eq!(pauses, [(2000, 7000), (3000, 100)]);
    assert_eq!(sidecars[0].gaps_total, 0);
}

#[test]
fn a_call_without_packets_ends_as_it_should() {
    let server = server();
    let mut phone = Phone::start(&server, "empty");
    assert_eq!(phone.ends(), CONFIRMED);
    let (sidecars, _) = segments(server.folder.path(), "empty");
    assert!(sidecars[0].no_media);
}

#[test]
fn a_token_that_is_not_the_servers_closes_the_connection_and_harms_nobody() {
    let server = server();
    let mut phone = Phone::start(&server, "mine");
    let target = phone.media.as_ref().expect("it streams").peer_addr().expect("address");
    for token in ["", "x", "AQAA", &"A".repeat(240)] {
        closes(target, &hello(0, token));
    }
    closes(target, &noise(4096));
    closes(target, &[0, 0]);
    phone.says(50);
    assert_eq!(phone.ends(), CONFIRMED);
    assert_eq!(segments(server.folder.path(), "mine").1, phone.said(50));
    let log = server.terminate_for_log();
    assert!(log.contains("no token of a recording"), "{log}");
}

/// Says this, and waits until the server closes.
fn closes(target: SocketAddr, octets: &[u8]) {
    let mut stream = TcpStream::connect(target).expect("connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("option");
    let _ = stream.write_all(octets);
    match stream.read(&mut [0; 16]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn connections_that_say_nothing_are_bounded_and_keep_no_phone_out() {
    let server = server();
    let mut phone = Phone::start(&server, "first");
    let target = phone.media.as_ref().expect("it streams").peer_addr().expect("address");
    let open = || std::fs::read_dir(format!("/proc/{}/fd", server.process.id())).expect("proc").count();
    let before = open();
    let mut silent: Vec<TcpStream> = (0..700).filter_map(|_| TcpStream::connect(target).ok()).collect();
    silent.iter_mut().for_each(|stream| drop(stream.write_all(&[0])));
    let mut second = Phone::start(&server, "second");
    assert!(open() < before + 300, "{} after {before}", open());
    phone.says(50);
    second.says(50);
    assert_eq!((phone.ends(), second.ends()), (CONFIRMED, CONFIRMED));
    closes(target, &[]);
}

#[test]
fn a_phone_that_does_not_ask_and_a_server_that_does_not_grant_go_on_by_udp() {
    let server = server();
    let phone = server.phone(&["--id", "old"]).output().expect("python3");
    assert!(phone.status.success(), "{}", String::from_utf8_lossy(&phone.stdout));
    let said = String::from_utf8_lossy(&phone.stdout).into_owned();
    assert!(!said.contains("ext="), "{said}");
    drop(server);
    let server = Server::start("rtp_ports = \"23401-23401\"\nextensions = false\n");
    let mut stream = TcpStream::connect(server.control).expect("connection");
    let request = "cmd=RecordStartRequest&id=7f3a&codec=PCMA&ext=1&from=0&elapsed=0\n";
    stream.write_all(request.as_bytes()).expect("request");
    let mut answer = [0; 4096];
    let count = stream.read(&mut answer).expect("answer");
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(answer.ends_with("port=23401\n") && !answer.contains("ext="), "{answer}");
    assert!(!files(server.folder.path(), "json").iter().any(|path| path.ends_with(".uplink-secret")));
}

/// Numbers that look random, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn few(&mut self, limit: u64) -> usize {
        usize::try_from(self.below(limit)).expect("small")
    }
}

#[test]
fn a_call_is_whole_however_its_connections_are_cut_and_the_disk_has_it_in_one_file() {
    let server = server();
    let mut numbers = Numbers(7);
    let mut phone = Phone::start(&server, "cut");
    let mut said = 0;
    for _ in 0..100 {
        let packets = numbers.few(40);
        phone.says(packets);
        said += packets;
        phone.goes_on_for(Duration::from_millis(numbers.below(40)));
        phone.is_cut(numbers.below(2) == 0, numbers.below(2) == 0);
    }
    phone.until("it is back", |phone| phone.media.is_some());
    assert_eq!(phone.ends(), CONFIRMED);
    assert!(phone.interruptions > 50, "{}", phone.interruptions);
    let (sidecars, audio) = segments(server.folder.path(), "cut");
    assert!(audio == phone.said(said), "{} octets of {}", audio.len(), said * 160);
    assert_eq!((sidecars.len(), sidecars[0].gaps_total, sidecars[0].packets.duplicate), (1, 0, 0));
    assert_eq!(server.terminate().0.code(), Some(0));
}

#[test]
fn an_end_during_a_break_and_an_end_whose_answer_is_lost_are_confirmed() {
    let server = server();
    let mut phone = Phone::start(&server, "break");
    phone.says(100);
    phone.is_cut(true, false);
    phone.says(100);
    assert_eq!(phone.ends(), CONFIRMED);
    assert_eq!(segments(server.folder.path(), "break").1, phone.said(200));
    // Before the disk has it, after it was told, and long after.
    for (number, wait_ms) in [0, 50, 300, 2500].into_iter().enumerate() {
        let id = format!("lost{number}");
        let mut phone = Phone::start(&server, &id);
        phone.says(60);
        phone.goes_on_for(Duration::from_millis(100));
        phone.stops();
        crate::support::wait(Duration::from_millis(wait_ms));
        phone.is_cut(false, true);
        phone.until("it ends", |phone| phone.end.is_some());
        assert_eq!(phone.end, Some(CONFIRMED), "{wait_ms}");
        let (sidecars, audio) = segments(server.folder.path(), &id);
        assert_eq!((sidecars.len(), &audio[..]), (1, phone.said(60)));
    }
}

#[test]
fn a_recording_whose_phone_does_not_come_back_ends_after_a_while_and_holds_up_no_end() {
    let server = Server::start("rtp_ports = \"23402-23402\"\n[limits]\nresume_within_s = 1\n");
    let mut phone = Phone::start(&server, "left");
    phone.says(100);
    phone.until("all is there", |phone| phone.is_done());
    drop(phone);
    let other = Phone::start(&server, "stays");
    crate::support::wait(Duration::from_millis(500));
    assert!(server.get("/sessions").contains("\"waits\":true"));
    crate::support::wait(Duration::from_millis(1500));
    let (sidecars, audio) = segments(server.folder.path(), "left");
    assert_eq!((sidecars[0].end_reason.as_deref(), audio.len()), (Some("connection_lost"), 16_000));
    drop(other);
    let (status, folder) = server.terminate();
    assert_eq!(status.code(), Some(0));
    assert_eq!(segments(folder.path(), "stays").0[0].end_reason.as_deref(), Some("shutdown"));
}

const SETTINGS: &str = "rtp_ports = \"23403-23403\"\nflush_interval_ms = 1000\n";

fn again(folder: tempfile::TempDir) -> Server {
    Server::start_in(folder, SETTINGS, std::process::Command::new(program()), "127.0.0.1")
}

#[test]
fn a_call_over_servers_that_are_killed_or_end_is_whole_in_the_segments_of_one_recording() {
    let mut server = Some(Server::start(SETTINGS));
    let mut numbers = Numbers(1);
    let mut phone = Phone::start(server.as_ref().expect("one"), "crash");
    let mut said = 0;
    for round in 0..8_u32 {
        for _ in 0..numbers.few(6) {
            let packets = numbers.few(60);
            phone.says(packets);
            said += packets;
            phone.goes_on_for(Duration::from_millis(numbers.below(400)));
        }
        if round == 3 {
            phone.pauses();
            phone.resumes_after(3000);
        }
        let former = server.take().expect("one");
        let folder = if round % 3 == 2 { former.terminate().1 } else { former.kill() };
        phone.goes_on_for(Duration::from_millis(5));
        let next = again(folder);
        phone.finds(&next);
        server = Some(next);
    }
    phone.says(50);
    said += 50;
    assert_eq!(phone.ends(), CONFIRMED);
    let server = server.expect("one");
    let (sidecars, audio) = segments(server.folder.path(), "crash");
    let same = audio.iter().zip(phone.said(said)).take_while(|(one, other)| one == other).count();
    assert!(audio == phone.said(said), "{} octets of {}, {same} the same", audio.len(), said * 160);
    assert!(sidecars.len() > 3, "{} files", sidecars.len());
    assert!(
        sidecars.iter().all(|it| it.state == SidecarState::Ended && it.uplink_id.as_deref() == Some("crash"))
    );
    assert_eq!(sidecars.iter().map(|it| it.gaps_total).sum::<u64>(), 0);
    let journal = std::fs::read_to_string(server.folder.path().join("rec/.journal")).expect("journal");
    assert_eq!(
        journal.lines().filter(|line| line.contains("\"recording\":\"crash\"")).count(),
        sidecars.len()
    );
}

#[test]
fn an_end_whose_answer_is_lost_with_the_server_is_confirmed_by_the_next_one_without_another_file() {
    let server = Server::start(SETTINGS);
    let mut phone = Phone::start(&server, "ended");
    phone.says(100);
    phone.until("all is there", |phone| phone.is_done());
    phone.stops();
    crate::support::wait(Duration::from_millis(1500));
    let next = again(server.kill());
    phone.finds(&next);
    phone.until("it ends", |phone| phone.end.is_some());
    assert_eq!(phone.end, Some(CONFIRMED));
    let (sidecars, audio) = segments(next.folder.path(), "ended");
    assert_eq!((sidecars.len(), &audio[..]), (1, phone.said(100)));
}

#[test]
fn audio_for_which_the_server_has_no_memory_stays_at_the_phones_until_it_has() {
    let server = Server::start("rtp_ports = \"23404-23404\"\nbuffer = \"1 MiB\"\n");
    let packets = 2000;
    let mut phones: Vec<Phone> =
        (0..8).map(|number| Phone::start(&server, &format!("much{number}"))).collect();
    phones.iter_mut().for_each(|phone| phone.says(packets));
    // All at once: four times the memory.
    for _ in 0..400 {
        phones.iter_mut().for_each(Phone::step);
    }
    for (number, phone) in phones.iter_mut().enumerate() {
        assert_eq!(phone.ends(), CONFIRMED);
        let (sidecars, audio) = segments(server.folder.path(), &format!("much{number}"));
        assert!(audio == phone.said(packets), "{} octets", audio.len());
        assert_eq!((sidecars[0].packets.dropped, sidecars[0].gaps_total), (0, 0));
    }
}

#[test]
fn a_pause_over_the_idle_time_ends_nothing() {
    let server = Server::start("rtp_ports = \"23405-23405\"\n[limits]\nidle_timeout_s = 1\n");
    let mut phone = Phone::start(&server, "long");
    phone.says(50);
    phone.pauses();
    phone.goes_on_for(Duration::from_secs(3));
    phone.resumes_after(3000);
    phone.says(50);
    assert_eq!(phone.ends(), CONFIRMED);
    let (sidecars, audio) = segments(server.folder.path(), "long");
    assert_eq!((sidecars.len(), audio.len(), sidecars[0].pauses[0].duration_ms), (1, 16_000, 3000));
}

/// The thread that writes to the disk.
fn storage_thread(server: &Server) -> Pid {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.process.id())).expect("proc");
    let is_storage = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "storage")
    };
    let path = tasks.flatten().map(|task| task.path()).find(is_storage).expect("it has one");
    Pid::from_raw(path.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number"))
}

#[test]
fn a_disk_that_stands_still_costs_no_audio_however_much_comes_meanwhile() {
    let settings = "rtp_ports = \"23406-23406\"\nbuffer = \"1 MiB\"\nsandbox = false\n";
    let server = Server::start(settings);
    let mut phones: Vec<Phone> =
        (0..4).map(|number| Phone::start(&server, &format!("still{number}"))).collect();
    for phone in &mut phones {
        phone.says(100);
        phone.until("the disk has it", |phone| phone.is_done());
    }
    let thread = storage_thread(&server);
    if let Err(error) = ptrace::seize(thread, ptrace::Options::empty()) {
        eprintln!("no thread can be stopped here: {error}");
        return;
    }
    ptrace::interrupt(thread).expect("it stops");
    waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it has stopped");
    let packets = 2600;
    for _ in 0..25 {
        phones.iter_mut().for_each(|phone| phone.says(100));
        for _ in 0..20 {
            phones.iter_mut().for_each(Phone::step);
        }
    }
    assert!(phones.iter().all(|phone| phone.interruptions == 0 && !phone.is_done()), "they only wait");
    ptrace::detach(thread, None).expect("it goes on");
    for (number, phone) in phones.iter_mut().enumerate() {
        assert_eq!(phone.ends(), CONFIRMED);
        let (sidecars, audio) = segments(server.folder.path(), &format!("still{number}"));
        assert!(audio == phone.said(packets), "{} octets", audio.len());
        assert_eq!((sidecars[0].packets.dropped, sidecars[0].gaps_total), (0, 0));
    }
}
