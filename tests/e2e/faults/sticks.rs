//! Sticks as people use them: labels in old codes, several mounts and partitions, ejected, pulled, a second
//! one.

use super::usb::{Port, bind, cover, is_mounted, mount_at, uncover};
use crate::support::agent::is_emulated;
use crate::support::environment::skip_here;
use crate::support::recording_file::wait_finished;
use crate::support::{Agent, Call, Client, Codec, Setup, assert_audio, patience, sidecar_of, wait_until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// An agent that may unmount. An emulator has threads of its own, and the process that unmounts is only made
/// by a program that has one.
fn unmounting() -> Setup {
    if is_emulated() { Setup::new().set("sandbox", "enabled", false) } else { Setup::new() }
}

fn setup() -> Setup {
    unmounting().quoted("storage", "path", "auto").set("storage", "require_usb", true)
}

fn agent() -> Agent {
    setup().start()
}

fn start() -> Value {
    json!({"mode": "local", "codec": "PCMA"})
}

fn state(client: &mut Client) -> String {
    client.ok("storage.status", json!({}))["state"].as_str().unwrap().to_owned()
}

fn wait_state(client: &mut Client, expected: &str) {
    wait_until(&format!("the state {expected}"), patience(), || state(client) == expected);
}

/// Starts a recording that must be refused, and says why it is.
fn refusal(agent: &Agent) -> (String, Value) {
    let refused = agent.client().refused("record.start", start());
    (refused.reason, refused.whole["data"]["cause"].clone())
}

fn recordings(point: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(point.join("Record")).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|it| it == "wav"));
    found.sort();
    found
}

/// Records a little and fails unless all of it is in one finished file below `point`.
fn record_to(agent: &Agent, point: &Path) {
    let before = recordings(point);
    let mut call = Call::start(agent, Codec::Pcma);
    let heard = call.speak(20);
    call.stop();
    let new: Vec<PathBuf> = recordings(point).into_iter().filter(|it| !before.contains(it)).collect();
    assert_eq!(new.len(), 1, "{new:?}");
    wait_finished(&new[0]).assert_finished(Codec::Pcma, &heard);
}

#[test]
fn a_mount_point_in_any_code_is_recorded_to_listed_shown_and_ejected() {
    let Some(mut port) = Port::new() else { return };
    let stick = port.stick("old", 16);
    // "Büro" in CP850 and Latin-1, octets that no code has, and characters that the kernel escapes.
    for name in [&b"B\x81ro"[..], b"B\xfcro", b"\xff\xfe", b"a b\\c\td#e\nf"] {
        let point = port.point(name);
        mount_at(&stick.parts[0], &point, "rw");
        let agent = agent();
        record_to(&agent, &point);
        let mut client = agent.client();
        let status = client.ok("storage.status", json!({}));
        assert_eq!((&status["state"], &status["cause"]), (&json!("ok"), &Value::Null), "{status}");
        assert_eq!(status["mount"], point.to_string_lossy().as_ref());
        let listed = client.ok("recordings.list", json!({}));
        assert!(!listed["recordings"].as_array().unwrap().is_empty(), "{listed}");
        let ejected = client.ok("storage.eject", json!({}));
        assert_eq!(ejected, json!({"safe_to_pull": true, "unmounted": true}));
        assert!(!is_mounted(&point));
    }
}

#[test]
fn a_mount_of_somebody_else_with_any_name_costs_a_call_nothing() {
    let Some(mut port) = Port::new() else { return };
    let stick = port.stick("good", 16);
    let point = port.point(b"good");
    mount_at(&stick.parts[0], &point, "rw");
    let agent = agent();
    let mut call = Call::start(&agent, Codec::Pcma);
    let mut heard = call.speak_in_real_time(10);
    for name in [&b"B\xfcro"[..], b"\x80", b"x y"] {
        cover(&port.point(name));
        heard.extend(call.speak_in_real_time(10));
    }
    assert_eq!(state(&mut agent.client()), "ok");
    call.stop();
    wait_finished(&recordings(&point)[0]).assert_finished(Codec::Pcma, &heard);
}

