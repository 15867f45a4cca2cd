//! `GET /stream`: server-sent events, each only to users who may see its subject.

use super::App;
use super::caller::caller;
use super::problem::Problem;
use crate::access::{Permission, authorize, permit};
use crate::clock;
use crate::events::{About, Event};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde_json::json;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{Receiver, channel};

/// Streams at once.
pub(super) const MAX_STREAMS: usize = 500;
/// The interval at which a line without meaning is sent, so that proxies keep the connection, and a session
/// that ended is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /stream`
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    authorize(&actor, Permission::CallSearch, None, clock::now_us())?;
    let many = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many streams are open");
    let place = Arc::clone(&app.streams).try_acquire_owned().map_err(many)?;
    let mut events = app.events.listen();
    let mut ends = app.ends.subscribe();
    let (out, lines) = channel::<String>(16);
    tokio::spawn(async move {
        let _place = place;
        let mut text = ": the archive's events\n\n".to_owned();
        loop {
            if !text.is_empty() && out.send(text).await.is_err() {
                return;
            }
            text = tokio::select! {
                biased;
                event = events.recv() => match event {
                    // The caller is looked up each time: rights may have ended.
                    Ok(event) => match told(&app, &method, &headers, &event).await {
                        Ok(text) => text,
                        Err(_) => return,
                    },
                    Err(RecvError::Lagged(count)) => {
                        format!("event: stream.lagged\ndata: {}\n\n", json!({"left_out": count}))
                    }
                    Err(RecvError::Closed) => return,
                },
                () = async { drop(ends.wait_for(|end| *end).await) } => return,
                () = out.closed() => return,
                () = tokio::time::sleep(KEEP_ALIVE) => match caller(&app, &method, &headers).await {
                    Ok(_) => ":\n\n".into(),
                    Err(_) => return,
                },
            };
        }
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    Ok((kind, Body::new(Lines(lines))).into_response())
}

/// The text of an event for a user; empty where they may not see its subject.
async fn told(app: &App, method: &Method, headers: &HeaderMap, event: &Event) -> Result<String, Problem> {
    let actor = caller(app, method, headers).await?;
    let now_us = clock::now_us();
    let mut data = event.data.clone();
    match event.about {
        About::Recording(id) => {
            let Ok(condition) = authorize(&actor, Permission::CallSearch, None, now_us) else {
                return Ok(String::new());
            };
            let Some(media) = app.catalogue.media(id, &condition).await? else { return Ok(String::new()) };
            data["call"] = json!(media.call);
            data["recording"] = json!(id.to_string());
        }
        About::Live(ref extension, ref site, started_us) => {
            match authorize(&actor, Permission::AudioLive, None, now_us) {
                Ok(condition) if condition.admits(extension, site, started_us) => {}
                _ => return Ok(String::new()),
            }
        }
        About::System if permit(&actor, Permission::ConfigEdit, now_us).is_err() => return Ok(String::new()),
        About::System => {}
    }
    Ok(format!("event: {}\ndata: {data}\n\n", event.kind))
}

/// The body of a stream.
struct Lines(Receiver<String>);

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(Bytes::from(line)))))
    }
}
