//! The program's messages for errors: what, where, and what to do.

use crate::support::{Server, program};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

/// A folder that a server could record to, and a port in use.
struct Scene {
    folder: tempfile::TempDir,
    /// Somebody else has this port.
    taken: TcpListener,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("rec")).expect("folder");
        Self { folder, taken: TcpListener::bind("127.0.0.1:0").expect("loopback") }
    }

    /// Runs the program with these arguments and settings, where DIR, TAKEN and CONFIG are this scene's.
    fn run(&self, arguments: &str, settings: &str) -> Output {
        let config = self.folder.path().join("server.toml");
        let here = |text: &str| {
            text.replace("DIR", path_text(self.folder.path()))
                .replace("TAKEN", &self.taken.local_addr().expect("address").to_string())
                .replace("CONFIG", path_text(&config))
        };
        std::fs::write(&config, here(settings)).expect("config");
        let arguments = here(arguments);
        let mut command = Command::new(program());
        command.args(arguments.split_whitespace()).env("RUST_LOG", "off").output().expect("recordserver")
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// All that a server needs.
const GOOD: &str = "listen = '127.0.0.1:0'\nstorage = 'DIR/rec'\nhttp = 'off'\n";

/// Runs each row, and looks for its words on stderr: arguments, settings, exit status, words.
fn hold(table: &[(&str, &str, i32, &[&str])]) {
    let scene = Scene::new();
    for (arguments, settings, code, words) in table {
        let output = scene.run(arguments, settings);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(*code), "{arguments} {settings}: {said}");
        for word in *words {
            assert!(said.contains(word), "{arguments} {settings}: {word} is not in: {said}");
        }
        assert!(said.starts_with("recordserver: ") && !said.ends_with("\n\n"), "{said:?}");
        assert!(output.stdout.is_empty(), "{arguments} {settings}: {:?}", output.stdout);
    }
}

#[test]
fn an_error_of_a_command_line_is_told_with_the_option_and_the_form() {
    hold(&[
        ("", "", 2, &["--listen: is missing", "ADDR:PORT", "0.0.0.0:5055", "--config"]),
        ("--listen 127.0.0.1:0", "", 2, &["--storage: is missing", "folder", "--config"]),
        ("--listen 5055", "", 2, &["--listen", "5055", "ADDR:PORT", "0.0.0.0:5055", "--help"]),
        ("--listen", "", 2, &["--listen", "missing", "--help"]),
        ("--lisen 127.0.0.1:0", "", 2, &["--lisen", "did you mean --listen?", "--help"]),
        ("extra", "", 2, &["extra", "--help"]),
        ("--json", "", 2, &["--json", "recordserver sessions --json"]),
        ("--rtp-ports 9", "", 2, &["--rtp-ports", "9", "20000-28191"]),
        ("--http 9755", "", 2, &["--http", "9755", "127.0.0.1:9755", "off"]),
        ("--http 0.0.0.0:80", "", 2, &["--http", "0.0.0.0:80", "loopback", "proxy"]),
        ("--config /nosuch", "", 2, &["/nosuch", "--config"]),
        ("sessions --http off", "", 2, &["sessions", "--http", "--status-socket"]),
        ("sessions --http TAKEN --json --nosuch", "", 2, &["--nosuch", "--help"]),
        ("sessions --http 127.0.0.1:1", "", 1, &["127.0.0.1:1", "is recordserver running?", "--http"]),
        ("sessions --status-socket DIR/nosuch", "", 1, &["/nosuch", "is recordserver running?"]),
    ]);
}

#[test]
fn an_error_of_a_config_is_told_with_its_line_and_what_to_write() {
    let config = "--config CONFIG --check-config";
    hold(&[
        (config, "\nlisten = '5055'", 2, &["server.toml:2: listen: ", "5055", "0.0.0.0:5055"]),
        (config, "listn = '5055'", 2, &["server.toml", "line 1", "did you mean `listen`?"]),
        (config, "mode = 0640", 2, &["server.toml", "line 1", "in quotes", "\"0640\""]),
        (config, &with("reserve = '1 GB'"), 2, &["server.toml", "line 4", "1 GB", "512 MiB"]),
        (config, &with("buffer = 1"), 2, &["server.toml:4: buffer: 1 ", "write a value from"]),
        (config, &with("[limits]\nsessions = 0"), 2, &["server.toml:5: limits.sessions: 0", "from 1"]),
        (config, &with("sandbox = 'no'"), 2, &["server.toml:4: sandbox: ", "true", "strict"]),
        (config, &with("log = { level = 'loud' }"), 2, &["server.toml:4: log.level: ", "loud", "debug"]),
        (config, &with("public_addr = 'a b'"), 2, &["server.toml:4: public_addr: ", "host name"]),
        (config, &with("rtp_ports = '9'"), 2, &["server.toml:4: rtp_ports: ", "20000-28191"]),
        (config, &with("status_socket_mode = 'rw'"), 2, &["status_socket_mode: ", "rw", "0660"]),
    ]);
}

/// A good config with this beside, on line 4.
fn with(more: &str) -> String {
    format!("{GOOD}{more}")
}

#[test]
fn check_config_finds_errors_of_the_start_and_the_start_says_the_same() {
    let elsewhere = |listen: &str, storage: &str| format!("listen = '{listen}'\nstorage = '{storage}'\n");
    let table: [(String, &[&str]); 6] = [
        (elsewhere("127.0.0.1:0", "/nosuch"), &["/nosuch", "make the folder", "--storage"]),
        (elsewhere("127.0.0.1:0", "/dev/null"), &["/dev/null", "choose a folder", "--storage"]),
        (elsewhere("192.0.2.77:0", "DIR/rec"), &["192.0.2.77", "of this machine", "--listen"]),
        (with("recordings_group = 'nosuchgroup'"), &["nosuchgroup", "recordings_group: ", "make the group"]),
        (with("status_socket = '/nosuch/s'"), &["/nosuch/s", "make its folder", "--status-socket"]),
        (with("status_socket = '/dev/null/s'"), &["/dev/null/s", "another path", "--status-socket"]),
    ];
    for (settings, words) in &table {
        hold(&[("--config CONFIG --check-config", settings, 2, words)]);
        hold(&[("--config CONFIG --http off", settings, 1, words)]);
    }
}

#[test]
fn check_config_says_that_good_settings_are_good_while_a_server_with_them_runs() {
    let output = Scene::new().run("--config CONFIG --check-config --listen TAKEN", GOOD);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the settings are good\n", "{output:?}");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn an_address_or_path_already_in_use_is_told_with_what_to_do() {
    hold(&[
        ("--config CONFIG --listen TAKEN", GOOD, 1, &["127.0.0.1:", "end what has it", "--listen"]),
        ("--config CONFIG --http TAKEN", GOOD, 1, &["127.0.0.1:", "end what has it", "--http"]),
        (
            "--config CONFIG --status-socket DIR/server.toml",
            GOOD,
            1,
            &["server.toml", "remove it", "another path", "--status-socket"],
        ),
    ]);
    let server = Server::start("rtp_ports = \"23490-23499\"\n");
    let storage = path_text(server.folder.path()).to_owned() + "/rec";
    let settings = format!("listen = '127.0.0.1:0'\nstorage = '{storage}'\nhttp = 'off'\n");
    let words = [storage.as_str(), "another recordserver", "end that one", "another folder", "--storage"];
    hold(&[("--config CONFIG", &settings, 1, &words)]);
}
