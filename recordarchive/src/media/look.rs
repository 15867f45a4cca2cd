//! A look at one file: its kind, its hash, and the fields of its sidecar.
//!
//! Invariants: links are not followed; times, sizes and texts from a sidecar are forced into limits; a file
//! that is being written is left for later.

use super::vault::Media;
use crate::catalogue::model::{Decision, Found, Party, Place, plain_name};
use crate::id::Id;
use crate::live::Running;
use crate::number::digits;
use crate::site::Site;
use crate::time;
use recfile::call::MAX_CALL_FIELD_CHARS;
use recfile::format::Layout;
use recfile::header::{FileHeader, HEADER_OCTETS, HeaderError};
use recfile::name::{order_key, sidecar_name};
use recfile::reader::{ReadError, Reader};
use recfile::seal::age::Identity;
use recfile::sidecar::{Hold, MAX_SIDECAR_OCTETS, Sidecar, SidecarState};
use recfile::text::kept;
use sha2::{Digest, Sha256};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use store::fs::{Fs, RealFs};

/// Holds of a sidecar that are taken in.
const MAX_HOLDS: usize = 100;

/// The result of a look.
#[derive(Debug)]
pub(crate) enum Look {
    /// A recording.
    Found(Box<Found>),
    /// It is being written.
    Busy,
    /// It is not there any more.
    Gone,
    /// It can't be taken, and why.
    Broken(String),
}

/// Name, length and times of a file and its sidecar as they are now.
pub(crate) fn place(root: &Path, folder: &str, name: &str) -> io::Result<Place> {
    let path = root.join(folder).join(name);
    let file = std::fs::symlink_metadata(&path)?;
    let modified = |found: &std::fs::Metadata| {
        use std::os::unix::fs::MetadataExt;
        found.mtime().saturating_mul(1000).saturating_add(found.mtime_nsec() / 1_000_000)
    };
    let sidecar = std::fs::symlink_metadata(root.join(folder).join(sidecar_name(name)));
    Ok(Place {
        root: root.to_string_lossy().into_owned(),
        folder: folder.to_owned(),
        name: name.to_owned(),
        octets: i64::try_from(file.len()).unwrap_or(i64::MAX),
        modified_ms: modified(&file),
        sidecar_ms: sidecar.ok().as_ref().map_or(0, modified),
    })
}

/// Looks at a file. `source` is where it came from, unless its sidecar knows; `identity` opens one that the
/// archive encrypted.
pub(crate) fn look(
    place: Place,
    site: &Site,
    source: Option<&'static str>,
    identity: Option<&Identity>,
) -> Look {
    match try_look(place, site, source, identity) {
        Ok(look) => look,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Look::Gone,
        Err(error) => Look::Broken(format!("it can't be read: {error}")),
    }
}

fn try_look(
    place: Place,
    site: &Site,
    source: Option<&'static str>,
    identity: Option<&Identity>,
) -> io::Result<Look> {
    let path = super::path(&place);
    let file = RealFs.open_read(&path)?;
    // A writer keeps its lock until the file is whole. A filesystem without locks has no writers but one.
    if RealFs.lock(&file).is_ok_and(|free| !free) {
        return Ok(Look::Busy);
    }
    let _ = RealFs.unlock(&file);
    let media = match identity {
        _ if !place.is_encrypted() => Media::Plain(file),
        Some(identity) => Media::encrypted(file, identity)?,
        None => {
            let lost = "it is encrypted, and its key is not in the catalogue: it was deleted, or is of another archive";
            return Ok(Look::Broken(lost.into()));
        }
    };
    let octets = media.len()?;
    let sidecar = match sidecar(&path, &place.name) {
        Ok(sidecar) => sidecar,
        Err(reason) => return Ok(Look::Broken(reason)),
    };
    let number = |octets: u64| i64::try_from(octets).unwrap_or(i64::MAX);
    let has_sidecar = sidecar.is_some();
    let mut said = sidecar.unwrap_or_default();
    if has_sidecar && said.state == SidecarState::Recording && HEADER_OCTETS as u64 >= octets {
        return Ok(Look::Busy);
    }
    let mut media = media;
    let facts = match Reader::open(&mut media) {
        Ok(reader) => Some(reader.facts().clone()),
        Err(ReadError::Header(HeaderError::Encrypted(_))) => None,
        Err(ReadError::Header(error)) => return Ok(Look::Broken(error.to_string())),
        Err(ReadError::Io(error)) => return Err(error),
    };
    let (codec, audio_octets, duration_ms, is_plain, hashed) = match &facts {
        Some(facts) => {
            let audio = facts.frames.saturating_mul(u64::from(facts.frame_octets));
            let is_plain = facts.layout == Layout::PayloadOnly;
            (facts.codec.name().to_owned(), audio, facts.duration_ms, is_plain, facts.data_octets)
        }
        // Only the sidecar tells the codec and length of the plain audio; the hash is of the encrypted file.
        None => (text(&said.codec), said.data_bytes, said.duration_ms, false, u64::MAX),
    };
    let sha256 = hash(&mut media, hashed)?;
    if let (Some(facts), Some(said_hash)) = (&facts, &said.sha256)
        && said.data_bytes == facts.data_octets
        && !said_hash.eq_ignore_ascii_case(&crate::id::hex(&sha256))
    {
        return Ok(Look::Broken("its audio is not the recorded one: the hash in its sidecar differs".into()));
    }
    let device = device(&place);
    let from_server = said.peer.is_some() || !device.is_empty();
    if said.recording.is_empty() {
        said.recording = format!("sha256:{}", crate::id::hex(&sha256));
    }
    Ok(Look::Found(Box::new(Found {
        started_us: started(&place, &said, site),
        source: source.unwrap_or(if from_server { "uplink" } else { "phone-usb" }),
        device,
        site: site.name.clone(),
        recording: text(&said.recording),
        segment: said.segment.max(1),
        external_id: text(&said.call.id),
        direction: said.call.direction,
        remote: party(&said.call.remote_number, &said.call.remote_name, site),
        local: party(&said.call.local_number, &said.call.local_name, site),
        codec,
        duration_ms: number(duration_ms),
        audio_octets: number(audio_octets),
        is_plain,
        sha256,
        gap_ms: number(said.gap_ms_total),
        lost: number(said.packets.lost),
        end_reason: text(said.end_reason.as_deref().unwrap_or_default()),
        encrypted: facts.is_none(),
        holds: said.holds.iter().take(MAX_HOLDS).filter_map(decision).collect(),
        place,
    })))
}

