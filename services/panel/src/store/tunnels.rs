//! Tunnels beside their records: which took the panel as theirs, who may come in at each, and the servers' ways through them.

use model::{
    code::Address,
    tunnel::{self, ForwardPort, SshKey, Table, Uplink},
    validate::MOST_UPLINKS,
};
use rusqlite::{OptionalExtension, Row};
use schemars::JsonSchema;
use serde::{Serialize, de::Error as _};

use super::{Error, Tx};
use crate::{
    ca::{Certificate, Kind, Reason, Serial},
    noun::{HostName, Id, Network, Server, Tunnel, TunnelName},
};

/// That a tunnel took the panel as its own, or may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Pairing {
    /// The tunnel.
    pub tunnel: Id<Tunnel>,
    /// The host key of its SSH server.
    pub host_key: SshKey,
    /// When the panel made it, in milliseconds since 1970.
    pub made_ms: u64,
    /// When it was known that the tunnel took it; absent while its answer is not known.
    pub confirmed_ms: Option<u64>,
}

/// The code of a tunnel's seed file, which the panel tries until the tunnel is there. The secret is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PairingSeed {
    /// The tunnel.
    pub tunnel: Id<Tunnel>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When the panel gives it up.
    pub expires_ms: u64,
}

/// How a paired tunnel is reached, and known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// The tunnel.
    pub tunnel: Id<Tunnel>,
    /// Its name, which its certificates carry.
    pub name: TunnelName,
    /// Where it is.
    pub host: HostName,
    /// The certificates of its API that count.
    pub serials: Vec<Serial>,
    /// The number of its table; 0 before the first.
    pub generation: u64,
    /// Whether it is known that the tunnel took the panel as its own.
    pub confirmed: bool,
}

fn damaged(error: impl std::fmt::Display) -> Error {
    Error::Json(serde_json::Error::custom(error))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Error> {
    text.parse().map_err(damaged)
}

fn port(number: u16) -> Result<ForwardPort, Error> {
    ForwardPort::new(number).map_err(damaged)
}

/// Numbers or serials that SQL put together with commas.
pub(super) fn listed<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: Option<&str>,
) -> Result<Vec<T>, Error> {
    text.unwrap_or_default().split(',').filter(|one| !one.is_empty()).map(parsed).collect()
}

fn pairing(row: &Row<'_>) -> Result<Pairing, Error> {
    Ok(Pairing {
        tunnel: Id::new(row.get(0)?),
        host_key: parsed(&row.get::<_, String>(1)?)?,
        made_ms: row.get(2)?,
        confirmed_ms: row.get(3)?,
    })
}

const PAIRING: &str = "SELECT tunnel_id, host_key, made_ms, confirmed_ms FROM pairings";

/// A server that may come in at the tunnels of its network: it has a key, and a certificate that counts. A condition on `s`.
const ADMITTED: &str =
    "s.ssh_key IS NOT NULL AND s.forward_port IS NOT NULL AND EXISTS (SELECT 1 FROM certificates c
    WHERE c.server_id = s.id AND c.kind = 'agent' AND c.revoked_ms IS NULL)";

