//! `simulate-agent`: a desktop stands for the phone, so that a user interface can be built without one.
//!
//! The agent and its loop are the real ones; simulated are the stick, the call's speech and the SIP stack,
//! each by a thread of its own. Commands come from stdin, a script and a socket. Never part of `recordd`.

mod command;
mod disk;
mod media;

use super::super::AgentArgs;
use super::super::failure::Failure;
use super::super::{advice, output, pace};
use super::Log;
use super::private_agent::TemporaryFolder;
use super::sip_stack::SipStack;
use clap::Args;
use command::Command;
use crossbeam_channel::bounded;
use disk::Stick;
use mio::Interest;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use recordd::config::{Config, StoragePath};
use recordd::runtime::Runtime;
use recordd::runtime::environment::Environment;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use store::fs::RealFs;
use store::gated::Gated;

/// Changes of RTP ports that may wait for the speech.
const MAX_WAITING_CHANGES: usize = 256;

/// The text about commands in `--help`.
pub(in super::super) const HELP: &str = command::HELP;

/// Longest line of commands.
const MAX_LINE_OCTETS: u64 = 4096;

#[derive(Args, Debug)]
pub(in super::super) struct SimulateAgentArgs {
    /// Folder that stands for the stick (default: a temporary one, gone at the end)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Commands to obey from the start, one a line; `wait N` between them
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Also take commands at this socket, one client after the other; each is answered by ok or error
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Config of the agent; its socket and its disk are not used
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The state that commands act on.
struct Simulation {
    stick: Stick,
    media: Arc<AtomicBool>,
    sip: Mutex<Option<SipStack>>,
    agent: AgentArgs,
    log: Log,
}

impl SimulateAgentArgs {
    /// Runs until `quit`, a signal, or the end of its terminal.
    pub(in super::super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        let _ =
            env_logger::Builder::new().filter_level(log::LevelFilter::Warn).parse_default_env().try_init();
        let log = Log { start: pace::now() };
        // Asked first: one that is gone is none any more.
        let at_terminal = std::io::stdin().is_terminal();
        let (_folder, root) = self.stick_folder()?;
        let config = self.config(agent, &root)?;
        let stick =
            Stick::new(root.clone(), root.join(&config.storage.directory), config.storage.reserve_octets)?;
        let (rtp_watch, changes) = bounded(MAX_WAITING_CHANGES);
        let runtime = Runtime::within(
            config,
            Environment {
                fs: Gated::new(RealFs, stick.clone()),
                disk_changes: Some((stick.changes()?, Interest::READABLE)),
                rtp_watch: Some(rtp_watch),
                confined: false,
            },
        )
        .map_err(|error| Failure::Local(error.to_string()))?;
        // Threads only now: they must not take the signals that the loop waits for.
        let media = Arc::new(AtomicBool::new(true));
        let on = Arc::clone(&media);
        std::thread::spawn(move || media::send(&changes, &on, log));
        let simulation =
            Arc::new(Simulation { stick, media, sip: Mutex::new(None), agent: agent.clone(), log });
        self.take_commands(&simulation, at_terminal)?;
        output::line(&format!("listening at {}, the stick is {}", agent.socket.display(), root.display()))?;
        let outcome = runtime.run().map_err(|error| Failure::Local(error.to_string()));
        if let Some(path) = &self.control {
            let _ = std::fs::remove_file(path);
        }
        outcome
    }

    /// The folder that stands for the stick, and its guard that removes it if it is ours.
    fn stick_folder(&self) -> Result<(Option<TemporaryFolder>, PathBuf), Failure> {
        let Some(dir) = &self.dir else {
            let folder = TemporaryFolder::new()?;
            let root = folder.0.clone();
            return Ok((Some(folder), root));
        };
        std::fs::create_dir_all(dir).map_err(|error| failed("make the folder", dir, &error))?;
        let root = dir.canonicalize().map_err(|error| failed("find the folder", dir, &error))?;
        Ok((None, root))
    }

