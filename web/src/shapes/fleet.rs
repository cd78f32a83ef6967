//! Subnets, servers and devices as forms.

use model::desired::{Dhcp, Interface, Management, Pool, PoolDisk, VdiskPurpose, VdiskUse};
use panel::noun::{Device, Server, ServerInterface, Subnet};

use super::{Shape, joined, word};
use crate::fields::{Fields, Reader};

impl Shape for Subnet {
    const PLURAL: &'static str = "subnets";

    fn read(form: &mut Reader<'_>) -> Option<Self> {
        let name = form.required("name");
        let subnet = form.required("subnet");
        let lan = form.optional("lan");
        let gateway = form.optional("gateway");
        let dns = form.list("dns");
        let domain = form.optional("domain");
        let dhcp = match form.fields().get("dhcp") {
            "off" => Some(Dhcp::Off),
            "proxy" => Some(Dhcp::Proxy),
            "authoritative" => {
                let first = form.required("dhcp.first");
                let last = form.required("dhcp.last");
                first.zip(last).map(|(first, last)| Dhcp::Authoritative { first, last })
            }
            _ => form.fault("dhcp", "choose one"),
        };
        Some(Self {
            name: name?,
            subnet: subnet?,
            lan: lan?,
            gateway: gateway?,
            dns: dns?,
            domain: domain?,
            dhcp: dhcp?,
        })
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("name", &self.name);
        fields.put("subnet", self.subnet);
        fields.put_some("lan", self.lan.as_ref());
        fields.put_some("gateway", self.gateway);
        fields.put("dns", joined(&self.dns));
        fields.put_some("domain", self.domain.as_ref());
        match &self.dhcp {
            Dhcp::Off => fields.put("dhcp", "off"),
            Dhcp::Proxy => fields.put("dhcp", "proxy"),
            Dhcp::Authoritative { first, last } => {
                fields.put("dhcp", "authoritative");
                fields.put("dhcp.first", first);
                fields.put("dhcp.last", last);
            }
        }
        fields
    }
}

impl Shape for Server {
    const PLURAL: &'static str = "servers";
    const HAS_PAGE: bool = true;

    fn read(form: &mut Reader<'_>) -> Option<Self> {
        let name = form.required("name");
        let role = form.word("role");
        let primary = form.ticked("primary");
        let management = management(form);
        let rows = |form: &Reader<'_>, of: &str, key: &str| -> Vec<String> {
            let rows = (0..form.fields().rows(of)).map(|row| format!("{of}[{row}]"));
            rows.filter(|row| form.fields().has(&format!("{row}.{key}"))).collect()
        };
        let interfaces: Option<Vec<_>> = rows(form, "interfaces", "subnet")
            .iter()
            .map(|row| {
                let subnet = form.required(&format!("{row}.subnet"));
                let interface = interface(form, &format!("{row}.interface"));
                let address = form.required(&format!("{row}.address"));
                Some(ServerInterface { subnet: subnet?, interface: interface?, address: address? })
            })
            .collect();
        let pools: Option<Vec<_>> = rows(form, "pools", "name")
            .iter()
            .map(|row| {
                let name = form.required(&format!("{row}.name"));
                let layout = form.word(&format!("{row}.layout"));
                let disks = disks(form, row);
                Some(Pool { name: name?, layout: layout?, disks: disks? })
            })
            .collect();
        Some(Self {
            name: name?,
            role: role?,
            primary,
            management: management?,
            interfaces: interfaces?,
            pools: pools?,
        })
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("name", &self.name);
        fields.put("role", word(&self.role));
        fields.tick("primary", self.primary);
        if let Some(management) = &self.management {
            fields.put("management.interface", render_interface(&management.interface));
            fields.put_some("management.address", management.address);
            fields.put_some("management.gateway", management.gateway);
            fields.put("management.dns", joined(&management.dns));
            fields.put("management.ntp", joined(&management.ntp));
        }
        for (row, at) in self.interfaces.iter().enumerate() {
            fields.put(format!("interfaces[{row}].subnet"), &at.subnet);
            fields.put(format!("interfaces[{row}].interface"), render_interface(&at.interface));
            fields.put(format!("interfaces[{row}].address"), at.address);
        }
        for (row, pool) in self.pools.iter().enumerate() {
            let serials = |overwrite: bool| {
                let disks = pool.disks.iter().filter(move |disk| disk.overwrite == overwrite);
                disks.map(|disk| disk.serial.as_str()).collect::<Vec<_>>().join("\n")
            };
            fields.put(format!("pools[{row}].name"), &pool.name);
            fields.put(format!("pools[{row}].layout"), word(&pool.layout));
            fields.put(format!("pools[{row}].disks"), serials(false));
            fields.put(format!("pools[{row}].overwrite"), serials(true));
        }
        fields
    }
}