#[test]
fn an_eject_undoes_every_mount_of_the_stick_and_a_remount_is_not_recorded_to() {
    let Some(mut port) = Port::new() else { return };
    let stick = port.stick("s", 16);
    let (first, second, bound) = (port.point(b"first"), port.point(b"second"), port.point(b"bound"));
    mount_at(&stick.parts[0], &first, "rw");
    mount_at(&stick.parts[0], &second, "rw");
    bind(&first.join("share"), &bound);
    let agent = agent();
    record_to(&agent, &first);
    let mut client = agent.subscribed_client();
    let ejected = client.ok("storage.eject", json!({}));
    assert_eq!(ejected, json!({"safe_to_pull": true, "unmounted": true}));
    for point in [&first, &second, &bound] {
        assert!(!is_mounted(point), "{}", point.display());
    }
    let told = client.wait_event("storage.state", patience());
    assert_eq!((&told["from"], &told["to"]), (&json!("ok"), &json!("ejected")), "{told}");
    // The automounter has it back at once, here or there.
    for point in [&first, &second] {
        mount_at(&stick.parts[0], point, "rw");
        assert_eq!(refusal(&agent), ("no_storage".into(), json!("ejected")));
        assert_eq!(state(&mut client), "ejected");
    }
    // Mounted again it can be ejected again.
    assert_eq!(client.ok("storage.eject", json!({}))["unmounted"], true);
    assert!(!is_mounted(&first) && !is_mounted(&second));
    port.pull(&stick);
    let told = client.wait_event_where("storage.state", patience(), |told| told["to"] == "absent");
    assert_eq!((&told["from"], &told["cause"]), (&json!("ejected"), &json!("absent")), "{told}");
    let stick = port.insert("s");
    mount_at(&stick.parts[0], &first, "rw");
    wait_state(&mut client, "ok");
    record_to(&agent, &first);
}

#[test]
fn a_stick_that_was_pulled_after_an_eject_and_is_back_at_once_is_recorded_to() {
    let Some(mut port) = Port::new() else { return };
    let stick = port.stick("s", 16);
    let point = port.point(b"s");
    mount_at(&stick.parts[0], &point, "rw");
    let agent = agent();
    let mut client = agent.client();
    client.ok("storage.eject", json!({}));
    port.pull(&stick);
    let stick = port.insert("s");
    mount_at(&stick.parts[0], &point, "rw");
    wait_state(&mut client, "ok");
    record_to(&agent, &point);
}

#[test]
fn an_eject_takes_all_partitions_of_the_stick_and_no_other_stick() {
    let Some(mut port) = Port::new() else { return };
    let Some(two) = port.stick_of_two("two", 32) else { return };
    let other = port.stick("other", 16);
    let points = [port.point(b"part1"), port.point(b"part2"), port.point(b"other")];
    mount_at(&two.parts[0], &points[0], "rw");
    mount_at(&two.parts[1], &points[1], "ro");
    let agent = agent();
    record_to(&agent, &points[0]);
    mount_at(&other.parts[0], &points[2], "rw");
    let mut client = agent.client();
    assert_eq!(client.ok("storage.eject", json!({}))["unmounted"], true);
    assert!(!is_mounted(&points[0]) && !is_mounted(&points[1]) && is_mounted(&points[2]));
    wait_state(&mut client, "ok");
    mount_at(&two.parts[1], &points[1], "rw");
    record_to(&agent, &points[2]);
    assert!(recordings(&points[1]).is_empty(), "a partition of the ejected stick");
}

#[test]
fn partitions_that_only_udev_knows_to_be_of_one_stick_are_ejected_together() {
    let Some(mut port) = Port::new() else { return };
    let first = port.stick("s", 16);
    let second = port.linked_as_part(&first, 2, 16);
    let points = [port.point(b"part1"), port.point(b"part2")];
    mount_at(&first.parts[0], &points[0], "rw");
    mount_at(&second.parts[0], &points[1], "rw");
    let agent = agent();
    record_to(&agent, &points[0]);
    assert_eq!(agent.client().ok("storage.eject", json!({}))["unmounted"], true);
    assert!(!is_mounted(&points[0]) && !is_mounted(&points[1]));
    mount_at(&second.parts[0], &points[1], "rw");
    assert_eq!(refusal(&agent), ("no_storage".into(), json!("ejected")));
}

