-- Names are unique inside a network: a server belongs to one network, and its document names every object once.
-- Times are milliseconds since 1970; IPv4 addresses are numbers, so that they sort and compare.
-- What is known by its number outside of the store has AUTOINCREMENT: the log, locks and links speak of it after it is gone, and
-- must never speak of another record.

CREATE TABLE organizations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    name TEXT NOT NULL,
    most_networks INTEGER,
    most_users INTEGER,
    most_devices INTEGER,
    UNIQUE (name)
) STRICT;

CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    organization_id INTEGER REFERENCES organizations (id),
    name TEXT NOT NULL,
    full_name TEXT NOT NULL,
    mail TEXT,
    standing TEXT NOT NULL,
    disabled INTEGER NOT NULL,
    password_hash TEXT,
    password_changed_ms INTEGER,
    totp_secret BLOB,
    totp_last_step INTEGER,
    certificate_required INTEGER NOT NULL DEFAULT 0,
    UNIQUE (name),
    CONSTRAINT users_organization CHECK (standing = 'superadmin' OR organization_id IS NOT NULL)
) STRICT;
CREATE INDEX users_of_organization ON users (organization_id, name);

CREATE TABLE recovery_codes (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    code_hash BLOB NOT NULL,
    used_ms INTEGER,
    PRIMARY KEY (user_id, code_hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash BLOB NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    address TEXT NOT NULL,
    browser TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_of_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_ms);

CREATE TABLE api_tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    token_hash BLOB NOT NULL UNIQUE,
    most_rank TEXT NOT NULL,
    network_id INTEGER REFERENCES networks (id) ON DELETE CASCADE,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    used_ms INTEGER,
    UNIQUE (user_id, name)
) STRICT;
CREATE INDEX api_tokens_of_network ON api_tokens (network_id);

CREATE TABLE tunnels (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    port INTEGER NOT NULL,
    fingerprint TEXT,
    UNIQUE (name)
) STRICT;

CREATE TABLE networks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    organization_id INTEGER NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    UNIQUE (organization_id, name)
) STRICT;
CREATE INDEX networks_by_name ON networks (name);

CREATE TABLE network_tunnels (
    network_id INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    tunnel_id INTEGER NOT NULL REFERENCES tunnels (id),
    position INTEGER NOT NULL,
    PRIMARY KEY (network_id, tunnel_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX network_tunnels_by_tunnel ON network_tunnels (tunnel_id);

CREATE TABLE user_roles (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network_id INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    PRIMARY KEY (user_id, network_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_roles_by_network ON user_roles (network_id);

CREATE TABLE subnets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    network_id INTEGER NOT NULL REFERENCES networks (id),
    name TEXT NOT NULL,
    subnet TEXT NOT NULL,
    lan TEXT,
    gateway INTEGER,
    dns TEXT NOT NULL,
    domain TEXT,
    dhcp_mode TEXT NOT NULL,
    dhcp_first INTEGER,
    dhcp_last INTEGER,
    UNIQUE (network_id, name)
) STRICT;
CREATE INDEX subnets_by_name ON subnets (name);
CREATE INDEX subnets_by_lan ON subnets (lan);

CREATE TABLE servers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    network_id INTEGER NOT NULL REFERENCES networks (id),
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    is_primary INTEGER NOT NULL,
    management TEXT,
    -- Something that its document is made of changed since it was made.
    stale INTEGER NOT NULL DEFAULT 1,
    UNIQUE (network_id, name)
) STRICT;
CREATE INDEX servers_by_name ON servers (name);
CREATE UNIQUE INDEX servers_one_primary ON servers (network_id) WHERE is_primary = 1;
CREATE INDEX servers_stale ON servers (id) WHERE stale = 1;

CREATE TABLE server_interfaces (
    server_id INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    subnet_id INTEGER NOT NULL REFERENCES subnets (id),
    interface TEXT NOT NULL,
    address INTEGER NOT NULL,
    PRIMARY KEY (server_id, subnet_id),
    UNIQUE (subnet_id, address)
) STRICT, WITHOUT ROWID;

CREATE TABLE pools (
    id INTEGER PRIMARY KEY,
    server_id INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    layout TEXT NOT NULL,
    disks TEXT NOT NULL,
    UNIQUE (server_id, name)
) STRICT;

CREATE TABLE volumes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    network_id INTEGER NOT NULL REFERENCES networks (id),
    name TEXT NOT NULL,
    pool TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    source TEXT,
    UNIQUE (network_id, name)
) STRICT;
CREATE INDEX volumes_by_name ON volumes (name);

CREATE TABLE groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    network_id INTEGER NOT NULL REFERENCES networks (id),
    volume_id INTEGER NOT NULL REFERENCES volumes (id),
    name TEXT NOT NULL,
    production INTEGER NOT NULL,
    test INTEGER,
    kernel_arguments TEXT NOT NULL,
    UNIQUE (network_id, name),
    FOREIGN KEY (id, production) REFERENCES generations (group_id, number) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (id, test) REFERENCES generations (group_id, number) DEFERRABLE INITIALLY DEFERRED
) STRICT;
CREATE INDEX groups_by_name ON groups (name);
CREATE INDEX groups_of_volume ON groups (volume_id);

