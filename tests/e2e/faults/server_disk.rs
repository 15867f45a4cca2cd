//! The disk of a recording server that a call fills: the call ends in order, others hear why not, and with
//! room again all is as before.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use store::fs::{Fs, RealFs};

use super::loop_disk::LoopDisk;
use super::row;
use crate::support::agent::recordctl;
use crate::support::client::Refusal;
use crate::support::environment::run;
use crate::support::server::Server;
use crate::support::{
    Agent, Call, Codec, Setup, number, patience, read_begun, read_recording, sidecar, wait_for,
};

const KIB: u64 = 1 << 10;

/// So little that half of it is less than the octets that a call may be ahead of the clock.
const RESERVE: u64 = 384 * KIB;

fn free(folder: &Path) -> u64 {
    RealFs.space(folder).expect("the disk").free_octets
}

/// Somebody else's file, so large that little more than the reserve is left.
fn hog(folder: &Path) -> PathBuf {
    let path = folder.join("hog");
    let octets = free(folder) - RESERVE - 32 * KIB;
    std::fs::write(&path, vec![1; octets as usize]).expect("a large file");
    path
}

/// Somebody else takes every last block.
fn fill_up(folder: &Path) {
    let mut hog = std::fs::File::create(folder.join("hog")).expect("a file");
    let mut octets = 1 << 16;
    while octets > 0 {
        if hog.write_all(&vec![1; octets]).is_err() {
            octets /= 2;
        }
    }
}

fn start(agent: &Agent) -> Call {
    let mut call = Call::start_with(agent, Codec::Pcma, json!({"mode": "server"}));
    // 60 ms in a packet: more audio from fewer packets.
    call.source.octets = 480;
    call
}

