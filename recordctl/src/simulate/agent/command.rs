//! The commands of `simulate-agent`: one on a line or between semicolons, `#` begins a comment.

use std::str::FromStr;
use std::time::Duration;

/// Longest `wait`, in seconds.
const MAX_WAIT_S: f64 = 86_400.0;

/// The answer to `help`, in `--help` too, and documented in docs/local-api.md.
pub(super) const HELP: &str = "\
Commands, on stdin, from --script and at --control; one a line or between semicolons:
  storage pulled|inserted|low|full|read_only|failed|stalled|slow|ok
                  what happens to the stick; ok undoes all, an eject too
  media on|off    send speech to every recording, or nothing
  sip CODE|off    answer sip.info with this status code, or leave that to others
  wait SECONDS    before the next command
  help            these lines
  quit            finish every recording and end, as the end of the terminal does";

/// The state of the stick to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    Ok,
    Inserted,
    Pulled,
    Low,
    Full,
    ReadOnly,
    Failed,
    Stalled,
    Slow,
}

const STORAGE: [(&str, Storage); 9] = [
    ("ok", Storage::Ok),
    ("inserted", Storage::Inserted),
    ("pulled", Storage::Pulled),
    ("low", Storage::Low),
    ("full", Storage::Full),
    ("read_only", Storage::ReadOnly),
    ("failed", Storage::Failed),
    ("stalled", Storage::Stalled),
    ("slow", Storage::Slow),
];

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Storage(Storage),
    Media(bool),
    Sip(Option<u16>),
    Wait(Duration),
    Quit,
    Help,
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text:?} is no command; help tells which there are");
        let (verb, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match (verb, rest.trim()) {
            ("storage", state) => {
                let found = STORAGE.iter().find(|(name, _)| *name == state);
                found.map(|(_, state)| Self::Storage(*state)).ok_or_else(unknown)
            }
            ("media", "on") => Ok(Self::Media(true)),
            ("media", "off") => Ok(Self::Media(false)),
            ("sip", "off") => Ok(Self::Sip(None)),
            ("sip", code) => {
                let code = code.parse().ok().filter(|code| (200..=699).contains(code));
                code.map(|code| Self::Sip(Some(code)))
                    .ok_or_else(|| "sip needs a final status code, 200 to 699, or off".into())
            }
            ("wait", seconds) => {
                let seconds = seconds.parse().ok().filter(|seconds| (0.0..=MAX_WAIT_S).contains(seconds));
                seconds
                    .map(|seconds| Self::Wait(Duration::from_secs_f64(seconds)))
                    .ok_or_else(|| "wait needs a number of seconds".into())
            }
            ("quit", "") => Ok(Self::Quit),
            ("help", "") => Ok(Self::Help),
            _ => Err(unknown()),
        }
    }
}

/// The commands of a line.
pub(super) fn commands(line: &str) -> impl Iterator<Item = Result<Command, String>> + '_ {
    let line = line.split('#').next().unwrap_or_default();
    line.split(';').map(str::trim).filter(|text| !text.is_empty()).map(str::parse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_has_commands_between_semicolons_and_a_comment() {
        let line = " storage pulled; wait 0.5 ;media off;sip 403; sip off # wait 9";
        let found: Result<Vec<Command>, String> = commands(line).collect();
        let expected = [
            Command::Storage(Storage::Pulled),
            Command::Wait(Duration::from_millis(500)),
            Command::Media(false),
            Command::Sip(Some(403)),
            Command::Sip(None),
        ];
        assert_eq!(found.unwrap(), expected);
        assert_eq!(commands("# nothing").count(), 0);
    }

    #[test]
    fn every_state_of_the_stick_is_in_the_help() {
        for (name, state) in STORAGE {
            assert_eq!(format!("storage {name}").parse(), Ok(Command::Storage(state)));
            assert!(HELP.contains(name), "{name}");
        }
    }

    #[test]
    fn lines_that_are_no_commands_are_refused() {
        for text in
            ["storage", "storage gone", "media", "sip 100", "sip x", "wait", "wait -1", "wait nan", "x"]
        {
            assert!(text.parse::<Command>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in "\\PC{0,40}|(sip|wait|storage) [0-9a-z.-]{0,9}") {
            let _ = commands(&line).count();
        }
    }
}
