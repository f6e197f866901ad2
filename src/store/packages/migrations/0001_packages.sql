-- The packages that repositories have of their own. The same text runs on SQLite and PostgreSQL:
-- natural keys, no types of one of them alone. Times are milliseconds since 1970.

CREATE TABLE repository (
    name TEXT NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE package (
    repository TEXT NOT NULL,
    package TEXT NOT NULL,                 -- npm:@scope/name, pypi:name, maven:group:artifact
    origin TEXT NOT NULL,                  -- internal, external: of its first version
    revision TEXT NOT NULL,                -- another after each change
    changed_at BIGINT NOT NULL,
    description TEXT NOT NULL,
    keywords TEXT NOT NULL,                -- what searches look into, lower case
    latest TEXT NOT NULL,                  -- the newest listed version; empty: none
    versions BIGINT NOT NULL,              -- how many there are
    PRIMARY KEY (repository, package)
);

CREATE TABLE package_version (
    repository TEXT NOT NULL,
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    position BIGINT NOT NULL,              -- the order of publishing
    status TEXT NOT NULL,
    origin TEXT NOT NULL,
    revision TEXT NOT NULL,
    published_at BIGINT NOT NULL,
    manifest TEXT NOT NULL,                -- what documents say of the version, JSON
    readme TEXT,
    PRIMARY KEY (repository, package, version)
);

CREATE INDEX package_version_in_order ON package_version (repository, package, position);

CREATE TABLE package_asset (
    repository TEXT NOT NULL,
    package TEXT NOT NULL,
    file TEXT NOT NULL,
    version TEXT NOT NULL,
    blob BYTEA NOT NULL,                   -- SHA-256
    size BIGINT NOT NULL,
    md5 TEXT NOT NULL,
    sha1 TEXT NOT NULL,
    sha512 TEXT NOT NULL,
    media_type TEXT NOT NULL,
    published_at BIGINT NOT NULL,
    facts TEXT NOT NULL,                   -- what documents say of the file, JSON or empty
    staged BIGINT NOT NULL,                -- 1: waits for the rest of its version
    PRIMARY KEY (repository, package, file)
);
CREATE INDEX package_asset_by_version ON package_asset (repository, package, version);
CREATE INDEX package_asset_by_blob ON package_asset (blob);

CREATE TABLE package_tag (
    repository TEXT NOT NULL,
    package TEXT NOT NULL,
    tag TEXT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (repository, package, tag)
);

CREATE TABLE package_dependency (
    repository TEXT NOT NULL,
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    position BIGINT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    requirement TEXT NOT NULL,
    PRIMARY KEY (repository, package, version, position)
);

-- Publishes that wait for their upstream.
CREATE TABLE spool (
    id TEXT NOT NULL PRIMARY KEY,
    repository TEXT NOT NULL,
    connection TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,                    -- below the repository, with its query
    headers TEXT NOT NULL,                 -- JSON, without credentials
    blob BYTEA NOT NULL,
    size BIGINT NOT NULL,
    queued_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    said TEXT NOT NULL,                    -- what upstream said last
    place TEXT NOT NULL                    -- the data directory that has the bytes
);
CREATE INDEX spool_by_blob ON spool (blob);
