//! The agent's results as this tool reads them: every member may be missing, unknown ones are skipped.
//!
//! A second reader of the protocol on purpose: it shares no types with the agent, so that a phone's
//! older or newer agent can still be talked to.

use super::advice;
use super::output::{Fields, METER_CELLS, clock, long_time, meter, size};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Status of a recording.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct RecordingStatus {
    pub(super) recording: Value,
    pub(super) mode: String,
    pub(super) state: String,
    pub(super) elapsed_ms: u64,
    pub(super) bytes: u64,
    pub(super) file: Option<String>,
    pub(super) segment: Option<u64>,
    pub(super) packets: Packets,
    pub(super) buffered_ms: u64,
    pub(super) remaining_s: Option<u64>,
    pub(super) level_dbfs: Option<f64>,
    pub(super) codec: Option<String>,
    pub(super) payload_type: Option<u64>,
    pub(super) media: Option<String>,
    pub(super) degraded: bool,
    pub(super) end_reason: Option<String>,
    pub(super) outcome: Option<String>,
    pub(super) text_key: Option<String>,
    pub(super) rtp: Option<RtpAddress>,
    pub(super) confirmed: Option<bool>,
}

/// Packet counters of a recording.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Packets {
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) late: u64,
    pub(super) duplicate: u64,
    pub(super) dropped: u64,
}

/// The target of RTP.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(super) struct RtpAddress {
    pub(super) addr: String,
    pub(super) port: u16,
}

/// State of the disk that is recorded to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct StorageStatus {
    pub(super) present: bool,
    pub(super) state: String,
    pub(super) mount: Option<String>,
    pub(super) filesystem: Option<String>,
    pub(super) total_bytes: Option<u64>,
    pub(super) free_bytes: Option<u64>,
    pub(super) remaining_s: Option<u64>,
    pub(super) sync_mount: bool,
    pub(super) note: Option<String>,
}

/// One row of `recordings.list`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Listed {
    pub(super) file: String,
    pub(super) codec: Option<String>,
    pub(super) start: Option<String>,
    pub(super) duration_ms: Option<u64>,
    pub(super) size_bytes: Option<u64>,
    pub(super) call: Option<Call>,
    pub(super) protected: bool,
}

/// The parties of the call.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Call {
    pub(super) direction: Option<String>,
    pub(super) remote_number: Option<String>,
    pub(super) remote_name: Option<String>,
}

/// Status of a playback, and the params of its events.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct PlaybackStatus {
    pub(super) playback: Value,
    pub(super) state: String,
    pub(super) file: Option<String>,
    pub(super) position_ms: u64,
    pub(super) duration_ms: u64,
    pub(super) end_reason: Option<String>,
}

/// Reads `value` as far as it can be understood.
pub(super) fn read<T: Default + for<'de> Deserialize<'de>>(value: &Value) -> T {
    T::deserialize(value).unwrap_or_default()
}

