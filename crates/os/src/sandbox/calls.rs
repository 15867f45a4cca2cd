//! The system calls that the programs need, by their names on this architecture.
//!
//! Owns: the lists. They are generous with calls that read, wait and count, since an older C library calls by
//! other names, and have no call that starts programs, mounts, traces, loads code or reaches files past their
//! paths.

use super::filter::{Guarded, List, Test};

/// A program whose system calls are filtered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `recordd`: files, sockets, threads, connections to its server.
    Agent,
    /// `recordserver`: files, sockets, threads; it connects to nobody and sends no datagram to an address of
    /// its choice.
    Server,
    /// The process that unmounts: it looks things up and unmounts.
    Unmounter,
}

/// The kernel's number of this architecture in filters (linux/audit.h); `None` if there is no list for it.
pub(super) const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else if cfg!(target_arch = "arm") {
    Some(0x4000_0028)
} else {
    None
};

/// Numbers of calls by their names; there are as many as names.
macro_rules! numbers {
    ($($name:ident)*) => { &[$(number(libc::$name)),*] };
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of calls are small")]
const fn number(call: libc::c_long) -> u32 {
    call as u32
}

/// Files that are open, or opened by name; and everything that only reads.
const FILES: &[u32] = numbers![
    SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_preadv2 SYS_pwritev2
    SYS_close SYS_close_range SYS_openat SYS_openat2 SYS_fstat SYS_statx SYS_faccessat SYS_faccessat2 SYS_readlinkat
    SYS_lseek SYS_ftruncate SYS_fallocate SYS_fsync SYS_fdatasync SYS_syncfs SYS_flock SYS_fcntl SYS_getdents64
    SYS_mkdirat SYS_unlinkat SYS_renameat SYS_renameat2 SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_utimensat
    SYS_statfs SYS_fstatfs SYS_getcwd SYS_dup SYS_dup3 SYS_pipe2 SYS_sendfile SYS_copy_file_range SYS_umask
];

/// Waiting, time, memory, threads, and questions of a process about itself.
const PROCESS: &[u32] = numbers![
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll SYS_pselect6 SYS_eventfd2 SYS_signalfd4
    SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime SYS_nanosleep SYS_clock_nanosleep SYS_clock_gettime
    SYS_clock_getres SYS_gettimeofday SYS_times SYS_getrusage SYS_sysinfo SYS_uname SYS_getrandom
    SYS_munmap SYS_mremap SYS_madvise SYS_brk SYS_futex SYS_futex_waitv SYS_membarrier SYS_rseq SYS_set_robust_list
    SYS_get_robust_list SYS_set_tid_address SYS_sched_yield SYS_sched_getaffinity SYS_getpriority SYS_exit
    SYS_exit_group SYS_getpid SYS_gettid SYS_getppid SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getgroups
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigtimedwait SYS_rt_sigpending SYS_sigaltstack
    SYS_restart_syscall SYS_capget
];

/// Sockets, apart from calls that send to an address.
const SOCKETS: &[u32] = numbers![
    SYS_socketpair SYS_bind SYS_listen SYS_accept4 SYS_accept SYS_connect SYS_getsockname SYS_getpeername
    SYS_getsockopt SYS_setsockopt SYS_recvfrom SYS_recvmsg SYS_recvmmsg SYS_shutdown
];

/// The calls of this architecture alone.
#[cfg(target_arch = "x86_64")]
const NATIVE: &[u32] = numbers![
    SYS_open SYS_stat SYS_lstat SYS_newfstatat SYS_access SYS_poll SYS_select SYS_epoll_create SYS_epoll_wait
    SYS_eventfd SYS_unlink SYS_mkdir SYS_rmdir SYS_rename SYS_readlink SYS_chmod SYS_chown SYS_lchown SYS_dup2 SYS_pipe
    SYS_getdents SYS_time SYS_getrlimit SYS_sync_file_range SYS_fadvise64 SYS_getpgrp SYS_creat SYS_truncate
];
#[cfg(target_arch = "aarch64")]
const NATIVE: &[u32] = numbers![SYS_newfstatat SYS_getrlimit SYS_sync_file_range SYS_fadvise64];
#[cfg(target_arch = "arm")]
const NATIVE: &[u32] = numbers![
    SYS_open SYS_access SYS_poll SYS__newselect SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_unlink SYS_mkdir
    SYS_rmdir SYS_rename SYS_readlink SYS_chmod SYS_dup2 SYS_pipe SYS_getdents SYS_creat SYS_truncate SYS_stat
    SYS_lstat SYS_getpgrp SYS__llseek SYS_ftruncate64 SYS_truncate64 SYS_stat64 SYS_lstat64 SYS_fstat64 SYS_fstatat64
    SYS_fcntl64 SYS_statfs64 SYS_fstatfs64 SYS_sendfile64 SYS_getuid32 SYS_getgid32 SYS_geteuid32 SYS_getegid32
    SYS_getgroups32 SYS_fchown32 SYS_chown32 SYS_lchown32 SYS_ugetrlimit SYS_arm_fadvise64_64 SYS_arm_sync_file_range
    SYS_send SYS_recv SYS_sigaction SYS_sigprocmask SYS_sigreturn
];

/// The calls with 64 bits of time that 32-bit kernels have since 5.1, and the two that only ARM has; the
/// first twelve are numbered alike everywhere (asm-generic/unistd.h), the others in asm/unistd.h.
#[cfg(target_arch = "arm")]
const UNNAMED: &[u32] = &[
    403, 406, 407, 410, 411, 412, 413, 414, 417, 421, 422, /* cacheflush */ 0xF_0002,
    /* set_tls */ 0xF_0005,
];
#[cfg(not(target_arch = "arm"))]
const UNNAMED: &[u32] = &[];

/// The calls of the process that unmounts: its one socket, paths without links, memory.
const UNMOUNTER: &[u32] = numbers![
    SYS_umount2 SYS_read SYS_write SYS_readv SYS_writev SYS_close SYS_statx SYS_faccessat SYS_faccessat2 SYS_readlinkat SYS_getcwd SYS_recvfrom
    SYS_munmap SYS_mremap SYS_madvise SYS_brk SYS_futex SYS_getrandom SYS_exit SYS_exit_group SYS_rt_sigaction
    SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack SYS_restart_syscall SYS_getpid SYS_gettid
];
#[cfg(target_arch = "x86_64")]
const UNMOUNTER_NATIVE: &[u32] = numbers![SYS_newfstatat SYS_stat SYS_lstat SYS_access SYS_readlink];
#[cfg(target_arch = "aarch64")]
const UNMOUNTER_NATIVE: &[u32] = numbers![SYS_newfstatat];
#[cfg(target_arch = "arm")]
const UNMOUNTER_NATIVE: &[u32] =
    numbers![SYS_fstatat64 SYS_stat64 SYS_lstat64 SYS_readlink SYS_recv SYS_send];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "arm")))]
