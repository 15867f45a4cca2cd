//! Recordings from their request to their end: ports, the RTP that comes in, the jobs for the disk.

use super::disk::{Closing, MAX_WAITING_JOBS, day_of};
use super::make_room::short;
use super::revival::{self, Former};
use super::{Sessions, streams};
use crate::admission::prefix;
use crate::folders::{day_folder, device_folder};
use crate::media_sockets::Media;
use crate::metrics::Metrics;
use crate::recording::{Mark, Recording};
use crate::refusal::Refusal;
use crate::run::call::{ByTcp, Call, CallKey, Control, Transport};
use media::blocks::BlockPool;
use media::counts::DropCause;
use media::time::{Mono, Now};
use os::receiver::{Datagram, Receiver};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use store::jobs::{FileKey, Job};
use uplink::message::Parties;
use uplink::message::extension::Granted;
use uplink::server::{EndReason, Opening};

/// Looks into the socket of a call that ends: more than its receive buffer can hold.
const MAX_LAST_DRAINS: usize = 16;

/// Ports that are tried for one call, if other programs have them.
const PORT_ATTEMPTS: usize = 16;

/// The phone that asks for a call.
struct Asked {
    control: Control,
    peer: SocketAddr,
    /// The server's own address, as the peer sees it.
    local: SocketAddr,
}

/// What a phone is told of its recording.
pub(super) struct Opened {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) extension: Option<Granted>,
}

pub(super) fn open(
    sessions: &mut Sessions,
    token: usize,
    opening: &Opening,
    now: Now,
) -> Result<Option<Opened>, Refusal> {
    let conn = sessions.conns.get(&token).ok_or(Refusal::Storage)?;
    let asked = Asked { control: Control::Uplink(token), peer: conn.peer, local: conn.local };
    if sessions.going_down {
        return Err(Refusal::ShuttingDown);
    }
    if let Some(extension) = streams::resume(sessions, token, opening, now) {
        return resumed(sessions, asked.local, extension).map(Some);
    }
    if revival::looks_for_files(sessions, token, opening)? {
        return Ok(None);
    }
    begin(sessions, token, opening, None, now).map(Some)
}

/// What a phone is told, which sees the server at `local`, when it has come back to a call.
pub(super) fn resumed(sessions: &Sessions, local: SocketAddr, extension: Granted) -> Result<Opened, Refusal> {
    let port = sessions.streams.port().ok_or(Refusal::Storage)?;
    Ok(Opened { host: host_for(sessions, local), port, extension: Some(extension) })
}

/// Begins to record a call of this connection, which may go on with one that has files.
pub(super) fn begin(
    sessions: &mut Sessions,
    token: usize,
    opening: &Opening,
    former: Option<Former>,
    now: Now,
) -> Result<Opened, Refusal> {
    let conn = sessions.conns.get(&token).ok_or(Refusal::Storage)?;
    let asked = Asked { control: Control::Uplink(token), peer: conn.peer, local: conn.local };
    let (key, opened) = open_call(sessions, asked, opening, former, now)?;
    if let Some(conn) = sessions.conns.get_mut(&token) {
        conn.call = Some(key);
        sessions.gate.is_not_silent(token, conn.since);
    }
    Ok(opened)
}

