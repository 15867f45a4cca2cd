//! The sandbox from inside: a process enters it as the programs do, and then tries forbidden calls.
//!
//! Rights are given up for good, by a process's only thread. So each test starts this test program once more,
//! with a list of attempts, and looks at their results. There the attempts take the place of the tests,
//! before the tests' harness starts its threads ([`BEFORE_MAIN`]).

use crate::support::agent::is_emulated;
use crate::support::environment::{own_mounts, skip_here};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use os::sandbox::{self, Allowed, Level, Plan, Program};
use recordd::api::status::SandboxStatus;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

// Inside.

/// First argument of a process that is to enter the sandbox.
const INSIDE: &str = "--inside-the-sandbox";

/// The C library calls the functions in this section before `main`.
#[used]
#[expect(unsafe_code, reason = "the harness has no entrance before its threads")]
// SAFETY: the function takes no arguments; the standard library's arguments and output need no `main`.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    let arguments: Vec<String> = std::env::args_os().skip(1).filter_map(|it| it.into_string().ok()).collect();
    if arguments.first().is_some_and(|first| first == INSIDE) {
        inside(&arguments[1..]);
        std::process::exit(0);
    }
}

/// Enters the sandbox that the first arguments describe, and makes the attempts that the others name.
fn inside(arguments: &[String]) {
    let [program, level, write, port, attempts @ ..] = arguments else { panic!("{arguments:?}") };
    let plan = Plan {
        program: if program == "server" { Program::Server } else { Program::Agent },
        level: if level == "off" { Level::Off } else { Level::On },
        keep: Vec::new(),
        unmount: true,
        allowed: Allowed {
            write: vec![write.into()],
            connect: port.parse().into_iter().collect(),
            ..Allowed::default()
        },
    };
    let status = SandboxStatus::from(sandbox::enter(&plan).unwrap());
    println!("{}", serde_json::to_string(&status).unwrap());
    for attempt in attempts {
        let (what, on) = attempt.split_once(' ').unwrap_or((attempt, ""));
        let outcome = attempted(what, on);
        println!("{}", outcome.unwrap_or_else(|error| format!("{:?} {error}", error.kind())));
    }
}

fn attempted(what: &str, on: &str) -> io::Result<String> {
    let done = || Ok("done".to_owned());
    let path = Path::new(on);
    match what {
        "wait" => io::stdin().lock().read_line(&mut String::new()).and_then(|_| done()),
        "write" => fs::write(path, "x").and_then(|()| done()),
        "append" => File::options().append(true).open(path)?.write_all(b"x").and_then(|()| done()),
        "read" => File::open(path)?.read(&mut [0; 64]).and_then(|_| done()),
        "list" => fs::read_dir(path)?.next().transpose().and_then(|_| done()),
        "delete" => fs::remove_file(path).and_then(|()| done()),
        "link" => std::os::unix::fs::symlink("/etc/passwd", path).and_then(|()| done()),
        "rename" => fs::rename(path, path.with_extension("renamed")).and_then(|()| done()),
        "thread" => {
            let path = path.to_owned();
            std::thread::spawn(move || fs::write(path, "x")).join().unwrap().and_then(|()| done())
        }
        "exec" => Command::new("/bin/true").status().and_then(|_| done()),
        "shell" => Err(std::os::unix::process::CommandExt::exec(&mut Command::new("/bin/sh"))),
        "connect" => TcpStream::connect(on).and_then(|_| done()),
        "listen" => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|_| done()),
        "datagram" => UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.send_to(b"x", on).and_then(|_| done()),
        "resolve" => {
            let name = on.to_owned();
            let found = std::thread::spawn(move || (name.as_str(), 0).to_socket_addrs()).join().unwrap()?;
            if found.count() > 0 { done() } else { Err(io::ErrorKind::NotFound.into()) }
        }
        "mount" => {
            let none = None::<&str>;
            mount(none, path, Some("tmpfs"), MsFlags::empty(), none)
                .map_err(io::Error::from)
                .and_then(|()| done())
        }
        "detach" => umount2(path, MntFlags::MNT_DETACH).map_err(io::Error::from).and_then(|()| done()),
        "unmount" => sandbox::unmount(path).and_then(|()| done()),
        "forbids" => Ok(sandbox::forbids_writing(path).to_string()),
        "status" => {
            let text = fs::read_to_string("/proc/self/status")?;
            let line = text.lines().find_map(|line| line.strip_prefix(on)?.strip_prefix(':'));
            Ok(line.unwrap_or_default().trim().to_owned())
        }
        "core" => {
            let text = fs::read_to_string("/proc/self/limits")?;
            Ok(text.lines().find(|line| line.starts_with("Max core")).unwrap_or_default().to_owned())
        }
        _ => panic!("{what}"),
    }
}

