use super::*;
use proptest::prelude::*;
use recfile::seal::age::Recipient;

const EXAMPLE: &str = r#"
[control]
socket = "/run/recordd.sock"   # Unix stream socket, created by the agent
mode   = "0660"
allow_uids = []                # empty: whoever the file mode lets in; else checked by SO_PEERCRED

[rtp]
bind = "127.0.0.1"             # a non-loopback address needs allow_remote = true
port = 0                       # 0: an ephemeral port per recording; N: N, N+2, N+4 … one per concurrent recording
max_recordings = 4

[storage]
path = "auto"                  # "auto": first writable removable disk; or a directory
require_usb = true             # with a directory: refuse if it is not on a removable disk
directory = "Record"           # folder made on the stick; "" = its root
max_file_size = "512 MiB"      # rollover limit of one file, header included; "none" = only the 4 GiB cap of FAT32 and dataSize
reserve = "16 MiB"             # always left free on the stick
on_full = "stop"               # or "delete-oldest" (only the agent's own finalised files)
flush_interval_ms = 1000       # at most this much audio is lost on power cut (see section 6)
buffer = "4 MiB"               # RAM that bridges a stalled stick, shared by all recordings
resume_window_s = 0            # a pulled stick that is back within this time continues the recording in a new file

[uplink]
server_addr = ""               # serverAddr, serverPort of the source document
server_port = 0
device = "auto"                # "auto": MAC address of the interface that reaches the server
connect_timeout_ms = 3000
response_timeout_ms = 5000
terminator = "none"            # what is sent after a TCP command: "none" (the document's literal form), "lf", "crlf"
on_failure = "stop"            # or "local": go on recording to USB when the server fails or refuses

[log]
level = "info"
"#;

fn error_of(text: &str) -> String {
    Config::parse(text, "t.toml").expect_err(text).to_string()
}

#[test]
fn the_example_and_an_empty_text_give_the_defaults() {
    assert_eq!(Config::parse(EXAMPLE, "t.toml").unwrap(), Config::default());
    assert_eq!(Config::parse("", "t.toml").unwrap(), Config::default());
}

#[test]
fn every_key_reaches_its_setting() {
    let text = r#"
        [control]
        socket = "/tmp/s"
        mode = "600"
        group = "phone"
        allow_uids = [0, 1000]
        [rtp]
        bind = "::"
        port = 4000
        max_recordings = 2
        allow_remote = true
        [storage]
        path = "/mnt/usb"
        require_usb = false
        directory = "a/b"
        max_file_size = "none"
        reserve = 4096
        on_full = "delete-oldest"
        flush_interval_ms = 0x100
        buffer = "64KiB"
        resume_window_s = 30
        mode = "0660"
        recordings_group = "audio"
        speed_check = false
        encrypt_to = ["age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"]
        sign_key = "/etc/recordd.key"
        [uplink]
        server_addr = "rec.example.org"
        server_port = 9099
        device = "001565aabbcc"
        connect_timeout_ms = 100
        response_timeout_ms = 200
        terminator = "crlf"
        on_failure = "local"
media_hosts = ["192.0.2.10", "2001:db8::/32", "media.example.org"]
        extensions = true
        dscp_control = 0
        dscp_media = 63
        [sandbox]
        enabled = "strict"
        keep_capabilities = ["CAP_NET_ADMIN"]
        unmount = false
        mount_parents = ["/phone/usb"]
        read = ["/phone/tz"]
        [log]
        level = "debug"
    "#;
    let config = Config::parse(text, "t.toml").unwrap();
    let expected = Config {
        control: Control {
            socket: "/tmp/s".into(),
            mode: 0o600,
            group: Some(GroupName::Name("phone".to_owned())),
            allow_uids: vec![0, 1000],
        },
        rtp: Rtp { bind: "::".parse().unwrap(), port: 4000, max_recordings: 2, allow_remote: true },
        storage: Storage {
            path: StoragePath::Directory("/mnt/usb".into()),
            require_usb: false,
            directory: "a/b".to_owned(),
            max_file_octets: None,
            reserve_octets: 4096,
            on_full: OnFull::DeleteOldest,
            flush_interval: Duration::from_millis(256),
            buffer_octets: 65536,
            buffer_raised_from: None,
            resume_window: Duration::from_secs(30),
            mode: 0o660,
            recordings_group: Some(GroupName::Name("audio".to_owned())),
            speed_check: false,
            encrypt_to: vec![Recipient::parse(RECIPIENT).unwrap()],
            sign_key: Some("/etc/recordd.key".into()),
        },
        uplink: Uplink {
            server_addr: "rec.example.org".to_owned(),
            server_port: 9099,
            device: Device::Fixed("001565aabbcc".to_owned()),
            connect_timeout: Duration::from_millis(100),
            response_timeout: Duration::from_millis(200),
            terminator: Terminator::CrLf,
            on_failure: OnFailure::Local,
            media_hosts: MediaHosts::parse(["192.0.2.10", "2001:db8::/32", "media.example.org"]).unwrap(),
            extensions: true,
            dscp_control: 0,
            dscp_media: 63,
        },
        sandbox: Sandbox {
            enabled: Level::Strict,
            keep_capabilities: vec!["CAP_NET_ADMIN".parse().unwrap()],
            unmount: false,
            mount_parents: vec!["/phone/usb".into()],
            read: vec!["/phone/tz".into()],
        },
        log: Log { level: log::LevelFilter::Debug },
    };
    assert_eq!(config, expected);
    for (section, keys) in SECTIONS {
        for key in *keys {
            assert!(text.contains(&format!("{key} =")), "{section}.{key} is not in this test");
        }
    }
}

