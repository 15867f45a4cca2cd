//! The agent's settings: TOML text in, a checked [`Config`] out.
//!
//! Owns: keys, defaults, ranges and the errors of wrong values. Never: reading files, looking at disks or
//! interfaces; whether a directory exists is found out when it is used. Invariants: an empty text gives
//! `Config::default()`; every error names file, line and key.

mod values;

use media::blocks::BLOCK_OCTETS;
use os::sandbox::{CAPABILITY_NAMES, Capability, Level};
use recfile::seal::age::Recipient;
use settings::{
    ConfigError, Document, Problem, Section, Value, choice, flag, integer, invalid, number, size, text,
};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::access::{GroupName, file_mode, recordings_mode};
use uplink::media_hosts::MediaHosts;
use values::{
    absolute_path, device, group, media_hosts, milliseconds, octal_mode, recipients, relative_directory,
    server_addr, socket_path, texts, uids,
};

/// Every section with its keys: any other key is an error.
pub const SECTIONS: &[(&str, &[&str])] = &[
    ("control", &["socket", "mode", "group", "allow_uids"]),
    ("rtp", &["bind", "port", "max_recordings", "allow_remote"]),
    (
        "storage",
        &[
            "path",
            "require_usb",
            "directory",
            "max_file_size",
            "reserve",
            "on_full",
            "flush_interval_ms",
            "buffer",
            "resume_window_s",
            "mode",
            "recordings_group",
            "speed_check",
            "encrypt_to",
            "sign_key",
        ],
    ),
    (
        "uplink",
        &[
            "server_addr",
            "server_port",
            "device",
            "connect_timeout_ms",
            "response_timeout_ms",
            "terminator",
            "on_failure",
            "media_hosts",
            "extensions",
            "dscp_control",
            "dscp_media",
        ],
    ),
    ("sandbox", &["enabled", "keep_capabilities", "unmount", "mount_parents", "read"]),
    ("log", &["level"]),
];

/// Longest path of a Unix socket that fits `sun_path` with its NUL (unix(7)).
pub const MAX_SOCKET_PATH_OCTETS: usize = 107;
/// Most entries of `control.allow_uids`.
pub const MAX_ALLOWED_UIDS: usize = 64;
/// Longest `storage.directory`, so that path and file name stay within FAT's limit.
pub const MAX_DIRECTORY_OCTETS: usize = 128;
/// Longest `uplink.server_addr`: that of a DNS name (RFC 1035, section 2.3.4).
pub const MAX_SERVER_ADDR_OCTETS: usize = 253;
/// Longest `uplink.device`.
pub const MAX_DEVICE_OCTETS: usize = 64;
/// Least `storage.buffer` for each of `rtp.max_recordings`; a smaller setting is raised to it: a block to
/// fill while the disk has another one.
pub const LEAST_BUFFER_OCTETS: usize = 2 * BLOCK_OCTETS;
/// Most entries of `sandbox.keep_capabilities`, `sandbox.mount_parents` and `sandbox.read`.
pub const MAX_SANDBOX_ENTRIES: usize = 32;
/// The highest `rtp.max_recordings`.
pub const MAX_RECORDINGS: u64 = 64;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// All settings of the agent, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `[control]`: the local socket.
    pub control: Control,
    /// `[rtp]`: where audio comes in.
    pub rtp: Rtp,
    /// `[storage]`: where and how recordings are kept.
    pub storage: Storage,
    /// `[uplink]`: the recording server.
    pub uplink: Uplink,
    /// `[sandbox]`: the agent's privileges.
    pub sandbox: Sandbox,
    /// `[log]`: the level of the log.
    pub log: Log,
}

/// `[control]`: the Unix socket on which clients drive the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Path of the socket, made by the agent.
    pub socket: PathBuf,
    /// Permission bits of the socket.
    pub mode: u32,
    /// The group that the socket belongs to, if not the agent's own.
    pub group: Option<GroupName>,
    /// Users that may connect besides root and the agent's own; empty: all that the mode lets in.
    pub allow_uids: Vec<u32>,
}

