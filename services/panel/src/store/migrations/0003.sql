-- What servers were last known by, the alerts that stand and whom they were told, how devices booted, statistics, and the panel's
-- own settings.

-- The half of a minute in which a server answered last, what is in the way, and the short of what it showed.
CREATE TABLE contacts (
    server_id INTEGER PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    seen_ms INTEGER,
    clock_ms INTEGER,
    error TEXT,
    refused TEXT,
    sighting TEXT
) STRICT;

-- Alerts are computed; what stands here is since when each of them is true.
CREATE TABLE alerts (
    key TEXT PRIMARY KEY,
    organization_id INTEGER REFERENCES organizations (id) ON DELETE CASCADE,
    network_id INTEGER REFERENCES networks (id) ON DELETE CASCADE,
    severity INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX alerts_of_organization ON alerts (organization_id);
CREATE INDEX alerts_of_network ON alerts (network_id);

CREATE TABLE channels (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    organization_id INTEGER NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    secret BLOB,
    dropped INTEGER NOT NULL DEFAULT 0,
    UNIQUE (organization_id, name)
) STRICT;

-- The alerts that a channel was told of and that it was not told the end of. No reference: an alert may end first.
CREATE TABLE told (
    channel_id INTEGER NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (channel_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE notices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel_id INTEGER NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
    body TEXT NOT NULL,
    made_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    sent_ms INTEGER
) STRICT;
CREATE INDEX notices_of_channel ON notices (channel_id, id);
CREATE INDEX notices_due ON notices (due_ms) WHERE sent_ms IS NULL;

-- The last boots of each device; a column for the moment of each step.
CREATE TABLE boots (
    device_id INTEGER NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    boot TEXT NOT NULL,
    network_id INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    server_id INTEGER REFERENCES servers (id) ON DELETE SET NULL,
    began_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    script_ms INTEGER,
    kernel_ms INTEGER,
    initrd_ms INTEGER,
    network_ms INTEGER,
    root_ms INTEGER,
    up_ms INTEGER,
    failed_ms INTEGER,
    message TEXT,
    PRIMARY KEY (device_id, boot)
) STRICT, WITHOUT ROWID;
CREATE INDEX boots_of_network ON boots (network_id, began_ms);
CREATE INDEX boots_of_server ON boots (server_id);
CREATE INDEX boots_under_way ON boots (last_ms) WHERE up_ms IS NULL;

-- One row a minute for a day, and one a quarter of an hour for a month; what is older goes.
CREATE TABLE server_samples (
    server_id INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    span_s INTEGER NOT NULL,
    slot_ms INTEGER NOT NULL,
    sessions REAL NOT NULL,
    devices_up REAL NOT NULL,
    pool_bytes REAL NOT NULL,
    used_bytes REAL NOT NULL,
    volumes_bytes REAL NOT NULL,
    groups_bytes REAL NOT NULL,
    devices_bytes REAL NOT NULL,
    vdisks_bytes REAL NOT NULL,
    PRIMARY KEY (server_id, span_s, slot_ms)
) STRICT, WITHOUT ROWID;

CREATE TABLE network_samples (
    network_id INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    span_s INTEGER NOT NULL,
    slot_ms INTEGER NOT NULL,
    devices_up REAL NOT NULL,
    boots REAL NOT NULL,
    failed REAL NOT NULL,
    p50_ms REAL,
    p95_ms REAL,
    PRIMARY KEY (network_id, span_s, slot_ms)
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL DEFAULT 1,
    value TEXT NOT NULL,
    backup_ms INTEGER
) STRICT;
INSERT INTO settings (id, value) VALUES (1, '{}');
