//! Profiles on Cassandra.
//!
//! Every row is written with the version of its data as its timestamp, so that the
//! newest wins on every replica whatever the order of arrival, and with a time to
//! live that ends with the retention. What must stay true: no statement reads before
//! it writes what decides; requests, attempts and waits are bounded; removed visits
//! are rows and not deletes, since a delete is forgotten after `gc_grace_seconds`.

mod connect;
mod erase;
mod request;
mod schema;
mod statements;

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use scylla::value::CqlTimestamp;
use tokio::sync::{Mutex, Semaphore};

use crate::batch::ProfileVisit;
use crate::config::CassandraConfig;
use crate::error::ProfileError;
use crate::profile::Link;
use crate::writes::{LinkKey, Slot, SlotKey, Stamp, Writes, oldest_ms};
use crate::{LINKS_READ_MAX, Limits, encoding, now_ms};
use connect::Connected;
use request::answered;

/// One of this many writes looks whether its visitor has too many visits.
const TRIM_SAMPLE: u64 = 16;
/// Cassandra's older storage format knows no later time of expiry than 2038-01-19.
const EXPIRY_S_MAX: u64 = 2_147_483_640;

/// The store on Cassandra. Clones share one session.
#[derive(Debug, Clone)]
pub struct CassandraProfiles {
    inner: Arc<Inner>,
}

struct Inner {
    config: CassandraConfig,
    password: Option<String>,
    limits: Limits,
    connected: OnceLock<Connected>,
    /// Held by the one task that connects; the end of the last attempt that failed.
    connecting: Mutex<Option<(Instant, String)>>,
    in_flight: Semaphore,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("nodes", &self.config.nodes)
            .field("keyspace", &self.config.keyspace)
            .field("is_connected", &self.connected.get().is_some())
            .finish_non_exhaustive()
    }
}

impl CassandraProfiles {
    /// Connects to nothing yet.
    pub fn new(
        config: &CassandraConfig,
        password: Option<String>,
        limits: Limits,
    ) -> Result<Self, ProfileError> {
        // Files that cannot be read are found at the start, not at the first request.
        connect::tls(&config.tls)?;
        let in_flight = Semaphore::new(config.requests_in_flight_max as usize);
        Ok(Self {
            inner: Arc::new(Inner {
                config: config.clone(),
                password,
                limits,
                connected: OnceLock::new(),
                connecting: Mutex::new(None),
                in_flight,
            }),
        })
    }

    pub(crate) fn limits(&self) -> Limits {
        self.inner.limits
    }

    pub(crate) async fn write(&self, writes: Writes) -> Result<(), ProfileError> {
        let inner = &*self.inner;
        let connected = inner.connected().await?;
        let at_a_time = inner.config.requests_in_flight_max as usize;
        let now_ms = now_ms();
        // Lists of futures, not streams with closures: the compiler does not see that
        // those can go to another thread.
        let slots: Vec<_> =
            writes.slots.iter().map(|(key, slot)| inner.put_slot(connected, key, slot, now_ms)).collect();
        stream::iter(slots).buffer_unordered(at_a_time).try_collect::<()>().await?;
        let links: Vec<_> =
            writes.links.iter().map(|(key, at)| inner.put_link(connected, key, *at, now_ms)).collect();
        stream::iter(links).buffer_unordered(at_a_time).try_collect::<()>().await?;
        let visitors: HashSet<_> = writes
            .slots
            .iter()
            .filter(|(key, slot)| is_sampled(key, slot))
            .map(|(key, _)| (key.site_code.as_str(), key.visitor_code.as_str()))
            .collect();
        let trimmed: Vec<_> =
            visitors.into_iter().map(|(site, visitor)| inner.drop_oldest(connected, site, visitor)).collect();
        stream::iter(trimmed).buffer_unordered(at_a_time).try_collect::<()>().await
    }

    pub(crate) async fn visits(
        &self,
        site_code: &str,
        visitor_code: &str,
        now_ms: u64,
    ) -> Result<Vec<ProfileVisit>, ProfileError> {
        let inner = &*self.inner;
        let connected = inner.connected().await?;
        let most = i32::try_from(inner.limits.visits_per_visitor_max).unwrap_or(i32::MAX);
        let statement = &connected.statements.visits;
        let result = inner.request("a read", connected, statement, (site_code, visitor_code, most)).await?;
        let rows = answered("a read", result.into_rows_result())?;
        let oldest_ms = oldest_ms(inner.limits, now_ms);
        let mut visits = Vec::new();
        for row in answered("a read", rows.rows::<(CqlTimestamp, i64, &[u8])>())? {
            let (started_at, visit_id, data) = answered("a read", row)?;
            let key = SlotKey {
                site_code: site_code.to_owned(),
                visitor_code: visitor_code.to_owned(),
                started_at_ms: u64::try_from(started_at.0).unwrap_or(0),
                visit_id: visit_id.cast_unsigned(),
            };
            if key.started_at_ms < oldest_ms {
                break;
            }
            visits.extend(encoding::read(&key, data)?);
        }
        Ok(visits)
    }

    pub(crate) async fn linked(
        &self,
        site_code: &str,
        mapping_value: &str,
        now_ms: u64,
    ) -> Result<Vec<Link>, ProfileError> {
        let connected = self.inner.connected().await?;
        self.inner.links(connected, &connected.statements.linked, (site_code, mapping_value), now_ms).await
    }

