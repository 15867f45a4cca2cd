//! A recording that the PBX makes: requests, answers and their consequences.

use crate::agent::clients::answer::Caller;
use crate::agent::recordings::outcome::{Outcome, Then};
use crate::agent::recordings::recording::Recording;
use crate::agent::recordings::recording::by_pbx::{Purpose, Refusal, Step};
use crate::agent::recordings::recording::phase::Phase;
use crate::agent::{Action, Turn};
use crate::api::ending::{Order, TextKey};
use crate::api::error::AgentError;
use crate::api::event::{Event, SipRecord};
use crate::api::reason::Reason;
use std::time::Duration;

/// Advice if nobody carries the agent's INFO to the PBX.
const SIP_STACK: &str =
    "a SIP stack has to be subscribed to sip.info, send the INFO and tell its answer (sip.info_result)";

/// Refuses a recording by the PBX if there is no SIP stack that can ask for it.
pub(super) fn check_stack(turn: &Turn<'_>) -> Result<(), AgentError> {
    if turn.wants("sip.info") {
        return Ok(());
    }
    let message = "no SIP stack has subscribed to the event sip.info";
    Err(AgentError::new(Reason::NotConfigured).with_message(message).with_advice(SIP_STACK))
}

/// Begins a pause or ends it; answered when the PBX has answered.
pub(super) fn switch(
    it: &mut Recording,
    purpose: Purpose,
    caller: &mut Caller,
    turn: &mut Turn<'_>,
) -> Result<(), AgentError> {
    let Some(sip) = it.destination.as_pbx_mut() else { return Err(Reason::InvalidState.into()) };
    if sip.is_busy() {
        let message = "the PBX has not answered the last request yet";
        return Err(AgentError::new(Reason::InvalidState).with_message(message));
    }
    sip.waiting = caller.defer();
    ask(it, purpose, turn);
    Ok(())
}

/// Ends a recording: now if the PBX does not record, else when it has answered.
pub(super) fn stop(it: &mut Recording, turn: &mut Turn<'_>) -> Then {
    let paused = it.paused.is_some();
    let Some(sip) = it.destination.as_pbx_mut() else { return Then::Nothing };
    if sip.take_back_on() {
        // The PBX refused it and does not record: there is nothing to send.
        let error = AgentError::new(Reason::InvalidState).with_message("it was stopped before it went on");
        if let Some(reply) = sip.waiting.take() {
            reply.err(&error, turn.actions);
        }
        return Then::Remove(Outcome::Ended);
    }
    if sip.is_busy() {
        sip.stop_wanted = true;
    } else if paused {
        return Then::Remove(Outcome::Ended);
    } else {
        ask(it, Purpose::Stop, turn);
    }
    Then::Nothing
}

/// The phone's SIP stack reports the answer of the PBX. A repetition, if any, comes after `retry_after`.
pub(super) fn answered(
    it: &mut Recording,
    code: u16,
    retry_after: Duration,
    turn: &mut Turn<'_>,
) -> Result<Then, AgentError> {
    let Some(sip) = it.destination.as_pbx_mut() else { return Err(Reason::InvalidState.into()) };
    let step = sip.answered(code, retry_after, turn.now.mono);
    Ok(step.map_or(Then::Nothing, |step| take_step(it, step, turn)))
}

/// Time has passed.
pub(in crate::agent) fn tick(it: &mut Recording, turn: &mut Turn<'_>) -> Then {
    let step = it.destination.as_pbx_mut().and_then(|sip| sip.timer(turn.now.mono));
    step.map_or(Then::Nothing, |step| take_step(it, step, turn))
}

/// Sends an INFO.
pub(super) fn ask(it: &mut Recording, purpose: Purpose, turn: &mut Turn<'_>) {
    let sip = it.destination.as_pbx_mut();
    if let Some(record) = sip.and_then(|sip| sip.ask(purpose, turn.now.mono)) {
        emit_sip_info(it, record, turn);
    }
}

fn emit_sip_info(it: &Recording, record: SipRecord, turn: &mut Turn<'_>) {
    turn.emit(&Event::SipInfo { recording: it.id.clone(), call: it.call.clone(), record });
}

fn take_step(it: &mut Recording, step: Step, turn: &mut Turn<'_>) -> Then {
    match step {
        Step::Send(record) => emit_sip_info(it, record, turn),
        Step::Done(purpose) => return done(it, purpose, turn),
        Step::Failed(purpose, refusal) => return failed(it, purpose, refusal, turn),
    }
    Then::Nothing
}

fn done(it: &mut Recording, purpose: Purpose, turn: &mut Turn<'_>) -> Then {
    let live = it.is_live();
    let Some(sip) = it.destination.as_pbx_mut() else { return Then::Nothing };
    let records = matches!(purpose, Purpose::Start | Purpose::Resume);
    sip.run(records, turn.now.mono);
    let (waiting, stop_wanted) = (sip.waiting.take(), sip.stop_wanted);
    let event: fn(crate::api::status::RecordingStatus) -> Event = match purpose {
        Purpose::Stop => return Then::Remove(Outcome::Ended),
        Purpose::Undo => return undone(it),
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
        (true, true) => ask(it, Purpose::Stop, turn),
        (true, false) => return Then::Remove(Outcome::Ended),
        (false, _) => {}
    }
    Then::Nothing
}

fn failed(it: &mut Recording, purpose: Purpose, refusal: Refusal, turn: &mut Turn<'_>) -> Then {
    let start = it.waiting.take();
    let Some(sip) = it.destination.as_pbx_mut() else { return Then::Nothing };
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
                    "ask the administrator of the PBX whether this phone may record; the code is the PBX's own",
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
        (Purpose::Undo, _) => return undone(it),
        (Purpose::Start, refusal) => {
            sip.discard = !stop_wanted;
            turn.actions.push(Action::Log(log::Level::Warn, format!("no recording: {error}")));
            match refusal {
                Refusal::CallGone => it.end_for(Order::CallGone.into()),
                Refusal::Because(reason, detail) => it.fail_for(reason, None, detail),
            }
            it.phase.stop();
            if !unsure {
                return undone(it);
            }
            ask(it, Purpose::Undo, turn);
        }
        (_, Refusal::CallGone) => {
            if it.is_live() {
                it.end_for(Order::CallGone.into());
            }
            return Then::Remove(Outcome::Ended);
        }
        (Purpose::Stop, Refusal::Because(reason, detail)) => {
            return Then::Remove(Outcome::PeerFailed(reason, detail));
        }
        (Purpose::Resume, _) if unsure => ask(it, Purpose::Undo, turn),
        (Purpose::Resume, _) if stop_wanted => return Then::Remove(Outcome::Ended),
        (Purpose::Pause, _) if stop_wanted => ask(it, Purpose::Stop, turn),
        (Purpose::Resume | Purpose::Pause, _) => {}
    }
    Then::Nothing
}

/// The PBX does not record, as far as that can be ensured: completes a pending end.
fn undone(it: &mut Recording) -> Then {
    if it.destination.as_pbx_mut().is_some_and(|sip| sip.discard) {
        Then::Remove(Outcome::Discarded)
    } else if it.is_live() {
        Then::Nothing
    } else {
        Then::Remove(Outcome::Ended)
    }
}
