//! The command line, and the work of each command.
//!
//! Owns: options, exit status, printed text. Exit status: 0 done, 1 failed or something is wrong, 2 usage or
//! settings.

mod at_rest;
mod bench;
mod evidence;
mod people;
mod serve;

use crate::access::audit::Entry;
use crate::catalogue::sqlite::SqliteCatalogue;
use crate::catalogue::{Catalogue, Failure};
use crate::clock;
use crate::config::{Config, DEFAULT_FILE};
use crate::id::hex;
use crate::jobs::checkpoint::{self, SecondPlace};
use crate::jobs::intake::{Counts, Intake};
use crate::jobs::verify::Anchors;
use crate::jobs::{backup, import, verify};
use crate::oidc::provider::Provider;
use crate::time::{day_begins, rfc3339};
use clap::{Args, Parser, Subcommand};
use recfile::text::{logged, shown, shown_lines};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Files that can't be taken that `doctor` lists.
const LISTED: u32 = 20;
/// The actor of commands in the audit log.
const COMMAND_LINE: &str = "(command line)";

#[derive(Debug, Parser)]
#[command(name = "recordarchive", version, about = "Finds, plays and protects call recordings")]
struct Line {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Args)]
struct Common {
    /// Settings, as TOML (/etc/recordarchive.toml if it is there)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of catalogue and imported recordings (/var/lib/recordarchive)
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder that a recorder writes to; may be given several times
    #[arg(long, global = true, value_name = "DIR")]
    intake: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the archive
    Serve {
        /// Where it listens (127.0.0.1:8480)
        #[arg(long, value_name = "ADDR:PORT")]
        listen: Option<SocketAddr>,
    },
    /// Take in the recordings of a stick, a folder, or single files
    Import {
        /// Files and folders
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Site that they are of
        #[arg(long, value_name = "NAME")]
        site: Option<String>,
    },
    /// Look after accounts
    #[command(subcommand)]
    User(User),
    /// Make tokens for programs
    #[command(subcommand)]
    Token(Token),
    /// Check every file against its hash, the audit log, and the database
    Verify {
        /// Only files that were changed on this day or later
        #[arg(long, value_name = "DAY")]
        since: Option<String>,
    },
    /// Write a package of evidence: calls, hashes, signature, and who did what with them
    Export {
        /// Calls, by their ids
        #[arg(value_name = "CALL", required_unless_present = "query", conflicts_with = "query")]
        calls: Vec<String>,
        /// Calls, by a search
        #[arg(long, value_name = "Q")]
        query: Option<String>,
        /// The package
        #[arg(short, long, value_name = "FILE.zip")]
        output: PathBuf,
        /// Why; it stands in the package and in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Without the files as they are stored, and with numbers that can't be read
        #[arg(long)]
        mask_numbers: bool,
        /// With encrypted files as they are stored, and the identities that open them with "age -d"
        #[arg(long, conflicts_with = "mask_numbers")]
        as_stored: bool,
    },
    /// Check a package of evidence; needs no archive
    VerifyExport {
        /// The package
        #[arg(value_name = "FILE.zip")]
        file: PathBuf,
        /// The archive's public key, as a line or a file, from elsewhere than the package
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Back up the catalogue and the keys, with a list of the media, and prove it; works while the server
    /// runs
    Backup {
        /// A folder that is empty, or not there yet
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Put a backup into an archive that has no catalogue
    Restore {
        /// The folder that backup made
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Look whether everything works
    Doctor,
    /// Look at all files of the intakes and of imports again
    Rebuild,
    /// Measure searching, on calls that nobody made
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Wrap the keys of encrypted recordings for the recipients that the settings have now; goes on where it
    /// ended
    RotateKeys,
}

#[derive(Debug, Subcommand)]
enum User {
    /// Add an account
    Add {
        /// Its name
        name: String,
        /// agent, supervisor, investigator, compliance, auditor, admin or integration
        #[arg(long)]
        role: String,
        /// An extension whose calls it is for; may be given several times
        #[arg(long, value_name = "N")]
        extension: Vec<String>,
        /// A site whose calls it is for; may be given several times
        #[arg(long, value_name = "NAME")]
        site: Vec<String>,
        /// For calls from this day, or time of RFC 3339, on
        #[arg(long, value_name = "DAY")]
        from: Option<String>,
        /// For calls until this day
        #[arg(long, value_name = "DAY")]
        to: Option<String>,
        /// The role ends with this day
        #[arg(long, value_name = "DAY")]
        expires: Option<String>,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// List accounts
    List,
    /// End an account, with its sessions and tokens
    Disable {
        /// Its name
        name: String,
    },
    /// Give an account a second factor, and print the text for an authenticator app, once
    Totp {
        /// The name of the account
        name: String,
        /// Take it away
        #[arg(long)]
        off: bool,
    },
    /// Change a password, read from standard input
    Passwd {
        /// The name of the account
        name: String,
    },
}

#[derive(Debug, Subcommand)]
enum Token {
    /// Make a token, and print it once
    Create {
        /// Account that it acts for
        #[arg(long)]
        user: String,
        /// The purpose of the token
        #[arg(long)]
        name: String,
        /// A permission that it is limited to; may be given several times
        #[arg(long, value_name = "ACTION")]
        scope: Vec<String>,
    },
}

/// The reason for which a command ends.
enum Ended {
    /// It failed, for a person.
    Failed(String),
    /// The command line or settings are wrong, for a person.
    Usage(String),
    /// Something is wrong, and was told.
    Wrong,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.to_string())
    }
}

type Outcome = Result<(), Ended>;

/// Runs the program with this process's command line.
#[must_use]
pub fn run() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(told) => {
            let code = u8::try_from(told.exit_code()).unwrap_or(2);
            let _ = told.print();
            return ExitCode::from(code);
        }
    };
    let outcome = settings(&line.common).and_then(|config| {
        start_log(config.log_level, config.log_as_json);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Ended::Failed(format!("no threads: {error}")))?;
        let outcome = runtime.block_on(perform(line.command, config));
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::Wrong) => ExitCode::FAILURE,
        Err(Ended::Failed(text)) => {
            note(&text);
            ExitCode::FAILURE
        }
        Err(Ended::Usage(text)) => {
            note(&text);
            ExitCode::from(2)
        }
    }
}

