//! The sender of the call: one, known by address, port and SSRC.
//!
//! A sender is taken after a probation of [`PROBATION_PACKETS`] in sequence; until then its packets wait
//! here, so that none of an honest one is lost, and are handed out as they were sent. Others are strangers:
//! counted, and kept out. Of two that compete the more continuous one has the call; bursts do not help,
//! because only the number of `SLOT`s counts in which a sender was heard in sequence.
//!
//! Owns: the sender, its rivals and their waiting packets, the count of strangers. Never: sockets; the shell
//! connects one to [`SourceLock::source`], so that the kernel keeps strangers out, and must still see the
//! others when the sender falls silent. Invariants: a sender that goes on is not displaced by a less
//! continuous one; every packet is handed out once, or is a stranger; memory is bounded, and the packets of
//! the sender allocate nothing.

mod voice;
mod waiting;

pub use waiting::Waiting;

use crate::packet::Packet;
use crate::time::Mono;
use crate::units::{SeqNo, Ssrc};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use voice::{SLOT, Voice};

/// Packets in sequence after which a sender is believed.
pub const PROBATION_PACKETS: u32 = 3;

/// Time after which a sender that passes no probation, and has no rival, is taken for the call; earlier if
/// its waiting packets have no more room.
pub const PROBATION_TIME: Duration = Duration::from_secs(1);

/// A sender that was heard for less time in all (10 slots: 1.6 s) may be a stranger that came first.
const ESTABLISHED_SLOTS: u32 = 10;

/// Slots that a rival of a sender that is not established has to be ahead by.
const AHEAD_SLOTS: u32 = 2;

/// The silence of its present SSRC after which the same address and port may go on with another one.
const NEW_SSRC_AFTER: Duration = Duration::from_millis(200);

/// The silence after which the same address and SSRC may go on from another port (a NAT has moved it).
const NEW_PORT_AFTER: Duration = Duration::from_millis(100);

/// Largest lead of the sequence numbers of a moved port: 10 s.
const GOES_ON_PACKETS: i32 = 512;

/// Longest time that packets still come that were under way when their port moved.
const STRAGGLERS: Duration = Duration::from_secs(1);

/// Rivals that are looked at.
const MAX_RIVALS: usize = 8;

/// Octets that wait, of all rivals together: two seconds of a call.
const MAX_WAITING_OCTETS: usize = 16 << 10;

/// The silence after which a rival is none.
const RIVAL_EXPIRES: Duration = Duration::from_secs(2);

/// A former sender may come back within this time, and is as continuous as it was.
const FORMER_EXPIRES: Duration = Duration::from_secs(10);

/// The parameters that differ between programs.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Only this address may send; `None`: any.
    pub only: Option<IpAddr>,
    /// Silence of the sender after which any other one may take over, by the same probation.
    pub takeover_after: Duration,
}

/// The decision on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is the call's.
    Ours,
    /// Its sender has the call now. The packets of [`SourceLock::take_held`] come before it.
    Taken,
    /// It waits here until more is known of its sender.
    Held,
    /// It is not the call's, and counted among the strangers.
    Stranger,
}

/// The newest packet of a sender.
#[derive(Clone, Copy, Debug)]
pub struct LastHeard {
    /// The address it came from.
    pub source: SocketAddr,
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// Its sequence number.
    pub seq: SeqNo,
    /// When the sender was heard last.
    pub at: Mono,
}

/// The sender of one recording.
#[derive(Debug)]
pub struct SourceLock {
    rules: Rules,
    sender: Option<Sender>,
    rivals: Vec<Rival>,
    /// The packets of the sender that was taken last, to be fetched.
    held: Waiting,
    /// The address from which a NAT has moved the sender, and the time.
    moved: Option<(SocketAddr, Mono)>,
    strangers: u64,
    /// The call went from one sender to another one.
    displaced: bool,
    /// Whoever sends is the sender.
    trusts: bool,
}

#[derive(Debug)]
struct Sender {
    voice: Voice,
    /// Taken by probation, and heard for long enough.
    established: bool,
}

#[derive(Debug, Default)]
struct Rival {
    /// `None` while the place is free; its memory is used again.
    voice: Option<Voice>,
    waiting: Waiting,
}

