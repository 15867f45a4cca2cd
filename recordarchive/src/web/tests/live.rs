//! Running calls: found, listed for users who may listen, and heard until they end.

use super::Archive;
use crate::access::audit::Entry;
use crate::access::secret::key_hash;
use crate::access::{Grant, Role, Use};
use crate::catalogue::Catalogue;
use crate::catalogue::model::Account;
use crate::catalogue::same::Sameness;
use crate::clock;
use crate::events::{About, Events};
use crate::id::Id;
use crate::jobs::live::Watch;
use crate::testing::{record, run, site};
use crate::time::{day_of, rfc3339};
use ::media::codec::Codec;
use axum::body::{Body, HttpBody};
use axum::http::{Request, StatusCode};
use recfile::sidecar::SidecarState;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use store::fs::{Fs, RealFs};
use tower::ServiceExt;

/// A recording that somebody writes.
struct Recorder {
    folder: PathBuf,
    name: String,
    file: File,
    audio: Vec<u8>,
    extension: String,
    start: String,
}

impl Recorder {
    fn begin(archive: &Archive, name: &str, extension: &str, segment: u32) -> Self {
        let day = day_of(clock::now_us(), &site().zone);
        let folder = archive.intake().join(format!("0c:11/{day}"));
        let audio = vec![0xD5; 16_000];
        let (recorder, start) = (format!("rec-{extension}"), rfc3339(clock::now_us()));
        let said = start.clone();
        let sidecar = |state| {
            move |sidecar: &mut recfile::sidecar::Sidecar| {
                sidecar.state = state;
                sidecar.recording = recorder;
                sidecar.segment = segment;
                sidecar.start = said;
                (sidecar.sha256, sidecar.end_reason) = (None, None);
                sidecar.call.id = format!("call-{extension}");
                sidecar.call.local_number = extension.into();
            }
        };
        record(&folder, name, Codec::Pcma, &audio, sidecar(SidecarState::Recording));
        let file = File::options().append(true).open(folder.join(name)).unwrap();
        assert!(RealFs.lock(&file).unwrap());
        Self { folder, name: name.into(), file, audio, extension: extension.into(), start }
    }

    fn write(&mut self, octets: &[u8]) {
        self.file.write_all(octets).unwrap();
        self.audio.extend(octets);
    }

    fn end(self, segment: u32) {
        let (audio, extension, start) = (self.audio, self.extension, self.start);
        record(&self.folder, &self.name, Codec::Pcma, &audio, |sidecar| {
            sidecar.recording = format!("rec-{extension}");
            sidecar.segment = segment;
            sidecar.start = start;
            sidecar.call.id = format!("call-{extension}");
            sidecar.call.local_number = extension;
        });
    }
}

impl Archive {
    fn watch(&self, events: Events) -> Watch {
        Watch::new(self.app.live(), events, site(), self.intake(), None)
    }

    async fn listen(&self, who: &str, path: &str) -> (StatusCode, Pin<Box<Body>>) {
        let request = Request::get(format!("/api/v1{path}")).header("authorization", format!("Bearer {who}"));
        let response = self.routes.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        (response.status(), Box::pin(response.into_body()))
    }

    async fn live(&self, who: &str) -> Vec<Value> {
        self.get(who, "/live").await.json()["live"].as_array().cloned().unwrap_or_default()
    }
}

/// The next `count` octets of a stream or some more, however they come.
async fn octets(body: &mut Pin<Box<Body>>, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        let more = next(body).await;
        assert!(!more.is_empty(), "it ended after {} of {count}", all.len());
        all.extend(more);
    }
    all
}

/// The next octets of a stream; none: it has ended.
async fn next(body: &mut Pin<Box<Body>>) -> Vec<u8> {
    match std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        Some(frame) => frame.unwrap().into_data().unwrap().to_vec(),
        None => Vec::new(),
    }
}

