//! The wave of a recording: a lowest and a highest value for each 100 ms, and where there is sound.

use super::view::View;
use serde::{Deserialize, Serialize};
use std::io;

/// Time of a pair.
pub(crate) const STEP_MS: u64 = 100;
/// Sound from this part of full scale on: 128 of it.
const SOUND_FROM: i16 = 512;
/// Octets of PCM read at a time: about a minute.
const CHUNK_OCTETS: usize = 1 << 20;

/// A wave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peaks {
    /// Time of a pair, in milliseconds.
    pub(crate) step_ms: u64,
    /// Playing time.
    pub(crate) duration_ms: u64,
    /// The lowest and the highest sample of each step, of -128 to 127.
    pub(crate) peaks: Vec<(i8, i8)>,
    /// Root mean square where there is sound, in dB below full scale; `None`: there is no sound.
    pub(crate) loudness_dbfs: Option<i32>,
    /// From and to in milliseconds, where there is sound.
    pub(crate) sound: Vec<(u64, u64)>,
}

/// The wave of a view that is 16-bit PCM.
pub(crate) fn peaks(view: &mut View, sample_rate_hz: u32) -> io::Result<Peaks> {
    let rate = u64::from(sample_rate_hz);
    let step = usize::try_from(rate * STEP_MS / 1000).unwrap_or(usize::MAX);
    let (mut at, end) = (super::wav::PCM_HEADER_OCTETS, view.len());
    let mut wave = Peaks { step_ms: STEP_MS, duration_ms: (end - at) / 2 * 1000 / rate, ..Peaks::default() };
    let (mut low, mut high, mut count, mut power) = (0, 0, 0, 0_u64);
    let (mut all_power, mut all_count) = (0_u64, 0_u64);
    let mut close = |low: i16, high: i16, power: u64, count: usize| {
        let from_ms = wave.peaks.len() as u64 * STEP_MS;
        let eighth = |value: i16| i8::try_from(value >> 8).unwrap_or(0);
        wave.peaks.push((eighth(low), eighth(high)));
        if low < -SOUND_FROM || high > SOUND_FROM {
            (all_power, all_count) = (all_power.saturating_add(power), all_count + count as u64);
            match wave.sound.last_mut() {
                Some((_, to)) if *to == from_ms => *to += STEP_MS,
                _ => wave.sound.push((from_ms, from_ms + STEP_MS)),
            }
        }
    };
    while at < end {
        let octets = view.read(at, CHUNK_OCTETS)?;
        if octets.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += octets.len() as u64;
        for pair in octets.chunks_exact(2) {
            let sample = i16::from_le_bytes([pair[0], pair[1]]);
            (low, high, count) = (sample.min(low), sample.max(high), count + 1);
            power += u64::from(sample.unsigned_abs()).pow(2);
            if count == step {
                close(low, high, power, count);
                (low, high, count, power) = (0, 0, 0, 0);
            }
        }
    }
    if count > 0 {
        close(low, high, power, count);
    }
    wave.loudness_dbfs = loudness(all_power, all_count);
    Ok(wave)
}

fn loudness(power: u64, count: u64) -> Option<i32> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "dB, to the nearest one"
    )]
    let db = |power: u64| (10.0 * (power as f64 / 2_f64.powi(30)).log10()).round() as i32;
    power.checked_div(count).filter(|mean| *mean > 0).map(db)
}
