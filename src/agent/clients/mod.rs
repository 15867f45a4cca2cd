//! The clients of the local socket: their subscriptions, requests, and events on their way to them.
//!
//! Owns: subscriptions, and the refusal of lines that are no request. Never: the meaning of a request for
//! recordings, disks or the library.

pub(in crate::agent) mod answer;

use crate::agent::clients::answer::{Answer, Caller, Failure, answer};
use crate::agent::{Action, ClientId, Input};
use crate::api::event::Event;
use crate::api::reply::Done as Empty;
use crate::api::request::{self, Method, Refused, Request};
use crate::api::status::Stats;
use crate::api::subscription::Subscription;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The connected clients, and counters over all clients.
#[derive(Debug, Default)]
pub(in crate::agent) struct Clients {
    subscriptions: BTreeMap<ClientId, Subscription>,
    requests: u64,
    events_lost: u64,
    closed: u64,
}

/// The part of an input that is left for the other parts of the agent.
pub(in crate::agent) enum Rest<'a> {
    /// Nothing.
    Nothing,
    /// A request, whose answer is given to the caller.
    Request(Caller, Method),
    /// It is not about clients.
    Input(Input<'a>),
}

impl Clients {
    /// Takes an input, if it is about clients.
    pub(in crate::agent) fn handle<'a>(&mut self, input: Input<'a>, actions: &mut Vec<Action>) -> Rest<'a> {
        match input {
            Input::ClientOpened(client) => {
                self.subscriptions.insert(client, Subscription::new());
            }
            Input::ClientLine(client, line) => return self.line(client, line, actions),
            Input::ClientLineTooLong(client) => refuse(client, &Refused::line_too_long(), actions),
            Input::ClientClosed(client) => {
                self.subscriptions.remove(&client);
            }
            Input::ClientsDoNotRead { events, closed } => {
                self.events_lost += events;
                self.closed += closed;
            }
            input => return Rest::Input(input),
        }
        Rest::Nothing
    }

    fn line<'a>(&mut self, client: ClientId, line: &[u8], actions: &mut Vec<Action>) -> Rest<'a> {
        self.requests += 1;
        let Request { id, method } = match request::parse(line) {
            Ok(request) => request,
            Err(refused) => {
                refuse(client, &refused, actions);
                return Rest::Nothing;
            }
        };
        // Before anything is done: some requests are answered while they are carried out.
        actions.extend(id.as_ref().map(|_| Action::OweReply(client)));
        let caller = Caller::new(client, id);
        let (types, wanted) = match method {
            Method::EventsSubscribe { types } => (types, true),
            Method::EventsUnsubscribe { types } => (types, false),
            method => return Rest::Request(caller, method),
        };
        let answer = self.subscribe(client, types.as_deref(), wanted);
        caller.give(answer, actions);
        Rest::Nothing
    }

    fn subscribe(&mut self, client: ClientId, types: Option<&[String]>, wanted: bool) -> Answer {
        if let Some(subscription) = self.subscriptions.get_mut(&client) {
            let changed =
                if wanted { subscription.subscribe(types) } else { subscription.unsubscribe(types) };
            changed.map_err(|_| Failure::Params("`types`: too many prefixes, 32 at most".into()))?;
        }
        answer(&Empty {})
    }

    /// Sends an event to every client that wants it; serialised once.
    pub(in crate::agent) fn emit(&self, event: &Event, actions: &mut Vec<Action>) {
        let name = event.name();
        let mut params: Option<Rc<[u8]>> = None;
        for (client, _) in self.subscriptions.iter().filter(|(_, subscription)| subscription.wants(name)) {
            let params = params.get_or_insert_with(|| event.params_json().into()).clone();
            actions.push(Action::Notify { client: *client, name, params, class: event.class() });
        }
    }

    /// Whether any client wants this event.
    pub(in crate::agent) fn wants(&self, name: &str) -> bool {
        self.subscriptions.values().any(|subscription| subscription.wants(name))
    }

    /// Writes the counters of this part.
    pub(in crate::agent) fn count_in(&self, stats: &mut Stats) {
        stats.clients = self.subscriptions.len() as u64;
        stats.clients_closed = self.closed;
        stats.requests = self.requests;
        stats.events_lost = self.events_lost;
    }
}

/// Answers a line that is no good request, if an answer is due.
fn refuse(client: ClientId, refused: &Refused, actions: &mut Vec<Action>) {
    if let Some(line) = refused.line() {
        actions.extend([Action::OweReply(client), Action::Reply(client, line)]);
    }
}
