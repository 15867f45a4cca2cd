//! A disk that takes no write for half a minute, in mid-call.

use super::loop_disk::LoopDisk;
use super::{amount, row};
use crate::support::recording_file::wait_finished;
use crate::support::{Call, Codec, Setup, number};
use serde_json::json;
use std::time::{Duration, Instant};

/// The UI is answered within this.
const ANSWER_WITHIN: Duration = Duration::from_millis(50);

/// The longest of many answers while packets come in real time; the audio sent is added to `heard`.
fn speak_and_ask(call: &mut Call, time: Duration, heard: &mut Vec<u8>) -> Vec<Duration> {
    let begin = Instant::now();
    let mut asked = Vec::new();
    let mut sent = 0_u32;
    while begin.elapsed() < time {
        heard.extend(call.source.send_next());
        sent += 1;
        if sent % 5 == 0 {
            let before = Instant::now();
            let status = call.status();
            asked.push(before.elapsed());
            assert_eq!(status["state"], "recording", "{status}");
        }
        let due = begin + Duration::from_millis(20) * sent;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    asked
}

fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

#[test]
fn a_frozen_disk_costs_no_packet_and_the_ui_is_answered_all_the_while() {
    let Some(mut disk) = LoopDisk::mount(32) else { return };
    let time = Duration::from_secs(amount(30, 5));
    let agent = Setup::new().storage(&disk.stick()).start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = Vec::new();
    speak_and_ask(&mut call, Duration::from_millis(2500), &mut heard);
    disk.freeze();
    let asked = speak_and_ask(&mut call, time, &mut heard);
    let status = call.status();
    assert!(number(&status, "/buffered_ms") + 1500 > time.as_millis() as u64, "it is not frozen: {status}");
    assert_eq!(status["degraded"], false, "{status}");
    call.wait_event("recording.stalled");
    disk.thaw();
    speak_and_ask(&mut call, Duration::from_millis(1500), &mut heard);
    let ended = call.stop();
    assert_eq!(ended["packets"]["received"], (heard.len() / 160) as u64, "{ended}");
    assert_eq!(ended["degraded"], false, "{ended}");
    wait_finished(&call.file).assert_finished(Codec::Pcma, &heard);
    let stats = call.client.ok("stats.get", json!({}));
    let longest_write = number(&stats, "/longest_write_ms");
    assert!(longest_write + 1500 > time.as_millis() as u64, "{stats}");
    let (median, worst) = (percentile(asked.clone(), 50), percentile(asked.clone(), 100));
    row(
        &format!("frozen for {} s in mid-call", time.as_secs()),
        &format!(
            "0 of {} packets lost; {} status answers: median {} us, 99 % {} us, worst {} us",
            heard.len() / 160,
            asked.len(),
            median.as_micros(),
            percentile(asked, 99).as_micros(),
            worst.as_micros(),
        ),
    );
    assert!(worst < ANSWER_WITHIN, "an answer took {worst:?}");
}

#[test]
fn a_stop_while_the_disk_is_frozen_is_answered_at_once_and_ends_after_the_thaw() {
    let Some(mut disk) = LoopDisk::mount(32) else { return };
    let agent = Setup::new().storage(&disk.stick()).start();
    let mut call = Call::start(&agent, Codec::Pcmu);
    let mut heard = call.speak_in_real_time(60);
    disk.freeze();
    heard.extend(call.speak_in_real_time(100));
    let before = Instant::now();
    let status = call.ok("record.stop");
    let took = before.elapsed();
    assert_eq!(status["state"], "stopping", "{status}");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(call.status()["state"], "stopping");
    disk.thaw();
    call.wait_ended();
    wait_finished(&call.file).assert_finished(Codec::Pcmu, &heard);
    row(
        "stop while frozen",
        &format!("answered `stopping` after {} us, ended after the thaw", took.as_micros()),
    );
    assert!(took < ANSWER_WITHIN, "the answer took {took:?}");
}

#[test]
fn questions_while_the_disk_is_frozen_and_the_buffer_full_cost_no_packet() {
    let Some(mut disk) = LoopDisk::mount(32) else { return };
    // The smallest buffer: eight seconds of a call. Later packets wait in the socket.
    let setup = Setup::new().storage(&disk.stick()).set("rtp", "max_recordings", 1);
    let agent = setup.set("storage", "buffer", "65536").start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = Vec::new();
    speak_and_ask(&mut call, Duration::from_millis(1500), &mut heard);
    disk.freeze();
    speak_and_ask(&mut call, Duration::from_secs(11), &mut heard);
    let received = number(&call.status(), "/packets/received");
    assert!(received * 160 + 16_000 < heard.len() as u64, "nothing waits in the socket: {received}");
    disk.thaw();
    speak_and_ask(&mut call, Duration::from_millis(1500), &mut heard);
    let ended = call.stop();
    assert_eq!(ended["degraded"], false, "{ended}");
    wait_finished(&call.file).assert_finished(Codec::Pcma, &heard);
}
