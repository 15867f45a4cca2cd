//! Recordings played back as RTP: the audio, its time, and its end.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::environment::SmallDisk;
use crate::support::{Agent, Call, Client, Codec, Setup, assert_audio, number, patience, text};

/// A packet as it arrived.
struct Heard {
    at: Instant,
    marker: bool,
    payload_type: u8,
    seq: u16,
    timestamp: u32,
    ssrc: u32,
    payload: Vec<u8>,
}

/// The phone's loudspeaker.
struct Speaker {
    socket: UdpSocket,
}

impl Speaker {
    fn new() -> Self {
        Self { socket: UdpSocket::bind("127.0.0.1:0").unwrap() }
    }

    fn addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn params(&self, file: &Path) -> Value {
        let addr = self.addr();
        json!({"file": name_of(file), "rtp": {"addr": addr.ip().to_string(), "port": addr.port()}})
    }

    /// The next packet, or `None` if none comes in time.
    fn next(&self, wait: Duration) -> Option<Heard> {
        self.socket.set_read_timeout(Some(wait)).unwrap();
        let mut octets = [0; 2048];
        let count = loop {
            match self.socket.recv(&mut octets) {
                Ok(count) => break count,
                // A stopped and continued process is told so, even without signal handlers (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                    return None;
                }
            }
        };
        let (head, payload) = octets[..count].split_at(12);
        assert_eq!(head[0], 0x80, "version 2 and nothing else");
        Some(Heard {
            at: Instant::now(),
            marker: head[1] & 0x80 != 0,
            payload_type: head[1] & 0x7F,
            seq: u16::from_be_bytes([head[2], head[3]]),
            timestamp: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
            ssrc: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
            payload: payload.to_vec(),
        })
    }

    fn listen(&self, packets: usize) -> Vec<Heard> {
        (0..packets)
            .map(|n| self.next(patience()).unwrap_or_else(|| panic!("only {n} packets of {packets}")))
            .collect()
    }

    /// The packets that have arrived and were not listened to.
    fn rest(&self) -> Vec<Heard> {
        std::iter::from_fn(|| self.next(Duration::from_millis(50))).collect()
    }
}

fn name_of(file: &Path) -> &str {
    file.file_name().unwrap().to_str().unwrap()
}

fn audio(heard: &[Heard]) -> Vec<u8> {
    heard.iter().flat_map(|heard| heard.payload.clone()).collect()
}

/// Starts to play; gives the playback's id as params.
fn play(client: &mut Client, speaker: &Speaker, file: &Path) -> Value {
    let started = client.ok("play.start", speaker.params(file));
    json!({"playback": started["playback"]})
}

fn with(params: &Value, key: &str, value: u64) -> Value {
    let mut params = params.clone();
    params[key] = json!(value);
    params
}

fn wait_end(client: &mut Client, params: &Value) -> String {
    let playback = params["playback"].clone();
    let ended = client.wait_event_where("playback.ended", patience(), |event| event["playback"] == playback);
    assert_eq!(ended["state"], "ended");
    text(&ended, "/end_reason").to_owned()
}

/// A finished recording of `packets`, and its audio.
fn recorded(agent: &Agent, codec: Codec, packets: usize) -> (Call, Vec<u8>) {
    let mut call = Call::start(agent, codec);
    let heard = call.speak(packets);
    call.stop();
    (call, heard)
}

#[test]
fn a_playback_is_the_recorded_audio_with_fresh_rtp_numbers() {
    let agent = Agent::start();
    let mut ssrcs = Vec::new();
    for codec in Codec::ALL {
        let (mut call, spoken) = recorded(&agent, codec, 30);
        let speaker = Speaker::new();
        let started = call.client.ok("play.start", speaker.params(&call.file));
        assert_eq!(number(&started, "/duration_ms"), 600);
        let heard = speaker.listen(30);
        assert_audio(&audio(&heard), &spoken);
        let first = &heard[0];
        for (n, packet) in heard.iter().enumerate() {
            assert_eq!(packet.payload_type, codec.payload_type());
            assert_eq!(packet.seq.wrapping_sub(first.seq), n as u16);
            assert_eq!(packet.timestamp.wrapping_sub(first.timestamp), n as u32 * 160);
            assert_eq!(packet.ssrc, first.ssrc);
            assert_eq!(packet.marker, n == 0, "packet {n}");
        }
        assert_eq!(wait_end(&mut call.client, &started), "finished");
        assert!(speaker.rest().is_empty());
        ssrcs.push(first.ssrc);
    }
    ssrcs.dedup();
    assert_eq!(ssrcs.len(), 3, "each playback has an SSRC of its own");
}