/// Serial numbers line by line: some have spaces in them.
fn disks(form: &mut Reader<'_>, row: &str) -> Option<Vec<PoolDisk>> {
    let mut disks = Vec::new();
    for (field, overwrite) in [("disks", false), ("overwrite", true)] {
        let lines = form.fields().raw(&format!("{row}.{field}")).lines().map(str::trim);
        let disk = |serial: &str| PoolDisk { serial: serial.to_owned(), overwrite };
        disks.extend(lines.filter(|line| !line.is_empty()).map(disk));
    }
    Some(disks)
}

fn management(form: &mut Reader<'_>) -> Option<Option<Management>> {
    let fields = ["interface", "address", "gateway", "dns", "ntp"];
    if !fields.iter().any(|field| form.fields().has(&format!("management.{field}"))) {
        return Some(None);
    }
    let interface = interface(form, "management.interface");
    let address = form.optional("management.address");
    let gateway = form.optional("management.gateway");
    let dns = form.list("management.dns");
    let ntp = form.list("management.ntp");
    Some(Some(Management {
        interface: interface?,
        address: address?,
        gateway: gateway?,
        dns: dns?,
        ntp: ntp?,
    }))
}

/// An interface by its address or by its path; the one has colons between pairs of digits, the other never does.
fn interface(form: &mut Reader<'_>, name: &str) -> Option<Interface> {
    let text = form.fields().get(name);
    match text.parse() {
        Ok(mac) => Some(Interface::Mac(mac)),
        Err(_) if text.contains('-') && !text.contains(char::is_whitespace) => {
            Some(Interface::Path(text.to_owned()))
        }
        Err(error) => form.fault(name, error),
    }
}

fn render_interface(interface: &Interface) -> String {
    match interface {
        Interface::Mac(mac) => mac.to_string(),
        Interface::Path(path) => path.clone(),
    }
}

impl Shape for Device {
    const PLURAL: &'static str = "devices";
    const HAS_PAGE: bool = true;

    fn read(form: &mut Reader<'_>) -> Option<Self> {
        let name = form.required("name");
        let macs = form.list("macs");
        let network = form.required("network");
        let address = form.required("address");
        let group = form.required("group");
        let boot_mode = form.word("boot_mode");
        let test = form.ticked("test");
        let pinned = form.optional("pinned");
        let menu = form.optional("menu");
        let on_failure = form.word("on_failure");
        let vdisks = vdisks(form);
        Some(Self {
            name: name?,
            macs: macs?,
            network: network?,
            address: address?,
            group: group?,
            boot_mode: boot_mode?,
            test,
            pinned: pinned?,
            vdisks: vdisks?,
            menu: menu?,
            on_failure: on_failure?,
        })
    }

    fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        fields.put("name", &self.name);
        fields.put("macs", joined(&self.macs));
        fields.put("network", &self.network);
        fields.put("address", self.address);
        fields.put("group", &self.group);
        fields.put("boot_mode", word(&self.boot_mode));
        fields.tick("test", self.test);
        fields.put_some("pinned", self.pinned);
        fields.put_some("menu", self.menu.as_ref());
        fields.put("on_failure", word(&self.on_failure));
        let vdisk = |used: &VdiskUse| match &used.purpose {
            VdiskPurpose::Upper => used.vdisk.to_string(),
            VdiskPurpose::Mount { path } => format!("{}={path}", used.vdisk),
        };
        fields.put("vdisks", joined(self.vdisks.iter().map(vdisk)));
        fields
    }
}

/// `home-01` for the upper, `data-01=/srv` for a disk of its own, as CSV files have it.
fn vdisks(form: &mut Reader<'_>) -> Option<Vec<VdiskUse>> {
    let text = form.fields().get("vdisks");
    let parts = text.split_whitespace().map(|part| {
        let (name, purpose) = match part.split_once('=') {
            Some((name, path)) => (name, VdiskPurpose::Mount { path: path.to_owned() }),
            None => (part, VdiskPurpose::Upper),
        };
        name.parse().map(|vdisk| VdiskUse { vdisk, purpose })
    });
    let parts: Result<Vec<VdiskUse>, model::name::Error> = parts.collect();
    match parts {
        Ok(vdisks) => Some(vdisks),
        Err(error) => form.fault("vdisks", error),
    }
}
