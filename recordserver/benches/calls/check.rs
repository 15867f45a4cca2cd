//! The payload of test packets, and the comparison of files with it.

use recfile::header::{FileHeader, HEADER_OCTETS};
use recfile::sidecar::{Sidecar, SidecarState};
use std::io;
use std::path::{Path, PathBuf};

/// Octets of audio in a packet: 20 ms of G.711.
pub(crate) const FRAME_OCTETS: usize = 160;

/// Troubles that are printed.
const MAX_TROUBLES: usize = 10;

pub(crate) struct Found {
    /// Calls of which every octet is there.
    pub(crate) complete: usize,
    /// Packets that are not where they belong.
    pub(crate) missing: u64,
    pub(crate) trouble: Vec<String>,
}

/// The audio of one packet: its call, its number, and octets that follow from both.
pub(crate) fn fill(frame: &mut [u8], call: u32, number: u32) {
    frame[..4].copy_from_slice(&call.to_be_bytes());
    frame[4..8].copy_from_slice(&number.to_be_bytes());
    let mut state = u64::from(call) << 32 | u64::from(number) | 1;
    for octets in frame[8..].chunks_exact_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        octets.copy_from_slice(&(state ^ state >> 29).to_be_bytes());
    }
}

/// Compares every file below `folder` to the packets that its call sent.
pub(crate) fn check(folder: &Path, calls: usize, packets: u32) -> io::Result<Found> {
    let mut found = Found { complete: 0, missing: 0, trouble: Vec::new() };
    for call in 0..calls {
        let device = folder.join("rec").join(format!("phone{call}"));
        let (missing, trouble) = match one_recording(&device) {
            Ok(path) => check_call(&path, u32::try_from(call).map_err(io::Error::other)?, packets)?,
            Err(error) => (u64::from(packets), Some(error.to_string())),
        };
        found.missing += missing;
        match trouble {
            None if missing == 0 => found.complete += 1,
            None => {}
            Some(text) if found.trouble.len() < MAX_TROUBLES => {
                found.trouble.push(format!("call {call}: {text}"));
            }
            Some(_) => {}
        }
    }
    Ok(found)
}

fn check_call(path: &Path, call: u32, packets: u32) -> io::Result<(u64, Option<String>)> {
    let file = std::fs::read(path)?;
    let sidecar = Sidecar::parse(&std::fs::read(path.with_extension("json"))?).map_err(io::Error::other)?;
    let mut want = [0; FRAME_OCTETS];
    let mut frames = file.get(HEADER_OCTETS..).unwrap_or_default().chunks_exact(FRAME_OCTETS);
    let mut missing = 0;
    for number in 0..packets {
        fill(&mut want, call, number);
        missing += u64::from(frames.next() != Some(&want[..]));
    }
    let data = u64::from(packets) * FRAME_OCTETS as u64;
    let header = FileHeader::parse(&file).map_err(|error| io::Error::other(error.to_string()))?;
    let trouble = if file.len() as u64 != HEADER_OCTETS as u64 + data || u64::from(header.data_size) != data {
        Some(format!("{} octets, dataSize {}, instead of {data}", file.len(), header.data_size))
    } else if sidecar.state != SidecarState::Ended || sidecar.packets.received != u64::from(packets) {
        Some(format!("sidecar: {:?} {:?} {:?}", sidecar.state, sidecar.end_reason, sidecar.packets))
    } else if missing > 0 {
        Some(format!("{missing} packets missing, {:?}", sidecar.packets))
    } else {
        None
    };
    Ok((missing, trouble))
}

/// The only recording of a device.
fn one_recording(device: &Path) -> io::Result<PathBuf> {
    let mut found = Vec::new();
    for day in std::fs::read_dir(device)? {
        for entry in std::fs::read_dir(day?.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "wav") {
                found.push(path);
            }
        }
    }
    match (found.pop(), found.len()) {
        (Some(path), 0) => Ok(path),
        (_, more) => Err(io::Error::other(format!("{} recordings instead of one", more + 1))),
    }
}
