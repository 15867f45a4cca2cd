//! The agent as a process: its config, its life and its death.
//!
//! `RECORDD_TEST_BINARY` points the suite at another binary than the one just built and `RECORDD_TEST_RUNNER`
//! names its runner, e.g. `qemu-arm` (words split at spaces). When the suite itself was built for another
//! machine, cargo's `CARGO_TARGET_…_RUNNER` serves as well.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{Client, patience, tell_at_once, tell_failures_at_once, wait_for, wait_until};

/// The words before the binary on the command line.
fn runner() -> Vec<String> {
    let own = std::env::var("RECORDD_TEST_RUNNER").ok();
    let words = own.or_else(|| {
        let machine = format!("CARGO_TARGET_{}", std::env::consts::ARCH.to_uppercase());
        let of_cargo = |(name, value): (String, String)| {
            (name.starts_with(&machine) && name.ends_with("_RUNNER")).then_some(value)
        };
        std::env::vars().find_map(of_cargo)
    });
    words.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Whether the agent runs in an emulator, where memory and threads are not its own.
pub(crate) fn is_emulated() -> bool {
    !runner().is_empty()
}

/// A command that runs `program`, through the runner if there is one.
fn through_runner(program: &str) -> Command {
    let mut words = runner();
    words.push(program.to_owned());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    // Local time three hours ahead of UTC: a name made of UTC shows.
    command.env("TZ", "TST-3").env_remove("RUST_LOG").env_remove("RECORDD_SOCKET");
    command
}

/// A command that runs `recordd`.
pub(crate) fn recordd() -> Command {
    through_runner(&recordd_path())
}

fn recordd_path() -> String {
    std::env::var("RECORDD_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_recordd").to_owned())
}

/// The same from a copy in `folder`, for users that cannot look into the build's folder.
pub(crate) fn recordd_copied_to(folder: &Path) -> Command {
    through_runner(copied(&recordd_path(), folder, "recordd").to_str().expect("a UTF-8 path"))
}

fn copied(program: &str, folder: &Path, name: &str) -> PathBuf {
    let copy = folder.join(name);
    // By another process, for the reason of `write_program`.
    super::environment::run(Command::new("cp").arg(program).arg(&copy));
    copy
}

/// The path of another program of this build: it need not have been built.
pub(crate) fn beside_recordd(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_recordd")).with_file_name(name)
}

fn recordctl_path() -> String {
    let path = beside_recordd("recordctl");
    assert!(
        path.is_file(),
        "these tests need recordctl: cargo build -p recordctl, or cargo test --workspace"
    );
    path.into_os_string().into_string().expect("a UTF-8 path")
}

/// A command that runs the `recordctl` just built (never the other binary: it is only a tool here).
pub(crate) fn recordctl() -> Command {
    recordctl_at(&recordctl_path())
}

/// The same from a copy in `folder`, for users that cannot look into the build's folder.
pub(crate) fn recordctl_copied_to(folder: &Path) -> Command {
    let copy = copied(&recordctl_path(), folder, "recordctl");
    recordctl_at(copy.to_str().expect("a UTF-8 path"))
}

fn recordctl_at(program: &str) -> Command {
    let built_for_here = std::env::var_os("RECORDD_TEST_BINARY").is_some();
    if built_for_here { Command::new(program) } else { through_runner(program) }
}

/// Seconds east of UTC in which the agents of these tests live.
pub(crate) const UTC_OFFSET_S: i64 = 3 * 3600;

/// An agent to be: a config that records into a folder of its own, open to changes.
pub(crate) struct Setup {
    dir: TempDir,
    storage: PathBuf,
    settings: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    environment: BTreeMap<&'static str, String>,
}