/// `[rtp]`: the UDP sockets that audio comes in by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtp {
    /// Address that the sockets are bound to.
    pub bind: IpAddr,
    /// 0: an ephemeral port per recording; else the first of N, N+2, N+4 ….
    pub port: u16,
    /// Recordings at the same time, 1 to [`MAX_RECORDINGS`].
    pub max_recordings: usize,
    /// Whether `bind` may be an address that other hosts reach.
    pub allow_remote: bool,
}

/// `storage.path`: the disk for recordings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoragePath {
    /// The first removable disk that can be written to.
    Auto,
    /// This directory.
    Directory(PathBuf),
}

/// `storage.on_full`: the reaction to a full disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// The recording ends.
    Stop,
    /// The oldest finalised recordings of the agent make room.
    DeleteOldest,
}

/// `[storage]`: the disk for recordings, and how they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The disk.
    pub path: StoragePath,
    /// Whether a [`StoragePath::Directory`] has to be on a removable disk.
    pub require_usb: bool,
    /// Folder below the disk's root, relative and without `..`; empty for the root itself.
    pub directory: String,
    /// Size at which a new file begins, header included; `None`: only the cap of the file system.
    pub max_file_octets: Option<u64>,
    /// Octets of the disk that are always left free.
    pub reserve_octets: u64,
    /// The reaction to a full disk.
    pub on_full: OnFull,
    /// Longest time that audio stays unsynced: the most that a power cut may cost.
    pub flush_interval: Duration,
    /// Memory that bridges a stalled disk, shared by all recordings: [`LEAST_BUFFER_OCTETS`] for each or
    /// more.
    pub buffer_octets: usize,
    /// The value of `storage.buffer`, if it is too small.
    pub buffer_raised_from: Option<usize>,
    /// A disk that is back within this time continues its recordings; zero: never.
    pub resume_window: Duration,
    /// Permission bits of recordings and sidecars; folders have those to enter them, too.
    pub mode: u32,
    /// The group that recordings, sidecars and folders belong to, if not the agent's own.
    pub recordings_group: Option<GroupName>,
    /// Whether a disk's write speed is measured when it comes in.
    pub speed_check: bool,
    /// Keys that recordings are encrypted to, at most [`recfile::seal::MAX_RECIPIENTS`]; none: they are not.
    pub encrypt_to: Vec<Recipient>,
    /// The file with the key that recordings are signed with.
    pub sign_key: Option<PathBuf>,
}

/// `uplink.device`: the phone's name towards the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// The MAC address of the interface that reaches the server.
    Auto,
    /// This name.
    Fixed(String),
}

/// `uplink.terminator`: the end of a command on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminator {
    /// Nothing.
    None,
    /// A line feed.
    Lf,
    /// Carriage return and line feed.
    CrLf,
}

impl Terminator {
    /// The octets themselves.
    #[must_use]
    pub fn octets(self) -> &'static [u8] {
        match self {
            Self::None => b"",
            Self::Lf => b"\n",
            Self::CrLf => b"\r\n",
        }
    }
}

/// `uplink.on_failure`: how a server recording goes on when the server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It ends.
    Stop,
    /// It goes on to the local disk.
    Local,
}

/// `[uplink]`: the recording server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Host name or IP address; empty: there is no server.
    pub server_addr: String,
    /// TCP port, not 0 if there is a server.
    pub server_port: u16,
    /// Name of the phone towards the server.
    pub device: Device,
    /// Longest wait for the TCP connection.
    pub connect_timeout: Duration,
    /// Longest wait for an answer.
    pub response_timeout: Duration,
    /// The end of a command on the wire.
    pub terminator: Terminator,
    /// The reaction to a server that fails or refuses.
    pub on_failure: OnFailure,
    /// Hosts beside the server that a start answer may send audio to.
    pub media_hosts: MediaHosts,
    /// Whether a server of ours is asked to let recordings outlive their connections
    /// (docs/uplink-protocol.md).
    pub extensions: bool,
    /// DSCP of the commands, 0 to 63 (RFC 2474); 0: not marked. CS3 by default (RFC 4594, section 4.2).
    pub dscp_control: u8,
    /// DSCP of the audio, 0 to 63; 0: not marked. EF by default (RFC 4594, section 4.1).
    pub dscp_media: u8,
}

