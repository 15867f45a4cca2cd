//! What the agent does about recordings that the PBX makes: requests, answers and their consequences.

use crate::agent::clients::answer::Caller;
use crate::agent::recordings::recording::Recording;
use crate::agent::recordings::recording::by_pbx::{Purpose, Refusal, Step};
use crate::agent::recordings::recording::destination::Destination;
use crate::agent::recordings::recording::phase::Phase;
use crate::agent::recordings::stop::outcome::Outcome;
use crate::agent::{Action, Parts, RecordingKey, Turn};
use crate::api::ending::{Order, TextKey};
use crate::api::error::AgentError;
use crate::api::event::{Event, SipRecord};
use crate::api::reason::Reason;
use media::time::Now;
use recfile::call::Call;
use std::time::Duration;

/// What to do when nobody carries the agent's words to the PBX.
const SIP_STACK: &str =
    "a SIP stack has to be subscribed to sip.info, send the INFO and tell its answer (sip.info_result)";

impl Parts {
    /// A recording of `call` by the PBX, if there is a SIP stack that can ask for it, and none of this call yet:
    /// PBXs toggle at a second `on`.
    pub(in crate::agent) fn pbx_destination(
        &self,
        call: &Call,
        turn: &Turn<'_>,
    ) -> Result<Destination, AgentError> {
        if !turn.wants("sip.info") {
            let message = "no SIP stack has subscribed to the event sip.info";
            return Err(AgentError::new(Reason::NotConfigured).with_message(message).with_advice(SIP_STACK));
        }
        self.check_one_per_call(&call.id, None)?;
        Ok(Destination::Pbx(Box::default()))
    }

    /// Refuses a second recording of one call by the PBX; `but` is the one that is asked about.
    pub(in crate::agent) fn check_one_per_call(
        &self,
        id: &str,
        but: Option<RecordingKey>,
    ) -> Result<(), AgentError> {
        let same = |it: &Recording| matches!(it.destination, Destination::Pbx(_)) && it.call.id == id;
        match self.recordings.iter().find(|(key, it)| Some(**key) != but && same(it)) {
            None => Ok(()),
            Some((_, it)) => Err(AgentError::new(Reason::InvalidState)
                .with_message("the PBX has been asked to record this call already")
                .with_detail(format!("recording {}", it.id))),
        }
    }

    /// Tells recordings by the PBX what time it is: they have no audio to tell them.
    pub(in crate::agent) fn show_clock(&mut self, now: Now) {
        for sip in self.recordings.values_mut().filter_map(|it| it.destination.as_pbx_mut()) {
            sip.see(now.mono);
        }
    }

    /// Begins a pause or ends it; answered when the PBX has answered.
    pub(in crate::agent) fn switch_pbx(
        &mut self,
        key: RecordingKey,
        purpose: Purpose,
        caller: &mut Caller,
        turn: &mut Turn<'_>,
    ) -> Result<(), AgentError> {
        let it = self.recordings.get_mut(&key).ok_or(Reason::NotFound)?;
        let Some(sip) = it.destination.as_pbx_mut() else { return Err(Reason::InvalidState.into()) };
        if sip.is_busy() {
            let message = "the PBX has not answered the last request yet";
            return Err(AgentError::new(Reason::InvalidState).with_message(message));
        }
        sip.waiting = caller.defer();
        self.ask_pbx(key, purpose, turn);
        Ok(())
    }

    /// Ends a recording: now if the PBX does not record, else when it has answered.
    pub(in crate::agent) fn stop_at_pbx(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let paused = it.paused.is_some();
        let Some(sip) = it.destination.as_pbx_mut() else { return };
        if sip.take_back_on() {
            // The PBX refused it and does not record: nothing is to be sent.
            let error =
                AgentError::new(Reason::InvalidState).with_message("it was stopped before it went on");
            if let Some(reply) = sip.waiting.take() {
                reply.err(&error, turn.actions);
            }
            self.remove(key, Outcome::Ended, turn);
        } else if sip.is_busy() {
            sip.stop_wanted = true;
        } else if paused {
            self.remove(key, Outcome::Ended, turn);
        } else {
            self.ask_pbx(key, Purpose::Stop, turn);
        }
    }

    /// The phone's SIP stack tells what the PBX answered.
    pub(in crate::agent) fn sip_info_result(
        &mut self,
        recording: &str,
        code: u16,
        turn: &mut Turn<'_>,
    ) -> Result<(), AgentError> {
        // RFC 3261, section 14.1: whoever owns the Call-ID waits 2.1 to 4 s, in steps of 10 ms.
        let retry_after = Duration::from_millis(2100 + turn.ids.random() % 191 * 10);
        let found = self.recordings.iter_mut().find(|(_, it)| it.id == recording);
        let Some((&key, it)) = found else {
            let ended = self.ended.iter().any(|status| status.recording == recording);
            return if ended { Ok(()) } else { Err(Reason::NotFound.into()) };
        };
        let Some(sip) = it.destination.as_pbx_mut() else { return Err(Reason::InvalidState.into()) };
        if let Some(step) = sip.answered(code, retry_after, turn.now.mono) {
            self.pbx_step(key, step, turn);
        }
        Ok(())
    }

    pub(in crate::agent) fn pbx_timer(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let sip = self.recordings.get_mut(&key).and_then(|it| it.destination.as_pbx_mut());
        if let Some(step) = sip.and_then(|sip| sip.timer(turn.now.mono)) {
            self.pbx_step(key, step, turn);
        }
    }

    /// Sends an INFO.
    pub(in crate::agent) fn ask_pbx(&mut self, key: RecordingKey, purpose: Purpose, turn: &mut Turn<'_>) {
        let sip = self.recordings.get_mut(&key).and_then(|it| it.destination.as_pbx_mut());
        if let Some(record) = sip.and_then(|sip| sip.ask(purpose, turn.now.mono)) {
            self.emit_sip_info(key, record, turn);
        }
    }