#[test]
fn live_calls_are_those_that_a_recorder_writes_now() {
    run(async {
        let archive = Archive::new().await;
        archive.fill().await;
        let events = archive.app.events();
        let mut heard = events.listen();
        let mut watch = archive.watch(events);
        watch.look(clock::now_us());
        assert_eq!(archive.live("super").await, [Value::Null; 0]);
        let recorder = Recorder::begin(&archive, "Record_l.wav", "201", 1);
        watch.look(clock::now_us());
        let live = archive.live("super").await;
        assert_eq!(live.len(), 1);
        for (key, value) in [
            ("external_id", json!("call-201")),
            ("direction", json!("in")),
            ("remote", json!({"number": "+49 30 1234711", "name": "Anna Müller"})),
            ("device", json!("0c:11")),
            ("codec", json!("PCMA")),
            ("encrypted", json!(false)),
            ("packets", Value::Null),
        ] {
            assert_eq!(live[0][key], value, "{key}");
        }
        let event = heard.try_recv().unwrap();
        assert_eq!((event.kind, &event.data["recording"]), ("call.live", &live[0]["id"]));
        assert!(matches!(event.about, About::Live(extension, _, _) if extension == "201"));
        watch.look(clock::now_us());
        assert!(heard.try_recv().is_err(), "it is told once");
        // A second file of it goes on under the same id, and so does the sealed recording.
        recorder.end(1);
        let second = Recorder::begin(&archive, "Record_m.wav", "201", 2);
        watch.look(clock::now_us());
        assert_eq!(archive.live("super").await[0]["id"], live[0]["id"]);
        // It has it after a restart, too, as soon as the first file is in the catalogue.
        let (catalogue, runtime) = (Arc::clone(&archive.catalogue), tokio::runtime::Handle::current());
        let begun = move |device: &str, recording: &str| {
            runtime.block_on(catalogue.begun(device, recording)).unwrap()
        };
        let mut restarted = archive.watch(Events::default()).knowing(Box::new(begun));
        let mut look = || std::thread::scope(|scope| scope.spawn(|| restarted.look(clock::now_us())).join());
        look().unwrap();
        assert_ne!(archive.live("super").await[0]["id"], live[0]["id"]);
        assert_eq!(archive.reconcile().await.added, 1);
        look().unwrap();
        let again = archive.live("super").await;
        assert_eq!((&again[0]["id"], &again[0]["started"]), (&live[0]["id"], &live[0]["started"]));
        second.end(2);
        watch.look(clock::now_us());
        assert_eq!(archive.live("super").await, [Value::Null; 0]);
        assert!(heard.try_recv().is_err());
        // A recorder that died keeps nothing alive.
        drop(Recorder::begin(&archive, "Record_n.wav", "202", 1));
        watch.look(clock::now_us());
        assert_eq!(archive.live("super").await, [Value::Null; 0]);
    });
}

#[test]
fn live_calls_are_listed_for_those_alone_who_may_listen_to_them() {
    run(async {
        let archive = Archive::new().await;
        let used = |extension: &str, from_us, to_us| Use { extension: extension.into(), from_us, to_us };
        let now_us = clock::now_us();
        for (name, uses) in [
            ("desk", vec![used("201", 0, None)]),
            ("left", vec![used("201", 0, Some(now_us - 1)), used("202", now_us - 1_000_000, None)]),
            ("both", vec![used("201", 0, None), used("202", 0, None)]),
        ] {
            let account = Account { id: Id::random(0), name: name.into(), password: None, disabled: false };
            let entry = Entry::new(0, "test", "account.add", name);
            let grant = Grant::of(Role::Supervisor, uses);
            archive.catalogue.add_account(&account, &grant, &entry).await.unwrap();
            archive.catalogue.add_token(name, "test", &key_hash(name), &[], &entry).await.unwrap();
        }
        let numbers = ["201", "202", "203"];
        let recorders =
            numbers.map(|number| Recorder::begin(&archive, &format!("Record_{number}.wav"), number, 1));
        archive.watch(Events::default()).look(clock::now_us());
        let all = archive.live("super").await;
        assert_eq!(all.len(), recorders.len());
        for (who, expected) in
            [("super", 3), ("desk", 1), ("left", 1), ("both", 2), ("agent", 0), ("legal", 0), ("admin", 0)]
        {
            let listed = archive.live(who).await;
            assert_eq!(listed.len(), expected, "{who}");
            for one in &all {
                let path = format!("/live/{}/audio", one["id"].as_str().unwrap());
                let (status, _) = archive.listen(who, &path).await;
                let is_listed = listed.iter().any(|other| other["id"] == one["id"]);
                assert_eq!(status == StatusCode::OK, is_listed, "{who} {one}");
                if expected > 0 && !is_listed {
                    assert_eq!(status, StatusCode::NOT_FOUND);
                }
            }
        }
        for who in ["agent", "invest", "legal", "auditor", "admin", "program"] {
            assert_eq!(archive.get(who, "/live").await.status, StatusCode::FORBIDDEN, "{who}");
        }
        assert_eq!(
            archive.get("super", &format!("/live/{}/audio", Id::random(0))).await.status,
            StatusCode::NOT_FOUND
        );
    });
}