#[test]
fn packets_come_in_time_and_the_end_when_the_last_one_has_been_heard() {
    let agent = Agent::start();
    let (mut call, _) = recorded(&agent, Codec::Pcma, 150);
    let speaker = Speaker::new();
    let params = play(&mut call.client, &speaker, &call.file);
    let heard = speaker.listen(150);
    assert_eq!(wait_end(&mut call.client, &params), "finished");
    let took = heard[0].at.elapsed();
    // A busy test machine may be late, and a late first packet makes the rest look early.
    let slack = Duration::from_millis(150);
    for (n, packet) in heard.iter().enumerate() {
        let due = Duration::from_millis(20) * n as u32;
        let at = packet.at - heard[0].at;
        assert!(at + slack >= due && at <= due + slack, "packet {n} after {at:?}");
    }
    let length = Duration::from_secs(3);
    assert!(took + slack >= length && took <= length + slack, "{took:?}");
}

#[test]
fn a_playback_can_be_paused_resumed_and_moved() {
    let agent = Agent::start();
    let (mut call, spoken) = recorded(&agent, Codec::Pcmu, 200);
    let client = &mut call.client;
    let speaker = Speaker::new();
    let params = play(client, &speaker, &call.file);
    let heard = speaker.listen(10);
    let status = client.ok("play.pause", params.clone());
    assert_eq!(status["state"], "paused");
    let until_pause = 10 + speaker.rest().len();
    assert_eq!(number(&status, "/position_ms"), until_pause as u64 * 20);
    client.refused_because("invalid_state", "play.pause", params.clone());
    std::thread::sleep(Duration::from_millis(300));
    assert!(speaker.rest().is_empty(), "silent while paused");
    assert_eq!(client.ok("play.resume", params.clone())["state"], "playing");
    client.refused_because("invalid_state", "play.resume", params.clone());
    let resumed = speaker.listen(5);
    assert!(resumed[0].marker && !resumed[1].marker);
    assert_audio(&audio(&resumed), &spoken[until_pause * 160..(until_pause + 5) * 160]);
    let silent = resumed[0].timestamp.wrapping_sub(heard[9].timestamp);
    assert!(silent >= 300 * 8, "the pause is in the timestamps: {silent}");
    // To 3 s: packet 150.
    let status = client.ok("play.seek", with(&params, "position_ms", 3000));
    assert_eq!(number(&status, "/position_ms"), 3000);
    let rest: Vec<Heard> = std::iter::from_fn(|| speaker.next(Duration::from_millis(500))).collect();
    let target = rest.iter().position(|packet| packet.marker).expect("a marker after the seek");
    assert_audio(&audio(&rest[target..]), &spoken[150 * 160..]);
    assert_eq!(wait_end(client, &params), "finished");
    let seqs: Vec<u16> = heard.iter().chain(&resumed).chain(&rest).map(|packet| packet.seq).collect();
    let steps = seqs.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count();
    assert!(steps <= 1, "only what was thrown away in the pause may be missing");
}

#[test]
fn a_paused_playback_can_be_moved_and_stopped() {
    let agent = Agent::start();
    let (mut call, _) = recorded(&agent, Codec::Pcma, 100);
    let speaker = Speaker::new();
    let params = play(&mut call.client, &speaker, &call.file);
    call.client.ok("play.pause", params.clone());
    let status = call.client.ok("play.seek", with(&params, "position_ms", 1010));
    assert_eq!((number(&status, "/position_ms"), text(&status, "/state")), (1000, "paused"));
    let status = call.client.ok("play.stop", params.clone());
    assert_eq!((text(&status, "/state"), text(&status, "/end_reason")), ("ended", "stopped"));
    assert_eq!(wait_end(&mut call.client, &params), "stopped");
    assert_eq!(call.client.ok("play.status", params.clone())["state"], "ended");
    assert_eq!(call.client.ok("play.status", json!({})), json!({"playbacks": []}));
    call.client.refused_because("invalid_state", "play.resume", params);
}

#[test]
fn the_files_of_one_recording_are_played_as_one() {
    let agent = Setup::new().quoted("storage", "max_file_size", "16 KiB").start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let spoken = call.speak(101 + 101 + 20);
    call.stop();
    assert_eq!(agent.recordings().len(), 3);
    let speaker = Speaker::new();
    let client = &mut call.client;
    let first = with(&speaker.params(&call.file), "position_ms", 95 * 20);
    let started = client.ok("play.start", first);
    assert_eq!(number(&started, "/duration_ms"), 222 * 20);
    let heard = speaker.listen(20);
    assert_audio(&audio(&heard), &spoken[95 * 160..115 * 160]);
    let gaps = heard.windows(2).filter(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) != 160);
    assert_eq!(gaps.count(), 0, "nobody hears where a file ends");
    let params = json!({"playback": started["playback"]});
    client.ok("play.seek", with(&params, "position_ms", 200 * 20));
    let rest: Vec<Heard> = std::iter::from_fn(|| speaker.next(Duration::from_millis(500))).collect();
    let target = rest.iter().position(|packet| packet.marker).unwrap();
    assert_audio(&audio(&rest[target..]), &spoken[200 * 160..]);
    assert_eq!(wait_end(client, &params), "finished");
}