impl Setup {
    /// Local recording into an empty folder, with a small reserve.
    pub(crate) fn new() -> Self {
        let mut dir = tempfile::Builder::new();
        dir.prefix("recordd-e2e-");
        let dir = dir.tempdir_in(scratch_folder()).expect("a folder");
        let storage = dir.path().join("stick");
        fs::create_dir(&storage).expect("a folder");
        let socket = dir.path().join("recordd.sock");
        Self { dir, settings: BTreeMap::new(), environment: BTreeMap::new(), storage: storage.clone() }
            .quoted("control", "socket", &socket.display().to_string())
            .set("storage", "require_usb", "false")
            .quoted("storage", "reserve", "64 KiB")
            .storage(&storage)
    }

    /// Sets a key to a TOML value as written in the file.
    pub(crate) fn set(mut self, section: &'static str, key: &'static str, value: impl ToString) -> Self {
        self.settings.entry(section).or_default().insert(key, value.to_string());
        self
    }

    /// Sets a key to a text.
    pub(crate) fn quoted(self, section: &'static str, key: &'static str, value: &str) -> Self {
        let value = format!("{value:?}");
        self.set(section, key, value)
    }

    /// Sets a variable of the agent's environment.
    pub(crate) fn environment(mut self, name: &'static str, value: impl ToString) -> Self {
        self.environment.insert(name, value.to_string());
        self
    }

    /// Records into another folder.
    pub(crate) fn storage(mut self, path: &Path) -> Self {
        self.storage = path.to_owned();
        self.quoted("storage", "path", &path.display().to_string())
    }

    /// The folder that stands for the stick.
    pub(crate) fn storage_path(&self) -> &Path {
        &self.storage
    }

