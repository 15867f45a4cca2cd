//! Media connections: the items of calls whose audio comes by TCP, and what the phone is told of them.
//!
//! Owns: the connections, those of them that have not said whose they are, and the limits of their number. A
//! connection without a name is watched; one of a call is read by the sweep, as UDP sockets are. Never: the
//! meaning of an item for a recording. Invariants: a call has one connection at most, the newest; while memory
//! or the disk is short nothing is read, and the phone keeps its items.

use super::Sessions;
use super::disk::{Answer, MAX_WAITING_JOBS};
use super::make_room::short;
use crate::admission::{Limits, prefix};
use crate::items::Items;
use crate::recording::Mark;
use crate::run::call::{Call, CallKey, Calls, Control, Finishing};
use crate::run::ended::{Ended, State};
use crate::run::media_conn::MediaConn;
use crate::tokens::{CallName, Place, Signer, random};
use media::blocks::BlockPool;
use media::time::{Mono, Now};
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Token};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use store::jobs::server::RecordingMark;
use uplink::media_stream::ack;
use uplink::media_stream::inlet::Arrival;
use uplink::message::extension::Granted;
use uplink::message::{Outcome, Parties};
use uplink::server::{EndReason, Opening};

/// A connection that does not say whose it is within this time is closed.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

/// Connections that have not said whose they are: in all, and of one address. The oldest one makes room.
const MAX_NAMELESS: usize = 512;
const MAX_NAMELESS_OF_ADDRESS: usize = 256;

/// Octets read from a connection at once, and reads before others have their turn. A second of a call is less
/// than one read; the items of a minute's break take a few sweeps.
const READ_OCTETS: usize = 16 * 1024;
const READ_BUDGET: usize = 8;

/// Longest wait for the rest of a recording that the phone has ended.
const FINISH_WITHIN: Duration = Duration::from_secs(30);

/// The time after the phone's answer in which the phone closes the connection of a call that is over.
const LINGER: Duration = Duration::from_secs(5);

/// All media connections.
pub(super) struct Streams {
    /// The port that they come to, and who signs their tokens; `None` if there are none.
    open: Option<(u16, Signer)>,
    /// Another one after each start.
    run: u64,
    conns: BTreeMap<usize, MediaConn>,
    /// Those that have not said whose they are, the oldest first, and their addresses.
    nameless: BTreeMap<usize, IpAddr>,
    max_nameless: usize,
    /// Those whose call is over.
    over: BTreeSet<usize>,
    /// Calls that had all their items.
    ended: Ended,
}

impl Streams {
    pub(super) fn new(open: Option<(u16, Signer)>, descriptors: u64) -> Self {
        // Without it, a token of another run could be that of a call of this one.
        let (open, run) = match random() {
            Ok(run) => (open, run),
            Err(error) => {
                log::warn!("{error}: no audio by TCP in this run");
                (None, 0)
            }
        };
        let room = usize::try_from(Limits::for_phones(descriptors) / 8).unwrap_or(usize::MAX);
        let max_nameless = MAX_NAMELESS.min(room.max(2));
        Self {
            open,
            run,
            conns: BTreeMap::new(),
            nameless: BTreeMap::new(),
            max_nameless,
            over: BTreeSet::new(),
            ended: Ended::default(),
        }
    }

    /// The TCP port for audio, if there is one.
    pub(super) fn port(&self) -> Option<u16> {
        self.open.as_ref().map(|(port, _)| *port)
    }

    /// Connections that are of no call.
    pub(super) fn strays(&self) -> usize {
        self.nameless.len() + self.over.len()
    }

    /// The connection that has to make room for one of `from`, if any: of its address, or of the address that
    /// has most.
    fn in_the_way(&self, from: IpAddr) -> Option<usize> {
        let of = |address: IpAddr| self.nameless.iter().filter(move |(_, it)| **it == address);
        let own = of(from).count();
        if own >= MAX_NAMELESS_OF_ADDRESS.min(self.max_nameless / 2 + 1) {
            return of(from).next().map(|(token, _)| *token);
        }
        if self.nameless.len() < self.max_nameless {
            return None;
        }
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        self.nameless.values().for_each(|address| *counts.entry(*address).or_default() += 1);
        let most = counts.into_iter().max_by_key(|(address, count)| (*count, *address))?.0;
        of(most).next().map(|(token, _)| *token)
    }

