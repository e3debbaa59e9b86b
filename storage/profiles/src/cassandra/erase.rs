//! Forgetting visitors and sites.

use std::time::Duration;

use futures_util::stream::{StreamExt, TryStreamExt};
use scylla::statement::Statement;

use super::connect::Connected;
use super::request::answered;
use super::{CassandraProfiles, Inner, signed, timestamp};
use crate::error::ProfileError;
use crate::now_ms;
use crate::writes::{Stamp, millis};

/// Keys of one page of a scan.
const SCAN_PAGE: i32 = 1000;
/// Visitors of a removed site that are worked on at a time.
const REMOVED_AT_A_TIME: usize = 16;
/// Links of a removed site may be dated by clocks that are ahead of this one's.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);

impl CassandraProfiles {
    pub(crate) async fn erase(
        &self,
        site_code: &str,
        visitor_code: &str,
        version: u64,
        at_ms: u64,
    ) -> Result<(), ProfileError> {
        let inner = &*self.inner;
        let connected = inner.connected().await?;
        let visits = (timestamp(Stamp::erasure(version)), site_code, visitor_code);
        inner.request("an erasure", connected, &connected.statements.erase_visits, visits).await?;
        // Links by user id are found through those by visitor, so these go last.
        let statement = &connected.statements.links_of;
        for link in inner.links(connected, statement, (site_code, visitor_code), 0).await? {
            let key = (signed(at_ms), site_code, link.to.as_str(), visitor_code);
            inner.request("an erasure", connected, &connected.statements.erase_link, key).await?;
        }
        let key = (signed(at_ms), site_code, visitor_code);
        inner.request("an erasure", connected, &connected.statements.erase_values, key).await.map(|_| ())
    }

    pub(crate) async fn remove_site(&self, site_code: &str) -> Result<(), ProfileError> {
        let inner = &*self.inner;
        let connected = inner.connected().await?;
        let visitors = "SELECT DISTINCT site_code, visitor_code FROM $KS.visits";
        inner
            .scan(connected, visitors, site_code, async |visitor| {
                inner.remove_visits(connected, site_code, &visitor).await
            })
            .await?;
        let at_ms = signed(now_ms().saturating_add(millis(CLOCK_SKEW_MAX)));
        let by_value = "SELECT DISTINCT site_code, mapping_value FROM $KS.links_by_value";
        inner
            .scan(connected, by_value, site_code, async |value| {
                let statement = &connected.statements.erase_links;
                inner.request("a removal", connected, statement, (at_ms, site_code, value)).await.map(|_| ())
            })
            .await?;
        let by_visitor = "SELECT DISTINCT site_code, visitor_code FROM $KS.links_by_visitor";
        inner
            .scan(connected, by_visitor, site_code, async |visitor| {
                let statement = &connected.statements.erase_values;
                inner
                    .request("a removal", connected, statement, (at_ms, site_code, visitor))
                    .await
                    .map(|_| ())
            })
            .await
    }
}

impl Inner {
    /// Calls `work` with the second column of every key of the site.
    async fn scan(
        &self,
        connected: &Connected,
        text: &str,
        site_code: &str,
        work: impl AsyncFn(String) -> Result<(), ProfileError>,
    ) -> Result<(), ProfileError> {
        let statement = Statement::new(text.replace("$KS", &self.config.keyspace)).with_page_size(SCAN_PAGE);
        let pages = connected.session.query_iter(statement, ()).await;
        let keys = answered("a scan", answered("a scan", pages)?.rows_stream::<(String, String)>())?;
        keys.map(|row| answered("a scan", row))
            .try_for_each_concurrent(REMOVED_AT_A_TIME, async |(site, code)| {
                if site == site_code { work(code).await } else { Ok(()) }
            })
            .await
    }

    /// Deletes what is there, and leaves room for a site of that code to begin anew.
    async fn remove_visits(
        &self,
        connected: &Connected,
        site_code: &str,
        visitor_code: &str,
    ) -> Result<(), ProfileError> {
        let statement = &connected.statements.slots;
        let result =
            self.request("a read", connected, statement, (site_code, visitor_code, i32::MAX)).await?;
        let rows = answered("a read", result.into_rows_result())?;
        let mut newest = None;
        for row in answered("a read", rows.rows::<(scylla::value::CqlTimestamp, Option<i64>)>())? {
            newest = newest.max(answered("a read", row)?.1);
        }
        let Some(newest) = newest else { return Ok(()) };
        let key = (newest, site_code, visitor_code);
        self.request("a removal", connected, &connected.statements.erase_visits, key).await.map(|_| ())
    }
}
