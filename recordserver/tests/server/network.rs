//! Bad networks: loss and disorder on the way, a server that is not scheduled, and a link that is cut without
//! a word, in network namespaces of the test's own (needs root and iproute2; says so where it can't run).

use crate::support::{PHONE, Server, program, recorded, recorded_if_any};
use nix::sys::signal::Signal;
use os::clock;
use recfile::sidecar::SidecarState;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const RELAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/peers/lossy.py");

/// A child that is ended with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn piped(command: &mut Command) -> (Ends, impl Iterator<Item = String> + use<>) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("spawn");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    (Ends(child), lines)
}

#[test]
fn two_percent_loss_and_disorder_on_the_media_path_give_a_file_as_long_as_the_call() {
    let server = Server::start("rtp_ports = \"23140-23149\"\n");
    let control = server.control.to_string();
    let mut relay = Command::new("python3");
    relay.args([RELAY, "--server", &control, "--seed", "11"]);
    let (relay, mut lines) = piped(&mut relay);
    let listening = lines.find(|line| line.contains("listening")).expect("relay");
    let port = listening.rsplit_once("\"port\": ").expect("port").1.trim_end_matches('}').to_owned();
    let phone = Command::new("python3")
        .args([PHONE, "--server", &format!("127.0.0.1:{port}"), "--id", "lossy"])
        .args(["--seconds", "20", "--speed", "8", "--terminator", "lf", "--seed", "5"])
        .output()
        .expect("python3");
    assert!(phone.status.success(), "{}", String::from_utf8_lossy(&phone.stdout));
    drop(relay);
    let (_, folder) = server.terminate();
    let (sidecar, audio) = recorded(folder.path(), "lossy");
    assert_eq!(audio.len(), 160_000, "{sidecar:?}");
    assert!(sidecar.packets.lost > 0 && sidecar.packets.dropped == 0, "{sidecar:?}");
    assert_eq!(sidecar.packets.received + sidecar.packets.lost, 1000, "{sidecar:?}");
}

/// Two hosts and the cable between them.
struct Cable {
    phone: String,
    server: String,
}

impl Cable {
    const SERVER: &'static str = "10.213.77.1";

    /// `None`, with the reason said, where the system does not let us.
    fn lay() -> Option<Self> {
        let id = std::process::id();
        let cable = Self { phone: format!("rsp{id}"), server: format!("rss{id}") };
        let (phone, server) = (&cable.phone, &cable.server);
        let steps = [
            format!("netns add {phone}"),
            format!("netns add {server}"),
            format!("-n {phone} link add eth0 type veth peer name eth0 netns {server}"),
            format!("-n {phone} addr add 10.213.77.2/24 dev eth0"),
            format!("-n {server} addr add {}/24 dev eth0", Self::SERVER),
            format!("-n {phone} link set eth0 up"),
            format!("-n {server} link set eth0 up"),
            format!("-n {server} link set lo up"),
        ];
        for step in &steps {
            let output = Command::new("ip").args(step.split(' ')).output();
            let failure = match output {
                Ok(output) if output.status.success() => continue,
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(std::env::var_os("RECORDER_TESTS_REQUIRE_ALL").is_none(), "ip {step}: {failure}");
            eprintln!("SKIPPED: network namespaces take root and iproute2: ip {step}: {failure}");
            return None;
        }
        Some(cable)
    }

    fn command(namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }

    fn cut(&self) {
        let cut = Command::new("ip").args(["-n", &self.phone, "link", "set", "eth0", "down"]).status();
        assert!(cut.expect("ip").success());
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in [&self.phone, &self.server] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).stderr(Stdio::null()).status();
        }
    }
}

#[test]
fn a_link_that_is_cut_without_a_word_ends_the_recording_within_ten_seconds() {
    let Some(cable) = Cable::lay() else { return };
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("rec")).expect("folder");
    let program = Cable::command(&cable.server, &program());
    let settings = "flush_interval_ms = 200\n";
    let server = Server::start_in(folder, settings, program, Cable::SERVER);
    let mut phone = Cable::command(&cable.phone, "python3");
    phone.args([PHONE, "--server", &server.control.to_string(), "--id", "cut", "--seconds", "60"]);
    let (_phone, mut lines) = piped(&mut phone);
    lines.find(|line| line.contains("\"started\"")).expect("started");

    let wait_for = |what: &str, within: Duration, done: &dyn Fn(&[u8], SidecarState) -> bool| {
        let deadline = clock::mono() + within;
        while clock::mono() < deadline {
            let found = recorded_if_any(server.folder.path(), "cut");
            if found.is_some_and(|(sidecar, audio)| done(&audio, sidecar.state)) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("{what} did not happen within {within:?}");
    };
    wait_for("a second of audio", Duration::from_secs(10), &|audio, _| audio.len() >= 8000);
    cable.cut();
    // Ten seconds to notice, one to finish the file.
    wait_for("the end", Duration::from_secs(11), &|_, state| state == SidecarState::Ended);
    let (sidecar, audio) = recorded(server.folder.path(), "cut");
    assert_eq!(sidecar.end_reason.as_deref(), Some("connection_lost"));
    assert_eq!((audio.len() as u64, sidecar.packets.lost), (sidecar.data_bytes, 0));
}

#[test]
fn packets_that_the_kernel_drops_are_lost_and_told_in_a_count_of_their_own() {
    let server = Server::start("rtp_ports = \"23160-23169\"\n");
    let mut control = TcpStream::connect(server.control).expect("connection");
    control.write_all(b"cmd=RecordStartRequest&id=late&device=d&codec=PCMA\n").expect("sends");
    let mut answer = String::new();
    let mut answers = BufReader::new(control.try_clone().expect("clone"));
    answers.read_line(&mut answer).expect("answer");
    let port: u16 = answer.trim_end().rsplit_once("port=").expect("port").1.parse().expect("port");

    // The server is not scheduled for a minute of the call: more than its socket holds.
    server.signal(Signal::SIGSTOP);
    let media = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    for number in 0..3000_u32 {
        let mut packet = vec![0x80, 8];
        packet.extend_from_slice(&number.to_be_bytes()[2..]);
        packet.extend_from_slice(&(number * 160).to_be_bytes());
        packet.extend_from_slice(&[0, 0, 0, 9]);
        packet.extend_from_slice(&[0x55; 160]);
        media.send_to(&packet, ("127.0.0.1", port)).expect("loopback");
    }
    server.signal(Signal::SIGCONT);
    control.write_all(b"cmd=RecordStopRequest&id=late&reason=hangup\n").expect("sends");
    answer.clear();
    answers.read_line(&mut answer).expect("answer");
    let metrics = server.get("/metrics");
    let overruns = metrics.lines().find_map(|line| line.strip_prefix("recordserver_packets_overrun_total "));
    let overruns: u64 = overruns.expect("metric").parse().expect("number");
    assert!(overruns > 0, "{metrics}");
    let (_, folder) = server.terminate();
    let (sidecar, audio) = recorded(folder.path(), "late");
    let packets = &sidecar.packets;
    assert_eq!((packets.received + packets.lost, packets.lost), (3000, packets.overrun), "{sidecar:?}");
    assert_eq!((packets.dropped, packets.strangers, packets.overrun), (0, 0, overruns), "{sidecar:?}");
    assert_eq!(audio.len() as u64, (3000 - overruns) * 160, "the end is not there");
}
