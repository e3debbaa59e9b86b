//! When a busy worker lets requests gather before it asks the kernel for more.
//!
//! To be woken costs more than to serve a request, and the log gets fewer and larger batches.
//! Only says when; never waits itself.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// A worker gathers that has lately had so many requests waiting for their answers.
const GATHER_FROM: u32 = 128;
/// What "lately" means: with each time that the worker would sleep, the highest number counts for
/// so much less. A batch that is confirmed answers nearly all of them at once.
const FADE: u32 = 64;
/// How long. Far below what so many requests wait for the log.
const GATHER: Duration = Duration::from_micros(200);

/// Of one worker.
#[derive(Debug, Default)]
pub(super) struct Gather {
    lately: AtomicU32,
}

impl Gather {
    /// Called when the worker would sleep: how long it gathers before that.
    pub(super) fn pause(&self, waiting: u32) -> Option<Duration> {
        let before = self.lately.load(Relaxed);
        let lately = waiting.max(before - before.div_ceil(FADE));
        self.lately.store(lately, Relaxed);
        (lately >= GATHER_FROM).then_some(GATHER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_gathers_between_the_batches_of_many_requests_and_soon_no_longer_after_them() {
        let gather = Gather::default();
        assert_eq!(gather.pause(GATHER_FROM - 1), None);
        for _ in 0..50 {
            assert_eq!(gather.pause(1024), Some(GATHER));
            // All were answered at once.
            assert_eq!(gather.pause(0), Some(GATHER));
        }
        let times = (0..1000).take_while(|_| gather.pause(2).is_some()).count();
        assert!((10..200).contains(&times), "{times}");
        for _ in 0..1000 {
            gather.pause(0);
        }
        assert_eq!(gather.lately.load(Relaxed), 0);
    }
}
