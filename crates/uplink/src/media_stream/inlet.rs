//! The server's end of one media connection: octets in, numbered items out.

use super::frame::{Frame, FrameError, split};

/// A frame of the phone, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival<'a> {
    /// The connection is for the recording of this token, and goes on at this item.
    Hello {
        /// The item that comes next.
        number: u64,
        /// The token of the recording.
        token: &'a str,
    },
    /// A packet that the phone received.
    Packet {
        /// Its number.
        number: u64,
        /// When the phone received it, in milliseconds since it began the recording.
        at_ms: u32,
        /// The RTP packet.
        octets: &'a [u8],
    },
    /// A pause begins.
    Pause {
        /// Its number.
        number: u64,
        /// When, as above.
        at_ms: u32,
    },
    /// A pause ends.
    Resume {
        /// Its number.
        number: u64,
        /// When, as above.
        at_ms: u32,
    },
}

#[derive(Clone, Copy, Debug)]
enum State {
    AwaitingHello,
    /// The next item has this number.
    Item(u64),
    /// The packet of this item is due.
    Packet {
        number: u64,
        at_ms: u32,
    },
}

/// Reads one connection. Memory for one frame and one read.
#[derive(Debug)]
pub struct Inlet {
    pending: Vec<u8>,
    state: State,
}

impl Default for Inlet {
    fn default() -> Self {
        Self { pending: Vec::new(), state: State::AwaitingHello }
    }
}

impl Inlet {
    /// Takes octets of the phone; hands out each frame that is all here.
    ///
    /// # Errors
    /// The octets are no media stream. The frames before have been handed out.
    pub fn received(&mut self, octets: &[u8], mut take: impl FnMut(Arrival<'_>)) -> Result<(), FrameError> {
        if self.pending.is_empty() {
            // Nothing is left over from before, most often: no octet is copied but those of the last frame.
            let rest = read(&mut self.state, octets, &mut take)?;
            self.pending.extend_from_slice(rest);
            return Ok(());
        }
        self.pending.extend_from_slice(octets);
        let pending = std::mem::take(&mut self.pending);
        let rest = read(&mut self.state, &pending, &mut take)?.len();
        self.pending = pending;
        self.pending.drain(..self.pending.len() - rest);
        Ok(())
    }
}

/// Reads the frames of `octets`; gives the octets of one that is not all here.
fn read<'a>(
    state: &mut State,
    mut octets: &'a [u8],
    take: &mut impl FnMut(Arrival<'_>),
) -> Result<&'a [u8], FrameError> {
    while let Some((frame, rest)) = split(octets)? {
        *state = match (*state, Frame::parse(frame)?) {
            (State::AwaitingHello, Frame::Hello { number, token }) => {
                take(Arrival::Hello { number, token });
                State::Item(number)
            }
            (State::Item(number), Frame::Clock { at_ms }) => State::Packet { number, at_ms },
            (State::Packet { number, at_ms }, Frame::Rtp(octets)) => {
                take(Arrival::Packet { number, at_ms, octets });
                State::Item(number.saturating_add(1))
            }
            (State::Item(number), Frame::Pause { at_ms }) => {
                take(Arrival::Pause { number, at_ms });
                State::Item(number.saturating_add(1))
            }
            (State::Item(number), Frame::Resume { at_ms }) => {
                take(Arrival::Resume { number, at_ms });
                State::Item(number.saturating_add(1))
            }
            _ => return Err(FrameError::Order),
        };
        octets = rest;
    }
    Ok(octets)
}