fn settings(common: &Common) -> Result<Config, Ended> {
    let (path, must_exist) = match &common.config {
        Some(path) => (path.as_path(), true),
        None => (Path::new(DEFAULT_FILE), false),
    };
    let mut config = match std::fs::read_to_string(path) {
        Ok(text) => {
            let parsed = Config::parse(&text, &path.to_string_lossy());
            let mut config = parsed.map_err(|error| Ended::Usage(error.to_string()))?;
            let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            config.read_from = Some((absolute, hex(&Sha256::digest(&text))));
            config
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => Config::default(),
        Err(error) => return Err(Ended::Usage(format!("{}: {error}", path.display()))),
    };
    if let Some(data) = &common.data {
        config.data.clone_from(data);
    }
    config.intakes.extend(common.intake.iter().cloned());
    for folder in std::iter::once(&mut config.data).chain(&mut config.intakes) {
        // The catalogue names folders: from wherever a command is run they are the same.
        if let Ok(whole) = std::path::absolute(&*folder) {
            *folder = whole;
        }
    }
    Ok(config)
}

fn start_log(level: log::LevelFilter, as_json: bool) {
    env_logger::Builder::new()
        .filter_level(level)
        .filter_module("sqlx", log::LevelFilter::Warn)
        .parse_default_env()
        .format(move |out, record| {
            let text = record.args().to_string();
            if as_json {
                let (level, target) = (record.level().as_str(), record.target());
                let at = rfc3339(clock::now_us());
                return writeln!(
                    out,
                    "{}",
                    json!({"at": at, "level": level, "target": target, "text": text})
                );
            }
            writeln!(out, "[{:5} {}] {}", record.level(), record.target(), logged(&text))
        })
        .init();
}

fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "recordarchive: {}", shown_lines(text));
}

fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", shown_lines(text));
}

async fn open(config: &Config) -> Result<Arc<dyn Catalogue>, Ended> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.data);
    made.map_err(|error| Ended::Failed(format!("{}: {error}", config.data.display())))?;
    Ok(Arc::new(SqliteCatalogue::open(&config.database()).await?))
}

