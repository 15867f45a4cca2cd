//! `recordserver`, the companion server of server recording.

use phone_recorder::text::{logged, shown_json, shown_lines};
use recordserver::config::{self, Command, HELP};
use recordserver::{run, status};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    match config::from_args(std::env::args_os().skip(1), |path| std::fs::read_to_string(path)) {
        Ok(command) => perform(command),
        Err(error) => {
            note(&error.to_string());
            ExitCode::from(2)
        }
    }
}

fn perform(command: Command) -> ExitCode {
    match command {
        Command::Help => print(HELP),
        Command::Version => print(concat!("recordserver ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Checked => ExitCode::SUCCESS,
        Command::Sessions { http, json } => match status::query(http) {
            Ok(sessions) if json => {
                let json = serde_json::to_string(&sessions).unwrap_or_default();
                print(&format!("{}\n", shown_json(&json, std::io::stdout().is_terminal())))
            }
            Ok(sessions) => print(&shown_lines(&status::table(&sessions))),
            Err(error) => failed(&format!("no answer from a server at http://{http}/sessions: {error}")),
        },
        Command::Run(config) => {
            start_log(config.log_level);
            match run::run(*config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error.to_string()),
            }
        }
    }
}

/// What phones say is in the log: none of it ends a line or moves a cursor.
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
