-- One row per visit, rewritten while it is open. A visit that merges into
-- another is deleted by a row with is_deleted = 1 and a higher version.
CREATE TABLE IF NOT EXISTS visit_rows
(
    site_code LowCardinality(String) COMMENT 'Site, as the customer writes it',
    visit_date Date MATERIALIZED toDate(started_at) COMMENT 'Day of started_at in UTC',
    visit_id UInt64 CODEC(ZSTD(1)) COMMENT 'Made of site, visitor and first event',
    visitor_code String CODEC(ZSTD(1)) COMMENT 'Visitor, or a mapping value taken as a code of its own',
    visitor_hash UInt64 MATERIALIZED cityHash64(visitor_code) COMMENT 'Joins and sampling without strings',
    previous_visit_count UInt32 CODEC(T64, ZSTD(1)) COMMENT 'Earlier visits as the SDK counts them; 0 also when not sent',
    since_previous_s UInt32 CODEC(T64, ZSTD(1)) COMMENT 'Seconds since the previous visit as the SDK measures it; 0 also when not sent',
    started_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'First event',
    last_event_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Last event that is no heartbeat',
    last_seen_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Last event or heartbeat',
    duration_s UInt32 CODEC(T64, ZSTD(1)) COMMENT 'Whole seconds from started_at to last_event_at',
    engaged_s UInt32 CODEC(T64, ZSTD(1)) COMMENT 'Seconds with an event or heartbeat at most 15 s before',
    end_reason LowCardinality(String) COMMENT 'still_open, timeout, day_limit, event_limit',
    event_count UInt32 CODEC(T64, ZSTD(1)) COMMENT 'Events without heartbeats',
    page_view_count UInt32 CODEC(T64, ZSTD(1)) COMMENT 'page events',
    conversion_count UInt32 CODEC(T64, ZSTD(1)) COMMENT 'conversion events, negative ones included',
    revenue Decimal(18, 4) CODEC(ZSTD(1)) COMMENT 'Sum of conversion amounts, negative ones subtracted',
    is_bounce Bool COMMENT 'At most one page view and no conversion',
    landing_url String CODEC(ZSTD(3)) COMMENT 'URL of the first page event',
    exit_url String CODEC(ZSTD(3)) COMMENT 'URL of the last page event',
    referrer_url String CODEC(ZSTD(3)) COMMENT 'Referrer that a page or static_data line names',
    channel LowCardinality(String) COMMENT 'direct, organic, paid, social, referral, email, other',
    utm_source LowCardinality(String) COMMENT 'utm_source of landing_url',
    utm_medium LowCardinality(String) COMMENT 'utm_medium of landing_url',
    utm_campaign LowCardinality(String) COMMENT 'utm_campaign of landing_url',
    utm_term String CODEC(ZSTD(3)) COMMENT 'utm_term of landing_url',
    utm_content String CODEC(ZSTD(3)) COMMENT 'utm_content of landing_url',
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
    custom_data Map(Int32, Array(String)) CODEC(ZSTD(3)) COMMENT 'Values by custom-data index',
    segment_ids Array(UInt32) CODEC(ZSTD(1)) COMMENT 'Targeting segments, sorted',
    personalization_ids Array(UInt32) CODEC(ZSTD(1)) COMMENT 'Personalizations, sorted',
    is_bot Bool COMMENT 'The user agent says that it is a robot',
    is_outlier Bool COMMENT 'Cut at 24 hours or at the event limit',
    loaded_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1)) COMMENT 'When the row was written',
    rules_version UInt32 CODEC(T64, ZSTD(1)) COMMENT 'Version of the rules that made the row',
    row_hash UInt64 CODEC(ZSTD(1)) COMMENT 'Hash of all measures: a rebuild compares it',
    version UInt64 CODEC(Delta, ZSTD(1)) COMMENT 'Twice the event-log offset up to which the row is true, plus 1 when a rebuild wrote it',
    is_deleted UInt8 COMMENT '1: the visit became part of another',
    INDEX ix_visit_id visit_id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX ix_visitor_code visitor_code TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX ix_experiments exposures.experiment_id TYPE bloom_filter(0.01) GRANULARITY 2
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(visit_date)
ORDER BY (site_code, visit_date, visitor_hash, visit_id);

CREATE OR REPLACE VIEW visits AS
SELECT * EXCEPT (version, is_deleted, row_hash), visit_date, visitor_hash
FROM visit_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
