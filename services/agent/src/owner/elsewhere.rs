//! Who asks for a boot: the device, or a neighbour. A new boot ends the device's session and shows its secrets to the one who asks.
//!
//! Where our DHCP gives addresses the boot service knows a device by its own. Where it is the site's, nobody knows a machine's
//! address before its system runs. There a device that had its last boot at another address gets a new one only when the machine,
//! looked at since it asked, shows no session of it: the picture that the owner has may be a minute old.

use std::net::Ipv4Addr;

use host::seam::Host;
use model::{
    boot::{Boot, objects},
    desired::Device,
    name::Iqn,
};

use super::{Owner, provision::Asked};

impl<H: Host> Owner<H> {
    /// Whether the machine has to be looked at before this one is answered.
    pub(super) fn is_doubtful(&self, one: &Asked) -> bool {
        one.at > self.observed_at && self.asks_from_elsewhere(one)
    }

    /// The address of the device's session, when it is another one than that which asks. The session of a device that crashed
    /// ends within a minute, when the kernel's NOP-In is not answered (RFC 3720, 10.19).
    pub(super) fn runs_elsewhere(&self, one: &Asked) -> Option<Option<Ipv4Addr>> {
        if !self.asks_from_elsewhere(one) {
            return None;
        }
        let (device, boot) = (self.document.device(&one.device)?, self.boots.get(&one.device)?);
        self.session(device, boot).filter(|address| *address != Some(one.from))
    }

    /// What asks from the server's own address runs on the server, whose root owns every device's disk anyway.
    fn asks_from_elsewhere(&self, one: &Asked) -> bool {
        let network = self.document.device(&one.device).map(|device| &device.network);
        let network = network.and_then(|network| self.document.network(network));
        network.is_none_or(|network| network.address.addr() != one.from)
            && self.boots.get(&one.device).is_some_and(|boot| boot.from != one.from)
    }

    /// Where the device is logged in to what its boot was given.
    pub(super) fn session(&self, device: &Device, boot: &Boot) -> Option<Option<Ipv4Addr>> {
        let initiator = Iqn::initiator(&device.name);
        objects(&self.document, device, boot).find_map(|object| {
            let target = self.picture.state.targets.get(&object.target())?;
            target.sessions.get(&initiator).copied()
        })
    }
}
