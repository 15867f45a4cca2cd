//! The media connection of a recording with the extension: its items, and how much of them is on its way.
//!
//! Owns: the outlet, the window of octets under way, the words of one connection. Never: sockets, when to try
//! again. Invariant: at most [`WINDOW_OCTETS`] are under way, so that the socket takes what is handed to it.

use media::blocks::BlockPool;
use uplink::media_stream::outlet::Outlet;
use uplink::media_stream::{Acks, FrameError, hello};
use uplink::message::extension::Granted;
use uplink::phone::Generation;

/// Octets under way: four times what a call of ten hours an hour would need between two acknowledgements, and
/// what the socket keeps if the network takes nothing.
pub(in crate::agent) const WINDOW_OCTETS: usize = 256 * 1024;

/// The first octet of RTP version 2 (RFC 3550, section 5.1) is not below this.
const FIRST_OF_RTP: u8 = 0x80;

/// Octets handed over at once.
const BATCH_OCTETS: usize = 32 * 1024;

#[derive(Debug)]
enum State {
    /// There is none.
    Down,
    /// It is being made, and will begin with this frame.
    Connecting {
        generation: Generation,
        hello: Vec<u8>,
    },
    Up {
        generation: Generation,
    },
}

/// The media connection of one recording.
#[derive(Debug)]
pub(in crate::agent) struct MediaLink {
    outlet: Outlet,
    acks: Acks,
    state: State,
    generation: Generation,
    /// Octets that may wait.
    most_octets: usize,
}

impl MediaLink {
    /// No connection yet; at most `most_octets` may wait.
    pub(in crate::agent) fn new(most_octets: usize) -> Self {
        Self {
            outlet: Outlet::default(),
            acks: Acks::default(),
            state: State::Down,
            generation: Generation::default(),
            most_octets,
        }
    }

    /// The server expects media: what a new connection is to be called.
    ///
    /// # Errors
    /// The server wants an item that never was.
    pub(in crate::agent) fn begin(&mut self, granted: &Granted) -> Result<Generation, FrameError> {
        // A server that has lost items that it had acknowledged gets what there is.
        let next = granted.next.max(self.outlet.first());
        self.outlet.rewind(next)?;
        self.generation = Generation(self.generation.0.wrapping_add(1));
        self.acks = Acks::default();
        self.state = State::Connecting { generation: self.generation, hello: hello(next, &granted.resume) };
        Ok(self.generation)
    }