    /// The content of a token.
    pub(super) fn place(&self, token: &str) -> Option<Place> {
        self.open.as_ref()?.1.place(token)
    }

    /// The call of a token, if it is one of this run.
    fn call(&self, token: &str) -> Option<CallKey> {
        let CallName { run, call } = self.place(token)?.call;
        (run == self.run).then_some(CallKey(call))
    }

    /// The token of a call, as far as its files are durable.
    fn token(&self, key: CallKey, call: &Call) -> Option<String> {
        let (_, signer) = self.open.as_ref()?;
        let Mark { item, segment, octets } = call.tcp()?.durable;
        signer.token(&Place {
            call: CallName { run: self.run, call: key.0 },
            recording: RecordingMark::of(call.recording.id()),
            folder: call.recording.folder().name.clone(),
            item,
            segment,
            octets,
        })
    }
}

/// What a phone is told of a recording over TCP.
pub(super) fn granted(sessions: &Sessions, key: CallKey) -> Option<Granted> {
    let call = sessions.calls.get(key)?;
    let next = call.recording.items()?.next();
    Some(Granted { next, resume: sessions.streams.token(key, call)? })
}

/// A phone has connected for media.
pub(super) fn connected(sessions: &mut Sessions, stream: TcpStream, peer: SocketAddr, now: Now) {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    if sessions.going_down {
        return;
    }
    let address = prefix(peer.ip());
    if let Some(token) = sessions.streams.in_the_way(address) {
        tell(sessions, token, "others of its address wait, too", now.mono);
        remove(sessions, token);
    }
    let token = sessions.next_conn;
    sessions.next_conn += 1;
    let conn = MediaConn::new(stream, peer, now.mono).and_then(|mut conn| {
        conn.stream.socket_mut().register(&sessions.registry, Token(token), Interest::READABLE)?;
        Ok(conn)
    });
    match conn {
        Ok(conn) => {
            sessions.streams.conns.insert(token, conn);
            sessions.streams.nameless.insert(token, address);
            read(sessions, token, now);
        }
        Err(error) => log::debug!("media_connection_failed peer={peer}: {error}"),
    }
}

/// The socket of a connection that has not said whose it is has something.
pub(super) fn ready(sessions: &mut Sessions, token: usize, now: Now) {
    if sessions.streams.nameless.contains_key(&token) {
        read(sessions, token, now);
    }
}

/// Reads all connections of calls, and closes those that have been nameless for too long.
pub(super) fn sweep(sessions: &mut Sessions, now: Now) {
    let late = |conn: &MediaConn| now.mono.since(conn.since) >= HELLO_WITHIN;
    while let Some((&token, _)) = sessions.streams.nameless.first_key_value() {
        if !sessions.streams.conns.get(&token).is_none_or(late) {
            break;
        }
        tell(sessions, token, "it does not say whose it is", now.mono);
        remove(sessions, token);
    }
    let over: Vec<usize> = sessions.streams.over.iter().copied().collect();
    over.into_iter().for_each(|token| look_at_end(sessions, token, now.mono));
    let tokens: Vec<usize> = sessions.streams.conns.keys().copied().collect();
    for token in tokens {
        if !sessions.streams.nameless.contains_key(&token) {
            read(sessions, token, now);
        }
    }
    end_abandoned(sessions, now);
    let finishing = |(key, call): (CallKey, &Call)| call.tcp()?.finishing.as_ref().map(|_| key);
    let keys: Vec<CallKey> = sessions.calls.iter().filter_map(finishing).collect();
    keys.into_iter().for_each(|key| finish_if_due(sessions, key, now));
    let paused =
        sessions.calls.iter().filter(|(_, call)| call.recording.items().is_some_and(Items::is_paused));
    let controls: Vec<Control> = paused.map(|(_, call)| call.control).collect();
    controls.into_iter().for_each(|control| heard(sessions, control, now.mono));
}

