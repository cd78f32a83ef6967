//! Certificates of servers that joined, given anew: which are due, and what is given then. How an agent asks is
//! [`crate::fleet`]'s business. What a server has stays good until it ends: it is in use while the new one is on its way.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use model::{certify::Endpoint, wire};
use serde_json::json;

use super::{Actor, Error, Panel, Work};
use crate::{
    ca::{self, Ca, Certificate, Host, Kind, PublicKey, Serial, Subject},
    noun::{Id, Noun, Server, Stored},
    store::{self, Tx},
};

const ACTOR: Actor = Actor::Panel("renewal");

/// The least time between two certificates of a server for the same names: an agent that does not take them gets no pile of them.
const AGAIN_MS: u64 = 3_600_000;

/// Why a server is not given another certificate.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Its request is not good.
    #[error("the request is not good")]
    Request(#[source] ca::Error),
    /// Its boot key is not RSA, which iPXE needs.
    #[error("the boot endpoint needs an RSA key")]
    BootKey,
    /// It has no address that devices boot from.
    #[error("the server has no address that devices boot from")]
    Nameless,
    /// It got one.
    #[error("the server was given one for the same names less than an hour ago")]
    Early,
    /// It can't be made, or one that was given can't be read.
    #[error("the certificate can't be made")]
    Ca(#[from] ca::Error),
    /// It may not be, or can't be kept.
    #[error("the certificate can't be kept")]
    Operation(#[from] Error),
}

impl From<store::Error> for RenewError {
    fn from(error: store::Error) -> Self {
        Self::Operation(error.into())
    }
}

/// What a server is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// The number of the certificate.
    pub(crate) serial: Serial,
    /// Its chain in PEM, up to the root.
    pub(crate) chain_pem: String,
}

/// Whom an endpoint's certificate is for; nobody, while the server has no address that devices boot from.
pub(super) fn subject(endpoint: Endpoint, server: &Stored<Server>) -> Option<Subject> {
    let name = server.value.name.clone();
    match endpoint {
        Endpoint::Api => Some(Subject::Agent(server.id, name)),
        Endpoint::Boot => {
            let addresses = server.value.interfaces.iter().map(|interface| interface.address);
            let hosts: Vec<Host> = addresses.map(|address| IpAddr::from(address).into()).collect();
            Some(hosts).filter(|hosts| !hosts.is_empty()).map(|hosts| Subject::Boot(name, hosts))
        }
    }
}

fn time(now_ms: u64) -> Result<SystemTime, ca::Error> {
    UNIX_EPOCH.checked_add(Duration::from_millis(now_ms)).ok_or(ca::Error::Clock)
}

impl Panel {
    /// The endpoints of a server that need another certificate, by those that it shows: one ends, counts no more, or is not for
    /// the addresses that the server has now.
    ///
    /// # Errors
    /// The store failed, or what was given can't be read.
    pub(crate) fn renewals_due(
        &self,
        server: Id<Server>,
        shown: &BTreeMap<String, wire::Certificate>,
    ) -> Result<Vec<Endpoint>, RenewError> {
        let now = time(self.now_ms())?;
        self.store.read(|tx| {
            let Some(stored) = tx.get(server)? else { return Ok(Vec::new()) };
            let mut due = Vec::new();
            for endpoint in Endpoint::ALL {
                if is_due(tx, &stored, endpoint, shown.get(endpoint.as_str()), now)? {
                    due.push(endpoint);
                }
            }
            Ok(due)
        })
    }

    /// Gives a server that joined another certificate for the key that it asks with.
    ///
    /// # Errors
    /// Its request is not good; it was given one for the same names just now; it never joined.
    pub(crate) fn renew_server(
        &self,
        ca: &Ca,
        server: Id<Server>,
        endpoint: Endpoint,
        request_pem: &str,
    ) -> Result<Given, RenewError> {
        let key = PublicKey::from_request(request_pem).map_err(RenewError::Request)?;
        if endpoint == Endpoint::Boot && !key.is_rsa() {
            return Err(RenewError::BootKey);
        }
        let now_ms = self.now_ms();
        let done = self.store.write(|tx| {
            let who = self.who(tx, ACTOR)?;
            let work = Work { tx, who: &who, now_ms };
            let stored = work.seen(server)?;
            if tx.joined_box(server)?.is_none() {
                return Err(Error::NotFound { noun: Noun::Server }.into());
            }
            let subject = subject(endpoint, &stored).ok_or(RenewError::Nameless)?;
            if let Some((issued_ms, der)) = tx.newest_certificate(server, subject.kind())?
                && issued_ms.saturating_add(AGAIN_MS) > now_ms
                && Certificate::parse(der)?.names()? == subject.names()?
            {
                return Err(RenewError::Early);
            }
            let issued = ca.issue(&subject, &key, time(now_ms)?)?;
            let serial = issued.certificate.serial();
            tx.keep_certificate(subject.kind(), Some(server), &issued.certificate, now_ms)?;
            let what = json!({ "certificate": serial.to_string(), "kind": subject.kind().word(),
                "changed": "renewed" });
            work.note_of(server, what)?;
            Ok(Given { serial, chain_pem: issued.chain_pem() })
        });
        if done.is_ok() {
            self.announce();
        }
        done
    }
}

fn is_due(
    tx: Tx<'_>,
    server: &Stored<Server>,
    endpoint: Endpoint,
    shown: Option<&wire::Certificate>,
    now: SystemTime,
) -> Result<bool, RenewError> {
    let Some(subject) = subject(endpoint, server) else { return Ok(false) };
    let leaf = match shown {
        Some(wire::Certificate::InUse { leaf: Some(leaf) }) => leaf,
        Some(wire::Certificate::Absent) => return Ok(subject.kind() == Kind::Boot),
        // An agent that does not tell can't be helped; what is faulty is for somebody to look at.
        Some(wire::Certificate::InUse { leaf: None } | wire::Certificate::Faulty { .. }) | None => {
            return Ok(false);
        }
    };
    let Some(der) = tx.certificate_of(server.id, &leaf.serial)? else { return Ok(true) };
    let in_use = Certificate::parse(der)?;
    Ok(subject.kind().renewal_due(in_use.validity().not_after, now)
        || in_use.names()? != subject.names()?)
}

#[cfg(test)]
#[path = "renewals_tests.rs"]
mod tests;