/// Begins to record a call; gives where its audio is to be sent.
fn open_call(
    sessions: &mut Sessions,
    asked: Asked,
    opening: &Opening,
    former: Option<Former>,
    now: Now,
) -> Result<(CallKey, Opened), Refusal> {
    let Asked { control, peer, local } = asked;
    if sessions.draining {
        return Err(Refusal::Draining);
    }
    sessions.storage.check(sessions.config.reserve_octets)?;
    let by_tcp = opening.extension.as_ref().and_then(|_| sessions.streams.port());
    admit_call(sessions, peer.ip(), by_tcp.is_some(), now)?;
    let (transport, port) = match by_tcp {
        Some(port) => (Transport::Tcp(Box::new(by_tcp_of(opening, former.as_ref()))), port),
        None => match bind(sessions, local, peer.ip(), now.mono) {
            Some((media, port)) => (Transport::Udp { media, port }, port),
            None => {
                sessions.gate.close(peer.ip());
                return Err(Refusal::Ports);
            }
        },
    };
    let recording_id = match &former {
        Some(former) => former.recording.clone(),
        None => sessions.used_ids.claim(&opening.id),
    };
    let other = sessions.calls.iter().find(|(_, call)| call.id == opening.id).map(|(_, call)| call.peer);
    if former.is_none() && (other.is_some() || recording_id != opening.id) {
        let (id, recording) = (short(&opening.id), short(&recording_id));
        sessions.gate.tell(peer.ip(), now.mono, || match other {
            Some(other) => {
                format!("id_in_use id={id:?} peer={peer} other={other} recording={recording:?}")
            }
            None => format!("id_used_before id={id:?} peer={peer} recording={recording:?}"),
        });
    }
    let mut device = device_folder(&opening.device, sessions.names);
    if !sessions.gate.admits_device(&device, peer.ip(), now.mono) {
        // A phone that invents devices fills one folder.
        device = device_folder(&prefix(peer.ip()).to_string(), sessions.names);
    }
    let folder = sessions.folder(match &former {
        Some(former) => former.folder.clone(),
        None => format!("{device}/{}", day_folder(now.wall)),
    });
    sessions.gate.tell_of_call(peer.ip(), now.mono, || {
        let (id, device, codec) = (short(&opening.id), short(&opening.device), opening.codec.name());
        let tcp = if by_tcp.is_some() { " transport=tcp" } else { "" };
        format!("session_started id={id:?} device={device:?} peer={peer} codec={codec} port={port}{tcp}")
    });
    let host = host_for(sessions, local);
    let call = Call {
        control,
        peer,
        id: opening.id.clone(),
        device: opening.device.clone(),
        transport,
        recording: Recording::new(sessions.rules, opening, recording_id, peer, folder, now),
        begun: now,
        file: String::new(),
        strangers_told: 0,
        contested_told: false,
    };
    let mut call = call;
    if let (Some(former), Some(extension)) = (&former, &opening.extension) {
        call.recording.goes_on(former.front, extension, now.mono);
    }
    let altered = call.recording.altered();
    if !altered.is_empty() {
        log::info!("text_altered id={:?} fields={:?}", short(&call.id), altered.to_string());
    }
    let key = sessions.calls.insert(call);
    sessions.metrics.sessions_started.inc();
    sessions.show();
    let extension = by_tcp.and_then(|_| streams::granted(sessions, key));
    Ok((key, Opened { host, port, extension }))
}

/// The host that a phone sends its audio to, which sees the server at `local`.
fn host_for(sessions: &Sessions, local: SocketAddr) -> String {
    match sessions.config.public_addr.as_str() {
        "" => local.ip().to_string(),
        public => public.to_owned(),
    }
}

fn by_tcp_of(opening: &Opening, former: Option<&Former>) -> ByTcp {
    let item = opening.extension.as_ref().map_or(0, |asked| asked.from);
    let first = Mark { item, segment: 1, octets: 0 };
    ByTcp { durable: former.map_or(first, |former| former.durable), ..ByTcp::default() }
}

