//! Thin safe wrappers for the system calls that no crate of ours offers in the form we need.
//!
//! All `unsafe` of the project is here and in [`confine`], each use with its reason.

pub mod confine;
pub mod notify;
pub mod sandbox;
pub mod secret_file;
mod udp_table;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Lets all threads share one heap: they hardly ever allocate at the same time, and a heap for each takes memory.
#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "mallopt has no wrapper"))]
pub fn share_heap() {
    // SAFETY: it only changes where later allocations come from.
    #[cfg(target_env = "gnu")]
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Descriptors of a process, if the system does not tell.
const USUAL_FILE_LIMIT: u64 = 1024;

/// Descriptors that the process may open, as many as it can get.
#[must_use]
#[allow(clippy::useless_conversion, reason = "limits have 32 bits on 32-bit systems")]
pub fn file_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return USUAL_FILE_LIMIT };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return hard.into();
    }
    soft.into()
}

/// Takes an exclusive advisory lock without waiting; false if another open file has it. Released when
/// the file is closed.
///
/// # Errors
/// As the system says; filesystems without locks report one.
#[expect(unsafe_code, reason = "flock has no wrapper that works on a borrowed file")]
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: plain system call on a descriptor that outlives it.
    let result = Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) });
    match result {
        Ok(_) => Ok(true),
        Err(Errno::EWOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Releases the lock that [`try_lock`] took, and leaves the file open.
///
/// # Errors
/// As the system says.
#[expect(unsafe_code, reason = "flock has no wrapper that works on a borrowed file")]
pub fn unlock(file: &File) -> io::Result<()> {
    // SAFETY: plain system call on a descriptor that outlives it.
    Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) })?;
    Ok(())
}

/// Writes everything that waits for the filesystem of `file` to its disk.
///
/// # Errors
/// As the system says. Only the first error counts: on a dead disk a second call returns success.
#[expect(unsafe_code, reason = "syncfs has no wrapper")]
pub fn sync_fs(file: &File) -> io::Result<()> {
    // SAFETY: plain system call on a descriptor that outlives it.
    Errno::result(unsafe { libc::syncfs(file.as_raw_fd()) })?;
    Ok(())
}

/// How many columns the terminal at `terminal` has; none if it is no terminal or does not tell.
#[must_use]
#[expect(unsafe_code, reason = "TIOCGWINSZ has no wrapper among the features that we use")]
pub fn terminal_columns(terminal: BorrowedFd<'_>) -> Option<usize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes a `winsize` there, which outlives the call, or nothing.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then(|| usize::from(size.ws_col))
}

/// Sets room aside for a file to grow to `octets`, beyond 2 GiB too, without changing its length.
///
/// # Errors
/// As the system says; some filesystems can't.
#[expect(unsafe_code, reason = "the wrappers take a length of 32 bits on 32-bit systems")]
pub fn set_aside(file: &File, octets: u64) -> io::Result<()> {
    let octets = libc::off64_t::try_from(octets).map_err(|_| io::Error::from(Errno::EFBIG))?;
    // SAFETY: plain system call on a descriptor that outlives it.
    Errno::result(unsafe { libc::fallocate64(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, octets) })?;
    Ok(())
}

/// Octets of a folder that are read at a time: several hundred names.
const NAMES_OCTETS: usize = 16 * 1024;

/// Octets before the name of an entry: number of the file, place of the next entry, length, kind (getdents64(2)).
const ENTRY_NAME: usize = 19;

/// Reads some names of a folder that was opened, from where it stands. Gives the place of what follows, for
/// [`std::io::Seek`], or `None` at the end of the folder.
///
/// # Errors
/// As the system says.
#[expect(unsafe_code, reason = "a folder can only be read on from a place with the system's own call")]
pub fn read_names(folder: &File, show: &mut dyn FnMut(&[u8])) -> io::Result<Option<u64>> {
    // Words, so that the entries in it are aligned as the kernel wants them.
    let mut buffer = [0_u64; NAMES_OCTETS / 8];
    // SAFETY: the kernel writes at most as many octets as are said into the buffer, which has so many.
    let count = Errno::result(unsafe {
        libc::syscall(libc::SYS_getdents64, folder.as_raw_fd(), buffer.as_mut_ptr(), NAMES_OCTETS)
    })?;
    let count = usize::try_from(count).unwrap_or(0).min(NAMES_OCTETS);
    let octets: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).take(count).collect();
    let mut next = None;
    let mut rest = &octets[..];
    while let (Some(place), Some(length)) = (rest.get(8..16), rest.get(16..18)) {
        let length = length.try_into().map_or(0, u16::from_ne_bytes);
        let Some(entry) = rest.get(..usize::from(length)).filter(|entry| entry.len() > ENTRY_NAME) else {
            break;
        };
        next = place.try_into().ok().map(u64::from_ne_bytes);
        let name = entry[ENTRY_NAME..].split(|octet| *octet == 0).next().unwrap_or_default();
        show(name);
        rest = &rest[usize::from(length)..];
    }
    Ok(next)
}

