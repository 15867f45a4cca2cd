//! Real senders into the agent: programs that many phones' media stacks are like, over a good and a bad
//! network.
//!
//! Each of them plays speech of four seconds in each codec in real time. Straight to the agent, the file has
//! to have the octets of the clip. Through a relay that loses, reorders and doubles packets, it has to have
//! the octets of the passed packets, each at its place, and silence where a packet was lost. baresip encodes
//! its audio anew, so its file is compared with its packets.

mod relay;
mod sip;

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use self::relay::{Relay, Sent, Weather};
use self::sip::Callee;
use crate::support::agent::is_emulated;
use crate::support::call::Books;
use crate::support::environment::{has_program, run, skip, skip_here};
use crate::support::rtp_source::FRAME;
use crate::support::{Agent, Call, Codec, packet, patience, read_recording};

/// The clip that a sender has to play, and its target.
struct Order<'a> {
    codec: Codec,
    /// The target of RTP.
    to: SocketAddr,
    /// For files of its own.
    folder: &'a Path,
}

impl Order<'_> {
    fn clip(&self) -> PathBuf {
        clip(self.codec)
    }
}

/// Four seconds of speech.
fn clip(codec: Codec) -> PathBuf {
    let extension = match codec {
        Codec::Pcma => "al",
        Codec::Pcmu => "ul",
        Codec::G722 => "g722",
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media/speech").with_extension(extension)
}

/// A sender: plays to its end.
type Play = fn(&Order<'_>);

/// Whether this test can't run here; says why.
fn cannot_run(program: &str) -> bool {
    if is_emulated() {
        skip_here("the senders play in real time, which an emulated agent may not keep up with");
        return true;
    }
    if !has_program(program) {
        skip(&format!("{program} is not installed"));
        return true;
    }
    false
}

/// Fails unless each codec's clip is in the file to the bit.
fn expect_clips(program: &str, play: Play) {
    if cannot_run(program) {
        return;
    }
    let agent = Agent::start();
    let record = |codec| {
        let mut call = Call::start(&agent, codec);
        play(&Order { codec, to: call.rtp, folder: &folder_of(&agent, codec) });
        let ended = call.stop();
        let books = Books::of(&ended);
        assert!(books.received >= 200, "{ended}");
        assert_eq!((books.lost, books.late, books.duplicate, books.dropped), (0, 0, 0, 0), "{ended}");
        let sent = std::fs::read(clip(codec)).expect("a clip");
        read_recording(&call.file).assert_finished(codec, &sent);
    };
    in_all_codecs(record);
}

/// Fails unless the file has the packets that a network passes on to the bit, and silence for lost ones.
fn expect_passed_packets(program: &str, play: Play, weather: fn(u64) -> Weather) {
    if cannot_run(program) {
        return;
    }
    let agent = Agent::start();
    let record = |codec: Codec| {
        let mut call = Call::start(&agent, codec);
        let weather = weather(u64::from(codec.payload_type()));
        let relay = Relay::start(call.rtp, codec, weather);
        play(&Order { codec, to: relay.address, folder: &folder_of(&agent, codec) });
        let log = relay.finish();
        let ended = call.stop();
        assert!(log.len() > 150, "{} packets are no four seconds", log.len());
        let (audio, books) = passed_audio_and_books(&log, codec);
        assert_eq!(weather.lost > 0, books.lost > 0 && books.duplicate > 0, "the network is as it should be");
        read_recording(&call.file).assert_finished(codec, &audio);
        assert_eq!(Books::of(&ended), books, "{ended}");
    };
    in_all_codecs(record);
}

fn in_all_codecs(record: impl Fn(Codec) + Sync) {
    let record = &record;
    std::thread::scope(|scope| {
        for codec in Codec::ALL {
            scope.spawn(move || record(codec));
        }
    });
}

fn folder_of(agent: &Agent, codec: Codec) -> PathBuf {
    let folder = agent.dir().join(format!("sender-{}", codec.name()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Audio and counts of the passed packets. Nobody can know of packets lost before the first or after the last
/// of them.
fn passed_audio_and_books(log: &[Sent], codec: Codec) -> (Vec<u8>, Books) {
    for (packet, next) in log.iter().zip(&log[1..]) {
        let ticks = packet.payload.len() as u32;
        let follows = (packet.seq.wrapping_add(1), packet.timestamp.wrapping_add(ticks));
        assert_eq!((next.seq, next.timestamp), follows, "this sender does not count its packets and octets");
    }
    let first = log.iter().position(|packet| packet.passed > 0).expect("a packet passed");
    let last = log.iter().rposition(|packet| packet.passed > 0).expect("a packet passed");
    let (mut audio, mut books) =
        (Vec::new(), Books { received: 0, lost: 0, late: 0, duplicate: 0, dropped: 0 });
    for packet in &log[first..=last] {
        books.received += packet.passed;
        books.duplicate += packet.passed.saturating_sub(1);
        if packet.passed > 0 {
            audio.extend(&packet.payload);
        } else {
            books.lost += 1;
            audio.extend(codec.silence(packet.payload.len()));
        }
    }
    (audio, books)
}

fn ffmpeg(order: &Order<'_>) {
    // RTCP goes to a port of our own, not to a stranger who has the next one.
    let rtcp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let rtcp_port = rtcp.local_addr().expect("bound").port();
    let url = format!("rtp://{}?rtcpport={rtcp_port}&pkt_size={}", order.to, 12 + FRAME);
    let input = crate::speech::raw_input(order.codec, &order.clip());
    let mut command = crate::speech::ffmpeg();
    run(command.arg("-re").args(input).args(["-c:a", "copy", "-f", "rtp"]).arg(url));
}

#[test]
fn ffmpeg_straight_to_the_agent_is_recorded_to_the_bit() {
    expect_clips("ffmpeg", ffmpeg);
}

#[test]
fn ffmpeg_over_a_bad_network_is_recorded_to_the_bit_with_silence_for_lost_packets() {
    expect_passed_packets("ffmpeg", ffmpeg, Weather::foul);
}

fn gstreamer(order: &Order<'_>) {
    let (format, payloader) = match order.codec {
        Codec::Pcma => ("alaw", "rtppcmapay"),
        Codec::Pcmu => ("mulaw", "rtppcmupay"),
        // There is no parser of it; an octet lasts as long.
        Codec::G722 => ("mulaw", "rtpg722pay"),
    };
    let mut command = Command::new("gst-launch-1.0");
    command.arg("-q").args(["filesrc", "blocksize=1280"]).arg(format!("location={}", order.clip().display()));
    command.args(["!", "rawaudioparse", "use-sink-caps=false", "sample-rate=8000", "num-channels=1"]);
    command.arg(format!("format={format}"));
    if order.codec == Codec::G722 {
        command.args([
            "!",
            "capssetter",
            "join=false",
            "replace=true",
            "caps=audio/G722,rate=16000,channels=1",
        ]);
    }
    command.args(["!", payloader, "min-ptime=20000000", "max-ptime=20000000"]);
    command.args(["!", "udpsink", "sync=true"]);
    command.arg(format!("host={}", order.to.ip())).arg(format!("port={}", order.to.port()));
    run(&mut command);
}

#[test]
fn gstreamer_straight_to_the_agent_is_recorded_to_the_bit() {
    expect_clips("gst-launch-1.0", gstreamer);
}

#[test]
fn gstreamer_over_a_bad_network_is_recorded_to_the_bit_with_silence_for_lost_packets() {
    expect_passed_packets("gst-launch-1.0", gstreamer, Weather::foul);
}

/// A program of ours; ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// SIPp calls, and plays a capture of the clip: it writes the packets itself, past the kernel's UDP.
fn sipp(order: &Order<'_>) {
    let callee = Callee::start(order.to, order.codec);
    let clip = std::fs::read(order.clip()).expect("a clip");
    std::fs::write(order.folder.join("clip.pcap"), capture(order.codec, &clip)).expect("a capture written");
    std::fs::write(order.folder.join("call.xml"), scenario(order.codec)).expect("a scenario written");
    let mut command = Command::new("sipp");
    command
        .arg(callee.address.to_string())
        .args(["-sf", "call.xml", "-m", "1", "-nostdin", "-skip_rlimit"])
        .args(["-watchdog_interval", "0", "-timeout", "60", "-timeout_error"])
        .args(["-i", "127.0.0.1", "-ci", "127.0.0.1", "-mi", "127.0.0.1", "-bind_local"])
        .args(["-trace_err", "-error_file", "errors"])
        .env("TERM", "dumb")
        .current_dir(order.folder)
        .stdin(Stdio::null());
    run(&mut command);
}

fn scenario(codec: Codec) -> String {
    let (kind, name) = (codec.payload_type(), codec.name());
    let head = |method: &str, number: u32, to: &str| {
        format!(
            "{method} sip:callee@[remote_ip]:[remote_port] SIP/2.0\n\
             Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n\
             From: <sip:sipp@[local_ip]:[local_port]>;tag=[call_number]\n{to}\nCall-ID: [call_id]\n\
             CSeq: {number} {method}\nContact: <sip:sipp@[local_ip]:[local_port]>\nMax-Forwards: 70\n"
        )
    };
    let invite = head("INVITE", 1, "To: <sip:callee@[remote_ip]:[remote_port]>");
    let ack = head("ACK", 1, "[last_To:]");
    let bye = head("BYE", 2, "[last_To:]");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<scenario name=\"caller\">\n\
         <send retrans=\"500\"><![CDATA[\n{invite}Content-Type: application/sdp\nContent-Length: [len]\n\n\
         v=0\no=- 1 1 IN IP4 [local_ip]\ns=-\nc=IN IP4 [media_ip]\nt=0 0\n\
         m=audio [media_port] RTP/AVP {kind}\na=rtpmap:{kind} {name}/8000\n]]></send>\n\
         <recv response=\"200\" />\n<send><![CDATA[\n{ack}Content-Length: 0\n\n]]></send>\n\
         <nop><action><exec play_pcap_audio=\"clip.pcap\" /></action></nop>\n\
         <pause milliseconds=\"5000\" />\n\
         <send retrans=\"500\"><![CDATA[\n{bye}Content-Length: 0\n\n]]></send>\n\
         <recv response=\"200\" />\n</scenario>\n"
    )
}

/// The clip in packets of 20 ms as a pcap file of Ethernet frames.
fn capture(codec: Codec, clip: &[u8]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xA1B2_C3D4, 0x0004_0002, 0, 0, 0xFFFF, 1]);
    // The numbers wrap on the way.
    let (mut seq, mut timestamp) = (65_500_u16, 0xFFFF_F000_u32);
    for (number, payload) in (0_u32..).zip(clip.chunks(FRAME)) {
        let rtp = packet(codec.payload_type(), seq, timestamp, 0x51BB_0001, payload);
        (seq, timestamp) = (seq.wrapping_add(1), timestamp.wrapping_add(FRAME as u32));
        let udp = (8 + rtp.len() as u16).to_be_bytes();
        let ip = (28 + rtp.len() as u16).to_be_bytes();
        let frame = [
            &[0; 12],
            &[0x08, 0x00, 0x45, 0, ip[0], ip[1], 0, 0, 0x40, 0, 64, 17, 0, 0][..],
            &[127, 0, 0, 1, 127, 0, 0, 1],
            &[0x17, 0x70, 0x17, 0x70, udp[0], udp[1], 0, 0],
            &rtp,
        ]
        .concat();
        let length = frame.len() as u32;
        let at = number * 20_000;
        file.extend(words(&[at / 1_000_000, at % 1_000_000, length, length]));
        file.extend(frame);
    }
    file
}

/// Whether packets can't be written past the kernel's UDP; says so.
fn no_raw_sockets() -> bool {
    let missing = !nix::unistd::geteuid().is_root();
    if missing {
        skip_here("sipp writes packets itself, which takes root");
    }
    missing
}

#[test]
fn sipp_straight_to_the_agent_is_recorded_to_the_bit() {
    if !no_raw_sockets() {
        expect_clips("sipp", sipp);
    }
}

#[test]
fn sipp_over_a_bad_network_is_recorded_to_the_bit_with_silence_for_lost_packets() {
    if !no_raw_sockets() {
        expect_passed_packets("sipp", sipp, Weather::foul);
    }
}

/// baresip calls, plays a WAV of the clip, and hangs up at its end.
fn baresip(order: &Order<'_>) {
    let callee = Callee::start(order.to, order.codec);
    let folder = order.folder.display();
    let (rate, codec) =
        if order.codec == Codec::G722 { (16_000, "G722/16000") } else { (8000, order.codec.name()) };
    std::fs::write(order.folder.join("clip.wav"), wave(rate)).expect("a WAV written");
    let config = format!(
        "module_path {BARESIP_MODULES}\nmodule g711.so\nmodule g722.so\nmodule aufile.so\n\
         module_app account.so\nmodule_app menu.so\nsip_listen 127.0.0.1:0\njitter_buffer_type off\n\
         audio_source aufile,{folder}/clip.wav\naudio_player aufile,{folder}/heard.wav\n\
         audio_alert aufile,{folder}/alert.wav\n",
    );
    let account = format!("<sip:caller@127.0.0.1>;regint=0;audio_codecs={codec}\n");
    for (name, text) in [("config", config.as_str()), ("accounts", account.as_str()), ("contacts", "")] {
        std::fs::write(order.folder.join(name), text).expect("a file written");
    }
    let output = std::fs::File::create(order.folder.join("output")).expect("a log file");
    let mut command = Command::new("baresip");
    command
        .arg("-f")
        .arg(order.folder)
        .args(["-e", &format!("/dial sip:callee@{}", callee.address)])
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a log file"))
        .stderr(output);
    let _baresip = Running(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
    let said = || std::fs::read_to_string(order.folder.join("output")).unwrap_or_default();
    let end = Instant::now() + patience();
    while !callee.has_hung_up() {
        assert!(Instant::now() < end, "baresip has not hung up:\n{}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The folder in Debian.
const BARESIP_MODULES: &str = "/usr/lib/baresip/modules";

/// The clip as a WAV of 16-bit samples.
fn wave(rate: u32) -> Vec<u8> {
    let clip = std::fs::read(clip(Codec::Pcma)).expect("a clip");
    let repeats = rate as usize / 8000;
    let samples = clip.iter().flat_map(|octet| std::iter::repeat_n(from_a_law(*octet), repeats));
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    let length = data.len() as u32;
    let mut file = [&b"RIFF"[..], &(36 + length).to_le_bytes(), b"WAVEfmt ", &16_u32.to_le_bytes()].concat();
    // PCM, one channel.
    file.extend([1, 0, 1, 0]);
    file.extend([rate, 2 * rate].iter().flat_map(|word| word.to_le_bytes()));
    file.extend([2, 0, 16, 0]);
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(data);
    file
}

/// A-law to a sample (ITU-T G.711).
fn from_a_law(octet: u8) -> i16 {
    let bits = octet ^ 0x55;
    let (exponent, mantissa) = (bits >> 4 & 7, i16::from(bits & 0x0F) << 4);
    let size = if exponent == 0 { mantissa + 8 } else { (mantissa + 0x108) << (exponent - 1) };
    if bits & 0x80 == 0 { -size } else { size }
}

#[test]
fn baresip_is_recorded_to_the_bit_as_it_encodes() {
    expect_passed_packets("baresip", baresip, |_| Weather::FAIR);
}

#[test]
fn baresip_over_a_bad_network_is_recorded_to_the_bit_with_silence_for_lost_packets() {
    expect_passed_packets("baresip", baresip, Weather::foul);
}
