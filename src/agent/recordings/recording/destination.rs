//! Where the audio of a recording goes: to the disk, to the server, or nowhere because the PBX records.
//!
//! Owns: the questions that every kind of recording answers in its own way. Never: what follows from them.

use super::local::Local;
use super::sip_info::SipInfo;
use super::upload::Upload;
use media::blocks::BlockPool;
use media::codec::{Codec, OCTETS_PER_MS};
use media::counts::{Counts, DropCause, Verdict};
use media::packet::Packet;
use media::time::Mono;

/// The way of one recording.
#[derive(Debug)]
pub(super) enum Route {
    /// To a file.
    Local(Box<Local>),
    /// To the recording server.
    Server(Box<Upload>),
    /// The PBX has it.
    SipInfo(Box<SipInfo>),
}

impl Route {
    pub(super) fn local(&self) -> Option<&Local> {
        match self {
            Self::Local(local) => Some(local),
            _ => None,
        }
    }

    pub(super) fn local_mut(&mut self) -> Option<&mut Local> {
        match self {
            Self::Local(local) => Some(local),
            _ => None,
        }
    }

    pub(super) fn upload_mut(&mut self) -> Option<&mut Upload> {
        match self {
            Self::Server(upload) => Some(upload),
            _ => None,
        }
    }

    pub(super) fn sip_info_mut(&mut self) -> Option<&mut SipInfo> {
        match self {
            Self::SipInfo(sip) => Some(sip),
            _ => None,
        }
    }

    /// Takes the audio of one packet.
    pub(super) fn push(&mut self, packet: &Packet<'_>, arrival: Mono, pool: &mut BlockPool) -> Verdict {
        match self {
            Self::Local(local) => local.push(packet, arrival, pool),
            Self::Server(upload) => upload.push(packet, arrival),
            // There is no port that anything could come in by.
            Self::SipInfo(_) => Verdict::Dropped(DropCause::Source),
        }
    }

    /// Counts as stored what was dropped until it had proved itself.
    pub(super) fn restore_regained(&mut self, counts: &mut Counts) {
        match self {
            Self::Local(local) => local.restore_regained(counts),
            Self::Server(upload) => upload.restore_regained(counts),
            Self::SipInfo(_) => {}
        }
    }

    /// The sender changed to `codec`.
    #[inline(never)]
    pub(super) fn switch_codec(&mut self, codec: Codec, pool: &mut BlockPool) {
        match self {
            Self::Local(local) => local.switch_codec(codec, pool),
            Self::Server(upload) => upload.switch_codec(codec),
            Self::SipInfo(_) => {}
        }
    }

    /// Packets that never came.
    pub(super) fn lost(&self) -> u64 {
        match self {
            Self::Local(local) => local.lost(),
            Self::Server(upload) => upload.lost(),
            Self::SipInfo(_) => 0,
        }
    }

    /// Recorded time in octets of audio.
    pub(super) fn octets(&self) -> u64 {
        match self {
            Self::Local(local) => local.octets(),
            Self::Server(upload) => upload.octets(),
            Self::SipInfo(sip) => sip.recorded_ms() * OCTETS_PER_MS,
        }
    }

    pub(super) fn level_dbfs(&self) -> Option<f32> {
        match self {
            Self::Local(local) => local.level_dbfs(),
            Self::Server(upload) => upload.level_dbfs(),
            Self::SipInfo(_) => None,
        }
    }

    /// When time alone makes something due, flushing of files left out.
    pub(super) fn deadline(&self) -> Option<Mono> {
        match self {
            Self::Local(_) => None,
            Self::Server(upload) => upload.client.poll_deadline(),
            Self::SipInfo(sip) => sip.deadline(),
        }
    }
}