/// What the kernel keeps for a socket, and what it could not keep.
#[derive(Clone, Copy, Debug)]
pub struct SocketMemory {
    /// Whether its receive buffer has no room for another packet.
    pub is_full: bool,
    /// Datagrams dropped at this socket so far: its buffer was full, or a filter refused them.
    pub drops: u32,
}

/// How a socket's receive buffer does.
///
/// # Errors
/// As the system says.
pub fn socket_memory(socket: BorrowedFd<'_>) -> io::Result<SocketMemory> {
    told_memory(socket).or_else(|_| udp_table::socket_memory(socket))
}

/// As `SO_MEMINFO` says; emulators and Linux before 4.12 don't know it.
#[expect(unsafe_code, reason = "SO_MEMINFO has no wrapper")]
fn told_memory(socket: BorrowedFd<'_>) -> io::Result<SocketMemory> {
    /// Values of `SO_MEMINFO`, and their places (linux/sock_diag.h).
    const VALUES: usize = 9;
    const USED: usize = 0;
    const LIMIT: usize = 1;
    const DROPS: usize = 8;
    let mut values = [0_u32; VALUES];
    let mut octets = libc::socklen_t::try_from(size_of_val(&values)).unwrap_or_default();
    // SAFETY: the kernel writes at most `octets` octets, the size of the array, into it.
    Errno::result(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut octets,
        )
    })?;
    if usize::try_from(octets).is_ok_and(|octets| octets < size_of_val(&values)) {
        // An emulator passes on an integer of what it does not know.
        return Err(io::ErrorKind::Unsupported.into());
    }
    let is_full = values[USED].saturating_add(PACKET_MEMORY_OCTETS) > values[LIMIT];
    Ok(SocketMemory { is_full, drops: values[DROPS] })
}

/// What the kernel takes for a packet of a call, at most.
const PACKET_MEMORY_OCTETS: u32 = 2304;

/// Lets only packets from `from` into a UDP `socket`: the kernel drops others before they take room in its buffer, and
/// counts them in [`SocketMemory::drops`]. On an IPv6 socket the mapped form of an IPv4 address is meant, too.
///
/// # Errors
/// As the system says; the socket takes everything then.
#[expect(unsafe_code, reason = "SO_ATTACH_FILTER has no wrapper")]
#[expect(clippy::cast_possible_truncation, reason = "codes of instructions have 16 bits")]
pub fn only_from(socket: BorrowedFd<'_>, from: IpAddr) -> io::Result<()> {
    /// Instructions of classic BPF: load a word or an octet, jump if equal, and with what, return (linux/filter.h).
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const LOAD_OCTET: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const MASK: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    /// Where the network header begins, as an offset that filters understand.
    const NETWORK: u32 = 0xFFF0_0000;
    let (version, offset, octets) = match from.to_canonical() {
        IpAddr::V4(ip) => (0x40, 12, ip.octets().to_vec()),
        IpAddr::V6(ip) => (0x60, 8, ip.octets().to_vec()),
    };
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let words: Vec<u32> = octets
        .chunks_exact(4)
        .map(|word| word.iter().fold(0, |sum, octet| sum << 8 | u32::from(*octet)))
        .collect();
    // To the last instruction, which drops, from behind each comparison.
    let mut left = u8::try_from(2 * words.len() + 1).unwrap_or(u8::MAX);
    let mut program = vec![step(LOAD_OCTET, 0, NETWORK), step(MASK, 0, 0xF0), step(IF_EQUAL, left, version)];
    for (index, word) in (0_u32..).zip(words) {
        left = left.saturating_sub(2);
        program.push(step(LOAD_WORD, 0, NETWORK + offset + 4 * index));
        program.push(step(IF_EQUAL, left, word));
    }
    program.extend([step(RETURN, 0, u32::MAX), step(RETURN, 0, 0)]);
    let len = u16::try_from(program.len()).unwrap_or(0);
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let octets = libc::socklen_t::try_from(size_of_val(&program)).unwrap_or_default();
    // SAFETY: the kernel reads the structure of the size given, and through it as many instructions as it says, all of
    // which live until the call is over; it keeps a copy.
    Errno::result(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            octets,
        )
    })?;
    Ok(())
}

