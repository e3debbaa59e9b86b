//! Waiting with a limit: nothing here waits for ever.

use std::fmt::Debug;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until there is something, and fails with what was awaited.
///
/// # Panics
/// When the limit has passed.
pub fn eventually<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        sleep(PAUSE);
    }
}

/// Looks until the value is the expected one, and fails with both.
///
/// # Panics
/// When the limit has passed.
pub fn within<T: PartialEq + Debug>(limit: Duration, expected: &T, mut look: impl FnMut() -> T) {
    let end = Instant::now() + limit;
    loop {
        let found = look();
        if found == *expected {
            return;
        }
        assert!(Instant::now() < end, "not within {limit:?}: expected {expected:?}, found {found:?}");
        sleep(PAUSE);
    }
}
