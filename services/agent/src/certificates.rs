//! The certificates of the agent's own servers, as they lie in `<state>/tls`: those that the box was given when it joined, or those
//! that were renewed since; and the word on how the panel comes that lies beside them. They are read again when they change, and
//! shown in the status. It writes none. A bad file leaves the server with the last good one; no file at all closes it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use host::{
    files,
    tls::{self, TlsError},
};
use model::{
    certify::Endpoint,
    join::Link,
    wire::{Certificate, Leaf},
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
};
use tokio::sync::{Notify, watch};

use crate::{
    direct::Chosen,
    renewal::{self, Renewals},
};

/// How often the files are looked at: what the box was given may wait that long, and a few small files cost nothing to read.
const PERIOD: Duration = Duration::from_secs(2);

/// What a server offers now; nothing while it has no certificate.
pub type Offer = watch::Receiver<Option<Arc<Offered>>>;

/// What a server offers, and whom it lets in.
#[derive(Debug)]
pub struct Offered {
    /// With what its connections begin.
    pub config: Arc<ServerConfig>,
    /// Who comes with a certificate; absent where everybody may come.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Offered {
    /// Offers this to everybody.
    pub fn open(config: Arc<ServerConfig>) -> Self {
        Self { config, clients: None }
    }

    /// Whether who showed this chain, leaf first, may be here. Connections outlive the list that they were let in by.
    pub fn lets_in(&self, shown: &[CertificateDer<'static>]) -> bool {
        match (&self.clients, shown) {
            (None, _) => true,
            (Some(_), []) => false,
            (Some(clients), [leaf, above @ ..]) => {
                clients.verify_client_cert(leaf, above, UnixTime::now()).is_ok()
            }
        }
    }
}

/// Why a server's certificate is not used.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no access to the certificates")]
    File(#[from] files::Error),
    #[error("what was renewed can't be used")]
    Renewed(#[from] renewal::Error),
    #[error("{0} is missing beside the others")]
    Missing(&'static str),
    #[error("{} is no good", names.join(" or "))]
    Tls { names: &'static [&'static str], source: TlsError },
}

type Read = BTreeMap<&'static str, Vec<u8>>;

/// What is read beside the files: the revocation list of the document in force.
const REVOKED: &str = "the document's revocation list";

/// Gives the revocation list in force, in PEM.
pub type Revoked = Box<dyn Fn() -> Option<String> + Send>;

/// A server and the files that it needs, all of them.
#[derive(Debug)]
struct Site {
    endpoint: Endpoint,
    /// The chain, its key, and what else there is.
    files: &'static [&'static str],
    make: fn(&Read) -> Result<Offered, TlsError>,
}

static API: Site = Site {
    endpoint: Endpoint::Api,
    files: &["api.crt", "api.key", "panel-ca.crt"],
    make: |read| {
        let file = |name| read.get(name).map_or(&[][..], Vec::as_slice);
        let revoked = read.get(REVOKED).map(Vec::as_slice);
        let panel = tls::panel_alone(file("panel-ca.crt"), revoked)?;
        let config = tls::panel_config(file("api.crt"), file("api.key"), Arc::clone(&panel))?;
        Ok(Offered { config, clients: Some(panel) })
    },
};

static BOOT: Site = Site {
    endpoint: Endpoint::Boot,
    files: &["boot.crt", "boot.key"],
    make: |read| {
        let file = |name| read.get(name).map_or(&[][..], Vec::as_slice);
        tls::open_config(file("boot.crt"), file("boot.key")).map(Offered::open)
    },
};

/// The certificates, kept up to date by [`Certificates::keep`].
pub struct Certificates {
    folder: PathBuf,
    api: Kept,
    boot: Kept,
    link: Chosen,
    revoked: Revoked,
    news: Arc<Notify>,
    shown: watch::Sender<BTreeMap<String, Certificate>>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What is known of one server's files.
#[derive(Debug)]
struct Kept {
    site: &'static Site,
    /// As they were last read, or why they could not be.
    last: Option<Result<Read, String>>,
    offer: watch::Sender<Option<Arc<Offered>>>,
    state: Certificate,
}

impl Certificates {
    /// Reads the folder for the first time; it need not be there.
    pub fn open(folder: &Path, revoked: Revoked) -> Self {
        let kept = |site| Kept {
            site,
            last: None,
            offer: watch::Sender::new(None),
            state: Certificate::Absent,
        };
        let mut certificates = Self {
            folder: folder.to_owned(),
            api: kept(&API),
            boot: kept(&BOOT),
            link: Chosen::default(),
            revoked,
            news: Arc::default(),
            shown: watch::Sender::default(),
        };
        certificates.look();
        certificates
    }

