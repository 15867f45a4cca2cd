//! Decoder of G.722 at 64 kbit/s (mode 1), bit for bit as ITU-T G.722 has it.
//!
//! The crates that offer one start with a quantiser scale of 0 instead of the reset values 32 and 8, and are
//! wrong for the first quarter of a second; hence this one. One octet holds 6 bits of the lower sub-band and
//! 2 of the higher and becomes two samples at 16 kHz. Variables keep the Recommendation's names where
//! it has one: d (difference), p and r (partial and full reconstruction), a and b (predictor coefficients).

/// Inverse logarithm of the scale factors (ILB).
const INVERSE_LOG: [i32; 32] = [
    2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774, 2834, 2896,
    2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838, 3922, 4008,
];
/// Lower band, inverse quantiser of 6 bits (QQ6), for the output.
const LOW_OUTPUT: [i32; 64] = [
    -136, -136, -136, -136, -24808, -21904, -19008, -16704, -14984, -13512, -12280, -11192, -10232, -9360,
    -8576, -7856, -7192, -6576, -6000, -5456, -4944, -4464, -4008, -3576, -3168, -2776, -2400, -2032, -1688,
    -1360, -1040, -728, 24808, 21904, 19008, 16704, 14984, 13512, 12280, 11192, 10232, 9360, 8576, 7856,
    7192, 6576, 6000, 5456, 4944, 4464, 4008, 3576, 3168, 2776, 2400, 2032, 1688, 1360, 1040, 728, 432, 136,
    -432, -136,
];
/// Lower band, inverse quantiser of 4 bits (QQ4), for the predictor.
const LOW_PREDICTOR: [i32; 16] =
    [0, -20456, -12896, -8968, -6288, -4240, -2584, -1200, 20456, 12896, 8968, 6288, 4240, 2584, 1200, 0];
/// Lower band, step of the logarithmic scale by the upper 4 bits (WL).
const LOW_SCALE_STEP: [i32; 16] =
    [-60, 3042, 1198, 538, 334, 172, 58, -30, 3042, 1198, 538, 334, 172, 58, -30, -60];
/// Higher band, inverse quantiser of 2 bits (QQ2).
const HIGH_OUTPUT: [i32; 4] = [-7408, -1616, 7408, 1616];
/// Higher band, step of the logarithmic scale (WH).
const HIGH_SCALE_STEP: [i32; 4] = [798, -214, 798, -214];
/// Receive quadrature mirror filter, one half: the other is its mirror image.
const QMF: [i32; 12] = [3, -11, 12, 32, -210, 951, 3876, -805, 362, -156, 53, -11];

/// Decoder state; it runs through a whole recording.
#[derive(Clone, Debug)]
pub struct G722Decoder {
    low: Band,
    high: Band,
    /// The last 12 pairs of sub-band sum and difference, oldest first.
    pairs: [(i32, i32); 12],
}

impl Default for G722Decoder {
    fn default() -> Self {
        Self { low: Band::reset(32), high: Band::reset(8), pairs: [(0, 0); 12] }
    }
}

/// Octets of a saved decoder state.
pub const STATE_OCTETS: usize = 4 * STATE_NUMBERS;

/// Numbers of a state: 22 of each band, 24 of the filter.
const STATE_NUMBERS: usize = 2 * 22 + 24;

impl G722Decoder {
    /// The state, to go on from later: decoding from a saved state gives the very samples that decoding from
    /// the start gives.
    #[must_use]
    pub fn save(&self) -> [u8; STATE_OCTETS] {
        let pairs = self.pairs.iter().flat_map(|&(sum, difference)| [sum, difference]);
        let numbers = self.low.numbers().into_iter().chain(self.high.numbers()).chain(pairs);
        let mut octets = [0; STATE_OCTETS];
        octets
            .chunks_exact_mut(4)
            .zip(numbers)
            .for_each(|(to, number)| to.copy_from_slice(&number.to_le_bytes()));
        octets
    }

