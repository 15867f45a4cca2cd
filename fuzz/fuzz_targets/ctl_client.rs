//! A hostile agent: whatever it answers, `recordctl` gets a result, an error or a time-out, and bounded memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use recordctl::client::Client;
use recordd::api::status::{AgentInfo, RecordingStatus, Recordings, StorageStatus};
use serde_json::Value;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

static AGENT: OnceLock<(UnixListener, PathBuf)> = OnceLock::new();

fuzz_target!(|input: (bool, &[u8])| {
    let (right, octets) = input;
    let (listener, path) = AGENT.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("recordctl-fuzz-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        (UnixListener::bind(&path).unwrap(), path)
    });
    let Ok(mut client) = Client::connect(path, Duration::from_millis(200)) else { return };
    let (mut agent, _) = listener.accept().unwrap();
    // What fits the socket's buffer is written without anybody reading.
    let octets = &octets[..octets.len().min(64 * 1024)];
    if right {
        let _ = agent.write_all(br#"{"jsonrpc":"2.0","method":"storage.low","params":{"seq":1}}"#);
        let _ = agent.write_all(b"\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":");
    }
    let _ = agent.write_all(octets);
    if right {
        let _ = agent.write_all(b"}\n");
    }
    let _ = agent.shutdown(std::net::Shutdown::Write);
    if let Ok(result) = client.call("agent.info", Value::Null) {
        let _ = serde_json::from_value::<AgentInfo>(result.clone());
        let _ = serde_json::from_value::<Recordings>(result.clone());
        let _ = serde_json::from_value::<RecordingStatus>(result.clone());
        let _ = serde_json::from_value::<StorageStatus>(result);
    }
    while let Ok(Some(_)) = client.next_event(Some(Duration::ZERO)) {}
});
