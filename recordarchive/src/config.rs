//! The archive's settings: command line over TOML file over defaults.
//!
//! Owns: names, defaults and ranges. Never: opening anything.

mod oidc;

use crate::client::is_https_or_local;
use crate::media::vault::Encryption;
use crate::oidc::Settings as Oidc;
use crate::site::Site;
use jiff::tz::TimeZone;
use log::LevelFilter;
use recfile::seal::MAX_RECIPIENTS;
use recfile::seal::age::Recipient;
use settings::{ConfigError, Document, Section, Sections, choice, invalid, number, text};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Read if it is there, and no other was named.
pub(crate) const DEFAULT_FILE: &str = "/etc/recordarchive.toml";
/// Sections and their keys.
pub(crate) const SECTIONS: &Sections = &[
    ("web", &["listen", "public_url", "tls_cert", "tls_key"]),
    ("database", &["url"]),
    ("media", &["url"]),
    ("site", &["name", "time_zone", "country_code"]),
    ("auth", &["session_idle", "session_max"]),
    ("auth.oidc", oidc::KEYS),
    ("audit", &["checkpoints"]),
    ("export", &["approval"]),
    ("encryption", &["recipients", "identity_file"]),
    ("log", &["level", "format"]),
];
/// Sections that may be there several times.
pub(crate) const LISTS: &Sections =
    &[("intake", &["path", "status"]), ("webhook", &["url", "secret_file", "events"])];

/// Names of events that a hook may ask for.
pub(crate) const EVENTS: [&str; 3] = ["call.sealed", "call.live", "storage.low"];

/// A webhook: the address for events, and its settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hook {
    /// `https://`, or `http://` to this machine.
    pub(crate) url: String,
    /// File with the secret that signs, `whsec_…` or plain.
    pub(crate) secret_file: PathBuf,
    /// Which events.
    pub(crate) events: Vec<String>,
}

/// All settings.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The folder of catalogue and imported recordings.
    pub(crate) data: PathBuf,
    /// Folders that recorders write to.
    pub(crate) intakes: Vec<PathBuf>,
    /// Addresses at which recorders of some of them list running recordings.
    pub(crate) statuses: HashMap<PathBuf, String>,
    /// Programs that are told of events.
    pub(crate) hooks: Vec<Hook>,
    /// The address of the web server.
    pub(crate) listen: SocketAddr,
    /// The URL in browsers, without a slash at the end; empty: `http://` and the address of `listen`.
    pub(crate) public_url: String,
    /// Certificate chain and key, as PEM files; without them it speaks plain HTTP.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// File of the catalogue, if it is not in `data`.
    pub(crate) database: Option<PathBuf>,
    /// Folder of imported and encrypted recordings, if it is not in `data`.
    pub(crate) media: Option<PathBuf>,
    /// The site.
    pub(crate) site: Site,
    /// Time without use after which a session ends.
    pub(crate) session_idle_s: i64,
    /// Every session ends after this time.
    pub(crate) session_max_s: i64,
    /// The provider that knows people.
    pub(crate) oidc: Option<Oidc>,
    /// Folder for copies of the audit log's checkpoints.
    pub(crate) checkpoints: Option<PathBuf>,
    /// An export takes another person who approves it.
    pub(crate) export_approval: bool,
    /// Encryption of media at rest.
    pub(crate) encryption: Option<Encryption>,
    /// The least important level that is logged.
    pub(crate) log_level: LevelFilter,
    /// Each line of the log is an object of JSON.
    pub(crate) log_as_json: bool,
    /// The file that the settings were read from, and the SHA-256 of its text.
    pub(crate) read_from: Option<(PathBuf, String)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: PathBuf::from("/var/lib/recordarchive"),
            intakes: Vec::new(),
            statuses: HashMap::new(),
            hooks: Vec::new(),
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8480),
            public_url: String::new(),
            tls: None,
            database: None,
            media: None,
            site: Site::default(),
            session_idle_s: 30 * 60,
            session_max_s: 12 * 3600,
            oidc: None,
            checkpoints: None,
            export_approval: false,
            encryption: None,
            log_level: LevelFilter::Info,
            log_as_json: false,
            read_from: None,
        }
    }
}