CREATE TABLE generations (
    group_id INTEGER NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    PRIMARY KEY (group_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE vdisks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    network_id INTEGER NOT NULL REFERENCES networks (id),
    pool_id INTEGER NOT NULL REFERENCES pools (id),
    name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    UNIQUE (network_id, name)
) STRICT;
CREATE INDEX vdisks_by_name ON vdisks (name);
CREATE INDEX vdisks_of_pool ON vdisks (pool_id);

CREATE TABLE menus (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    network_id INTEGER NOT NULL REFERENCES networks (id),
    name TEXT NOT NULL,
    title TEXT NOT NULL,
    timeout_s INTEGER NOT NULL,
    default_entry INTEGER NOT NULL,
    entries TEXT NOT NULL,
    UNIQUE (network_id, name)
) STRICT;
CREATE INDEX menus_by_name ON menus (name);

CREATE TABLE devices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    network_id INTEGER NOT NULL REFERENCES networks (id),
    name TEXT NOT NULL,
    subnet_id INTEGER NOT NULL REFERENCES subnets (id),
    address INTEGER NOT NULL,
    group_id INTEGER NOT NULL REFERENCES groups (id),
    boot_mode TEXT NOT NULL,
    test INTEGER NOT NULL,
    pinned INTEGER,
    menu_id INTEGER REFERENCES menus (id),
    on_failure TEXT NOT NULL,
    UNIQUE (network_id, name),
    UNIQUE (subnet_id, address),
    FOREIGN KEY (group_id, pinned) REFERENCES generations (group_id, number) DEFERRABLE INITIALLY DEFERRED
) STRICT;
CREATE INDEX devices_by_name ON devices (name);
CREATE INDEX devices_by_address ON devices (address);
CREATE INDEX devices_of_network_by_address ON devices (network_id, address);
CREATE INDEX devices_of_group ON devices (group_id, name);
CREATE INDEX devices_of_menu ON devices (menu_id);

CREATE TABLE device_macs (
    device_id INTEGER NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    network_id INTEGER NOT NULL REFERENCES networks (id),
    position INTEGER NOT NULL,
    mac TEXT NOT NULL,
    PRIMARY KEY (device_id, position),
    UNIQUE (network_id, mac)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_macs_by_mac ON device_macs (mac);

CREATE TABLE device_vdisks (
    device_id INTEGER NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    vdisk_id INTEGER NOT NULL REFERENCES vdisks (id),
    purpose TEXT NOT NULL,
    path TEXT,
    PRIMARY KEY (device_id, position),
    UNIQUE (vdisk_id)
) STRICT, WITHOUT ROWID;

-- What a person said may be destroyed on a server; a mark goes when it was seen gone, or when it is wanted again.
CREATE TABLE destroys (
    server_id INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    mark TEXT NOT NULL,
    PRIMARY KEY (server_id, mark)
) STRICT, WITHOUT ROWID;

CREATE TABLE documents (
    server_id INTEGER PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    body TEXT NOT NULL,
    made_ms INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    applied INTEGER NOT NULL DEFAULT 0,
    status TEXT,
    status_ms INTEGER
) STRICT;

CREATE TABLE join_codes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    network_id INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    server_id INTEGER REFERENCES servers (id) ON DELETE CASCADE,
    code_hash BLOB NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    used_ms INTEGER,
    confirm INTEGER NOT NULL
) STRICT;
CREATE INDEX join_codes_of_network ON join_codes (network_id);
CREATE INDEX join_codes_of_server ON join_codes (server_id);

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    network_id INTEGER REFERENCES networks (id) ON DELETE CASCADE,
    server_id INTEGER REFERENCES servers (id) ON DELETE CASCADE,
    asked_by TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    detail TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    total INTEGER,
    created_ms INTEGER NOT NULL,
    ended_ms INTEGER
) STRICT;
CREATE INDEX jobs_of_network ON jobs (network_id);
CREATE INDEX jobs_of_server ON jobs (server_id);
CREATE INDEX jobs_unended ON jobs (id) WHERE ended_ms IS NULL;

-- No foreign keys: the log outlives what it speaks of.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ms INTEGER NOT NULL,
    actor_id INTEGER,
    actor TEXT NOT NULL,
    verb TEXT NOT NULL,
    noun TEXT NOT NULL,
    object_id INTEGER NOT NULL,
    object TEXT NOT NULL,
    organization_id INTEGER,
    network_id INTEGER,
    before TEXT,
    after TEXT
) STRICT;
CREATE INDEX audit_of_network ON audit (network_id);
CREATE INDEX audit_of_organization ON audit (organization_id);
CREATE INDEX audit_of_object ON audit (noun, object_id);
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
