//! The local socket: JSON-RPC 2.0, one JSON text per line.
//!
//! Owns: framing, methods and their parameters, results, events, the queue of each client. Never: sockets,
//! decisions about recordings; `agent` makes those. Invariants: nothing a client sends panics or grows memory
//! beyond the limits named here.

pub mod ending;
pub mod error;
pub mod event;
pub mod line;
pub mod outbox;
mod params;
pub mod reason;
pub mod reply;
pub mod request;
pub mod status;
pub mod subscription;

/// Version of this protocol, told by `agent.info`. It rises when something is changed in a way that breaks
/// clients, not when something is added.
pub const PROTOCOL_VERSION: u32 = 1;