/// Speaks, six times as fast as a call, until the disk has less than `until` left or the call has ended.
fn speak_until(call: &mut Call, disk: &Path, until: u64, heard: &mut Vec<u8>) {
    let end = Instant::now() + 4 * patience();
    while free(disk) >= until && call.status()["state"] == "recording" {
        assert!(Instant::now() < end, "{} octets are left, and it goes on", free(disk));
        for _ in 0..2 {
            heard.extend(call.source.send_next());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A call that begins and ends, if it may.
fn try_another(agent: &Agent) -> Result<(), Refusal> {
    let mut client = agent.subscribed_client();
    let started = client.request("record.start", json!({"mode": "server", "codec": "PCMA"}))?;
    let recording = started["recording"].clone();
    client.ok("record.stop", json!({"recording": recording}));
    client.wait_event_where("recording.ended", patience(), |params| params["recording"] == recording);
    Ok(())
}

fn ended_sidecar(server: &Server, reason: &str) -> (PathBuf, Value) {
    wait_for(&format!("a file that ended with {reason}"), patience(), || {
        let files = server.files("wav").into_iter().map(|file| (sidecar(&file), file));
        files.into_iter().find_map(|(sidecar, file)| {
            sidecar.filter(|sidecar| sidecar["end_reason"] == reason).map(|sidecar| (file, sidecar))
        })
    })
}

#[test]
fn a_server_with_little_room_ends_what_runs_in_time_refuses_what_comes_and_goes_on_with_room_again() {
    let Some(disk) = LoopDisk::mount(24) else { return };
    let folder = disk.stick();
    let Some(server) = Server::real_with(Some(&folder), &format!("reserve = {RESERVE}\n")) else { return };
    let agent = Setup::new().uploads_to(server.addr).start();
    let mut call = start(&agent);
    let hog = hog(&folder);
    let mut heard = Vec::new();

    // Below the reserve nobody else gets in; running calls go on.
    speak_until(&mut call, &folder, RESERVE - 64 * KIB, &mut heard);
    let refused = wait_for("a refusal", patience(), || try_another(&agent).err());
    assert_eq!(refused.reason, "server_refused", "{}", refused.whole);
    let detail = refused.whole["data"]["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("disk full on the server"), "{}", refused.whole);
    assert_eq!(call.status()["state"], "recording");

    // Below half of it a recording that grows faster than a call is ended, while there is room to end it.
    speak_until(&mut call, &folder, 0, &mut heard);
    let ended = call.wait_ended();
    assert_eq!(ended["end_reason"], "storage_full", "{ended}");
    let (file, sidecar) = ended_sidecar(&server, "storage_full");
    let left = free(&folder);
    let packets = heard.len() as u64 / 480;
    assert_eq!(sidecar["state"], "ended", "{sidecar}");
    assert_eq!(number(&sidecar, "/packets/lost") + number(&sidecar, "/packets/dropped"), 0, "{sidecar}");
    assert!(left > RESERVE / 4, "only {left} octets are left");
    let stored = read_recording(&file);
    assert_eq!(stored.data_size as usize, stored.data.len());
    assert_eq!(number(&sidecar, "/packets/received") * 480, stored.data.len() as u64, "{sidecar}");
    assert!(heard.starts_with(&stored.data), "something else was stored");
    assert!(stored.data.len() as u64 > RESERVE / 2 - 64 * KIB, "ended early: {} octets", stored.data.len());
    run(recordctl().arg("verify").arg(&file));
    assert_eq!(try_another(&agent).expect_err("a full disk").reason, "server_refused");
    row(
        "a server's disk filled to the reserve",
        &format!("{} of {packets} packets kept, {left} octets left", stored.data.len() / 480),
    );

    std::fs::remove_file(hog).expect("removed");
    wait_for("a call that is accepted again", patience(), || try_another(&agent).ok());
    let mut call = start(&agent);
    let heard = call.speak(10);
    call.stop();
    wait_for("the next call's file", patience(), || {
        let files = server.files("wav").into_iter().filter_map(|file| Some(read_begun(&file)?.data));
        files.into_iter().find(|data| *data == heard)
    });
}

#[test]
fn without_a_reserve_a_server_whose_disk_is_full_to_the_last_block_keeps_what_it_wrote_and_says_so() {
    let Some(disk) = LoopDisk::mount(12) else { return };
    let folder = disk.stick();
    let Some(server) = Server::real_with(Some(&folder), "reserve = 0\n") else { return };
    let agent = Setup::new().uploads_to(server.addr).start();
    let mut call = start(&agent);
    let mut heard = call.speak(100);
    let first = heard.len();
    wait_for("what was said on the disk", patience(), || {
        let file = server.files("wav").first().and_then(|file| read_begun(file))?;
        (file.data_size as usize == first).then_some(())
    });
    fill_up(&folder);
    speak_until(&mut call, &folder, 0, &mut heard);
    let ended = call.wait_ended();
    assert_eq!(ended["end_reason"], "storage_full", "{ended}");
    let file = server.files("wav").remove(0);
    let exact = || Some(read_recording(&file)).filter(|file| file.data_size as usize == file.data.len());
    let stored = wait_for("an exact header", patience(), exact);
    assert!(heard.starts_with(&stored.data) && stored.data.len() >= first, "{}", stored.data.len());

    std::fs::remove_file(folder.join("hog")).expect("removed");
    wait_for("a call that is accepted again", patience(), || try_another(&agent).ok());
    // Also if there was no room for its sidecar at the end.
    wait_for("a sidecar that is closed", patience(), || {
        sidecar(&file).filter(|sidecar| sidecar["state"] == "ended")
    });
    run(recordctl().arg("verify").arg(&file));
}

#[test]
fn a_call_right_after_others_have_filled_a_servers_disk_is_refused_rather_than_begun_and_ended() {
    let Some(disk) = LoopDisk::mount(12) else { return };
    let folder = disk.stick();
    let Some(server) = Server::real_with(Some(&folder), &format!("reserve = {RESERVE}\n")) else { return };
    let agent = Setup::new().uploads_to(server.addr).start();
    let mut call = start(&agent);
    call.speak(100);
    fill_up(&folder);
    speak_until(&mut call, &folder, 0, &mut Vec::new());
    assert_eq!(call.wait_ended()["end_reason"], "storage_full");
    assert_eq!(try_another(&agent).expect_err("a full disk").reason, "server_refused");
}
