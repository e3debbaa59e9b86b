//! Which start of the server's process this is.
//!
//! A single node notes an insert's token before the rows are in their place. Killed
//! in between, it would take the repetition of an insert that it does not have for a
//! copy, and drop it. So a token holds for one start of the process alone. On a
//! cluster Keeper takes token and rows in one step, and nothing is asked.

use std::sync::{Mutex, MutexGuard, PoisonError};

use clickhouse::Row;
use serde::Deserialize;

use super::{ClickHouse, ClickHouseError};

/// Two readings of the same start differ by rounding.
const SLACK_SECONDS: u32 = 2;
/// Readings by two processes are equal but for those at a border.
const BUCKET_SECONDS: u32 = 8;

/// Servers make these ids anew at each start, each version one of them. The time
/// serves one that makes none.
/// A scalar subquery may be null, and rows are read without their types.
const QUESTION: &str = "SELECT concat(\
    ifNull(toString((SELECT any(uuid) FROM system.tables WHERE database = 'system' AND name = 'one')), ''), ' ', \
    ifNull(toString((SELECT any(uuid) FROM system.databases WHERE name = 'system')), '')) AS ids, \
    toUInt32(toUnixTimestamp(now()) - uptime()) AS started_at";

#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
struct Boot {
    ids: String,
    /// Seconds since the epoch.
    started_at: u32,
}

impl Boot {
    fn is_same(&self, other: &Self) -> bool {
        self.ids == other.ids && self.started_at.abs_diff(other.started_at) <= SLACK_SECONDS
    }

    fn text(&self) -> String {
        format!("{} {}", self.ids, self.started_at / BUCKET_SECONDS)
    }
}

#[derive(Debug, Default)]
struct Known {
    boot: Option<Boot>,
    is_doubted: bool,
}

/// Asked once, and again after an error.
#[derive(Debug, Default)]
pub(super) struct BootId(Mutex<Known>);

impl BootId {
    /// A text that is another one after each start.
    pub(super) async fn get(&self, clickhouse: &ClickHouse) -> Result<String, ClickHouseError> {
        if clickhouse.config().cluster.is_some() {
            return Ok("cluster".to_owned());
        }
        if let Known { boot: Some(boot), is_doubted: false } = &*self.lock() {
            return Ok(boot.text());
        }
        let read: Boot = clickhouse.outside().fetch_one("say since when it runs", QUESTION).await?;
        Ok(self.note(read).text())
    }

    /// After an error the server may be another process than before.
    pub(super) fn doubt(&self) {
        self.lock().is_doubted = true;
    }

    fn note(&self, read: Boot) -> Boot {
        let mut known = self.lock();
        let boot = known.boot.take().filter(|boot| boot.is_same(&read)).unwrap_or(read);
        *known = Known { boot: Some(boot.clone()), is_doubted: false };
        boot
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_told_from_another_and_not_from_a_rounding() {
        let boot = |ids: &str, started_at| Boot { ids: ids.to_owned(), started_at };
        let known = BootId::default();
        assert_eq!(known.note(boot("a", 1007)), boot("a", 1007));
        assert_eq!(known.note(boot("a", 1008)), boot("a", 1007));
        assert_eq!(known.note(boot("b", 1008)), boot("b", 1008));
        assert_eq!(known.note(boot("b", 1020)), boot("b", 1020));
        assert_ne!(boot("a", 1007).text(), boot("a", 1020).text());
        assert_ne!(boot("a", 1007).text(), boot("b", 1007).text());
    }
}
