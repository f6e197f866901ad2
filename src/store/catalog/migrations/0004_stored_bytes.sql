-- The sum of all blobs' sizes, kept as they come and go: a start does not have to add up millions.
CREATE TABLE stored (bytes INTEGER NOT NULL);
INSERT INTO stored SELECT COALESCE(SUM(size), 0) FROM blob;
CREATE TRIGGER blob_stored AFTER INSERT ON blob
BEGIN UPDATE stored SET bytes = bytes + NEW.size; END;
CREATE TRIGGER blob_gone AFTER DELETE ON blob
BEGIN UPDATE stored SET bytes = bytes - OLD.size; END;
