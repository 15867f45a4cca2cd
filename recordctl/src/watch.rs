//! Commands that follow the agent: `watch` for people, `events` for programs.

use super::calls::recording_params;
use super::client::{Client, Event};
use super::failure::{Failure, explained};
use super::model::{RecordingStatus, id_text, read};
use super::output::{self, LiveLine};
use super::{AgentArgs, OutputArgs};
use clap::Args;
use serde_json::{Value, json};

/// The word for a disk that stands still.
const STALLED: &str = "STALLED";

#[derive(Args, Debug)]
pub(super) struct WatchArgs {
    /// The recording; may be left out when there is one
    recording: Option<String>,
    /// If nothing is being recorded, wait for the next recording
    #[arg(long, conflicts_with = "recording")]
    wait: bool,
    /// End after N updates, not only with the recording
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Args, Debug)]
pub(super) struct EventsArgs {
    /// Only events whose names begin so, e.g. recording. or storage.low; none: all
    #[arg(value_name = "TYPE")]
    types: Vec<String>,
    /// End after N events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl EventsArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        let mut client = agent.connect()?;
        let params = if self.types.is_empty() { json!({}) } else { json!({ "types": self.types }) };
        client.call("events.subscribe", params)?;
        let mut shown = 0;
        while self.count.is_none_or(|count| shown < count) {
            if let Some(event) = client.next_event(None)? {
                output::json_line(&event.line)?;
                shown += 1;
            }
        }
        Ok(())
    }
}

impl WatchArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        let mut client = agent.connect()?;
        // Subscribe before asking for the status, so that nothing falls in between.
        client.call("events.subscribe", json!({"types": ["recording.", "storage."]}))?;
        let mut live = LiveLine::new();
        let end = self.follow(&mut client, &mut live);
        // An error stands on a line of its own, too.
        live.end()?;
        match end? {
            Some(epitaph) if !self.output.json => output::line(&epitaph),
            _ => Ok(()),
        }
    }

    /// Shows a recording until its end, or as often as asked; returns the last line for one that ended.
    fn follow(&self, client: &mut Client, live: &mut LiveLine) -> Result<Option<String>, Failure> {
        let status = match self.present_status(client)? {
            Some(status) => status,
            None if self.wait => self.next_recording(client, live)?,
            None => {
                let text =
                    "nothing is being recorded; recordctl start begins a recording, --wait waits for one";
                return Err(Failure::Ended(text.into()));
            }
        };
        let mut followed = Followed::new(status);
        self.show(&followed, live)?;
        let mut shown = 1;
        while self.count.is_none_or(|count| shown < count) {
            let Some(event) = client.next_event(None)? else { continue };
            let outcome = match followed.take(&event) {
                Step::Other => continue,
                Step::Changed => None,
                Step::Ended(outcome) => Some(outcome),
            };
            self.show(&followed, live)?;
            shown += 1;
            if let Some(outcome) = outcome {
                return outcome.map(|()| Some(followed.epitaph())).map_err(Failure::Ended);
            }
        }
        Ok(None)
    }

    /// The status of the recording asked for, or of the only one, if there is one.
    fn present_status(&self, client: &mut Client) -> Result<Option<Value>, Failure> {
        let mut status = client.call("record.status", recording_params(self.recording.as_deref()))?;
        let Some(recordings) = status.get_mut("recordings").and_then(Value::as_array_mut) else {
            return Ok(Some(status));
        };
        if recordings.len() > 1 {
            let ids: Vec<_> = recordings.iter().map(|recording| id_text(&recording["recording"])).collect();
            let text = format!("there are several recordings: name one of {}", ids.join(", "));
            return Err(Failure::Usage(text));
        }
        Ok(recordings.pop())
    }

    /// Waits for a recording to begin: its status.
    fn next_recording(&self, client: &mut Client, live: &mut LiveLine) -> Result<Value, Failure> {
        if !self.output.json && live.columns().is_some() {
            live.show("waiting for a recording")?;
        }
        loop {
            if let Some(event) = client.next_event(None)?.filter(|event| event.name == "recording.started") {
                return Ok(event.params);
            }
        }
    }

    fn show(&self, followed: &Followed, live: &mut LiveLine) -> Result<(), Failure> {
        if self.output.json {
            return output::json_line(&followed.status.to_string());
        }
        let status: RecordingStatus = read(&followed.status);
        live.show(&output::clean(&status.live_line(followed.disk.as_deref(), live.columns())))
    }
}

