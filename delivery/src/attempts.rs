//! Bounds the guessing of client secrets.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong credentials that one address may send within [`WINDOW`].
const FAILURES_MAX: u32 = 30;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses remembered at once.
const ADDRESSES_MAX: usize = 10_000;

/// Failures by address. A client behind a shared proxy may be refused for its
/// neighbour's guesses; it goes on without a token, which loses nothing.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl Attempts {
    /// How long this address has to wait, if it failed too often.
    pub(crate) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, since) = failures.get(&network(address))?;
        let left = WINDOW.checked_sub(now.saturating_duration_since(*since))?;
        (*count >= FAILURES_MAX).then_some(left)
    }

    pub(crate) fn failed(&self, address: IpAddr, now: Instant) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ADDRESSES_MAX {
            failures.retain(|_, (_, since)| now.saturating_duration_since(*since) < WINDOW);
            if failures.len() >= ADDRESSES_MAX {
                // So many addresses at once: forgetting is better than growing.
                failures.clear();
            }
        }
        let entry = failures.entry(network(address)).or_insert((0, now));
        if now.saturating_duration_since(entry.1) >= WINDOW {
            *entry = (0, now);
        }
        entry.0 = entry.0.saturating_add(1);
    }
}

/// One host has a whole IPv6 network to itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => (u128::from(v6) >> 64 << 64).to_be_bytes().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_is_stopped_for_a_minute_and_for_one_network_only() {
        let attempts = Attempts::default();
        let (guesser, other): (IpAddr, IpAddr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8:0:1::1".parse().unwrap());
        let start = Instant::now();
        for _ in 0..FAILURES_MAX {
            assert_eq!(attempts.wait(guesser, start), None);
            attempts.failed(guesser, start);
        }
        assert!(attempts.wait("2001:db8::2".parse().unwrap(), start).is_some());
        assert_eq!(attempts.wait(other, start), None);
        assert_eq!(attempts.wait(guesser, start + WINDOW + Duration::from_secs(1)), None);
    }

    #[test]
    fn memory_stays_bounded_whoever_comes() {
        let attempts = Attempts::default();
        let now = Instant::now();
        for n in 0..u32::try_from(ADDRESSES_MAX * 2).unwrap() {
            attempts.failed(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(attempts.0.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
