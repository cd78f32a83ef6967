//! Which addresses of a subnet are taken, and by whom: in the subnet itself, and in those that share its wire.

use std::net::Ipv4Addr;

use rusqlite::{OptionalExtension, Row};

use super::{Error, Tx};
use crate::noun::{Group, Id, Network, Noun, Subnet};

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// A device, a server, or a subnet (its gateway).
    pub noun: Noun,
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The network it is in.
    pub network: Id<Network>,
    /// That network's name.
    pub network_name: String,
}

/// The subnets on the wire of subnet `?1`, itself included: those of its organization that name the same LAN.
const WIRE: &str = "SELECT b.id FROM subnets a JOIN networks an ON an.id = a.network_id
    JOIN subnets b ON b.id = a.id OR b.lan = a.lan
    JOIN networks bn ON bn.id = b.network_id AND bn.organization_id = an.organization_id
    WHERE a.id = ?1";

/// A holder from the columns noun, number, name, and the network's number and name.
fn holder(row: &Row<'_>, from: usize) -> Result<Holder, rusqlite::Error> {
    let word: String = row.get(from)?;
    let noun = Noun::ALL.into_iter().find(|noun| noun.word() == word);
    Ok(Holder {
        noun: noun.unwrap_or(Noun::Subnet),
        id: row.get(from + 1)?,
        name: row.get(from + 2)?,
        network: Id::new(row.get(from + 3)?),
        network_name: row.get(from + 4)?,
    })
}

impl Tx<'_> {
    /// Who has an address on the wire of a subnet, but for one record. Ranges for unknown machines count as their subnet's.
    pub(crate) fn address_holder(
        self,
        subnet: Id<Subnet>,
        address: Ipv4Addr,
        except: (Noun, i64),
    ) -> Result<Option<Holder>, Error> {
        let sql = format!(
            "WITH wire AS MATERIALIZED ({WIRE})
             SELECT noun, held.id, held.name, n.id, n.name FROM (
                 SELECT 'device' AS noun, id, name, network_id FROM devices
                 WHERE subnet_id IN wire AND address = ?2
                 UNION ALL
                 SELECT 'server', s.id, s.name, s.network_id FROM server_interfaces i JOIN servers s ON s.id = i.server_id
                 WHERE i.subnet_id IN wire AND i.address = ?2
                 UNION ALL
                 SELECT 'subnet', id, name, network_id FROM subnets
                 WHERE id IN wire AND (gateway = ?2 OR ?2 BETWEEN dhcp_first AND dhcp_last)
             ) held JOIN networks n ON n.id = held.network_id
             WHERE NOT (noun = ?3 AND held.id = ?4)
             ORDER BY noun LIMIT 1"
        );
        let (noun, id) = except;
        let found = self
            .connection
            .prepare_cached(&sql)?
            .query_row((subnet.number(), u32::from(address), noun.word(), id), |row| holder(row, 0))
            .optional()?;
        Ok(found)
    }

    /// The spans of addresses that are taken on the wire of a subnet, by their first address.
    pub(crate) fn taken_addresses(
        self,
        subnet: Id<Subnet>,
    ) -> Result<Vec<(Ipv4Addr, Ipv4Addr)>, Error> {
        let sql = format!(
            "WITH wire AS MATERIALIZED ({WIRE})
             SELECT address, address FROM devices WHERE subnet_id IN wire
             UNION ALL SELECT address, address FROM server_interfaces WHERE subnet_id IN wire
             UNION ALL SELECT gateway, gateway FROM subnets WHERE id IN wire AND gateway IS NOT NULL
             UNION ALL SELECT dhcp_first, dhcp_last FROM subnets WHERE id IN wire AND dhcp_first IS NOT NULL
             ORDER BY 1"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([subnet.number()], |row| {
            let (first, last): (u32, u32) = (row.get(0)?, row.get(1)?);
            Ok((Ipv4Addr::from(first), Ipv4Addr::from(last)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Which addresses of a subnet are given to its own devices and servers.
    pub(crate) fn given_addresses(
        self,
        subnet: Id<Subnet>,
    ) -> Result<Vec<(Ipv4Addr, Holder)>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT d.address, 'device', d.id, d.name, n.id, n.name FROM devices d
             JOIN networks n ON n.id = d.network_id WHERE d.subnet_id = ?1
             UNION ALL
             SELECT i.address, 'server', s.id, s.name, n.id, n.name FROM server_interfaces i
             JOIN servers s ON s.id = i.server_id JOIN networks n ON n.id = s.network_id
             WHERE i.subnet_id = ?1",
        )?;
        let rows = statement.query_map([subnet.number()], |row| {
            let address: u32 = row.get(0)?;
            Ok((Ipv4Addr::from(address), holder(row, 1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Addresses that stand twice on the wire of a subnet, each with one of those who have it; a long list is cut. Subnets may
    /// share their gateway.
    pub(crate) fn wire_clashes(self, subnet: Id<Subnet>) -> Result<Vec<(Ipv4Addr, Holder)>, Error> {
        let sql = format!(
            "WITH wire AS MATERIALIZED ({WIRE}), given AS MATERIALIZED (
                 SELECT address, 'device' AS noun, id, name, network_id FROM devices WHERE subnet_id IN wire
                 UNION ALL SELECT i.address, 'server', s.id, s.name, s.network_id FROM server_interfaces i
                 JOIN servers s ON s.id = i.server_id WHERE i.subnet_id IN wire),
             clashes AS (
                 SELECT * FROM given g
                 WHERE g.address IN (SELECT address FROM given GROUP BY address HAVING count(*) > 1)
                    OR EXISTS (SELECT 1 FROM subnets s WHERE s.id IN wire
                        AND (g.address BETWEEN s.dhcp_first AND s.dhcp_last OR g.noun = 'device' AND g.address = s.gateway))
                 UNION ALL
                 SELECT CASE WHEN ranges THEN max(a.dhcp_first, b.dhcp_first) WHEN routes THEN b.gateway ELSE a.gateway END,
                     'subnet', b.id, b.name, b.network_id
                 FROM (SELECT a.id AS one, b.id AS other,
                         a.dhcp_first <= b.dhcp_last AND b.dhcp_first <= a.dhcp_last AS ranges,
                         b.gateway BETWEEN a.dhcp_first AND a.dhcp_last AS routes,
                         a.gateway BETWEEN b.dhcp_first AND b.dhcp_last AS routed
                     FROM subnets a JOIN subnets b ON b.id IN wire AND b.id <> a.id WHERE a.id = ?1)
                 JOIN subnets a ON a.id = one JOIN subnets b ON b.id = other
                 WHERE ranges OR routes OR routed)
             SELECT c.address, c.noun, c.id, c.name, n.id, n.name FROM clashes c JOIN networks n ON n.id = c.network_id
             ORDER BY c.address, n.name LIMIT 10"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([subnet.number()], |row| {
            let address: u32 = row.get(0)?;
            Ok((Ipv4Addr::from(address), holder(row, 1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Devices that are pinned to a generation of a group, by name.
    pub(crate) fn pinned_devices(self, group: Id<Group>) -> Result<Vec<(String, u32)>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT name, pinned FROM devices WHERE group_id = ? AND pinned IS NOT NULL ORDER BY name",
        )?;
        let rows = statement.query_map([group.number()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
