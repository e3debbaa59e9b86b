-- Which log partition a row came from: each partition's consumer reads back, after
-- a crash, what it alone wrote.
ALTER TABLE event_rows
    ADD COLUMN IF NOT EXISTS log_partition UInt32 COMMENT 'Partition of the event log that the row came from' CODEC(T64, ZSTD(1)) AFTER rules_version;

ALTER TABLE visit_rows
    ADD COLUMN IF NOT EXISTS log_partition UInt32 COMMENT 'Partition of the event log that the row came from' CODEC(T64, ZSTD(1)) AFTER rules_version;