    /// What the API offers.
    pub fn api(&self) -> Offer {
        self.api.offer.subscribe()
    }

    /// What the boot service offers.
    pub fn boot(&self) -> Offer {
        self.boot.offer.subscribe()
    }

    /// How the panel comes.
    pub fn link(&self) -> watch::Receiver<Option<Link>> {
        self.link.subscribe()
    }

    /// The way to renew them.
    pub fn renewals(&self) -> Renewals {
        Renewals::new(&self.folder, Arc::clone(&self.news))
    }

    /// What to tell of them, by the server.
    pub fn states(&self) -> watch::Receiver<BTreeMap<String, Certificate>> {
        self.shown.subscribe()
    }

    /// Looks at the files for ever.
    pub async fn keep(mut self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = self.news.notified() => {}
            }
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            match looked.await {
                Ok(certificates) => self = certificates,
                Err(error) => return tracing::error!(%error, "the keeper of certificates died"),
            }
        }
    }

    fn look(&mut self) {
        self.link.look(&self.folder);
        self.api.look(&self.folder, (self.revoked)());
        self.boot.look(&self.folder, None);
        let states = [&self.api, &self.boot]
            .map(|kept| (kept.site.endpoint.to_string(), kept.state.clone()))
            .into();
        self.shown.send_if_modified(|shown| {
            let changed = *shown != states;
            *shown = states;
            changed
        });
    }
}

impl Kept {
    fn look(&mut self, folder: &Path, revoked: Option<String>) {
        let server = self.site.endpoint.as_str();
        let mut read = self.site.read(folder);
        if let (Ok(read), Some(revoked)) = (&mut read, revoked)
            && !read.is_empty()
        {
            read.insert(REVOKED, revoked.into_bytes());
        }
        let seen = read.as_ref().map(Clone::clone).map_err(chain);
        if self.last.as_ref() == Some(&seen) {
            return;
        }
        self.last = Some(seen);
        self.state = match read.and_then(|read| self.site.offer(&read)) {
            Ok(None) => {
                if self.offer.send_replace(None).is_some() {
                    tracing::info!(server, "certificate gone");
                }
                Certificate::Absent
            }
            Ok(Some((offered, leaf))) => {
                self.offer.send_replace(Some(Arc::new(offered)));
                tracing::info!(server, serial = leaf.serial, "certificate in use");
                Certificate::InUse { leaf: Some(leaf) }
            }
            Err(error) => {
                let why = chain(&error);
                tracing::error!(server, error = why, "certificate not used");
                Certificate::Faulty { why }
            }
        };
    }
}

impl Site {
    fn read(&self, folder: &Path) -> Result<Read, Error> {
        let mut read = Read::new();
        for name in self.files {
            if let Some(bytes) = files::read_if_exists(&folder.join(name))? {
                read.insert(name, bytes);
            }
        }
        if let ([chain, key, ..], Some(renewed)) =
            (self.files, renewal::renewed(folder, self.endpoint)?)
        {
            read.insert(chain, renewed.chain_pem.into_bytes());
            read.insert(key, renewed.key_pem.into_bytes());
        }
        Ok(read)
    }

    fn offer(&self, read: &Read) -> Result<Option<(Offered, Leaf)>, Error> {
        if read.is_empty() {
            return Ok(None);
        }
        if let Some(missing) = self.files.iter().find(|name| !read.contains_key(**name)) {
            return Err(Error::Missing(missing));
        }
        let chain = self.files.first().and_then(|chain| read.get(*chain));
        let made = (self.make)(read).and_then(|offered| {
            let tls::Leaf { serial, ends_ms, .. } = tls::leaf(chain.map_or(&[], Vec::as_slice))?;
            Ok(Some((offered, Leaf { serial, ends_ms })))
        });
        made.map_err(|source| Error::Tls { names: self.files, source })
    }
}

/// The whole chain on one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
