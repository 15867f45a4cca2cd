//! The command line of the recorder.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    phone_recorder::ctl::Cli::parse().run()
}
