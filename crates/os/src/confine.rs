//! System calls by which a process gives up rights: capabilities, files, system calls.
//!
//! Part of [`super`], which holds all `unsafe` of the project. [`crate::sandbox`] decides which rights are
//! given up, and when.

use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of a seccomp filter, in the kernel's own form.
pub use libc::sock_filter as Instruction;

/// The three sets of a process's capabilities, as bits by the kernel's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Rights in use.
    pub effective: u64,
    /// Rights that it may take into use.
    pub permitted: u64,
    /// Rights that a program started by it inherits.
    pub inheritable: u64,
}

/// Version 3 of the structure: two words of 32 bits for each set (linux/capability.h).
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityWords {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The capabilities of the calling thread.
///
/// # Errors
/// As the system says.
#[expect(unsafe_code, reason = "capget has no wrapper")]
pub fn capabilities() -> io::Result<Capabilities> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut words = [CapabilityWords::default(); 2];
    // SAFETY: version 3 has two structures of words, and both pointers are valid for the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) })?;
    let join = |of: fn(&CapabilityWords) -> u32| u64::from(of(&words[0])) | (u64::from(of(&words[1])) << 32);
    Ok(Capabilities {
        effective: join(|it| it.effective),
        permitted: join(|it| it.permitted),
        inheritable: join(|it| it.inheritable),
    })
}

/// Sets the capabilities of the calling thread; the thread can't gain any.
///
/// # Errors
/// As the system says.
#[expect(unsafe_code, reason = "capset has no wrapper")]
pub fn set_capabilities(set: Capabilities) -> io::Result<()> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    #[expect(clippy::cast_possible_truncation, reason = "half of the bits each")]
    let half = |shift: u32| CapabilityWords {
        effective: (set.effective >> shift) as u32,
        permitted: (set.permitted >> shift) as u32,
        inheritable: (set.inheritable >> shift) as u32,
    };
    let words = [half(0), half(32)];
    // SAFETY: as above; the kernel only reads the words.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) })?;
    Ok(())
}

/// Takes a capability out of the bounding set, so that no program that is started later has it.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`, `EINVAL` for one that the kernel does not know.
pub fn drop_from_bounding_set(capability: u8) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, capability.into())
}

/// Empties the ambient set.
///
/// # Errors
/// As the system says; Linux before 4.3 has none.
pub fn clear_ambient_set() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong)
}

/// No program started from here on has more rights than this process, not even by the bits of its file.
///
/// # Errors
/// As the system says.
pub fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// No core dump is made of the process, and no other one of the same user may look into it.
///
/// # Errors
/// As the system says.
pub fn set_not_dumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Names the calling thread, in at most 15 octets; a list of processes shows it.
#[expect(unsafe_code, reason = "this option of prctl has no wrapper")]
pub fn name_thread(name: &std::ffi::CStr) {
    // SAFETY: the kernel reads up to the NUL, and 16 octets at most.
    let _ = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

#[expect(unsafe_code, reason = "these options of prctl have no wrapper")]
fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: the options above take numbers only.
    Errno::result(unsafe { libc::prctl(option, value, none, none, none) })?;
    Ok(())
}

/// Filters the system calls of all threads from here on.
///
/// # Errors
/// As the system says: `EINVAL` or `ENOSYS` where the kernel has no filters.
#[expect(unsafe_code, reason = "seccomp has no wrapper")]
pub fn filter_calls(filter: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions, checks them and keeps a copy. It changes none.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    match Errno::result(result) {
        // Linux before 3.17: this thread and those that it starts.
        Err(Errno::ENOSYS) => {
            // SAFETY: as above.
            Errno::result(unsafe {
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
            })?;
            Ok(())
        }
        Err(errno) => Err(errno.into()),
        Ok(0) => Ok(()),
        // The number of a thread that has a filter of its own.
        Ok(_) => Err(io::Error::other("a thread could not be filtered")),
    }
}

/// Rules of files and TCP ports for the calling thread and those that it starts (landlock(7)).
#[derive(Debug)]
pub struct FileRules(OwnedFd);

