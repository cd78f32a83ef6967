//! What a document must hold beyond its types. Every fault is found, each with its path, so that a document is mended in one go.

mod management;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    net::Ipv4Addr,
};

use serde::{Deserialize, Serialize};

use crate::{
    desired::{
        BootMode, Desired, Device, Dhcp, Group, Layout, Menu, MenuAction, Network, VdiskPurpose,
    },
    name::Mark,
};

pub use management::RESOLVERS;

/// A fault in a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Where, for example `devices[3].address`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Sizes are multiples of this: one mebibyte.
const MIB: u64 = 1 << 20;
/// Tunnels that a server keeps up at the same time.
pub const MOST_UPLINKS: usize = 4;

/// All faults of a document; none means that it can be put in force.
pub fn validate(desired: &Desired) -> Vec<Fault> {
    let mut check = Check { desired, faults: Vec::new() };
    check.names();
    check.management();
    check.uplinks();
    check.pools();
    check.networks();
    check.storage();
    check.menus();
    check.devices();
    check.destroy();
    check.faults
}

struct Check<'a> {
    desired: &'a Desired,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, path: impl Display, message: impl Into<String>) {
        self.faults.push(Fault { path: path.to_string(), message: message.into() });
    }

    fn require(&mut self, holds: bool, path: impl Display, message: impl Into<String>) {
        if !holds {
            self.fault(path, message);
        }
    }

    fn uplinks(&mut self) {
        let uplinks = &self.desired.uplinks;
        self.require(uplinks.len() <= MOST_UPLINKS, "uplinks", format!("up to {MOST_UPLINKS}"));
        let addresses = uplinks.iter().enumerate();
        self.unique(addresses.map(|(n, up)| (format!("uplinks[{n}]"), up.address.to_string())));
    }

    /// Two objects with the same key are a fault of the later one.
    fn unique<K: Ord + Display>(&mut self, keys: impl IntoIterator<Item = (String, K)>) {
        let mut seen: BTreeMap<K, String> = BTreeMap::new();
        for (path, key) in keys {
            match seen.get(&key) {
                Some(first) => self.fault(&path, format!("{key} is already at {first}")),
                None => {
                    seen.insert(key, path);
                }
            }
        }
    }

    fn names(&mut self) {
        let desired = self.desired;
        macro_rules! unique_names {
            ($($list:ident),*) => {$(
                self.unique(desired.$list.iter().enumerate().map(|(i, object)| {
                    (format!(concat!(stringify!($list), "[{}].name"), i), &object.name)
                }));
            )*};
        }
        unique_names!(pools, networks, volumes, groups, vdisks, menus, devices);
    }

    fn pools(&mut self) {
        let desired = self.desired;
        let disks = desired.pools.iter().enumerate().flat_map(|(i, pool)| {
            pool.disks
                .iter()
                .enumerate()
                .map(move |(j, disk)| (format!("pools[{i}].disks[{j}].serial"), &disk.serial))
        });
        self.unique(disks);
        for (i, pool) in desired.pools.iter().enumerate() {
            let least = match pool.layout {
                Layout::Stripe => 1,
                Layout::Mirror => 2,
                Layout::Raidz1 => 3,
                Layout::Raidz2 => 4,
            };
            let message = format!("this layout takes {least} disks or more");
            self.require(pool.disks.len() >= least, format_args!("pools[{i}].disks"), message);
        }
    }

    fn networks(&mut self) {
        let desired = self.desired;
        for (i, network) in desired.networks.iter().enumerate() {
            let path = format!("networks[{i}]");
            self.network(&path, network);
            for (j, other) in desired.networks.iter().enumerate().take(i) {
                let apart = !network.address.trunc().contains(&other.address.trunc())
                    && !other.address.trunc().contains(&network.address.trunc());
                self.require(
                    apart,
                    format_args!("{path}.address"),
                    format!("its subnet overlaps that of networks[{j}]"),
                );
                let message = format!("the interface already serves networks[{j}]");
                self.require(
                    network.interface != other.interface,
                    format_args!("{path}.interface"),
                    message,
                );
            }
        }
    }

    fn network(&mut self, path: &str, network: &Network) {
        let subnet = network.address.trunc();
        let prefix = subnet.prefix_len();
        self.require(
            (8..=30).contains(&prefix),
            format_args!("{path}.address"),
            "the prefix length must be 8 to 30",
        );
        let address = network.address.addr();
        let message =
            format!("{address} is the address of the subnet itself or its broadcast address");
        self.require(is_host(network, address), format_args!("{path}.address"), message);
        if let Some(gateway) = network.gateway {
            let message = format!("{gateway} is not an address of a machine in {subnet}");
            self.require(is_host(network, gateway), format_args!("{path}.gateway"), message);
        }
        if let Some(domain) = &network.domain {
            let label = |part: &str| part.parse::<crate::name::DeviceName>().is_ok();
            let fine = domain.len() <= 253 && domain.split('.').all(label);
            self.require(
                fine,
                format_args!("{path}.domain"),
                "not a domain name: labels of a-z, 0-9 and -, with dots between",
            );
        }
        if let Dhcp::Authoritative { first, last } = network.dhcp {
            let message = format!(
                "the range must begin and end inside {subnet}, the first address not above the last"
            );
            let fine = is_host(network, first) && is_host(network, last) && first <= last;
            self.require(fine, format_args!("{path}.dhcp"), message);
            let message = format!("the range holds this server's own address {address}");
            self.require(!(first..=last).contains(&address), format_args!("{path}.dhcp"), message);
        }
    }

    fn storage(&mut self) {
        let desired = self.desired;
        let pools: BTreeSet<_> = desired.pools.iter().map(|pool| &pool.name).collect();
        let sizes = "the size must be a multiple of 1 MiB (1048576 bytes), and not 0";
        for (i, volume) in desired.volumes.iter().enumerate() {
            let path = format!("volumes[{i}]");
            self.require(
                pools.contains(&volume.pool),
                format_args!("{path}.pool"),
                format!("there is no pool {}", volume.pool),
            );
            self.require(is_size(volume.size_bytes), format_args!("{path}.size_bytes"), sizes);
            if let Some(source) = &volume.source {
                let location = source.location.as_str();
                let known =
                    ["http://", "https://", "/"].iter().any(|start| location.starts_with(start));
                let fine =
                    known && !location.contains(|c: char| c.is_control() || c.is_whitespace());
                let message = "give an http:// or https:// URL, or an absolute path on the server, without spaces";
                self.require(fine, format_args!("{path}.source.location"), message);
            }
        }
        for (i, vdisk) in desired.vdisks.iter().enumerate() {
            let path = format!("vdisks[{i}]");
            self.require(
                pools.contains(&vdisk.pool),
                format_args!("{path}.pool"),
                format!("there is no pool {}", vdisk.pool),
            );
            self.require(is_size(vdisk.size_bytes), format_args!("{path}.size_bytes"), sizes);
        }
        for (i, group) in desired.groups.iter().enumerate() {
            self.group(&format!("groups[{i}]"), group);
        }
    }

    fn group(&mut self, path: &str, group: &Group) {
        let message = format!("there is no volume {}", group.volume);
        self.require(
            self.desired.volumes.iter().any(|volume| volume.name == group.volume),
            format_args!("{path}.volume"),
            message,
        );
        let rising = group.generations.first().is_some_and(|first| *first > 0)
            && group.generations.iter().zip(group.generations.iter().skip(1)).all(|(a, b)| a < b);
        let message = "list one generation or more, numbered from 1, rising";
        self.require(rising, format_args!("{path}.generations"), message);
        for (field, number) in [("production", Some(group.production)), ("test", group.test)] {
            let known = number.is_none_or(|number| group.generations.contains(&number));
            self.require(
                known,
                format_args!("{path}.{field}"),
                "this generation is not in the list of the group's generations",
            );
        }
        let words = group.kernel_arguments.split(' ');
        let ours = words.clone().any(|word| {
            ["cd.", "root=", "ip=", "ifname=", "initrd="]
                .iter()
                .any(|start| word.starts_with(start))
        });
        self.require(
            !ours,
            format_args!("{path}.kernel_arguments"),
            "root=, ip=, ifname=, initrd= and cd.* are set by the server",
        );
        // iPXE expands ${...} and ends a command at a control character: neither is of any use to a kernel.
        let plain = group.kernel_arguments.chars().all(|c| c.is_ascii_graphic() || c == ' ')
            && !group.kernel_arguments.contains('$');
        self.require(
            plain,
            format_args!("{path}.kernel_arguments"),
            "use printable ASCII characters without $",
        );
    }

    fn menus(&mut self) {
        let desired = self.desired;
        for (i, menu) in desired.menus.iter().enumerate() {
            self.menu(&format!("menus[{i}]"), menu);
        }
    }

    fn menu(&mut self, path: &str, menu: &Menu) {
        self.require(
            !menu.entries.is_empty(),
            format_args!("{path}.entries"),
            "a menu has one entry or more",
        );
        let message = format!("there is no entry number {}: entries count from 0", menu.default);
        self.require(
            menu.entries.is_empty() || menu.default < menu.entries.len(),
            format_args!("{path}.default"),
            message,
        );
        self.require(is_line(&menu.title), format_args!("{path}.title"), LINE);
        for (j, entry) in menu.entries.iter().enumerate() {
            self.require(is_line(&entry.label), format_args!("{path}.entries[{j}].label"), LINE);
            let zero = entry.action == MenuAction::Generation { generation: 0 };
            self.require(
                !zero,
                format_args!("{path}.entries[{j}].generation"),
                "generations are numbered from 1",
            );
        }
    }

    fn devices(&mut self) {
        let desired = self.desired;
        let devices = || desired.devices.iter().enumerate();
        let macs = devices().flat_map(|(i, device)| {
            device
                .macs
                .iter()
                .enumerate()
                .map(move |(j, mac)| (format!("devices[{i}].macs[{j}]"), *mac))
        });
        self.unique(macs);
        self.unique(devices().map(|(i, device)| (format!("devices[{i}].address"), device.address)));
        let vdisks = devices().flat_map(|(i, device)| {
            device
                .vdisks
                .iter()
                .enumerate()
                .map(move |(j, used)| (format!("devices[{i}].vdisks[{j}].vdisk"), &used.vdisk))
        });
        self.unique(vdisks);
        let names = Names::of(desired);
        for (i, device) in devices() {
            self.device(&format!("devices[{i}]"), device, &names);
        }
    }

    fn device(&mut self, path: &str, device: &Device, names: &Names<'_>) {
        self.require(
            !device.macs.is_empty(),
            format_args!("{path}.macs"),
            "give the address of one card or more",
        );
        match names.networks.get(device.network.as_str()) {
            None => self.fault(
                format_args!("{path}.network"),
                format!("there is no network {}", device.network),
            ),
            Some(network) => {
                let fine =
                    is_host(network, device.address) && device.address != network.address.addr();
                let message = format!(
                    "{} is not an address for a device in {}, where the server has {}",
                    device.address,
                    network.address.trunc(),
                    network.address.addr(),
                );
                self.require(fine, format_args!("{path}.address"), message);
                if let Dhcp::Authoritative { first, last } = network.dhcp {
                    let message = format!(
                        "{} lies in the range for unknown machines, {first} to {last}",
                        device.address
                    );
                    self.require(
                        !(first..=last).contains(&device.address),
                        format_args!("{path}.address"),
                        message,
                    );
                }
            }
        }
        match names.groups.get(device.group.as_str()) {
            None => self
                .fault(format_args!("{path}.group"), format!("there is no group {}", device.group)),
            Some(group) => {
                let known = device.pinned.is_none_or(|number| group.generations.contains(&number));
                self.require(
                    known,
                    format_args!("{path}.pinned"),
                    format!("the group {} has no such generation", group.name),
                );
            }
        }
        if let Some(menu) = &device.menu {
            self.require(
                names.menus.contains(menu.as_str()),
                format_args!("{path}.menu"),
                format!("there is no menu {menu}"),
            );
        }
        self.vdisks(path, device, names);
    }

    fn vdisks(&mut self, path: &str, device: &Device, names: &Names<'_>) {
        let mut uppers = 0;
        for (j, used) in device.vdisks.iter().enumerate() {
            let path = format!("{path}.vdisks[{j}]");
            let known = names.vdisks.contains(used.vdisk.as_str());
            self.require(
                known,
                format_args!("{path}.vdisk"),
                format!("there is no vDisk {}", used.vdisk),
            );
            match &used.purpose {
                VdiskPurpose::Upper => {
                    uppers += 1;
                    let overlay = device.boot_mode == BootMode::Overlay;
                    self.require(
                        overlay,
                        format_args!("{path}.use"),
                        "only a device in overlay mode has an upper",
                    );
                    self.require(uppers == 1, format_args!("{path}.use"), "a device has one upper");
                }
                VdiskPurpose::Mount { path: at } => {
                    let plain = |part: &str| {
                        !matches!(part, "" | "." | "..")
                            && part
                                .bytes()
                                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                    };
                    let fine = at.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain));
                    let message = "give an absolute path below / of a-z, A-Z, 0-9, -, _ and .";
                    self.require(fine, format_args!("{path}.path"), message);
                }
            }
        }
    }

    fn destroy(&mut self) {
        let desired = self.desired;
        for (i, mark) in desired.destroy.iter().enumerate() {
            let wanted = match mark {
                Mark::Tree(_) => {
                    self.fault(
                        format_args!("destroy[{i}]"),
                        "the folders of the tree are never destroyed",
                    );
                    continue;
                }
                Mark::Volume(name) => desired.volumes.iter().any(|volume| volume.name == *name),
                Mark::Group(name) => desired.groups.iter().any(|group| group.name == *name),
                Mark::Device(name) => desired.devices.iter().any(|device| device.name == *name),
                Mark::Vdisk(name) => desired.vdisks.iter().any(|vdisk| vdisk.name == *name),
            };
            self.require(
                !wanted,
                format_args!("destroy[{i}]"),
                format!("the document still asks for {mark}"),
            );
        }
    }
}

/// Objects by name, so that 5,000 devices are checked in one pass.
struct Names<'a> {
    networks: BTreeMap<&'a str, &'a Network>,
    groups: BTreeMap<&'a str, &'a Group>,
    menus: BTreeSet<&'a str>,
    vdisks: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    fn of(desired: &'a Desired) -> Self {
        Self {
            networks: desired
                .networks
                .iter()
                .map(|network| (network.name.as_str(), network))
                .collect(),
            groups: desired.groups.iter().map(|group| (group.name.as_str(), group)).collect(),
            menus: desired.menus.iter().map(|menu| menu.name.as_str()).collect(),
            vdisks: desired.vdisks.iter().map(|vdisk| vdisk.name.as_str()).collect(),
        }
    }
}

const LINE: &str = "1 to 80 printable characters";

fn is_line(text: &str) -> bool {
    (1..=80).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn is_size(bytes: u64) -> bool {
    bytes > 0 && bytes.is_multiple_of(MIB)
}

fn is_host(network: &Network, address: Ipv4Addr) -> bool {
    let subnet = network.address.trunc();
    subnet.contains(&address) && address != subnet.network() && address != subnet.broadcast()
}

#[cfg(test)]
mod tests;
