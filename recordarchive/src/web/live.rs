//! Calls that go on: the list, and listening in.
//!
//! Invariants: a user may listen to exactly the calls in the user's list; no octet leaves before its audit
//! entry is on the disk; there is no way to be heard. Listening is noted as for recordings that are played.

use super::App;
use super::audio::{Listener, codec_named};
use super::caller::caller;
use super::calls::id;
use super::params::Query;
use super::problem::Problem;
use crate::access::audit::Entry;
use crate::access::{Actor, Permission, authorize, sees_numbers};
use crate::catalogue::model::{Party, Place};
use crate::clock;
use crate::id::Id;
use crate::live::Running;
use crate::media;
use crate::media::wav::Form;
use crate::number::masked;
use crate::time::rfc3339;
use ::media::codec::Codec;
use audio_codec_algorithms::{decode_alaw, decode_ulaw};
use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use recfile::g722::G722Decoder;
use recfile::header::HEADER_OCTETS;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use store::fs::{Fs, RealFs};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The most listeners at once.
pub(super) const MAX_LISTENERS: usize = 100;
/// The interval between looks whether the file has grown.
const EVERY: Duration = Duration::from_millis(100);
/// Distance from the end of the file at which listening begins: a second.
const BEHIND_OCTETS: u64 = 8000;
/// Octets read at a time: a slow listener gets the backlog in pieces.
const PIECE_OCTETS: u64 = 16 << 10;
/// Pieces that wait for a slow listener.
const MAX_PIECES: usize = 8;
/// Looks until a recording that is not in the list any more has ended: the next file of it may come.
const LOOKS_TO_END: u32 = 25;
/// Looks after which it is asked again whether one may listen: 10 s.
const LOOKS_TO_ASK: u32 = 100;
/// The length in a header without an end: more than any call has.
const ENDLESS_OCTETS: u64 = 0xFFFF_0000;

fn shown(running: &Running, full: bool, now_us: i64) -> Value {
    let party = |party: &Party| {
        let number = if full { party.number.clone() } else { masked(&party.number) };
        json!({"number": number, "name": party.name})
    };
    json!({
        "id": running.id.to_string(), "external_id": running.external_id,
        "direction": running.direction.map(recfile::call::Direction::as_str), "started": rfc3339(running.started_us),
        "elapsed_ms": (now_us - running.started_us).max(0) / 1000, "remote": party(&running.remote),
        "local": party(&running.local), "device": running.device, "site": running.site, "codec": running.codec,
        "encrypted": running.encrypted, "packets": running.told.map(|told| told.packets),
        "lost": running.told.map(|told| told.lost),
    })
}

#[derive(Deserialize)]
pub(super) struct Params {
    format: Option<String>,
    reason: Option<String>,
}

/// `GET /live`: the running calls that the user may listen to.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    method: Method,
    headers: HeaderMap,
    Query(params): Query<Params>,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let now_us = clock::now_us();
    let condition = authorize(&actor, Permission::AudioLive, params.reason.as_deref(), now_us)?;
    let full = sees_numbers(&actor, &condition, now_us);
    let all = app.live.all();
    let seen =
        all.iter().filter(|running| condition.admits(&running.extension, &running.site, running.started_us));
    let seen: Vec<Value> = seen.map(|running| shown(running, full, now_us)).collect();
    Ok(Json(json!({"live": seen})).into_response())
}

/// The running call with this id, if the user may listen to it.
fn allowed(app: &App, actor: &Actor, id: Id, reason: Option<&str>) -> Result<Running, Problem> {
    let condition = authorize(actor, Permission::AudioLive, reason, clock::now_us())?;
    let running = app.live.one(id);
    running
        .filter(|running| condition.admits(&running.extension, &running.site, running.started_us))
        .ok_or_else(Problem::not_found)
}

/// `GET /live/{id}/audio`: the audio, about a second late, until the call ends.
pub(super) async fn audio(
    State(app): State<Arc<App>>,
    Path(text): Path<String>,
    Query(params): Query<Params>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = caller(&app, &method, &headers).await?;
    let reason = params.reason;
    let running = allowed(&app, &actor, id(&text)?, reason.as_deref())?;
    let codec = codec_named(&running.codec, running.encrypted)?;
    let pcm = match params.format.as_deref() {
        None => false,
        Some("pcm") => true,
        Some(other) => return Err(Problem::bad(format!("there is no format {other:?}; there is pcm"))),
    };
    let form = Form::of(codec, pcm);
    let kind = [(header::CONTENT_TYPE, "audio/wav"), (header::CACHE_CONTROL, "private, no-store")];
    if method == Method::HEAD {
        return Ok((kind, Body::empty()).into_response());
    }
    let many = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many people listen in");
    let place = Arc::clone(&app.listeners).try_acquire_owned().map_err(many)?;
    let gone = |_| Problem::new(StatusCode::GONE, "its file can't be read at the moment");
    let file = open(running.file.clone()).await.map_err(gone)?;
    let said = json!({
        "external_id": running.external_id, "extension": running.extension, "device": running.device,
        "recording": running.recording, "file": running.file.name, "reason": reason,
    });
    let entry = Entry::new(clock::now_us(), &actor.name, "live", running.id).with(&said);
    app.catalogue.log(&[entry]).await?;
    let (out, pieces) = channel(MAX_PIECES);
    let head = form.header(codec, ENDLESS_OCTETS / 4 * 4).unwrap_or_default();
    let _ = out.send(head).await;
    let position = octets(&file).saturating_sub(BEHIND_OCTETS);
    let listening = Listening {
        listener: Listener::to(&app, &actor, running.id, form, codec),
        asks: (method, headers, reason),
        id: running.id,
        file,
        of: running.file,
        position,
        begun: 0,
        codec,
        form,
        decoder: G722Decoder::default(),
        out,
        app,
    };
    tokio::spawn(async move {
        let _place = place;
        listening.follow().await;
    });
    Ok((kind, Body::new(Stream(pieces))).into_response())
}

