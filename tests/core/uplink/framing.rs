//! The ends of messages, with and without terminators.

use media::time::Mono;
use proptest::collection::vec;
use proptest::prelude::*;
use recfile::call::Direction;
use std::time::Duration;
use uplink::framing::{FrameError, Framer, PATIENT_QUIET, QUIET, Terminator};
use uplink::message::{
    MAX_MESSAGE_OCTETS, Message, Outcome, ParseError, Parties, StartRequest, StartResponse, StopRequest,
    StopResponse,
};

const START: &str = "cmd=RecordStartResponse&id=7&result=success&reason=&server=&port=40002";
const STOP: &str = "cmd=RecordStopResponse&id=7&result=success";

fn at(ms: u64) -> Mono {
    Mono::new(Duration::from_millis(ms))
}

fn parsed(text: &str) -> Message {
    Message::parse(text.as_bytes()).expect(text)
}

/// All messages that have ended at `now`.
fn drain(framer: &mut Framer, now: Mono) -> Vec<Message> {
    std::iter::from_fn(|| framer.next(now).expect("usable message")).collect()
}

#[test]
fn each_terminator_ends_a_message_at_once_and_is_remembered() {
    for (octets, terminator) in
        [("\n", Terminator::Lf), ("\r\n", Terminator::CrLf), ("\r", Terminator::Cr), ("\0", Terminator::Nul)]
    {
        let mut framer = Framer::new();
        framer.push(format!("{START}{octets}{STOP}{octets}").as_bytes(), at(0));
        assert_eq!(drain(&mut framer, at(0)), [parsed(START), parsed(STOP)]);
        assert_eq!(framer.terminator(), terminator);
        assert_eq!(framer.poll_deadline(), None);
    }
}

#[test]
fn without_a_terminator_a_complete_message_ends_after_30_ms_of_quiet() {
    let mut framer = Framer::new();
    framer.push(&START.as_bytes()[..40], at(0));
    assert_eq!(drain(&mut framer, at(10)), []);
    framer.push(&START.as_bytes()[40..], at(20));
    assert_eq!(drain(&mut framer, at(20)), []);
    assert_eq!(framer.poll_deadline(), Some(at(20) + QUIET));
    assert_eq!(drain(&mut framer, at(49)), []);
    assert_eq!(drain(&mut framer, at(50)), [parsed(START)]);
    assert_eq!(framer.terminator(), Terminator::None);
    assert_eq!(framer.poll_deadline(), None);
}

#[test]
fn a_success_with_only_the_keys_it_needs_ends_after_the_short_quiet() {
    let mut framer = Framer::new();
    framer.push(b"cmd=RecordStartResponse&id=7&result=success&port=9", at(0));
    assert_eq!(drain(&mut framer, at(0)), []);
    assert_eq!(framer.poll_deadline(), Some(at(30)));
}

#[test]
fn a_message_that_could_go_on_is_given_more_time() {
    let mut framer = Framer::new();
    framer.push(b"cmd=RecordStopRequest&id=7", at(0));
    assert_eq!(drain(&mut framer, at(100)), []);
    framer.push(b"&reason=disk full", at(100));
    assert_eq!(drain(&mut framer, at(100)), []);
    assert_eq!(framer.poll_deadline(), Some(at(100) + PATIENT_QUIET));
    assert_eq!(drain(&mut framer, at(350)), [parsed("cmd=RecordStopRequest&id=7&reason=disk full")]);
}

#[test]
fn a_message_that_is_cut_before_a_value_it_needs_is_given_more_time() {
    let request = "cmd=RecordStartRequest&id=7&device=d&remote_number=&remote_name=&local_number=&local_name=\
                   &dir=in&codec=PCMA";
    for whole in [request, START, STOP, "cmd=RecordStartResponse&id=7&result=success&port=9"] {
        let cut = whole.rfind('=').expect("a value") + 1;
        let mut framer = Framer::new();
        framer.push(&whole.as_bytes()[..cut], at(0));
        assert_eq!(drain(&mut framer, at(200)), [], "{whole}");
        framer.push(&whole.as_bytes()[cut..], at(200));
        assert_eq!(drain(&mut framer, at(230)), [parsed(whole)], "{whole}");
    }
    let refusal = "cmd=RecordStartResponse&id=7&result=failed&reason=&server=&port=";
    let mut framer = Framer::new();
    framer.push(refusal.as_bytes(), at(0));
    assert_eq!(drain(&mut framer, at(30)), [parsed(refusal)], "a refusal needs no port");
}

