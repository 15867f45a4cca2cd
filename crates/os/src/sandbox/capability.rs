//! Capabilities that may be kept, by name.
//!
//! Only those that a recorder can have a use for; a process drops all others.

use std::fmt;
use std::str::FromStr;

/// Names and numbers (linux/capability.h), and the use of each here.
const KNOWN: [(&str, u8); 6] = [
    // Folders and sticks that belong to another user.
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_FOWNER", 3),
    // Socket buffers beyond net.core.rmem_max.
    ("CAP_NET_ADMIN", 12),
    // RTP ports below 1024.
    ("CAP_NET_BIND_SERVICE", 10),
];

/// The names, for messages.
pub const NAMES: &str =
    "CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_NET_ADMIN or CAP_NET_BIND_SERVICE";

/// One capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability(u8);

impl Capability {
    /// Giving files to other users and groups.
    pub const CHOWN: Self = Self(0);

    pub(super) fn bit(self) -> u64 {
        1 << self.0
    }
}

impl FromStr for Capability {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        KNOWN.iter().find(|(known, _)| *known == name).map(|(_, number)| Self(*number)).ok_or(())
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KNOWN.iter().find(|(_, number)| *number == self.0).map_or("CAP_?", |(name, _)| name);
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_and_shown_again() {
        for (name, number) in KNOWN {
            assert_eq!(name.parse(), Ok(Capability(number)));
            assert_eq!(Capability(number).to_string(), name);
            assert!(NAMES.contains(name));
        }
        assert_eq!("CAP_SYS_ADMIN".parse::<Capability>(), Err(()));
        assert_eq!("net_admin".parse::<Capability>(), Err(()));
    }
}
