//! A reader of recording files, written from the source document's drawing of the format:
//! `char codec[64] | int32_t rtpLen | int32_t increment | uint32_t dataSize | rtp data | …`,
//! little-endian without padding.

use std::path::Path;

use super::rtp_source::FRAME;
use super::{Codec, patience, wait_until};

/// A whole recording file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Recording {
    /// Encoding name without its NUL padding.
    pub(crate) codec: String,
    /// Payload octets per packet.
    pub(crate) rtp_len: i32,
    /// RTP ticks per packet.
    pub(crate) increment: i32,
    /// Payload octets, as the header claims.
    pub(crate) data_size: u32,
    /// Payload octets that are there.
    pub(crate) data: Vec<u8>,
}

/// Octets before the payload.
pub(crate) const HEADER_OCTETS: usize = 76;

/// Reads a file of a server; `None` while it has no header yet, which comes with its first audio.
pub(crate) fn read_begun(path: &Path) -> Option<Recording> {
    let octets = std::fs::metadata(path).ok()?.len();
    (octets >= HEADER_OCTETS as u64).then(|| read_recording(path))
}

/// Reads a file; fails the test if it has no whole header or a codec field that is not NUL padded.
pub(crate) fn read_recording(path: &Path) -> Recording {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path.display();
    assert!(bytes.len() >= HEADER_OCTETS, "{name} has {} octets, no whole header", bytes.len());
    let (header, data) = bytes.split_at(HEADER_OCTETS);
    let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    let text = &header[..64];
    let length = text.iter().position(|&byte| byte == 0).expect("a NUL after the codec");
    assert!(text[length..].iter().all(|&byte| byte == 0), "{name}: codec is not NUL padded");
    Recording {
        codec: String::from_utf8(text[..length].to_vec()).expect("an ASCII codec"),
        rtp_len: i32::from_le_bytes(word(64)),
        increment: i32::from_le_bytes(word(68)),
        data_size: u32::from_le_bytes(word(72)),
        data: data.to_vec(),
    }
}

impl Recording {
    /// Fails unless this is a finished recording of 20 ms frames with exactly this audio.
    pub(crate) fn assert_finished(&self, codec: Codec, audio: &[u8]) {
        self.assert_header(codec, FRAME);
        assert_audio(&self.data, audio);
    }

    /// Fails unless the header is exact for frames of `frame` octets.
    pub(crate) fn assert_header(&self, codec: Codec, frame: usize) {
        assert_eq!(self.codec, codec.name());
        assert_eq!(self.rtp_len as usize, frame, "rtpLen");
        assert_eq!(self.increment as usize, frame, "increment: one tick per octet");
        assert_eq!(self.data_size as usize, self.data.len(), "dataSize is not what is there");
        assert_eq!(self.data.len() % frame, 0, "not in whole frames");
    }
}

/// Fails unless both are the same, and says frame by frame where they part.
pub(crate) fn assert_audio(got: &[u8], expected: &[u8]) {
    if got == expected {
        return;
    }
    let (got_frames, expected_frames) = (describe(got), describe(expected));
    let part = got_frames.iter().zip(&expected_frames).take_while(|(a, b)| a == b).count();
    let window = |frames: &[String]| {
        let end = (part + 12).min(frames.len());
        frames[part.saturating_sub(2).min(end)..end].join(" ")
    };
    panic!(
        "audio differs from frame {part} on: {} octets, expected {}\n     got … {}\nexpected … {}",
        got.len(),
        expected.len(),
        window(&got_frames),
        window(&expected_frames),
    );
}

/// Each frame as the number of the packet it came from, or the octet it repeats.
fn describe(audio: &[u8]) -> Vec<String> {
    let name = |frame: &[u8]| {
        if frame.iter().all(|byte| *byte == frame[0]) {
            return format!("{:02x}*{}", frame[0], frame.len());
        }
        let sum = frame.iter().fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
        let number = frame.first_chunk().map(|tag| u32::from_be_bytes(*tag)).unwrap_or_default();
        if super::rtp_source::payload(number, frame.len()) == frame {
            format!("#{number}")
        } else {
            format!("?{sum:08x}")
        }
    };
    audio.chunks(FRAME).map(name).collect()
}

/// The recording once it is finished: header exact, and a sidecar that says why it ended.
pub(crate) fn wait_finished(path: &Path) -> Recording {
    wait_until(&format!("{} to be finished", path.display()), patience(), || {
        let ended = super::sidecar(path).is_some_and(|sidecar| sidecar["end_reason"].is_string());
        ended && path.metadata().is_ok_and(|facts| facts.len() >= HEADER_OCTETS as u64)
    });
    read_recording(path)
}
