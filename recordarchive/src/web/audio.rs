//! Audio: ranges of a WAV that is read where it lies.
//!
//! Invariants: no octet of audio leaves before its audit entry is on the disk; the length that is said is the
//! length that comes; at most one piece of each answer is in memory.

use super::App;
use super::caller::caller;
use super::calls::id;
use super::params::Query;
use super::problem::Problem;
use crate::access::audit::Entry;
use crate::access::heard::Key;
use crate::access::{Actor, Permission, authorize};
use crate::catalogue::model::{RecordingMedia, plain_name};
use crate::clock;
use crate::id::{Id, hex};
use crate::media;
use crate::media::derived::Derived;
use crate::media::marks::Marked;
use crate::media::vault::Media;
use crate::media::view::View;
use crate::media::wav::{Asked, Form, asked};
use crate::time::SECOND_US;
use ::media::codec::Codec;
use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// Octets read at a time.
const PIECE_OCTETS: usize = 64 << 10;
/// Listening on within this time is the same listening.
const SAME_PLAY_US: i64 = 300 * SECOND_US;
/// Octets of a millisecond as they are stored: all codecs have 64 kbit/s.
const STORED_OCTETS_PER_MS: u64 = 8;
/// Listenings that are remembered.
const MAX_PLAYS: usize = 10_000;

#[derive(Deserialize)]
pub(super) struct Params {
    format: Option<String>,
    reason: Option<String>,
    segment: Option<u32>,
}

type Parts = (State<Arc<App>>, Path<String>, Query<Params>, Method, HeaderMap);

/// A recording that somebody may have this of.
async fn allowed(parts: &Parts, permission: Permission) -> Result<(Actor, RecordingMedia), Problem> {
    let (State(app), Path(text), Query(params), method, headers) = parts;
    let actor = caller(app, method, headers).await?;
    let condition = authorize(&actor, permission, params.reason.as_deref(), clock::now_us())?;
    let media = app.catalogue.media(id(text)?, &condition).await?.ok_or_else(Problem::not_found)?;
    Ok((actor, media))
}

fn codec_of(media: &RecordingMedia) -> Result<Codec, Problem> {
    codec_named(&media.codec, media.encrypted)
}

/// The codec of the audio to be played.
pub(super) fn codec_named(name: &str, encrypted: bool) -> Result<Codec, Problem> {
    if encrypted {
        let detail = "the recording is encrypted to a key that the archive does not have: fetch the original";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    Codec::from_name(name).ok_or_else(|| Problem::new(StatusCode::CONFLICT, "its codec is not known"))
}

/// Files that are there, before an answer begins.
async fn opened(mut view: View) -> Result<View, Problem> {
    let done = tokio::task::spawn_blocking(move || view.try_open().map(|()| view)).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| unreadable(&error))
}

fn unreadable(error: &io::Error) -> Problem {
    log::warn!("audio: a file can't be read: {error}");
    if error.kind() == io::ErrorKind::PermissionDenied {
        let detail = "the recording can't be opened at the moment: the archive's log says why";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    }
    Problem::new(StatusCode::GONE, "the recording's file is missing or can't be read at the moment")
}

/// The tag of a body: its audio and its form.
fn etag(media: &RecordingMedia, form: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(form);
    media.segments.iter().for_each(|segment| hash.update(&segment.sha256));
    format!("\"{}\"", &hex(&hash.finalize())[..32])
}

/// Notes that somebody listens, once for as long as they go on.
async fn note_play(
    app: &App,
    actor: &Actor,
    media: &RecordingMedia,
    reason: Option<&str>,
) -> Result<(), Problem> {
    let now_us = clock::now_us();
    let key = (actor.account, media.id);
    let lock = || app.plays.lock().unwrap_or_else(PoisonError::into_inner);
    let is_noted = lock().get(&key).is_some_and(|last_us| (0..SAME_PLAY_US).contains(&(now_us - last_us)));
    // Listening with a reason is noted each time.
    if !is_noted || reason.is_some() {
        let said = serde_json::json!({"call": media.call, "reason": reason});
        app.catalogue.log(&[Entry::new(now_us, &actor.name, "play", media.id).with(&said)]).await?;
    }
    let mut plays = lock();
    if plays.len() >= MAX_PLAYS {
        plays.retain(|_, last_us| now_us - *last_us < SAME_PLAY_US);
        if plays.len() >= MAX_PLAYS {
            plays.clear();
        }
    }
    plays.insert(key, now_us);
    Ok(())
}

