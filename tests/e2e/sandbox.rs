//! The privileges that the agent gives up once it has started; it records and ejects all the same.

use crate::support::agent::is_emulated;
use crate::support::environment::{SmallDisk, skip_here};
use crate::support::{Setup, text};
use nix::mount::{MsFlags, mount};
use serde_json::json;
use std::fs;

/// A field of the kernel's status of a process.
fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

#[test]
fn the_agent_has_no_privileges_and_says_so() {
    let mut agent = Setup::new().start();
    let sandbox = agent.client().ok("agent.info", json!({}))["sandbox"].clone();
    assert_eq!(sandbox["enabled"], true);
    assert_eq!(sandbox["no_new_privs"], true, "{sandbox}");
    assert_eq!(sandbox["capabilities"], json!([]));
    if is_emulated() {
        return skip_here("an emulator shows its own process");
    }
    let pid = agent.pid();
    assert_eq!(field(pid, "NoNewPrivs"), "1");
    assert_eq!(sandbox["seccomp"], field(pid, "Seccomp") == "2");
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(field(pid, set), "0000000000000000", "{set}");
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max core")).unwrap().split(' ').collect();
    assert_eq!(core.iter().filter(|word| **word == "0").count(), 2, "{core:?}");
    // Every thread, not only the first one.
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task: u32 = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
        assert_eq!(field(task, "Seccomp"), field(pid, "Seccomp"));
        assert_eq!(field(task, "CapEff"), "0000000000000000");
    }
    assert!(agent.is_alive());
}

#[test]
fn without_the_sandbox_the_agent_says_so_and_has_no_core_dumps_either() {
    let agent = Setup::new().set("sandbox", "enabled", false).start();
    let sandbox = agent.client().ok("agent.info", json!({}))["sandbox"].clone();
    assert_eq!((&sandbox["enabled"], &sandbox["no_new_privs"]), (&json!(false), &json!(false)));
    assert!(!agent.log().contains("sandbox: without"));
    if !is_emulated() {
        assert_eq!(field(agent.pid(), "NoNewPrivs"), "0");
        let limits = fs::read_to_string(format!("/proc/{}/limits", agent.pid())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core")).unwrap();
        assert!(core.contains(" 0 "), "{core}");
    }
}

#[test]
fn a_disk_mounted_after_the_start_is_recorded_to_and_not_unmounted_unless_it_can_be_pulled() {
    let Some(place) = SmallDisk::mount(64) else { return };
    let stick = place.path().join("stick");
    fs::create_dir(&stick).unwrap();
    let agent = Setup::new().storage(&stick).set("storage", "reserve", 0).start();
    mount(None::<&str>, &stick, Some("tmpfs"), MsFlags::empty(), Some("size=2m")).unwrap();
    let mut client = agent.client();
    let started = client.ok("record.start", json!({"codec": "PCMA", "call": {"id": "c"}}));
    let file = stick.join("Record").join(text(&started, "/file"));
    assert!(file.is_file(), "{}", file.display());
    client.ok("record.stop", json!({}));
    let ejected = client.ok("storage.eject", json!({}));
    assert_eq!((&ejected["safe_to_pull"], &ejected["unmounted"]), (&json!(true), &json!(false)), "{ejected}");
    assert!(file.exists(), "memory is no stick");
}
