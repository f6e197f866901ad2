-- Patterns of packages from outside that are never evicted: the operator's word, which outlives the cache.
CREATE TABLE pin (
    pattern TEXT NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL                  -- seconds since 1970
);
