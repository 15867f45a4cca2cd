//! One control connection, message by message; the requests are written from the source document.

use media::codec::Codec;
use media::time::Mono;
use proptest::prelude::*;
use recfile::call::Direction;
use std::time::Duration;
use uplink::message::Outcome;
use uplink::message::extension::Granted;
use uplink::server::{Action, EndReason, MAX_REFUSALS, Session, Timing};

const START: &str = "cmd=RecordStartRequest&id=7f3a&device=0C:11:05:0A:0B:0C&remote_number=+4930123456\
    &remote_name=Jörg Müller&local_number=201&local_name=Front desk&dir=in&codec=PCMA";
const STOP: &str = "cmd=RecordStopRequest&id=7f3a&remote_number=+4930123456&remote_name=Jo&local_number=201\
    &local_name=Front desk&reason=hangup";
const STARTED: &str = "cmd=RecordStartResponse&id=7f3a&result=success&reason=&server=192.0.2.9&port=20000";
const STOPPED: &str = "cmd=RecordStopResponse&id=7f3a&result=success";

fn at(ms: u64) -> Mono {
    Mono::new(Duration::from_millis(ms))
}

fn timing() -> Timing {
    Timing {
        start_within: Duration::from_secs(10),
        idle: Some(Duration::from_secs(60)),
        stop_answer: Duration::from_secs(2),
    }
}

struct Phone(Session);

impl Phone {
    fn connected() -> Self {
        Self(Session::new(timing(), at(0)))
    }

    fn recording() -> Self {
        let mut phone = Self::connected();
        phone.says(&format!("{START}\n"), 1);
        phone.act(|session, out| session.granted("192.0.2.9", 20_000, None, at(1), out));
        phone
    }

    fn act(&mut self, event: impl FnOnce(&mut Session, &mut Vec<Action>)) -> Vec<Action> {
        let mut out = Vec::new();
        event(&mut self.0, &mut out);
        out
    }

    fn says(&mut self, text: &str, ms: u64) -> Vec<Action> {
        self.act(|session, out| session.received(text.as_bytes(), at(ms), out))
    }

    fn timer(&mut self, ms: u64) -> Vec<Action> {
        self.act(|session, out| session.timer(at(ms), out))
    }
}

fn send(text: &str) -> Action {
    Action::Send(text.as_bytes().to_vec())
}

fn finish(reason: EndReason) -> Action {
    Action::Finish { reason, parties: None }
}

