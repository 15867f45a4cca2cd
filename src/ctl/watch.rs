//! Commands that follow the agent: `watch` for people, `events` for programs.

use super::calls::recording_params;
use super::client::{Client, Event};
use super::failure::{Failure, explained};
use super::model::{RecordingStatus, id_text, read};
use super::output::{self, LiveLine};
use super::{AgentArgs, OutputArgs};
use clap::Args;
use serde_json::{Value, json};

#[derive(Args, Debug)]
pub(super) struct WatchArgs {
    /// The recording; may be left out when there is one
    recording: Option<String>,
    /// End after so many updates, not only with the recording
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
    /// End after so many events
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
        client.call("events.subscribe", json!({"types": ["recording."]}))?;
        let mut followed = Followed::new(self.present_status(&mut client)?);
        let mut live = LiveLine::new();
        let mut shown = 0;
        loop {
            self.show(&followed, &mut live)?;
            shown += 1;
            if self.count.is_some_and(|count| shown >= count) {
                return live.end();
            }
            let outcome = loop {
                if let Some(event) = client.next_event(None)? {
                    match followed.take(&event) {
                        Step::Other => {}
                        Step::Changed => break None,
                        Step::Ended(outcome) => break Some(outcome),
                    }
                }
            };
            if let Some(outcome) = outcome {
                self.show(&followed, &mut live)?;
                live.end()?;
                outcome.map_err(Failure::Ended)?;
                return if self.output.json { Ok(()) } else { output::line(&followed.epitaph()) };
            }
        }
    }

    /// The status of the recording asked for, or of the only one.
    fn present_status(&self, client: &mut Client) -> Result<Value, Failure> {
        let mut status = client.call("record.status", recording_params(self.recording.as_deref()))?;
        let Some(recordings) = status.get_mut("recordings").and_then(Value::as_array_mut) else {
            return Ok(status);
        };
        match recordings.len() {
            0 => Err(Failure::Ended("nothing is being recorded; recordctl start begins a recording".into())),
            1 => Ok(recordings.remove(0)),
            _ => {
                let ids: Vec<_> =
                    recordings.iter().map(|recording| id_text(&recording["recording"])).collect();
                Err(Failure::Usage(format!("which recording? There are {}", ids.join(", "))))
            }
        }
    }

    fn show(&self, followed: &Followed, live: &mut LiveLine) -> Result<(), Failure> {
        if self.output.json {
            return output::json_line(&followed.status.to_string());
        }
        live.show(&output::clean(&read::<RecordingStatus>(&followed.status).live_line()))
    }
}

/// The latest that is known of one recording.
#[derive(Debug)]
struct Followed {
    status: Value,
}

/// What an event meant for the recording that is followed.
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
        Self { status: if status.is_object() { status } else { json!({}) } }
    }

    /// Where the recording is and why it ended.
    fn epitaph(&self) -> String {
        let status: RecordingStatus = read(&self.status);
        let file = status.file.unwrap_or_else(|| "no file".into());
        output::clean(&match status.end_reason {
            Some(reason) => format!("{file} ({reason})"),
            None => file,
        })
    }

    /// Takes over what an event says; members that it does not mention stay as they were.
    fn take(&mut self, event: &Event) -> Step {
        let Some(kind) = event.name.strip_prefix("recording.") else { return Step::Other };
        if event.params["recording"] != self.status["recording"] {
            return Step::Other;
        }
        for (name, value) in event.params.as_object().into_iter().flatten() {
            self.status[name.as_str()] = value.clone();
        }
        match kind {
            "paused" => self.status["state"] = json!("paused"),
            "resumed" => self.status["state"] = json!("recording"),
            "ended" => {
                self.status["state"] = json!("ended");
                return Step::Ended(Ok(()));
            }
            "failed" => {
                let reason = event.params["reason"].as_str().unwrap_or("reason unknown");
                let detail = event.params["detail"].as_str();
                return Step::Ended(Err(format!("the recording failed: {}", explained(reason, detail))));
            }
            _ => {}
        }
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
    fn a_failure_ends_the_watch_with_its_reason() {
        let mut followed = Followed::new(json!({"recording": "a"}));
        let failed = event("recording.failed", json!({"recording": "a", "reason": "storage_io"}));
        let Step::Ended(Err(reason)) = followed.take(&failed) else { panic!("not a failure") };
        assert!(reason.contains("storage_io; take another stick"), "{reason}");
        let ended = event("recording.ended", json!({"recording": "a"}));
        assert_eq!(followed.take(&ended), Step::Ended(Ok(())));
    }
}
