//! The destination of a recording: the disk, the server, or none because the PBX records.
//!
//! Owns: the questions that every kind of recording answers in its own way. Never: the consequences.

use crate::agent::recordings::recording::by_pbx::ByPbx;
use crate::agent::recordings::recording::to_file::ToFile;
use crate::agent::recordings::recording::to_server::ToServer;
use media::codec::OCTETS_PER_MS;
use media::level::Level;
use media::recorder::{Rules, StreamRecorder};
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

    pub(in crate::agent) fn as_pbx(&self) -> Option<&ByPbx> {
        match self {
            Self::Pbx(sip) => Some(sip),
            _ => None,
        }
    }

    /// The recorder of the packets that come for it.
    pub(in crate::agent) fn recorder(&self, rules: Rules, now: Mono) -> StreamRecorder {
        match self {
            Self::File(to_file) => StreamRecorder::in_segments(rules, to_file.max_segment_octets(), now),
            Self::Server(_) => StreamRecorder::relayed(rules, now),
            // There is no port that anything could come in by.
            Self::Pbx(_) => StreamRecorder::in_segments(rules, 0, now),
        }
    }

    /// Octets of recorded time.
    pub(in crate::agent) fn octets(&self, stream: &StreamRecorder) -> u64 {
        match self {
            Self::Pbx(by_pbx) => by_pbx.recorded_ms() * OCTETS_PER_MS,
            Self::File(_) | Self::Server(_) => stream.octets(),
        }
    }

    /// The level of the newest audio.
    pub(in crate::agent) fn level_dbfs(&self, stream: &StreamRecorder) -> Option<f32> {
        match self {
            Self::File(to_file) => to_file.level_dbfs(),
            Self::Server(_) | Self::Pbx(_) => stream.relayed_level().map(Level::dbfs),
        }
    }

    /// Whether audio of the call was kept, or may have been; `at_server`: a server had some before.
    pub(in crate::agent) fn has_kept_audio(&self, stream: &StreamRecorder, at_server: bool) -> bool {
        // Silence in place of encrypted audio is no audio.
        let stored = stream.counts().stored > 0;
        match self {
            Self::Pbx(sip) => sip.recorded_ms() > 0,
            Self::File(to_file) => stored && (at_server || to_file.kept_octets() > 0),
            Self::Server(_) => stored,
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
