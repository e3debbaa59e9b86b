-- What was done to the schema: needed before the first step, on every node whole.
-- whole on every node
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32 COMMENT 'Number of the step',
    name String COMMENT 'Name of the step',
    applied_at DateTime DEFAULT now() COMMENT 'When its last statement was done'
)
ENGINE = ReplacingMergeTree
ORDER BY version;

-- whole on every node
CREATE TABLE IF NOT EXISTS schema_progress
(
    step String COMMENT 'Name of a step, or views',
    number UInt32 COMMENT 'Place of the statement in it, from 0',
    digest UInt64 COMMENT 'Hash of the statement',
    applied_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When it was done'
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY (step, number);