#[test]
fn a_recording_can_be_played_while_it_is_made() {
    let agent = Setup::new().set("storage", "flush_interval_ms", 200).start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut spoken = call.speak_in_real_time(50);
    let speaker = Speaker::new();
    let params = play(&mut call.client, &speaker, &call.file);
    spoken.extend(call.speak_in_real_time(60));
    call.ok("record.stop");
    let heard = speaker.listen(110);
    assert_audio(&audio(&heard), &spoken);
    assert_eq!(wait_end(&mut call.client, &params), "finished");
    assert!(speaker.rest().is_empty());
}

#[test]
fn progress_is_told_each_second_and_every_client_sees_the_playback() {
    let agent = Agent::start();
    let (mut call, _) = recorded(&agent, Codec::Pcma, 120);
    let speaker = Speaker::new();
    let params = play(&mut call.client, &speaker, &call.file);
    let info = agent.client().ok("agent.info", json!({}));
    assert_eq!(info["playbacks"][0]["playback"], params["playback"], "{info}");
    for second in 1..=2 {
        let event = call.client.wait_event("playback.progress", patience());
        let position_ms = number(&event, "/position_ms");
        assert!((second * 1000 - 200..second * 1000 + 200).contains(&position_ms), "{event}");
        assert_eq!(number(&event, "/duration_ms"), 2400);
        assert_eq!(event["file"], name_of(&call.file));
    }
    assert_eq!(wait_end(&mut call.client, &params), "finished");
}

#[test]
fn a_file_that_is_being_played_is_not_deleted() {
    let agent = Agent::start();
    let (mut call, _) = recorded(&agent, Codec::Pcma, 100);
    let speaker = Speaker::new();
    let params = play(&mut call.client, &speaker, &call.file);
    let file = json!({"file": name_of(&call.file)});
    call.client.refused_because("invalid_state", "recordings.delete", file.clone());
    assert!(call.file.exists());
    call.client.ok("play.stop", params);
    call.client.ok("recordings.delete", file);
    assert!(!call.file.exists());
}

#[test]
fn four_playbacks_run_at_once_and_a_fifth_is_refused() {
    let agent = Agent::start();
    let (mut call, spoken) = recorded(&agent, Codec::Pcma, 75);
    let speakers: Vec<Speaker> = (0..4).map(|_| Speaker::new()).collect();
    let playbacks: Vec<Value> =
        speakers.iter().map(|speaker| play(&mut call.client, speaker, &call.file)).collect();
    call.client.refused_because("invalid_state", "play.start", speakers[0].params(&call.file));
    assert_eq!(call.client.refused("play.stop", json!({})).code, -32602, "which one?");
    for speaker in &speakers {
        assert_audio(&audio(&speaker.listen(75)), &spoken);
    }
    for playback in &playbacks {
        assert_eq!(wait_end(&mut call.client, playback), "finished");
    }
}

/// A folder with one file in it, before the agent starts.
fn agent_with(name: &str, octets: &[u8]) -> (Agent, PathBuf) {
    let setup = Setup::new();
    let folder = setup.storage_path().join("Record");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join(name);
    std::fs::write(&file, octets).unwrap();
    (setup.start(), file)
}

fn header(codec: &str, rtp_len: i32, increment: i32, data_size: u32) -> Vec<u8> {
    let mut octets = codec.as_bytes().to_vec();
    octets.resize(64, 0);
    octets.extend(rtp_len.to_le_bytes());
    octets.extend(increment.to_le_bytes());
    octets.extend(data_size.to_le_bytes());
    octets
}

#[test]
fn a_file_of_whole_packets_from_other_firmware_is_played_without_its_old_headers() {
    let mut octets = header("PCMU", 172, 160, 20 * 172);
    let mut spoken = Vec::new();
    for n in 0..20_u8 {
        let payload = [n; 160];
        octets.extend(crate::support::packet(0, n.into(), u32::from(n) * 160, 7, &payload));
        spoken.extend(payload);
    }
    let (agent, file) = agent_with("Record_2019-05-01.wav", &octets);
    let mut client = agent.subscribed_client();
    let speaker = Speaker::new();
    let params = play(&mut client, &speaker, &file);
    assert_audio(&audio(&speaker.listen(20)), &spoken);
    assert_eq!(wait_end(&mut client, &params), "finished");
}

