//! Thin safe wrappers for the system calls that no crate of ours offers in the form we need.
//!
//! All `unsafe` of the project is in this crate, each use with its reason.

pub mod clock;
pub mod confine;
pub mod control_stream;
mod datagrams;
mod files;
pub mod notify;
mod process;
pub mod receiver;
pub mod sandbox;
pub mod secret_file;
mod socket_filter;
mod socket_memory;
mod time_zone;

pub use datagrams::{BATCH_DATAGRAMS, Batch, DATAGRAM_OCTETS, Datagram, Selection, Sent};
pub use files::{read_names, set_aside, sync_fs, try_lock, unlock};
pub use process::{file_limit, share_heap, terminal_columns};
pub use socket_filter::{let_in, only_from};
pub use socket_memory::{SocketMemory, socket_memory};
pub use time_zone::utc_offset_s;
