//! Room that is made for a start: as much as that needs, and tried again where a disk takes no more names.

use crate::agent::{Action, Agent, ClientId, Input};
use crate::config::Config;
use media::time::Now;
use std::net::{Ipv4Addr, SocketAddr};
use store::jobs::{Disk, Done, Fault, FaultKind, Job, Opened, Space};

const UI: ClientId = ClientId(1);

const RESERVE: u64 = 16 << 20;

fn step(agent: &mut Agent, input: Input<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    agent.step(input, Now::default(), &mut actions);
    actions
}

fn start(agent: &mut Agent, mode: &str) -> Vec<Action> {
    let params = format!(r#"{{"mode":"{mode}","codec":"PCMA"}}"#);
    let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"record.start","params":{params}}}"#);
    step(agent, Input::ClientLine(UI, line.as_bytes()))
}

fn space(above_reserve: u64) -> Space {
    Space { total_octets: 1 << 30, free_octets: RESERVE + above_reserve }
}

/// An agent with a stick that has `above_reserve` octets of room above the reserve, and may delete.
fn agent(above_reserve: u64) -> Agent {
    let text = "[storage]\non_full = \"delete-oldest\"\nspeed_check = false\n\
                [uplink]\nserver_addr = \"192.0.2.1\"\nserver_port = 9099\n";
    let mut agent = Agent::new(Config::parse(text, "test").unwrap(), 7, Now::default());
    step(&mut agent, Input::ClientOpened(UI));
    step(&mut agent, Input::Started);
    let disk = Disk { device: 1, space: space(above_reserve), removable: true, ..Disk::default() };
    step(&mut agent, Input::Storage(Done::Scanned(Some(disk).into())));
    agent
}

fn deletes(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Job(Job::DeleteOldest { .. })))
}

fn deleted(agent: &mut Agent, file: Option<&str>, above_reserve: u64) -> Vec<Action> {
    let done = Done::Deleted { file: file.map(Into::into), space: Some(space(above_reserve)) };
    step(agent, Input::Storage(done))
}

#[test]
fn a_start_has_no_more_deleted_than_calls_to_the_disk_need() {
    let mut agent = agent(50 << 10);
    for _ in 0..2 {
        start(&mut agent, "server");
    }
    assert!(deletes(&start(&mut agent, "local")));
    // Enough for one call; three would need 256 KiB.
    let actions = deleted(&mut agent, Some("Record_20260301-091500.wav"), 200 << 10);
    assert!(!deletes(&actions), "{actions:?}");
    assert!(actions.iter().any(|action| matches!(action, Action::Job(Job::Scan(_)))), "{actions:?}");
}

#[test]
fn the_calls_that_run_are_named_with_every_step_of_a_search() {
    let mut agent = agent(1 << 20);
    let actions = short_of_names(&mut agent);
    let running = |actions: &[Action]| {
        actions.iter().find_map(|action| match action {
            Action::Job(Job::DeleteOldest { running, .. }) => Some(running.clone()),
            _ => None,
        })
    };
    let named = running(&actions).expect("room is made");
    assert_eq!(named.len(), 1);
    assert_eq!(running(&step(&mut agent, Input::Storage(Done::Searching))), Some(named));
}

#[test]
fn a_search_that_is_not_over_is_gone_on_with() {
    let mut agent = agent(50 << 10);
    assert!(deletes(&start(&mut agent, "local")));
    assert!(deletes(&step(&mut agent, Input::Storage(Done::Searching))));
    // The disk is gone: so is the search.
    step(&mut agent, Input::Storage(Done::Scanned(None.into())));
    assert!(!deletes(&step(&mut agent, Input::Storage(Done::Searching))));
}

/// Starts a call whose file finds no room for its name; gives the answer to the first try.
fn short_of_names(agent: &mut Agent) -> Vec<Action> {
    let bind = start(agent, "local").into_iter().find_map(|action| match action {
        Action::BindRtp { recording, .. } => Some(recording),
        _ => None,
    });
    let rtp = SocketAddr::from((Ipv4Addr::LOCALHOST, 4000));
    let actions = step(agent, Input::RtpBound(bind.expect("a port is asked for"), Ok(rtp)));
    refuse(agent, &actions)
}

/// Answers the opening of a file: there is no room.
fn refuse(agent: &mut Agent, actions: &[Action]) -> Vec<Action> {
    let file = actions.iter().find_map(|action| match action {
        Action::Job(Job::Open(open)) => Some(open.file),
        _ => None,
    });
    let fault = Fault { kind: FaultKind::Full, detail: "no room for another name".into() };
    step(agent, Input::Storage(Done::Opened { file: file.expect("a file"), result: Err(fault) }))
}

fn refusal(actions: &[Action]) -> Option<String> {
    actions.iter().find_map(|action| match action {
        Action::Reply(_, text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    })
}

#[test]
fn a_file_without_room_for_its_name_is_tried_again_with_an_old_file_less_and_not_for_ever() {
    let mut agent = agent(1 << 20);
    let mut actions = short_of_names(&mut agent);
    let mut tries = 0;
    while deletes(&actions) {
        tries += 1;
        assert!(refusal(&actions).is_none());
        let again = deleted(&mut agent, Some("Record_20260301-091500.wav"), 1 << 20);
        actions = refuse(&mut agent, &again);
    }
    assert_eq!(tries, 8);
    assert!(refusal(&actions).is_some_and(|text| text.contains("no room for another name")), "{actions:?}");
}

#[test]
fn with_nothing_to_delete_the_reason_is_said_and_with_room_one_more_goes() {
    let mut agent_a = agent(1 << 20);
    assert!(deletes(&short_of_names(&mut agent_a)));
    let told = refusal(&deleted(&mut agent_a, None, 1 << 20)).expect("an answer");
    assert!(told.contains("storage_full") && told.contains("no room for another name"), "{told}");

    let mut agent_b = agent(1 << 20);
    short_of_names(&mut agent_b);
    let again = deleted(&mut agent_b, Some("Record_20260301-091500.wav"), 1 << 20);
    let file = again.iter().find_map(|action| match action {
        Action::Job(Job::Open(open)) => Some(open.file),
        _ => None,
    });
    let opened = Opened { path: "/stick/a.wav".into(), name: "a.wav".into(), space: space(1 << 20) };
    let done = Done::Opened { file: file.expect("a file"), result: Ok(opened) };
    // The final sidecar will need a name for a moment.
    assert!(deletes(&step(&mut agent_b, Input::Storage(done))));
}
