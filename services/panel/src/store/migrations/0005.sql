-- Tunnels that are the panel's, and the servers' ways through them.

-- Any word was taken for a host once. Nobody can be reached at this one (RFC 6761, 6.4), and an admin sees why.
UPDATE tunnels SET host = 'unknown.invalid' WHERE NOT is_host(host);
ALTER TABLE tunnels DROP COLUMN fingerprint;
-- Networks that a tunnel's API is open to; none is all.
ALTER TABLE tunnels ADD COLUMN panel_addresses TEXT NOT NULL DEFAULT '[]';

ALTER TABLE servers ADD COLUMN ssh_key TEXT;
ALTER TABLE servers ADD COLUMN forward_port INTEGER;
CREATE UNIQUE INDEX servers_by_forward_port ON servers (forward_port) WHERE forward_port IS NOT NULL;

-- How its box lets the panel come, as it was told when it joined.
ALTER TABLE boxes ADD COLUMN link TEXT NOT NULL DEFAULT 'direct';

ALTER TABLE certificates ADD COLUMN tunnel_id INTEGER REFERENCES tunnels (id) ON DELETE SET NULL;
CREATE INDEX certificates_of_tunnel ON certificates (tunnel_id);

-- A tunnel that took the panel as its own, or may have: `confirmed_ms` is when that was known. Its table is kept as it was made
-- last, and `stale` when what it is made of changed since.
CREATE TABLE pairings (
    tunnel_id INTEGER PRIMARY KEY REFERENCES tunnels (id) ON DELETE CASCADE,
    host_key TEXT NOT NULL,
    made_ms INTEGER NOT NULL,
    confirmed_ms INTEGER,
    generation INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL DEFAULT '',
    stale INTEGER NOT NULL DEFAULT 1
) STRICT;

-- Codes that stand in seed files of tunnels, sealed: the panel proves itself with them, so that a digest would not do.
CREATE TABLE pairing_codes (
    tunnel_id INTEGER PRIMARY KEY REFERENCES tunnels (id) ON DELETE CASCADE,
    sealed BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;
