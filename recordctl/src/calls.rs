//! Commands about recordings in progress: status, start, pause, resume, stop, update.

use super::failure::Failure;
use super::model::{PlaybackStatus, RecordingStatus, StorageStatus, id_text, read};
use super::output::{self, Fields, clock, long_time};
use super::{AgentArgs, OutputArgs};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::time::Duration;

#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// Only this recording
    recording: Option<String>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Args, Debug)]
pub(super) struct StartArgs {
    /// Codec of the call: PCMA, PCMU or G722
    #[arg(long, default_value = "PCMA")]
    codec: String,
    /// Packet time in milliseconds
    #[arg(long, default_value_t = 20, value_name = "MS", value_parser = clap::value_parser!(u32).range(5..=200))]
    ptime: u32,
    /// RTP payload type that carries the codec, beside its static one
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(0..=127))]
    payload_type: Option<u8>,
    /// The device that makes the recording
    #[arg(long, value_enum, default_value_t = Mode::Local)]
    mode: Mode,
    #[command(flatten)]
    call: CallArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// The device that records.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(super) enum Mode {
    /// The phone, to its disk
    Local,
    /// The recording server, which gets the RTP
    Server,
    /// The PBX, asked by SIP INFO
    SipInfo,
}

impl Mode {
    /// The mode's name on the socket.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Server => "server",
            Self::SipInfo => "sip-info",
        }
    }
}

/// The parties of the call.
#[derive(Args, Clone, Debug)]
pub(super) struct CallArgs {
    /// The call's id, e.g. its SIP Call-ID
    #[arg(long, value_name = "ID")]
    pub(super) call_id: Option<String>,
    /// The direction of the call: in or out
    #[arg(long, value_enum)]
    pub(super) direction: Option<Direction>,
    /// The other party's number
    #[arg(long, value_name = "NUMBER")]
    pub(super) remote_number: Option<String>,
    /// The other party's name
    #[arg(long, value_name = "NAME")]
    pub(super) remote_name: Option<String>,
    /// This phone's number
    #[arg(long, value_name = "NUMBER")]
    pub(super) local_number: Option<String>,
    /// This phone's name
    #[arg(long, value_name = "NAME")]
    pub(super) local_name: Option<String>,
}

/// Direction of a call as the phone sees it.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(super) enum Direction {
    /// The other party called
    In,
    /// This phone called
    Out,
}

impl CallArgs {
    /// The `call` object with the given fields.
    pub(super) fn to_json(&self) -> Value {
        let direction = self.direction.map(|direction| match direction {
            Direction::In => "in".to_owned(),
            Direction::Out => "out".to_owned(),
        });
        let members = [
            ("id", &self.call_id),
            ("direction", &direction),
            ("remote_number", &self.remote_number),
            ("remote_name", &self.remote_name),
            ("local_number", &self.local_number),
            ("local_name", &self.local_name),
        ];
        let given =
            members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))));
        Value::Object(given.collect::<Map<_, _>>())
    }
}

/// A recording that may be left out when there is one.
#[derive(Args, Debug)]
pub(super) struct OneRecording {
    /// The recording; may be left out when there is one
    recording: Option<String>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Args, Debug)]
pub(super) struct UpdateArgs {
    /// The recording; may be left out when there is one
    recording: Option<String>,
    #[command(flatten)]
    call: CallArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// `{"recording": id}`, or `{}` without an id.
pub(super) fn recording_params(recording: Option<&str>) -> Value {
    recording.map_or_else(|| json!({}), |id| json!({ "recording": id }))
}

/// Prints a recording's status as JSON or as fields.
fn show_recording(status: &Value, output: OutputArgs) -> Result<(), Failure> {
    if output.json {
        output::json(status)
    } else {
        output::line(&read::<RecordingStatus>(status).fields().render())
    }
}

impl StatusArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        let mut client = agent.connect()?;
        if let Some(recording) = &self.recording {
            let status = client.call("record.status", recording_params(Some(recording)))?;
            return show_recording(&status, self.output);
        }
        let info = client.call("agent.info", Value::Null)?;
        if self.output.json { output::json(&info) } else { output::line(&overview(&info)) }
    }
}

