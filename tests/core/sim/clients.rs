//! Clients that ask for anything, and their books: each request with an id gets exactly one answer.

use super::rng::Rng;
use recordd::agent::ClientId;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The client that subscribes to everything and never leaves.
pub(crate) const OBSERVER: ClientId = ClientId(1);

/// Longest time of an answer (a start waits 2 s for a look at the disks, and 2 s for its file); only
/// [`PATIENT`] ones wait for the disk however long it takes.
const ANSWER_WITHIN_MS: u64 = 6100;

/// A server may take this longer to be found out of reach or silent.
const SERVER_WITHIN_MS: u64 = 8000;

/// The methods that only the disk can answer.
const PATIENT: &[&str] =
    &["storage.eject", "recordings.info", "recordings.delete", "recordings.protect", "play.start"];

/// A request that waits for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: &'static str,
    pub(crate) recording: Option<String>,
    at_ms: u64,
    within_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Client {
    waiting: BTreeMap<u64, Asked>,
    /// Lines whose answer can't name a request.
    nameless: u32,
    /// Replies that the agent says are to come.
    owed: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Clients {
    pub(crate) open: BTreeMap<ClientId, Client>,
    next_client: u64,
    next_id: u64,
}

impl Clients {
    pub(crate) fn new() -> Self {
        Self { open: BTreeMap::new(), next_client: OBSERVER.0, next_id: 0 }
    }

    pub(crate) fn connect(&mut self) -> ClientId {
        let client = ClientId(self.next_client);
        self.next_client += 1;
        self.open.insert(client, Client::default());
        client
    }

    /// The line of a request, with an id unless it is a notification.
    pub(crate) fn ask(
        &mut self,
        client: ClientId,
        method: &'static str,
        params: &Value,
        with_id: bool,
        now_ms: u64,
    ) -> Vec<u8> {
        let mut request = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        if with_id {
            self.next_id += 1;
            request["id"] = self.next_id.into();
            let recording = params["recording"].as_str().map(Into::into);
            let server = params["mode"] == "server";
            let within_ms = ANSWER_WITHIN_MS + if server { SERVER_WITHIN_MS } else { 0 };
            let asked = Asked { method, recording, at_ms: now_ms, within_ms };
            self.open.get_mut(&client).expect("open").waiting.insert(self.next_id, asked);
        }
        request.to_string().into_bytes()
    }

    /// A line that is no request.
    pub(crate) fn garbage(&mut self, client: ClientId, rng: &mut Rng) -> Vec<u8> {
        self.open.get_mut(&client).expect("open").nameless += 1;
        let lines: [&[u8]; 8] = [
            b"{",
            b"\xFF\xFE",
            b"[]",
            b"42",
            b"{\"jsonrpc\":\"1.0\",\"method\":\"agent.info\"}",
            b"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"agent.info\"}",
            b"GET / HTTP/1.1",
            b"{\"jsonrpc\":\"2.0\"}",
        ];
        rng.pick(&lines).to_vec()
    }

    pub(crate) fn too_long(&mut self, client: ClientId) {
        self.open.get_mut(&client).expect("open").nameless += 1;
    }

    /// The agent says that a reply is to come.
    pub(crate) fn owed(&mut self, client: ClientId) {
        if let Some(client) = self.open.get_mut(&client) {
            client.owed += 1;
        }
    }

    /// Books an answer; gives the request that it answers.
    pub(crate) fn answered(&mut self, client: ClientId, line: &[u8]) -> Option<(Asked, Value)> {
        let mut answer: Value = serde_json::from_slice(line).expect("an answer is JSON");
        // The client may have left.
        let client = self.open.get_mut(&client)?;
        client.owed = client.owed.checked_sub(1).expect("a reply was said to come");
        let both = answer.get("result").is_some() && answer.get("error").is_some();
        assert!(!both, "result and error: {answer}");
        let Some(id) = answer["id"].as_u64() else {
            assert!(answer["error"].is_object(), "an answer to nobody: {answer}");
            client.nameless = client.nameless.checked_sub(1).expect("one answer for each bad line");
            return None;
        };
        let asked = client.waiting.remove(&id);
        let asked = asked.unwrap_or_else(|| panic!("a second answer, or one to no request: {answer}"));
        Some((asked, answer["result"].take()))
    }

    /// Everybody gets an answer in time.
    pub(crate) fn check(&self, now_ms: u64, at_rest: bool) {
        for (client, it) in &self.open {
            assert_eq!(it.nameless, 0, "{client:?}: a bad line without an answer");
            assert_eq!(it.owed, it.waiting.len(), "{client:?}: replies to come, and requests that wait");
            for (id, asked) in &it.waiting {
                let patient = !at_rest && PATIENT.contains(&asked.method);
                let in_time = now_ms < asked.at_ms + asked.within_ms && !at_rest;
                assert!(patient || in_time, "{client:?}: no answer to request {id}: {asked:?}");
            }
        }
    }

    /// A random request about files, or about a playback of one.
    pub(crate) fn about_files(
        rng: &mut Rng,
        files: &[String],
        playbacks: &[String],
        may_delete: bool,
    ) -> (&'static str, Value) {
        let file =
            if files.is_empty() || rng.chance(50) { "Record_none.wav" } else { rng.pick(files).as_str() };
        let position_ms = rng.below(20_000);
        let mut which = json!({});
        if !playbacks.is_empty() && rng.chance(800) {
            which["playback"] = rng.pick(&playbacks[playbacks.len().saturating_sub(4)..]).as_str().into();
        }
        let rtp = json!({ "addr": "127.0.0.1", "port": 4000 });
        match rng.below(100) {
            0..=29 => ("play.start", json!({ "file": file, "rtp": rtp, "position_ms": position_ms })),
            30..=39 => ("play.pause", which),
            40..=49 => ("play.resume", which),
            50..=57 => {
                which["position_ms"] = position_ms.into();
                ("play.seek", which)
            }
            58..=61 => ("play.stop", which),
            62..=66 => ("play.status", json!({})),
            67..=76 => ("recordings.list", json!({ "limit": 1 + rng.below(20) })),
            77..=86 => ("recordings.info", json!({ "file": file })),
            87..=90 if may_delete => ("recordings.delete", json!({ "file": file })),
            _ => ("recordings.protect", json!({ "file": file, "protected": rng.chance(300) })),
        }
    }

    /// A random request.
    pub(crate) fn random(rng: &mut Rng, recordings: &[String]) -> (&'static str, Value) {
        let which = |rng: &mut Rng, mut params: Value| {
            match rng.below(10) {
                0..=6 if !recordings.is_empty() => {
                    // One of the newest, mostly.
                    let newest = &recordings[recordings.len().saturating_sub(4)..];
                    params["recording"] = rng.pick(newest).as_str().into();
                }
                7 => params["recording"] = "none-such".into(),
                _ => {}
            }
            params
        };
        match rng.below(100) {
            0..=24 => {
                let codec = *rng.pick(&["PCMA", "PCMU", "G722", "G722", "opus"]);
                let mode = match rng.below(100) {
                    0..=4 => "sip-info",
                    5..=24 => "server",
                    _ => "local",
                };
                let ptime_ms = *rng.pick(&[10, 20, 20, 30, 60]);
                let call = json!({ "id": "c", "direction": "in", "remote_number": "+4930123456" });
                ("record.start", json!({ "codec": codec, "mode": mode, "ptime_ms": ptime_ms, "call": call }))
            }
            25..=34 => ("record.pause", which(rng, json!({}))),
            35..=57 => ("record.resume", which(rng, json!({}))),
            58..=61 => ("record.stop", which(rng, json!({}))),
            62..=66 => ("record.update", which(rng, json!({ "call": { "remote_name": "Jörg" } }))),
            67..=74 => ("record.status", which(rng, json!({}))),
            75..=77 => ("agent.info", json!({})),
            78..=82 => ("events.subscribe", json!({ "types": *rng.pick(&[&["recording"], &["storage"]]) })),
            83..=84 => ("events.unsubscribe", json!({})),
            85..=88 => ("storage.status", json!({})),
            89 if rng.chance(400) => ("storage.eject", json!({})),
            90..=93 => ("record.start", json!({ "codec": 3 })),
            94 => ("no.such.method", json!({})),
            _ => ("stats.get", json!({})),
        }
    }
}
