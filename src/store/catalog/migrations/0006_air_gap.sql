-- What is asked for and missing, what is held for good, and who used what. Times are seconds since
-- 1970 where nothing else is said.

-- What was asked for while there was no line, and is not here.
CREATE TABLE wish (
    repository TEXT NOT NULL,
    package TEXT NOT NULL,
    version TEXT NOT NULL,                 -- empty: the package itself
    file TEXT NOT NULL,                    -- empty: its document
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    times INTEGER NOT NULL,
    PRIMARY KEY (repository, package, version, file)
) WITHOUT ROWID;

-- Packages that are never evicted, in the patterns of rules.
CREATE TABLE pin (
    pattern TEXT NOT NULL PRIMARY KEY,
    since INTEGER NOT NULL
) WITHOUT ROWID;

-- Came in a bundle of which nothing is visible yet.
CREATE TABLE staged (
    blob BLOB NOT NULL PRIMARY KEY
) WITHOUT ROWID;

-- Why it is never evicted, a set: 1 pinned, 2 of a connection of a repository that retains, 4 came
-- in a bundle.
ALTER TABLE asset ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE document ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
CREATE INDEX asset_by_package ON asset (package);
CREATE INDEX asset_by_blob ON asset (blob);
CREATE INDEX asset_held ON asset (blob) WHERE held <> 0;
CREATE INDEX document_held ON document (blob) WHERE held <> 0;

-- What was asked of a repository on one day.
CREATE TABLE traffic (
    day INTEGER NOT NULL,                  -- days since 1970
    repository TEXT NOT NULL,
    format TEXT NOT NULL,
    requests INTEGER NOT NULL,
    hits INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    served INTEGER NOT NULL,               -- bytes to clients
    PRIMARY KEY (day, repository, format)
) WITHOUT ROWID;

-- What came from a connection on one day.
CREATE TABLE egress (
    day INTEGER NOT NULL,
    connection TEXT NOT NULL,
    format TEXT NOT NULL,
    fetches INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (day, connection)
) WITHOUT ROWID;

-- Who took a version, on which days.
CREATE TABLE pull (
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    day INTEGER NOT NULL,
    who TEXT NOT NULL,                     -- principal, or address
    repository TEXT NOT NULL,
    last_at INTEGER NOT NULL,
    times INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (package, version, day, who, repository)
) WITHOUT ROWID;
CREATE INDEX pull_by_day ON pull (day);

-- How far long work has come, so that it goes on there.
CREATE TABLE progress (
    work TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL
) WITHOUT ROWID;
