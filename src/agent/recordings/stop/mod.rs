//! How the end of a recording begins: by a request, a full disk, or the end of the process.

pub(in crate::agent) mod outcome;

use crate::agent::recordings::recording::destination::Destination;
use crate::agent::{Action, Life, Parts, RecordingKey, Turn};
use crate::api::ending::{EndReason, Order};
use std::time::Duration;

/// At the end of the process storage has so long to finish.
const SHUTDOWN_AFTER: Duration = Duration::from_secs(20);

impl Parts {
    pub(in crate::agent) fn shut_down(&mut self, turn: &mut Turn<'_>) {
        if self.life == Life::Running {
            self.life = Life::Ending { by: turn.now.mono + SHUTDOWN_AFTER };
        }
        self.library.end_playbacks("shutdown", turn);
        for key in self.keys() {
            self.stop(key, Order::Shutdown, turn);
        }
    }

    /// Begins to end a recording; `recording.ended` follows when its file is closed.
    pub(in crate::agent) fn stop(
        &mut self,
        key: RecordingKey,
        reason: impl Into<EndReason>,
        turn: &mut Turn<'_>,
    ) {
        let Some(it) = self.recordings.get_mut(&key).filter(|it| it.is_live()) else { return };
        it.settle(turn.now.mono, turn.pool);
        it.phase.stop();
        let reason = reason.into();
        it.end_for(reason);
        it.stopped = Some(turn.now.mono);
        self.remember_sender(key, turn);
        let Some(it) = self.recordings.get_mut(&key) else { return };
        match &mut it.destination {
            Destination::File(to_file) => {
                if let Some(since) = it.paused {
                    it.stream.note_pause(turn.now.mono.since(since));
                }
                to_file.finish(reason.as_str(), &mut it.stream, turn.now, turn.pool);
                turn.actions.push(Action::CloseRtp(key));
                self.pump(key, turn);
            }
            Destination::Server(_) => {
                self.uplink(key, turn, |client, now, out| client.stop(reason.as_str(), now, out));
            }
            Destination::Pbx(_) => self.stop_at_pbx(key, turn),
        }
    }
}
