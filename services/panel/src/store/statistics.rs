//! Samples of servers and networks, in slots of a minute and of a quarter of an hour; what is older than their spans goes.

use super::{Error, Tx};
use crate::{
    noun::{Id, Network, Server},
    statistics::{NetworkSample, ServerSample, Span},
};

/// A slot's length as it stands in rows.
fn span_s(span: Span) -> u64 {
    span.slot_ms() / 1000
}

/// A server, its network, and the short of its latest status.
pub(crate) type Seen = (Id<Server>, Id<Network>, Option<String>);

impl Tx<'_> {
    /// The servers that answered since, with the network of each.
    pub(crate) fn seen_since(self, since_ms: u64) -> Result<Vec<Seen>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT s.id, s.network_id, c.sighting FROM contacts c JOIN servers s ON s.id = c.server_id WHERE c.seen_ms >= ?",
        )?;
        let rows = statement.query_map([since_ms], |row| {
            Ok((Id::new(row.get(0)?), Id::new(row.get(1)?), row.get(2)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps a sample of a server, in the place of the one of its slot.
    pub(crate) fn keep_server_sample(
        self,
        server: Id<Server>,
        span: Span,
        sample: &ServerSample,
    ) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO server_samples (server_id, span_s, slot_ms, sessions, devices_up, pool_bytes,
                    used_bytes, volumes_bytes, groups_bytes, devices_bytes, vdisks_bytes)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute((
                server.number(),
                span_s(span),
                sample.slot_ms,
                sample.sessions,
                sample.devices_up,
                sample.pool_bytes,
                sample.used_bytes,
                sample.volumes_bytes,
                sample.groups_bytes,
                sample.devices_bytes,
                sample.vdisks_bytes,
            ))?;
        Ok(())
    }

    /// Keeps a sample of a network, in the place of the one of its slot.
    pub(crate) fn keep_network_sample(
        self,
        network: Id<Network>,
        span: Span,
        sample: &NetworkSample,
    ) -> Result<(), Error> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO network_samples (network_id, span_s, slot_ms, devices_up, boots, failed, p50_ms, p95_ms)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute((
                network.number(),
                span_s(span),
                sample.slot_ms,
                sample.devices_up,
                sample.boots,
                sample.failed,
                sample.p50_ms,
                sample.p95_ms,
            ))?;
        Ok(())
    }

    /// The samples of a server from this moment on, in the order of time.
    pub(crate) fn server_samples(
        self,
        server: Id<Server>,
        span: Span,
        from_ms: u64,
    ) -> Result<Vec<ServerSample>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT slot_ms, sessions, devices_up, pool_bytes, used_bytes, volumes_bytes, groups_bytes, devices_bytes,
                vdisks_bytes
             FROM server_samples WHERE server_id = ? AND span_s = ? AND slot_ms >= ? ORDER BY slot_ms",
        )?;
        let rows = statement.query_map((server.number(), span_s(span), from_ms), |row| {
            Ok(ServerSample {
                slot_ms: row.get(0)?,
                sessions: row.get(1)?,
                devices_up: row.get(2)?,
                pool_bytes: row.get(3)?,
                used_bytes: row.get(4)?,
                volumes_bytes: row.get(5)?,
                groups_bytes: row.get(6)?,
                devices_bytes: row.get(7)?,
                vdisks_bytes: row.get(8)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The samples of a network from this moment on, in the order of time.
    pub(crate) fn network_samples(
        self,
        network: Id<Network>,
        span: Span,
        from_ms: u64,
    ) -> Result<Vec<NetworkSample>, Error> {
        let mut statement = self.connection.prepare_cached(
            "SELECT slot_ms, devices_up, boots, failed, p50_ms, p95_ms FROM network_samples
             WHERE network_id = ? AND span_s = ? AND slot_ms >= ? ORDER BY slot_ms",
        )?;
        let rows = statement.query_map((network.number(), span_s(span), from_ms), |row| {
            Ok(NetworkSample {
                slot_ms: row.get(0)?,
                devices_up: row.get(1)?,
                boots: row.get(2)?,
                failed: row.get(3)?,
                p50_ms: row.get(4)?,
                p95_ms: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Forgets what is older than its span.
    pub(crate) fn forget_samples(self, now_ms: u64) -> Result<(), Error> {
        for span in Span::ALL {
            let before = now_ms.saturating_sub(span.kept_ms());
            // By the subject first, as the tables are ordered: a scan of a month's rows each minute is too much.
            for sql in [
                "DELETE FROM server_samples WHERE server_id IN (SELECT id FROM servers) AND span_s = ? AND slot_ms < ?",
                "DELETE FROM network_samples WHERE network_id IN (SELECT id FROM networks) AND span_s = ? AND slot_ms < ?",
            ] {
                self.connection.prepare_cached(sql)?.execute((span_s(span), before))?;
            }
        }
        Ok(())
    }
}
