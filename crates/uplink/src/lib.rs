//! Server recording: the messages, how they are cut out of a TCP stream, and the agent's side of a session.
//!
//! Owns: everything about the protocol that can be said without a socket. [`message`] is the text of
//! one message, [`framing`] finds messages in a stream that has no framing, [`media_hosts`] says where audio
//! may go, [`media_stream`] is audio over TCP, [`phone`] is the state machine of one recording. Never:
//! sockets, clocks, name look-ups; they are inputs and actions.

pub mod framing;
pub mod media_hosts;
pub mod media_stream;
pub mod message;
pub mod phone;
pub mod server;

/// The `id` of a new recording: 32 hexadecimal characters from 128 random bits.
#[must_use]
pub fn session_id(random: [u64; 2]) -> String {
    format!("{:016x}{:016x}", random[0], random[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_has_32_hexadecimal_characters_for_any_bits() {
        assert_eq!(session_id([1, 0xAB]), "000000000000000100000000000000ab");
        assert_eq!(session_id([u64::MAX, u64::MAX]).len(), 32);
    }
}
