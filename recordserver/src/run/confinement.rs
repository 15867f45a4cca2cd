//! The privileges that the server keeps: its storage folder, its sockets, and nothing else.

use crate::config::Config;
use os::sandbox::{self, Allowed, Capability, Plan, Program};
use std::io;
use std::path::Path;

/// Gives up the privileges that `config` does not need, before there is a second thread, and logs the result.
///
/// # Errors
/// The missing parts of the sandbox, if the settings require all.
pub(super) fn enter(config: &Config) -> io::Result<()> {
    let status = sandbox::enter(&plan(config)).map_err(|missing| {
        io::Error::other(format!("the sandbox is not complete (sandbox = \"strict\"): {missing}"))
    })?;
    let (holds, missing) = sandbox::told(&status);
    log::info!("{holds}");
    if let Some(missing) = missing {
        log::warn!("{missing}");
    }
    Ok(())
}

fn plan(config: &Config) -> Plan {
    let socket = config.status_socket.path.as_deref().and_then(Path::parent).map(Path::to_owned);
    Plan {
        program: Program::Server,
        level: config.sandbox,
        // A file is given to a group that the server is not in.
        keep: config.recordings_group.as_ref().map(|_| Capability::CHOWN).into_iter().collect(),
        unmount: false,
        allowed: Allowed {
            write: vec![config.storage.clone()],
            sockets: socket.into_iter().collect(),
            ..Allowed::default()
        },
    }
}
