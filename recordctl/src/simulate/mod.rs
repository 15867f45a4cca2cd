//! `simulate-phone`: plays the phone's user interface and media stack against an agent.
//!
//! For integrators without a phone, and for the demo: the log goes to stderr, the recording's file (or with
//! `--json` the final status) is the only thing on stdout. [`agent`] is the other side: `simulate-agent`, for
//! developers of a user interface.

pub(super) mod agent;
mod call;
mod private_agent;
mod script;
mod sip_stack;

use super::calls::{CallArgs, Mode};
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::play::addr_and_port;
use super::rtp_sender::{Clip, Impairments, SenderSettings};
use super::{AgentArgs, OutputArgs, pace};
use super::{notes, output};
use call::PhoneCall;
use clap::Args;
use media::codec::Codec;
use media::units::PayloadType;
use private_agent::PrivateAgent;
use script::{Script, Step};
use serde_json::{Value, json};
use sip_stack::SipStack;
use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Largest clip that is read.
const MAX_CLIP_OCTETS: u64 = 256 * 1024 * 1024;

#[derive(Args, Debug)]
pub(super) struct SimulateArgs {
    /// The steps: talk N; pause N; silence N; transfer; stop (N in seconds)
    #[arg(long, default_value = "talk 4; pause 1; talk 3; stop", value_name = "STEPS")]
    script: Script,
    /// Just talk for SECONDS, the clip over and over
    #[arg(long = "loop", value_name = "SECONDS", conflicts_with = "script")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=86_400))]
    loop_s: Option<u32>,
    /// Start this recordd with a private socket and config, and end it afterwards
    #[arg(long, value_name = "RECORDD", requires = "dir")]
    spawn: Option<PathBuf>,
    /// The folder that the spawned agent records to
    #[arg(long, value_name = "DIR", requires = "spawn")]
    dir: Option<PathBuf>,
    /// Recording server of the spawned agent
    #[arg(long, value_name = "ADDR:PORT", requires = "spawn", value_parser = addr_and_port)]
    server: Option<SocketAddr>,
    /// Codec: PCMA, PCMU or G722
    #[arg(long, default_value = "PCMA", value_parser = parse_codec)]
    codec: Codec,
    /// Packet time in milliseconds
    #[arg(long, default_value_t = 20, value_name = "MS", value_parser = clap::value_parser!(u16).range(1..=180))]
    ptime: u16,
    /// Send this RTP payload type, and name it to the agent, rather than the codec's static one
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(0..=127))]
    payload_type: Option<u8>,
    /// Raw octets of the codec to send instead of the built-in speech
    #[arg(long, value_name = "FILE")]
    clip: Option<PathBuf>,
    /// Packets lost on the way
    #[arg(long, default_value = "0", value_name = "PERCENT", value_parser = parse_percent)]
    loss: f64,
    /// Packets overtaken by their successor
    #[arg(long, default_value = "0", value_name = "PERCENT", value_parser = parse_percent)]
    reorder: f64,
    /// Packets that arrive twice
    #[arg(long, default_value = "0", value_name = "PERCENT", value_parser = parse_percent)]
    dup: f64,
    /// Seed of the packets' fate, their SSRC and first numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The speed of the call, as a multiple of real time
    #[arg(long, default_value = "1", value_name = "N", value_parser = parse_speed)]
    speed: f64,
    /// The device that records
    #[arg(long, value_enum, default_value_t = Mode::Local)]
    mode: Mode,
    /// Status code that the PBX answers the SIP INFO with (mode sip-info)
    #[arg(long, default_value_t = 200, value_name = "CODE", value_parser = clap::value_parser!(u16).range(200..=699))]
    sip_code: u16,
    #[command(flatten)]
    call: CallArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

/// Lines on stderr with the time since the start.
#[derive(Clone, Copy, Debug)]
struct Log {
    start: Instant,
}

impl Log {
    fn line(self, who: &str, what: &str) {
        let elapsed = pace::now().saturating_duration_since(self.start).as_secs_f64();
        notes::note(&format!("{elapsed:8.3} s  {who:<6} {}", output::clean(what)));
    }
}

