//! The start of a recording to a file, and the starts that wait.

use crate::agent::clients::answer::{Caller, PendingReply};
use crate::agent::disk::faults::disk_silent;
use crate::agent::recordings::recording::START_ANSWER_AFTER;
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::to_file::{Spec, ToFile};
use crate::agent::{MAX_WAITING_STARTS, Turn};
use crate::api::error::AgentError;
use crate::api::reason::Reason;
use crate::api::request::RecordStart;
use media::codec::Codec;
use media::time::Mono;
use recfile::header::MAX_FILE_OCTETS;
use std::collections::VecDeque;
use store::jobs::{Folder, Job};

/// The place for a recording that the state of agent and disk allows.
pub(in crate::agent) struct Place {
    /// Why nothing may begin just now.
    pub(in crate::agent) may_begin: Result<(), AgentError>,
    /// The folder to record to, or why there is none.
    pub(in crate::agent) folder: Result<Folder, AgentError>,
}

pub(super) fn codec_of(start: &RecordStart) -> Result<Codec, AgentError> {
    Codec::from_name(&start.codec).ok_or_else(|| {
        let known = Codec::ALL.map(Codec::name).join(", ");
        AgentError::new(Reason::UnsupportedCodec)
            .with_detail(format!("{} is not one of {known}", start.codec))
    })
}

/// The way of a new recording to a file, and the job that creates the first one.
pub(super) fn file_destination(
    recording: &str,
    codec: Codec,
    start: &RecordStart,
    folder: Folder,
    turn: &mut Turn<'_>,
) -> (Destination, Option<Job>) {
    let spec = Spec {
        recording: recording.to_owned(),
        codec,
        ptime_ms: start.ptime_ms,
        folder,
        max_file_octets: turn.config.storage.max_file_octets.unwrap_or(MAX_FILE_OCTETS),
        recipients: turn.config.storage.encrypt_to.len(),
    };
    let (to_file, open) = ToFile::begin(spec, turn.ids.file(), &start.call, turn.now);
    (Destination::File(Box::new(to_file)), Some(open))
}

/// A request to start that waits, and since when.
#[derive(Debug)]
pub(in crate::agent) struct WaitingStart {
    pub(in crate::agent) reply: Option<PendingReply>,
    pub(in crate::agent) start: RecordStart,
    since: Mono,
}

/// Requests to start that wait for a look at the disks.
#[derive(Debug, Default)]
pub(in crate::agent) struct WaitingStarts(VecDeque<WaitingStart>);

impl WaitingStarts {
    pub(in crate::agent) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more. Refused if there are too many.
    pub(in crate::agent) fn push(
        &mut self,
        caller: &mut Caller,
        start: RecordStart,
        now: Mono,
    ) -> Result<(), AgentError> {
        if self.0.len() >= MAX_WAITING_STARTS {
            return Err(Reason::TooManyRecordings.into());
        }
        self.0.push_back(WaitingStart { reply: caller.defer(), start, since: now });
        Ok(())
    }

    /// The disks were looked at: all of them.
    pub(in crate::agent) fn take(&mut self) -> VecDeque<WaitingStart> {
        std::mem::take(&mut self.0)
    }

    /// When the first one has waited for as long as may be.
    pub(in crate::agent) fn deadline(&self) -> Option<Mono> {
        self.0.front().map(|waiting| waiting.since + START_ANSWER_AFTER)
    }

    /// Refuses those that have waited for [`START_ANSWER_AFTER`].
    pub(in crate::agent) fn refuse_overdue(&mut self, turn: &mut Turn<'_>) {
        while self.deadline().is_some_and(|due| turn.now.mono >= due) {
            if let Some(WaitingStart { reply: Some(reply), .. }) = self.0.pop_front() {
                reply.err(&disk_silent(), turn.actions);
            }
        }
    }
}