async fn perform(command: Command, mut config: Config) -> Outcome {
    match command {
        Command::Serve { listen } => {
            config.listen = listen.unwrap_or(config.listen);
            serve::serve(config).await
        }
        Command::Import { paths, site } => import_all(&mut config, &paths, site).await,
        Command::User(user) => people::people(&*open(&config).await?, user, &config).await,
        Command::Token(token) => people::make_token(&*open(&config).await?, token).await,
        Command::Verify { since } => verify_all(&config, since).await,
        Command::Export { calls, query, output, reason, mask_numbers, as_stored } => {
            let calls = evidence::Wanted { calls, query, reason, mask_numbers, as_stored };
            evidence::export(&config, calls, &output).await
        }
        Command::VerifyExport { file, key } => evidence::verify(&file, key),
        Command::Backup { folder } => back_up(&config, &folder).await,
        Command::Restore { folder } => restore(&config, &folder).await,
        Command::Doctor => doctor(&config).await,
        Command::Rebuild => rebuild(&config).await,
        Command::Bench(bench) => bench::run(bench, &config).await,
        Command::RotateKeys => at_rest::rotate(&config).await,
    }
}

fn told(counts: Counts) -> String {
    let Counts { added, updated, duplicate, broken, missing, busy } = counts;
    let parts = [
        (added, "new"),
        (updated, "looked at again"),
        (duplicate, "there already"),
        (broken, "can't be taken"),
        (missing, "missing"),
        (busy, "being written"),
    ];
    let said: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if said.is_empty() { "nothing new".into() } else { said.join(", ") }
}

async fn import_all(config: &mut Config, paths: &[PathBuf], site: Option<String>) -> Outcome {
    if let Some(site) = site {
        config.site.name = site;
    }
    let files = import::files(paths).map_err(Ended::Failed)?;
    let catalogue = open(config).await?;
    let (mut counts, mut problems) = (Counts::default(), 0);
    let is_shown = std::io::stderr().is_terminal();
    for (index, file) in files.iter().enumerate() {
        if is_shown {
            eprint!("\r{}", bar(index, files.len()));
        }
        let done = import::import(&*catalogue, &config.site, &config.media(), file, &mut counts).await;
        if let Err(problem) = done {
            problems += 1;
            if is_shown {
                eprintln!();
            }
            note(&problem);
        }
    }
    if is_shown {
        eprintln!("\r{}", bar(files.len(), files.len()));
    }
    let said = json!({"files": files.len(), "added": counts.added, "site": config.site.name});
    let entry = Entry::new(clock::now_us(), COMMAND_LINE, "import", "").with(&said);
    catalogue.log(&[entry]).await?;
    print(&format!("{} file(s): {}", files.len(), told(counts)));
    at_rest::after_import(config, &catalogue).await?;
    if problems == 0 { Ok(()) } else { Err(Ended::Wrong) }
}

/// The progress of an import.
fn bar(done: usize, total: usize) -> String {
    const WIDTH: usize = 30;
    let filled = (done * WIDTH).checked_div(total).unwrap_or(WIDTH);
    format!("[{}{}] {done} of {total}", "#".repeat(filled), "-".repeat(WIDTH - filled))
}

async fn verify_all(config: &Config, since: Option<String>) -> Outcome {
    let since_us = match &since {
        Some(day) => {
            let wrong = || Ended::Usage(format!("{day:?} is no day; write --since 2026-11-01"));
            day_begins(day, &config.site.zone).ok_or_else(wrong)?
        }
        None => i64::MIN,
    };
    let catalogue = open(config).await?;
    let key = checkpoint::public_key(&config.keys()).map_err(Ended::Failed)?;
    let vault = at_rest::vault(config)?;
    let anchors = Anchors { key, second: config.checkpoints.clone().map(SecondPlace::new), vault };
    let verified = verify::verify(&*catalogue, anchors, since_us / 1000).await?;
    let said = json!({"files": verified.files, "problems": verified.problems.len()});
    let entry = Entry::new(clock::now_us(), COMMAND_LINE, "verify", since.unwrap_or_default()).with(&said);
    catalogue.log(&[entry]).await?;
    verified.problems.iter().for_each(|problem| print(problem));
    let (files, entries, head) = (verified.files, verified.entries, verified.head);
    print(&format!(
        "{files} file(s) and {entries} audit entries are good; the audit log's head is {entries} {head}"
    ));
    print(&format!("{} signed checkpoint(s) fit", verified.checkpoints));
    if verified.problems.is_empty() { Ok(()) } else { Err(Ended::Wrong) }
}

async fn back_up(config: &Config, folder: &Path) -> Outcome {
    let catalogue = open(config).await?;
    // Before the copy, so that the copy has it, too.
    let entry = Entry::new(clock::now_us(), COMMAND_LINE, "backup", folder.display());
    catalogue.log(&[entry]).await?;
    let key = checkpoint::public_key(&config.keys()).map_err(Ended::Failed)?;
    let made = backup::backup(&*catalogue, (&config.keys(), &config.media()), key, folder).await;
    let made = made.map_err(Ended::Failed)?;
    let (recordings, entries, media) = (made.recordings, made.entries, made.media);
    print(&format!(
        "{recordings} recording(s) and {entries} audit entries are in {}; it opens, and its audit log fits",
        folder.display()
    ));
    print(&format!(
        "{media} media file(s) are listed in media.jsonl: copy them with your tool for large files"
    ));
    Ok(())
}

