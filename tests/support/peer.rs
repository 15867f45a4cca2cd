//! A program of `tests/peers`: a process that prints its observations as lines of JSON.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::environment::{has_program, skip};
use super::patience;

/// The process; killed when dropped.
pub(crate) struct Peer {
    process: Child,
    reports: Receiver<Value>,
}

impl Peer {
    /// Starts `script`, behind the words of `prefix`, and gives its first report too; `None`, with the reason
    /// said, where there is no Python.
    pub(crate) fn start(prefix: &[String], script: &str, arguments: &[&str]) -> Option<(Self, Value)> {
        if !has_program("python3") {
            skip("python3 is missing");
            return None;
        }
        let script = format!("{}/tests/peers/{script}", env!("CARGO_MANIFEST_DIR"));
        let mut words = prefix.iter().map(String::as_str).chain(["python3", &script]);
        let mut command = Command::new(words.next()?);
        command.args(words).args(arguments);
        let mut process = command.stdout(Stdio::piped()).spawn().expect("a program of tests/peers");
        let (sender, reports) = sync_channel(10_000);
        let out = process.stdout.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).expect("a report in JSON")).is_err() {
                    break;
                }
            }
        });
        let peer = Self { process, reports };
        let first = peer.reports.recv_timeout(patience()).expect("a first report");
        eprintln!("{script}: {first}");
        Some((peer, first))
    }

    /// A report, if it comes in time.
    pub(crate) fn report_within(&self, event: &str, wait: Duration) -> Option<Value> {
        let end = Instant::now() + wait;
        loop {
            match self.reports.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(report) if report["event"] == event => return Some(report),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Ends it by SIGTERM; returns its last report.
    pub(crate) fn terminate(mut self, event: &str) -> Value {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM).expect("a signal");
        let report = self.report_within(event, patience()).unwrap_or_else(|| panic!("no report {event}"));
        let _ = self.process.wait();
        report
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}
