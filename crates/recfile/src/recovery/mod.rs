//! Recovery of a recording that was cut off: facts about one file in, steps out.
//!
//! Owns: the decision alone; the caller, who has the file, carries the steps out ([`Patch`], [`apply`]).
//! Steps may be interrupted and repeated: audio is made whole first, the header second, the sidecar (which
//! marks the work as done) last. Audio octets are never changed, and never dropped but for a frame that can't
//! be filled up. A cut-off last frame is filled with the codec's silence rather than cut away: up to a frame
//! of audio is kept, and the silence fills time in which audio was lost anyway.

use crate::format::{Format, Layout};
use crate::header::{ByteOrder, DATA_SIZE_OFFSET, FileHeader, HEADER_OCTETS, HeaderError, MAX_FILE_OCTETS};
use crate::packets::RTP_HEADER_OCTETS;
use crate::sealed::{self, Front, Progress};
use crate::sidecar::{Sidecar, SidecarState};
use media::codec::Codec;
use std::fmt;
use std::io;

/// Reason that a recovered sidecar gives for its end: nobody was there to note the real one.
pub const END_REASON_INTERRUPTED: &str = "interrupted";

/// Chunks of an encrypted file behind its last flush that the agent follows: more than any cut leaves. A
/// person waits.
const MAX_CHUNKS: [(Mode, u32); 2] = [(Mode::Automatic, 16 * 1024), (Mode::Explicit, 1 << 24)];

/// The kind of repair: by the agent or by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The agent, at its start and when a stick appears: only files beside an open sidecar of ours are
    /// touched.
    Automatic,
    /// A person who named the file: everything that begins like a recording is put right.
    Explicit,
}

/// One file, as found.
#[derive(Clone, Copy, Debug)]
pub struct FileState<'a> {
    /// Name without folders.
    pub name: &'a str,
    /// Length in octets.
    pub len: u64,
    /// Its beginning: up to [`crate::format::PROBE_OCTETS`], at least the header as far as it is there.
    pub head: &'a [u8],
    /// The bytes of its sidecar, if there is one.
    pub sidecar: Option<&'a [u8]>,
    /// Somebody is writing it now.
    pub busy: bool,
    /// The disk has room for the rest of a frame. Say true, and false if carrying the steps out then fails
    /// with [`io::ErrorKind::StorageFull`].
    pub may_grow: bool,
}

/// One change. Each can be carried out again without harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Append `octets` times `byte` at `at`, the end of the file.
    Pad {
        /// Length of the file so far.
        at: u64,
        /// The number of octets.
        octets: u32,
        /// Silence of the codec.
        byte: u8,
    },
    /// Cut the file to this length.
    Truncate(u64),
    /// Write the whole header anew.
    WriteHeader(FileHeader),
    /// Write `dataSize`, little-endian, at [`DATA_SIZE_OFFSET`].
    SetDataSize(u32),
    /// Write how far an encrypted file goes, at [`DATA_SIZE_OFFSET`].
    SetProgress(Progress),
    /// Replace the sidecar, whole or not at all.
    WriteSidecar(Box<Sidecar>),
    /// Give the sidecar another name: it is none. A file without one is whole, and its text is kept.
    SetSidecarAside {
        /// The reason for which it is of no use.
        reason: String,
    },
}

impl Step {
    /// Whether it changes the recording itself, and not the sidecar.
    #[must_use]
    pub fn concerns_recording(&self) -> bool {
        !matches!(self, Self::WriteSidecar(_) | Self::SetSidecarAside { .. })
    }
}

/// The reason for which a file can't be repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrepairable {
    /// The header is unreadable, and no sidecar has its values.
    Header(HeaderError),
    /// An encrypted file is made of more chunks than are looked at.
    Chunks,
}

impl fmt::Display for Unrepairable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => error.fmt(f),
            Self::Chunks => f.write_str("the encrypted file is made of more chunks than any recording"),
        }
    }
}

/// The verdict on a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In order: no steps.
    Sound,
    /// The steps put it right.
    Repairable,
    /// No business of the automatic mode: no steps.
    NotOurs,
    /// Being written: no steps, ask again later.
    Busy,
    /// Left as it is.
    Unrepairable(Unrepairable),
}

/// The answer for one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The verdict on the file.
    pub verdict: Verdict,
    /// The steps, in this order.
    pub steps: Vec<Step>,
    /// Playing time once that is done.
    pub duration_ms: u64,
    /// Octets of audio once that is done.
    pub data_octets: u64,
}

