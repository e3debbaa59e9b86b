-- One row per accepted line. Rewritten rows replace each other by `version`,
-- the event-log offset up to which the row is true, so that restarts, late
-- events and rebuilds leave no second copy. Inserts are synced: a checkpoint on
-- disk must not know of rows that are not.
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

CREATE OR REPLACE VIEW events AS
SELECT * EXCEPT (version, is_deleted), event_date, visitor_hash
FROM event_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
