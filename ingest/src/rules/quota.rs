//! How many lines per second a site may send.
//!
//! The generic cell rate algorithm (ITU-T I.371): one number per site says until when its
//! lines are paid for. A request may begin while that is less than `burst` ahead of now; its
//! lines are charged when they are counted, so that a body may run up a debt which the site
//! then waits out, within a bound: whoever knows a site's code may send in its name. No timer,
//! no lock but for a site's first request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use metrics::Counter;

use super::Refused;
use crate::metrics::refused_by_quota;

/// No debt is waited out for longer.
const DEBT_NS_MAX: u64 = 10_000_000_000;

/// A rate, and how much of it may come at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    pub(super) line_ns: u64,
    pub(super) burst_ns: u64,
}

/// One site's account.
#[derive(Debug)]
struct Account {
    rate: Rate,
    paid_until_ns: AtomicU64,
    refused: Counter,
}

impl Account {
    fn new(site_code: &str, rate: Rate) -> Arc<Self> {
        let refused = refused_by_quota(site_code);
        Arc::new(Self { rate, paid_until_ns: AtomicU64::new(0), refused })
    }

    fn admit(&self, now_ns: u64) -> Result<(), Refused> {
        let ahead = self.paid_until_ns.load(Relaxed).saturating_sub(now_ns);
        match ahead.checked_sub(self.rate.burst_ns) {
            None | Some(0) => Ok(()),
            Some(debt) => {
                self.refused.increment(1);
                Err(Refused::Quota { free_in: Duration::from_nanos(debt) })
            }
        }
    }

    fn charge(&self, lines: u64, now_ns: u64) {
        let cost = lines.saturating_mul(self.rate.line_ns);
        let most = now_ns.saturating_add(self.rate.burst_ns).saturating_add(DEBT_NS_MAX);
        let pay = |until: u64| Some(until.max(now_ns).saturating_add(cost).min(most));
        self.paid_until_ns.fetch_update(Relaxed, Relaxed, pay).ok();
    }
}

/// The accounts of all sites that have a quota.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    named: HashMap<Box<str>, Arc<Account>>,
    /// For each site that has none of its own.
    every: Option<Rate>,
    /// Accounts of those; there are as many as the catalogue has sites.
    others: RwLock<HashMap<Box<str>, Arc<Account>>>,
}

impl Quotas {
    /// Goes on with the accounts that these had, where the rate is the same.
    pub(super) fn go_on_from(&mut self, before: &Self) {
        for (site_code, account) in &mut self.named {
            if let Some(old) = before.named.get(site_code).filter(|old| old.rate == account.rate) {
                *account = Arc::clone(old);
            }
        }
        if self.every.is_some() && self.every == before.every {
            let others = before.others.read().unwrap_or_else(PoisonError::into_inner).clone();
            self.others = RwLock::new(others);
        }
    }

    pub(super) fn name(&mut self, site_code: &str, rate: Rate) {
        self.named.insert(site_code.into(), Account::new(site_code, rate));
    }

    pub(super) fn every(&mut self, rate: Rate) {
        self.every = Some(rate);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.named.is_empty() && self.every.is_none()
    }

    /// Those of the file; one for all other sites counts as one.
    pub(super) fn len(&self) -> usize {
        self.named.len() + usize::from(self.every.is_some())
    }

    pub(super) fn admit(&self, site_code: &str, now_ns: u64) -> Result<(), Refused> {
        self.account(site_code).map_or(Ok(()), |account| account.admit(now_ns))
    }

    pub(super) fn charge(&self, site_code: &str, lines: u64, now_ns: u64) {
        if let Some(account) = self.account(site_code) {
            account.charge(lines, now_ns);
        }
    }

    fn account(&self, site_code: &str) -> Option<Arc<Account>> {
        if let Some(account) = self.named.get(site_code) {
            return Some(Arc::clone(account));
        }
        let rate = self.every?;
        let known = self.others.read().unwrap_or_else(PoisonError::into_inner).get(site_code).cloned();
        Some(known.unwrap_or_else(|| {
            let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(others.entry(site_code.into()).or_insert_with(|| Account::new(site_code, rate)))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn quotas(lines_per_s: u64, burst_s: u64) -> Quotas {
        let mut quotas = Quotas::default();
        quotas.name("shop", Rate { line_ns: SECOND / lines_per_s, burst_ns: burst_s * SECOND });
        quotas
    }

    /// Lines that are let in when `per_s` single lines come in each second.
    fn admitted(quotas: &Quotas, per_s: u64, seconds: u64) -> u64 {
        let mut admitted = 0;
        for at in (0..seconds * per_s).map(|n| n * SECOND / per_s) {
            if quotas.admit("shop", at).is_ok() {
                quotas.charge("shop", 1, at);
                admitted += 1;
            }
        }
        admitted
    }

    #[test]
    fn a_site_within_its_quota_is_never_refused() {
        assert_eq!(admitted(&quotas(100, 1), 100, 60), 6000);
    }

    #[test]
    fn a_site_above_its_quota_gets_exactly_its_quota_and_one_burst() {
        let let_in = admitted(&quotas(100, 2), 2000, 60);
        assert!((6200..=6201).contains(&let_in), "{let_in}");
    }

    #[test]
    fn a_body_with_many_lines_is_waited_out() {
        let quotas = quotas(100, 1);
        quotas.admit("shop", 0).unwrap();
        quotas.charge("shop", 1000, 0);
        let refused = quotas.admit("shop", SECOND).unwrap_err();
        assert_eq!(refused, Refused::Quota { free_in: Duration::from_secs(8) });
        quotas.admit("shop", 9 * SECOND).unwrap();
    }

    #[test]
    fn nobody_can_run_up_a_debt_that_locks_a_site_out() {
        let quotas = quotas(100, 1);
        for _ in 0..50 {
            quotas.charge("shop", 100_000, 0);
        }
        let refused = quotas.admit("shop", 0).unwrap_err();
        assert_eq!(refused, Refused::Quota { free_in: Duration::from_secs(10) });
        quotas.admit("shop", 11 * SECOND).unwrap();
    }

    #[test]
    fn new_rules_go_on_with_the_accounts_of_unchanged_quotas() {
        let before = quotas(100, 1);
        before.charge("shop", 1000, 0);
        let mut same = quotas(100, 1);
        same.go_on_from(&before);
        same.admit("shop", 0).unwrap_err();
        let mut other = quotas(200, 1);
        other.go_on_from(&before);
        other.admit("shop", 0).unwrap();
    }

    #[test]
    fn sites_have_accounts_of_their_own_and_others_have_none() {
        let mut quotas = quotas(1, 1);
        quotas.charge("shop", 100, 0);
        quotas.admit("shop", 0).unwrap_err();
        quotas.admit("blog", 0).unwrap();
        quotas.every(Rate { line_ns: SECOND, burst_ns: SECOND });
        quotas.charge("blog", 100, 0);
        quotas.admit("blog", 0).unwrap_err();
        quotas.admit("news", 0).unwrap();
    }
}
