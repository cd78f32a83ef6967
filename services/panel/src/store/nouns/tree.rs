//! The storage tree and the menus.

use crate::{
    noun::{Group, Menu, Noun, Vdisk, Volume},
    store::{Owner, Record},
};

impl Record for Volume {
    const NOUN: Noun = Noun::Volume;
    const TABLE: &'static str = "volumes";
    const OWNER: Owner = Owner::Network("t.network_id");
    const PARENT: Option<&'static str> = Some("network_id");
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("name", "?1 ->> 'name'"),
        ("pool", "?1 ->> 'pool'"),
        ("size_bytes", "?1 ->> 'size_bytes'"),
        ("source", "?1 ->> 'source'"),
    ];
    const VALUE: &'static str =
        "json_object('name', t.name, 'pool', t.pool, 'size_bytes', t.size_bytes,
        'source', json(t.source))";
    const FILTERS: &'static [(&'static str, &'static str)] = &[("pool", "t.pool = ?")];
    const DEPENDENTS: &'static [(Noun, &'static str)] =
        &[(Noun::Group, "SELECT id, name FROM groups WHERE volume_id = ?1")];

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Record for Group {
    const NOUN: Noun = Noun::Group;
    const TABLE: &'static str = "groups";
    const OWNER: Owner = Owner::Network("t.network_id");
    const PARENT: Option<&'static str> = Some("network_id");
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("name", "?1 ->> 'name'"),
        ("volume_id", "(SELECT id FROM volumes WHERE network_id = ?2 AND name = ?1 ->> 'volume')"),
        ("production", "?1 ->> 'production'"),
        ("test", "?1 ->> 'test'"),
        ("kernel_arguments", "?1 ->> 'kernel_arguments'"),
    ];
    const CHILDREN: &'static [&'static str] = &[
        "DELETE FROM generations WHERE group_id = ?3
         AND number NOT IN (SELECT value FROM json_each(?1, '$.generations'))",
        "INSERT OR IGNORE INTO generations (group_id, number)
         SELECT ?3, value FROM json_each(?1, '$.generations')",
    ];
    const VALUE: &'static str =
        "json_object('name', t.name, 'volume', (SELECT name FROM volumes WHERE id = t.volume_id),
        'generations', json((SELECT json_group_array(g.number ORDER BY g.number)
            FROM generations g WHERE g.group_id = t.id)),
        'production', t.production, 'test', t.test, 'kernel_arguments', t.kernel_arguments)";
    const FILTERS: &'static [(&'static str, &'static str)] =
        &[("volume", "t.volume_id IN (SELECT id FROM volumes WHERE name = ?)")];
    const DEPENDENTS: &'static [(Noun, &'static str)] =
        &[(Noun::Device, "SELECT id, name FROM devices WHERE group_id = ?1")];

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Record for Vdisk {
    const NOUN: Noun = Noun::Vdisk;
    const TABLE: &'static str = "vdisks";
    const OWNER: Owner = Owner::Network("t.network_id");
    const PARENT: Option<&'static str> = Some("network_id");
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("name", "?1 ->> 'name'"),
        (
            "pool_id",
            "(SELECT p.id FROM pools p JOIN servers s ON s.id = p.server_id
              WHERE s.network_id = ?2 AND s.name = ?1 ->> 'server' AND p.name = ?1 ->> 'pool')",
        ),
        ("size_bytes", "?1 ->> 'size_bytes'"),
    ];
    const VALUE: &'static str =
        "(SELECT json_object('name', t.name, 'server', s.name, 'pool', p.name,
            'size_bytes', t.size_bytes)
        FROM pools p JOIN servers s ON s.id = p.server_id WHERE p.id = t.pool_id)";
    const FILTERS: &'static [(&'static str, &'static str)] = &[(
        "server",
        "t.pool_id IN (SELECT p.id FROM pools p JOIN servers s ON s.id = p.server_id WHERE s.name = ?)",
    )];
    const DEPENDENTS: &'static [(Noun, &'static str)] = &[(
        Noun::Device,
        "SELECT id, name FROM devices WHERE id IN (SELECT device_id FROM device_vdisks WHERE vdisk_id = ?1)",
    )];

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Record for Menu {
    const NOUN: Noun = Noun::Menu;
    const TABLE: &'static str = "menus";
    const OWNER: Owner = Owner::Network("t.network_id");
    const PARENT: Option<&'static str> = Some("network_id");
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("name", "?1 ->> 'name'"),
        ("title", "?1 ->> 'title'"),
        ("timeout_s", "?1 ->> 'timeout_s'"),
        ("default_entry", "?1 ->> 'default'"),
        ("entries", "?1 ->> 'entries'"),
    ];
    const VALUE: &'static str =
        "json_object('name', t.name, 'title', t.title, 'timeout_s', t.timeout_s,
        'default', t.default_entry, 'entries', json(t.entries))";
    const DEPENDENTS: &'static [(Noun, &'static str)] =
        &[(Noun::Device, "SELECT id, name FROM devices WHERE menu_id = ?1")];

    fn name(&self) -> &str {
        self.name.as_str()
    }
}