/// The agent's whole state for people.
fn overview(info: &Value) -> String {
    let mut head = Fields::default();
    head.add("agent", format!("recordd {}", info["version"].as_str().unwrap_or("of unknown version")));
    head.add(
        "up for",
        info["uptime"].as_u64().map(|s| long_time(Duration::from_secs(s))).unwrap_or_default(),
    );
    for name in ["modes", "codecs"] {
        let items: Vec<_> = info[name].as_array().into_iter().flatten().map(id_text).collect();
        head.add(name, items.join(" "));
    }
    let mut parts = vec![head.render()];
    parts.push(format!("Storage\n{}", indent(&read::<StorageStatus>(&info["storage"]).fields().render())));
    let recordings = info["recordings"].as_array().map_or(&[][..], Vec::as_slice);
    if recordings.is_empty() {
        parts.push("Nothing is being recorded.".into());
    }
    for recording in recordings {
        parts.push(format!("Recording\n{}", indent(&read::<RecordingStatus>(recording).fields().render())));
    }
    for playback in info["playbacks"].as_array().into_iter().flatten() {
        let playback: PlaybackStatus = read(playback);
        let mut fields = Fields::default();
        fields.add("playback", id_text(&playback.playback)).add("state", &playback.state);
        fields.add("file", playback.file.as_deref().unwrap_or(""));
        fields.add("position", format!("{} of {}", clock(playback.position_ms), clock(playback.duration_ms)));
        parts.push(format!("Playback\n{}", indent(&fields.render())));
    }
    parts.join("\n\n")
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

impl StartArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        let mut params = json!({
            "mode": self.mode.name(),
            "codec": self.codec.to_ascii_uppercase(),
            "ptime_ms": self.ptime,
            "call": self.call.to_json(),
        });
        if let Some(payload_type) = self.payload_type {
            params["payload_type"] = json!(payload_type);
        }
        let started = agent.connect()?.call("record.start", params)?;
        if self.output.json {
            return output::json(&started);
        }
        let mut fields = Fields::default();
        fields.add("recording", id_text(&started["recording"])).add("state", id_text(&started["state"]));
        fields.add("file", id_text(&started["file"]));
        if started["rtp"].is_object() {
            let rtp = &started["rtp"];
            fields.add("send RTP to", format!("{}:{}", id_text(&rtp["addr"]), rtp["port"]));
        }
        output::line(&fields.render())
    }
}

impl OneRecording {
    /// Calls a method that takes a recording and gives its status.
    pub(super) fn run(&self, agent: &AgentArgs, method: &str) -> Result<(), Failure> {
        let status = agent.connect()?.call(method, recording_params(self.recording.as_deref()))?;
        show_recording(&status, self.output)
    }
}

impl UpdateArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        let call = self.call.to_json();
        if call.as_object().is_none_or(Map::is_empty) {
            return Err(Failure::Usage(
                "nothing to change: give a number or name (--remote-number …)".into(),
            ));
        }
        let mut params = recording_params(self.recording.as_deref());
        params["call"] = call;
        let status = agent.connect()?.call("record.update", params)?;
        show_recording(&status, self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_names_storage_and_recordings() {
        let text = overview(&json!({
            "version": "0.1.0", "codecs": ["PCMA", "G722"],
            "storage": {"present": true, "state": "ok", "free_bytes": 1_048_576},
            "recordings": [{"recording": "r1", "state": "recording", "elapsed_ms": 1000}],
            "playbacks": [{"playback": "p1", "state": "playing", "duration_ms": 5000}]
        }));
        for part in ["recordd 0.1.0", "PCMA G722", "free   1.0 MiB", "  recording  r1", "0:00 of 0:05"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
