//! The phase of a recording's life, and the notices that its clients have had.

/// The phase of a recording's life. A pause is no phase: a recording may be paused before it has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Phase {
    /// The disk, the server or the PBX has not answered yet.
    Starting,
    /// It has begun: a file that comes later is another segment.
    Running,
    /// Its end is under way.
    Stopping { has_begun: bool },
    /// It is over.
    Ended { has_begun: bool },
}

impl Phase {
    pub(in crate::agent) fn has_begun(self) -> bool {
        match self {
            Self::Starting => false,
            Self::Running => true,
            Self::Stopping { has_begun } | Self::Ended { has_begun } => has_begun,
        }
    }

    /// The disk or the server has answered. Returns whether that is the beginning.
    pub(in crate::agent) fn begin(&mut self) -> bool {
        let first = !self.has_begun();
        *self = match *self {
            Self::Starting | Self::Running => Self::Running,
            Self::Stopping { .. } => Self::Stopping { has_begun: true },
            Self::Ended { .. } => Self::Ended { has_begun: true },
        };
        first
    }

    pub(in crate::agent) fn stop(&mut self) {
        *self = Self::Stopping { has_begun: self.has_begun() };
    }

    pub(in crate::agent) fn end(&mut self) {
        *self = Self::Ended { has_begun: self.has_begun() };
    }

    /// Whether pause, resume and stop are possible.
    pub(in crate::agent) fn is_live(self) -> bool {
        matches!(self, Self::Starting | Self::Running)
    }
}

/// A trouble that clients hear of once.
#[derive(Clone, Copy, Debug)]
pub(in crate::agent) enum Notice {
    /// The disk stands still.
    Stalled,
    /// Audio was lost on our side.
    Loss,
}

/// The notices that were given.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::agent) struct Notices(u8);

impl Notices {
    pub(in crate::agent) fn has(self, notice: Notice) -> bool {
        self.0 & bit(notice) != 0
    }

    /// Notes a notice. Returns whether it is new.
    pub(in crate::agent) fn first(&mut self, notice: Notice) -> bool {
        let first = !self.has(notice);
        self.0 |= bit(notice);
        first
    }

    /// The trouble is over: the next one is a new notice.
    pub(in crate::agent) fn renew(&mut self, notice: Notice) {
        self.0 &= !bit(notice);
    }
}

fn bit(notice: Notice) -> u8 {
    1 << notice as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_begins_once_and_remembers_it_to_the_end() {
        let mut phase = Phase::Starting;
        assert!(phase.is_live() && phase.begin() && !phase.begin());
        phase.stop();
        assert_eq!(phase, Phase::Stopping { has_begun: true });
        phase.end();
        assert_eq!(phase, Phase::Ended { has_begun: true });
        let mut early = Phase::Starting;
        early.stop();
        assert!(!early.is_live() && !early.has_begun());
        assert!(early.begin());
        assert_eq!(early, Phase::Stopping { has_begun: true });
    }

    #[test]
    fn notices_are_new_once_until_they_are_renewed() {
        let mut notices = Notices::default();
        assert!(notices.first(Notice::Stalled) && !notices.first(Notice::Stalled));
        assert!(!notices.has(Notice::Loss));
        notices.renew(Notice::Stalled);
        assert!(notices.first(Notice::Stalled));
    }
}
