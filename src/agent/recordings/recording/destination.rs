//! The destination of a recording: the disk, the server, or none because the PBX records.
//!
//! Owns: the questions that every kind of recording answers in its own way. Never: the consequences.

use crate::agent::recordings::recording::by_pbx::ByPbx;
use crate::agent::recordings::recording::to_file::ToFile;
use crate::agent::recordings::recording::to_server::ToServer;
use media::time::Mono;

/// The way of one recording.
#[derive(Debug)]
pub(in crate::agent) enum Destination {
    /// To a file.
    File(Box<ToFile>),
    /// To the recording server.
    Server(Box<ToServer>),
    /// The PBX has it.
    Pbx(Box<ByPbx>),
}

impl Destination {
    pub(in crate::agent) fn as_file(&self) -> Option<&ToFile> {
        match self {
            Self::File(to_file) => Some(to_file),
            _ => None,
        }
    }

    pub(in crate::agent) fn as_file_mut(&mut self) -> Option<&mut ToFile> {
        match self {
            Self::File(to_file) => Some(to_file),
            _ => None,
        }
    }

    pub(in crate::agent) fn as_server_mut(&mut self) -> Option<&mut ToServer> {
        match self {
            Self::Server(to_server) => Some(to_server),
            _ => None,
        }
    }

    pub(in crate::agent) fn as_pbx_mut(&mut self) -> Option<&mut ByPbx> {
        match self {
            Self::Pbx(sip) => Some(sip),
            _ => None,
        }
    }

    /// When time alone makes something due, flushing of files left out.
    pub(in crate::agent) fn deadline(&self) -> Option<Mono> {
        match self {
            Self::File(_) => None,
            Self::Server(to_server) => to_server.client.poll_deadline(),
            Self::Pbx(sip) => sip.deadline(),
        }
    }
}
