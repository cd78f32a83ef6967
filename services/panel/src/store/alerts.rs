//! The facts that alerts are computed from, and since when each alert stands.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension as _, Row};

use super::{Error, Tx, contacts::sighting, tunnels::listed};
use crate::{
    alerts::{
        Alert, BackupFacts, BootFacts, CertificateFacts, ChannelFacts, Clash, NetworkFacts,
        PersonFacts, ServerFacts, TunnelledFacts,
    },
    ca::Kind,
    noun::{Id, Network, Server, Tunnel},
    sighting::Machine,
};

/// A certificate that ends later than this many days from now is no fact worth reading.
const CERTIFICATE_DAYS: u64 = 90;

const SERVERS: &str = "SELECT s.id, s.name, n.id, n.name, n.organization_id, b.joined_ms,
        nullif(max(coalesce(c.seen_ms, 0), coalesce(d.status_ms, 0)), 0), c.clock_ms, c.error, c.refused,
        coalesce(d.acknowledged, 0), c.sighting
    FROM servers s JOIN networks n ON n.id = s.network_id
        LEFT JOIN boxes b ON b.server_id = s.id
        LEFT JOIN contacts c ON c.server_id = s.id
        LEFT JOIN documents d ON d.server_id = s.id ORDER BY s.id";

fn server(row: &Row<'_>) -> Result<ServerFacts, Error> {
    let refused: Option<String> = row.get(9)?;
    let sighting = sighting(row.get(11)?);
    Ok(ServerFacts {
        id: Id::new(row.get(0)?),
        name: row.get(1)?,
        network: Id::new(row.get(2)?),
        network_name: row.get(3)?,
        organization: Id::new(row.get(4)?),
        joined_ms: row.get(5)?,
        seen_ms: row.get(6)?,
        clock_ms: row.get(7)?,
        error: row.get(8)?,
        refused: refused.as_deref().map(serde_json::from_str).transpose().map_err(Error::Json)?,
        acknowledged: row.get(10)?,
        machines: sighting.machines.clone(),
        sighting,
        certificates: Vec::new(),
        clashes: Vec::new(),
    })
}

/// The organization and the network that an alert is of, and the rank of its severity.
pub(crate) type Standing = (Option<i64>, Option<i64>, u8);

