//! Media over TCP: the items of a phone come to the server in order and once, however the connection is cut.

use media::blocks::{BLOCK_OCTETS, BlockPool};
use proptest::prelude::*;
use uplink::media_stream::inlet::{Arrival, Inlet};
use uplink::media_stream::outlet::Outlet;
use uplink::media_stream::{Acks, FrameError, MAX_FRAME_OCTETS, ack, hello};

/// An item as the test knows it: the time, and the packet unless it is a pause's.
type Item = (u32, Option<Vec<u8>>);

fn rtp(number: usize, octets: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend((0..octets).map(|at| u8::try_from((number * 31 + at) % 251).expect("small")));
    packet
}

fn pool() -> BlockPool {
    BlockPool::new(1 << 20)
}

/// A server: what it has heard, and what of it is on its disk.
#[derive(Default)]
struct Server {
    inlet: Inlet,
    items: Vec<Item>,
}

impl Server {
    fn hears(&mut self, octets: &[u8]) {
        let Self { inlet, items } = self;
        inlet
            .received(octets, |arrival| {
                let (number, item) = match arrival {
                    Arrival::Hello { number, token } => {
                        assert_eq!(token, "token");
                        assert!(number <= items.len() as u64);
                        return;
                    }
                    Arrival::Packet { number, at_ms, octets } => (number, (at_ms, Some(octets.to_vec()))),
                    Arrival::Pause { number, at_ms } | Arrival::Resume { number, at_ms } => {
                        (number, (at_ms, None))
                    }
                };
                match items.get(usize::try_from(number).expect("small")) {
                    // It comes once more, and is the same.
                    Some(known) => assert_eq!(*known, item),
                    None => {
                        assert_eq!(number, items.len() as u64, "an item is missing");
                        items.push(item);
                    }
                }
            })
            .expect("a media stream");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Packet(usize),
    Pause,
    /// Octets that go out, and the length of the pieces in which they come in.
    Send(usize, usize),
    /// The server makes durable and acknowledges what is below this part of what it has, in hundredths.
    Ack(u64),
    /// The connection breaks, the server keeps what it has.
    Cut,
    /// The server loses what it has not acknowledged.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..400_usize).prop_map(Step::Packet),
        1 => (1000..MAX_FRAME_OCTETS - 2).prop_map(Step::Packet),
        1 => Just(Step::Pause),
        4 => (1..6000_usize, 1..700_usize).prop_map(|(octets, piece)| Step::Send(octets, piece)),
        2 => (0..=100_u64).prop_map(Step::Ack),
        1 => Just(Step::Cut),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn items_come_once_and_in_order_however_the_connection_is_cut(steps in steps()) {
        let mut pool = pool();
        let mut outlet = Outlet::default();
        let mut server = Server::default();
        let mut said: Vec<Item> = Vec::new();
        let mut durable = 0_u64;
        server.hears(&hello(0, "token"));
        let reconnect = |outlet: &mut Outlet, server: &mut Server| {
            server.inlet = Inlet::default();
            // The item before is heard again.
            let next = (server.items.len() as u64).saturating_sub(1).max(outlet.first());
            outlet.rewind(next).expect("it is kept");
            server.hears(&hello(next, "token"));
        };
        for step in steps {
            let at_ms = u32::try_from(said.len()).expect("small") * 20;
            match step {
                Step::Packet(octets) => {
                    let packet = rtp(said.len(), octets);
                    if outlet.packet(&packet, at_ms, &mut pool) {
                        said.push((at_ms, Some(packet)));
                    }
                }
                Step::Pause => {
                    if outlet.pause(at_ms, &mut pool) {
                        said.push((at_ms, None));
                    }
                }
                Step::Send(octets, piece) => {
                    let octets = outlet.unsent(octets);
                    outlet.note_sent(octets.len());
                    octets.chunks(piece).for_each(|piece| server.hears(piece));
                }
                Step::Ack(part) => {
                    let next = durable.max(server.items.len() as u64 * part / 100);
                    durable = next;
                    let mut acks = Acks::default();
                    let mut heard = None;
                    for octet in ack(next, "token") {
                        acks.received(&[octet], |next, _| heard = Some(next)).expect("an acknowledgement");
                    }
                    prop_assert_eq!(heard, Some(next));
                    outlet.acknowledge(next, &mut pool).expect("in order");
                    prop_assert_eq!(outlet.due(), next);
                    prop_assert!(outlet.first() + 1 >= next);
                }
                Step::Cut => reconnect(&mut outlet, &mut server),
                Step::Crash => {
                    server.items.truncate(usize::try_from(durable).expect("small"));
                    reconnect(&mut outlet, &mut server);
                }
            }
            prop_assert_eq!(outlet.items(), said.len() as u64);
            prop_assert!(pool.used_octets() <= (outlet.octets() + 2 * BLOCK_OCTETS) as u64);
        }
        let rest = outlet.unsent(usize::MAX);
        server.hears(&rest);
        prop_assert_eq!(&server.items, &said);
        let from = usize::try_from(outlet.due()).expect("small");
        let mut waiting = Vec::new();
        outlet.replay(&mut pool, |at_ms, packet, _| waiting.push((at_ms, packet.map(<[u8]>::to_vec))));
        prop_assert_eq!(&waiting[..], said.get(from..).unwrap_or_default());
        prop_assert_eq!(pool.used_octets(), 0);
    }

    #[test]
    fn octets_of_a_stranger_are_refused_or_understood_and_memory_has_a_bound(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..20),
    ) {
        let (mut inlet, mut acks) = (Inlet::default(), Acks::default());
        for piece in &pieces {
            if inlet.received(piece, |_| ()).is_err() {
                break;
            }
        }
        for piece in &pieces {
            if acks.received(piece, |_, _| ()).is_err() {
                break;
            }
        }
    }
}