    pub(crate) async fn links_of(
        &self,
        site_code: &str,
        visitor_code: &str,
        now_ms: u64,
    ) -> Result<Vec<Link>, ProfileError> {
        let connected = self.inner.connected().await?;
        self.inner.links(connected, &connected.statements.links_of, (site_code, visitor_code), now_ms).await
    }

    pub(crate) async fn ping(&self) -> Result<(), ProfileError> {
        let connected = self.inner.connected().await?;
        self.inner.request_once("a ping", connected, &connected.statements.ping, ()).await.map(|_| ())
    }
}

impl Inner {
    async fn put_slot(
        &self,
        connected: &Connected,
        key: &SlotKey,
        slot: &Slot,
        now_ms: u64,
    ) -> Result<(), ProfileError> {
        let values = (
            key.site_code.as_str(),
            key.visitor_code.as_str(),
            CqlTimestamp(signed(key.started_at_ms)),
            key.visit_id.cast_signed(),
            slot.data.as_slice(),
            timestamp(slot.stamp),
            self.ttl_s(key.started_at_ms, now_ms),
        );
        self.request("a visit", connected, &connected.statements.put_visit, values).await.map(|_| ())
    }

    async fn put_link(
        &self,
        connected: &Connected,
        key: &LinkKey,
        at_ms: u64,
        now_ms: u64,
    ) -> Result<(), ProfileError> {
        let (site, value, visitor) =
            (key.site_code.as_str(), key.mapping_value.as_str(), key.visitor_code.as_str());
        let (at, ttl_s) = (signed(at_ms), self.ttl_s(at_ms, now_ms));
        let by_value = (site, value, visitor, CqlTimestamp(at), at, ttl_s);
        self.request("a link", connected, &connected.statements.put_link, by_value).await?;
        let by_visitor = (site, visitor, value, CqlTimestamp(at), at, ttl_s);
        self.request("a link", connected, &connected.statements.put_value, by_visitor).await.map(|_| ())
    }

    async fn links(
        &self,
        connected: &Connected,
        statement: &scylla::statement::prepared::PreparedStatement,
        key: (&str, &str),
        now_ms: u64,
    ) -> Result<Vec<Link>, ProfileError> {
        let most = i32::try_from(LINKS_READ_MAX).unwrap_or(i32::MAX);
        let result = self.request("a read", connected, statement, (key.0, key.1, most)).await?;
        let rows = answered("a read", result.into_rows_result())?;
        let oldest_ms = oldest_ms(self.limits, now_ms);
        let mut links = Vec::new();
        for row in answered("a read", rows.rows::<(&str, CqlTimestamp)>())? {
            let (to, at) = answered("a read", row)?;
            let linked_at_ms = u64::try_from(at.0).unwrap_or(0);
            if linked_at_ms >= oldest_ms {
                links.push(Link { to: to.to_owned(), linked_at_ms });
            }
        }
        Ok(links)
    }

    /// Deletes the visits that no read passes any more, once there are as many again as
    /// reads pass. A delete for each dropped visit would slow reads down.
    async fn drop_oldest(
        &self,
        connected: &Connected,
        site_code: &str,
        visitor_code: &str,
    ) -> Result<(), ProfileError> {
        let kept = self.limits.visits_per_visitor_max;
        let most = i32::try_from(2 * kept).unwrap_or(i32::MAX);
        let statement = &connected.statements.slots;
        let result = self.request("a read", connected, statement, (site_code, visitor_code, most)).await?;
        let rows = answered("a read", result.into_rows_result())?;
        if rows.rows_num() < 2 * kept {
            return Ok(());
        }
        let (mut before, mut newest) = (CqlTimestamp(0), i64::MIN);
        let slots = answered("a read", rows.rows::<(CqlTimestamp, Option<i64>)>())?;
        for (i, row) in slots.enumerate() {
            let (started_at, written_at) = answered("a read", row)?;
            if i < kept {
                before = started_at;
            } else {
                newest = newest.max(written_at.unwrap_or(newest));
            }
        }
        let values = (newest, site_code, visitor_code, before);
        self.request("a removal", connected, &connected.statements.drop_older, values).await.map(|_| ())
    }

    /// Time until what began at `at_ms` expires, in seconds.
    fn ttl_s(&self, at_ms: u64, now_ms: u64) -> i32 {
        let now_s = now_ms / 1000;
        let expires_s = (at_ms / 1000).saturating_add(self.limits.retention.as_secs());
        let expires_s = if now_s < EXPIRY_S_MAX { expires_s.min(EXPIRY_S_MAX) } else { expires_s };
        i32::try_from(expires_s.saturating_sub(now_s).max(1)).unwrap_or(i32::MAX)
    }
}

/// Cassandra's timestamp of a visit. Not a time: versions are compared with versions
/// alone, as all writes of a row come from one partition of the log.
fn timestamp(stamp: Stamp) -> i64 {
    signed(stamp.number().saturating_add(1))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn is_sampled(key: &SlotKey, slot: &Slot) -> bool {
    let hash = BuildHasherDefault::<DefaultHasher>::default();
    hash.hash_one((key, slot.stamp.number())).is_multiple_of(TRIM_SAMPLE)
}
