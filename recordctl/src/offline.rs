//! Work on recording files without the agent: `info`, `verify`, `repair`, `export`, `decrypt`, `keygen`.
//!
//! Owns: finding files and what is said about them. What a file holds, whether it is damaged and how it is
//! mended is decided in [`recfile`]. A file that the agent has locked is being recorded: it is
//! read as far as it goes, and never written.

mod console;
mod decrypt;
mod export;
mod info;
mod keys;
mod origin;
mod recording;
mod repair;
mod verify;

pub use decrypt::DecryptArgs;
pub use export::ExportArgs;
pub use info::InfoArgs;
pub use keys::{IdentityArgs, KeygenArgs};
pub use recording::discover_segments;
pub(super) use recording::{AudioFile, open_file};
pub use repair::RepairArgs;
pub use verify::VerifyArgs;

#[cfg(test)]
mod testing;
