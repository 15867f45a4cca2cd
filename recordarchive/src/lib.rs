//! The archive of call recordings: the parts of `recordarchive`.
//!
//! Pure: `id`, `number`, `query`, `time`, `retention` (how long), `access` (permissions), `media::wav` (audio
//! for browsers). Touching the world: `catalogue` (the database), `media` (files), `jobs` (intake, import,
//! verification), `web` (HTTP), `command` (the command line). Imports run one way: `web`, `jobs` →
//! `catalogue`, `media` → `access` → the pure ones. Never: anything that a recorder waits for.

mod access;
mod bench;
mod catalogue;
mod client;
mod clock;
pub mod command;
mod config;
mod events;
mod id;
mod jobs;
mod live;
mod media;
mod number;
mod oidc;
mod private;
mod query;
mod retention;
mod site;
#[cfg(test)]
mod testing;
mod time;
mod web;
