//! Label values that come from outside, and yet are not without number.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// More values share one series.
const VALUES_MAX: usize = 1000;
/// Their series; no code of a site or name of a rule has parentheses.
const OTHER: &str = "(other)";

/// The values of one label that have a series.
#[derive(Debug)]
pub(crate) struct Labels(Mutex<Option<HashSet<String>>>);

impl Labels {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// The value itself, or the one that stands for those above the bound.
    pub(crate) fn bounded(&self, value: &str) -> String {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let values = values.get_or_insert_default();
        if !values.contains(value) {
            if values.len() >= VALUES_MAX {
                return OTHER.to_owned();
            }
            values.insert(value.to_owned());
        }
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_above_the_bound_share_a_series_and_those_that_have_one_keep_it() {
        let labels = Labels::new();
        for n in 0..VALUES_MAX {
            assert_eq!(labels.bounded(&n.to_string()), n.to_string());
        }
        assert_eq!(labels.bounded("one more"), OTHER);
        assert_eq!(labels.bounded("7"), "7");
    }
}
