//! What a machine gets that asks for its script: the decision, and the provisioning before it.

use std::{net::Ipv4Addr, sync::Arc, time::Instant};

use model::{
    boot::Boot,
    desired::{BootMode, Device, Dhcp, Menu, MenuAction, Network},
    name::{DeviceName, Mac},
    observed::GenerationId,
    wire::{BootStep, EventKind},
};
use serde::Deserialize;

use super::{
    BootService, Endpoint, ProvisionError, Provisioner,
    discovered::Facts,
    ipxe::{self, LinuxBoot},
    metadata::root_target,
    view::View,
};

/// What a machine asks with. All of it is its own claim.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ScriptQuery {
    uuid: String,
    serial: String,
    manufacturer: String,
    product: String,
    arch: String,
    platform: String,
    entry: String,
}

impl ScriptQuery {
    fn facts(&self) -> Facts<'_> {
        Facts {
            uuid: &self.uuid,
            serial: &self.serial,
            manufacturer: &self.manufacturer,
            product: &self.product,
            arch: &self.arch,
            platform: &self.platform,
        }
    }
}

/// Why a known device gets no boot. The text is shown on its screen.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{device} belongs to another network than {network}")]
    OtherNetwork { device: DeviceName, network: String },
    #[error(
        "{device} has the address {address}, and {from} asks for its boot; DHCP is asked again"
    )]
    Elsewhere { device: DeviceName, address: Ipv4Addr, from: Ipv4Addr },
    #[error("group {0} is not in the document")]
    NoGroup(String),
    #[error("{0} is not there; the menu names it")]
    NoGeneration(GenerationId),
    #[error("{0} is still being made ready")]
    Slow(DeviceName),
    #[error("{0} was taken out of the document")]
    Gone(DeviceName),
    #[error("kernel and initrd of {0} are still being read")]
    NoBootFiles(GenerationId),
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    #[error(transparent)]
    Script(#[from] ipxe::Error),
}

enum Wanted<'a> {
    Menu(&'a Menu),
    Generation(u32),
    LocalDisk,
    Shell,
    Reboot,
}

impl<P: Provisioner> BootService<P> {
    /// The script of the machine with this card. A device is ready when it is answered.
    pub(super) async fn script(
        &self,
        endpoint: &Endpoint,
        mac: Mac,
        from: Ipv4Addr,
        query: &ScriptQuery,
    ) -> String {
        let view = self.provisioner.view();
        let Some(device) = view.document().device_by_mac(mac) else {
            return self.unknown(mac, from, query);
        };
        let answer = match wanted(&view, endpoint, device, from, &query.entry) {
            Ok(Wanted::Menu(menu)) => Ok(ipxe::render_menu(menu, mac)),
            Ok(Wanted::LocalDisk) => Ok(ipxe::LOCAL_DISK_SCRIPT.to_owned()),
            Ok(Wanted::Shell) => Ok(ipxe::render_shell()),
            Ok(Wanted::Reboot) => Ok(ipxe::REBOOT_SCRIPT.to_owned()),
            Ok(Wanted::Generation(number)) => {
                self.boot(endpoint, &device.name, mac, from, number).await
            }
            Err(refusal) => Err(refusal),
        };
        answer.unwrap_or_else(|refusal| {
            tracing::warn!(device = %device.name, %mac, %from, reason = %refusal, "device can't boot now");
            let reason = refusal.to_string();
            match refusal {
                Refusal::Elsewhere { .. } => {
                    self.note_refusal(&device.name, from, reason.clone());
                    ipxe::render_wrong_address(&reason)
                }
                Refusal::Provision(ProvisionError::Runs { .. }) => {
                    self.note_refusal(&device.name, from, reason.clone());
                    ipxe::render_failure(&reason)
                }
                _ => ipxe::render_failure(&reason),
            }
        })
    }

    fn unknown(&self, mac: Mac, from: Ipv4Addr, query: &ScriptQuery) -> String {
        let now = (self.settings.clock)();
        let (machine, news) = self.discoveries.seen(mac, &query.facts(), from, now);
        let script = ipxe::render_waiting(&machine);
        if news {
            tracing::info!(%mac, %from, product = machine.product, "unknown machine asks to boot");
            self.events.publish(now, EventKind::Discovered(machine));
        }
        script
    }

