//! WAV for browsers: the header of a file, and which octets of it a request asks for. Numbers only.

use media::codec::Codec;

/// Octets before the audio of a WAV of G.711 as it is stored.
pub(crate) const G711_HEADER_OCTETS: u64 = 58;
/// Octets before 16-bit PCM.
pub(crate) const PCM_HEADER_OCTETS: u64 = 44;

/// The form in which a recording is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The stored octets of G.711: WAVE formats 6 and 7.
    Stored,
    /// 16-bit PCM.
    Pcm,
}

impl Form {
    /// The one for a codec: as it is stored where a player can take that.
    pub(crate) fn of(codec: Codec, pcm: bool) -> Self {
        if pcm || codec == Codec::G722 { Self::Pcm } else { Self::Stored }
    }

    /// Octets of the header.
    pub(crate) fn header_octets(self) -> u64 {
        match self {
            Self::Stored => G711_HEADER_OCTETS,
            Self::Pcm => PCM_HEADER_OCTETS,
        }
    }

    /// Octets in the WAV for a stored one.
    pub(crate) fn octets_per_octet(self, codec: Codec) -> u64 {
        match (self, codec) {
            (Self::Stored, _) => 1,
            (Self::Pcm, Codec::G722) => 4,
            (Self::Pcm, Codec::Pcma | Codec::Pcmu) => 2,
        }
    }

    /// The header of a WAV of `data_octets`, if RIFF can count them.
    pub(crate) fn header(self, codec: Codec, data_octets: u64) -> Option<Vec<u8>> {
        let padded = u32::try_from(data_octets + data_octets % 2 + self.header_octets() - 8).ok()?;
        let data = u32::try_from(data_octets).ok()?;
        let rate = codec.sample_rate_hz();
        let (format, octets): (u16, u16) = match (self, codec) {
            (Self::Pcm, _) => (1, 2),
            (Self::Stored, Codec::Pcmu) => (7, 1),
            (Self::Stored, _) => (6, 1),
        };
        let mut head = Vec::with_capacity(58);
        head.extend(b"RIFF");
        head.extend(padded.to_le_bytes());
        head.extend(b"WAVEfmt ");
        head.extend((if self == Self::Pcm { 16_u32 } else { 18 }).to_le_bytes());
        head.extend(format.to_le_bytes());
        head.extend(1_u16.to_le_bytes()); // channels
        head.extend(rate.to_le_bytes());
        head.extend((rate * u32::from(octets)).to_le_bytes());
        head.extend(octets.to_le_bytes()); // octets per sample
        head.extend((octets * 8).to_le_bytes());
        if self == Self::Stored {
            head.extend(0_u16.to_le_bytes()); // no extension
            head.extend(b"fact");
            head.extend(4_u32.to_le_bytes());
            head.extend(data.to_le_bytes()); // samples
        }
        head.extend(b"data");
        head.extend(data.to_le_bytes());
        Some(head)
    }
}

/// The octets that a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All of it: there is no header, or one that is to be ignored.
    All,
    /// From the first to before the second.
    Part(u64, u64),
    /// Nothing that is there.
    Nothing,
}

/// Reads a `Range` header (RFC 9110, section 14) for something of `total` octets. Several ranges are ignored.
pub(crate) fn asked(header: Option<&str>, total: u64) -> Asked {
    let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Asked::All;
    };
    let Some((first, last)) = spec.trim().split_once('-') else { return Asked::All };
    if spec.contains(',') {
        return Asked::All;
    }
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        // One that is too long is past every end.
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            Some(0) => Asked::Nothing,
            Some(_) if total == 0 => Asked::Nothing,
            Some(count) => Asked::Part(total.saturating_sub(count), total),
            None => Asked::All,
        },
        (first, last) => match (number(first), last, number(last)) {
            (Some(first), _, _) if first >= total => Asked::Nothing,
            (Some(first), "", _) => Asked::Part(first, total),
            (Some(first), _, Some(last)) if last >= first => {
                Asked::Part(first, last.saturating_add(1).min(total))
            }
            _ => Asked::All,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_has_the_length_that_it_says_and_is_accepted_by_a_wav_reader() {
        for (codec, form, format, rate) in [
            (Codec::Pcma, Form::Stored, 6, 8000_u32),
            (Codec::Pcmu, Form::Stored, 7, 8000),
            (Codec::Pcmu, Form::Pcm, 1, 8000),
            (Codec::G722, Form::of(Codec::G722, false), 1, 16_000),
        ] {
            let head = form.header(codec, 320).unwrap();
            assert_eq!(head.len() as u64, form.header_octets());
            assert_eq!(
                u32::from_le_bytes(head[4..8].try_into().unwrap()),
                320 + u32::try_from(head.len()).unwrap() - 8
            );
            assert_eq!((head[20], u32::from_le_bytes(head[24..28].try_into().unwrap())), (format, rate));
            assert_eq!(head[head.len() - 4..], 320_u32.to_le_bytes());
        }
        assert_eq!(Form::Stored.header(Codec::Pcma, u64::from(u32::MAX)), None);
    }

    #[test]
    fn a_range_is_a_part_all_or_nothing() {
        for (header, expected) in [
            ("bytes=0-0", Asked::Part(0, 1)),
            ("bytes=10-", Asked::Part(10, 100)),
            ("bytes=-10", Asked::Part(90, 100)),
            ("bytes=-1000", Asked::Part(0, 100)),
            ("bytes=90-1000", Asked::Part(90, 100)),
            ("bytes=99999999999999999999999-", Asked::Nothing),
            ("bytes=100-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=5-4", Asked::All),
            ("bytes=0-1,5-6", Asked::All),
            ("items=0-1", Asked::All),
            ("bytes=x-y", Asked::All),
            ("bytes=+1-5", Asked::All),
        ] {
            assert_eq!(asked(Some(header), 100), expected, "{header}");
        }
        assert_eq!((asked(None, 100), asked(Some("bytes=0-"), 0)), (Asked::All, Asked::Nothing));
    }

    proptest! {
        #[test]
        fn any_range_is_within_the_file(header in "(bytes=)?[0-9,-]{0,24}", total in 0..1000_u64) {
            if let Asked::Part(from, to) = asked(Some(&header), total) {
                prop_assert!(from < to && to <= total);
            }
        }
    }
}
