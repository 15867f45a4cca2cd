//! What to do about a recording that was cut off: facts about one file in, steps out.
//!
//! Owns: the decision alone; whoever has the file carries the steps out ([`Patch`], [`apply`]). Steps may be
//! interrupted and repeated: audio is made whole first, the header second, the sidecar (which marks the
//! work as done) last. Audio octets are never changed, and never dropped but for a frame that can't be filled up.
//! A cut-off last frame is filled with the codec's silence rather than cut away: up to a frame of audio
//! is kept, and the silence fills time in which audio was lost anyway.

use crate::header::{ByteOrder, DATA_SIZE_OFFSET, FileHeader, HEADER_OCTETS, HeaderError, MAX_FILE_OCTETS};
use crate::reader::{Format, Layout, RTP_HEADER_OCTETS};
use crate::sealed::{self, Front, Progress};
use crate::sidecar::{Sidecar, SidecarState};
use media::codec::Codec;
use std::fmt;
use std::io;

/// Reason that a recovered sidecar gives for its end: nobody was there to note the real one.
pub const END_REASON_INTERRUPTED: &str = "interrupted";

/// Chunks of an encrypted file behind its last flush that the agent follows: more than any cut leaves. A person waits.
const MAX_CHUNKS: [(Mode, u32); 2] = [(Mode::Automatic, 16 * 1024), (Mode::Explicit, 1 << 24)];

/// Who asks.
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
    /// Its beginning: up to [`crate::reader::PROBE_OCTETS`], at least the header as far as it is there.
    pub head: &'a [u8],
    /// The bytes of its sidecar, if there is one.
    pub sidecar: Option<&'a [u8]>,
    /// Somebody is writing it now.
    pub busy: bool,
    /// The medium has room for the rest of a frame. Say true, and false if carrying the steps out then fails
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
        /// How many.
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
    /// Give the sidecar another name: it is none. A file without one is whole, and what it says is kept.
    SetSidecarAside {
        /// Why it is of no use.
        reason: String,
    },
}

impl Step {
    /// Whether it changes the recording itself, not what lies beside it.
    #[must_use]
    pub fn concerns_recording(&self) -> bool {
        !matches!(self, Self::WriteSidecar(_) | Self::SetSidecarAside { .. })
    }
}

/// Why a file can't be put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrepairable {
    /// The header is unreadable, and no sidecar says what it was.
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

/// What a file is found to be.
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
    /// What the file is found to be.
    pub verdict: Verdict,
    /// What to do, in this order.
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
    // Where packets of different lengths end is not known here: of such a file of other firmware only the header is read anew.
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

/// Without the key: what is behind the last whole chunk goes, and the file and its sidecar say how far it goes.
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

/// Whether a file with its last frame filled up is still taken for what it is: a second packet that does not follow the
/// first speaks against whole packets.
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
/// a frame of difference is rounding, and of whole packets the payload alone may be counted, as in `dataSize`.
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
        // What was hashed and signed is not what is there. Whoever carries this out hashes that.
        (sidecar.sha256, sidecar.sealed_sha256, sidecar.signature) = (None, None, None);
        sidecar.repaired = true;
    }
    if another_codec {
        sidecar.codec = format.header.codec.name().into();
    }
    if open {
        sidecar.state = SidecarState::Ended;
        // Nobody knows when it really ended: `end` stays what it was.
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
    /// The medium's; `StorageFull` if there is no room.
    fn write_at(&mut self, offset: u64, octets: &[u8]) -> io::Result<()>;

    /// Sets the file's length.
    ///
    /// # Errors
    /// The medium's.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Makes durable what was written so far.
    ///
    /// # Errors
    /// The medium's.
    fn sync(&mut self) -> io::Result<()>;
}

/// Carries out every step of `plan` that concerns the recording. The caller syncs it, and then writes the
/// sidecar that is returned, whole or not at all, and sets one aside that is none.
///
/// # Errors
/// The medium's; the file can then be planned anew.
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
#[path = "../../../tests/support/memory.rs"]
mod memory;

#[cfg(test)]
mod tests {
    use super::memory::Memory;
    use super::*;
    use crate::reader::{PROBE_OCTETS, Reader};
    use proptest::prelude::*;
    use std::io::Cursor;

    const NAME: &str = "Record_20260301-091500.wav";

    fn open_sidecar() -> Sidecar {
        Sidecar {
            recording: "r1".into(),
            file: NAME.into(),
            codec: "PCMA".into(),
            state: SidecarState::Recording,
            ..Sidecar::default()
        }
    }

