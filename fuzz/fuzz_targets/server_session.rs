//! Anything that a phone could send to the server: each granted recording is finished once, close comes last.
#![no_main]

use libfuzzer_sys::{arbitrary, fuzz_target};
use media::time::Mono;
use std::time::Duration;
use uplink::message::Outcome;
use uplink::message::extension::{Asked, Granted};
use uplink::server::{Action, EndReason, Session, Timing};

#[derive(arbitrary::Arbitrary, Debug)]
enum Step<'a> {
    Says(&'a [u8]),
    Waits { ms: u16, refuse: bool },
    SendsRtp,
    Stop,
    Leaves,
}

fuzz_target!(|steps: Vec<Step<'_>>| {
    let seconds = Duration::from_secs;
    let timing = Timing { start_within: seconds(10), idle: Some(seconds(60)), stop_answer: seconds(2) };
    let mut session = Session::new(timing, Mono::default());
    let (mut now, mut refuse) = (Mono::default(), false);
    let (mut open, mut closed) = (0_u32, false);
    for step in steps {
        let mut out = Vec::new();
        match step {
            Step::Says(text) => session.received(text, now, &mut out),
            Step::Waits { ms, refuse: refuses } => {
                refuse = refuses;
                now = now + Duration::from_millis(ms.into());
                session.timer(now, &mut out);
            }
            Step::SendsRtp => session.media(now),
            Step::Stop => session.stop(EndReason::DiskFull, now, &mut out),
            Step::Leaves => session.peer_closed(now, &mut out),
        }
        let mut queue = std::collections::VecDeque::from(out);
        while let Some(action) = queue.pop_front() {
            assert!(!closed, "something follows close: {action:?}");
            let mut more = Vec::new();
            match action {
                Action::Open(_) if refuse => session.refused("no", now, &mut more),
                Action::Open(opening) => {
                    open += 1;
                    let granted = |asked: Asked| Granted { next: asked.from, resume: "token".into() };
                    session.granted("", 20_000, opening.extension.map(granted), now, &mut more);
                }
                Action::Finish { .. } | Action::Detach => {
                    open = open.checked_sub(1).expect("finished without being open");
                }
                Action::FinishAfter { items, .. } => {
                    open = open.checked_sub(1).expect("finished without being open");
                    let outcome = if items % 2 == 0 { Outcome::Success } else { Outcome::Failed };
                    session.finished(outcome, now, &mut more);
                }
                Action::Close => closed = true,
                Action::Send(_) => {}
            }
            queue.extend(more);
        }
    }
    if session.is_closed() {
        assert_eq!(open, 0, "a recording was never finished");
    }
});
