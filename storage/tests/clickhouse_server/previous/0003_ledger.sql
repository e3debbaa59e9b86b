-- Records that are in the raw archive and are no row of `events`: duplicates by
-- record, late ones counted in runs of offsets until a rebuild loads them.
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

-- Counts of one archive file, copied from its footer: written once with the file.
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

-- Counts per minute, site, stage and outcome: what `fanal reconcile` compares.
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

-- Links between a mapping value (user id) and visitor codes: facts, joined when read.
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

CREATE OR REPLACE VIEW visitor_links AS
SELECT site_code, mapping_value, visitor_code, min(linked_at) AS first_linked_at, max(linked_at) AS last_linked_at
FROM visitor_link_rows
GROUP BY site_code, mapping_value, visitor_code;
