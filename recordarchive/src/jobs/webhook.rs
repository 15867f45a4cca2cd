//! Webhooks: events that are posted to other programs, signed as Standard Webhooks has it.
//!
//! Owns: requests, their signature, and when one is sent again. Never: numbers and names; an event names ids,
//! and its receiver asks for the rest with a token of its own. Invariants: one request of a hook at a time,
//! in order. Recordings are told in the order in which they came, each until it is taken, after a restart,
//! too: the catalogue has them, so nothing waits in memory. All other events are dropped after the last try,
//! with a line in the log. Their queue has the limit of [`crate::events`].

use crate::access::{Actor, Condition, Grant, Permission, Role, authorize};
use crate::catalogue::{Catalogue, Done};
use crate::client::Client;
use crate::clock;
use crate::config::Hook;
use crate::events::{About, Event, Events};
use crate::id::Id;
use crate::time::rfc3339;
use axum::http::{Request, StatusCode, header};
use hmac::{Hmac, KeyInit, Mac};
use recfile::seal::base64;
use serde_json::json;
use sha2::Sha256;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// Times after failures until the same is sent again; after the last it is dropped.
const AGAIN: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)];

/// The event of each recording.
const SEALED: &str = "call.sealed";
/// The interval between looks for recordings that another process took in.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Recordings that are looked up at a time.
const BATCH: u32 = 100;

/// By these a program says that it will never take this one; it does not keep the others from it.
const UNFIT: [StatusCode; 3] =
    [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];

/// Posts the events of a hook.
pub(crate) struct Webhook {
    hook: Hook,
    secret: Vec<u8>,
    client: Client,
    again: &'static [Duration],
}

impl Webhook {
    /// That of a setting. Reads the secret and the system's certificates.
    ///
    /// # Errors
    /// A text for the administrator that names the file.
    pub(crate) fn new(hook: Hook) -> Result<Self, String> {
        let text = std::fs::read_to_string(&hook.secret_file);
        let text = text.map_err(|error| format!("{}: {error}", hook.secret_file.display()))?;
        let text = text.trim();
        let secret = match text.strip_prefix("whsec_") {
            Some(coded) => base64::decode(coded.trim_end_matches('='))
                .ok_or_else(|| format!("{}: behind whsec_ base64 is wanted", hook.secret_file.display()))?,
            None => text.as_bytes().to_vec(),
        };
        if secret.len() < 16 {
            return Err(format!("{}: a secret of 16 octets or more is wanted", hook.secret_file.display()));
        }
        let client = Client::new()?;
        client.may_ask(&hook.url).map_err(|error| format!("webhook: {error}"))?;
        Ok(Self { hook, secret, client, again: &AGAIN })
    }

    /// Posts events until the line ends: recordings from where it left off, all else from now on.
    pub(crate) async fn run(self, catalogue: Arc<dyn Catalogue>, events: Events) {
        let events = events.listen();
        self.follow(&*catalogue, events).await;
    }

    fn wants(&self, kind: &str) -> bool {
        self.hook.events.iter().any(|wanted| wanted == kind)
    }

    async fn follow(&self, catalogue: &dyn Catalogue, mut events: Receiver<Event>) {
        loop {
            if self.wants(SEALED)
                && let Err(error) = self.catch_up(catalogue).await
            {
                log::error!("webhook: {error}");
            }
            match tokio::time::timeout(LOOK_EVERY, events.recv()).await {
                // The catalogue has them, and in order.
                Err(_) => {}
                Ok(Ok(event)) if event.kind == SEALED => {}
                Ok(Ok(event)) if self.wants(event.kind) => drop(self.deliver(catalogue, &event).await),
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Lagged(count))) => {
                    log::error!("webhook: {} is so slow that {count} events were left out", self.hook.url);
                }
                Ok(Err(RecvError::Closed)) => return,
            }
        }
    }

    /// Posts the recordings that it was not told of yet, until one can't be.
    async fn catch_up(&self, catalogue: &dyn Catalogue) -> Done<()> {
        let mut place = catalogue.hook_place(&self.hook.url).await?;
        loop {
            let behind = catalogue.recordings_behind(place, BATCH).await?;
            if behind.is_empty() {
                return Ok(());
            }
            for (key, id) in behind {
                let event = Event { kind: SEALED, about: About::Recording(id), data: json!({}) };
                if !self.deliver(catalogue, &event).await {
                    return Ok(());
                }
                catalogue.set_hook_place(&self.hook.url, key).await?;
                place = key;
            }
        }
    }

    /// Whether it was taken, or nobody has to be told of it.
    async fn deliver(&self, catalogue: &dyn Catalogue, event: &Event) -> bool {
        let now_us = clock::now_us();
        let mut data = event.data.clone();
        if let About::Live(extension, site, started_us) = &event.about
            && !program_sees(now_us).is_some_and(|condition| condition.admits(extension, site, *started_us))
        {
            return true;
        }
        // The same id each time, so that a receiver notices a second copy.
        let mut message = Id::random(now_us);
        if let About::Recording(id) = event.about {
            let Some(condition) = program_sees(now_us) else { return true };
            match catalogue.media(id, &condition).await {
                Ok(Some(media)) => data["call"] = json!(media.call),
                Ok(None) => return true,
                Err(error) => {
                    log::error!("webhook: {error}");
                    return false;
                }
            }
            data["recording"] = json!(id.to_string());
            message = id;
        }
        let body = json!({"type": event.kind, "timestamp": rfc3339(now_us), "data": data}).to_string();
        let id = format!("msg_{message}");
        let mut is_unfit = false;
        for wait in self.again.iter().map(Some).chain([None]) {
            match self.post(&id, &body).await {
                Ok(status) if status.is_success() => return true,
                Ok(status) => {
                    is_unfit = UNFIT.contains(&status);
                    log::warn!("webhook: {} answers {status}", self.hook.url);
                }
                Err(error) => log::warn!("webhook: {}: {error}", self.hook.url),
            }
            if let Some(wait) = wait {
                tokio::time::sleep(*wait).await;
            }
        }
        log::error!("webhook: {} does not take {} {id}", self.hook.url, event.kind);
        is_unfit
    }

    async fn post(&self, id: &str, body: &str) -> io::Result<StatusCode> {
        let timestamp = clock::now_us().div_euclid(1_000_000).to_string();
        let request = Request::post(&self.hook.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", &timestamp)
            .header("webhook-signature", signature(&self.secret, id, &timestamp, body))
            .body(body.as_bytes().to_vec())
            .map_err(io::Error::other)?;
        // Only the status counts.
        Ok(self.client.send(request, 0).await?.status())
    }
}

