//! An agent of our own: started with a private socket and config, ended with us.
//!
//! Invariant: the process and its folder are gone when the value is dropped.

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::{advice, pace};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// The time that the agent may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// Most names tried for the folder.
const MAX_ATTEMPTS: u32 = 100;

/// A running agent that records to a folder.
#[derive(Debug)]
pub(super) struct PrivateAgent {
    child: Child,
    folder: TemporaryFolder,
}

/// A folder that only we may enter, for socket and config.
#[derive(Debug)]
pub(super) struct TemporaryFolder(pub(super) PathBuf);

impl TemporaryFolder {
    pub(super) fn new() -> Result<Self, Failure> {
        let mut attempt = 0;
        loop {
            let path = std::env::temp_dir().join(format!("recordctl-{}-{attempt}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                // Left behind by a process that was killed; never used, for it may be somebody else's.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < MAX_ATTEMPTS => {
                    attempt += 1
                }
                Err(error) => {
                    return Err(Failure::Local(format!(
                        "cannot make the folder {}: {error}",
                        path.display()
                    )));
                }
            }
        }
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // Left behind is a folder of a few bytes in the temporary folder; nothing to add to that.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl PrivateAgent {
    /// Starts `program`, which is to record to `dir`; it does not listen yet.
    pub(super) fn launch(program: &Path, dir: &Path, server: Option<SocketAddr>) -> Result<Self, Failure> {
        let local = |what: &str, path: &Path, error: std::io::Error| {
            let text = format!("cannot {what} {}: {error}", path.display());
            Failure::Local(advice::with(text, advice::local(&error)))
        };
        std::fs::create_dir_all(dir).map_err(|error| local("make the folder", dir, error))?;
        let dir = dir.canonicalize().map_err(|error| local("find the folder", dir, error))?;
        let folder = TemporaryFolder::new()?;
        let config = folder.0.join("recordd.toml");
        let text = config_text(&folder.0.join("socket"), &dir, server)?;
        std::fs::write(&config, text).map_err(|error| local("write", &config, error))?;
        let child = Command::new(program)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Ctrl-C is ours: the recording is stopped first, then the agent.
            .process_group(0)
            .spawn()
            .map_err(|error| local("start", program, error))?;
        Ok(Self { child, folder })
    }

    /// Its socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.0.join("socket")
    }

    /// Ends it as an init system would; every recording must be finalised then.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        match self.terminate()? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Failure::Local(format!("the agent ended with {status}"))),
            None => Err(Failure::Local(format!(
                "the agent did not end within {} s; is its disk slow?",
                PATIENCE.as_secs()
            ))),
        }
    }

    /// Waits until it can be connected to.
    pub(super) fn wait_until_it_listens(&mut self) -> Result<(), Failure> {
        let deadline = pace::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(Failure::Local(format!("the agent ended at once with {status}; see above")));
            }
            match Client::connect(&self.socket(), PATIENCE) {
                Ok(_) => return Ok(()),
                Err(failure) if pace::now() >= deadline => return Err(failure),
                Err(_) => pace::sleep(POLL),
            }
        }
    }

    /// The exit status after SIGTERM, or none if it does not end in time.
    fn terminate(&mut self) -> Result<Option<ExitStatus>, Failure> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(status));
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have ended by itself just now: the wait below tells.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = pace::now() + PATIENCE;
        while pace::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            pace::sleep(POLL);
        }
        Ok(None)
    }
}

impl Drop for PrivateAgent {
    fn drop(&mut self) {
        if !matches!(self.terminate(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn config_text(socket: &Path, dir: &Path, server: Option<SocketAddr>) -> Result<String, Failure> {
    let quoted = |path: &Path| {
        let path = path.to_str().ok_or_else(|| Failure::Usage(format!("{} is not UTF-8", path.display())))?;
        // A JSON text is a TOML basic string, escapes included.
        Ok::<_, Failure>(serde_json::Value::from(path).to_string())
    };
    let mut text = format!(
        "[control]\nsocket = {}\nmode = \"0600\"\n\n[storage]\npath = {}\nrequire_usb = false\ndirectory = \"\"\n\n\
         [log]\nlevel = \"warn\"\n",
        quoted(socket)?,
        quoted(dir)?
    );
    if let Some(server) = server {
        text += &format!("\n[uplink]\nserver_addr = \"{}\"\nserver_port = {}\n", server.ip(), server.port());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_config_is_toml_for_any_name_of_the_folder() {
        let server = Some("127.0.0.1:7000".parse().unwrap());
        let text = config_text(Path::new("/tmp/s"), Path::new("/tmp/a \"b\"\\c"), server).unwrap();
        let config: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(config["storage"]["path"].as_str(), Some("/tmp/a \"b\"\\c"));
        assert_eq!(config["uplink"]["server_port"].as_integer(), Some(7000));
    }
}
