//! The books of received packets: every datagram ends in exactly one account.

/// Why a datagram was neither stored nor a known duplicate or latecomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropCause {
    /// Not an RTP packet of version 2, or cut short.
    NotRtp,
    /// RTCP (RFC 5761, section 4).
    Rtcp,
    /// Larger than any audio packet.
    Oversize,
    /// A payload type other than the recording's codec.
    PayloadType,
    /// Comfort noise: its time is filled with silence.
    ComfortNoise,
    /// No payload.
    Empty,
    /// Sent by another host than the one that sends the call.
    Source,
    /// A second SSRC that competes with the one being recorded.
    Ssrc,
    /// Its sequence number and timestamp fit nothing, and no packet followed it that fits to them.
    Unconfirmed,
    /// More audio than time has passed.
    Ahead,
    /// The time it claims is already taken by other audio.
    Overlap,
    /// The buffer that bridges a stalled disk was full.
    BufferFull,
    /// It could not be sent on to the server.
    Uplink,
    /// STUN, DTLS or ZRTP.
    Handshake,
    /// Encrypted: silence stands for it.
    Encrypted,
}

impl DropCause {
    /// Every cause, in the order of the counters.
    pub const ALL: [Self; 15] = [
        Self::NotRtp,
        Self::Rtcp,
        Self::Oversize,
        Self::PayloadType,
        Self::ComfortNoise,
        Self::Empty,
        Self::Source,
        Self::Ssrc,
        Self::Unconfirmed,
        Self::Ahead,
        Self::Overlap,
        Self::BufferFull,
        Self::Uplink,
        Self::Handshake,
        Self::Encrypted,
    ];

    /// Name in `stats.get`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotRtp => "not_rtp",
            Self::Rtcp => "rtcp",
            Self::Oversize => "oversize",
            Self::PayloadType => "payload_type",
            Self::ComfortNoise => "comfort_noise",
            Self::Empty => "empty",
            Self::Source => "source",
            Self::Ssrc => "ssrc",
            Self::Unconfirmed => "unconfirmed",
            Self::Ahead => "ahead",
            Self::Overlap => "overlap",
            Self::BufferFull => "buffer_full",
            Self::Uplink => "uplink",
            Self::Handshake => "handshake",
            Self::Encrypted => "encrypted",
        }
    }
}

/// The account of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its audio is in the recording.
    Stored,
    /// The same packet was there before.
    Duplicate,
    /// It came after its place was closed.
    Late,
    /// It was dropped.
    Dropped(DropCause),
}

/// Counters of one recording, or of all. `received = stored + duplicate + late + dropped`, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams that arrived while recording.
    pub received: u64,
    /// Packets whose audio is in the recording.
    pub stored: u64,
    /// Packets that came twice.
    pub duplicate: u64,
    /// Packets that came too late to be put in order.
    pub late: u64,
    /// Packets that never came, by their sequence numbers. Not part of `received`.
    pub lost: u64,
    /// Packets whose padding bit is set though nothing is padded, wherever they were booked.
    pub odd_padding: u64,
    /// Datagrams of others than the call's sender. Not part of `received`, nor of any other number.
    pub strangers: u64,
    dropped: [u64; DropCause::ALL.len()],
}

impl Counts {
    /// Books one datagram.
    pub fn book(&mut self, verdict: Verdict) {
        self.received += 1;
        match verdict {
            Verdict::Stored => self.stored += 1,
            Verdict::Duplicate => self.duplicate += 1,
            Verdict::Late => self.late += 1,
            Verdict::Dropped(cause) => self.dropped[cause as usize] += 1,
        }
    }

    /// Books `packets` that counted as stored as dropped after all.
    pub fn rebook(&mut self, packets: u64, cause: DropCause) {
        let packets = packets.min(self.stored);
        self.stored -= packets;
        self.dropped[cause as usize] += packets;
    }

    /// Books `packets` that counted as dropped for `cause` as stored after all.
    pub fn restore(&mut self, packets: u64, cause: DropCause) {
        let packets = packets.min(self.dropped[cause as usize]);
        self.dropped[cause as usize] -= packets;
        self.stored += packets;
    }

    /// Packets dropped for `cause`.
    #[must_use]
    pub fn dropped_for(&self, cause: DropCause) -> u64 {
        self.dropped[cause as usize]
    }

    /// Packets dropped, for all causes.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Adds the counters of `other`.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.stored += other.stored;
        self.duplicate += other.duplicate;
        self.late += other.late;
        self.lost += other.lost;
        self.strangers += other.strangers;
        self.odd_padding += other.odd_padding;
        for (sum, more) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += more;
        }
    }

    /// The state from which the next stretch counts, when one ends here that counted from `earlier`. A packet
    /// that came after all is lost no more, though an earlier stretch says so: the next ones make up for it.
    #[must_use]
    pub fn next_since(&self, earlier: &Self) -> Self {
        Self { lost: self.lost.max(earlier.lost), ..*self }
    }

    /// The counts since `earlier`, a former state of the same counters.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = *self;
        difference.received = difference.received.saturating_sub(earlier.received);
        difference.stored = difference.stored.saturating_sub(earlier.stored);
        difference.duplicate = difference.duplicate.saturating_sub(earlier.duplicate);
        difference.late = difference.late.saturating_sub(earlier.late);
        difference.lost = difference.lost.saturating_sub(earlier.lost);
        difference.strangers = difference.strangers.saturating_sub(earlier.strangers);
        difference.odd_padding = difference.odd_padding.saturating_sub(earlier.odd_padding);
        for (left, less) in difference.dropped.iter_mut().zip(earlier.dropped) {
            *left = left.saturating_sub(less);
        }
        difference
    }

    /// Whether every datagram is in exactly one account.
    #[must_use]
    pub fn balance(&self) -> bool {
        self.received == self.stored + self.duplicate + self.late + self.dropped()
    }
}
