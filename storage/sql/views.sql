-- What is read. A view is no step of the schema: it is replaced as a whole whenever
-- its text here is not the one that was applied last.
CREATE OR REPLACE VIEW events AS
SELECT * EXCEPT (log_partition, version, is_deleted), event_date, visitor_hash
FROM event_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

CREATE OR REPLACE VIEW visits AS
SELECT * EXCEPT (log_partition, version, is_deleted, row_hash), visit_date, visitor_hash
FROM visit_rows FINAL
SETTINGS do_not_merge_across_partitions_select_final = 1;

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

CREATE OR REPLACE VIEW visitor_links AS
SELECT site_code, mapping_value, visitor_code, min(linked_at) AS first_linked_at, max(linked_at) AS last_linked_at
FROM visitor_link_rows
GROUP BY site_code, mapping_value, visitor_code;