/// A socket on a free port of the range, on the address that the phone is connected to; on all
/// addresses if phones are told another one.
fn bind(sessions: &mut Sessions, local: SocketAddr, phone: IpAddr, now: Mono) -> Option<(Media, u16)> {
    let mut addr = match (sessions.config.public_addr.is_empty(), local) {
        (true, local) => local,
        (false, SocketAddr::V4(_)) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        (false, SocketAddr::V6(_)) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    for _ in 0..PORT_ATTEMPTS {
        let port = sessions.ports.take()?;
        addr.set_port(port);
        match Media::bind(addr, phone) {
            Ok(media) => return Some((media, port)),
            Err(error) => {
                sessions.ports.give_back(port);
                sessions.complain(now, || format!("rtp_port_unusable port={port}: {error}"));
                if error.kind() != io::ErrorKind::AddrInUse {
                    return None;
                }
            }
        }
    }
    None
}

/// Ends a call; the last update of its parties is kept. Gives the file that is being closed, if there is one.
pub(super) fn stop(
    sessions: &mut Sessions,
    key: CallKey,
    reason: &EndReason,
    parties: Option<Parties>,
    now: Now,
) -> Option<FileKey> {
    let Sessions { calls, pool, receiver, metrics, storage, gate, .. } = sessions;
    let mut call = calls.remove(key)?;
    // Packets sent before the end belong to the call, also if they are more than a sweep takes.
    for _ in 0..MAX_LAST_DRAINS {
        if let Transport::Udp { media, .. } = &mut call.transport {
            media.look_at_all();
        }
        if !drain(&mut call, receiver, pool, metrics, now.mono).more {
            break;
        }
    }
    book_dropped(&mut call, metrics);
    call.recording.settle(now.mono, pool);
    let ip = call.peer.ip();
    let heard = call.recording.is_heard();
    // One that goes on has files already.
    let kept = heard || !call.recording.is_continued() && gate.may_be_empty(ip, now.mono);
    if !kept {
        call.recording.fail(pool);
    }
    let mut jobs = Vec::new();
    let mut name_file = || calls.name_file();
    let had_file = call.recording.file();
    call.recording.finish(reason, parties, now, pool, &mut name_file, &mut jobs);
    let counts = *call.recording.counts();
    let seconds = now.mono.since(call.begun.mono).as_secs();
    let last = Closing {
        who: format!("id={:?} device={:?} peer={}", short(&call.id), short(&call.device), call.peer),
        from: ip,
        folder: call.recording.folder().name.clone(),
        // One that is opened only now will be named by the disk.
        file: if had_file.is_some() { std::mem::take(&mut call.file) } else { String::new() },
        how: format!("seconds={seconds} reason={:?}", short(&reason.name())),
        counts,
        lost: call.recording.lost(),
        strangers: call.recording.strangers(),
        octets: call.recording.octets(),
        answer: None,
    };
    let closed = jobs.iter().rev().find_map(|job| match job {
        Job::Close { file, .. } => Some(*file),
        _ => None,
    });
    let left = (kept && closed.is_none()).then(|| day_of(&last.folder).to_owned());
    let mut nothing = None;
    match closed {
        Some(file) => storage.closes(file, last),
        None if !kept => nothing = Some(last),
        None => log::error!("{} fault=\"the disk failed before the end\"", last.summary()),
    }
    storage.push(jobs);
    metrics.ended(reason_class(reason));
    metrics.packets_lost.inc_by(call.recording.lost());
    for cause in DropCause::ALL {
        metrics.dropped(cause, counts.dropped_for(cause));
    }
    match &call.transport {
        Transport::Udp { port, .. } => sessions.ports.give_back(*port),
        Transport::Tcp(tcp) => streams::is_over(sessions, tcp.conn, now.mono),
    }
    sessions.quota.ended(ip, call.ahead(now.mono), now.mono);
    sessions.gate.close(ip);
    if heard {
        sessions.gate.knows(ip, now.mono);
    }
    if closed.is_some() {
        sessions.gate.falls_behind(ip);
    }
    if let Some(last) = nothing {
        let setting = "limits.empty_files_per_hour";
        sessions.gate.tell(ip, now.mono, || format!("{} without_file setting={setting:?}", last.summary()));
    }
    left.into_iter().for_each(|day| sessions.storage.leave(day));
    sessions.show();
    closed
}

/// Takes the RTP of all calls and hands jobs that are due to the disk.
pub(super) fn sweep(sessions: &mut Sessions, now: Now) {
    hold_back(sessions, now.mono);
    streams::sweep(sessions, now);
    let Sessions { conns, calls, pool, receiver, metrics, storage, .. } = sessions;
    let keeps_up = storage.waiting() <= MAX_WAITING_JOBS;
    let mut jobs = Vec::new();
    calls.each(|call, files| {
        if drain(call, receiver, pool, metrics, now.mono).heard {
            if let Control::Uplink(token) = call.control {
                conns.get_mut(&token).into_iter().for_each(|conn| conn.session.media(now.mono));
            }
        }
        if keeps_up {
            call.recording.jobs(now, &mut || files.name(), &mut jobs);
            if !jobs.is_empty() || call.recording.source().is_none() {
                book_dropped(call, metrics);
            }
            let written = call.recording.take_written();
            if let (Some(tcp), Some(mark)) = (call.tcp_mut(), written) {
                tcp.written = Some(mark);
            }
            for job in jobs.drain(..) {
                if let Job::Open(open) = &job {
                    files.opened(open.file);
                }
                storage.push([job]);
            }
        }
    });
    metrics.buffered_bytes.set(i64::try_from(pool.used_octets()).unwrap_or(i64::MAX));
    streams::ask_disk(sessions);
}

/// Recordings that are ahead of the clock wait for it if those of their address are too far ahead together.
fn hold_back(sessions: &mut Sessions, now: Mono) {
    let Sessions { calls, quota, .. } = sessions;
    quota.begin();
    for (_, call) in calls.iter() {
        let ahead = call.ahead(now);
        if ahead > 0 {
            quota.add(call.peer.ip(), ahead);
        }
    }
    calls.each(|call, _| {
        let waits = call.ahead(now) > 0 && quota.is_used_up(call.peer.ip(), now);
        match call.tcp_mut() {
            // What is not read stays at the phone.
            Some(tcp) => tcp.is_held = waits,
            None => call.recording.wait_for_clock(waits),
        }
    });
}

/// Counts a recording, if need be in place of one that no packet came for.
fn admit_call(sessions: &mut Sessions, from: IpAddr, by_tcp: bool, now: Now) -> Result<(), Refusal> {
    sessions.gate.may_start(from, sessions.storage.waiting(), now.mono)?;
    count_call(sessions, from, by_tcp).or_else(|refusal| {
        let keys = sessions.gate.who_makes_room(from, refusal, &sessions.calls, now.mono);
        sessions.end_idle(keys, now);
        count_call(sessions, from, by_tcp)
    })
}

fn count_call(sessions: &mut Sessions, from: IpAddr, by_tcp: bool) -> Result<(), Refusal> {
    // By TCP it needs none.
    let free = if by_tcp { usize::MAX } else { sessions.ports.free() };
    let descriptors = sessions.descriptors();
    sessions.gate.open(from, free, descriptors)
}

/// The result of a look into a call's socket.
struct Drained {
    /// RTP of the call.
    heard: bool,
    /// There may be more.
    more: bool,
}

fn drain(
    call: &mut Call,
    receiver: &mut Receiver,
    pool: &mut BlockPool,
    metrics: &Metrics,
    now: Mono,
) -> Drained {
    let Call { transport: Transport::Udp { media, port }, recording, .. } = call else {
        return Drained { heard: false, more: false };
    };
    let codec = recording.codec();
    let (before, mut heard) = (recording.counts().received, false);
    let mut take = |datagram: &Datagram<'_>, recording: &mut Recording| {
        if datagram.truncated {
            recording.oversize(datagram.source, datagram.arrival, pool);
        } else {
            heard |= recording.datagram(datagram.octets, datagram.source, datagram.arrival, pool);
        }
    };
    let drained = media.drain(receiver, now, |datagram| take(datagram, recording));
    let more = drained.as_ref().is_ok_and(|drained| drained.more);
    let followed = match recording.source() {
        Some(sender) => {
            let contested = recording.is_contested();
            media.follow(sender, contested, receiver, now, |datagram| take(datagram, recording))
        }
        None => Ok(()),
    };
    heard |= recording.tick(now, pool);
    if let Some(error) = drained.err().or(followed.err()) {
        log::debug!("rtp port={port}: {error}");
    }
    if recording.codec() != codec {
        log::info!("codec_changed port={port} from={} to={}", codec.name(), recording.codec().name());
    }
    metrics.packets_received.inc_by(recording.counts().received - before);
    Drained { heard, more }
}

/// Asks the kernel, now and then, for its drops of the call's packets and of others'.
fn book_dropped(call: &mut Call, metrics: &Metrics) {
    let Transport::Udp { media, port } = &mut call.transport else { return };
    let dropped = media.dropped();
    call.recording.kept_out(dropped.strangers);
    if dropped.overrun > 0 {
        call.recording.overran(dropped.overrun);
        log::warn!("rtp_overrun port={port} packets={}", dropped.overrun);
        metrics.packets_overrun.inc_by(dropped.overrun);
    }
    let strangers = call.recording.strangers();
    metrics.packets_strangers.inc_by(strangers - std::mem::replace(&mut call.strangers_told, strangers));
    if !call.contested_told && call.recording.is_contested() {
        call.contested_told = true;
        log::warn!("contested port={port} strangers={strangers}");
    }
}

fn reason_class(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Stopped(_) => "stopped",
        EndReason::ConnectionLost => "connection_lost",
        EndReason::Idle => "idle",
        EndReason::Protocol(_) => "protocol_error",
        EndReason::DiskFull => "storage_full",
        EndReason::StorageError => "storage_io",
        EndReason::Shutdown => "shutdown",
    }
}
