//! Helpers that several tests share: recordings on a disk, found files, a catalogue in a folder.

use crate::catalogue::model::{Found, Party, Place};
use crate::catalogue::sqlite::SqliteCatalogue;
use crate::id::hex;
use crate::number::digits;
use crate::site::Site;
use crate::time::rfc3339;
use media::codec::Codec;
use recfile::call::{Call, Direction};
use recfile::header::FileHeader;
use recfile::name::sidecar_name;
use recfile::sidecar::Sidecar;
use sha2::{Digest, Sha256};
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

/// A moment of which the tests are: 2026-11-27, 10:15 UTC.
pub(crate) const NOW_US: i64 = 1_795_774_500_000_000;

/// Says that a test did not run; fails instead where everything has to run (`CI` or
/// `RECORDER_TESTS_REQUIRE_ALL` is set).
pub(crate) fn skip(reason: &str) {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if let Some(name) = ["CI", "RECORDER_TESTS_REQUIRE_ALL"].into_iter().find(is_set) {
        panic!("cannot run: {reason}, and {name} asks for everything");
    }
    eprintln!("SKIPPED: {reason}");
}

/// Whether a program can be called.
pub(crate) fn has_program(name: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(name).is_file())
}

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

pub(crate) async fn catalogue(folder: &Path) -> Arc<SqliteCatalogue> {
    Arc::new(SqliteCatalogue::open(&folder.join("catalogue.sqlite")).await.unwrap())
}

pub(crate) fn site() -> Site {
    Site { zone: jiff::tz::TimeZone::UTC, country_code: Some("49".into()), ..Site::default() }
}

/// A file as a look would have found it.
pub(crate) fn found(number: u32, remote: &str, local: &str) -> Found {
    let party = |number: &str, name: &str| Party {
        number: number.into(),
        digits: digits(number, Some("49")),
        name: name.into(),
    };
    let name = format!("Record_{number}.wav");
    Found {
        place: Place {
            root: "/intake".into(),
            folder: "phone/2026-11-27".into(),
            name,
            octets: 8076,
            modified_ms: 1,
            sidecar_ms: 1,
        },
        device: "phone".into(),
        site: "main".into(),
        source: "uplink",
        recording: format!("r{number}"),
        segment: 1,
        external_id: format!("c{number}"),
        direction: Some(Direction::In),
        remote: party(remote, "Anna Müller"),
        local: party(local, "Desk"),
        codec: "PCMA".into(),
        started_us: NOW_US + i64::from(number) * 1_000_000,
        duration_ms: 1000,
        audio_octets: 8000,
        is_plain: true,
        sha256: Sha256::digest(number.to_be_bytes()).into(),
        gap_ms: 0,
        lost: 0,
        end_reason: "stopped".into(),
        encrypted: false,
        holds: Vec::new(),
    }
}

/// Writes a recording with its sidecar.
pub(crate) fn record(
    folder: &Path,
    name: &str,
    codec: Codec,
    audio: &[u8],
    change: impl FnOnce(&mut Sidecar),
) {
    std::fs::create_dir_all(folder).unwrap();
    let octets = [&FileHeader::new(codec, 20).encode()[..], audio].concat();
    std::fs::write(folder.join(name), octets).unwrap();
    let mut sidecar = Sidecar {
        recording: format!("rec-{name}"),
        file: name.into(),
        codec: codec.name().into(),
        start: rfc3339(crate::clock::now_us() - 60_000_000),
        duration_ms: audio.len() as u64 / 8,
        data_bytes: audio.len() as u64,
        sha256: Some(hex(&Sha256::digest(audio))),
        end_reason: Some("stopped".into()),
        call: Call {
            id: format!("call-{name}"),
            direction: Some(Direction::In),
            remote_number: "+49 30 1234711".into(),
            remote_name: "Anna Müller".into(),
            local_number: "201".into(),
            local_name: "Desk".into(),
            ..Call::default()
        },
        ..Sidecar::default()
    };
    change(&mut sidecar);
    std::fs::write(folder.join(sidecar_name(name)), sidecar.to_json()).unwrap();
}
