//! One recording that the PBX makes, asked for by SIP INFO with the header field `Record`.
//!
//! Owns: which INFO is under way, the meaning of its answer, time-outs, the one repetition after 491, and
//! recorded time (by the clock: no audio is seen). Never: the dialog; the phone's SIP stack has it.
//! Invariants: one INFO at a time; `on` is not sent again before an `off`, because PBXs toggle.

use crate::agent::clients::answer::PendingReply;
use crate::api::event::SipRecord;
use crate::api::reason::Reason;
use media::time::Mono;
use std::time::Duration;

/// An INFO that has no final answer after this counts as timed out.
pub(in crate::agent) const ANSWER_AFTER: Duration = Duration::from_secs(5);

/// The purpose of an INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Purpose {
    Start,
    Pause,
    Resume,
    Stop,
    /// Nobody knows whether an `on` got through: an `off` makes sure that the PBX does not record on.
    Undo,
}

impl Purpose {
    fn record(self) -> SipRecord {
        match self {
            Self::Start | Self::Resume => SipRecord::On,
            Self::Pause | Self::Stop | Self::Undo => SipRecord::Off,
        }
    }
}

/// Why an INFO had no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Refusal {
    /// The PBX knows no such call any more.
    CallGone,
    /// Anything else, with the PBX's answer.
    Because(Reason, String),
}

/// The consequence of an answer or of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Step {
    /// Send this INFO.
    Send(SipRecord),
    /// The PBX took it.
    Done(Purpose),
    /// It did not.
    Failed(Purpose, Refusal),
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Sent; `repeated` after a 491.
    Asked { repeated: bool },
    /// To be sent again at the deadline.
    Waiting,
}

#[derive(Clone, Copy, Debug)]
struct Transaction {
    purpose: Purpose,
    phase: Phase,
    deadline: Mono,
}

/// The state of one recording by the PBX.
#[derive(Debug, Default)]
pub(in crate::agent) struct ByPbx {
    transaction: Option<Transaction>,
    /// To be stopped as soon as the PBX has answered.
    pub(in crate::agent) stop_wanted: bool,
    /// It never began: nothing is told of its end.
    pub(in crate::agent) discard: bool,
    /// The reply owed to a pause or resume.
    pub(in crate::agent) waiting: Option<PendingReply>,
    recorded: Duration,
    running_since: Option<Mono>,
    seen: Mono,
}

impl ByPbx {
    /// Begins an INFO and returns its command; `None` while another one has no answer.
    pub(in crate::agent) fn ask(&mut self, purpose: Purpose, now: Mono) -> Option<SipRecord> {
        if self.transaction.is_some() {
            return None;
        }
        let phase = Phase::Asked { repeated: false };
        self.transaction = Some(Transaction { purpose, phase, deadline: now + ANSWER_AFTER });
        Some(purpose.record())
    }

    /// Whether an INFO has no answer yet.
    pub(in crate::agent) fn is_busy(&self) -> bool {
        self.transaction.is_some()
    }

    /// Drops an `on` that the PBX has answered with 491 and that would be sent once more; whether there was
    /// one.
    pub(in crate::agent) fn take_back_on(&mut self) -> bool {
        let waits = self.transaction.is_some_and(|transaction| {
            matches!(transaction.phase, Phase::Waiting) && transaction.purpose.record() == SipRecord::On
        });
        if waits {
            self.transaction = None;
        }
        waits
    }

    /// When [`timer`](Self::timer) is due.
    pub(in crate::agent) fn deadline(&self) -> Option<Mono> {
        self.transaction.map(|transaction| transaction.deadline)
    }

    /// The final answer to the INFO under way; `None` if there is none or another answer follows.
    /// After 491 it is repeated in `retry_after`.
    pub(in crate::agent) fn answered(&mut self, code: u16, retry_after: Duration, now: Mono) -> Option<Step> {
        let transaction = self.transaction.as_mut()?;
        match (code, transaction.phase) {
            // A second answer to the one that is to be repeated.
            (_, Phase::Waiting) => return None,
            (491, Phase::Asked { repeated: false }) => {
                transaction.phase = Phase::Waiting;
                transaction.deadline = now + retry_after;
                return None;
            }
            _ => {}
        }
        let purpose = transaction.purpose;
        self.transaction = None;
        Some(match refusal(code) {
            None => Step::Done(purpose),
            Some(refusal) => Step::Failed(purpose, refusal),
        })
    }

    /// Time has passed; does nothing if nothing is due.
    pub(in crate::agent) fn timer(&mut self, now: Mono) -> Option<Step> {
        let transaction = self.transaction.as_mut().filter(|transaction| transaction.deadline <= now)?;
        let purpose = transaction.purpose;
        match transaction.phase {
            Phase::Waiting => {
                transaction.phase = Phase::Asked { repeated: true };
                transaction.deadline = now + ANSWER_AFTER;
                Some(Step::Send(purpose.record()))
            }
            Phase::Asked { .. } => {
                self.transaction = None;
                let detail = "no answer to the SIP INFO in 5 s".to_owned();
                Some(Step::Failed(purpose, Refusal::Because(Reason::ServerTimeout, detail)))
            }
        }
    }

