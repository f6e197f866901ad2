-- Publishes in the spool that their upstream refused for good.
ALTER TABLE spool ADD COLUMN set_aside BIGINT NOT NULL DEFAULT 0;