#[test]
fn a_message_that_is_cut_within_a_value_that_we_know_is_given_more_time() {
    let request = "cmd=RecordStartRequest&id=7&device=d&remote_number=&remote_name=&local_number=&local_name=\
                   &dir=in&codec=PCMA";
    for whole in [request, STOP, "cmd=RecordStopResponse&id=7&result=FAILED"] {
        let cut = whole.len() - 2;
        let mut framer = Framer::new();
        framer.push(&whole.as_bytes()[..cut], at(0));
        assert_eq!(drain(&mut framer, at(200)), [], "{whole}");
        framer.push(&whole.as_bytes()[cut..], at(200));
        assert_eq!(drain(&mut framer, at(230)), [parsed(whole)], "{whole}");
    }
}

#[test]
fn the_rest_of_a_value_that_comes_late_makes_the_message_whole() {
    for cut in START.len() - 4..START.len() {
        let (early, late) = START.split_at(cut);
        for end in ["", "\n", STOP] {
            let mut framer = Framer::new();
            framer.push(early.as_bytes(), at(0));
            assert_eq!(drain(&mut framer, at(30)), [parsed(early)]);
            assert!(framer.may_grow());
            framer.push(format!("{late}{end}").as_bytes(), at(100));
            let mut read = drain(&mut framer, at(100));
            assert_eq!(read.is_empty(), end.is_empty(), "{late}{end}");
            read.extend(drain(&mut framer, at(130)));
            let expected = [parsed(START), parsed(STOP)];
            assert_eq!(read, expected[..if end == STOP { 2 } else { 1 }], "{late}{end}");
        }
    }
    let stop =
        "cmd=RecordStopRequest&id=7&remote_number=&remote_name=&local_number=&local_name=&reason=disk full";
    let (early, late) = stop.split_at(stop.len() - 2);
    let mut framer = Framer::new();
    framer.push(early.as_bytes(), at(0));
    assert_eq!(drain(&mut framer, at(30)), [parsed(early)]);
    // May be the beginning of `local_number`.
    framer.push(&late.as_bytes()[..1], at(50));
    assert_eq!(drain(&mut framer, at(90)), []);
    framer.push(&late.as_bytes()[1..], at(100));
    assert_eq!(drain(&mut framer, at(130)), [parsed(stop)]);
}

/// A framer that has taken `text` for a whole message at 30 ms, or 250.
fn guessed(text: &str) -> Framer {
    let mut framer = Framer::new();
    framer.push(text.as_bytes(), at(0));
    assert_eq!(drain(&mut framer, at(250)), [parsed(text)]);
    framer
}

#[test]
fn a_message_after_silence_is_one_of_its_own_however_it_begins() {
    for begin in ["", "&", "id=7&", "&id=7&", "version=2&"] {
        for end in ["", "\n"] {
            let text = format!("{begin}{STOP}{end}");
            for piece_octets in [1, text.len()] {
                let mut framer = guessed(START);
                let mut read = Vec::new();
                for piece in text.as_bytes().chunks(piece_octets) {
                    framer.push(piece, at(300));
                    read.extend(drain(&mut framer, at(300)));
                }
                assert_eq!(read.is_empty(), end.is_empty(), "{text:?} by {piece_octets}");
                read.extend(drain(&mut framer, at(330)));
                assert_eq!(read, [parsed(STOP)], "{text:?} by {piece_octets}");
                assert!(!framer.is_again(), "{text:?} by {piece_octets}");
            }
        }
    }
}

#[test]
fn a_rest_may_have_more_pairs_behind_it() {
    let cut = "cmd=RecordStopRequest&id=7&remote_number=49";
    let rest = "123&remote_name=Anna&local_number=&local_name=&reason=hangup";
    let mut framer = guessed(cut);
    framer.push(format!("{rest}{START}").as_bytes(), at(300));
    assert_eq!(framer.next(at(300)), Ok(Some(parsed(&format!("{cut}{rest}")))));
    assert!(framer.is_again());
    assert_eq!(drain(&mut framer, at(330)), [parsed(START)]);
    assert!(!framer.is_again());
}

