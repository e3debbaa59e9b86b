//! How many parts wait for a merge, and how long to pause because of them.
//!
//! Every insert makes a part per month; the server merges them behind. When it
//! falls behind, it first delays inserts, then refuses them (code 252). Fewer and
//! larger inserts let it catch up, so the pipeline asks here before it comes to that.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clickhouse::Row;
use serde::{Deserialize, Serialize};

use super::{ClickHouse, ClickHouseError};

/// The server is asked at most this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Up to this share of what delays an insert, parts are ordinary.
const ORDINARY_SHARE: f64 = 0.25;
/// The longest pause.
pub const PARTS_PAUSE_MAX: Duration = Duration::from_secs(30);

/// The fullest partition of the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Row, Serialize, Deserialize)]
pub struct PartsPressure {
    /// Empty when no table holds rows.
    pub table: String,
    pub partition: String,
    /// Parts that are neither merged nor dropped.
    pub parts: u64,
    /// From so many on the server delays an insert.
    pub delayed_from: u64,
    /// From so many on the server refuses an insert with code 252.
    pub refused_from: u64,
}

impl PartsPressure {
    /// How long to let the server merge before the next insert: nothing while
    /// parts are ordinary, then more with each, up to `PARTS_PAUSE_MAX` where the
    /// server would begin to delay inserts by itself.
    #[must_use]
    pub fn pause(&self) -> Duration {
        // A table may be told never to delay; then the refusal counts.
        let full = if self.delayed_from > 0 { self.delayed_from } else { self.refused_from };
        if full == 0 {
            return Duration::ZERO;
        }
        #[expect(clippy::cast_precision_loss, reason = "numbers of parts are small")]
        let share = self.parts as f64 / full as f64;
        PARTS_PAUSE_MAX.mul_f64(((share - ORDINARY_SHARE) / (1.0 - ORDINARY_SHARE)).clamp(0.0, 1.0))
    }
}

#[derive(Debug, Default)]
pub(super) struct SeenParts(Mutex<Option<(Instant, Duration)>>);

impl ClickHouse {
    /// Asks the server for the fullest partition of our tables: one cheap look at
    /// tables that it keeps in memory.
    pub async fn parts_pressure(&self) -> Result<PartsPressure, ClickHouseError> {
        let found: Vec<PartsPressure> = self.fetch_all("count its parts", &self.parts_question()).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    /// How much longer than usual to gather before the next insert. Asks the server
    /// at most every 5 s. It never fails: when the server does not say, the last
    /// answer holds, and an insert will tell.
    pub async fn pause_for_parts(&self) -> Duration {
        let last = *self.seen_parts().0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, pause)) = last
            && at.elapsed() < LOOK_EVERY
        {
            return pause;
        }
        let pause = match self.parts_pressure().await {
            Ok(pressure) => {
                let pause = pressure.pause();
                if !pause.is_zero() {
                    let PartsPressure { table, partition, parts, .. } = &pressure;
                    tracing::warn!(table, partition, parts, ?pause, "clickhouse merges fall behind; pausing");
                }
                pause
            }
            Err(error) => {
                tracing::debug!(%error, "clickhouse does not say how many parts it has");
                last.map_or(Duration::ZERO, |(_, pause)| pause)
            }
        };
        *self.seen_parts().0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), pause));
        pause
    }

    fn parts_question(&self) -> String {
        let config = self.config();
        let of_all = |table: &str| match &config.cluster {
            None => format!("system.{table}"),
            Some(cluster) => format!("clusterAllReplicas('{}', system.{table})", cluster.name),
        };
        // A table's own limit stands before the server's.
        let limit = |name: &str| {
            format!(
                "if(match(engine_full, '{name} = '), toUInt64OrZero(extract(engine_full, '{name} = (\\\\d+)')), \
                 ifNull(toUInt64((SELECT any(value) FROM system.merge_tree_settings WHERE name = '{name}')), 0))"
            )
        };
        format!(
            "SELECT parts.table AS table, parts.partition AS partition, parts.parts AS parts, \
             {} AS delayed_from, {} AS refused_from \
             FROM (SELECT table, partition, hostName() AS host, count() AS parts FROM {} \
             WHERE active AND database = '{}' GROUP BY table, partition, host) AS parts \
             INNER JOIN (SELECT name, engine_full FROM system.tables WHERE database = '{}') AS tables \
             ON parts.table = tables.name \
             ORDER BY parts / greatest(if(delayed_from > 0, delayed_from, refused_from), 1) DESC LIMIT 1 \
             SETTINGS skip_unavailable_shards = 1",
            limit("parts_to_delay_insert"),
            limit("parts_to_throw_insert"),
            of_all("parts"),
            config.database,
            config.database,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(parts: u64, delayed_from: u64, refused_from: u64) -> Duration {
        PartsPressure { parts, delayed_from, refused_from, ..PartsPressure::default() }.pause()
    }

    #[test]
    fn the_pause_grows_with_the_parts_and_has_a_bound() {
        assert_eq!(pause(0, 1000, 3000), Duration::ZERO);
        assert_eq!(pause(250, 1000, 3000), Duration::ZERO);
        assert_eq!(pause(625, 1000, 3000), PARTS_PAUSE_MAX / 2);
        assert_eq!(pause(1000, 1000, 3000), PARTS_PAUSE_MAX);
        assert_eq!(pause(9000, 1000, 3000), PARTS_PAUSE_MAX);
        assert_eq!(pause(9000, 0, 0), Duration::ZERO);
        assert_eq!(pause(300, 0, 300), PARTS_PAUSE_MAX);
    }
}
