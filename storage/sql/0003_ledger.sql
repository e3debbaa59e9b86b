-- Records that are in the raw archive and are no row of `events`: duplicates by
-- record, late ones counted in runs of offsets until a rebuild loads them.
-- shard by cityHash64(log_partition, first_offset): both are in the sorting key, and a busy site is spread.
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
-- shard by cityHash64(log_partition, first_offset): all counts of a file together, the files spread.
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

-- Links between a mapping value (user id) and visitor codes: facts, joined when read.
-- shard by cityHash64(site_code, mapping_value): all links of a user id together.
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
