//! One simulated call: the phone's requests to the agent, and the RTP that goes with them.

use super::super::client::{Client, Event};
use super::super::failure::{Failure, explained};
use super::super::interrupt::Interrupt;
use super::super::model::{RtpAddress, id_text};
use super::super::pace;
use super::super::rtp_sender::{Clip, RtpSender, SenderSettings};
use super::Log;
use super::script::Step;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The time, from the answer to `record.stop`, until the file has to be closed and synced.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// A call that is being recorded.
#[derive(Debug)]
pub(super) struct PhoneCall {
    client: Client,
    recording: Value,
    file: Value,
    /// None where the phone sends no RTP to the agent (sip-info).
    sender: Option<RtpSender>,
    speed: f64,
    interrupt: Interrupt,
    log: Log,
    closed: Option<Value>,
}

impl PhoneCall {
    /// Asks the agent to record and gets ready to send to where it says.
    pub(super) fn start(
        mut client: Client,
        params: Value,
        clip: Clip,
        settings: SenderSettings,
        interrupt: Interrupt,
        log: Log,
    ) -> Result<Self, Failure> {
        client.call("events.subscribe", json!({"types": ["recording.", "storage.", "uplink."]}))?;
        let started = client.call("record.start", params)?;
        let sender = match started.get("rtp").filter(|rtp| !rtp.is_null()) {
            None => None,
            Some(rtp) => {
                let to = rtp_target(rtp)?;
                log.line(
                    "phone",
                    &format!("recording {} starts, RTP goes to {to}", id_text(&started["recording"])),
                );
                Some(RtpSender::new(to, clip, settings)?)
            }
        };
        if sender.is_none() {
            log.line(
                "phone",
                &format!("recording {} starts, no RTP asked for", id_text(&started["recording"])),
            );
        }
        let (recording, file) = (started["recording"].clone(), started["file"].clone());
        Ok(Self { client, recording, file, sender, speed: settings.speed, interrupt, log, closed: None })
    }

    /// Does one step of the script; [`Failure::Interrupted`] if Ctrl-C cut it short.
    pub(super) fn step(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Talk(media) => {
                self.log.line("phone", &format!("talks for {} s", media.as_secs_f64()));
                self.send(media)
            }
            Step::Pause(media) => {
                self.client.call("record.pause", json!({"recording": self.recording}))?;
                self.log.line(
                    "phone",
                    &format!("pauses the recording for {} s; RTP goes on", media.as_secs_f64()),
                );
                self.send(media)?;
                self.client.call("record.resume", json!({"recording": self.recording}))?;
                self.log.line("phone", "resumes the recording");
                Ok(())
            }
            Step::Silence(media) => {
                self.log.line("phone", &format!("sends nothing for {} s", media.as_secs_f64()));
                self.with_sender(|sender, watch| sender.silence(media, watch), media)
            }
            Step::Transfer => {
                self.log.line("phone", "is transferred: new SSRC");
                if let Some(sender) = &mut self.sender {
                    sender.transfer();
                }
                Ok(())
            }
        }
    }

    /// Stops the recording, waits until its file is closed, and gives its last status.
    pub(super) fn stop(mut self) -> Result<Value, Failure> {
        let mut status = self.client.call("record.stop", json!({"recording": self.recording}))?;
        self.log.line("phone", "stops the recording");
        let deadline = pace::now() + CLOSE_TIMEOUT;
        while self.closed.is_none() {
            let left = deadline.saturating_duration_since(pace::now());
            let Some(event) = self.client.next_event(Some(left))? else {
                return Err(Failure::NoAnswer {
                    method: "record.stop (recording.ended)".into(),
                    waited: CLOSE_TIMEOUT,
                });
            };
            self.take(&event)?;
        }
        for (name, value) in self.closed.as_ref().and_then(Value::as_object).into_iter().flatten() {
            status[name.as_str()] = value.clone();
        }
        if status["file"].is_null() {
            status["file"] = self.file;
        }
        if let Some(object) = status.as_object_mut() {
            object.remove("seq");
        }
        if let Some(books) = self.sender.as_ref().map(RtpSender::books) {
            self.log.line(
                "phone",
                &format!(
                    "made {} packets: {} sent, {} lost, {} reordered, {} duplicated, {} refused",
                    books.made, books.sent, books.lost, books.reordered, books.duplicated, books.refused
                ),
            );
            status["sent"] = json!(books);
        }
        Ok(status)
    }

    fn send(&mut self, media: Duration) -> Result<(), Failure> {
        self.with_sender(|sender, watch| sender.talk(media, watch), media)
    }

    /// Lets the sender work while the agent's events are looked at; without one only time passes.
    fn with_sender(
        &mut self,
        work: impl FnOnce(&mut RtpSender, &mut dyn FnMut() -> Result<(), Failure>) -> Result<(), Failure>,
        media: Duration,
    ) -> Result<(), Failure> {
        let Some(mut sender) = self.sender.take() else {
            let end = pace::now() + media.div_f64(self.speed);
            return pace::wait_in_slices(end, || self.look());
        };
        let outcome = work(&mut sender, &mut || self.look());
        self.sender = Some(sender);
        outcome
    }

    /// Takes the events that are there; fails if the recording is over before it was stopped.
    fn look(&mut self) -> Result<(), Failure> {
        while let Some(event) = self.client.next_event(Some(Duration::ZERO))? {
            self.take(&event)?;
        }
        if self.interrupt.came()? {
            return Err(Failure::Interrupted);
        }
        match &self.closed {
            None => Ok(()),
            Some(params) => {
                let reason = explained(params);
                Err(Failure::Ended(format!("the recording ended before it was stopped: {reason}")))
            }
        }
    }

    fn take(&mut self, event: &Event) -> Result<(), Failure> {
        let ours = event.params["recording"] == self.recording;
        match event.name.as_str() {
            "recording.progress" => {}
            name if name.starts_with("recording.") && !ours => {}
            "recording.ended" => {
                self.log.line("agent", "recording.ended: the file is closed");
                self.closed = Some(event.params.clone());
            }
            "recording.failed" => {
                return Err(Failure::Ended(format!("the recording failed: {}", explained(&event.params))));
            }
            name => self.log.line("agent", name),
        }
        Ok(())
    }
}

/// The target of RTP; an agent that listens on every address is reached by loopback, as its socket is local.
fn rtp_target(rtp: &Value) -> Result<SocketAddr, Failure> {
    let unclear = |_| Failure::Protocol(format!("rtp is {rtp}"));
    let address = RtpAddress::deserialize(rtp).map_err(|error| unclear(error.to_string()))?;
    let ip: IpAddr = address.addr.parse().map_err(|_| unclear(address.addr.clone()))?;
    let ip = if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip };
    Ok(SocketAddr::new(ip, address.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rtp_address_that_is_none_is_the_agents_mistake() {
        let target = rtp_target(&json!({"addr": "0.0.0.0", "port": 4000})).unwrap();
        assert_eq!(target, "127.0.0.1:4000".parse().unwrap());
        for bad in [json!(7), json!({"addr": "x", "port": 1}), json!({"addr": "::1", "port": 70_000})] {
            assert!(matches!(rtp_target(&bad), Err(Failure::Protocol(_))));
        }
    }
}
