-- Blobs of what was published, or waits to be, are never evicted and count for no bound.
ALTER TABLE blob ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
DROP INDEX blob_by_use;
CREATE INDEX blob_by_use ON blob (kept, reused, used_at);
DROP TRIGGER blob_stored;
DROP TRIGGER blob_gone;
CREATE TRIGGER blob_stored AFTER INSERT ON blob WHEN NEW.kept = 0
BEGIN UPDATE stored SET bytes = bytes + NEW.size; END;
CREATE TRIGGER blob_gone AFTER DELETE ON blob WHEN OLD.kept = 0
BEGIN UPDATE stored SET bytes = bytes - OLD.size; END;
CREATE TRIGGER blob_kept AFTER UPDATE OF kept ON blob WHEN NEW.kept <> OLD.kept
BEGIN UPDATE stored SET bytes = bytes + (OLD.kept - NEW.kept) * OLD.size; END;
