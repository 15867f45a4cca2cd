//! An eject, or a pull, that comes while something else is under way: a recording that begins, a recovery.

use crate::agent::{Action, Agent, ClientId, Input, RecordingKey};
use crate::config::Config;
use media::time::Now;
use std::net::{Ipv4Addr, SocketAddr};
use store::jobs::library::{Indexed, LibraryDone, LibraryJob};
use store::jobs::{Disk, Done, Ejected, Fault, FaultKind, FileKey, Job, Left, Opened, Space};

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
    step(&mut agent, Input::Storage(Done::Scanned(Some(stick).into())));
    let start =
        r#"{"jsonrpc":"2.0","id":1,"method":"record.start","params":{"mode":"local","codec":"PCMA"}}"#;
    let bind = ask(&mut agent, start).into_iter().find_map(|action| match action {
        Action::BindRtp { recording, .. } => Some(recording),
        _ => None,
    });
    (agent, bind.expect("a port is asked for"))
}

/// Synced, and left mounted because we may not.
fn ejected() -> Ejected {
    let left = Left { point: "/".into(), why: "not allowed".into(), denied: true };
    Ejected { left: vec![left], ..Ejected::default() }
}

fn eject(agent: &mut Agent) {
    let actions = ask(agent, r#"{"jsonrpc":"2.0","id":2,"method":"storage.eject"}"#);
    assert!(!ejects(&actions), "the recording comes first: {actions:?}");
}

fn ejects(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Job(Job::Eject(_))))
}

/// The port is bound: the file to open.
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

fn indexes(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Job(Job::Library(LibraryJob::Index(_)))))
}

/// An agent whose disk is being ejected while its folder was being looked through.
fn ejecting_in_mid_pass() -> Agent {
    let mut agent = Agent::new(Config::default(), 7, Now::default());
    step(&mut agent, Input::ClientOpened(UI));
    step(&mut agent, Input::Started);
    let stick = Disk { device: 1, removable: true, ..Disk::default() };
    assert!(indexes(&step(&mut agent, Input::Storage(Done::Scanned(Some(stick).into())))));
    let index = Indexed { pass: 1, next: Some("Record_20260301-091500.wav".into()), ..Indexed::default() };
    assert!(ejects(&ask(&mut agent, r#"{"jsonrpc":"2.0","id":2,"method":"storage.eject"}"#)));
    let done = Input::Storage(Done::Library(LibraryDone::Indexed(index)));
    assert!(!indexes(&step(&mut agent, done)), "a step may write, and the disk is to be pulled");
    assert_eq!(agent.deadline(), None);
    agent
}

#[test]
fn the_folder_is_not_looked_through_any_more_once_the_disk_is_to_be_ejected() {
    let mut agent = ejecting_in_mid_pass();
    let actions = step(&mut agent, Input::Storage(Done::Ejected(Ok(ejected()))));
    assert!(!indexes(&actions), "{actions:?}");
    assert_eq!(agent.deadline(), None);
}

#[test]
fn the_folder_is_looked_through_to_its_end_when_the_disk_could_not_be_ejected() {
    let mut agent = ejecting_in_mid_pass();
    let fault = Fault { kind: FaultKind::Io, detail: "a broken stick".into() };
    assert!(indexes(&step(&mut agent, Input::Storage(Done::Ejected(Err(fault))))));
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

fn jobs(actions: &[Action]) -> Vec<String> {
    let job = |action: &Action| match action {
        Action::Job(job) => Some(format!("{job:?}").split([' ', '(']).next().unwrap_or_default().to_owned()),
        _ => None,
    };
    actions.iter().filter_map(job).collect()
}

#[test]
fn a_file_is_not_given_up_before_it_was_to_be_opened() {
    let (mut agent, recording) = starting();
    let rtp = SocketAddr::from((Ipv4Addr::LOCALHOST, 4000));
    let actions = step(&mut agent, Input::RtpBound(recording, Ok(rtp)));
    let open = actions.into_iter().find_map(|action| match action {
        Action::Job(job @ Job::Open(_)) => Some(job),
        _ => None,
    });
    step(&mut agent, Input::JobRefused(open.expect("a file is asked for")));
    let scan = jobs(&step(&mut agent, Input::MountsChanged));
    assert!(scan.is_empty(), "it overtakes the file: {scan:?}");
    // The scan that was under way before, answered now: the stick is gone.
    let gone = jobs(&step(&mut agent, Input::Storage(Done::Scanned(None.into()))));
    let place = |name: &str| gone.iter().position(|job| job == name);
    assert!(place("Open").is_some_and(|open| place("Abandon").is_some_and(|end| open < end)), "{gone:?}");
}
