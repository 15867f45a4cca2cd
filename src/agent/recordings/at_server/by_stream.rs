//! Media by TCP to a server with the extension: the consequences of what happens to it.

use super::give;
use crate::agent::recordings::outcome::Then;
use crate::agent::recordings::recording::Recording;
use crate::agent::recordings::recording::to_server::media_link::MediaLink;
use crate::agent::{Action, RecordingKey, Turn, UplinkAction};
use crate::api::event::Event;
use crate::config::OnFailure;
use log::Level as LogLevel;
use media::blocks::BlockPool;
use media::counts::Counts;
use media::recorder::StreamRecorder;
use media::source_lock::Waiting;
use media::time::Mono;
use std::net::SocketAddr;
use std::time::Duration;
use uplink::message::extension::Granted;
use uplink::phone::Generation;

/// Keeps packets until the server has them.
pub(in crate::agent) fn keep(
    it: &mut Recording,
    released: Option<&Waiting>,
    this: Option<(&[u8], Mono)>,
    pool: &mut BlockPool,
) {
    let Some(to_server) = it.destination.as_server_mut() else { return };
    let released = released.into_iter().flat_map(Waiting::iter);
    let without_room = released.chain(this).filter(|&(octets, at)| !to_server.take(octets, at, pool)).count();
    it.stream.note_unsent(without_room as u64);
}

/// Hands over the items that may be under way.
pub(super) fn flush(it: &mut Recording, key: RecordingKey, turn: &mut Turn<'_>) {
    let Some(to_server) = it.destination.as_server_mut() else { return };
    let Some(link) = &mut to_server.link else { return };
    while let Some(batch) = link.next_batch() {
        turn.actions.push(Action::Uplink(key, UplinkAction::SendMedia(batch)));
    }
}

/// All packets that have arrived were taken: they go on, or wait as long as there is room.
pub(in crate::agent) fn drained(it: &mut Recording, key: RecordingKey, turn: &mut Turn<'_>) -> Then {
    flush(it, key, turn);
    check_room(it, turn)
}

/// The memory for a server that is gone is almost used up: the recording goes on at the phone, if that is
/// wanted.
fn check_room(it: &mut Recording, turn: &Turn<'_>) -> Then {
    // Nothing more comes to one that ends.
    if !it.is_live() {
        return Then::Nothing;
    }
    let Some(to_server) = it.destination.as_server_mut() else { return Then::Nothing };
    let is_filling = to_server.link.as_ref().is_some_and(|link| link.is_almost_full(turn.pool));
    let goes_local = turn.config.uplink.on_failure == OnFailure::Local;
    if !is_filling || !goes_local || !to_server.client.is_interrupted() {
        return Then::Nothing;
    }
    let waiting_s = to_server.waiting_ms() / 1000;
    Then::TryPhone(format!("the server is still gone, and {waiting_s} s wait for it"))
}

