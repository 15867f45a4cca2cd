//! The level of a stretch of audio, cheap enough for every packet on a phone.

use crate::codec::Codec;
use audio_codec_algorithms::{decode_alaw, decode_ulaw};
use std::sync::OnceLock;

/// The lowest level that is reported: digital silence would be minus infinity. 16-bit audio's own noise is
/// at -96, so no signal is down here.
pub const FLOOR_DBFS: f32 = -100.0;

/// The level of a stretch of audio. It is taken once a second and seldom read, so the logarithm waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Mean square, full scale being 1.
    mean: f64,
}

impl Level {
    /// The root mean square in decibels below a full-scale square wave (the dBov of RFC 6464).
    #[must_use]
    pub fn dbfs(self) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "a level of a few digits")]
        let level = (10.0 * self.mean.log10()) as f32;
        level.max(FLOOR_DBFS)
    }
}

/// The level of every `stride`-th of `octets`. `None` for G.722, which has no level without decoding, and
/// for no octets.
#[must_use]
pub fn level(codec: Codec, octets: &[u8], stride: usize) -> Option<Level> {
    let squares = square_table(codec)?;
    if octets.is_empty() {
        return None;
    }
    let stride = stride.max(1);
    let (mut sum, mut at) = (0.0_f32, 0);
    while let Some(octet) = octets.get(at) {
        sum += squares[usize::from(*octet)];
        at += stride;
    }
    let count = u32::try_from(octets.len().div_ceil(stride)).unwrap_or(u32::MAX);
    Some(Level { mean: f64::from(sum) / f64::from(count) })
}

/// The squares of a codec's 256 values, full scale being 1.
fn square_table(codec: Codec) -> Option<&'static [f32; 256]> {
    static ALAW: OnceLock<[f32; 256]> = OnceLock::new();
    static ULAW: OnceLock<[f32; 256]> = OnceLock::new();
    let (table, decode): (_, fn(u8) -> i16) = match codec {
        Codec::Pcma => (&ALAW, decode_alaw),
        Codec::Pcmu => (&ULAW, decode_ulaw),
        Codec::G722 => return None,
    };
    Some(table.get_or_init(|| {
        let mut squares = [0.0; 256];
        for (octet, square) in (0..=u8::MAX).zip(&mut squares) {
            *square = (f32::from(decode(octet)) / 32768.0).powi(2);
        }
        squares
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level_dbfs(codec: Codec, octets: &[u8], stride: usize) -> Option<f32> {
        level(codec, octets, stride).map(Level::dbfs)
    }

    #[test]
    fn silence_is_quiet_full_scale_is_near_zero_and_g722_has_no_level() {
        assert_eq!(level_dbfs(Codec::Pcmu, &[0xFF; 160], 1), Some(FLOOR_DBFS));
        let alaw = level_dbfs(Codec::Pcma, &[0xD5; 160], 4).expect("a level");
        assert!((-73.0..-72.0).contains(&alaw), "A-law has no zero, its least step is at {alaw}");
        let loud = level_dbfs(Codec::Pcma, &[0xAA, 0x2A], 1).expect("a level");
        assert!((-0.2..0.0).contains(&loud), "{loud}");
        assert_eq!(level_dbfs(Codec::G722, &[0; 160], 1), None);
        assert_eq!(level_dbfs(Codec::Pcma, &[], 0), None);
    }

    #[test]
    fn a_stride_samples_the_octets() {
        let mixed: Vec<u8> = [0xFF, 0x80].repeat(80);
        assert_eq!(level_dbfs(Codec::Pcmu, &mixed, 2), Some(FLOOR_DBFS));
    }
}