#[test]
fn a_file_that_cannot_be_played_is_refused_with_the_reason() {
    let (agent, file) = agent_with("Record_20260101-000000.wav", b"RIFF\0\0\0\0WAVEfmt ");
    let mut client = agent.client();
    let speaker = Speaker::new();
    client.refused_because("file_damaged", "play.start", speaker.params(&file));
    client.refused_because("not_found", "play.start", speaker.params(Path::new("Record_nowhere.wav")));
    for path in ["../Record_x.wav", "/etc/passwd", "recordd.toml"] {
        let mut params = speaker.params(&file);
        params["file"] = json!(path);
        client.refused_because("not_found", "play.start", params);
    }
    let mut params = speaker.params(&file);
    params["rtp"]["addr"] = json!("192.0.2.1");
    client.refused_because("permission_denied", "play.start", params);
    for method in ["play.pause", "play.resume", "play.stop"] {
        let refused = client.refused(method, json!({}));
        assert_eq!(
            (refused.reason.as_str(), &refused.whole["message"]),
            ("not_found", &json!("there is no playback"))
        );
        client.refused_because("not_found", method, json!({"playback": "nobody"}));
    }
}

#[test]
fn an_empty_recording_is_played_to_its_end_at_once() {
    let agent = Agent::start();
    let (mut call, _) = recorded(&agent, Codec::Pcma, 0);
    let speaker = Speaker::new();
    let params = play(&mut call.client, &speaker, &call.file);
    assert_eq!(wait_end(&mut call.client, &params), "finished");
    assert!(speaker.rest().is_empty());
}

#[test]
fn a_disk_that_is_pulled_ends_the_playback_with_the_reason() {
    let Some(disk) = SmallDisk::mount(4096) else { return };
    let mut agent = Setup::new().storage(disk.path()).start();
    let (mut call, _) = recorded(&agent, Codec::Pcma, 1000);
    let speaker = Speaker::new();
    let params = play(&mut call.client, &speaker, &call.file);
    speaker.listen(5);
    drop(disk);
    assert_eq!(wait_end(&mut call.client, &params), "storage_io");
    // The empty folder where the disk was mounted is a disk of its own to the agent, as long as it is there.
    match call.client.request("recordings.list", json!({})) {
        Ok(listed) => assert_eq!(listed["recordings"], json!([]), "{listed}"),
        Err(refusal) => assert_eq!(refusal.reason, "no_storage"),
    }
    assert!(agent.is_alive());
}

#[test]
fn an_eject_ends_the_playback_first() {
    let agent = Agent::start();
    let (mut call, _) = recorded(&agent, Codec::Pcma, 200);
    let speaker = Speaker::new();
    let params = play(&mut call.client, &speaker, &call.file);
    speaker.listen(2);
    call.client.ok("storage.eject", json!({}));
    assert_eq!(wait_end(&mut call.client, &params), "ejected");
    // The folder of the test is on no stick, so it is still there.
    call.client.ok("play.start", speaker.params(&call.file));
}

#[test]
fn a_file_that_is_protected_or_being_played_is_not_deleted_to_make_room() {
    let Some(disk) = SmallDisk::mount(1024) else { return };
    let setup = Setup::new().storage(disk.path()).quoted("storage", "on_full", "delete-oldest");
    let agent = setup.quoted("storage", "max_file_size", "128 KiB").start();
    let (protected, _) = recorded(&agent, Codec::Pcma, 100);
    let (played, _) = recorded(&agent, Codec::Pcma, 100);
    let (neither, _) = recorded(&agent, Codec::Pcma, 100);
    let mut call = Call::start(&agent, Codec::Pcma);
    let client = &mut call.client;
    client.ok("recordings.protect", json!({"file": name_of(&protected.file)}));
    let speaker = Speaker::new();
    let params = play(client, &speaker, &played.file);
    client.ok("play.pause", params.clone());
    for _ in 0..9 {
        // A file of a running call is never deleted, so there have to be several calls.
        call.speak(1000);
        call.stop();
        call = Call::start(&agent, Codec::Pcma);
    }
    assert!(protected.file.exists() && played.file.exists());
    let listed = call.client.ok("recordings.list", json!({"limit": 1000}));
    let files: Vec<&str> =
        listed["recordings"].as_array().unwrap().iter().map(|entry| text(entry, "/file")).collect();
    assert!(files.contains(&name_of(&played.file)));
    // Its name may be that of a later recording by now.
    let gone =
        !listed["recordings"].as_array().unwrap().iter().any(|it| it["recording"] == neither.id.as_str());
    assert!(gone, "room was made");
    assert_eq!(files.len(), agent.recordings().len(), "the list follows");
}
