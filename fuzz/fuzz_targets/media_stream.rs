//! Anything on a media connection, in any pieces: items in order, or an error; and what an outlet sends, whatever is
//! acknowledged, comes out of an inlet.
#![no_main]

use libfuzzer_sys::{arbitrary, fuzz_target};
use media::blocks::BlockPool;
use uplink::media_stream::inlet::{Arrival, Inlet};
use uplink::media_stream::outlet::Outlet;
use uplink::media_stream::{Acks, hello};

#[derive(arbitrary::Arbitrary, Debug)]
enum Step<'a> {
    PhoneSays(&'a [u8]),
    ServerSays(&'a [u8]),
    Packet(&'a [u8]),
    Pause(u16),
    Sends(u16),
    Acknowledges(u8),
    Rewinds(u8),
}

/// The number of an item.
fn number(arrival: &Arrival<'_>) -> Option<u64> {
    match *arrival {
        Arrival::Hello { .. } => None,
        Arrival::Packet { number, .. } | Arrival::Pause { number, .. } | Arrival::Resume { number, .. } => {
            Some(number)
        }
    }
}

fuzz_target!(|steps: Vec<Step<'_>>| {
    let mut pool = BlockPool::new(1 << 17);
    let (mut strange, mut acks) = (Some(Inlet::default()), Some(Acks::default()));
    let (mut outlet, mut inlet) = (Outlet::default(), Inlet::default());
    let mut next = 0;
    inlet.received(&hello(0, "t"), |_| ()).expect("a hello");
    for step in steps {
        match step {
            Step::PhoneSays(octets) => {
                let mut last = None;
                let read = strange.as_mut().map(|inlet| {
                    inlet.received(octets, |arrival| {
                        let number = number(&arrival);
                        assert!(last.is_none() || number.is_none() || number > last, "items are in order");
                        last = number.or(last);
                    })
                });
                strange = strange.filter(|_| !matches!(read, Some(Err(_))));
            }
            Step::ServerSays(octets) => {
                let read = acks.as_mut().map(|acks| acks.received(octets, |_, _| ()));
                acks = acks.filter(|_| !matches!(read, Some(Err(_))));
            }
            Step::Packet(octets) => {
                let mut packet = vec![0x80];
                packet.extend_from_slice(octets);
                outlet.packet(&packet, 0, &mut pool);
            }
            Step::Pause(at_ms) => drop(outlet.pause(at_ms.into(), &mut pool)),
            Step::Sends(most) => {
                let octets = outlet.unsent(most.into());
                outlet.note_sent(octets.len());
                let take = |arrival: Arrival<'_>| {
                    assert_eq!(number(&arrival), Some(next));
                    next += 1;
                };
                inlet.received(&octets, take).expect("a media stream");
            }
            Step::Acknowledges(part) => {
                let due = outlet.due();
                let _ = outlet.acknowledge(due + (next.max(due) - due) * u64::from(part) / 255, &mut pool);
            }
            Step::Rewinds(part) => {
                let (first, last) = (outlet.first(), outlet.items());
                next = first + (last - first) * u64::from(part) / 255;
                outlet.rewind(next).expect("it is kept");
                inlet = Inlet::default();
                inlet.received(&hello(next, "t"), |_| ()).expect("a hello");
            }
        }
    }
    outlet.clear(&mut pool);
    assert_eq!(pool.used_octets(), 0);
});