async fn restore(config: &Config, folder: &Path) -> Outcome {
    let (keys, media) = (config.keys(), config.media());
    let restored = backup::restore(folder, &config.database(), (&keys, &media)).await;
    let (told, missing) = restored.map_err(Ended::Failed)?;
    let catalogue = open(config).await?;
    let entry = Entry::new(clock::now_us(), COMMAND_LINE, "restore", folder.display());
    catalogue.log(&[entry]).await?;
    print(&format!(
        "{} recording(s) and {} audit entries are in {}",
        told.recordings,
        told.entries,
        config.database().display()
    ));
    for path in missing.iter().take(LISTED as usize) {
        print(&format!("not there: {}", path.display()));
    }
    if !missing.is_empty() {
        print(&format!(
            "{} media file(s) are not there: copy them back, and start the server",
            missing.len()
        ));
    }
    Ok(())
}

async fn doctor(config: &Config) -> Outcome {
    let mut wrong = false;
    let mut say = |good: bool, text: String| {
        wrong |= !good;
        print(&format!("{}  {text}", if good { "ok   " } else { "WRONG" }));
    };
    let catalogue = open(config).await?;
    let broken = catalogue.check().await?;
    say(
        broken.is_empty(),
        format!(
            "database {}: {}",
            config.database().display(),
            if broken.is_empty() { "whole".into() } else { broken.join("; ") }
        ),
    );
    for (folder, _) in config.folders() {
        match (std::fs::read_dir(folder), nix::sys::statvfs::statvfs(folder)) {
            (Ok(_), Ok(room)) => {
                #[allow(clippy::useless_conversion, reason = "these counters have 32 bits on 32-bit systems")]
                let free = u64::from(room.blocks_available()) * u64::from(room.fragment_size());
                say(free > 1 << 30, format!("{}: {} MiB free", folder.display(), free >> 20));
            }
            (Err(error), _) => say(false, format!("{}: {error}", folder.display())),
            (_, Err(error)) => say(false, format!("{}: {error}", folder.display())),
        }
    }
    let newest = catalogue.audit_newest(None, None, 1).await?;
    let last_us = newest.first().map_or(0, |link| link.entry.at_us);
    let now_us = clock::now_us();
    say(now_us >= last_us, format!("clock: {}", rfc3339(now_us)));
    let totals = catalogue.totals().await?;
    say(true, format!("{} recording(s), {} account(s)", totals.recordings, totals.accounts));
    say(totals.missing == 0, format!("{} file(s) missing", totals.missing));
    say(totals.quarantine == 0, format!("{} file(s) that can't be taken", totals.quarantine));
    for file in catalogue.quarantine(LISTED).await? {
        print(&format!("       {}: {}", crate::media::path(&file.place).display(), shown(&file.reason)));
    }
    if let Some(settings) = config.oidc.clone() {
        let issuer = settings.issuer.clone();
        let checked = match Provider::new(settings, &config.base_url()) {
            Ok(provider) => provider.check(now_us).await,
            Err(problem) => Err(problem),
        };
        let good = checked.is_ok();
        say(good, format!("log-in by {issuer}: {}", checked.unwrap_or_else(|problem| problem)));
    }
    for (good, text) in at_rest::doctor(config, &*catalogue).await? {
        say(good, text);
    }
    if wrong { Err(Ended::Wrong) } else { Ok(()) }
}

async fn rebuild(config: &Config) -> Outcome {
    let vault = at_rest::vault(config)?;
    let catalogue = open(config).await?;
    let intakes = config.intakes.iter().map(|root| (root.clone(), false));
    for (root, is_import) in intakes.chain([(config.media(), true)]) {
        if !root.is_dir() {
            continue;
        }
        let make = if is_import { Intake::of_imports } else { Intake::new };
        let intake =
            make(Arc::clone(&catalogue), config.site.clone(), root.clone()).with_vault(vault.clone());
        print(&format!("{}: {}", root.display(), told(intake.reconcile(true).await?)));
    }
    catalogue.log(&[Entry::new(clock::now_us(), COMMAND_LINE, "rebuild", "")]).await?;
    Ok(())
}
