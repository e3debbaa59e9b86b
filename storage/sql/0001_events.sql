-- One row per accepted line. Rewritten rows replace each other by `version`,
-- the event-log offset up to which the row is true, so that restarts, late
-- events and rebuilds leave no second copy.
CREATE TABLE IF NOT EXISTS event_rows
(
    site_code LowCardinality(String) COMMENT 'Site, as the customer writes it',
    event_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'Moment of receipt; the same for all lines of a request',
    event_date Date MATERIALIZED toDate(event_at) COMMENT 'Day of event_at in UTC',
    line_number UInt32 CODEC(T64, ZSTD(1)) COMMENT 'Position in the request body from 0: the second sort key',
    event_type LowCardinality(String) COMMENT 'page, conversion, experiment, custom_data, targeting_segment, static_data, geolocation, activity, personalization, other',
    visitor_code String CODEC(ZSTD(1)) COMMENT 'Visitor that the line names; a mapping value counts as a code of its own',
    visitor_hash UInt64 MATERIALIZED cityHash64(visitor_code) COMMENT 'Joins and sampling without strings',
    visit_id UInt64 CODEC(ZSTD(1)) COMMENT 'Visit of the event; 0 for a heartbeat outside of any visit',
    event_id UInt64 CODEC(ZSTD(1)) COMMENT 'Identity: site, visitor, time, position and bytes of the line',
    nonce String CODEC(ZSTD(1)) COMMENT 'As the sender gave it; empty when it gave none',
    is_heartbeat Bool COMMENT 'A static_data line that was alone for its visitor in its request',
    page_url String CODEC(ZSTD(3)) COMMENT 'page: full URL',
    page_title String CODEC(ZSTD(3)) COMMENT 'page: title',
    goal_id UInt32 CODEC(T64, ZSTD(1)) COMMENT 'conversion: goal',
    revenue Decimal(18, 4) CODEC(ZSTD(1)) COMMENT 'conversion: amount as sent, unsigned by is_negative',
    is_negative Bool COMMENT 'conversion: the amount is subtracted',
    experiment_id UInt32 CODEC(T64, ZSTD(1)) COMMENT 'experiment: experiment',
    variation_id UInt32 CODEC(T64, ZSTD(1)) COMMENT 'experiment, personalization: variation; 0 is the original',
    segment_id UInt32 CODEC(T64, ZSTD(1)) COMMENT 'targeting_segment: segment',
    personalization_id UInt32 CODEC(T64, ZSTD(1)) COMMENT 'personalization: personalization',
    custom_data_index Int32 CODEC(ZSTD(1)) COMMENT 'custom_data: index',
    custom_data_values Map(String, UInt32) CODEC(ZSTD(3)) COMMENT 'custom_data: value to count',
    goal_metadata Map(Int32, Array(String)) CODEC(ZSTD(3)) COMMENT 'conversion: custom-data index to values',
    extra Map(String, String) CODEC(ZSTD(3)) COMMENT 'Every other parameter of the line, by its name on the wire, decoded',
    sdk_name LowCardinality(String) COMMENT 'sdkName of the request',
    sdk_version LowCardinality(String) COMMENT 'sdkVersion of the request',
    source LowCardinality(String) COMMENT 'http or nginx-log',
    node LowCardinality(String) COMMENT 'Collector node, or the one that an import names',
    is_bot Bool COMMENT 'The user agent says that it is a robot',
    loaded_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1)) COMMENT 'When the row was written',
    rules_version UInt32 CODEC(T64, ZSTD(1)) COMMENT 'Version of the rules that made the row',
    version UInt64 CODEC(Delta, ZSTD(1)) COMMENT 'Twice the event-log offset up to which the row is true, plus 1 when a rebuild wrote it',
    is_deleted UInt8 COMMENT '1: the row turned out to be a duplicate',
    INDEX ix_visitor_code visitor_code TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX ix_goal goal_id TYPE set(256) GRANULARITY 4,
    INDEX ix_experiment experiment_id TYPE set(256) GRANULARITY 4
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(event_date)
ORDER BY (site_code, event_date, visitor_hash, event_at, line_number, event_id);

CREATE OR REPLACE VIEW events AS
SELECT * EXCEPT (version, is_deleted), event_date, visitor_hash
FROM event_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