/// The latest that is known of one recording.
#[derive(Debug)]
struct Followed {
    status: Value,
    /// The trouble of the disk, if it is recorded to.
    disk: Option<String>,
}

/// The effect of an event on the recording that is followed.
#[derive(Debug, PartialEq)]
enum Step {
    /// It was about something else.
    Other,
    Changed,
    /// The recording is over: well, or with the reason of its failure.
    Ended(Result<(), String>),
}

impl Followed {
    fn new(status: Value) -> Self {
        Self { status: if status.is_object() { status } else { json!({}) }, disk: None }
    }

    /// The file of the recording and the reason of its end.
    fn epitaph(&self) -> String {
        let status: RecordingStatus = read(&self.status);
        let kept = status.kept().map(|kept| format!(", {kept}")).unwrap_or_default();
        let file = status.file.unwrap_or_else(|| "no file".into());
        output::clean(&match status.end_reason {
            Some(reason) => format!("{file} ({reason}){kept}"),
            None => file,
        })
    }

    /// Takes over the members of an event; others stay as they were.
    fn take(&mut self, event: &Event) -> Step {
        if let Some(change) = event.name.strip_prefix("storage.") {
            return self.disk_changed(change, &event.params);
        }
        let Some(kind) = event.name.strip_prefix("recording.") else { return Step::Other };
        if event.params["recording"] != self.status["recording"] {
            return Step::Other;
        }
        let buffered_ms = self.status["buffered_ms"].as_u64().unwrap_or(0);
        for (name, value) in event.params.as_object().into_iter().flatten() {
            self.status[name.as_str()] = value.clone();
        }
        // An older agent says only that it stalls.
        let says = event.params["stalled"].as_bool();
        match says {
            Some(true) => self.disk = self.disk.take().or(Some(STALLED.into())),
            Some(false) => self.disk = self.disk.take().filter(|disk| disk != STALLED),
            None => {}
        }
        match kind {
            "stalled" if says.is_none() => self.disk = self.disk.take().or(Some(STALLED.into())),
            "no_media" if event.params["media"].is_null() => self.status["media"] = json!("none"),
            "paused" => self.status["state"] = json!("paused"),
            "resumed" => self.status["state"] = json!("recording"),
            "ended" => {
                self.status["state"] = json!("ended");
                return Step::Ended(Ok(()));
            }
            "failed" => {
                return Step::Ended(Err(format!("the recording failed: {}", explained(&event.params))));
            }
            // The waiting audio is being written: the disk works again.
            _ if says.is_none() && self.status["buffered_ms"].as_u64().unwrap_or(0) < buffered_ms => {
                self.disk = self.disk.take().filter(|disk| disk != STALLED);
            }
            _ => {}
        }
        Step::Changed
    }

    /// The disk's state is another one; a recording elsewhere has no trouble with it.
    fn disk_changed(&mut self, change: &str, params: &Value) -> Step {
        if self.status["mode"].as_str().is_some_and(|mode| mode != "local") {
            return Step::Other;
        }
        let state = match change {
            "state" => params["to"].as_str().or(params["state"].as_str()).unwrap_or("ok"),
            "removed" => "gone",
            "inserted" => "ok",
            "low" | "full" => change,
            _ => return Step::Other,
        };
        let disk = (state != "ok").then(|| state.replace('_', " ").to_uppercase());
        let stalled = self.disk.take().filter(|disk| disk == STALLED);
        self.disk = disk.or(stalled);
        Step::Changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, params: Value) -> Event {
        Event { name: name.into(), params, line: String::new() }
    }