/// An id as the user types it, whether the agent made it a text or a number.
pub(super) fn id_text(id: &Value) -> String {
    match id {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl RecordingStatus {
    /// The line of `watch` with all that there is to say, or as much of it as has room in `columns`:
    /// trouble and the timer come first, then the level, the time left, loss and buffer. `disk` is the
    /// trouble of the disk.
    pub(super) fn live_line(&self, disk: Option<&str>, columns: Option<usize>) -> String {
        let sign = match self.state.as_str() {
            "recording" => "REC",
            "paused" => "PAUSE",
            "" => "?",
            other => other,
        };
        let left = self.remaining_s.map(|left| format!("  left {}", long_time(Duration::from_secs(left))));
        let left = left.unwrap_or_default();
        let (lost, buffer) =
            (format!("  lost {}", self.packets.lost), format!("  buf {} ms", self.buffered_ms));
        let trouble = self.trouble(disk);
        let head = format!("{sign:<5} {:>7}", clock(self.elapsed_ms));
        let narrow_head = format!("{sign} {}", clock(self.elapsed_ms));
        let bar = |cells: usize| self.level_bar(cells).unwrap_or_default();
        let wide = format!("{head}{}{trouble}{buffer}{left}{lost}", bar(METER_CELLS));
        let file = self.file.as_ref().map(|file| format!("{wide}  {file}"));
        let Some(columns) = columns else { return wide };
        let choices = file.into_iter().chain([
            wide,
            format!("{head}{}{trouble}{left}{lost}", bar(METER_CELLS)),
            format!("{head}{}{trouble}{left}{lost}", bar(METER_CELLS / 2)),
            format!("{head}{}{trouble}{left}", bar(METER_CELLS / 2)),
            format!("{narrow_head}{}{trouble}{left}", bar(METER_CELLS / 4)),
            format!("{narrow_head}{}{trouble}", bar(METER_CELLS / 4)),
            format!("{narrow_head}{trouble}"),
            format!("{narrow_head}{}", trouble.replace("  DISK ", " ").replace("  ", " ")),
        ]);
        let mut shortest = narrow_head;
        for choice in choices {
            if choice.chars().count() <= columns {
                return choice;
            }
            shortest = choice;
        }
        shortest
    }

    /// The level, where there is something to hear.
    fn level_bar(&self, cells: usize) -> Option<String> {
        let flows = self.state == "recording" && matches!(self.media.as_deref(), None | Some("flowing"));
        let level = self.level_dbfs.filter(|_| flows)?;
        Some(format!(" [{}] {level:>3.0} dB", meter(level, cells)))
    }

    /// The troubles of the recording, with a blank before each.
    fn trouble(&self, disk: Option<&str>) -> String {
        let mut text = String::new();
        if self.state == "recording" {
            match self.media.as_deref() {
                None | Some("flowing") => {}
                Some("none") => text.push_str("  NO MEDIA"),
                Some(_) => text.push_str(&format!("  MEDIA: {}", self.media_text())),
            }
        }
        if let Some(disk) = disk {
            text.push_str(&format!("  DISK {disk}"));
        }
        if self.degraded {
            text.push_str("  DEGRADED");
        }
        text
    }

    /// The state of the incoming audio, in words.
    fn media_text(&self) -> &str {
        match self.media.as_deref() {
            None => "",
            Some("none") => "none",
            Some("encrypted") => "encrypted",
            Some("wrong_payload_type") => "another codec",
            Some(other) => other,
        }
    }

    /// All there is to say, as fields.
    pub(super) fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        let optional = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        fields.add("recording", id_text(&self.recording)).add("mode", &self.mode).add("state", &self.state);
        if self.confirmed == Some(false) {
            fields.add("confirmed", "no: the PBX took the request, which does not say that it records");
        }
        fields.add("recorded", format!("{} ({})", clock(self.elapsed_ms), size(self.bytes)));
        fields.add("file", self.file.as_deref().unwrap_or(""));
        fields.add("segment", optional(self.segment));
        if let Some(codec) = &self.codec {
            let payload_type = self.payload_type.map(|number| format!(", payload type {number}"));
            fields.add("codec", format!("{codec}{}", payload_type.unwrap_or_default()));
        }
        if let Some(rtp) = &self.rtp {
            fields.add("rtp", format!("{}:{}", rtp.addr, rtp.port));
        }
        fields.add("media", self.media_text());
        let p = &self.packets;
        let packets = format!(
            "{} received, {} lost, {} late, {} duplicate, {} dropped",
            p.received, p.lost, p.late, p.duplicate, p.dropped
        );
        fields.add("packets", packets).add("buffered", format!("{} ms", self.buffered_ms));
        if let Some(level) = self.level_dbfs {
            fields.add("level", format!("{level:.0} dBFS"));
        }
        if let Some(remaining_s) = self.remaining_s {
            fields.add("time left", long_time(Duration::from_secs(remaining_s)));
        }
        if self.degraded {
            fields.add("degraded", "yes: audio was lost on the recorder's side");
        }
        fields.add("ended", self.end_reason.as_deref().unwrap_or(""));
        fields.add("kept", self.kept().unwrap_or_default());
        fields
    }

    /// The kept part and the reason, if it has ended and is not complete.
    pub(super) fn kept(&self) -> Option<String> {
        let outcome = self.outcome.as_deref().filter(|outcome| *outcome != "complete")?;
        let why = self.text_key.as_deref().map(advice::by_text_key).unwrap_or_default();
        Some(if why.is_empty() { outcome.to_owned() } else { format!("{outcome}: {why}") })
    }
}

impl StorageStatus {
    /// All there is to say, as fields.
    pub(super) fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        let state = if self.state.is_empty() && !self.present { "absent" } else { &self.state };
        fields.add("state", state);
        fields.add("mount", self.mount.as_deref().unwrap_or(""));
        fields.add("filesystem", self.filesystem.as_deref().unwrap_or(""));
        fields.add("size", self.total_bytes.map(size).unwrap_or_default());
        fields.add("free", self.free_bytes.map(size).unwrap_or_default());
        let left = self.remaining_s.map(|seconds| long_time(Duration::from_secs(seconds)));
        fields.add("time left", left.unwrap_or_default());
        if self.sync_mount {
            fields.add("mounted", "sync: every write waits for the disk, which wears it out");
        }
        fields.add("note", self.note.as_deref().unwrap_or(""));
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_live_line_tells_timer_level_buffer_time_left_and_loss() {
        let status: RecordingStatus = read(&json!({
            "recording": "r1", "state": "recording", "elapsed_ms": 83_400, "level_dbfs": -30.0,
            "buffered_ms": 40, "remaining_s": 45_296, "packets": {"lost": 3}, "unknown": 1
        }));
        let line = status.live_line(None, None);
        assert_eq!(line, "REC      1:23 [##########----------] -30 dB  buf 40 ms  left 12 h 34 min  lost 3");
        assert!(line.len() <= 80, "{}", line.len());
    }

    #[test]
    fn the_live_line_has_room_in_any_terminal_and_tells_trouble_in_each() {
        let status = |media: &str, degraded: bool| -> RecordingStatus {
            read(&json!({
                "recording": "r1", "state": "recording", "elapsed_ms": 36_083_400, "level_dbfs": -30.0, "media": media,
                "file": "Record_20260301-091500.wav", "buffered_ms": 104_000, "remaining_s": 45_296,
                "degraded": degraded, "packets": {"lost": 345_678}
            }))
        };
        for columns in [39, 79, 199] {
            let good = status("flowing", false).live_line(None, Some(columns));
            assert!(good.len() <= columns && good.contains("10:01:23") && good.contains("-30 dB"), "{good}");
            let bad = status("none", true).live_line(Some("STALLED"), Some(columns));
            assert!(bad.len() <= columns, "{bad}");
            for word in ["10:01:23", "NO MEDIA", "DISK STALLED", "DEGRADED"] {
                let word = if columns < 79 { word.trim_start_matches("DISK ") } else { word };
                assert!(bad.contains(word), "{word} is not in: {bad}");
            }
            assert!(bad.contains("NO MEDIA") && !bad.contains(" dB"), "{bad}");
        }
        let wide = status("flowing", false).live_line(None, Some(199));
        assert!(
            wide.contains("buf 104000 ms") && wide.contains(".wav") && wide.contains("lost 345678"),
            "{wide}"
        );
    }

    #[test]
    fn an_incomplete_recording_is_shown_with_its_losses_and_their_cause() {
        let kept = |status: Value| read::<RecordingStatus>(&status).kept();
        assert_eq!(kept(json!({"state": "recording"})), None);
        assert_eq!(kept(json!({"outcome": "complete", "text_key": null})), None);
        let nothing = kept(json!({"outcome": "nothing", "text_key": "no_media"})).unwrap();
        assert!(nothing.starts_with("nothing: no audio came; does the phone"), "{nothing}");
        assert_eq!(kept(json!({"outcome": "partial", "text_key": "newer"})).unwrap(), "partial: newer");
    }

    #[test]
    fn an_answer_of_another_version_is_read_as_far_as_it_goes() {
        assert_eq!(read::<RecordingStatus>(&json!("?")), RecordingStatus::default());
        assert_eq!(id_text(&json!(7)), "7");
        assert_eq!(read::<StorageStatus>(&json!({"present": false})).fields().render(), "state  absent");
    }
}
