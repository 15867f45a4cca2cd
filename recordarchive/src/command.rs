//! The command line, and what each command does.
//!
//! Owns: options, exit status, what is printed. Exit status: 0 done, 1 failed or something is wrong, 2 usage or settings.

mod evidence;

use crate::access::audit::Entry;
use crate::access::secret::{hash_password, key_hash, new_key, new_token};
use crate::access::totp;
use crate::access::{Grant, Permission, Role, Use};
use crate::catalogue::model::Account;
use crate::catalogue::sqlite::SqliteCatalogue;
use crate::catalogue::{Catalogue, Failure};
use crate::clock;
use crate::config::{Config, DEFAULT_FILE};
use crate::id::Id;
use crate::jobs::checkpoint::{self, Checkpoints, SecondPlace};
use crate::jobs::intake::{Counts, Intake};
use crate::jobs::room::Room;
use crate::jobs::verify::Anchors;
use crate::jobs::waves::{self, Waves};
use crate::jobs::webhook::Webhook;
use crate::jobs::{backup, deletion, export, holds, import, verify};
use crate::media::derived::Store;
use crate::time::{SECOND_US, day_begins, rfc3339};
use crate::web::{self, App, account_name};
use clap::{Args, Parser, Subcommand};
use recfile::text::{logged, shown, shown_lines};
use serde_json::json;
use std::io::{IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How often a journal is looked at.
const JOURNAL_EVERY: Duration = Duration::from_millis(250);
/// How often folders and catalogue are compared.
const RECONCILE_EVERY: Duration = Duration::from_secs(60);
/// How often a checkpoint of the audit log is made, if anything happened.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// How long the set-up link is good.
const SETUP_US: i64 = 3600 * SECOND_US;
/// How long requests may go on once the server is told to end.
const DRAIN: Duration = Duration::from_secs(10);
/// Files that can't be taken that `doctor` lists.
const LISTED: u32 = 20;
/// What the commands of this program do stands in the audit log under this name.
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
    /// Back up the catalogue and the keys, with a list of the media, and prove it; works while the server runs
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
        /// Whose calls it is for; may be given several times
        #[arg(long, value_name = "N")]
        extension: Vec<String>,
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
    /// Give an account a second factor, and print what an authenticator app reads, once
    Totp {
        /// Whose
        name: String,
        /// Take it away
        #[arg(long)]
        off: bool,
    },
    /// Change a password, read from standard input
    Passwd {
        /// Whose
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
        /// What it is for
        #[arg(long)]
        name: String,
        /// A permission that it is limited to; may be given several times
        #[arg(long, value_name = "ACTION")]
        scope: Vec<String>,
    },
}

/// Why a command ends.
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
        start_log(config.log_level);
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
            Config::parse(&text, &path.to_string_lossy()).map_err(|error| Ended::Usage(error.to_string()))?
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

fn start_log(level: log::LevelFilter) {
    env_logger::Builder::new()
        .filter_level(level)
        .filter_module("sqlx", log::LevelFilter::Warn)
        .parse_default_env()
        .format(|out, record| {
            let text = record.args().to_string();
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
            serve(config).await
        }
        Command::Import { paths, site } => import_all(&mut config, &paths, site).await,
        Command::User(user) => people(&*open(&config).await?, user, &config).await,
        Command::Token(token) => make_token(&*open(&config).await?, token).await,
        Command::Verify { since } => verify_all(&config, since).await,
        Command::Export { calls, query, output, reason, mask_numbers } => {
            let calls = evidence::Wanted { calls, query, reason, mask_numbers };
            evidence::export(&config, calls, &output).await
        }
        Command::VerifyExport { file, key } => evidence::verify(&file, key),
        Command::Backup { folder } => back_up(&config, &folder).await,
        Command::Restore { folder } => restore(&config, &folder).await,
        Command::Doctor => doctor(&config).await,
        Command::Rebuild => rebuild(&config).await,
    }
}

