//! Any datagram: a packet whose payload lies within it, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media::packet::{FIXED_HEADER_OCTETS, Packet};

fuzz_target!(|datagram: &[u8]| {
    if let Ok(packet) = Packet::parse(datagram) {
        assert!(packet.payload.len() + FIXED_HEADER_OCTETS <= datagram.len());
    }
});
