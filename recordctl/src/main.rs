//! The command line of the recorder.

use std::process::ExitCode;

fn main() -> ExitCode {
    recordctl::Cli::read().run()
}
