-- Seconds after fresh_until for which upstream lets the bytes be served while it is asked
-- (RFC 5861 §3).
ALTER TABLE document ADD COLUMN stale_for INTEGER NOT NULL DEFAULT 0;