#[test]
fn a_recording_is_asked_for_granted_and_stopped() {
    let mut phone = Phone::connected();
    assert_eq!(phone.says(START, 0), []);
    let asked = phone.timer(30);
    let [Action::Open(opening)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((opening.id.as_str(), opening.device.as_str()), ("7f3a", "0C:11:05:0A:0B:0C"));
    assert_eq!((opening.direction, opening.codec), (Some(Direction::In), Codec::Pcma));
    assert_eq!(opening.parties.remote_name, "Jörg Müller");
    let answer = phone.act(|session, out| session.granted("192.0.2.9", 20_000, None, at(30), out));
    assert_eq!(answer, [send(STARTED)]);

    assert_eq!(phone.says(STOP, 5000), []);
    let stopped = phone.timer(5030);
    let [Action::Finish { reason, parties: Some(parties) }, answer] = &stopped[..] else {
        panic!("{stopped:?}")
    };
    assert_eq!((reason, answer), (&EndReason::Stopped("hangup".into()), &send(STOPPED)));
    assert_eq!(parties.remote_name, "Jo", "the name as it is known at the end");
    assert_eq!(phone.act(|session, out| session.peer_closed(at(5040), out)), [Action::Close]);
}

#[test]
fn late_octets_of_an_answered_request_change_nothing() {
    let mut phone = Phone::connected();
    phone.says(START, 0);
    assert_eq!(phone.timer(30).len(), 1);
    phone.act(|session, out| session.granted("192.0.2.9", 20_000, None, at(30), out));
    assert_eq!(phone.says("&version=1", 100), []);
    assert_eq!(phone.timer(130), []);

    let (early, late) = STOP.split_at(STOP.len() - 3);
    phone.says(early, 5000);
    assert_eq!(phone.timer(5030).len(), 2);
    phone.says(late, 5100);
    assert_eq!(phone.timer(5130), []);

    let mut phone = Phone::connected();
    phone.says(START, 0);
    phone.timer(30);
    phone.act(|session, out| session.refused("disk full", at(30), out));
    phone.says("&version=1", 100);
    assert_eq!(phone.timer(130), [], "a refused request is not asked for again");
}

#[test]
fn answers_end_as_the_request_did() {
    for end in ["\n", "\r\n", "\r", "\0"] {
        let mut phone = Phone::connected();
        phone.says(&format!("{START}{end}"), 0);
        let answer = phone.act(|session, out| session.granted("192.0.2.9", 20_000, None, at(1), out));
        assert_eq!(answer, [send(&format!("{STARTED}{end}"))]);
    }
}

#[test]
fn requests_right_behind_the_start_request_are_answered_after_it() {
    let mut phone = Phone::connected();
    assert_eq!(phone.says(&format!("{START}\n{STOP}\n"), 0).len(), 1);
    let actions = phone.act(|session, out| session.granted("192.0.2.9", 20_000, None, at(1), out));
    assert_eq!(actions.len(), 3);
    assert_eq!([&actions[0], &actions[2]], [&send(&format!("{STARTED}\n")), &send(&format!("{STOPPED}\n"))]);
}

#[test]
fn a_refusal_says_why_and_the_phone_may_ask_again() {
    let mut phone = Phone::connected();
    phone.says(&format!("{START}\n"), 0);
    let answer = phone.act(|session, out| session.refused("no free RTP port on the server", at(1), out));
    let text =
        "cmd=RecordStartResponse&id=7f3a&result=failed&reason=no free RTP port on the server&server=&port=\n";
    assert_eq!(answer, [send(text)]);
    assert!(matches!(phone.says(&format!("{START}\n"), 2)[..], [Action::Open(_)]));
}

#[test]
fn endless_refusals_end_the_connection() {
    let mut phone = Phone::connected();
    for attempt in 1..=MAX_REFUSALS {
        let actions = phone.says(&format!("{}\n", START.replace("PCMA", "opus")), 0);
        assert_eq!(actions.contains(&Action::Close), attempt == MAX_REFUSALS);
    }
}

#[test]
fn an_unknown_codec_is_refused_by_name() {
    let actions = Phone::connected().says(&format!("{}\n", START.replace("PCMA", "opus")), 0);
    let [Action::Send(answer)] = &actions[..] else { panic!("{actions:?}") };
    let answer = String::from_utf8_lossy(answer);
    assert!(answer.contains("result=failed&reason=unsupported codec, the server takes PCMA, PCMU, G722"));
}

#[test]
fn a_repeated_start_request_gets_the_same_answer_and_a_second_recording_none() {
    let mut phone = Phone::recording();
    assert_eq!(phone.says(&format!("{START}\n"), 10), [send(&format!("{STARTED}\n"))]);
    let other = phone.says(&format!("{}\n", START.replace("7f3a", "beef")), 11);
    let [Action::Send(answer)] = &other[..] else { panic!("{other:?}") };
    assert!(String::from_utf8_lossy(answer).contains("id=beef&result=failed"));
}

#[test]
fn a_stop_request_for_another_recording_fails_and_changes_nothing() {
    let mut phone = Phone::recording();
    let answer = phone.says(&format!("{}\n", STOP.replace("7f3a", "beef")), 10);
    assert_eq!(answer, [send("cmd=RecordStopResponse&id=beef&result=failed\n")]);
    assert!(matches!(phone.says(&format!("{STOP}\n"), 11)[..], [Action::Finish { .. }, _]));
    assert_eq!(phone.says(&format!("{STOP}\n"), 12), [send(&format!("{STOPPED}\n"))], "a late repetition");
}

#[test]
fn a_lost_connection_ends_the_recording_but_a_stop_request_before_counts() {
    let lost = Phone::recording().act(|session, out| session.peer_closed(at(10), out));
    assert_eq!(lost, [finish(EndReason::ConnectionLost), Action::Close]);

    let mut phone = Phone::recording();
    assert_eq!(phone.says(STOP, 10), []);
    let closed = phone.act(|session, out| session.peer_closed(at(11), out));
    assert!(
        matches!(&closed[..], [Action::Finish { reason: EndReason::Stopped(_), .. }, _, Action::Close]),
        "{closed:?}"
    );
}

#[test]
fn without_rtp_the_server_stops_and_waits_for_the_answer_only_so_long() {
    let mut phone = Phone::recording();
    phone.0.media(at(30_000));
    assert_eq!(phone.timer(61_000), []);
    let idle = phone.timer(90_000);
    assert_eq!(idle[0], finish(EndReason::Idle));
    let Action::Send(request) = &idle[1] else { panic!("{idle:?}") };
    assert!(
        String::from_utf8_lossy(request).starts_with("cmd=RecordStopRequest&id=7f3a&remote_number=+4930")
    );
    assert!(request.ends_with(b"&reason=idle\n"));
    assert_eq!(phone.timer(91_999), []);
    assert_eq!(phone.timer(92_000), [Action::Close]);

    let mut phone = Phone::recording();
    phone.act(|session, out| session.stop(EndReason::Shutdown, at(10), out));
    assert_eq!(phone.says(&format!("{STOPPED}\n"), 11), [Action::Close]);
}

#[test]
fn a_connection_that_does_not_start_is_closed() {
    let mut phone = Phone::connected();
    phone.says("cmd=RecordStart", 9000);
    assert_eq!(phone.timer(9999), []);
    assert_eq!(phone.timer(10_000), [Action::Close]);
    assert_eq!(phone.says(START, 10_001), []);
}

#[test]
fn a_recording_with_the_extension_outlives_its_connection_and_hears_nothing_of_a_shutdown() {
    let recording = || {
        let mut phone = Phone::connected();
        phone.says(&format!("{START}&ext=1&from=0&elapsed=0\n"), 1);
        let granted = Granted { next: 0, resume: "token".into() };
        phone.act(|session, out| session.granted("192.0.2.9", 5056, Some(granted), at(1), out));
        phone
    };
    let lost = recording().act(|session, out| session.peer_closed(at(10), out));
    assert_eq!(lost, [Action::Detach, Action::Close]);
    let down = recording().act(|session, out| session.stop(EndReason::Shutdown, at(10), out));
    assert_eq!(down, [finish(EndReason::Shutdown), Action::Close]);
    let full = recording().act(|session, out| session.stop(EndReason::DiskFull, at(10), out));
    assert!(matches!(&full[..], [Action::Finish { .. }, Action::Send(_)]), "{full:?}");
    let mut phone = recording();
    let stop = phone.says(&format!("{STOP}&items=7\n"), 10);
    assert!(matches!(&stop[..], [Action::FinishAfter { items: 7, .. }]), "{stop:?}");
    let answer = phone.act(|session, out| session.finished(Outcome::Success, at(20), out));
    assert_eq!(answer, [send(&format!("{STOPPED}\n"))]);
}

#[test]
fn an_oversized_message_is_refused_or_ends_the_recording() {
    let flood = "x".repeat(9000);
    let actions = Phone::connected().says(&flood, 0);
    assert!(matches!(&actions[..], [Action::Send(_), Action::Close]), "{actions:?}");
    let actions = Phone::recording().says(&flood, 10);
    assert!(
        matches!(&actions[..], [Action::Finish { reason: EndReason::Protocol(_), .. }, Action::Close]),
        "{actions:?}"
    );
}

#[test]
fn a_phone_that_breaks_the_protocol_is_told_the_error_in_the_end_reason() {
    let actions = Phone::recording().says("hello\n", 30);
    let Some(Action::Finish { reason, .. }) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(reason.name(), "protocol_error: the message has no cmd");
}

#[test]
fn unknown_commands_are_ignored() {
    assert_eq!(Phone::recording().says("cmd=Ping&id=7f3a\n", 10), []);
}

#[derive(Clone, Debug)]
enum Event {
    Says(String),
    PeerClosed,
    Stop,
    Media,
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let text = prop_oneof![
        Just(format!("{START}\n")),
        Just(START.to_owned()),
        Just(format!("{STOP}\n")),
        Just(STOP.to_owned()),
        Just(START.replace("7f3a", "beef")),
        Just(format!("{STOPPED}\n")),
        "[ -~\n]{0,30}",
    ];
    prop_oneof![
        6 => text.prop_map(Event::Says),
        1 => Just(Event::PeerClosed),
        1 => Just(Event::Stop),
        1 => Just(Event::Media),
        3 => (0..30_000_u64).prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn every_granted_recording_is_finished_once(
        grants in proptest::collection::vec(any::<bool>(), 40),
        events in proptest::collection::vec(event(), 0..40),
    ) {
        let mut session = Session::new(timing(), at(0));
        let mut grants = grants.into_iter().cycle();
        let mut now = at(0);
        let (mut granted, mut finished, mut closed) = (0, 0, 0);
        for event in events.into_iter().chain([Event::PeerClosed]) {
            let mut out = Vec::new();
            match event {
                Event::Says(text) => session.received(text.as_bytes(), now, &mut out),
                Event::PeerClosed => session.peer_closed(now, &mut out),
                Event::Stop => session.stop(EndReason::Shutdown, now, &mut out),
                Event::Media => session.media(now),
                Event::Pass(ms) => {
                    now = now + Duration::from_millis(ms);
                    session.timer(now, &mut out);
                }
            }
            let mut at = 0;
            while let Some(action) = out.get(at).cloned() {
                at += 1;
                prop_assert_eq!(closed, 0, "nothing comes after the close");
                match action {
                    Action::Open(_) if grants.next() == Some(true) => {
                        granted += 1;
                        session.granted("", 4000, None, now, &mut out);
                    }
                    Action::Open(_) => session.refused("no", now, &mut out),
                    Action::Finish { .. } => finished += 1,
                    Action::FinishAfter { .. } | Action::Detach => {
                        prop_assert!(false, "the extension was not granted");
                    }
                    Action::Close => closed += 1,
                    Action::Send(_) => {}
                }
                prop_assert!(granted - finished <= 1);
            }
        }
        prop_assert!(session.is_closed());
        prop_assert_eq!((granted, closed), (finished, 1));
    }
}
