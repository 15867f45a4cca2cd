//! Work on recording files without the agent: `info`, `verify`, `repair`, `export`, `decrypt`, `keygen`.
//!
//! Owns: the search for files, and the output about them. [`recfile`] decides on their contents, their damage
//! and their repair. A file that the agent has locked is being recorded: it is read as far as it goes, and
//! never written.

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
