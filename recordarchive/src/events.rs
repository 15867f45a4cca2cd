//! Events of the archive, sent to those who are connected at the moment.
//!
//! Owns: the line that events go along. Never: permissions; the code that passes an event on asks
//! `authorize`.

use crate::id::Id;
use serde_json::Value;
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// Events that a slow receiver may be behind; beyond that some are left out, and the receiver is told.
const MAX_BEHIND: usize = 1024;

/// The subject of an event. It decides who may get the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// A recording, and so its call.
    Recording(Id),
    /// A recording that goes on: its extension, its site, and when it began, in microseconds.
    Live(String, String, i64),
    /// The machine.
    System,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// `call.sealed`, `call.live`, `storage.low`.
    pub(crate) kind: &'static str,
    /// The subject.
    pub(crate) about: About,
    /// More about it, an object.
    pub(crate) data: Value,
}

/// The channel of events.
#[derive(Clone, Debug)]
pub(crate) struct Events(Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(channel(MAX_BEHIND).0)
    }
}

impl Events {
    /// Sends it to all receivers.
    pub(crate) fn tell(&self, event: Event) {
        // Without a listener nobody is told.
        let _ = self.0.send(event);
    }

    /// Listens from now on.
    pub(crate) fn listen(&self) -> Receiver<Event> {
        self.0.subscribe()
    }
}
