//! Recordings of a former run of the server that go on: their files are found by the phone's token.
//!
//! Owns: the search, and the place where a recording goes on. The disk is asked, so the phone's answer comes
//! later. Invariant: each octet of the call is in one file; what the files have beyond the token's place is
//! not written again.

use super::make_room::short;
use super::{Sessions, streams};
use crate::recording::{Front, Mark};
use crate::refusal::Refusal;
use crate::tokens::Place;
use media::time::Now;
use std::collections::BTreeMap;
use store::jobs::server::{FoundRecording, RecordingMark, ServerJob};
use store::jobs::{Fault, Job};
use uplink::message::extension::{Asked, Granted};
use uplink::server::Opening;

/// Searches under way: each may read a day's sidecars of a phone.
const MAX_SEARCHES: usize = 256;

/// A recording that has files.
pub(super) struct Former {
    pub(super) recording: String,
    /// Below the storage folder.
    pub(super) folder: String,
    pub(super) front: Front,
    /// The place that the phone knows to be durable.
    pub(super) durable: Mark,
}

/// The phones that wait for a search, by their connections.
pub(super) type Searches = BTreeMap<usize, (Box<Opening>, Place)>;

/// The result of a search.
pub(super) enum Revival {
    /// The recording goes on already: the phone has asked before.
    Going(Granted),
    /// It begins, or goes on with files.
    Begins(Option<Former>),
    /// It can't be known.
    Refused(Refusal),
}

/// Whether the phone wants to go on with a recording that may have files: they are looked for.
///
/// # Errors
/// They are looked for already, or too many others' are.
pub(super) fn looks_for_files(
    sessions: &mut Sessions,
    token: usize,
    opening: &Opening,
) -> Result<bool, Refusal> {
    let Some(resume) = opening.extension.as_ref().and_then(|asked| asked.resume.as_ref()) else {
        return Ok(false);
    };
    let Some(place) = sessions.streams.place(resume) else {
        log::error!("token_unknown id={:?}: its recording goes on as another one", short(&opening.id));
        return Ok(false);
    };
    // The phone asks again by itself: what it asked before is found by then.
    let is_sought = |(_, sought): &(Box<Opening>, Place)| sought.recording == place.recording;
    if sessions.searches.len() >= MAX_SEARCHES || sessions.searches.values().any(is_sought) {
        return Err(Refusal::Storage);
    }
    let folder = sessions.folder(place.folder.clone());
    let (ask, mark) = (token as u64, place.recording);
    sessions.searches.insert(token, (Box::new(opening.clone()), place));
    sessions.storage.push([Job::Server(ServerJob::Find { ask, folder, mark })]);
    Ok(true)
}

/// The files that were looked for; `None` if the phone has gone.
pub(super) fn found(
    sessions: &mut Sessions,
    ask: u64,
    result: Result<FoundRecording, Fault>,
    now: Now,
) -> Option<(usize, Box<Opening>, Revival)> {
    let token = usize::try_from(ask).ok()?;
    let (opening, place) = sessions.searches.remove(&token)?;
    sessions.conns.get(&token).filter(|conn| !conn.gone && !conn.session.is_closed())?;
    let asked = opening.extension.clone()?;
    let is_it = |id: &str| RecordingMark::of(id) == place.recording;
    let going = sessions.calls.iter().find(|(_, call)| call.tcp().is_some() && is_it(call.recording.id()));
    if let Some(key) = going.map(|(key, _)| key) {
        let granted = streams::take_over(sessions, token, key, now)?;
        return Some((token, opening, Revival::Going(granted)));
    }
    let found = match result {
        Ok(files) => Revival::Begins(former(&opening, &asked, &place, files)),
        Err(fault) => {
            log::error!("storage_fault {:?}", fault.detail);
            Revival::Refused(Refusal::Storage)
        }
    };
    Some((token, opening, found))
}