#[test]
fn the_rest_of_a_word_that_may_be_a_key_is_one_when_it_has_ended() {
    let stop = "cmd=RecordStopRequest&id=7&reason=not pa";
    let mut framer = guessed(stop);
    framer.push(b"id", at(300));
    assert_eq!(drain(&mut framer, at(600)), []);
    framer.push(b"\n", at(600));
    assert_eq!(drain(&mut framer, at(600)), [parsed(&format!("{stop}id"))]);
}

#[test]
fn a_message_that_has_ended_for_certain_or_long_ago_has_no_rest() {
    let mut framer = guessed(START);
    framer.push(b"\n", at(300));
    assert_eq!(drain(&mut framer, at(300)), []);
    assert!(!framer.may_grow());
    framer.push(format!("02{STOP}\n").as_bytes(), at(310));
    assert_eq!(framer.next(at(310)), Err(FrameError::Malformed(ParseError::Missing("cmd"))));

    let mut framer = guessed(START);
    framer.push(b"1", at(10_300));
    assert_eq!(drain(&mut framer, at(20_000)), []);
    assert!(!framer.is_growing());
}

#[test]
fn octets_that_do_not_continue_the_message_before_are_dropped() {
    let mut framer = guessed(START);
    framer.push(b"ping", at(300));
    assert_eq!(drain(&mut framer, at(900)), []);
    framer.push(STOP.as_bytes(), at(1000));
    assert_eq!(drain(&mut framer, at(1030)), [parsed(STOP)]);
    let mut framer = guessed(START);
    framer.push(b"ping", at(300));
    assert_eq!(framer.next_at_close(), Ok(None));
}

#[test]
fn a_key_that_comes_late_makes_the_message_whole() {
    let mut framer = Framer::new();
    framer.push(b"cmd=RecordStopRequest&id=7", at(0));
    assert_eq!(drain(&mut framer, at(250)), [parsed("cmd=RecordStopRequest&id=7")]);
    framer.push(b"&reason=disk full\n", at(300));
    assert_eq!(drain(&mut framer, at(300)), [parsed("cmd=RecordStopRequest&id=7&reason=disk full")]);
}

#[test]
fn a_message_without_its_keys_is_waited_for() {
    let mut framer = Framer::new();
    framer.push(b"cmd=RecordStartResponse&id=7&resu", at(0));
    assert_eq!(drain(&mut framer, at(100_000)), []);
    assert_eq!(framer.poll_deadline(), None);
}

#[test]
fn messages_that_follow_each_other_without_anything_between_are_told_apart() {
    let mut framer = Framer::new();
    framer.push(format!("{START}{STOP}&{STOP}").as_bytes(), at(0));
    assert_eq!(drain(&mut framer, at(0)), [parsed(START), parsed(STOP)]);
    assert_eq!(drain(&mut framer, at(30)), [parsed(STOP)]);
}

#[test]
fn the_first_octets_of_a_second_message_are_not_taken_for_the_end_of_the_first() {
    let mut framer = Framer::new();
    framer.push(format!("{START}{}", &STOP[..14]).as_bytes(), at(0));
    assert_eq!(drain(&mut framer, at(60)), []);
    framer.push(&STOP.as_bytes()[14..], at(60));
    assert_eq!(drain(&mut framer, at(60)), [parsed(START)]);
    assert_eq!(drain(&mut framer, at(90)), [parsed(STOP)]);
}

#[test]
fn a_command_mentioned_in_an_unescaped_reason_does_not_cut_the_message() {
    let text =
        "cmd=RecordStartResponse&id=7&result=failed&reason=unexpected cmd=RecordStopRequest&server=&port=";
    let mut framer = Framer::new();
    framer.push(text.as_bytes(), at(0));
    assert_eq!(drain(&mut framer, at(0) + PATIENT_QUIET), [parsed(text)]);
}

#[test]
fn a_terminator_that_comes_late_belongs_to_the_message_before() {
    let mut framer = Framer::new();
    framer.push(START.as_bytes(), at(0));
    assert_eq!(drain(&mut framer, at(40)), [parsed(START)]);
    framer.push(b"\r", at(50));
    assert_eq!(drain(&mut framer, at(50)), []);
    framer.push(b"\n", at(60));
    assert_eq!(drain(&mut framer, at(60)), []);
    assert_eq!(framer.terminator(), Terminator::CrLf);
}

