-- What is stored, and what every resource of every connection is. Times are seconds since
-- 1970 where nothing else is said.

CREATE TABLE blob (
    id BLOB NOT NULL PRIMARY KEY,          -- SHA-256
    size INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,            -- milliseconds
    used_at INTEGER NOT NULL,              -- milliseconds
    reused INTEGER NOT NULL DEFAULT 0      -- 1: used again after it was stored; evicted last
) WITHOUT ROWID;
CREATE INDEX blob_by_use ON blob (reused, used_at);

-- Further digests of a blob, computed when somebody asks.
CREATE TABLE blob_digest (
    blob BLOB NOT NULL,
    algorithm TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (blob, algorithm)
) WITHOUT ROWID;

-- A mutable resource: the bytes and the validators that came with them, in one row.
CREATE TABLE document (
    connection TEXT NOT NULL,
    key TEXT NOT NULL,
    blob BLOB NOT NULL,
    size INTEGER NOT NULL,
    url TEXT NOT NULL,                     -- after redirects
    media_type TEXT NOT NULL,
    etag TEXT,
    last_modified TEXT,
    policy TEXT NOT NULL,                  -- http-cache-semantics, JSON
    fetched_at INTEGER NOT NULL,           -- when these bytes came
    checked_at INTEGER NOT NULL,           -- when upstream last vouched for them
    fresh_until INTEGER NOT NULL,
    fetch_ms INTEGER NOT NULL,
    PRIMARY KEY (connection, key)
) WITHOUT ROWID;

-- An immutable asset. The row outlives its blob's eviction: it pins the first bytes seen.
CREATE TABLE asset (
    connection TEXT NOT NULL,
    package TEXT NOT NULL,
    file TEXT NOT NULL,
    version TEXT NOT NULL,
    blob BLOB NOT NULL,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    published INTEGER,                     -- by the registry; never a date of our own
    last_modified TEXT,
    first_seen INTEGER NOT NULL,
    fetch_ms INTEGER NOT NULL,
    PRIMARY KEY (connection, package, file)
) WITHOUT ROWID;

-- Addresses that a path alone does not lead back to upstream.
CREATE TABLE alias (
    connection TEXT NOT NULL,
    path TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (connection, path)
) WITHOUT ROWID;

-- Publish dates of versions whose documents have none.
CREATE TABLE publish_date (
    connection TEXT NOT NULL,
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    published INTEGER NOT NULL,
    PRIMARY KEY (connection, package, version)
) WITHOUT ROWID;
