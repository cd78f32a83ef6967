//! Boxes that join: what each asked with its code, and where the server that it became is reached.

use std::net::{IpAddr, Ipv4Addr};

use model::{
    join::{Answer, Hardware, Link},
    name::ServerName,
    validate::MOST_UPLINKS,
};
use rusqlite::{OptionalExtension, Row, params_from_iter};
use schemars::JsonSchema;
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, Error as _},
};

use super::{Digest, Error, JoinCode, Scope, Tx, errands, tunnels::listed};
use crate::{
    ca::Serial,
    noun::{Id, Network, Server, Tunnel},
};

/// What became of a box's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// A person has to look at it.
    Waiting,
    /// A person said yes: the box is let in when it asks again.
    Confirmed,
    /// A person said no.
    Refused,
    /// It is a server.
    Joined,
}

/// A box that asked with a code.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Join {
    /// The code's number.
    pub code: i64,
    /// The network that the code is for.
    pub network: Id<Network>,
    /// The server whose place it takes, or that it became.
    pub server: Option<Id<Server>>,
    /// Where it asked from.
    pub address: IpAddr,
    /// The name that it brought along.
    pub name: Option<ServerName>,
    /// What it is.
    pub hardware: Hardware,
    /// What its keys are told apart by: a digest of their public parts, in hexadecimal.
    pub keys: String,
    /// When it asked first, in milliseconds since 1970.
    pub asked_ms: u64,
    /// What became of it.
    pub decision: Decision,
}

/// What is kept of a request beside what is shown.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) join: Join,
    /// The digest of the keys that the code is bound to.
    pub(crate) keys: Digest,
    /// What it was answered in the end.
    pub(crate) answer: Option<Answer>,
}

/// A box that stands as a server.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct JoinedBox {
    /// Where it was last reached.
    pub address: IpAddr,
    /// What it was when it joined.
    pub hardware: Hardware,
    /// When that was, in milliseconds since 1970.
    pub joined_ms: u64,
}

/// How the fleet reaches a server, and knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The server.
    pub server: Id<Server>,
    /// Its name, for the log.
    pub name: ServerName,
    /// Where to look for it, the likeliest first.
    pub addresses: Vec<IpAddr>,
    /// The certificates for its API that count.
    pub serials: Vec<Serial>,
    /// The tunnels that it may be reached through, the favourite first.
    pub ways: Vec<Id<Tunnel>>,
    /// Whether its box lets the panel come straight.
    pub direct: bool,
    /// The number of the document that it is to be told; 0 before the first.
    pub generation: u64,
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(Error::Json)
}

/// A word of a row as its type, through serde as everything else.
fn word<T: DeserializeOwned>(word: String) -> Result<T, Error> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(Error::Json)
}

fn write<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(Error::Json)
}

fn spelled<T: Serialize>(value: &T) -> Result<String, Error> {
    let word = serde_json::to_value(value).map_err(Error::Json)?;
    Ok(word.as_str().unwrap_or_default().to_owned())
}

const JOIN: &str = "SELECT j.code_id, c.network_id, coalesce(j.server_id, c.server_id), j.address, j.name, j.hardware,
    j.asked_ms, j.decision, j.keys_hash, j.answer FROM joins j JOIN join_codes c ON c.id = j.code_id";

fn bound(row: &Row<'_>) -> Result<Bound, Error> {
    let name: Option<String> = row.get(4)?;
    let answer: Option<String> = row.get(9)?;
    let keys = Digest(row.get(8)?);
    Ok(Bound {
        join: Join {
            code: row.get(0)?,
            network: Id::new(row.get(1)?),
            server: row.get::<_, Option<i64>>(2)?.map(Id::new),
            address: word(row.get(3)?)?,
            name: name.map(word).transpose()?,
            hardware: parse(&row.get::<_, String>(5)?)?,
            keys: hex::encode(keys.0),
            asked_ms: row.get(6)?,
            decision: word(row.get(7)?)?,
        },
        keys,
        answer: answer.as_deref().map(parse).transpose()?,
    })
}