#[test]
fn a_complete_message_counts_when_the_peer_closes() {
    let mut framer = Framer::new();
    framer.push(START.as_bytes(), at(0));
    assert_eq!(framer.next_at_close(), Ok(Some(parsed(START))));
    framer.push(b"cmd=RecordStartResponse&id=7", at(0));
    assert_eq!(framer.next_at_close(), Ok(None));
}

#[test]
fn a_bad_line_is_reported_and_the_next_one_is_read() {
    let mut framer = Framer::new();
    framer.push(format!("hello\n{STOP}\n").as_bytes(), at(0));
    assert_eq!(framer.next(at(0)), Err(FrameError::Malformed(ParseError::Missing("cmd"))));
    assert_eq!(framer.next(at(0)), Ok(Some(parsed(STOP))));
}

#[test]
fn a_message_over_the_size_limit_is_an_error_with_and_without_its_end() {
    let longest = format!("{STOP}&x={}", "x".repeat(MAX_MESSAGE_OCTETS - STOP.len() - 3));
    assert_eq!(longest.len(), MAX_MESSAGE_OCTETS);
    for end in ["", "\n"] {
        let mut framer = Framer::new();
        framer.push(format!("{longest}{end}").as_bytes(), at(0));
        assert_eq!(framer.next(at(500)), Ok(Some(parsed(STOP))));
        let mut framer = Framer::new();
        framer.push(format!("{longest}x{end}").as_bytes(), at(0));
        assert_eq!(framer.next(at(500)), Err(FrameError::TooLong));
    }
    let mut framer = Framer::new();
    framer.push(&vec![b'x'; 2 * MAX_MESSAGE_OCTETS], at(0));
    assert_eq!(framer.next(at(0)), Err(FrameError::TooLong));
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~äß€]{0,20}",
        any::<String>().prop_map(|text| text.chars().take(40).collect()),
        Just("cmd=RecordStopRequest&id=1".to_owned()),
        Just("xcmd".to_owned()),
    ]
}

fn id() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("i{text}"))
}

fn parties() -> impl Strategy<Value = Parties> {
    (text(), text(), text(), text()).prop_map(|(remote_number, remote_name, local_number, local_name)| {
        Parties { remote_number, remote_name, local_number, local_name }
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::Success), Just(Outcome::Failed)]
}

/// Any message of the source document.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    let direction = prop_oneof![Just(None), Just(Some(Direction::In)), Just(Some(Direction::Out))];
    prop_oneof![
        (id(), text(), parties(), direction, text()).prop_map(|(id, device, parties, direction, codec)| {
            Message::StartRequest(StartRequest { id, device, parties, direction, codec, extension: None })
        }),
        (id(), outcome(), text(), text(), 1..=u16::MAX).prop_map(|(id, outcome, reason, server, port)| {
            let port = Some(port);
            Message::StartResponse(StartResponse { id, outcome, reason, server, port, extension: None })
        }),
        (id(), parties(), text()).prop_map(|(id, parties, reason)| Message::StopRequest(StopRequest {
            id,
            parties,
            reason,
            items: None,
        })),
        (id(), outcome()).prop_map(|(id, outcome)| Message::StopResponse(StopResponse { id, outcome })),
    ]
}

/// The cost of 8 KiB of which all but `before` comes octet by octet.
#[expect(clippy::disallowed_methods, reason = "the test measures")]
fn cost(before: &str, octet: &[u8]) -> Duration {
    let mut framer = Framer::new();
    framer.push(before.as_bytes(), at(0));
    let _ = framer.next(at(0));
    let begin = std::time::Instant::now();
    for octet in octet.iter().cycle().take(MAX_MESSAGE_OCTETS - before.len()) {
        framer.push(&[*octet], at(0));
        let _ = framer.next(at(0));
    }
    begin.elapsed()
}

