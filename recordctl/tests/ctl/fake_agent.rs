//! An agent as small as a test needs it: the socket protocol over one imaginary recording.
//!
//! Never: storage, RTP beyond counting packets, more than one recording at a time.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The requests that the agent got, and its answers.
#[derive(Debug, Default)]
struct State {
    requests: Vec<Value>,
    recording: Option<&'static str>,
    refusal: Option<Value>,
    /// The events that a watcher of a running recording sees, if not the usual ones.
    story: Option<Vec<(&'static str, Value)>>,
    subscribers: Vec<UnixStream>,
    seq: u64,
}

/// A listening agent; its threads end with the test process.
pub(crate) struct FakeAgent {
    _folder: tempfile::TempDir,
    pub(crate) socket: PathBuf,
    pub(crate) rtp: UdpSocket,
    state: Arc<Mutex<State>>,
}

impl FakeAgent {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let rtp = UdpSocket::bind("127.0.0.1:0").unwrap();
        rtp.set_nonblocking(true).unwrap();
        let port = rtp.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, port, &shared));
            }
        });
        Self { _folder: folder, socket, rtp, state }
    }

    /// From now on every request but subscriptions is refused with this error.
    pub(crate) fn refuse(&self, error: Value) {
        self.state.lock().unwrap().refusal = Some(error);
    }

    pub(crate) fn set_recording(&self, state: &'static str) {
        self.state.lock().unwrap().recording = Some(state);
    }

    /// Sets the events that a watcher of a running recording sees after it has asked for the status.
    pub(crate) fn set_story(&self, story: Vec<(&'static str, Value)>) {
        self.state.lock().unwrap().story = Some(story);
    }

    /// An event for all that have subscribed.
    pub(crate) fn tell(&self, name: &str, params: Value) {
        notify(&mut self.state.lock().unwrap(), name, params);
    }

    /// Closes the connections of all that have subscribed.
    pub(crate) fn hang_up(&self) {
        for subscriber in &self.state.lock().unwrap().subscribers {
            subscriber.shutdown(std::net::Shutdown::Both).unwrap();
        }
    }

    /// The params of the first request with this method.
    pub(crate) fn asked(&self, method: &str) -> Option<Value> {
        let state = self.state.lock().unwrap();
        state
            .requests
            .iter()
            .find(|request| request["method"] == method)
            .map(|request| request["params"].clone())
    }

    /// The methods in the order in which they were asked.
    pub(crate) fn methods(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter_map(|request| Some(request["method"].as_str()?.to_owned())).collect()
    }

    /// The RTP packets that have arrived.
    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        let mut packet = [0; 2048];
        std::iter::from_fn(|| self.rtp.recv(&mut packet).ok().map(|octets| packet[..octets].to_vec()))
            .collect()
    }
}

pub(crate) fn status(state: &str) -> Value {
    json!({
        "recording": "r1", "mode": "local", "state": state, "elapsed_ms": 83_000, "bytes": 664_000,
        "file": "Record_20260301-091500.wav", "segment": 1,
        "packets": {"received": 4150, "lost": 3, "late": 0, "duplicate": 0, "dropped": 0},
        "buffered_ms": 40, "remaining_s": 3600, "level_dbfs": -20.5, "degraded": false,
        "end_reason": (state == "ended").then_some("stopped")
    })
}

fn serve(stream: &UnixStream, rtp_port: u16, state: &Mutex<State>) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let request: Value = serde_json::from_str(&line).unwrap();
        let method = request["method"].as_str().unwrap().to_owned();
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        let outcome = match &state.refusal {
            Some(error) if method != "events.subscribe" => Err(error.clone()),
            _ => Ok(answer(&method, rtp_port, &mut state)),
        };
        let reply = match &outcome {
            Ok(result) => json!({"jsonrpc": "2.0", "id": request["id"], "result": result}),
            Err(error) => json!({"jsonrpc": "2.0", "id": request["id"], "error": error}),
        };
        let mut writer = stream;
        writeln!(writer, "{reply}").unwrap();
        if method == "events.subscribe" {
            state.subscribers.push(stream.try_clone().unwrap());
        }
        if outcome.is_ok() {
            for (name, params) in events_after(&method, &state) {
                notify(&mut state, name, params);
            }
        }
    }
}

