-- An insert that is repeated with the token of a recent one is dropped. Replicated
-- tables remember tokens by themselves; these do when they are told how many.
ALTER TABLE event_rows
    MODIFY SETTING non_replicated_deduplication_window = 1000;

ALTER TABLE visit_rows
    MODIFY SETTING non_replicated_deduplication_window = 1000;

ALTER TABLE outcome_rows
    MODIFY SETTING non_replicated_deduplication_window = 1000;

ALTER TABLE archive_file_counts
    MODIFY SETTING non_replicated_deduplication_window = 1000;

ALTER TABLE visitor_link_rows
    MODIFY SETTING non_replicated_deduplication_window = 1000;
