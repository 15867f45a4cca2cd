//! The server that phones upload call recordings to: the parts of `recordserver`.
//!
//! Pure, told what time it is: [`uplink::server`] (one control connection), [`recording`] (RTP in, storage
//! jobs out), [`limits`] (who gets in), [`rates`] (how often), [`ports`], [`quota`] (how fast recordings may grow), [`naming`],
//! [`advice`]. Touching the world: [`run`] (the loop), [`media_sockets`], [`storage`] with its [`writer`],
//! [`journal`], [`used_ids`], [`recover`], [`status`], [`drain`], [`check`]. Settings come from [`config`].
//! It reads the protocol with `uplink`, puts audio in order with `media`, and stores with `recfile` and `store`.

pub mod advice;
pub mod check;
pub mod config;
pub mod drain;
pub mod journal;
pub mod limits;
pub mod media_sockets;
pub mod metrics;
pub mod naming;
pub mod ports;
pub mod quota;
pub mod rates;
pub mod recording;
pub mod recover;
pub mod refusal;
pub mod run;
pub mod status;
pub mod storage;
pub mod used_ids;
pub mod writer;