    #[test]
    fn progress_of_another_recording_is_not_shown() {
        let mut followed = Followed::new(json!({"recording": "a", "elapsed_ms": 1}));
        let other = event("recording.progress", json!({"recording": "b", "elapsed_ms": 9}));
        assert_eq!(followed.take(&other), Step::Other);
        let own = event("recording.progress", json!({"recording": "a", "elapsed_ms": 2}));
        assert_eq!(followed.take(&own), Step::Changed);
        assert_eq!(followed.status["elapsed_ms"], 2);
    }

    #[test]
    fn a_disk_that_stands_still_is_shown_until_the_waiting_audio_is_written() {
        let mut followed = Followed::new(json!({"recording": "a", "mode": "local", "buffered_ms": 2100}));
        let steps = [
            ("recording.stalled", json!({"recording": "a", "buffered_ms": 2200}), Some("STALLED")),
            ("recording.progress", json!({"recording": "a", "buffered_ms": 3200}), Some("STALLED")),
            ("recording.progress", json!({"recording": "a", "buffered_ms": 400}), None),
            ("storage.low", json!({"state": "low"}), Some("LOW")),
            ("storage.removed", json!({"present": false}), Some("GONE")),
            ("storage.inserted", json!({"present": true}), None),
            ("storage.state", json!({"from": "ok", "to": "read_only"}), Some("READ ONLY")),
        ];
        for (name, params, disk) in steps {
            assert_eq!(followed.take(&event(name, params)), Step::Changed, "{name}");
            assert_eq!(followed.disk.as_deref(), disk, "{name}");
        }
        for stalled in [true, false] {
            followed.disk = None;
            let told = json!({"recording": "a", "buffered_ms": 2200, "stalled": stalled});
            followed.take(&event("recording.progress", told));
            assert_eq!(followed.disk.is_some(), stalled, "an agent that says so is believed");
        }
        let mut elsewhere = Followed::new(json!({"recording": "a", "mode": "server"}));
        assert_eq!(elsewhere.take(&event("storage.full", json!({}))), Step::Other);
    }

    #[test]
    fn missing_media_is_shown_for_agents_of_any_age() {
        let mut followed = Followed::new(json!({"recording": "a", "state": "recording"}));
        followed.take(&event("recording.no_media", json!({"recording": "a"})));
        assert_eq!(followed.status["media"], "none");
    }

    #[test]
    fn a_recording_that_has_not_all_says_so_at_its_end() {
        let mut followed = Followed::new(json!({"recording": "a"}));
        let full = json!({
            "recording": "a", "file": "a.wav", "end_reason": "storage_full", "outcome": "partial",
            "reason": "storage_full", "text_key": "storage_full",
        });
        assert_eq!(followed.take(&event("recording.ended", full)), Step::Ended(Ok(())));
        let told = followed.epitaph();
        assert!(told.starts_with("a.wav (storage_full), partial: the disk is full"), "{told}");
    }

    #[test]
    fn a_failure_ends_the_watch_with_its_reason() {
        let mut followed = Followed::new(json!({"recording": "a"}));
        let failed = event("recording.failed", json!({"recording": "a", "reason": "storage_io"}));
        let Step::Ended(Err(reason)) = followed.take(&failed) else { panic!("not a failure") };
        assert!(reason.contains("storage_io; take another stick"), "{reason}");
        let pulled = json!({"recording": "a", "reason": "storage_io", "cause": "pulled", "detail": "went"});
        let Step::Ended(Err(reason)) = followed.take(&event("recording.failed", pulled)) else { panic!() };
        assert!(reason.contains("storage_io, pulled: went; put the stick in again"), "{reason}");
        let ended = event("recording.ended", json!({"recording": "a"}));
        assert_eq!(followed.take(&ended), Step::Ended(Ok(())));
    }
}
