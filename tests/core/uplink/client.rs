//! The agent's side of a session, event by event.

use media::time::Mono;
use proptest::prelude::*;
use recfile::call::{Call, Direction};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use uplink::media_hosts::MediaHosts;
use uplink::phone::{Action, Client, End, Failure, Generation, Params, Settings};

const SUCCESS: &str = "cmd=RecordStartResponse&id=abc&result=success&reason=&server=&port=40002\n";
const STOPPED: &str = "cmd=RecordStopResponse&id=abc&result=success\n";

fn at(ms: u64) -> Mono {
    Mono::new(Duration::from_millis(ms))
}

fn settings() -> Settings {
    Settings {
        connect_timeout: Duration::from_millis(3000),
        response_timeout: Duration::from_millis(5000),
        terminator: b"",
    }
}

fn params(host: &str) -> Params {
    let call = Call {
        id: "call-1".into(),
        direction: Some(Direction::Out),
        remote_number: "+4930".into(),
        remote_name: "Anna & Co".into(),
        local_number: "201".into(),
        local_name: "Desk".into(),
        ..Call::default()
    };
    let media_hosts = ["198.51.100.0/24", "2001:db8::/32", "192.0.2.0/24", "fe80::/10", "media.example.org"];
    Params {
        host: host.into(),
        port: 5055,
        id: "abc".into(),
        device: None,
        codec: "PCMA".into(),
        call,
        media_hosts: MediaHosts::parse(media_hosts).expect("good hosts"),
        extension: None,
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

/// The result of a look-up: an address without a port.
fn found(text: &str) -> SocketAddr {
    SocketAddr::new(text.parse::<IpAddr>().expect(text), 0)
}

/// A link-local address on the interface number 3.
fn on_link(text: &str) -> SocketAddr {
    let SocketAddr::V6(mut addr) = addr(text) else { panic!("{text} is not IPv6") };
    addr.set_scope_id(3);
    addr.into()
}

fn end(actions: &[Action]) -> &End {
    match actions.last() {
        Some(Action::Ended(end)) => end,
        other => panic!("not ended: {other:?}"),
    }
}

fn failed(actions: &[Action], expected: Failure) {
    assert!(matches!(end(actions), End::Failed { reason, .. } if *reason == expected), "{actions:?}");
}

fn sent(actions: &[Action]) -> Vec<&str> {
    let mut texts = Vec::new();
    for action in actions {
        if let Action::Send(octets) = action {
            texts.push(std::str::from_utf8(octets).expect("text"));
        }
    }
    texts
}

/// Drives one client and returns the consequences of each event.
struct Session(Client);

impl Session {
    fn start(host: &str) -> (Self, Vec<Action>) {
        let mut out = Vec::new();
        let client = Client::start(settings(), params(host), at(0), &mut out);
        (Self(client), out)
    }

    fn awaiting_start() -> Self {
        let (mut session, _) = Self::start("192.0.2.1");
        session.act(|client, out| client.connected(Generation(1), Some("0c:11:05:00:00:01"), at(10), out));
        session
    }

    fn streaming() -> Self {
        let mut session = Self::awaiting_start();
        session.receive(SUCCESS, 20);
        session
    }

    fn act(&mut self, event: impl FnOnce(&mut Client, &mut Vec<Action>)) -> Vec<Action> {
        let mut out = Vec::new();
        event(&mut self.0, &mut out);
        out
    }

    fn receive(&mut self, text: &str, ms: u64) -> Vec<Action> {
        self.act(|client, out| client.received(text.as_bytes(), at(ms), out))
    }

    fn timer(&mut self, ms: u64) -> Vec<Action> {
        self.act(|client, out| client.timer(at(ms), out))
    }
}

#[test]
fn a_recording_starts_streams_and_stops() {
    let (mut session, actions) = Session::start("192.0.2.1");
    assert_eq!(actions, [Action::Connect { generation: Generation(1), addr: addr("192.0.2.1:5055") }]);
    let actions =
        session.act(|client, out| client.connected(Generation(1), Some("0c:11:05:00:00:01"), at(10), out));
    assert_eq!(
        sent(&actions),
        ["cmd=RecordStartRequest&id=abc&device=0c:11:05:00:00:01&remote_number=+4930\
          &remote_name=Anna %26 Co&local_number=201&local_name=Desk&dir=out&codec=PCMA"]
    );
    let target = Some(addr("192.0.2.1:40002"));
    assert_eq!(session.receive(SUCCESS, 20), [Action::SetRtpTarget(target), Action::Started]);
    assert_eq!(session.0.poll_deadline(), None);
    let actions = session.act(|client, out| client.stop("user", at(9000), out));
    assert_eq!(actions[0], Action::SetRtpTarget(None));
    assert!(sent(&actions)[0].ends_with("&reason=user"));
    assert_eq!(
        session.receive(STOPPED, 9001),
        [Action::Close, Action::Ended(End::Stopped { confirmed: true })]
    );
    assert!(session.0.is_closed());
    assert_eq!(session.0.poll_deadline(), None);
}

#[test]
fn the_answer_is_taken_without_a_terminator_when_the_wire_is_quiet() {
    let mut session = Session::awaiting_start();
    assert_eq!(session.receive(SUCCESS.trim_end(), 20), []);
    assert_eq!(session.0.poll_deadline(), Some(at(50)));
    assert_eq!(session.timer(49), []);
    assert!(session.timer(50).contains(&Action::Started));
}

#[test]
fn a_configured_terminator_follows_each_message() {
    let mut out = Vec::new();
    let settings = Settings { terminator: b"\r\n", ..settings() };
    let mut client = Client::start(settings, params("192.0.2.1"), at(0), &mut out);
    client.connected(Generation(1), None, at(0), &mut out);
    assert!(sent(&out)[0].ends_with("&codec=PCMA\r\n"));
}

#[test]
fn a_host_name_is_looked_up_and_its_addresses_share_the_time() {
    let (mut session, actions) = Session::start("rec.example.org");
    assert_eq!(actions, [Action::Resolve { generation: Generation(1), host: "rec.example.org".into() }]);
    let found = [found("2001:db8::1"), found("192.0.2.1")];
    let actions = session.act(|client, out| client.resolved(Generation(1), &found, at(1000), out));
    assert_eq!(actions, [Action::Connect { generation: Generation(2), addr: addr("[2001:db8::1]:5055") }]);
    assert_eq!(session.0.poll_deadline(), Some(at(2000)));
    let next = Action::Connect { generation: Generation(3), addr: addr("192.0.2.1:5055") };
    assert_eq!(session.timer(2000), [Action::Close, next]);
    let late = session.act(|client, out| client.connected(Generation(2), None, at(2100), out));
    assert_eq!(late, [], "the answer of a given up connection is ignored");
    assert_eq!(session.0.poll_deadline(), Some(at(3000)));
    failed(&session.timer(3000), Failure::ServerUnreachable);
}

#[test]
fn a_name_without_addresses_or_without_an_answer_is_unreachable() {
    let (mut session, _) = Session::start("rec.example.org");
    failed(
        &session.act(|client, out| client.resolved(Generation(1), &[], at(5), out)),
        Failure::ServerUnreachable,
    );
    let (mut session, _) = Session::start("rec.example.org");
    assert_eq!(session.timer(2999), []);
    failed(&session.timer(3000), Failure::ServerUnreachable);
}

#[test]
fn a_refused_connection_is_unreachable() {
    let (mut session, _) = Session::start("[2001:db8::1]");
    let actions =
        session.act(|client, out| client.connect_failed(Generation(1), "Connection refused", at(5), out));
    failed(&actions, Failure::ServerUnreachable);
}

#[test]
fn a_refusal_carries_the_servers_words_even_if_it_hangs_up_at_once() {
    let text = "cmd=RecordStartResponse&id=abc&result=failed&reason=Disk full%21&server=&port=";
    let mut session = Session::awaiting_start();
    assert_eq!(session.receive(text, 20), []);
    let actions = session.act(|client, out| client.peer_closed(None, at(21), out));
    assert_eq!(actions, [Action::Close, Action::Ended(End::Refused { text: "Disk full!".into() })]);
}

#[test]
fn a_server_that_never_answers_times_out() {
    let mut session = Session::awaiting_start();
    assert_eq!(session.timer(5009), []);
    failed(&session.timer(5010), Failure::ServerTimeout);
    assert_eq!(session.receive(SUCCESS, 5020), [], "an answer after that changes nothing");
}

#[test]
fn an_answer_to_another_id_ends_the_session() {
    let mut session = Session::awaiting_start();
    failed(&session.receive(&SUCCESS.replace("abc", "abd"), 20), Failure::UplinkLost);
    let mut session = Session::streaming();
    let actions = session.receive("cmd=RecordStopRequest&id=other&reason=x\n", 30);
    assert_eq!(actions[0], Action::SetRtpTarget(None));
    failed(&actions, Failure::UplinkLost);
}

#[test]
fn the_rtp_goes_where_the_server_says() {
    for (server, target) in [
        ("198.51.100.7", "198.51.100.7:40002"),
        ("2001:db8::7", "[2001:db8::7]:40002"),
        ("0.0.0.0", "192.0.2.1:40002"),
        ("::", "192.0.2.1:40002"),
        (" ", "192.0.2.1:40002"),
    ] {
        let mut session = Session::awaiting_start();
        let answer = SUCCESS.replace("server=", &format!("server={server}"));
        let target = Action::SetRtpTarget(Some(addr(target)));
        assert_eq!(session.receive(&answer, 20), [target, Action::Started], "{server}");
    }
}

#[test]
fn the_rtp_to_a_link_local_address_goes_out_by_the_interface_of_the_connection() {
    for (server, target) in [
        ("", on_link("[fe80::1]:40002")),
        ("fe80::7", on_link("[fe80::7]:40002")),
        ("[fe80::7]", on_link("[fe80::7]:40002")),
        ("fe80::7%eth5", on_link("[fe80::7]:40002")),
        ("2001:db8::7", addr("[2001:db8::7]:40002")),
        ("192.0.2.7", addr("192.0.2.7:40002")),
    ] {
        let (mut session, actions) = Session::start("fe80::1%eth0");
        assert_eq!(actions, [Action::Resolve { generation: Generation(1), host: "fe80::1%eth0".into() }]);
        let looked = [on_link("[fe80::1]:0")];
        let actions = session.act(|client, out| client.resolved(Generation(1), &looked, at(1), out));
        let connect = Action::Connect { generation: Generation(2), addr: on_link("[fe80::1]:5055") };
        assert_eq!(actions, [connect]);
        session.act(|client, out| client.connected(Generation(2), None, at(10), out));
        let answer = SUCCESS.replace("server=", &format!("server={server}"));
        let target = Action::SetRtpTarget(Some(target));
        assert_eq!(session.receive(&answer, 20), [target, Action::Started], "{server}");
    }
}

#[test]
fn audio_that_is_sent_to_a_stranger_is_refused_and_the_server_told() {
    for (server, named) in [
        ("203.0.113.5", "203.0.113.5"),
        ("239.1.2.3", "239.1.2.3"),
        ("255.255.255.255", "255.255.255.255"),
        ("127.0.0.1", "127.0.0.1"),
        ("exfil-0123.attacker.invalid", "exfil-0123.attacker.invalid"),
        ("a%1B[2J%E2%80%AEb", "a [2Jb"),
    ] {
        let mut session = Session::awaiting_start();
        let actions = session.receive(&SUCCESS.replace("server=", &format!("server={server}")), 20);
        assert!(sent(&actions)[0].starts_with("cmd=RecordStopRequest&id=abc&"), "{actions:?}");
        assert_eq!(actions[1], Action::Close, "{server}");
        assert_eq!(actions.len(), 3);
        let End::Refused { text } = end(&actions) else { panic!("{actions:?}") };
        assert!(text.contains(&format!("to {named} port 40002: ")), "{text}");
    }
    let mut session = Session::awaiting_start();
    let actions = session.receive(&SUCCESS.replace("server=", "server=203.0.113.5"), 20);
    assert!(matches!(end(&actions), End::Refused { text } if text.contains("uplink.media_hosts")));
}

#[test]
fn a_name_in_an_answer_that_is_the_servers_own_is_not_looked_up_again() {
    let (mut session, _) = Session::start("rec.example.org");
    session.act(|client, out| client.resolved(Generation(1), &[found("192.0.2.7")], at(1), out));
    session.act(|client, out| client.connected(Generation(2), None, at(10), out));
    let actions = session.receive(&SUCCESS.replace("server=", "server=REC.example.org."), 20);
    assert_eq!(actions, [Action::SetRtpTarget(Some(addr("192.0.2.7:40002"))), Action::Started]);
}

#[test]
fn a_name_whose_addresses_may_not_get_audio_ends_the_start() {
    let mut session = Session::awaiting_start();
    session.receive(&SUCCESS.replace("server=", "server=media.example.org"), 20);
    let found = [found("127.0.0.1"), found("ff02::1")];
    let actions = session.act(|client, out| client.resolved(Generation(2), &found, at(30), out));
    failed(&actions, Failure::ServerUnreachable);
}

#[test]
fn a_host_that_grows_into_a_stranger_ends_the_recording() {
    let answer = "cmd=RecordStartResponse&id=abc&result=success&reason=&port=40002&server=198.51.100.2";
    let mut session = guessed(answer, "198.51.100.2:40002");
    let actions = session.receive("56\n", 60);
    assert_eq!(actions[0], Action::SetRtpTarget(None));
    assert!(matches!(end(&actions), End::Refused { .. }), "{actions:?}");
}

#[test]
fn a_greeting_and_what_trails_behind_an_answer_are_passed_over() {
    let target = Action::SetRtpTarget(Some(addr("192.0.2.1:40002")));
    for said in [
        format!("220 recorder ready\r\n{SUCCESS}"),
        format!("\u{feff}{SUCCESS}"),
        format!("Welcome!\n\nVersion=3\n{SUCCESS}"),
        format!("Hello {SUCCESS}"),
        SUCCESS.replace("id=abc", "id= \"ABC\" "),
        SUCCESS.replace("&port=40002", "192.0.2.1:40002"),
        SUCCESS.replace("&port=40002", "192.0.2.1:40002&port=40002"),
    ] {
        for size in [1, 7, 1000] {
            let mut session = Session::awaiting_start();
            let mut actions = Vec::new();
            for piece in said.as_bytes().chunks(size) {
                actions.extend(session.act(|client, out| client.received(piece, at(20), out)));
            }
            actions.extend(session.receive("OK\r\n", 30));
            assert_eq!(actions, [target.clone(), Action::Started], "{said:?} in pieces of {size}");
            assert!(matches!(
                end(&session.receive("cmd=RecordStopRequest&id=abc&reason=x\n", 40)),
                End::StoppedByServer { .. }
            ));
        }
    }
    let mut session = Session::awaiting_start();
    failed(&session.receive(&"hello\n".repeat(20), 20), Failure::UplinkLost);
}

#[test]
fn an_answer_with_the_port_in_its_server_needs_no_terminator() {
    let mut session = Session::awaiting_start();
    let answer = "cmd=RecordStartResponse&id=abc&result=success&server=192.0.2.1:4000";
    assert_eq!(session.receive(answer, 20), []);
    assert_eq!(session.timer(270), [Action::SetRtpTarget(Some(addr("192.0.2.1:4000"))), Action::Started]);
}

#[test]
fn two_ports_in_one_answer_are_a_clear_refusal() {
    let mut session = Session::awaiting_start();
    let actions = session.receive(&SUCCESS.replace("server=", "server=192.0.2.1:5000"), 20);
    assert!(matches!(end(&actions), End::Refused { text } if text.contains("two ports")), "{actions:?}");
}

#[test]
fn spaces_around_the_values_of_an_answer_are_not_part_of_them() {
    for spaced in ["port= 40002", "port=40002 ", "port=\t40002  "] {
        let mut session = Session::awaiting_start();
        let answer = SUCCESS.replace("port=40002", spaced).replace("=success", "= success ");
        let target = Action::SetRtpTarget(Some(addr("192.0.2.1:40002")));
        assert_eq!(session.receive(&answer, 20), [target, Action::Started], "{spaced:?}");
    }
}

#[test]
fn a_host_name_for_the_rtp_is_looked_up_preferring_the_family_of_the_connection() {
    let answer = SUCCESS.replace("server=", "server=media.example.org");
    let mut session = Session::awaiting_start();
    let actions = session.receive(&answer, 20);
    assert_eq!(actions, [Action::Resolve { generation: Generation(2), host: "media.example.org".into() }]);
    let found = [found("2001:db8::7"), found("198.51.100.7")];
    let actions = session.act(|client, out| client.resolved(Generation(2), &found, at(30), out));
    assert_eq!(actions, [Action::SetRtpTarget(Some(addr("198.51.100.7:40002"))), Action::Started]);

    let mut session = Session::awaiting_start();
    session.receive(&answer, 20);
    failed(&session.timer(5020), Failure::ServerUnreachable);
}

#[test]
fn an_update_is_told_in_the_stop_request() {
    let mut session = Session::streaming();
    session.0.update(Call { remote_name: "Bea".into(), ..Call::default() });
    let actions = session.act(|client, out| client.stop("hangup", at(50), out));
    assert_eq!(
        sent(&actions),
        [
            "cmd=RecordStopRequest&id=abc&remote_number=&remote_name=Bea&local_number=&local_name=&reason=hangup"
        ]
    );
}

#[test]
fn a_stop_that_is_never_answered_is_still_a_stop() {
    let mut session = Session::streaming();
    session.act(|client, out| client.stop("user", at(1000), out));
    assert_eq!(session.timer(5999), []);
    let stopped = Action::Ended(End::Stopped { confirmed: false });
    assert_eq!(session.timer(6000), [Action::Close, stopped.clone()]);

    let mut session = Session::streaming();
    session.act(|client, out| client.stop("user", at(1000), out));
    let actions = session.act(|client, out| client.peer_closed(Some("reset"), at(1001), out));
    assert_eq!(actions, [Action::Close, stopped]);
}

#[test]
fn a_stop_before_the_server_has_answered_takes_the_request_back() {
    let (mut session, _) = Session::start("192.0.2.1");
    let actions = session.act(|client, out| client.stop("user", at(5), out));
    assert_eq!(actions, [Action::Close, Action::Ended(End::Stopped { confirmed: false })]);

    let mut session = Session::awaiting_start();
    let actions = session.act(|client, out| client.stop("user", at(15), out));
    assert_eq!(actions.len(), 1);
    assert!(sent(&actions)[0].starts_with("cmd=RecordStopRequest&id=abc&"));
    assert_eq!(session.receive(SUCCESS, 20), [], "too late to start");
    assert_eq!(end(&session.receive(STOPPED, 21)), &End::Stopped { confirmed: true });
}

#[test]
fn the_server_may_stop_and_gets_an_answer() {
    let mut session = Session::streaming();
    let actions = session.receive("cmd=RecordStopRequest&id=abc&reason=maintenance\n", 30);
    assert_eq!(
        actions,
        [
            Action::SetRtpTarget(None),
            Action::Send(STOPPED.trim_end().into()),
            Action::Close,
            Action::Ended(End::StoppedByServer { reason: "maintenance".into() }),
        ]
    );
}

#[test]
fn a_stop_of_the_server_before_the_recording_has_begun_is_a_refusal() {
    let asked = "cmd=RecordStopRequest&id=abc&reason=full\n";
    let lookup = SUCCESS.replace("server=", "server=media.example.org");
    for (before, stop, words) in
        [("", asked, "full"), ("", STOPPED, ""), (&lookup, asked, "full"), (&lookup, STOPPED, "")]
    {
        let mut session = Session::awaiting_start();
        session.receive(before, 20);
        let refused = End::Refused { text: words.into() };
        assert_eq!(end(&session.receive(stop, 30)), &refused, "{before}{stop}");
    }
}

#[test]
fn a_broken_connection_or_a_closed_rtp_port_is_a_lost_uplink() {
    let mut session = Session::streaming();
    let actions = session.act(|client, out| client.peer_closed(Some("reset"), at(30), out));
    assert_eq!(actions[..2], [Action::SetRtpTarget(None), Action::Close]);
    failed(&actions, Failure::UplinkLost);

    let mut session = Session::streaming();
    failed(&session.act(|client, out| client.udp_refused(at(30), out)), Failure::UplinkLost);

    let mut session = Session::streaming();
    session.act(|client, out| client.stop("user", at(30), out));
    assert_eq!(
        session.act(|client, out| client.udp_refused(at(30), out)),
        [],
        "the port is gone because we stopped"
    );
}

/// A session that took an answer without its last octets for all of it, at 50 ms.
fn guessed(answer: &str, target: &str) -> Session {
    let mut session = Session::awaiting_start();
    assert_eq!(session.receive(answer, 20), []);
    assert_eq!(session.timer(50), [Action::SetRtpTarget(Some(addr(target))), Action::Started]);
    session
}

#[test]
fn a_port_whose_last_digits_come_late_is_put_right() {
    let (early, late) = SUCCESS.trim_end().split_at(SUCCESS.len() - 3);
    let mut session = guessed(early, "192.0.2.1:400");
    let refused = |session: &mut Session, ms| session.act(|client, out| client.udp_refused(at(ms), out));
    assert_eq!(refused(&mut session, 60), [], "it need not be the server's port that is closed");
    assert_eq!(refused(&mut session, 1000), []);
    assert_eq!(session.receive(late, 1040), []);
    assert_eq!(refused(&mut session, 1060), [], "the whole port is not known before it is quiet");
    assert_eq!(session.timer(1070), [Action::SetRtpTarget(Some(addr("192.0.2.1:40002")))]);
    assert_eq!(refused(&mut session, 2000), []);
    failed(&refused(&mut session, 2080), Failure::UplinkLost);
}

#[test]
fn a_port_that_refuses_rtp_and_stays_as_it_is_is_closed_even_if_nothing_more_is_sent() {
    let mut session = guessed(SUCCESS.trim_end(), "192.0.2.1:40002");
    assert_eq!(session.act(|client, out| client.udp_refused(at(300), out)), []);
    assert_eq!(session.0.poll_deadline(), Some(at(1050)));
    failed(&session.timer(1050), Failure::UplinkLost);

    // But not while it is changing.
    let (early, late) = SUCCESS.trim_end().split_at(SUCCESS.len() - 2);
    let mut session = guessed(early, "192.0.2.1:4000");
    session.act(|client, out| client.udp_refused(at(300), out));
    session.receive(late, 1040);
    assert_eq!(session.timer(1050), []);
    assert_eq!(session.timer(1070), [Action::SetRtpTarget(Some(addr("192.0.2.1:40002")))]);
    assert_eq!(session.timer(9000), []);
}

#[test]
fn a_host_and_the_port_of_a_name_that_come_whole_late_are_put_right_too() {
    let answer = "cmd=RecordStartResponse&id=abc&result=success&reason=&port=40002&server=192.0.2.";
    let mut session = guessed(&format!("{answer}1"), "192.0.2.1:40002");
    session.receive("7", 60);
    assert_eq!(session.timer(90), [Action::SetRtpTarget(Some(addr("192.0.2.17:40002")))]);

    let answer = SUCCESS.trim_end().replace("server=", "server=media.example.org");
    let (early, late) = answer.split_at(answer.len() - 2);
    for late_look_up in [false, true] {
        let mut session = Session::awaiting_start();
        session.receive(early, 20);
        session.timer(50);
        let look_up = |session: &mut Session| {
            session.act(|client, out| client.resolved(Generation(2), &[found("192.0.2.9")], at(55), out))
        };
        if !late_look_up {
            look_up(&mut session);
        }
        session.receive(late, 60);
        let mut actions = session.timer(90);
        if late_look_up {
            assert_eq!(actions, []);
            actions = look_up(&mut session);
        }
        assert_eq!(actions[0], Action::SetRtpTarget(Some(addr("192.0.2.9:40002"))));
    }
}

#[test]
fn a_second_answer_changes_nothing() {
    for again in [SUCCESS.replace("40002", "9"), SUCCESS.replace("success", "failed"), SUCCESS.to_owned()] {
        assert_eq!(Session::streaming().receive(&again, 30), [], "{again}");
        let mut session = guessed(SUCCESS.trim_end(), "192.0.2.1:40002");
        assert_eq!(session.receive(&again, 90), [], "{again}");
    }
    let mut session = guessed(SUCCESS.trim_end(), "192.0.2.1:40002");
    assert_eq!(session.receive("&version=1\n", 90), [], "it says nothing new");
}

#[test]
fn unknown_commands_are_ignored_and_oversized_messages_end_the_session() {
    let mut session = Session::streaming();
    assert_eq!(session.receive("cmd=Ping&id=zzz\n", 30), []);
    failed(&session.receive(&"x".repeat(9000), 31), Failure::UplinkLost);
}

/// One event of any kind, for any moment.
#[derive(Clone, Debug)]
enum Event {
    Received(Vec<u8>),
    Resolved(u32, usize),
    Connected(u32),
    ConnectFailed(u32),
    PeerClosed,
    UdpRefused,
    Stop,
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let wire = prop_oneof![
        Just(SUCCESS.to_owned()),
        Just(SUCCESS.trim_end().to_owned()),
        Just(SUCCESS.replace("server=", "server=host")),
        Just(STOPPED.to_owned()),
        Just("cmd=RecordStopRequest&id=abc\n".to_owned()),
        "[ -~\n]{0,40}",
    ];
    prop_oneof![
        4 => wire.prop_map(|text| Event::Received(text.into_bytes())),
        2 => (0..4_u32, 0..6_usize).prop_map(|(generation, count)| Event::Resolved(generation, count)),
        2 => (0..4_u32).prop_map(Event::Connected),
        1 => (0..4_u32).prop_map(Event::ConnectFailed),
        1 => Just(Event::PeerClosed),
        1 => Just(Event::UdpRefused),
        1 => Just(Event::Stop),
        2 => (0..4000_u64).prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_session_ends_once_and_takes_its_rtp_target_back(
        host in prop_oneof![Just("192.0.2.1"), Just("rec.example.org")],
        events in proptest::collection::vec(event(), 0..40),
    ) {
        let mut now = at(0);
        let mut out = Vec::new();
        let mut client = Client::start(settings(), params(host), now, &mut out);
        for event in events {
            match event {
                Event::Received(octets) => client.received(&octets, now, &mut out),
                Event::Resolved(generation, count) => {
                    client.resolved(Generation(generation), &vec![found("192.0.2.9"); count], now, &mut out);
                }
                Event::Connected(generation) => client.connected(Generation(generation), None, now, &mut out),
                Event::ConnectFailed(generation) => {
                    client.connect_failed(Generation(generation), "no", now, &mut out);
                }
                Event::PeerClosed => client.peer_closed(None, now, &mut out),
                Event::UdpRefused => client.udp_refused(now, &mut out),
                Event::Stop => client.stop("user", now, &mut out),
                Event::Pass(ms) => now = now + Duration::from_millis(ms),
            }
            client.timer(now, &mut out);
            prop_assert!(client.poll_deadline().is_none_or(|deadline| deadline > now));
        }
        client.stop("end", now, &mut out);
        client.timer(now + Duration::from_secs(6), &mut out);
        prop_assert!(client.is_closed());
        let ends = out.iter().filter(|action| matches!(action, Action::Ended(_))).count();
        prop_assert_eq!(ends, 1);
        prop_assert!(matches!(out.last(), Some(Action::Ended(_))));
        let target = out.iter().rev().find_map(|action| match action {
            Action::SetRtpTarget(target) => Some(*target),
            _ => None,
        });
        prop_assert!(matches!(target, None | Some(None)));
    }
}
