//! `recordd`, the agent on the phone: arguments, config, logger, loop, exit status.

use os::clock::Clock;
use recfile::text::{logged, shown_lines};
use recordd::config::Config;
use recordd::runtime::check::{Findings, check};
use recordd::runtime::{Runtime, sign_key};
use settings::nearest;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Read when `--config` is not given.
const DEFAULT_CONFIG: &str = "/etc/recordd.toml";

const HELP: &str = "\
Call recorder of a SIP desk phone: records RTP to a USB stick or a recording server.

Usage: recordd [--config FILE] [--check-config]

Options:
  --config FILE   read this config (default: /etc/recordd.toml if it exists, else built-in defaults)
  --check-config  read the config, say whether it is good on this machine, and end; nothing is started
  --version       print the version and end
  -h, --help      print this help and end

Without a config it listens at /run/recordd.sock and records to the first removable disk. It stays in the
foreground. Logs go to standard error; RUST_LOG=debug tells more. The UI drives the agent over its local
socket, people by recordctl. SIGTERM and SIGINT finish every recording before the agent ends.

Exit status: 0 after SIGTERM or SIGINT with every recording finalised, 1 runtime failure,
2 bad usage or config.
";

/// Long options.
const OPTIONS: [&str; 4] = ["config", "check-config", "version", "help"];

const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 2;

#[derive(Default)]
struct Arguments {
    config: Option<PathBuf>,
    check_config: bool,
}

enum Command {
    Run(Arguments),
    Print(String),
}

fn main() -> ExitCode {
    let arguments = match parse_arguments() {
        Ok(Command::Run(arguments)) => arguments,
        Ok(Command::Print(text)) => {
            print(&text);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            note(&format!("{error}; see recordd --help"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let config = match read_config(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            note(&error.to_string());
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if let Err(error) = sign_key(&config) {
        note(&format!("{error} (storage.sign_key)"));
        return ExitCode::from(EXIT_USAGE);
    }
    if arguments.check_config {
        return check_config(&config);
    }
    os::share_heap();
    start_log(config.log.level);
    log::info!("recordd {} starts, socket {}", env!("CARGO_PKG_VERSION"), config.control.socket.display());
    for note in config.note().into_iter().chain(config.half_a_server()) {
        log::warn!("{note}");
    }
    match Runtime::new(config).and_then(Runtime::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&error.to_string());
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Reports mistakes in the settings, as far as this machine shows them.
fn check_config(config: &Config) -> ExitCode {
    let Findings { faults, warnings } = check(config);
    for warning in warnings {
        print(&format!("warning: {warning}\n"));
    }
    for fault in &faults {
        note(fault);
    }
    if faults.is_empty() {
        print("the config is good\n");
        return ExitCode::SUCCESS;
    }
    ExitCode::from(EXIT_USAGE)
}

/// Prints on stdout. A closed pipe is the reader's business.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Tells on stderr. Nobody may read there: the exit status says it, too.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "recordd: {}", shown_lines(text));
}

fn parse_arguments() -> Result<Command, String> {
    let mut arguments = Arguments::default();
    let mut left = std::env::args_os().skip(1);
    while let Some(argument) = left.next() {
        let text = argument.to_string_lossy();
        let (option, value) = match text.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option, Some(value)),
            _ => (&*text, None),
        };
        match (option, value) {
            ("--config", Some(_)) => {
                let path =
                    OsStr::from_bytes(argument.as_bytes().get("--config=".len()..).unwrap_or_default());
                arguments.config = Some(path.into());
            }
            ("--config", None) => {
                arguments.config = Some(left.next().ok_or("--config needs a file behind it")?.into());
            }
            ("--check-config", None) => arguments.check_config = true,
            ("--version", None) => {
                return Ok(Command::Print(format!("recordd {}\n", env!("CARGO_PKG_VERSION"))));
            }
            ("-h" | "--help", None) => return Ok(Command::Print(HELP.into())),
            (known, Some(_)) if is_option(known) => return Err(format!("{known} takes no value")),
            (other, _) if other.starts_with("--") => {
                let hint = nearest(other.trim_start_matches('-'), OPTIONS.into_iter());
                let hint = hint.map(|option| format!("; did you mean --{option}?")).unwrap_or_default();
                return Err(format!("invalid option '{other}'{hint}"));
            }
            (other, _) if other.starts_with('-') => return Err(format!("invalid option '{other}'")),
            _ => return Err(format!("unexpected argument {:?}", argument)),
        }
    }
    Ok(Command::Run(arguments))
}

fn is_option(text: &str) -> bool {
    text.strip_prefix("--").is_some_and(|name| OPTIONS.contains(&name))
}

fn read_config(path: Option<&Path>) -> Result<Config, String> {
    let path = match path {
        Some(path) => path,
        None if Path::new(DEFAULT_CONFIG).exists() => Path::new(DEFAULT_CONFIG),
        None => return Ok(Config::default()),
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the config {}: {error} (--config)", path.display()))?;
    Config::parse(&text, &path.display().to_string()).map_err(|error| error.to_string())
}

fn start_log(level: log::LevelFilter) {
    thread_local! {
        static CLOCK: RefCell<Clock> = RefCell::default();
    }
    env_logger::Builder::new()
        .filter_level(level)
        .parse_default_env()
        .format(|out, record| {
            let time = CLOCK.with_borrow_mut(|clock| clock.now().wall.rfc3339());
            // File names of a stick and words of a server are in it: none of them ends a line or moves a
            // cursor.
            let text = record.args().to_string();
            writeln!(out, "{time} {:5} {}", record.level(), logged(&text))
        })
        .init();
}