/// Where a recording with these files goes on; `None` if it begins anew.
fn former(opening: &Opening, asked: &Asked, place: &Place, files: FoundRecording) -> Option<Former> {
    let durable = Mark { item: place.item, segment: place.segment, octets: place.octets };
    let has_none = files.segments.is_empty();
    let was_nothing = place.octets == 0 && place.segment <= 1;
    let id = short(&opening.id);
    let recording = match has_none {
        false => files.recording,
        // It may have had the phone's id, and files that somebody has taken away.
        true if RecordingMark::of(&opening.id) == place.recording => opening.id.clone(),
        true => {
            if !was_nothing {
                log::error!("files_missing id={id:?} folder={:?}: it goes on as another one", place.folder);
            }
            return None;
        }
    };
    let last = files.segments.last().map_or(0, |(segment, _)| *segment);
    let of_place = files.segments.iter().filter(|(segment, _)| *segment >= place.segment);
    let octets: u64 = of_place.map(|(_, octets)| octets).sum();
    let signed = |octets: u64| i64::try_from(octets).unwrap_or(i64::MAX);
    let surplus = if has_none { 0 } else { signed(octets) - signed(place.octets) };
    if surplus < 0 {
        log::error!("audio_missing id={id:?} octets={}: silence takes its place", -surplus);
    }
    if asked.from > place.item {
        log::error!("items_missing id={id:?} first={} from={}", place.item, asked.from);
    }
    // The item before the place shows where the next one belongs, if the phone still has it.
    let primes = asked.from < place.item;
    let next = if primes { place.item - 1 } else { asked.from };
    let segment = if has_none && was_nothing { 1 } else { last.max(place.segment).saturating_add(1) };
    let segment = if !has_none && was_nothing { last.saturating_add(1) } else { segment };
    log::info!("session_continued id={id:?} segment={segment} item={next} surplus={surplus}");
    let front = Front { segment, next, primes, surplus };
    Some(Former { recording, folder: place.folder.clone(), front, durable })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::CallName;
    use media::codec::Codec;
    use recfile::call::Altered;
    use uplink::message::Parties;

    fn front(from: u64, item: u64, (segment, octets): (u32, u64), files: &[(u32, u64)]) -> Option<Front> {
        let opening = Opening {
            id: "7f3a".into(),
            device: "phone".into(),
            altered: Altered::default(),
            parties: Parties::default(),
            direction: None,
            codec: Codec::Pcma,
            extension: None,
        };
        let place = Place {
            call: CallName { run: 1, call: 1 },
            recording: RecordingMark::of("7f3a-other"),
            folder: "phone/2026-03-02".into(),
            item,
            segment,
            octets,
        };
        let recording = if files.is_empty() { String::new() } else { "7f3a-other".into() };
        let files = FoundRecording { recording, segments: files.to_vec() };
        let asked = Asked { from, elapsed_ms: 0, resume: None };
        former(&opening, &asked, &place, files).map(|former| {
            assert_eq!(former.recording, "7f3a-other");
            former.front
        })
    }

    #[test]
    fn a_recording_goes_on_behind_all_of_its_files_with_what_they_have_beyond_the_place_as_surplus() {
        let expected = |segment, next, primes, surplus| Some(Front { segment, next, primes, surplus });
        assert_eq!(front(99, 100, (1, 16_000), &[(1, 16_000)]), expected(2, 99, true, 0));
        assert_eq!(front(99, 100, (1, 16_000), &[(1, 17_600)]), expected(2, 99, true, 1600));
        assert_eq!(front(99, 100, (2, 400), &[(1, 8000), (2, 500), (3, 70)]), expected(4, 99, true, 170));
        assert_eq!(front(99, 100, (1, 16_000), &[(1, 15_000)]), expected(2, 99, true, -1000));
        assert_eq!(front(0, 0, (1, 0), &[(1, 800)]), expected(2, 0, false, 800));
        assert_eq!(front(120, 100, (1, 16_000), &[(1, 16_000)]), expected(2, 120, false, 0));
    }

    #[test]
    fn a_recording_without_files_begins_anew() {
        assert_eq!(front(0, 0, (1, 0), &[]), None);
        assert_eq!(front(99, 100, (1, 16_000), &[]), None);
    }
}