const UNMOUNTER_NATIVE: &[u32] = &[];

#[cfg(target_arch = "arm")]
const MMAP: libc::c_long = libc::SYS_mmap2;
#[cfg(not(target_arch = "arm"))]
const MMAP: libc::c_long = libc::SYS_mmap;

/// Requests of `ioctl` that only read, and the one that makes a descriptor not wait (asm-generic/ioctls.h,
/// linux/sockios.h).
const IOCTLS: [u32; 13] =
    [0x5401, 0x5411, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x8910, 0x8912, 0x8913, 0x8915, 0x8927, 0x8933];

/// Options of `prctl` that name threads and memory, or read (linux/prctl.h).
const PRCTLS: [u32; 7] = [3, 15, 16, 21, 23, 39, 0x5356_4D41];

/// Flags of `clone` that make namespaces (linux/sched.h).
const CLONE_NAMESPACES: u32 = 0x7E02_0080;

const PROT_WRITE: u32 = libc::PROT_WRITE as u32;
const PROT_EXEC: u32 = libc::PROT_EXEC as u32;

/// The calls that a program may make. `pid` is its own.
pub(super) fn list(program: Program, pid: u32) -> List {
    if program == Program::Unmounter {
        let guarded = vec![
            one_of(MMAP, 2, PROT_EXEC, &[0]),
            Guarded { call: number(libc::SYS_sendto), cases: vec![Test::null(4).to_vec()] },
        ];
        return List { plain: [UNMOUNTER, UNMOUNTER_NATIVE, UNNAMED].concat(), guarded, unknown: Vec::new() };
    }
    let mut plain = [FILES, PROCESS, SOCKETS, NATIVE, UNNAMED].concat();
    let mut guarded = vec![
        // Threads of this process, but no other process, and nothing in a namespace of its own.
        one_of(
            libc::SYS_clone,
            0,
            CLONE_NAMESPACES | libc::CLONE_THREAD as u32,
            &[libc::CLONE_THREAD as u32],
        ),
        one_of(libc::SYS_ioctl, 1, u32::MAX, &IOCTLS),
        one_of(libc::SYS_prctl, 0, u32::MAX, &PRCTLS),
        one_of(libc::SYS_prlimit64, 0, u32::MAX, &[0]),
        // An abort.
        one_of(libc::SYS_tgkill, 0, u32::MAX, &[pid]),
        // Code is mapped from files, for name look-ups; a mapping is never both writable and executable.
        one_of(MMAP, 2, PROT_WRITE | PROT_EXEC, &[0, PROT_WRITE, PROT_EXEC]),
        one_of(libc::SYS_mprotect, 2, PROT_EXEC, &[0]),
    ];
    #[expect(clippy::cast_sign_loss, reason = "the kernel looks at the bits of an int")]
    let family = |family: libc::c_int| Test::is(0, family as u32);
    let datagrams = Test::bits(1, 0xF, libc::SOCK_DGRAM as u32);
    let mut sockets = vec![vec![family(libc::AF_UNIX)]];
    if program == Program::Agent {
        plain.extend_from_slice(numbers![SYS_sendto SYS_sendmsg SYS_sendmmsg]);
        sockets.extend([
            vec![family(libc::AF_INET)],
            vec![family(libc::AF_INET6)],
            // Interfaces and their addresses: the phone's name, and the order of the addresses that a look-up
            // finds.
            vec![family(libc::AF_NETLINK), Test::is(2, 0)],
        ]);
    } else {
        guarded.push(Guarded { call: number(libc::SYS_sendto), cases: vec![Test::null(4).to_vec()] });
        sockets.extend([vec![family(libc::AF_INET), datagrams], vec![family(libc::AF_INET6), datagrams]]);
    }
    guarded.push(Guarded { call: number(libc::SYS_socket), cases: sockets });
    List { plain, guarded, unknown: vec![CLONE3] }
}