/// `GET /recordings/{id}/audio`
pub(super) async fn audio(
    state: State<Arc<App>>,
    path: Path<String>,
    params: Query<Params>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parts = (state, path, params, method, headers);
    let (actor, media) = allowed(&parts, Permission::AudioPlay).await?;
    let (State(app), _, Query(params), method, headers) = parts;
    let codec = codec_of(&media)?;
    let pcm = match params.format.as_deref() {
        None => false,
        Some("pcm") => true,
        Some(other) => return Err(Problem::bad(format!("there is no format {other:?}; there is pcm"))),
    };
    let tag = etag(&media, if Form::of(codec, pcm) == Form::Pcm { "pcm" } else { "stored" });
    let too_long = || Problem::new(StatusCode::CONFLICT, "it is too long for a WAV: fetch the original");
    if codec == Codec::G722 && !app.states.has(&media) {
        // Without them it is decoded from its start.
        let (store, wanted) = (app.derived.clone(), media.clone());
        let kept = tokio::task::spawn_blocking(move || store.read(&wanted)).await.ok().flatten();
        if let Some(kept) = kept {
            app.states.put(&media, kept.states);
        }
    }
    let view = View::new(media.clone(), codec, pcm, Arc::clone(&app.states), app.vault.clone());
    let view = view.ok_or_else(too_long)?;
    let view = opened(view).await?;
    let total = view.len();
    let answer = answer(&headers, &tag, total);
    if method != Method::HEAD && matches!(answer, Asked::All | Asked::Part(..)) && !is_current(&headers, &tag)
    {
        note_play(&app, &actor, &media, params.reason.as_deref()).await?;
    }
    let form = Form::of(codec, pcm);
    let listener = Listener {
        header_octets: form.header_octets(),
        octets_per_ms: STORED_OCTETS_PER_MS * form.octets_per_octet(codec),
        key: (actor.account, media.id),
        actor: actor.name,
        call: media.call,
        app: Arc::clone(&app),
    };
    let source = Source::View(Box::new(view));
    let content = Content { kind: "audio/wav", total, source, listener: Some(listener) };
    Ok(send(&method, &headers, &tag, answer, content))
}

/// `GET /recordings/{id}/peaks`
pub(super) async fn peaks(
    state: State<Arc<App>>,
    path: Path<String>,
    params: Query<Params>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parts = (state, path, params, method, headers);
    let (actor, media) = allowed(&parts, Permission::AudioPlay).await?;
    let (State(app), _, Query(params), method, _) = parts;
    codec_of(&media)?;
    let derived = derived(&app, &media).await.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Problem::new(StatusCode::CONFLICT, error.to_string()),
        _ => unreadable(&error),
    })?;
    if method != Method::HEAD {
        // The wave is made of the audio, and says when somebody spoke.
        let said = serde_json::json!({"call": media.call, "part": "peaks", "reason": params.reason});
        app.catalogue.log(&[Entry::new(clock::now_us(), &actor.name, "view", media.id).with(&said)]).await?;
    }
    let wave = serde_json::from_slice(&derived.wave).map_err(|error| unreadable(&io::Error::other(error)))?;
    let marks = tokio::task::spawn_blocking(move || media::marks::marks(&media)).await;
    Ok(Json(Marked { wave, marks: marks.unwrap_or_default() }).into_response())
}

async fn derived(app: &App, media: &RecordingMedia) -> io::Result<Derived> {
    let (store, media) = (app.derived.clone(), media.clone());
    let made = tokio::task::spawn_blocking(move || store.make(&media)).await;
    made.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// `GET /recordings/{id}/original`
pub(super) async fn original(
    state: State<Arc<App>>,
    path: Path<String>,
    params: Query<Params>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parts = (state, path, params, method, headers);
    let (actor, media) = allowed(&parts, Permission::AudioDownload).await?;
    let (State(app), _, Query(params), method, headers) = parts;
    let number = match (params.segment, media.segments.as_slice()) {
        (Some(number), _) => number,
        (None, [one]) => one.number,
        (None, several) => {
            let numbers: Vec<String> = several.iter().map(|segment| segment.number.to_string()).collect();
            return Err(Problem::bad(format!(
                "it has several files: add ?segment=N, N of {}",
                numbers.join(", ")
            )));
        }
    };
    let segment =
        media.segments.iter().find(|segment| segment.number == number).ok_or_else(Problem::not_found)?;
    let (place, key, vault) = (segment.file.clone(), media.key.clone(), app.vault.clone());
    let open = tokio::task::spawn_blocking(move || {
        let file = vault.open(&place, key.as_deref())?;
        let octets = file.len()?;
        Ok((file, octets))
    });
    let opened = open.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    let (file, total) = opened.map_err(|error| unreadable(&error))?;
    let tag = format!("\"{}-{total}\"", hex(&segment.sha256));
    let answer = answer(&headers, &tag, total);
    if method != Method::HEAD {
        let said = serde_json::json!({"call": media.call, "segment": number, "reason": params.reason});
        app.catalogue
            .log(&[Entry::new(clock::now_us(), &actor.name, "download", media.id).with(&said)])
            .await?;
    }
    let content = Content {
        kind: "application/octet-stream",
        total,
        source: Source::File(Box::new(file)),
        listener: None,
    };
    let mut response = send(&method, &headers, &tag, answer, content);
    // Names of recordings have none of the characters that would end the quotes; others get a plain one.
    let name = plain_name(&segment.file.name);
    let is_plain = name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(&octet));
    let name = if is_plain { name } else { "recording.wav" };
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

fn header_text<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The part that a request asks for; for a range of another version, all of this one.
pub(super) fn answer(headers: &HeaderMap, tag: &str, total: u64) -> Asked {
    match header_text(headers, &header::IF_RANGE) {
        Some(wanted) if wanted != tag => Asked::All,
        _ => asked(header_text(headers, &header::RANGE), total),
    }
}

fn is_current(headers: &HeaderMap, tag: &str) -> bool {
    let listed = header_text(headers, &header::IF_NONE_MATCH).unwrap_or_default();
    listed == "*" || listed.split(',').any(|listed| listed.trim().trim_start_matches("W/") == tag)
}

/// The body of an answer, whole or in part.
pub(super) struct Content {
    pub(super) kind: &'static str,
    pub(super) total: u64,
    pub(super) source: Source,
    pub(super) listener: Option<Listener>,
}

pub(super) fn send(
    method: &Method,
    headers: &HeaderMap,
    tag: &str,
    answer: Asked,
    content: Content,
) -> Response {
    let Content { kind, total, source, listener } = content;
    let common = [
        (header::ETAG, tag.to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CACHE_CONTROL, "private, no-store".to_owned()),
    ];
    if is_current(headers, tag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let (status, from, to) = match answer {
        Asked::All => (StatusCode::OK, 0, total),
        Asked::Part(from, to) => (StatusCode::PARTIAL_CONTENT, from, to),
        Asked::Nothing => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{total}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, common, range).into_response();
        }
    };
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        Body::new(Pieces { state: Piece::Idle(source), from, at: from, to, listener })
    };
    let described =
        [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_LENGTH, (to - from).to_string())];
    let mut response = (status, common, described, body).into_response();
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = HeaderValue::from_str(&format!("bytes {from}-{}/{total}", to.saturating_sub(1)))
    {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    response
}

