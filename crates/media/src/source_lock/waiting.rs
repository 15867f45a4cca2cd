//! Packets that wait for their sender to be believed.
//!
//! Owns: their order. They are kept as they come, and handed out as they were sent. Invariant: memory is
//! bounded.

use super::voice::{ANEW_AFTER, MAX_BEHIND};
use crate::time::Mono;
use crate::units::SeqNo;

/// Octets of waiting packets: about a second of a call.
const MAX_WAITING_OCTETS: usize = 8192;

/// Datagrams that wait, in the order in which they came until they are put in order.
#[derive(Debug, Default)]
pub struct Waiting {
    places: Vec<Place>,
    octets: Vec<u8>,
}

/// The place of a datagram among the octets.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    end: usize,
    seq: SeqNo,
    arrival: Mono,
}

impl Place {
    /// Whether `self` was sent before `before`, which came first.
    fn was_overtaken_by(&self, before: &Self) -> bool {
        (-MAX_BEHIND..0).contains(&self.seq.packets_since(before.seq))
            && self.arrival.since(before.arrival) <= ANEW_AFTER
    }
}

impl Waiting {
    /// Each datagram, and when it arrived.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Mono)> {
        self.places.iter().filter_map(|place| {
            self.octets.get(place.start..place.end).map(|datagram| (datagram, place.arrival))
        })
    }

    /// Number of datagrams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Keeps a copy. If there is no room, the older half goes; returns how many went.
    pub fn push(&mut self, datagram: &[u8], seq: SeqNo, arrival: Mono) -> u64 {
        let mut gone = 0;
        if !self.has_room(datagram) {
            gone = self.forget_half();
        }
        if !self.has_room(datagram) {
            gone += self.clear();
        }
        if datagram.len() > MAX_WAITING_OCTETS {
            return gone + 1;
        }
        let start = self.octets.len();
        self.octets.extend_from_slice(datagram);
        self.places.push(Place { start, end: self.octets.len(), seq, arrival });
        gone
    }

    /// Puts packets that were overtaken before those that overtook them. The times of arrival stay where they
    /// are: the receiver of the packets expects a clock that does not run back.
    pub(super) fn put_in_order(&mut self) {
        let arrivals: Vec<Mono> = self.places.iter().map(|place| place.arrival).collect();
        for index in 1..self.places.len() {
            let Some((before, [place, ..])) = self.places.split_at_checked(index) else { break };
            let overtook = before.iter().rev().take_while(|before| place.was_overtaken_by(before)).count();
            if let Some(turned) = self.places.get_mut(index - overtook..=index) {
                turned.rotate_right(1);
            }
        }
        for (place, arrival) in self.places.iter_mut().zip(arrivals) {
            place.arrival = arrival;
        }
    }

    /// Whether there is room for `datagram` beside the waiting ones.
    pub(super) fn has_room(&self, datagram: &[u8]) -> bool {
        self.octets.len() + datagram.len() <= MAX_WAITING_OCTETS
    }

    pub(super) fn octets(&self) -> usize {
        self.octets.len()
    }

    /// The older half goes; returns how many went.
    pub(super) fn forget_half(&mut self) -> u64 {
        let count = self.places.len().div_ceil(2);
        let start = count.checked_sub(1).and_then(|last| self.places.get(last)).map_or(0, |place| place.end);
        self.octets.drain(..start);
        self.places.drain(..count);
        for place in &mut self.places {
            place.start -= start;
            place.end -= start;
        }
        count as u64
    }

    /// Empties it; returns how many there were.
    pub(super) fn clear(&mut self) -> u64 {
        let gone = self.places.len() as u64;
        self.places.clear();
        self.octets.clear();
        gone
    }
}