    /// The connection stands; gives its first octets.
    pub(in crate::agent) fn connected(&mut self, made: Generation) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.state, State::Down) {
            State::Connecting { generation, hello } if generation == made => {
                self.state = State::Up { generation };
                Some(hello)
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// Whether a connection of this generation is meant, made or in the making.
    pub(in crate::agent) fn is_meant(&self, said: Generation) -> bool {
        match &self.state {
            State::Down => false,
            State::Connecting { generation, .. } | State::Up { generation } => *generation == said,
        }
    }

    /// The connection is gone, or given up.
    pub(in crate::agent) fn cut(&mut self) {
        self.state = State::Down;
        self.outlet.is_cut();
    }

    /// Takes a packet. False if there is no room. Other datagrams of the call, such as a key exchange, are no items.
    pub(in crate::agent) fn packet(&mut self, rtp: &[u8], at_ms: u64, pool: &mut BlockPool) -> bool {
        if rtp.first().is_none_or(|first| *first < FIRST_OF_RTP) {
            return true;
        }
        let has_room = self.outlet.octets() + rtp.len() <= self.most_octets
            && pool.used_octets() <= pool.limit_octets() / 4 * 3;
        has_room && self.outlet.packet(rtp, wrapped(at_ms), pool)
    }

    /// A pause begins.
    pub(in crate::agent) fn pause(&mut self, at_ms: u64, pool: &mut BlockPool) {
        self.outlet.pause(wrapped(at_ms), pool);
    }

    /// A pause ends.
    pub(in crate::agent) fn resume(&mut self, at_ms: u64, pool: &mut BlockPool) {
        self.outlet.resume(wrapped(at_ms), pool);
    }

    /// The next octets to be sent, if any can be.
    pub(in crate::agent) fn next_batch(&mut self) -> Option<Vec<u8>> {
        let State::Up { .. } = self.state else { return None };
        let most = BATCH_OCTETS.min(WINDOW_OCTETS.saturating_sub(self.outlet.in_flight()));
        let batch = self.outlet.unsent(most);
        self.outlet.note_sent(batch.len());
        (!batch.is_empty()).then_some(batch)
    }

    /// Octets came from the server; gives its last token.
    ///
    /// # Errors
    /// They are no acknowledgements of these items.
    pub(in crate::agent) fn received(
        &mut self,
        octets: &[u8],
        pool: &mut BlockPool,
    ) -> Result<Option<String>, FrameError> {
        let Self { acks, outlet, .. } = self;
        let mut last = None;
        let mut wrong = Ok(());
        acks.received(octets, |next, token| match outlet.acknowledge(next, pool) {
            Ok(()) => last = Some(token.to_owned()),
            Err(error) => wrong = Err(error),
        })?;
        wrong.map(|()| last)
    }

    /// Whether little more can wait, of this recording or of all.
    pub(in crate::agent) fn is_almost_full(&self, pool: &BlockPool) -> bool {
        self.outlet.octets() > self.most_octets / 8 * 7 || pool.used_octets() > pool.limit_octets() / 8 * 5
    }

    /// The items.
    pub(in crate::agent) fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// Hands out the items that the server has not got, as [`Outlet::replay`] does.
    pub(in crate::agent) fn replay(
        &mut self,
        pool: &mut BlockPool,
        take: impl FnMut(u32, Option<&[u8]>, &mut BlockPool),
    ) {
        self.cut();
        self.outlet.replay(pool, take);
    }

    /// Gives the memory back.
    pub(in crate::agent) fn clear(&mut self, pool: &mut BlockPool) {
        self.cut();
        self.outlet.clear(pool);
    }
}

/// As items have it: it begins anew after 49 days.
fn wrapped(at_ms: u64) -> u32 {
    u32::try_from(at_ms & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(next: u64) -> Granted {
        Granted { next, resume: "t".into() }
    }

    fn filled(packets: u64, pool: &mut BlockPool) -> MediaLink {
        let mut link = MediaLink::new(1 << 20);
        for number in 0..packets {
            assert!(link.packet(&[0x80; 172], number * 20, pool));
        }
        link
    }

    #[test]
    fn media_link_sends_nothing_before_it_is_connected_and_a_window_at_most_then() {
        let mut pool = BlockPool::new(1 << 20);
        let mut link = filled(3000, &mut pool);
        assert_eq!(link.next_batch(), None);
        let generation = link.begin(&granted(0)).expect("the first item");
        assert_eq!(link.next_batch(), None);
        assert_eq!(link.connected(Generation(77)), None);
        assert_eq!(link.connected(generation), Some(hello(0, "t")));
        let mut sent = 0;
        while let Some(batch) = link.next_batch() {
            sent += batch.len();
        }
        assert_eq!(sent, WINDOW_OCTETS);
        let token =
            link.received(&uplink::media_stream::ack(1000, "u"), &mut pool).expect("an acknowledgement");
        assert_eq!(token.as_deref(), Some("u"));
        assert!(link.next_batch().is_some());
    }

    #[test]
    fn media_link_takes_a_key_exchange_for_no_item() {
        let mut pool = BlockPool::new(1 << 20);
        let mut link = MediaLink::new(1 << 20);
        for datagram in [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[22, 254, 253], &[]] {
            assert!(link.packet(datagram, 0, &mut pool));
        }
        assert_eq!(link.outlet().items(), 0);
    }

    #[test]
    fn media_link_leaves_a_quarter_of_the_memory_to_others() {
        let mut pool = BlockPool::new(1 << 20);
        let (mut one, mut other) = (MediaLink::new(3 << 18), MediaLink::new(3 << 18));
        let taken = (0..10_000).take_while(|&at| {
            one.packet(&[0x80; 172], at, &mut pool) && other.packet(&[0x80; 172], at, &mut pool)
        });
        assert!(taken.count() > 2000);
        assert!(pool.has_room() && pool.used_octets() <= (3 << 18) + 2 * (16 << 10));
        assert!(one.is_almost_full(&pool) && other.is_almost_full(&pool));
    }

    #[test]
    fn media_link_has_a_limit_beside_that_of_the_pool() {
        let mut pool = BlockPool::new(1 << 20);
        let mut link = MediaLink::new(100_000);
        let taken = (0..3000).take_while(|&at| link.packet(&[0x80; 172], at, &mut pool)).count();
        assert_eq!(taken, 100_000 / 181);
        link.clear(&mut pool);
        assert_eq!(pool.used_octets(), 0);
    }

    #[test]
    fn media_link_begins_where_the_server_is_or_at_the_first_item_that_is_left() {
        let mut pool = BlockPool::new(1 << 20);
        let mut link = filled(100, &mut pool);
        link.begin(&granted(0)).expect("the first item");
        link.received(&uplink::media_stream::ack(50, "u"), &mut pool).expect("an acknowledgement");
        for (next, first) in [(70, 70), (100, 100), (10, 49)] {
            let generation = link.begin(&granted(next)).expect("an item");
            assert_eq!(link.connected(generation), Some(hello(first, "t")));
        }
        assert!(link.begin(&granted(101)).is_err());
    }
}
