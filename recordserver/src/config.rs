//! The server's settings: command line over TOML file over defaults.
//!
//! Owns: names, defaults and ranges of all settings, and the command line. Never: opening anything but
//! the config file. Invariant: every error is one message for a person, with file and line or option.

mod file;
#[cfg(test)]
mod tests;

use crate::admission::Limits;
use crate::http::Place;
use crate::ports::PortRange;
use crate::rates::Rate;
use file::File;
use os::sandbox::Level;
use settings::{Problem, Value, integer, nearest, size, text};
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::access::{GroupName, file_mode, group_name, recordings_mode};
use uplink::server::Timing;

/// The default address for metrics and status.
pub const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9755);

/// An example for `listen`.
const EXAMPLE_LISTEN: &str = "0.0.0.0:5055";

/// An example for `media_listen`.
const EXAMPLE_MEDIA: &str = "0.0.0.0:5056";

/// `--help`.
pub const HELP: &str = "\
Records what phones upload: control commands by TCP, audio by RTP.

recordserver --listen ADDR:PORT --storage DIR [options]    run the server
recordserver sessions [options] [--json]                   what a running server is recording
recordserver --drain [options]                             a running server takes no new calls, ends with the last

  --listen ADDR:PORT      where phones connect (TCP)
  --storage DIR           recordings go to DIR/DEVICE/YYYY-MM-DD/
  --rtp-ports LOW-HIGH    UDP ports for audio, one per recording (20000-28191)
  --public-addr HOST      host that phones send audio to, if it is not the one they connect to
  --http ADDR:PORT        metrics and status, loopback only (127.0.0.1:9755); \"off\" for none
  --status-socket PATH    the same on a Unix socket (DIR/.recordserver.sock); \"off\" for none
  --config FILE           the same and more settings, as TOML
  --drain                 tell the server of --storage, --status-socket or --config, and return
  --check-config          only say whether the settings are good on this machine
  --version, --help

Exit status: 0 after SIGTERM, SIGINT or --drain with every recording finalised, 1 failure, 2 bad usage or settings.
";

/// The address for metrics and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// Nowhere.
    Off,
    /// At [`DEFAULT_HTTP`] if that port is free; the server does without it otherwise.
    Default,
    /// Here.
    At(SocketAddr),
}

impl Http {
    /// The address, if any.
    #[must_use]
    pub fn addr(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::Default => Some(DEFAULT_HTTP),
            Self::At(addr) => Some(addr),
        }
    }
}

/// Name of the Unix socket in the storage folder unless it is told to be elsewhere.
pub const STATUS_SOCKET: &str = ".recordserver.sock";

/// Longest path of a Unix socket: the size of `sun_path`, less one.
const MAX_SOCKET_PATH_OCTETS: usize = 107;

/// The Unix socket for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSocket {
    /// The path; `None` for no socket.
    pub path: Option<PathBuf>,
    /// Whether the server does without it if it can't be had.
    pub may_fail: bool,
    /// The users who may connect, as a file mode.
    pub mode: u32,
}

/// Where audio comes by TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaListen {
    /// One port for all recordings.
    pub addr: SocketAddr,
    /// Whether the server does without the extension if the port can't be had.
    pub may_fail: bool,
}

/// The rates that one address may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paces {
    /// Requests for a recording.
    pub starts: Rate,
    /// New device names.
    pub new_devices: Rate,
    /// Files of recordings that no packet came for.
    pub empty_files: Rate,
}

