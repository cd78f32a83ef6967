//! The direct link: whether the panel comes to this server straight over the LAN, as it said when the server joined, and to which
//! of its addresses. It opens nothing.

use std::{collections::BTreeSet, net::Ipv4Addr, path::Path};

use host::{files, seam::chain};
use model::{
    desired::{Desired, Management},
    join::{Link, LinkError},
    observed,
};
use tokio::sync::watch;

/// The file that says it, beside the certificates.
const FILE: &str = "link";

/// Why the file says nothing.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no access to the file {FILE}")]
    File(#[from] files::Error),
    #[error("the file {FILE} is no good")]
    Link(#[from] LinkError),
}

/// How the panel comes, kept up to date by who looks at the certificates. A bad file leaves what was known before; without one the
/// server is reached on its loopback alone.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    link: watch::Sender<Option<Link>>,
    trouble: Option<String>,
}

impl Chosen {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Link>> {
        self.link.subscribe()
    }

    pub(crate) fn look(&mut self, folder: &Path) {
        let trouble = match read(folder) {
            Ok(read) => {
                let put = |known: &mut Option<Link>| std::mem::replace(known, read) != read;
                if self.link.send_if_modified(put) {
                    tracing::info!(link = read.map_or("none", Link::as_str), "link to the panel");
                }
                None
            }
            Err(error) => Some(chain(&error)),
        };
        if let Some(error) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            tracing::error!(error, "how the panel comes is not known");
        }
        self.trouble = trouble;
    }
}

fn read(folder: &Path) -> Result<Option<Link>, Error> {
    let Some(bytes) = files::read_if_exists(&folder.join(FILE))? else { return Ok(None) };
    Ok(Some(String::from_utf8_lossy(&bytes).trim().parse()?))
}

/// The addresses that the server is managed by: those of the management interface where one is named, else those of the cards that
/// serve no devices. A server none of whose other cards has a cable is managed by the card that it serves with.
pub fn addresses(document: &Desired, links: &[observed::Link]) -> BTreeSet<Ipv4Addr> {
    let of = |links: Vec<&observed::Link>| {
        links.into_iter().flat_map(|link| &link.addresses).map(|net| net.addr()).collect()
    };
    if let Some(Management { interface, address, .. }) = &document.management {
        let named: BTreeSet<Ipv4Addr> =
            of(links.iter().filter(|link| link.is(interface)).collect());
        return match address {
            Some(own) => named.into_iter().filter(|address| *address == own.addr()).collect(),
            None => named,
        };
    }
    let serves =
        |link: &&observed::Link| document.networks.iter().any(|net| link.is(&net.interface));
    let (serving, idle): (Vec<_>, Vec<_>) = links.iter().partition(serves);
    let managed = idle.iter().any(|link| link.carrier || !link.addresses.is_empty());
    of(if managed { idle } else { serving })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const BACK: &str = "52:54:00:00:00:01";
    const FRONT: &str = "52:54:00:00:00:02";

    fn link(mac: &str, carrier: bool, addresses: &[&str]) -> observed::Link {
        serde_json::from_value(
            json!({ "name": "eth", "mac": mac, "path": format!("pci-{mac}"), "up": true,
            "carrier": carrier, "addresses": addresses, "gateway": null, "lease": null }),
        )
        .unwrap()
    }

    /// A server whose card in front serves devices at 10.77.0.1.
    fn serving(management: Value) -> Desired {
        serde_json::from_value(json!({ "generation": 1, "management": management, "networks":
            [{ "name": "lab", "interface": { "mac": FRONT }, "address": "10.77.0.1/24" }] }))
        .unwrap()
    }

    fn shown(document: &Desired, links: &[observed::Link]) -> Vec<String> {
        addresses(document, links).iter().map(Ipv4Addr::to_string).collect()
    }

    #[test]
    fn a_named_management_interface_is_the_only_one_by_whatever_name_it_goes() {
        let links = [link(BACK, true, &["192.0.2.5/24"]), link(FRONT, true, &["10.77.0.1/24"])];
        for interface in [json!({ "mac": BACK }), json!({ "path": format!("pci-{BACK}") })] {
            let document = serving(json!({ "interface": interface }));
            assert_eq!(shown(&document, &links), ["192.0.2.5"]);
        }
        let gone = serving(json!({ "interface": { "mac": "52:54:00:00:00:09" } }));
        assert!(shown(&gone, &links).is_empty());
    }

    #[test]
    fn on_a_card_that_serves_too_the_management_address_alone_answers() {
        let document = serving(json!({ "interface": { "mac": FRONT }, "address": "192.0.2.5/24" }));
        let links = [link(FRONT, true, &["10.77.0.1/24", "192.0.2.5/24"])];
        assert_eq!(shown(&document, &links), ["192.0.2.5"]);
        let same = serving(json!({ "interface": { "mac": FRONT }, "address": "10.77.0.1/24" }));
        assert_eq!(shown(&same, &links), ["10.77.0.1"]);
    }

    #[test]
    fn where_none_is_named_it_is_every_card_that_serves_no_devices() {
        let document = serving(Value::Null);
        let front = link(FRONT, true, &["10.77.0.1/24"]);
        let back = link(BACK, true, &["192.0.2.5/24"]);
        assert_eq!(shown(&document, &[front.clone(), back.clone()]), ["192.0.2.5"]);
        assert_eq!(shown(&Desired::default(), &[front.clone(), back]), ["10.77.0.1", "192.0.2.5"]);
        let waiting = link(BACK, true, &[]);
        assert!(shown(&document, &[front, waiting]).is_empty());
    }

    #[test]
    fn a_server_with_one_cable_is_managed_over_it() {
        let links = [link(FRONT, true, &["10.77.0.1/24"]), link(BACK, false, &[])];
        assert_eq!(shown(&serving(Value::Null), &links), ["10.77.0.1"]);
        assert_eq!(shown(&serving(Value::Null), &links[..1]), ["10.77.0.1"]);
    }

    #[test]
    fn a_file_that_is_no_good_changes_nothing_and_one_that_is_gone_does() {
        let folder = tempfile::tempdir().unwrap();
        let mut chosen = Chosen::default();
        let mut look = |content: Option<&str>| {
            let file = folder.path().join(FILE);
            match content {
                Some(text) => drop(files::write_atomic(&file, text.as_bytes(), 0o644).unwrap()),
                None => files::remove_if_exists(&file).map(drop).unwrap(),
            }
            chosen.look(folder.path());
            *chosen.subscribe().borrow()
        };
        assert_eq!(look(None), None);
        assert_eq!(look(Some("direct\n")), Some(Link::Direct));
        assert_eq!(look(Some("diretc\n")), Some(Link::Direct));
        assert_eq!(look(Some("tunnel\n")), Some(Link::Tunnel));
        assert_eq!(look(None), None);
    }
}
