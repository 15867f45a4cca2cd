//! `recordctl info`: the contents of a recording.

use super::super::advice;
use super::console::{Console, clean, clock};
use super::keys::IdentityArgs;
use super::recording::{Recording, file_name, find, path_text};
use recfile::format::Layout;
use recfile::header::HeaderError;
use recfile::name::is_record_file_name;
use recfile::reader::ReadError;
use recfile::sidecar::{Call, Direction, Sidecar, SidecarState};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `recordctl info`.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct InfoArgs {
    /// Recordings, or folders of them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Keys.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// The remark on a sidecar whose encrypted part can't be opened.
pub(super) const UNOPENED: &str = "the encrypted part of the sidecar can't be opened";

/// `status` of a file about which there is nothing to say but the reason.
const UNREADABLE: &str = "unreadable";

impl InfoArgs {
    /// Prints the contents of each file; fails if one can't be read.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        Console::with_stdio(|console| self.run_on(console))
    }

    pub(super) fn run_on(&self, console: &mut Console<'_>) {
        let mut array = Vec::new();
        let identities = self.identity.load().unwrap_or_else(|reason| {
            console.fail(&clean(&reason));
            Vec::new()
        });
        for path in find(&self.files, &mut |reason| console.fail(&reason)) {
            let recording = match Recording::open(&path, &identities) {
                Ok(recording) => recording,
                Err(error) => {
                    console.fail(&format!("{}: {}", path.display(), advice::said(&error)));
                    let reason = error.to_string();
                    array.push(json!({ "file": path_text(&path), "status": UNREADABLE, "reason": reason }));
                    continue;
                }
            };
            match &recording.audio {
                // Without a key that is no failure: the readable part is shown.
                Err(ReadError::Header(HeaderError::Encrypted(_))) if identities.is_empty() => {}
                Err(error) => console.fail(&format!("{}: {error}", path.display())),
                Ok(_) => {}
            }
            if let Some(error) = &recording.unopened {
                console.fail(&format!("{}: {UNOPENED}: {error}", path.display()));
            }
            if self.json {
                array.push(as_json(&recording));
            } else {
                as_text(&recording).iter().for_each(|line| console.line(line));
            }
        }
        if self.json {
            console.json(&Value::Array(array));
        }
    }
}

/// Whether nothing is missing: closed, and nothing for a repair to do.
fn is_complete(recording: &Recording) -> bool {
    let sound = recording.facts().is_some_and(|facts| facts.problems.is_empty())
        && recording.outside.is_none_or(|outside| outside.extent.finished);
    let closed = recording.sidecar().is_none_or(|sidecar| sidecar.state == SidecarState::Ended);
    sound && closed && !recording.busy
}

fn as_json(recording: &Recording) -> Value {
    let mut value = json!({
        "file": path_text(&recording.path),
        "status": status(recording),
        "size_bytes": recording.len,
        "recording_now": recording.busy,
        "complete": is_complete(recording),
        "sidecar": recording.sidecar.as_ref().map(|sidecar| match sidecar {
            Ok(sidecar) => json!(Sidecar { sealed: None, ..sidecar.clone() }),
            Err(bad) => json!({ "error": bad.to_string() }),
        }),
    });
    if let Some(outside) = &recording.outside {
        let extent = &outside.extent;
        value["encrypted"] = json!({
            "opened": recording.audio.is_ok(),
            "chunks": extent.chunks,
            "finished": extent.finished,
            "beyond_octets": extent.beyond,
        });
    }
    if let Err(error) = &recording.audio {
        value["error"] = json!(error.to_string());
        value["reason"] = json!(error.to_string());
    }
    let Some(facts) = recording.facts() else { return value };
    value["codec"] = json!(facts.codec.name());
    value["start"] = json!(recording.sidecar().map(|sidecar| &sidecar.start));
    value["duration_ms"] = json!(facts.duration_ms);
    value["frames"] = json!(facts.frames);
    value["frame_octets"] = json!(facts.frame_octets);
    value["increment"] = json!(facts.increment);
    value["data_octets"] = json!(facts.data_octets);
    value["declared_data_octets"] = json!(facts.declared_data_octets);
    value["layout"] = json!(layout_name(facts.layout));
    value["problems"] = facts.problems.iter().map(ToString::to_string).collect();
    value
}

fn status(recording: &Recording) -> &'static str {
    match (&recording.audio, &recording.outside) {
        (Ok(_), _) => "readable",
        (Err(_), Some(_)) => "encrypted",
        (Err(_), None) => UNREADABLE,
    }
}

