-- Which log partition a row came from: each partition's consumer reads back, after
-- a crash, what it alone wrote. An inside matter, so the public views leave it out.
ALTER TABLE event_rows
    ADD COLUMN IF NOT EXISTS log_partition UInt32 COMMENT 'Partition of the event log that the row came from' CODEC(T64, ZSTD(1)) AFTER rules_version;

ALTER TABLE visit_rows
    ADD COLUMN IF NOT EXISTS log_partition UInt32 COMMENT 'Partition of the event log that the row came from' CODEC(T64, ZSTD(1)) AFTER rules_version;

CREATE OR REPLACE VIEW events AS
SELECT * EXCEPT (log_partition, version, is_deleted), event_date, visitor_hash
FROM event_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW visits AS
SELECT * EXCEPT (log_partition, version, is_deleted, row_hash), visit_date, visitor_hash
FROM visit_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;
