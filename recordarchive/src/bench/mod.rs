//! Measurements of the archive on calls that nobody made: `recordarchive bench`.
//!
//! Owns: the generated data, the requests, and the table of times. Never: a catalogue with real calls.

mod media;
pub(crate) mod search;
mod server;
pub(crate) mod synthetic;

use crate::catalogue::sqlite::bulk;
use crate::config::Config;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use synthetic::Year;
use tokio::time::Instant;

/// The file that becomes the catalogue when it is complete.
const UNFINISHED: &str = "catalogue.sqlite.generating";
/// It stands beside a catalogue that was generated, and nothing else is measured.
const MARK: &str = "SYNTHETIC";
/// Calls between two reports of progress.
const REPORT_EVERY: u64 = 50_000;

fn told(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// Makes a catalogue of a year of `calls` in the data folder, which has none, and returns a summary.
///
/// # Errors
/// A text for the operator that names the obstacle.
pub(crate) async fn generate(config: &Config, calls: u64, seed: u64) -> Result<String, String> {
    let database = config.database();
    if database.exists() {
        return Err(format!(
            "{} is there already: give --data a new folder; generated calls are not mixed with others",
            database.display()
        ));
    }
    std::fs::create_dir_all(&config.data).map_err(|error| told(&config.data, &error))?;
    let unfinished = config.data.join(UNFINISHED);
    let remains =
        ["", "-journal", "-wal", "-shm"].map(|end| PathBuf::from(format!("{}{end}", unfinished.display())));
    let clear = || remains.iter().for_each(|path| drop(std::fs::remove_file(path)));
    clear();
    let begun = Instant::now();
    let is_shown = std::io::stderr().is_terminal();
    let mut progress = |count: u64| {
        if is_shown && count.is_multiple_of(REPORT_EVERY) {
            let _ = write!(std::io::stderr(), "\r{count} of {calls} calls");
        }
    };
    let made = bulk::fill(&unfinished, Year::new(calls, seed), &mut progress).await;
    if is_shown {
        let _ = writeln!(std::io::stderr());
    }
    let count = match made {
        Ok(count) => count,
        Err(failure) => {
            clear();
            return Err(failure.to_string());
        }
    };
    let mark = config.data.join(MARK);
    std::fs::write(&mark, format!("{calls} calls, seed {seed}\n")).map_err(|error| told(&mark, &error))?;
    std::fs::rename(&unfinished, &database).map_err(|error| told(&database, &error))?;
    let octets = std::fs::metadata(&database).map_err(|error| told(&database, &error))?.len();
    Ok(format!(
        "{count} calls in {:.0} s, {} octets of catalogue a call",
        begun.elapsed().as_secs_f64(),
        octets / count.max(1)
    ))
}