    /// The decoder whose state was saved. Octets that are no state give a decoder of noise, never a failure.
    #[must_use]
    pub fn restore(octets: &[u8; STATE_OCTETS]) -> Self {
        let mut numbers = octets.chunks_exact(4).map(|four| {
            let four: [u8; 4] = four.try_into().unwrap_or_default();
            // The state of a decoder fits 17 bits; more would overflow in its arithmetic.
            i32::from_le_bytes(four).clamp(-65536, 65535)
        });
        let mut next = || numbers.next().unwrap_or_default();
        let (low, high) = (Band::from_numbers(&mut next), Band::from_numbers(&mut next));
        let mut pairs = [(0, 0); 12];
        pairs.iter_mut().for_each(|pair| *pair = (next(), next()));
        Self { low, high, pairs }
    }

    /// Appends the two samples of each octet to `samples`.
    pub fn decode(&mut self, octets: &[u8], samples: &mut Vec<i16>) {
        samples.reserve(octets.len() * 2);
        samples.extend(octets.iter().flat_map(|&octet| self.decode_octet(octet)));
    }

    fn decode_octet(&mut self, octet: u8) -> [i16; 2] {
        let (code, coarse) = (usize::from(octet & 0x3F), usize::from(octet >> 2 & 0x0F));
        let output = (self.low.s + ((self.low.scale * LOW_OUTPUT[code]) >> 15)).clamp(-16384, 16383);
        let d = (self.low.scale * LOW_PREDICTOR[coarse]) >> 15;
        self.low.rescale(LOW_SCALE_STEP[coarse], 18432, 8);
        self.low.adapt(d);

        let code = usize::from(octet >> 6);
        let d = (self.high.scale * HIGH_OUTPUT[code]) >> 15;
        let high_output = (self.high.s + d).clamp(-16384, 16383);
        self.high.rescale(HIGH_SCALE_STEP[code], 22528, 10);
        self.high.adapt(d);

        self.pairs.copy_within(1.., 0);
        self.pairs[11] = (output + high_output, output - high_output);
        let mut sums = (0, 0);
        for (i, &(sum, difference)) in self.pairs.iter().enumerate() {
            sums.0 += difference * QMF[11 - i];
            sums.1 += sum * QMF[i];
        }
        [to_sample(sums.0 >> 11), to_sample(sums.1 >> 11)]
    }
}

/// Adaptive quantiser scale and predictor of one sub-band.
#[derive(Clone, Debug)]
struct Band {
    /// Predicted signal, and the part of it that comes from the zeros.
    s: i32,
    sz: i32,
    r: [i32; 2],
    p: [i32; 2],
    a: [i32; 2],
    d: [i32; 6],
    b: [i32; 6],
    log_scale: i32,
    scale: i32,
}

impl Band {
    fn reset(scale: i32) -> Self {
        Self { s: 0, sz: 0, r: [0; 2], p: [0; 2], a: [0; 2], d: [0; 6], b: [0; 6], log_scale: 0, scale }
    }

    fn numbers(&self) -> [i32; 22] {
        let mut numbers = [0; 22];
        let lists = self.r.iter().chain(&self.p).chain(&self.a).chain(&self.d).chain(&self.b);
        let all = [self.s, self.sz, self.log_scale, self.scale].into_iter().chain(lists.copied());
        numbers.iter_mut().zip(all).for_each(|(to, number)| *to = number);
        numbers
    }

    fn from_numbers(next: &mut impl FnMut() -> i32) -> Self {
        let (s, sz, log_scale, scale) = (next(), next(), next().clamp(0, 22528), next());
        let mut band = Self { s, sz, log_scale, scale, ..Self::reset(0) };
        let lists =
            band.r.iter_mut().chain(&mut band.p).chain(&mut band.a).chain(&mut band.d).chain(&mut band.b);
        lists.for_each(|number| *number = saturate(next()));
        band
    }

