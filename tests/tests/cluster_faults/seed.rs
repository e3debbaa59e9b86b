//! The schedule's chance: one seed gives one schedule.

use std::time::{Duration, SystemTime};

/// Repeats a run.
pub(crate) const VARIABLE: &str = "FANAL_FAULT_SEED";

pub(crate) fn seed() -> u64 {
    if let Ok(text) = std::env::var(VARIABLE) {
        return text.parse().unwrap_or_else(|_| panic!("{VARIABLE}={text} is no number"));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_secs() ^ u64::from(now.subsec_nanos())
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Each subject draws from its own numbers, so that leaving one fault out
    /// changes nothing for the others.
    pub(crate) fn new(seed: u64, subject: &str) -> Self {
        let of_subject =
            subject.bytes().fold(seed, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
        Self(of_subject)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    pub(crate) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from((to - from).as_millis()).unwrap();
        from + Duration::from_millis(self.below(span.max(1)))
    }

    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }
}