impl Plan {
    fn nothing(verdict: Verdict) -> Self {
        Self { verdict, steps: Vec::new(), duration_ms: 0, data_octets: 0 }
    }
}

/// Decides about one file.
#[must_use]
pub fn plan(file: &FileState<'_>, mode: Mode) -> Plan {
    if file.busy {
        return Plan::nothing(Verdict::Busy);
    }
    let (sidecar, unsound) = match file.sidecar.map(Sidecar::parse) {
        None => (None, None),
        Some(Ok(sidecar)) => (Some(sidecar), None),
        Some(Err(error)) => (None, Some(error.to_string())),
    };
    if mode == Mode::Automatic
        && !sidecar.as_ref().is_some_and(|sidecar| is_open_and_ours(sidecar, file.name))
    {
        return Plan::nothing(Verdict::NotOurs);
    }
    let mut steps = Vec::new();
    let format = match Format::detect(file.head) {
        Ok(format) => format,
        Err(error) => match rebuild_header(&error, file.head, sidecar.as_ref(), mode) {
            Some(format) => {
                steps.push(Step::WriteHeader(format.header));
                format
            }
            None => return Plan::nothing(Verdict::Unrepairable(Unrepairable::Header(error))),
        },
    };
    // Where packets of different lengths end is not known here: of such a file of other firmware only the
    // header is read anew.
    let is_even = format.uneven_octets == 0;
    let frames =
        if is_even { repair_audio(&format, file, &mut steps) } else { format.facts(file.len).frames };
    if is_even {
        repair_header(&format, frames, &mut steps);
    } else if format.byte_order == ByteOrder::Big {
        steps.push(Step::WriteHeader(format.header));
    }
    let duration_ms = format.frames_to_ms(frames);
    let data_octets = frames.saturating_mul(u64::from(format.stride));
    let changed = steps.iter().any(|step| matches!(step, Step::Pad { .. } | Step::Truncate(_)));
    let sidecar = sidecar.filter(|_| is_even);
    if let Some(mended) = sidecar.and_then(|old| repair_sidecar(old, file.name, &format, frames, changed)) {
        steps.push(Step::WriteSidecar(Box::new(mended)));
    }
    steps.extend(unsound.map(|reason| Step::SetSidecarAside { reason }));
    let verdict = if steps.is_empty() { Verdict::Sound } else { Verdict::Repairable };
    Plan { verdict, steps, duration_ms, data_octets }
}

/// Decides about one file, which may be encrypted: then `read` is asked for the four octets at an offset.
///
/// # Errors
/// Those of `read`.
pub fn plan_any(
    file: &FileState<'_>,
    mode: Mode,
    read: &mut dyn FnMut(u64) -> io::Result<[u8; 4]>,
) -> io::Result<Plan> {
    match Format::detect(file.head) {
        Err(HeaderError::Encrypted(_)) if !file.busy => plan_sealed(file, mode, read),
        _ => Ok(plan(file, mode)),
    }
}

/// Without the key: octets behind the last whole chunk are cut off, and file and sidecar get the new length.
fn plan_sealed(
    file: &FileState<'_>,
    mode: Mode,
    read: &mut dyn FnMut(u64) -> io::Result<[u8; 4]>,
) -> io::Result<Plan> {
    let sidecar = file.sidecar.map(Sidecar::parse);
    let known = sidecar.as_ref().and_then(|sidecar| sidecar.as_ref().ok());
    if mode == Mode::Automatic && !known.is_some_and(|sidecar| is_open_and_ours(sidecar, file.name)) {
        return Ok(Plan::nothing(Verdict::NotOurs));
    }
    let front = match Front::parse(file.head) {
        Ok(front) => front,
        Err(error) => return Ok(Plan::nothing(Verdict::Unrepairable(Unrepairable::Header(error)))),
    };
    let max_chunks = MAX_CHUNKS.iter().find(|(of, _)| *of == mode).map_or(0, |(_, most)| *most);
    let Some(extent) = front.measure(file.len, max_chunks, read)? else {
        return Ok(Plan::nothing(Verdict::Unrepairable(Unrepairable::Chunks)));
    };
    let format = sealed::format_of(&front.header);
    let frames = extent.data_octets.div_ceil(u64::from(format.stride));
    let mut steps = Vec::new();
    if extent.beyond > 0 {
        steps.push(Step::Truncate(extent.end));
    }
    if front.progress != extent.progress() {
        steps.push(Step::SetProgress(extent.progress()));
    }
    match sidecar {
        Some(Ok(old)) => {
            // Nothing of a whole chunk is changed.
            let mended = repair_sidecar(old, file.name, &format, frames, false);
            steps.extend(mended.map(|mended| Step::WriteSidecar(Box::new(mended))));
        }
        Some(Err(error)) => steps.push(Step::SetSidecarAside { reason: error.to_string() }),
        None => {}
    }
    let verdict = if steps.is_empty() { Verdict::Sound } else { Verdict::Repairable };
    let data_octets = frames.saturating_mul(u64::from(format.stride));
    Ok(Plan { verdict, steps, duration_ms: format.frames_to_ms(frames), data_octets })
}

