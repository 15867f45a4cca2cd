//! Where the audio of a recording goes: to the disk, to the server, or nowhere because the PBX records.
//!
//! Owns: the questions that every kind of recording answers in its own way. Never: what follows from them.

use crate::agent::recordings::recording::by_pbx::ByPbx;
use crate::agent::recordings::recording::to_file::ToFile;
use crate::agent::recordings::recording::to_server::ToServer;
use media::blocks::BlockPool;
use media::codec::{Codec, OCTETS_PER_MS};
use media::counts::{Counts, DropCause, Verdict};
use media::packet::Packet;
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

    /// Takes the audio of one packet.
    pub(in crate::agent) fn push(
        &mut self,
        packet: &Packet<'_>,
        arrival: Mono,
        pool: &mut BlockPool,
    ) -> Verdict {
        match self {
            Self::File(to_file) => to_file.push(packet, arrival, pool),
            Self::Server(to_server) => to_server.push(packet, arrival),
            // There is no port that anything could come in by.
            Self::Pbx(_) => Verdict::Dropped(DropCause::Source),
        }
    }

    /// Counts as stored what was dropped until it had proved itself.
    pub(in crate::agent) fn restore_regained(&mut self, counts: &mut Counts) {
        match self {
            Self::File(to_file) => to_file.restore_regained(counts),
            Self::Server(to_server) => to_server.restore_regained(counts),
            Self::Pbx(_) => {}
        }
    }

    /// The sender changed to `codec`.
    pub(in crate::agent) fn switch_codec(&mut self, codec: Codec, pool: &mut BlockPool) {
        match self {
            Self::File(to_file) => to_file.switch_codec(codec, pool),
            Self::Server(to_server) => to_server.switch_codec(codec),
            Self::Pbx(_) => {}
        }
    }

    /// Packets that never came.
    pub(in crate::agent) fn lost(&self) -> u64 {
        match self {
            Self::File(to_file) => to_file.lost(),
            Self::Server(to_server) => to_server.lost(),
            Self::Pbx(_) => 0,
        }
    }

    /// Recorded time in octets of audio.
    pub(in crate::agent) fn octets(&self) -> u64 {
        match self {
            Self::File(to_file) => to_file.octets(),
            Self::Server(to_server) => to_server.octets(),
            Self::Pbx(sip) => sip.recorded_ms() * OCTETS_PER_MS,
        }
    }

    pub(in crate::agent) fn level_dbfs(&self) -> Option<f32> {
        match self {
            Self::File(to_file) => to_file.level_dbfs(),
            Self::Server(to_server) => to_server.level_dbfs(),
            Self::Pbx(_) => None,
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
