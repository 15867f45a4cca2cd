//! An eject: recordings on the disk end, then it is synced and unmounted, then everybody who asked is answered.

use crate::agent::clients::answer::Answer;
use crate::agent::clients::answer::{Caller, PendingReply};
use crate::agent::disk::faults::error_of_fault;
use crate::agent::{Action, MAX_WAITING_STARTS, Parts, RecordingKey, Turn};
use crate::api::ending::Order;
use crate::api::error::AgentError;
use crate::api::reason::Reason;
use log::Level as LogLevel;
use serde_json::{Value, json};
use store::jobs::{Eject, Ejected, Fault, FaultKind, Job};

/// An eject under way.
#[derive(Debug, Default)]
pub(in crate::agent) struct Ejecting {
    pub(in crate::agent) clients: Vec<PendingReply>,
    /// What storage was asked to eject.
    pub(in crate::agent) asked: Option<store::jobs::Eject>,
}

impl Parts {
    pub(in crate::agent) fn eject(&mut self, caller: &mut Caller, turn: &mut Turn<'_>) -> Answer {
        if !self.disk.is_present() && !self.disk.is_mounted_though_ejected() {
            return Err(self.disk.absent().into());
        }
        self.library.end_playbacks("ejected", turn);
        let eject = self.ejecting.get_or_insert_with(Ejecting::default);
        if eject.clients.len() >= MAX_WAITING_STARTS {
            let error =
                AgentError::new(Reason::InvalidState).with_message("many requests wait for the eject");
            return Err(error.with_advice("wait for storage.ejected, or try again in a moment").into());
        }
        eject.clients.extend(caller.defer());
        for key in self.on_disk() {
            if self.is_on_ejected(key) {
                self.stop(key, Order::Ejected, turn);
            }
        }
        self.finish_eject(turn);
        Ok(None)
    }

    /// Whether a recording is on the disk that is to be ejected. One that has lost its disk waits in memory for another.
    pub(in crate::agent) fn is_on_ejected(&self, key: RecordingKey) -> bool {
        let it = self.recordings.get(&key);
        let to_file = it.filter(|it| !it.has_lost_disk()).and_then(|it| it.destination.as_file());
        to_file.is_some_and(|to_file| to_file.folders().any(|folder| self.disk.is_on_current_stick(folder)))
    }

    /// When the last recording on the disk has ended, it can be ejected.
    pub(in crate::agent) fn finish_eject(&mut self, turn: &mut Turn<'_>) {
        if self.ejecting.as_ref().is_none_or(|eject| eject.asked.is_some()) {
            return;
        }
        if self.on_disk().into_iter().any(|key| self.is_on_ejected(key)) {
            return;
        }
        if let Some(disk) = self.disk.to_eject() {
            if let Some(eject) = &mut self.ejecting {
                eject.asked = Some(disk.clone());
            }
            turn.actions.push(Action::Job(Job::Eject(disk)));
        } else {
            let gone = Fault { kind: FaultKind::NoStorage, detail: "there is no disk".into() };
            self.ejected(Err(gone), turn);
        }
    }

    pub(in crate::agent) fn ejected(&mut self, result: Result<Ejected, Fault>, turn: &mut Turn<'_>) {
        let Some(eject) = self.ejecting.take() else { return };
        let disk = eject.asked.unwrap_or_default();
        let answer = match &result {
            Ok(done) => {
                if self.disk.eject(&disk, done) {
                    self.library.clear();
                }
                for left in &done.left {
                    let text = format!("{} stays mounted: {}", left.point.display(), left.why);
                    turn.actions.push(Action::Log(LogLevel::Warn, text));
                }
                let is_mount = self.disk.is_mount_point(&disk.root);
                Ok(ejected_answer(&disk, done, is_mount))
            }
            Err(fault) => Err(error_of_fault(fault.kind).with_detail(fault.detail.clone())),
        };
        for reply in eject.clients {
            match &answer {
                Ok(answer) => reply.ok(answer, turn.actions),
                Err(error) => reply.err(error, turn.actions),
            }
        }
        // Another disk may be there to go on at.
        self.scan(turn);
    }
}

/// What is told of an eject. More than the two flags only where there is something to be done or explained.
fn ejected_answer(disk: &Eject, done: &Ejected, is_mount: bool) -> Value {
    // What we may not unmount has been synced, and we write to it no more.
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