impl Tx<'_> {
    /// The code of this secret, whatever became of it.
    pub(crate) fn join_code(self, digest: Digest) -> Result<Option<JoinCode>, Error> {
        let sql = format!("{} WHERE code_hash = ?", errands::JOIN_CODE);
        let mut statement = self.connection.prepare_cached(&sql)?;
        Ok(statement.query_row([digest.0], errands::join_code).optional()?)
    }

    /// Binds a code to the keys of the box that asks with it; from then on it is used.
    pub(crate) fn bind_join(self, join: &Join, keys: Digest) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO joins (code_id, keys_hash, address, name, hardware, asked_ms, decision)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute((
                join.code,
                keys.0,
                join.address.to_string(),
                join.name.as_ref().map(ServerName::as_str),
                write(&join.hardware)?,
                join.asked_ms,
                spelled(&join.decision)?,
            ))?;
        self.connection
            .prepare_cached("UPDATE join_codes SET used_ms = ?2 WHERE id = ?1")?
            .execute((join.code, join.asked_ms))?;
        Ok(())
    }

    /// What was asked with a code.
    pub(crate) fn join(self, code: i64) -> Result<Option<Bound>, Error> {
        let sql = format!("{JOIN} WHERE j.code_id = ?");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query([code])?;
        rows.next()?.map(bound).transpose()
    }

    /// The boxes that wait for a person, the first to ask first.
    pub(crate) fn waiting_joins(
        self,
        scope: &Scope,
        now_ms: u64,
        patience_ms: u64,
    ) -> Result<Vec<Join>, Error> {
        let (of, values): (_, Vec<i64>) = match scope {
            Scope::All => ("1".to_owned(), Vec::new()),
            Scope::Nothing => ("0".to_owned(), Vec::new()),
            Scope::Organization(id) => {
                let networks = "SELECT id FROM networks WHERE organization_id = ?";
                (format!("c.network_id IN ({networks})"), vec![id.number()])
            }
            Scope::Networks(ids) => {
                let places = vec!["?"; ids.len()].join(", ");
                (format!("c.network_id IN ({places})"), ids.iter().map(|id| id.number()).collect())
            }
        };
        let sql = format!(
            "{JOIN} WHERE j.decision = 'waiting' AND max(c.expires_ms, j.asked_ms + ?) > ? AND {of}
             ORDER BY j.asked_ms, j.code_id"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let values = [signed(patience_ms), signed(now_ms)].into_iter().chain(values);
        let mut rows = statement.query(params_from_iter(values))?;
        let mut joins = Vec::new();
        while let Some(row) = rows.next()? {
            joins.push(bound(row)?.join);
        }
        Ok(joins)
    }

    /// Notes what a person decided; false when it was decided before.
    pub(crate) fn decide_join(self, code: i64, decision: Decision) -> Result<bool, Error> {
        let sql = "UPDATE joins SET decision = ?2 WHERE code_id = ?1 AND decision = 'waiting'";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.execute((code, spelled(&decision)?))? == 1)
    }

    /// Notes that a box is a server now, where it is, and what it was answered.
    pub(crate) fn finish_join(
        self,
        join: &Join,
        server: Id<Server>,
        answer: &Answer,
        now_ms: u64,
    ) -> Result<(), Error> {
        let link = match answer {
            Answer::Joined(joined) => joined.link,
            Answer::Waiting { .. } => Link::Direct,
        };
        self.connection
            .prepare_cached(
                "UPDATE joins SET decision = ?2, server_id = ?3, answer = ?4 WHERE code_id = ?1",
            )?
            .execute((join.code, spelled(&Decision::Joined)?, server.number(), write(answer)?))?;
        self.connection
            .prepare_cached(
                "INSERT INTO boxes (server_id, address, hardware, joined_ms, link) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (server_id) DO UPDATE SET address = ?2, hardware = ?3, joined_ms = ?4, link = ?5",
            )?
            .execute((
                server.number(),
                join.address.to_string(),
                write(&join.hardware)?,
                now_ms,
                link.as_str(),
            ))?;
        // What the box before it took and showed says nothing of this one.
        self.connection
            .prepare_cached(
                "UPDATE documents SET acknowledged = 0, applied = 0, status = NULL, status_ms = NULL
                 WHERE server_id = ?",
            )?
            .execute([server.number()])?;
        self.forget_contact(server)
    }

    /// The box that stands as a server; absent before it joined.
    pub(crate) fn joined_box(self, server: Id<Server>) -> Result<Option<JoinedBox>, Error> {
        let sql = "SELECT address, hardware, joined_ms FROM boxes WHERE server_id = ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([server.number()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(JoinedBox {
            address: word(row.get(0)?)?,
            hardware: parse(&row.get::<_, String>(1)?)?,
            joined_ms: row.get(2)?,
        }))
    }

    /// Notes where a server was reached; false when that is known.
    pub(crate) fn move_box(self, server: Id<Server>, address: IpAddr) -> Result<bool, Error> {
        let sql = "UPDATE boxes SET address = ?2 WHERE server_id = ?1 AND address <> ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.execute((server.number(), address.to_string()))? == 1)
    }

    /// Every server that joined, with the addresses where it may be: the one that it was reached at last, then the one that it
    /// shall have. Where no management interface is named, a server with one card is managed over that which it serves with.
    pub(crate) fn peers(self) -> Result<Vec<Peer>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT s.id, s.name, b.address, s.management ->> '$.address',
                (SELECT group_concat(serial) FROM certificates
                 WHERE server_id = s.id AND kind = 'agent' AND revoked_ms IS NULL),
                coalesce(d.generation, 0),
                (SELECT group_concat(i.address) FROM server_interfaces i
                 WHERE i.server_id = s.id AND s.management IS NULL),
                (SELECT group_concat(n.tunnel_id ORDER BY n.position) FROM network_tunnels n
                 JOIN pairings p ON p.tunnel_id = n.tunnel_id
                 WHERE n.network_id = s.network_id AND p.confirmed_ms IS NOT NULL AND s.ssh_key IS NOT NULL),
                b.link = 'direct'
             FROM boxes b JOIN servers s ON s.id = b.server_id
                LEFT JOIN documents d ON d.server_id = s.id ORDER BY s.id",
        )?;
        let mut rows = statement.query([])?;
        let mut peers = Vec::new();
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let mut addresses = vec![word(row.get(2)?)?];
            let set: Option<String> = row.get(3)?;
            let set: Option<ipnet::Ipv4Net> = set.map(word).transpose()?;
            addresses.extend(set.map(|net| IpAddr::from(net.addr())));
            let serving: Option<String> = row.get(6)?;
            let serving = serving.iter().flat_map(|all| all.split(',')).map(str::parse::<u32>);
            for address in serving {
                let address =
                    address.map_err(|error| Error::Json(serde_json::Error::custom(error)))?;
                addresses.push(Ipv4Addr::from_bits(address).into());
            }
            addresses.dedup();
            let ways: Vec<i64> = listed(row.get::<_, Option<String>>(7)?.as_deref())?;
            peers.push(Peer {
                server: Id::new(id),
                name: word(row.get(1)?)?,
                addresses,
                serials: listed(row.get::<_, Option<String>>(4)?.as_deref())?,
                ways: ways.into_iter().take(MOST_UPLINKS).map(Id::new).collect(),
                direct: row.get(8)?,
                generation: row.get(5)?,
            });
        }
        Ok(peers)
    }
}
