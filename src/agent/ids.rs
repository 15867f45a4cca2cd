//! Keys inside the process, and ids that no other recording has.

use super::Agent;
use store::jobs::FileKey;

impl Agent {
    pub(super) fn new_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    pub(super) fn new_file(&mut self) -> FileKey {
        FileKey(self.new_key())
    }

    /// 16 hexadecimal digits.
    pub(super) fn new_id(&mut self) -> String {
        format!("{:016x}", self.next_random())
    }

    /// The next of the SplitMix64 sequence, which repeats none of its values.
    pub(super) fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