    /// The private folder of this test.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the config and gives its path.
    pub(crate) fn write_config(&self) -> PathBuf {
        let mut text = String::new();
        for (section, keys) in &self.settings {
            let _ = writeln!(text, "[{section}]");
            for (key, value) in keys {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        let path = self.dir.path().join("recordd.toml");
        fs::write(&path, text).expect("config written");
        path
    }

    /// Starts the agent and waits until its socket answers a connection.
    pub(crate) fn start(self) -> Agent {
        let mut agent = self.spawn();
        agent.wait_for_socket();
        agent
    }

    /// Starts the agent and waits for nothing.
    pub(crate) fn spawn(self) -> Agent {
        let config = self.write_config();
        let log = self.dir.path().join("stderr");
        let environment = self.environment;
        let child = launch(&config, &log, &environment);
        let socket = self.dir.path().join("recordd.sock");
        Agent { child: Some(child), storage: self.storage, dir: self.dir, config, environment, log, socket }
    }

    /// Runs the agent to its end, for configs it must refuse.
    pub(crate) fn run_to_end(self) -> Output {
        let config = self.write_config();
        output_of(recordd().arg("--config").arg(config))
    }

    /// An agent that uploads to `addr`, with short time-outs.
    pub(crate) fn uploads_to(self, addr: SocketAddr) -> Self {
        self.quoted("uplink", "server_addr", &addr.ip().to_string())
            .set("uplink", "server_port", addr.port())
            .set("uplink", "connect_timeout_ms", 1000)
            .set("uplink", "response_timeout_ms", 1000)
    }
}

/// The folder for files of tests: in memory if possible, since a busy disk would only measure itself.
/// `RECORDER_TEST_DIR` names another folder.
fn scratch_folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    match std::env::var_os("RECORDER_TEST_DIR") {
        Some(folder) => folder.into(),
        None if memory.is_dir() => memory.into(),
        None => std::env::temp_dir(),
    }
}

/// Runs a command that ends by itself; one that does not is killed, and the test fails.
pub(crate) fn output_of(command: &mut Command) -> Output {
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = piped.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = Pid::from_raw(child.id() as i32);
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    // Read while it runs: a full pipe would hold it up.
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(patience()) {
        Ok(output) => output.expect("output"),
        Err(_) => {
            let _ = kill(pid, Signal::SIGKILL);
            let output = receiver.recv().expect("a child to end").expect("output");
            panic!("{command:?} does not end:\n{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

fn launch(config: &Path, log: &Path, environment: &BTreeMap<&'static str, String>) -> Child {
    tell_failures_at_once();
    let stderr = File::options().create(true).append(true).open(log).expect("a log file");
    let mut command = recordd();
    command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    command.envs(environment);
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// A running agent; killed when dropped, its log shown when the test failed.
pub(crate) struct Agent {
    child: Option<Child>,
    dir: TempDir,
    storage: PathBuf,
    config: PathBuf,
    environment: BTreeMap<&'static str, String>,
    log: PathBuf,
    /// Path of the control socket.
    pub(crate) socket: PathBuf,
}

impl Agent {
    /// An agent with the plain set-up.
    pub(crate) fn start() -> Self {
        Setup::new().start()
    }

    fn wait_for_socket(&mut self) {
        let (socket, log) = (self.socket.clone(), self.log.clone());
        let child = self.child.as_mut().expect("started");
        wait_until("the agent's socket", patience(), || {
            if let Ok(Some(status)) = child.try_wait() {
                let log = fs::read_to_string(&log).unwrap_or_default();
                panic!("recordd ended with {status} instead of listening:\n{log}");
            }
            UnixStream::connect(&socket).is_ok()
        });
    }

    /// A new connection to the agent.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket)
    }

    /// A new connection that has subscribed to all events.
    pub(crate) fn subscribed_client(&self) -> Client {
        let mut client = self.client();
        client.ok("events.subscribe", serde_json::json!({}));
        client
    }

    /// Process id of the agent, or of the emulator it runs in.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    /// The folder that stands for the stick.
    pub(crate) fn storage(&self) -> &Path {
        &self.storage
    }

    /// The private folder of this test.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// All that the agent wrote to stderr so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Every `.wav` below the storage folder, by name.
    pub(crate) fn recordings(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.storage.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "wav") {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// The file that an answer calls `name`: absolute, or below the recording folder.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        let at_root = self.storage.join(name);
        if at_root.exists() { at_root } else { self.storage.join("Record").join(name) }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("signal sent");
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("running");
        wait_for("the agent's end", patience(), || child.try_wait().expect("a child to wait for"))
    }

    /// SIGTERM, and the exit status.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// SIGKILL: nothing is finalised.
    pub(crate) fn kill_at_once(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Sets a variable of the environment for the next start.
    pub(crate) fn set_environment(&mut self, name: &'static str, value: impl ToString) {
        self.environment.insert(name, value.to_string());
    }

    /// Starts the agent again with the same config and folders.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "end it first");
        self.child = Some(launch(&self.config, &self.log, &self.environment));
        self.wait_for_socket();
    }

    /// Whether the process is still there.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// A field of `/proc/PID/status` in its own unit, e.g. `VmRSS` in KiB.
    pub(crate) fn process_status(&self, field: &str) -> u64 {
        status_field(Path::new(&format!("/proc/{}/status", self.pid())), field)
    }

    /// A line for each thread: its name, and where in the kernel it waits.
    fn threads(&self) -> String {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid()));
        let of =
            |task: &Path, file| fs::read_to_string(task.join(file)).unwrap_or_default().trim().to_owned();
        let line =
            |task: &Path| format!("{} {} {}\n", of(task, "comm"), of(task, "wchan"), of(task, "syscall"));
        tasks.into_iter().flatten().flatten().map(|task| line(&task.path())).collect()
    }

    /// Times that any thread of the agent gave up the processor by itself: its wake-ups.
    pub(crate) fn voluntary_switches(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("a process");
        let count = |task: fs::DirEntry| status_field(&task.path().join("status"), "voluntary_ctxt_switches");
        tasks.flatten().map(count).sum()
    }
}

fn status_field(path: &Path, field: &str) -> u64 {
    let text = fs::read_to_string(path).expect("a status");
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let line = line.unwrap_or_else(|| panic!("no {field} in {}", path.display()));
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

impl Drop for Agent {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed && self.child.is_some() {
            tell_at_once(&format!("--- threads of recordd ---\n{}", self.threads()));
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if failed {
            tell_at_once(&format!("--- stderr of recordd ---\n{}---", self.log()));
        }
    }
}