impl SimulateArgs {
    pub(super) fn run(&self, agent: &AgentArgs) -> Result<(), Failure> {
        let log = Log { start: pace::now() };
        let clip = self.clip()?;
        let Some((program, dir)) = self.spawn.as_ref().zip(self.dir.as_ref()) else {
            let outcome = self.make_call(agent, clip, Interrupt::new()?, log)?;
            return self.print(&outcome);
        };
        let mut private = PrivateAgent::launch(program, dir, self.server)?;
        // Only now: the agent must not inherit our deafness to signals.
        let interrupt = Interrupt::new()?;
        private.wait_until_it_listens()?;
        log.line("agent", &format!("{} listens, recording to {}", program.display(), dir.display()));
        let agent = AgentArgs { socket: private.socket(), timeout: agent.timeout };
        let mut outcome = self.make_call(&agent, clip, interrupt, log)?;
        private.end()?;
        log.line("agent", "ended");
        if let Some(file) = outcome["file"].as_str().filter(|_| self.mode == Mode::Local) {
            let path = dir.join(file);
            if !path.is_file() {
                return Err(Failure::Local(format!("the recording {} is not there", path.display())));
            }
            outcome["file"] = json!(path);
        }
        self.print(&outcome)
    }

    fn make_call(
        &self,
        agent: &AgentArgs,
        clip: Clip,
        interrupt: Interrupt,
        log: Log,
    ) -> Result<Value, Failure> {
        let _sip_stack = match self.mode {
            Mode::SipInfo => Some(SipStack::start(agent, self.sip_code, log)?),
            Mode::Local | Mode::Server => None,
        };
        let settings = SenderSettings {
            codec: self.codec,
            ptime_ms: self.ptime,
            payload_type: self.payload_type.map(PayloadType),
            impairments: Impairments { loss: self.loss, reorder: self.reorder, duplicate: self.dup },
            seed: self.seed,
            speed: self.speed,
        };
        let mut params = json!({
            "mode": self.mode.name(),
            "codec": self.codec.name(),
            "ptime_ms": self.ptime,
            "call": self.call.to_json(),
        });
        if let Some(payload_type) = self.payload_type {
            params["payload_type"] = json!(payload_type);
        }
        let mut call = PhoneCall::start(agent.connect()?, params, clip, settings, interrupt, log)?;
        for step in self.steps() {
            match call.step(step) {
                Err(Failure::Interrupted) => {
                    log.line("phone", "is interrupted: the call ends here");
                    break;
                }
                outcome => outcome?,
            }
        }
        call.stop()
    }

    fn steps(&self) -> Vec<Step> {
        match self.loop_s {
            Some(seconds) => vec![Step::Talk(Duration::from_secs(seconds.into()))],
            None => self.script.0.clone(),
        }
    }

    fn clip(&self) -> Result<Clip, Failure> {
        let octets: Cow<'static, [u8]> = match &self.clip {
            None => Cow::Borrowed(speech(self.codec)),
            Some(path) => {
                let failed = |what: &str| {
                    Failure::Local(format!(
                        "cannot use the clip {}: {what} (raw octets of the codec, without a header)",
                        path.display()
                    ))
                };
                let mut octets = Vec::new();
                File::open(path)
                    .and_then(|file| file.take(MAX_CLIP_OCTETS + 1).read_to_end(&mut octets))
                    .map_err(|error| failed(&error.to_string()))?;
                if octets.len() as u64 > MAX_CLIP_OCTETS {
                    return Err(failed("it is too large"));
                }
                Cow::Owned(octets)
            }
        };
        Clip::new(octets).ok_or_else(|| Failure::Usage("the clip is empty".into()))
    }

    fn print(&self, outcome: &Value) -> Result<(), Failure> {
        if self.output.json {
            return output::json(outcome);
        }
        match outcome["file"].as_str() {
            Some(file) => output::line(file),
            None => Ok(()),
        }
    }
}

/// The built-in clip.
fn speech(codec: Codec) -> &'static [u8] {
    match codec {
        Codec::Pcma => include_bytes!("../../../tests/media/speech.al"),
        Codec::Pcmu => include_bytes!("../../../tests/media/speech.ul"),
        Codec::G722 => include_bytes!("../../../tests/media/speech.g722"),
    }
}

fn parse_codec(text: &str) -> Result<Codec, String> {
    Codec::from_name(text).ok_or_else(|| format!("there are {}", Codec::ALL.map(Codec::name).join(", ")))
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("it must be a number from 0 to 100".into()),
    }
}

fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (0.01..=1000.0).contains(&speed) => Ok(speed),
        _ => Err("it must be a number from 0.01 to 1000".into()),
    }
}