const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

#[test]
fn a_recipient_is_one_or_a_list_or_none_and_a_wrong_one_is_named_but_never_a_secret() {
    let read = |value: &str| Config::parse(&format!("[storage]\nencrypt_to = {value}\n"), "t.toml");
    let count = |value: &str| read(value).unwrap().storage.encrypt_to.len();
    assert_eq!(count("\"\""), 0);
    assert_eq!(count("[]"), 0);
    assert_eq!(count(&format!("\"{RECIPIENT}\"")), 1);
    assert_eq!(count(&format!("[\"{RECIPIENT}\", \"{RECIPIENT}\"]")), 2);
    let mistyped = read(&format!("\"{}\"", RECIPIENT.replace("zv", "zw"))).unwrap_err().to_string();
    assert!(
        mistyped.starts_with("t.toml:2: key `storage.encrypt_to`") && mistyped.contains("age1"),
        "{mistyped}"
    );
    let secret = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    let leaked = read(&format!("\"{secret}\"")).unwrap_err().to_string();
    assert!(!leaked.contains("1GFPYY") && leaked.contains("never the identity"), "{leaked}");
    assert!(read(&format!("[{}]", vec![format!("\"{RECIPIENT}\""); 9].join(","))).is_err());
    assert!(read("7").is_err());
    let relative = Config::parse("[storage]\nsign_key = \"recordd.key\"\n", "t.toml").unwrap_err();
    assert!(relative.to_string().contains("absolute path"), "{relative}");
}

#[test]
fn an_error_names_file_line_key_and_remedy() {
    assert_eq!(
        error_of("# c\n[storage]\nflush_interval_ms = 10\n"),
        "t.toml:3: key `storage.flush_interval_ms`: 10 is out of range; write a value from 50 to 60000"
    );
    assert_eq!(
        error_of("[rtp]\nmax_recordings = 8\nport = 65530\n"),
        "t.toml:3: key `rtp.port`: 65530 is out of range; write a value from 0 to 65521"
    );
    assert_eq!(
        error_of("[storage]\nbuffer = true\n"),
        "t.toml:2: key `storage.buffer`: is of type boolean; write a size such as \"4 MiB\""
    );
    assert_eq!(
        error_of("[storage]\non_full = \"halt\"\n"),
        "t.toml:2: key `storage.on_full`: \"halt\" does not fit; write \"stop\" or \"delete-oldest\""
    );
}