/// `clone3`, whose arguments no filter sees. The C library goes on with `clone`. Numbered alike everywhere.
const CLONE3: u32 = 435;

/// The bits of `mask` in an argument are one of `values`.
fn one_of(call: libc::c_long, argument: u8, mask: u32, values: &[u32]) -> Guarded {
    let cases = values.iter().map(|value| vec![Test::bits(argument, mask, *value)]).collect();
    Guarded { call: number(call), cases }
}

#[cfg(test)]
mod tests {
    use super::super::filter::program as compiled;
    use super::super::filter::tests_of_filters::{Verdict, run};
    use super::*;

    const ARCH: u32 = ARCHITECTURE.unwrap();
    const PROGRAMS: [Program; 3] = [Program::Agent, Program::Server, Program::Unmounter];

    fn verdict(program: Program, call: libc::c_long, arguments: [u64; 6]) -> Verdict {
        run(&compiled(&list(program, 77), ARCH), ARCH, number(call), arguments)
    }

    fn allows(program: Program, call: libc::c_long, arguments: [u64; 6]) -> bool {
        verdict(program, call, arguments) == Verdict::Allowed
    }

    #[test]
    fn calls_that_start_programs_mount_or_trace_are_refused() {
        let hostile = numbers![
            SYS_execve SYS_execveat SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_init_module
            SYS_finit_module SYS_delete_module SYS_bpf SYS_kexec_load SYS_mount SYS_keyctl SYS_add_key SYS_request_key
            SYS_userfaultfd SYS_personality SYS_unshare SYS_setns SYS_open_by_handle_at SYS_name_to_handle_at
            SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register SYS_pivot_root SYS_chroot SYS_swapon SYS_reboot
            SYS_perf_event_open SYS_kill SYS_mknodat SYS_symlinkat SYS_linkat SYS_setuid SYS_setresuid SYS_capset
            SYS_move_mount SYS_fsopen SYS_open_tree SYS_pidfd_getfd SYS_memfd_create SYS_clock_settime SYS_sethostname
            SYS_quotactl SYS_syslog SYS_acct SYS_vmsplice SYS_remap_file_pages
        ];
        for program in PROGRAMS {
            let filter = compiled(&list(program, 77), ARCH);
            for call in hostile {
                assert_eq!(run(&filter, ARCH, *call, [0; 6]), Verdict::Refused, "{program:?} {call}");
            }
            assert_eq!(allows(program, libc::SYS_umount2, [0; 6]), program == Program::Unmounter);
        }
    }

