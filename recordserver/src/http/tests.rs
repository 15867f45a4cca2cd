use super::*;
use std::os::unix::fs::PermissionsExt;

fn session(port: u16) -> SessionStatus {
    SessionStatus {
        recording: "r1".into(),
        id: "7f3a".into(),
        device: "0c:11:05:00:00:01".into(),
        peer: "192.0.2.1:4000".parse().expect("address"),
        codec: "PCMA".into(),
        rtp_port: port,
        transport: "udp".into(),
        waits: false,
        start: "2026-03-01T09:15:00+01:00".into(),
        elapsed_ms: 61_000,
        packets: 3050,
        lost: 1,
        strangers: 0,
        contested: false,
        file: "0c:11:05:00:00:01/2026-03-01/Record_20260301-091500.wav".into(),
    }
}

/// A loop that has these.
fn has(sessions: Vec<SessionStatus>) -> Ask {
    Box::new(move |from, count| {
        let next = (from + count < sessions.len()).then_some(from + count);
        Some(Rows { sessions: sessions.iter().skip(from).take(count).cloned().collect(), next })
    })
}

fn serving(ask: Ask) -> SocketAddr {
    let listener = listen("127.0.0.1:0".parse().expect("address")).expect("a loopback port");
    let addr = listener.local_addr().expect("bound");
    serve(Some(listener), None, Arc::new(Metrics::new()), ask).expect("a thread");
    addr
}

fn say(addr: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).expect("connection");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("time-out");
    stream.write_all(text.as_bytes()).expect("request");
    stream
}

fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answer");
    text
}

fn get(addr: SocketAddr, path: &str) -> String {
    rest(say(addr, &format!("GET {path} HTTP/1.0\r\n\r\n")))
}

#[test]
fn the_sessions_command_gets_the_answer_of_the_loop() {
    let addr = serving(has(vec![session(20_000)]));
    assert_eq!(query(&Place::Http(addr)).expect("sessions"), [session(20_000)]);
    assert!(table(&[session(20_000)], false).contains("61 s  3050 packets, 1 lost"));
    assert!(table(&[], true).starts_with("0 recording(s), draining"));
}

#[test]
fn a_list_in_pieces_is_one_list_and_half_of_one_is_an_error() {
    for count in [0, 1, 63, 64, 65, 128, 5000_u16] {
        let all: Vec<_> = (0..count).map(session).collect();
        let addr = serving(has(all.clone()));
        assert_eq!(query(&Place::Http(addr)).expect("sessions"), all, "{count}");
    }
    let some = has((0..1000).map(session).collect());
    let addr = serving(Box::new(move |from, count| if from > 200 { None } else { some(from, count) }));
    assert!(query(&Place::Http(addr)).is_err());
}

#[test]
fn a_loop_that_does_not_answer_is_an_error_and_metrics_are_there_all_the_same() {
    let addr = serving(Box::new(|_, _| None));
    assert!(query(&Place::Http(addr)).is_err());
    assert!(get(addr, "/health").starts_with("HTTP/1.1 503"));
    let text = get(addr, "/metrics");
    assert!(text.contains("openmetrics-text") && text.contains("recordserver_sessions 0"), "{text}");
    assert!(get(addr, "/").starts_with("HTTP/1.1 404"));
    let addr = serving(has(Vec::new()));
    assert!(get(addr, "/health").starts_with("HTTP/1.1 200"));
}

#[test]
fn a_refusal_reaches_who_goes_on_sending() {
    let addr = serving(has(Vec::new()));
    let posted = format!("POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n{}", "x".repeat(30_000));
    assert!(rest(say(addr, &posted)).starts_with("HTTP/1.1 405"));
    let long = format!("GET /metrics?{} HTTP/1.1\r\n", "x".repeat(9000));
    assert!(rest(say(addr, &long)).starts_with("HTTP/1.1 431"));
    let announced = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
    assert!(rest(say(addr, announced)).starts_with("HTTP/1.1 413"));
    let foreign = "GET /sessions HTTP/1.1\r\nHost: attacker.example:9755\r\n\r\n";
    assert!(rest(say(addr, foreign)).starts_with("HTTP/1.1 421"));
}

#[test]
fn half_a_request_is_given_up_and_nobody_waits_for_it() {
    let addr = serving(has(Vec::new()));
    let half = say(addr, "GET /metrics HTTP/1.1\r\nX-a: b\r\n");
    assert!(get(addr, "/metrics").starts_with("HTTP/1.1 200"));
    assert!(rest(half).starts_with("HTTP/1.1 408"));
}

#[test]
fn a_client_that_asks_and_does_not_read_is_in_nobodys_way() {
    // More than the system keeps for a connection.
    let addr = serving(has((0..60_000).map(session).collect()));
    let deaf: Vec<_> = (0..MAX_CLIENTS).map(|_| say(addr, "GET /sessions HTTP/1.0\r\n\r\n")).collect();
    for _ in 0..3 {
        assert!(get(addr, "/metrics").starts_with("HTTP/1.1 200"));
    }
    let first = deaf.into_iter().next().expect("one");
    // It may also hear of it by a reset.
    let mut list = String::new();
    let _ = { first }.read_to_string(&mut list);
    assert!(!list.ends_with(']'), "it had to make room");
}

#[test]
fn of_silent_connections_the_oldest_makes_room() {
    let addr = serving(has(Vec::new()));
    let silent: Vec<_> = (0..20 * MAX_CLIENTS).map(|_| say(addr, "")).collect();
    for _ in 0..3 {
        assert!(get(addr, "/metrics").starts_with("HTTP/1.1 200"));
    }
    let first = silent.into_iter().next().expect("one");
    assert_eq!(rest(first), "", "closed without a word");
}

#[test]
fn the_unix_socket_has_its_mode_replaces_a_left_over_one_and_goes_at_the_end() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("status.sock");
    std::mem::forget(SocketFile::bind(&path, 0o600).expect("socket"));
    let mut file = SocketFile::bind(&path, 0o660).expect("in place of the old one");
    let mode = std::fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    serve(None, Some(&mut file), Arc::new(Metrics::new()), has(vec![session(1)])).expect("a thread");
    assert_eq!(query(&Place::Socket(path.clone())).expect("sessions"), [session(1)]);
    drop(file);
    assert!(!path.exists());
    std::fs::write(&path, "a file of somebody").expect("written");
    assert!(SocketFile::bind(&path, 0o660).is_err());
    assert_eq!(std::fs::read(&path).expect("as it was"), b"a file of somebody");
}

#[test]
fn json_has_nothing_that_a_terminal_obeys_and_says_the_same() {
    let odd = "a\u{1b}[2J\u{9b}\u{7f}\u{202e}\u{2028}é\u{1f600}\"\\\n";
    let told = SessionStatus { device: odd.into(), ..session(7) };
    let addr = serving(has(vec![told.clone()]));
    let answer = get(addr, "/sessions");
    let text = answer.split_once("\r\n\r\n").expect("head").1;
    assert!(text.bytes().all(|octet| (b' '..=b'~').contains(&octet)), "{text:?}");
    assert_eq!(serde_json::from_str::<Vec<SessionStatus>>(text).expect("JSON"), [told]);
}