async fn open(file: Place) -> io::Result<File> {
    let opened = tokio::task::spawn_blocking(move || RealFs.open_read(&media::path(&file))).await;
    opened.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Octets of payload in a file.
fn octets(file: &File) -> u64 {
    file.metadata().map_or(0, |found| found.len().saturating_sub(HEADER_OCTETS as u64))
}

/// A listener.
struct Listening {
    app: Arc<App>,
    listener: Listener,
    asks: (Method, HeaderMap, Option<String>),
    id: Id,
    file: File,
    of: Place,
    /// In the file.
    position: u64,
    /// Octets of payload in the files before it, as far as they were followed.
    begun: u64,
    codec: Codec,
    form: Form,
    decoder: G722Decoder,
    out: Sender<Vec<u8>>,
}

impl Listening {
    /// Sends audio until the call ends, the listener leaves, or the permission ends.
    async fn follow(mut self) {
        let mut ends = self.app.ends.subscribe();
        let mut looks = tokio::time::interval(EVERY);
        let (mut count, mut missing) = (0_u32, 0_u32);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                // One that ended before this began counts, too.
                _ = ends.wait_for(|end| *end) => return,
                () = self.out.closed() => return,
            }
            count = count.wrapping_add(1);
            if count % LOOKS_TO_ASK == 0 && !self.may().await {
                return;
            }
            let listed = self.app.live.one(self.id);
            // The file is read after the list: nothing of its end is left out.
            if !self.send().await {
                return;
            }
            match listed {
                Some(running)
                    if running.file.name == self.of.name && running.file.folder == self.of.folder =>
                {
                    missing = 0;
                }
                Some(running) => match open(running.file.clone()).await {
                    Ok(file) => {
                        self.begun += self.position;
                        (self.file, self.of, self.position, missing) = (file, running.file, 0, 0);
                    }
                    Err(_) => return,
                },
                None => missing += 1,
            }
            if missing >= LOOKS_TO_END {
                return;
            }
        }
    }

    async fn may(&self) -> bool {
        let (method, headers, reason) = &self.asks;
        let Ok(actor) = caller(&self.app, method, headers).await else { return false };
        let now_us = clock::now_us();
        let condition = authorize(&actor, Permission::AudioLive, reason.as_deref(), now_us);
        // That the call has ended is seen elsewhere.
        let running = self.app.live.one(self.id);
        condition.is_ok_and(|condition| {
            running
                .is_none_or(|running| condition.admits(&running.extension, &running.site, running.started_us))
        })
    }

    /// Sends the octets that were added to the file; false if nobody takes them, or it can't be read.
    async fn send(&mut self) -> bool {
        loop {
            let count = octets(&self.file).saturating_sub(self.position).min(PIECE_OCTETS);
            if count == 0 {
                return true;
            }
            let mut stored = vec![0; usize::try_from(count).unwrap_or(0)];
            // A second of a file that was just written: it is in memory.
            if self.file.read_exact_at(&mut stored, HEADER_OCTETS as u64 + self.position).is_err() {
                return false;
            }
            let piece = self.piece(stored);
            if self.out.send(piece).await.is_err() {
                return false;
            }
            let from = self.begun + self.position;
            self.listener.stored(from, from + count);
            self.position += count;
        }
    }

    fn piece(&mut self, stored: Vec<u8>) -> Vec<u8> {
        match (self.form, self.codec) {
            (Form::Stored, _) => stored,
            (Form::Pcm, Codec::G722) => {
                let mut samples = Vec::with_capacity(stored.len() * 2);
                self.decoder.decode(&stored, &mut samples);
                samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
            }
            (Form::Pcm, Codec::Pcma) => {
                stored.iter().flat_map(|octet| decode_alaw(*octet).to_le_bytes()).collect()
            }
            (Form::Pcm, Codec::Pcmu) => {
                stored.iter().flat_map(|octet| decode_ulaw(*octet).to_le_bytes()).collect()
            }
        }
    }
}

/// The body of an answer without an end.
struct Stream(Receiver<Vec<u8>>);

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))))
    }
}
