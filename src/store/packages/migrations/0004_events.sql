-- What each subject's next event is numbered: a package of a repository, a repository, a domain.
CREATE TABLE event_sequence (
    subject TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL
);

-- Events on their way, one row for each target that lets them through.
CREATE TABLE delivery (
    event TEXT NOT NULL,
    target TEXT NOT NULL,
    subject TEXT NOT NULL,
    number BIGINT NOT NULL,                -- the order among those of the subject
    document TEXT NOT NULL,                -- the event, JSON
    created_at BIGINT NOT NULL,
    state TEXT NOT NULL,                   -- waiting, delivered, dead
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    said TEXT NOT NULL,                    -- what the target said last
    PRIMARY KEY (event, target)
);
CREATE INDEX delivery_in_order ON delivery (target, state, subject, number);
