//! The audio of a call: RTP packets, codecs, and the timeline that turns packets into audio.
//!
//! Owns: what a packet says ([`packet`]), which one is believed ([`source_lock`], [`codec_change`]), where its audio
//! belongs ([`timeline`]), what becomes of a whole stream ([`recorder`]), what is counted ([`counts`]), and the memory
//! that audio waits in ([`blocks`]).
//! Never: sockets, clocks, files. Packets and arrival times go in, octets and counters come out.

pub mod blocks;
pub mod codec;
pub mod codec_change;
pub mod counts;
pub mod level;
pub mod packet;
pub mod payload_types;
mod probation;
pub mod probe;
pub mod recorder;
pub mod source_lock;
pub mod time;
pub mod timeline;
pub mod units;
