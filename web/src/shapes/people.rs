//! Organizations, users, networks and tunnels as forms.

use panel::noun::{Grant, Network, Organization, Tunnel, User};

use super::{Shape, joined, word};
use crate::fields::{Fields, Reader};

impl Shape for Organization {
    const PLURAL: &'static str = "organizations";

    fn read(form: &mut Reader<'_>) -> Option<Self> {
        let name = form.required("name");
        let most_networks = form.optional("most_networks");
        let most_users = form.optional("most_users");
        let most_devices = form.optional("most_devices");
        Some(Self {
            name: name?,
            most_networks: most_networks?,
            most_users: most_users?,
            most_devices: most_devices?,
        })
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("name", &self.name);
        fields.put_some("most_networks", self.most_networks);
        fields.put_some("most_users", self.most_users);
        fields.put_some("most_devices", self.most_devices);
        fields
    }
}

impl Shape for User {
    const PLURAL: &'static str = "users";

    fn read(form: &mut Reader<'_>) -> Option<Self> {
        let name = form.required("name");
        let full_name = form.required("full_name");
        let mail = form.optional("mail");
        let standing = form.word("standing");
        let disabled = form.ticked("disabled");
        let rows: Vec<_> = (0..form.fields().rows("roles"))
            .filter(|row| form.fields().has(&format!("roles[{row}].network")))
            .collect();
        let roles: Option<Vec<Grant>> = rows
            .into_iter()
            .map(|row| {
                let network = form.required(&format!("roles[{row}].network"));
                let role = form.word(&format!("roles[{row}].role"));
                Some(Grant { network: network?, role: role? })
            })
            .collect();
        Some(Self {
            name: name?,
            full_name: full_name?,
            mail: mail?,
            standing: standing?,
            disabled,
            roles: roles?,
        })
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("name", &self.name);
        fields.put("full_name", &self.full_name);
        fields.put_some("mail", self.mail.as_ref());
        fields.put("standing", word(&self.standing));
        fields.tick("disabled", self.disabled);
        for (row, grant) in self.roles.iter().enumerate() {
            fields.put(format!("roles[{row}].network"), &grant.network);
            fields.put(format!("roles[{row}].role"), word(&grant.role));
        }
        fields
    }
}

impl Shape for Network {
    const PLURAL: &'static str = "networks";
    const HAS_PAGE: bool = true;

    fn read(form: &mut Reader<'_>) -> Option<Self> {
        let name = form.required("name");
        let tunnels = form.list("tunnels");
        Some(Self { name: name?, tunnels: tunnels? })
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("name", &self.name);
        fields.put("tunnels", joined(&self.tunnels));
        fields
    }
}

impl Shape for Tunnel {
    const PLURAL: &'static str = "tunnels";
    const HAS_PAGE: bool = true;

    fn read(form: &mut Reader<'_>) -> Option<Self> {
        let name = form.required("name");
        let host = form.required("host");
        let port = form.required("port");
        let panel_addresses = form.list("panel_addresses");
        Some(Self { name: name?, host: host?, port: port?, panel_addresses: panel_addresses? })
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("name", &self.name);
        fields.put("host", &self.host);
        fields.put("port", self.port);
        fields.put("panel_addresses", joined(&self.panel_addresses));
        fields
    }
}
