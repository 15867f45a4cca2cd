//! A TCP connection between phone and server: its options, and the octets that its socket does not take yet.
//!
//! Owns: how a peer is noticed that is gone without a word; sending in order; the limit of the octets that wait.
//! Never: their meaning, the time to read.

use nix::sys::socket::{setsockopt, sockopt};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;

/// When a peer without a sign of life counts as gone.
#[derive(Clone, Copy, Debug)]
pub struct SilentPeer {
    /// Seconds without an octet before the first question.
    pub idle_s: u32,
    /// Seconds between two questions.
    pub interval_s: u32,
    /// Questions without an answer after which the connection breaks.
    pub questions: u32,
    /// Milliseconds after which octets or questions that are not acknowledged break it.
    pub unacknowledged_ms: u32,
}

/// Sets the options of a connection: each message goes out at once, and a silent peer is noticed.
///
/// # Errors
/// As the system says.
pub fn set_up(socket: &impl AsFd, silent: SilentPeer) -> io::Result<()> {
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &silent.idle_s)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &silent.interval_s)?;
    setsockopt(socket, sockopt::TcpKeepCount, &silent.questions)?;
    // Emulators do not know it; the keep-alive alone then notices most of it.
    let _ = setsockopt(socket, sockopt::TcpUserTimeout, &silent.unacknowledged_ms);
    Ok(())
}

/// A connection whose socket never waits.
#[derive(Debug)]
pub struct ControlStream<S> {
    socket: S,
    unsent: Vec<u8>,
    most_unsent: usize,
}

impl<S: Read + Write> ControlStream<S> {
    /// A connection that keeps at most so many octets for a peer that does not read.
    pub fn new(socket: S, most_unsent: usize) -> Self {
        Self { socket, unsent: Vec::new(), most_unsent }
    }

    /// Its socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// The same, to register it.
    pub fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Whether octets wait.
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether so many octets more may wait.
    pub fn has_room_for(&self, octets: usize) -> bool {
        self.unsent.len() + octets <= self.most_unsent
    }

    /// Sends, or keeps the octets that the socket does not take yet. Gives what [`Self::flush`] does.
    ///
    /// # Errors
    /// As the system says, or the peer has left too much unread.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<bool> {
        self.unsent.extend_from_slice(octets);
        if !self.has_room_for(0) {
            return Err(io::Error::other("the other end does not read"));
        }
        self.flush()
    }

    /// Sends the kept octets. False if the socket takes no more for now.
    ///
    /// # Errors
    /// As the system says.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.has_unsent() {
            match self.socket.write(&self.unsent) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads once: 0 octets are the end; `None` that nothing has come.
    ///
    /// # Errors
    /// As the system says.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.socket.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                read => return read.map(Some),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A socket that takes a few octets now and then.
    #[derive(Default)]
    struct Slow {
        takes: VecDeque<io::Result<usize>>,
        taken: Vec<u8>,
    }

    impl Write for Slow {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            let most = self.takes.pop_front().unwrap_or(Err(ErrorKind::WouldBlock.into()))?;
            let count = most.min(octets.len());
            self.taken.extend_from_slice(&octets[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Read for Slow {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    #[test]
    fn control_stream_sends_in_order_as_the_socket_takes_it() {
        let mut stream = ControlStream::new(Slow::default(), 10);
        stream.socket_mut().takes.extend([Ok(2), Err(ErrorKind::Interrupted.into()), Ok(1)]);
        assert!(!stream.send(b"abcde").expect("it waits"));
        assert_eq!(stream.socket().taken, b"abc");
        stream.socket_mut().takes.extend([Ok(9), Ok(9)]);
        assert!(stream.send(b"fg").expect("it goes"));
        assert_eq!(stream.socket().taken, b"abcdefg");
        assert!(!stream.has_unsent());
    }

    #[test]
    fn control_stream_is_given_up_when_the_other_end_does_not_read() {
        let mut stream = ControlStream::new(Slow::default(), 10);
        assert!(!stream.send(&[0; 10]).expect("it waits"));
        assert!(stream.has_room_for(0) && !stream.has_room_for(1));
        assert!(stream.send(&[0]).is_err());
        assert!(!stream.has_room_for(0));
    }

    #[test]
    fn control_stream_whose_socket_takes_nothing_is_broken() {
        let mut stream = ControlStream::new(Slow::default(), 10);
        stream.socket_mut().takes.push_back(Ok(0));
        assert_eq!(stream.send(b"a").unwrap_err().kind(), ErrorKind::WriteZero);
        assert!(matches!(stream.read(&mut [0; 4]), Ok(None)));
    }
}
