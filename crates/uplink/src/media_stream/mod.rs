//! Media over TCP, between two programs of ours (docs/uplink-protocol.md, "Media stream").
//!
//! Owns: frames as RFC 4571 has them, the items that they make up and their numbers. [`outlet`] keeps the
//! items of the phone until the server has them on its disk, [`inlet`] reads them at the server. Never:
//! sockets, who may send.
//!
//! An item is a packet with the time of its arrival, or the begin or end of a pause. The phone numbers items
//! from 0; an acknowledgement names the first item that is not on the disk yet.

mod frame;
pub mod inlet;
pub mod outlet;

pub use frame::{Acks, FrameError, MAX_FRAME_OCTETS, ack, hello};