/// Seconds east of UTC of the local time zone at a time given in seconds since the Unix epoch; 0 if unknown. The zone is
/// looked at anew: it may have been set since.
#[must_use]
#[expect(unsafe_code, reason = "the time zone is known to the C library only")]
pub fn utc_offset_s(unix_s: i64) -> i32 {
    let time = for_the_c_library(unix_s);
    let mut local = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: nothing in this process changes the environment, which the first call reads. Both pointers are valid for
    // the second one; the result is read only if it says success, and the zeroed structure is a valid one in any case.
    let local = unsafe {
        // `localtime_r` alone reads the file of the zone once in the life of a process.
        tzset();
        if libc::localtime_r(&time, local.as_mut_ptr()).is_null() {
            return 0;
        }
        local.assume_init()
    };
    i32::try_from(local.tm_gmtoff).unwrap_or(0)
}

#[expect(unsafe_code, reason = "the libc crate does not have it for Linux")]
unsafe extern "C" {
    fn tzset();
}

/// After so many years, leap days and days of the week are the same again, and so are the rules of time zones.
const CYCLE_S: i64 = 28 * 1461 * 24 * 3600 / 4;

/// A time that the C library can take and that has the same place in its year. Where `time_t` has 32 bits, its time
/// ends in 2038.
#[allow(clippy::useless_conversion, irrefutable_let_patterns, reason = "time_t differs by platform")]
fn for_the_c_library(unix_s: i64) -> libc::time_t {
    if let Ok(time) = libc::time_t::try_from(unix_s) {
        return time;
    }
    libc::time_t::try_from(within_32_bits(unix_s)).unwrap_or_default()
}

/// The last time before the end of 32 bits that lies whole cycles before `unix_s`.
fn within_32_bits(unix_s: i64) -> i64 {
    let end = i64::from(i32::MAX);
    let beyond = unix_s.saturating_sub(end).max(0);
    unix_s.saturating_sub((beyond.saturating_add(CYCLE_S - 1) / CYCLE_S).saturating_mul(CYCLE_S))
}

/// Lets only packets of `sender` into a UDP socket, or those of everybody: the kernel drops others before they take room in
/// its buffer, counts them as dropped ([`Datagram::overflow`]), and tells their senders nothing. Unlike `connect` it can be
/// undone without losing the port.
///
/// # Errors
/// As the system says; emulators don't know the option. The socket is as before then.
pub fn let_in(socket: BorrowedFd<'_>, sender: Option<SocketAddr>) -> io::Result<()> {
    // A filter that takes everything replaces the one before: unlike the option that takes one off, emulators know it.
    const RETURN: u16 = 0x06;
    let everything = || vec![libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: u32::MAX }];
    let mut program = sender.map_or_else(everything, sender_filter);
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or_default(),
        filter: program.as_mut_ptr(),
    };
    // `program` outlives the call, and the kernel copies it.
    set_filter(socket, libc::SO_ATTACH_FILTER, (&raw const filter).cast(), size_of_val(&filter))
}

#[expect(unsafe_code, reason = "filters have no wrapper")]
fn set_filter(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    value: *const libc::c_void,
    octets: usize,
) -> io::Result<()> {
    let octets = libc::socklen_t::try_from(octets).unwrap_or_default();
    // SAFETY: the kernel reads `octets` octets of `value`, which the callers have there; a filter's instructions are as
    // many as its length says.
    Errno::result(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, value, octets) })?;
    Ok(())
}

