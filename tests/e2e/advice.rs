//! Advice for people when a request fails: what, where, and what to do, from the agent through `recordctl`.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;

use crate::support::agent::{is_emulated, output_of, recordctl};
use crate::support::{Agent, Setup, patience, wait_until};

/// The stderr of `recordctl` when a command fails.
fn said(agent: &Agent, words: &str) -> String {
    let output = output_of(recordctl().arg("--socket").arg(&agent.socket).args(words.split(' ')));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{words}: {output:?}");
    text
}

#[test]
fn a_start_that_is_refused_is_advised_about_what_happened_and_about_nothing_else() {
    // Ports of RTP are even.
    let mut sockets = std::iter::repeat_with(|| UdpSocket::bind("127.0.0.1:0").unwrap()).take(100);
    let taken = sockets.find(|socket| socket.local_addr().unwrap().port() % 2 == 0).unwrap();
    let port = taken.local_addr().unwrap().port();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = || Setup::new().quoted("uplink", "server_addr", "127.0.0.1");
    let table: [(Setup, &str, Vec<String>, &[&str]); 7] = [
        (
            Setup::new().set("rtp", "port", port).set("rtp", "max_recordings", 1),
            "start",
            vec![format!("127.0.0.1:{port}"), "end what has the port, or change [rtp] port".into()],
            &["uplink", "server_addr", "USB"],
        ),
        (
            Setup::new().storage(Path::new("/nosuch")),
            "start",
            vec![
                "/nosuch is not there".into(),
                "make the folder (no_storage); or change [storage] path".into(),
            ],
            &["insert a USB stick"],
        ),
        (
            Setup::new().storage(Path::new("/dev/null")),
            "start",
            vec!["/dev/null is no folder".into(), "; change [storage] path".into()],
            &["insert a USB stick"],
        ),
        (
            Setup::new().set("storage", "require_usb", true),
            "start",
            vec!["is not on a removable disk".into(), "or require_usb = false to record there".into()],
            &["insert a USB stick"],
        ),
        (
            Setup::new(),
            "start --mode server",
            vec!["no recording server".into(), "set [uplink] server_addr and server_port".into()],
            &["rtp"],
        ),
        (
            server().set("uplink", "server_port", nobody.port()),
            "start --mode server",
            vec![format!("{nobody}: "), "check [uplink] server_addr, server_port and the network".into()],
            &["USB"],
        ),
        (
            Setup::new(),
            "start --mode sip-info",
            vec!["no SIP stack".into(), "sip.info_result".into()],
            &["uplink", "USB"],
        ),
    ];
    for (setup, words, expected, never) in table {
        let agent = setup.start();
        let said = said(&agent, words);
        for word in &expected {
            assert!(said.contains(word.as_str()), "{words}: {word} is not in: {said}");
        }
        for word in never {
            assert!(!said.contains(word), "{words}: {word} is in: {said}");
        }
    }
}

#[test]
fn a_user_who_may_not_use_the_socket_is_told_about_rights_and_not_asked_whether_the_agent_runs() {
    if !nix::unistd::geteuid().is_root() || is_emulated() {
        return;
    }
    let agent = Setup::new().quoted("control", "mode", "0600").start();
    let as_nobody = "exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", as_nobody, "sh"]).arg(recordctl().get_program());
    let output = output_of(command.arg("--socket").arg(&agent.socket).arg("status"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("setpriv") || output.status.code() == Some(126) {
        // There is no such program, or others may not enter where the programs are.
        return;
    }
    assert!(said.contains("Permission denied") && said.contains("[control] mode"), "{said}");
    assert!(!said.contains("is recordd running"), "{said}");
}

#[test]
fn the_log_says_at_the_start_where_recordings_go_or_why_nowhere() {
    let agent = Agent::start();
    let folder = agent.storage().join("Record").display().to_string();
    let goes = format!("recordings go to {folder}: disk mounted at ");
    wait_until("where recordings go", patience(), || agent.log().contains(&goes));
    let agent = Setup::new().storage(Path::new("/nosuch")).start();
    let nowhere = "recordings go nowhere yet: /nosuch is not there";
    wait_until("why there is nowhere", patience(), || agent.log().contains(nowhere));
}