/// All settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address that phones connect to.
    pub listen: SocketAddr,
    /// Folder for all recordings.
    pub storage: PathBuf,
    /// Where phones that ask for the extension send their audio, by TCP; `None`: nobody is granted it.
    pub media: Option<MediaListen>,
    /// UDP ports for RTP.
    pub rtp_ports: PortRange,
    /// Host that is given to phones; empty: the address that they are connected to.
    pub public_addr: String,
    /// Metrics and status.
    pub http: Http,
    /// The same on a Unix socket.
    pub status_socket: StatusSocket,
    /// Connections and sessions.
    pub limits: Limits,
    /// The rates that one address may have.
    pub paces: Paces,
    /// Time limits of connections.
    pub timing: Timing,
    /// Longest time that a recording whose phone is gone is kept open for it, with the extension.
    pub resume_within: Duration,
    /// Octets of the disk that are left free: new sessions are refused below it.
    pub reserve_octets: u64,
    /// Size at which a recording goes on in a new file, header included; `None`: no limit but the format's.
    pub max_file_octets: Option<u64>,
    /// Longest time that audio stays unsynced.
    pub flush_interval: Duration,
    /// Memory that bridges a slow disk, shared by all sessions.
    pub buffer_octets: u64,
    /// Whether the server gives up unneeded privileges once it has started.
    pub sandbox: Level,
    /// Permission bits of recordings and sidecars; folders have those to enter them, too.
    pub mode: u32,
    /// The group that recordings, sidecars and folders belong to, if not the server's own.
    pub recordings_group: Option<GroupName>,
    /// The least important level that is logged.
    pub log_level: log::LevelFilter,
}

/// The command of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the server.
    Run(Box<Config>),
    /// The settings are good as far as they tell by themselves, and that is all one wanted to know.
    Checked(Box<Config>),
    /// Ask the server for its running recordings.
    Sessions {
        /// The addresses to try, the best one first; one at least.
        places: Vec<Place>,
        /// JSON rather than a table.
        json: bool,
    },
    /// Tell the server to take no new calls.
    Drain {
        /// Its Unix socket.
        socket: PathBuf,
    },
    /// Print [`HELP`].
    Help,
    /// Print the version.
    Version,
}

/// Long options.
const OPTIONS: [&str; 12] = [
    "listen",
    "storage",
    "rtp-ports",
    "public-addr",
    "http",
    "status-socket",
    "config",
    "drain",
    "check-config",
    "json",
    "help",
    "version",
];

/// Settings that may stand on the command line too.
#[derive(Debug, Default)]
struct Options {
    listen: Option<SocketAddr>,
    storage: Option<PathBuf>,
    rtp_ports: Option<PortRange>,
    public_addr: Option<String>,
    http: Option<Http>,
    status_socket: Option<PathBuf>,
    config: Option<PathBuf>,
    check: bool,
    drain: bool,
    sessions: bool,
    json: bool,
}

/// Reads the command line (without the program's name), and through `read` the config file it names.
///
/// # Errors
/// A message that says which option, or which file and line, is wrong, and the right form.
pub fn from_args(
    args: impl IntoIterator<Item = OsString>,
    read: impl FnOnce(&Path) -> std::io::Result<String>,
) -> Result<Command, String> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut options = Options::default();
    if let Some(command) = options.fill(&mut parser).map_err(usage)? {
        return Ok(command);
    }
    let path = options.config.take();
    let text = match &path {
        Some(path) => read(path)
            .map_err(|error| format!("cannot read the config {}: {error} (--config)", path.display()))?,
        None => String::new(),
    };
    let path = path.unwrap_or_default();
    let name = path.to_string_lossy();
    let file = File::parse(&text, &name)?;
    if options.json && !options.sessions {
        return Err("--json: is about the list of sessions: recordserver sessions --json".into());
    }
    if options.drain {
        if options.sessions || options.check {
            return Err("--drain: goes with neither sessions nor --check-config".into());
        }
        let socket = status_socket(&options, &file)?.path.ok_or(
            "--drain: finds the server by its Unix socket: give --storage, --status-socket or --config, or \
             send SIGUSR1 to the server",
        )?;
        return Ok(Command::Drain { socket });
    }
    if options.sessions {
        let places = places(&options, &file)?;
        if places.is_empty() {
            return Err(
                "sessions: the server has neither --http nor --status-socket; give one of them".into()
            );
        }
        return Ok(Command::Sessions { places, json: options.json });
    }
    let check = options.check;
    let config = Box::new(checked(options, &file)?);
    Ok(if check { Command::Checked(config) } else { Command::Run(config) })
}

fn usage(error: lexopt::Error) -> String {
    format!("{error}; see recordserver --help")
}

