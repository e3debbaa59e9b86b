-- One row per visit, rewritten while it is open. A visit that merges into
-- another is deleted by a row with is_deleted = 1 and a higher version.
CREATE TABLE IF NOT EXISTS visit_rows
(
    site_code LowCardinality(String) COMMENT 'Site, as the customer writes it',
    visit_date Date MATERIALIZED toDate(started_at) COMMENT 'Day of started_at in UTC',
    visit_id UInt64 COMMENT 'Made of site, visitor and first event' CODEC(ZSTD(1)),
    visitor_code String COMMENT 'Visitor, or a mapping value taken as a code of its own' CODEC(ZSTD(1)),
    visitor_hash UInt64 MATERIALIZED cityHash64(visitor_code) COMMENT 'Joins and sampling without strings',
    previous_visit_count UInt32 COMMENT 'Earlier visits as the SDK counts them; 0 also when not sent' CODEC(T64, ZSTD(1)),
    since_previous_s UInt32 COMMENT 'Seconds since the previous visit as the SDK measures it; 0 also when not sent' CODEC(T64, ZSTD(1)),
    started_at DateTime64(3, 'UTC') COMMENT 'First event' CODEC(Delta, ZSTD(1)),
    last_event_at DateTime64(3, 'UTC') COMMENT 'Last event that is no heartbeat' CODEC(Delta, ZSTD(1)),
    last_seen_at DateTime64(3, 'UTC') COMMENT 'Last event or heartbeat' CODEC(Delta, ZSTD(1)),
    duration_s UInt32 COMMENT 'Whole seconds from started_at to last_event_at' CODEC(T64, ZSTD(1)),
    engaged_s UInt32 COMMENT 'Seconds with an event or heartbeat at most 15 s before' CODEC(T64, ZSTD(1)),
    end_reason LowCardinality(String) COMMENT 'still_open, timeout, day_limit, event_limit',
    event_count UInt32 COMMENT 'Events without heartbeats' CODEC(T64, ZSTD(1)),
    page_view_count UInt32 COMMENT 'page events' CODEC(T64, ZSTD(1)),
    conversion_count UInt32 COMMENT 'conversion events, negative ones included' CODEC(T64, ZSTD(1)),
    revenue Decimal(18, 4) COMMENT 'Sum of conversion amounts, negative ones subtracted' CODEC(ZSTD(1)),
    is_bounce Bool COMMENT 'At most one page view and no conversion',
    landing_url String COMMENT 'URL of the first page event' CODEC(ZSTD(3)),
    exit_url String COMMENT 'URL of the last page event' CODEC(ZSTD(3)),
    referrer_url String COMMENT 'Referrer that a page or static_data line names' CODEC(ZSTD(3)),
    channel LowCardinality(String) COMMENT 'direct, organic, paid, social, referral, email, other',
    utm_source LowCardinality(String) COMMENT 'utm_source of landing_url',
    utm_medium LowCardinality(String) COMMENT 'utm_medium of landing_url',
    utm_campaign LowCardinality(String) COMMENT 'utm_campaign of landing_url',
    utm_term String COMMENT 'utm_term of landing_url' CODEC(ZSTD(3)),
    utm_content String COMMENT 'utm_content of landing_url' CODEC(ZSTD(3)),
    device_type LowCardinality(String) COMMENT 'PHONE, TABLET, DESKTOP as the SDK says; empty when it does not',
    browser LowCardinality(String) COMMENT 'CHROME, IE, FIREFOX, SAFARI, OPERA, OTHER as the SDK says',
    browser_version LowCardinality(String) COMMENT 'As the SDK says',
    os LowCardinality(String) COMMENT 'WINDOWS, MAC, IOS, LINUX, ANDROID, WINDOWS_PHONE as the SDK says',
    country_code LowCardinality(String) COMMENT 'ISO 3166 code where the SDK sent one; see country',
    country LowCardinality(String) COMMENT 'Country as the SDK names it',
    region LowCardinality(String) COMMENT 'Region as the SDK names it',
    city LowCardinality(String) COMMENT 'City as the SDK names it',
    sdk_name LowCardinality(String) COMMENT 'sdkName of the first request that had one',
    sdk_version LowCardinality(String) COMMENT 'sdkVersion of that request',
    exposures Nested(experiment_id UInt32, variation_id UInt32, first_at DateTime64(3, 'UTC')) COMMENT 'Distinct by experiment and variation, sorted by both',
    goals Nested(goal_id UInt32, conversion_count UInt32, first_at DateTime64(3, 'UTC'), revenue Decimal(18, 4)) COMMENT 'Distinct by goal, sorted by goal',
    custom_data Map(Int32, Array(String)) COMMENT 'Values by custom-data index' CODEC(ZSTD(3)),
    segment_ids Array(UInt32) COMMENT 'Targeting segments, sorted' CODEC(ZSTD(1)),
    personalization_ids Array(UInt32) COMMENT 'Personalizations, sorted' CODEC(ZSTD(1)),
    is_bot Bool COMMENT 'The user agent says that it is a robot',
    is_outlier Bool COMMENT 'Cut at 24 hours or at the event limit',
    loaded_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row was written' CODEC(Delta, ZSTD(1)),
    rules_version UInt32 COMMENT 'Version of the rules that made the row' CODEC(T64, ZSTD(1)),
    row_hash UInt64 COMMENT 'Hash of all measures: a rebuild compares it' CODEC(ZSTD(1)),
    version UInt64 COMMENT 'Twice the event-log offset up to which the row is true, plus 1 when a rebuild wrote it' CODEC(Delta, ZSTD(1)),
    is_deleted UInt8 COMMENT '1: the visit became part of another',
    INDEX ix_visit_id visit_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX ix_visitor_code visitor_code TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX ix_experiments exposures.experiment_id TYPE bloom_filter(0.01) GRANULARITY 2
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(visit_date)
ORDER BY (site_code, visit_date, visitor_hash, visit_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE OR REPLACE VIEW visits AS
SELECT * EXCEPT (version, is_deleted, row_hash), visit_date, visitor_hash
FROM visit_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