#[test]
fn the_user_of_a_mount_is_named_and_the_stick_is_not_safe_to_pull_until_it_is_gone() {
    let Some(mut port) = Port::new() else { return };
    let stick = port.stick("s", 16);
    let (point, second) = (port.point(b"s"), port.point(b"second"));
    mount_at(&stick.parts[0], &point, "rw");
    mount_at(&stick.parts[0], &second, "rw");
    let agent = agent();
    let mut client = agent.client();
    let in_use = std::fs::File::create(second.join("open.txt")).unwrap();
    let ejected = client.ok("storage.eject", json!({}));
    assert_eq!(
        (&ejected["safe_to_pull"], &ejected["unmounted"]),
        (&json!(false), &json!(false)),
        "{ejected}"
    );
    assert_eq!(ejected["still_mounted"], json!([second.to_str().unwrap()]), "{ejected}");
    assert!(ejected["note"].as_str().unwrap().contains("in use"), "{ejected}");
    assert!(!is_mounted(&point) && is_mounted(&second));
    assert_eq!(refusal(&agent), ("no_storage".into(), json!("ejected")));
    drop(in_use);
    // Mounts that others have made over it or in it are not ours to unmount.
    for at in [second.clone(), second.join("inside")] {
        std::fs::create_dir_all(&at).unwrap();
        cover(&at);
        // Whether the agent has seen it or not.
        client.refused("record.start", start());
        let ejected = client.ok("storage.eject", json!({}));
        assert_eq!(ejected["safe_to_pull"], false, "{ejected}");
        assert!(ejected["note"].as_str().unwrap().contains("unmount that first"), "{ejected}");
        assert!(is_mounted(&at));
        uncover(&at);
    }
    assert_eq!(client.ok("storage.eject", json!({})), json!({"safe_to_pull": true, "unmounted": true}));
}

#[test]
fn a_stick_that_is_mounted_after_the_start_is_recorded_to_and_unmounted_wherever_it_is_bound() {
    let Some(mut port) = Port::new() else { return };
    let stick = port.stick("s", 16);
    let point = port.point(b"deep/below/s");
    let agent = unmounting().storage(&point).set("storage", "require_usb", true).start();
    assert_eq!(refusal(&agent), ("no_storage".into(), json!("not_removable")));
    mount_at(&stick.parts[0], &point, "rw");
    record_to(&agent, &point);
    // Outside of the folders that a confined agent unmounts in.
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    bind(&point.join("share"), elsewhere.path());
    assert_eq!(
        agent.client().ok("storage.eject", json!({})),
        json!({"safe_to_pull": true, "unmounted": true})
    );
    assert!(!is_mounted(&point) && !is_mounted(elsewhere.path()));
}

#[test]
fn a_mount_that_the_agent_may_not_unmount_is_synced_named_and_not_recorded_to() {
    let Some(mut port) = Port::new() else { return };
    let stick = port.stick("s", 16);
    let point = port.point(b"s");
    mount_at(&stick.parts[0], &point, "rw");
    let agent = setup().set("sandbox", "unmount", false).start();
    let mut client = agent.client();
    if client.ok("agent.info", json!({}))["sandbox"]["seccomp"] != true {
        return skip_here("where nothing is confined, the agent unmounts by itself");
    }
    record_to(&agent, &point);
    let ejected = client.ok("storage.eject", json!({}));
    assert_eq!((&ejected["safe_to_pull"], &ejected["unmounted"]), (&json!(true), &json!(false)), "{ejected}");
    assert_eq!(ejected["still_mounted"], json!([point.to_str().unwrap()]), "{ejected}");
    assert!(ejected["note"].as_str().unwrap().contains("may not unmount"), "{ejected}");
    assert_eq!(refusal(&agent), ("no_storage".into(), json!("ejected")));
}

#[test]
fn a_disk_that_can_not_be_pulled_is_not_unmounted_nor_is_the_flash_behind_it_filled() {
    let Some(mut port) = Port::new() else { return };
    let fixed = port.stick("fixed", 16);
    std::fs::remove_file("/dev/disk/by-id/usb-fixed-0:0").unwrap();
    let point = port.point(b"data");
    mount_at(&fixed.parts[0], &point, "rw");
    let agent = unmounting().storage(&point).start();
    let ejected = agent.client().ok("storage.eject", json!({}));
    assert_eq!((&ejected["safe_to_pull"], &ejected["unmounted"]), (&json!(true), &json!(false)), "{ejected}");
    assert!(is_mounted(&point));
    record_to(&agent, &point);
    std::os::unix::fs::symlink("/dev/null", "/dev/disk/by-id/usb-fixed-0:0").unwrap();
}

#[test]
fn the_folder_that_an_ejected_stick_leaves_at_its_place_is_not_recorded_to() {
    let Some(mut port) = Port::new() else { return };
    let stick = port.stick("s", 16);
    let point = port.point(b"s");
    mount_at(&stick.parts[0], &point, "rw");
    let agent = unmounting().storage(&point).start();
    record_to(&agent, &point);
    assert_eq!(agent.client().ok("storage.eject", json!({}))["unmounted"], true);
    assert_eq!(refusal(&agent), ("no_storage".into(), json!("ejected")));
    port.pull(&stick);
    let (reason, cause) = refusal(&agent);
    assert_eq!(reason, "no_storage", "{cause}");
    assert!(recordings(&point).is_empty(), "the phone's own memory was recorded to");
    let stick = port.insert("s");
    mount_at(&stick.parts[0], &point, "rw");
    wait_state(&mut agent.client(), "ok");
    record_to(&agent, &point);
}

