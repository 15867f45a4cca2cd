//! Whose RTP counts: packets from the phone's address, all from one port.
//!
//! Owns: the address of the control connection and the port that the first packet came from. A phone
//! behind a NAT may come back from another port after a long pause; then, and only then, the lock moves.

use phone_recorder::time::Mono;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Silence after which another port of the same address may take over.
pub const RELOCK_AFTER: Duration = Duration::from_secs(10);

/// Tells the phone's packets from everybody else's.
#[derive(Clone, Copy, Debug)]
pub struct SourceLock {
    phone: IpAddr,
    locked: Option<Locked>,
}

#[derive(Clone, Copy, Debug)]
struct Locked {
    port: u16,
    last: Mono,
}

impl SourceLock {
    /// Takes packets from `phone` only, the address of the control connection.
    #[must_use]
    pub fn new(phone: IpAddr) -> Self {
        Self { phone: phone.to_canonical(), locked: None }
    }

    /// Whether a well-formed packet that came from `source` at `now` belongs to the call. The first
    /// one that does settles the port.
    pub fn admits(&mut self, source: SocketAddr, now: Mono) -> bool {
        if source.ip().to_canonical() != self.phone {
            return false;
        }
        let rival = self
            .locked
            .is_some_and(|locked| locked.port != source.port() && now.since(locked.last) < RELOCK_AFTER);
        if !rival {
            self.locked = Some(Locked { port: source.port(), last: now });
        }
        !rival
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    fn at(s: u64) -> Mono {
        Mono::new(Duration::from_secs(s))
    }

    #[test]
    fn only_the_first_port_of_the_phone_is_heard() {
        let mut lock = SourceLock::new(addr("192.0.2.1:0").ip());
        assert!(!lock.admits(addr("192.0.2.2:4000"), at(0)));
        assert!(lock.admits(addr("192.0.2.1:4000"), at(0)));
        assert!(!lock.admits(addr("192.0.2.1:4001"), at(1)));
        assert!(lock.admits(addr("[::ffff:192.0.2.1]:4000"), at(1)));
    }

    #[test]
    fn after_a_long_silence_the_phone_may_come_from_another_port() {
        let mut lock = SourceLock::new(addr("192.0.2.1:0").ip());
        assert!(lock.admits(addr("192.0.2.1:4000"), at(0)));
        assert!(!lock.admits(addr("192.0.2.1:4001"), at(9)));
        assert!(lock.admits(addr("192.0.2.1:4001"), at(10)));
        assert!(!lock.admits(addr("192.0.2.1:4000"), at(11)));
    }
}