    /// LOGSCL and SCALEL, or LOGSCH and SCALEH.
    fn rescale(&mut self, step: i32, max_log: i32, unity_shift: i32) {
        self.log_scale = (((self.log_scale * 127) >> 7) + step).clamp(0, max_log);
        let mantissa = INVERSE_LOG[(self.log_scale >> 6 & 31).unsigned_abs() as usize];
        let shift = unity_shift - (self.log_scale >> 11);
        self.scale = (if shift < 0 { mantissa << -shift } else { mantissa >> shift }) << 2;
    }

    /// Block 4: both predictor sections take in the difference `d` and predict the next signal.
    fn adapt(&mut self, d: i32) {
        let p = saturate(self.sz + d);
        let r = saturate(self.s + d);
        let same_sign = |x: i32, y: i32| (x < 0) == (y < 0);

        let pole = saturate(self.a[0] * 4);
        let pole = (if same_sign(p, self.p[0]) { -pole } else { pole }).min(32767);
        let a2 =
            (pole >> 7) + (if same_sign(p, self.p[1]) { 128 } else { -128 }) + ((self.a[1] * 32512) >> 15);
        let a2 = a2.clamp(-12288, 12288);
        let a1 = saturate((if same_sign(p, self.p[0]) { 192 } else { -192 }) + ((self.a[0] * 32640) >> 15));
        let limit = 15360 - a2;
        self.a = [a1.clamp(-limit, limit), a2];

        let step = if d == 0 { 0 } else { 128 };
        for (b, &past) in self.b.iter_mut().zip(&self.d) {
            *b = saturate((if same_sign(past, d) { step } else { -step }) + ((*b * 32640) >> 15));
        }
        self.d.copy_within(..5, 1);
        self.d[0] = d;
        self.r = [r, self.r[0]];
        self.p = [p, self.p[0]];

        let filter = |coefficient: i32, past: i32| (coefficient * saturate(past * 2)) >> 15;
        let sp = saturate(filter(self.a[0], self.r[0]) + filter(self.a[1], self.r[1]));
        self.sz = saturate(self.b.iter().zip(&self.d).map(|(&b, &past)| filter(b, past)).sum());
        self.s = saturate(sp + self.sz);
    }
}

fn saturate(value: i32) -> i32 {
    value.clamp(i32::from(i16::MIN), i32::from(i16::MAX))
}

fn to_sample(value: i32) -> i16 {
    i16::try_from(saturate(value)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_codec_s_silence_octet_decodes_to_zeros() {
        let mut samples = Vec::new();
        G722Decoder::default().decode(&[media::codec::Codec::G722.silence(); 8000], &mut samples);
        assert_eq!(samples, vec![0; 16_000]);
    }

    proptest! {
        #[test]
        fn a_saved_state_goes_on_as_if_nothing_had_happened(
            octets in proptest::collection::vec(any::<u8>(), 0..2000), at in 0..2000usize,
        ) {
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            G722Decoder::default().decode(&octets, &mut whole);
            let (before, after) = octets.split_at(at.min(octets.len()));
            let mut decoder = G722Decoder::default();
            decoder.decode(before, &mut parts);
            G722Decoder::restore(&decoder.save()).decode(after, &mut parts);
            prop_assert_eq!(whole, parts);
        }

        #[test]
        fn a_state_of_any_octets_decodes_without_overflow(
            state in proptest::collection::vec(any::<u8>(), STATE_OCTETS), octets: [u8; 32],
        ) {
            let mut samples = Vec::new();
            G722Decoder::restore(&state.try_into().unwrap()).decode(&octets, &mut samples);
            prop_assert_eq!(samples.len(), 64);
        }

        #[test]
        fn any_octets_decode_without_overflow(octets in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut samples = Vec::new();
            G722Decoder::default().decode(&octets, &mut samples);
            prop_assert_eq!(samples.len(), octets.len() * 2);
        }
    }
}
