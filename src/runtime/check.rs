//! The checks of `--check-config` beyond the text: mistakes that would show only when the agent runs.
//!
//! Owns: looking at folders, addresses and groups that the settings name. Starts nothing and leaves nothing
//! behind.

use crate::config::{Config, Control, StoragePath};
use nix::unistd::{Gid, getegid, geteuid, getgroups};
use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use store::access::{Access, group_id};
use store::disks;
use store::jobs::Target;

/// The warning about a path that depends on the folder in which the agent is started.
const RELATIVE: &str =
    "is relative to the folder in which the agent is started: write the path from the root";

/// The findings, each a sentence that begins with the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Settings that can't work.
    pub faults: Vec<String>,
    /// Settings that work, but perhaps not as intended.
    pub warnings: Vec<String>,
}

/// Looks at this machine with the eyes of an agent that has these settings.
#[must_use]
pub fn check(config: &Config) -> Findings {
    let mut it = Findings::default();
    it.warnings.extend(config.note());
    it.faults.extend(config.half_a_server());
    it.control(&config.control);
    it.rtp(config);
    it.storage(config);
    it
}

impl Findings {
    fn control(&mut self, control: &Control) {
        let socket = &control.socket;
        match control.group.as_ref().map(group_id).transpose() {
            Err(error) => {
                self.faults.push(format!("control.group: {error}: make the group, or name another one"));
            }
            Ok(Some(group)) if !may_give_to(group) => {
                let advice = "start recordd as root or as a member of that group";
                self.warnings.push(format!("control.group: this user can't give the socket to it: {advice}"));
            }
            Ok(_) => {}
        }
        if socket.is_relative() {
            self.warnings.push(format!("control.socket: {} {RELATIVE}", socket.display()));
        }
        let folder =
            socket.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let problem = match std::fs::metadata(folder) {
            Err(error) => Some(format!("the folder {}: {error}: make it", folder.display())),
            Ok(found) if !found.is_dir() => Some(format!("{} is no folder", folder.display())),
            Ok(_) => std::fs::symlink_metadata(socket)
                .is_ok_and(|found| !found.file_type().is_socket())
                .then(|| format!("there is a file {} that is no socket: remove it", socket.display())),
        };
        self.faults
            .extend(problem.map(|problem| format!("control.socket: {problem}, or choose another path")));
    }

    fn rtp(&mut self, config: &Config) {
        let rtp = &config.rtp;
        if let Err(error) = UdpSocket::bind((rtp.bind, 0)) {
            let advice = "write an address of this machine, such as \"127.0.0.1\"";
            return self.faults.push(format!("rtp.bind: {} can't be had: {error}: {advice}", rtp.bind));
        }
        let taken: Vec<String> = config
            .rtp_ports()
            .into_iter()
            .filter(|port| *port != 0)
            .filter_map(|port| Some((port, UdpSocket::bind((rtp.bind, port)).err()?)))
            .map(|(port, error)| format!("{port} ({error})"))
            .collect();
        if !taken.is_empty() {
            let taken = taken.join(", ");
            let advice =
                "end what has it, or write 0 for any free port; a running agent has ports of its own, too";
            self.warnings.push(format!("rtp.port: can't be had at the moment: {taken}: {advice}"));
        }
    }

    fn storage(&mut self, config: &Config) {
        let storage = &config.storage;
        if let Err(error) = Access::of(storage.mode, storage.recordings_group.as_ref()) {
            self.faults
                .push(format!("storage.recordings_group: {error}: make the group, or name another one"));
        }
        let StoragePath::Directory(path) = &storage.path else { return };
        let shown = path.display();
        if path.is_relative() {
            return self.faults.push(format!("storage.path: {shown} {RELATIVE}"));
        }
        match std::fs::metadata(path) {
            Err(error) => {
                let advice =
                    "make the folder, mount the disk there (insert the stick), or write another path";
                return self.faults.push(format!("storage.path: {shown}: {}: {advice}", plainly(&error)));
            }
            Ok(found) if !found.is_dir() => {
                return self.faults.push(format!("storage.path: {shown} is no folder: write one"));
            }
            Ok(_) => {}
        }
        let found = disks::scan(&Target::Directory(path.clone()).into());
        let Some(disk) = found.disks.first() else { return };
        if storage.require_usb && !disk.removable {
            let problem = "is not on a removable disk, so nothing is recorded";
            let advice = "insert the stick, or set require_usb = false to record there";
            self.warnings.push(format!("storage.path: {shown} {problem}: {advice}"));
        }
        if disk.read_only {
            self.warnings.push(format!("storage.path: {shown} is read-only: nothing can be recorded there"));
        }
    }
}