    async fn boot(
        &self,
        endpoint: &Endpoint,
        name: &DeviceName,
        mac: Mac,
        from: Ipv4Addr,
        generation: u32,
    ) -> Result<String, Refusal> {
        let started = Instant::now();
        let provisioning = self.provisioner.provision(name.clone(), generation, from);
        let answer = tokio::time::timeout(self.settings.provision_timeout, provisioning).await;
        let took = self.metrics.time_provision(started);
        let boot = answer.map_err(|_elapsed| Refusal::Slow(name.clone()))??.boot;
        // The document may have changed meanwhile; what was provisioned is told as it stands now.
        let view = self.provisioner.view();
        let device = view.document().device(name).ok_or_else(|| Refusal::Gone(name.clone()))?;
        let network = network(&view, endpoint, device)?;
        let id = boot.id.clone();
        let script = match boot.boot_mode {
            BootMode::Overlay => self.linux(&view, endpoint, network, device, mac, boot)?,
            BootMode::Ephemeral | BootMode::Persistent => {
                let target = root_target(device, &boot);
                ipxe::render_sanboot(name, network.address.addr(), &target, &boot.chap)?
            }
        };
        let message = format!("ready in {} ms", took.as_millis());
        self.note_step(name, &id, BootStep::Script, message);
        Ok(script)
    }

    fn linux(
        &self,
        view: &View,
        endpoint: &Endpoint,
        network: &Network,
        device: &Device,
        mac: Mac,
        boot: Boot,
    ) -> Result<String, Refusal> {
        let group = view.document().group(&device.group);
        let group = group.ok_or_else(|| Refusal::NoGroup(device.group.to_string()))?;
        let generation = GenerationId { group: group.name.clone(), number: boot.generation };
        if view.boot_files(&generation).is_none() {
            return Err(Refusal::NoBootFiles(generation));
        }
        let boot = Arc::new(boot);
        let token = self.grants.issue(&device.name, device.address, Arc::clone(&boot));
        Ok(ipxe::render_linux(&LinuxBoot {
            device: &device.name,
            mac,
            address: device.address,
            netmask: network.address.netmask(),
            gateway: network.gateway,
            group: &group.name,
            generation: boot.generation,
            boot: &boot.id,
            token: token.reveal(),
            base_url: &endpoint.base_url,
            on_failure: device.on_failure,
            kernel_arguments: &group.kernel_arguments,
        })?)
    }
}

fn network<'a>(
    view: &'a View,
    endpoint: &Endpoint,
    device: &Device,
) -> Result<&'a Network, Refusal> {
    let here = view.document().network(&endpoint.network);
    here.filter(|network| network.name == device.network).ok_or_else(|| Refusal::OtherNetwork {
        device: device.name.clone(),
        network: endpoint.network.to_string(),
    })
}

/// Where our DHCP gives addresses, a device has its own, and whoever asks from another one is not the device, or was not told of
/// its address yet: a new boot would end the device's session, and show its secrets to the one who asks. What asks from the
/// server's own address runs on the server.
fn at_its_address(network: &Network, device: &Device, from: Ipv4Addr) -> Result<(), Refusal> {
    let given = matches!(network.dhcp, Dhcp::Authoritative { .. });
    if given && from != device.address && from != network.address.addr() {
        return Err(Refusal::Elsewhere {
            device: device.name.clone(),
            address: device.address,
            from,
        });
    }
    Ok(())
}

/// What the device shall do. An entry that its menu does not have, because the menu was changed while it was shown, shows the menu again.
fn wanted<'a>(
    view: &'a View,
    endpoint: &Endpoint,
    device: &Device,
    from: Ipv4Addr,
    entry: &str,
) -> Result<Wanted<'a>, Refusal> {
    at_its_address(network(view, endpoint, device)?, device, from)?;
    let document = view.document();
    let no_group = || Refusal::NoGroup(device.group.to_string());
    let image = || document.generation_of(device).ok_or_else(no_group).map(Wanted::Generation);
    let Some(menu) = device.menu.as_ref().and_then(|menu| document.menu(menu)) else {
        return image();
    };
    let entry = entry.parse().ok().and_then(|number: usize| menu.entries.get(number));
    Ok(match entry.map(|entry| &entry.action) {
        None => Wanted::Menu(menu),
        Some(MenuAction::Image) => image()?,
        Some(MenuAction::Generation { generation }) => {
            let group = document.group(&device.group).ok_or_else(no_group)?;
            if !group.generations.contains(generation) {
                let id = GenerationId { group: group.name.clone(), number: *generation };
                return Err(Refusal::NoGeneration(id));
            }
            Wanted::Generation(*generation)
        }
        Some(MenuAction::LocalDisk) => Wanted::LocalDisk,
        Some(MenuAction::Shell) => Wanted::Shell,
        Some(MenuAction::Reboot) => Wanted::Reboot,
    })
}
