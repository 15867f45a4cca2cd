//! `recordserver`, the companion server of server recording.

use recfile::text::{logged, shown_json, shown_lines};
use recordserver::advice::unanswered;
use recordserver::check;
use recordserver::config::{self, Command, Config, HELP};
use recordserver::drain::{Drained, drain};
use recordserver::http::{self, Place};
use recordserver::run;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

/// Exit status of bad usage or settings.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    match config::from_args(std::env::args_os().skip(1), |path| std::fs::read_to_string(path)) {
        Ok(command) => perform(command),
        Err(error) => {
            note(&error.to_string());
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn perform(command: Command) -> ExitCode {
    match command {
        Command::Help => print(HELP),
        Command::Version => print(concat!("recordserver ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Checked(config) => checked(&config),
        Command::Sessions { places, json } => sessions(&places, json),
        Command::Drain { socket } => drained(&socket),
        Command::Run(config) => {
            start_log(config.log_level);
            match run::run(*config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error.to_string()),
            }
        }
    }
}

/// Texts of phones are in the log: none of them ends a line or moves a cursor.
fn start_log(level: log::LevelFilter) {
    env_logger::Builder::new()
        .filter_level(level)
        .parse_default_env()
        .format(|out, record| {
            let text = record.args().to_string();
            writeln!(out, "[{:5} {}] {}", record.level(), record.target(), logged(&text))
        })
        .init();
}

/// The checks of settings against the machine.
fn checked(config: &Config) -> ExitCode {
    let faults = check::faults(config);
    faults.iter().for_each(|fault| note(fault));
    if faults.is_empty() {
        print(
            "the settings are good
",
        )
    } else {
        ExitCode::from(EXIT_USAGE)
    }
}

/// Asks at the first of these places where a server is.
fn sessions(places: &[Place], json: bool) -> ExitCode {
    let mut missed = Vec::new();
    for place in places {
        match http::query(place) {
            Ok(sessions) if json => {
                let json = serde_json::to_string(&sessions).unwrap_or_default();
                return print(&format!("{}\n", shown_json(&json, std::io::stdout().is_terminal())));
            }
            Ok(sessions) => {
                let table = http::table(&sessions, http::is_draining(place));
                return print(&shown_lines(&table));
            }
            Err(error) => missed.push((place, error)),
        }
    }
    failed(&unanswered(&missed))
}

fn drained(socket: &Path) -> ExitCode {
    match drain(socket) {
        Ok(Drained::GoesOn(count)) => {
            print(&format!("draining: {count} recording(s) go on, the server ends with the last one\n"))
        }
        Ok(Drained::Ended) => print("the server had no recording, and has ended\n"),
        Err(text) => failed(&text),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn failed(text: &str) -> ExitCode {
    note(text);
    ExitCode::FAILURE
}

/// Tells on stderr. Nobody may read there: the exit status says it, too.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "recordserver: {}", shown_lines(text));
}
