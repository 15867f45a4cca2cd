//! Least privilege: a running program gives up, for good, all rights that it does not need.
//!
//! Owns: the list of rights to give up, and their order. No new privileges, no core dumps, no capabilities,
//! files by path only where recordings and the system's settings are, no system calls but those of the lists.
//! Each is given up as far as the kernel can; the rest is reported. Never: decides where recordings go, or
//! ends the program. Invariant: [`enter`] is called before the program has a second thread, because files and
//! capabilities are each thread's own.

mod calls;
mod capability;
mod files;
mod filter;
mod unmounter;

pub use calls::Program;
pub use capability::{Capability, NAMES as CAPABILITY_NAMES};
pub use files::{Allowed, around};

use crate::confine::{self, Capabilities, FileRules};
use files::Writable;
use nix::mount::{MntFlags, umount2};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use unmounter::Unmounter;

/// Whether to give up anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Nothing but core dumps.
    Off,
    /// As far as the kernel can.
    #[default]
    On,
    /// As far as the kernel can, and the program does not start if anything is missing.
    Strict,
}

/// The rights that a program keeps.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program, for its list of system calls.
    pub program: Program,
    /// Whether to give up anything at all.
    pub level: Level,
    /// Capabilities that it keeps, if it has them.
    pub keep: Vec<Capability>,
    /// Whether to keep a second process that unmounts sticks, if there is the privilege for it.
    pub unmount: bool,
    /// Files and ports.
    pub allowed: Allowed,
}

/// The rights that the process has given up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenUp {
    /// Whether it was asked for.
    pub enabled: bool,
    /// Whether nothing it starts can have more rights than itself.
    pub no_new_privs: bool,
    /// Whether its system calls are filtered.
    pub seccomp: bool,
    /// Version of Landlock that confines its files; 0: none does.
    pub landlock: u32,
    /// Capabilities that it has kept.
    pub capabilities: Vec<String>,
    /// Whether a second process unmounts sticks for it.
    pub unmount: bool,
    /// Folders that it may write beneath, if Landlock confines it.
    pub write: Vec<String>,
    /// Measures that were asked for and are not available, for people.
    pub missing: Vec<String>,
}

struct Entered {
    /// `None`: everywhere.
    writable: Option<Vec<Writable>>,
    unmounter: Option<Mutex<Unmounter>>,
    /// The last folder that was told to be outside of it.
    told: Mutex<PathBuf>,
}

/// The rights given up: there is one sandbox in a process, and no way out of it.
static ENTERED: OnceLock<Entered> = OnceLock::new();

/// Gives up everything that `plan` does not keep. To be called once, by the only thread.
///
/// # Errors
/// With [`Level::Strict`], the missing measures, as text.
pub fn enter(plan: &Plan) -> Result<GivenUp, String> {
    let mut status = GivenUp::default();
    // A right that was taken from outside may not be given up once more: the call for it is refused, too.
    let none = getrlimit(Resource::RLIMIT_CORE).is_ok_and(|limits| limits == (0, 0));
    if let Some(error) = (!none).then(|| setrlimit(Resource::RLIMIT_CORE, 0, 0)).and_then(Result::err) {
        status.missing.push(format!("core dumps: {error}"));
    }
    if plan.level == Level::Off {
        return Ok(status);
    }
    status.enabled = true;
    match confine::set_not_dumpable().and_then(|()| confine::set_no_new_privileges()) {
        Ok(()) => status.no_new_privs = true,
        Err(error) => status.missing.push(format!("no_new_privs: {error}")),
    }
    let unmounter = start_unmounter(plan, &mut status);
    match drop_capabilities(&plan.keep) {
        Ok(kept) => status.capabilities = kept,
        Err(error) => status.missing.push(format!("capabilities: {error}")),
    }
    let writable = confine_files(plan, &mut status);
    match filter_calls(plan.program) {
        Ok(()) => status.seccomp = true,
        Err(error) => status.missing.push(format!("seccomp: {error}")),
    }
    let _ = ENTERED.set(Entered { writable, unmounter, told: Mutex::default() });
    if plan.level == Level::Strict && !status.missing.is_empty() {
        return Err(status.missing.join("; "));
    }
    Ok(status)
}

