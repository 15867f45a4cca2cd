//! Recording servers for the agent to upload to: one in Python, made by the source document alone, and the
//! real one.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::environment::skip;
use super::network::{SERVER_NAMESPACE, words_into};
use super::peer::Peer;
use super::{Setup, number, patience, text};

/// Address of the servers across a network.
pub(crate) const SERVER_ADDR: Ipv4Addr = Ipv4Addr::new(10, 213, 78, 1);

/// The words that start a server, and its address: here, or across the network of two namespaces.
fn place() -> (Vec<String>, Ipv4Addr) {
    words_into(SERVER_NAMESPACE).map_or((Vec::new(), Ipv4Addr::LOCALHOST), |words| (words, SERVER_ADDR))
}

/// A server process; killed when dropped.
pub(crate) struct Server {
    process: Process,
    /// The address on which it listens.
    pub(crate) addr: SocketAddr,
    storage: PathBuf,
    _folder: TempDir,
}

enum Process {
    /// `recordserver`
    Real(Child),
    /// A program of `tests/peers`.
    Peer(Peer),
}

impl Server {
    /// `tests/peers/docserver.py` in a mode; `None`, with the reason said, where there is no Python.
    pub(crate) fn by_document(mode: &str, more: &[&str]) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("docserver-").tempdir().expect("a folder");
        let (prefix, host) = place();
        let (listen, dump) = (format!("{host}:0"), folder.path().to_str().expect("UTF-8"));
        let arguments = [&["--listen", &listen, "--mode", mode, "--dump", dump], more].concat();
        Self::of_peer(Peer::start(&prefix, "docserver.py", &arguments)?, host, folder)
    }

    /// A bad network before the server at `addr`; `None`, with the reason said, where there is no Python.
    pub(crate) fn lossy(addr: SocketAddr) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let relay = Peer::start(&[], "lossy.py", &["--seed", "11", "--server", &addr.to_string()])?;
        Self::of_peer(relay, Ipv4Addr::LOCALHOST, folder)
    }

    fn of_peer((peer, first): (Peer, Value), host: Ipv4Addr, folder: TempDir) -> Option<Self> {
        assert_eq!(first["event"], "listening", "{first}");
        let port = u16::try_from(number(&first, "/port")).expect("a port");
        let storage = folder.path().to_owned();
        Some(Self { process: Process::Peer(peer), addr: (host, port).into(), storage, _folder: folder })
    }

    /// The real `recordserver`, always one of this machine; `None`, with the reason said, where it has not
    /// been built. Where the agent is emulated, `RECORDSERVER_TEST_BINARY` names it.
    pub(crate) fn real() -> Option<Self> {
        Self::real_with(None, "")
    }

    /// The same with a folder for its recordings and further settings.
    pub(crate) fn real_with(storage: Option<&Path>, settings: &str) -> Option<Self> {
        Self::real_at(&format!("{}:0", place().1), storage, settings)
    }

    /// The same, listening at `listen`.
    pub(crate) fn real_at(listen: &str, storage: Option<&Path>, settings: &str) -> Option<Self> {
        let (prefix, _) = place();
        let Some(program) = real_program() else {
            skip("recordserver is not there: build the whole workspace");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("recordserver-").tempdir().expect("a folder");
        let storage = storage.unwrap_or(folder.path()).to_owned();
        let mut words = prefix.iter().map(|word| OsStr::new(word.as_str())).chain([program.as_os_str()]);
        let mut command = Command::new(words.next()?);
        command.args(words);
        let config = folder.path().join("recordserver.toml");
        // Killed, it has the audio older than this and the time between two looks at its sockets.
        let flush = if settings.contains("flush_interval_ms") { "" } else { "flush_interval_ms = 1000\n" };
        std::fs::write(&config, format!("{flush}{settings}")).expect("a config");
        command.args(["--listen", listen, "--http", "127.0.0.1:0", "--config"]).arg(config);
        command.arg("--storage").arg(&storage).env("RUST_LOG", "info");
        let mut process = command.stderr(Stdio::piped()).spawn().expect("recordserver");
        let addr = read_address(process.stderr.take().expect("piped"));
        Some(Self { process: Process::Real(process), addr, storage, _folder: folder })
    }

    /// Waits for a report of docserver and gives it.
    pub(crate) fn wait_report(&self, event: &str) -> Value {
        self.report_within(event, patience()).unwrap_or_else(|| panic!("no report {event} of the server"))
    }

    /// A report of docserver, if it comes in time.
    pub(crate) fn report_within(&self, event: &str, wait: Duration) -> Option<Value> {
        match &self.process {
            Process::Peer(peer) => peer.report_within(event, wait),
            Process::Real(_) => None,
        }
    }

    /// The text of the next message that docserver received.
    pub(crate) fn wait_message(&self, command: &str) -> String {
        loop {
            let report = self.wait_report("received");
            let message = text(&report, "/text");
            if message.starts_with(&format!("cmd={command}&")) {
                return message.to_owned();
            }
        }
    }

    /// All files with this extension below the server's folder, by name.
    pub(crate) fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.storage.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|it| it == extension) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// The payload that docserver received of its only recording.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let files = self.files("payload");
        assert_eq!(files.len(), 1, "{files:?}");
        std::fs::read(&files[0]).expect("a payload file")
    }

    /// Tells the real `recordserver` to take no new calls, as its operator does.
    pub(crate) fn drain(&self) {
        let mut command = Command::new(real_program().expect("it runs"));
        let told = command.arg("--drain").arg("--storage").arg(&self.storage).output().expect("recordserver");
        assert!(told.status.success(), "{told:?}");
    }

    /// Waits until the real `recordserver` has ended by itself; its exit status.
    pub(crate) fn wait_end(&mut self) -> Option<i32> {
        match &mut self.process {
            Process::Real(process) => process.wait().expect("a status").code(),
            Process::Peer(_) => None,
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        match &mut self.process {
            Process::Peer(peer) => peer.kill(),
            Process::Real(process) => {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The path of the real `recordserver`, if it has been built.
fn real_program() -> Option<PathBuf> {
    let named = std::env::var_os("RECORDSERVER_TEST_BINARY").map(PathBuf::from);
    let beside = super::agent::beside_recordd("recordserver");
    let program = named.or_else(|| (!super::agent::is_emulated()).then_some(beside));
    program.filter(|program| program.is_file())
}

fn read_address(log: ChildStderr) -> SocketAddr {
    let mut log = BufReader::new(log);
    loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).expect("a log"), 0, "the server ended early");
        if let Some((_, rest)) = line.split_once("listening on ") {
            let addr = rest.trim().split([',', ' ']).next().and_then(|addr| addr.parse().ok());
            // Read on, so that the server never waits for a full pipe.
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return addr.unwrap_or_else(|| panic!("no address in {line}"));
        }
    }
}