impl SourceLock {
    /// Nobody has sent yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let only = rules.only.map(|ip| ip.to_canonical());
        Self {
            rules: Rules { only, ..rules },
            sender: None,
            rivals: Vec::new(),
            held: Waiting::default(),
            moved: None,
            strangers: 0,
            displaced: false,
            trusts: false,
        }
    }

    /// Whoever sends is the sender, without a probation: somebody else has made sure of it.
    pub fn trust(&mut self) {
        self.trusts = true;
    }

    /// The address of the call's sender.
    #[must_use]
    pub fn source(&self) -> Option<SocketAddr> {
        self.sender.as_ref().map(|sender| sender.voice.source)
    }

    /// The time for which the sender has been silent; `None` if there is none.
    #[must_use]
    pub fn silent_for(&self, now: Mono) -> Option<Duration> {
        self.sender.as_ref().map(|sender| now.since(sender.voice.last))
    }

    /// The sender of the call, and its newest packet.
    #[must_use]
    pub fn last_heard(&self) -> Option<LastHeard> {
        let Voice { source, ssrc, seq, last: at, .. } = self.sender.as_ref()?.voice;
        Some(LastHeard { source, ssrc, seq, at })
    }

    /// Whether the sender has been heard for long enough to be no stranger that came first.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.sender.as_ref().is_some_and(|sender| sender.established)
    }

    /// Packets that wait until more is known of their senders.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.rivals.iter().map(|rival| rival.waiting.len() as u64).sum()
    }

    /// Whether another one may become the sender.
    #[must_use]
    pub fn has_rivals(&self) -> bool {
        self.rivals.iter().any(|rival| rival.voice.is_some())
    }

    /// Packets that were not the call's.
    #[must_use]
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Counts `packets` that the shell kept out by itself.
    pub fn add_strangers(&mut self, packets: u64) {
        self.strangers = self.strangers.saturating_add(packets);
    }

    /// Whether others than the call's sender have sent.
    #[must_use]
    pub fn is_contested(&self) -> bool {
        self.displaced || self.strangers > 0
    }

    /// Takes a datagram of `source` that is no packet of a stream (no RTP, or RTCP). True if it came from the
    /// call's sender, or from one that may become it; else it is a stranger's.
    pub fn admits_other(&mut self, source: SocketAddr) -> bool {
        let source = canonical(source);
        let foreign = self.rules.only.is_some_and(|only| only != source.ip());
        let ours = !foreign && self.sender.as_ref().is_none_or(|sender| sender.voice.key == source);
        self.strangers += u64::from(!ours);
        ours
    }

    /// Takes a packet that arrived at `arrival`; `datagram` is all of it.
    #[inline]
    pub fn admit(
        &mut self,
        datagram: &[u8],
        packet: &Packet<'_>,
        source: SocketAddr,
        arrival: Mono,
    ) -> Admission {
        if let Some(sender) = &mut self.sender {
            let voice = &sender.voice;
            let same = source == voice.source || canonical(source) == voice.key;
            if same && voice.ssrc == packet.ssrc {
                sender.voice.hear(packet.seq, arrival);
                if !sender.established {
                    sender.established = sender.voice.slots(arrival) >= ESTABLISHED_SLOTS;
                }
                return Admission::Ours;
            }
        }
        self.admit_other_sender(datagram, packet, source, arrival)
    }

    fn admit_other_sender(
        &mut self,
        datagram: &[u8],
        packet: &Packet<'_>,
        source: SocketAddr,
        arrival: Mono,
    ) -> Admission {
        let key = canonical(source);
        if self.trusts {
            let voice = Voice::new(key, source, packet.ssrc, packet.seq, arrival);
            self.sender = Some(Sender { voice, established: true });
            return Admission::Ours;
        }
        if self.rules.only.is_some_and(|only| only != key.ip()) {
            self.strangers += 1;
            return Admission::Stranger;
        }
        if self.is_straggler(key, packet.ssrc, packet.seq, arrival) {
            return Admission::Ours;
        }
        self.expire(arrival);
        let Some(index) = self.rival(key, packet.ssrc) else {
            return self.new_rival(datagram, packet, source, arrival);
        };
        let wins = match self.rivals.get_mut(index).and_then(|rival| rival.voice.as_mut()) {
            Some(voice) => {
                voice.hear(packet.seq, arrival);
                let voice = &*voice;
                self.sender.as_ref().map_or(voice.run >= PROBATION_PACKETS, |sender| {
                    voice.run >= PROBATION_PACKETS && self.rules.displaces(voice, sender, arrival)
                })
            }
            None => false,
        };
        if wins || self.is_full_and_alone(index, datagram) {
            self.take(index, arrival);
            return Admission::Taken;
        }
        self.hold(index, datagram, packet.seq, arrival);
        Admission::Held
    }

    /// Whether nobody has the call, only the rival at `index` has sent, and there is no room for another
    /// packet of it.
    fn is_full_and_alone(&self, index: usize, datagram: &[u8]) -> bool {
        let voices = self.rivals.iter().filter(|rival| rival.voice.is_some()).count();
        let has_room = self.rivals.get(index).is_none_or(|rival| rival.waiting.has_room(datagram));
        self.sender.is_none() && voices == 1 && !has_room
    }

    /// Keeps a packet of the rival at `index`. If there is no room, the one with most of it loses its older
    /// half.
    fn hold(&mut self, index: usize, datagram: &[u8], seq: SeqNo, arrival: Mono) {
        let Some(rival) = self.rivals.get_mut(index) else { return };
        self.strangers += rival.waiting.push(datagram, seq, arrival);
        let waiting: usize = self.rivals.iter().map(|rival| rival.waiting.octets()).sum();
        if waiting > MAX_WAITING_OCTETS {
            let largest = self.rivals.iter_mut().max_by_key(|rival| rival.waiting.octets());
            self.strangers += largest.map_or(0, |rival| rival.waiting.forget_half());
        }
    }

    /// The packets that waited for their sender to be taken, in the order in which they were sent.
    pub fn take_held(&mut self) -> Waiting {
        std::mem::take(&mut self.held)
    }

    /// Looks at the waiting packets, at `now`. True if a sender that has no rival was taken although it sent
    /// too little for a probation: [`Self::take_held`] has its packets.
    pub fn tick(&mut self, now: Mono) -> bool {
        self.expire(now);
        if self.sender.is_some() {
            return false;
        }
        let mut voices = self.rivals.iter().filter_map(|rival| rival.voice.as_ref());
        let alone = match (voices.next(), voices.next()) {
            (Some(voice), None) => now.since(voice.first) >= PROBATION_TIME,
            _ => false,
        };
        alone && self.settle(now)
    }

    /// No more packets come, or a pause begins: a possible sender is taken for the sender. True if
    /// [`Self::take_held`] has its packets; all others are strangers from here on.
    pub fn settle(&mut self, now: Mono) -> bool {
        let best = match &self.sender {
            // Perhaps a change of SSRC or port that was about to be believed.
            Some(sender) => self.best(|voice| {
                voice.first >= sender.voice.last && (sender.is_same_port(voice) || sender.goes_on_at(voice))
            }),
            None => self.best(|_| true),
        };
        if let Some(index) = best {
            self.take(index, now);
        }
        for rival in &mut self.rivals {
            if rival.voice.take().is_some() {
                self.strangers += rival.waiting.clear();
            }
        }
        best.is_some()
    }

    /// The rival with the most packets in sequence; of equal ones the first.
    fn best(&self, fits: impl Fn(&Voice) -> bool) -> Option<usize> {
        let fitting = self.rivals.iter().enumerate().filter_map(|(index, rival)| {
            rival.voice.as_ref().filter(|voice| fits(voice)).map(|voice| (index, voice))
        });
        let best = fitting.max_by_key(|(_, voice)| (voice.run, std::cmp::Reverse(voice.first)));
        best.map(|(index, _)| index)
    }

    /// The rival at `index` has the call from here on; the sender so far is its rival.
    fn take(&mut self, index: usize, now: Mono) {
        let Some(rival) = self.rivals.get_mut(index) else { return };
        let Some(voice) = rival.voice.take() else { return };
        std::mem::swap(&mut self.held, &mut rival.waiting);
        self.held.put_in_order();
        self.strangers += rival.waiting.clear();
        let established = voice.slots(now) >= ESTABLISHED_SLOTS;
        let Some(last) = self.sender.replace(Sender { voice, established }) else { return };
        let Some(sender) = &mut self.sender else { return };
        let moved = sender.goes_on_from(&last);
        let turned = last.is_same_port(&sender.voice) && now.since(last.voice.last) >= NEW_SSRC_AFTER;
        self.displaced |= !moved && !turned;
        if moved || last.is_same_port(&sender.voice) {
            sender.voice.inherit(&last.voice);
            sender.established |= last.established;
        }
        if moved {
            self.moved = Some((last.voice.key, now));
        } else if let Some(rival) = self.rivals.get_mut(index) {
            // It may come back.
            rival.voice = Some(last.voice.retired());
        }
    }

    /// A packet that was under way when a NAT moved the sender.
    fn is_straggler(&self, key: SocketAddr, ssrc: Ssrc, seq: SeqNo, arrival: Mono) -> bool {
        let (Some(sender), Some((from, at))) = (&self.sender, self.moved) else { return false };
        let behind = seq.packets_since(sender.voice.seq);
        key == from
            && ssrc == sender.voice.ssrc
            && (-GOES_ON_PACKETS..=0).contains(&behind)
            && arrival.since(at) < STRAGGLERS
    }

    fn rival(&self, key: SocketAddr, ssrc: Ssrc) -> Option<usize> {
        self.rivals.iter().position(|rival| rival.voice.as_ref().is_some_and(|voice| voice.is(key, ssrc)))
    }

    /// The first packet of a new rival. If there is no place, the rival with the shortest run is dropped, of
    /// equal ones the last: so a flood of new senders does not push out one that is about to be believed.
    fn new_rival(
        &mut self,
        datagram: &[u8],
        packet: &Packet<'_>,
        source: SocketAddr,
        arrival: Mono,
    ) -> Admission {
        let free = self.rivals.iter().position(|rival| rival.voice.is_none());
        let index = free.or_else(|| {
            if self.rivals.len() < MAX_RIVALS {
                self.rivals.push(Rival::default());
                return Some(self.rivals.len() - 1);
            }
            let runs = self.rivals.iter().enumerate().filter_map(|(index, rival)| {
                let voice = rival.voice.as_ref()?;
                (voice.run <= 1 && voice.slots(arrival) <= 1).then_some((index, voice.last))
            });
            runs.max_by_key(|(_, last)| *last).map(|(index, _)| index)
        });
        let Some(rival) = index.and_then(|index| self.rivals.get_mut(index)) else {
            self.strangers += 1;
            return Admission::Stranger;
        };
        self.strangers += rival.waiting.clear();
        rival.voice = Some(Voice::new(canonical(source), source, packet.ssrc, packet.seq, arrival));
        if let Some(index) = index {
            self.hold(index, datagram, packet.seq, arrival);
        }
        Admission::Held
    }

    /// Rivals that are silent are none; before there is a sender, the last one stays.
    fn expire(&mut self, now: Mono) {
        let mut voices = self.rivals.iter().filter(|rival| rival.voice.is_some()).count();
        if voices == 0 {
            return;
        }
        for rival in &mut self.rivals {
            let silent = rival.voice.as_ref().is_some_and(|voice| {
                now.since(voice.last) >= if voice.former { FORMER_EXPIRES } else { RIVAL_EXPIRES }
            });
            if silent && (self.sender.is_some() || voices > 1) {
                rival.voice = None;
                voices -= 1;
                self.strangers += rival.waiting.clear();
            }
        }
    }
}

