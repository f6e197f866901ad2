-- The one Larder that uses a database which several could reach. There is one row at most.
CREATE TABLE holder (
    id BIGINT NOT NULL PRIMARY KEY,
    -- The name of its data directory, and of its machine.
    place TEXT NOT NULL,
    machine TEXT NOT NULL,
    -- Milliseconds since 1970, by the database's clock.
    until BIGINT NOT NULL
);
