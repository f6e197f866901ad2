-- What was said of package groups; the one above all has a row only where something was said of it.
CREATE TABLE package_group (
    pattern TEXT NOT NULL PRIMARY KEY,
    contact TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    settings TEXT NOT NULL                 -- each way in: its mode and repositories, JSON
);