impl Config {
    /// Reads a file's text, which errors call `file`.
    pub(crate) fn parse(input: &str, file: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let document = Document::parse_with_lists(input, file, SECTIONS, LISTS)?;
        let web = document.section("web");
        web.read("listen", &mut config.listen, |value| {
            let found = text(value)?;
            found.parse().map_err(|_| invalid(found, "an address and a port, such as 127.0.0.1:8480"))
        })?;
        web.read("public_url", &mut config.public_url, |value| {
            let found = text(value)?;
            let is_url = found.starts_with("https://") || found.starts_with("http://");
            if is_url {
                Ok(found.trim_end_matches('/').to_owned())
            } else {
                Err(invalid(found, "an https:// URL"))
            }
        })?;
        let (mut cert, mut key) = (String::new(), String::new());
        web.read("tls_cert", &mut cert, |value| Ok(text(value)?.to_owned()))?;
        web.read("tls_key", &mut key, |value| Ok(text(value)?.to_owned()))?;
        config.tls = match (cert.is_empty(), key.is_empty()) {
            (true, true) => None,
            (false, false) => Some((cert.into(), key.into())),
            (false, true) => {
                return Err(web.fail("tls_cert", invalid(&cert, "tls_key beside it, or neither")));
            }
            (true, false) => return Err(web.fail("tls_key", invalid(&key, "tls_cert beside it, or neither"))),
        };
        document.section("database").read("url", &mut config.database, |value| {
            let found = text(value)?;
            let path = found.strip_prefix("sqlite:").filter(|path| !path.is_empty());
            path.map(|path| Some(PathBuf::from(path))).ok_or_else(|| invalid(found, "sqlite:PATH"))
        })?;
        document.section("media").read("url", &mut config.media, |value| {
            let found = text(value)?;
            let path = found.strip_prefix("file:").filter(|path| path.starts_with('/'));
            path.map(|path| Some(PathBuf::from(path))).ok_or_else(|| invalid(found, "file:/FOLDER"))
        })?;
        read_site(&document.section("site"), &mut config.site)?;
        let auth = document.section("auth");
        auth.read("session_idle", &mut config.session_idle_s, |value| number(value, 60, 7 * 86_400))?;
        auth.read("session_max", &mut config.session_max_s, |value| number(value, 60, 30 * 86_400))?;
        let is_known = !config.public_url.is_empty();
        config.oidc = oidc::read(&document.section("auth.oidc"), is_known)?;
        document.section("audit").read("checkpoints", &mut config.checkpoints, |value| {
            let found = text(value)?;
            let path = found.strip_prefix("file:").filter(|path| path.starts_with('/'));
            path.map(|path| Some(PathBuf::from(path))).ok_or_else(|| invalid(found, "file:/FOLDER"))
        })?;
        document.section("export").read("approval", &mut config.export_approval, |value| {
            value.as_bool().ok_or_else(|| invalid(value.type_str(), "true or false"))
        })?;
        config.encryption = read_encryption(&document.section("encryption"))?;
        document.section("log").read("level", &mut config.log_level, |value| {
            use LevelFilter as L;
            choice(value, &[("error", L::Error), ("warn", L::Warn), ("info", L::Info), ("debug", L::Debug)])
        })?;
        document.section("log").read("format", &mut config.log_as_json, |value| {
            choice(value, &[("text", false), ("json", true)])
        })?;
        for intake in document.list("intake") {
            let mut path = PathBuf::new();
            intake.read("path", &mut path, |value| {
                let found = text(value)?;
                if found.is_empty() { Err(invalid(found, "a folder")) } else { Ok(PathBuf::from(found)) }
            })?;
            if path.as_os_str().is_empty() {
                return Err(intake.fail("path", invalid("", "path = \"FOLDER\" in each [[intake]]")));
            }
            let mut status = String::new();
            intake.read("status", &mut status, |value| {
                let found = text(value)?;
                let addr = found.strip_prefix("http://").map(|addr| addr.trim_end_matches('/'));
                let is_there = found.starts_with("unix:/")
                    || addr.is_some_and(|addr| addr.parse::<SocketAddr>().is_ok());
                if is_there {
                    Ok(found.to_owned())
                } else {
                    Err(invalid(found, "http://ADDRESS:PORT or unix:/SOCKET"))
                }
            })?;
            if !status.is_empty() {
                config.statuses.insert(path.clone(), status);
            }
            config.intakes.push(path);
        }
        for section in document.list("webhook") {
            let mut hook = Hook { events: EVENTS.map(str::to_owned).to_vec(), ..Hook::default() };
            section.read("url", &mut hook.url, |value| {
                let found = text(value)?;
                if is_https_or_local(found) {
                    Ok(found.to_owned())
                } else {
                    Err(invalid(found, "an https:// URL, or http:// to this machine"))
                }
            })?;
            section.read("secret_file", &mut hook.secret_file, |value| Ok(PathBuf::from(text(value)?)))?;
            section.read("events", &mut hook.events, |value| {
                let list = value.as_array().ok_or_else(|| invalid(value.type_str(), "a list of names"))?;
                let names = list.iter().map(|name| Ok(text(name.get_ref())?.to_owned()));
                let names: Vec<String> = names.collect::<Result<_, settings::Problem>>()?;
                match names.iter().find(|name| !EVENTS.contains(&name.as_str())) {
                    Some(wrong) => Err(invalid(wrong, &format!("of {}", EVENTS.join(", ")))),
                    None => Ok(names),
                }
            })?;
            if hook.url.is_empty() || hook.secret_file.as_os_str().is_empty() {
                return Err(
                    section.fail("url", invalid(&hook.url, "url and secret_file in each [[webhook]]"))
                );
            }
            config.hooks.push(hook);
        }
        Ok(config)
    }