    fn plan_of(octets: &[u8], sidecar: Option<&Sidecar>, mode: Mode) -> Plan {
        let json = sidecar.map(Sidecar::to_json);
        let head = &octets[..octets.len().min(PROBE_OCTETS)];
        let len = octets.len() as u64;
        let state =
            FileState { name: NAME, len, head, sidecar: json.as_deref(), busy: false, may_grow: true };
        plan(&state, mode)
    }

    fn recording(data_size: u32, data: &[u8]) -> Vec<u8> {
        let header = FileHeader { data_size, ..FileHeader::new(Codec::Pcma, 20) };
        [&header.encode()[..], data].concat()
    }

    #[test]
    fn an_interrupted_recording_gets_its_size_a_filled_last_frame_and_a_closed_sidecar() {
        let plan = plan_of(&recording(160, &[1; 500]), Some(&open_sidecar()), Mode::Automatic);
        assert_eq!(plan.verdict, Verdict::Repairable);
        assert_eq!(plan.steps[..2], [Step::Pad { at: 576, octets: 140, byte: 0xD5 }, Step::SetDataSize(640)]);
        let Step::WriteSidecar(sidecar) = &plan.steps[2] else { panic!("{:?}", plan.steps) };
        assert_eq!((sidecar.state, sidecar.duration_ms, sidecar.data_bytes), (SidecarState::Ended, 80, 640));
        assert_eq!((sidecar.recovered, sidecar.end_reason.as_deref()), (true, Some("interrupted")));
        assert_eq!((plan.duration_ms, plan.data_octets), (80, 640));
    }

    #[test]
    fn without_room_the_last_frame_is_cut_away() {
        let octets = recording(160, &[1; 500]);
        let state =
            FileState { name: NAME, len: 576, head: &octets, sidecar: None, busy: false, may_grow: false };
        assert_eq!(plan(&state, Mode::Explicit).steps, [Step::Truncate(556), Step::SetDataSize(480)]);
    }

    #[test]
    fn the_automatic_mode_touches_nothing_that_is_not_beside_an_open_sidecar_of_ours() {
        let stale = recording(0, &[1; 320]);
        let ended = Sidecar { state: SidecarState::Ended, ..open_sidecar() };
        let anonymous = Sidecar { recording: String::new(), ..open_sidecar() };
        let of_another = Sidecar { file: "Record_other.wav".into(), ..open_sidecar() };
        for sidecar in [None, Some(&ended), Some(&anonymous), Some(&of_another)] {
            assert_eq!(plan_of(&stale, sidecar, Mode::Automatic), Plan::nothing(Verdict::NotOurs));
        }
        assert_eq!(plan_of(&stale, None, Mode::Explicit).steps, [Step::SetDataSize(320)]);
    }

    #[test]
    fn a_file_that_is_being_written_is_left_alone() {
        let octets = recording(0, &[1; 320]);
        let state =
            FileState { name: NAME, len: 396, head: &octets, sidecar: None, busy: true, may_grow: true };
        assert_eq!(plan(&state, Mode::Explicit), Plan::nothing(Verdict::Busy));
    }

    #[test]
    fn a_lost_header_is_rebuilt_from_the_sidecar_and_only_from_it() {
        let mut blank = recording(0, &[7; 320]);
        blank[..76].fill(0);
        for (octets, data_size) in [(&blank[..], 320), (&blank[..20], 0), (&[], 0)] {
            let plan = plan_of(octets, Some(&open_sidecar()), Mode::Automatic);
            let header = FileHeader { data_size, ..FileHeader::new(Codec::Pcma, 20) };
            assert_eq!(plan.steps[0], Step::WriteHeader(header));
            assert!(matches!(plan_of(octets, None, Mode::Explicit).verdict, Verdict::Unrepairable(_)));
        }
    }