#[test]
fn a_mount_over_a_stick_is_not_recorded_to_and_the_best_of_the_sticks_mounts_is() {
    let Some(mut port) = Port::new() else { return };
    let stick = port.stick("s", 16);
    let (read_only, part, whole) = (port.point(b"ro"), port.point(b"part"), port.point(b"whole"));
    mount_at(&stick.parts[0], &whole, "rw");
    let agent = agent();
    bind(&whole.join("share"), &part);
    run_ro_bind(&whole, &read_only);
    record_to(&agent, &whole);
    // Covered, it is reached by the bind mount only; then not at all.
    cover(&whole);
    wait_until("the other mount", patience(), || {
        agent.client().ok("storage.status", json!({}))["mount"] == part.to_str().unwrap()
    });
    record_to(&agent, &part);
    assert!(recordings(&whole).is_empty(), "the memory over the stick was recorded to");
    uncover(&whole);
}

fn run_ro_bind(from: &Path, to: &Path) {
    use nix::mount::{MsFlags, mount};
    bind(from, to);
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, to, None::<&str>, flags, None::<&str>).expect("read-only");
}

/// A port with two sticks, the first of `size_mib`, and an agent.
fn two_sticks(
    more: impl FnOnce(Setup) -> Setup,
    size_mib: u32,
) -> Option<(Port, [super::usb::Stick; 2], [PathBuf; 2], Agent)> {
    let mut port = Port::new()?;
    let sticks = [port.stick("a", size_mib), port.stick("b", 16)];
    let points = [port.point(b"a"), port.point(b"b")];
    for (stick, point) in sticks.iter().zip(&points) {
        mount_at(&stick.parts[0], point, "rw");
    }
    let agent = more(setup()).start();
    Some((port, sticks, points, agent))
}

/// The audio of the recording of a call, on both sticks.
fn audio(points: &[PathBuf], id: &str) -> Vec<u8> {
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for file in points.iter().flat_map(|point| recordings(point)) {
        let sidecar = sidecar_of(&file);
        if sidecar["recording"] == id {
            files.push((sidecar["segment"].as_u64().unwrap(), file));
        }
    }
    files.sort();
    let numbers: Vec<u64> = files.iter().map(|file| file.0).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{files:?}");
    files.into_iter().flat_map(|(_, file)| wait_finished(&file).data).collect()
}

/// Fills the disk but for `left` octets.
fn fill(point: &Path, left: u64) {
    let stat = nix::sys::statvfs::statvfs(point).unwrap();
    // Their width is the machine's.
    #[allow(clippy::useless_conversion, reason = "32 bits on ARMv7")]
    let room = u64::from(stat.blocks_available()) * u64::from(stat.fragment_size());
    let written = std::fs::write(point.join("holiday"), vec![1; (room - left) as usize]);
    // To the brim: the map of the file takes room, too.
    assert!(written.is_ok() || left == 0, "{written:?}");
}

/// The audio that the header of a file promises, finished or not.
fn promised(file: &Path) -> Vec<u8> {
    let file = std::fs::read(file).unwrap();
    let octets = u32::from_le_bytes(file[72..76].try_into().unwrap()) as usize;
    file[76..76 + octets].to_vec()
}

#[test]
fn a_call_goes_on_at_the_second_stick_when_the_first_is_full() {
    // Told in time by the room that is left, and by the write that fails.
    for left in [100 * 1024, 0] {
        let Some((_port, _, points, agent)) = two_sticks(|setup| setup, 16) else { return };
        let mut call = Call::start(&agent, Codec::Pcma);
        let mut heard = call.speak_in_real_time(60);
        // While the call goes on; the thread sees the same mounts.
        let at = points[0].clone();
        let filling = std::thread::spawn(move || fill(&at, left));
        while !filling.is_finished() {
            heard.extend(call.speak_in_real_time(10));
        }
        filling.join().unwrap();
        heard.extend(call.speak_in_real_time(350));
        let full = call.client.wait_event("storage.full", patience());
        assert_eq!(full["mount"], points[0].to_str().unwrap(), "{full}");
        let segment = call.wait_event("recording.segment");
        assert_eq!(segment["segment"], 2, "{segment}");
        let ended = call.stop();
        assert_eq!((&ended["degraded"], &ended["end_reason"]), (&json!(false), &json!("stopped")), "{ended}");
        // A disk that is full to the brim may have no room for the sidecar that says so.
        let first = recordings(&points[0]).remove(0);
        let both = [promised(&first), promised(&recordings(&points[1])[0])].concat();
        assert_audio(&both, &heard);
        if left > 0 {
            assert_audio(&audio(&points, &call.id), &heard);
            assert_eq!(sidecar_of(&first)["end_reason"], "storage_full");
        }
        let status = agent.client().ok("storage.status", json!({}));
        assert_eq!((&status["state"], &status["mount"]), (&json!("ok"), &json!(points[1].to_str().unwrap())));
        record_to(&agent, &points[1]);
    }
}

