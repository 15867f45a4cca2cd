//! What `recordctl` says when something can't be: what, where, and what to do, once.

use crate::fake_agent::FakeAgent;
use crate::{recordctl, stderr};
use serde_json::json;
use std::path::Path;

/// The command line, its exit status, and what stderr says.
const TABLE: [(&str, i32, &[&str]); 10] = [
    ("play a.wav --rtp 127.0.0.1", 2, &["--rtp", "127.0.0.1", "address and a port", "127.0.0.1:4000"]),
    ("play a.wav --rtp 127.0.0.1:0", 2, &["--rtp", "port 0"]),
    ("play a.wav --rtp localhost:4000", 2, &["--rtp", "localhost", "127.0.0.1:4000"]),
    ("simulate-phone --spawn /x --dir /y --server 5055", 2, &["--server", "5055", "127.0.0.1:4000"]),
    ("start --ptime 500", 2, &["--ptime", "500", "5..=200"]),
    ("stop one two", 2, &["unexpected argument", "two", "--help"]),
    ("watch --wait r1", 2, &["--wait", "cannot be used"]),
    ("status", 1, &["/nonexistent/agent.sock", "is recordd running?", "--socket"]),
    ("play --stdout /nonexistent.wav", 1, &["/nonexistent.wav", "check the path"]),
    ("simulate-agent --script /nonexistent", 1, &["/nonexistent"]),
];

#[test]
fn what_is_wrong_with_a_command_line_is_said_with_the_option_and_the_form() {
    for (words, code, said) in TABLE {
        let arguments: Vec<&str> = words.split(' ').collect();
        let output = recordctl(Path::new("/nonexistent/agent.sock"), &arguments);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{words}: {text}");
        for word in said {
            assert!(text.contains(word), "{words}: {word} is not in: {text}");
        }
    }
}

#[test]
fn what_the_agent_calls_wrong_parameters_is_wrong_usage() {
    let agent = FakeAgent::start();
    agent.refuse(json!({"code": -32602, "message": "`recording` is missing, and there are several: r1, r2"}));
    let output = recordctl(&agent.socket, &["stop"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("r1, r2; name one of them"), "{output:?}");
}

#[test]
fn what_to_do_is_the_agents_own_advice_if_it_has_any() {
    let agent = FakeAgent::start();
    let data = json!({"reason": "not_configured", "detail": "port 4000", "advice": "change [rtp] port"});
    agent.refuse(json!({"code": -32000, "message": "no RTP port can be bound", "data": data}));
    let said = stderr(&recordctl(&agent.socket, &["start"]));
    assert_eq!(said, "recordctl: no RTP port can be bound (not_configured: port 4000); change [rtp] port\n");
}

#[test]
fn a_file_that_is_no_recording_is_called_so_once_and_a_standard_wav_is_not_called_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let (text, wav) = (folder.path().join("text"), folder.path().join("music.wav"));
    std::fs::write(&text, "root:x:0:0:root:/root:/bin/sh\n".repeat(9)).unwrap();
    let mut riff = b"RIFF\x24\x00\x00\x00WAVEfmt ".to_vec();
    riff.resize(200, 0);
    std::fs::write(&wav, riff).unwrap();
    for (file, what) in [(&text, "no phone recording"), (&wav, "standard WAV")] {
        let file = file.to_str().unwrap();
        for command in ["info", "verify"] {
            let output = recordctl(Path::new("/nonexistent"), &[command, file]);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let all = String::from_utf8(output.stdout.clone()).unwrap() + &stderr(&output);
            let lines = all.lines().filter(|line| line.contains(what)).count();
            // `verify` names the kind of file, and says what that means.
            assert!(lines == 1 || (command == "verify" && lines == 2), "{command} {file}: {all}");
            assert!(!all.contains("damaged"), "{command} {file}: {all}");
        }
    }
}

#[test]
fn the_simulated_agents_help_has_its_commands() {
    let output = recordctl(Path::new("/nonexistent"), &["simulate-agent", "--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    for command in ["storage pulled|inserted", "media on|off", "sip CODE|off", "wait SECONDS", "quit"] {
        assert!(help.contains(command), "{command} is not in:\n{help}");
    }
}