#[repr(C)]
struct RulesetAttributes {
    files: u64,
    network: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct BeneathAttributes {
    allowed: u64,
    folder: i32,
}

#[repr(C)]
struct PortAttributes {
    allowed: u64,
    port: u64,
}

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;
const RULE_NET_PORT: u32 = 2;

impl FileRules {
    /// The version of Landlock that the kernel has; 0 if it has none.
    #[must_use]
    #[expect(unsafe_code, reason = "landlock has no wrapper")]
    pub fn version() -> u32 {
        let none: *const RulesetAttributes = std::ptr::null();
        // SAFETY: with this flag the kernel reads no attributes.
        let version = unsafe {
            libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, CREATE_RULESET_VERSION)
        };
        u32::try_from(version).unwrap_or(0)
    }

    /// No file may be used in any of the ways in `files`, and no TCP port in those of `network`, but by a
    /// rule. Bits are the kernel's; those that its version does not know are an error. `octets` is the part
    /// of the structure that the version has.
    ///
    /// # Errors
    /// As the system says.
    #[expect(unsafe_code, reason = "landlock has no wrapper")]
    pub fn new(files: u64, network: u64, scoped: u64) -> io::Result<Self> {
        let attributes = RulesetAttributes { files, network, scoped };
        // A field that is zero may be left out, for kernels that do not know it.
        let octets: usize = if scoped != 0 {
            24
        } else if network != 0 {
            16
        } else {
            8
        };
        // SAFETY: the kernel reads `octets` of the structure, which is no shorter.
        let fd = Errno::result(unsafe {
            libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, octets, 0_u32)
        })?;
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: a new descriptor that nobody else has.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Allows `ways` for a file, or for a folder and everything beneath it.
    ///
    /// # Errors
    /// As the system says.
    #[expect(unsafe_code, reason = "landlock has no wrapper")]
    pub fn allow_beneath(&self, what: BorrowedFd<'_>, ways: u64) -> io::Result<()> {
        let rule = BeneathAttributes { allowed: ways, folder: what.as_raw_fd() };
        // SAFETY: the kernel reads one structure of this form.
        Errno::result(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.0.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const rule,
                0_u32,
            )
        })?;
        Ok(())
    }

    /// Allows `ways` for a TCP port.
    ///
    /// # Errors
    /// As the system says.
    #[expect(unsafe_code, reason = "landlock has no wrapper")]
    pub fn allow_port(&self, port: u16, ways: u64) -> io::Result<()> {
        let rule = PortAttributes { allowed: ways, port: port.into() };
        // SAFETY: the kernel reads one structure of this form.
        Errno::result(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.0.as_raw_fd(),
                RULE_NET_PORT,
                &raw const rule,
                0_u32,
            )
        })?;
        Ok(())
    }

    /// From here on the rules hold for the calling thread and those that it starts.
    ///
    /// # Errors
    /// As the system says: `EPERM` without [`set_no_new_privileges`].
    #[expect(unsafe_code, reason = "landlock has no wrapper")]
    pub fn hold(self) -> io::Result<()> {
        // SAFETY: a plain call on a descriptor that outlives it.
        Errno::result(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.0.as_raw_fd(), 0_u32) })?;
        Ok(())
    }
}

/// Starts a second process that does `work` and ends. It has none of this one's open files but those `kept`
/// and standard input, output and error, which are `/dev/null` there.
///
/// # Errors
/// As the system says; [`io::ErrorKind::Unsupported`] if there are several threads already: the second
/// process would have locks that nobody releases.
#[expect(unsafe_code, reason = "fork is as safe as what the second process does")]
pub fn second_process(kept: OwnedFd, work: impl FnOnce(OwnedFd)) -> io::Result<i32> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: this process has one thread, so everything is as consistent in the copy as it is here; the copy
    // returns only into `work` and the end of the process.
    match Errno::result(unsafe { libc::fork() })? {
        0 => {
            close_all_but(kept.as_raw_fd());
            // A panic must not unwind into the frames of the first process.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(kept)));
            // SAFETY: it ends the process, without running exit handlers of the first one.
            unsafe { libc::_exit(0) }
        }
        pid => Ok(pid),
    }
}

/// Closes every descriptor from 3 on but one, and leads the first three to `/dev/null`.
#[expect(unsafe_code, reason = "descriptors of others are closed, in a process that uses none of them")]
fn close_all_but(kept: i32) {
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        for standard in 0..3 {
            // SAFETY: plain calls on numbers; their old meaning is not used again.
            let _ = unsafe { libc::dup2(null.as_raw_fd(), standard) };
        }
    }
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd > 2 && *fd != kept) {
        // SAFETY: as above.
        let _ = unsafe { libc::close(fd) };
    }
}
