//! `recordctl`: the command line of the recorder, one module per group of commands.
//!
//! Owns: the commands and options of the command line, the output for people and scripts, exit status. Talks
//! to the agent by its socket only, as any client would; the file commands need no agent.

mod advice;
mod agent_error;
mod calls;
pub mod client;
pub mod failure;
mod generate;
mod interrupt;
mod library;
mod model;
mod notes;
pub mod offline;
mod output;
mod pace;
mod play;
mod play_file;
mod rtp_sender;
mod simulate;
mod watch;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use client::Client;
use failure::Failure;
use recfile::text::shown_lines;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The default socket of the agent.
const DEFAULT_SOCKET: &str = "/run/recordd.sock";

/// Call recorder of the phone: drive the agent, and work on recording files.
#[derive(Debug, Parser)]
#[command(name = "recordctl", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit status: 0 done, 1 failed (the reason is on stderr), 2 wrong usage.")]
pub struct Cli {
    #[command(flatten)]
    agent: AgentArgs,
    #[command(subcommand)]
    command: Command,
}

/// The agent's socket.
#[derive(Args, Clone, Debug)]
struct AgentArgs {
    /// The agent's socket
    #[arg(long, global = true, help_heading = "Agent", value_name = "PATH")]
    #[arg(env = "RECORDD_SOCKET", default_value = DEFAULT_SOCKET, value_parser = OsStringValueParser::new().map(socket))]
    socket: PathBuf,
    /// Longest wait for an answer of the agent, in seconds
    #[arg(long, global = true, help_heading = "Agent", value_name = "SECONDS")]
    #[arg(default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// A variable that is set to nothing is as good as none.
fn socket(path: OsString) -> PathBuf {
    if path.is_empty() { DEFAULT_SOCKET.into() } else { path.into() }
}

impl AgentArgs {
    fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&self.socket, Duration::from_secs(self.timeout))
    }
}

/// The form of the output.
#[derive(Args, Clone, Copy, Debug)]
struct OutputArgs {
    /// Print the agent's result as JSON (and errors as JSON on stderr)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the agent, its storage and its recordings, or one recording
    Status(calls::StatusArgs),
    /// Start a recording; prints where to send the RTP
    Start(calls::StartArgs),
    /// Pause a recording
    Pause(calls::OneRecording),
    /// Go on with a paused recording
    Resume(calls::OneRecording),
    /// Stop a recording and close its file
    Stop(calls::OneRecording),
    /// Change numbers and names of a running recording (transfer, late caller id)
    Update(calls::UpdateArgs),
    /// Follow a recording: timer, level, buffer, time left, loss
    Watch(watch::WatchArgs),
    /// Print the agent's events as they come, one JSON text per line
    Events(watch::EventsArgs),
    /// List the recordings on the disk
    List(library::ListArgs),
    /// Play a recording as RTP, or as PCM to stdout
    Play(play::PlayArgs),
    /// Delete recordings from the disk
    Delete(library::DeleteArgs),
    /// Keep recordings from being deleted to make room
    Protect(library::ProtectArgs),
    /// Show the disk that is recorded to
    Storage(library::StorageArgs),
    /// Finish the recordings on the disk and make the stick safe to pull
    Eject(library::EjectArgs),
    /// Show the agent's counters
    Stats(library::StatsArgs),
    /// Show the contents of recording files
    Info(offline::InfoArgs),
    /// Check recording files for damage
    Verify(offline::VerifyArgs),
    /// Mend recording files that were cut off
    Repair(offline::RepairArgs),
    /// Turn recording files into a WAV that any player opens
    Export(offline::ExportArgs),
    /// Turn encrypted recordings into plain ones
    Decrypt(offline::DecryptArgs),
    /// Make a key: to encrypt recordings to, or to sign them with
    Keygen(offline::KeygenArgs),
    /// Play the phone: start a recording, send it a speech clip as RTP, pause, resume, stop
    SimulatePhone(simulate::SimulateArgs),
    /// Play the agent for a user interface: the real one on a simulated stick that fails on command
    #[command(after_help = simulate::agent::HELP)]
    SimulateAgent(simulate::agent::SimulateAgentArgs),
    /// Print the completion script of a shell
    Completions(generate::CompletionsArgs),
    /// Print the man page, or write all pages into a folder
    Man(generate::ManArgs),
}