/// A classic BPF program that lets packets of one sender pass. It sees a packet from its UDP header on.
fn sender_filter(sender: SocketAddr) -> Vec<libc::sock_filter> {
    /// Instructions: load from an offset, mask, jump if not equal, return (linux/filter.h, linux/bpf_common.h).
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_OCTET: u16 = 0x30;
    const MASK: u16 = 0x54;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Where the network header begins, as an offset that filters understand.
    const NETWORK: u32 = 0xFFF0_0000;
    let (version, offset, words) = match sender.ip().to_canonical() {
        IpAddr::V4(ip) => (0x40, 12, vec![u32::from(ip)]),
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let word = |word: &[u8]| word.iter().fold(0, |sum, octet| sum << 8 | u32::from(*octet));
            (0x60, 8, octets.chunks_exact(4).map(word).collect())
        }
    };
    let mut checks = vec![
        (vec![(LOAD_HALF, 0)], u32::from(sender.port())),
        (vec![(LOAD_OCTET, NETWORK), (MASK, 0xF0)], version),
    ];
    for (index, word) in (0_u32..).zip(words) {
        checks.push((vec![(LOAD_WORD, NETWORK + offset + 4 * index)], word));
    }
    let length: usize = checks.iter().map(|(loads, _)| loads.len() + 1).sum();
    let mut program = Vec::with_capacity(length + 2);
    for (loads, wanted) in checks {
        let load = |(code, k)| libc::sock_filter { code, jt: 0, jf: 0, k };
        program.extend(loads.into_iter().map(load));
        // To the last instruction, which drops: all that is left, and the one that takes.
        let jf = u8::try_from(length - program.len()).unwrap_or(u8::MAX);
        program.push(libc::sock_filter { code: IF_EQUAL, jt: 0, jf, k: wanted });
    }
    for k in [u32::MAX, 0] {
        program.push(libc::sock_filter { code: RETURN, jt: 0, jf: 0, k });
    }
    program
}

/// Datagrams taken from a socket by one system call.
pub const BATCH_DATAGRAMS: usize = 64;

/// Octets kept of each datagram: more than any audio packet on Ethernet has.
pub const DATAGRAM_OCTETS: usize = 2048;

/// Octets of each datagram that lie close to those of its neighbours. Packets of a call end here, so a drain
/// touches few pages; after an idle second each of them costs more than the packets in it.
const NEAR_OCTETS: usize = 256;

/// Room for the sender's address: the larger one of the two that UDP has.
type Name = libc::sockaddr_in6;

/// Length of the address buffer of a datagram, as the kernel wants it.
#[expect(clippy::cast_possible_truncation, reason = "28 octets")]
const NAME_OCTETS: libc::socklen_t = size_of::<Name>() as libc::socklen_t;

/// Room for the two control messages of a datagram, in words.
const CONTROL_WORDS: usize = 8;

/// A datagram and what the kernel says of it, side by side.
struct Slot {
    near: [u8; NEAR_OCTETS],
    name: Name,
    control: [u64; CONTROL_WORDS],
    vectors: [libc::iovec; 2],
}

/// All that a drain touches, from the start of a page on: a second of a call is one page of headers and five of slots.
#[repr(C, align(4096))]
struct Slots {
    headers: [libc::mmsghdr; BATCH_DATAGRAMS],
    slots: [Slot; BATCH_DATAGRAMS],
}

impl Slots {
    #[expect(unsafe_code, reason = "made in place: 28 KiB are not to pass over the stack")]
    fn new() -> Box<Self> {
        let layout = Layout::new::<Self>();
        // SAFETY: the layout is not empty. What is allocated has the layout of the type and is zeros, a valid value of
        // integers, pointers and C structures of them; the box is its only owner.
        unsafe {
            let slots = alloc_zeroed(layout).cast::<Self>();
            if slots.is_null() {
                handle_alloc_error(layout);
            }
            Box::from_raw(slots)
        }
    }
}

/// Buffers for [`BATCH_DATAGRAMS`] datagrams, used again for every batch and every socket.
pub struct Batch {
    near: Box<Slots>,
    /// Longer datagrams, whole; the kernel writes only what `near` has no room for.
    far: Box<[[u8; DATAGRAM_OCTETS]]>,
    /// Headers for sending, and what they point to; they are few if nothing is sent.
    out: Vec<libc::mmsghdr>,
    out_vectors: Vec<libc::iovec>,
    count: usize,
    /// Headers that the kernel or we have changed since they were made ready.
    used: usize,
}

