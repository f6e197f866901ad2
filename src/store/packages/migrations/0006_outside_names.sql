-- Names of packages of which a connection was seen to have a version. A name belongs to one side: what
-- is known outside is not published here.
CREATE TABLE outside_name (
    connection TEXT NOT NULL,
    package TEXT NOT NULL,                 -- npm:@scope/name
    seen_at BIGINT NOT NULL,               -- milliseconds since 1970
    PRIMARY KEY (connection, package)
);