    #[test]
    fn calls_that_a_recording_needs_are_allowed() {
        for program in [Program::Agent, Program::Server] {
            for call in [FILES, PROCESS, SOCKETS, NATIVE, UNNAMED].concat() {
                let filter = compiled(&list(program, 77), ARCH);
                assert_eq!(run(&filter, ARCH, call, [0; 6]), Verdict::Allowed, "{program:?} {call}");
            }
        }
    }

    #[test]
    fn threads_are_started_and_processes_and_namespaces_are_not() {
        let clone = |flags: i32| {
            allows(Program::Agent, libc::SYS_clone, [u64::from(u32::try_from(flags).unwrap()), 0, 0, 0, 0, 0])
        };
        let thread =
            libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
        assert!(clone(thread));
        assert!(!clone(libc::SIGCHLD) && !clone(libc::CLONE_VM | libc::CLONE_VFORK));
        for namespace in
            [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID, 0x80]
        {
            assert!(!clone(thread | namespace), "{namespace:x}");
        }
        assert_eq!(verdict(Program::Agent, libc::SYS_clone3, [0; 6]), Verdict::Unknown);
    }

    #[test]
    fn memory_is_never_code_and_writable() {
        let protected = |call, bits: i32| {
            allows(Program::Agent, call, [0, 4096, u64::from(u32::try_from(bits).unwrap()), 0, 0, 0])
        };
        let (read, write, code) = (libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC);
        assert!(protected(MMAP, read | write) && protected(MMAP, read | code) && protected(MMAP, 0));
        assert!(!protected(MMAP, read | write | code));
        assert!(protected(libc::SYS_mprotect, read | write) && !protected(libc::SYS_mprotect, read | code));
    }

    #[test]
    fn the_server_opens_no_connection_and_sends_no_datagram_to_an_address() {
        let socket = |program, family: i32, kind: i32, protocol| {
            let arguments = [
                u64::from(u32::try_from(family).unwrap()),
                u64::from(u32::try_from(kind).unwrap()),
                protocol,
                0,
                0,
                0,
            ];
            allows(program, libc::SYS_socket, arguments)
        };
        let kinds = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        for family in [libc::AF_INET, libc::AF_INET6] {
            assert!(!socket(Program::Server, family, libc::SOCK_STREAM | kinds, 0));
            assert!(!socket(Program::Server, family, libc::SOCK_RAW, 0));
            assert!(socket(Program::Server, family, libc::SOCK_DGRAM | kinds, 0));
            assert!(socket(Program::Agent, family, libc::SOCK_STREAM | kinds, 0));
        }
        assert!(socket(Program::Agent, libc::AF_NETLINK, libc::SOCK_RAW | kinds, 0));
        assert!(!socket(Program::Agent, libc::AF_NETLINK, libc::SOCK_RAW, 12), "netfilter");
        assert!(!socket(Program::Agent, libc::AF_PACKET, libc::SOCK_RAW, 3));
        let sends = |program, address| allows(program, libc::SYS_sendto, [3, 0, 1, 0, address, 16]);
        assert!(sends(Program::Server, 0) && sends(Program::Agent, 1 << 40));
        assert!(
            !sends(Program::Server, 0x7F00)
                && (cfg!(target_pointer_width = "32") || !sends(Program::Server, 1 << 40))
        );
        assert!(!allows(Program::Server, libc::SYS_sendmmsg, [0; 6]));
    }

    #[test]
    fn other_processes_are_not_signalled_or_limited() {
        assert!(allows(Program::Agent, libc::SYS_tgkill, [77, 78, 6, 0, 0, 0]));
        assert!(!allows(Program::Agent, libc::SYS_tgkill, [1, 1, 9, 0, 0, 0]));
        assert!(!allows(Program::Agent, libc::SYS_prlimit64, [1, 0, 0, 0, 0, 0]));
        assert!(!allows(Program::Agent, libc::SYS_ioctl, [0, 0x5412, 0, 0, 0, 0]), "typing into a terminal");
    }

    #[test]
    fn the_filters_are_short() {
        for program in PROGRAMS {
            let length = compiled(&list(program, 77), ARCH).len();
            // The kernel takes 4096; each of them may cost a few nanoseconds on a phone.
            assert!(length < 512, "{program:?}: {length}");
        }
    }
}
