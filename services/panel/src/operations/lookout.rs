//! What the panel finds when it looks around: the alerts that stand, and for whom they are. Looking is for whoever runs the panel;
//! it writes no audit log, for nobody did anything.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Actor, Error, Panel, Work, notices::tell};
use crate::{
    access::{Matter, Verb},
    alerts::{Alert, CertificateFacts, Facts, NEWS_MS, Refusal, Severity, TunnelFacts, alerts},
    fleet::{Connection, Connections, State},
    noun::{Id, Network, Place},
    store::{Contact, Tx},
    tunnels::{Presence, Presences},
};

/// What whoever runs the panel knows of it.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// When it started, in milliseconds since 1970.
    pub started_ms: u64,
    /// Its authorities.
    pub authorities: Vec<CertificateFacts>,
}

/// How many alerts somebody has, and the worst of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct AlertCount {
    /// How many.
    pub count: u64,
    /// How bad the worst is.
    pub worst: Option<Severity>,
}

impl Panel {
    /// Looks at what is known now, keeps which alerts stand and since when, and puts notices of what changed in the queue; whether
    /// anything did. All of it is one transaction: what was noticed is noticed once.
    ///
    /// # Errors
    /// The store failed.
    pub fn look_around(&self, own: &Own) -> Result<bool, Error> {
        let connections = self.board.connections().borrow().clone();
        self.look_with(own, &connections)
    }

    fn look_with(&self, own: &Own, connections: &Connections) -> Result<bool, Error> {
        let presences = self.tunnels_board.all();
        let now_ms = (self.clock)();
        self.store.write(|tx| {
            for (server, connection) in connections {
                if let Some(contact) = contact(connection)
                    && tx.get(*server)?.is_some()
                {
                    tx.keep_contact(*server, &contact)?;
                }
            }
            let standing = tx.standing_alerts()?;
            let mut facts = facts(tx, own, &standing, now_ms)?;
            facts.tunnels = tunnels(tx, &presences)?;
            let found = alerts(&facts, now_ms);
            let changed = tx.keep_alerts(&found, &standing)?;
            Ok(tell(tx, &found, now_ms)? || changed)
        })
    }

    /// The alerts that the actor may see, of one network or of all: the worst first, and of these the eldest.
    ///
    /// # Errors
    /// The actor is not known.
    pub fn alerts(&self, actor: Actor, network: Option<Id<Network>>) -> Result<Vec<Alert>, Error> {
        self.read(actor, |work| {
            let mut alerts = work.tx.standing_alerts()?;
            alerts.retain(|alert| {
                network.is_none_or(|network| alert.network_id() == Some(network))
                    && work.who.may_in(Verb::Read, Matter::Alert, alert.place, alert.organization)
            });
            Ok(alerts)
        })
    }

    /// How many alerts the actor may see.
    ///
    /// # Errors
    /// The actor is not known.
    pub fn count_alerts(&self, actor: Actor) -> Result<AlertCount, Error> {
        self.read(actor, count)
    }
}

fn count(work: Work<'_>) -> Result<AlertCount, Error> {
    let mut found = AlertCount::default();
    for (organization, network, severity) in work.tx.alert_places()? {
        let owner = organization.map(Id::new);
        let place = match (network, owner) {
            (Some(network), _) => Place::Network(Id::new(network)),
            (None, Some(organization)) => Place::Organization(organization),
            (None, None) => Place::Panel,
        };
        if work.who.may_in(Verb::Read, Matter::Alert, place, owner) {
            let severity = Severity::ALL.into_iter().find(|known| known.rank() == severity);
            found.count += 1;
            found.worst = found.worst.max(severity);
        }
    }
    Ok(found)
}

/// What a connection says that is worth keeping. One that did not come about since the start says nothing: what was known holds.
fn contact(connection: &Connection) -> Option<Contact> {
    let error = match connection.state {
        State::Connecting => return None,
        State::Connected => None,
        State::Lost => connection.error.clone(),
    };
    let refused = connection.refused.as_ref().map(|refused| {
        let mut faults = refused.faults.iter();
        let first = faults.next().map(|fault| format!("{}: {}", fault.path, fault.message));
        let why = match faults.len() {
            0 => first.unwrap_or_default(),
            more => format!("{} (and {more} more)", first.unwrap_or_default()),
        };
        Refusal { generation: refused.generation, why }
    });
    Some(Contact { seen_ms: connection.seen_ms, clock_ms: connection.clock_ms, error, refused })
}

/// The tunnels that are the panel's, as the link sees them; before it looked, none is known to be away.
fn tunnels(tx: Tx<'_>, presences: &Presences) -> Result<Vec<TunnelFacts>, Error> {
    let one = |(id, name)| {
        let Presence { state, since_ms, error, status, .. } =
            presences.get(&id).cloned().unwrap_or_default();
        let faults = status.filter(|_| state == State::Connected).map(|status| status.faults);
        TunnelFacts { id, name, state, since_ms, error, faults: faults.unwrap_or_default() }
    };
    Ok(tx.paired_tunnels()?.into_iter().map(one).collect())
}

fn facts(tx: Tx<'_>, own: &Own, standing: &[Alert], now_ms: u64) -> Result<Facts, Error> {
    let standing: BTreeMap<_, _> =
        standing.iter().map(|alert| (alert.key.clone(), alert.clone())).collect();
    Ok(Facts {
        started_ms: own.started_ms,
        servers: tx.server_facts(now_ms)?,
        networks: tx.network_facts(now_ms.saturating_sub(NEWS_MS))?,
        tunnels: Vec::new(),
        tunnelled: tx.tunnelled_facts()?,
        people: tx.person_facts(now_ms)?,
        own_certificates: [own.authorities.clone(), tx.own_certificates()?].concat(),
        backup: tx.backup_facts()?,
        channels: tx.channel_facts()?,
        standing,
    })
}

#[cfg(test)]
#[path = "lookout_tests.rs"]
mod tests;