    fn emit_sip_info(&self, key: RecordingKey, record: SipRecord, turn: &mut Turn<'_>) {
        let Some(it) = self.recordings.get(&key) else { return };
        let event = Event::SipInfo { recording: it.id.clone(), call: it.call.clone(), record };
        turn.emit(&event);
    }

    fn pbx_step(&mut self, key: RecordingKey, step: Step, turn: &mut Turn<'_>) {
        match step {
            Step::Send(record) => self.emit_sip_info(key, record, turn),
            Step::Done(purpose) => self.pbx_done(key, purpose, turn),
            Step::Failed(purpose, refusal) => self.pbx_failed(key, purpose, refusal, turn),
        }
    }

    fn pbx_done(&mut self, key: RecordingKey, purpose: Purpose, turn: &mut Turn<'_>) {
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let live = it.is_live();
        let Some(sip) = it.destination.as_pbx_mut() else { return };
        let records = matches!(purpose, Purpose::Start | Purpose::Resume);
        sip.run(records, turn.now.mono);
        let (waiting, stop_wanted) = (sip.waiting.take(), sip.stop_wanted);
        let event: fn(crate::api::status::RecordingStatus) -> Event = match purpose {
            Purpose::Stop => return self.remove(key, Outcome::Ended, turn),
            Purpose::Undo => return self.pbx_undone(key, turn),
            Purpose::Start => Event::RecordingStarted,
            Purpose::Pause => Event::RecordingPaused,
            Purpose::Resume => Event::RecordingResumed,
        };
        it.paused = (!records).then_some(turn.now.mono);
        it.progress_at = turn.now.mono + Duration::from_secs(1);
        if live {
            it.phase = Phase::Running;
        }
        let status = it.status(None, turn.now.mono);
        if let Some(reply) = it.waiting.take() {
            reply.ok(&it.start_answer(), turn.actions);
        }
        if let Some(reply) = waiting {
            reply.ok(&status, turn.actions);
        }
        turn.emit(&event(status));
        match (stop_wanted, records) {
            (true, true) => self.ask_pbx(key, Purpose::Stop, turn),
            (true, false) => self.remove(key, Outcome::Ended, turn),
            (false, _) => {}
        }
    }

    fn pbx_failed(&mut self, key: RecordingKey, purpose: Purpose, refusal: Refusal, turn: &mut Turn<'_>) {
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let start = it.waiting.take();
        let Some(sip) = it.destination.as_pbx_mut() else { return };
        let stop_wanted = sip.stop_wanted;
        let error = match &refusal {
            Refusal::CallGone => AgentError::new(Reason::InvalidState)
                .with_message("the call is gone: the PBX knows it no more")
                .with_detail("SIP 481")
                .with_advice("the call has to be up while it is recorded"),
            Refusal::Because(reason, detail) => {
                let (message, advice) = match reason {
                    Reason::ServerTimeout => ("the PBX did not answer in time", SIP_STACK),
                    Reason::UnsupportedByServer => (
                        "the PBX does not support recording by INFO",
                        "record at the phone or at the recording server (mode local or server)",
                    ),
                    _ => (
                        "the PBX refused",
                        "ask whoever runs the PBX whether this phone may record; the code is the PBX's own",
                    ),
                };
                let error = AgentError::new(*reason).with_message(message).with_detail(detail.clone());
                error.with_advice(advice).with_text(TextKey::of_pbx(*reason))
            }
        };
        for reply in start.into_iter().chain(sip.waiting.take()) {
            reply.err(&error, turn.actions);
        }
        // Whether an unanswered `on` got through is not known.
        let unsure = matches!(refusal, Refusal::Because(Reason::ServerTimeout, _));
        match (purpose, refusal) {
            (Purpose::Undo, _) => self.pbx_undone(key, turn),
            (Purpose::Start, refusal) => {
                sip.discard = !stop_wanted;
                turn.actions.push(Action::Log(log::Level::Warn, format!("no recording: {error}")));
                match refusal {
                    Refusal::CallGone => it.end_for(Order::CallGone.into()),
                    Refusal::Because(reason, detail) => it.fail_for(reason, None, detail),
                }
                it.phase.stop();
                if unsure {
                    return self.ask_pbx(key, Purpose::Undo, turn);
                }
                self.pbx_undone(key, turn);
            }
            (_, Refusal::CallGone) => {
                if it.is_live() {
                    it.end_for(Order::CallGone.into());
                }
                self.remove(key, Outcome::Ended, turn);
            }
            (Purpose::Stop, Refusal::Because(reason, detail)) => {
                self.remove(key, Outcome::PeerFailed(reason, detail), turn)
            }
            (Purpose::Resume, _) if unsure => self.ask_pbx(key, Purpose::Undo, turn),
            (Purpose::Resume, _) if stop_wanted => self.remove(key, Outcome::Ended, turn),
            (Purpose::Pause, _) if stop_wanted => self.ask_pbx(key, Purpose::Stop, turn),
            (Purpose::Resume | Purpose::Pause, _) => {}
        }
    }

    /// The PBX does not record, as far as that can be made sure: ends what was to end.
    fn pbx_undone(&mut self, key: RecordingKey, turn: &mut Turn<'_>) {
        let Some(it) = self.recordings.get_mut(&key) else { return };
        let stopping = !it.is_live();
        let discard = it.destination.as_pbx_mut().is_some_and(|sip| sip.discard);
        if discard {
            self.remove(key, Outcome::Discarded, turn);
        } else if stopping {
            self.remove(key, Outcome::Ended, turn);
        }
    }
}
