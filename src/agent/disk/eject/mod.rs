//! An eject: when nothing is recorded on the disk any more it is synced and unmounted, then everybody who
//! asked is answered.

use crate::agent::clients::answer::{Caller, Failure, PendingReply};
use crate::agent::disk::faults::error_of_fault;
use crate::agent::disk::state::DiskState;
use crate::agent::{Action, MAX_WAITING_STARTS, Turn};
use crate::api::error::AgentError;
use crate::api::reason::Reason;
use log::Level as LogLevel;
use serde_json::{Value, json};
use store::jobs::{Eject, Ejected, Fault};

/// An eject under way.
#[derive(Debug, Default)]
pub(super) struct Ejecting {
    clients: Vec<PendingReply>,
    /// The disk that storage was asked to eject.
    asked: Option<Eject>,
}

impl Ejecting {
    /// One more who waits for it.
    pub(super) fn join(&mut self, caller: &mut Caller) -> Result<(), Failure> {
        if self.clients.len() >= MAX_WAITING_STARTS {
            let error =
                AgentError::new(Reason::InvalidState).with_message("many requests wait for the eject");
            return Err(error.with_advice("wait for storage.ejected, or try again in a moment").into());
        }
        self.clients.extend(caller.defer());
        Ok(())
    }

    /// Whether storage has not been asked yet.
    pub(super) fn waits(&self) -> bool {
        self.asked.is_none()
    }

    pub(super) fn ask(&mut self, disk: Eject) {
        self.asked = Some(disk);
    }

    /// Answers everybody. Returns whether the disk is ejected.
    pub(super) fn end(
        self,
        result: Result<Ejected, Fault>,
        state: &mut DiskState,
        turn: &mut Turn<'_>,
    ) -> bool {
        let disk = self.asked.unwrap_or_default();
        let mut is_ejected = false;
        let answer = match &result {
            Ok(done) => {
                is_ejected = state.eject(&disk, done);
                for left in &done.left {
                    let text = format!("{} stays mounted: {}", left.point.display(), left.why);
                    turn.actions.push(Action::Log(LogLevel::Warn, text));
                }
                let is_mount = state.is_mount_point(&disk.root);
                Ok(ejected_answer(&disk, done, is_mount))
            }
            Err(fault) => Err(error_of_fault(fault.kind).with_detail(fault.detail.clone())),
        };
        for reply in self.clients {
            match &answer {
                Ok(answer) => reply.ok(answer, turn.actions),
                Err(error) => reply.err(error, turn.actions),
            }
        }
        is_ejected
    }
}

/// The answer to an eject. It has more than the two flags only if there is something to do or to explain.
fn ejected_answer(disk: &Eject, done: &Ejected, is_mount: bool) -> Value {
    // A mount that we may not unmount has been synced, and we write to it no more.
    let safe = done.left.iter().all(|left| left.denied);
    let mut answer = json!({ "safe_to_pull": safe, "unmounted": done.unmounted });
    if !done.left.is_empty() {
        let points: Vec<String> = done.left.iter().map(|left| left.point.display().to_string()).collect();
        let whys = done.left.iter().map(|left| format!("{}: {}", left.point.display(), left.why));
        let note = whys.collect::<Vec<_>>().join("; ");
        let then = if safe { "everything is synced" } else { "then eject again" };
        answer["still_mounted"] = points.into();
        answer["note"] = format!("still mounted at {note}; {then}").into();
    } else if !done.unmounted && is_mount {
        let at = disk.root.display();
        answer["note"] =
            format!("{at} is not on a disk that can be pulled: it stays mounted, and is recorded to again")
                .into();
    }
    answer
}

#[cfg(test)]
mod tests;