async fn serve(mut config: Config) -> Outcome {
    let catalogue = open(&config).await?;
    let listener = tokio::net::TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|error| Ended::Failed(format!("{}: {error}", config.listen)))?;
    if let Ok(addr) = listener.local_addr() {
        config.listen = addr;
    }
    let entry = |action| Entry::new(clock::now_us(), COMMAND_LINE, action, env!("CARGO_PKG_VERSION"));
    catalogue.log(&[entry("start")]).await?;
    let acceptor = match &config.tls {
        Some((cert, key)) => Some(web::tls::read(cert, key).map_err(Ended::Usage)?),
        None => None,
    };
    let hooks = config.hooks.iter().cloned().map(Webhook::new).collect::<Result<Vec<_>, _>>();
    let hooks = hooks.map_err(Ended::Usage)?;
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    print(&format!("recordarchive listens on {scheme}://{}", config.listen));
    if catalogue.totals().await?.accounts == 0 {
        let key = new_key();
        catalogue.offer_setup(&key_hash(&key), clock::now_us() + SETUP_US).await?;
        print(&format!("make the first account within an hour: {}/setup?key={key}", config.base_url()));
    }
    let app = App::new(Arc::clone(&catalogue), config.clone());
    let mut tasks = tokio::task::JoinSet::new();
    let (waves, wanted) = Waves::queue();
    tasks.spawn(waves::make(Arc::clone(&catalogue), Store::new(&config.data), wanted));
    for root in &config.intakes {
        let intake = Intake::new(Arc::clone(&catalogue), config.site.clone(), root.clone());
        tasks.spawn(watch(intake.telling(app.events()).with_waves(waves.clone())));
    }
    let keys = config.keys();
    let exports =
        export::run(Arc::clone(&catalogue), config.data.clone(), config.site.name.clone(), move || {
            checkpoint::key(&keys)
        });
    tasks.spawn(exports);
    tasks.spawn(watch_heard(Arc::clone(&app)));
    tasks.spawn(holds::watch(Arc::clone(&catalogue)));
    tasks.spawn(deletion::watch(Arc::clone(&catalogue), Store::new(&config.data)));
    let folders = std::iter::once(config.data.clone()).chain(config.intakes.iter().cloned());
    tasks.spawn(watch_room(Room::new(folders, app.events())));
    for hook in hooks {
        tasks.spawn(hook.run(Arc::clone(&catalogue), app.events()));
    }
    let key = checkpoint::key(&config.keys()).map_err(Ended::Failed)?;
    let second = config.checkpoints.clone().map(SecondPlace::new);
    let checkpoints = Checkpoints::new(Arc::clone(&catalogue), key, second);
    let (told, mut ends) = tokio::sync::watch::channel(false);
    let checkpoint_task = tokio::spawn(watch_checkpoints(checkpoints, told.subscribe()));
    let ended = async move {
        let _ = ends.wait_for(|end| *end).await;
    };
    let routes = web::routes(Arc::clone(&app));
    let mut server = match acceptor {
        Some(acceptor) => {
            let listener = web::tls::TlsListener::new(listener, acceptor);
            let listener = listener.map_err(|error| Ended::Failed(error.to_string()))?;
            tokio::spawn(axum::serve(listener, routes).with_graceful_shutdown(ended).into_future())
        }
        None => tokio::spawn(axum::serve(listener, routes).with_graceful_shutdown(ended).into_future()),
    };
    // Without a watchdog: what a database or disk stands still for is told by /readyz.
    let mut manager = os::notify::Notifier::from_environment();
    manager.ready(media::time::Mono::default());
    tokio::select! {
        () = signalled() => {}
        ended = &mut server => return Err(Ended::Failed(format!("the web server ended: {ended:?}"))),
    }
    manager.stopping();
    let _ = told.send(true);
    app.end();
    tasks.shutdown().await;
    if tokio::time::timeout(DRAIN, &mut server).await.is_err() {
        server.abort();
    }
    app.log_heard(true).await;
    catalogue.log(&[entry("stop")]).await?;
    if let Ok(mut checkpoints) = checkpoint_task.await
        && let Err(problem) = checkpoints.make().await
    {
        note(&format!("audit: the last checkpoint failed: {problem}"));
    }
    Ok(())
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Makes checkpoints until the server ends; gives back what makes the last one.
async fn watch_checkpoints(
    mut checkpoints: Checkpoints,
    mut ends: tokio::sync::watch::Receiver<bool>,
) -> Checkpoints {
    while tokio::time::timeout(CHECKPOINT_EVERY, ends.wait_for(|end| *end)).await.is_err() {
        if let Err(problem) = checkpoints.make().await {
            log::error!("audit: a checkpoint failed and is tried again in a minute: {problem}");
        }
    }
    checkpoints
}

