//! The command line of the recorder.

use std::process::ExitCode;

fn main() -> ExitCode {
    phone_recorder::ctl::Cli::read().run()
}
