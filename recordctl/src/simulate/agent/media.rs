//! Speech to every recording, as if a call went on: the real agent has to be fed real RTP.

use super::super::super::rtp_sender::{Clip, Impairments, RtpSender, SenderSettings};
use super::super::{Log, speech};
use crossbeam_channel::Receiver;
use recordd::agent::RecordingKey;
use recordd::runtime::environment::RtpPortChange;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Packet time, independent of the recording's: the agent takes any.
const PTIME_MS: u16 = 20;

/// Sends to the ports that `changes` tells of, while `on`, until nobody tells any more.
pub(super) fn send(changes: &Receiver<RtpPortChange>, on: &Arc<AtomicBool>, log: Log) {
    let mut senders: BTreeMap<RecordingKey, RtpSender> = BTreeMap::new();
    loop {
        let change = if senders.is_empty() {
            match changes.recv() {
                Ok(change) => Some(change),
                Err(_) => return,
            }
        } else {
            changes.try_recv().ok()
        };
        match change {
            Some(RtpPortChange::Closed(recording)) => drop(senders.remove(&recording)),
            Some(RtpPortChange::Bound { recording, addr, codec }) => {
                let settings = SenderSettings {
                    codec,
                    ptime_ms: PTIME_MS,
                    payload_type: None,
                    impairments: Impairments::default(),
                    seed: u64::from(addr.port()),
                    speed: 1.0,
                };
                let clip = Clip::new(Cow::Borrowed(speech(codec)));
                match clip.map(|clip| RtpSender::new(addr, clip, settings)) {
                    Some(Ok(sender)) => drop(senders.insert(recording, sender)),
                    Some(Err(failure)) => log.line("media", &failure.to_string()),
                    None => {}
                }
            }
            None => {}
        }
        let packet = Duration::from_millis(PTIME_MS.into());
        for sender in senders.values_mut() {
            let on = on.load(Ordering::Relaxed);
            let sent = if on { sender.talk(packet, || Ok(())) } else { sender.silence(packet, || Ok(())) };
            if let Err(failure) = sent {
                log.line("media", &failure.to_string());
            }
        }
    }
}
