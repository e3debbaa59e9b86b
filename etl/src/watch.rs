//! Kafka, looked at while nothing asks for it: whether it can be reached, and how far each
//! stage is behind.
//!
//! Degrades readiness and never takes it away: what needs Kafka to go on says so itself,
//! and a collector in the same process bridges it with its spool.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanal_kafka::Kafka;
use fanal_service::stop::Stop;
use fanal_storage::log::Partition;

use crate::log::{EventLogs, concerns};
use crate::progress::Stage;
use crate::role::{Etl, sleep_or_stop};

const PART: &str = "kafka";
/// How often readiness is told.
pub(crate) const LOOK: Duration = Duration::from_secs(5);
/// In how many looks one asks for the lag.
const LOOKS_PER_LAG: u32 = 3;
/// All questions of one look for the lag.
const LAG_WITHIN: Duration = Duration::from_secs(10);

/// What the clients of this process say of Kafka, by who says it. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Troubles(Arc<Mutex<BTreeMap<String, String>>>);

impl Troubles {
    /// `error`: why this client cannot work; `None` when it can, or is there no longer.
    pub(crate) fn note(&self, client: &str, error: Option<String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => drop(known.insert(client.to_owned(), error)),
            None => drop(known.remove(client)),
        }
    }

    /// One of them: they mostly have the same reason.
    fn first(&self) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().next().map(|(client, error)| format!("{client}: {error}"))
    }
}

pub(crate) async fn run(etl: &Etl, stop: &Stop) {
    let EventLogs::Kafka(kafka) = &etl.log else { return };
    let troubles = &etl.progress.troubles;
    let mut looks = 0_u32;
    while !sleep_or_stop(LOOK, stop).await {
        if looks.is_multiple_of(LOOKS_PER_LAG) {
            let asked = tokio::time::timeout(LAG_WITHIN, lags(kafka)).await;
            let error = asked.unwrap_or_else(|_| Some("it does not say in time how far it goes".to_owned()));
            troubles.note("offsets", error.or_else(|| kafka.last_error()));
        }
        looks = looks.wrapping_add(1);
        match troubles.first() {
            Some(trouble) => etl.health.degraded(PART, trouble),
            None => etl.health.ok(PART),
        }
    }
}

/// Asks for the lag of every stage, which exports it; why it is not known.
async fn lags(kafka: &Kafka) -> Option<String> {
    for stage in [Stage::Archive, Stage::Ledger, Stage::Visits] {
        let partitions: Vec<Partition> =
            kafka.partitions().into_iter().filter(|partition| concerns(stage, partition.family())).collect();
        if let Err(error) = kafka.lag(stage.group(), &partitions).await {
            return Some(error.to_string());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_lasts_until_the_client_that_had_it_works_again() {
        let troubles = Troubles::default();
        assert_eq!(troubles.first(), None);
        troubles.note("visits-0", Some("broker down".to_owned()));
        troubles.note("visits-1", Some("broker down".to_owned()));
        troubles.note("visits-0", None);
        assert_eq!(troubles.first().as_deref(), Some("visits-1: broker down"));
        troubles.note("visits-1", None);
        assert_eq!(troubles.first(), None);
    }
}
