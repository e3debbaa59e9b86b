-- base 0
CREATE DATABASE IF NOT EXISTS fanal;

-- base 1
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32 COMMENT 'Number of the step',
    name String COMMENT 'Name of the step',
    applied_at DateTime DEFAULT now() COMMENT 'When its last statement was done'
)
ENGINE = ReplacingMergeTree
ORDER BY version;

-- base 2
CREATE TABLE IF NOT EXISTS schema_progress
(
    step String COMMENT 'Name of a step, or views',
    number UInt32 COMMENT 'Place of the statement in it, from 0',
    digest UInt64 COMMENT 'Hash of the statement',
    applied_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When it was done'
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY (step, number);

-- events 0
CREATE TABLE IF NOT EXISTS event_rows
(
    site_code LowCardinality(String) COMMENT 'Site, as the customer writes it',
    event_at DateTime64(3, 'UTC') COMMENT 'Moment of receipt; the same for all lines of a request' CODEC(Delta, ZSTD(1)),
    event_date Date MATERIALIZED toDate(event_at) COMMENT 'Day of event_at in UTC',
    line_number UInt32 COMMENT 'Position in the request body from 0: the second sort key' CODEC(T64, ZSTD(1)),
    event_type LowCardinality(String) COMMENT 'page, conversion, experiment, custom_data, targeting_segment, static_data, geolocation, activity, personalization, other',
    visitor_code String COMMENT 'Visitor that the line names; a mapping value counts as a code of its own' CODEC(ZSTD(1)),
    visitor_hash UInt64 MATERIALIZED cityHash64(visitor_code) COMMENT 'Joins and sampling without strings',
    visit_id UInt64 COMMENT 'Visit of the event; 0 for a heartbeat outside of any visit' CODEC(ZSTD(1)),
    event_id UInt64 COMMENT 'Identity: site, visitor, time, position and bytes of the line' CODEC(ZSTD(1)),
    nonce String COMMENT 'As the sender gave it; empty when it gave none' CODEC(ZSTD(1)),
    is_heartbeat Bool COMMENT 'A static_data line that was alone for its visitor in its request',
    page_url String COMMENT 'page: full URL' CODEC(ZSTD(3)),
    page_title String COMMENT 'page: title' CODEC(ZSTD(3)),
    goal_id UInt32 COMMENT 'conversion: goal' CODEC(T64, ZSTD(1)),
    revenue Decimal(18, 4) COMMENT 'conversion: amount as sent, unsigned by is_negative' CODEC(ZSTD(1)),
    is_negative Bool COMMENT 'conversion: the amount is subtracted',
    experiment_id UInt32 COMMENT 'experiment: experiment' CODEC(T64, ZSTD(1)),
    variation_id UInt32 COMMENT 'experiment, personalization: variation; 0 is the original' CODEC(T64, ZSTD(1)),
    segment_id UInt32 COMMENT 'targeting_segment: segment' CODEC(T64, ZSTD(1)),
    personalization_id UInt32 COMMENT 'personalization: personalization' CODEC(T64, ZSTD(1)),
    custom_data_index Int32 COMMENT 'custom_data: index' CODEC(ZSTD(1)),
    custom_data_values Map(String, UInt32) COMMENT 'custom_data: value to count' CODEC(ZSTD(3)),
    goal_metadata Map(Int32, Array(String)) COMMENT 'conversion: custom-data index to values' CODEC(ZSTD(3)),
    extra Map(String, String) COMMENT 'Every other parameter of the line, by its name on the wire, decoded' CODEC(ZSTD(3)),
    sdk_name LowCardinality(String) COMMENT 'sdkName of the request',
    sdk_version LowCardinality(String) COMMENT 'sdkVersion of the request',
    source LowCardinality(String) COMMENT 'http or nginx-log',
    node LowCardinality(String) COMMENT 'Collector node, or the one that an import names',
    is_bot Bool COMMENT 'The user agent says that it is a robot',
    loaded_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the row was written' CODEC(Delta, ZSTD(1)),
    rules_version UInt32 COMMENT 'Version of the rules that made the row' CODEC(T64, ZSTD(1)),
    version UInt64 COMMENT 'Twice the event-log offset up to which the row is true, plus 1 when a rebuild wrote it' CODEC(Delta, ZSTD(1)),
    is_deleted UInt8 COMMENT '1: the row turned out to be a duplicate',
    INDEX ix_visitor_code visitor_code TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX ix_goal goal_id TYPE set(256) GRANULARITY 4,
    INDEX ix_experiment experiment_id TYPE set(256) GRANULARITY 4
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(event_date)
ORDER BY (site_code, event_date, visitor_hash, event_at, line_number, event_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- visits 0
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

-- ledger 0
CREATE TABLE IF NOT EXISTS outcome_rows
(
    log_partition UInt32 COMMENT 'Partition of the event log',
    first_offset UInt64 COMMENT 'Offset of the record, or the first of a run of records',
    site_code LowCardinality(String) COMMENT 'Site',
    minute DateTime('UTC') COMMENT 'Minute of receipt',
    outcome LowCardinality(String) COMMENT 'duplicate, late, dead_letter, stale',
    count UInt64 COMMENT 'Records',
    version UInt64 COMMENT 'As in event_rows',
    is_deleted UInt8 COMMENT '1: no longer so'
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(minute)
ORDER BY (site_code, minute, log_partition, first_offset, outcome)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- ledger 1
CREATE TABLE IF NOT EXISTS archive_file_counts
(
    log_partition UInt32 COMMENT 'Partition of the event log',
    first_offset UInt64 COMMENT 'First offset of the file',
    last_offset UInt64 COMMENT 'Last offset of the file',
    site_code LowCardinality(String) COMMENT 'Site; empty for log lines of no known site',
    minute DateTime('UTC') COMMENT 'Minute of receipt',
    stage LowCardinality(String) COMMENT 'receive, accept, archive',
    outcome LowCardinality(String) COMMENT 'received; accepted or a reject reason; archived',
    count UInt64 COMMENT 'Lines or records'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (site_code, minute, log_partition, first_offset, stage, outcome)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- ledger 2
CREATE TABLE IF NOT EXISTS visitor_link_rows
(
    site_code LowCardinality(String) COMMENT 'Site',
    mapping_value String COMMENT 'User id: first value of the mapping custom data' CODEC(ZSTD(1)),
    visitor_code String COMMENT 'Visitor code linked to it' CODEC(ZSTD(1)),
    linked_at DateTime64(3, 'UTC') COMMENT 'Receipt of the linking line'
)
ENGINE = ReplacingMergeTree
ORDER BY (site_code, mapping_value, visitor_code, linked_at)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- log_partition 0
ALTER TABLE event_rows
    ADD COLUMN IF NOT EXISTS log_partition UInt32 COMMENT 'Partition of the event log that the row came from' CODEC(T64, ZSTD(1)) AFTER rules_version;

-- log_partition 1
ALTER TABLE visit_rows
    ADD COLUMN IF NOT EXISTS log_partition UInt32 COMMENT 'Partition of the event log that the row came from' CODEC(T64, ZSTD(1)) AFTER rules_version;

-- insert_tokens 0
ALTER TABLE event_rows
    MODIFY SETTING non_replicated_deduplication_window = 1000;

-- insert_tokens 1
ALTER TABLE visit_rows
    MODIFY SETTING non_replicated_deduplication_window = 1000;

-- insert_tokens 2
ALTER TABLE outcome_rows
    MODIFY SETTING non_replicated_deduplication_window = 1000;

-- insert_tokens 3
ALTER TABLE archive_file_counts
    MODIFY SETTING non_replicated_deduplication_window = 1000;

-- insert_tokens 4
ALTER TABLE visitor_link_rows
    MODIFY SETTING non_replicated_deduplication_window = 1000;

-- views 0
CREATE OR REPLACE VIEW events AS
SELECT * EXCEPT (log_partition, version, is_deleted), event_date, visitor_hash
FROM event_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- views 1
CREATE OR REPLACE VIEW visits AS
SELECT * EXCEPT (log_partition, version, is_deleted, row_hash), visit_date, visitor_hash
FROM visit_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- views 2
CREATE OR REPLACE VIEW ledger AS
SELECT minute, site_code, stage, outcome, sum(count) AS count
FROM
(
    SELECT minute, site_code, stage, outcome, count
    FROM archive_file_counts FINAL
    UNION ALL
    SELECT minute, site_code, 'load' AS stage, outcome, count
    FROM outcome_rows FINAL
    WHERE count > 0
    UNION ALL
    SELECT toStartOfMinute(toDateTime(event_at, 'UTC')) AS minute, site_code, 'load' AS stage, 'loaded' AS outcome, count() AS count
    FROM event_rows FINAL
    GROUP BY minute, site_code
)
GROUP BY minute, site_code, stage, outcome;

-- views 3
CREATE OR REPLACE VIEW visitor_links AS
SELECT site_code, mapping_value, visitor_code, min(linked_at) AS first_linked_at, max(linked_at) AS last_linked_at
FROM visitor_link_rows
GROUP BY site_code, mapping_value, visitor_code;

