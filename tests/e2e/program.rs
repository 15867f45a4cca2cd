//! The programs' options, configs and exit codes.

use std::process::Output;

use crate::support::agent::{output_of, recordctl, recordd};
use crate::support::{Agent, Call, Codec, Setup, patience, wait_until};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn version_and_help_are_printed_and_exit_with_0() {
    for mut command in [recordd(), recordctl()] {
        let output = output_of(command.arg("--version"));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    }
    let output = output_of(recordd().arg("--help"));
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for option in ["--config", "--check-config", "--version", "--help"] {
        assert!(text.contains(option), "{option} is not in:\n{text}");
    }
}

#[test]
fn bad_usage_exits_with_2() {
    for arguments in [&["--no-such-option"][..], &["--config"], &["stray"]] {
        let output = output_of(recordd().args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty());
    }
    let output = output_of(recordd().args(["--config", "/nonexistent/recordd.toml"]));
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("/nonexistent/recordd.toml"), "{}", stderr(&output));
}

#[test]
fn a_start_that_fails_says_what_is_wrong_where_and_what_to_do() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    let with = |section, key, value: &str| Setup::new().set(section, key, value).run_to_end();
    let table: [(Output, i32, &[&str]); 12] = [
        (output_of(recordd().arg("--config")), 2, &["--config needs a file", "--help"]),
        (output_of(recordd().arg("--check-config=yes")), 2, &["--check-config takes no value"]),
        (output_of(recordd().arg("-c")), 2, &["invalid option '-c'"]),
        (output_of(recordd().arg("/etc/recordd.toml")), 2, &["unexpected argument", "/etc/recordd.toml"]),
        (output_of(recordd().arg("--chek-config")), 2, &["--chek-config", "did you mean --check-config?"]),
        (output_of(recordd().arg("--config=/nosuch")), 2, &["/nosuch", "cannot read the config", "--config"]),
        (with("control", "mode", "0660"), 2, &["recordd.toml:", "in quotes", "\"0660\""]),
        (with("control", "mod", "'0660'"), 2, &["recordd.toml:", "did you mean `mode`?"]),
        (with("control", "socket", "'/nosuch/s'"), 1, &["control.socket", "/nosuch/s", "make its folder"]),
        (with("control", "socket", &format!("'{file}'")), 1, &["control.socket", file, "remove it"]),
        (with("storage", "sign_key", "'/nosuch'"), 2, &["storage.sign_key", "/nosuch", "recordctl keygen"]),
        (
            with("uplink", "server_addr", "'192.0.2.10:5055'"),
            2,
            &["recordd.toml:", "uplink.server_addr", "without port", "server_port = 5055"],
        ),
    ];
    for (output, code, words) in table {
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        for word in words {
            assert!(said.contains(word), "{word} is not in: {said}");
        }
    }
}

#[test]
fn a_good_config_passes_the_check_without_starting_anything() {
    let setup = Setup::new();
    let config = setup.write_config();
    let output = output_of(recordd().arg("--check-config").arg("--config").arg(config));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!setup.dir().join("recordd.sock").exists());
}

#[test]
fn a_check_whose_result_nobody_reads_is_a_check_all_the_same() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let setup = Setup::new();
    let mut check = recordd();
    check.arg("--check-config").arg("--config").arg(setup.write_config());
    let status = check.stdout(full).stderr(std::process::Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_buffer_that_is_too_small_is_told_at_the_start_and_by_the_check() {
    let setup = || Setup::new().quoted("storage", "buffer", "64 KiB");
    let told = "storage.buffer is 131072 octets instead of 65536";
    let agent = setup().start();
    assert!(agent.log().contains(told), "{}", agent.log());
    let output = output_of(recordd().arg("--check-config").arg("--config").arg(setup().write_config()));
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains(told), "{output:?}");
}

#[test]
fn a_bad_config_is_refused_with_file_line_and_key() {
    let broken = [
        ("[control]\nsokcet = \"/run/x.sock\"\n", 2, "sokcet"),
        ("[contrl]\nsocket = \"/run/x.sock\"\n", 1, "contrl"),
        ("[rtp]\n\n# a comment\nmax_recordings = \"four\"\n", 4, "max_recordings"),
        ("[rtp]\nport = 70000\n", 2, "port"),
        ("[storage]\nrequire_usb = false\nmax_file_size = \"12 parsecs\"\n", 3, "max_file_size"),
        ("[storage]\non_full = \"panic\"\n", 2, "on_full"),
        ("[control]\nmode = \"rw\"\n", 2, "mode"),
        ("[log]\nlevel = \"shouting\"\n", 2, "level"),
    ];
    let setup = Setup::new();
    let file = setup.dir().join("broken.toml");
    for (text, line, key) in broken {
        std::fs::write(&file, text).unwrap();
        for check in [&["--check-config"][..], &[]] {
            let output = output_of(recordd().args(check).arg("--config").arg(&file));
            let message = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{text}: {message}");
            assert!(message.contains(file.to_str().unwrap()), "no file in: {message}");
            assert!(message.contains(key), "no {key} in: {message}");
            let numbers = message.split(|c: char| !c.is_ascii_digit());
            let named = numbers.filter_map(|word| word.parse::<u32>().ok()).any(|word| word == line);
            assert!(named, "no line {line} in: {message}");
        }
    }
}

#[test]
fn rtp_from_the_network_has_to_be_allowed() {
    let output = Setup::new().quoted("rtp", "bind", "0.0.0.0").run_to_end();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("allow_remote"), "{}", stderr(&output));
    let agent = Setup::new().quoted("rtp", "bind", "0.0.0.0").set("rtp", "allow_remote", true);
    assert!(agent.start().is_alive());
}

#[test]
fn a_socket_that_cannot_be_made_is_a_runtime_failure() {
    let setup = Setup::new();
    let socket = setup.dir().join("missing").join("recordd.sock");
    let socket = socket.to_str().unwrap().to_owned();
    let output = setup.quoted("control", "socket", &socket).run_to_end();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains(&socket), "{}", stderr(&output));
}

#[test]
fn an_agent_that_ends_leaves_the_socket_of_another_one_in_its_place() {
    let mut agent = Agent::start();
    let socket = agent.socket.clone();
    std::fs::remove_file(&socket).unwrap();
    let mut other = Setup::new().quoted("control", "socket", socket.to_str().unwrap()).spawn();
    let connects = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
    wait_until("the other agent listens", patience(), connects);
    assert!(agent.terminate().success());
    assert!(connects(), "the other agent lost its socket");
    assert!(other.terminate().success());
    assert!(!socket.exists(), "its own one is removed");
}

#[test]
fn recordctl_drives_a_recording_over_the_socket() {
    let agent = Agent::start();
    let mut call = Call::start(&agent, Codec::Pcma);
    let heard = call.speak(10);
    let control = |arguments: &[&str]| {
        let output = output_of(recordctl().arg("--socket").arg(&agent.socket).args(arguments));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let status = control(&["status", "--json"]);
    assert!(status.contains(&call.id), "{status}");
    control(&["pause"]);
    assert_eq!(call.status()["state"], "paused");
    control(&["resume"]);
    control(&["stop"]);
    call.wait_ended();
    crate::support::read_recording(&call.file).assert_finished(Codec::Pcma, &heard);
    control(&["start", "--codec", "PCMU"]);
    assert_eq!(agent.recordings().len(), 2);
    control(&["stop"]);
    let output = output_of(recordctl().arg("--socket").arg(&agent.socket).arg("stop"));
    assert_eq!(output.status.code(), Some(1), "nothing to stop: {}", stderr(&output));
}
