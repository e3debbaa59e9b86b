//! What the etl role can be told. Durations are whole milliseconds.

use std::time::Duration;

use fanal_storage::archive::{Compaction, Rotation};

/// Settings of all parts of the role.
#[derive(Debug, Clone)]
pub struct EtlConfig {
    /// How long after its event time a record may reach the log and still be
    /// streamed. What comes later is loaded by a rebuild of its day.
    pub allowed_lateness: Duration,
    /// A nonce seen again within this time of its first receipt is a duplicate.
    pub dedupe_horizon: Duration,
    /// The longest that a record waits for others before it is written.
    pub flush_interval: Duration,
    /// Records written at once at the most: bounds memory.
    pub flush_records_max: usize,
    /// How often the state of open visits is stored.
    pub checkpoint_interval: Duration,
    /// When archive files end.
    pub rotation: Rotation,
    /// Which small files of past days become larger ones; none if it is not there.
    pub compaction: Option<Compaction>,
    /// A file that no record has ended after this time is ended by a seal.
    pub seal_after: Duration,
    /// A day marked by late records is rebuilt after this time without another.
    pub rebuild_quiet: Duration,
    /// A marked day waits no longer than this, even while late records arrive.
    pub rebuild_wait_max: Duration,
    /// Events that a rebuild holds in memory at once; more are done in shards.
    pub rebuild_events_max: u64,
}

impl Default for EtlConfig {
    fn default() -> Self {
        Self {
            allowed_lateness: Duration::from_secs(120),
            dedupe_horizon: Duration::from_secs(2 * 3600),
            flush_interval: Duration::from_millis(500),
            flush_records_max: 50_000,
            checkpoint_interval: Duration::from_secs(10),
            rotation: Rotation::default(),
            compaction: Some(Compaction::default()),
            seal_after: Duration::from_secs(60),
            rebuild_quiet: Duration::from_secs(2),
            rebuild_wait_max: Duration::from_secs(60),
            rebuild_events_max: 500_000,
        }
    }
}

/// Milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