impl Tx<'_> {
    /// What is known of all servers.
    pub(crate) fn server_facts(self, now_ms: u64) -> Result<Vec<ServerFacts>, Error> {
        let mut certificates = self.ending_certificates(now_ms)?;
        let mut statement = self.connection.prepare_cached(SERVERS)?;
        let mut rows = statement.query([])?;
        let mut servers = Vec::new();
        while let Some(row) = rows.next()? {
            let mut found = server(row)?;
            found.certificates = certificates.remove(&found.id).unwrap_or_default();
            self.sort_out(&mut found)?;
            servers.push(found);
        }
        Ok(servers)
    }

    /// Leaves of a server's unknown machines those that are still unknown, and finds those that have a device's address.
    fn sort_out(self, server: &mut ServerFacts) -> Result<(), Error> {
        let known = "SELECT EXISTS (SELECT 1 FROM device_macs WHERE network_id = ? AND mac = ?)";
        let mut known = self.connection.prepare_cached(known)?;
        let mut waiting: Vec<Machine> = Vec::new();
        for machine in std::mem::take(&mut server.machines) {
            let mac = machine.mac.to_string();
            if !known.query_row((server.network.number(), mac), |row| row.get::<_, bool>(0))? {
                waiting.push(machine);
            }
        }
        let holder = "SELECT d.id, d.name FROM server_interfaces i JOIN devices d ON d.subnet_id = i.subnet_id
            WHERE i.server_id = ? AND d.address = ?";
        let mut holder = self.connection.prepare_cached(holder)?;
        for machine in &waiting {
            let Some(address) = machine.address else { continue };
            let of = (server.id.number(), u32::from(address));
            let held = |row: &Row<'_>| Ok((Id::new(row.get(0)?), row.get(1)?));
            if let Some((device, name)) = holder.query_row(of, held).optional()? {
                let (mac, seen_ms) = (machine.mac, machine.last_seen_ms);
                server.clashes.push(Clash { device, name, address, mac, seen_ms });
            }
        }
        server.machines = waiting;
        Ok(())
    }

    /// The newest certificate of each kind of each server, of those that end before long.
    fn ending_certificates(
        self,
        now_ms: u64,
    ) -> Result<BTreeMap<Id<Server>, Vec<CertificateFacts>>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT server_id, kind, max(ends_ms) FROM certificates
             WHERE server_id IS NOT NULL AND revoked_ms IS NULL GROUP BY server_id, kind HAVING max(ends_ms) < ?",
        )?;
        let horizon = now_ms.saturating_add(CERTIFICATE_DAYS * 24 * 3_600_000);
        let mut rows = statement.query([horizon])?;
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let fact = CertificateFacts { name: row.get(1)?, ends_ms: row.get(2)? };
            found.entry(Id::new(row.get(0)?)).or_default().push(fact);
        }
        Ok(found)
    }

    /// The newest certificates of the panel itself: as a server, and as a client of its servers.
    pub(crate) fn own_certificates(self) -> Result<Vec<CertificateFacts>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT kind, max(ends_ms) FROM certificates
             WHERE server_id IS NULL AND revoked_ms IS NULL AND kind IN (?, ?) GROUP BY kind",
        )?;
        let mut rows = statement.query([Kind::Panel, Kind::Fleet].map(Kind::word))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(CertificateFacts { name: row.get(0)?, ends_ms: row.get(1)? });
        }
        Ok(found)
    }

    /// People who come in by a certificate alone, of which the last ends before long, or has ended.
    pub(crate) fn person_facts(self, now_ms: u64) -> Result<Vec<PersonFacts>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT u.id, u.name, u.organization_id, max(c.ends_ms)
             FROM users u JOIN certificates c ON c.user_id = u.id
             WHERE u.certificate_required AND u.totp_secret IS NULL AND NOT u.disabled AND c.revoked_ms IS NULL
             GROUP BY u.id HAVING max(c.ends_ms) < ? ORDER BY u.id",
        )?;
        let horizon = now_ms.saturating_add(CERTIFICATE_DAYS * 24 * 3_600_000);
        let rows = statement.query_map([horizon], |row| {
            Ok(PersonFacts {
                id: Id::new(row.get(0)?),
                name: row.get(1)?,
                organization: row.get::<_, Option<i64>>(2)?.map(Id::new),
                ends_ms: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Networks with devices whose newest boot is not up and was heard of since.
    pub(crate) fn network_facts(self, since_ms: u64) -> Result<Vec<NetworkFacts>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT n.id, n.name, n.organization_id, d.id, d.name, b.last_ms, b.failed_ms IS NOT NULL, b.message
             FROM boots b JOIN devices d ON d.id = b.device_id JOIN networks n ON n.id = b.network_id
             WHERE b.up_ms IS NULL AND b.last_ms > ?1
                AND NOT EXISTS (SELECT 1 FROM boots l WHERE l.device_id = b.device_id AND l.began_ms > b.began_ms)
             ORDER BY n.id, d.name",
        )?;
        let mut rows = statement.query([since_ms])?;
        let mut networks: Vec<NetworkFacts> = Vec::new();
        while let Some(row) = rows.next()? {
            let id: Id<Network> = Id::new(row.get(0)?);
            let message: Option<String> = row.get(7)?;
            let boot = BootFacts {
                device: Id::new(row.get(3)?),
                name: row.get(4)?,
                last_ms: row.get(5)?,
                failed: row.get::<_, bool>(6)?.then(|| message.unwrap_or_default()),
            };
            match networks.last_mut().filter(|network| network.id == id) {
                Some(network) => network.boots.push(boot),
                None => networks.push(NetworkFacts {
                    id,
                    name: row.get(1)?,
                    organization: Id::new(row.get(2)?),
                    boots: vec![boot],
                }),
            }
        }
        Ok(networks)
    }

    /// Tunnels that are known to be the panel's, by number and name.
    pub(crate) fn paired_tunnels(self) -> Result<Vec<(Id<Tunnel>, String)>, Error> {
        let sql = "SELECT u.id, u.name FROM pairings p JOIN tunnels u ON u.id = p.tunnel_id
             WHERE p.confirmed_ms IS NOT NULL ORDER BY u.id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| Ok((Id::new(row.get(0)?), row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Networks with servers that are reached through tunnels alone.
    pub(crate) fn tunnelled_facts(self) -> Result<Vec<TunnelledFacts>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT n.id, n.name, n.organization_id, count(*),
                (SELECT group_concat(t.tunnel_id ORDER BY t.position) FROM network_tunnels t
                 JOIN pairings p ON p.tunnel_id = t.tunnel_id
                 WHERE t.network_id = n.id AND p.confirmed_ms IS NOT NULL)
             FROM servers s JOIN boxes b ON b.server_id = s.id JOIN networks n ON n.id = s.network_id
             WHERE b.link = 'tunnel' GROUP BY n.id ORDER BY n.id",
        )?;
        let mut rows = statement.query([])?;
        let mut networks = Vec::new();
        while let Some(row) = rows.next()? {
            let tunnels: Vec<i64> = listed(row.get::<_, Option<String>>(4)?.as_deref())?;
            networks.push(TunnelledFacts {
                id: Id::new(row.get(0)?),
                name: row.get(1)?,
                organization: Id::new(row.get(2)?),
                servers: row.get(3)?,
                tunnels: tunnels.into_iter().map(Id::new).collect(),
            });
        }
        Ok(networks)
    }

    /// When the panel was backed up, and whether it has a server.
    pub(crate) fn backup_facts(self) -> Result<BackupFacts, Error> {
        let sql = "SELECT backup_ms, EXISTS (SELECT 1 FROM servers) FROM settings";
        let facts = self.connection.query_row(sql, [], |row| {
            Ok(BackupFacts { made_ms: row.get(0)?, worth: row.get(1)? })
        })?;
        Ok(facts)
    }

    /// Channels with the eldest notice that was tried and is not delivered.
    pub(crate) fn channel_facts(self) -> Result<Vec<ChannelFacts>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT c.id, c.name, c.organization_id, min(n.made_ms), n.attempts, n.error
             FROM notices n JOIN channels c ON c.id = n.channel_id
             WHERE n.sent_ms IS NULL AND n.attempts > 0 GROUP BY c.id",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(ChannelFacts {
                id: row.get(0)?,
                name: row.get(1)?,
                organization: Id::new(row.get(2)?),
                made_ms: row.get(3)?,
                attempts: row.get(4)?,
                error: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The alerts that stand, the worst first, and of these the eldest.
    pub(crate) fn standing_alerts(self) -> Result<Vec<Alert>, Error> {
        let sql = "SELECT body FROM alerts ORDER BY severity DESC, since_ms, key";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        let mut alerts = Vec::new();
        while let Some(row) = rows.next()? {
            let body = row.get_ref(0)?.as_str().map_err(|e| Error::Sqlite(e.into()))?;
            match serde_json::from_str(body) {
                Ok(alert) => alerts.push(alert),
                // It is computed anew at once.
                Err(error) => tracing::warn!(%error, "an alert of another version is left out"),
            }
        }
        Ok(alerts)
    }

    /// Keeps the alerts that stand now, and forgets the others; false when nothing changed.
    pub(crate) fn keep_alerts(self, now: &[Alert], before: &[Alert]) -> Result<bool, Error> {
        let known: BTreeMap<&str, &Alert> =
            before.iter().map(|alert| (alert.key.as_str(), alert)).collect();
        let mut changed = false;
        for alert in now.iter().filter(|alert| known.get(alert.key.as_str()) != Some(alert)) {
            changed = true;
            let body = serde_json::to_string(alert).map_err(Error::Json)?;
            self.connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO alerts (key, organization_id, network_id, severity, since_ms, body)
                     VALUES (?, ?, ?, ?, ?, ?)",
                )?
                .execute((
                    alert.key.as_str(),
                    alert.organization.map(Id::number),
                    alert.network_id().map(Id::number),
                    alert.severity.rank(),
                    alert.since_ms,
                    body,
                ))?;
        }
        let keys = serde_json::to_string(&now.iter().map(|a| a.key.as_str()).collect::<Vec<_>>());
        let gone = "DELETE FROM alerts WHERE key NOT IN (SELECT value FROM json_each(?))";
        let gone = self.connection.prepare_cached(gone)?.execute([keys.map_err(Error::Json)?])?;
        Ok(changed || gone > 0)
    }

    /// The organization and network of each alert that stands, and how bad it is: what the count at the top of pages is made of.
    pub(crate) fn alert_places(self) -> Result<Vec<Standing>, Error> {
        let sql = "SELECT organization_id, network_id, severity FROM alerts";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
