//! Names from phones, their own and their callers': they decide nothing, and do no harm.

use crate::limits::Phone;
use crate::support::{Server, program, recorded};
use recfile::text::is_harmless;
use std::process::Command;

/// Every octet escaped.
fn escaped(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("%{octet:02X}")).collect()
}

#[test]
fn long_broken_and_harmful_texts_are_recorded_cut_cleaned_and_noted() {
    let server = Server::start("rtp_ports = \"23900-23919\"\n");
    let harm = "A\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{2028}\u{200b}\u{2066}\u{e0041}Z";
    let id = format!("{}{}", escaped(harm.as_bytes()), "x".repeat(400));
    let mut phone = Phone::at([127, 0, 0, 1], &server);
    phone.says(&format!(
        "cmd=RecordStartRequest&id={id}&device={}{}&remote_number={}&remote_name={}&local_name=\u{41c}\u{438}\u{440}&dir=in&codec=PCMA\n",
        escaped(harm.as_bytes()),
        "d".repeat(500),
        "1".repeat(2000),
        escaped(b"M\xfcller \xf0\x9f\x98"),
    ));
    let answer = phone.hears();
    assert!(answer.contains("&result=success&"), "{answer}");
    // The phone gets its own text back, or it would not know its own recording.
    let said = harm.replace('\u{1b}', "%1B").replace('\u{7f}', "%7F").replace('\u{9b}', "%C2%9B");
    assert!(answer.starts_with(&format!("cmd=RecordStartResponse&id={said}xxx")), "{answer}");
    for json in [&["--json"][..], &[]] {
        let output = Command::new(program())
            .args(["sessions", "--http", &server.http.to_string()])
            .args(json)
            .output()
            .expect("recordserver");
        let shown = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success() && shown.lines().all(is_harmless), "{shown:?}");
    }
    phone.says(&format!(
        "cmd=RecordStopRequest&id={id}&remote_name={}&reason={}\n",
        escaped(harm.as_bytes()),
        escaped(harm.as_bytes())
    ));
    assert!(phone.hears().ends_with("&result=success\n"));
    let (_, folder) = server.terminate();
    let (sidecar, _) = recorded(folder.path(), &kept_id(harm));
    assert!(sidecar.recording.starts_with("A [2J"), "{:?}", sidecar.recording);
    for text in
        [&sidecar.recording, &sidecar.call.remote_number, &sidecar.call.remote_name, &sidecar.call.local_name]
    {
        assert!(is_harmless(text) && text.chars().count() <= 256, "{text:?}");
    }
    assert_eq!(sidecar.call.local_name, "\u{41c}\u{438}\u{440}");
    assert_eq!(sidecar.call.altered.to_string(), "remote_number, remote_name, device, recording");
    assert!(is_harmless(&sidecar.end_reason.unwrap_or_default()));
}

/// The id as the sidecar has it.
fn kept_id(harm: &str) -> String {
    recfile::text::kept(&format!("{harm}{}", "x".repeat(400)), 256).text
}

#[test]
fn names_from_phones_stay_on_one_line_of_the_log_and_are_noted_there_without_their_text() {
    let server = Server::start("rtp_ports = \"23920-23929\"\n");
    let mut phone = Phone::at([127, 0, 0, 1], &server);
    phone.says(
        "cmd=RecordStartRequest&id=log%0Aforged&device=d%E2%80%AE&remote_name=Secret%E2%80%AE&codec=PCMA\n",
    );
    assert!(phone.hears().contains("result=success"));
    let log = server.terminate_for_log();
    assert!(log.lines().all(is_harmless) && !log.contains("\nforged") && !log.contains("Secret"), "{log:?}");
    assert!(log.contains("fields=\"remote_name, device, recording\""), "{log}");
}

#[test]
fn an_id_of_any_length_makes_no_long_line_in_the_log() {
    let server = Server::start("rtp_ports = \"23940-23949\"\n");
    let mut phone = Phone::at([127, 0, 0, 1], &server);
    phone.says(&format!("cmd=RecordStartRequest&id={}&device=d&codec=PCMA\n", "x".repeat(2000)));
    assert!(phone.hears().contains("result=success"));
    let log = server.terminate_for_log();
    let line = log.lines().find(|line| line.contains("text_altered")).expect("a line");
    assert!(line.contains("xxx…\"") && line.chars().count() < 200, "{line}");
}
