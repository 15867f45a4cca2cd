//! RTP as the recorder sees it: codecs, packets, and the timeline that turns packets into audio.
//!
//! Pure: packets and arrival times go in, bytes and counters come out.

pub mod codec;
pub mod codec_change;
pub mod counts;
mod held;
mod media_clock;
mod pace;
pub mod packet;
pub mod payload_types;
pub mod probe;
mod seen;
pub mod source_lock;
mod suspense;
pub mod timeline;
mod window;
mod witness;