/// Whether the sidecar is one that the agent left open, of the file beside it (FAT may change letter case).
fn is_open_and_ours(sidecar: &Sidecar, name: &str) -> bool {
    sidecar.state == SidecarState::Recording
        && !sidecar.recording.is_empty()
        && sidecar.file.eq_ignore_ascii_case(name)
}

/// The header as the sidecar has it, where nothing else can have stood in its place: it is cut off or blank
/// because the power went before its sector was written. A person may have garbage replaced too. A codec
/// that can still be read stays, and whether the data are whole packets is told by the data.
fn rebuild_header(error: &HeaderError, head: &[u8], sidecar: Option<&Sidecar>, mode: Mode) -> Option<Format> {
    let lost = match error {
        HeaderError::TooShort { .. } | HeaderError::Blank => true,
        HeaderError::NotARecording | HeaderError::RtpLen(_) | HeaderError::Increment(_) => {
            mode == Mode::Explicit
        }
        HeaderError::StandardWav
        | HeaderError::UnknownCodec(_)
        | HeaderError::Encrypted(_)
        | HeaderError::KeyHeader => false,
    };
    let sidecar = sidecar.filter(|_| lost)?;
    let codec = FileHeader::legible_codec(head).or_else(|| Codec::from_name(&sidecar.codec))?;
    let mut rebuilt = FileHeader::new(codec, sidecar.ptime_ms).encode().to_vec();
    rebuilt.extend_from_slice(head.get(HEADER_OCTETS..).unwrap_or_default());
    // A frame length that no header can have makes this one implausible in turn.
    Format::detect(&rebuilt).ok().filter(|format| format.byte_order == ByteOrder::Little)
}

/// Makes the audio whole frames; gives their number. The header must not stand before the octets it speaks
/// of, so these steps go in front.
fn repair_audio(format: &Format, file: &FileState<'_>, steps: &mut Vec<Step>) -> u64 {
    let len = file.len;
    let facts = format.facts(len);
    let partial = facts.trailing_octets;
    if partial == 0 {
        return facts.frames;
    }
    let missing = format.stride - partial;
    let has_payload = format.layout == Layout::PayloadOnly || partial > RTP_HEADER_OCTETS;
    // A file that is larger already is on no FAT32.
    let fits = len > MAX_FILE_OCTETS || len + u64::from(missing) <= MAX_FILE_OCTETS;
    if has_payload && file.may_grow && fits && stays_the_same(format, file, missing) {
        let byte = format.header.codec.silence();
        steps.insert(0, Step::Pad { at: len, octets: missing, byte });
        facts.frames + 1
    } else {
        steps.insert(0, Step::Truncate(HEADER_OCTETS as u64 + facts.data_octets));
        facts.frames
    }
}

/// Whether a file with its last frame filled up still has the same layout: a second packet that does not
/// follow the first speaks against whole packets.
fn stays_the_same(format: &Format, file: &FileState<'_>, missing: u32) -> bool {
    if format.layout == Layout::PayloadOnly || file.len != file.head.len() as u64 {
        return true;
    }
    let mut filled = format.header.encode().to_vec();
    filled.extend_from_slice(file.head.get(HEADER_OCTETS..).unwrap_or_default());
    filled.resize(filled.len() + missing as usize, format.header.codec.silence());
    Format::detect(&filled).is_ok_and(|found| (found.layout, found.stride) == (format.layout, format.stride))
}

fn repair_header(format: &Format, frames: u64, steps: &mut Vec<Step>) {
    let data_size = format.data_size_of(frames);
    let whole = FileHeader { data_size, ..format.header };
    let rebuilt = steps.iter_mut().find_map(|step| match step {
        Step::WriteHeader(header) => Some(header),
        _ => None,
    });
    if let Some(header) = rebuilt {
        *header = whole;
    } else if format.byte_order == ByteOrder::Big {
        steps.push(Step::WriteHeader(whole));
    } else if !format.is_right_data_size(frames) {
        steps.push(Step::SetDataSize(data_size));
    }
}

