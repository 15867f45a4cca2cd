//! Senders of a call: strangers, forgers, floods, NATs and senders that begin again, at the program as a
//! whole.

use crate::limits::{Phone, port};
use crate::support::{Server, program, recorded, wait};
use os::clock;
use recfile::sidecar::Sidecar;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const FRAME: usize = 160;

fn rtp(ssrc: u32, seq: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend_from_slice(&seq.to_be_bytes());
    packet.extend_from_slice(&timestamp.to_be_bytes());
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// A frame that says which one it is; `who` is not 0xD5, which is silence.
fn frame(who: u8, number: u16) -> [u8; FRAME] {
    let [high, low] = number.to_be_bytes();
    let mut frame = [who; FRAME];
    (frame[0], frame[1]) = (high, low);
    frame
}

/// The frames of `who` in a file, by their numbers.
fn frames(who: u8, audio: &[u8]) -> Vec<u16> {
    let of = audio.chunks_exact(FRAME).filter(|frame| frame[2] == who && frame[FRAME - 1] == who);
    of.map(|frame| u16::from_be_bytes([frame[0], frame[1]])).collect()
}

/// A sender, at the pace of a call unless told otherwise.
struct Sender {
    socket: UdpSocket,
    to: (Ipv4Addr, u16),
    who: u8,
    ssrc: u32,
    /// Sequence number of the frame 0.
    first: u16,
}

impl Sender {
    fn new(host: &str, to: u16, who: u8) -> Self {
        let socket = UdpSocket::bind((host, 0)).expect("loopback");
        Self { socket, to: (Ipv4Addr::LOCALHOST, to), who, ssrc: u32::from(who), first: 100 }
    }

    fn send(&self, number: u16) {
        let seq = self.first.wrapping_add(number);
        let packet = rtp(self.ssrc, seq, u32::from(number) * 160, &frame(self.who, number));
        self.socket.send_to(&packet, self.to).expect("loopback");
    }
}

/// Calls `each` for every frame of a call, one each 20 ms.
fn paced(frames: std::ops::Range<u16>, mut each: impl FnMut(u16)) {
    let begin = clock::mono();
    for (step, number) in (0..).zip(frames) {
        let due = begin + Duration::from_millis(20 * step);
        wait(due.since(clock::mono()));
        each(number);
    }
}

fn all(frames: std::ops::Range<u16>) -> Vec<u16> {
    frames.collect()
}

/// A call from 127.0.0.1 whose packets `speak` sends; returns its recording.
fn call(ports: &str, speak: impl FnOnce(u16, &Server)) -> (Sidecar, Vec<u8>) {
    let server = Server::start(&format!("rtp_ports = \"{ports}\"\n"));
    let mut phone = Phone::at([127, 0, 0, 1], &server);
    let to = port(&phone.starts("call"));
    speak(to, &server);
    phone.stops("call");
    let (_, folder) = server.terminate();
    recorded(folder.path(), "call")
}

#[test]
fn a_flood_of_strangers_costs_a_call_nothing_and_is_counted_apart() {
    for host in ["127.0.0.66", "127.0.0.1"] {
        let (sidecar, audio) = call("23260-23269", |to, server| {
            let sender = Sender::new("127.0.0.1", to, 1);
            let flood = Sender::new(host, to, 2);
            let noise = [b'x'; 20];
            paced(0..150, |number| {
                sender.send(number);
                if number >= 5 {
                    // 20,000 in a second.
                    for burst in 0..400_u16 {
                        let _ = flood.socket.send_to(&noise, flood.to);
                        if burst % 100 == 0 {
                            flood.send(number);
                        }
                    }
                }
                if number == 140 {
                    let sessions = server.get("/sessions");
                    assert!(sessions.contains("\"contested\":true"), "{sessions}");
                }
            });
        });
        assert_eq!((frames(1, &audio), frames(2, &audio)), (all(0..150), vec![]), "{host}: {sidecar:?}");
        let packets = sidecar.packets;
        assert_eq!((packets.received, packets.lost, packets.dropped), (150, 0, 0), "{host}: {sidecar:?}");
        assert!(sidecar.contested && packets.strangers > 10_000, "{host}: {sidecar:?}");
    }
}

#[test]
fn first_packets_that_overtake_each_other_are_all_recorded() {
    let (sidecar, audio) = call("23930-23939", |to, _| {
        let sender = Sender { first: 65_535, ..Sender::new("127.0.0.1", to, 1) };
        paced(0..50, |number| sender.send([1, 0].get(usize::from(number)).copied().unwrap_or(number)));
    });
    assert_eq!(frames(1, &audio), all(0..50), "{sidecar:?}");
    let packets = sidecar.packets;
    assert_eq!((packets.received, packets.lost, packets.late), (50, 0, 0), "{sidecar:?}");
}

#[test]
fn forged_packets_before_the_first_one_do_not_keep_the_phone_out() {
    let server = Server::start("rtp_ports = \"23270-23289\"\n");
    for forged in [1, 2, 5] {
        let id = format!("forged{forged}");
        let mut phone = Phone::at([127, 0, 0, 1], &server);
        let to = port(&phone.starts(&id));
        let (forger, sender) = (Sender::new("127.0.0.1", to, 2), Sender::new("127.0.0.1", to, 1));
        (0..forged).for_each(|number| forger.send(number));
        wait(Duration::from_millis(150));
        paced(0..100, |number| sender.send(number));
        phone.stops(&id);
    }
    let (_, folder) = server.terminate();
    for forged in [1, 2, 5] {
        let (sidecar, audio) = recorded(folder.path(), &format!("forged{forged}"));
        assert_eq!(frames(1, &audio), all(0..100), "{sidecar:?}");
        assert!(sidecar.contested, "{sidecar:?}");
    }
}

#[test]
fn packets_that_look_like_the_phones_but_for_the_ssrc_take_nothing_over() {
    let (sidecar, audio) = call("23290-23299", |to, _| {
        let sender = Sender::new("127.0.0.1", to, 1);
        // The phone's own socket stands for a forged address and port.
        let mut forger = Sender::new("127.0.0.1", to, 2);
        forger.socket = sender.socket.try_clone().expect("clone");
        paced(0..150, |number| {
            sender.send(number);
            match number {
                40 | 80 => (0..3).for_each(|step| forger.send(number + step)),
                100.. => forger.send(number),
                _ => {}
            }
        });
    });
    assert_eq!((frames(1, &audio), frames(2, &audio)), (all(0..150), vec![]), "{sidecar:?}");
    assert_eq!((sidecar.packets.strangers, sidecar.packets.lost), (56, 0), "{sidecar:?}");
}

#[test]
fn a_nat_that_moves_the_phone_to_another_port_costs_nothing() {
    let (sidecar, audio) = call("23300-23309", |to, server| {
        let mut sender = Sender::new("127.0.0.1", to, 1);
        paced(0..200, |number| {
            if number % 60 == 50 {
                sender.socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
            }
            sender.send(number);
            if number == 75 {
                // Half a second after the move.
                let sessions = server.get("/sessions");
                let packets = sessions.split("\"packets\":").nth(1).expect("a session");
                let packets: u16 = packets[..packets.find(',').expect("more")].parse().expect("number");
                assert!(packets > 55, "{sessions}");
            }
        });
    });
    assert_eq!(frames(1, &audio), all(0..200), "{sidecar:?}");
    let packets = sidecar.packets;
    assert_eq!((packets.received, packets.lost, packets.strangers), (200, 0, 0), "{sidecar:?}");
    assert!(!sidecar.contested, "{sidecar:?}");
}

#[test]
fn another_port_of_the_phone_is_not_taken_for_it_if_ssrc_or_sequence_do_not_go_on() {
    for (ssrc, first) in [(1, 20_000), (1, 101), (7, 100)] {
        let (sidecar, audio) = call("23310-23319", |to, _| {
            let sender = Sender::new("127.0.0.1", to, 1);
            let other = Sender { ssrc, first, ..Sender::new("127.0.0.1", to, 2) };
            paced(0..100, |number| sender.send(number));
            paced(0..100, |number| other.send(if first == 100 { 100 + number } else { number }));
        });
        assert_eq!((frames(1, &audio), frames(2, &audio)), (all(0..100), vec![]), "{sidecar:?}");
        assert_eq!((sidecar.packets.received, sidecar.packets.strangers), (100, 100), "{sidecar:?}");
    }
}

#[test]
fn a_sender_that_begins_again_with_the_same_ssrc_goes_on_in_the_file() {
    let (sidecar, audio) = call("23320-23329", |to, _| {
        let sender = Sender::new("127.0.0.1", to, 1);
        paced(0..150, |number| sender.send(number));
        wait(Duration::from_millis(1500));
        let again = Sender { socket: sender.socket.try_clone().expect("clone"), who: 3, ssrc: 1, ..sender };
        paced(0..100, |number| again.send(number));
    });
    assert_eq!((frames(1, &audio), frames(3, &audio)), (all(0..150), all(0..100)), "{sidecar:?}");
    assert_eq!((sidecar.packets.received, sidecar.packets.strangers), (250, 0), "{sidecar:?}");
}

#[test]
fn the_recording_that_grows_fastest_ends_when_room_is_short_and_the_others_go_on() {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("rec")).expect("folder");
    let disk = folder.path().join("rec");
    let mut command = Command::new("unshare");
    // The disk is there for this server only, and gone with it.
    let script = format!("mount -t tmpfs -o size=40m none '{}' && exec \"$0\" \"$@\"", disk.display());
    command.args(["-m", "sh", "-c", &script, &program()]);
    let may = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("RECORDER_TESTS_REQUIRE_ALL").is_none(), "unshare");
        eprintln!("SKIPPED: a disk of the test's own takes root and unshare");
        return;
    }
    let settings = "reserve = \"20 MiB\"\nrtp_ports = \"23330-23339\"\n";
    let server = Server::start_in(folder, settings, command, "127.0.0.1");
    let seen = PathBuf::from(format!("/proc/{}/root{}", server.process.id(), disk.display()));
    let (mut calm, mut fast) = (Phone::at([127, 0, 0, 1], &server), Phone::at([127, 0, 0, 2], &server));
    let calm_sender = Sender::new("127.0.0.1", port(&calm.starts("calm")), 1);
    let fast_sender = Sender::new("127.0.0.2", port(&fast.starts("fast")), 2);
    paced(0..25, |number| calm_sender.send(number));
    // Room for half of the reserve and a little.
    std::fs::write(seen.join("hog"), vec![1; (29 << 20) + (700 << 10)]).expect("a large file");
    fast.stream.get_mut().set_read_timeout(Some(Duration::from_millis(1))).expect("time-out");
    let mut told = String::new();
    paced(25..350, |number| {
        calm_sender.send(number);
        if !told.is_empty() {
            return;
        }
        // A minute of audio in a second.
        for burst in 0..60 {
            fast_sender.send(number.wrapping_mul(60).wrapping_add(burst));
        }
        let _ = std::io::BufRead::read_line(&mut fast.stream, &mut told);
        if number % 50 == 0 {
            server.get("/sessions");
        }
    });
    assert!(told.starts_with("cmd=RecordStopRequest&id=fast&"), "{told}");
    calm.stops("calm");
    wait(Duration::from_millis(1500));
    let (sidecar, audio) = recorded(&seen, "calm");
    assert_eq!((sidecar.end_reason.as_deref(), frames(1, &audio).len()), (Some("stopped: hangup"), 350));
    let log = server.terminate_for_log();
    assert!(log.contains("disk_full") && log.contains("recordings=2: ending 1"), "{log}");
}