    /// The path of the catalogue.
    pub(crate) fn database(&self) -> PathBuf {
        self.database.clone().unwrap_or_else(|| self.data.join("catalogue.sqlite"))
    }

    /// The folder of imported and encrypted recordings.
    pub(crate) fn media(&self) -> PathBuf {
        self.media.clone().unwrap_or_else(|| self.data.join("media"))
    }

    /// Folders of which the room counts, each with its part.
    pub(crate) fn folders(&self) -> impl Iterator<Item = (&PathBuf, &'static str)> {
        let intakes = self.intakes.iter().map(|path| (path, "intake"));
        let media = self.media.iter().map(|path| (path, "media"));
        std::iter::once((&self.data, "data")).chain(media).chain(intakes)
    }

    /// The folder of the site's key.
    pub(crate) fn keys(&self) -> PathBuf {
        self.data.join("keys")
    }

    /// The URL in browsers.
    pub(crate) fn base_url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        if self.public_url.is_empty() {
            format!("{scheme}://{}", self.listen)
        } else {
            self.public_url.clone()
        }
    }
}

fn read_encryption(section: &Section<'_, '_>) -> Result<Option<Encryption>, ConfigError> {
    let mut encryption = Encryption::default();
    section.read("recipients", &mut encryption.recipients, |value| {
        let list = value.as_array().ok_or_else(|| invalid(value.type_str(), "a list of recipients"))?;
        let parse = |found: &str| Recipient::parse(found).map_err(|error| invalid(found, &error.to_string()));
        let recipients: Vec<Recipient> = list
            .iter()
            .map(|found| parse(text(found.get_ref())?))
            .collect::<Result<_, settings::Problem>>()?;
        if (1..=MAX_RECIPIENTS).contains(&recipients.len()) {
            Ok(recipients)
        } else {
            Err(invalid(&recipients.len().to_string(), &format!("1 to {MAX_RECIPIENTS} recipients")))
        }
    })?;
    section.read("identity_file", &mut encryption.identity_file, |value| {
        let found = text(value)?;
        if found.starts_with('/') { Ok(PathBuf::from(found)) } else { Err(invalid(found, "/FILE")) }
    })?;
    match (encryption.recipients.is_empty(), encryption.identity_file.as_os_str().is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(encryption)),
        (true, false) => Err(section.fail("identity_file", invalid("it alone", "recipients beside it"))),
        (false, true) => Err(section.fail("recipients", invalid("them alone", "identity_file beside them"))),
    }
}