/// Something of a call came, or it is known why nothing does.
fn heard(sessions: &mut Sessions, control: Control, now: Mono) {
    if let Control::Uplink(token) = control {
        sessions.conns.get_mut(&token).into_iter().for_each(|conn| conn.session.media(now));
    }
}

/// Whether octets read now could find no room: three quarters of the memory are in use, or the disk is far
/// behind.
fn is_short(sessions: &Sessions) -> bool {
    let pool = &sessions.pool;
    pool.used_octets() > pool.limit_octets() / 4 * 3 || sessions.storage.waiting() > MAX_WAITING_JOBS
}

fn read(sessions: &mut Sessions, token: usize, now: Now) {
    let mut buffer = [0; READ_OCTETS];
    for _ in 0..READ_BUDGET {
        let Some(conn) = sessions.streams.conns.get_mut(&token) else { return };
        let before = conn.call;
        if conn.over.is_some() {
            return;
        }
        if let Some(key) = before {
            let is_held = sessions.calls.get(key).and_then(Call::tcp).is_none_or(|tcp| tcp.is_held);
            if is_held || is_short(sessions) {
                return;
            }
        }
        let Some(conn) = sessions.streams.conns.get_mut(&token) else { return };
        let count = match conn.stream.flush().and_then(|_| conn.stream.read(&mut buffer)) {
            Ok(Some(count)) => count,
            Ok(None) => return,
            Err(error) => {
                tell(sessions, token, &error.to_string(), now.mono);
                return remove(sessions, token);
            }
        };
        if count == 0 {
            return remove(sessions, token);
        }
        let taken = take(sessions, token, buffer.get(..count).unwrap_or_default(), now);
        if let Err(problem) = taken {
            tell(sessions, token, &problem, now.mono);
            return remove(sessions, token);
        }
        let Some(conn) = sessions.streams.conns.get(&token) else { return };
        match (before, conn.call) {
            (None, Some(key)) => is_named(sessions, token, key, now.mono),
            (None, None) if conn.over.is_some() => is_of_ended(sessions, token),
            _ => {}
        }
        if count < buffer.len() {
            return;
        }
    }
}

/// Takes octets of a connection.
fn take(sessions: &mut Sessions, token: usize, octets: &[u8], now: Now) -> Result<(), String> {
    let Sessions { streams, calls, pool, .. } = sessions;
    let Some(mut conn) = streams.conns.remove(&token) else { return Ok(()) };
    let mut items = 0_u64;
    let result = take_frames(&mut conn, octets, streams, calls, pool, now, &mut items);
    let key = conn.call;
    streams.conns.insert(token, conn);
    let call = key.and_then(|key| calls.get(key));
    let control = call.map(|call| call.control);
    sessions.metrics.packets_received.inc_by(items);
    if let Some(control) = control.filter(|_| items > 0) {
        heard(sessions, control, now.mono);
    }
    result
}

fn take_frames(
    conn: &mut MediaConn,
    octets: &[u8],
    streams: &Streams,
    calls: &mut Calls,
    pool: &mut BlockPool,
    now: Now,
    items: &mut u64,
) -> Result<(), String> {
    let MediaConn { inlet, call: key, over, .. } = conn;
    let mut problem = None;
    let read = inlet.received(octets, |arrival| {
        if problem.is_some() {
            return;
        }
        if let Arrival::Hello { token, .. } = arrival {
            *key = streams.call(token);
            if key.is_some_and(|key| streams.ended.has(key)) {
                // Everything is there: the phone hears so by its control connection.
                *over = Some(now.mono + FINISH_WITHIN + LINGER);
                *key = None;
            }
        }
        if over.is_some() {
            return;
        }
        let call = key.and_then(|key| calls.get_mut(key)).filter(|call| call.tcp().is_some());
        let Some(call) = call else {
            problem = Some("it has no token of a recording that goes on".to_owned());
            return;
        };
        match call.recording.item(arrival, now.mono, pool) {
            Ok(is_new) => *items += u64::from(is_new),
            Err(error) => problem = Some(error.to_string()),
        }
    });
    match problem {
        Some(problem) => Err(problem),
        None => read.map_err(|error| error.to_string()),
    }
}

