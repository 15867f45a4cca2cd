//! Server recordings without a network: the agent's requests, and its reaction to the server's messages.

use crate::agent::{
    Action, Agent, ClientId, Datagram, Forward, Input, RecordingKey, UplinkAction, UplinkInput,
};
use crate::config::Config;
use media::time::{Mono, Now};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use uplink::media_stream::ack;
use uplink::media_stream::inlet::{Arrival, Inlet};
use uplink::phone::Generation;

const UI: ClientId = ClientId(1);

struct Bench {
    agent: Agent,
    now: Now,
    recording: RecordingKey,
    generation: Generation,
    log: String,
}

impl Bench {
    /// An agent whose client has subscribed to everything.
    fn new() -> Self {
        Self::with("")
    }

    /// The same with more settings of `[uplink]`.
    fn with(more: &str) -> Self {
        let text =
            "[uplink]\nserver_addr = \"192.0.2.1\"\nserver_port = 9099\nmedia_hosts = [\"192.0.2.9\"]\n";
        let now = Now::default();
        let agent = Agent::new(Config::parse(&format!("{text}{more}"), "test").unwrap(), 7, now);
        let mut bench =
            Self { agent, now, recording: RecordingKey(0), generation: Generation(0), log: String::new() };
        bench.step(Input::ClientOpened(UI));
        bench.ask(r#"{"jsonrpc":"2.0","id":0,"method":"events.subscribe"}"#);
        bench
    }

    fn step(&mut self, input: Input<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.agent.step(input, self.now, &mut actions);
        self.log.extend(actions.iter().filter_map(|action| match action {
            Action::Log(_, text) => Some(text.as_str()),
            _ => None,
        }));
        actions
    }

    fn ask(&mut self, line: &str) -> Vec<Action> {
        self.step(Input::ClientLine(UI, line.as_bytes()))
    }

    fn uplink(&mut self, input: UplinkInput<'_>) -> Vec<Action> {
        self.step(Input::Uplink(self.recording, input))
    }

    /// Asks for a recording up to the start request, and gives its id on the wire.
    fn request(&mut self) -> String {
        let start =
            r#"{"jsonrpc":"2.0","id":1,"method":"record.start","params":{"mode":"server","codec":"PCMA"}}"#;
        let actions = self.ask(start);
        let bind = actions.iter().find_map(|action| match action {
            Action::BindRtp { recording, .. } => Some(*recording),
            _ => None,
        });
        self.recording = bind.expect("a port is asked for");
        let rtp = SocketAddr::from((Ipv4Addr::LOCALHOST, 4000));
        let actions = self.step(Input::RtpBound(self.recording, Ok(rtp)));
        let connect = actions.iter().find_map(|action| match action {
            Action::Uplink(_, UplinkAction::Connect(generation, addr)) => Some((*generation, *addr)),
            _ => None,
        });
        let (generation, addr) = connect.expect("a connection is asked for");
        assert_eq!(addr, SocketAddr::from(([192, 0, 2, 1], 9099)));
        self.generation = generation;
        let actions = self.uplink(UplinkInput::Connected(generation, Some("0C:11:05:0A:0B:0C".into())));
        let sent = commands(&actions);
        assert!(sent.contains("&device=0C:11:05:0A:0B:0C&"), "{sent}");
        sent.split('&').find_map(|pair| pair.strip_prefix("id=")).expect("an id").to_owned()
    }

    fn start(&mut self) -> Vec<Action> {
        let id = self.request();
        self.agree(&id)
    }

    fn agree(&mut self, id: &str) -> Vec<Action> {
        let answer =
            format!("cmd=RecordStartResponse&id={id}&result=success&reason=&server=192.0.2.9&port=7000\n");
        self.uplink(UplinkInput::Received(answer.as_bytes()))
    }

    /// The first packets of a sender, which wait until it is believed.
    fn begin_to_talk(&mut self) {
        for seq in [101, 102] {
            assert!(!self.goes_on(seq));
        }
        let forward = self.talk(103);
        let Forward::HeldThenThis(waiting) = &forward else { panic!("{forward:?}") };
        assert_eq!(waiting.len(), 2);
    }

    /// Whether a packet goes on to the server.
    fn goes_on(&mut self, seq: u8) -> bool {
        matches!(self.talk(seq), Forward::This)
    }

    fn talk(&mut self, seq: u8) -> Forward {
        let mut packet = vec![0x80, 8, 0, seq, 0, 0, 0, 0, 0, 0, 0, 1];
        packet[4..8].copy_from_slice(&(u32::from(seq) * 160).to_be_bytes());
        packet.extend([0x55; 160]);
        let recording = self.recording;
        let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 5004));
        let arrival = self.now.mono;
        self.agent
            .datagram(recording, Datagram { octets: &packet, truncated: false, source, arrival })
            .forward
    }
}