    #[test]
    fn the_header_is_written_when_the_octets_that_it_speaks_of_are_durable() {
        #[derive(Default)]
        struct Order(Vec<&'static str>);
        impl Patch for Order {
            fn write_at(&mut self, offset: u64, _octets: &[u8]) -> io::Result<()> {
                self.0.push(if offset < HEADER_OCTETS as u64 { "header" } else { "audio" });
                Ok(())
            }
            fn set_len(&mut self, _len: u64) -> io::Result<()> {
                Ok(())
            }
            fn sync(&mut self) -> io::Result<()> {
                self.0.push("sync");
                Ok(())
            }
        }
        let mut order = Order::default();
        let plan = plan_of(&recording(160, &[1; 500]), None, Mode::Explicit);
        apply(&plan, &mut order).unwrap();
        assert_eq!(order.0, ["audio", "sync", "header"]);
    }

    #[test]
    fn a_standard_wav_is_never_overwritten_even_beside_an_open_sidecar() {
        let mut wav = recording(0, &[7; 320]);
        wav[..16].copy_from_slice(b"RIFF\x24\0\0\0WAVEfmt ");
        for mode in [Mode::Automatic, Mode::Explicit] {
            let plan = plan_of(&wav, Some(&open_sidecar()), mode);
            assert_eq!(plan.verdict, Verdict::Unrepairable(Unrepairable::Header(HeaderError::StandardWav)));
            assert_eq!(plan.steps, []);
        }
    }

    #[test]
    fn a_sound_file_needs_nothing_and_a_big_endian_one_a_new_header() {
        assert_eq!(plan_of(&recording(320, &[1; 320]), None, Mode::Explicit).verdict, Verdict::Sound);
        let mut big = recording(0, &[1; 320]);
        big[64..76].copy_from_slice(&[0, 0, 0, 160, 0, 0, 0, 160, 0, 0, 1, 64]);
        let header = FileHeader { data_size: 320, ..FileHeader::new(Codec::Pcma, 20) };
        assert_eq!(plan_of(&big, None, Mode::Explicit).steps, [Step::WriteHeader(header)]);
    }

    #[test]
    fn a_file_over_4_gib_gets_the_most_that_data_size_can_say_and_its_last_frame_filled() {
        let plan_of = |data_size, len| {
            let head = recording(data_size, &[]);
            let state =
                FileState { name: NAME, len, head: &head, sidecar: None, busy: false, may_grow: true };
            plan(&state, Mode::Explicit)
        };
        let len = 76 + 5_000_000_000;
        let pad = Step::Pad { at: len - 60, octets: 60, byte: 0xD5 };
        let cut = plan_of(0, len - 60);
        assert_eq!(
            (cut.steps, cut.data_octets),
            (vec![pad, Step::SetDataSize(4_294_967_200)], 5_000_000_000)
        );
        assert_eq!(plan_of(4_294_967_200, len).verdict, Verdict::Sound);
    }

    #[test]
    fn what_is_no_sidecar_is_set_aside_by_a_person_s_wish_only() {
        let octets = recording(320, &[1; 320]);
        for sidecar in [&b""[..], b"{\"segment\":\"one\"}", &[b' '; (1 << 20) + 1]] {
            let state = FileState {
                name: NAME,
                len: 396,
                head: &octets,
                sidecar: Some(sidecar),
                busy: false,
                may_grow: true,
            };
            let wished = plan(&state, Mode::Explicit);
            assert!(matches!(wished.steps[..], [Step::SetSidecarAside { .. }]), "{:?}", wished.steps);
            assert_eq!(plan(&state, Mode::Automatic), Plan::nothing(Verdict::NotOurs));
        }
    }

    #[test]
    fn a_sidecar_of_another_codec_gets_the_header_s() {
        let ended = |codec: &str| Sidecar {
            state: SidecarState::Ended,
            codec: codec.into(),
            duration_ms: 40,
            data_bytes: 320,
            ..open_sidecar()
        };
        let octets = recording(320, &[1; 320]);
        let plan = plan_of(&octets, Some(&ended("PCMU")), Mode::Explicit);
        assert_eq!(plan.steps, [Step::WriteSidecar(Box::new(Sidecar { recovered: true, ..ended("PCMA") }))]);
        for same in ["", "pcma"] {
            assert_eq!(plan_of(&octets, Some(&ended(same)), Mode::Explicit).verdict, Verdict::Sound);
        }
    }

    /// Packets of 20 ms of PCMA, one after another.
    fn packets(count: u8) -> Vec<u8> {
        let packet = |n: u8| {
            let [high, low] = (u16::from(n) * 160).to_be_bytes();
            [&[0x80, 8, 0, n, 0, 0, high, low, 1, 2, 3, 4][..], &[n; 160]].concat()
        };
        (0..count).flat_map(packet).collect()
    }

    #[test]
    fn of_whole_packets_a_sidecar_may_count_the_payload_alone() {
        let octets = recording(1720, &packets(10));
        let counting = |data_bytes| Sidecar {
            state: SidecarState::Ended,
            duration_ms: 200,
            data_bytes,
            ..open_sidecar()
        };
        for (data_bytes, verdict) in
            [(1720, Verdict::Sound), (1600, Verdict::Sound), (1601, Verdict::Repairable)]
        {
            assert_eq!(plan_of(&octets, Some(&counting(data_bytes)), Mode::Explicit).verdict, verdict);
        }
    }

    #[test]
    fn a_packet_that_is_cut_off_goes_if_with_it_the_file_would_be_taken_for_payloads() {
        for (next, cut_off) in [(1, false), (4, true)] {
            let all = packets(5);
            let octets = recording(172, &[&all[..172], &all[172 * next..172 * next + 100]].concat());
            let plan = plan_of(&octets, None, Mode::Explicit);
            assert_eq!(matches!(plan.steps[0], Step::Truncate(_)), cut_off, "{:?}", plan.steps);
            let mut file = Memory(octets);
            apply(&plan, &mut file).unwrap();
            let reader = Reader::open(Cursor::new(file.0)).unwrap();
            assert_eq!(reader.facts().layout, Layout::WholePackets);
        }
    }

    #[test]
    fn before_whole_packets_a_lost_header_is_rebuilt_once() {
        let mut octets = recording(0, &packets(10));
        octets[..76].fill(0);
        let first = plan_of(&octets, Some(&open_sidecar()), Mode::Explicit);
        assert_eq!((first.steps.len(), first.duration_ms), (2, 200), "{:?}", first.steps);
        let mut file = Memory(octets);
        let sidecar = apply(&first, &mut file).unwrap().cloned();
        assert_eq!(file.0[76..], packets(10));
        assert_eq!(plan_of(&file.0, sidecar.as_ref(), Mode::Explicit).verdict, Verdict::Sound);
    }

    #[test]
    fn a_codec_that_can_still_be_read_stays_in_a_rebuilt_header() {
        for (rtp_len, increment) in [(0, 160), (160, 0)] {
            let header = FileHeader { rtp_len, increment, ..FileHeader::new(Codec::Pcmu, 20) };
            let octets = [&header.encode()[..], &[1; 320]].concat();
            let plan = plan_of(&octets, Some(&open_sidecar()), Mode::Explicit);
            let rebuilt = FileHeader { data_size: 320, ..FileHeader::new(Codec::Pcmu, 20) };
            assert_eq!(plan.steps[0], Step::WriteHeader(rebuilt));
            let Step::WriteSidecar(sidecar) = &plan.steps[1] else { panic!("{:?}", plan.steps) };
            assert_eq!(sidecar.codec, "PCMU");
        }
    }

    proptest! {
        #[test]
        fn after_the_steps_the_reader_finds_no_problem_and_every_audio_octet_is_where_it_was(
            data in proptest::collection::vec(any::<u8>(), 0..2000), data_size: u32, rtp_len in 1..400u32,
            cut in 0..2100usize, blank: bool, beside: bool, automatic: bool,
        ) {
            let header = FileHeader { codec: Codec::Pcma, rtp_len, increment: rtp_len, data_size };
            let mut octets = [&header.encode()[..], &data].concat();
            octets.truncate(cut);
            if blank {
                let end = octets.len().min(76);
                octets[..end].fill(0);
            }
            let sidecar = beside.then(open_sidecar);
            let mode = if automatic { Mode::Automatic } else { Mode::Explicit };
            let plan = plan_of(&octets, sidecar.as_ref(), mode);
            let mut file = Memory(octets.clone());
            let written = apply(&plan, &mut file).unwrap().cloned();
            match plan.verdict {
                Verdict::Repairable | Verdict::Sound => {
                    let reader = Reader::open(Cursor::new(file.0.clone())).unwrap();
                    prop_assert_eq!(&reader.facts().problems, &[]);
                    prop_assert_eq!(reader.facts().duration_ms, plan.duration_ms);
                    let before = octets.get(76..).unwrap_or_default();
                    prop_assert!(file.0[76..].starts_with(before));
                    let again = plan_of(&file.0, written.as_ref().or(sidecar.as_ref()), Mode::Explicit);
                    prop_assert_eq!(again.verdict, Verdict::Sound);
                }
                _ => prop_assert_eq!(file.0, octets),
            }
        }

        #[test]
        fn any_beginning_length_and_sidecar_give_a_plan(
            head in proptest::collection::vec(any::<u8>(), 0..200), extra in 0..u64::MAX / 2,
            sidecar in proptest::collection::vec(any::<u8>(), 0..100), ptime_ms: u32,
        ) {
            let odd = Sidecar { ptime_ms, ..open_sidecar() }.to_json();
            for sidecar in [&sidecar, &odd] {
                let len = head.len() as u64 + extra;
                let state =
                    FileState { name: NAME, len, head: &head, sidecar: Some(sidecar), busy: false, may_grow: true };
                let _ = plan(&state, Mode::Explicit);
                let _ = plan(&state, Mode::Automatic);
            }
        }
    }
}