#[test]
fn unknown_names_are_errors_with_a_suggestion() {
    assert_eq!(
        error_of("[rtp]\n\nmax_recording = 1\n"),
        "t.toml:3: key `rtp.max_recording`: unknown; did you mean `max_recordings`?"
    );
    assert_eq!(error_of("\n[storag]\n"), "t.toml:2: key `storag`: unknown; did you mean `storage`?");
    assert_eq!(
        error_of("zzz = 1"),
        "t.toml:1: key `zzz`: unknown; there are control, rtp, storage, uplink, sandbox, log"
    );
    assert_eq!(error_of("[log]\nxyz = 1"), "t.toml:2: key `log.xyz`: unknown; there are level");
    assert!(error_of("storage = 3").starts_with("t.toml:1: key `storage`: is of type integer"));
    assert!(error_of("[[rtp]]\nport = 1").starts_with("t.toml:1: key `rtp`: is of type array"));
}

#[test]
fn broken_toml_is_told_with_its_line() {
    assert!(error_of("[rtp]\nport = \n").starts_with("t.toml:2: not valid TOML: "));
    assert!(error_of("[rtp]\nport = 1\nport = 2\n").starts_with("t.toml:3: not valid TOML: "));
}

#[test]
fn values_out_of_range_are_refused() {
    for text in [
        "control.mode = 660",
        "control.mode = '0888'",
        "control.mode = '7777'",
        "control.mode = '+660'",
        "control.socket = ''",
        "control.allow_uids = ['root']",
        "control.allow_uids = [-1]",
        "sandbox.enabled = 'yes'",
        "sandbox.enabled = 1",
        "sandbox.keep_capabilities = ['CAP_SYS_ADMIN']",
        "sandbox.keep_capabilities = 'CAP_CHOWN'",
        "sandbox.mount_parents = ['media']",
        "sandbox.read = [1]",
        "rtp.bind = 'localhost'",
        "rtp.bind = '192.0.2.1'",
        "rtp.port = 65536",
        "rtp.port = 65530",
        "rtp.port = -1",
        "rtp.port = 99999999999999999999999999",
        "rtp.max_recordings = 0",
        "rtp.max_recordings = 65",
        "storage.path = ''",
        "storage.directory = '/abs'",
        "storage.directory = '../up'",
        "storage.directory = 'a/../..'",
        "storage.directory = 'a:b'",
        "storage.max_file_size = '4095'",
        "storage.max_file_size = '1 MB'",
        "storage.max_file_size = '-1 MiB'",
        "storage.max_file_size = ' MiB'",
        "storage.max_file_size = '99999999999999999999 GiB'",
        "storage.max_file_size = '18446744073709551615 KiB'",
        "storage.buffer = '63 KiB'",
        "storage.buffer = '257 MiB'",
        "storage.resume_window_s = 1.5",
        "uplink.server_addr = 'host'",
        "uplink = {server_addr = 'a b', server_port = 1}",
        "uplink.dscp_media = 64",
        "uplink.device = ''",
        "log.level = 'loud'",
    ] {
        let error = Config::parse(text, "t.toml").expect_err(text);
        assert_eq!(error.line, 1, "{text}");
        assert!(error.key.is_some(), "{text}");
    }
}

#[test]
fn the_buffer_has_two_blocks_for_each_recording_at_least() {
    let buffer = |text: &str| Config::parse(text, "t.toml").unwrap().storage.buffer_octets;
    assert_eq!(buffer("storage.buffer = '64 KiB'"), 4 * 2 * BLOCK_OCTETS);
    assert_eq!(buffer("rtp.max_recordings = 64\nstorage.buffer = '64 KiB'"), 2 << 20);
    assert_eq!(buffer("rtp.max_recordings = 1\nstorage.buffer = '64 KiB'"), 64 << 10);
    assert_eq!(buffer("rtp.max_recordings = 64"), 4 << 20);
}

#[test]
fn a_buffer_that_is_raised_is_told() {
    let note = |text: &str| Config::parse(text, "t.toml").unwrap().note();
    assert_eq!(note("rtp.max_recordings = 2\nstorage.buffer = '64 KiB'"), None);
    let raised = note("rtp.max_recordings = 3\nstorage.buffer = '64 KiB'").unwrap();
    assert!(raised.contains("storage.buffer is 98304 octets instead of 65536"), "{raised}");
}

