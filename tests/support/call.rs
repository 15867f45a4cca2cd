//! A call that is being recorded: the phone's UI (start, pause, stop) and its media stack (RTP).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Agent, Client, Codec, Recording, RtpSource, number, patience, read_recording, text};

/// Packets sent at most before the agent is made to empty its socket: a receive buffer of the
/// kernel's default size holds more than these.
const BURST: usize = 50;

/// One recording and the stream into it.
pub(crate) struct Call {
    /// A connection that has subscribed to all events.
    pub(crate) client: Client,
    /// Id of the recording.
    pub(crate) id: String,
    /// The stream.
    pub(crate) source: RtpSource,
    /// The file that the answer to `record.start` named; empty if it named none.
    pub(crate) file: PathBuf,
    /// The codec.
    pub(crate) codec: Codec,
    /// The target of RTP.
    pub(crate) rtp: SocketAddr,
}

impl Call {
    /// Starts a local recording at 20 ms.
    pub(crate) fn start(agent: &Agent, codec: Codec) -> Self {
        Self::start_with(agent, codec, json!({}))
    }

    /// Starts a local recording with further parameters.
    pub(crate) fn start_with(agent: &Agent, codec: Codec, more: Value) -> Self {
        let mut client = agent.subscribed_client();
        let mut params = json!({"mode": "local", "codec": codec.name()});
        for (key, value) in more.as_object().expect("an object") {
            params[key] = value.clone();
        }
        let answer = client.ok("record.start", params);
        let port = u16::try_from(number(&answer, "/rtp/port")).expect("a port");
        let addr = text(&answer, "/rtp/addr").parse().expect("an address");
        let rtp = SocketAddr::new(addr, port);
        Self {
            client,
            id: text(&answer, "/recording").to_owned(),
            source: RtpSource::new(rtp, codec),
            file: answer["file"].as_str().map(|name| agent.path_of(name)).unwrap_or_default(),
            codec,
            rtp,
        }
    }

    /// Sends `packets` packets at once; gives their payloads.
    pub(crate) fn speak(&mut self, packets: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        for sent in 1..=packets {
            heard.extend(self.source.send_next());
            if sent % BURST == 0 {
                self.status();
            }
        }
        heard
    }

    /// Sends `packets` packets in real time; gives their payloads.
    pub(crate) fn speak_in_real_time(&mut self, packets: u32) -> Vec<u8> {
        let begin = Instant::now();
        let mut heard = Vec::new();
        for sent in 1..=packets {
            heard.extend(self.source.send_next());
            let due = begin + Duration::from_micros(125) * self.source.octets as u32 * sent;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        heard
    }

    /// Sends nothing for the time of `packets` packets; returns the audio that the file has to have for it.
    pub(crate) fn be_silent_in_real_time(&mut self, packets: u32) -> Vec<u8> {
        let octets = packets * self.source.octets as u32;
        self.source.be_silent(octets);
        std::thread::sleep(Duration::from_micros(125) * octets);
        self.silence(packets as usize)
    }

    /// Silence of `packets` packets, as the file has to have it.
    pub(crate) fn silence(&self, packets: usize) -> Vec<u8> {
        self.codec.silence(packets * self.source.octets)
    }

    /// Sends a request about this recording that must succeed.
    pub(crate) fn ok(&mut self, method: &str) -> Value {
        let params = self.params();
        self.client.ok(method, params)
    }

    /// The params that name this recording.
    pub(crate) fn params(&self) -> Value {
        json!({"recording": self.id})
    }

    /// The recording's status, after all that was sent before.
    pub(crate) fn status(&mut self) -> Value {
        let status = self.ok("record.status");
        assert_eq!(status["recording"], self.id.as_str(), "{status}");
        status
    }

    /// Stops, waits for `recording.ended` and gives its params.
    pub(crate) fn stop(&mut self) -> Value {
        let status = self.ok("record.stop");
        assert_eq!(status["recording"], self.id.as_str(), "{status}");
        self.wait_ended()
    }

    /// Waits for `recording.ended` of this recording and gives its params.
    pub(crate) fn wait_ended(&mut self) -> Value {
        self.wait_event("recording.ended")
    }

    /// Waits for an event about this recording and gives its params.
    pub(crate) fn wait_event(&mut self, name: &str) -> Value {
        let id = self.id.clone();
        self.client.wait_event_where(name, patience(), |params| params["recording"] == id.as_str())
    }

    /// Stops and reads the file.
    pub(crate) fn finish(&mut self) -> Recording {
        self.stop();
        read_recording(&self.file)
    }

    /// Stops, and fails unless the file has exactly this audio.
    pub(crate) fn finish_and_expect(&mut self, audio: &[u8]) {
        let codec = self.codec;
        self.finish().assert_finished(codec, audio);
    }
}

/// Packet counts of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) duplicate: u64,
    pub(crate) dropped: u64,
}

impl Books {
    /// Reads `packets` of a status or sidecar.
    pub(crate) fn of(status: &Value) -> Self {
        Self {
            received: number(status, "/packets/received"),
            lost: number(status, "/packets/lost"),
            late: number(status, "/packets/late"),
            duplicate: number(status, "/packets/duplicate"),
            dropped: number(status, "/packets/dropped"),
        }
    }

    /// Packets whose payload must be in the file: received = stored + duplicate + late + dropped.
    pub(crate) fn stored(self) -> u64 {
        self.received - self.late - self.duplicate - self.dropped
    }
}
