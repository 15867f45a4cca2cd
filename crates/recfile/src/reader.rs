//! Reads a recording frame by frame, from any writer and after any end.
//!
//! Owns: where each frame is, in a file of which [`crate::format`] tells the contents; where whole RTP
//! packets (other firmware) do not show at the beginning, they are looked for in several places. Memory use
//! does not depend on the file: one probe buffer while opening; for packets, the state of [`packets`].

use crate::format::{Facts, Format, Layout, PROBE_OCTETS};
use crate::header::{HEADER_OCTETS, HeaderError};
use crate::packets::{self, Index, RTP_HEADER_OCTETS};
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

/// Places besides the beginning that are looked at, if that seems to hold payloads.
const PLACES: u64 = 3;

/// The reason for which a file can't be read.
#[derive(Debug)]
pub enum ReadError {
    /// It does not begin like a recording.
    Header(HeaderError),
    /// The disk failed.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(error) => error.fmt(f),
            Self::Io(error) => write!(f, "reading failed: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<HeaderError> for ReadError {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

/// A recording open for reading. It may still be growing: see [`Self::refresh`].
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    format: Format,
    facts: Facts,
    /// The position of the source, to spare a seek per frame; `None` after a failure.
    offset: Option<u64>,
    next_frame: u64,
    /// The places of the audio, if they are not at equal distances.
    index: Option<Index>,
}

impl<R: Read + Seek> Reader<R> {
    /// Looks at the beginning and the length of `source`, and stands before the first frame.
    ///
    /// # Errors
    /// [`ReadError`] if it is no recording or can't be read.
    pub fn open(mut source: R) -> Result<Self, ReadError> {
        let len = source.seek(SeekFrom::End(0))?;
        source.seek(SeekFrom::Start(0))?;
        let mut head = Vec::with_capacity(PROBE_OCTETS);
        source.by_ref().take(PROBE_OCTETS as u64).read_to_end(&mut head)?;
        let mut format = Format::detect(&head)?;
        if format.layout == Layout::PayloadOnly {
            if let Some(octets) = packets_elsewhere(&mut source, len, &format)? {
                format = format.of_uneven_packets(octets);
            }
        }
        let mut reader =
            Self { source, format, facts: format.facts(len), offset: None, next_frame: 0, index: None };
        if format.layout == Layout::WholePackets {
            reader.walk()?;
        }
        Ok(reader)
    }

    /// Looks at all packets, and remembers where they are unless they are where they should be.
    fn walk(&mut self) -> io::Result<()> {
        let format = &self.format;
        let data_at = HEADER_OCTETS as u64;
        self.source.seek(SeekFrom::Start(data_at))?;
        let length = if format.uneven_octets == 0 { format.stride } else { format.uneven_octets };
        let index = Index::build(self.source.by_ref(), data_at, length, &format.header)?;
        let facts = &mut self.facts;
        let is_plain = index.single().is_some_and(|run| {
            run.at == data_at + u64::from(RTP_HEADER_OCTETS)
                && (run.apart == format.stride || run.count == 1)
                && run.octets == facts.frame_octets
                && u64::from(run.count) == facts.frames
        });
        if !is_plain {
            let available = facts.data_octets + u64::from(facts.trailing_octets);
            facts.frames = index.audio / u64::from(facts.frame_octets.max(1));
            facts.duration_ms = format.frames_to_ms(facts.frames);
            facts.trailing_octets = index.cut;
            facts.data_octets = available.saturating_sub(u64::from(index.cut));
            self.index = Some(index);
        }
        Ok(())
    }

    /// The contents of the file.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Its source; the position in it is lost.
    pub fn source(&mut self) -> &mut R {
        self.offset = None;
        &mut self.source
    }

    /// Its header and layout.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Takes note that the file now has `len` octets (it is being recorded, or was truncated).
    ///
    /// Packets that are not at equal distances stay as they were found.
    pub fn refresh(&mut self, len: u64) {
        if self.index.is_none() {
            self.facts = self.format.facts(len);
        }
    }

    /// Goes to frame `n`; past the end there is nothing to read.
    pub fn seek_frame(&mut self, n: u64) {
        self.next_frame = n;
    }

    /// The frame that [`Self::next_frame`] reads.
    pub fn position(&self) -> u64 {
        self.next_frame
    }

    /// Reads the payload at the position into the start of `payload` and goes on to the next frame.
    /// `None` at the end; else the octets read, which are [`Facts::frame_octets`].
    ///
    /// # Errors
    /// The disk's, and `InvalidInput` if `payload` is too small. The position stays.
    pub fn next_frame(&mut self, payload: &mut [u8]) -> io::Result<Option<usize>> {
        let read = self.read_frame(self.next_frame, payload)?;
        if read.is_some() {
            self.next_frame += 1;
        }
        Ok(read)
    }