/// The server takes media by TCP, from an item on. Gives the reason if that can't be.
pub(super) fn begin(
    it: &mut Recording,
    key: RecordingKey,
    target: SocketAddr,
    granted: &Granted,
    turn: &mut Turn<'_>,
) -> Option<String> {
    let to_server = it.destination.as_server_mut()?;
    to_server.target = Some(target);
    // The rest is for other recordings, and for packets under way.
    let most = turn.config.storage.buffer_octets / 4 * 3;
    match to_server.links(most).begin(granted) {
        Ok(generation) => {
            let text = format!("recording {}: the audio goes to {target} by TCP", it.id);
            turn.actions.push(Action::Log(LogLevel::Info, text));
            turn.actions.push(Action::Uplink(key, UplinkAction::ConnectMedia(generation, target)));
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

/// The media connection stands.
pub(super) fn connected(it: &mut Recording, key: RecordingKey, generation: Generation, turn: &mut Turn<'_>) {
    let Some(to_server) = it.destination.as_server_mut() else { return };
    if let Some(hello) = to_server.link.as_mut().and_then(|link| link.connected(generation)) {
        to_server.client.media_connected();
        turn.actions.push(Action::Uplink(key, UplinkAction::SendMedia(hello)));
        flush(it, key, turn);
    }
}

/// Acknowledgements came.
pub(super) fn received(it: &mut Recording, key: RecordingKey, octets: &[u8], turn: &mut Turn<'_>) -> Then {
    let Some(to_server) = it.destination.as_server_mut() else { return Then::Nothing };
    let Some(link) = &mut to_server.link else { return Then::Nothing };
    match link.received(octets, turn.pool) {
        Ok(token) => {
            let from = link.outlet().first();
            if let Some(token) = token {
                to_server.client.acknowledged(from, &token);
            }
            flush(it, key, turn);
            Then::Nothing
        }
        Err(error) => {
            let detail = error.to_string();
            give(it, key, turn, |client, now, out| client.media_lost(&detail, now, out))
        }
    }
}

/// The media connection of a generation is gone.
pub(super) fn lost(
    it: &mut Recording,
    key: RecordingKey,
    generation: Generation,
    detail: &str,
    turn: &mut Turn<'_>,
) -> Then {
    let Some(to_server) = it.destination.as_server_mut() else { return Then::Nothing };
    if !to_server.link.as_ref().is_some_and(|link| link.is_meant(generation)) {
        return Then::Nothing;
    }
    give(it, key, turn, |client, now, out| client.media_lost(detail, now, out))
}

/// The server is gone in mid-recording: items wait until it is back.
pub(super) fn interrupted(it: &mut Recording, key: RecordingKey, detail: String, turn: &mut Turn<'_>) {
    let Some(to_server) = it.destination.as_server_mut() else { return };
    if let Some(link) = &mut to_server.link {
        link.cut();
    }
    let waiting_ms = to_server.waiting_ms();
    turn.actions.push(Action::Uplink(key, UplinkAction::CloseMedia));
    let text = format!("recording {}: the server is gone ({detail}), audio waits in memory", it.id);
    turn.actions.push(Action::Log(LogLevel::Warn, text));
    turn.emit(&Event::UplinkDegraded { recording: it.id.clone(), detail, waiting_ms });
}

/// The server is back.
pub(super) fn restored(it: &mut Recording, turn: &mut Turn<'_>) {
    let Some(to_server) = it.destination.as_server_mut() else { return };
    let waiting_ms = to_server.waiting_ms();
    let text = format!("recording {} goes on at the server, {waiting_ms} ms waited for it", it.id);
    turn.actions.push(Action::Log(LogLevel::Info, text));
    turn.emit(&Event::UplinkRestored { recording: it.id.clone(), waiting_ms });
}

/// The sessions are over; if the server said so too, it has all on its disk.
pub(super) fn confirmed(it: &mut Recording, is_confirmed: bool, turn: &mut Turn<'_>) {
    let to_server = it.destination.as_server_mut().filter(|_| is_confirmed);
    if let Some(link) = to_server.and_then(|to_server| to_server.link.as_mut()) {
        link.clear(turn.pool);
    }
}

/// Nothing more goes to the server.
pub(in crate::agent) fn leave(it: &mut Recording, key: RecordingKey, turn: &mut Turn<'_>) {
    let Some(to_server) = it.destination.as_server_mut() else { return };
    let Some(mut link) = to_server.link.take() else { return };
    let lost = link.outlet().items() - link.outlet().due();
    link.clear(turn.pool);
    turn.actions.push(Action::Uplink(key, UplinkAction::CloseMedia));
    if lost > 0 {
        let text = format!("recording {}: {lost} packets may not have reached the server's disk", it.id);
        turn.actions.push(Action::Log(LogLevel::Warn, text));
        it.stream.note_unsent(lost);
    }
}

/// Records the items that the server has not got; their arrivals count from `began`.
pub(super) fn replay(
    stream: &mut StreamRecorder,
    began: Mono,
    link: &mut MediaLink,
    again: &mut Counts,
    pool: &mut BlockPool,
) {
    link.replay(pool, |at_ms, packet, pool| match packet {
        Some(packet) => {
            let arrival = began + Duration::from_millis(at_ms.into());
            stream.replay(packet, arrival, pool, again);
        }
        None => stream.pause(pool),
    });
}
