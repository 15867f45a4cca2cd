//! A server to test, phones in Python that know nothing but the source document (tests/peers), and its
//! recordings.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use recfile::header::HEADER_OCTETS;
use recfile::sidecar::Sidecar;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

pub(crate) const PHONE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/peers/docphone.py");

/// The server, always one of this machine: offices run it, not phones, so a run of these tests under an
/// emulator names a native one by `RECORDSERVER_TEST_BINARY`.
pub(crate) fn program() -> String {
    std::env::var("RECORDSERVER_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_recordserver").into())
}

pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) control: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    log: Option<JoinHandle<String>>,
}

impl Server {
    pub(crate) fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("rec")).expect("folder");
        Self::start_in(folder, settings, Command::new(program()), "127.0.0.1")
    }

    /// Starts `command`, which is or runs the program, at `addr`, with the files of an earlier one in
    /// `folder`.
    pub(crate) fn start_in(
        folder: tempfile::TempDir,
        settings: &str,
        mut command: Command,
        addr: &str,
    ) -> Self {
        let config = folder.path().join("server.toml");
        std::fs::write(&config, settings).expect("config");
        let mut process = command
            .args(["--listen", &format!("{addr}:0"), "--http", "127.0.0.1:0", "--config"])
            .arg(&config)
            .arg("--storage")
            .arg(folder.path().join("rec"))
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .expect("recordserver");
        let mut log = BufReader::new(process.stderr.take().expect("piped"));
        let mut address = |before: &str| loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).expect("log"), 0, "the server ended early");
            if let Some((_, rest)) = line.split_once(before) {
                let end = rest.find([',', '/']).unwrap_or(rest.len());
                return rest[..end].parse::<SocketAddr>().expect("address");
            }
        };
        let http = address("http://");
        let control = address("listening on ");
        // The log is read on, so that the server never waits for a full pipe.
        let log = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = log.read_to_string(&mut text);
            text
        });
        Self { process, control, http, folder, log: Some(log) }
    }

    /// Ends it and returns its log since the start.
    pub(crate) fn terminate_for_log(mut self) -> String {
        self.signal(Signal::SIGTERM);
        self.process.wait().expect("status");
        self.log.take().expect("once").join().expect("log")
    }

    pub(crate) fn terminate(mut self) -> (ExitStatus, tempfile::TempDir) {
        self.signal(Signal::SIGTERM);
        let status = self.process.wait().expect("status");
        (status, std::mem::replace(&mut self.folder, tempfile::tempdir().expect("folder")))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).expect("a process number");
        kill(Pid::from_raw(pid), signal).expect("signal sent");
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) -> tempfile::TempDir {
        self.process.kill().expect("kill");
        self.process.wait().expect("status");
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("folder"))
    }

    pub(crate) fn phone(&self, arguments: &[&str]) -> Command {
        let mut phone = Command::new("python3");
        phone.arg(PHONE).arg("--server").arg(self.control.to_string()).args(arguments);
        phone.stdout(Stdio::piped());
        phone
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).expect("http");
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answer");
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits, without a clock of its own.
pub(crate) fn wait(span: std::time::Duration) {
    let end = os::clock::mono() + span;
    while os::clock::mono() < end {
        std::thread::park_timeout(end.since(os::clock::mono()));
    }
}

pub(crate) fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The sidecar of a recording and the audio beside it.
pub(crate) fn recorded(folder: &Path, id: &str) -> (Sidecar, Vec<u8>) {
    recorded_if_any(folder, id).unwrap_or_else(|| panic!("no recording {id}"))
}

/// The same while the server may still be writing.
pub(crate) fn recorded_if_any(folder: &Path, id: &str) -> Option<(Sidecar, Vec<u8>)> {
    files(folder, "json").into_iter().find_map(|path| {
        let sidecar = Sidecar::parse(&std::fs::read(&path).ok()?).ok()?;
        let file = std::fs::read(path.with_extension("wav")).ok()?;
        (sidecar.recording == id).then(|| (sidecar, file[HEADER_OCTETS.min(file.len())..].to_vec()))
    })
}

pub(crate) fn noise(octets: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..octets).map(|_| next()).collect()
}
