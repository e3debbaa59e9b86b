//! What one flush of the pipeline writes, and the token that names its content.

use std::hash::Hash;

use xxhash_rust::xxh3::Xxh3;

use super::rows::{EventRow, LinkRow, OutcomeRow, VisitRow};

/// What one flush of the pipeline writes. Written table by table; every row
/// replaces its older self, so that a flush may be repeated in whole.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Flush {
    pub events: Vec<EventRow>,
    pub visits: Vec<VisitRow>,
    pub outcomes: Vec<OutcomeRow>,
    pub links: Vec<LinkRow>,
}

impl Flush {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.visits.is_empty() && self.outcomes.is_empty() && self.links.is_empty()
    }

    /// Rows of all tables.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len() + self.visits.len() + self.outcomes.len() + self.links.len()
    }
}

/// The token of an insert: equal for equal rows in equal order of the same scope.
pub(super) fn token<T: Hash>(table: &str, scope: &impl Hash, rows: &[T]) -> String {
    let mut hash = Xxh3::new();
    scope.hash(&mut hash);
    rows.hash(&mut hash);
    format!("{table}-{}-{:032x}", rows.len(), hash.digest128())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_changes_with_every_part_of_what_it_names() {
        let row = |offset, site: &str| OutcomeRow {
            log_partition: 0,
            first_offset: offset,
            site_code: site.to_owned(),
            minute: 60,
            outcome: "late".to_owned(),
            count: 1,
            version: 2,
            is_deleted: 0,
        };
        let rows = [row(1, "a"), row(2, "b")];
        let same = token("outcome_rows", &("boot", 0), &rows);
        assert_eq!(token("outcome_rows", &("boot", 0), &rows.clone()), same);
        for other in [
            token("visit_rows", &("boot", 0), &rows),
            token("outcome_rows", &("other", 0), &rows),
            token("outcome_rows", &("boot", 1), &rows),
            token("outcome_rows", &("boot", 0), &[row(1, "a"), row(2, "c")]),
            token("outcome_rows", &("boot", 0), &[row(2, "b"), row(1, "a")]),
            token("outcome_rows", &("boot", 0), &rows[..1]),
        ] {
            assert_ne!(other, same);
        }
    }
}
