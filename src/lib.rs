//! `recordd`, the agent on the phone.
//!
//! [`agent`] decides, purely; [`api`] is the protocol of its clients; [`config`] has the administrator's
//! settings; [`runtime`] is the loop that carries out the agent's actions. Imports run one way: `runtime ->
//! agent -> {api, config}`. See `ARCHITECTURE.md`.

pub mod agent;
pub mod api;
pub mod config;
#[cfg(test)]
mod document_tests;
pub mod runtime;
#[cfg(test)]
mod schema_tests;
