//! The phone's SIP stack as far as `sip-info` needs it: answers `sip.info` with a status code.
//!
//! It has a connection and a thread of its own, because the agent may ask while `record.start` is
//! still waiting for its answer.

use super::super::AgentArgs;
use super::super::client::Client;
use super::super::failure::Failure;
use super::Log;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The interval between looks whether the thread is still wanted.
const LOOK_ROUND: Duration = Duration::from_millis(100);

/// Answers until it is dropped.
#[derive(Debug)]
pub(super) struct SipStack {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SipStack {
    pub(super) fn start(agent: &AgentArgs, code: u16, log: Log) -> Result<Self, Failure> {
        let mut client = agent.connect()?;
        client.call("events.subscribe", json!({"types": ["sip."]}))?;
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                if let Err(failure) = answer(&mut client, code, log) {
                    log.line("sip", &failure.to_string());
                    break;
                }
            }
        });
        Ok(Self { ended, thread: Some(thread) })
    }
}

impl Drop for SipStack {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; and if it did, the call is over anyway.
            let _ = thread.join();
        }
    }
}

fn answer(client: &mut Client, code: u16, log: Log) -> Result<(), Failure> {
    let Some(event) = client.next_event(Some(LOOK_ROUND))? else { return Ok(()) };
    if event.name != "sip.info" {
        return Ok(());
    }
    let header = event.params["headers"]["Record"].as_str().unwrap_or("?");
    log.line("sip", &format!("INFO with Record: {header}, answered by {code}"));
    client.call("sip.info_result", json!({"recording": event.params["recording"], "code": code}))?;
    Ok(())
}
