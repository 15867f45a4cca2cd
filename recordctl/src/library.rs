//! Commands about the stick and its files: list, delete, storage, eject, and the counters.

use super::client::Client;
use super::failure::Failure;
use super::model::{Listed, StorageStatus, read};
use super::output::{self, Align, Fields, Table, clock, size};
use super::{AgentArgs, OutputArgs};
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;

/// Least time that an eject is given: a slow stick has megabytes to write back.
const EJECT_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// Only calls with this text in their numbers or names
    query: Option<String>,
    /// At most N, the newest first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Go on after this file, the last one of the list before
    #[arg(long, value_name = "FILE")]
    after: Option<String>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Args, Debug)]
pub(super) struct DeleteArgs {
    /// Recordings as recordctl list names them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Args, Debug)]
pub(super) struct ProtectArgs {
    /// Recordings as recordctl list names them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Take the protection off again
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Args, Debug)]
pub(super) struct StorageArgs {
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Args, Debug)]
pub(super) struct EjectArgs {
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

#[derive(Args, Debug)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

impl ListArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        let mut params = json!({});
        if let Some(query) = &self.query {
            params["query"] = json!(query);
        }
        if let Some(limit) = self.limit {
            params["limit"] = json!(limit);
        }
        if let Some(after) = &self.after {
            params["after"] = json!(after);
        }
        let listed = agent.connect()?.call("recordings.list", params)?;
        if self.output.json { output::json(&listed) } else { output::line(&table(&listed)) }
    }
}

fn table(listed: &Value) -> String {
    let recordings = listed["recordings"].as_array().map_or(&[][..], Vec::as_slice);
    if recordings.is_empty() {
        return "No recordings.".into();
    }
    let (left, right) = (Align::Left, Align::Right);
    let heads = [("FILE", left), ("START", left), ("LENGTH", right), ("SIZE", right), ("CODEC", left)];
    let mut table = Table::new(&[&heads[..], &[("DIR", left), ("NUMBER", left), ("NAME", left)]].concat());
    for recording in recordings {
        let recording: Listed = read(recording);
        let call = recording.call.unwrap_or_default();
        table.row(&[
            if recording.protected { format!("{} *", recording.file) } else { recording.file },
            recording.start.map(|start| minute_of(&start)).unwrap_or_default(),
            recording.duration_ms.map(clock).unwrap_or_default(),
            recording.size_bytes.map(size).unwrap_or_default(),
            recording.codec.unwrap_or_default(),
            call.direction.unwrap_or_default(),
            call.remote_number.unwrap_or_default(),
            call.remote_name.unwrap_or_default(),
        ]);
    }
    let mut text = table.render();
    if recordings.iter().any(|recording| recording["protected"] == true) {
        text.push_str("\n* protected: not deleted to make room");
    }
    if let (Some(true), Some(last)) = (listed["more"].as_bool(), recordings.last()) {
        text.push_str(&format!("\nThere are more: --after {}", output::clean(&read::<Listed>(last).file)));
    }
    text
}

/// `2026-03-01 09:15` of an RFC 3339 time: the phone's own local time, as it stands there.
fn minute_of(rfc3339: &str) -> String {
    rfc3339.chars().take(16).map(|c| if c == 'T' { ' ' } else { c }).collect()
}

/// Does `act` to each file, also behind one that the agent refuses; tells which ones it refused.
fn each(
    files: &[String],
    client: &mut Client,
    output: OutputArgs,
    act: impl Fn(&mut Client, &str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut refused: Option<Failure> = None;
    for file in files {
        let failure = match act(client, file) {
            Ok(()) => continue,
            Err(Failure::Refused(mut error)) => {
                error.message = format!("{file}: {}", error.message);
                Failure::Refused(error)
            }
            // The agent or our output is gone.
            Err(other) => return Err(other),
        };
        if let Some(before) = refused.replace(failure) {
            let _ = before.report(output.json);
        }
    }
    refused.map_or(Ok(()), Err)
}

impl DeleteArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        each(&self.files, &mut agent.connect()?, self.output, |client, file| {
            let result = client.call("recordings.delete", json!({ "file": file }))?;
            if self.output.json {
                return output::json(&result);
            }
            output::line(&format!("deleted {}", output::clean(file)))
        })
    }
}

impl ProtectArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        each(&self.files, &mut agent.connect()?, self.output, |client, file| {
            let result = client.call("recordings.protect", json!({"file": file, "protected": !self.off}))?;
            if self.output.json {
                return output::json(&result);
            }
            let word = if self.off { "not protected" } else { "protected" };
            output::line(&format!("{word}: {}", output::clean(file)))
        })
    }
}

impl StorageArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        let status = agent.connect()?.call("storage.status", Value::Null)?;
        if self.output.json {
            return output::json(&status);
        }
        output::line(&read::<StorageStatus>(&status).fields().render())
    }
}

impl EjectArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        let mut client = agent.connect()?;
        client.allow_at_least(EJECT_TIMEOUT);
        let result = client.call("storage.eject", Value::Null)?;
        if self.output.json {
            return output::json(&result);
        }
        if let Some(why) = result["note"].as_str().filter(|_| result["still_mounted"].is_null()) {
            // There is nothing to be pulled.
            return output::line(&format!("The recordings are closed and synced; {why}."));
        }
        let note = result["note"].as_str().map(|note| format!(" ({note})")).unwrap_or_default();
        if result["safe_to_pull"] == false {
            return Err(Failure::Local(format!("the stick is not safe to pull yet{note}")));
        }
        output::line(&format!("The recordings are closed and synced: the stick may be pulled{note}."))
    }
}

impl StatsArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        let stats = agent.connect()?.call("stats.get", Value::Null)?;
        if self.output.json {
            return output::json(&stats);
        }
        let mut fields = Fields::default();
        fields.add_leaves("", &stats);
        output::line(&fields.render())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_a_table_and_a_file_without_a_sidecar_is_in_it() {
        let listed = json!({"recordings": [
            {"file": "Record_20260301-091500.wav", "codec": "PCMA", "start": "2026-03-01T09:15:00.25+01:00",
             "duration_ms": 61_000, "size_bytes": 488_076,
             "call": {"direction": "in", "remote_number": "+49301234", "remote_name": "Zoë"}},
            {"file": "old.wav", "call": null, "protected": true}
        ], "more": true});
        let expected = "\
FILE                        START             LENGTH       SIZE  CODEC  DIR  NUMBER     NAME
Record_20260301-091500.wav  2026-03-01 09:15    1:01  476.6 KiB  PCMA   in   +49301234  Zoë
old.wav *
* protected: not deleted to make room
There are more: --after old.wav";
        assert_eq!(table(&listed), expected);
        assert_eq!(table(&json!({"recordings": []})), "No recordings.");
    }
}