/// Whether a file of ours can be given to this group: by root, and by its members.
fn may_give_to(group: u32) -> bool {
    let group = Gid::from_raw(group);
    let member = || getegid() == group || getgroups().is_ok_and(|groups| groups.contains(&group));
    geteuid().is_root() || member()
}

fn plainly(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such folder".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn found(text: &str) -> Findings {
        let folder = tempfile::tempdir().unwrap();
        let text = text.replace("DIR", folder.path().to_str().unwrap());
        let socket = format!("control.socket = '{}/s'\n", folder.path().display());
        let text = if text.contains("control.socket") { text } else { format!("{socket}{text}") };
        check(&Config::parse(&text, "t.toml").expect(&text))
    }

    /// Settings, and the words of their fault: the key, the mistake, and what to do.
    #[test]
    fn mistakes_that_would_show_only_when_the_agent_runs_are_faults() {
        let table: [(&str, &[&str]); 10] = [
            (
                "storage.path = '/nosuch'",
                &["storage.path", "/nosuch", "no such folder", "make", "insert the stick"],
            ),
            ("storage.path = 'record/here'", &["storage.path", "record/here", "from the root"]),
            ("storage.path = '/dev/null'", &["storage.path", "/dev/null", "is no folder"]),
            ("uplink.server_port = 5055", &["uplink.server_port", "5055", "server_addr"]),
            (
                "rtp = { bind = '192.0.2.77', allow_remote = true }",
                &["rtp.bind", "192.0.2.77", "of this machine"],
            ),
            ("control.socket = '/nosuch/s'", &["control.socket", "/nosuch", "make it"]),
            ("control.socket = '/dev/null/s'", &["control.socket", "/dev/null", "is no folder"]),
            ("control.socket = '/dev/null'", &["control.socket", "is no socket", "remove"]),
            ("control.group = 'nosuchgroup'", &["control.group", "nosuchgroup", "make the group"]),
            ("storage.recordings_group = 'nosuchgroup'", &["storage.recordings_group", "make the group"]),
        ];
        for (text, words) in table {
            let found = found(text);
            assert_eq!(found.faults.len(), 1, "{text}: {found:?}");
            assert!(words.iter().all(|word| found.faults[0].contains(word)), "{text}: {found:?}");
        }
    }

    #[test]
    fn good_settings_have_no_findings() {
        for text in [
            "",
            "storage = { path = 'DIR', require_usb = false }",
            &format!("control.group = '{}'", getegid()),
            "uplink = {server_addr = 'h', server_port = 9}",
        ] {
            assert_eq!(found(text), Findings::default(), "{text}");
        }
    }

    #[test]
    fn questionable_settings_are_warnings() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() & !1;
        let taken = UdpSocket::bind(("127.0.0.1", taken.clamp(1024, 65_000))).unwrap();
        let port = taken.local_addr().unwrap().port();
        let table = [
            (format!("rtp.port = {port}"), vec!["rtp.port", "can't be had", "0 for any free port"]),
            (
                "storage.path = 'DIR'".to_owned(),
                vec!["storage.path", "not on a removable disk", "require_usb = false"],
            ),
            ("control.socket = 's'".to_owned(), vec!["control.socket", "relative", "from the root"]),
            ("storage.buffer = '64 KiB'".to_owned(), vec!["storage.buffer", "instead of"]),
        ];
        for (text, words) in table {
            let found = found(&text);
            assert_eq!((found.faults.len(), found.warnings.len()), (0, 1), "{text}: {found:?}");
            assert!(words.iter().all(|word| found.warnings[0].contains(word)), "{text}: {found:?}");
        }
    }
}