impl Options {
    fn fill(&mut self, parser: &mut lexopt::Parser) -> Result<Option<Command>, lexopt::Error> {
        use lexopt::prelude::*;
        while let Some(arg) = parser.next()? {
            match arg {
                Long("listen") => {
                    let wanted = |_| format!("--listen wants ADDR:PORT, such as {EXAMPLE_LISTEN}");
                    self.listen = Some(parser.value()?.parse_with(|text| text.parse().map_err(wanted))?);
                }
                Long("storage") => self.storage = Some(parser.value()?.into()),
                Long("rtp-ports") => {
                    let parsed = |text: &str| text.parse().map_err(|error| format!("--rtp-ports: {error}"));
                    self.rtp_ports = Some(parser.value()?.parse_with(parsed)?);
                }
                Long("public-addr") => self.public_addr = Some(parser.value()?.string()?),
                Long("http") => {
                    let parsed = |text: &str| http_setting(text).map_err(|error| format!("--http: {error}"));
                    self.http = Some(parser.value()?.parse_with(parsed)?);
                }
                Long("status-socket") => self.status_socket = Some(parser.value()?.into()),
                Long("config") => self.config = Some(parser.value()?.into()),
                Long("check-config") => self.check = true,
                Long("drain") => self.drain = true,
                Long("json") => self.json = true,
                Long("help") | Short('h') => return Ok(Some(Command::Help)),
                Long("version") | Short('V') => return Ok(Some(Command::Version)),
                Value(word) if word == "sessions" && !self.sessions => self.sessions = true,
                Long(other) => {
                    let hint = nearest(other, OPTIONS.into_iter());
                    let hint = hint.map(|option| format!("; did you mean --{option}?")).unwrap_or_default();
                    return Err(format!("invalid option '--{other}'{hint}").into());
                }
                other => return Err(other.unexpected()),
            }
        }
        Ok(None)
    }
}

fn http_setting(text: &str) -> Result<Http, String> {
    if matches!(text, "" | "off") {
        return Ok(Http::Off);
    }
    let addr: SocketAddr = text
        .parse()
        .map_err(|_| format!("\"{text}\" is no ADDR:PORT such as {DEFAULT_HTTP}, and not \"off\""))?;
    if addr.ip().is_loopback() {
        Ok(Http::At(addr))
    } else {
        Err(format!(
            "\"{text}\" is not a loopback address: write one, and put a proxy with access control before it"
        ))
    }
}

fn http(options: &Options, file: &File<'_>) -> Result<Http, String> {
    let in_file = || file.above("http", |value| http_setting(text(value)?).map_err(Problem::Refused));
    options.http.map_or_else(|| Ok(in_file()?.unwrap_or(Http::Default)), Ok)
}

fn media(listen: SocketAddr, file: &File<'_>) -> Result<Option<MediaListen>, String> {
    let extensions = file.above("extensions", |value| {
        value.as_bool().ok_or(Problem::WrongType { wanted: "true or false", found: value.type_str() })
    })?;
    let told = file.above("media_listen", |value| {
        let text = text(value)?;
        let wanted = |_| Problem::Refused(format!("\"{text}\" is no ADDR:PORT such as \"{EXAMPLE_MEDIA}\""));
        text.parse().map_err(wanted)
    })?;
    // Port 0 is any, and so is the next one.
    let next = if listen.port() == 0 { Some(0) } else { listen.port().checked_add(1) };
    let next = next.map(|port| MediaListen { addr: SocketAddr::new(listen.ip(), port), may_fail: true });
    let media = told.map(|addr| MediaListen { addr, may_fail: false }).or(next);
    Ok(media.filter(|_| extensions.unwrap_or(true)))
}

fn storage(options: &Options, file: &File<'_>) -> Result<Option<PathBuf>, String> {
    options.storage.clone().map_or_else(|| file.above("storage", path), |storage| Ok(Some(storage)))
}

