-- What requests made that carry a key of their own, so that one that comes again gets the same answer.
CREATE TABLE creations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    answer TEXT NOT NULL,
    made_ms INTEGER NOT NULL,
    UNIQUE (user_id, key)
) STRICT;
CREATE INDEX creations_by_time ON creations (made_ms);