impl Tx<'_> {
    /// How a tunnel is paired; absent where it is not.
    pub(crate) fn pairing(self, tunnel: Id<Tunnel>) -> Result<Option<Pairing>, Error> {
        let sql = format!("{PAIRING} WHERE tunnel_id = ?");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([tunnel.number()])?;
        rows.next()?.map(pairing).transpose()
    }

    /// Every pairing.
    pub(crate) fn pairings(self) -> Result<Vec<Pairing>, Error> {
        let sql = format!("{PAIRING} ORDER BY tunnel_id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        let mut pairings = Vec::new();
        while let Some(row) = rows.next()? {
            pairings.push(pairing(row)?);
        }
        Ok(pairings)
    }

    /// Keeps a pairing that the tunnel is about to be told; the number of its table goes on from the one before.
    pub(crate) fn keep_pairing(self, pairing: &Pairing) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO pairings (tunnel_id, host_key, made_ms, confirmed_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (tunnel_id) DO UPDATE SET host_key = ?2, made_ms = ?3, confirmed_ms = ?4, stale = 1",
            )?
            .execute((
                pairing.tunnel.number(),
                pairing.host_key.as_str(),
                pairing.made_ms,
                pairing.confirmed_ms,
            ))?;
        Ok(())
    }

    /// Notes that the tunnel took the panel as its own; false when that is known.
    pub(crate) fn confirm_pairing(self, tunnel: Id<Tunnel>, now_ms: u64) -> Result<bool, Error> {
        let sql =
            "UPDATE pairings SET confirmed_ms = ?2 WHERE tunnel_id = ?1 AND confirmed_ms IS NULL";
        Ok(self.connection.prepare_cached(sql)?.execute((tunnel.number(), now_ms))? == 1)
    }

    /// Forgets a pairing; false when there is none.
    pub(crate) fn forget_pairing(self, tunnel: Id<Tunnel>) -> Result<bool, Error> {
        let sql = "DELETE FROM pairings WHERE tunnel_id = ?";
        Ok(self.connection.prepare_cached(sql)?.execute([tunnel.number()])? == 1)
    }

    /// Keeps the sealed code of a tunnel's seed file, instead of one before.
    pub(crate) fn keep_pairing_seed(self, seed: &PairingSeed, sealed: &[u8]) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO pairing_codes (tunnel_id, sealed, created_ms, expires_ms) VALUES (?, ?, ?, ?)",
            )?
            .execute((seed.tunnel.number(), sealed, seed.created_ms, seed.expires_ms))?;
        Ok(())
    }

    /// The codes of seed files that are waited for, with what is sealed of each.
    pub(crate) fn pairing_seeds(self) -> Result<Vec<(PairingSeed, Vec<u8>)>, Error> {
        let sql = "SELECT tunnel_id, created_ms, expires_ms, sealed FROM pairing_codes ORDER BY tunnel_id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            let (created_ms, expires_ms) = (row.get(1)?, row.get(2)?);
            Ok((PairingSeed { tunnel: Id::new(row.get(0)?), created_ms, expires_ms }, row.get(3)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Forgets the code of a tunnel's seed file.
    pub(crate) fn forget_pairing_seed(self, tunnel: Id<Tunnel>) -> Result<(), Error> {
        let sql = "DELETE FROM pairing_codes WHERE tunnel_id = ?";
        self.connection.prepare_cached(sql)?.execute([tunnel.number()])?;
        Ok(())
    }

    /// Puts a tunnel's certificate on the books.
    pub(crate) fn keep_tunnel_certificate(
        self,
        tunnel: Id<Tunnel>,
        certificate: &Certificate,
        now_ms: u64,
    ) -> Result<(), Error> {
        self.keep_certificate(Kind::Tunnel, None, certificate, now_ms)?;
        let sql = "UPDATE certificates SET tunnel_id = ?2 WHERE serial = ?1";
        let serial = certificate.serial().to_string();
        self.connection.prepare_cached(sql)?.execute((serial, tunnel.number()))?;
        Ok(())
    }

    /// Revokes all that a tunnel was given.
    pub(crate) fn revoke_tunnel(
        self,
        tunnel: Id<Tunnel>,
        reason: Reason,
        now_ms: u64,
    ) -> Result<(), Error> {
        let sql = "UPDATE certificates SET revoked_ms = ?2, reason = ?3 WHERE tunnel_id = ?1 AND revoked_ms IS NULL";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute((tunnel.number(), now_ms, reason.word()))?;
        Ok(())
    }

    /// Every tunnel that is the panel's, or may be.
    pub(crate) fn relays(self) -> Result<Vec<Relay>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT u.id, u.name, u.host, p.generation, p.confirmed_ms IS NOT NULL,
                (SELECT group_concat(serial) FROM certificates WHERE tunnel_id = u.id AND revoked_ms IS NULL)
             FROM pairings p JOIN tunnels u ON u.id = p.tunnel_id ORDER BY u.id",
        )?;
        let mut rows = statement.query([])?;
        let mut relays = Vec::new();
        while let Some(row) = rows.next()? {
            relays.push(Relay {
                tunnel: Id::new(row.get(0)?),
                name: parsed(&row.get::<_, String>(1)?)?,
                host: parsed(&row.get::<_, String>(2)?)?,
                generation: row.get(3)?,
                confirmed: row.get(4)?,
                serials: listed(row.get::<_, Option<String>>(5)?.as_deref())?,
            });
        }
        Ok(relays)
    }

    /// Notes that who may come in at the tunnels may have changed. Rendering their tables says whether it has.
    pub(crate) fn mark_tables_stale(self) -> Result<(), Error> {
        let sql = "UPDATE pairings SET stale = 1 WHERE stale = 0";
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Notes that the documents of the servers that come through tunnels may have changed.
    pub(crate) fn mark_tunnelled_stale(self) -> Result<(), Error> {
        let sql = "UPDATE servers SET stale = 1 WHERE stale = 0 AND network_id IN (SELECT network_id FROM network_tunnels)";
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Tunnels whose table may have changed.
    pub(crate) fn stale_tables(self) -> Result<Vec<Id<Tunnel>>, Error> {
        let sql = "SELECT tunnel_id FROM pairings WHERE stale = 1 ORDER BY tunnel_id";
        let mut statement = self.connection.prepare_cached(sql)?;
        let ids = statement.query_map([], |row| row.get(0).map(Id::new))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// The table of a tunnel as it was kept last, with its number, as JSON; absent where the tunnel is not paired.
    pub(crate) fn kept_table(self, tunnel: Id<Tunnel>) -> Result<Option<(u64, String)>, Error> {
        let sql = "SELECT generation, body FROM pairings WHERE tunnel_id = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(statement.query_row([tunnel.number()], row).optional()?)
    }

    /// Keeps a tunnel's table, which is up to date now.
    pub(crate) fn keep_table(
        self,
        tunnel: Id<Tunnel>,
        generation: u64,
        body: &str,
    ) -> Result<(), Error> {
        let sql = "UPDATE pairings SET generation = ?2, body = ?3, stale = 0 WHERE tunnel_id = ?1";
        self.connection.prepare_cached(sql)?.execute((tunnel.number(), generation, body))?;
        Ok(())
    }

    /// Who may come in at a tunnel, as the store has it now. The number is left at 0, and there is no revocation list.
    pub(crate) fn table(self, tunnel: Id<Tunnel>) -> Result<Table, Error> {
        let sql = "SELECT panel_addresses FROM tunnels WHERE id = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let panel: Option<String> =
            statement.query_row([tunnel.number()], |row| row.get(0)).optional()?;
        let panel = panel.as_deref().unwrap_or("[]");
        let sql = format!(
            "SELECT s.id, s.forward_port, s.ssh_key FROM servers s
             WHERE s.network_id IN (SELECT network_id FROM network_tunnels WHERE tunnel_id = ?) AND {ADMITTED}
             ORDER BY s.id"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([tunnel.number()])?;
        let mut agents = Vec::new();
        while let Some(row) = rows.next()? {
            agents.push(tunnel::Agent {
                server: row.get(0)?,
                forward: port(row.get(1)?)?,
                key: parsed(&row.get::<_, String>(2)?)?,
            });
        }
        let panel = serde_json::from_str(panel).map_err(Error::Json)?;
        Ok(Table { generation: 0, panel, agents, revocation_list_pem: None })
    }

    /// The ways of a server through the tunnels of its network that are known to be the panel's, the favourite first.
    pub(crate) fn uplinks(self, server: Id<Server>) -> Result<Vec<Uplink>, Error> {
        let sql = format!(
            "SELECT u.host, u.port, p.host_key, s.forward_port FROM servers s
             JOIN network_tunnels n ON n.network_id = s.network_id JOIN tunnels u ON u.id = n.tunnel_id
             JOIN pairings p ON p.tunnel_id = u.id
             WHERE s.id = ? AND p.confirmed_ms IS NOT NULL AND {ADMITTED} ORDER BY n.position"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([server.number()])?;
        let mut uplinks: Vec<Uplink> = Vec::new();
        while let Some(row) = rows.next()? {
            let host: HostName = parsed(&row.get::<_, String>(0)?)?;
            let address = Address { host: host.host(), port: row.get(1)? };
            // Two records may have come to speak of one box.
            if uplinks.len() == MOST_UPLINKS || uplinks.iter().any(|up| up.address == address) {
                continue;
            }
            let host_key = parsed(&row.get::<_, String>(2)?)?;
            uplinks.push(Uplink { address, host_key, forward: port(row.get(3)?)? });
        }
        Ok(uplinks)
    }

    /// Gives a server the key that its box comes to tunnels with, or none, and a port where it has none yet: the lowest that no
    /// other has. The port stays the server's while that is there. Absent when all ports are taken.
    pub(crate) fn give_way(
        self,
        server: Id<Server>,
        key: Option<&SshKey>,
    ) -> Result<Option<ForwardPort>, Error> {
        let sql = "UPDATE servers SET ssh_key = ?2 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute((server.number(), key.map(SshKey::as_str)))?;
        if key.is_some() {
            self.connection
                .prepare_cached(
                    "UPDATE servers SET forward_port = (SELECT min(port) FROM
                        (SELECT ?2 AS port UNION ALL SELECT forward_port + 1 FROM servers WHERE forward_port IS NOT NULL)
                        WHERE port <= ?3 AND port NOT IN
                            (SELECT forward_port FROM servers WHERE forward_port IS NOT NULL))
                     WHERE id = ?1 AND forward_port IS NULL",
                )?
                .execute((server.number(), ForwardPort::FIRST, ForwardPort::LAST))?;
        }
        let sql = "SELECT forward_port FROM servers WHERE id = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let found: Option<u16> = statement.query_row([server.number()], |row| row.get(0))?;
        found.map(port).transpose()
    }

    /// Servers that can be reached through tunnels alone and would have no way left, were these the tunnels of their network.
    pub(crate) fn stranded(
        self,
        network: Id<Network>,
        tunnels: &[TunnelName],
    ) -> Result<u64, Error> {
        let names = serde_json::to_string(tunnels).map_err(Error::Json)?;
        let sql = "SELECT count(*) FROM servers s JOIN boxes b ON b.server_id = s.id
             WHERE s.network_id = ?1 AND b.link = 'tunnel'
             AND EXISTS (SELECT 1 FROM network_tunnels n JOIN pairings p ON p.tunnel_id = n.tunnel_id
                 WHERE n.network_id = ?1)
             AND NOT EXISTS (SELECT 1 FROM network_tunnels n JOIN pairings p ON p.tunnel_id = n.tunnel_id
                 JOIN tunnels u ON u.id = n.tunnel_id JOIN json_each(?2) named ON named.value = u.name
                 WHERE n.network_id = ?1)";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_row((network.number(), names), |row| row.get(0))?)
    }
}
