//! The server that phones upload call recordings to: the parts of `recordserver`.
//!
//! Pure, with the time as a parameter: [`uplink::server`] (one control connection), [`recording`] (RTP in,
//! storage jobs out) with its [`items`], [`tokens`], [`admission`] (limits of connections and sessions),
//! [`rates`] (limits in time), [`ports`], [`quota`] (growth of recordings), [`folders`], [`advice`]. Touching
//! the world: [`run`] (the loop), [`media_sockets`], [`ledger`] with its [`journal`] and [`used_ids`],
//! [`recover`], [`http`], [`drain`], [`check`]. Settings come from [`config`]. It reads the protocol with
//! `uplink`, puts audio in order with `media`, and stores with `recfile` and `store`.

pub mod admission;
pub mod advice;
pub mod check;
pub mod config;
pub mod drain;
pub mod folders;
pub mod http;
pub mod items;
pub mod journal;
pub mod ledger;
pub mod media_sockets;
pub mod metrics;
pub mod ports;
pub mod quota;
pub mod rates;
pub mod recording;
pub mod recover;
pub mod refusal;
pub mod run;
pub mod tokens;
pub mod used_ids;
