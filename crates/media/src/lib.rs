//! The audio of a call: RTP packets, codecs, and the timeline that turns packets into audio.
//!
//! Owns: the fields of a packet ([`packet`]), whether it is believed ([`source_lock`], [`codec_change`]), the
//! place of its audio ([`timeline`]), the recorder of a whole stream ([`recorder`]), the counters
//! ([`counts`]), and the memory that audio waits in ([`blocks`]). Never: sockets, clocks, files. Packets and
//! arrival times go in, octets and counters come out.

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