/// Whether the sidecar of a finished file says something else about its audio than the file itself. Less than
/// a frame of difference is rounding, and of whole packets the payload alone may be counted, as in
/// `dataSize`.
#[must_use]
pub fn sidecar_disagrees(sidecar: &Sidecar, format: &Format, frames: u64) -> bool {
    let apart_ms = sidecar.duration_ms.abs_diff(format.frames_to_ms(frames));
    let whole = frames.saturating_mul(u64::from(format.stride));
    (sidecar.data_bytes != whole && sidecar.data_bytes != format.payload_octets(frames))
        || apart_ms >= format.frames_to_ms(1).max(1)
}

/// Whether the sidecar names another codec than the header, by which every reader goes. None at all is no
/// other.
#[must_use]
pub fn sidecar_names_another_codec(sidecar: &Sidecar, format: &Format) -> bool {
    !sidecar.codec.is_empty() && !sidecar.codec.eq_ignore_ascii_case(format.header.codec.name())
}

/// The sidecar that agrees with the file, whose audio may be `changed`; `None` if it does already.
fn repair_sidecar(
    mut sidecar: Sidecar,
    name: &str,
    format: &Format,
    frames: u64,
    changed: bool,
) -> Option<Sidecar> {
    let open = sidecar.state == SidecarState::Recording;
    let another_codec = sidecar_names_another_codec(&sidecar, format);
    let disagrees = sidecar_disagrees(&sidecar, format, frames);
    let hashed = sidecar.sha256.is_some() || sidecar.signature.is_some();
    if !(open || another_codec || disagrees || changed && hashed) {
        return None;
    }
    if open || disagrees || changed {
        // The file differs from the hashed and signed one. The caller hashes the repaired file.
        (sidecar.sha256, sidecar.sealed_sha256, sidecar.signature) = (None, None, None);
        sidecar.repaired = true;
    }
    if another_codec {
        sidecar.codec = format.header.codec.name().into();
    }
    if open {
        sidecar.state = SidecarState::Ended;
        // Nobody knows when it really ended: `end` stays as it was.
        sidecar.end_reason.get_or_insert_with(|| END_REASON_INTERRUPTED.into());
        sidecar.no_media = frames == 0;
    }
    sidecar.duration_ms = format.frames_to_ms(frames);
    sidecar.data_bytes = frames.saturating_mul(u64::from(format.stride));
    sidecar.file = name.into();
    sidecar.recovered = true;
    Some(sidecar)
}

/// A file that steps can be carried out on.
pub trait Patch {
    /// Writes all of `octets` at `offset`.
    ///
    /// # Errors
    /// The disk's; `StorageFull` if there is no room.
    fn write_at(&mut self, offset: u64, octets: &[u8]) -> io::Result<()>;

    /// Sets the file's length.
    ///
    /// # Errors
    /// The disk's.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Makes earlier writes durable.
    ///
    /// # Errors
    /// The disk's.
    fn sync(&mut self) -> io::Result<()>;
}

/// Carries out every step of `plan` that concerns the recording. The caller syncs it, and then writes the
/// sidecar that is returned, whole or not at all, and sets one aside that is none.
///
/// # Errors
/// The disk's; the file can then be planned anew.
pub fn apply<'plan>(plan: &'plan Plan, file: &mut impl Patch) -> io::Result<Option<&'plan Sidecar>> {
    let mut sidecar = None;
    for step in &plan.steps {
        match step {
            Step::Pad { at, octets, byte } => {
                file.write_at(*at, &vec![*byte; *octets as usize])?;
                // The header speaks of these octets, and may reach the disk before they do.
                file.sync()?;
            }
            Step::Truncate(len) => file.set_len(*len)?,
            Step::WriteHeader(header) => file.write_at(0, &header.encode())?,
            Step::SetDataSize(size) => file.write_at(DATA_SIZE_OFFSET, &size.to_le_bytes())?,
            Step::SetProgress(progress) => file.write_at(DATA_SIZE_OFFSET, &progress.encode())?,
            Step::WriteSidecar(planned) => sidecar = Some(planned.as_ref()),
            Step::SetSidecarAside { .. } => {}
        }
    }
    Ok(sidecar)
}

#[cfg(test)]
#[path = "../../../../tests/support/memory.rs"]
mod memory;

#[cfg(test)]
mod tests;
