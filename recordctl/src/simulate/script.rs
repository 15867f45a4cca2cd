//! The script of a simulated call: `talk 4; pause 1; talk 3; stop`.

use std::str::FromStr;
use std::time::Duration;

/// Most steps of a script.
const MAX_STEPS: usize = 1000;
/// Longest step, in seconds.
const MAX_STEP_S: f64 = 86_400.0;

/// One thing that happens in the call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// Speech is sent.
    Talk(Duration),
    /// The recording is paused while the call, and its RTP, goes on; then it is resumed.
    Pause(Duration),
    /// Nothing is sent, as with silence suppression.
    Silence(Duration),
    /// Another source takes over (new SSRC), as after a transfer.
    Transfer,
}

/// The steps of a call; the recording is started before the first and stopped after the last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Script(pub(crate) Vec<Step>);

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut stopped = false;
        for step in text.split(';').map(str::trim).filter(|step| !step.is_empty()) {
            if stopped {
                return Err(format!("\"{step}\" comes after stop"));
            }
            if steps.len() == MAX_STEPS {
                return Err(format!("more than {MAX_STEPS} steps"));
            }
            let (verb, rest) = step.split_once(char::is_whitespace).unwrap_or((step, ""));
            match verb {
                "talk" => steps.push(Step::Talk(seconds(step, rest)?)),
                "pause" => steps.push(Step::Pause(seconds(step, rest)?)),
                "silence" => steps.push(Step::Silence(seconds(step, rest)?)),
                "transfer" if rest.is_empty() => steps.push(Step::Transfer),
                "stop" if rest.is_empty() => stopped = true,
                _ => {
                    return Err(format!(
                        "\"{step}\" is no step; there are talk N, pause N, silence N (seconds), transfer, stop"
                    ));
                }
            }
        }
        Ok(Self(steps))
    }
}

fn seconds(step: &str, text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.trim().parse().map_err(|_| format!("\"{step}\" needs a number of seconds"))?;
    if seconds > 0.0 && seconds <= MAX_STEP_S {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("\"{step}\": the time must be more than 0 and at most {MAX_STEP_S} seconds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_script_is_read_step_by_step() {
        let script: Script = " talk 1.5;pause 1 ; silence 2; transfer; talk 3; stop;".parse().unwrap();
        let s = Duration::from_secs_f64;
        let steps = [
            Step::Talk(s(1.5)),
            Step::Pause(s(1.0)),
            Step::Silence(s(2.0)),
            Step::Transfer,
            Step::Talk(s(3.0)),
        ];
        assert_eq!(script.0, steps);
    }

    #[test]
    fn a_wrong_step_is_named() {
        for (text, word) in [
            ("talk", "talk"),
            ("talk -1", "talk -1"),
            ("sing 2", "sing 2"),
            ("stop; talk 1", "talk 1"),
            ("talk nan", "nan"),
        ] {
            let error = text.parse::<Script>().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-z0-9 ;.e-]{0,40}|\\PC{0,20}") {
            let _ = text.parse::<Script>();
            let _ = format!("talk {text}").parse::<Script>();
        }
    }
}
