//! What stands on a site: subnets, servers, devices.

use crate::{
    noun::{Device, Noun, Server, Subnet},
    store::{Owner, Record},
};

impl Record for Subnet {
    const NOUN: Noun = Noun::Subnet;
    const TABLE: &'static str = "subnets";
    const OWNER: Owner = Owner::Network("t.network_id");
    const PARENT: Option<&'static str> = Some("network_id");
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("name", "?1 ->> 'name'"),
        ("subnet", "?1 ->> 'subnet'"),
        ("lan", "?1 ->> 'lan'"),
        ("gateway", "ipv4_number(?1 ->> 'gateway')"),
        ("dns", "?1 ->> 'dns'"),
        ("domain", "?1 ->> 'domain'"),
        ("dhcp_mode", "?1 ->> '$.dhcp.mode'"),
        ("dhcp_first", "ipv4_number(?1 ->> '$.dhcp.first')"),
        ("dhcp_last", "ipv4_number(?1 ->> '$.dhcp.last')"),
    ];
    const VALUE: &'static str = "json_object('name', t.name, 'subnet', t.subnet, 'lan', t.lan,
        'gateway', ipv4_text(t.gateway), 'dns', json(t.dns), 'domain', t.domain,
        'dhcp', CASE t.dhcp_mode WHEN 'authoritative'
            THEN json_object('mode', t.dhcp_mode, 'first', ipv4_text(t.dhcp_first), 'last', ipv4_text(t.dhcp_last))
            ELSE json_object('mode', t.dhcp_mode) END)";
    const FILTERS: &'static [(&'static str, &'static str)] = &[("lan", "t.lan = ?")];
    const DEPENDENTS: &'static [(Noun, &'static str)] = &[
        (
            Noun::Server,
            "SELECT id, name FROM servers WHERE id IN (SELECT server_id FROM server_interfaces WHERE subnet_id = ?1)",
        ),
        (Noun::Device, "SELECT id, name FROM devices WHERE subnet_id = ?1"),
    ];

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Record for Server {
    const NOUN: Noun = Noun::Server;
    const TABLE: &'static str = "servers";
    const OWNER: Owner = Owner::Network("t.network_id");
    const PARENT: Option<&'static str> = Some("network_id");
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("name", "?1 ->> 'name'"),
        ("role", "?1 ->> 'role'"),
        ("is_primary", "?1 ->> 'primary'"),
        ("management", "?1 ->> 'management'"),
    ];
    // A pool keeps its row, for vDisks hang on it.
    const CHILDREN: &'static [&'static str] = &[
        "DELETE FROM server_interfaces WHERE server_id = ?3",
        "INSERT INTO server_interfaces (server_id, subnet_id, interface, address)
         SELECT ?3, (SELECT id FROM subnets WHERE network_id = ?2 AND name = value ->> 'subnet'),
             value ->> 'interface', ipv4_number(value ->> 'address')
         FROM json_each(?1, '$.interfaces')",
        "DELETE FROM pools WHERE server_id = ?3
         AND name NOT IN (SELECT value ->> 'name' FROM json_each(?1, '$.pools'))",
        "INSERT INTO pools (server_id, name, layout, disks)
         SELECT ?3, value ->> 'name', value ->> 'layout', value ->> 'disks' FROM json_each(?1, '$.pools') WHERE 1
         ON CONFLICT (server_id, name) DO UPDATE SET layout = excluded.layout, disks = excluded.disks",
    ];
    const VALUE: &'static str = "json_object('name', t.name, 'role', t.role,
        'primary', json(iif(t.is_primary, 'true', 'false')), 'management', json(t.management),
        'interfaces', json((SELECT json_group_array(json_object('subnet', s.name, 'interface', json(i.interface),
                'address', ipv4_text(i.address)) ORDER BY s.name)
            FROM server_interfaces i JOIN subnets s ON s.id = i.subnet_id WHERE i.server_id = t.id)),
        'pools', json((SELECT json_group_array(json_object('name', p.name, 'layout', p.layout,
                'disks', json(p.disks)) ORDER BY p.name)
            FROM pools p WHERE p.server_id = t.id)))";
    const FILTERS: &'static [(&'static str, &'static str)] = &[("role", "t.role = ?")];
    const DEPENDENTS: &'static [(Noun, &'static str)] = &[(
        Noun::Vdisk,
        "SELECT id, name FROM vdisks WHERE pool_id IN (SELECT id FROM pools WHERE server_id = ?1)",
    )];

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Record for Device {
    const NOUN: Noun = Noun::Device;
    const TABLE: &'static str = "devices";
    const OWNER: Owner = Owner::Network("t.network_id");
    const PARENT: Option<&'static str> = Some("network_id");
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("name", "?1 ->> 'name'"),
        ("subnet_id", "(SELECT id FROM subnets WHERE network_id = ?2 AND name = ?1 ->> 'network')"),
        ("address", "ipv4_number(?1 ->> 'address')"),
        ("group_id", "(SELECT id FROM groups WHERE network_id = ?2 AND name = ?1 ->> 'group')"),
        ("boot_mode", "?1 ->> 'boot_mode'"),
        ("test", "?1 ->> 'test'"),
        ("pinned", "?1 ->> 'pinned'"),
        ("menu_id", "(SELECT id FROM menus WHERE network_id = ?2 AND name = ?1 ->> 'menu')"),
        ("on_failure", "?1 ->> 'on_failure'"),
    ];
    const CHILDREN: &'static [&'static str] = &[
        "DELETE FROM device_macs WHERE device_id = ?3",
        "INSERT INTO device_macs (device_id, network_id, position, mac)
         SELECT ?3, ?2, key, value FROM json_each(?1, '$.macs')",
        "DELETE FROM device_vdisks WHERE device_id = ?3",
        "INSERT INTO device_vdisks (device_id, position, vdisk_id, purpose, path)
         SELECT ?3, key, (SELECT id FROM vdisks WHERE network_id = ?2 AND name = value ->> 'vdisk'),
             value ->> 'use', value ->> 'path'
         FROM json_each(?1, '$.vdisks')",
    ];
    const VALUE: &'static str = "json_object('name', t.name,
        'macs', json((SELECT json_group_array(m.mac ORDER BY m.position) FROM device_macs m WHERE m.device_id = t.id)),
        'network', (SELECT name FROM subnets WHERE id = t.subnet_id), 'address', ipv4_text(t.address),
        'group', (SELECT name FROM groups WHERE id = t.group_id), 'boot_mode', t.boot_mode,
        'test', json(iif(t.test, 'true', 'false')), 'pinned', t.pinned,
        'vdisks', json((SELECT json_group_array(json(iif(d.path IS NULL,
                json_object('vdisk', v.name, 'use', d.purpose),
                json_object('vdisk', v.name, 'use', d.purpose, 'path', d.path))) ORDER BY d.position)
            FROM device_vdisks d JOIN vdisks v ON v.id = d.vdisk_id WHERE d.device_id = t.id)),
        'menu', (SELECT name FROM menus WHERE id = t.menu_id), 'on_failure', t.on_failure)";
    const SORTS: &'static [(&'static str, &'static str)] =
        &[("name", "t.name"), ("address", "t.address")];
    const FILTERS: &'static [(&'static str, &'static str)] = &[
        ("group", "t.group_id IN (SELECT id FROM groups WHERE name = ?)"),
        ("subnet", "t.subnet_id IN (SELECT id FROM subnets WHERE name = ?)"),
        ("menu", "t.menu_id IN (SELECT id FROM menus WHERE name = ?)"),
        ("boot_mode", "t.boot_mode = ?"),
    ];
    // A card is found by its beginning, which has an index; a name by any part of it.
    const SEARCH: &'static str = "instr(t.name, ?) OR t.id IN
        (SELECT device_id FROM device_macs WHERE mac >= ? AND mac < ? || 'g') OR t.address = ipv4_searched(?)";

    fn name(&self) -> &str {
        self.name.as_str()
    }
}
