//! Frames: two octets of length, then an RTP packet (RFC 4571) or, where no packet of RTP version 2 can begin
//! so, a word between our two programs.

use crate::message::extension::MAX_RESUME_OCTETS;
use std::fmt;

/// Longest frame without its length: a datagram that the agent receives whole is shorter.
pub const MAX_FRAME_OCTETS: usize = 2048;

/// Octets of the length before each frame.
pub(super) const LENGTH_OCTETS: usize = 2;

const HELLO: u8 = 0x01;
const CLOCK: u8 = 0x02;
const PAUSE: u8 = 0x03;
const RESUME: u8 = 0x04;
const ACK: u8 = 0x11;

/// First octets from here on are those of RTP version 2.
const RTP: u8 = 0x80;

/// Octets of a frame with a time, its length included.
pub(super) const TIMED_OCTETS: usize = LENGTH_OCTETS + 5;

/// A frame of the phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// First on each connection: the number of the item that follows, and the server's token.
    Hello {
        number: u64,
        token: &'a str,
    },
    /// The packet behind it arrived at this time.
    Clock {
        at_ms: u32,
    },
    Pause {
        at_ms: u32,
    },
    Resume {
        at_ms: u32,
    },
    Rtp(&'a [u8]),
}

/// Why a media stream is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A frame is empty or over [`MAX_FRAME_OCTETS`].
    Length(usize),
    /// A frame of this kind is not known, or has another length than it should.
    Kind(u8),
    /// A frame comes where another one is due.
    Order,
    /// The number of an item is not the one that is due.
    Number {
        /// The due one.
        due: u64,
        /// The one that came.
        came: u64,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(octets) => write!(f, "the media stream has a frame of {octets} octets"),
            Self::Kind(kind) => write!(f, "the media stream has an unusable frame of kind {kind:#04x}"),
            Self::Order => write!(f, "the media stream has a frame where another one is due"),
            Self::Number { due, came } => write!(f, "the media stream goes on at item {came}, not at {due}"),
        }
    }
}

impl std::error::Error for FrameError {}

impl<'a> Frame<'a> {
    /// Reads a frame, without its length.
    pub(super) fn parse(octets: &'a [u8]) -> Result<Self, FrameError> {
        let (&kind, rest) = octets.split_first().ok_or(FrameError::Length(0))?;
        let unusable = FrameError::Kind(kind);
        let at_ms = || <[u8; 4]>::try_from(rest).map(u32::from_be_bytes).map_err(|_| unusable);
        Ok(match kind {
            RTP.. => Self::Rtp(octets),
            HELLO => {
                let (number, token) = numbered(rest).ok_or(unusable)?;
                Self::Hello { number, token }
            }
            CLOCK => Self::Clock { at_ms: at_ms()? },
            PAUSE => Self::Pause { at_ms: at_ms()? },
            RESUME => Self::Resume { at_ms: at_ms()? },
            _ => return Err(unusable),
        })
    }
}

/// A frame without its length, and the octets behind it.
type Split<'a> = (&'a [u8], &'a [u8]);

/// Splits the next frame off `octets`; `None` if it is not all here.
pub(super) fn split(octets: &[u8]) -> Result<Option<Split<'_>>, FrameError> {
    let Some((length, rest)) = octets.split_first_chunk::<LENGTH_OCTETS>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*length));
    if !(1..=MAX_FRAME_OCTETS).contains(&length) {
        return Err(FrameError::Length(length));
    }
    Ok(rest.split_at_checked(length))
}

/// A frame with a time.
pub(super) fn timed(kind: Timed, at_ms: u32) -> [u8; TIMED_OCTETS] {
    let kind = match kind {
        Timed::Clock => CLOCK,
        Timed::Pause => PAUSE,
        Timed::Resume => RESUME,
    };
    let [a, b, c, d] = at_ms.to_be_bytes();
    [0, 5, kind, a, b, c, d]
}

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timed {
    Clock,
    Pause,
    Resume,
}

/// Whether an item begins with a frame of this kind, and if so, whether a packet follows.
pub(super) fn begins_item(kind: u8) -> Option<bool> {
    match kind {
        CLOCK => Some(true),
        PAUSE | RESUME => Some(false),
        _ => None,
    }
}

/// The first frame of a connection: the number of the item that follows, and the server's `token`.
#[must_use]
pub fn hello(number: u64, token: &str) -> Vec<u8> {
    named(HELLO, number, token)
}

/// The server's only frame: all items before `next` are on its disk. The phone shows `token` when it comes
/// back.
#[must_use]
pub fn ack(next: u64, token: &str) -> Vec<u8> {
    named(ACK, next, token)
}

fn named(kind: u8, number: u64, token: &str) -> Vec<u8> {
    let token = token.as_bytes().get(..MAX_RESUME_OCTETS).unwrap_or(token.as_bytes());
    // Within two octets: the token has a limit.
    let length = u16::try_from(1 + size_of::<u64>() + token.len()).unwrap_or(u16::MAX);
    let mut frame = Vec::with_capacity(LENGTH_OCTETS + usize::from(length));
    frame.extend_from_slice(&length.to_be_bytes());
    frame.push(kind);
    frame.extend_from_slice(&number.to_be_bytes());
    frame.extend_from_slice(token);
    frame
}

fn numbered(rest: &[u8]) -> Option<(u64, &str)> {
    let (number, token) = rest.split_first_chunk()?;
    let token = std::str::from_utf8(token).ok().filter(|token| token.len() <= MAX_RESUME_OCTETS)?;
    Some((u64::from_be_bytes(*number), token))
}

/// Reads the server's acknowledgements; memory for one frame.
#[derive(Debug, Default)]
pub struct Acks {
    pending: Vec<u8>,
}

impl Acks {
    /// Takes octets of the server, and hands out each acknowledgement: the first item that is not on its
    /// disk, and its token.
    ///
    /// # Errors
    /// The octets are no frames of a server.
    pub fn received(&mut self, octets: &[u8], mut take: impl FnMut(u64, &str)) -> Result<(), FrameError> {
        self.pending.extend_from_slice(octets);
        let mut rest = self.pending.as_slice();
        while let Some((frame, after)) = split(rest)? {
            let (&kind, body) = frame.split_first().ok_or(FrameError::Length(0))?;
            let (next, token) = numbered(body).filter(|_| kind == ACK).ok_or(FrameError::Kind(kind))?;
            take(next, token);
            rest = after;
        }
        let taken = self.pending.len() - rest.len();
        self.pending.drain(..taken);
        Ok(())
    }
}