fn status_socket(options: &Options, file: &File<'_>) -> Result<StatusSocket, String> {
    let fits = |path: PathBuf| {
        let octets = path.as_os_str().len();
        if octets <= MAX_SOCKET_PATH_OCTETS {
            return Ok(path);
        }
        Err(format!(
            "{octets} octets, a socket's path has at most {MAX_SOCKET_PATH_OCTETS}: choose a shorter one"
        ))
    };
    let told = match options.status_socket.clone() {
        Some(path) => Some(fits(path).map_err(|problem| format!("--status-socket: {problem}"))?),
        None => file.above("status_socket", |value| fits(path(value)?).map_err(Problem::Refused))?,
    };
    let may_fail = told.is_none();
    let path = match told {
        Some(path) => (!path.as_os_str().is_empty() && path.as_os_str() != "off").then_some(path),
        None => storage(options, file)?.map(|storage| storage.join(STATUS_SOCKET)),
    };
    let mode = file.above("status_socket_mode", |value| {
        let text = text(value)?;
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
        mode.ok_or_else(|| Problem::Refused(format!("\"{text}\" is no octal mode such as \"0660\"")))
    })?;
    Ok(StatusSocket { path, may_fail, mode: mode.unwrap_or(0o660) })
}

/// The places to ask: those of the command line, else those that a server with these settings would serve.
fn places(options: &Options, file: &File<'_>) -> Result<Vec<Place>, String> {
    let socket = status_socket(options, file)?.path.map(Place::Socket);
    let http = http(options, file)?.addr().map(Place::Http);
    Ok(match (options.status_socket.is_some(), options.http.is_some()) {
        (true, false) => socket.into_iter().collect(),
        (false, true) => http.into_iter().collect(),
        _ => socket.into_iter().chain(http).collect(),
    })
}

fn checked(options: Options, file: &File<'_>) -> Result<Config, String> {
    let http = http(&options, file)?;
    let status_socket = status_socket(&options, file)?;
    let in_file = || {
        file.above("listen", |value| {
            let text = text(value)?;
            let wanted =
                |_| Problem::Refused(format!("\"{text}\" is no ADDR:PORT such as \"{EXAMPLE_LISTEN}\""));
            text.parse().map_err(wanted)
        })
    };
    let listen = options.listen.map_or_else(in_file, |listen| Ok(Some(listen)))?.ok_or_else(|| {
        format!("--listen: is missing: give an ADDR:PORT such as {EXAMPLE_LISTEN}, or a --config with it")
    })?;
    let storage = storage(&options, file)?
        .ok_or("--storage: is missing: give the folder for recordings, or a --config with it")?;
    let in_file = || file.above("rtp_ports", |value| text(value)?.parse().map_err(Problem::Refused));
    let rtp_ports = options.rtp_ports.map_or_else(in_file, |ports| Ok(Some(ports)))?;
    let public_addr = match options.public_addr {
        Some(text) => Some(host(&text).map_err(|problem| format!("--public-addr: {problem}"))?),
        None => file.above("public_addr", |value| host(text(value)?).map_err(Problem::Refused))?,
    };
    let recordings_group = file.above("recordings_group", |value| match text(value)? {
        "" => Ok(None),
        name => group_name(name).map(Some).map_err(|wanted| unlike(name, wanted)),
    })?;
    let recordings_group = recordings_group.flatten();
    let mode = file.above("mode", |value| {
        let mode = text(value)?;
        file_mode(mode).map_err(|wanted| unlike(mode, wanted))
    })?;
    let sandbox = file.above("sandbox", |value| match (value.as_bool(), value.as_str()) {
        (Some(true), _) => Ok(Level::On),
        (Some(false), _) => Ok(Level::Off),
        (None, Some("strict")) => Ok(Level::Strict),
        (None, Some(other)) => Err(unlike(other, "true, false or \"strict\"")),
        (None, None) => {
            Err(Problem::WrongType { wanted: "true, false or \"strict\"", found: value.type_str() })
        }
    })?;
    let level = file.log("level", |value| {
        let wanted = "one of off, error, warn, info, debug and trace";
        let level = text(value)?;
        level.parse().map_err(|_| unlike(level, wanted))
    })?;
    let flush_interval_ms = file.above("flush_interval_ms", |value| integer(value, 50, 60_000))?;
    Ok(Config {
        listen,
        storage,
        media: media(listen, file)?,
        rtp_ports: rtp_ports.unwrap_or(PortRange::DEFAULT),
        public_addr: public_addr.unwrap_or_default(),
        http,
        status_socket,
        timing: timing(file)?,
        resume_within: Duration::from_secs(file.limit("resume_within_s", 0, 86_400)?.unwrap_or(600)),
        limits: limits(file)?,
        paces: paces(file)?,
        reserve_octets: file.above("reserve", |value| size_or_none(value, 0, u64::MAX))?.unwrap_or(1 << 30),
        max_file_octets: file.above("max_file_size", max_file)?.flatten(),
        flush_interval: Duration::from_millis(flush_interval_ms.unwrap_or(5000)),
        buffer_octets: file
            .above("buffer", |value| size_or_none(value, 1 << 20, 16 << 30))?
            .unwrap_or(256 << 20),
        mode: mode.unwrap_or_else(|| recordings_mode(recordings_group.as_ref())),
        recordings_group,
        sandbox: sandbox.unwrap_or(Level::On),
        log_level: level.unwrap_or(log::LevelFilter::Info),
    })
}

