//! Which keys send so much that their partition would suffer: counted per second in
//! bounded memory. A key may be taken for hot a little early, never late.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

const WINDOW: Duration = Duration::from_secs(1);
/// A key stays hot so long after its last busy second, so that it does not go to and fro.
const HOT_FOR: Duration = Duration::from_secs(60);
/// How often the partition of a hot key is told that lines of it are elsewhere.
const MARK_INTERVAL: Duration = Duration::from_secs(5);
/// More hot keys at once than this, and the load is not a matter of keys.
const HOT_KEYS_MAX: usize = 1024;
/// Rows and columns of the sketch: 64 KiB. At 100,000 records in a second a key is
/// counted about 60 too high at worst.
const ROWS: usize = 4;
const COLUMNS: usize = 4096;

/// A count-min sketch of the running second, and the keys that went beyond the limit.
pub(crate) struct HotKeys {
    limit: u32,
    hasher: RandomState,
    counts: Vec<u32>,
    window_start: Instant,
    /// By the hash of the key.
    hot: HashMap<u64, Hot>,
}

struct Hot {
    until: Instant,
    /// When the key's partition is to be told next.
    mark_at: Instant,
}

/// What is to be done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heat {
    Cool,
    Hot,
    /// As `Hot`, and the key's own partition is to be told.
    HotAndMarked,
}

impl HotKeys {
    /// `limit` 0 finds no key hot.
    pub(crate) fn new(limit: u32, now: Instant) -> Self {
        let counts = if limit == 0 { Vec::new() } else { vec![0; ROWS * COLUMNS] };
        Self { limit, hasher: RandomState::default(), counts, window_start: now, hot: HashMap::new() }
    }

    /// Counts a record of `key` and says whether the key is hot.
    pub(crate) fn judge(&mut self, key: &[u8], now: Instant) -> Heat {
        if self.limit == 0 {
            return Heat::Cool;
        }
        if now.saturating_duration_since(self.window_start) >= WINDOW {
            self.window_start = now;
            self.counts.fill(0);
            self.hot.retain(|_, hot| hot.until > now);
        }
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        let hash = hasher.finish();
        if self.count(hash) > self.limit && (self.hot.len() < HOT_KEYS_MAX || self.hot.contains_key(&hash)) {
            let hot = self.hot.entry(hash).or_insert(Hot { until: now, mark_at: now });
            hot.until = now + HOT_FOR;
        }
        match self.hot.get_mut(&hash) {
            None => Heat::Cool,
            Some(hot) if hot.mark_at <= now => {
                hot.mark_at = now + MARK_INTERVAL;
                Heat::HotAndMarked
            }
            Some(_) => Heat::Hot,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.hot.len()
    }

    /// Adds one and returns the count: the least of all rows, since others can only add.
    fn count(&mut self, hash: u64) -> u32 {
        let mut least = u32::MAX;
        for row in 0..ROWS {
            // 12 bits of the hash for each row.
            let column = usize::try_from(hash >> (16 * row) & (COLUMNS as u64 - 1)).unwrap_or(0);
            let count = &mut self.counts[row * COLUMNS + column];
            *count = count.saturating_add(1);
            least = least.min(*count);
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_busy_key_becomes_hot_and_cools_down() {
        let start = Instant::now();
        let mut keys = HotKeys::new(100, start);
        for n in 0..20_000_u32 {
            assert!(keys.judge(&n.to_le_bytes(), start) == Heat::Cool, "key {n} came once");
        }
        let heats: Vec<Heat> =
            (0..200).map(|_| keys.judge(b"busy", start)).filter(|heat| *heat != Heat::Cool).collect();
        let marks = heats.iter().filter(|heat| **heat == Heat::HotAndMarked).count();
        assert_eq!(marks, 1, "its partition is told once in a while");
        let hot = heats.len();
        assert!((99..=110).contains(&hot), "{hot} of 200 records were beyond the limit of 100");
        assert_eq!(keys.len(), 1);
        let later = keys.judge(b"busy", start + Duration::from_secs(30));
        assert_eq!(later, Heat::HotAndMarked, "it stays hot for a while");
        assert_eq!(keys.judge(b"busy", start + Duration::from_secs(100)), Heat::Cool);
        assert_eq!(keys.len(), 0);
    }

    #[test]
    fn a_steady_key_below_the_limit_is_never_hot() {
        let start = Instant::now();
        let mut keys = HotKeys::new(100, start);
        for second in 0..50 {
            let now = start + Duration::from_secs(second);
            assert!((0..100).all(|_| keys.judge(b"steady", now) == Heat::Cool));
        }
    }

    #[test]
    fn a_limit_of_zero_turns_it_off_and_memory_is_bounded() {
        let start = Instant::now();
        let mut off = HotKeys::new(0, start);
        assert!((0..10_000).all(|_| off.judge(b"busy", start) == Heat::Cool));
        let mut many = HotKeys::new(1, start);
        for n in 0..5_000_u32 {
            for _ in 0..3 {
                many.judge(&n.to_le_bytes(), start);
            }
        }
        assert_eq!(many.len(), HOT_KEYS_MAX);
    }
}