fn layout_name(layout: Layout) -> &'static str {
    match layout {
        Layout::PayloadOnly => "payload",
        Layout::WholePackets => "rtp-packets",
    }
}

fn as_text(recording: &Recording) -> Vec<String> {
    let mut lines = vec![clean(&path_text(&recording.path))];
    let mut row = |name: &str, value: String| lines.push(format!("  {name:<10}{value}"));
    // The reason for a missing one is told with the failures.
    if let Some(facts) = recording.facts() {
        let frame_ms = facts.codec.clock_rate().ticks_to_ms(facts.increment.into());
        let packets = if facts.layout == Layout::WholePackets { ", whole RTP packets" } else { "" };
        row("codec", format!("{}, frames of {frame_ms} ms{packets}", facts.codec.name()));
        row("duration", clock(facts.duration_ms));
        if let Some(outside) = &recording.outside {
            let (opened, chunks) = (recording.audio.is_ok(), outside.extent.chunks);
            let with = if opened { "opened with the identity" } else { "not opened" };
            row("encrypted", format!("yes, {with}, {chunks} chunks"));
        }
    }
    row("size", format!("{} bytes", recording.len));
    if let Some(sidecar) = recording.sidecar() {
        sidecar_rows(sidecar, &mut row);
    } else {
        let name = file_name(&recording.path);
        if is_record_file_name(&name) {
            row("start", format!("{} (by its name)", clean(name.get(7..22).unwrap_or(&name))));
        }
        let bad = recording.sidecar.as_ref().and_then(|sidecar| sidecar.as_ref().err());
        row("sidecar", bad.map_or("none".into(), |bad| clean(&format!("{bad} ({})", bad.advice()))));
    }
    row("complete", completeness(recording));
    lines
}

fn sidecar_rows(sidecar: &Sidecar, row: &mut impl FnMut(&str, String)) {
    let doubt = if sidecar.clock_set { "" } else { " (the phone's clock was not set)" };
    row("start", format!("{}{doubt}", clean(&sidecar.start)));
    let hidden = sidecar.sealed.is_some();
    row("call", if hidden { "encrypted".into() } else { clean(&call_text(&sidecar.call)) });
    let packets = sidecar.packets;
    row(
        "packets",
        format!(
            "{} received, {} lost, {} late, {} duplicate, {} dropped",
            packets.received, packets.lost, packets.late, packets.duplicate, packets.dropped
        ),
    );
    row("gaps", format!("{}, {} ms of silence in all", sidecar.gaps_total, sidecar.gap_ms_total));
    if !sidecar.pauses.is_empty() {
        let paused_ms = sidecar.pauses.iter().fold(0_u64, |sum, pause| sum.saturating_add(pause.duration_ms));
        row("pauses", format!("{}, {} in all", sidecar.pauses.len(), clock(paused_ms)));
    }
    row("segment", format!("{} of recording {}", sidecar.segment, clean(&sidecar.recording)));
    if let Some(reason) = &sidecar.end_reason {
        row("ended", clean(reason));
    }
}

fn call_text(call: &Call) -> String {
    let side = |number: &str, name: &str| match (number.is_empty(), name.is_empty()) {
        (true, true) => "unknown".to_owned(),
        (false, true) => number.to_owned(),
        (true, false) => name.to_owned(),
        (false, false) => format!("{name} <{number}>"),
    };
    let remote = side(&call.remote_number, &call.remote_name);
    let local = side(&call.local_number, &call.local_name);
    match call.direction {
        Some(Direction::In) => format!("{remote} called {local}"),
        Some(Direction::Out) => format!("{local} called {remote}"),
        None => format!("{local} with {remote}"),
    }
}

fn completeness(recording: &Recording) -> String {
    if recording.busy {
        return "no: it is being recorded".into();
    }
    if is_complete(recording) {
        return "yes".into();
    }
    // Whether a repair can help, the error says itself.
    let Some(facts) = recording.facts() else { return "no: it can't be read".into() };
    let reasons: Vec<String> = facts.problems.iter().map(ToString::to_string).collect();
    if reasons.is_empty() && recording.outside.is_some_and(|outside| !outside.extent.finished) {
        return "no: it has no end: the recording was cut off, or the file was".into();
    }
    let reasons = if reasons.is_empty() { "it was cut off".into() } else { reasons.join("; ") };
    format!("no: {reasons} (see recordctl repair)")
}
