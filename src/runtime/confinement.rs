//! The privileges that the agent keeps, by its config.

use crate::api::status::SandboxStatus;
use crate::config::{Config, StoragePath};
use os::sandbox::{self, Allowed, Capability, GivenUp, Level, Plan, Program};
use std::path::{Path, PathBuf};
use store::disks;

/// DNS over TCP, which long answers take.
const DNS_PORT: u16 = 53;

/// Gives up the privileges that `config` does not need, and logs the result.
///
/// # Errors
/// The missing measures, if all of them have to be there.
pub(super) fn enter(config: &Config) -> Result<SandboxStatus, String> {
    let given_up = sandbox::enter(&plan(config))?;
    let (holds, missing) = sandbox::told(&given_up);
    log::info!("{holds}");
    if let Some(missing) = missing {
        log::warn!("{missing}");
    }
    Ok(given_up.into())
}

impl From<GivenUp> for SandboxStatus {
    fn from(given_up: GivenUp) -> Self {
        let GivenUp { enabled, no_new_privs, seccomp, landlock, capabilities, unmount, write, missing } =
            given_up;
        Self { enabled, no_new_privs, seccomp, landlock, capabilities, unmount, write, missing }
    }
}

fn plan(config: &Config) -> Plan {
    let sandbox = &config.sandbox;
    let off = sandbox.enabled == Level::Off;
    // A file is given to a group that the agent is not in.
    let chown = config.storage.recordings_group.as_ref().map(|_| Capability::CHOWN);
    Plan {
        program: Program::Agent,
        level: sandbox.enabled,
        keep: sandbox.keep_capabilities.iter().copied().chain(chown).collect(),
        unmount: sandbox.unmount,
        allowed: if off { Allowed::default() } else { allowed(config, &disks::mounted()) },
    }
}

/// `sticks`: mount points of the present sticks.
fn allowed(config: &Config, sticks: &[PathBuf]) -> Allowed {
    let parents = &config.sandbox.mount_parents;
    let write = match &config.storage.path {
        StoragePath::Directory(folder) => sandbox::around(folder, config.storage.require_usb),
        // A stick that is taken out is put back at the same place.
        StoragePath::Auto => {
            sticks.iter().filter_map(|it| it.parent().map(Path::to_owned)).chain(parents.clone()).collect()
        }
    };
    let uplink = &config.uplink;
    // A server of ours takes media at the next port.
    let media_port = uplink.server_port.checked_add(1).filter(|_| uplink.extensions);
    let servers = [Some(uplink.server_port), media_port, Some(DNS_PORT)];
    Allowed {
        write,
        read: config.sandbox.read.clone(),
        remove: config.control.socket.parent().map(Path::to_owned).into_iter().collect(),
        sockets: Vec::new(),
        connect: servers.into_iter().flatten().filter(|_| uplink.is_configured()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed_by(text: &str, sticks: &[&str]) -> Allowed {
        let sticks: Vec<_> = sticks.iter().map(PathBuf::from).collect();
        allowed(&Config::parse(text, "t.toml").unwrap(), &sticks)
    }

    #[test]
    fn sticks_are_written_beneath_the_folders_that_they_are_mounted_in() {
        let found = allowed_by("", &["/data/usb/a"]);
        assert_eq!(found.write, ["/data/usb", "/media", "/mnt", "/run/media", "/tmp"].map(PathBuf::from));
        let found = allowed_by("sandbox.mount_parents = ['/phone/usb']", &[]);
        assert_eq!(found.write, [Path::new("/phone/usb")]);
    }

    #[test]
    fn a_folder_of_the_config_is_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("storage.path = '{}'\nstorage.require_usb = false", folder.path().display());
        let found = allowed_by(&text, &["/data/usb/a"]);
        assert_eq!(found.write[0], folder.path().canonicalize().unwrap());
        assert!(!found.write.contains(&PathBuf::from("/data/usb")));
    }

    #[test]
    fn tcp_goes_to_the_server_and_to_dns_or_nowhere() {
        assert!(allowed_by("", &[]).connect.is_empty());
        let found = allowed_by("uplink.server_addr = 'rec.example.org'\nuplink.server_port = 9099", &[]);
        assert_eq!(found.connect, [9099, DNS_PORT]);
        let text = "uplink = {server_addr = '192.0.2.1', server_port = 9099, extensions = true}";
        assert_eq!(allowed_by(text, &[]).connect, [9099, 9100, DNS_PORT]);
    }
}