    /// The clock of recorded time runs, or stands.
    pub(in crate::agent) fn run(&mut self, runs: bool, now: Mono) {
        self.see(now);
        if let Some(since) = self.running_since.take() {
            self.recorded += now.since(since);
        }
        self.running_since = runs.then_some(now);
    }

    /// The time, for [`recorded_ms`](Self::recorded_ms).
    pub(in crate::agent) fn see(&mut self, now: Mono) {
        self.seen = now;
    }

    /// Recorded time, pauses left out.
    pub(in crate::agent) fn recorded_ms(&self) -> u64 {
        let running = self.running_since.map_or(Duration::ZERO, |since| self.seen.since(since));
        u64::try_from((self.recorded + running).as_millis()).unwrap_or(u64::MAX)
    }
}

/// The meaning of a final SIP status code; `None`: the PBX took the request.
fn refusal(code: u16) -> Option<Refusal> {
    let reason = match code {
        200..=299 => return None,
        481 => return Some(Refusal::CallGone),
        405 | 415 | 469 | 489 | 501 => Reason::UnsupportedByServer,
        408 => Reason::ServerTimeout,
        _ => Reason::ServerRefused,
    };
    Some(Refusal::Because(reason, format!("SIP {code}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LATER: Duration = Duration::from_millis(2100);

    fn at(ms: u64) -> Mono {
        Mono::new(Duration::from_millis(ms))
    }

    fn because(reason: Reason, code: u16) -> Option<Refusal> {
        Some(Refusal::Because(reason, format!("SIP {code}")))
    }

    #[test]
    fn status_codes_become_reasons() {
        assert_eq!(refusal(200), None);
        assert_eq!(refusal(202), None);
        assert_eq!(refusal(403), because(Reason::ServerRefused, 403));
        assert_eq!(refusal(408), because(Reason::ServerTimeout, 408));
        assert_eq!(refusal(481), Some(Refusal::CallGone));
        for code in [405, 415, 469, 489, 501] {
            assert_eq!(refusal(code), because(Reason::UnsupportedByServer, code));
        }
        assert_eq!(refusal(603), because(Reason::ServerRefused, 603));
    }

    #[test]
    fn a_pending_request_is_repeated_once_after_a_moment() {
        let mut sip = ByPbx::default();
        assert_eq!(sip.ask(Purpose::Start, at(0)), Some(SipRecord::On));
        assert_eq!(sip.answered(491, LATER, at(100)), None);
        assert_eq!(sip.timer(at(2199)), None);
        assert_eq!(sip.timer(at(2200)), Some(Step::Send(SipRecord::On)));
        let refused = Step::Failed(Purpose::Start, because(Reason::ServerRefused, 491).unwrap());
        assert_eq!(sip.answered(491, LATER, at(2300)), Some(refused));
        assert!(!sip.is_busy());
    }

    #[test]
    fn only_an_on_that_waits_to_be_sent_again_is_taken_back() {
        for (purpose, taken) in [(Purpose::Start, true), (Purpose::Resume, true), (Purpose::Stop, false)] {
            let mut sip = ByPbx::default();
            sip.ask(purpose, at(0));
            assert!(!sip.take_back_on(), "it is on its way");
            sip.answered(491, LATER, at(100));
            assert_eq!((sip.take_back_on(), sip.is_busy()), (taken, !taken), "{purpose:?}");
        }
    }

    #[test]
    fn without_an_answer_it_times_out_after_five_seconds() {
        let mut sip = ByPbx::default();
        sip.ask(Purpose::Stop, at(0));
        assert_eq!(sip.deadline(), Some(at(5000)));
        assert_eq!(sip.timer(at(4999)), None);
        let Some(Step::Failed(Purpose::Stop, Refusal::Because(Reason::ServerTimeout, _))) =
            sip.timer(at(5000))
        else {
            panic!("no time-out");
        };
        assert_eq!(sip.answered(200, LATER, at(5001)), None);
    }

    #[test]
    fn recorded_time_leaves_pauses_out() {
        let mut sip = ByPbx::default();
        sip.run(true, at(1000));
        sip.see(at(1500));
        assert_eq!(sip.recorded_ms(), 500);
        sip.run(false, at(2000));
        sip.see(at(9000));
        assert_eq!(sip.recorded_ms(), 1000);
        sip.run(true, at(9000));
        sip.see(at(9250));
        assert_eq!(sip.recorded_ms(), 1250);
    }

    proptest! {
        #[test]
        fn there_is_never_more_than_one_request_under_way(
            steps in prop::collection::vec((0..3u8, 200..700u16, 0..6000u64), 0..60),
        ) {
            let mut sip = ByPbx::default();
            let (mut now, mut open) = (0, false);
            for (step, code, ms) in steps {
                now += ms;
                match step {
                    0 => {
                        prop_assert_eq!(sip.ask(Purpose::Start, at(now)).is_some(), !open);
                        open = true;
                    }
                    1 => {
                        if let Some(Step::Done(_) | Step::Failed(..)) = sip.answered(code, LATER, at(now)) {
                            prop_assert!(open);
                            open = false;
                        }
                    }
                    _ => {
                        if let Some(Step::Failed(..)) = sip.timer(at(now)) {
                            prop_assert!(open);
                            open = false;
                        }
                    }
                }
                prop_assert_eq!(sip.is_busy(), open);
            }
        }
    }
}
