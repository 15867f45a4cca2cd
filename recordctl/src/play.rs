//! `play`: lets the agent send a recording as RTP, or decodes a file to stdout.

use super::advice::by_reason;
use super::client::{Client, Event};
use super::failure::{Failure, explained};
use super::interrupt::Interrupt;
use super::model::{PlaybackStatus, read};
use super::offline::IdentityArgs;
use super::output::{self, LiveLine, clock};
use super::{AgentArgs, OutputArgs, play_file};
use clap::Args;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// The interval between looks for Ctrl-C while events are awaited.
const LOOK_ROUND: Duration = Duration::from_millis(200);
/// Cells of the progress bar.
const BAR_CELLS: u64 = 30;

#[derive(Args, Debug)]
pub(super) struct PlayArgs {
    /// The recording, as recordctl list names it; with --stdout a file on this machine
    file: String,
    /// The address that the agent sends the RTP to
    #[arg(long, value_name = "ADDR:PORT", required_unless_present = "stdout", value_parser = addr_and_port)]
    rtp: Option<SocketAddr>,
    /// Decode the file to stdout, without an agent: recordctl play --stdout FILE | aplay -f S16_LE -r 8000
    #[arg(long, conflicts_with_all = ["rtp", "json"])]
    stdout: bool,
    /// Begin here
    #[arg(long, value_name = "MS", default_value_t = 0)]
    position_ms: u64,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// The target of RTP, as it is written on a command line.
///
/// # Errors
/// The right form.
pub(super) fn addr_and_port(text: &str) -> Result<SocketAddr, String> {
    let wanted = "write an IP address and a port, such as 127.0.0.1:4000 or [::1]:4000";
    let addr: SocketAddr = text.parse().map_err(|_| wanted.to_owned())?;
    if addr.port() == 0 { Err(format!("port 0 is none; {wanted}")) } else { Ok(addr) }
}

impl PlayArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        match self.rtp {
            Some(_) if !self.identity.identities.is_empty() => {
                let reason =
                    "--identity goes with --stdout: the agent has no key and plays nothing that is encrypted";
                Err(Failure::Usage(reason.into()))
            }
            Some(rtp) => self.play_by_rtp(agent, rtp),
            None => {
                let identities = self.identity.load().map_err(Failure::Local)?;
                play_file::to_stdout(Path::new(&self.file), self.position_ms, &identities)
            }
        }
    }

    fn play_by_rtp(&self, agent: &AgentArgs, rtp: SocketAddr) -> Result<(), Failure> {
        // A playback would go on in the agent without us.
        let interrupt = Interrupt::new()?;
        let mut client = agent.connect()?;
        client.call("events.subscribe", json!({"types": ["playback."]}))?;
        let params = json!({
            "file": self.file,
            "rtp": {"addr": rtp.ip().to_string(), "port": rtp.port()},
            "position_ms": self.position_ms,
        });
        let started = client.call("play.start", params)?;
        let mut shown = Shown { started: &started, live: LiveLine::new(), json: self.output.json };
        let followed = follow(&mut client, &interrupt, &mut shown);
        if !matches!(followed, Ok(Some(_))) {
            // Also if nobody reads our output.
            stop(&mut client, &started["playback"])?;
        }
        match followed? {
            Some(outcome) => outcome.map_err(Failure::Ended),
            None => shown.live.end(),
        }
    }
}

/// Shows the playback until it is over: how it ended, or `None` for Ctrl-C.
fn follow(
    client: &mut Client,
    interrupt: &Interrupt,
    shown: &mut Shown<'_>,
) -> Result<Option<Result<(), String>>, Failure> {
    if shown.json {
        output::json_line(&shown.started.to_string())?;
    }
    while !interrupt.came()? {
        if let Some(event) = client.next_event(Some(LOOK_ROUND))? {
            if let Some(outcome) = shown.take(&event)? {
                return Ok(Some(outcome));
            }
        }
    }
    Ok(None)
}

fn stop(client: &mut Client, playback: &Value) -> Result<(), Failure> {
    client.call("play.stop", json!({ "playback": playback }))?;
    Ok(())
}

struct Shown<'a> {
    started: &'a Value,
    live: LiveLine,
    json: bool,
}

impl Shown<'_> {
    /// Shows an event of our playback; some outcome if it is over.
    fn take(&mut self, event: &Event) -> Result<Option<Result<(), String>>, Failure> {
        if event.params["playback"] != self.started["playback"] {
            return Ok(None);
        }
        if self.json {
            output::json_line(&event.line)?;
        }
        let status: PlaybackStatus = read(&event.params);
        match event.name.as_str() {
            "playback.progress" if !self.json => {
                let duration_ms = self.started["duration_ms"].as_u64().unwrap_or(status.duration_ms);
                self.live.show(&progress_line(status.position_ms, duration_ms))?;
                Ok(None)
            }
            "playback.ended" => {
                self.live.end()?;
                let reason = status.end_reason.unwrap_or_default();
                // An end with advice was no good end.
                let bad = !by_reason(&reason).is_empty();
                let failed = || format!("the playback failed: {}", explained(&event.params));
                Ok(Some(if bad { Err(failed()) } else { Ok(()) }))
            }
            _ => Ok(None),
        }
    }
}

fn progress_line(position_ms: u64, duration_ms: u64) -> String {
    let lit = (position_ms.min(duration_ms) * BAR_CELLS).checked_div(duration_ms).unwrap_or(BAR_CELLS);
    let bar: String = (0..BAR_CELLS).map(|cell| if cell < lit { '#' } else { '-' }).collect();
    format!("{} / {} [{bar}]", clock(position_ms), clock(duration_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_bar_fills_up_and_no_further() {
        assert_eq!(
            progress_line(5_000, 10_000),
            format!("0:05 / 0:10 [{}{}]", "#".repeat(15), "-".repeat(15))
        );
        assert!(progress_line(11_000, 10_000).ends_with("##]"));
        assert!(progress_line(0, 0).contains("0:00 / 0:00"));
    }
}
