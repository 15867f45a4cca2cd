use super::*;

fn args(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn with_file(line: &str, toml: &str) -> Result<Command, String> {
    from_args(args(line), |path| {
        assert_eq!(path, Path::new("server.toml"));
        Ok(toml.to_owned())
    })
}

fn run(line: &str, toml: &str) -> Config {
    match with_file(line, toml) {
        Ok(Command::Run(config)) => *config,
        other => panic!("{other:?}"),
    }
}

const NEEDED: &str = "--listen 0.0.0.0:5055 --storage /srv/rec";

#[test]
fn listen_and_storage_are_enough() {
    let config = run(NEEDED, "");
    assert_eq!(config.listen.port(), 5055);
    assert_eq!(config.storage, Path::new("/srv/rec"));
    assert_eq!((config.rtp_ports, config.http), (PortRange::DEFAULT, Http::Default));
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn the_example_file_has_every_setting_at_its_default() {
    let example = include_str!("../../recordserver.example.toml");
    let from_example = run("--config server.toml", example);
    let needed = "--listen 0.0.0.0:5055 --storage /var/lib/recordserver";
    let mut defaults = run(needed, "");
    // Given, the port must be free; as a default it need not.
    defaults.http = Http::At(DEFAULT_HTTP);
    defaults.status_socket.may_fail = false;
    defaults.media = defaults.media.map(|media| MediaListen { may_fail: false, ..media });
    assert_eq!(from_example, defaults);
    let keys = example.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
    assert_eq!(keys, 27, "a new setting belongs into the example");
}

#[test]
fn audio_by_tcp_comes_to_the_next_port_unless_it_is_told_to_come_elsewhere_or_not_at_all() {
    let at = |line: &str, toml: &str| run(&format!("{line} --storage /a --config server.toml"), toml).media;
    let next = MediaListen { addr: "127.0.0.1:5056".parse().unwrap(), may_fail: true };
    assert_eq!(at("--listen 127.0.0.1:5055", ""), Some(next));
    let told = MediaListen { addr: "[::]:443".parse().unwrap(), may_fail: false };
    assert_eq!(at("--listen 127.0.0.1:5055", "media_listen = \"[::]:443\""), Some(told));
    assert_eq!(at("--listen 127.0.0.1:0", "").map(|media| media.addr.port()), Some(0));
    assert_eq!(at("--listen 127.0.0.1:65535", ""), None);
    assert_eq!(at("--listen 127.0.0.1:5055", "extensions = false"), None);
}

#[test]
fn the_command_line_goes_before_the_file() {
    let toml = "listen = \"[::]:1\"\nstorage = \"/a\"\nrtp_ports = \"4000-4001\"\nhttp = \"\"\n\
                reserve = \"2 GiB\"\nmax_file_size = \"none\"\n\
                [limits]\nsessions = 7\nidle_timeout_s = 0\n[log]\nlevel = \"warn\"\n";
    let config = run("--config server.toml --listen 127.0.0.1:2 --rtp-ports 5000-5009", toml);
    assert_eq!(config.listen, "127.0.0.1:2".parse().expect("address"));
    assert_eq!((config.rtp_ports.count(), config.http), (10, Http::Off));
    assert_eq!((config.reserve_octets, config.max_file_octets), (2 << 30, None));
    assert_eq!((config.limits.sessions, config.timing.idle), (7, None));
    assert_eq!(config.log_level, log::LevelFilter::Warn);
}

#[test]
fn a_public_address_is_one_that_phones_can_send_to() {
    for good in
        ["", "192.0.2.1", "2001:db8::1", "rec", "rec.example.org", "rec_1.example.org.", "9.example.org"]
    {
        let file = format!("{NEEDED} --config server.toml");
        assert_eq!(run(&file, &format!("public_addr = \"{good}\"")).public_addr, good);
    }
    for bad in [
        "192.0.2.1:5055",
        "rec:5055",
        "udp://rec",
        "[2001:db8::1]",
        "192.0.2.300",
        "192.0.2",
        "0.0.0.0",
        "::",
    ] {
        let error = with_file(&format!("{NEEDED} --public-addr {bad}"), "").expect_err(bad);
        assert!(error.contains("--public-addr") && error.contains(bad), "{error}");
    }
}

#[test]
fn every_mistake_names_its_place() {
    let error = |line: &str, toml: &str| with_file(line, toml).expect_err(line);
    assert!(error("", "").contains("--listen"));
    assert!(error("--listen 0.0.0.0:1", "").contains("--storage"));
    assert!(error("--listen nowhere", "").contains("nowhere"));
    assert!(error("--colour", "").contains("--colour"));
    assert!(error(&format!("{NEEDED} --rtp-ports 9-8"), "").contains("9-8"));
    assert!(error(&format!("{NEEDED} --http 0.0.0.0:80"), "").contains("loopback"));
    let file = format!("{NEEDED} --config server.toml");
    let unknown = error(&file, "reserve = 1\nsesions = 1\n");
    assert!(unknown.contains("server.toml") && unknown.contains("line 2") && unknown.contains("sesions"));
    assert!(error(&file, "reserve = \"1 TB\"").contains("1 TB"));
    assert!(error(&file, "[limits]\nsessions = 0\n").contains("limits.sessions"));
    assert!(error(&file, "[log]\nlevel = \"loud\"\n").contains("loud"));
    for (toml, place) in [
        ("\n[limits]\nsessions = 0\n", "server.toml:3: limits.sessions: "),
        ("[limits]\n\nidle_timeout_s = 86401", "server.toml:3: limits.idle_timeout_s: "),
        ("limits = { start_timeout_ms = 1 }", "server.toml:1: limits.start_timeout_ms: "),
        ("\n\n\nbuffer = 1", "server.toml:4: buffer: "),
        ("max_file_size = 1", "server.toml:1: max_file_size: "),
        ("flush_interval_ms = 1", "server.toml:1: flush_interval_ms: "),
        ("public_addr = \"a b\"", "server.toml:1: public_addr: "),
        ("rtp_ports = \"9-8\"", "server.toml:1: rtp_ports: "),
        ("http = \"0.0.0.0:80\"", "server.toml:1: http: "),
        ("\n[log]\nlevel = \"loud\"\n", "server.toml:3: log.level: "),
    ] {
        let message = error(&file, toml);
        assert!(message.starts_with(place), "{message}");
    }
    assert!(error("sessions --config server.toml", "http = \"x\"").starts_with("server.toml:1: http: "));
}

#[test]
fn a_mistake_on_the_command_line_names_its_option_and_a_misspelt_name_the_right_one() {
    let error = |line: &str, toml: &str| with_file(line, toml).expect_err(line);
    for (line, words) in [
        ("--listen 5055", "--listen wants ADDR:PORT"),
        ("--rtp-ports 20000", "--rtp-ports: "),
        ("--http 9755", "--http: "),
        ("--lisen 0.0.0.0:5055", "did you mean --listen?"),
        ("--storage-dir /srv", "did you mean --storage?"),
    ] {
        assert!(error(line, "").contains(words), "{}", error(line, ""));
    }
    assert!(!error("--colour", "").contains("did you mean"));
    let file = format!("{NEEDED} --config server.toml");
    let misspelt = error(&file, "[limits]\nsesions_per_adress = 1\n");
    assert!(misspelt.contains("did you mean `sessions_per_address`?"), "{misspelt}");
    assert!(!error(&file, "colour = 1\n").contains("did you mean"));
}

#[test]
fn sessions_asks_where_the_server_would_answer_and_only_there_if_that_is_told() {
    let asks = |line: &str, toml: &str| match with_file(line, toml) {
        Ok(Command::Sessions { places, .. }) => places.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(asks("sessions", ""), ["http://127.0.0.1:9755/sessions"]);
    let file = "http = \"127.0.0.1:80\"\nstorage = \"/srv/rec\"\n";
    let both = ["/srv/rec/.recordserver.sock", "http://127.0.0.1:80/sessions"];
    assert_eq!(asks("sessions --json --config server.toml", file), both);
    let elsewhere = format!("{file}status_socket = \"/run/rec.sock\"\n");
    assert_eq!(asks("sessions --config server.toml", &elsewhere)[0], "/run/rec.sock");
    let none = format!("{file}status_socket = \"\"\n");
    assert_eq!(asks("sessions --config server.toml", &none), both[1..]);
    assert_eq!(
        asks("sessions --http 127.0.0.1:7 --config server.toml", file),
        ["http://127.0.0.1:7/sessions"]
    );
    assert_eq!(asks("sessions --status-socket /s --config server.toml", file), ["/s"]);
    assert!(matches!(with_file("sessions --json", ""), Ok(Command::Sessions { json: true, .. })));
    assert!(with_file("sessions --http off", "").is_err());
}

#[test]
fn the_status_socket_is_in_the_storage_folder_for_the_group_unless_told_otherwise() {
    let given = |toml: &str| run(&format!("{NEEDED} --config server.toml"), toml).status_socket;
    let path = Some(PathBuf::from("/srv/rec/.recordserver.sock"));
    assert_eq!(given(""), StatusSocket { path, may_fail: true, mode: 0o660 });
    let told = given("status_socket = \"/run/r.sock\"\nstatus_socket_mode = \"0600\"");
    assert_eq!(told, StatusSocket { path: Some("/run/r.sock".into()), may_fail: false, mode: 0o600 });
    assert_eq!(given("status_socket = \"off\"").path, None);
    let file = format!("{NEEDED} --config server.toml");
    for (toml, place) in [
        ("status_socket_mode = \"rw\"".to_owned(), "server.toml:1: status_socket_mode: "),
        ("status_socket_mode = \"1777\"".to_owned(), "server.toml:1: status_socket_mode: "),
        (format!("status_socket = \"/{}\"", "s".repeat(107)), "server.toml:1: status_socket: "),
    ] {
        let error = with_file(&file, &toml).expect_err(&toml);
        assert!(error.starts_with(place), "{error}");
    }
}

#[test]
fn help_and_version_need_nothing_else() {
    assert_eq!(with_file("--help", ""), Ok(Command::Help));
    assert_eq!(with_file("--version", ""), Ok(Command::Version));
    assert!(matches!(with_file(&format!("{NEEDED} --check-config"), ""), Ok(Command::Checked(_))));
}

#[test]
fn recordings_are_their_owners_alone_unless_a_group_is_named() {
    let of = |toml: &str| {
        let config = run(&format!("{NEEDED} --config server.toml"), toml);
        (config.mode, config.recordings_group)
    };
    assert_eq!(of(""), (0o600, None));
    assert_eq!(of("recordings_group = \"audio\""), (0o640, Some(GroupName::Name("audio".into()))));
    assert_eq!(of("mode = \"0660\"").0, 0o660);
    for wrong in ["mode = \"0755\"", "mode = \"0066\"", "recordings_group = \"a:b\""] {
        let error = with_file(&format!("{NEEDED} --config server.toml"), wrong).unwrap_err();
        assert!(error.contains("server.toml"), "{error}");
    }
}

#[test]
fn the_sandbox_is_on_off_or_strict() {
    let of = |toml: &str| run(&format!("{NEEDED} --config server.toml"), toml).sandbox;
    assert_eq!((of(""), of("sandbox = true"), of("sandbox = false")), (Level::On, Level::On, Level::Off));
    assert_eq!(of("sandbox = \"strict\""), Level::Strict);
    let error = with_file(&format!("{NEEDED} --config server.toml"), "\nsandbox = \"no\"").unwrap_err();
    assert!(error.contains("server.toml:2: sandbox"), "{error}");
}

#[test]
fn a_server_to_drain_is_found_by_its_unix_socket() {
    for (line, toml, socket) in [
        ("--drain --storage /srv/rec", "", "/srv/rec/.recordserver.sock"),
        ("--drain --status-socket /run/rec", "", "/run/rec"),
        ("--drain --config server.toml", "listen = \"[::]:1\"\nstorage = \"/a\"\n", "/a/.recordserver.sock"),
    ] {
        let wanted = Command::Drain { socket: socket.into() };
        assert_eq!(with_file(line, toml), Ok(wanted), "{line}");
    }
    for (line, said) in [
        ("--drain", "--storage"),
        ("--drain --storage /a --status-socket off", "SIGUSR1"),
        ("sessions --drain --storage /a", "sessions"),
        ("--drain --check-config --storage /a", "--check-config"),
        ("--drian --storage /a", "did you mean --drain?"),
    ] {
        let error = with_file(line, "").expect_err(line);
        assert!(error.contains(said), "{line}: {error}");
    }
}
