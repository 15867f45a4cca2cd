//! Tells the service manager that the program is up, alive, or going down (sd_notify(3)).
//!
//! Owns: the datagrams and when the next one is due. Never: waits, or fails because of a manager that does
//! not listen. Without one it does nothing.

use media::time::Mono;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The manager, if there is one.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    /// A third of the manager's time limit for a sign of life.
    interval: Option<Duration>,
    due: Option<Mono>,
}

impl Notifier {
    /// The manager that the environment names. The socket is opened now: later that may be forbidden.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::of(|name| std::env::var_os(name))
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let Some(socket) = variable("NOTIFY_SOCKET").and_then(|path| connected(path.as_bytes()).ok()) else {
            return Self::default();
        };
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // The variables may have been meant for the one that started us.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let within = number("WATCHDOG_USEC").filter(|within| ours && *within > 0);
        Self {
            socket: Some(socket),
            interval: within.map(|within| Duration::from_micros(within / 3)),
            due: None,
        }
    }

    /// The program does its work from here on.
    pub fn ready(&mut self, now: Mono) {
        self.send("READY=1");
        self.due = self.interval.map(|_| now);
        self.alive(now);
    }

    /// The program is finishing its work.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// The loop has come round once more: says so if that is due.
    pub fn alive(&mut self, now: Mono) {
        if let (Some(due), Some(interval)) = (self.due, self.interval) {
            if due <= now {
                self.send("WATCHDOG=1");
                self.due = Some(now + interval);
            }
        }
    }

    /// The time of the next sign of life, by which the loop has to wake.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.due
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket {
            // A manager that does not read is none of our business.
            let _ = socket.send(text.as_bytes());
        }
    }
}

/// A path, or with `@` a name in the abstract namespace.
fn connected(name: &[u8]) -> io::Result<UnixDatagram> {
    let addr = match name.strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&addr)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(manager: &UnixDatagram) -> Option<String> {
        manager.set_nonblocking(true).unwrap();
        let mut text = [0; 64];
        let length = manager.recv(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text[..length]).into_owned())
    }

    fn notifier(socket: &str, more: &[(&str, String)]) -> Notifier {
        Notifier::of(|name| {
            if name == "NOTIFY_SOCKET" {
                return Some(socket.into());
            }
            more.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    fn at(seconds: u64) -> Mono {
        Mono::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn the_manager_hears_that_the_program_is_up_alive_in_time_and_going_down() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let mut it = notifier(path.to_str().unwrap(), &[("WATCHDOG_USEC", "30000000".into())]);
        assert_eq!(it.deadline(), None, "nobody waits for signs of life before the program is up");
        it.ready(at(1));
        assert_eq!(read(&manager).as_deref(), Some("READY=1"));
        assert_eq!(read(&manager).as_deref(), Some("WATCHDOG=1"));
        assert_eq!(it.deadline(), Some(at(11)));
        it.alive(at(10));
        assert_eq!(read(&manager), None);
        it.alive(at(12));
        assert_eq!(read(&manager).as_deref(), Some("WATCHDOG=1"));
        assert_eq!(it.deadline(), Some(at(22)));
        it.stopping();
        assert_eq!(read(&manager).as_deref(), Some("STOPPING=1"));
    }

    #[test]
    fn a_name_in_the_abstract_namespace_is_a_manager_too() {
        let name = format!("recordd-notify-test-{}", std::process::id());
        let addr = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&addr).unwrap();
        let mut it = notifier(&format!("@{name}"), &[]);
        it.ready(at(1));
        assert_eq!(read(&manager).as_deref(), Some("READY=1"));
        assert_eq!((read(&manager), it.deadline()), (None, None));
    }

    #[test]
    fn without_a_manager_or_with_a_watchdog_of_another_process_nothing_is_due() {
        let mut it = Notifier::of(|_| None);
        it.ready(at(1));
        it.stopping();
        assert_eq!(it.deadline(), None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        assert!(notifier(path.to_str().unwrap(), &[]).socket.is_none());
        let _manager = UnixDatagram::bind(&path).unwrap();
        let others = [("WATCHDOG_USEC", "9".into()), ("WATCHDOG_PID", (std::process::id() + 1).to_string())];
        let mut it = notifier(path.to_str().unwrap(), &others);
        it.ready(at(1));
        assert_eq!(it.deadline(), None);
    }
}