#[test]
fn an_outlet_whose_pool_is_empty_takes_no_item_and_goes_on_when_there_is_room() {
    let mut pool = BlockPool::new(BLOCK_OCTETS as u64);
    let mut outlet = Outlet::default();
    let packet = rtp(0, 160);
    let mut taken = 0;
    while outlet.packet(&packet, 0, &mut pool) {
        taken += 1;
    }
    assert_eq!((outlet.items(), taken), (taken, BLOCK_OCTETS as u64 / (7 + 2 + 162)));
    outlet.acknowledge(taken, &mut pool).expect("all of them");
    assert!(outlet.is_done());
    // The last one is kept, and so is its block.
    assert!(!outlet.packet(&packet, 0, &mut pool));
    outlet.clear(&mut pool);
    assert!(outlet.packet(&packet, 0, &mut pool));
    assert_eq!(outlet.items(), taken + 1);
}

#[test]
fn acknowledgements_of_items_that_were_never_sent_or_long_ago_are_errors() {
    let mut pool = pool();
    let mut outlet = Outlet::default();
    for number in 0..10 {
        assert!(outlet.packet(&rtp(number, 160), 0, &mut pool));
    }
    assert_eq!(outlet.acknowledge(11, &mut pool), Err(FrameError::Number { due: 0, came: 11 }));
    assert_eq!(outlet.acknowledge(5, &mut pool), Ok(()));
    assert_eq!(outlet.acknowledge(4, &mut pool), Err(FrameError::Number { due: 5, came: 4 }));
    assert_eq!(outlet.rewind(3), Err(FrameError::Number { due: 4, came: 3 }));
    assert_eq!(outlet.rewind(4), Ok(()));
}

#[test]
fn frames_out_of_order_of_no_length_and_of_no_kind_are_errors() {
    let mut inlet = Inlet::default();
    assert_eq!(inlet.received(&[0, 2, 0x80, 8], |_| ()), Err(FrameError::Order));
    let mut inlet = Inlet::default();
    assert_eq!(inlet.received(&[0, 0], |_| ()), Err(FrameError::Length(0)));
    let mut inlet = Inlet::default();
    assert_eq!(inlet.received(&[0xFF, 0xFF], |_| ()), Err(FrameError::Length(0xFFFF)));
    let mut inlet = Inlet::default();
    assert_eq!(inlet.received(&[0, 1, 0x42], |_| ()), Err(FrameError::Kind(0x42)));
}