/// A connection has said that it is of this call: the sweep reads it from here on, in place of a former one.
fn is_named(sessions: &mut Sessions, token: usize, key: CallKey, now: Mono) {
    sessions.streams.nameless.remove(&token);
    if let Some(conn) = sessions.streams.conns.get_mut(&token) {
        let _ = conn.stream.socket_mut().deregister(&sessions.registry);
    }
    let tcp = sessions.calls.get_mut(key).and_then(Call::tcp_mut);
    let former = tcp.and_then(|tcp| tcp.conn.replace(token));
    close(sessions, former);
    // It may have been said on a connection that is gone.
    if sessions.calls.get(key).and_then(Call::tcp).is_some_and(|tcp| tcp.durable.item > 0) {
        acknowledge(sessions, key, now);
    }
}

/// A connection has said that it is of a call that is over.
fn is_of_ended(sessions: &mut Sessions, token: usize) {
    sessions.streams.nameless.remove(&token);
    sessions.streams.over.insert(token);
    if let Some(conn) = sessions.streams.conns.get_mut(&token) {
        let _ = conn.stream.socket_mut().deregister(&sessions.registry);
    }
    // As many as may be without a name. A phone that loses its own comes back, and hears the end.
    if sessions.streams.over.len() > sessions.streams.max_nameless {
        if let Some(oldest) = sessions.streams.over.first().copied() {
            remove(sessions, oldest);
        }
    }
}

/// Tells the phone of a call which of its items are durable.
fn acknowledge(sessions: &mut Sessions, key: CallKey, now: Mono) {
    let Sessions { streams, calls, .. } = sessions;
    let Some(call) = calls.get(key) else { return };
    let Some(token) = streams.token(key, call) else { return };
    let Some((conn, item)) = call.tcp().and_then(|tcp| Some((tcp.conn?, tcp.durable.item))) else { return };
    let sent = streams.conns.get_mut(&conn).map(|conn| conn.send(&ack(item, &token)));
    if let Some(Err(error)) = sent {
        tell(sessions, conn, &error.to_string(), now);
        remove(sessions, conn);
    }
}

/// Asks the disk, once at a time, whether what it was given of calls over TCP is durable.
pub(super) fn ask_disk(sessions: &mut Sessions) {
    let is_written = |(_, call): (CallKey, &Call)| call.tcp().is_some_and(|tcp| tcp.written.is_some());
    if !sessions.calls.iter().any(is_written) || !sessions.storage.confirm() {
        return;
    }
    sessions.calls.each(|call, _| {
        if let Some(tcp) = call.tcp_mut() {
            tcp.asked = tcp.written.take();
        }
    });
}

/// The disk has answered: what it was given before is durable, or may not be.
pub(super) fn confirmed(sessions: &mut Sessions, is_durable: bool, now: Now) {
    let is_asked = |(key, call): (CallKey, &Call)| call.tcp().and_then(|tcp| tcp.asked).map(|_| key);
    let keys: Vec<CallKey> = sessions.calls.iter().filter_map(is_asked).collect();
    for key in keys {
        let Some(tcp) = sessions.calls.get_mut(key).and_then(Call::tcp_mut) else { continue };
        let Some(mark) = tcp.asked.take().filter(|_| is_durable && !tcp.is_in_doubt) else { continue };
        tcp.durable = mark;
        acknowledge(sessions, key, now.mono);
    }
}

/// A line of the log about a connection that is closed.
fn tell(sessions: &mut Sessions, token: usize, problem: &str, now: Mono) {
    let Some(conn) = sessions.streams.conns.get(&token) else { return };
    let (peer, call) = (conn.peer, conn.call.and_then(|key| sessions.calls.get(key)));
    let id = call.map(|call| short(&call.id)).unwrap_or_default();
    sessions.gate.tell(peer.ip(), now, || {
        format!("media_connection_closed peer={peer} id={id:?} problem={problem:?}")
    });
}

