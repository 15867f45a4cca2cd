//! `recordarchive`, the archive of call recordings.

use std::process::ExitCode;

fn main() -> ExitCode {
    recordarchive::command::run()
}
