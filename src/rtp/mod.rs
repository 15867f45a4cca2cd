//! RTP as the recorder sees it: codecs, packets, and the timeline that turns packets into audio.
//!
//! Pure: packets and arrival times go in, bytes and counters come out.

pub mod codec;
pub mod codec_change;
pub mod counts;
mod held;
pub mod packet;
pub mod source_lock;
pub mod timeline;
mod window;