#[test]
fn octets_one_by_one_do_not_cost_a_look_at_all_that_is_held() {
    let head = "cmd=RecordStartResponse&id=7&result=success&reason=&server=&port=40002";
    for (what, before, octets) in [
        ("a value", "cmd=RecordStopRequest&id=7&reason=".to_owned(), &b"x"[..]),
        ("pairs", "cmd=RecordStopRequest&id=7".to_owned(), b"&a=1"),
        ("no pairs", String::new(), b"y"),
        ("mentions", format!("{head}&x="), b"cmd="),
        ("commands", format!("{head}&x="), b"cmd=RecordStopRequest&"),
        ("blanks", "cmd=RecordStopRequest&id=7&result=".to_owned(), b" "),
    ] {
        // Looking at 8 KiB anew for each of 8,000 octets takes seconds in a debug build.
        let spent = (0..3).map(|_| cost(&before, octets)).min().expect("three");
        assert!(spent < Duration::from_secs(1), "{what}: {spent:?}");
    }
}

proptest! {
    #[test]
    fn an_encoded_message_reads_back(message in message()) {
        prop_assert_eq!(Message::parse(message.encode().as_bytes()), Ok(message));
    }

    #[test]
    fn any_cut_of_any_sequence_of_messages_reads_the_same(
        messages in vec((message(), prop_oneof!["", "\n", "\r\n", "\r", "\0", "&"]), 1..6),
        cuts in vec(1..200_usize, 0..60),
    ) {
        let stream: String =
            messages.iter().map(|(message, end)| message.encode() + end).collect();
        let mut framer = Framer::new();
        let mut read = Vec::new();
        let mut rest = stream.as_bytes();
        for cut in cuts {
            let (piece, tail) = rest.split_at(cut.min(rest.len()));
            framer.push(piece, at(0));
            read.extend(drain(&mut framer, at(0)));
            rest = tail;
        }
        framer.push(rest, at(0));
        read.extend(drain(&mut framer, at(0)));
        read.extend(drain(&mut framer, at(0) + PATIENT_QUIET));
        let sent: Vec<Message> = messages.into_iter().map(|(message, _)| message).collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn any_cut_of_what_looks_like_messages_reads_the_same(
        parts in vec(
            prop::sample::select(vec![
                "cmd", "CMD ", " = ", "=", "&", " & ", "RecordStopRequest", "recordstartresponse", "RecordStopResponse&id=7", "id", "id=7",
                "result=success", "port=40", "\n", "\"", "\u{feff}", "220 ready", "reason", "server=a:5", "%73", "\0", "cmd=RecordStopRequest&id=7",
            ]),
            0..40,
        ),
        cuts in vec(1..30_usize, 0..40),
    ) {
        let stream = parts.concat();
        let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut framer = Framer::new();
            let mut found = Vec::new();
            let mut take = |framer: &mut Framer, now| loop {
                match framer.next(now) {
                    Ok(None) => break,
                    other => found.push(format!("{other:?}")),
                }
            };
            for piece in pieces {
                framer.push(piece, at(0));
                take(&mut framer, at(0));
            }
            take(&mut framer, at(0) + PATIENT_QUIET);
            found
        };
        let mut rest = stream.as_bytes();
        let mut pieces = Vec::new();
        for cut in cuts {
            let (piece, tail) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = tail;
        }
        pieces.push(rest);
        let one_by_one = read(&mut stream.as_bytes().chunks(1));
        prop_assert_eq!(read(&mut pieces.into_iter()), one_by_one);
    }

    #[test]
    fn arbitrary_octets_end_in_bounded_memory_and_never_in_a_panic(
        pieces in vec(prop_oneof![
            vec(any::<u8>(), 0..300),
            "(cmd=|&|=|id=|RecordStart|Request|Response|result=|%4|\r|\n|x){0,40}".prop_map(String::into_bytes),
        ], 0..40),
    ) {
        let mut framer = Framer::new();
        for (turn, piece) in pieces.iter().enumerate() {
            let now = at(turn as u64 * 20);
            framer.push(piece, now);
            let mut messages = 0;
            loop {
                match framer.next(now) {
                    Ok(None) | Err(FrameError::TooLong) => break,
                    Ok(Some(_)) | Err(FrameError::Malformed(_)) => messages += 1,
                }
                prop_assert!(messages <= MAX_MESSAGE_OCTETS);
            }
        }
        let _ = framer.next_at_close();
    }
}
