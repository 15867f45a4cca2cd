//! The storage thread: everything that touches a filesystem and may therefore wait.
//!
//! Owns: open recording files, the order of writes and syncs that every power cut survives, the view of
//! disks. Never: decisions; the agent makes them and sends [`crate::jobs::Job`]s. [`writer::Writer`] is a
//! plain struct that tests drive without a thread.

pub mod access;
pub mod disks;
pub mod fault;
pub mod fs;
pub mod gated;
pub mod jobs;
mod library;
pub mod mounts;
mod names;
mod oldest;
pub mod on_disk;
pub mod open_file;
mod open_files;
mod order;
mod patience;
pub mod recover;
mod running_hash;
pub mod seal;
mod segments;
pub mod sidecar_file;
mod speed;
pub mod thread;
pub mod writer;

#[cfg(test)]
mod folder_tests;
#[cfg(test)]
mod locked_tests;
#[cfg(test)]
mod seal_tests;
