//! Pseudo-random numbers whose sequence never changes.
//!
//! Duty: the same seed gives the same bytes on every machine and in every later version, so that a record can name
//! its input by a seed. Crates do not promise that for their default generators; SplitMix64 is ten lines and public
//! knowledge. Never used for anything secret.

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Two neighbouring seeds give unrelated sequences.
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5DEE_CE66_D1CE_4E5B))
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `n`; 0 where `n` is 0.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        low32((u64::from(low32(self.next() >> 32)) * u64::from(n)) >> 32)
    }

    /// A number in `low..=high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high.saturating_sub(low) + 1)
    }

    /// True in `n` of 10,000 cases.
    pub(crate) fn chance(&mut self, n: u32) -> bool {
        self.below(10_000) < n
    }

    /// One of a table's entries; the table is never empty.
    pub(crate) fn pick<'a, T>(&mut self, table: &'a [T]) -> &'a T {
        &table[self.below(low32(table.len() as u64)) as usize]
    }

    /// A number that is small far more often than large: the smallest of two draws.
    pub(crate) fn skewed(&mut self, n: u32) -> u32 {
        self.below(n).min(self.below(n))
    }
}

/// A good scrambling of one number: also used where a value must follow from an id alone.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The low 32 bits.
pub(crate) fn low32(n: u64) -> u32 {
    (n & 0xFFFF_FFFF) as u32
}
