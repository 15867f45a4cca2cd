//! The error messages of `recordctl`: what, where, and what to do, once.

use crate::fake_agent::FakeAgent;
use crate::{program, recordctl, stderr};
use serde_json::json;
use std::path::Path;

/// The command line, its exit status, and the words on stderr.
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
fn an_error_of_a_command_line_is_told_with_the_option_and_the_form() {
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
fn wrong_parameters_for_the_agent_are_wrong_usage() {
    let agent = FakeAgent::start();
    agent.refuse(json!({"code": -32602, "message": "`recording` is missing, and there are several: r1, r2"}));
    let output = recordctl(&agent.socket, &["stop"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("r1, r2; name one of them"), "{output:?}");
}

#[test]
fn advice_is_the_agents_own_if_it_has_any() {
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
            // `verify` names the kind of file, and says its meaning.
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

/// A folder with files of each kind that the file commands may meet.
fn files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let header = |codec: &str, frame: u32, octets: u32| {
        let mut head = codec.as_bytes().to_vec();
        head.resize(64, 0);
        [frame, 160, octets].iter().for_each(|field| head.extend(field.to_le_bytes()));
        head
    };
    let audio = vec![0xD5; 320];
    let files = [
        ("good.wav", [header("PCMA", 160, 320), audio.clone()].concat()),
        ("cut.wav", header("PCMA", 160, 320)[..50].to_vec()),
        ("blank.wav", vec![0; 400]),
        ("codec.wav", [header("OPUS", 160, 320), audio.clone()].concat()),
        ("frame.wav", [header("PCMA", 0, 320), audio].concat()),
        ("text", "root:x:0:0:root:/root:/bin/sh\n".repeat(9).into_bytes()),
        ("key", b"# no key\n".to_vec()),
    ];
    for (name, octets) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, octets).unwrap();
        let mode = if name == "key" { 0o600 } else { 0o644 };
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    folder
}

/// The command line, its exit status, words of the message, and words of wrong advice that it lacks.
const FILES: [(&str, i32, &[&str], &[&str]); 29] = [
    ("info nosuch.wav", 1, &["nosuch.wav", "check the path"], &["repair"]),
    ("verify nosuch.wav", 1, &["nosuch.wav", "check the path"], &["damaged"]),
    ("repair nosuch.wav", 1, &["nosuch.wav", "check the path"], &["damaged"]),
    ("export nosuch.wav -o out.wav", 1, &["nosuch.wav", "check the path", "nothing exported"], &["damaged"]),
    ("decrypt nosuch.wav -o out.wav --identity key", 1, &["key", "no identity", "keygen"], &["damaged"]),
    ("info empty", 1, &["empty", "Record_….wav", "name another"], &["damaged"]),
    ("info cut.wav", 1, &["cut.wav", "50 of 76", "recordctl repair", "sidecar"], &[]),
    ("verify blank.wav", 1, &["blank.wav", "power cut", "recordctl repair", "sidecar"], &[]),
    ("repair cut.wav", 1, &["cut.wav", "50 of 76", "where the sidecar is beside it"], &[]),
    ("repair frame.wav", 1, &["frame.wav", "rtpLen 0", "where the sidecar is beside it"], &[]),
    ("repair codec.wav", 1, &["codec.wav", "OPUS", "PCMA, PCMU, G722", "newer"], &["sidecar is beside"]),
    ("repair text", 1, &["text", "no phone recording"], &["damaged", "sidecar is beside"]),
    ("export codec.wav -o out.wav", 1, &["codec.wav", "OPUS", "out.wav", "nothing exported"], &[]),
    ("export good.wav", 2, &["--output"], &[]),
    ("export good.wav -o good.wav", 1, &["good.wav", "one of the recordings", "-o"], &["--force"]),
    ("export good.wav -o key", 1, &["key", "exists already", "--force"], &[]),
    ("export good.wav -o nosuch/out.wav", 1, &["nosuch/out.wav", "choose another place with -o"], &[]),
    ("export good.wav -o out.wav --codec mp3", 2, &["mp3", "pcm, copy"], &[]),
    ("decrypt good.wav -o out.wav", 2, &["--identity"], &[]),
    ("decrypt good.wav -o out.wav --identity nosuch", 1, &["nosuch", "check the path", "keygen"], &["chmod"]),
    ("decrypt good.wav -o out.wav --identity text", 1, &["text", "chmod 600"], &["check the path"]),
    ("decrypt good.wav -o out.wav --identity empty", 1, &["empty", "is no file", "name a key file"], &[]),
    ("info good.wav --identity nosuch", 1, &["nosuch", "check the path", "keygen"], &["damaged"]),
    ("verify good.wav --signed-by nosuch", 1, &["nosuch", "check the path"], &["damaged"]),
    ("keygen", 2, &["--output"], &[]),
    ("keygen -o key", 1, &["key", "never overwritten", "choose another name"], &["--force"]),
    ("keygen -o nosuch/key", 1, &["nosuch/key", "make its folder"], &["check the path"]),
    ("keygen --public nosuch", 1, &["nosuch", "check the path", "keygen"], &[]),
    ("play --stdout text", 1, &["text", "no phone recording"], &["repair"]),
];

#[test]
fn an_error_of_a_file_is_told_with_its_name_and_what_to_do() {
    for (words, code, said, never) in FILES {
        let folder = files();
        let mut command = program();
        let output = command.current_dir(folder.path()).args(words.split(' ')).output().unwrap();
        // `verify` and `repair` print their findings on stdout.
        let text = String::from_utf8(output.stdout.clone()).unwrap() + &stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{words}: {text}");
        for word in said {
            assert!(text.contains(word), "{words}: {word} is not in: {text}");
        }
        for word in never {
            assert!(!text.contains(word), "{words}: {word} is in: {text}");
        }
    }
}