#[test]
fn values_at_the_edge_of_their_range_are_taken() {
    for text in [
        "rtp.port = 65529",
        "rtp = {port = 65409, max_recordings = 64}",
        "rtp.bind = '::1'",
        "rtp.bind = '127.9.9.9'",
        "storage.directory = ''",
        "storage.directory = 'Aufnahmen/Büro 1'",
        "storage.max_file_size = '4 KiB'",
        "storage.max_file_size = '4096'",
        "storage.buffer = '256 MiB'",
        "storage.flush_interval_ms = 60_000",
        "uplink = {server_addr = '2001:db8::1', server_port = 1}",
        "uplink.server_port = 9",
    ] {
        Config::parse(text, "t.toml").expect(text);
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = Config::parse(&text, "t.toml");
    }

    #[test]
    fn a_damaged_example_gives_settings_or_an_error_on_one_of_its_lines(
        at in 0..EXAMPLE.len(), octet in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut octets = EXAMPLE.as_bytes().to_vec();
        if cut { octets.truncate(at); } else { octets[at] = octet; }
        let text = String::from_utf8_lossy(&octets);
        if let Err(error) = Config::parse(&text, "t.toml") {
            prop_assert!(error.line >= 1 && error.line <= text.lines().count() + 1);
        }
    }

    #[test]
    fn any_value_of_any_key_gives_settings_or_an_error_that_names_it(
        section in 0..SECTIONS.len(), key in any::<prop::sample::Index>(),
        value in prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f64>().prop_map(|n| format!("{n:?}").to_lowercase()),
            "[a-z0-9 ./KMGiB-]{0,40}".prop_map(|s| format!("'{s}'")),
            Just("[1, 2]".to_owned()), Just("{a = 1}".to_owned()), Just("1979-05-27".to_owned()),
        ],
    ) {
        let (section, keys) = SECTIONS[section];
        let key = keys[key.index(keys.len())];
        if let Err(error) = Config::parse(&format!("\n[{section}]\n{key} = {value}\n"), "t.toml") {
            prop_assert_eq!(error.key, Some(format!("{section}.{key}")));
            prop_assert_eq!(error.line, 3);
        }
    }
}

#[test]
fn recordings_are_their_owners_alone_unless_a_group_is_named() {
    let storage = |text: &str| Config::parse(&format!("[storage]\n{text}"), "t.toml").map(|it| it.storage);
    let found = |text: &str| storage(text).map(|it| (it.mode, it.recordings_group)).unwrap();
    assert_eq!(found(""), (0o600, None));
    assert_eq!(found("recordings_group = \"\""), (0o600, None));
    assert_eq!(found("recordings_group = \"29\""), (0o640, Some(GroupName::Number(29))));
    assert_eq!(found("recordings_group = \"audio\"\nmode = \"0600\"").0, 0o600);
    for wrong in ["0400", "0700", "0601", "600x", "", "1600", "00600", "-600"] {
        assert!(storage(&format!("mode = \"{wrong}\"")).is_err(), "{wrong}");
    }
    assert!(storage("mode = 600").is_err());
    for wrong in ["a:b", "a b", "4294967295", "99999999999", "a\\nb"] {
        assert!(storage(&format!("recordings_group = \"{wrong}\"")).is_err(), "{wrong}");
    }
}

#[test]
fn the_sockets_group_has_a_name_or_a_number_and_changes_no_mode() {
    let control = |text: &str| Config::parse(&format!("[control]\n{text}"), "t.toml").map(|it| it.control);
    let found = |text: &str| control(text).map(|it| (it.mode, it.group)).unwrap();
    assert_eq!(found(""), (0o660, None));
    assert_eq!(found("group = \"\""), (0o660, None));
    assert_eq!(found("group = \"phone\""), (0o660, Some(GroupName::Name("phone".into()))));
    assert_eq!(found("group = \"29\"\nmode = \"0600\""), (0o600, Some(GroupName::Number(29))));
    for wrong in ["\"a:b\"", "\"4294967295\"", "29"] {
        let error = control(&format!("group = {wrong}")).unwrap_err();
        assert_eq!((error.key.as_deref(), error.line), (Some("control.group"), 2), "{wrong}");
    }
}
