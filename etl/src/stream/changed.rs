//! What one flush of the engine changes, gathered over all touched visitors.

use fanal_model::Visit;
use fanal_profiles::{GoneVisit, ProfileBatch, ProfileVisit};
use fanal_storage::clickhouse::Flush;
use fanal_storage::log::Partition;

use super::late::Outcomes;
use super::visitor::{Changes, Placed, WrittenVisit};
use crate::rows;
use crate::visit::VisitorEvent;

/// Everything that changed since the last flush.
#[derive(Debug, Default)]
pub struct Changed {
    pub tables: Flush,
    pub profiles: ProfileBatch,
    /// Keys at home in other partitions, and times of their lines that stand in this one:
    /// their own partitions are told before anything is written.
    pub notes: Vec<(Vec<u8>, u64)>,
}

impl Changed {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.profiles.is_empty() && self.notes.is_empty()
    }
}

/// Gathers the changes of all touched visitors into one flush.
pub(super) struct Collected {
    pub(super) flush: Flush,
    pub(super) profiles: ProfileBatch,
    pub(super) outcomes: Outcomes,
    pub(super) version: u64,
    pub(super) partition: Partition,
    pub(super) site_visitor: (String, String),
}

impl Collected {
    fn link(&mut self, event: &VisitorEvent<'_>) {
        let Some(row) = rows::link_row(event) else { return };
        self.profiles.links.push(rows::profile_link(&row));
        self.flush.links.push(row);
    }
}

impl Changes for Collected {
    fn event(&mut self, event: &VisitorEvent<'_>, offset: u64, before: Option<Placed>, placed: Placed) {
        match placed {
            Placed::InVisit(visit_id) => {
                self.flush.events.push(rows::event_row(event, visit_id, self.partition, self.version));
                if before.is_none() {
                    self.link(event);
                }
                // It was a duplicate until an earlier copy was found to be none.
                if before == Some(Placed::Duplicate) {
                    self.flush.outcomes.push(rows::duplicate_row(
                        self.partition,
                        offset,
                        &event.beacon,
                        0,
                        true,
                    ));
                }
            }
            Placed::Duplicate => {
                self.flush.outcomes.push(rows::duplicate_row(
                    self.partition,
                    offset,
                    &event.beacon,
                    0,
                    false,
                ));
                // `None`: a flush before a restart may have written it as an event.
                let mut row = rows::event_row(event, 0, self.partition, self.version);
                row.is_deleted = 1;
                self.flush.events.push(row);
            }
        }
    }

    fn visit(&mut self, visit: &Visit) {
        self.profiles.visits.push(ProfileVisit { visit: visit.clone(), version: self.version });
        self.flush.visits.push(rows::visit_row(visit, self.partition, self.version));
    }

    fn visit_gone(&mut self, gone: WrittenVisit) {
        let (site_code, visitor_code) = self.site_visitor.clone();
        self.profiles.gone.push(GoneVisit {
            site_code: site_code.clone(),
            visitor_code: visitor_code.clone(),
            visit_id: gone.visit_id,
            started_at_ms: gone.started_at_ms,
            version: self.version,
        });
        self.flush.visits.push(rows::gone_visit_row(
            site_code,
            visitor_code,
            gone.visit_id,
            gone.started_at_ms,
            self.partition,
            self.version,
        ));
    }

    /// Asks for a rebuild of the day of a visitor whose late events are missing.
    fn stale(&mut self, at_ms: u64) {
        self.outcomes.count(&self.site_visitor.0, at_ms, "stale", 0);
    }
}
