//! Behaviour of the server: sessions on their own, recordings on their own, and the program as a whole
//! with phones that are a literal re-reading of the source document in another language.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod admission;
mod advice;
mod anything;
mod drain;
mod ids;
mod journal;
mod lasting_phone;
mod limits;
mod network;
mod over_tcp;
mod port;
mod program;
mod recording;
mod recovery;
mod senders;
mod session;
mod status;
mod support;
mod texts;
mod writer;
