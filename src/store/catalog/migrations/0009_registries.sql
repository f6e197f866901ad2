-- The places that rows belong to. Where other tables have a column `connection`, it holds the id of one of
-- these; a connection's name is a label for configuration, rules and reports.
CREATE TABLE registry (
    id TEXT NOT NULL PRIMARY KEY,
    format TEXT,                           -- null: rows of a connection of an earlier version, by its name
    scheme TEXT,
    host TEXT,
    port INTEGER,
    base TEXT,
    realm TEXT NOT NULL DEFAULT '',        -- the connection whose credentials were sent; empty: none were
    placeholder_of TEXT                    -- the offline connection that has this address, which nobody asked
) WITHOUT ROWID;
CREATE UNIQUE INDEX registry_by_place ON registry (format, scheme, host, port, base, realm);

-- Rows of earlier versions have the names of connections, and keep them as ids. Each walk jumps from name to
-- name along the primary key and reads no row twice.
INSERT INTO registry (id)
WITH RECURSIVE
    of_document(name) AS (SELECT min(connection) FROM document UNION ALL
        SELECT (SELECT min(connection) FROM document WHERE connection > name) FROM of_document WHERE name IS NOT NULL),
    of_asset(name) AS (SELECT min(connection) FROM asset UNION ALL
        SELECT (SELECT min(connection) FROM asset WHERE connection > name) FROM of_asset WHERE name IS NOT NULL),
    of_alias(name) AS (SELECT min(connection) FROM alias UNION ALL
        SELECT (SELECT min(connection) FROM alias WHERE connection > name) FROM of_alias WHERE name IS NOT NULL),
    of_date(name) AS (SELECT min(connection) FROM publish_date UNION ALL
        SELECT (SELECT min(connection) FROM publish_date WHERE connection > name) FROM of_date WHERE name IS NOT NULL),
    of_absence(name) AS (SELECT min(connection) FROM absence UNION ALL
        SELECT (SELECT min(connection) FROM absence WHERE connection > name) FROM of_absence WHERE name IS NOT NULL)
SELECT name FROM (SELECT name FROM of_document UNION SELECT name FROM of_asset UNION SELECT name FROM of_alias
    UNION SELECT name FROM of_date UNION SELECT name FROM of_absence) WHERE name IS NOT NULL;