/// `[sandbox]`: the privileges that the agent gives up once it has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether it gives up anything.
    pub enabled: Level,
    /// Capabilities that it keeps, if it has them.
    pub keep_capabilities: Vec<Capability>,
    /// Whether a second process is kept that unmounts disks, if there is the privilege for it.
    pub unmount: bool,
    /// Folders that sticks are mounted beneath.
    pub mount_parents: Vec<PathBuf>,
    /// Files and folders that may be read beside the system's.
    pub read: Vec<PathBuf>,
}

/// `[log]`: the level of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is still logged.
    pub level: log::LevelFilter,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: PathBuf::from("/run/recordd.sock"), mode: 0o660, group: None, allow_uids: Vec::new() }
    }
}

impl Default for Rtp {
    fn default() -> Self {
        Self { bind: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 0, max_recordings: 4, allow_remote: false }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            path: StoragePath::Auto,
            require_usb: true,
            directory: "Record".to_owned(),
            max_file_octets: Some(512 * MIB),
            reserve_octets: 16 * MIB,
            on_full: OnFull::Stop,
            flush_interval: Duration::from_secs(1),
            buffer_octets: 4 << 20,
            buffer_raised_from: None,
            resume_window: Duration::ZERO,
            mode: 0o600,
            recordings_group: None,
            speed_check: true,
            encrypt_to: Vec::new(),
            sign_key: None,
        }
    }
}

impl Default for Uplink {
    fn default() -> Self {
        Self {
            server_addr: String::new(),
            server_port: 0,
            device: Device::Auto,
            connect_timeout: Duration::from_secs(3),
            response_timeout: Duration::from_secs(5),
            terminator: Terminator::None,
            on_failure: OnFailure::Stop,
            media_hosts: MediaHosts::default(),
            extensions: false,
            dscp_control: 24,
            dscp_media: 46,
        }
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            enabled: Level::On,
            keep_capabilities: Vec::new(),
            unmount: true,
            mount_parents: ["/media", "/mnt", "/run/media", "/tmp"].map(PathBuf::from).into(),
            read: Vec::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: log::LevelFilter::Info }
    }
}

impl Config {
    /// Reads TOML `text`; `file_name` only serves error messages.
    ///
    /// # Errors
    /// The first thing wrong: syntax, an unknown section or key, a wrong type, a value out of its range or
    /// values that don't go together.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigError> {
        let document = Document::parse(text, file_name, SECTIONS)?;
        let mut it = Self {
            control: Control::read(&document.section("control"))?,
            rtp: Rtp::read(&document.section("rtp"))?,
            storage: Storage::read(&document.section("storage"))?,
            uplink: Uplink::read(&document.section("uplink"))?,
            sandbox: Sandbox::read(&document.section("sandbox"))?,
            log: Log::read(&document.section("log"))?,
        };
        let least = it.rtp.max_recordings * LEAST_BUFFER_OCTETS;
        if it.storage.buffer_octets < least {
            it.storage.buffer_raised_from = Some(std::mem::replace(&mut it.storage.buffer_octets, least));
        }
        Ok(it)
    }

    /// A note for the log at the start if a setting is not used as written.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let (written, used) = (self.storage.buffer_raised_from?, self.storage.buffer_octets);
        Some(format!(
            "storage.buffer is {used} octets instead of {written}: at least {} KiB for each of rtp.max_recordings",
            LEAST_BUFFER_OCTETS / 1024
        ))
    }

    /// A note about a server with a port and no address: it is not used, and the agent runs without it.
    #[must_use]
    pub fn half_a_server(&self) -> Option<String> {
        let port = self.uplink.server_port;
        let half = port != 0 && !self.uplink.is_configured();
        half.then(|| {
            format!(
                "uplink.server_port: {port} without a server_addr is no server: write its address, or port 0"
            )
        })
    }

    /// The ports of `[rtp]`; 0 stands for any.
    #[must_use]
    pub fn rtp_ports(&self) -> Vec<u16> {
        let count = u16::try_from(self.rtp.max_recordings).unwrap_or(u16::MAX);
        let port = |nth: u16| self.rtp.port.saturating_add(nth.saturating_mul(2));
        if self.rtp.port == 0 { vec![0] } else { (0..count).map(port).collect() }
    }
}