/// The call of a media connection is over; the phone is about to hear of it.
pub(super) fn is_over(sessions: &mut Sessions, token: Option<usize>, now: Mono) {
    let conn = token.and_then(|token| Some((token, sessions.streams.conns.get_mut(&token)?)));
    if let Some((token, conn)) = conn {
        conn.over = Some(now + FINISH_WITHIN + LINGER);
        sessions.streams.over.insert(token);
    }
}

/// Closes a connection whose call is over once the phone has, or has had time to.
fn look_at_end(sessions: &mut Sessions, token: usize, now: Mono) {
    let mut buffer = [0; READ_OCTETS];
    let Some(conn) = sessions.streams.conns.get_mut(&token) else { return };
    let is_late = conn.over.is_none_or(|over| over <= now);
    let is_open = conn.stream.read(&mut buffer).is_ok_and(|count| count != Some(0));
    if is_late || !is_open {
        remove(sessions, token);
    }
}

/// Closes the media connection of a call.
fn close(sessions: &mut Sessions, token: Option<usize>) {
    if let Some(token) = token {
        remove(sessions, token);
    }
}

fn remove(sessions: &mut Sessions, token: usize) {
    let streams = &mut sessions.streams;
    let Some(mut conn) = streams.conns.remove(&token) else { return };
    streams.over.remove(&token);
    if streams.nameless.remove(&token).is_some() {
        let _ = conn.stream.socket_mut().deregister(&sessions.registry);
    }
    let tcp = conn.call.and_then(|key| sessions.calls.get_mut(key)).and_then(Call::tcp_mut);
    if let Some(tcp) = tcp.filter(|tcp| tcp.conn == Some(token)) {
        tcp.conn = None;
    }
}

/// The phone has ended its recording, which has `items` in all.
pub(super) fn finish_after(
    sessions: &mut Sessions,
    token: usize,
    items: u64,
    reason: EndReason,
    parties: Parties,
    now: Now,
) {
    let Some(conn) = sessions.conns.get(&token) else { return };
    let (key, ended) = (conn.call, conn.ended);
    let tcp = key.and_then(|key| sessions.calls.get_mut(key)).and_then(Call::tcp_mut);
    let (Some(key), Some(tcp)) = (key, tcp) else {
        match ended.map(|key| sessions.streams.ended.ask(key, token)) {
            Some(State::Closing) => {}
            Some(State::Kept) => answer_one(sessions, token, true, now),
            Some(State::Unknown) | None => answer_one(sessions, token, false, now),
        }
        return;
    };
    let until = now.mono + FINISH_WITHIN;
    tcp.finishing = Some(Finishing { items, reason, parties, until, conn: token });
    if let Some(media) = tcp.conn {
        read(sessions, media, now);
    }
    finish_if_due(sessions, key, now);
}

/// Ends a call that the phone has ended, if all of its items are there or are not waited for any more.
fn finish_if_due(sessions: &mut Sessions, key: CallKey, now: Now) {
    let Some(call) = sessions.calls.get_mut(key) else { return };
    let next = call.recording.items().map(Items::next).unwrap_or_default();
    let Some(tcp) = call.tcp_mut() else { return };
    let due = |it: &mut Finishing| next >= it.items || it.until <= now.mono;
    let media = tcp.conn;
    let Some(Finishing { items, reason, parties, conn, .. }) = tcp.finishing.take_if(due) else { return };
    let is_complete = next >= items;
    if !is_complete {
        log::warn!("items_missing id={:?} items={items} came={next}", short(&call.id));
    }
    let has_audio = call.recording.octets() > 0;
    if let Some(conn) = sessions.conns.get_mut(&conn) {
        conn.call = None;
    }
    if is_complete {
        sessions.streams.ended.add(key, items);
    }
    let file = sessions.stop_call(key, (&reason, Some(parties)), now);
    match file.and_then(|file| sessions.storage.last(file)) {
        Some(last) => last.answer = Some(Answer { call: key, conn, media, is_complete }),
        // There was nothing to be kept, or it failed before.
        None => {
            let is_complete = is_complete && !has_audio;
            answer(sessions, Answer { call: key, conn, media, is_complete }, now);
        }
    }
}