/// The signature of Standard Webhooks, version 1.
fn signature(secret: &[u8], id: &str, timestamp: &str, body: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", base64::encode_padded(&mac.finalize().into_bytes()))
}

/// The condition on the calls that a hook may get: that of a program with the role `integration`.
fn program_sees(now_us: i64) -> Option<Condition> {
    let grant = Grant::of(Role::Integration, Vec::new());
    let actor = Actor { account: Id([0; 16]), name: "(webhook)".into(), grants: vec![grant], limit: None };
    authorize(&actor, Permission::CallSearch, None, now_us).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::hooks::Hooks;
    use crate::catalogue::model::Taken;
    use crate::testing::{catalogue, found, run};
    use axum::Router;
    use axum::http::HeaderMap;
    use axum::routing::post;
    use tokio::sync::mpsc::unbounded_channel;

    #[test]
    fn a_signature_is_that_of_the_standard() {
        // The example of the Standard Webhooks' reference libraries.
        let secret = base64::decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let said = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "{\"test\": 2432232314}");
        assert_eq!(said, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn an_event_is_posted_signed_until_it_is_taken_and_no_other_is() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let catalogue = catalogue(folder.path()).await;
            catalogue.take(&[found(1, "4711", "201")]).await.unwrap();
            let (out, mut posts) = unbounded_channel::<(HeaderMap, String)>();
            let answers = Arc::new(std::sync::atomic::AtomicU16::new(500));
            let take = move |headers: HeaderMap, body: String| {
                let (out, answers) = (out.clone(), Arc::clone(&answers));
                async move {
                    out.send((headers, body)).unwrap();
                    // Once it fails, then all is well.
                    StatusCode::from_u16(answers.swap(204, std::sync::atomic::Ordering::SeqCst)).unwrap()
                }
            };
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
            tokio::spawn(axum::serve(listener, Router::new().route("/hook", post(take))).into_future());
            let secret_file = folder.path().join("secret");
            std::fs::write(&secret_file, "too short").unwrap();
            let hook = Hook { url, secret_file, events: vec!["call.sealed".into()] };
            assert!(Webhook::new(hook.clone()).err().unwrap().contains("16 octets"));
            std::fs::write(&hook.secret_file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
            let new = || Webhook { again: &[Duration::ZERO], ..Webhook::new(hook.clone()).unwrap() };
            let webhook = new();
            let secret = webhook.secret.clone();
            // Recordings older than the hook are not sent.
            webhook.catch_up(&*catalogue).await.unwrap();
            let Taken::Added { recording } = catalogue.take(&[found(2, "4711", "201")]).await.unwrap()[0]
            else {
                panic!("it is new")
            };
            let events = Events::default();
            let follow = |webhook: Webhook| {
                let (catalogue, line) = (Arc::clone(&catalogue), events.listen());
                tokio::spawn(async move { webhook.follow(&*catalogue, line).await })
            };
            let task = follow(webhook);
            events.tell(Event { kind: "storage.low", about: About::System, data: json!({}) });
            events.tell(Event { kind: "call.sealed", about: About::Recording(recording), data: json!({}) });
            let (first, second) = (posts.recv().await.unwrap(), posts.recv().await.unwrap());
            assert_eq!((&first.1, &first.0["webhook-id"]), (&second.1, &second.0["webhook-id"]));
            let text = |name: &str| second.0[name].to_str().unwrap();
            let signed = signature(&secret, text("webhook-id"), text("webhook-timestamp"), &second.1);
            assert_eq!(text("webhook-signature"), signed);
            let body: serde_json::Value = serde_json::from_str(&second.1).unwrap();
            assert_eq!(
                (&body["type"], &body["data"]["recording"]),
                (&json!("call.sealed"), &json!(recording.to_string()))
            );
            assert!(!second.1.contains("4711"), "{}", second.1);
            // Recordings that come while no hook runs are sent after a restart, in order and once.
            while catalogue.hook_place(&hook.url).await.unwrap() < 2 {
                tokio::task::yield_now().await;
            }
            task.abort();
            let _ = task.await;
            catalogue.take(&[found(3, "4711", "201"), found(4, "4711", "201")]).await.unwrap();
            follow(new());
            let ids = [posts.recv().await.unwrap(), posts.recv().await.unwrap()]
                .map(|(headers, _)| headers["webhook-id"].to_str().unwrap().to_owned());
            let all = catalogue.recordings_behind(2, 10).await.unwrap();
            assert_eq!(ids.to_vec(), all.iter().map(|(_, id)| format!("msg_{id}")).collect::<Vec<_>>());
        });
    }
}
