//! Rows for tests.

use fanal_storage::clickhouse::{
    ArchiveCountRow, ClickHouse, EventRow, Flush, LinkRow, OutcomeRow, VisitRow,
};

/// 2026-10-01 00:00 UTC, in seconds.
pub(crate) const DAY: u32 = 1_790_812_800;
const MONTH_S: u32 = 31 * 86_400;

/// One row of each table per number, spread over four months.
pub(crate) fn flush(numbers: std::ops::Range<u32>, version: u64) -> Flush {
    let mut flush = Flush::default();
    for number in numbers {
        let at_s = DAY + number % 4 * MONTH_S + number;
        let at = i64::from(at_s) * 1000;
        let visitor_code = format!("visitor {}", number % 50);
        flush.events.push(EventRow {
            site_code: "site".to_owned(),
            event_at: at,
            event_id: u64::from(number),
            visitor_code: visitor_code.clone(),
            version,
            ..EventRow::default()
        });
        flush.visits.push(VisitRow {
            site_code: "site".to_owned(),
            visit_id: u64::from(number),
            started_at: at,
            visitor_code: visitor_code.clone(),
            event_count: u32::try_from(version).unwrap(),
            version,
            ..VisitRow::default()
        });
        flush.outcomes.push(OutcomeRow {
            log_partition: number % 3,
            first_offset: u64::from(number),
            site_code: "site".to_owned(),
            minute: at_s / 60 * 60,
            outcome: "duplicate".to_owned(),
            count: 1,
            version,
            is_deleted: 0,
        });
        flush.links.push(LinkRow {
            site_code: "site".to_owned(),
            mapping_value: format!("user {}", number % 7),
            visitor_code,
            linked_at: at,
        });
    }
    flush
}

pub(crate) fn archive_counts(numbers: std::ops::Range<u32>) -> Vec<ArchiveCountRow> {
    let row = |number: u32| ArchiveCountRow {
        log_partition: number % 3,
        first_offset: u64::from(number) * 10,
        last_offset: u64::from(number) * 10 + 9,
        site_code: "site".to_owned(),
        minute: DAY,
        stage: "archive".to_owned(),
        outcome: "archived".to_owned(),
        count: 10,
    };
    numbers.map(row).collect()
}

/// Rows as they lie in the parts, older versions included.
pub(crate) async fn stored(clickhouse: &ClickHouse, table: &str) -> u64 {
    clickhouse.fetch_one("count", &format!("SELECT count() FROM {table}")).await.unwrap()
}

/// Rows as they are meant.
pub(crate) async fn shown(clickhouse: &ClickHouse, table: &str) -> u64 {
    clickhouse.fetch_one("count", &format!("SELECT count() FROM {table} FINAL")).await.unwrap()
}

pub(crate) async fn numbers(clickhouse: &ClickHouse, sql: &str) -> u64 {
    clickhouse.fetch_one("count", sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}