/// Commands that need no agent: they take its options, wherever those stand, and don't show them.
const WITHOUT_AGENT: [&str; 8] =
    ["info", "verify", "repair", "export", "decrypt", "keygen", "completions", "man"];

/// The command line as it is shown and read.
fn whole_command() -> clap::Command {
    let mut command = Cli::command();
    let agents: Vec<_> = command.get_arguments().filter(|arg| arg.is_global_set()).cloned().collect();
    for name in WITHOUT_AGENT {
        let hidden: Vec<_> = agents.iter().map(|arg| arg.clone().hide(true)).collect();
        command = command.mut_subcommand(name, |file_command| file_command.args(hidden));
    }
    command
}

/// Prints the error of the command line, or the help, and ends the process. The words may be names of files
/// that a shell has put there.
fn refuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    let shown = shown_lines(&text);
    if shown == text {
        error.exit();
    }
    eprint!("{shown}");
    std::process::exit(error.exit_code());
}

impl Cli {
    /// Reads the process's command line; ends the process if it makes no sense, or asks for help.
    #[must_use]
    pub fn read() -> Self {
        let matches = whole_command().try_get_matches();
        matches.and_then(|matches| Self::from_arg_matches(&matches)).unwrap_or_else(|error| refuse(&error))
    }

    /// Carries out the command line; the reason of a failure goes to stderr.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let agent = &self.agent;
        let (json, outcome) = match &self.command {
            Command::Status(args) => (args.output.json, args.run(agent)),
            Command::Start(args) => (args.output.json, args.run(agent)),
            Command::Pause(args) => (args.output.json, args.run(agent, "record.pause")),
            Command::Resume(args) => (args.output.json, args.run(agent, "record.resume")),
            Command::Stop(args) => (args.output.json, args.run(agent, "record.stop")),
            Command::Update(args) => (args.output.json, args.run(agent)),
            Command::Watch(args) => (args.output.json, args.run(agent)),
            Command::Events(args) => (true, args.run(agent)),
            Command::List(args) => (args.output.json, args.run(agent)),
            Command::Play(args) => (args.output.json, args.run(agent)),
            Command::Delete(args) => (args.output.json, args.run(agent)),
            Command::Protect(args) => (args.output.json, args.run(agent)),
            Command::Storage(args) => (args.output.json, args.run(agent)),
            Command::Eject(args) => (args.output.json, args.run(agent)),
            Command::Stats(args) => (args.output.json, args.run(agent)),
            Command::Info(args) => return args.run(),
            Command::Verify(args) => return args.run(),
            Command::Repair(args) => return args.run(),
            Command::Export(args) => return args.run(),
            Command::Decrypt(args) => return args.run(),
            Command::Keygen(args) => return args.run(),
            Command::SimulatePhone(args) => (args.output.json, args.run(agent)),
            Command::SimulateAgent(args) => (false, args.run(agent)),
            Command::Completions(args) => (false, args.run()),
            Command::Man(args) => (false, args.run()),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(json),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        whole_command().debug_assert();
    }

    #[test]
    fn the_agents_options_are_in_the_help_of_commands_that_talk_to_it_and_of_no_other() {
        let mut whole = whole_command();
        whole.build();
        for command in whole.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let help = command.render_long_help().to_string();
            let shown = help.contains("--socket") && help.contains("--timeout");
            assert_eq!(shown, !WITHOUT_AGENT.contains(&command.get_name()), "{help}");
            let hint = help.contains("--socket") || help.contains("--timeout");
            assert_eq!(hint, shown, "{help}");
        }
    }

    #[test]
    fn the_agents_options_are_taken_before_and_behind_any_command() {
        for words in
            ["--socket /x info a.wav", "info --socket /x a.wav", "status --socket /x", "--socket /x status"]
        {
            let words = std::iter::once("recordctl").chain(words.split(' '));
            let cli = Cli::from_arg_matches(&whole_command().try_get_matches_from(words).unwrap()).unwrap();
            assert_eq!(cli.agent.socket, std::path::Path::new("/x"));
        }
    }
}
