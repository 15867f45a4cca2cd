//! Anything that may come to a call's RTP port, in any order.

use crate::port::{Step, hold};
use proptest::prelude::*;

fn step() -> impl Strategy<Value = Step> {
    let octets = prop_oneof![4 => Just(160_u8), 1 => any::<u8>()];
    let run = (
        any::<u8>(),
        0..3_u8,
        prop_oneof![4 => Just(0_u8), 1 => any::<u8>()],
        0..60_u8,
        any::<bool>(),
        octets,
    );
    prop_oneof![
        8 => run.prop_map(|(sender, ssrc, codec, packets, paced, octets)| {
            Step::Run { sender, ssrc, codec, packets, paced, octets }
        }),
        2 => (any::<i16>(), any::<i32>()).prop_map(|(sequence, timestamp)| Step::Jump { sequence, timestamp }),
        2 => (any::<i8>(), -90_000..90_000).prop_map(|(sequence, timestamp)| Step::Jump { sequence: sequence.into(), timestamp }),
        1 => (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(sender, datagram)| Step::Packet { sender, datagram }),
        3 => any::<u16>().prop_map(|ms| Step::Waits { ms }),
        4 => Just(Step::Jobs),
        1 => any::<bool>().prop_map(Step::WaitForClock),
        1 => proptest::bool::weighted(0.1).prop_map(|fails| if fails { Step::Fail } else { Step::Jobs }),
    ]
}

proptest! {
    #[test]
    fn books_balance_and_memory_is_bounded_for_any_input(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        hold(steps);
    }
}