/// Logs what was heard, until the server ends.
async fn watch_heard(app: Arc<App>) {
    let mut looks = tokio::time::interval(RECONCILE_EVERY);
    loop {
        looks.tick().await;
        app.log_heard(false).await;
    }
}

/// Looks at the room of disks until the server ends.
async fn watch_room(mut room: Room) {
    let mut looks = tokio::time::interval(RECONCILE_EVERY);
    loop {
        looks.tick().await;
        let looked = tokio::task::spawn_blocking(move || {
            room.look();
            room
        });
        let Ok(back) = looked.await else { return };
        room = back;
    }
}

/// Follows an intake until the server ends. What fails is tried again.
async fn watch(intake: Intake) {
    let mut journal = intake.journal();
    let mut looks = tokio::time::interval(JOURNAL_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reconciles = tokio::time::interval(RECONCILE_EVERY);
    reconciles.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = reconciles.tick() => match intake.reconcile(false).await {
                Ok(counts) if counts == Counts::default() => {}
                Ok(counts) => log::info!("intake: {}", told(counts)),
                Err(error) => log::error!("intake: {error}"),
            },
            _ = looks.tick() => match journal.news() {
                Ok(news) if news.is_empty() => {}
                Ok(news) => {
                    if let Err(error) = intake.take(news).await {
                        log::error!("intake: {error}");
                    }
                }
                Err(error) => log::warn!("intake: the journal can't be read: {error}"),
            },
        }
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
    if problems == 0 { Ok(()) } else { Err(Ended::Wrong) }
}

/// How far an import is.
fn bar(done: usize, total: usize) -> String {
    const WIDTH: usize = 30;
    let filled = (done * WIDTH).checked_div(total).unwrap_or(WIDTH);
    format!("[{}{}] {done} of {total}", "#".repeat(filled), "-".repeat(WIDTH - filled))
}

fn password() -> Result<String, Ended> {
    let mut text = String::new();
    let read = std::io::stdin().take(4096).read_to_string(&mut text);
    read.map_err(|error| Ended::Failed(format!("the password can't be read: {error}")))?;
    hash_password(text.trim_end_matches(['\r', '\n'])).map_err(Ended::Usage)
}

