-- Whether the packages are here. Not zero while they are being moved here: nobody may use them yet.
ALTER TABLE catalog ADD COLUMN is_arriving BIGINT NOT NULL DEFAULT 0;
-- The place that they were moved to; null while they are here.
ALTER TABLE catalog ADD COLUMN moved_to TEXT;
