//! An eject that comes while something else is under way: a recording that begins, a recovery.

use super::Agent;
use super::io::{Action, ClientId, Input, RecordingKey};
use crate::config::Config;
use crate::jobs::{Disk, Done, Fault, FaultKind, FileKey, Folder, Job, Opened, Space};
use crate::time::Now;
use std::net::{Ipv4Addr, SocketAddr};

const UI: ClientId = ClientId(1);

fn step(agent: &mut Agent, input: Input<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    agent.step(input, Now::default(), &mut actions);
    actions
}

fn ask(agent: &mut Agent, line: &str) -> Vec<Action> {
    step(agent, Input::ClientLine(UI, line.as_bytes()))
}

/// An agent with a stick, and a recording whose RTP port is still asked for.
fn starting() -> (Agent, RecordingKey) {
    starting_with("")
}

fn starting_with(config: &str) -> (Agent, RecordingKey) {
    let mut agent = Agent::new(Config::parse(config, "test").unwrap(), 7, Now::default());
    step(&mut agent, Input::ClientOpened(UI));
    step(&mut agent, Input::Started);
    let space = Space { total_octets: 1 << 30, free_octets: 1 << 29 };
    let stick = Disk { device: 1, space, removable: true, ..Disk::default() };
    step(&mut agent, Input::Storage(Done::Scanned(Some(stick))));
    let start =
        r#"{"jsonrpc":"2.0","id":1,"method":"record.start","params":{"mode":"local","codec":"PCMA"}}"#;
    let bind = ask(&mut agent, start).into_iter().find_map(|action| match action {
        Action::BindRtp { recording, .. } => Some(recording),
        _ => None,
    });
    (agent, bind.expect("a port is asked for"))
}

fn eject(agent: &mut Agent) {
    let actions = ask(agent, r#"{"jsonrpc":"2.0","id":2,"method":"storage.eject"}"#);
    assert!(!ejects(&actions), "the recording comes first: {actions:?}");
}

fn ejects(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Job(Job::Eject(_))))
}

/// The port is bound: the file that is to be opened.
fn opening(agent: &mut Agent, recording: RecordingKey) -> FileKey {
    let rtp = SocketAddr::from((Ipv4Addr::LOCALHOST, 4000));
    let actions = step(agent, Input::RtpBound(recording, Ok(rtp)));
    let file = actions.iter().find_map(|action| match action {
        Action::Job(Job::Open(open)) => Some(open.file),
        _ => None,
    });
    file.expect("a file is asked for")
}

#[test]
fn an_eject_goes_on_when_the_file_that_was_being_opened_can_not_be() {
    let (mut agent, recording) = starting();
    let file = opening(&mut agent, recording);
    eject(&mut agent);
    let fault = Fault { kind: FaultKind::Io, detail: "a broken stick".into() };
    let actions = step(&mut agent, Input::Storage(Done::Opened { file, result: Err(fault) }));
    assert!(ejects(&actions), "{actions:?}");
}

#[test]
fn an_eject_goes_on_when_no_rtp_port_can_be_bound() {
    let (mut agent, recording) = starting();
    eject(&mut agent);
    let actions = step(&mut agent, Input::RtpBound(recording, Err("taken".into())));
    assert!(ejects(&actions), "{actions:?}");
}

#[test]
fn an_eject_does_not_wait_for_a_recording_that_waits_for_another_disk() {
    let (mut agent, recording) = starting_with("[storage]\nresume_window_s = 3600\n");
    let file = opening(&mut agent, recording);
    let opened = Opened { path: "/r.wav".into(), name: "r.wav".into(), space: Space::default() };
    step(&mut agent, Input::Storage(Done::Opened { file, result: Ok(opened) }));
    eject(&mut agent);
    let fault = Fault { kind: FaultKind::Io, detail: "a broken stick".into() };
    let actions = step(&mut agent, Input::Storage(Done::Closed { file, result: Err(fault) }));
    assert!(ejects(&actions), "{actions:?}");
}

/// The stick's folder, out of the job that began its recovery.
fn recovering(agent: &mut Agent) -> Folder {
    let space = Space { total_octets: 1 << 30, free_octets: 1 << 29 };
    let stick = Disk { device: 2, space, removable: true, ..Disk::default() };
    let actions = step(agent, Input::Storage(Done::Scanned(Some(stick))));
    let folder = actions.into_iter().find_map(|action| match action {
        Action::Job(Job::Recover { folder, after: None }) => Some(folder),
        _ => None,
    });
    folder.expect("another stick is looked through")
}

fn goes_on(agent: &mut Agent, folder: &Folder) -> bool {
    let next = Some((folder.clone(), "Record_20260301-091500.wav".to_owned()));
    let actions = step(agent, Input::Storage(Done::Recovered { files: Vec::new(), next }));
    actions.iter().any(|action| matches!(action, Action::Job(Job::Recover { after: Some(_), .. })))
}

#[test]
fn a_recovery_goes_on_step_by_step_and_no_step_comes_behind_an_eject() {
    let mut agent = Agent::new(Config::default(), 7, Now::default());
    step(&mut agent, Input::ClientOpened(UI));
    let folder = recovering(&mut agent);
    assert!(goes_on(&mut agent, &folder));
    assert!(!goes_on(&mut agent, &Folder { device: 1, ..folder.clone() }), "that one was pulled");
    let actions = ask(&mut agent, r#"{"jsonrpc":"2.0","id":2,"method":"storage.eject"}"#);
    assert!(ejects(&actions), "{actions:?}");
    assert!(!goes_on(&mut agent, &folder), "it would be done behind the eject");
    step(&mut agent, Input::Storage(Done::Ejected(Ok(false))));
    assert!(!goes_on(&mut agent, &folder), "it was said to be safe to pull");
}