/// Some of the datagrams of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection(u64);

impl Selection {
    /// Adds the datagram at `index` of [`Batch::datagrams`].
    pub fn add(&mut self, index: usize) {
        debug_assert!(index < BATCH_DATAGRAMS);
        self.0 |= 1 << (index % BATCH_DATAGRAMS);
    }

    /// Whether it is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn has(self, index: usize) -> bool {
        self.0 & (1 << (index % BATCH_DATAGRAMS)) != 0
    }
}

/// What became of datagrams that were to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams that were not sent.
    pub failed: u32,
    /// The peer's port is closed.
    pub refused: bool,
}

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Content, as far as it was kept.
    pub octets: &'a [u8],
    /// Whether it was longer.
    pub truncated: bool,
    /// Sender.
    pub source: SocketAddr,
    /// When the kernel received it, in nanoseconds since the Unix epoch, if the socket tells.
    pub arrived_ns: Option<i64>,
    /// Datagrams that the kernel has dropped at this socket so far, if the socket tells.
    pub overflow: Option<u32>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// Empty buffers; pages are only used once datagrams arrive.
    #[must_use]
    pub fn new() -> Self {
        Self {
            near: Slots::new(),
            far: vec![[0; DATAGRAM_OCTETS]; BATCH_DATAGRAMS].into_boxed_slice(),
            out: Vec::new(),
            out_vectors: Vec::new(),
            count: 0,
            used: BATCH_DATAGRAMS,
        }
    }

    /// Takes what has arrived at `socket`, without waiting; a full batch means that there may be more.
    ///
    /// # Errors
    /// As the system says, never `WouldBlock`: nothing there is 0 datagrams.
    #[expect(unsafe_code, reason = "recvmmsg without an allocation for each call")]
    #[allow(clippy::cast_possible_truncation, reason = "small constants; the C types differ by platform")]
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.count = 0;
        // Only what was used: making all of them ready would cost more than the one packet of a relay.
        for index in 0..std::mem::take(&mut self.used) {
            let (slot, far) = (&mut self.near.slots[index], &mut self.far[index][NEAR_OCTETS..]);
            slot.vectors = [
                libc::iovec { iov_base: slot.near.as_mut_ptr().cast(), iov_len: slot.near.len() },
                libc::iovec { iov_base: far.as_mut_ptr().cast(), iov_len: far.len() },
            ];
            let header = &mut self.near.headers[index].msg_hdr;
            header.msg_name = (&raw mut slot.name).cast();
            header.msg_namelen = NAME_OCTETS;
            header.msg_iov = slot.vectors.as_mut_ptr();
            header.msg_iovlen = 2;
            header.msg_control = slot.control.as_mut_ptr().cast();
            header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
            header.msg_flags = 0;
        }
        // SAFETY: every pointer set above, now or before an earlier call, leads into a buffer of `self` of the
        // length given beside it. The buffers stay where they are as long as `self` lives.
        let result = Errno::result(unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.near.headers.as_mut_ptr(),
                BATCH_DATAGRAMS as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        });
        match result {
            Ok(count) => self.count = usize::try_from(count).unwrap_or(0),
            Err(Errno::EWOULDBLOCK) => {}
            Err(errno) => {
                // It may have got as far as the first header.
                self.used = 1;
                return Err(errno.into());
            }
        }
        self.used = self.count.max(1);
        for index in 0..self.count {
            if self.len(index) > NEAR_OCTETS {
                self.far[index][..NEAR_OCTETS].copy_from_slice(&self.near.slots[index].near);
            }
        }
        Ok(self.count)
    }

    /// Octets kept of the datagram at `index`.
    fn len(&self, index: usize) -> usize {
        usize::try_from(self.near.headers[index].msg_len).unwrap_or(usize::MAX).min(DATAGRAM_OCTETS)
    }

    /// The datagrams of the last call to [`Self::receive`].
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        (0..self.count).map(|index| self.datagram(index))
    }

    /// Sends `selection` of the datagrams of the last call to [`Self::receive`] by a connected socket, without
    /// copying and without waiting: what the system does not take at once is not sent.
    #[expect(unsafe_code, reason = "sendmmsg straight from the buffers of recvmmsg")]
    pub fn send(&mut self, socket: BorrowedFd<'_>, selection: Selection) -> Sent {
        self.out.clear();
        self.out_vectors.clear();
        for index in (0..self.count).filter(|index| selection.has(*index)) {
            let octets = self.octets(index);
            let vector = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
            self.out_vectors.push(vector);
        }
        for vector in &mut self.out_vectors {
            // SAFETY: a C structure of integers and pointers, for which all zeros is a valid value.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            self.out.push(header);
        }
        let mut sent = Sent::default();
        let mut rest = &mut self.out[..];
        while !rest.is_empty() {
            let left = u32::try_from(rest.len()).unwrap_or(u32::MAX);
            // SAFETY: every header leads to one vector of `self`, and that to octets of `self`, which the kernel
            // only reads; `self` is borrowed for the call.
            let result = Errno::result(unsafe {
                libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), left, libc::MSG_DONTWAIT as _)
            });
            let done = match result {
                Ok(count) => usize::try_from(count).unwrap_or(0).max(1),
                Err(Errno::EINTR) => 0,
                // This datagram can't be sent, the next one perhaps can.
                Err(Errno::EMSGSIZE | Errno::EPERM) => {
                    sent.failed += 1;
                    1
                }
                Err(errno) => {
                    sent.failed += left;
                    sent.refused = errno == Errno::ECONNREFUSED;
                    break;
                }
            };
            rest = &mut rest[done..];
        }
        sent
    }

    fn octets(&self, index: usize) -> &[u8] {
        let len = self.len(index);
        if len > NEAR_OCTETS { &self.far[index][..len] } else { &self.near.slots[index].near[..len] }
    }

    fn datagram(&self, index: usize) -> Datagram<'_> {
        let header = &self.near.headers[index];
        let (arrived_ns, overflow) = control_messages(&header.msg_hdr);
        Datagram {
            octets: self.octets(index),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            source: source(&self.near.slots[index].name),
            arrived_ns,
            overflow,
        }
    }
}

