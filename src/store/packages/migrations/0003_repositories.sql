-- Repositories that were made by the API, beside those of the configuration.
CREATE TABLE managed_repository (
    name TEXT NOT NULL PRIMARY KEY,
    description TEXT NOT NULL,
    upstreams TEXT NOT NULL,               -- names, JSON, in order
    connections TEXT NOT NULL              -- names, JSON, in order
);

-- Another number after each change above, by which other processes notice it.
INSERT INTO access_state (id, number) VALUES (2, 0);

-- What was said of a package's origins where the configuration says nothing.
CREATE TABLE package_restriction (
    repository TEXT NOT NULL,
    package TEXT NOT NULL,
    publish TEXT NOT NULL,                 -- ALLOW, BLOCK
    upstream TEXT NOT NULL,
    PRIMARY KEY (repository, package)
);