fn read_site(section: &Section<'_, '_>, site: &mut Site) -> Result<(), ConfigError> {
    section.read("name", &mut site.name, |value| Ok(text(value)?.to_owned()))?;
    section.read("time_zone", &mut site.zone, |value| {
        let found = text(value)?;
        TimeZone::get(found).map_err(|_| invalid(found, "a time zone such as \"Europe/Berlin\""))
    })?;
    section.read("country_code", &mut site.country_code, |value| {
        let found = text(value)?;
        let digits = found.trim_start_matches('+');
        let fits = (1..=3).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
        if fits {
            Ok(Some(digits.to_owned()))
        } else {
            Err(invalid(found, "the digits of a country, such as \"49\""))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use crate::oidc::GroupRole;

    #[test]
    fn the_shipped_configuration_loads_and_shows_every_key() {
        let text = include_str!("../recordarchive.example.toml");
        let config = Config::parse(text, "recordarchive.example.toml").unwrap();
        assert_eq!(config.intakes, [PathBuf::from("/var/lib/recordserver")]);
        for (_, keys) in SECTIONS.iter().chain(LISTS) {
            for key in *keys {
                let shown = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&format!("{key} ="));
                assert!(text.lines().any(shown), "{key}");
            }
        }
    }

    #[test]
    fn media_are_in_the_folder_that_is_named_and_lines_of_the_log_in_the_form() {
        let config =
            Config::parse("[media]\nurl = \"file:/mnt/media\"\n[log]\nformat = \"json\"", "a.toml").unwrap();
        assert_eq!((config.media(), config.log_as_json), (PathBuf::from("/mnt/media"), true));
        let config = Config { data: "/d".into(), ..Config::parse("", "a.toml").unwrap() };
        assert_eq!((config.media(), config.log_as_json), (PathBuf::from("/d/media"), false));
    }

    const PUBLIC: &str = "[web]\npublic_url = \"https://archive.example\"\n";

    fn oidc(line: &str, before: &str) -> String {
        let keys = "issuer = \"https://a\"\nclient_id = \"b\"\nclient_secret_file = \"/c\"";
        format!("{before}[auth.oidc]\n{keys}\n{line}\n")
    }

    #[test]
    fn roles_of_groups_are_read_with_their_extensions_in_a_table_of_their_own_or_a_line() {
        let line =
            "roles = { Boss = \"admin\", \"Desk 2\" = { role = \"supervisor\", extensions = [\"201\"] } }";
        let own = "[auth.oidc.roles]\nBoss = \"admin\"\n\"Desk 2\" = { extensions = [\"201\"], role = \"supervisor\" }";
        let of = |group: &str, role, extensions: &[&str]| GroupRole {
            group: group.into(),
            role,
            extensions: extensions.iter().map(|text| (*text).to_owned()).collect(),
        };
        for text in [line, own] {
            let read = Config::parse(&oidc(text, PUBLIC), "a.toml").unwrap().oidc.unwrap();
            let wanted = [of("Boss", Role::Admin, &[]), of("Desk 2", Role::Supervisor, &["201"])];
            assert_eq!((read.roles.as_slice(), read.groups_claim.as_str()), (&wanted[..], "groups"));
        }
        let agents = "roles = { a = \"agent\" }\nextensions_claim = \"ext\"\ngroups_claim = \"roles\"";
        let read = Config::parse(&oidc(agents, PUBLIC), "a.toml").unwrap().oidc.unwrap();
        assert_eq!((read.extensions_claim.as_str(), read.groups_claim.as_str()), ("ext", "roles"));
        assert_eq!(Config::parse("[auth]\nsession_max = 3600", "a.toml").unwrap().oidc, None);
    }

    #[test]
    fn a_mistake_is_told_with_file_line_and_key() {
        for (text, told) in [
            ("[web]\nlisten = \"here\"", "a.toml:2: key `web.listen`"),
            ("[web]\ntls_cert = \"/a\"", "a.toml:2: key `web.tls_cert`"),
            ("[wep]\n", "a.toml:1: key `wep`: unknown; did you mean `web`?"),
            ("[[intake]]\npath = \"/a\"\n[[intake]]\npaht = \"/b\"", "a.toml:4: key `intake.paht`"),
            ("[[webhook]]\nurl = \"http://far.example/\"", "http:// to this machine"),
            ("[[webhook]]\nurl = \"http://localhost.evil.example/\"", "http:// to this machine"),
            ("[[webhook]]\nurl = \"https://a/\"", "secret_file in each"),
            ("[[webhook]]\nevents = [\"call.made\"]", "call.sealed"),
            ("[[intake]]\npath = \"/a\"\nstatus = \"9755\"", "a.toml:3: key `intake.status`"),
            ("[intake]\npath = \"/a\"", "[[name]]"),
            ("[[web]]\nlisten = \"127.0.0.1:1\"", "[storage]"),
            ("[site]\ntime_zone = \"Mars\"", "Europe/Berlin"),
            ("[database]\nurl = \"postgres://db\"", "sqlite:PATH"),
            ("[auth]\nsession_idle = 1", "from 60"),
            ("[auth.oidc]\nissuer = \"http://far.example\"", "a.toml:2: key `auth.oidc.issuer`"),
            ("\n[auth.oidc]\nissuer = \"https://a\"", "a.toml:2: key `auth.oidc.client_id`: it is missing"),
            ("[auth.oidc]\nroles = [\"a\"]", "a.toml:2: key `auth.oidc.roles`"),
            ("[auth.oidc]\nroles = { a = \"root\" }", "one of agent, supervisor"),
            ("[auth.oidc]\nroles = { a = { role = \"agent\", extensions = [\"x\"] } }", "such as [\"201\""),
            ("[auth.oidc]\nroles = { a = { rule = \"agent\" } }", "role and extensions"),
            (&oidc("roles = {}", PUBLIC), "1 to 200"),
            (&oidc("roles = { a = \"agent\" }", PUBLIC), "extensions_claim"),
            (&oidc("roles = { a = \"admin\" }", ""), "[web] public_url"),
            ("[encryption]\nrecipients = [\"age1x\"]", "age1"),
            ("[encryption]\nrecipients = []", "1 to 8"),
            ("[encryption]\nidentity_file = \"/a\"", "recipients beside it"),
            ("[audit]\ncheckpoints = \"/mnt\"", "file:/FOLDER"),
            ("[media]\nurl = \"/mnt\"", "a.toml:2: key `media.url`"),
            ("[log]\nformat = \"xml\"", "a.toml:2: key `log.format`"),
        ] {
            let error = Config::parse(text, "a.toml").unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