impl Control {
    fn read(section: &Section<'_, '_>) -> Result<Self, ConfigError> {
        let mut it = Self::default();
        section.read("socket", &mut it.socket, socket_path)?;
        section.read("mode", &mut it.mode, octal_mode)?;
        section.read("group", &mut it.group, group)?;
        section.read("allow_uids", &mut it.allow_uids, uids)?;
        Ok(it)
    }
}

impl Rtp {
    fn read(section: &Section<'_, '_>) -> Result<Self, ConfigError> {
        let mut it = Self::default();
        section.read("bind", &mut it.bind, |value| {
            let found = text(value)?;
            let wanted = "an IP address without port, such as \"127.0.0.1\" or \"::1\"";
            found.parse().map_err(|_| invalid(found, wanted))
        })?;
        section.read("port", &mut it.port, |value| number(value, 0, 65535))?;
        section.read("max_recordings", &mut it.max_recordings, |value| number(value, 1, MAX_RECORDINGS))?;
        section.read("allow_remote", &mut it.allow_remote, flag)?;
        if !it.bind.is_loopback() && !it.allow_remote {
            let wanted = "a loopback address, or allow_remote = true beside it: anyone who reaches this \
                          address could put audio into recordings";
            return Err(section.fail("bind", invalid(&it.bind.to_string(), wanted)));
        }
        // N, N+2, N+4 …: the last one of them has to be a port, too.
        let highest = u64::from(u16::MAX).saturating_sub(2 * (it.max_recordings as u64 - 1));
        if u64::from(it.port) > highest {
            let problem = Problem::OutOfRange { found: it.port.to_string(), lowest: 0, highest };
            return Err(section.fail("port", problem));
        }
        Ok(it)
    }
}

impl Storage {
    fn read(section: &Section<'_, '_>) -> Result<Self, ConfigError> {
        let mut it = Self::default();
        section.read("path", &mut it.path, |value| match text(value)? {
            "auto" => Ok(StoragePath::Auto),
            "" => Err(invalid("", "\"auto\" or a directory")),
            found => Ok(StoragePath::Directory(PathBuf::from(found))),
        })?;
        section.read("require_usb", &mut it.require_usb, flag)?;
        section.read("directory", &mut it.directory, relative_directory)?;
        section.read("max_file_size", &mut it.max_file_octets, |value| match value.as_str() {
            Some("none") => Ok(None),
            _ => size(value, 4 * KIB, 1024 * GIB).map(Some),
        })?;
        section.read("reserve", &mut it.reserve_octets, |value| size(value, 0, 1024 * GIB))?;
        section.read("on_full", &mut it.on_full, |value| {
            choice(value, &[("stop", OnFull::Stop), ("delete-oldest", OnFull::DeleteOldest)])
        })?;
        section.read("flush_interval_ms", &mut it.flush_interval, |value| milliseconds(value, 50, 60_000))?;
        section.read("buffer", &mut it.buffer_octets, |value| size(value, 64 * KIB, 256 * MIB))?;
        section.read("resume_window_s", &mut it.resume_window, |value| {
            integer(value, 0, 3600).map(Duration::from_secs)
        })?;
        section.read("recordings_group", &mut it.recordings_group, group)?;
        it.mode = recordings_mode(it.recordings_group.as_ref());
        section.read("mode", &mut it.mode, |value| {
            let found = text(value)?;
            file_mode(found).map_err(|wanted| invalid(found, wanted))
        })?;
        section.read("speed_check", &mut it.speed_check, flag)?;
        section.read("encrypt_to", &mut it.encrypt_to, recipients)?;
        section.read("sign_key", &mut it.sign_key, |value| match text(value)? {
            "" => Ok(None),
            found if Path::new(found).is_absolute() => Ok(Some(found.into())),
            found => Err(invalid(found, "the absolute path of a key file, such as \"/etc/recordd.key\"")),
        })?;
        Ok(it)
    }
}

