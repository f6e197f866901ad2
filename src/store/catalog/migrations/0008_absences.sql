-- What a registry said that it does not have: given again while it is away.
CREATE TABLE absence (
    connection TEXT NOT NULL,
    key TEXT NOT NULL,
    checked_at INTEGER NOT NULL,           -- seconds since 1970
    PRIMARY KEY (connection, key)
) WITHOUT ROWID;
CREATE INDEX absence_by_age ON absence (checked_at);