    /// Reads the payload of frame `n`, counted from 0, as [`Self::next_frame`] does; the position stays.
    ///
    /// # Errors
    /// As for [`Self::next_frame`].
    pub fn read_frame(&mut self, n: u64, payload: &mut [u8]) -> io::Result<Option<usize>> {
        if n >= self.facts.frames {
            return Ok(None);
        }
        let octets = self.facts.frame_octets as usize;
        let Some(payload) = payload.get_mut(..octets) else {
            let message = format!("a frame has {octets} octets, the buffer {}", payload.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        if let Some(index) = &self.index {
            self.offset = None;
            let mut position = n.saturating_mul(octets as u64);
            let mut rest = payload;
            while !rest.is_empty() {
                let (at, together) = index.locate(position).ok_or(io::ErrorKind::UnexpectedEof)?;
                let count = rest.len().min(usize::try_from(together).unwrap_or(usize::MAX));
                let (part, more) = rest.split_at_mut(count);
                self.source.seek(SeekFrom::Start(at))?;
                self.source.read_exact(part)?;
                position += count as u64;
                rest = more;
            }
            return Ok(Some(octets));
        }
        let start = HEADER_OCTETS as u64
            + n * u64::from(self.format.stride)
            + u64::from(self.format.payload_offset());
        if self.offset.take() != Some(start) {
            self.source.seek(SeekFrom::Start(start))?;
        }
        self.source.read_exact(payload)?;
        self.offset = Some(start + octets as u64);
        Ok(Some(octets))
    }

    /// Gives the source back.
    pub fn into_inner(self) -> R {
        self.source
    }
}

/// The length of packets that stand farther on, where the beginning shows none: early media of another type,
/// say.
fn packets_elsewhere(source: &mut (impl Read + Seek), len: u64, format: &Format) -> io::Result<Option<u32>> {
    let window = 5 * u64::from(format.header.rtp_len + RTP_HEADER_OCTETS);
    let available = len.saturating_sub(HEADER_OCTETS as u64);
    if available < PLACES * window {
        return Ok(None);
    }
    let mut seen = Vec::new();
    for place in 1..=PLACES {
        source.seek(SeekFrom::Start(HEADER_OCTETS as u64 + (available - window) / PLACES * place))?;
        seen.clear();
        source.by_ref().take(window).read_to_end(&mut seen)?;
        if let Some(octets) = packets::find_within(&seen, &format.header) {
            return Ok(Some(octets));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Problem;
    use crate::header::FileHeader;
    use media::codec::Codec;
    use proptest::prelude::*;
    use std::io::Cursor;

    const PCMA: Codec = Codec::Pcma;

    fn file(header: FileHeader, data: &[u8]) -> Vec<u8> {
        [&header.encode()[..], data].concat()
    }

    fn open(octets: Vec<u8>) -> Reader<Cursor<Vec<u8>>> {
        Reader::open(Cursor::new(octets)).expect("a recording")
    }

    fn packets(codec: Codec, sequence: &[u16]) -> Vec<u8> {
        let mut data = Vec::new();
        for &n in sequence {
            data.extend([0x80, codec.payload_type().0]);
            data.extend(n.to_be_bytes());
            data.extend((u32::from(n) * 160).to_be_bytes());
            data.extend(0xCAFE_F00D_u32.to_be_bytes());
            data.extend([u8::try_from(n & 0xFF).unwrap(); 160]);
        }
        data
    }

    #[test]
    fn frames_and_duration_come_from_the_length_for_any_data_size() {
        for declared in [0, 160, 480, 999_999] {
            let header = FileHeader { data_size: declared, ..FileHeader::new(PCMA, 20) };
            let reader = open(file(header, &[0x55; 500]));
            let facts = reader.facts();
            assert_eq!((facts.frames, facts.duration_ms, facts.trailing_octets), (3, 60, 20));
            assert_eq!(
                facts.problems.contains(&Problem::StaleDataSize { declared, actual: 480 }),
                declared != 480
            );
            assert!(facts.problems.contains(&Problem::PartialFrame { octets: 20 }));
        }
    }

    #[test]
    fn frames_are_read_in_order_and_by_number() {
        let data: Vec<u8> = (0..5).flat_map(|n| [n; 160]).collect();
        let mut reader = open(file(FileHeader::new(PCMA, 20), &data));
        let mut frame = [0; 160];
        assert_eq!(reader.read_frame(4, &mut frame).unwrap(), Some(160));
        assert_eq!(frame, [4; 160]);
        for n in 0..5 {
            assert_eq!(reader.next_frame(&mut frame).unwrap(), Some(160));
            assert_eq!(frame, [n; 160]);
        }
        assert_eq!(reader.next_frame(&mut frame).unwrap(), None);
        reader.seek_frame(u64::MAX);
        assert_eq!(reader.next_frame(&mut frame).unwrap(), None);
        assert!(reader.read_frame(0, &mut [0; 159]).is_err());
        assert_eq!(reader.format().frame_at_ms(50), 2);
    }

    #[test]
    fn a_growing_file_gives_new_frames_after_a_refresh() {
        let mut octets = file(FileHeader::new(PCMA, 20), &[1; 160]);
        let full = octets.len() as u64 + 160;
        octets.extend([2; 160]);
        let mut reader = open(octets);
        reader.refresh(full - 160);
        let mut frame = [0; 160];
        assert_eq!(reader.next_frame(&mut frame).unwrap(), Some(160));
        assert_eq!(reader.next_frame(&mut frame).unwrap(), None);
        reader.refresh(full);
        assert_eq!(reader.next_frame(&mut frame).unwrap(), Some(160));
        assert_eq!(frame, [2; 160]);
    }

    #[test]
    fn whole_packets_are_recognised_by_looking_at_them_even_with_losses_and_across_the_wrap() {
        for (rtp_len, sequence) in
            [(172, &[7, 8, 9, 12, 13, 14][..]), (160, &[65534, 65535, 0, 1]), (172, &[3])]
        {
            let header = FileHeader { rtp_len, ..FileHeader::new(PCMA, 20) };
            let mut data = packets(PCMA, sequence);
            if sequence[0] == 65534 {
                data[2 * 172 + 4..2 * 172 + 8].copy_from_slice(&(65536u32 * 160).to_be_bytes());
                data[3 * 172 + 4..3 * 172 + 8].copy_from_slice(&(65537u32 * 160).to_be_bytes());
            }
            let mut reader = open(file(header, &data));
            assert_eq!(reader.facts().layout, Layout::WholePackets);
            assert_eq!(reader.facts().frames, sequence.len() as u64);
            assert_eq!(reader.facts().duration_ms, 20 * sequence.len() as u64);
            let mut frame = [0; 160];
            reader.read_frame(0, &mut frame).unwrap();
            assert_eq!(frame, [u8::try_from(sequence[0] & 0xFF).unwrap(); 160]);
        }
    }

    #[test]
    fn a_length_of_172_alone_does_not_make_packets() {
        let header = FileHeader { rtp_len: 172, ..FileHeader::new(PCMA, 20) };
        assert_eq!(open(file(header, &[0xD5; 172 * 4])).facts().layout, Layout::PayloadOnly);
        assert_eq!(open(file(header, &packets(Codec::Pcmu, &[1, 2]))).facts().layout, Layout::PayloadOnly);
        assert_eq!(open(file(header, &packets(PCMA, &[1, 5, 9, 20]))).facts().layout, Layout::PayloadOnly);
    }

    #[test]
    fn duration_follows_increment_and_the_rtp_clock_of_g722_is_8000() {
        let header = FileHeader { codec: Codec::G722, rtp_len: 240, increment: 240, data_size: 480 };
        let reader = open(file(header, &[0; 480]));
        assert_eq!((reader.facts().duration_ms, reader.facts().problems.len()), (60, 0));
    }

    #[test]
    fn a_big_endian_header_is_read_and_named_as_a_problem() {
        let mut octets = file(FileHeader::new(PCMA, 20), &[0x55; 320]);
        octets[64..76].copy_from_slice(&[0, 0, 0, 160, 0, 0, 0, 160, 0, 0, 1, 64]);
        assert_eq!(open(octets).facts().problems, [Problem::BigEndianHeader]);
    }

    #[test]
    fn a_file_over_4_gib_has_its_true_size_named_and_needs_the_most_that_data_size_can_say() {
        let format = |data_size| {
            let header = FileHeader { data_size, ..FileHeader::new(PCMA, 20) };
            Format::detect(&header.encode()).unwrap()
        };
        let facts = format(0).facts(76 + 5_000_000_000);
        assert_eq!(facts.problems, [Problem::StaleDataSize { declared: 0, actual: 5_000_000_000 }]);
        assert_eq!(format(4_294_967_200).facts(76 + 5_000_000_000).problems, []);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_open_or_not_and_never_read_past_the_end(
            rtp_len in 0..400u32, increment in 0..400u32, data_size: u32,
            data in proptest::collection::vec(any::<u8>(), 0..3000), cut in 0..3100usize, declared_len in 0..4000u64,
        ) {
            let mut octets = file(FileHeader { codec: PCMA, rtp_len, increment, data_size }, &data);
            octets.truncate(cut);
            let len = octets.len() as u64;
            if let Ok(mut reader) = Reader::open(Cursor::new(octets)) {
                let facts = reader.facts().clone();
                prop_assert!(76 + facts.data_octets + u64::from(facts.trailing_octets) == len);
                let mut frame = vec![0; 4096];
                let mut frames = 0;
                while let Some(read) = reader.next_frame(&mut frame).unwrap() {
                    prop_assert_eq!(read, facts.frame_octets as usize);
                    frames += 1;
                }
                prop_assert_eq!(frames, facts.frames);
                // A length ahead of the data is an error when reading, no panic and no endless loop.
                reader.refresh(declared_len);
                for n in 0..50 {
                    let _ = reader.read_frame(n, &mut frame);
                }
            }
        }

        #[test]
        fn pure_noise_is_never_taken_for_packets(data in proptest::collection::vec(any::<u8>(), 344..3000)) {
            let header = FileHeader { rtp_len: 172, ..FileHeader::new(PCMA, 20) };
            prop_assert_eq!(open(file(header, &data)).facts().layout, Layout::PayloadOnly);
        }
    }
}
