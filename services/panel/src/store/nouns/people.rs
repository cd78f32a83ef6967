//! Organizations, users, and the networks and tunnels that they share.

use crate::{
    noun::{Network, Noun, Organization, Tunnel, User},
    store::{Owner, Record},
};

impl Record for Organization {
    const NOUN: Noun = Noun::Organization;
    const TABLE: &'static str = "organizations";
    const OWNER: Owner = Owner::Organization("t.id");
    const PARENT: Option<&'static str> = None;
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("name", "?1 ->> 'name'"),
        ("most_networks", "?1 ->> 'most_networks'"),
        ("most_users", "?1 ->> 'most_users'"),
        ("most_devices", "?1 ->> 'most_devices'"),
    ];
    const VALUE: &'static str = "json_object('name', t.name, 'most_networks', t.most_networks,
        'most_users', t.most_users, 'most_devices', t.most_devices)";
    const DEPENDENTS: &'static [(Noun, &'static str)] = &[
        (Noun::Network, "SELECT id, name FROM networks WHERE organization_id = ?1"),
        (Noun::User, "SELECT id, name FROM users WHERE organization_id = ?1"),
    ];

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Record for User {
    const NOUN: Noun = Noun::User;
    const TABLE: &'static str = "users";
    const OWNER: Owner = Owner::Organization("t.organization_id");
    const PARENT: Option<&'static str> = Some("organization_id");
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("name", "?1 ->> 'name'"),
        ("full_name", "?1 ->> 'full_name'"),
        ("mail", "?1 ->> 'mail'"),
        ("standing", "?1 ->> 'standing'"),
        ("disabled", "?1 ->> 'disabled'"),
    ];
    const CHILDREN: &'static [&'static str] = &[
        "DELETE FROM user_roles WHERE user_id = ?3",
        "INSERT INTO user_roles (user_id, network_id, role)
         SELECT ?3, (SELECT id FROM networks WHERE organization_id = ?2 AND name = value ->> 'network'), value ->> 'role'
         FROM json_each(?1, '$.roles')",
    ];
    const VALUE: &'static str = "json_object('name', t.name, 'full_name', t.full_name, 'mail', t.mail,
        'standing', t.standing, 'disabled', json(iif(t.disabled, 'true', 'false')),
        'roles', json((SELECT json_group_array(json_object('network', n.name, 'role', r.role) ORDER BY n.name)
            FROM user_roles r JOIN networks n ON n.id = r.network_id WHERE r.user_id = t.id)))";
    const FILTERS: &'static [(&'static str, &'static str)] = &[
        ("standing", "t.standing = ?"),
        (
            "network",
            "t.id IN (SELECT r.user_id FROM user_roles r JOIN networks n ON n.id = r.network_id WHERE n.name = ?)",
        ),
    ];
    const SEARCH: &'static str =
        "instr(t.name, ?) OR instr(lower(t.full_name), ?) OR instr(lower(t.mail), ?)";

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Record for Network {
    const NOUN: Noun = Noun::Network;
    const TABLE: &'static str = "networks";
    const OWNER: Owner = Owner::Network("t.id");
    const PARENT: Option<&'static str> = Some("organization_id");
    const COLUMNS: &'static [(&'static str, &'static str)] = &[("name", "?1 ->> 'name'")];
    const CHILDREN: &'static [&'static str] = &[
        "DELETE FROM network_tunnels WHERE network_id = ?3",
        "INSERT INTO network_tunnels (network_id, tunnel_id, position)
         SELECT ?3, (SELECT id FROM tunnels WHERE name = value), key FROM json_each(?1, '$.tunnels')",
    ];
    const VALUE: &'static str = "json_object('name', t.name,
        'tunnels', json((SELECT json_group_array(u.name ORDER BY n.position)
            FROM network_tunnels n JOIN tunnels u ON u.id = n.tunnel_id WHERE n.network_id = t.id)))";
    const FILTERS: &'static [(&'static str, &'static str)] = &[
        ("organization", "t.organization_id = (SELECT id FROM organizations WHERE name = ?)"),
        (
            "tunnel",
            "t.id IN (SELECT n.network_id FROM network_tunnels n JOIN tunnels u ON u.id = n.tunnel_id WHERE u.name = ?)",
        ),
    ];
    const DEPENDENTS: &'static [(Noun, &'static str)] = &[
        (Noun::Server, "SELECT id, name FROM servers WHERE network_id = ?1"),
        (Noun::Subnet, "SELECT id, name FROM subnets WHERE network_id = ?1"),
        (Noun::Volume, "SELECT id, name FROM volumes WHERE network_id = ?1"),
        (Noun::Group, "SELECT id, name FROM groups WHERE network_id = ?1"),
        (Noun::Vdisk, "SELECT id, name FROM vdisks WHERE network_id = ?1"),
        (Noun::Menu, "SELECT id, name FROM menus WHERE network_id = ?1"),
        (Noun::Device, "SELECT id, name FROM devices WHERE network_id = ?1"),
    ];

    fn name(&self) -> &str {
        self.name.as_str()
    }
}

impl Record for Tunnel {
    const NOUN: Noun = Noun::Tunnel;
    const TABLE: &'static str = "tunnels";
    const OWNER: Owner = Owner::Panel;
    const PARENT: Option<&'static str> = None;
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("name", "?1 ->> 'name'"),
        ("host", "?1 ->> 'host'"),
        ("port", "?1 ->> 'port'"),
        ("panel_addresses", "?1 ->> 'panel_addresses'"),
    ];
    const VALUE: &'static str = "json_object('name', t.name, 'host', t.host, 'port', t.port,
        'panel_addresses', json(t.panel_addresses))";
    const SEARCH: &'static str = "instr(t.name, ?) OR instr(lower(t.host), ?)";
    const DEPENDENTS: &'static [(Noun, &'static str)] = &[(
        Noun::Network,
        "SELECT id, name FROM networks WHERE id IN (SELECT network_id FROM network_tunnels WHERE tunnel_id = ?1)",
    )];

    fn name(&self) -> &str {
        self.name.as_str()
    }
}
