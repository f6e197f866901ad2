-- Who may do what. Times are milliseconds since 1970.

-- One row: another number after each change below, by which other processes notice it.
CREATE TABLE access_state (
    id BIGINT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL
);
INSERT INTO access_state (id, number) VALUES (1, 0);

-- Keys that sign tokens: the newest signs, the others check what they signed.
CREATE TABLE signing_key (
    id TEXT NOT NULL PRIMARY KEY,
    secret TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Signed tokens that hold no more, until they would have expired.
CREATE TABLE revoked_token (
    id TEXT NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

-- Long-lived tokens of machines: of the token itself its hash alone.
CREATE TABLE machine_token (
    id TEXT NOT NULL PRIMARY KEY,
    hash BYTEA NOT NULL,                   -- SHA-256
    principal TEXT NOT NULL,
    note TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT                      -- none: until it is revoked
);

-- Access keys for Signature Version 4, whose secret both sides need.
CREATE TABLE access_key (
    id TEXT NOT NULL PRIMARY KEY,
    secret TEXT NOT NULL,
    principal TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Resource policies.
CREATE TABLE policy (
    resource TEXT NOT NULL PRIMARY KEY,    -- an ARN
    document TEXT NOT NULL,
    revision TEXT NOT NULL
);

-- Tags of resources, for people and for conditions of policies.
CREATE TABLE resource_tag (
    resource TEXT NOT NULL,                -- an ARN
    tag TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (resource, tag)
);