#[test]
fn live_audio_is_that_of_the_file_and_ends_with_the_call() {
    run(async {
        let archive = Archive::new().await;
        let mut recorder = Recorder::begin(&archive, "Record_l.wav", "201", 1);
        let mut watch = archive.watch(Events::default());
        watch.look(clock::now_us());
        let id = archive.live("super").await[0]["id"].as_str().unwrap().to_owned();
        let path = format!("/live/{id}/audio");
        let (status, mut stored) = archive.listen("super", &path).await;
        assert_eq!(status, StatusCode::OK);
        let (_, mut pcm) = archive.listen("super", &format!("{path}?format=pcm")).await;
        let head = next(&mut stored).await;
        assert_eq!((head.len(), &head[20..22]), (58, &[6, 0][..]));
        assert_eq!(next(&mut pcm).await.len(), 44);
        assert!(octets(&mut stored, 8000).await == [0xD5; 8000], "the last second");
        assert_eq!(octets(&mut pcm, 16_000).await.len(), 16_000);
        recorder.write(&[0x55; 800]);
        assert!(octets(&mut stored, 800).await == [0x55; 800]);
        assert_eq!(octets(&mut pcm, 1600).await.len(), 1600);
        drop(pcm);
        // The next file of the same recording follows.
        recorder.end(1);
        let mut second = Recorder::begin(&archive, "Record_m.wav", "201", 2);
        second.write(&[0x54; 80]);
        watch.look(clock::now_us());
        let rest = octets(&mut stored, 16_080).await;
        assert!(rest[16_000..] == [0x54; 80]);
        second.write(&[0x53; 40]);
        second.end(2);
        watch.look(clock::now_us());
        assert!(octets(&mut stored, 40).await == [0x53; 40], "nothing of the end is left out");
        assert_eq!(next(&mut stored).await, [0; 0]);
        let entries = archive.catalogue.audit(0, 1000).await.unwrap();
        let live: Vec<_> = entries.iter().filter(|link| link.entry.action == "live").collect();
        assert_eq!(live.len(), 2, "one for each who listens in");
        assert!(live.iter().all(|link| link.entry.object == id && link.entry.actor == "super"));
        archive.app.log_heard(true).await;
        let entries = archive.catalogue.audit(0, 1000).await.unwrap();
        let heard = entries.iter().find(|link| link.entry.action == "heard").unwrap();
        assert!(heard.entry.object == id && heard.entry.detail.contains("[[1000,"), "{}", heard.entry.detail);
    });
}

#[test]
fn live_audio_without_its_audit_entry_is_none() {
    run(async {
        let archive = Archive::new().await;
        let _recorder = Recorder::begin(&archive, "Record_l.wav", "201", 1);
        archive.watch(Events::default()).look(clock::now_us());
        let id = archive.live("super").await[0]["id"].as_str().unwrap().to_owned();
        archive.refuse_entries().await;
        let (status, _) = archive.listen("super", &format!("/live/{id}/audio")).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    });
}

#[test]
fn live_audio_ends_with_the_server() {
    run(async {
        let archive = Archive::new().await;
        let _recorder = Recorder::begin(&archive, "Record_l.wav", "201", 1);
        archive.watch(Events::default()).look(clock::now_us());
        let id = archive.live("super").await[0]["id"].as_str().unwrap().to_owned();
        let (_, mut stored) = archive.listen("super", &format!("/live/{id}/audio")).await;
        next(&mut stored).await;
        archive.app.end();
        while !next(&mut stored).await.is_empty() {}
    });
}

#[test]
fn live_calls_have_a_page_with_a_button_to_listen_in() {
    run(async {
        let archive = Archive::new().await;
        let _recorder = Recorder::begin(&archive, "Record_l.wav", "201", 1);
        archive.watch(Events::default()).look(clock::now_us());
        let id = archive.live("super").await[0]["id"].as_str().unwrap().to_owned();
        let cookie = archive.log_in("super").await;
        let (_, text) = archive.page(&cookie, "/live").await;
        assert!(text.contains(&format!("data-listen=\"{id}\"")) && text.contains("Anna"), "{text}");
        let (status, _) = archive.page(&archive.log_in("legal").await, "/live").await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    });
}