fn answer(method: &str, rtp_port: u16, state: &mut State) -> Value {
    match method {
        "agent.info" => json!({
            "version": "0.1.0", "protocol": 1, "modes": ["local"], "codecs": ["PCMA"], "uptime": 7300,
            "storage": storage(), "playbacks": [],
            "recordings": state.recording.map(status).into_iter().collect::<Vec<_>>()
        }),
        "record.start" => {
            state.recording = Some("recording");
            if state.requests.last().is_some_and(|request| request["params"]["mode"] == "sip-info") {
                return json!({"recording": "r1", "state": "starting", "rtp": null, "file": null});
            }
            json!({"recording": "r1", "state": "recording", "file": "Record_20260301-091500.wav",
                   "rtp": {"addr": "127.0.0.1", "port": rtp_port}})
        }
        "record.pause" | "record.resume" | "record.stop" | "record.update" => {
            let next = match method {
                "record.pause" => "paused",
                "record.stop" => "stopping",
                _ => "recording",
            };
            state.recording = Some(next);
            status(next)
        }
        "record.status" => json!({"recordings": state.recording.map(status).into_iter().collect::<Vec<_>>()}),
        "storage.status" => storage(),
        "recordings.list" => json!({"more": false, "recordings": [{
            "file": "Record_20260301-091500.wav", "codec": "PCMA", "start": "2026-03-01T09:15:00+01:00",
            "duration_ms": 83_000, "size_bytes": 664_076, "recording": "r1", "segment": 1, "protected": false,
            "call": {"direction": "in", "remote_number": "+49301234", "remote_name": "Zoë"}
        }]}),
        "play.start" => json!({"playback": "p1", "duration_ms": 83_000}),
        "stats.get" => json!({"packets": 4150, "drops": {"late": 0}}),
        _ => json!({}),
    }
}

fn storage() -> Value {
    json!({"present": true, "mount": "/media/usb0", "filesystem": "vfat", "total_bytes": 32_000_000_000_u64,
           "free_bytes": 16_000_000_000_u64, "remaining_s": 2_000_000, "state": "ok"})
}

/// The story that follows an answer; a watcher of a running recording sees it go on and end.
fn events_after(method: &str, state: &State) -> Vec<(&'static str, Value)> {
    let playback = |position_ms| json!({"playback": "p1", "position_ms": position_ms, "duration_ms": 83_000});
    match method {
        "record.status" if state.recording.is_some() && state.story.is_some() => {
            state.story.clone().unwrap_or_default()
        }
        "record.status" if state.recording.is_some() => vec![
            ("recording.progress", status("recording")),
            ("recording.progress", json!({"recording": "another", "elapsed_ms": 1})),
            ("recording.ended", status("ended")),
        ],
        "record.start" => vec![("sip.info", json!({"recording": "r1", "headers": {"Record": "on"}}))],
        "record.stop" => vec![("recording.ended", status("ended"))],
        "play.start" => vec![
            ("playback.progress", playback(41_500)),
            ("playback.ended", json!({"playback": "p1", "position_ms": 83_000, "end_reason": "finished"})),
        ],
        _ => Vec::new(),
    }
}

fn notify(state: &mut State, name: &str, mut params: Value) {
    state.seq += 1;
    params["seq"] = json!(state.seq);
    let line = json!({"jsonrpc": "2.0", "method": name, "params": params});
    // A subscriber that has left is nobody's trouble.
    state.subscribers.retain_mut(|subscriber| writeln!(subscriber, "{line}").is_ok());
}
