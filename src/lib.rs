//! `recordd`, the agent on the phone.
//!
//! [`agent`] decides, purely; [`api`] is what its clients say and read; [`config`] is what an administrator says;
//! [`runtime`] is the loop that does what the agent asks for. Imports run one way: `runtime -> agent -> {api, config}`.
//! See `ARCHITECTURE.md`.

pub mod agent;
pub mod api;
pub mod config;
#[cfg(test)]
mod document_tests;
pub mod runtime;
#[cfg(test)]
mod schema_tests;
