-- The catalog's own name, by which a data directory knows it again.
CREATE TABLE catalog (
    identity TEXT NOT NULL PRIMARY KEY,
    -- Milliseconds since 1970.
    opened_at BIGINT NOT NULL
);