async fn people(catalogue: &dyn Catalogue, user: User, config: &Config) -> Outcome {
    let now_us = clock::now_us();
    let entry = |action, name: &str| Entry::new(now_us, COMMAND_LINE, action, name);
    let there_is_none = |name: &str| Err(Ended::Failed(format!("there is no account {name:?}")));
    match user {
        User::Add { name, role, extension, password_stdin } => {
            let name = account_name(&name).map_err(Ended::Usage)?;
            let names: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
            let wrong = || Ended::Usage(format!("{role:?} is no role; there are {}", names.join(", ")));
            let role = Role::from_name(&role).ok_or_else(wrong)?;
            let mut uses = Vec::new();
            for number in &extension {
                let digits = crate::number::digits(number, config.site.country_code.as_deref());
                let extension = if digits.is_empty() { number.clone() } else { digits };
                let from_us = catalogue.extension_from(&extension, now_us).await?;
                uses.push(Use { extension, from_us, to_us: None });
            }
            let password = if password_stdin { Some(password()?) } else { None };
            let account = Account { id: Id::random(now_us), name, password, disabled: false };
            let said = json!({"role": role.name(), "extensions": extension});
            let grant = Grant { role, uses, expires_us: None };
            catalogue.add_account(&account, &grant, &entry("account.add", &account.name).with(&said)).await?;
            print(&format!("{} is there, as {}", account.name, role.name()));
            if !password_stdin {
                print("it has no password: set one with \"user passwd\", or make a token for it");
            }
            Ok(())
        }
        User::List => {
            for (account, grants) in catalogue.accounts().await? {
                let roles = grants.iter().map(|grant| {
                    let extensions: Vec<&str> =
                        grant.uses.iter().map(|used| used.extension.as_str()).collect();
                    format!("{} {}", grant.role.name(), extensions.join(","))
                });
                let roles = roles.collect::<Vec<_>>().join("; ");
                let state = if account.disabled { "  disabled" } else { "" };
                print(&format!("{:20} {}{state}", account.name, roles.trim_end()));
            }
            Ok(())
        }
        User::Disable { name } => {
            if catalogue.disable(&name, &entry("account.disable", &name)).await? {
                return Ok(());
            }
            there_is_none(&name)
        }
        User::Totp { name, off } => {
            let secret = (!off).then(totp::new_secret);
            let entry = entry("account.totp", &name).with(&json!({"on": !off}));
            if !catalogue.set_totp(&name, secret.as_ref().map(|secret| &secret[..]), &entry).await? {
                return there_is_none(&name);
            }
            if let Some(secret) = secret {
                print(&totp::uri(&secret, &name));
            }
            Ok(())
        }
        User::Passwd { name } => {
            let hash = password()?;
            if catalogue.set_password(&name, &hash, &entry("account.password", &name)).await? {
                return Ok(());
            }
            there_is_none(&name)
        }
    }
}

async fn make_token(catalogue: &dyn Catalogue, token: Token) -> Outcome {
    let Token::Create { user, name, scope } = token;
    if let Some(wrong) = scope.iter().find(|name| Permission::from_name(name).is_none()) {
        let names = Permission::ALL.map(Permission::name).join(", ");
        return Err(Ended::Usage(format!("{wrong:?} is no permission; there are {names}")));
    }
    let token = new_token();
    let said = json!({"name": name, "scope": scope});
    let entry = Entry::new(clock::now_us(), COMMAND_LINE, "token.create", &user).with(&said);
    catalogue.add_token(&user, &name, &key_hash(&token), &scope, &entry).await?;
    print(&token);
    Ok(())
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
    let anchors = Anchors { key, second: config.checkpoints.clone().map(SecondPlace::new) };
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
    let made = backup::backup(&*catalogue, &config.keys(), key, folder).await.map_err(Ended::Failed)?;
    let (recordings, entries, media) = (made.recordings, made.entries, made.media);
    print(&format!(
        "{recordings} recording(s) and {entries} audit entries are in {}; it opens, and its audit log fits",
        folder.display()
    ));
    print(&format!(
        "{media} media file(s) are listed in media.jsonl: copy them with what copies large files"
    ));
    Ok(())
}

async fn restore(config: &Config, folder: &Path) -> Outcome {
    let (database, keys) = (config.database(), config.keys());
    let (told, missing) = backup::restore(folder, &database, &keys).await.map_err(Ended::Failed)?;
    let catalogue = open(config).await?;
    let entry = Entry::new(clock::now_us(), COMMAND_LINE, "restore", folder.display());
    catalogue.log(&[entry]).await?;
    print(&format!(
        "{} recording(s) and {} audit entries are in {}",
        told.recordings,
        told.entries,
        database.display()
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
    for folder in std::iter::once(&config.data).chain(&config.intakes) {
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
    if wrong { Err(Ended::Wrong) } else { Ok(()) }
}

async fn rebuild(config: &Config) -> Outcome {
    let catalogue = open(config).await?;
    let intakes = config.intakes.iter().map(|root| (root.clone(), false));
    for (root, is_import) in intakes.chain([(config.media(), true)]) {
        if !root.is_dir() {
            continue;
        }
        let make = if is_import { Intake::of_imports } else { Intake::new };
        let intake = make(Arc::clone(&catalogue), config.site.clone(), root.clone());
        print(&format!("{}: {}", root.display(), told(intake.reconcile(true).await?)));
    }
    catalogue.log(&[Entry::new(clock::now_us(), COMMAND_LINE, "rebuild", "")]).await?;
    Ok(())
}
