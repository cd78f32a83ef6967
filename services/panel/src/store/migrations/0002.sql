-- How servers join, where they are reached, and what certificates were given to whom.

-- What one box asked with a code: the keys of its first request are bound to the code, and nobody else's are answered.
CREATE TABLE joins (
    code_id INTEGER PRIMARY KEY REFERENCES join_codes (id) ON DELETE CASCADE,
    keys_hash BLOB NOT NULL,
    address TEXT NOT NULL,
    name TEXT,
    hardware TEXT NOT NULL,
    asked_ms INTEGER NOT NULL,
    decision TEXT NOT NULL,
    server_id INTEGER REFERENCES servers (id) ON DELETE CASCADE,
    answer TEXT
) STRICT;
CREATE INDEX joins_of_server ON joins (server_id);
CREATE INDEX joins_waiting ON joins (code_id) WHERE decision = 'waiting';

-- The box that stands as a server, and the address that it was last reached at.
CREATE TABLE boxes (
    server_id INTEGER PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    hardware TEXT NOT NULL,
    joined_ms INTEGER NOT NULL
) STRICT;

-- A certificate outlives its server: it stays on the list of what is revoked until it ends.
CREATE TABLE certificates (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    serial TEXT NOT NULL,
    kind TEXT NOT NULL,
    server_id INTEGER REFERENCES servers (id) ON DELETE SET NULL,
    subject TEXT NOT NULL,
    der BLOB NOT NULL,
    issued_ms INTEGER NOT NULL,
    ends_ms INTEGER NOT NULL,
    revoked_ms INTEGER,
    reason TEXT,
    UNIQUE (serial)
) STRICT;
CREATE INDEX certificates_of_server ON certificates (server_id);
CREATE INDEX certificates_revoked ON certificates (kind) WHERE revoked_ms IS NOT NULL;