impl Uplink {
    /// Whether a server is configured at all.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.server_addr.is_empty()
    }

    fn read(section: &Section<'_, '_>) -> Result<Self, ConfigError> {
        let mut it = Self::default();
        section.read("server_addr", &mut it.server_addr, server_addr)?;
        section.read("server_port", &mut it.server_port, |value| number(value, 0, 65535))?;
        section.read("device", &mut it.device, device)?;
        section
            .read("connect_timeout_ms", &mut it.connect_timeout, |value| milliseconds(value, 50, 60_000))?;
        section
            .read("response_timeout_ms", &mut it.response_timeout, |value| milliseconds(value, 50, 60_000))?;
        section.read("terminator", &mut it.terminator, |value| {
            choice(value, &[("none", Terminator::None), ("lf", Terminator::Lf), ("crlf", Terminator::CrLf)])
        })?;
        section.read("on_failure", &mut it.on_failure, |value| {
            choice(value, &[("stop", OnFailure::Stop), ("local", OnFailure::Local)])
        })?;
        section.read("media_hosts", &mut it.media_hosts, media_hosts)?;
        section.read("extensions", &mut it.extensions, flag)?;
        section.read("dscp_control", &mut it.dscp_control, |value| number(value, 0, 63))?;
        section.read("dscp_media", &mut it.dscp_media, |value| number(value, 0, 63))?;
        if it.is_configured() && it.server_port == 0 {
            let wanted = "a server_port beside it: the server's TCP port, 1 to 65535";
            return Err(section.fail("server_addr", invalid(&it.server_addr, wanted)));
        }
        Ok(it)
    }
}

impl Sandbox {
    fn read(section: &Section<'_, '_>) -> Result<Self, ConfigError> {
        let mut it = Self::default();
        section.read("enabled", &mut it.enabled, |value| match value {
            Value::Boolean(true) => Ok(Level::On),
            Value::Boolean(false) => Ok(Level::Off),
            Value::String(found) if found == "strict" => Ok(Level::Strict),
            Value::String(found) => Err(invalid(found, "true, false or \"strict\"")),
            _ => Err(Problem::WrongType { wanted: "true, false or \"strict\"", found: value.type_str() }),
        })?;
        section.read("keep_capabilities", &mut it.keep_capabilities, |value| {
            texts(value, |name| name.parse().map_err(|()| invalid(name, CAPABILITY_NAMES)))
        })?;
        section.read("unmount", &mut it.unmount, flag)?;
        section.read("mount_parents", &mut it.mount_parents, |value| texts(value, absolute_path))?;
        section.read("read", &mut it.read, |value| texts(value, absolute_path))?;
        Ok(it)
    }
}

impl Log {
    fn read(section: &Section<'_, '_>) -> Result<Self, ConfigError> {
        use log::LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
        let levels = [
            ("off", Off),
            ("error", Error),
            ("warn", Warn),
            ("info", Info),
            ("debug", Debug),
            ("trace", Trace),
        ];
        let mut it = Self::default();
        section.read("level", &mut it.level, |value| choice(value, &levels))?;
        Ok(it)
    }
}

#[cfg(test)]
mod tests;