#[test]
fn nothing_is_deleted_while_another_stick_has_room() {
    let deletes = |setup: Setup| setup.quoted("storage", "on_full", "delete-oldest");
    let Some((_port, _, points, agent)) = two_sticks(deletes, 4) else { return };
    record_to(&agent, &points[0]);
    let old = recordings(&points[0]);
    fill(&points[0], 100 * 1024);
    // Files that others have written are seen at the next look.
    let mut client = agent.subscribed_client();
    client.wait_event_where("storage.state", patience(), |told| told["cause"] == "next_disk");
    record_to(&agent, &points[1]);
    assert_eq!(recordings(&points[0]), old);
}

#[test]
fn a_call_goes_on_at_the_second_stick_when_the_first_becomes_read_only_or_is_pulled() {
    for pulled in [false, true] {
        let Some((mut port, sticks, points, agent)) = two_sticks(|setup| setup, 16) else { return };
        let mut call = Call::start(&agent, Codec::Pcma);
        let mut heard = call.speak_in_real_time(110);
        if pulled {
            port.pull(&sticks[0]);
        } else {
            use nix::mount::{MsFlags, mount};
            // As the kernel does of itself after an error.
            let flags = MsFlags::MS_REMOUNT;
            mount(None::<&str>, &points[0], None::<&str>, flags, Some("abort")).expect("read-only");
        }
        heard.extend(call.speak_in_real_time(110));
        let segment = call.wait_event("recording.segment");
        assert_eq!(segment["segment"], 2, "{segment}");
        let ended = call.stop();
        assert_eq!((&ended["degraded"], &ended["end_reason"]), (&json!(false), &json!("stopped")), "{ended}");
        if pulled {
            // Put back, the old file is finished to where the new one begins.
            let stick = port.insert("a");
            mount_at(&stick.parts[0], &points[0], "rw");
            wait_until("the old file to be finished", patience(), || {
                recordings(&points[0]).first().is_some_and(|file| sidecar_of(file)["state"] == "ended")
            });
        }
        let both = if pulled {
            audio(&points, &call.id)
        } else {
            // Of a file that nobody can finish, only the audio that its header promises counts.
            [promised(&recordings(&points[0])[0]), promised(&recordings(&points[1])[0])].concat()
        };
        assert_audio(&both, &heard);
    }
}

#[test]
fn a_start_goes_to_the_next_stick_when_the_first_can_not_be_recorded_to() {
    let Some(mut port) = Port::new() else { return };
    let sticks = [port.stick("a", 16), port.stick("b", 16), port.stick("c", 16)];
    let points = [port.point(b"a"), port.point(b"b"), port.point(b"c")];
    mount_at(&sticks[0].parts[0], &points[0], "ro");
    mount_at(&sticks[1].parts[0], &points[1], "rw");
    std::fs::write(points[1].join("Record"), "a file").unwrap();
    let agent = agent();
    assert_eq!(refusal(&agent), ("storage_io".into(), json!("not_a_folder")));
    mount_at(&sticks[2].parts[0], &points[2], "rw");
    wait_state(&mut agent.client(), "ok");
    record_to(&agent, &points[2]);
}

#[test]
fn of_two_partitions_the_second_takes_over_when_the_first_is_full() {
    let Some(mut port) = Port::new() else { return };
    let Some(two) = port.stick_of_two("two", 16) else { return };
    let points = [port.point(b"part1"), port.point(b"part2")];
    for (part, point) in two.parts.iter().zip(&points) {
        mount_at(part, point, "rw");
    }
    let agent = agent();
    record_to(&agent, &points[0]);
    let mut client = agent.subscribed_client();
    fill(&points[0], 100 * 1024);
    // Files that others have written are seen at the next look.
    client.wait_event_where("storage.state", patience(), |told| told["cause"] == "next_disk");
    record_to(&agent, &points[1]);
}
