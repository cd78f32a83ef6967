-- Captured with python3 sqlite3.Connection.iterdump from a database of schema 7.
BEGIN TRANSACTION;
CREATE TABLE alerts (
    key TEXT PRIMARY KEY,
    organization_id INTEGER REFERENCES organizations (id) ON DELETE CASCADE,
    network_id INTEGER REFERENCES networks (id) ON DELETE CASCADE,
    severity INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "alerts" VALUES('server-silent/1',1,1,2,5,'{}');
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
INSERT INTO "api_tokens" VALUES(1,1,'script',X'01FF','viewer',1,1,9,NULL);
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
INSERT INTO "audit" VALUES(1,5,1,'tina','create','device',1,'pc-01',1,1,NULL,'{}');
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
INSERT INTO "boots" VALUES(1,'0123456789abcdef0123456789abcdef',1,NULL,5,5,5,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "boots" VALUES(2,'0123456789abcdef0123456789abcdef',1,NULL,5,5,5,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE boxes (
    server_id INTEGER PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    hardware TEXT NOT NULL,
    joined_ms INTEGER NOT NULL
, link TEXT NOT NULL DEFAULT 'direct') STRICT;
INSERT INTO "boxes" VALUES(1,'192.0.2.9','{"manufacturer":"QEMU","product":"","serial":"","uuid":"","processors":2,"memory_bytes":1,"links":[],"disks":[]}',6,'direct');
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
    reason TEXT, tunnel_id INTEGER REFERENCES tunnels (id) ON DELETE SET NULL, user_id INTEGER REFERENCES users (id) ON DELETE SET NULL, label TEXT, used_ms INTEGER,
    UNIQUE (serial)
) STRICT;
INSERT INTO "certificates" VALUES(1,'00112233445566778899aabbccddeeff','agent',1,'CN=server agent-1',X'3000',6,9,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "certificates" VALUES(2,'ffeeddccbbaa99887766554433221100','user',NULL,'CN=user ada, laptop',X'3001',6,9,NULL,NULL,NULL,1,'laptop',7);
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
INSERT INTO "channels" VALUES(1,1,1,'mail','{}',X'01',0);
CREATE TABLE contacts (
    server_id INTEGER PRIMARY KEY REFERENCES servers (id) ON DELETE CASCADE,
    seen_ms INTEGER,
    clock_ms INTEGER,
    error TEXT,
    refused TEXT,
    sighting TEXT
) STRICT;
INSERT INTO "contacts" VALUES(1,5,0,NULL,NULL,'{}');
CREATE TABLE creations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    answer TEXT NOT NULL,
    made_ms INTEGER NOT NULL,
    UNIQUE (user_id, key)
) STRICT;
INSERT INTO "creations" VALUES(1,1,'"a-key"',X'01FF','{}',1);
CREATE TABLE destroys (
    server_id INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    mark TEXT NOT NULL,
    PRIMARY KEY (server_id, mark)
) STRICT, WITHOUT ROWID;
CREATE TABLE device_macs (
    device_id INTEGER NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    network_id INTEGER NOT NULL REFERENCES networks (id),
    position INTEGER NOT NULL,
    mac TEXT NOT NULL,
    PRIMARY KEY (device_id, position),
    UNIQUE (network_id, mac)
) STRICT, WITHOUT ROWID;
INSERT INTO "device_macs" VALUES(1,1,0,'52:54:00:00:01:01');
INSERT INTO "device_macs" VALUES(2,1,0,'52:54:00:00:01:02');
CREATE TABLE device_vdisks (
    device_id INTEGER NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    vdisk_id INTEGER NOT NULL REFERENCES vdisks (id),
    purpose TEXT NOT NULL,
    path TEXT,
    PRIMARY KEY (device_id, position),
    UNIQUE (vdisk_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "device_vdisks" VALUES(1,0,1,'upper',NULL);
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
INSERT INTO "devices" VALUES(1,1,1,'pc-01',1,172818443,1,'overlay',0,1,1,'retry');
INSERT INTO "devices" VALUES(2,1,1,'pc-02',1,172818444,1,'ephemeral',1,NULL,NULL,'reboot');
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
INSERT INTO "documents" VALUES(1,3,'{"generation":3}',5,0,0,NULL,NULL);
CREATE TABLE generations (
    group_id INTEGER NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    PRIMARY KEY (group_id, number)
) STRICT, WITHOUT ROWID;
INSERT INTO "generations" VALUES(1,1);
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
INSERT INTO "groups" VALUES(1,1,1,1,'lab',1,NULL,'console=ttyS0');
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
INSERT INTO "join_codes" VALUES(1,1,NULL,X'0A0B',1,600000,5,1);
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
INSERT INTO "joins" VALUES(1,X'0C','192.0.2.9','box-1','{"manufacturer":"QEMU","product":"","serial":"","uuid":"","processors":2,"memory_bytes":1,"links":[],"disks":[]}',5,'joined',1,'{"state":"waiting","retry_s":5}');
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
INSERT INTO "menus" VALUES(1,1,1,'main','Lab',5,0,'[{"label":"Boot","action":"image"}]');
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
INSERT INTO "network_samples" VALUES(1,60,0,1.0,1.0,0.0,NULL,NULL);
CREATE TABLE network_tunnels (
    network_id INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    tunnel_id INTEGER NOT NULL REFERENCES tunnels (id),
    position INTEGER NOT NULL,
    PRIMARY KEY (network_id, tunnel_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "network_tunnels" VALUES(1,1,0);
CREATE TABLE networks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    organization_id INTEGER NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    UNIQUE (organization_id, name)
) STRICT;
INSERT INTO "networks" VALUES(1,1,1,'north');
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
INSERT INTO "notices" VALUES(1,1,'{}',5,5,0,NULL,NULL);
CREATE TABLE organizations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    name TEXT NOT NULL,
    most_networks INTEGER,
    most_users INTEGER,
    most_devices INTEGER,
    UNIQUE (name)
) STRICT;
INSERT INTO "organizations" VALUES(1,1,'Example School',NULL,NULL,100);
CREATE TABLE pairing_codes (
    tunnel_id INTEGER PRIMARY KEY REFERENCES tunnels (id) ON DELETE CASCADE,
    sealed BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) STRICT;
INSERT INTO "pairing_codes" VALUES(1,X'01',1700000000000,1700000600000);
CREATE TABLE pairings (
    tunnel_id INTEGER PRIMARY KEY REFERENCES tunnels (id) ON DELETE CASCADE,
    host_key TEXT NOT NULL,
    made_ms INTEGER NOT NULL,
    confirmed_ms INTEGER,
    generation INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL DEFAULT '',
    stale INTEGER NOT NULL DEFAULT 1
) STRICT;
INSERT INTO "pairings" VALUES(1,'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPx0',1700000000000,1700000000500,1,'{"generation":1,"panel":[],"agents":[],"revocation_list_pem":null}',0);
CREATE TABLE pools (
    id INTEGER PRIMARY KEY,
    server_id INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    layout TEXT NOT NULL,
    disks TEXT NOT NULL,
    UNIQUE (server_id, name)
) STRICT;
INSERT INTO "pools" VALUES(1,1,'tank','stripe','[{"serial":"A","overwrite":false}]');
CREATE TABLE recovery_codes (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    code_hash BLOB NOT NULL,
    used_ms INTEGER,
    PRIMARY KEY (user_id, code_hash)
) STRICT, WITHOUT ROWID;
CREATE TABLE server_interfaces (
    server_id INTEGER NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    subnet_id INTEGER NOT NULL REFERENCES subnets (id),
    interface TEXT NOT NULL,
    address INTEGER NOT NULL,
    PRIMARY KEY (server_id, subnet_id),
    UNIQUE (subnet_id, address)
) STRICT, WITHOUT ROWID;
INSERT INTO "server_interfaces" VALUES(1,1,'{"mac":"52:54:00:00:00:01"}',172818433);
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
INSERT INTO "server_samples" VALUES(1,60,0,1.0,1.0,2.0,1.0,0.0,0.0,0.0,0.0);
CREATE TABLE servers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    network_id INTEGER NOT NULL REFERENCES networks (id),
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    is_primary INTEGER NOT NULL,
    management TEXT,
    -- Something that its document is made of changed since it was made.
    stale INTEGER NOT NULL DEFAULT 1, ssh_key TEXT, forward_port INTEGER,
    UNIQUE (network_id, name)
) STRICT;
INSERT INTO "servers" VALUES(1,1,1,'agent-1','both',1,NULL,1,NULL,NULL);
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
INSERT INTO "sessions" VALUES(1,1,X'00FF',1,2,3,'192.0.2.7','Firefox');
CREATE TABLE settings (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL DEFAULT 1,
    value TEXT NOT NULL,
    backup_ms INTEGER
, restored_from_ms INTEGER, restored_ms INTEGER) STRICT;
INSERT INTO "settings" VALUES(1,1,'{}',NULL,5,6);
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
INSERT INTO "subnets" VALUES(1,1,1,'lab','10.77.0.0/24','wire',172818686,'["10.77.0.253"]','lab.example','authoritative',172818632,172818682);
CREATE TABLE told (
    channel_id INTEGER NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (channel_id, key)
) STRICT, WITHOUT ROWID;
INSERT INTO "told" VALUES(1,'server-silent/1','{}');
CREATE TABLE tunnels (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    port INTEGER NOT NULL, panel_addresses TEXT NOT NULL DEFAULT '[]',
    UNIQUE (name)
) STRICT;
INSERT INTO "tunnels" VALUES(1,1,'relay','relay.example.org',22,'[]');
CREATE TABLE user_roles (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    network_id INTEGER NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    PRIMARY KEY (user_id, network_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "user_roles" VALUES(1,1,'technician');
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
INSERT INTO "users" VALUES(1,1,1,'tina','Tina T.','tina@example.org','member',0,'$argon2id$v=19$x',NULL,NULL,NULL,0);
CREATE TABLE vdisks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version INTEGER NOT NULL DEFAULT 1,
    network_id INTEGER NOT NULL REFERENCES networks (id),
    pool_id INTEGER NOT NULL REFERENCES pools (id),
    name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    UNIQUE (network_id, name)
) STRICT;
INSERT INTO "vdisks" VALUES(1,1,1,1,'home-01',1073741824);
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
INSERT INTO "volumes" VALUES(1,1,1,'debian','tank',8589934592,NULL);
CREATE INDEX users_of_organization ON users (organization_id, name);
CREATE INDEX sessions_of_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_ms);
CREATE INDEX api_tokens_of_network ON api_tokens (network_id);
CREATE INDEX networks_by_name ON networks (name);
CREATE INDEX network_tunnels_by_tunnel ON network_tunnels (tunnel_id);
CREATE INDEX user_roles_by_network ON user_roles (network_id);
CREATE INDEX subnets_by_name ON subnets (name);
CREATE INDEX subnets_by_lan ON subnets (lan);
CREATE INDEX servers_by_name ON servers (name);
CREATE UNIQUE INDEX servers_one_primary ON servers (network_id) WHERE is_primary = 1;
CREATE INDEX servers_stale ON servers (id) WHERE stale = 1;
CREATE INDEX volumes_by_name ON volumes (name);
CREATE INDEX groups_by_name ON groups (name);
CREATE INDEX groups_of_volume ON groups (volume_id);
CREATE INDEX vdisks_by_name ON vdisks (name);
CREATE INDEX vdisks_of_pool ON vdisks (pool_id);
CREATE INDEX menus_by_name ON menus (name);
CREATE INDEX devices_by_name ON devices (name);
CREATE INDEX devices_by_address ON devices (address);
CREATE INDEX devices_of_network_by_address ON devices (network_id, address);
CREATE INDEX devices_of_group ON devices (group_id, name);
CREATE INDEX devices_of_menu ON devices (menu_id);
CREATE INDEX device_macs_by_mac ON device_macs (mac);
CREATE INDEX join_codes_of_network ON join_codes (network_id);
CREATE INDEX join_codes_of_server ON join_codes (server_id);
CREATE INDEX jobs_of_network ON jobs (network_id);
CREATE INDEX jobs_of_server ON jobs (server_id);
CREATE INDEX jobs_unended ON jobs (id) WHERE ended_ms IS NULL;
CREATE INDEX audit_of_network ON audit (network_id);
CREATE INDEX audit_of_organization ON audit (organization_id);
CREATE INDEX audit_of_object ON audit (noun, object_id);
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE INDEX joins_of_server ON joins (server_id);
CREATE INDEX joins_waiting ON joins (code_id) WHERE decision = 'waiting';
CREATE INDEX certificates_of_server ON certificates (server_id);
CREATE INDEX certificates_revoked ON certificates (kind) WHERE revoked_ms IS NOT NULL;
CREATE INDEX alerts_of_organization ON alerts (organization_id);
CREATE INDEX alerts_of_network ON alerts (network_id);
CREATE INDEX notices_of_channel ON notices (channel_id, id);
CREATE INDEX notices_due ON notices (due_ms) WHERE sent_ms IS NULL;
CREATE INDEX boots_of_network ON boots (network_id, began_ms);
CREATE INDEX boots_of_server ON boots (server_id);
CREATE INDEX boots_under_way ON boots (last_ms) WHERE up_ms IS NULL;
CREATE INDEX creations_by_time ON creations (made_ms);
CREATE UNIQUE INDEX servers_by_forward_port ON servers (forward_port) WHERE forward_port IS NOT NULL;
CREATE INDEX certificates_of_tunnel ON certificates (tunnel_id);
CREATE INDEX certificates_of_user ON certificates (user_id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('api_tokens',1);
INSERT INTO "sqlite_sequence" VALUES('audit',1);
INSERT INTO "sqlite_sequence" VALUES('devices',2);
INSERT INTO "sqlite_sequence" VALUES('groups',1);
INSERT INTO "sqlite_sequence" VALUES('menus',1);
INSERT INTO "sqlite_sequence" VALUES('networks',1);
INSERT INTO "sqlite_sequence" VALUES('organizations',1);
INSERT INTO "sqlite_sequence" VALUES('servers',1);
INSERT INTO "sqlite_sequence" VALUES('sessions',1);
INSERT INTO "sqlite_sequence" VALUES('subnets',1);
INSERT INTO "sqlite_sequence" VALUES('tunnels',1);
INSERT INTO "sqlite_sequence" VALUES('users',1);
INSERT INTO "sqlite_sequence" VALUES('vdisks',1);
INSERT INTO "sqlite_sequence" VALUES('volumes',1);
INSERT INTO "sqlite_sequence" VALUES('join_codes',1);
INSERT INTO "sqlite_sequence" VALUES('certificates',2);
INSERT INTO "sqlite_sequence" VALUES('channels',1);
INSERT INTO "sqlite_sequence" VALUES('notices',1);
INSERT INTO "sqlite_sequence" VALUES('creations',1);
COMMIT;