fn path(value: &Value<'_>) -> Result<PathBuf, Problem> {
    text(value).map(PathBuf::from)
}

fn host(text: &str) -> Result<String, String> {
    if is_host(text) {
        return Ok(text.to_owned());
    }
    Err(format!("\"{text}\" is no host name or address (without port)"))
}

/// Whether phones can send to it, as far as the text tells; empty is good, too.
fn is_host(text: &str) -> bool {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return !ip.is_unspecified();
    }
    let strange = |c: char| c.is_whitespace() || c.is_control() || "/:[]@%".contains(c);
    // A last label of digits makes it an address that is mistyped.
    let digits = text
        .rsplit('.')
        .next()
        .is_some_and(|last| !last.is_empty() && last.bytes().all(|it| it.is_ascii_digit()));
    text.len() <= 253 && !text.contains(strange) && !digits
}

fn timing(file: &File<'_>) -> Result<Timing, String> {
    let start = file.limit("start_timeout_ms", 100, 600_000)?;
    let idle: u64 = file.limit("idle_timeout_s", 0, 86_400)?.unwrap_or(900);
    Ok(Timing {
        start_within: Duration::from_millis(start.unwrap_or(10_000)),
        idle: (idle > 0).then_some(Duration::from_secs(idle)),
        stop_answer: Duration::from_secs(2),
    })
}

fn limits(file: &File<'_>) -> Result<Limits, String> {
    let default = Limits::default();
    let of = |key| file.limit::<usize>(key, 1, 65_535);
    let sessions = of("sessions")?.unwrap_or(default.sessions);
    let connections = of("connections")?.unwrap_or(default.connections);
    Ok(Limits {
        sessions,
        sessions_per_address: of("sessions_per_address")?
            .unwrap_or_else(|| Limits::share(sessions, default.sessions_per_address)),
        connections,
        connections_per_address: of("connections_per_address")?
            .unwrap_or_else(|| Limits::share(connections, default.connections_per_address)),
    })
}

fn paces(file: &File<'_>) -> Result<Paces, String> {
    let of_address = |key, default, window_s| {
        let count = file.limit(key, 1, 1_000_000)?.unwrap_or(default);
        Ok::<_, String>(Rate::within(count, Duration::from_secs(window_s)))
    };
    Ok(Paces {
        starts: of_address("starts_per_minute", 600, 60)?,
        new_devices: of_address("new_devices_per_hour", 600, 3600)?,
        empty_files: of_address("empty_files_per_hour", 120, 3600)?,
    })
}

/// Octets; `"none"` is zero.
fn size_or_none(value: &Value<'_>, lowest: u64, highest: u64) -> Result<u64, Problem> {
    if value.as_str() == Some("none") && lowest == 0 { Ok(0) } else { size(value, lowest, highest) }
}

fn max_file(value: &Value<'_>) -> Result<Option<u64>, Problem> {
    match size_or_none(value, 0, u64::MAX)? {
        0 => Ok(None),
        _ => size(value, 4096, 1 << 40).map(Some),
    }
}

fn unlike(found: &str, wanted: &str) -> Problem {
    Problem::Refused(format!("\"{found}\" is not {wanted}"))
}