fn replies(actions: &[Action]) -> String {
    let lines = actions.iter().filter_map(|action| match action {
        Action::Reply(_, line) => Some(String::from_utf8_lossy(line).into_owned()),
        _ => None,
    });
    lines.collect()
}

/// The commands that are sent to the server.
fn commands(actions: &[Action]) -> String {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Uplink(_, UplinkAction::Send(octets)) => Some(String::from_utf8_lossy(octets).into_owned()),
        _ => None,
    });
    sent.collect()
}

/// The octets that are sent on the media connection.
fn media(actions: &[Action]) -> Vec<u8> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::Uplink(_, UplinkAction::SendMedia(octets)) => Some(octets.as_slice()),
        _ => None,
    });
    sent.flatten().copied().collect()
}

/// The media connection that is asked for.
fn media_connection(actions: &[Action]) -> Option<(Generation, SocketAddr)> {
    actions.iter().find_map(|action| match action {
        Action::Uplink(_, UplinkAction::ConnectMedia(generation, addr)) => Some((*generation, *addr)),
        _ => None,
    })
}

/// Numbers and sequence numbers of the packets in octets of a media connection; `inlet` has those before.
fn packets(inlet: &mut Inlet, octets: &[u8]) -> Vec<(u64, u8)> {
    let mut all = Vec::new();
    inlet
        .received(octets, |arrival| {
            if let Arrival::Packet { number, octets, .. } = arrival {
                all.push((number, octets[3]));
            }
        })
        .expect("a media stream");
    all
}

fn events(actions: &[Action]) -> Vec<&'static str> {
    let names = actions.iter().filter_map(|action| match action {
        Action::Notify { name, .. } => Some(*name),
        _ => None,
    });
    names.collect()
}