impl Sender {
    fn is_same_port(&self, other: &Voice) -> bool {
        other.key == self.voice.key
    }

    /// Whether it is `last` behind another port of its NAT.
    fn goes_on_from(&self, last: &Self) -> bool {
        self.voice.ssrc == last.voice.ssrc && self.voice.key.ip() == last.voice.key.ip()
    }

    /// Whether `other` may be this sender behind another port of its NAT.
    fn goes_on_at(&self, other: &Voice) -> bool {
        other.key.ip() == self.voice.key.ip()
            && other.ssrc == self.voice.ssrc
            && (1..=GOES_ON_PACKETS).contains(&other.seq.packets_since(self.voice.seq))
            && (-voice::MAX_SKIP..=GOES_ON_PACKETS).contains(&other.first_seq.packets_since(self.voice.seq))
            // Not one that has been sending beside it.
            && self.voice.last.since(other.first) < NEW_PORT_AFTER
    }
}

impl Rules {
    /// Whether `rival`, which passed its probation, has the call rather than `sender`.
    fn displaces(&self, rival: &Voice, sender: &Sender, now: Mono) -> bool {
        let silent = now.since(sender.voice.last);
        if silent >= self.takeover_after
            || (sender.is_same_port(rival) && silent >= NEW_SSRC_AFTER)
            || (sender.goes_on_at(rival) && silent >= NEW_PORT_AFTER)
        {
            return true;
        }
        if rival.ssrc == sender.voice.ssrc {
            // Nobody knows the SSRC of a call before it begins: it is the sender's own that came first.
            return false;
        }
        // One that had the call at this very port is compared with the sender's packets since then; others
        // with all packets from there.
        let (own, established) = if rival.former && sender.is_same_port(rival) {
            (sender.voice.own(), sender.voice.own().slots(now) >= ESTABLISHED_SLOTS)
        } else {
            (sender.voice, sender.established)
        };
        if !established {
            return rival.slots(now) >= own.slots(now) + AHEAD_SLOTS;
        }
        let window = u32::try_from(self.takeover_after.as_millis() / SLOT.as_millis()).unwrap_or(u32::MAX);
        let window = window.clamp(1, voice::MAX_SLOTS);
        let (more, less) = (rival.slots_in(window, now), own.slots_in(window, now));
        // A former sender may be less continuous than that: it was silent for the moment in which it lost the
        // call.
        let enough = if rival.former { window / 2 } else { window - window / 16 };
        more >= enough && less <= more / 2
    }
}

/// One host is one address, also where an IPv6 socket shows its IPv4 address as a mapped one.
fn canonical(source: SocketAddr) -> SocketAddr {
    SocketAddr::new(source.ip().to_canonical(), source.port())
}

#[cfg(test)]
mod tests;
