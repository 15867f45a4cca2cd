use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn drain(outbox: &mut Outbox) -> Vec<Value> {
    let text = outbox.peek().to_vec();
    outbox.consume(text.len());
    lines(&text)
}

fn lines(text: &[u8]) -> Vec<Value> {
    text.split_inclusive(|octet| *octet == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Parameters of about `octets`.
fn params(octets: usize) -> Vec<u8> {
    format!("{{\"x\":\"{}\"}}", "y".repeat(octets)).into_bytes()
}

fn at(seconds: u64) -> Mono {
    Mono::new(Duration::from_secs(seconds))
}

#[test]
fn an_event_is_a_notification_with_seq_first() {
    let mut outbox = Outbox::new();
    assert_eq!(outbox.push_event("storage.full", b"{\"a\":1}", Class::Event), Verdict::Queued);
    assert_eq!(outbox.push_event("x.y", b"{}", Class::Progress), Verdict::Queued);
    assert_eq!(
        String::from_utf8_lossy(outbox.peek()),
        "{\"jsonrpc\":\"2.0\",\"method\":\"storage.full\",\"params\":{\"seq\":1,\"a\":1}}\n\
         {\"jsonrpc\":\"2.0\",\"method\":\"x.y\",\"params\":{\"seq\":2}}\n"
    );
}

#[test]
fn a_part_that_was_sent_is_not_sent_again() {
    let mut outbox = Outbox::new();
    assert_eq!(outbox.push_reply(b"{\"a\":1}\n"), Verdict::Queued);
    outbox.consume(3);
    assert_eq!(outbox.push_reply(b"2\n"), Verdict::Queued);
    assert_eq!(outbox.peek(), b"\":1}\n2\n");
    outbox.consume(100);
    assert_eq!(outbox.peek(), b"");
}

#[test]
fn a_slow_client_loses_progress_first_and_is_told_how_much() {
    let mut outbox = Outbox::new();
    let mut queued = 0;
    while outbox.push_event("recording.progress", &params(1000), Class::Progress) == Verdict::Queued {
        queued += 1;
    }
    assert_eq!(outbox.push_event("recording.progress", b"{}", Class::Progress), Verdict::Dropped);
    assert_eq!(outbox.push_event("recording.ended", b"{}", Class::Event), Verdict::Queued);
    let mut seen = drain(&mut outbox);
    seen.extend(drain(&mut outbox));
    assert_eq!(seen.len(), queued + 2);
    assert_eq!(seen[queued]["method"], "recording.ended");
    assert_eq!(seen[queued + 1]["method"], "events.lost");
    assert_eq!(seen[queued + 1]["params"]["count"], 2);
    assert_eq!(seen[queued + 1]["params"]["seq"], queued + 2);
    assert_eq!(outbox.lost_total(), 2);
}

#[test]
fn a_client_that_reads_no_events_at_all_is_disconnected() {
    let mut outbox = Outbox::new();
    let mut queued = 0;
    while outbox.push_event("recording.ended", &params(1000), Class::Event) == Verdict::Queued {
        queued += 1;
    }
    assert!((220..260).contains(&queued), "{queued}");
    assert_eq!(outbox.push_event("x", b"{}", Class::Progress), Verdict::Close);
    assert_eq!(outbox.push_reply(b"{}\n"), Verdict::Close);
    assert_eq!(outbox.tick(at(0)), Verdict::Close);
    assert!(!outbox.wants_input());
}

#[test]
fn a_long_answer_does_not_count_as_not_reading_events() {
    let mut outbox = Outbox::new();
    assert_eq!(outbox.push_reply(&vec![b'x'; 600_000]), Verdict::Queued);
    assert!(!outbox.wants_input());
    assert_eq!(outbox.push_event("recording.ended", b"{}", Class::Event), Verdict::Queued);
    outbox.consume(600_000);
    assert!(outbox.wants_input());
    assert_eq!(outbox.push_reply(&vec![b'x'; MAX_QUEUED_OCTETS]), Verdict::Close);
}

#[test]
fn a_client_stuck_for_ten_seconds_is_disconnected_and_one_that_reads_slowly_is_not() {
    let mut outbox = Outbox::new();
    assert_eq!(outbox.push_reply(&vec![b'x'; 600_000]), Verdict::Queued);
    for second in 0..100 {
        outbox.consume(1);
        assert_eq!(outbox.tick(at(second)), Verdict::Queued);
    }
    for second in 100..109 {
        assert_eq!(outbox.tick(at(second)), Verdict::Queued);
    }
    assert_eq!(outbox.tick(at(109)), Verdict::Close);
}

#[test]
fn a_little_that_nobody_reads_may_wait_for_ever() {
    let mut outbox = Outbox::new();
    assert_eq!(outbox.push_reply(b"{}\n"), Verdict::Queued);
    for second in (0..100_000).step_by(1000) {
        assert_eq!(outbox.tick(at(second)), Verdict::Queued);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Reply(usize),
    Event(Class, usize),
    Consume(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..200_000usize).prop_map(Step::Reply),
        4 => (0..30_000usize).prop_map(|octets| Step::Event(Class::Progress, octets)),
        2 => (0..30_000usize).prop_map(|octets| Step::Event(Class::Event, octets)),
        4 => (0..200_000usize).prop_map(Step::Consume),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn memory_is_bounded_seq_rises_by_one_and_every_drop_is_told(steps in prop::collection::vec(step(), 0..200)) {
        let mut outbox = Outbox::new();
        let (mut wire, mut pushed, mut replies, mut dropped) = (Vec::new(), 0u64, 0usize, 0u64);
        for step in steps {
            match step {
                Step::Reply(octets) => {
                    let line = format!("{{\"result\":\"{}\"}}\n", "z".repeat(octets));
                    replies += usize::from(outbox.push_reply(line.as_bytes()) == Verdict::Queued);
                }
                Step::Event(class, octets) => match outbox.push_event("e", &params(octets), class) {
                    Verdict::Queued => pushed += 1,
                    Verdict::Dropped => {
                        prop_assert_eq!(class, Class::Progress);
                        dropped += 1;
                    }
                    Verdict::Close => {}
                },
                Step::Consume(count) => {
                    let count = count.min(outbox.peek().len());
                    wire.extend_from_slice(&outbox.peek()[..count]);
                    outbox.consume(count);
                }
            }
            prop_assert!(outbox.queued() <= MAX_QUEUED_OCTETS);
            prop_assert!(outbox.octets.capacity() <= 2 * MAX_QUEUED_OCTETS);
        }
        let closed = outbox.closed;
        for _ in 0..2 {
            wire.extend_from_slice(outbox.peek());
            outbox.consume(outbox.queued());
        }
        let (mut seq, mut events, mut answers, mut told) = (0, 0, 0, 0);
        for line in lines(&wire) {
            if line.get("method").is_none() {
                answers += 1;
                continue;
            }
            seq += 1;
            prop_assert_eq!(line["params"]["seq"].as_u64(), Some(seq));
            match line["method"].as_str() {
                Some("events.lost") => told += line["params"]["count"].as_u64().unwrap(),
                _ => events += 1,
            }
        }
        prop_assert_eq!((events, answers), (pushed, replies));
        prop_assert_eq!(outbox.lost_total(), dropped);
        if !closed { prop_assert_eq!(told, dropped); }
    }
}