#[test]
fn packets_go_on_from_the_servers_answer_to_the_stop_but_for_pauses() {
    let mut bench = Bench::new();
    let id = bench.request();
    assert!(!bench.goes_on(1), "before the server has agreed");
    let answer = format!("cmd=RecordStartResponse&id={id}&result=success&reason=&server=&port=7000\n");
    let actions = bench.uplink(UplinkInput::Received(answer.as_bytes()));
    let target = SocketAddr::from(([192, 0, 2, 1], 7000));
    let relays = |action: &Action| matches!(action, Action::Uplink(_, UplinkAction::RelayTo(Some(to))) if *to == target);
    assert!(actions.iter().any(relays), "{actions:?}");
    assert_eq!(events(&actions), ["uplink.connected", "recording.started"]);
    bench.begin_to_talk();
    assert!(bench.goes_on(104));
    bench.ask(r#"{"jsonrpc":"2.0","id":2,"method":"record.pause"}"#);
    assert!(!bench.goes_on(105));
    bench.ask(r#"{"jsonrpc":"2.0","id":3,"method":"record.resume"}"#);
    assert!(bench.goes_on(106));
    bench.ask(r#"{"jsonrpc":"2.0","id":4,"method":"record.stop"}"#);
    assert!(!bench.goes_on(107));
}

#[test]
fn the_log_says_that_a_recording_goes_to_the_server_once_the_server_has_agreed() {
    let mut bench = Bench::new();
    let id = bench.request();
    assert!(
        bench.log.contains("starts: server") && !bench.log.contains("goes to the server"),
        "{}",
        bench.log
    );
    bench.agree(&id);
    assert!(bench.log.contains("goes to the server 192.0.2.1:9099"), "{}", bench.log);
}

#[test]
fn a_pause_before_the_server_has_agreed_is_told_and_kept() {
    let mut bench = Bench::new();
    let id = bench.request();
    let state =
        |actions: &[Action], state: &str| replies(actions).contains(&format!("\"state\":\"{state}\""));
    assert!(state(&bench.ask(r#"{"jsonrpc":"2.0","id":2,"method":"record.pause"}"#), "paused"));
    assert!(state(&bench.ask(r#"{"jsonrpc":"2.0","id":3,"method":"record.resume"}"#), "starting"));
    let actions = bench.ask(r#"{"jsonrpc":"2.0","id":4,"method":"record.pause"}"#);
    assert_eq!(events(&actions), ["recording.paused"]);
    let answer = format!("cmd=RecordStartResponse&id={id}&result=success&reason=&server=&port=7000\n");
    assert!(state(&bench.uplink(UplinkInput::Received(answer.as_bytes())), "paused"));
    assert!(!bench.goes_on(1));
    assert!(state(&bench.ask(r#"{"jsonrpc":"2.0","id":5,"method":"record.resume"}"#), "recording"));
    bench.begin_to_talk();
}

#[test]
fn a_recording_paused_before_the_server_refuses_never_began() {
    let mut bench = Bench::new();
    let id = bench.request();
    bench.ask(r#"{"jsonrpc":"2.0","id":2,"method":"record.pause"}"#);
    let answer = format!("cmd=RecordStartResponse&id={id}&result=failure&reason=full&server=&port=\n");
    let actions = bench.uplink(UplinkInput::Received(answer.as_bytes()));
    assert!(replies(&actions).contains("server_refused"), "{actions:?}");
    assert!(events(&actions).is_empty(), "{actions:?}");
}

#[test]
fn packets_that_could_not_be_sent_are_counted_and_not_waited_for() {
    let mut bench = Bench::new();
    bench.start();
    bench.begin_to_talk();
    bench.uplink(UplinkInput::RelayFailed(1));
    let stats = replies(&bench.ask(r#"{"jsonrpc":"2.0","id":2,"method":"stats.get"}"#));
    assert!(stats.contains("\"uplink\":1"), "{stats}");
    let status = replies(&bench.ask(r#"{"jsonrpc":"2.0","id":3,"method":"record.status"}"#));
    assert!(status.contains("\"degraded\":true") && status.contains("\"received\":3"), "{status}");
}

#[test]
fn a_stop_request_that_waits_for_silence_explains_a_closed_port() {
    let mut bench = Bench::new();
    let id = bench.request();
    let answer = format!("cmd=RecordStartResponse&id={id}&result=success&reason=&server=&port=7000\n");
    bench.uplink(UplinkInput::Received(answer.as_bytes()));
    let stop = format!(
        "cmd=RecordStopRequest&id={id}&remote_number=&remote_name=&local_number=&local_name=&reason=quota"
    );
    let actions = bench.uplink(UplinkInput::Received(stop.as_bytes()));
    assert!(events(&actions).is_empty(), "{actions:?}");
    let actions = bench.uplink(UplinkInput::RelayRefused);
    assert_eq!(events(&actions), ["recording.ended"]);
}

#[test]
fn an_answer_of_an_earlier_attempt_changes_nothing() {
    let mut bench = Bench::new();
    bench.request();
    let old = Generation(bench.generation.0.wrapping_sub(1));
    let actions = bench.uplink(UplinkInput::ConnectFailed(old, "too late".into()));
    assert!(actions.is_empty(), "{actions:?}");
}

#[test]
fn a_server_that_does_not_answer_is_a_time_out_of_the_start() {
    let mut bench = Bench::new();
    bench.request();
    bench.now.mono = Mono::new(Duration::from_millis(4999));
    assert!(replies(&bench.step(Input::Tick)).is_empty());
    bench.now.mono = Mono::new(Duration::from_secs(5));
    assert!(bench.agent.deadline().is_some_and(|due| due <= bench.now.mono));
    let actions = bench.step(Input::Tick);
    let replied = replies(&actions);
    let says_where = replied.contains("\"detail\":\"192.0.2.1:9099: no answer");
    assert!(replied.contains("\"reason\":\"server_timeout\"") && says_where, "{actions:?}");
}

#[test]
fn after_the_end_nothing_begins_whatever_still_comes() {
    let mut bench = Bench::new();
    let actions = bench.step(Input::Shutdown);
    assert!(actions.iter().any(|action| matches!(action, Action::Exit { finalised: true })));
    let start =
        r#"{"jsonrpc":"2.0","id":1,"method":"record.start","params":{"mode":"server","codec":"PCMA"}}"#;
    let actions = bench.ask(start);
    assert!(matches!(&actions[..], [Action::OweReply(_), Action::Reply(..)]), "{actions:?}");
    assert_eq!(bench.agent.deadline(), None);
}

#[test]
fn an_end_that_the_server_does_not_confirm_leaves_no_recording_unfinished_here() {
    let mut bench = Bench::new();
    bench.start();
    bench.step(Input::Shutdown);
    bench.now.mono = bench.now.mono + Duration::from_secs(20);
    // No tick, so the session's timer has not run, as with a response_timeout_ms of more than that.
    let actions = bench.step(Input::MountsChanged);
    assert!(actions.iter().any(|action| matches!(action, Action::Exit { finalised: true })), "{actions:?}");
}

/// The answer of a server that grants the extension from an item on.
fn granted(id: &str, next: u64) -> String {
    format!(
        "cmd=RecordStartResponse&id={id}&result=success&reason=&server=&port=9100&ext=1&next={next}&resume=t{next}\n"
    )
}

#[test]
fn packets_wait_with_the_extension_until_the_server_has_them_and_go_again_after_an_interruption() {
    let mut bench = Bench::with("extensions = true\n");
    let id = bench.request();
    let actions = bench.uplink(UplinkInput::Received(granted(&id, 0).as_bytes()));
    let (made, addr) = media_connection(&actions).expect("a media connection");
    assert_eq!(addr, SocketAddr::from(([192, 0, 2, 1], 9100)));
    assert_eq!(events(&actions), ["uplink.connected", "recording.started"]);
    let mut inlet = Inlet::default();
    let hello = media(&bench.uplink(UplinkInput::MediaConnected(made)));
    assert_eq!(packets(&mut inlet, &hello), []);
    for seq in 1..=5 {
        assert!(matches!(bench.talk(seq), Forward::Nothing));
    }
    let recording = bench.recording;
    let sent = media(&bench.step(Input::Drained(recording)));
    assert_eq!(packets(&mut inlet, &sent), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]);
    bench.uplink(UplinkInput::MediaReceived(&ack(4, "later")));
    // The server is gone; the call goes on.
    let closed = UplinkInput::Closed { error: Some("reset".into()), silent: false };
    let actions = bench.uplink(closed);
    assert_eq!(events(&actions), ["uplink.degraded"]);
    assert!(matches!(bench.talk(6), Forward::Nothing));
    assert!(media(&bench.step(Input::Drained(recording))).is_empty());
    bench.now.mono = bench.now.mono + Duration::from_millis(300);
    let actions = bench.step(Input::Tick);
    let connect = actions.iter().find_map(|action| match action {
        Action::Uplink(_, UplinkAction::Connect(generation, _)) => Some(*generation),
        _ => None,
    });
    let actions = bench.uplink(UplinkInput::Connected(connect.expect("a connection is asked for"), None));
    let request = commands(&actions);
    assert!(request.ends_with("&codec=PCMA&ext=1&from=3&elapsed=300&resume=later"), "{request}");
    let actions = bench.uplink(UplinkInput::Received(granted(&id, 3).as_bytes()));
    assert_eq!(events(&actions), ["uplink.restored"]);
    let (made, _) = media_connection(&actions).expect("a media connection");
    let sent = media(&bench.uplink(UplinkInput::MediaConnected(made)));
    assert_eq!(packets(&mut Inlet::default(), &sent), [(3, 4), (4, 5), (5, 6)]);
    let stop = commands(&bench.ask(r#"{"jsonrpc":"2.0","id":2,"method":"record.stop"}"#));
    assert!(stop.ends_with("&items=6"), "{stop}");
    bench.uplink(UplinkInput::MediaReceived(&ack(6, "last")));
    let answer = format!("cmd=RecordStopResponse&id={id}&result=success\n");
    let actions = bench.uplink(UplinkInput::Received(answer.as_bytes()));
    assert_eq!(events(&actions), ["recording.ended"]);
    let closes = |action: &Action| matches!(action, Action::Uplink(_, UplinkAction::CloseMedia));
    assert!(actions.iter().any(closes), "{actions:?}");
    let status = replies(&bench.ask(r#"{"jsonrpc":"2.0","id":3,"method":"stats.get"}"#));
    assert!(status.contains("\"uplink\":0"), "{status}");
}

#[test]
fn packets_are_relayed_to_a_server_that_does_not_know_the_extension() {
    let mut bench = Bench::with("extensions = true\n");
    let actions = bench.start();
    assert_eq!(media_connection(&actions), None);
    bench.begin_to_talk();
    assert!(bench.goes_on(104));
}

#[test]
fn packets_that_find_no_room_while_the_server_is_gone_are_lost_and_told() {
    let mut bench = Bench::with("extensions = true\n[storage]\nbuffer = \"64 KiB\"\n");
    let id = bench.request();
    let actions = bench.uplink(UplinkInput::Received(granted(&id, 0).as_bytes()));
    let (made, _) = media_connection(&actions).expect("a media connection");
    bench.uplink(UplinkInput::MediaConnected(made));
    bench.uplink(UplinkInput::Closed { error: None, silent: true });
    for _ in 0..10 {
        (1..=200).for_each(|seq| drop(bench.talk(seq)));
    }
    let stats = replies(&bench.ask(r#"{"jsonrpc":"2.0","id":2,"method":"stats.get"}"#));
    assert!(!stats.contains("\"uplink\":0"), "{stats}");
    let status = replies(&bench.ask(r#"{"jsonrpc":"2.0","id":3,"method":"record.status"}"#));
    assert!(status.contains("\"degraded\":true") && status.contains("\"state\":\"recording\""), "{status}");
}