// Outside.

/// A process in the sandbox.
struct Inside {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
    status: serde_json::Value,
}

impl Inside {
    /// `None` where there is no sandbox, and a word about it.
    fn start(program: &str, level: &str, write: &Path, port: u16, attempts: &[String]) -> Option<Self> {
        if is_emulated() {
            skip_here("an emulator of user programs has neither seccomp nor Landlock for them");
            return None;
        }
        // Where sticks can be mounted, the process sees them later, too.
        let _ = own_mounts();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([INSIDE, program, level]).arg(write).arg(port.to_string()).args(attempts);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut it = Self { child, said, status: serde_json::Value::Null };
        it.status = serde_json::from_str(&it.next()).unwrap();
        Some(it)
    }

    /// The result of the next attempt.
    fn next(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "it ended early");
        line.trim_end().to_owned()
    }

    fn go_on(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap()).unwrap();
        assert_eq!(self.next(), "done");
    }

    /// Whether the kernel confines files; says so if not.
    fn has_landlock(&self, least: u64) -> bool {
        let version = self.status["landlock"].as_u64().unwrap();
        if version < least {
            println!("SKIPPED: needs version {least} of Landlock, and the kernel has {version}");
        }
        version >= least
    }

    fn has_filter(&self) -> bool {
        let filter = self.status["seccomp"].as_bool().unwrap();
        if !filter {
            println!("SKIPPED: the kernel has no seccomp filters");
        }
        filter
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agent(write: &Path, attempts: &[&str]) -> Option<Inside> {
    Inside::start("agent", "on", write, 0, &attempts.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
}

/// Two folders; only the first one may be written to.
fn two_folders() -> (tempfile::TempDir, tempfile::TempDir) {
    (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
}

fn named(what: &str, path: &Path) -> String {
    format!("{what} {}", path.display())
}

fn refused(outcome: &str) -> bool {
    outcome.starts_with("PermissionDenied")
}

#[test]
fn files_are_written_beneath_the_recording_folder_alone() {
    let (own, other) = two_folders();
    let (good, bad) = (own.path().join("a.wav"), other.path().join("a.wav"));
    fs::write(&bad, "kept").unwrap();
    let link = own.path().join("link.wav");
    std::os::unix::fs::symlink(&bad, &link).unwrap();
    let attempts = [
        named("write", &good),
        named("rename", &good),
        named("delete", &own.path().join("a.renamed")),
        named("write", &bad),
        named("append", &bad),
        named("append", &link),
        named("rename", &bad),
        named("delete", &bad),
        named("write", &other.path().join("new")),
        named("link", &own.path().join("new-link")),
        "write /etc/recordd-was-here".into(),
    ];
    let Some(mut it) = Inside::start("agent", "on", own.path(), 0, &attempts) else { return };
    for _ in 0..3 {
        assert_eq!(it.next(), "done");
    }
    if it.has_landlock(3) {
        for attempt in &attempts[3..] {
            let outcome = it.next();
            assert!(refused(&outcome), "{attempt}: {outcome}");
        }
        assert_eq!(fs::read_to_string(&bad).unwrap(), "kept");
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 1);
    }
}

#[test]
fn files_elsewhere_are_not_read() {
    let (own, other) = two_folders();
    let secret = other.path().join("secret");
    fs::write(&secret, "x").unwrap();
    let attempts =
        [named("read", &secret), named("list", other.path()), "list /root".into(), "list /home".into()];
    for program in ["agent", "server"] {
        let Some(mut it) = Inside::start(program, "on", own.path(), 0, &attempts) else { return };
        if it.has_landlock(1) {
            for attempt in &attempts {
                let outcome = it.next();
                assert!(refused(&outcome) || outcome.starts_with("NotFound"), "{attempt}: {outcome}");
            }
        }
    }
}

#[test]
fn files_of_the_system_about_disks_names_and_time_are_readable() {
    let own = tempfile::tempdir().unwrap();
    let attempts = [
        "read /proc/self/mountinfo",
        "read /proc/self/status",
        "read /etc/passwd",
        "list /sys/dev/block",
        "list /dev",
        "read /dev/urandom",
        "append /dev/null",
    ];
    let Some(mut it) = agent(own.path(), &attempts) else { return };
    for attempt in attempts {
        assert_eq!(it.next(), "done", "{attempt}");
    }
    for path in ["/etc/localtime", "/etc/resolv.conf", "/etc/hosts"] {
        if Path::new(path).exists() {
            let Some(mut it) = agent(own.path(), &[&format!("read {path}")]) else { return };
            assert_eq!(it.next(), "done", "{path}");
        }
    }
    // A bare system has no name of its own to be looked up.
    if ("localhost", 0).to_socket_addrs().is_ok() {
        let Some(mut it) = agent(own.path(), &["resolve localhost"]) else { return };
        assert_eq!(it.next(), "done");
    }
}

#[test]
fn threads_that_are_started_later_are_confined_too() {
    let (own, other) = two_folders();
    let attempts = [named("thread", &own.path().join("a")), named("thread", &other.path().join("a"))];
    let Some(mut it) = Inside::start("agent", "on", own.path(), 0, &attempts) else { return };
    assert_eq!(it.next(), "done");
    assert!(!it.has_landlock(1) || refused(&it.next()));
}

#[test]
fn no_program_is_started() {
    let own = tempfile::tempdir().unwrap();
    for program in ["agent", "server"] {
        let attempts = ["exec", "shell", "mount /mnt", "detach /proc"].map(str::to_owned);
        let Some(mut it) = Inside::start(program, "on", own.path(), 0, &attempts) else { return };
        if it.has_filter() {
            for attempt in &attempts {
                let outcome = it.next();
                assert!(refused(&outcome), "{program}: {attempt}: {outcome}");
            }
        }
    }
}

#[test]
fn the_agent_connects_to_its_server_alone() {
    let own = tempfile::tempdir().unwrap();
    let (server, stranger) = (listener(), listener());
    let attempts = [format!("connect {server}"), format!("connect {stranger}"), "listen".into()];
    let Some(mut it) = Inside::start("agent", "on", own.path(), server.port(), &attempts) else { return };
    assert_eq!(it.next(), "done");
    if it.has_landlock(4) {
        for attempt in &attempts[1..] {
            let outcome = it.next();
            assert!(refused(&outcome), "{attempt}: {outcome}");
        }
    }
}

/// A listener that takes connections until the test program ends.
fn listener() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    addr
}

#[test]
fn the_server_connects_to_nobody() {
    let own = tempfile::tempdir().unwrap();
    let stranger = listener();
    let attempts = [format!("connect {stranger}"), "listen".into(), format!("datagram {stranger}")];
    // Not even to a port that is allowed: it makes no socket for it.
    let Some(mut it) = Inside::start("server", "on", own.path(), stranger.port(), &attempts) else { return };
    if it.has_filter() {
        for attempt in &attempts {
            let outcome = it.next();
            assert!(refused(&outcome), "{attempt}: {outcome}");
        }
    }
}

/// A filesystem in memory, gone when dropped.
struct Stick(PathBuf);

impl Stick {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let none = None::<&str>;
        let mounted =
            own_mounts().and_then(|()| mount(none, &at, Some("tmpfs"), MsFlags::empty(), Some("size=64k")));
        match mounted {
            Ok(()) => Some(Self(at)),
            Err(error) => {
                println!("SKIPPED: a disk of its own takes root: {error}");
                None
            }
        }
    }

    fn is_mounted(&self) -> bool {
        fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(self.0.to_str().unwrap())
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_stick_that_is_mounted_later_is_written_to() {
    let parent = tempfile::tempdir().unwrap();
    let parent = parent.path().canonicalize().unwrap();
    let (near, deep) = (parent.join("stick"), parent.join("by-label/other"));
    let attempts = [
        "wait".to_owned(),
        named("write", &near.join("a.wav")),
        named("write", &deep.join("a.wav")),
        named("forbids", &near),
        named("forbids", &deep),
    ];
    let Some(mut it) = Inside::start("agent", "on", &parent, 0, &attempts) else { return };
    let Some(_sticks) = Stick::mount(near).zip(Stick::mount(deep)) else { return };
    it.go_on();
    for expected in ["done", "done", "false", "false"] {
        assert_eq!(it.next(), expected);
    }
}

#[test]
fn a_stick_on_an_allowed_folder_itself_is_told_and_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let attempts = [
        named("forbids", &folder),
        "wait".to_owned(),
        named("write", &folder.join("a.wav")),
        named("forbids", &folder),
    ];
    let Some(mut it) = Inside::start("agent", "on", &folder, 0, &attempts) else { return };
    if !it.has_landlock(1) {
        return;
    }
    assert_eq!(it.next(), "false");
    let Some(_stick) = Stick::mount(folder) else { return };
    it.go_on();
    assert!(refused(&it.next()));
    assert_eq!(it.next(), "true");
}

#[test]
fn sticks_are_unmounted_by_the_process_that_is_kept_for_it() {
    let (parent, elsewhere) = two_folders();
    let (own, other) = (parent.path().join("stick"), elsewhere.path().join("disk"));
    let Some((own, other)) = Stick::mount(own).zip(Stick::mount(other)) else { return };
    let attempts = [
        named("detach", &own.0),
        "wait".to_owned(),
        named("unmount", &other.0),
        named("unmount", &own.0.join("../../../proc")),
        named("unmount", &own.0),
        named("unmount", &own.0),
    ];
    let Some(mut it) = Inside::start("agent", "on", parent.path(), 0, &attempts) else { return };
    assert_eq!(it.status["unmount"], true);
    if it.status["seccomp"] == true {
        assert!(refused(&it.next()), "the agent itself may not");
        assert!(own.is_mounted());
    } else {
        it.next();
    }
    it.go_on();
    assert!(refused(&it.next()), "nothing elsewhere");
    let outcome = it.next();
    assert!(refused(&outcome), "nor by a way round: {outcome}");
    assert!(other.is_mounted());
    assert_eq!(it.next(), "done");
    assert!(!own.is_mounted());
    assert!(it.next().starts_with("InvalidInput"), "nothing is mounted there any more");
    // It ends with the one that it works for.
    let children = format!("/proc/{0}/task/{0}/children", it.child.id());
    let second: Option<u32> = fs::read_to_string(children).ok().and_then(|text| text.trim().parse().ok());
    drop(it);
    let Some(second) = second else { return };
    let gone = || {
        !Path::new(&format!("/proc/{second}/fd")).exists()
            || fs::read_link(format!("/proc/{second}/exe")).is_err()
    };
    for _ in 0..500 {
        if gone() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the process that unmounts is still there");
}

#[test]
fn capabilities_and_core_dumps_are_gone() {
    let own = tempfile::tempdir().unwrap();
    for program in ["agent", "server"] {
        let attempts = ["status NoNewPrivs", "status CapEff", "status CapPrm", "status CapAmb", "core"]
            .map(str::to_owned);
        let Some(mut it) = Inside::start(program, "on", own.path(), 0, &attempts) else { return };
        assert_eq!(it.next(), "1");
        for _ in 0..3 {
            assert_eq!(it.next(), "0000000000000000");
        }
        let words: Vec<OsString> = it.next().split_whitespace().map(OsString::from).collect();
        assert_eq!(words[4..6], ["0", "0"].map(OsString::from), "{words:?}");
    }
}

#[test]
fn without_it_everything_is_as_before() {
    let (own, other) = two_folders();
    let path = other.path().join("a");
    let attempts =
        [named("write", &path), "exec".into(), named("forbids", other.path()), "status NoNewPrivs".into()];
    let Some(mut it) = Inside::start("agent", "off", own.path(), 0, &attempts) else { return };
    assert_eq!(it.status["enabled"], false);
    for expected in ["done", "done", "false", "0"] {
        assert_eq!(it.next(), expected);
    }
}
