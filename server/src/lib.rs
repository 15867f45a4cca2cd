//! The server that phones upload call recordings to: the parts of `recordserver`.
//!
//! Pure, told what time it is: [`session`] (one control connection), [`media`] (whose RTP counts),
//! [`limits`] (who gets in), [`ports`] (UDP ports). Settings come from [`config`]; [`metrics`] and
//! [`status`] tell what is going on. It reads the protocol with the library's `uplink` modules and
//! stores with its `rtp`, `file` and `storage`.

pub mod config;
pub mod limits;
pub mod media;
pub mod metrics;
pub mod ports;
pub mod session;
pub mod status;
