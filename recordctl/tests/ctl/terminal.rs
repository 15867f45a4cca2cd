//! `recordctl` at a terminal: lines that are redrawn in place, and commands that end with it.

use crate::fake_agent::{FakeAgent, status};
use crate::{program, wait_until_asked};
use serde_json::json;
use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

/// The most looks of a wait: twenty seconds, for a busy machine.
const LOOKS: usize = 4000;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// A terminal, and its output.
struct Terminal {
    screen: File,
    ours: File,
}

impl Terminal {
    /// Neither side is inherited by a child that another test starts at this moment: a terminal is gone when
    /// nobody has it any more.
    #[expect(unsafe_code, reason = "there is no terminal without these calls, which have no wrapper here")]
    fn new(columns: u16) -> Self {
        let there = |is_there: bool| assert!(is_there, "no terminal: {}", std::io::Error::last_os_error());
        // SAFETY: it takes numbers alone.
        let screen = unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
        there(screen >= 0);
        // SAFETY: the descriptor is new, and nobody else's.
        let screen = unsafe { File::from_raw_fd(screen) };
        let mut name = [0; 64];
        // SAFETY: the descriptor is open, and the name is written within its length, with a zero behind it.
        let made = unsafe {
            libc::grantpt(screen.as_raw_fd()) == 0
                && libc::unlockpt(screen.as_raw_fd()) == 0
                && libc::ptsname_r(screen.as_raw_fd(), name.as_mut_ptr(), name.len()) == 0
        };
        there(made);
        // SAFETY: a zero ends the name.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) };
        let ours = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(name.to_str().unwrap())
            .unwrap();
        let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open, and the size is read during the call alone.
        there(unsafe { libc::ioctl(ours.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } == 0);
        Self { screen, ours }
    }

    /// The terminal as an output of a process.
    fn output(&self) -> Stdio {
        self.ours.try_clone().unwrap().into()
    }

    /// All that was shown, once every process that had it has ended.
    fn shown(self) -> String {
        let Self { mut screen, ours } = self;
        drop(ours);
        let mut text = Vec::new();
        let mut chunk = [0; 4096];
        // A terminal that nobody has any more gives an error.
        while let Ok(octets @ 1..) = screen.read(&mut chunk) {
            text.extend_from_slice(&chunk[..octets]);
        }
        String::from_utf8(text).unwrap()
    }
}

fn end_of(child: &mut Child) -> ExitStatus {
    for _ in 0..LOOKS {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::park_timeout(BETWEEN_LOOKS);
    }
    child.kill().unwrap();
    panic!("it does not end: {}", child.wait().unwrap());
}

/// Starts `recordctl watch` at the terminal; nobody but it has that as an output then.
fn watch(agent: &FakeAgent, more: &[&str], terminal: &Terminal) -> Child {
    let mut command = program();
    command.arg("--socket").arg(&agent.socket).arg("watch").args(more);
    command.stdout(terminal.output()).stderr(terminal.output()).spawn().unwrap()
}

/// The line after each redrawing, at a terminal of `columns`.
fn watched(columns: u16, agent: &FakeAgent) -> Vec<String> {
    let terminal = Terminal::new(columns);
    let mut watch = watch(agent, &[], &terminal);
    end_of(&mut watch);
    let shown = terminal.shown();
    let lines = shown.split(['\r', '\n']).map(|line| line.replace("\x1b[K", ""));
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn watch_never_wraps_and_tells_trouble_at_40_80_and_200_columns() {
    for columns in [40, 80, 200] {
        let agent = FakeAgent::start();
        agent.set_recording("recording");
        let mut bad = status("recording");
        bad["media"] = json!("none");
        bad["degraded"] = json!(true);
        bad["elapsed_ms"] = json!(36_083_000);
        bad["packets"]["lost"] = json!(345_678);
        agent.set_story(vec![
            ("recording.progress", status("recording")),
            ("recording.stalled", bad),
            ("storage.full", json!({"state": "full"})),
            ("recording.ended", status("ended")),
        ]);
        let lines = watched(columns, &agent);
        let redrawn = lines.iter().filter(|line| line.starts_with("REC")).collect::<Vec<_>>();
        assert!(redrawn.len() >= 3, "{lines:?}");
        for line in &redrawn {
            assert!(line.chars().count() < usize::from(columns), "{columns} columns: {line:?}");
        }
        assert!(redrawn[0].contains("1:23") && redrawn[0].contains("dB"), "{redrawn:?}");
        let troubled = redrawn.iter().find(|line| line.contains("STALLED")).expect("the stalled disk");
        for word in ["10:01:23", "NO MEDIA", "DEGRADED"] {
            assert!(troubled.contains(word), "{columns} columns: {word} is not in {troubled:?}");
        }
        assert!(redrawn.iter().any(|line| line.contains("FULL")), "{redrawn:?}");
        assert_eq!(redrawn[0].contains(".wav"), columns == 200, "{redrawn:?}");
    }
}

#[test]
fn watch_waits_for_the_next_recording_if_it_is_told_to_and_ends_with_it() {
    let agent = FakeAgent::start();
    let terminal = Terminal::new(80);
    let mut watch = watch(&agent, &["--wait"], &terminal);
    wait_until_asked(&agent, "record.status");
    agent.tell("storage.low", json!({}));
    agent.tell("recording.started", status("recording"));
    agent.tell("recording.ended", status("ended"));
    assert!(end_of(&mut watch).success());
    let shown = terminal.shown();
    let at = |word: &str| shown.find(word).unwrap_or_else(|| panic!("{word} is not in {shown:?}"));
    assert!(
        at("waiting for a recording") < at("REC ") && at("REC ") < at("_20260301-091500.wav (stopped)"),
        "{shown:?}"
    );
}

#[test]
fn watch_says_on_a_line_of_its_own_that_the_agent_is_gone() {
    let agent = FakeAgent::start();
    agent.set_recording("recording");
    agent.set_story(vec![("recording.progress", status("recording"))]);
    let terminal = Terminal::new(80);
    let mut watch = watch(&agent, &[], &terminal);
    wait_until_asked(&agent, "record.status");
    agent.hang_up();
    assert_eq!(end_of(&mut watch).code(), Some(1));
    let shown = terminal.shown();
    assert!(shown.contains("\nrecordctl: the connection to the agent is gone"), "{shown:?}");
}

/// A simulated agent whose commands come from `stdin`, when it listens.
fn simulated(folder: &std::path::Path, stdin: Stdio) -> Child {
    let socket = folder.join("socket");
    // Tests that are started by nohup ignore the signal, and so would their children.
    let program = program();
    let mut command = std::process::Command::new("env");
    command.arg("--default-signal=HUP").arg(program.get_program()).args(program.get_args());
    command.arg("--socket").arg(&socket).arg("simulate-agent").stdin(stdin).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    for _ in 0..LOOKS {
        if UnixStream::connect(&socket).is_ok() {
            return child;
        }
        std::thread::park_timeout(BETWEEN_LOOKS);
    }
    child.kill().unwrap();
    panic!("it does not listen: {}", child.wait().unwrap());
}

#[test]
fn a_simulated_agent_ends_with_its_terminal_however_that_shows() {
    // The end of the terminal's input.
    let folder = tempfile::tempdir().unwrap();
    let terminal = Terminal::new(80);
    let mut child = simulated(folder.path(), terminal.output());
    assert!(child.try_wait().unwrap().is_none());
    drop(terminal);
    assert!(end_of(&mut child).success());
    assert!(!folder.path().join("socket").exists(), "it has left its socket");
    // A signal: without a terminal on stdin as well.
    let mut child = simulated(folder.path(), Stdio::null());
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    assert!(end_of(&mut child).success());
}

#[test]
fn a_simulated_agent_outlives_a_pipe_that_has_no_more_commands() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = simulated(folder.path(), Stdio::null());
    std::thread::park_timeout(Duration::from_millis(300));
    let there = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(there, "it ended with its commands");
}
