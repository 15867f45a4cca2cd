//! The loop's environment: the system, or a stand-in for it where there is no phone.

use crate::agent::RecordingKey;
use crossbeam_channel::Sender;
use media::codec::Codec;
use mio::Interest;
use std::fs::File;
use std::net::SocketAddr;
use store::access::Access;
use store::fs::{Fs, SystemFs};
use store::mounts::MOUNT_TABLE;

/// An RTP port that came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtpPortChange {
    /// It takes packets from now on.
    Bound {
        /// Of this recording.
        recording: RecordingKey,
        /// Where.
        addr: SocketAddr,
        /// The codec expected there.
        codec: Codec,
    },
    /// The port of this recording is closed.
    Closed(RecordingKey),
}

/// The disks, and the receiver of RTP ports.
#[derive(Debug)]
pub struct Environment<F: Fs> {
    /// The file system for recordings.
    pub fs: F,
    /// A descriptor whose readiness tells that disks came or went, and the readiness meant.
    pub disk_changes: Option<(File, Interest)>,
    /// Is told of RTP ports; if its queue is full, a port is left out.
    pub rtp_watch: Option<Sender<RtpPortChange>>,
    /// Whether the process gives up privileges that the agent does not need; else it has other things to do,
    /// too.
    pub confined: bool,
}

impl Environment<SystemFs> {
    /// The system's own, with recordings that `access` tells who may read.
    #[must_use]
    pub fn real(access: Access) -> Self {
        let mounts = File::open(MOUNT_TABLE).ok();
        let disk_changes = mounts.map(|file| (file, Interest::PRIORITY));
        Self { fs: SystemFs { access }, disk_changes, rtp_watch: None, confined: true }
    }
}