/// Reads the sender's address; anything but IP is the unspecified address.
#[expect(unsafe_code, reason = "the kernel tells the type of the address in its first field")]
fn source(name: &Name) -> SocketAddr {
    match i32::from(name.sin6_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the kernel wrote the other, shorter type, whose alignment is no
            // stricter.
            let name = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let addr = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            SocketAddr::new(addr.into(), u16::from_be(name.sin_port))
        }
        libc::AF_INET6 => {
            SocketAddr::new(Ipv6Addr::from(name.sin6_addr.s6_addr).into(), u16::from_be(name.sin6_port))
        }
        _ => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
    }
}

/// Reads arrival time and drop counter from the control messages of a datagram.
#[expect(unsafe_code, reason = "control messages are only reachable by the C macros")]
#[allow(
    clippy::cast_possible_truncation,
    clippy::unnecessary_cast,
    reason = "the C types differ by platform"
)]
#[allow(clippy::useless_conversion, reason = "the C types differ by platform")]
fn control_messages(header: &libc::msghdr) -> (Option<i64>, Option<u32>) {
    let (mut arrived_ns, mut overflow) = (None, None);
    // SAFETY: the kernel has filled in the control buffer and its length; the macros stay inside, and the
    // payloads are read without assuming alignment, after checking that they are complete.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(head) = message.as_ref() {
            let octets = head.cmsg_len as usize;
            let data = libc::CMSG_DATA(message);
            if head.cmsg_level == libc::SOL_SOCKET {
                if head.cmsg_type == libc::SCM_TIMESTAMPNS
                    && octets >= libc::CMSG_LEN(size_of::<libc::timespec>() as _) as usize
                {
                    let time = data.cast::<libc::timespec>().read_unaligned();
                    let seconds_ns = seconds(time.tv_sec).checked_mul(1_000_000_000);
                    arrived_ns = seconds_ns.and_then(|ns| ns.checked_add(i64::from(time.tv_nsec)));
                }
                if head.cmsg_type == libc::SO_RXQ_OVFL && octets >= libc::CMSG_LEN(4) as usize {
                    overflow = Some(data.cast::<u32>().read_unaligned());
                }
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    (arrived_ns, overflow)
}

/// Seconds of a stamp of the kernel's. Where it has 32 bits, the kernel gives the lower ones, which are right until 2106.
#[allow(
    clippy::useless_conversion,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "time_t differs by platform"
)]
fn seconds(stamp: libc::time_t) -> i64 {
    if size_of::<libc::time_t>() == 4 { i64::from(stamp as u32) } else { i64::from(stamp) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn a_time_beyond_32_bits_has_a_stand_in_at_the_same_place_of_its_year() {
        let place = |unix_s: i64| {
            let date = time::OffsetDateTime::from_unix_timestamp(unix_s).expect("a date");
            (date.ordinal(), date.weekday(), date.time(), time::util::days_in_year(date.year()))
        };
        assert_eq!(within_32_bits(i64::from(i32::MAX)), i64::from(i32::MAX));
        // Until 2099: 2100 has no leap day.
        for unix_s in (i64::from(i32::MAX) + 1..4_070_908_800).step_by(40_000_003) {
            let stand_in = within_32_bits(unix_s);
            assert!(i32::try_from(stand_in).is_ok_and(|it| it > i32::MAX - 900_000_000), "{unix_s}");
            assert_eq!(place(stand_in), place(unix_s), "{unix_s}");
        }
        assert!(i32::try_from(within_32_bits(i64::MAX)).is_ok());
        assert!(
            utc_offset_s(i64::MAX / 2).abs() < 24 * 3600 && utc_offset_s(2_240_000_000).abs() < 24 * 3600
        );
    }

    /// The rules of a time zone so many hours east of UTC, as tzfile(5) has them.
    fn zone(hours: i32) -> Vec<u8> {
        let mut part = b"TZif2".to_vec();
        part.resize(20, 0);
        // Counts: no leap seconds and changes, one kind of local time, four letters for its name.
        for count in [0_u32, 0, 0, 0, 1, 4] {
            part.extend(count.to_be_bytes());
        }
        part.extend((hours * 3600).to_be_bytes());
        part.extend(b"\0\0ABC\0");
        [&part[..], &part, format!("\n<ABC>{}\n", -hours).as_bytes()].concat()
    }

    #[test]
    fn a_time_zone_that_is_set_while_the_process_runs_is_seen() {
        const INSIDE: &str = "RECORDER_TEST_ZONE";
        if let Some(folder) = std::env::var_os(INSIDE) {
            for hours in [2, 9, -5] {
                let file = std::path::Path::new(&folder).join(hours.to_string());
                std::fs::write(&file, zone(hours)).expect("a zone");
                let (none, flags) = (None::<&str>, nix::mount::MsFlags::MS_BIND);
                nix::mount::mount(Some(&file), "/etc/localtime", none, flags, none).expect("put in place");
                assert_eq!(utc_offset_s(1_772_352_900), hours * 3600);
            }
            return;
        }
        let program = std::env::current_exe().expect("a program");
        let try_out = |arguments: &[&str]| {
            let mut command = std::process::Command::new("unshare");
            command.args(["--mount", "--map-root-user"]).args(arguments).env_remove("TZ");
            command
        };
        let can = std::path::Path::new("/etc/localtime").exists()
            && std::env::var_os("RECORDD_TEST_RUNNER").is_none()
            && try_out(&["true"]).output().is_ok_and(|output| output.status.success());
        if !can {
            return eprintln!("skipped: no other time zone can be put in place here");
        }
        let dir = tempfile::tempdir().expect("a folder");
        let name = "tests::a_time_zone_that_is_set_while_the_process_runs_is_seen";
        let program = program.to_str().expect("a path");
        let output = try_out(&[program, "--exact", name]).env(INSIDE, dir.path()).output().expect("a run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn a_folder_is_read_on_from_the_place_where_it_was_left() {
        use std::io::{Seek, SeekFrom};
        let dir = tempfile::tempdir().expect("a folder");
        let mut made: Vec<String> =
            (0..2000).map(|number| format!("a name of some length {number}")).collect();
        for name in &made {
            File::create(dir.path().join(name)).expect("a file");
        }
        let (mut found, mut place, mut steps) = (Vec::new(), Some(0), 0);
        while let Some(from) = place {
            let mut folder = File::open(dir.path()).expect("the folder");
            folder.seek(SeekFrom::Start(from)).expect("a place in it");
            let mut show = |name: &[u8]| found.push(String::from_utf8_lossy(name).into_owned());
            place = read_names(&folder, &mut show).expect("names");
            steps += 1;
        }
        made.extend([".".into(), "..".into()]);
        made.sort_unstable();
        found.sort_unstable();
        assert!(steps > 3, "{steps} steps");
        assert_eq!(found, made);
    }

    #[test]
    fn room_beyond_2_gib_is_set_aside_and_written_to() {
        use std::os::unix::fs::{FileExt, MetadataExt};
        const FAR: u64 = 5 << 29;
        let file = tempfile::tempfile().expect("a file");
        match set_aside(&file, FAR) {
            Ok(()) => assert!(file.metadata().expect("facts").blocks() * 512 >= FAR),
            Err(error) => {
                let errno = error.raw_os_error().map(Errno::from_raw);
                let excused = [Errno::EOPNOTSUPP, Errno::ENOSPC, Errno::ENOSYS];
                assert!(errno.is_some_and(|errno| excused.contains(&errno)), "{error}");
            }
        }
        file.set_len(0).expect("room given back");
        file.write_all_at(b"far", FAR).expect("written");
        let mut octets = [0; 3];
        file.read_exact_at(&mut octets, FAR).expect("read");
        assert_eq!((&octets, file.metadata().expect("facts").len()), (b"far", FAR + 3));
    }

    fn pair() -> io::Result<(UdpSocket, UdpSocket)> {
        let receiver = UdpSocket::bind("127.0.0.1:0")?;
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        sender.connect(receiver.local_addr()?)?;
        Ok((sender, receiver))
    }

    fn datagram(number: usize, octets: usize) -> Vec<u8> {
        (0..octets).map(|at| u8::try_from((at * 7 + number) % 251).unwrap_or(0)).collect()
    }

    #[test]
    fn a_datagram_of_any_length_arrives_whole_and_goes_on_whole() {
        let lengths = [
            0,
            1,
            172,
            NEAR_OCTETS - 1,
            NEAR_OCTETS,
            NEAR_OCTETS + 1,
            1500,
            DATAGRAM_OCTETS,
            DATAGRAM_OCTETS + 1,
        ];
        let (sender, receiver) = pair().expect("sockets");
        let (relay, server) = pair().expect("sockets");
        let mut batch = Batch::new();
        // Batches of different sizes use the places again for datagrams of other lengths.
        for (round, count) in [9, 1, 5, 64, 3].into_iter().enumerate() {
            let sent: Vec<_> = (0..count).map(|at| datagram(at + round, lengths[(at + round) % 9])).collect();
            for octets in &sent {
                sender.send(octets).expect("sent");
            }
            assert_eq!(batch.receive(receiver.as_fd()).expect("received"), count);
            let mut all = Selection::default();
            for (index, (got, octets)) in batch.datagrams().zip(&sent).enumerate() {
                let kept = octets.len().min(DATAGRAM_OCTETS);
                assert_eq!((got.octets, got.truncated), (&octets[..kept], octets.len() > kept));
                assert_eq!(got.source, sender.local_addr().expect("bound"));
                all.add(index);
            }
            assert_eq!(batch.send(relay.as_fd(), all), Sent::default());
            for octets in &sent {
                let mut buffer = [0; DATAGRAM_OCTETS + 1];
                let got = server.recv(&mut buffer).expect("relayed");
                assert_eq!(&buffer[..got], &octets[..octets.len().min(DATAGRAM_OCTETS)]);
            }
            assert_eq!(batch.receive(receiver.as_fd()).expect("nothing there"), 0);
        }
    }

    #[test]
    fn only_the_sender_that_is_let_in_reaches_a_filtered_socket() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = UdpSocket::bind(loopback) else { continue };
            let target = socket.local_addr().unwrap();
            let [ours, other] = [(); 2].map(|()| UdpSocket::bind(loopback).unwrap());
            if let_in(socket.as_fd(), Some(ours.local_addr().unwrap())).is_err() {
                continue;
            }
            let mut batch = Batch::new();
            let mut arrived = || {
                for sender in [&other, &ours, &other] {
                    sender.send_to(b"x", target).unwrap();
                }
                batch.receive(socket.as_fd()).unwrap();
                batch.datagrams().map(|datagram| datagram.source).collect::<Vec<_>>()
            };
            assert_eq!(arrived(), [ours.local_addr().unwrap()]);
            let_in(socket.as_fd(), None).unwrap();
            assert_eq!(arrived().len(), 3);
        }
    }
}
