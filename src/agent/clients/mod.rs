//! The clients of the local socket: what they subscribed to, and events on their way to them.

use crate::agent::{Action, Agent, Turn};
use crate::api::event::Event;
use std::rc::Rc;

mod requests;

impl Agent {
    /// Sends an event to every client that wants it; serialised once.
    pub(in crate::agent) fn emit(&self, event: &Event, turn: &mut Turn<'_>) {
        let name = event.name();
        let mut params: Option<Rc<[u8]>> = None;
        for (client, _) in self.clients.iter().filter(|(_, subscription)| subscription.wants(name)) {
            let params = params.get_or_insert_with(|| event.params_json().into()).clone();
            turn.actions.push(Action::Notify { client: *client, name, params, class: event.class() });
        }
    }

    pub(in crate::agent) fn wants(&self, name: &str) -> bool {
        self.clients.values().any(|subscription| subscription.wants(name))
    }
}