/// The recording that is being written to a file, if it is. `is_told`: its recorder says so. One that is
/// `is_young` is locked by its recorder, or about to be: its lock is not tried unless its sidecar is there,
/// which comes later.
pub(crate) fn running(place: &Place, site: &Site, is_told: bool, is_young: bool) -> Option<Running> {
    let path = super::path(place);
    let said = sidecar(&path, &place.name).ok()?;
    if said.as_ref().is_some_and(|said| said.state != SidecarState::Recording) || place.octets == 0 {
        return None;
    }
    let file = RealFs.open_read(&path).ok()?;
    if !is_told {
        if said.is_none() && is_young {
            return None;
        }
        let is_free = RealFs.lock(&file).unwrap_or(true);
        if is_free {
            let _ = RealFs.unlock(&file);
            return None;
        }
    }
    let mut head = [0; HEADER_OCTETS];
    (&file).read_exact(&mut head).ok()?;
    let codec = FileHeader::parse(&head).ok().map(|header| header.codec);
    let said = said.unwrap_or_default();
    let recording = if said.recording.is_empty() { place.name.clone() } else { text(&said.recording) };
    let (device, started_us) = (device(place), started(place, &said, site));
    let remote = party(&said.call.remote_number, &said.call.remote_name, site);
    let local = party(&said.call.local_number, &said.call.local_name, site);
    Some(Running {
        id: Id::derived(started_us, &[device.as_bytes(), recording.as_bytes()]),
        external_id: text(&said.call.id),
        recording,
        device,
        site: site.name.clone(),
        extension: local.extension().to_owned(),
        direction: said.call.direction,
        remote,
        local,
        codec: codec.map_or_else(|| text(&said.codec), |codec| codec.name().to_owned()),
        started_us,
        file: place.clone(),
        segment: said.segment.max(1),
        encrypted: codec.is_none(),
        told: None,
    })
}

fn party(number: &str, name: &str, site: &Site) -> Party {
    Party { digits: digits(number, site.country_code.as_deref()), number: text(number), name: text(name) }
}

/// A hold of a sidecar; a hold without an id of the archive's form is none.
fn decision(hold: &Hold) -> Option<Decision> {
    Some(Decision {
        id: Id::parse(&hold.id)?.to_string(),
        name: text(&hold.name),
        reference: text(&hold.reference),
        reason: text(&hold.reason),
        by: text(&hold.placed_by),
        placed_us: time::parse(&hold.placed).unwrap_or(0),
    })
}

fn text(said: &str) -> String {
    kept(said, MAX_CALL_FIELD_CHARS).text
}

/// The sidecar of the file at `path`, if it has one.
pub(crate) fn sidecar(path: &Path, name: &str) -> Result<Option<Sidecar>, String> {
    let beside = path.with_file_name(sidecar_name(name));
    match RealFs.read(&beside, MAX_SIDECAR_OCTETS + 1) {
        Ok(json) => Sidecar::parse(&json).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("its sidecar can't be read: {error}")),
    }
}

/// The phone of a file in `DEVICE/YYYY-MM-DD`, as the server lays them out.
pub(crate) fn device(place: &Place) -> String {
    let parts: Vec<&str> = place.folder.split('/').collect();
    match parts.as_slice() {
        [device, day] if day.len() == 10 && day.parse::<jiff::civil::Date>().is_ok() => text(device),
        _ => String::new(),
    }
}

fn started(place: &Place, said: &Sidecar, site: &Site) -> i64 {
    let stamp = || {
        let (stem, _) = order_key(plain_name(&place.name));
        time::of_stamp(stem.get("Record_".len()..)?, &site.zone)
    };
    // No call has a time before 1970 or far ahead.
    let limit = time::DAY_US * 365 * 200;
    let known = time::parse(&said.start).or_else(stamp).unwrap_or(place.modified_ms.saturating_mul(1000));
    known.clamp(0, limit)
}

/// SHA-256 of the octets behind the header, at most `limit`.
pub(crate) fn hash(media: &mut Media, limit: u64) -> io::Result<[u8; 32]> {
    media.seek(SeekFrom::Start(HEADER_OCTETS as u64))?;
    let mut hash = Sha256::new();
    let mut rest = media.take(limit);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match rest.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// The hash of a file that is in the catalogue, as it is now.
pub(crate) fn hash_again(mut media: Media) -> io::Result<[u8; 32]> {
    let limit = match Reader::open(&mut media) {
        Ok(reader) => reader.facts().data_octets,
        Err(ReadError::Io(error)) => return Err(error),
        Err(ReadError::Header(_)) => u64::MAX,
    };
    hash(&mut media, limit)
}
