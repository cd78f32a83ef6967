//! Owns three LANs with a router between them: an office, where the panel is; a public one, where tunnels are; and a site, where an
//! agent serves devices. The router hides office and site behind its public address, and lets nothing from one into the other.

use crate::accel::TINY_GUEST_UP;
use crate::console::Console;
use crate::lan::{Lan, PANEL_MAC, TUNNEL_MAC};
use crate::machine::{Machine, NicModel, NicSpec};
use crate::wait::secs;
use anyhow::Result;

/// Where the router is on the site.
pub const SITE_GATEWAY: &str = "10.77.0.254";
/// What the router gives the tunnel, on the public LAN.
pub const TUNNEL_ADDRESS: &str = "203.0.113.10";

/// One of the router's sides.
struct Side {
    card: &'static str,
    /// The first three numbers of its addresses.
    prefix: &'static str,
    /// Who always gets which last number.
    lease: Option<(&'static str, u32)>,
    /// Whether the router is the way out: on the public LAN nobody knows a way in.
    gateway: bool,
}

/// The public side first: it is eth0.
const SIDES: [Side; 3] = [
    Side { card: "eth0", prefix: "203.0.113", lease: Some((TUNNEL_MAC, 10)), gateway: false },
    Side { card: "eth1", prefix: "10.78.0", lease: Some((PANEL_MAC, 2)), gateway: true },
    Side { card: "eth2", prefix: "10.77.0", lease: None, gateway: true },
];

/// Three LANs and their router.
#[derive(Debug)]
pub struct Wan {
    /// Where the panel is: 10.78.0.2.
    pub office: Lan,
    /// Where tunnels are; the first is [`TUNNEL_ADDRESS`].
    pub public: Lan,
    /// Where devices are: 10.77.0.0/24.
    pub site: Lan,
    router: Machine,
}

impl Wan {
    /// The LANs of the test `name`; the router gives out addresses on each.
    pub async fn new(name: &str) -> Result<Self> {
        let site = Lan::new(name)?;
        let (public, office) = (site.beside("public")?, site.beside("office")?);
        let card = |number: u32| NicSpec {
            mac: format!("52:54:00:cd:fe:{number:02x}"),
            model: NicModel::Virtio,
            boot: false,
        };
        let router = public.tiny("router", 254)?;
        let router = router.nic(office.switch(), card(1))?.nic(site.switch(), card(2))?;
        let router = router.start().await?;
        router.expect(TINY_GUEST_UP, secs(30)).await?;
        let shell = router.debug();
        shell.check("ip addr flush dev eth0").await?;
        for side in &SIDES {
            give_addresses(shell, side).await?;
        }
        let hide = "export XTABLES_LIBDIR=/lib/xtables; iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE && \
            iptables -A FORWARD -i eth1 -o eth2 -j DROP && iptables -A FORWARD -i eth2 -o eth1 -j DROP && \
            echo 1 >/proc/sys/net/ipv4/ip_forward";
        shell.check(hide).await?;
        Ok(Self { office, public, site, router })
    }

    /// The router gives out nothing on the site any more.
    pub async fn end_dhcp_on_site(&self) -> Result<()> {
        self.router.debug().check("kill $(cat /tmp/eth2.pid)").await.map(drop)
    }
}

async fn give_addresses(shell: &Console, side: &Side) -> Result<()> {
    let Side { card, prefix, .. } = side;
    let lease = side.lease.map(|(mac, number)| format!("static_lease {mac} {prefix}.{number}\n"));
    let way_out =
        if side.gateway { format!("option router {prefix}.254\n") } else { String::new() };
    let config = format!(
        "interface {card}\nstart {prefix}.100\nend {prefix}.120\n{}{way_out}option subnet 255.255.255.0\n\
        lease_file /tmp/{card}.leases\npidfile /tmp/{card}.pid\n",
        lease.unwrap_or_default()
    );
    shell.put(&format!("/tmp/{card}.conf"), config.as_bytes()).await?;
    let start = format!(
        "ip addr add {prefix}.254/24 dev {card} && : >/tmp/{card}.leases && \
        (udhcpd -f /tmp/{card}.conf >/tmp/{card}.log 2>&1 &)"
    );
    shell.check(&start).await.map(drop)
}
