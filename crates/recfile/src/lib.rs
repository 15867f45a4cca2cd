//! The recording file: its header, its name, its sidecar, and operations on finished files.
//!
//! Owns: the layout of `Record_….wav` (source document, "Local Recording File Format"), of the JSON sidecar
//! beside it, and of both when they are encrypted ([`seal`]); the parties of a call ([`call`]) and the text
//! that is kept of them ([`text`]). Everything works on octets and `std::io` traits: no file is opened here.
//! Never: trust in an octet that was read back. A stick may have been pulled, cut off or edited.

pub mod call;
#[cfg(feature = "wav")]
pub mod export;
pub mod format;
#[cfg(feature = "wav")]
pub mod g722;
pub mod header;
pub mod name;
pub mod packets;
pub mod reader;
pub mod recovery;
pub mod seal;
pub mod sealed;
pub mod sidecar;
pub mod text;