/// The source of the octets of an answer.
pub(super) enum Source {
    View(Box<View>),
    File(Box<Media>),
}

impl Source {
    fn read(&mut self, from: u64, limit: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::View(view) => view.read(from, limit),
            Self::File(file) => {
                let mut octets = vec![0; limit];
                file.seek(SeekFrom::Start(from))?;
                let count = file.read(&mut octets)?;
                octets.truncate(count);
                Ok(octets)
            }
        }
    }
}

enum Piece {
    Idle(Source),
    Reading(JoinHandle<(Source, io::Result<Vec<u8>>)>),
    Ended,
}

/// The body of an answer: a piece is read when the one before is on its way.
struct Pieces {
    state: Piece,
    from: u64,
    at: u64,
    to: u64,
    listener: Option<Listener>,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.sent(self.from, self.at);
        }
    }
}

/// The listener of an answer.
pub(super) struct Listener {
    app: Arc<App>,
    key: Key,
    actor: String,
    call: String,
    header_octets: u64,
    octets_per_ms: u64,
}

impl Listener {
    /// A listener of a running call. Its call has no id before it is over.
    pub(super) fn to(app: &Arc<App>, actor: &Actor, recording: Id, form: Form, codec: Codec) -> Self {
        Self {
            header_octets: form.header_octets(),
            octets_per_ms: STORED_OCTETS_PER_MS * form.octets_per_octet(codec),
            key: (actor.account, recording),
            actor: actor.name.clone(),
            call: String::new(),
            app: Arc::clone(app),
        }
    }

    /// Notes that this stored payload was given to the connection.
    pub(super) fn stored(&self, from: u64, to: u64) {
        let ms = |octet: u64| octet / STORED_OCTETS_PER_MS;
        let mut heard = self.app.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.sent(self.key, &self.actor, &self.call, (ms(from), ms(to)), clock::now_us());
    }

    /// Notes that these octets of the WAV were given to the connection.
    fn sent(&self, from: u64, to: u64) {
        let ms = |octet: u64| octet.saturating_sub(self.header_octets) / self.octets_per_ms;
        let mut heard = self.app.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.sent(self.key, &self.actor, &self.call, (ms(from), ms(to)), clock::now_us());
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            match std::mem::replace(&mut self.state, Piece::Ended) {
                Piece::Idle(_) if self.at >= self.to => return Poll::Ready(None),
                Piece::Idle(mut source) => {
                    let from = self.at;
                    let limit = usize::try_from(self.to - from).unwrap_or(usize::MAX).min(PIECE_OCTETS);
                    self.state = Piece::Reading(tokio::task::spawn_blocking(move || {
                        let read = source.read(from, limit);
                        (source, read)
                    }));
                }
                Piece::Reading(mut task) => match Pin::new(&mut task).poll(context) {
                    Poll::Pending => {
                        self.state = Piece::Reading(task);
                        return Poll::Pending;
                    }
                    done => {
                        let read = match ready!(done) {
                            Ok((_, Ok(octets))) if octets.is_empty() => {
                                Err(io::ErrorKind::UnexpectedEof.into())
                            }
                            Ok((source, Ok(octets))) => {
                                self.at += octets.len() as u64;
                                self.state = Piece::Idle(source);
                                Ok(Frame::data(Bytes::from(octets)))
                            }
                            Ok((_, Err(error))) => Err(error),
                            Err(error) => Err(io::Error::other(error)),
                        };
                        return Poll::Ready(Some(read));
                    }
                },
                Piece::Ended => return Poll::Ready(None),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.to - self.at)
    }
}