fn start_unmounter(plan: &Plan, status: &mut GivenUp) -> Option<Mutex<Unmounter>> {
    let able = confine::capabilities().is_ok_and(|it| it.effective & (1 << unmounter::SYS_ADMIN) != 0);
    if !plan.unmount || !able {
        return None;
    }
    let folders = plan.allowed.write.iter().filter_map(|path| path.canonicalize().ok()).collect();
    match Unmounter::start(folders) {
        Ok(unmounter) => {
            status.unmount = true;
            Some(Mutex::new(unmounter))
        }
        Err(error) => {
            status.missing.push(format!("unmounting: {error}"));
            None
        }
    }
}

fn drop_capabilities(keep: &[Capability]) -> io::Result<Vec<String>> {
    let wanted = keep.iter().fold(0, |set, capability| set | capability.bit());
    let had = confine::capabilities()?;
    let kept = had.permitted & wanted;
    // Without the capability to do so the bounding set stays, which no_new_privs makes harmless.
    for number in (0..64).filter(|number| wanted & (1 << number) == 0) {
        if confine::drop_from_bounding_set(number).is_err() {
            break;
        }
    }
    let _ = confine::clear_ambient_set();
    let then = Capabilities { effective: kept, permitted: kept, inheritable: 0 };
    if had != then {
        confine::set_capabilities(then)?;
    }
    Ok(keep.iter().filter(|it| kept & it.bit() != 0).map(ToString::to_string).collect())
}

fn confine_files(plan: &Plan, status: &mut GivenUp) -> Option<Vec<Writable>> {
    let version = FileRules::version();
    if version == 0 {
        status.missing.push("landlock: this kernel has none".into());
        return None;
    }
    match files::confine(&plan.allowed, version) {
        Ok(writable) => {
            status.landlock = version;
            status.write = writable.iter().map(|it| it.path.display().to_string()).collect();
            if writable.iter().any(|it| it.path == Path::new("/")) {
                status
                    .missing
                    .push("landlock: a stick is mounted beside the root, so all may be written".into());
            }
            Some(writable)
        }
        Err(error) => {
            status.missing.push(format!("landlock: {error}"));
            None
        }
    }
}

fn filter_calls(program: Program) -> io::Result<()> {
    let architecture = calls::ARCHITECTURE
        .ok_or_else(|| io::Error::other("there is no list of system calls for this architecture"))?;
    confine::filter_calls(&filter::program(&calls::list(program, std::process::id()), architecture))
}

/// Whether the sandbox keeps this program from writing to `root`, a folder. The log says so once.
#[must_use]
pub fn forbids_writing(root: &Path) -> bool {
    let Some(entered) = ENTERED.get() else { return false };
    let Some(writable) = &entered.writable else { return false };
    let real = root.canonicalize();
    let real = real.as_deref().unwrap_or(root);
    let forbidden = !writable.iter().any(|it| it.covers(real));
    if let Ok(mut told) = entered.told.lock() {
        if forbidden && *told != real {
            log::warn!(
                "the sandbox does not let {real:?} be written to: name the folder above it in sandbox.mount_parents"
            );
        }
        *told = if forbidden { real.to_owned() } else { PathBuf::new() };
    }
    forbidden
}

/// Unmounts `path`: through the process that was kept for it, or directly.
///
/// # Errors
/// As the system says; `EPERM` without the privilege.
pub fn unmount(path: &Path) -> io::Result<()> {
    match ENTERED.get().and_then(|entered| entered.unmounter.as_ref()) {
        Some(unmounter) => {
            let unmounter = unmounter.lock().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            unmounter.unmount(path)
        }
        None => umount2(path, MntFlags::UMOUNT_NOFOLLOW).map_err(io::Error::from),
    }
}

/// Whether a process was kept for unmounting. If it refuses, the reason is the path's place.
#[must_use]
pub fn unmounts() -> bool {
    ENTERED.get().is_some_and(|entered| entered.unmounter.is_some())
}

/// Two lines for the log: the measures in force, and the missing ones.
#[must_use]
pub fn told(status: &GivenUp) -> (String, Option<String>) {
    if !status.enabled {
        return ("sandbox: off".into(), None);
    }
    let list = |words: &[String]| if words.is_empty() { "none".into() } else { words.join(",") };
    let holds = format!(
        "sandbox: no_new_privs={} seccomp={} landlock={} capabilities={} unmount={} write={}",
        status.no_new_privs,
        status.seccomp,
        status.landlock,
        list(&status.capabilities),
        status.unmount,
        list(&status.write),
    );
    let missing =
        (!status.missing.is_empty()).then(|| format!("sandbox: without {}", status.missing.join("; ")));
    (holds, missing)
}
