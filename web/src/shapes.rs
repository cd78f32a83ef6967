//! Each noun as a form: reading what was sent into the noun, and writing the noun back into fields. No page and no operation is
//! known here, so that other doors than pages may read forms too.

mod fleet;
mod people;
mod tree;

use std::borrow::Borrow;

use panel::{
    noun::{Noun, Place},
    operations::Kind,
};

use crate::fields::{Fields, Reader};

/// A noun as people fill it in.
pub trait Shape: Kind + Send + Sync + 'static {
    /// The part of its paths: `devices`.
    const PLURAL: &'static str;
    /// Whether its own page is more than its form, which then stands at `/edit`.
    const HAS_PAGE: bool = false;

    /// Reads it; nothing when a fault was noted.
    fn read(form: &mut Reader<'_>) -> Option<Self>;

    /// Writes it.
    fn fields(&self) -> Fields;
}

/// The part of the paths of a noun.
pub fn plural(noun: Noun) -> &'static str {
    match noun {
        Noun::Organization => "organizations",
        Noun::User => "users",
        Noun::Network => "networks",
        Noun::Subnet => "subnets",
        Noun::Tunnel => "tunnels",
        Noun::Server => "servers",
        Noun::Volume => "volumes",
        Noun::Group => "groups",
        Noun::Vdisk => "vdisks",
        Noun::Menu => "menus",
        Noun::Device => "devices",
    }
}

/// The page of a record.
pub fn path(noun: impl Borrow<Noun>, id: impl Borrow<i64>) -> String {
    format!("/{}/{}", plural(*noun.borrow()), id.borrow())
}

/// The page that lists a noun, where a record lives.
pub fn list_path(noun: Noun, place: Place) -> String {
    match (noun, place) {
        (Noun::Network, _) => "/networks".to_owned(),
        (Noun::Volume | Noun::Group, Place::Network(network)) => {
            format!("/networks/{network}/tree")
        }
        (Noun::Subnet, Place::Network(network)) => format!("/networks/{network}/settings"),
        (noun, Place::Network(network)) => format!("/networks/{network}/{}", plural(noun)),
        (noun, Place::Panel | Place::Organization(_)) => format!("/{}", plural(noun)),
    }
}

/// The tab of its network that a noun stands under.
pub fn tab(noun: Noun) -> &'static str {
    match noun {
        Noun::Device => "devices",
        Noun::Volume | Noun::Group => "tree",
        Noun::Vdisk => "vdisks",
        Noun::Server => "servers",
        Noun::Menu => "menus",
        Noun::Network | Noun::Subnet => "settings",
        Noun::Organization | Noun::User | Noun::Tunnel => "",
    }
}

/// A word of a type, as serde writes it.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Several values in one field.
fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use panel::{
        access::{Role, Standing},
        noun::{
            Device, Group, Menu, Network, Organization, Server, Subnet, Tunnel, User, Vdisk, Volume,
        },
    };
    use serde_json::{Value, json};

    /// What is shown in a form and sent back unchanged is the same.
    fn comes_back<T: Shape + PartialEq + std::fmt::Debug>(json: Value) {
        let value: T = serde_json::from_value(json).unwrap();
        let fields = value.fields();
        let mut form = Reader::new(&fields);
        let read = T::read(&mut form);
        assert_eq!(form.finish(read).unwrap(), value);
        let noun = T::NOUN;
        assert_eq!(plural(noun), T::PLURAL);
    }

    #[test]
    fn every_noun_comes_back_from_its_form_as_it_was() {
        comes_back::<Organization>(json!({ "name": "Example School", "most_devices": 5 }));
        comes_back::<User>(json!({ "name": "ada", "full_name": "Ada L", "mail": "a@b.example",
            "standing": Standing::Member, "disabled": true,
            "roles": [{ "network": "north", "role": Role::Technician }] }));
        comes_back::<Network>(json!({ "name": "north", "tunnels": ["relay-1", "relay-2"] }));
        comes_back::<Subnet>(json!({ "name": "lab", "subnet": "10.77.0.0/24", "lan": "north",
            "gateway": "10.77.0.254", "dns": ["10.77.0.253", "1.1.1.1"], "domain": "lab.example",
            "dhcp": { "mode": "authoritative", "first": "10.77.0.200", "last": "10.77.0.250" } }));
        comes_back::<Subnet>(
            json!({ "name": "lab", "subnet": "10.77.0.0/24", "dhcp": { "mode": "proxy" } }),
        );
        comes_back::<Tunnel>(json!({ "name": "relay", "host": "relay.example.org", "port": 22 }));
        comes_back::<Server>(json!({ "name": "agent-1", "role": "both", "primary": true,
            "management": { "interface": { "path": "pci-0000:00:03.0" }, "address": "192.168.1.5/24",
                "gateway": "192.168.1.1", "dns": ["192.168.1.1"], "ntp": ["192.168.1.2"] },
            "interfaces": [{ "subnet": "lab", "interface": { "mac": "52:54:00:00:00:01" }, "address": "10.77.0.1" }],
            "pools": [{ "name": "tank", "layout": "mirror", "disks": [{ "serial": "A" }, { "serial": "B", "overwrite": true }] }] }));
        comes_back::<Volume>(
            json!({ "name": "debian", "pool": "tank", "size_bytes": 8_589_934_592_u64,
            "source": { "location": "https://images.example/d.qcow2", "format": "qcow2", "sha256": "ab".repeat(32) } }),
        );
        comes_back::<Group>(
            json!({ "name": "lab", "volume": "debian", "generations": [1, 2], "production": 1,
            "test": 2, "kernel_arguments": "console=ttyS0" }),
        );
        comes_back::<Vdisk>(
            json!({ "name": "home-01", "server": "agent-1", "pool": "tank", "size_bytes": 1 << 30 }),
        );
        comes_back::<Menu>(
            json!({ "name": "main", "title": "Lab", "timeout_s": 5, "default": 1, "entries": [
            { "label": "Boot", "action": "image" }, { "label": "Old", "action": "generation", "generation": 1 },
            { "label": "Disk", "action": "local-disk" }] }),
        );
        comes_back::<Device>(
            json!({ "name": "pc-01", "macs": ["52:54:00:00:01:01", "52:54:00:00:02:01"],
            "network": "lab", "address": "10.77.0.11", "group": "lab", "boot_mode": "overlay", "test": true,
            "pinned": 2, "menu": "main", "on_failure": "shell",
            "vdisks": [{ "vdisk": "home-01", "use": "upper" }, { "vdisk": "data-01", "use": "mount", "path": "/srv" }] }),
        );
    }
}