    fn config(&self, agent: &AgentArgs, root: &Path) -> Result<Config, Failure> {
        let mut config = match &self.config {
            None => Config::default(),
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|error| failed("read the config", path, &error))?;
                Config::parse(&text, &path.display().to_string())
                    .map_err(|error| Failure::Usage(error.to_string()))?
            }
        };
        config.control.socket.clone_from(&agent.socket);
        config.storage.path = StoragePath::Directory(root.to_owned());
        Ok(config)
    }

    fn take_commands(&self, simulation: &Arc<Simulation>, at_terminal: bool) -> Result<(), Failure> {
        if let Some(path) = &self.script {
            let file = File::open(path).map_err(|error| failed("read the script", path, &error))?;
            let simulation = Arc::clone(simulation);
            std::thread::spawn(move || simulation.obey(file, &mut std::io::sink()));
        }
        if let Some(path) = &self.control {
            // Left by a simulation that was killed. One that runs has the agent's socket, and we have it now.
            if std::fs::symlink_metadata(path).is_ok_and(|old| old.file_type().is_socket()) {
                let _ = std::fs::remove_file(path);
            }
            let listener =
                UnixListener::bind(path).map_err(|error| failed("create the socket", path, &error))?;
            let simulation = Arc::clone(simulation);
            std::thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let mut answers = &client;
                    simulation.obey(&client, &mut answers);
                }
            });
        }
        let here = Arc::clone(simulation);
        std::thread::spawn(move || {
            here.obey(std::io::stdin(), &mut std::io::stdout());
            // A terminal that is gone, or Ctrl-D: nobody is there any more. A file or a pipe may just have no
            // more to say.
            if at_terminal {
                here.end();
            }
        });
        // The loop of a phone lives on when a terminal closes; a simulation goes with its terminal, unless
        // `nohup` says no.
        let mut hang_up = SigSet::empty();
        hang_up.add(Signal::SIGHUP);
        if !ignores_hang_up() {
            let simulation = Arc::clone(simulation);
            std::thread::spawn(move || {
                if hang_up.wait().is_ok() {
                    simulation.end();
                }
            });
        }
        Ok(())
    }
}

impl Simulation {
    /// Obeys commands until there are no more, and answers each.
    fn obey(&self, commands: impl Read, answers: &mut dyn Write) {
        let mut lines = BufReader::new(commands);
        loop {
            let mut line = String::new();
            match lines.by_ref().take(MAX_LINE_OCTETS).read_line(&mut line) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            for command in command::commands(&line) {
                let ends = matches!(command, Ok(Command::Quit));
                let answer = match command.and_then(|command| self.act(command)) {
                    Ok(answer) => answer.to_owned(),
                    Err(problem) => {
                        self.log.line("error", &problem);
                        format!("error: {problem}")
                    }
                };
                let heard = writeln!(answers, "{answer}");
                if ends {
                    // Only now, or the process could be gone before its answer.
                    self.end();
                }
                if heard.is_err() {
                    return;
                }
            }
        }
    }

    /// Finishes every recording, and ends.
    fn end(&self) {
        if let Err(errno) = kill(Pid::this(), Signal::SIGTERM) {
            self.log.line("error", &format!("cannot end: {errno}"));
        }
    }

    fn act(&self, command: Command) -> Result<&'static str, String> {
        match command {
            Command::Help => return Ok(command::HELP),
            Command::Storage(state) => self.stick.set(state),
            Command::Media(on) => self.media.store(on, Ordering::Relaxed),
            Command::Sip(code) => {
                let mut sip = self.sip.lock().unwrap_or_else(PoisonError::into_inner);
                // The old one first, or both would answer.
                *sip = None;
                if let Some(code) = code {
                    let stack = SipStack::start(&self.agent, code, self.log);
                    *sip = Some(stack.map_err(|failure| failure.to_string())?);
                }
            }
            Command::Wait(span) => pace::sleep(span),
            // Done after the answer.
            Command::Quit => {}
        }
        self.log.line("sim", &format!("{command:?}"));
        Ok("ok")
    }
}

/// Whether we were started so that the end of the terminal is not meant for us: bit 0 is SIGHUP (proc(5)).
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Local(advice::with(format!("cannot {what} {}: {error}", path.display()), advice::local(error)))
}
