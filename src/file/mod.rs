//! The recording file: its header, its name, its sidecar, and what can be done with it afterwards.
//!
//! Owns: the layout of `Record_….wav` (source document, "Local Recording File Format") and of the JSON
//! sidecar beside it. Everything works on byte slices and `std::io` traits: no file is opened here.
//! Never trusts a byte that was read back: a stick may have been pulled, truncated or edited.

pub mod export;
pub mod g722;
pub mod header;
pub mod level;
pub mod name;
pub mod packets;
pub mod reader;
pub mod recovery;
pub mod sealed;
pub mod sidecar;