/// The recording that a connection has ended is on the disk, or can't be brought there.
pub(super) fn answer(sessions: &mut Sessions, answer: Answer, now: Now) {
    let Answer { call, conn, media, is_complete } = answer;
    let other = sessions.streams.ended.is_closed(call, is_complete);
    for token in [Some(conn), other].into_iter().flatten() {
        answer_one(sessions, token, is_complete, now);
    }
    if let Some(media) = media.and_then(|media| sessions.streams.conns.get_mut(&media)) {
        media.over = Some(now.mono + LINGER);
    }
}

fn answer_one(sessions: &mut Sessions, token: usize, is_kept: bool, now: Now) {
    let outcome = if is_kept { Outcome::Success } else { Outcome::Failed };
    sessions.drive(token, now, |session, out| session.finished(outcome, now.mono, out));
    if let Some(conn) = sessions.conns.get_mut(&token).filter(|conn| conn.call.is_none()) {
        conn.since = now.mono;
        sessions.gate.is_silent(token, conn.peer.ip(), conn.since);
    }
}

/// The control connection of a call is gone: the call waits for the phone.
pub(super) fn detach(sessions: &mut Sessions, token: usize, now: Now) {
    let key = sessions.conns.get_mut(&token).and_then(|conn| conn.call.take());
    let Some(call) = key.and_then(|key| sessions.calls.get_mut(key)) else { return };
    call.control = Control::Gone(now.mono);
    let (id, peer) = (short(&call.id), call.peer);
    sessions.gate.tell_of_call(peer.ip(), now.mono, || format!("session_interrupted id={id:?} peer={peer}"));
}

/// Ends calls whose phone has been gone for too long.
fn end_abandoned(sessions: &mut Sessions, now: Now) {
    let Sessions { calls, conns, .. } = sessions;
    calls.each(|call, _| match call.control {
        // The phone has gone while it was ending it.
        Control::Uplink(token) if call.tcp().is_some() && !conns.contains_key(&token) => {
            call.control = Control::Gone(now.mono);
        }
        Control::Uplink(_) | Control::Gone(_) => {}
    });
    let within = sessions.config.resume_within;
    let is_late = |(key, call): (CallKey, &Call)| match call.control {
        Control::Gone(since) => (now.mono.since(since) >= within).then_some(key),
        Control::Uplink(_) => None,
    };
    let late: Vec<CallKey> = sessions.calls.iter().filter_map(is_late).collect();
    for key in late {
        sessions.stop_call(key, (&EndReason::ConnectionLost, None), now);
    }
}

/// A phone that comes back to a recording of this run; `None` if it does not, or there is none.
pub(super) fn resume(sessions: &mut Sessions, token: usize, opening: &Opening, now: Now) -> Option<Granted> {
    let resume = opening.extension.as_ref()?.resume.as_ref()?;
    let key = sessions.streams.call(resume)?;
    if let Some(items) = sessions.streams.ended.items(key) {
        sessions.conns.get_mut(&token)?.ended = Some(key);
        return Some(Granted { next: items, resume: resume.clone() });
    }
    take_over(sessions, token, key, now)
}

/// A call goes on with this control connection, in place of a former one.
pub(super) fn take_over(sessions: &mut Sessions, token: usize, key: CallKey, now: Now) -> Option<Granted> {
    let call = sessions.calls.get_mut(key)?;
    call.tcp_mut()?.finishing = None;
    let former = std::mem::replace(&mut call.control, Control::Uplink(token));
    let (id, peer) = (short(&call.id), call.peer);
    if let Control::Uplink(former) = former {
        if let Some(conn) = sessions.conns.get_mut(&former) {
            conn.call = None;
        }
        sessions.drive(former, now, |session, out| session.peer_closed(now.mono, out));
        sessions.remove(former);
    }
    let conn = sessions.conns.get_mut(&token)?;
    conn.call = Some(key);
    sessions.gate.is_not_silent(token, conn.since);
    sessions.gate.tell_of_call(peer.ip(), now.mono, || format!("session_resumed id={id:?} peer={peer}"));
    granted(sessions, key)
}
